//! Owns the rules of SUBSCRIBE and UNSUBSCRIBE.
//! It must not know what a server grants.

use mqtt_machine::packet::PacketType;
use mqtt_machine::{ProtocolVersion, ReasonCode};

use super::{BrokenRule, Choices, Duty, EITHER, Malformed, Pair, Protocol, Speaker, bent, valid, valid_of};
use crate::unchecked::{Part, Value};

/// Either request.
const REQUESTS: &[PacketType] = &[PacketType::Subscribe, PacketType::Unsubscribe];
/// What a server says to a filter that is none.
const FILTER: &[ReasonCode] = &[Malformed, Protocol, ReasonCode::TopicFilterInvalid];

pub(super) const RULES: &[BrokenRule] = &[
    BrokenRule {
        name: "no-filters",
        what: "a request without a topic filter",
        id_5: "MQTT-3.8.3-2, MQTT-3.10.3-2",
        id_3: "MQTT-3.8.3-3, MQTT-3.10.3-2",
        field: "payload",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            bent(valid_of(choices, speaker, REQUESTS)?, |frame| {
                frame.remove(Part::TopicFilter);
                frame.remove(Part::SubscriptionOptions);
                Some(())
            })
        },
    },
    BrokenRule {
        name: "filter-empty",
        what: "an empty topic filter",
        id_5: "MQTT-4.7.3-1",
        id_3: "MQTT-4.7.3-1",
        field: "topic filter",
        codes: FILTER,
        duty: Duty::Close,
        break_it: |choices, speaker| filter(choices, speaker, ""),
    },
    BrokenRule {
        name: "filter-multi-level",
        what: "a # that is not a whole last level",
        id_5: "MQTT-4.7.1-1",
        id_3: "MQTT-4.7.1-2",
        field: "topic filter",
        codes: FILTER,
        // Topic Filter invalid is a code of SUBACK and UNSUBACK as well.
        duty: Duty::Free,
        break_it: |choices, speaker| {
            let bad = choices.pick(&["a#", "a/#/b", "#/a", "##", "a/b#", "a/#b"]);
            filter(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "filter-single-level",
        what: "a + that is not a whole level",
        id_5: "MQTT-4.7.1-2",
        id_3: "MQTT-4.7.1-3",
        field: "topic filter",
        codes: FILTER,
        duty: Duty::Free,
        break_it: |choices, speaker| {
            let bad = choices.pick(&["a+", "+a", "a/+b/c", "++", "a/b+"]);
            filter(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "filter-share-name",
        what: "a shared subscription without a share name, or with one that it may not have",
        id_5: "MQTT-4.8.2-1, MQTT-4.8.2-2",
        id_3: "",
        field: "topic filter",
        codes: FILTER,
        duty: Duty::Free,
        break_it: |choices, speaker| {
            let bad = choices.pick(&["$share//a", "$share/+/a", "$share/g#/a", "$share/g+h/a"]);
            filter(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "filter-share-without-filter",
        what: "a shared subscription without a topic filter",
        id_5: "MQTT-4.8.2-2",
        id_3: "",
        field: "topic filter",
        codes: FILTER,
        duty: Duty::Free,
        break_it: |choices, speaker| {
            let bad = choices.pick(&["$share/g", "$share/g/", "$share/"]);
            filter(choices, speaker, bad)
        },
    },
    BrokenRule {
        name: "subscription-qos-3",
        what: "a subscription with both QoS bits set",
        id_5: "5.0 section 3.8.3.1",
        id_3: "MQTT-3.8.3-4",
        field: "subscription options",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| options(choices, speaker, |byte| Some(byte | 0x03)),
    },
    BrokenRule {
        name: "subscription-reserved-bits",
        what: "reserved bits in the subscription options",
        id_5: "MQTT-3.8.3-5",
        id_3: "MQTT-3.8.3-4",
        field: "subscription options",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let bits = match speaker.version {
                ProtocolVersion::V5 => choices.pick(&[0x40, 0x80, 0xC0]),
                _ => choices.pick(&[0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC]),
            };
            options(choices, speaker, |byte| Some(byte | bits))
        },
    },
    BrokenRule {
        name: "retain-handling-3",
        what: "a Retain Handling of 3",
        id_5: "5.0 section 3.8.3.1",
        id_3: "",
        field: "subscription options",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| options(choices, speaker, |byte| Some(byte | 0x30)),
    },
    BrokenRule {
        name: "no-local-shared",
        what: "No Local on a shared subscription",
        id_5: "MQTT-3.8.3-4",
        id_3: "",
        field: "subscription options",
        codes: EITHER,
        duty: Duty::Close,
        break_it: |choices, speaker| {
            let mut frame = valid(choices, speaker, PacketType::Subscribe)?;
            *frame.value_mut(Part::TopicFilter)? = Value::prefixed("$share/g/a");
            let Value::Raw(options) = frame.value_mut(Part::SubscriptionOptions)? else { return None };
            *options.first_mut()? &= 0x3B;
            bent(frame, |frame| {
                let Value::Raw(options) = frame.value_mut(Part::SubscriptionOptions)? else { return None };
                *options.first_mut()? |= 0x04;
                Some(())
            })
        },
    },
];

/// A request whose first filter is another.
fn filter(choices: &mut Choices<'_>, speaker: Speaker, text: &str) -> Option<Pair> {
    bent(valid_of(choices, speaker, REQUESTS)?, |frame| {
        *frame.value_mut(Part::TopicFilter)? = Value::prefixed(text);
        // No Local on what is now a shared subscription would be a second fault.
        if let Some(Value::Raw(options)) = frame.value_mut(Part::SubscriptionOptions) {
            *options.first_mut()? &= 0x3B;
        }
        Some(())
    })
}

/// A SUBSCRIBE whose first options are others.
fn options(choices: &mut Choices<'_>, speaker: Speaker, bend: impl FnOnce(u8) -> Option<u8>) -> Option<Pair> {
    bent(valid(choices, speaker, PacketType::Subscribe)?, |frame| {
        let Value::Raw(options) = frame.value_mut(Part::SubscriptionOptions)? else { return None };
        let options = options.first_mut()?;
        *options = bend(*options)?;
        Some(())
    })
}
