//! Owns the rules of properties (5.0): which may stand where, how often, with which values, and how the list is written.
//! It must not know the codec's table.

use mqtt_machine::ReasonCode;
use mqtt_machine::packet::{PacketType, PropertyId, Sender};

use super::{
    BrokenRule, Choices, Duty, EITHER, MALFORMED, Malformed, Pair, Protocol, Speaker, bent, frame_of,
};
use crate::generate::packets::{packet_of, packet_types};
use crate::generate::properties::{Spot, property};
use crate::unchecked::{Frame, Length, Part};

/// A rule of 5.0 alone.
const fn rule(
    name: &'static str,
    what: &'static str,
    id_5: &'static str,
    field: &'static str,
    codes: &'static [ReasonCode],
    break_it: fn(&mut Choices<'_>, Speaker) -> Option<Pair>,
) -> BrokenRule {
    BrokenRule { name, what, id_5, id_3: "", field, codes, duty: Duty::Close, break_it }
}

const LIST: &str = "5.0 section 2.2.2.2";

pub(super) const RULES: &[BrokenRule] = &[
    rule(
        "property-unknown",
        "a property that does not exist",
        LIST,
        "properties",
        EITHER,
        |choices, speaker| {
            let id = choices.size(0..=127) as u8;
            insert(choices, speaker, PropertyId::from_u8(id).is_none().then_some(vec![id, 0])?)
        },
    ),
    rule(
        "property-misplaced",
        "a property of another packet",
        LIST,
        "properties",
        EITHER,
        |choices, speaker| {
            let id = choices.pick(PropertyId::ALL);
            let (frame, spot) = place(choices, speaker)?;
            let belongs_to_either = [spot, other_side(spot)].iter().any(|spot| spot.allows(id));
            let property = one(choices, id);
            add(choices, frame, spot, (!belongs_to_either).then_some(property)?)
        },
    ),
    rule(
        "property-sender",
        "a property that only the other side sends in this packet",
        "MQTT-3.14.2-2, MQTT-3.3.4-6",
        "properties",
        EITHER,
        |choices, speaker| {
            let id = choices.pick(&[
                PropertyId::SubscriptionIdentifier,
                PropertyId::SessionExpiryInterval,
                PropertyId::ServerReference,
            ]);
            let (frame, spot) = place(choices, speaker)?;
            let is_foreign = !spot.allows(id) && other_side(spot).allows(id);
            let property = one(choices, id);
            add(choices, frame, spot, is_foreign.then_some(property)?)
        },
    ),
    rule(
        "property-repeated",
        "a property that stands twice",
        LIST,
        "properties",
        EITHER,
        |choices, speaker| {
            let (mut frame, spot) = place(choices, speaker)?;
            let (_, list) = frame.properties_mut(part(spot))?;
            let single = |property: &Vec<u8>| {
                property.first().and_then(|id| PropertyId::from_u8(*id)).is_some_and(|id| !spot.repeats(id))
            };
            let singles: Vec<Vec<u8>> = list.iter().filter(|property| single(property)).cloned().collect();
            if singles.is_empty() {
                return None;
            }
            let again = choices.pick(&singles);
            add(choices, frame, spot, again)
        },
    ),
    rule(
        "property-value",
        "a property with a value that it does not allow",
        LIST,
        "properties",
        EITHER,
        |choices, speaker| {
            let bad = choices.pick(&[
                &[0x01, 2][..],
                &[0x01, 255],
                &[0x0B, 0],
                &[0x17, 2],
                &[0x19, 7],
                &[0x21, 0, 0],
                &[0x24, 2],
                &[0x24, 255],
                &[0x25, 2],
                &[0x27, 0, 0, 0, 0],
                &[0x28, 3],
                &[0x29, 2],
                &[0x2A, 255],
            ]);
            replace(choices, speaker, bad)
        },
    ),
    rule(
        "topic-alias-zero",
        "a topic alias of 0",
        "MQTT-3.3.2-8",
        "topic alias",
        &[ReasonCode::TopicAliasInvalid, Malformed, Protocol],
        |choices, speaker| replace(choices, speaker, &[0x23, 0, 0]),
    ),
    rule(
        "response-topic",
        "a response topic that is empty or holds a wildcard",
        "MQTT-3.3.2-14",
        "response topic",
        &[Malformed, Protocol, ReasonCode::TopicNameInvalid],
        |choices, speaker| {
            let bad = choices.pick(&[&b"\x08\x00\x01#"[..], b"\x08\x00\x01+", b"\x08\x00\x03a/+"]);
            replace(choices, speaker, bad)
        },
    ),
    rule(
        "authentication-data-without-method",
        "authentication data without a method",
        "5.0 section 3.1.2.11.10",
        "authentication method",
        EITHER,
        |choices, speaker| {
            let (mut frame, spot) = place(choices, speaker)?;
            let (_, list) = frame.properties_mut(part(spot))?;
            list.retain(|property| !matches!(property.first(), Some(0x15 | 0x16)));
            let is_auth = spot == Spot::Auth;
            let allowed = spot.allows(PropertyId::AuthenticationData);
            let mut valid = frame.clone();
            if is_auth {
                valid.properties_mut(Part::Properties)?.1.push(b"\x15\x00\x01m".to_vec());
            }
            let mut broken = frame;
            broken.properties_mut(part(spot))?.1.push(vec![0x16, 0, 1, choices.byte()]);
            allowed.then_some(Pair { valid, broken })
        },
    ),
    rule(
        "property-length-padded",
        "a property length that is longer than it needs to be",
        "MQTT-1.5.5-1",
        "variable byte integer",
        MALFORMED,
        |choices, speaker| {
            let (frame, spot) = place(choices, speaker)?;
            bent(frame, |frame| {
                let (length, list) = frame.properties_mut(part(spot))?;
                let bytes: usize = list.iter().map(Vec::len).sum();
                *length = Length::Padded(choices.size(2..=4));
                (bytes < 128).then_some(())
            })
        },
    ),
    rule(
        "property-length-endless",
        "a property length of five bytes",
        "5.0 section 1.5.5",
        "variable byte integer",
        MALFORMED,
        |choices, speaker| {
            let (frame, spot) = place(choices, speaker)?;
            bent(frame, |frame| {
                *frame.properties_mut(part(spot))?.0 = Length::Raw(vec![0x80, 0x80, 0x80, 0x80, 0x01]);
                Some(())
            })
        },
    ),
    rule(
        "property-length-beyond",
        "a property length beyond the end of the packet",
        "5.0 section 2.2.2.1",
        "remaining length",
        MALFORMED,
        |choices, speaker| {
            let (frame, spot) = place(choices, speaker)?;
            let beyond = choices.pick(&[100_000, 2_097_152, 268_435_455]);
            let fits = frame.body().len() < 100_000;
            bent(frame, |frame| {
                *frame.properties_mut(part(spot))?.0 = Length::Value(beyond);
                fits.then_some(())
            })
        },
    ),
    rule(
        "property-cut",
        "properties that end inside one",
        "5.0 section 2.2.2.1",
        "remaining length",
        MALFORMED,
        |choices, speaker| {
            let cut = choices.pick(&[
                &[0x11, 0, 0][..],
                &[0x21][..],
                &[0x21, 0][..],
                &[0x01][..],
                &[0x02, 0, 0, 0][..],
                &[0x1F, 0, 9, b'a'][..],
                &[0x26, 0, 1, b'a', 0][..],
                &[0x16, 0, 2, 1][..],
            ]);
            let (frame, spot) = place(choices, speaker)?;
            let id = PropertyId::from_u8(cut[0])?;
            bent(frame, |frame| {
                let (_, list) = frame.properties_mut(part(spot))?;
                list.retain(|property| property.first() != cut.first());
                list.push(cut.to_vec());
                spot.allows(id).then_some(())
            })
        },
    ),
    rule(
        "property-id-padded",
        "a property identifier that is longer than it needs to be",
        "MQTT-1.5.5-1",
        "variable byte integer",
        MALFORMED,
        |choices, speaker| insert(choices, speaker, vec![0xA6, 0x00, 0, 1, b'a', 0, 1, b'b']),
    ),
    rule(
        "subscription-identifier-padded",
        "a Subscription Identifier that is longer than it needs to be",
        "MQTT-1.5.5-1",
        "variable byte integer",
        MALFORMED,
        |choices, speaker| {
            let bad = choices.pick(&[&[0x0B, 0x81, 0x00][..], &[0x0B, 0x80, 0x80, 0x80, 0x80, 0x01][..]]);
            replace(choices, speaker, bad)
        },
    ),
    rule(
        "no-property-length",
        "a packet that ends where its property length belongs",
        "MQTT-2.2.2-1",
        "remaining length",
        MALFORMED,
        |choices, speaker| {
            let (frame, spot) = place(choices, speaker)?;
            let is_needed =
                matches!(spot, Spot::Publish(_) | Spot::Subscribe | Spot::Unsubscribe | Spot::Connect);
            bent(frame, |frame| {
                let at = frame.fields.iter().position(|field| field.part == Part::Properties)?;
                frame.fields.truncate(at);
                is_needed.then_some(())
            })
        },
    ),
];

/// A packet in its full form with properties, and the spot of some of them.
fn place(choices: &mut Choices<'_>, speaker: Speaker) -> Option<(Frame, Spot)> {
    let types: Vec<PacketType> = packet_types(speaker.version, speaker.sender)
        .into_iter()
        .filter(|it| !matches!(it, PacketType::PingReq | PacketType::PingResp))
        .collect();
    let packet_type = choices.pick(&types);
    let mut frame = frame_of(&packet_of(choices, packet_type, speaker.version, speaker.sender), speaker);
    let spot = match packet_type {
        PacketType::Connect if choices.flag() => Spot::Will,
        PacketType::Connect => Spot::Connect,
        PacketType::ConnAck => Spot::ConnAck,
        PacketType::Publish => Spot::Publish(speaker.sender),
        PacketType::Subscribe => Spot::Subscribe,
        PacketType::Unsubscribe => Spot::Unsubscribe,
        PacketType::Disconnect => Spot::Disconnect(speaker.sender),
        PacketType::Auth => Spot::Auth,
        _ => Spot::Answer,
    };
    frame.properties_mut(part(spot)).is_some().then_some((frame, spot))
}

const fn part(spot: Spot) -> Part {
    match spot {
        Spot::Will => Part::WillProperties,
        _ => Part::Properties,
    }
}

/// The same packet from the other side.
const fn other_side(spot: Spot) -> Spot {
    match spot {
        Spot::Publish(Sender::Client) => Spot::Publish(Sender::Server),
        Spot::Publish(Sender::Server) => Spot::Publish(Sender::Client),
        Spot::Disconnect(Sender::Client) => Spot::Disconnect(Sender::Server),
        Spot::Disconnect(Sender::Server) => Spot::Disconnect(Sender::Client),
        other => other,
    }
}

/// A valid property of this identifier.
fn one(choices: &mut Choices<'_>, id: PropertyId) -> Vec<u8> {
    property(choices, id).as_properties().as_bytes().to_vec()
}

/// A property more, anywhere in the list.
fn add(choices: &mut Choices<'_>, frame: Frame, spot: Spot, property: Vec<u8>) -> Option<Pair> {
    bent(frame, |frame| {
        let (_, list) = frame.properties_mut(part(spot))?;
        let at = choices.size(0..=list.len());
        list.insert(at, property);
        Some(())
    })
}

/// A property more in any packet.
fn insert(choices: &mut Choices<'_>, speaker: Speaker, property: Vec<u8>) -> Option<Pair> {
    let (frame, spot) = place(choices, speaker)?;
    add(choices, frame, spot, property)
}

/// A property in the place of the one with its identifier, in a packet that may have it.
fn replace(choices: &mut Choices<'_>, speaker: Speaker, property: &[u8]) -> Option<Pair> {
    let (mut frame, spot) = place(choices, speaker)?;
    let id = PropertyId::from_u8(*property.first()?)?;
    if !spot.allows(id) {
        return None;
    }
    frame.properties_mut(part(spot))?.1.retain(|other| other.first() != property.first());
    // The topic that the alias stood for is gone with it.
    if id == PropertyId::TopicAlias {
        *frame.value_mut(Part::Topic)? = crate::unchecked::Value::prefixed("a");
    }
    add(choices, frame, spot, property.to_vec())
}
