//! Owns the decoder: one whole frame becomes a borrowed packet, or an error that names the broken rule.
//! It must not know what came before on the connection.

mod connect;
mod requests;

use super::error::{DecodeError, Fault, Flaw};
use super::frame::FrameHeader;
use super::primitives::{Parsed, byte, fail, packet_id, topic_name, var_int};
use super::property::{Place, properties};
use super::reasons;
use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Disconnect, Packet, PacketType, Properties, PropertyId, Publish,
    ReasonCodes, Sender, SubAck, UnsubAck,
};
use crate::reason::ReasonCode;
use crate::types::{PacketId, ProtocolVersion, QoS};

/// Decodes exactly one whole frame, its fixed header included, as `sender` may have sent it.
///
/// `version` is the one that the connection speaks; a CONNECT is read by the version that it carries. To a 5.0 CONNECT a
/// server that does not know 5.0 answers with a CONNACK in the form of 3.x: it is read as the refusal that it is.
///
/// 3.1 left bits undefined that later versions check, so DUP is tolerated in its PUBREL, SUBSCRIBE and UNSUBSCRIBE, and the
/// first byte of its CONNACK is not looked at. Its text is held to today's rules.
///
/// Takes time linear in the length of the frame without the payload of a PUBLISH, and allocates only for SUBSCRIBE and
/// UNSUBSCRIBE.
///
/// # Errors
/// A [`DecodeError`] for whatever is malformed, does not belong to the version, or is not the sender's to send. Bytes that
/// are cut short or left over are errors too: [`frame_header`](super::frame_header) tells where a frame ends.
#[inline]
pub fn decode<'a>(
    frame: &'a [u8],
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Packet<'a>, DecodeError> {
    match frame {
        [0x30..=0x3F, ..] => publish_packet(frame, version, sender),
        [0x40..=0x7F, ..] => match bare_ack(frame) {
            Some(ack) => Ok(Packet::Ack(ack)),
            None => ack_packet(frame, version, sender),
        },
        _ => other_packet(frame, version, sender),
    }
}

/// The error of a frame in which this is wrong. A length that does not fit is the remaining length.
#[cold]
fn broken(frame: &[u8], error: &nom::Err<Flaw>) -> DecodeError {
    let Some((&first_byte, rest)) = frame.split_first() else {
        return DecodeError::new(None, Fault::Truncated);
    };
    let Some(packet_type) = PacketType::from_first_byte(first_byte) else {
        return DecodeError::new(None, Fault::PacketTypeZero);
    };
    let flaw = match *error {
        nom::Err::Error(flaw) | nom::Err::Failure(flaw) => flaw,
        nom::Err::Incomplete(_) => Fault::Truncated.into(),
    };
    let flaw = match (flaw.fault, var_int(rest)) {
        (Fault::Truncated | Fault::TrailingBytes, Ok((_, remaining))) => flaw.or_value(remaining),
        _ => flaw,
    };
    DecodeError::new(Some(packet_type), flaw)
}

// The ways of a frame are kept apart, so that each saves no more registers than it needs.

#[inline(never)]
fn publish_packet(frame: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    publish(frame, version, sender, Packet::Publish)
}

#[inline(never)]
fn ack_packet(frame: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    ack(frame, version, sender).map(Packet::Ack).map_err(|error| broken(frame, &error))
}

#[inline(never)]
fn other_packet(frame: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    other(frame, version, sender).map_err(|error| broken(frame, &error))
}

/// The first byte of a frame, and what the remaining length counts, which must be all that follows it.
#[inline]
fn open(frame: &[u8]) -> Parsed<'_, u8> {
    let (rest, first_byte) = byte(frame)?;
    let (body, length) = var_int(rest)?;
    if body.len() == length as usize {
        Ok((body, first_byte))
    } else {
        fail(if body.len() < length as usize { Fault::Truncated } else { Fault::TrailingBytes })
    }
}

/// Decodes one whole frame of the server's that is a PUBLISH and has this fixed header, as [`decode`].
///
/// # Errors
/// As [`decode`].
#[inline(always)]
pub(crate) fn decode_publish(
    frame: &[u8],
    header: FrameHeader,
    version: ProtocolVersion,
) -> Result<Publish<'_>, DecodeError> {
    let body = frame.get(header.header_len..).unwrap_or_default();
    publish_body(frame, (body, header.first_byte), version, Sender::Server, |publish| publish)
}

/// PUBLISH (section 3.3), as what `packet` makes of it. With the final types of value and error at every `?` neither goes through
/// memory on its way, which would take a tenth of the whole.
#[inline(always)]
fn publish<'a, T>(
    frame: &'a [u8],
    version: ProtocolVersion,
    sender: Sender,
    packet: impl FnOnce(Publish<'a>) -> T,
) -> Result<T, DecodeError> {
    let opened = open(frame).map_err(|error| broken(frame, &error))?;
    publish_body(frame, opened, version, sender, packet)
}

/// What follows the fixed header of a PUBLISH, with the first byte of that.
#[inline(always)]
fn publish_body<'a, T>(
    frame: &'a [u8],
    (body, flags): (&'a [u8], u8),
    version: ProtocolVersion,
    sender: Sender,
    packet: impl FnOnce(Publish<'a>) -> T,
) -> Result<T, DecodeError> {
    let broken = |error| broken(frame, &error);
    let dup = flags & 0x08 != 0;
    let Some(qos) = QoS::from_u8(flags >> 1 & 0x03) else {
        return fail(Fault::QoS3).map_err(broken);
    };
    let (rest, topic) = topic_name(body).map_err(broken)?;
    let (rest, packet_id) = if qos == QoS::AtMostOnce {
        if dup {
            return fail(Fault::DupWithoutQoS).map_err(broken);
        }
        (rest, None)
    } else {
        let (rest, id) = packet_id(rest).map_err(broken)?;
        (rest, Some(id))
    };
    let (payload, properties, has_alias) = if version == ProtocolVersion::V5 {
        let (rest, (properties, seen)) =
            properties(rest, Place::from(PacketType::Publish, sender)).map_err(broken)?;
        (rest, properties, seen.has(PropertyId::TopicAlias))
    } else {
        (rest, Properties::EMPTY, false)
    };
    if topic.is_empty() && !has_alias {
        return fail(Fault::TopicEmpty).map_err(broken);
    }
    let retain = flags & 0x01 != 0;
    Ok(packet(Publish { dup, qos, retain, topic, packet_id, properties, payload }))
}

/// An acknowledgement that is a packet identifier and nothing else: nearly every one, and the same in all versions.
#[inline]
pub(crate) fn bare_ack(frame: &[u8]) -> Option<Ack<'_>> {
    let &[first_byte, 2, high, low] = frame else { return None };
    let kind = match first_byte {
        0x40 => AckKind::PubAck,
        0x50 => AckKind::PubRec,
        0x62 => AckKind::PubRel,
        0x70 => AckKind::PubComp,
        _ => return None,
    };
    PacketId::new(u16::from_be_bytes([high, low])).map(|packet_id| Ack::new(kind, packet_id))
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).
#[inline]
fn ack(frame: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Ack<'_>, nom::Err<Flaw>> {
    let (body, first_byte) = open(frame)?;
    let (kind, expected) = match first_byte >> 4 {
        5 => (AckKind::PubRec, 0),
        6 => (AckKind::PubRel, 2),
        7 => (AckKind::PubComp, 0),
        _ => (AckKind::PubAck, 0),
    };
    let flags = first_byte & 0x0F;
    if flags != expected && !is_old_dup(flags, expected, version) {
        return fail(Fault::Flags.with(flags));
    }
    let (rest, packet_id) = packet_id(body)?;
    if rest.is_empty() {
        Ok(Ack::new(kind, packet_id))
    } else {
        long_ack(rest, kind, packet_id, version, sender)
    }
}

/// What follows the packet identifier: in 5.0 a code, and properties unless there are none.
fn long_ack(
    input: &[u8],
    kind: AckKind,
    packet_id: PacketId,
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Ack<'_>, nom::Err<Flaw>> {
    if version != ProtocolVersion::V5 {
        return fail(Fault::TrailingBytes);
    }
    let (rest, reason) = reason_code(input, kind.packet_type(), version, sender)?;
    match last_properties(rest, Place::from(kind.packet_type(), sender))? {
        ([], properties) => Ok(Ack { kind, packet_id, reason, properties }),
        _ => fail(Fault::TrailingBytes),
    }
}

/// 3.1 set DUP on what it sent again: PUBREL, SUBSCRIBE and UNSUBSCRIBE, the packets with flags of 2.
#[inline]
fn is_old_dup(flags: u8, expected: u8, version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V3_1 && expected == 2 && flags == 10
}

/// Properties that the end of the packet may replace.
fn last_properties(input: &[u8], place: Place) -> Parsed<'_, Properties<'_>> {
    if input.is_empty() {
        return Ok((input, Properties::EMPTY));
    }
    properties(input, place).map(|(rest, (properties, _))| (rest, properties))
}

/// Properties, where the version has them.
fn properties_of(
    input: &[u8],
    packet: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, Properties<'_>> {
    if version != ProtocolVersion::V5 {
        return Ok((input, Properties::EMPTY));
    }
    properties(input, Place::from(packet, sender)).map(|(rest, (properties, _))| (rest, properties))
}

/// A reason code of this packet that `sender` may say.
fn reason_code(
    input: &[u8],
    packet: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, ReasonCode> {
    let (rest, code) = byte(input)?;
    match ReasonCode::from_u8(code) {
        Some(reason) if reasons::codes(packet, version).has(code) => {
            if reasons::may_say(sender, packet, reason) {
                Ok((rest, reason))
            } else {
                fail(Fault::ReasonCodeSender.with(code))
            }
        }
        _ => fail(Fault::ReasonCodeUnknown.with(code)),
    }
}

#[inline]
fn other(frame: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, nom::Err<Flaw>> {
    let (body, first_byte) = open(frame)?;
    let Some(packet_type) = PacketType::from_first_byte(first_byte) else {
        return fail(Fault::PacketTypeZero);
    };
    let flags = first_byte & 0x0F;
    let expected = match packet_type {
        PacketType::Subscribe | PacketType::Unsubscribe => 2,
        _ => 0,
    };
    if packet_type == PacketType::Auth && version != ProtocolVersion::V5 {
        return fail(Fault::PacketTypeNotInVersion);
    }
    if flags != expected && !is_old_dup(flags, expected, version) {
        return fail(Fault::Flags.with(flags));
    }
    if !may_send(sender, packet_type, version) {
        return fail(Fault::PacketSender.with(packet_type as u8));
    }
    match packet_type {
        PacketType::Connect => whole(connect::connect(body)).map(Packet::Connect),
        PacketType::ConnAck => whole(connack(body, version)).map(Packet::ConnAck),
        PacketType::Subscribe => whole(requests::subscribe(body, version)).map(Packet::Subscribe),
        PacketType::SubAck => whole(suback(body, version)).map(Packet::SubAck),
        PacketType::Unsubscribe => whole(requests::unsubscribe(body, version)).map(Packet::Unsubscribe),
        PacketType::UnsubAck => whole(unsuback(body, version)).map(Packet::UnsubAck),
        PacketType::PingReq => whole(Ok((body, Packet::PingReq))),
        PacketType::PingResp => whole(Ok((body, Packet::PingResp))),
        PacketType::Disconnect => whole(disconnect(body, version, sender)).map(Packet::Disconnect),
        PacketType::Auth => whole(auth(body, sender)).map(Packet::Auth),
        // Decoded before we came here.
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp => fail(Fault::Flags.with(flags)),
    }
}

/// What was read, if nothing follows it.
#[inline]
fn whole<T>(parsed: Parsed<'_, T>) -> Result<T, nom::Err<Flaw>> {
    match parsed? {
        ([], value) => Ok(value),
        _ => fail(Fault::TrailingBytes),
    }
}

/// Who may send what (section 2.1.2).
const fn may_send(sender: Sender, packet_type: PacketType, version: ProtocolVersion) -> bool {
    match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            matches!(sender, Sender::Client)
        }
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            matches!(sender, Sender::Server)
        }
        PacketType::Disconnect => matches!((sender, version), (Sender::Client, _) | (_, ProtocolVersion::V5)),
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Auth => true,
    }
}

/// CONNACK (section 3.2).
fn connack(body: &[u8], version: ProtocolVersion) -> Parsed<'_, ConnAck<'_>> {
    if version != ProtocolVersion::V5 {
        return connack_3_x(body, version == ProtocolVersion::V3_1);
    }
    if matches!(body, [0, 1..=5]) {
        return connack_3_x(body, false);
    }
    let (rest, flags) = byte(body)?;
    let (rest, reason) = reason_code(rest, PacketType::ConnAck, version, Sender::Server)?;
    let (rest, properties) = properties_of(rest, PacketType::ConnAck, version, Sender::Server)?;
    accept_connack(rest, flags, reason, properties)
}

fn connack_3_x(body: &[u8], flags_are_undefined: bool) -> Parsed<'_, ConnAck<'_>> {
    let (rest, flags) = byte(body)?;
    let (rest, code) = byte(rest)?;
    let Some(reason) = ReasonCode::from_connect_return_code(code) else {
        return fail(Fault::ReasonCodeUnknown.with(code));
    };
    accept_connack(rest, if flags_are_undefined { 0 } else { flags }, reason, Properties::EMPTY)
}

fn accept_connack<'a>(
    rest: &'a [u8],
    flags: u8,
    reason: ReasonCode,
    properties: Properties<'a>,
) -> Parsed<'a, ConnAck<'a>> {
    if flags > 1 {
        return fail(Fault::ConnAckFlags.with(flags));
    }
    let session_present = flags == 1;
    if session_present && reason != ReasonCode::Success {
        return fail(Fault::SessionPresentWithRefusal);
    }
    Ok((rest, ConnAck { session_present, reason, properties }))
}

/// SUBACK (section 3.9). 3.1 has no failure code; servers of that time that use 0x80 mean what 3.1.1 says.
fn suback(body: &[u8], version: ProtocolVersion) -> Parsed<'_, SubAck<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (rest, properties) = properties_of(rest, PacketType::SubAck, version, Sender::Server)?;
    let (rest, codes) = reason_codes(rest, PacketType::SubAck, version)?;
    Ok((rest, SubAck { packet_id, properties, codes }))
}

/// UNSUBACK (section 3.11).
fn unsuback(body: &[u8], version: ProtocolVersion) -> Parsed<'_, UnsubAck<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (rest, properties) = properties_of(rest, PacketType::UnsubAck, version, Sender::Server)?;
    let (rest, codes) = if version == ProtocolVersion::V5 {
        reason_codes(rest, PacketType::UnsubAck, version)?
    } else {
        (rest, ReasonCodes::EMPTY)
    };
    Ok((rest, UnsubAck { packet_id, properties, codes }))
}

/// One reason code at least, up to the end of the packet.
fn reason_codes(input: &[u8], packet: PacketType, version: ProtocolVersion) -> Parsed<'_, ReasonCodes<'_>> {
    if input.is_empty() {
        return fail(Fault::NoReasonCodes);
    }
    let known = reasons::codes(packet, version);
    if let Some(unknown) = input.iter().find(|code| !known.has(**code)) {
        return fail(Fault::ReasonCodeUnknown.with(*unknown));
    }
    Ok((&[], ReasonCodes::from_validated(input)))
}

/// DISCONNECT (section 3.14).
fn disconnect(body: &[u8], version: ProtocolVersion, sender: Sender) -> Parsed<'_, Disconnect<'_>> {
    if body.is_empty() || version != ProtocolVersion::V5 {
        let reason = ReasonCode::Success;
        return Ok((body, Disconnect { reason, properties: Properties::EMPTY }));
    }
    let (rest, reason) = reason_code(body, PacketType::Disconnect, version, sender)?;
    let (rest, properties) = last_properties(rest, Place::from(PacketType::Disconnect, sender))?;
    Ok((rest, Disconnect { reason, properties }))
}

/// AUTH (section 3.15). Only Success without properties may leave them out, and with them the method.
fn auth(body: &[u8], sender: Sender) -> Parsed<'_, Auth<'_>> {
    if body.is_empty() {
        if !reasons::may_say(sender, PacketType::Auth, ReasonCode::Success) {
            return fail(Fault::ReasonCodeSender);
        }
        return Ok((body, Auth { reason: ReasonCode::Success, properties: Properties::EMPTY }));
    }
    let (rest, reason) = reason_code(body, PacketType::Auth, ProtocolVersion::V5, sender)?;
    let (rest, (properties, seen)) = properties(rest, Place::from(PacketType::Auth, sender))?;
    let is_bare_success = reason == ReasonCode::Success && properties.is_empty();
    if !is_bare_success && !seen.has(PropertyId::AuthenticationMethod) {
        return fail(Fault::AuthenticationMethodMissing);
    }
    Ok((rest, Auth { reason, properties }))
}
