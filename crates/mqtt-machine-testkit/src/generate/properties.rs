//! Owns the generators of properties: what may stand in each packet, and any value that an identifier allows.
//! It must not know the codec's table, which it is there to contradict.

use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{PropertiesBuf, Property, PropertyId, Sender};

use super::Choices;
use super::text::{blob, text, topic_name};

/// Where properties stand, with the sender where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In a CONNECT.
    Connect,
    /// In the will of a CONNECT.
    Will,
    /// In a CONNACK.
    ConnAck,
    /// In a PUBLISH.
    Publish(Sender),
    /// In one of the four acknowledgements, in SUBACK and UNSUBACK.
    Answer,
    /// In a SUBSCRIBE.
    Subscribe,
    /// In an UNSUBSCRIBE.
    Unsubscribe,
    /// In a DISCONNECT.
    Disconnect(Sender),
    /// In an AUTH.
    Auth,
}

impl Spot {
    /// Every spot.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Will,
        Self::ConnAck,
        Self::Publish(Sender::Client),
        Self::Publish(Sender::Server),
        Self::Answer,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect(Sender::Client),
        Self::Disconnect(Sender::Server),
        Self::Auth,
    ];

    /// What may stand here, by number and as often as it is tried; read from the sections of each packet, so that it can
    /// disagree with the table of the codec.
    pub(crate) const fn identifiers(self) -> &'static [u8] {
        match self {
            Self::Connect => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x26, 0x27],
            Self::Will => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26, 0x26],
            Self::ConnAck => &[
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x26, 0x27,
                0x28, 0x29, 0x2A,
            ],
            Self::Publish(Sender::Client) => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26, 0x26],
            Self::Publish(Sender::Server) => {
                &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x0B, 0x0B, 0x23, 0x26, 0x26]
            }
            Self::Answer => &[0x1F, 0x26, 0x26],
            Self::Subscribe => &[0x0B, 0x26, 0x26],
            Self::Unsubscribe => &[0x26, 0x26],
            Self::Disconnect(Sender::Client) => &[0x11, 0x1F, 0x26, 0x26],
            Self::Disconnect(Sender::Server) => &[0x1C, 0x1F, 0x26, 0x26],
            Self::Auth => &[0x15, 0x16, 0x1F, 0x26, 0x26],
        }
    }

    /// Whether a property may stand here at all.
    pub fn allows(self, id: PropertyId) -> bool {
        self.identifiers().contains(&(id as u8))
    }

    /// Whether a property may stand here more than once.
    pub fn repeats(self, id: PropertyId) -> bool {
        id == PropertyId::UserProperty
            || (id == PropertyId::SubscriptionIdentifier && self == Self::Publish(Sender::Server))
    }
}

/// Properties that may stand at `spot`, in any order; none before 5.0, and often none in 5.0.
pub fn properties(choices: &mut Choices<'_>, version: ProtocolVersion, spot: Spot) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    if version != ProtocolVersion::V5 || !choices.flag() {
        return list;
    }
    let mut left = spot.identifiers().to_vec();
    // All of them once in a while, a few most of the time.
    let most = if choices.one_in(16) { left.len() } else { left.len().min(4) };
    for _ in 0..choices.size(0..=most) {
        let at = choices.size(0..=left.len() - 1);
        if let Some(id) = PropertyId::from_u8(left.swap_remove(at)) {
            push_any(choices, id, &mut list);
        }
    }
    with_method(list)
}

/// Properties of all packets together, each valid by itself.
pub fn any_properties(choices: &mut Choices<'_>) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for _ in 0..choices.size(0..=3) {
        let id = choices.pick(PropertyId::ALL);
        push_any(choices, id, &mut list);
    }
    list
}

/// Data gets its method.
fn with_method(mut list: PropertiesBuf) -> PropertiesBuf {
    let has = |id| list.as_properties().find(id).is_some();
    if has(PropertyId::AuthenticationData) && !has(PropertyId::AuthenticationMethod) {
        list.push(Property::AuthenticationMethod("SCRAM-SHA-256")).expect("a valid method");
    }
    list
}

/// One property of any value that its identifier allows, in a list of its own.
pub fn property(choices: &mut Choices<'_>, id: PropertyId) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    push_any(choices, id, &mut list);
    list
}

fn push_any(choices: &mut Choices<'_>, id: PropertyId, list: &mut PropertiesBuf) {
    // A second one of what may stand only once is left out.
    let mut push = |property: Property<'_>| {
        let _ = list.push(property);
    };
    use PropertyId as Id;
    match id {
        Id::PayloadFormatIndicator => push(Property::PayloadFormatIndicator(choices.flag())),
        Id::RequestProblemInformation => push(Property::RequestProblemInformation(choices.flag())),
        Id::RequestResponseInformation => push(Property::RequestResponseInformation(choices.flag())),
        Id::RetainAvailable => push(Property::RetainAvailable(choices.flag())),
        Id::WildcardSubscriptionAvailable => push(Property::WildcardSubscriptionAvailable(choices.flag())),
        Id::SubscriptionIdentifierAvailable => {
            push(Property::SubscriptionIdentifierAvailable(choices.flag()));
        }
        Id::SharedSubscriptionAvailable => push(Property::SharedSubscriptionAvailable(choices.flag())),
        Id::MaximumQoS => push(Property::MaximumQoS(u8::from(choices.flag()))),
        Id::ServerKeepAlive => push(Property::ServerKeepAlive(short(choices, 0))),
        Id::TopicAliasMaximum => push(Property::TopicAliasMaximum(short(choices, 0))),
        Id::ReceiveMaximum => push(Property::ReceiveMaximum(short(choices, 1))),
        Id::TopicAlias => push(Property::TopicAlias(short(choices, 1))),
        Id::MessageExpiryInterval => push(Property::MessageExpiryInterval(long(choices, 0))),
        Id::SessionExpiryInterval => push(Property::SessionExpiryInterval(long(choices, 0))),
        Id::WillDelayInterval => push(Property::WillDelayInterval(long(choices, 0))),
        Id::MaximumPacketSize => push(Property::MaximumPacketSize(long(choices, 1))),
        Id::SubscriptionIdentifier => {
            let value = choices.pick(&[1, 2, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455]);
            push(Property::SubscriptionIdentifier(value));
        }
        Id::ContentType => push(Property::ContentType(&text(choices))),
        Id::ResponseTopic => push(Property::ResponseTopic(&topic_name(choices))),
        Id::AssignedClientIdentifier => push(Property::AssignedClientIdentifier(&text(choices))),
        Id::AuthenticationMethod => push(Property::AuthenticationMethod(&text(choices))),
        Id::ResponseInformation => push(Property::ResponseInformation(&text(choices))),
        Id::ServerReference => push(Property::ServerReference(&text(choices))),
        Id::ReasonString => push(Property::ReasonString(&text(choices))),
        Id::CorrelationData => push(Property::CorrelationData(&blob(choices))),
        Id::AuthenticationData => push(Property::AuthenticationData(&blob(choices))),
        Id::UserProperty => {
            let (name, value) = (text(choices), text(choices));
            push(Property::UserProperty(&name, &value));
        }
    }
}

/// A number of two bytes from `low` on, its ends more often than others.
fn short(choices: &mut Choices<'_>, low: u16) -> u16 {
    match choices.byte() {
        0..=63 => low,
        64..=95 => u16::MAX,
        _ => choices.two_bytes().max(low),
    }
}

/// A number of four bytes from `low` on, its ends more often than others.
fn long(choices: &mut Choices<'_>, low: u32) -> u32 {
    match choices.byte() {
        0..=63 => low,
        64..=95 => u32::MAX,
        _ => choices.four_bytes().max(low),
    }
}
