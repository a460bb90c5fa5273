//! Owns the encoder: a packet becomes bytes in the shortest form that its version allows, or nothing at all.
//! It must not know whether the peer can take the packet.
//!
//! One description of every packet serves twice: written into a counter it tells the length, written into the buffer it
//! is the packet. So the two cannot disagree.

use bytes::BytesMut;

use super::check;
use super::error::EncodeError;
use super::frame::MAX_REMAINING_LENGTH;
use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Properties, Publish, SubAck,
    Subscribe, Topic, UnsubAck, Unsubscribe,
};
use crate::reason::ReasonCode;
use crate::types::{PacketId, ProtocolVersion, QoS, SubscriptionOptions};

/// The most bytes that a PUBLISH has around its topic, its properties and its payload: those of the fixed header, of the lengths of topic
/// and properties, and of the packet identifier.
pub(crate) const AROUND_PUBLISH: usize = 5 + 2 + 4 + 2;

/// The exact number of bytes that [`encode`] writes.
///
/// # Errors
/// As [`encode`].
#[inline]
pub fn encoded_len(packet: &Packet<'_>, version: ProtocolVersion) -> Result<usize, EncodeError> {
    let remaining = match packet {
        Packet::Publish(publish) => {
            check::publish(publish, version)?;
            publish_head_len(publish, version).saturating_add(publish.payload.len())
        }
        _ => other_len(packet, version)?,
    };
    let (_, count) = remaining_bytes(packet.packet_type(), remaining)?;
    Ok(remaining.saturating_add(count).saturating_add(1))
}

/// Appends `packet` to `out`, which grows at most once.
///
/// `version` is the one that the connection speaks; a CONNECT is written for the version that it carries. What the version
/// does not know is left out without a word: properties, subscription options and UNSUBACK codes before 5.0, session present in
/// 3.1, the bridge bit in 5.0. A failure is never left out: before 5.0 only CONNACK and SUBACK can say one.
///
/// # Errors
/// An [`EncodeError`] for what no receiver could accept, whoever it is. Then nothing was written.
#[inline]
pub fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut BytesMut) -> Result<(), EncodeError> {
    match packet {
        Packet::Publish(publish) => encode_publish(publish, version, out),
        // Nearly every one, and the same in all versions.
        Packet::Ack(ack) if ack.properties.is_empty() && ack.reason == ReasonCode::Success => {
            encode_bare_ack(ack.kind, ack.packet_id, out);
            Ok(())
        }
        _ => encode_other(packet, version, out),
    }
}

/// Appends an acknowledgement that says success, and no more.
#[inline]
pub(crate) fn encode_bare_ack(kind: AckKind, packet_id: PacketId, out: &mut BytesMut) {
    let [high, low] = packet_id.to_u16().to_be_bytes();
    out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
}

/// Appends all of a PUBLISH but its payload, which the remaining length counts: the payload must follow.
///
/// # Errors
/// As [`encode`].
#[inline]
pub fn encode_publish_head(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    publish_head(publish, version, 0, out)
}

/// The QoS of a PUBLISH, with the packet identifier that it has at QoS 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
pub(crate) enum Delivery {
    AtMostOnce,
    AtLeastOnce(PacketId),
    ExactlyOnce(PacketId),
}

impl Delivery {
    /// That of a message of this QoS, which goes out under this identifier, where it needs one.
    #[inline]
    pub(crate) const fn new(qos: QoS, packet_id: PacketId) -> Self {
        match qos {
            QoS::AtMostOnce => Self::AtMostOnce,
            QoS::AtLeastOnce => Self::AtLeastOnce(packet_id),
            QoS::ExactlyOnce => Self::ExactlyOnce(packet_id),
        }
    }

    #[inline]
    pub(crate) const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(id) | Self::ExactlyOnce(id) => Some(id),
        }
    }
}

/// Appends the head of a first PUBLISH without properties if it is as most are: under a topic name, with a remaining length of one byte or
/// two. Returns its length: 0, with nothing written, when [`encode_publish_head`] has to look at it.
#[inline(always)]
pub(crate) fn encode_plain_head(
    topic: Topic<'_>,
    payload: usize,
    (delivery, retain): (Delivery, bool),
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> usize {
    const LONG: usize = 0x4000;
    let properties = usize::from(version == ProtocolVersion::V5);
    let (qos, id) = match delivery {
        Delivery::AtMostOnce => (0x00, None),
        Delivery::AtLeastOnce(id) => (0x02, Some(id)),
        Delivery::ExactlyOnce(id) => (0x04, Some(id)),
    };
    let around = properties.wrapping_add(if id.is_some() { 4 } else { 2 });
    // Each of them is small, so that the sum is what it seems to be.
    let remaining = topic.len().wrapping_add(payload).wrapping_add(around);
    if topic.is_empty() || payload >= LONG || remaining >= LONG {
        return 0;
    }
    let first_byte = 0x30 | qos | u8::from(retain);
    // A topic has at most 65,535 bytes.
    let [high, low] = (topic.len() as u16).to_be_bytes();
    let fixed = if remaining < 0x80 {
        out.bytes(&[first_byte, remaining as u8, high, low]);
        2
    } else {
        out.bytes(&[first_byte, remaining as u8 | 0x80, (remaining >> 7) as u8, high, low]);
        3
    };
    out.bytes(topic.as_bytes());
    let [high, low] = id.map_or([0, 0], |id| id.to_u16().to_be_bytes());
    match (id.is_some(), version == ProtocolVersion::V5) {
        (false, false) => {}
        (false, true) => out.bytes(&[0]),
        (true, false) => out.bytes(&[high, low]),
        (true, true) => out.bytes(&[high, low, 0]),
    }
    remaining.wrapping_sub(payload).wrapping_add(fixed)
}

/// Where a packet is written to.
trait Sink {
    fn bytes(&mut self, bytes: &[u8]);

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    #[inline]
    fn two_bytes(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    fn packet_id(&mut self, id: PacketId) {
        self.two_bytes(id.to_u16());
    }

    /// A UTF-8 string or binary data, at most 65,535 bytes as [`check`] made sure.
    #[inline]
    fn field(&mut self, bytes: &[u8]) {
        self.two_bytes(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.bytes(bytes);
    }

    #[inline]
    fn var_int(&mut self, value: usize) {
        // Above the limit the packet is refused before a byte of it is written.
        let (bytes, count) = var_int_bytes(u32::try_from(value).unwrap_or(u32::MAX));
        self.bytes(bytes.get(..count).unwrap_or_default());
    }

    /// The property length and the properties.
    #[inline]
    fn properties(&mut self, properties: Properties<'_>, version: ProtocolVersion) {
        if version == ProtocolVersion::V5 {
            if properties.is_empty() {
                self.byte(0);
            } else {
                self.some_properties(properties);
            }
        }
    }

    #[inline(never)]
    fn some_properties(&mut self, properties: Properties<'_>) {
        self.var_int(properties.len());
        self.bytes(properties.as_bytes());
    }
}

impl Sink for BytesMut {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts instead of writing.
struct Length(usize);

impl Sink for Length {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// A variable byte integer in its shortest form: the bytes and how many of them count.
#[inline]
pub(super) fn var_int_bytes(value: u32) -> ([u8; 4], usize) {
    let group = |shift: u32| (value.wrapping_shr(shift) & 0x7F) as u8;
    match value {
        0..0x80 => ([group(0), 0, 0, 0], 1),
        0x80..0x4000 => ([group(0) | 0x80, group(7), 0, 0], 2),
        0x4000..0x20_0000 => ([group(0) | 0x80, group(7) | 0x80, group(14), 0], 3),
        _ => ([group(0) | 0x80, group(7) | 0x80, group(14) | 0x80, group(21)], 4),
    }
}

/// The remaining length as bytes, if there is a form for it.
#[inline]
fn remaining_bytes(packet: PacketType, remaining: usize) -> Result<([u8; 4], usize), EncodeError> {
    match u32::try_from(remaining) {
        Ok(value) if value <= MAX_REMAINING_LENGTH => Ok(var_int_bytes(value)),
        _ => Err(EncodeError::PacketTooLarge { packet, remaining }),
    }
}

/// What the remaining length of a PUBLISH counts beside the payload.
#[inline]
fn publish_head_len(publish: &Publish<'_>, version: ProtocolVersion) -> usize {
    let around = if publish.packet_id.is_some() { 4 } else { 2 };
    let mut length = Length(publish.topic.len().saturating_add(around));
    length.properties(publish.properties, version);
    length.0
}

#[inline(never)]
fn encode_publish(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    publish_head(publish, version, publish.payload.len(), out)?;
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Fixed and variable header, with room for `behind` bytes more.
#[inline(always)]
fn publish_head(
    publish: &Publish<'_>,
    version: ProtocolVersion,
    behind: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    check::publish(publish, version)?;
    let first_byte = 0x30 | u8::from(publish.dup) << 3 | publish.qos.to_u8() << 1 | u8::from(publish.retain);
    let head = publish_head_len(publish, version);
    let remaining = head.saturating_add(publish.payload.len());
    if remaining > MAX_REMAINING_LENGTH as usize {
        return Err(EncodeError::PacketTooLarge { packet: PacketType::Publish, remaining });
    }
    out.reserve(head.saturating_add(behind).saturating_add(5));
    // Few appends of known size: most of the time goes into them. A topic has at most 65,535 bytes.
    let [high, low] = (publish.topic.len() as u16).to_be_bytes();
    match remaining {
        0..0x80 => out.bytes(&[first_byte, remaining as u8, high, low]),
        0x80..0x4000 => {
            out.bytes(&[first_byte, remaining as u8 | 0x80, (remaining >> 7) as u8, high, low]);
        }
        _ => {
            out.byte(first_byte);
            out.var_int(remaining);
            out.bytes(&[high, low]);
        }
    }
    out.bytes(publish.topic.as_bytes());
    if let Some(id) = publish.packet_id {
        out.packet_id(id);
    }
    out.properties(publish.properties, version);
    Ok(())
}

/// The end of PUBACK, PUBREC, PUBREL, PUBCOMP and DISCONNECT, as short as 5.0 allows, and nothing before 5.0.
#[inline]
fn reason_and_properties(
    out: &mut impl Sink,
    reason: ReasonCode,
    properties: Properties<'_>,
    version: ProtocolVersion,
) {
    if version != ProtocolVersion::V5 {
        return;
    }
    if !properties.is_empty() {
        out.byte(reason.to_u8());
        out.properties(properties, version);
    } else if reason != ReasonCode::Success {
        out.byte(reason.to_u8());
    }
}

#[inline(never)]
fn other_len(packet: &Packet<'_>, version: ProtocolVersion) -> Result<usize, EncodeError> {
    check::other(packet, version)?;
    let mut length = Length(0);
    body(packet, version, &mut length);
    Ok(length.0)
}

#[inline(never)]
fn encode_other(
    packet: &Packet<'_>,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let remaining = other_len(packet, version)?;
    let packet_type = packet.packet_type();
    let (bytes, count) = remaining_bytes(packet_type, remaining)?;
    let flags = match packet_type {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0x02,
        _ => 0x00,
    };
    out.reserve(remaining.saturating_add(5));
    out.byte((packet_type as u8) << 4 | flags);
    out.bytes(bytes.get(..count).unwrap_or_default());
    body(packet, version, out);
    Ok(())
}

/// All that follows the fixed header; PUBLISH has its own way.
fn body(packet: &Packet<'_>, version: ProtocolVersion, out: &mut impl Sink) {
    match packet {
        Packet::Connect(connect) => connect_body(connect, out),
        Packet::ConnAck(connack) => connack_body(connack, version, out),
        Packet::Subscribe(subscribe) => subscribe_body(subscribe, version, out),
        Packet::SubAck(SubAck { packet_id, properties, codes }) => {
            out.packet_id(*packet_id);
            out.properties(*properties, version);
            out.bytes(codes.as_bytes());
        }
        Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }) => {
            out.packet_id(*packet_id);
            out.properties(*properties, version);
            for filter in filters {
                out.field(filter.as_bytes());
            }
        }
        Packet::UnsubAck(UnsubAck { packet_id, properties, codes }) => {
            out.packet_id(*packet_id);
            out.properties(*properties, version);
            if version == ProtocolVersion::V5 {
                out.bytes(codes.as_bytes());
            }
        }
        Packet::Ack(Ack { packet_id, reason, properties, .. }) => {
            out.packet_id(*packet_id);
            reason_and_properties(out, *reason, *properties, version);
        }
        Packet::Disconnect(Disconnect { reason, properties }) => {
            reason_and_properties(out, *reason, *properties, version);
        }
        Packet::Auth(Auth { reason, properties }) => {
            if *reason != ReasonCode::Success || !properties.is_empty() {
                out.byte(reason.to_u8());
                out.properties(*properties, version);
            }
        }
        Packet::PingReq | Packet::PingResp | Packet::Publish(_) => {}
    }
}

fn connect_body(connect: &Connect<'_>, out: &mut impl Sink) {
    let version = connect.version;
    let bridge = connect.bridge && version != ProtocolVersion::V5;
    out.field(version.protocol_name().as_bytes());
    out.byte(version.level() | u8::from(bridge) << 7);
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | will.qos.to_u8() << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6 | u8::from(connect.username.is_some()) << 7;
    out.byte(flags);
    out.two_bytes(connect.keep_alive);
    out.properties(connect.properties, version);
    out.field(connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        out.properties(will.properties, version);
        out.field(will.topic.as_bytes());
        out.field(will.payload);
    }
    if let Some(username) = connect.username {
        out.field(username.as_bytes());
    }
    if let Some(password) = connect.password {
        out.field(password);
    }
}

fn connack_body(connack: &ConnAck<'_>, version: ProtocolVersion, out: &mut impl Sink) {
    out.byte(u8::from(connack.session_present && version != ProtocolVersion::V3_1));
    if version == ProtocolVersion::V5 {
        out.byte(connack.reason.to_u8());
        out.properties(connack.properties, version);
    } else {
        // `check` refused the reasons that have no return code.
        out.byte(connack.reason.to_connect_return_code().unwrap_or(u8::MAX));
    }
}

fn subscribe_body(subscribe: &Subscribe<'_>, version: ProtocolVersion, out: &mut impl Sink) {
    out.packet_id(subscribe.packet_id);
    out.properties(subscribe.properties, version);
    for filter in &subscribe.filters {
        out.field(filter.filter.as_bytes());
        out.byte(options_byte(filter.options, version));
    }
}

const fn options_byte(options: SubscriptionOptions, version: ProtocolVersion) -> u8 {
    let qos = options.qos.to_u8();
    match version {
        ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1 => qos,
        ProtocolVersion::V5 => {
            let no_local = (options.no_local as u8) << 2;
            let retain_as_published = (options.retain_as_published as u8) << 3;
            qos | no_local | retain_as_published | (options.retain_handling as u8) << 4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 5.0: MQTT-1.5.5-1
    #[test]
    fn variable_byte_integers_take_their_shortest_form() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (MAX_REMAINING_LENGTH, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let (form, count) = var_int_bytes(value);
            assert_eq!(&form[..count], bytes);
        }
    }

    #[test]
    fn a_plain_head_is_the_head_or_nothing() {
        let id = PacketId::MAX;
        let deliveries = [
            (QoS::AtMostOnce, Delivery::AtMostOnce),
            (QoS::AtLeastOnce, Delivery::AtLeastOnce(id)),
            (QoS::ExactlyOnce, Delivery::ExactlyOnce(id)),
        ];
        let topics = ["", "a", "sensors/kitchen/1/tmp"].map(|topic| Topic::new(topic).unwrap_or_default());
        for (version, topic) in
            ProtocolVersion::ALL.into_iter().flat_map(|it| topics.map(|topic| (it, topic)))
        {
            for length in (0..300).chain(16_340..16_400) {
                let payload = alloc::vec![0; length];
                for (qos, delivery) in deliveries {
                    let packet_id = delivery.packet_id();
                    let retain = length % 2 == 0;
                    let properties = Properties::EMPTY;
                    let publish =
                        Publish { dup: false, qos, retain, topic, packet_id, properties, payload: &payload };
                    let (mut head, mut plain) = (BytesMut::new(), BytesMut::new());
                    let result = encode_publish_head(&publish, version, &mut head);
                    let written = encode_plain_head(topic, length, (delivery, retain), version, &mut plain);
                    let most = publish_head_len(&publish, version) + length;
                    assert_eq!(written > 0, result.is_ok() && most < 0x4000, "{publish:?}");
                    assert_eq!(written, plain.len());
                    assert_eq!(plain, if written > 0 { head } else { BytesMut::new() }, "{publish:?}");
                }
            }
        }
    }

    #[test]
    fn a_packet_that_no_length_can_say_is_refused_before_anything_is_written() {
        let remaining = MAX_REMAINING_LENGTH as usize + 1;
        assert_eq!(
            remaining_bytes(PacketType::Publish, remaining),
            Err(EncodeError::PacketTooLarge { packet: PacketType::Publish, remaining })
        );
    }
}
