//! Owns the rules of CONNECT.
//! It must not know which versions a server speaks.

use mqtt_machine::packet::PacketType;
use mqtt_machine::{ProtocolVersion, ReasonCode};

use super::{BrokenRule, Choices, Duty, EITHER, MALFORMED, Malformed, Pair, Protocol, Speaker, bent, valid};
use crate::unchecked::{Part, Value};

/// What a server says to a version that it does not know.
const VERSION: &[ReasonCode] = &[ReasonCode::UnsupportedProtocolVersion, Malformed, Protocol];

pub(super) const RULES: &[BrokenRule] = &[
    BrokenRule {
        name: "protocol-name",
        what: "a protocol name that is none of MQTT's",
        id_5: "MQTT-3.1.2-1",
        id_3: "MQTT-3.1.2-1",
        field: "protocol name",
        codes: VERSION,
        // A server may go on under some other specification, in all versions.
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let name = choices.pick(&["", "MQT", "mqtt", "MQTT ", "MQTTT", "MQIsd", "HTTP", "MQtt"]);
            bent(valid(choices, speaker, PacketType::Connect)?, |frame| {
                *frame.value_mut(Part::ProtocolName)? = Value::prefixed(name);
                Some(())
            })
        },
    },
    BrokenRule {
        name: "protocol-level",
        what: "a protocol version that does not exist with this name",
        id_5: "MQTT-3.1.2-2",
        id_3: "MQTT-3.1.2-2",
        field: "protocol version",
        codes: VERSION,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let level = choices.byte();
            // The bridge bit of mosquitto is no fault here.
            let exists = match speaker.version {
                ProtocolVersion::V3_1 => matches!(level & 0x7F, 3),
                _ => matches!(level, 4 | 5 | 0x84),
            };
            bent(valid(choices, speaker, PacketType::Connect)?, |frame| {
                (frame.set(Part::ProtocolLevel, vec![level]) && !exists).then_some(())
            })
        },
    },
    BrokenRule {
        name: "connect-flags",
        what: "the reserved connect flag",
        id_5: "MQTT-3.1.2-3",
        id_3: "MQTT-3.1.2-3",
        field: "connect flags",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| flags(choices, speaker, |flags| Some(flags | 0x01)),
    },
    BrokenRule {
        name: "will-flags",
        what: "will QoS or will retain without a will",
        id_5: "MQTT-3.1.2-11, MQTT-3.1.2-13",
        id_3: "MQTT-3.1.2-13, MQTT-3.1.2-15",
        field: "connect flags",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let bits = choices.pick(&[0x08, 0x10, 0x20, 0x18, 0x38]);
            flags(choices, speaker, |flags| (flags & 0x04 == 0).then_some(flags | bits))
        },
    },
    BrokenRule {
        name: "will-qos-3",
        what: "a will with both QoS bits set",
        id_5: "MQTT-3.1.2-12",
        id_3: "MQTT-3.1.2-14",
        field: "will QoS",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            flags(choices, speaker, |flags| (flags & 0x04 != 0).then_some(flags | 0x18))
        },
    },
    BrokenRule {
        name: "password-without-user-name",
        what: "a password without a user name before 5.0",
        id_5: "",
        id_3: "MQTT-3.1.2-22",
        field: "connect flags",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            bent(valid(choices, speaker, PacketType::Connect)?, |frame| {
                frame.remove(Part::UserName);
                let had = frame.fields.iter().any(|field| field.part == Part::Password);
                let Value::Raw(flags) = frame.value_mut(Part::ConnectFlags)? else { return None };
                *flags.first_mut()? &= 0x7F;
                had.then_some(())
            })
        },
    },
    BrokenRule {
        name: "user-name-missing",
        what: "a user name flag without a user name",
        id_5: "MQTT-3.1.2-17",
        id_3: "MQTT-3.1.2-19",
        field: "remaining length",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            flags(choices, speaker, |flags| (flags & 0xC0 == 0).then_some(flags | 0x80))
        },
    },
    BrokenRule {
        name: "user-name-superfluous",
        what: "a user name without the user name flag",
        id_5: "MQTT-3.1.2-16",
        id_3: "MQTT-3.1.2-18",
        field: "remaining length",
        codes: MALFORMED,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            flags(choices, speaker, |flags| (flags & 0xC0 == 0x80).then_some(flags & 0x7F))
        },
    },
];

/// A CONNECT with other flags.
fn flags(choices: &mut Choices<'_>, speaker: Speaker, bend: impl FnOnce(u8) -> Option<u8>) -> Option<Pair> {
    bent(valid(choices, speaker, PacketType::Connect)?, |frame| {
        let Value::Raw(flags) = frame.value_mut(Part::ConnectFlags)? else { return None };
        let flags = flags.first_mut()?;
        *flags = bend(*flags)?;
        Some(())
    })
}
