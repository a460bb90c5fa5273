//! Owns the rules that a sequence breaks: each packet is well formed, and not legal after what came before.
//! It must not know the rules of a single packet.

use mqtt_machine::packet::{PropertiesBuf, Property};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode};

use super::case::Step;
use super::plan::Setting;
use crate::generate::{Choices, Duty, OwnedPacket, OwnedPublish, encoded};

/// A rule about a packet and its past.
pub(super) struct StateRule {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) id_5: &'static str,
    pub(super) id_3: &'static str,
    pub(super) codes: &'static [ReasonCode],
    pub(super) duty: Duty,
    /// The steps, the CONNECT among them; `None` where the rule cannot be broken.
    pub(super) make: fn(&mut Choices<'_>, &Setting, Vec<u8>) -> Option<Vec<Step>>,
}

use ReasonCode::ProtocolError as Protocol;

pub(super) const RULES: &[StateRule] = &[
    StateRule {
        name: "first-packet",
        what: "a connection that does not begin with CONNECT",
        id_5: "MQTT-3.1.0-1",
        id_3: "MQTT-3.1.0-1",
        codes: &[Protocol, ReasonCode::MalformedPacket],
        duty: Duty::Close,
        make: |choices, setting, connect| {
            let mut first = match choices.size(0..=2) {
                0 => vec![0xC0, 0],
                1 => publish(setting, "a", None, QoS::AtLeastOnce, 1),
                _ => vec![0xE0, 0],
            };
            if choices.flag() && first != [0xE0, 0] {
                first.extend(connect);
            }
            Some(vec![Step::Send(first)])
        },
    },
    StateRule {
        name: "second-connect",
        what: "a second CONNECT on one connection",
        id_5: "MQTT-3.1.0-2",
        id_3: "MQTT-3.1.0-2",
        codes: &[Protocol],
        duty: Duty::Close,
        make: |choices, _, connect| {
            let mut steps = vec![Step::Send(connect.clone())];
            if choices.flag() {
                steps.push(Step::AwaitConnAck);
            }
            steps.push(Step::Send(connect));
            Some(steps)
        },
    },
    StateRule {
        name: "topic-alias-above-maximum",
        what: "a topic alias above the broker's maximum",
        id_5: "MQTT-3.3.2-9",
        id_3: "",
        codes: &[ReasonCode::TopicAliasInvalid],
        duty: Duty::Close,
        make: |choices, setting, connect| {
            let above = setting.capabilities.topic_alias_maximum.checked_add(1)?;
            let alias = choices.pick(&[above, u16::MAX]);
            after_connect(setting, connect, publish(setting, "a", Some(alias), QoS::AtMostOnce, 0))
        },
    },
    StateRule {
        name: "topic-alias-unknown",
        what: "a topic alias that stands for nothing, and no topic name",
        id_5: "5.0 section 3.3.2.3.4",
        id_3: "",
        codes: &[Protocol, ReasonCode::TopicAliasInvalid, ReasonCode::TopicNameInvalid],
        duty: Duty::Close,
        make: |_, setting, connect| {
            let alias = setting.capabilities.topic_alias_maximum;
            if alias == 0 {
                return None;
            }
            after_connect(setting, connect, publish(setting, "", Some(alias), QoS::AtMostOnce, 0))
        },
    },
    StateRule {
        name: "auth-without-method",
        what: "an AUTH after a CONNECT without an authentication method",
        id_5: "MQTT-4.12.0-7",
        id_3: "",
        codes: &[Protocol, ReasonCode::BadAuthenticationMethod, ReasonCode::NotAuthorized],
        duty: Duty::Close,
        make: |choices, setting, connect| {
            let properties = PropertiesBuf::new().with(Property::AuthenticationMethod("m")).ok()?;
            let reason = choices.pick(&[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate]);
            let auth = OwnedPacket::Auth { reason, properties };
            after_connect(setting, connect, encoded(&auth.packet(), ProtocolVersion::V5))
        },
    },
    StateRule {
        name: "packet-too-large",
        what: "a packet above the broker's Maximum Packet Size",
        id_5: "5.0 section 3.2.2.3.6",
        id_3: "",
        codes: &[ReasonCode::PacketTooLarge],
        duty: Duty::Close,
        make: |_, setting, connect| {
            let most = setting.capabilities.maximum_packet_size as usize;
            if most > 1 << 20 {
                return None;
            }
            let mut packet = publish(setting, "a", None, QoS::AtMostOnce, 0);
            packet.truncate(1);
            let topic = b"\0\x01a\0";
            let payload = vec![b'x'; most];
            packet.extend(crate::unchecked::var_int((topic.len() + payload.len()) as u32, 1));
            packet.extend_from_slice(topic);
            packet.extend(payload);
            after_connect(setting, connect, packet)
        },
    },
    StateRule {
        name: "qos-above-maximum",
        what: "a QoS above the broker's Maximum QoS",
        id_5: "MQTT-3.2.2-11",
        id_3: "",
        codes: &[ReasonCode::QoSNotSupported],
        duty: Duty::Close,
        make: |_, setting, connect| {
            if setting.capabilities.maximum_qos == QoS::ExactlyOnce {
                return None;
            }
            after_connect(setting, connect, publish(setting, "a", None, QoS::ExactlyOnce, 1))
        },
    },
    StateRule {
        name: "receive-maximum",
        what: "more QoS 2 publications at once than the broker's Receive Maximum",
        id_5: "5.0 section 3.3.4",
        id_3: "",
        codes: &[ReasonCode::ReceiveMaximumExceeded],
        duty: Duty::Close,
        make: |_, setting, connect| {
            let most = setting.capabilities.receive_maximum;
            if most > 200 || setting.capabilities.maximum_qos < QoS::ExactlyOnce {
                return None;
            }
            let packets = (1..=most + 1).map(|id| publish(setting, "a", None, QoS::ExactlyOnce, id));
            after_connect(setting, connect, packets.collect::<Vec<_>>().concat())
        },
    },
];

/// These bytes behind an accepted CONNECT of 5.0.
fn after_connect(setting: &Setting, connect: Vec<u8>, bytes: Vec<u8>) -> Option<Vec<Step>> {
    (setting.version == ProtocolVersion::V5)
        .then(|| vec![Step::Send(connect), Step::AwaitConnAck, Step::Send(bytes)])
}

fn publish(setting: &Setting, topic: &str, alias: Option<u16>, qos: QoS, id: u16) -> Vec<u8> {
    let mut properties = PropertiesBuf::new();
    if let Some(alias) = alias {
        let _ = properties.push(Property::TopicAlias(alias));
    }
    let topic = if topic.is_empty() { String::new() } else { format!("{}/{topic}", setting.prefix) };
    let publish = OwnedPublish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(id),
        properties,
        payload: b"x".to_vec(),
    };
    encoded(&OwnedPacket::Publish(publish).packet(), setting.version)
}
