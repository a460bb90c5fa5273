//! Owns the rules of the fixed header: type, sender, flags, remaining length.
//! It must not know what stands in a packet.

use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{PacketType, Sender};

use super::{BrokenRule, Choices, Duty, EITHER, MALFORMED, Pair, Speaker, bent, valid, valid_of};
use crate::generate::packets::packet_types;
use crate::unchecked::{Field, Frame, Length, Part, Value, var_int};

pub(super) const RULES: &[BrokenRule] = &[
    BrokenRule {
        name: "type-zero",
        what: "a packet of type 0",
        id_5: "5.0 section 2.1.2",
        id_3: "3.1.1 section 2.2.1",
        field: "packet type",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            bent(any(choices, speaker)?, |frame| {
                frame.first_byte &= 0x0F;
                Some(())
            })
        },
    },
    BrokenRule {
        name: "auth-before-5",
        what: "a packet of type 15 before 5.0",
        id_5: "",
        id_3: "3.1.1 section 2.2.1",
        field: "packet type",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let ping =
                if speaker.sender == Sender::Client { PacketType::PingReq } else { PacketType::PingResp };
            bent(valid(choices, speaker, ping)?, |frame| {
                frame.first_byte = 0xF0;
                Some(())
            })
        },
    },
    BrokenRule {
        name: "wrong-sender",
        what: "a packet that only the other side sends",
        id_5: "5.0 section 2.1.2",
        id_3: "3.1.1 section 2.2.1",
        field: "packet type",
        codes: EITHER,
        duty: Duty::Close,
        break_it: wrong_sender,
    },
    BrokenRule {
        name: "flags",
        what: "fixed header flags other than those of the type",
        id_5: "MQTT-2.1.3-1",
        id_3: "MQTT-2.2.2-2",
        field: "flags",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: flags,
    },
    BrokenRule {
        name: "qos-3",
        what: "a PUBLISH with both QoS bits set",
        id_5: "MQTT-3.3.1-4",
        id_3: "MQTT-3.3.1-4",
        field: "QoS",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            bent(valid(choices, speaker, PacketType::Publish)?, |frame| {
                frame.first_byte |= 0x06;
                Some(())
            })
        },
    },
    BrokenRule {
        name: "dup-qos-0",
        what: "a QoS 0 PUBLISH with DUP",
        id_5: "MQTT-3.3.1-2",
        id_3: "MQTT-3.3.1-2",
        field: "DUP flag",
        codes: EITHER,
        // "The DUP flag MUST be set to 0": no receiver is told to look.
        duty: Duty::Free,
        break_it: |choices, speaker| {
            bent(valid(choices, speaker, PacketType::Publish)?, |frame| {
                let is_qos_0 = frame.first_byte & 0x06 == 0;
                frame.first_byte |= 0x08;
                is_qos_0.then_some(())
            })
        },
    },
    BrokenRule {
        name: "remaining-length-endless",
        what: "a remaining length of five bytes",
        id_5: "5.0 section 1.5.5",
        id_3: "3.1.1 section 2.2.3",
        field: "variable byte integer",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let last = choices.pick(&[0x01, 0x00, 0x7F, 0xFF]);
            bent(any(choices, speaker)?, |frame| {
                frame.remaining = Length::Raw(vec![0x80 | choices.byte(), 0xFF, 0x80, 0xFF, last]);
                Some(())
            })
        },
    },
    BrokenRule {
        name: "remaining-length-padded",
        what: "a remaining length that is longer than it needs to be",
        id_5: "MQTT-1.5.5-1",
        id_3: "3.1.1 section 2.2.3",
        field: "variable byte integer",
        codes: MALFORMED,
        // 3.1.1 does not ask for the shortest form; and 5.0 does not say what becomes of another.
        duty: Duty::Free,
        break_it: |choices, speaker| {
            bent(any(choices, speaker)?, |frame| {
                let needs = var_int(frame.body().len() as u32, 1).len();
                frame.remaining = Length::Padded(choices.size(needs + 1..=4));
                (needs < 4).then_some(())
            })
        },
    },
    BrokenRule {
        name: "packet-cut",
        what: "a packet that ends inside a field",
        id_5: "5.0 section 2.1.4",
        id_3: "3.1.1 section 2.2.3",
        field: "remaining length",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: packet_cut,
    },
    BrokenRule {
        name: "trailing-bytes",
        what: "bytes behind the last field",
        id_5: "5.0 section 2.1.4",
        id_3: "3.1.1 section 2.2.3",
        field: "remaining length",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: trailing,
    },
];

fn any(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Frame> {
    let packet_type = choices.pick(&packet_types(speaker.version, speaker.sender));
    valid(choices, speaker, packet_type)
}

/// What this side never sends, and its sibling: the nearest that it does.
fn wrong_sender(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Pair> {
    let other = match speaker.sender {
        Sender::Client => Speaker { sender: Sender::Server, ..speaker },
        Sender::Server => Speaker { sender: Sender::Client, ..speaker },
    };
    let own = packet_types(speaker.version, speaker.sender);
    let mut foreign = packet_types(speaker.version, other.sender);
    foreign.retain(|packet_type| !own.contains(packet_type));
    let broken = valid_of(choices, other, &foreign)?;
    Some(Pair { valid: any(choices, speaker)?, broken })
}

fn flags(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Pair> {
    let flags = choices.size(0..=15) as u8;
    let frame = any(choices, speaker)?;
    let packet_type = frame.packet_type()?;
    let right = frame.first_byte & 0x0F;
    // 3.1 set DUP on what it sent again.
    let was_dup = speaker.version == ProtocolVersion::V3_1 && right == 2 && flags == 10;
    if packet_type == PacketType::Publish || flags == right || was_dup {
        return None;
    }
    bent(frame, |frame| {
        frame.set_flags(flags);
        Some(())
    })
}

/// Cuts a packet where no shorter packet ends.
fn packet_cut(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Pair> {
    let frame = any(choices, speaker)?;
    let length = frame.body().len();
    // Before this many bytes every cut is inside a field.
    let fixed = match frame.packet_type()? {
        PacketType::Publish => {
            let payload = frame.fields.iter().find(|field| field.part == Part::Payload)?;
            let Value::Raw(payload) = &payload.value else { return None };
            length - payload.len()
        }
        PacketType::Connect => length,
        PacketType::ConnAck if speaker.version != ProtocolVersion::V5 => 2,
        // Two bytes are what a server of 3.1.1 answers to a client of 5.0.
        PacketType::ConnAck => 2,
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => 2,
        PacketType::Subscribe | PacketType::Unsubscribe | PacketType::SubAck | PacketType::UnsubAck => 2,
        _ => return None,
    };
    let keep = choices.size(0..=fixed.checked_sub(1)?);
    bent(frame, |frame| {
        let mut body = frame.body();
        body.truncate(keep);
        frame.fields = vec![Field { part: Part::Extra, value: Value::Raw(body) }];
        Some(())
    })
}

/// Adds bytes to a packet that has its last field, and is not made of a list that they could belong to.
fn trailing(choices: &mut Choices<'_>, speaker: Speaker) -> Option<Pair> {
    let frame = any(choices, speaker)?;
    let ends_with_properties = frame.fields.last().is_some_and(|field| field.part == Part::Properties);
    let is_v5 = speaker.version == ProtocolVersion::V5;
    let has_end = match frame.packet_type()? {
        PacketType::Connect | PacketType::PingReq | PacketType::PingResp => true,
        PacketType::ConnAck => true,
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            !is_v5 || ends_with_properties
        }
        PacketType::Disconnect => !is_v5 || ends_with_properties,
        PacketType::Auth => ends_with_properties,
        PacketType::UnsubAck => !is_v5,
        _ => false,
    };
    let extra = choices.bytes(1..=4);
    bent(frame, |frame| {
        frame.fields.push(Field { part: Part::Extra, value: Value::Raw(extra) });
        has_end.then_some(())
    })
}
