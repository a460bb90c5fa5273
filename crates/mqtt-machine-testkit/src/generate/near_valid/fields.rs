//! Owns the rules of fields that many packets share: text, packet identifiers, topic names, reason codes.
//! It must not know properties beyond their text.

use mqtt_machine::packet::{PacketType, Sender};
use mqtt_machine::{ProtocolVersion, ReasonCode};

use super::{
    BrokenRule, Choices, Duty, EITHER, MALFORMED, Malformed, Pair, Protocol, Speaker, bent, sends, valid,
    valid_of,
};
use crate::generate::packets::{codes, packet_types};
use crate::unchecked::{Frame, Part, Value};

pub(super) const RULES: &[BrokenRule] = &[
    BrokenRule {
        name: "text-not-utf8",
        what: "a text that is not UTF-8",
        id_5: "MQTT-1.5.4-1",
        id_3: "MQTT-1.5.3-1",
        field: "UTF-8 string",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let bad: &[u8] = choices.pick(&[
                &[0x80][..],
                &[0xFF],
                &[0xC3, 0x28],
                &[0xE2, 0x82],
                &[0xC0, 0xAF],
                &[0xC0, 0x80],
                &[0xE0, 0x80, 0xAF],
                &[0xF4, 0x90, 0x80, 0x80],
                &[0xF8, 0x88, 0x80, 0x80, 0x80],
            ]);
            bad_text(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "text-surrogate",
        what: "a text with an encoded surrogate",
        id_5: "MQTT-1.5.4-1",
        id_3: "MQTT-1.5.3-1",
        field: "UTF-8 string",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let bad: &[u8] = choices.pick(&[
                &[0xED, 0xA0, 0x80][..],
                &[0xED, 0xBF, 0xBF],
                &[0xED, 0xA0, 0xB4, 0xED, 0xB4, 0x9E],
            ]);
            bad_text(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "text-nul",
        what: "a text with U+0000",
        id_5: "MQTT-1.5.4-2",
        id_3: "MQTT-1.5.3-2",
        field: "UTF-8 string",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| bad_text(choices, speaker, &[0]),
    },
    BrokenRule {
        name: "packet-id-zero",
        what: "a packet identifier of 0",
        id_5: "5.0 section 2.2.1",
        id_3: "MQTT-2.3.1-1",
        field: "packet identifier",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            bent(any(choices, speaker)?, |frame| frame.set(Part::PacketId, vec![0, 0]).then_some(()))
        },
    },
    BrokenRule {
        name: "topic-wildcard",
        what: "a topic name with a wildcard",
        id_5: "MQTT-3.3.2-2",
        id_3: "MQTT-3.3.2-2",
        field: "topic name",
        codes: &[Malformed, Protocol, ReasonCode::TopicNameInvalid],
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let bad = choices.pick(&["#", "+", "a/+/b", "a/#", "a+b", "x#", "/+", "é/+"]);
            replace_topic(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "topic-empty",
        what: "an empty topic name that no topic alias stands for",
        id_5: "5.0 section 3.3.2.1",
        id_3: "MQTT-4.7.3-1",
        field: "topic name",
        codes: &[Malformed, Protocol, ReasonCode::TopicNameInvalid],
        duty: Duty::Close,
        break_it: |choices, speaker| replace_topic(choices, speaker, ""),
    },
    BrokenRule {
        name: "reason-code-unknown",
        what: "a reason code that the packet does not have",
        id_5: "5.0 section 2.4",
        id_3: "MQTT-3.9.3-2",
        field: "reason code",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let frame = any(choices, speaker)?;
            let packet_type = frame.packet_type()?;
            let known = known_codes(packet_type, speaker.version);
            let code = choices.byte();
            // Before 5.0 its CONNACK counts in numbers of its own.
            let is_return_code = packet_type == PacketType::ConnAck && code <= 5;
            bent(frame, |frame| {
                let had = frame.set(Part::ReasonCode, vec![code]);
                (had && !known.contains(&code) && !is_return_code).then_some(())
            })
        },
    },
    BrokenRule {
        name: "reason-code-sender",
        what: "a reason code that only the other side sends",
        id_5: "5.0 section 2.4",
        id_3: "",
        field: "reason code",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let frame = valid_of(choices, speaker, &[PacketType::Disconnect, PacketType::Auth])?;
            let packet_type = frame.packet_type()?;
            let own = codes(packet_type, speaker.version, speaker.sender);
            let mut foreign = known_codes(packet_type, speaker.version);
            foreign.retain(|code| !own.contains(code));
            let code = choices.pick(&foreign);
            bent(frame, |frame| frame.set(Part::ReasonCode, vec![code]).then_some(()))
        },
    },
    BrokenRule {
        name: "no-reason-codes",
        what: "a SUBACK or UNSUBACK without a reason code",
        id_5: "MQTT-3.8.4-6",
        id_3: "MQTT-3.8.4-5",
        field: "reason codes",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let types: &[PacketType] = match speaker.version {
                ProtocolVersion::V5 => &[PacketType::SubAck, PacketType::UnsubAck],
                _ => &[PacketType::SubAck],
            };
            bent(valid_of(choices, speaker, types)?, |frame| {
                frame.remove(Part::ReasonCode);
                Some(())
            })
        },
    },
    BrokenRule {
        name: "connack-flags",
        what: "a CONNACK with a reserved flag",
        id_5: "MQTT-3.2.2-1",
        id_3: "3.1.1 section 3.2.2.1",
        field: "connect acknowledge flags",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let flags = choices.size(2..=255) as u8;
            // 3.1 left the byte undefined.
            let is_defined = speaker.version != ProtocolVersion::V3_1;
            bent(valid(choices, speaker, PacketType::ConnAck)?, |frame| {
                (frame.set(Part::ConnAckFlags, vec![flags]) && is_defined).then_some(())
            })
        },
    },
    BrokenRule {
        name: "session-present-with-refusal",
        what: "a CONNACK that refuses and says that the session is present",
        id_5: "MQTT-3.2.2-6",
        id_3: "MQTT-3.2.2-4",
        field: "session present",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let is_defined = speaker.version != ProtocolVersion::V3_1;
            bent(valid(choices, speaker, PacketType::ConnAck)?, |frame| {
                let refuses =
                    matches!(frame.value_mut(Part::ReasonCode), Some(Value::Raw(code)) if code != &[0]);
                (frame.set(Part::ConnAckFlags, vec![1]) && refuses && is_defined).then_some(())
            })
        },
    },
];

fn any(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Frame> {
    let packet_type = choices.pick(&packet_types(speaker.version, speaker.sender));
    valid(choices, speaker, packet_type)
}

/// The codes of a packet from either side, on the wire.
fn known_codes(packet_type: PacketType, version: ProtocolVersion) -> Vec<u8> {
    if packet_type == PacketType::ConnAck && version != ProtocolVersion::V5 {
        return (0..=5).collect();
    }
    let mut known = codes(packet_type, version, Sender::Client).to_vec();
    known.extend(codes(packet_type, version, Sender::Server));
    known
}

/// The parts that hold text.
const TEXTS: [Part; 5] = [Part::ClientId, Part::WillTopic, Part::UserName, Part::Topic, Part::TopicFilter];

/// Puts bytes that are no text into any text of a packet, those of properties among them.
fn bad_text(choices: &mut Choices<'_>, speaker: Speaker, bad: &[u8]) -> Option<Pair> {
    let text = [b"a", bad, &b"bcdefgh"[..choices.size(0..=7)]].concat();
    let frame = any(choices, speaker)?;
    let mut places: Vec<(usize, Option<usize>)> = Vec::new();
    for (at, field) in frame.fields.iter().enumerate() {
        match &field.value {
            Value::Prefixed { .. } if TEXTS.contains(&field.part) => places.push((at, None)),
            Value::Properties { list, .. } => {
                let texts = list.iter().enumerate().filter(|(_, property)| is_text(property));
                places.extend(texts.map(|(place, _)| (at, Some(place))));
            }
            _ => {}
        }
    }
    if places.is_empty() {
        return None;
    }
    let (at, property) = choices.pick(&places);
    let in_name = choices.flag();
    bent(frame, |frame| {
        match (&mut frame.fields.get_mut(at)?.value, property) {
            (Value::Prefixed { bytes, .. }, _) => *bytes = text,
            (Value::Properties { list, .. }, Some(place)) => {
                let property = list.get_mut(place)?;
                *property = text_property(*property.first()?, &text, in_name);
            }
            _ => return None,
        }
        Some(())
    })
}

/// Whether the value of a property is text: Content Type, Response Topic, Assigned Client Identifier, Authentication
/// Method, Response Information, Server Reference, Reason String, User Property.
fn is_text(property: &[u8]) -> bool {
    matches!(property.first(), Some(0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F | 0x26))
}

fn text_property(id: u8, text: &[u8], in_name: bool) -> Vec<u8> {
    let mut property = vec![id];
    let texts = match (id, in_name) {
        (0x26, true) => vec![text, &b"value"[..]],
        (0x26, false) => vec![&b"name"[..], text],
        _ => vec![text],
    };
    for text in texts {
        property.extend((text.len() as u16).to_be_bytes());
        property.extend_from_slice(text);
    }
    property
}

/// Another topic name in a PUBLISH without an alias, or in a will.
fn replace_topic(choices: &mut Choices<'_>, speaker: Speaker, topic: &str) -> Option<Pair> {
    let in_will = sends(speaker, PacketType::Connect) && choices.flag();
    if in_will {
        return bent(valid(choices, speaker, PacketType::Connect)?, |frame| {
            *frame.value_mut(Part::WillTopic)? = Value::prefixed(topic);
            Some(())
        });
    }
    let mut frame = valid(choices, speaker, PacketType::Publish)?;
    if let Some((_, list)) = frame.properties_mut(Part::Properties)
        && list.iter().any(|property| property.first() == Some(&0x23))
    {
        return None;
    }
    bent(frame, |frame| {
        *frame.value_mut(Part::Topic)? = Value::prefixed(topic);
        Some(())
    })
}
