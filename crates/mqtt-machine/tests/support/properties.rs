//! Owns the strategies for properties: what may stand in each packet, and any value that an identifier allows.
//! It must not know the codec's table, which it is there to contradict.

use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{PropertiesBuf, Property, PropertyId, Sender};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{blob, text, topic};

/// Where properties stand, with the sender where that matters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spot {
    Connect,
    Will,
    ConnAck,
    Publish(Sender),
    /// The four acknowledgements, SUBACK and UNSUBACK.
    Answer,
    Subscribe,
    Unsubscribe,
    Disconnect(Sender),
    Auth,
}

impl Spot {
    /// What may stand here, by number and as often as it is tried; read from the sections of each packet, so that it can
    /// disagree with the table of the codec.
    fn identifiers(self) -> &'static [u8] {
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
}

/// Properties that may stand at `spot`, in any order; none before 5.0.
pub(crate) fn properties(version: ProtocolVersion, spot: Spot) -> BoxedStrategy<PropertiesBuf> {
    if version != ProtocolVersion::V5 {
        return Just(PropertiesBuf::new()).boxed();
    }
    let ids: Vec<_> = spot.identifiers().iter().filter_map(|id| PropertyId::from_u8(*id)).collect();
    let count = ids.len();
    (prop_oneof![Just(0..=0), Just(0..=count)])
        .prop_flat_map(move |count| subsequence(ids.clone(), count))
        .prop_shuffle()
        .prop_flat_map(|ids| ids.into_iter().map(property).collect::<Vec<_>>())
        .prop_map(|parts| join(&parts))
        .boxed()
}

/// Properties of all packets together.
pub(crate) fn any_properties() -> BoxedStrategy<PropertiesBuf> {
    let few = vec(select(PropertyId::ALL.to_vec()), 0..3);
    few.prop_flat_map(|ids| ids.into_iter().map(property).collect::<Vec<_>>())
        .prop_map(|parts| join(&parts))
        .boxed()
}

/// One list of many: data gets its method, and what may not repeat does not.
fn join(parts: &[PropertiesBuf]) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for part in parts {
        for property in part.as_properties() {
            let _ = list.push(property);
        }
    }
    let has = |id| list.as_properties().find(id).is_some();
    if has(PropertyId::AuthenticationData) && !has(PropertyId::AuthenticationMethod) {
        list.push(Property::AuthenticationMethod("SCRAM-SHA-256")).expect("a valid method");
    }
    list
}

/// One property of any value that its identifier allows, in a list of its own.
pub(crate) fn property(id: PropertyId) -> BoxedStrategy<PropertiesBuf> {
    fn one(property: Property<'_>) -> PropertiesBuf {
        PropertiesBuf::new().with(property).expect("a valid property")
    }
    use PropertyId as Id;
    let bit =
        |make: fn(bool) -> Property<'static>| any::<bool>().prop_map(move |value| one(make(value))).boxed();
    let short = |low: u16, make: fn(u16) -> Property<'static>| {
        prop_oneof![low..=u16::MAX, low..=low, Just(u16::MAX)].prop_map(move |value| one(make(value))).boxed()
    };
    let long = |low: u32, make: fn(u32) -> Property<'static>| {
        prop_oneof![low..=u32::MAX, low..=low, Just(u32::MAX)].prop_map(move |value| one(make(value))).boxed()
    };
    let string = |make: fn(&str) -> PropertiesBuf| text().prop_map(move |text| make(&text)).boxed();
    match id {
        Id::PayloadFormatIndicator => bit(Property::PayloadFormatIndicator),
        Id::RequestProblemInformation => bit(Property::RequestProblemInformation),
        Id::RequestResponseInformation => bit(Property::RequestResponseInformation),
        Id::RetainAvailable => bit(Property::RetainAvailable),
        Id::WildcardSubscriptionAvailable => bit(Property::WildcardSubscriptionAvailable),
        Id::SubscriptionIdentifierAvailable => bit(Property::SubscriptionIdentifierAvailable),
        Id::SharedSubscriptionAvailable => bit(Property::SharedSubscriptionAvailable),
        Id::MaximumQoS => (0..=1_u8).prop_map(|value| one(Property::MaximumQoS(value))).boxed(),
        Id::ServerKeepAlive => short(0, Property::ServerKeepAlive),
        Id::TopicAliasMaximum => short(0, Property::TopicAliasMaximum),
        Id::ReceiveMaximum => short(1, Property::ReceiveMaximum),
        Id::TopicAlias => short(1, Property::TopicAlias),
        Id::MessageExpiryInterval => long(0, Property::MessageExpiryInterval),
        Id::SessionExpiryInterval => long(0, Property::SessionExpiryInterval),
        Id::WillDelayInterval => long(0, Property::WillDelayInterval),
        Id::MaximumPacketSize => long(1, Property::MaximumPacketSize),
        Id::SubscriptionIdentifier => {
            prop_oneof![1_u32..=268_435_455, select(vec![1, 127, 128, 16_383, 16_384])]
                .prop_map(|value| one(Property::SubscriptionIdentifier(value)))
                .boxed()
        }
        Id::ContentType => string(|text| one(Property::ContentType(text))),
        Id::ResponseTopic => topic().prop_map(|topic| one(Property::ResponseTopic(&topic))).boxed(),
        Id::AssignedClientIdentifier => string(|text| one(Property::AssignedClientIdentifier(text))),
        Id::AuthenticationMethod => string(|text| one(Property::AuthenticationMethod(text))),
        Id::ResponseInformation => string(|text| one(Property::ResponseInformation(text))),
        Id::ServerReference => string(|text| one(Property::ServerReference(text))),
        Id::ReasonString => string(|text| one(Property::ReasonString(text))),
        Id::CorrelationData => blob().prop_map(|bytes| one(Property::CorrelationData(&bytes))).boxed(),
        Id::AuthenticationData => blob().prop_map(|bytes| one(Property::AuthenticationData(&bytes))).boxed(),
        Id::UserProperty => {
            (text(), text()).prop_map(|(name, value)| one(Property::UserProperty(&name, &value))).boxed()
        }
    }
}
