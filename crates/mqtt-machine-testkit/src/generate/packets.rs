//! Owns the generators of packets: every packet that a sender may send in a version, and wild ones.
//! It must not know how a packet is written.

use mqtt_machine::packet::{AckKind, Packet, PacketType, Property, PropertyId, Sender};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions};

use super::owned::{OwnedCodes, OwnedConnect, OwnedPacket, OwnedPublish, OwnedWill};
use super::properties::{Spot, any_properties, properties};
use super::text::{blob, payload, text, topic_filter, topic_name};
use super::{Choices, Generate};

/// A packet together with the version of its connection and the side that sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What the connection speaks.
    pub version: ProtocolVersion,
    /// Who sends it.
    pub sender: Sender,
    /// What is sent. A CONNECT has the connection's version.
    pub packet: OwnedPacket,
}

impl Generate for Sent {
    fn generate(choices: &mut Choices<'_>) -> Self {
        let (version, sender) = speaker(choices);
        Self { version, sender, packet: packet(choices, version, sender) }
    }
}

/// One to five packets of one version and one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What the connection speaks.
    pub version: ProtocolVersion,
    /// Who sends them.
    pub sender: Sender,
    /// What is sent, in order. Each is valid by itself; that they follow from each other is not promised.
    pub packets: Vec<OwnedPacket>,
}

impl Generate for Stream {
    fn generate(choices: &mut Choices<'_>) -> Self {
        let (version, sender) = speaker(choices);
        let count = choices.size(1..=5);
        Self { version, sender, packets: (0..count).map(|_| packet(choices, version, sender)).collect() }
    }
}

/// A packet with everything that its type allows, whether or not it fits together: for the encoder to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WildPacket(pub OwnedPacket);

impl Generate for WildPacket {
    fn generate(choices: &mut Choices<'_>) -> Self {
        Self(wild_packet(choices))
    }
}

/// A version and a side of the connection.
pub fn speaker(choices: &mut Choices<'_>) -> (ProtocolVersion, Sender) {
    let version = choices.pick(&[
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
        ProtocolVersion::V5,
        ProtocolVersion::V3_1,
    ]);
    (version, choices.pick(&[Sender::Client, Sender::Server]))
}

/// The packet types that `sender` may send in `version`.
pub fn packet_types(version: ProtocolVersion, sender: Sender) -> Vec<PacketType> {
    use PacketType as Type;
    let mut types = match sender {
        Sender::Client => vec![Type::PingReq, Type::Connect, Type::Subscribe, Type::Unsubscribe],
        Sender::Server => vec![Type::PingResp, Type::ConnAck, Type::SubAck, Type::UnsubAck],
    };
    types.extend([Type::Publish, Type::Publish, Type::PubAck, Type::PubRec, Type::PubRel, Type::PubComp]);
    if version == ProtocolVersion::V5 || sender == Sender::Client {
        types.push(Type::Disconnect);
    }
    if version == ProtocolVersion::V5 {
        types.push(Type::Auth);
    }
    types
}

/// Any packet that `sender` may send in `version`.
pub fn packet(choices: &mut Choices<'_>, version: ProtocolVersion, sender: Sender) -> OwnedPacket {
    let packet_type = choices.pick(&packet_types(version, sender));
    packet_of(choices, packet_type, version, sender)
}

/// A valid packet of this type; `sender` and `version` must have it, see [`packet_types`].
pub fn packet_of(
    choices: &mut Choices<'_>,
    packet_type: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> OwnedPacket {
    match packet_type {
        PacketType::Connect => OwnedPacket::Connect(Box::new(connect(choices, version))),
        PacketType::ConnAck => connack(choices, version),
        PacketType::Publish => OwnedPacket::Publish(publish(choices, version, sender)),
        PacketType::PubAck => ack(choices, AckKind::PubAck, version),
        PacketType::PubRec => ack(choices, AckKind::PubRec, version),
        PacketType::PubRel => ack(choices, AckKind::PubRel, version),
        PacketType::PubComp => ack(choices, AckKind::PubComp, version),
        PacketType::Subscribe => subscribe(choices, version),
        PacketType::SubAck => suback(choices, version),
        PacketType::Unsubscribe => OwnedPacket::Unsubscribe {
            packet_id: packet_id(choices),
            properties: properties(choices, version, Spot::Unsubscribe),
            filters: (0..choices.size(1..=3)).map(|_| topic_filter(choices)).collect(),
        },
        PacketType::UnsubAck => unsuback(choices, version),
        PacketType::PingReq => OwnedPacket::PingReq,
        PacketType::PingResp => OwnedPacket::PingResp,
        PacketType::Disconnect => disconnect(choices, version, sender),
        PacketType::Auth => auth(choices, sender),
    }
}

/// Any PUBLISH that `sender` may send in `version`.
pub fn publish(choices: &mut Choices<'_>, version: ProtocolVersion, sender: Sender) -> OwnedPublish {
    let qos = qos(choices);
    let properties = properties(choices, version, Spot::Publish(sender));
    let has_alias = properties.as_properties().find(PropertyId::TopicAlias).is_some();
    let is_acknowledged = qos != QoS::AtMostOnce;
    OwnedPublish {
        dup: choices.flag() && is_acknowledged,
        qos,
        retain: choices.flag(),
        topic: if has_alias && choices.flag() { String::new() } else { topic_name(choices) },
        packet_id: is_acknowledged.then(|| packet_id(choices)),
        properties,
        payload: payload(choices),
    }
}

/// Any CONNECT of `version`.
pub fn connect(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedConnect {
    let username = choices.flag().then(|| text(choices));
    let may_have_password = version == ProtocolVersion::V5 || username.is_some();
    OwnedConnect {
        version,
        bridge: choices.one_in(8) && version != ProtocolVersion::V5,
        clean_start: !choices.flag(),
        keep_alive: choices.two_bytes(),
        client_id: text(choices),
        will: choices.flag().then(|| will(choices, version)),
        password: (choices.flag() && may_have_password).then(|| blob(choices)),
        username,
        properties: properties(choices, version, Spot::Connect),
    }
}

fn will(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedWill {
    OwnedWill {
        topic: topic_name(choices),
        payload: blob(choices),
        qos: qos(choices),
        retain: choices.flag(),
        properties: properties(choices, version, Spot::Will),
    }
}

fn connack(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    let reason = reason(choices, codes(PacketType::ConnAck, version, Sender::Server));
    let may_be_present = reason == ReasonCode::Success && version != ProtocolVersion::V3_1;
    OwnedPacket::ConnAck {
        session_present: choices.flag() && may_be_present,
        reason,
        properties: properties(choices, version, Spot::ConnAck),
    }
}

fn ack(choices: &mut Choices<'_>, kind: AckKind, version: ProtocolVersion) -> OwnedPacket {
    OwnedPacket::Ack {
        kind,
        packet_id: packet_id(choices),
        reason: reason(choices, codes(kind.packet_type(), version, Sender::Client)),
        properties: properties(choices, version, Spot::Answer),
    }
}

fn subscribe(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    let count = choices.size(1..=3);
    let filters = (0..count)
        .map(|_| {
            let filter = topic_filter(choices);
            let mut options = subscription_options(choices, version);
            // [MQTT-3.8.3-4]
            options.no_local &= !filter.starts_with("$share/");
            (filter, options)
        })
        .collect();
    let properties = properties(choices, version, Spot::Subscribe);
    OwnedPacket::Subscribe { packet_id: packet_id(choices), properties, filters }
}

fn suback(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    OwnedPacket::SubAck {
        packet_id: packet_id(choices),
        properties: properties(choices, version, Spot::Answer),
        codes: some_codes(choices, codes(PacketType::SubAck, version, Sender::Server)),
    }
}

fn unsuback(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    let codes = match version {
        ProtocolVersion::V5 => some_codes(choices, codes(PacketType::UnsubAck, version, Sender::Server)),
        _ => OwnedCodes::default(),
    };
    let properties = properties(choices, version, Spot::Answer);
    OwnedPacket::UnsubAck { packet_id: packet_id(choices), properties, codes }
}

fn disconnect(choices: &mut Choices<'_>, version: ProtocolVersion, sender: Sender) -> OwnedPacket {
    OwnedPacket::Disconnect {
        reason: reason(choices, codes(PacketType::Disconnect, version, sender)),
        properties: properties(choices, version, Spot::Disconnect(sender)),
    }
}

fn auth(choices: &mut Choices<'_>, sender: Sender) -> OwnedPacket {
    let reason = reason(choices, codes(PacketType::Auth, ProtocolVersion::V5, sender));
    let mut properties = properties(choices, ProtocolVersion::V5, Spot::Auth);
    let is_bare = reason == ReasonCode::Success && properties.is_empty();
    if !is_bare && properties.as_properties().find(PropertyId::AuthenticationMethod).is_none() {
        properties.push(Property::AuthenticationMethod(&text(choices))).expect("a valid text");
    }
    OwnedPacket::Auth { reason, properties }
}

/// The codes that `sender` may say in a packet, the simplest first; read from the sections of each packet, so that it can
/// disagree with the table of the codec.
pub(crate) const fn codes(packet: PacketType, version: ProtocolVersion, sender: Sender) -> &'static [u8] {
    use PacketType as Type;
    match (packet, version, sender) {
        (Type::ConnAck, ProtocolVersion::V5, _) => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
        (Type::ConnAck, _, _) => &[0x00, 0x84, 0x85, 0x86, 0x87, 0x88],
        (Type::PubAck | Type::PubRec, ProtocolVersion::V5, _) => {
            &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
        }
        (Type::PubRel | Type::PubComp, ProtocolVersion::V5, _) => &[0x00, 0x92],
        (Type::SubAck, ProtocolVersion::V5, _) => {
            &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
        }
        (Type::SubAck, _, _) => &[0x00, 0x01, 0x02, 0x80],
        (Type::UnsubAck, ProtocolVersion::V5, _) => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        (Type::Disconnect, ProtocolVersion::V5, Sender::Client) => {
            &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
        }
        (Type::Disconnect, ProtocolVersion::V5, Sender::Server) => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
            0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        (Type::Auth, _, Sender::Client) => &[0x18, 0x19],
        (Type::Auth, _, Sender::Server) => &[0x00, 0x18],
        _ => &[0x00],
    }
}

fn reason(choices: &mut Choices<'_>, codes: &[u8]) -> ReasonCode {
    ReasonCode::from_u8(choices.pick(codes)).expect("the tables hold defined codes")
}

fn some_codes(choices: &mut Choices<'_>, codes: &[u8]) -> OwnedCodes {
    let count = choices.size(1..=4);
    OwnedCodes::new((0..count).map(|_| reason(choices, codes)))
}

/// Any QoS.
pub fn qos(choices: &mut Choices<'_>) -> QoS {
    choices.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

/// Any packet identifier, 1 and 65,535 more often than others.
pub fn packet_id(choices: &mut Choices<'_>) -> PacketId {
    match choices.byte() {
        0..=31 => PacketId::MIN,
        32..=63 => PacketId::MAX,
        _ => PacketId::new(choices.two_bytes()).unwrap_or(PacketId::MIN),
    }
}

/// Any options that `version` has.
pub fn subscription_options(choices: &mut Choices<'_>, version: ProtocolVersion) -> SubscriptionOptions {
    let mut options = SubscriptionOptions::new(qos(choices));
    if version == ProtocolVersion::V5 {
        options.no_local = choices.flag();
        options.retain_as_published = choices.flag();
        options.retain_handling =
            choices.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    }
    options
}

/// Text that may hold U+0000 and wildcards anywhere.
fn wild_text(choices: &mut Choices<'_>) -> String {
    let count = choices.size(0..=12);
    (0..count).map(|_| choices.pick(&['a', 'b', '/', '+', '#', '$', '\0', 'é'])).collect()
}

fn wild_packet(choices: &mut Choices<'_>) -> OwnedPacket {
    let any_reason = |choices: &mut Choices<'_>| choices.pick(ReasonCode::ALL);
    let properties = any_properties(choices);
    let packet_id = packet_id(choices);
    match choices.pick(&PacketType::ALL) {
        PacketType::Connect => {
            let mut connect = connect(choices, ProtocolVersion::V5);
            connect.version = choices.pick(&ProtocolVersion::ALL);
            connect.bridge = choices.flag();
            connect.client_id = wild_text(choices);
            connect.properties = properties;
            if let Some(will) = &mut connect.will {
                will.topic = wild_text(choices);
                will.properties = any_properties(choices);
            }
            OwnedPacket::Connect(Box::new(connect))
        }
        PacketType::ConnAck => {
            OwnedPacket::ConnAck { session_present: choices.flag(), reason: any_reason(choices), properties }
        }
        PacketType::Publish => OwnedPacket::Publish(OwnedPublish {
            dup: choices.flag(),
            qos: qos(choices),
            retain: choices.flag(),
            topic: if choices.flag() { String::new() } else { topic_name(choices) },
            packet_id: choices.flag().then_some(packet_id),
            properties,
            payload: payload(choices),
        }),
        kind @ (PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp) => {
            let kind = match kind {
                PacketType::PubRec => AckKind::PubRec,
                PacketType::PubRel => AckKind::PubRel,
                PacketType::PubComp => AckKind::PubComp,
                _ => AckKind::PubAck,
            };
            OwnedPacket::Ack { kind, packet_id, reason: any_reason(choices), properties }
        }
        PacketType::Subscribe => {
            let count = choices.size(0..=2);
            let filters = (0..count)
                .map(|_| (wild_text(choices), subscription_options(choices, ProtocolVersion::V5)))
                .collect();
            OwnedPacket::Subscribe { packet_id, properties, filters }
        }
        PacketType::Unsubscribe => {
            let count = choices.size(0..=2);
            let filters = (0..count).map(|_| wild_text(choices)).collect();
            OwnedPacket::Unsubscribe { packet_id, properties, filters }
        }
        kind @ (PacketType::SubAck | PacketType::UnsubAck) => {
            let count = choices.size(0..=3);
            let codes = OwnedCodes::new((0..count).map(|_| any_reason(choices)));
            match kind {
                PacketType::SubAck => OwnedPacket::SubAck { packet_id, properties, codes },
                _ => OwnedPacket::UnsubAck { packet_id, properties, codes },
            }
        }
        PacketType::PingReq => OwnedPacket::PingReq,
        PacketType::PingResp => OwnedPacket::PingResp,
        PacketType::Disconnect => OwnedPacket::Disconnect { reason: any_reason(choices), properties },
        PacketType::Auth => OwnedPacket::Auth { reason: any_reason(choices), properties },
    }
}

/// The bytes of a packet that is valid, as the core's encoder writes it.
///
/// # Panics
/// When the packet is not valid after all.
pub fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    if let Err(error) = mqtt_machine::wire::encode(packet, version, &mut out) {
        panic!("{error}: {packet:?}");
    }
    out.to_vec()
}
