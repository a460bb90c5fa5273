//! Owns the proptest strategies for packets: every packet that a sender may send in a version, and wild ones.
//! It must not know how a packet is written.

mod properties;

use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PropertiesBuf, Property, PropertyId, Publish,
    ReasonCodes, Sender, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe, Will,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use properties::{Spot, any_properties, properties};

/// A packet that owns what it says.
#[derive(Clone, Debug)]
pub(crate) enum OwnedPacket {
    Connect {
        version: ProtocolVersion,
        bridge: bool,
        clean_start: bool,
        keep_alive: u16,
        client_id: String,
        will: Option<OwnedWill>,
        username: Option<String>,
        password: Option<Vec<u8>>,
        properties: PropertiesBuf,
    },
    ConnAck {
        session_present: bool,
        reason: ReasonCode,
        properties: PropertiesBuf,
    },
    Publish(OwnedPublish),
    Ack {
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        properties: PropertiesBuf,
    },
    Subscribe {
        packet_id: PacketId,
        properties: PropertiesBuf,
        filters: Vec<(String, SubscriptionOptions)>,
    },
    SubAck {
        packet_id: PacketId,
        properties: PropertiesBuf,
        codes: Vec<u8>,
    },
    Unsubscribe {
        packet_id: PacketId,
        properties: PropertiesBuf,
        filters: Vec<String>,
    },
    UnsubAck {
        packet_id: PacketId,
        properties: PropertiesBuf,
        codes: Vec<u8>,
    },
    PingReq,
    PingResp,
    Disconnect {
        reason: ReasonCode,
        properties: PropertiesBuf,
    },
    Auth {
        reason: ReasonCode,
        properties: PropertiesBuf,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct OwnedWill {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    properties: PropertiesBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct OwnedPublish {
    dup: bool,
    qos: QoS,
    retain: bool,
    topic: String,
    packet_id: Option<PacketId>,
    properties: PropertiesBuf,
    payload: Vec<u8>,
}

impl OwnedPublish {
    pub(crate) fn publish(&self) -> Publish<'_> {
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.packet_id,
            properties: self.properties.as_properties(),
            payload: &self.payload,
        }
    }
}

fn codes_of(bytes: &[u8]) -> ReasonCodes<'_> {
    ReasonCodes::from_bytes(bytes).expect("only defined codes are generated")
}

impl OwnedPacket {
    /// The packet, borrowed.
    pub(crate) fn packet(&self) -> Packet<'_> {
        match self {
            Self::Connect {
                version,
                bridge,
                clean_start,
                keep_alive,
                client_id,
                will,
                username,
                password,
                properties,
            } => Packet::Connect(Connect {
                version: *version,
                bridge: *bridge,
                clean_start: *clean_start,
                keep_alive: *keep_alive,
                client_id,
                will: will.as_ref().map(|will| Will {
                    topic: &will.topic,
                    payload: &will.payload,
                    qos: will.qos,
                    retain: will.retain,
                    properties: will.properties.as_properties(),
                }),
                username: username.as_deref(),
                password: password.as_deref(),
                properties: properties.as_properties(),
            }),
            Self::ConnAck { session_present, reason, properties } => Packet::ConnAck(ConnAck {
                session_present: *session_present,
                reason: *reason,
                properties: properties.as_properties(),
            }),
            Self::Publish(publish) => Packet::Publish(publish.publish()),
            Self::Ack { kind, packet_id, reason, properties } => Packet::Ack(Ack {
                kind: *kind,
                packet_id: *packet_id,
                reason: *reason,
                properties: properties.as_properties(),
            }),
            Self::Subscribe { packet_id, properties, filters } => Packet::Subscribe(Subscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters
                    .iter()
                    .map(|(filter, options)| SubscribeFilter { filter, options: *options })
                    .collect(),
            }),
            Self::SubAck { packet_id, properties, codes } => Packet::SubAck(SubAck {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                codes: codes_of(codes),
            }),
            Self::Unsubscribe { packet_id, properties, filters } => Packet::Unsubscribe(Unsubscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters.iter().map(String::as_str).collect(),
            }),
            Self::UnsubAck { packet_id, properties, codes } => Packet::UnsubAck(UnsubAck {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                codes: codes_of(codes),
            }),
            Self::PingReq => Packet::PingReq,
            Self::PingResp => Packet::PingResp,
            Self::Disconnect { reason, properties } => {
                Packet::Disconnect(Disconnect { reason: *reason, properties: properties.as_properties() })
            }
            Self::Auth { reason, properties } => {
                Packet::Auth(Auth { reason: *reason, properties: properties.as_properties() })
            }
        }
    }
}

/// A version and a side of the connection.
pub(crate) fn speaker() -> impl Strategy<Value = (ProtocolVersion, Sender)> {
    (select(&ProtocolVersion::ALL[..]), select(&[Sender::Client, Sender::Server][..]))
}

/// Any packet that `sender` may send in `version`.
pub(crate) fn packet(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<OwnedPacket> {
    let mut choices = vec![publish(version, sender).prop_map(OwnedPacket::Publish).boxed()];
    for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp] {
        choices.push(ack(kind, version, sender));
    }
    if sender == Sender::Client {
        choices.push(connect(version));
        choices.push(subscribe(version));
        choices.push(unsubscribe(version));
        choices.push(Just(OwnedPacket::PingReq).boxed());
    } else {
        choices.push(connack(version));
        choices.push(suback(version));
        choices.push(unsuback(version));
        choices.push(Just(OwnedPacket::PingResp).boxed());
    }
    if version == ProtocolVersion::V5 || sender == Sender::Client {
        choices.push(disconnect(version, sender));
    }
    if version == ProtocolVersion::V5 {
        choices.push(auth(sender));
    }
    proptest::strategy::Union::new(choices).boxed()
}

/// Several packets of one version and one sender.
pub(crate) fn stream() -> impl Strategy<Value = (ProtocolVersion, Sender, Vec<OwnedPacket>)> {
    speaker().prop_flat_map(|(version, sender)| {
        vec(packet(version, sender), 1..6).prop_map(move |packets| (version, sender, packets))
    })
}

/// Any PUBLISH that `sender` may send in `version`.
pub(crate) fn publish(version: ProtocolVersion, sender: Sender) -> impl Strategy<Value = OwnedPublish> {
    let header = (any::<bool>(), qos(), any::<bool>(), packet_id());
    (header, topic(), any::<bool>(), properties(version, Spot::Publish(sender)), payload()).prop_map(
        |((dup, qos, retain, id), topic, drop_topic, properties, payload)| {
            let with_alias = properties.as_properties().find(PropertyId::TopicAlias).is_some();
            OwnedPublish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: if with_alias && drop_topic { String::new() } else { topic },
                packet_id: (qos != QoS::AtMostOnce).then_some(id),
                properties,
                payload,
            }
        },
    )
}

fn connect(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    let will = (topic(), blob(), qos(), any::<bool>(), properties(version, Spot::Will)).prop_map(
        |(topic, payload, qos, retain, properties)| OwnedWill { topic, payload, qos, retain, properties },
    );
    let header = (any::<bool>(), any::<bool>(), any::<u16>(), text());
    let login = (option::of(text()), option::of(blob()));
    (header, option::of(will), login, properties(version, Spot::Connect))
        .prop_map(
            move |((bridge, clean_start, keep_alive, client_id), will, (username, password), properties)| {
                let may_have_password = version == ProtocolVersion::V5 || username.is_some();
                OwnedPacket::Connect {
                    version,
                    bridge: bridge && version != ProtocolVersion::V5,
                    clean_start,
                    keep_alive,
                    client_id,
                    will,
                    password: password.filter(|_| may_have_password),
                    username,
                    properties,
                }
            },
        )
        .boxed()
}

fn connack(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    let codes: &[u8] = match version {
        ProtocolVersion::V5 => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
        _ => &[0x00, 0x84, 0x85, 0x86, 0x87, 0x88],
    };
    (any::<bool>(), reason(codes), properties(version, Spot::ConnAck))
        .prop_map(move |(session_present, reason, properties)| OwnedPacket::ConnAck {
            session_present: session_present
                && reason == ReasonCode::Success
                && version != ProtocolVersion::V3_1,
            reason,
            properties,
        })
        .boxed()
}

fn ack(kind: AckKind, version: ProtocolVersion, _: Sender) -> BoxedStrategy<OwnedPacket> {
    let codes: &[u8] = match (version, kind) {
        (ProtocolVersion::V5, AckKind::PubAck | AckKind::PubRec) => {
            &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
        }
        (ProtocolVersion::V5, AckKind::PubRel | AckKind::PubComp) => &[0x00, 0x92],
        _ => &[0x00],
    };
    (packet_id(), reason(codes), properties(version, Spot::Answer))
        .prop_map(move |(packet_id, reason, properties)| OwnedPacket::Ack {
            kind,
            packet_id,
            reason,
            properties,
        })
        .boxed()
}

fn subscribe(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    let one = (filter(), options(version)).prop_map(|(filter, mut options)| {
        options.no_local &= !filter.starts_with("$share/");
        (filter, options)
    });
    (packet_id(), properties(version, Spot::Subscribe), vec(one, 1..4))
        .prop_map(|(packet_id, properties, filters)| OwnedPacket::Subscribe {
            packet_id,
            properties,
            filters,
        })
        .boxed()
}

fn unsubscribe(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    (packet_id(), properties(version, Spot::Unsubscribe), vec(filter(), 1..4))
        .prop_map(|(packet_id, properties, filters)| OwnedPacket::Unsubscribe {
            packet_id,
            properties,
            filters,
        })
        .boxed()
}

fn suback(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    let codes: &[u8] = match version {
        ProtocolVersion::V5 => &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        _ => &[0x00, 0x01, 0x02, 0x80],
    };
    (packet_id(), properties(version, Spot::Answer), vec(select(codes.to_vec()), 1..5))
        .prop_map(|(packet_id, properties, codes)| OwnedPacket::SubAck { packet_id, properties, codes })
        .boxed()
}

fn unsuback(version: ProtocolVersion) -> BoxedStrategy<OwnedPacket> {
    let codes = vec(select(&[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91][..]), 1..5);
    (packet_id(), properties(version, Spot::Answer), codes)
        .prop_map(move |(packet_id, properties, codes)| OwnedPacket::UnsubAck {
            packet_id,
            properties,
            codes: if version == ProtocolVersion::V5 { codes } else { Vec::new() },
        })
        .boxed()
}

fn disconnect(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<OwnedPacket> {
    let codes: &[u8] = match (version, sender) {
        (ProtocolVersion::V5, Sender::Client) => {
            &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x8C, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
        }
        (ProtocolVersion::V5, Sender::Server) => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
            0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        _ => &[0x00],
    };
    (reason(codes), properties(version, Spot::Disconnect(sender)))
        .prop_map(|(reason, properties)| OwnedPacket::Disconnect { reason, properties })
        .boxed()
}

fn auth(sender: Sender) -> BoxedStrategy<OwnedPacket> {
    let codes: &[u8] = if sender == Sender::Client { &[0x18, 0x19] } else { &[0x00, 0x18] };
    (reason(codes), properties(ProtocolVersion::V5, Spot::Auth), text())
        .prop_map(|(reason, mut properties, method)| {
            let bare = reason == ReasonCode::Success && properties.is_empty();
            if !bare && properties.as_properties().find(PropertyId::AuthenticationMethod).is_none() {
                properties.push(Property::AuthenticationMethod(&method)).expect("a valid text");
            }
            OwnedPacket::Auth { reason, properties }
        })
        .boxed()
}

/// Packets with everything that their types allow, whether or not it fits together.
pub(crate) fn wild_packet() -> BoxedStrategy<OwnedPacket> {
    let any_reason = || select(ReasonCode::ALL.to_vec());
    let any_codes = || vec(select(ReasonCode::ALL.to_vec()).prop_map(ReasonCode::to_u8), 0..4);
    let any_text = || "[a-b+#/$\\x00\u{e9}]{0,12}".boxed();
    let kinds = select(&[AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp][..]);
    let will = (any_text(), blob(), qos(), any::<bool>(), any_properties()).prop_map(
        |(topic, payload, qos, retain, properties)| OwnedWill { topic, payload, qos, retain, properties },
    );
    let connect_head = (select(&ProtocolVersion::ALL[..]), any::<[bool; 2]>(), any::<u16>(), any_text());
    let login = (option::of(any_text()), option::of(blob()));
    prop_oneof![
        (connect_head, option::of(will), login, any_properties()).prop_map(
            |(
                (version, [bridge, clean_start], keep_alive, client_id),
                will,
                (username, password),
                properties,
            )| {
                OwnedPacket::Connect {
                    version,
                    bridge,
                    clean_start,
                    keep_alive,
                    client_id,
                    will,
                    username,
                    password,
                    properties,
                }
            }
        ),
        (any::<bool>(), any_reason(), any_properties()).prop_map(|(session_present, reason, properties)| {
            OwnedPacket::ConnAck { session_present, reason, properties }
        }),
        (any::<[bool; 2]>(), qos(), any_text(), option::of(packet_id()), any_properties(), payload())
            .prop_map(|([dup, retain], qos, topic, packet_id, properties, payload)| {
                OwnedPacket::Publish(OwnedPublish { dup, qos, retain, topic, packet_id, properties, payload })
            }),
        (kinds, packet_id(), any_reason(), any_properties()).prop_map(
            |(kind, packet_id, reason, properties)| {
                OwnedPacket::Ack { kind, packet_id, reason, properties }
            }
        ),
        (packet_id(), any_properties(), vec((any_text(), options(ProtocolVersion::V5)), 0..3)).prop_map(
            |(packet_id, properties, filters)| OwnedPacket::Subscribe { packet_id, properties, filters }
        ),
        (packet_id(), any_properties(), any_codes())
            .prop_map(|(packet_id, properties, codes)| OwnedPacket::SubAck { packet_id, properties, codes }),
        (packet_id(), any_properties(), vec(any_text(), 0..3)).prop_map(
            |(packet_id, properties, filters)| OwnedPacket::Unsubscribe { packet_id, properties, filters }
        ),
        (packet_id(), any_properties(), any_codes()).prop_map(|(packet_id, properties, codes)| {
            OwnedPacket::UnsubAck { packet_id, properties, codes }
        }),
        (any_reason(), any_properties())
            .prop_map(|(reason, properties)| OwnedPacket::Disconnect { reason, properties }),
        (any_reason(), any_properties())
            .prop_map(|(reason, properties)| OwnedPacket::Auth { reason, properties }),
    ]
    .boxed()
}

/// Text without U+0000, of any script.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\x00]{0,12}", "[ -~]{0,40}"]
}

/// A topic name.
pub(crate) fn topic() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\x00+#]{1,12}", "[a-z]{1,8}(/[a-z0-9]{0,8}){0,4}"]
}

/// A topic filter, perhaps of a shared subscription.
pub(crate) fn filter() -> impl Strategy<Value = String> {
    let levels = vec(prop_oneof![Just(String::from("+")), "[^\\x00+#/$]{0,6}"], 1..4);
    (levels, any::<bool>(), option::of("[^\\x00+#/]{1,6}")).prop_map(|(mut levels, multi, share)| {
        if multi {
            levels.push(String::from("#"));
        }
        let mut filter = levels.join("/");
        if filter.is_empty() {
            filter.push('/');
        }
        match share {
            Some(name) => format!("$share/{name}/{filter}"),
            None => filter,
        }
    })
}

fn options(version: ProtocolVersion) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = select(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][..]);
    (qos(), any::<[bool; 2]>(), handling).prop_map(
        move |(qos, [no_local, retain_as_published], retain_handling)| {
            if version == ProtocolVersion::V5 {
                SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscriptionOptions::new(qos)
            }
        },
    )
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("never 0", PacketId::new)
}

fn reason(codes: &[u8]) -> impl Strategy<Value = ReasonCode> {
    select(codes.iter().filter_map(|code| ReasonCode::from_u8(*code)).collect::<Vec<_>>())
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..24)
}

/// Payloads around the lengths at which the remaining length takes another byte, most of them small.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..24),
        2 => vec(any::<u8>(), 100..140),
        1 => (16_300_usize..16_400, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}
