//! Owns the one table of properties: how each is written, where it may stand and who may send it.
//! It must not know what a property does, nor how a list of them is read.

use crate::packet::{PacketType, PropertyId, Sender};

/// How a value is written, and the range it keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One byte, 0 or 1.
    Bit,
    TwoBytes,
    TwoBytesNotZero,
    /// Two bytes, not 0, with a reason code of its own when it is.
    Alias,
    FourBytes,
    FourBytesNotZero,
    /// A variable byte integer, not 0.
    VarIntNotZero,
    Text,
    /// Text that is a topic name.
    Topic,
    Binary,
    /// Two texts.
    Pair,
}

/// Where properties stand: a set with one bit for each packet type and sender; bit 0 is the will.
///
/// The lower half is the client's, the upper half the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) struct Place(u32);

impl Place {
    /// In the will properties of a CONNECT.
    pub(in crate::wire) const WILL: Self = Self(1);

    /// In a packet, whoever sends it.
    pub(in crate::wire) const fn of(packet: PacketType) -> Self {
        Self(0x0001_0001_u32.wrapping_shl(packet as u32))
    }

    /// In a packet from `sender`.
    #[inline]
    pub(in crate::wire) const fn from(packet: PacketType, sender: Sender) -> Self {
        Self(match sender {
            Sender::Client => 1_u32.wrapping_shl(packet as u32),
            Sender::Server => 0x0001_0000_u32.wrapping_shl(packet as u32),
        })
    }

    /// Nowhere.
    pub(in crate::wire) const NONE: Self = Self(0);

    /// The places of both sets.
    pub(in crate::wire) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The places that the sets have in common.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// All but the first.
    pub(super) const fn without_first(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }

    /// True when the two sets have a place in common.
    #[inline]
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The same places, whoever sends the packet.
    pub(super) const fn any_sender(self) -> Self {
        let either = (self.0 | self.0 >> 16) & 0xFFFF;
        Self(either | either << 16)
    }
}

const CONNECT: Place = Place::of(PacketType::Connect);
const CONNACK: Place = Place::of(PacketType::ConnAck);
const PUBLISH: Place = Place::of(PacketType::Publish);
const SUBSCRIBE: Place = Place::of(PacketType::Subscribe);
const DISCONNECT: Place = Place::of(PacketType::Disconnect);
const AUTH: Place = Place::of(PacketType::Auth);
const MESSAGE: Place = PUBLISH.or(Place::WILL);
const ANSWERS: Place = Place::of(PacketType::PubAck)
    .or(Place::of(PacketType::PubRec))
    .or(Place::of(PacketType::PubRel))
    .or(Place::of(PacketType::PubComp))
    .or(Place::of(PacketType::SubAck))
    .or(Place::of(PacketType::UnsubAck));
const EVERYWHERE: Place = CONNECT
    .or(CONNACK)
    .or(MESSAGE)
    .or(ANSWERS)
    .or(SUBSCRIBE)
    .or(Place::of(PacketType::Unsubscribe))
    .or(DISCONNECT)
    .or(AUTH);
const CLIENT_DISCONNECT: Place = Place::from(PacketType::Disconnect, Sender::Client);
const SERVER_DISCONNECT: Place = Place::from(PacketType::Disconnect, Sender::Server);
const SERVER_PUBLISH: Place = Place::from(PacketType::Publish, Sender::Server);
const NOWHERE: Place = Place::NONE;

/// One row of the table.
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Where it may stand.
    pub(super) places: Place,
    /// Where it may stand more than once.
    pub(super) repeats: Place,
}

/// The table (5.0, section 2.2.2.2, and the sections of each packet).
#[inline]
pub(super) const fn row(id: PropertyId) -> Row {
    use PropertyId as Id;
    let (kind, places, repeats) = match id {
        Id::PayloadFormatIndicator => (Kind::Bit, MESSAGE, NOWHERE),
        Id::MessageExpiryInterval => (Kind::FourBytes, MESSAGE, NOWHERE),
        Id::ContentType => (Kind::Text, MESSAGE, NOWHERE),
        Id::ResponseTopic => (Kind::Topic, MESSAGE, NOWHERE),
        Id::CorrelationData => (Kind::Binary, MESSAGE, NOWHERE),
        // A client's PUBLISH never has one [MQTT-3.3.4-6]; a server's has one for each subscription that it matches.
        Id::SubscriptionIdentifier => (Kind::VarIntNotZero, SERVER_PUBLISH.or(SUBSCRIBE), SERVER_PUBLISH),
        // A server's DISCONNECT never has one [MQTT-3.14.2-2].
        Id::SessionExpiryInterval => (Kind::FourBytes, CONNECT.or(CONNACK).or(CLIENT_DISCONNECT), NOWHERE),
        Id::AssignedClientIdentifier => (Kind::Text, CONNACK, NOWHERE),
        Id::ServerKeepAlive => (Kind::TwoBytes, CONNACK, NOWHERE),
        Id::AuthenticationMethod => (Kind::Text, CONNECT.or(CONNACK).or(AUTH), NOWHERE),
        Id::AuthenticationData => (Kind::Binary, CONNECT.or(CONNACK).or(AUTH), NOWHERE),
        Id::RequestProblemInformation => (Kind::Bit, CONNECT, NOWHERE),
        Id::WillDelayInterval => (Kind::FourBytes, Place::WILL, NOWHERE),
        Id::RequestResponseInformation => (Kind::Bit, CONNECT, NOWHERE),
        Id::ResponseInformation => (Kind::Text, CONNACK, NOWHERE),
        Id::ServerReference => (Kind::Text, CONNACK.or(SERVER_DISCONNECT), NOWHERE),
        Id::ReasonString => (Kind::Text, CONNACK.or(ANSWERS).or(DISCONNECT).or(AUTH), NOWHERE),
        Id::ReceiveMaximum => (Kind::TwoBytesNotZero, CONNECT.or(CONNACK), NOWHERE),
        Id::TopicAliasMaximum => (Kind::TwoBytes, CONNECT.or(CONNACK), NOWHERE),
        Id::TopicAlias => (Kind::Alias, PUBLISH, NOWHERE),
        Id::MaximumQoS => (Kind::Bit, CONNACK, NOWHERE),
        Id::RetainAvailable => (Kind::Bit, CONNACK, NOWHERE),
        Id::UserProperty => (Kind::Pair, EVERYWHERE, EVERYWHERE),
        Id::MaximumPacketSize => (Kind::FourBytesNotZero, CONNECT.or(CONNACK), NOWHERE),
        Id::WildcardSubscriptionAvailable => (Kind::Bit, CONNACK, NOWHERE),
        Id::SubscriptionIdentifierAvailable => (Kind::Bit, CONNACK, NOWHERE),
        Id::SharedSubscriptionAvailable => (Kind::Bit, CONNACK, NOWHERE),
    };
    Row { kind, places, repeats }
}

/// The column of kinds, by identifier, so that reading a packet finds it in one step. What is no identifier is never asked for.
pub(super) const KINDS: [Kind; 64] = {
    let mut kinds = [Kind::Bit; 64];
    let mut left: &mut [Kind] = &mut kinds;
    let mut id = 0_u8;
    while let Some((kind, rest)) = left.split_first_mut() {
        if let Some(id) = PropertyId::from_u8(id) {
            *kind = row(id).kind;
        }
        id = id.wrapping_add(1);
        left = rest;
    }
    kinds
};

/// The columns of places, turned: which properties may stand in one place, as sets of identifiers.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) any: u64,
    /// Those that may stand once.
    pub(super) once: u64,
}

impl Allowed {
    const NONE: Self = Self { any: 0, once: 0 };

    /// For each bit of a [`Place`].
    const TABLE: [Self; 32] = {
        let mut table = [Self::NONE; 32];
        let mut left: &mut [Self] = &mut table;
        let mut place = Place(1);
        while let Some((allowed, rest)) = left.split_first_mut() {
            *allowed = Self::in_rows(place);
            place = Place(place.0 << 1);
            left = rest;
        }
        table
    };

    /// What the rows say of one place.
    const fn in_rows(place: Place) -> Self {
        let mut allowed = Self::NONE;
        let mut ids = PropertyId::ALL;
        while let Some((id, rest)) = ids.split_first() {
            let row = row(*id);
            if row.places.meets(place) {
                allowed.any |= Seen::bit(*id);
                if !row.repeats.meets(place) {
                    allowed.once |= Seen::bit(*id);
                }
            }
            ids = rest;
        }
        allowed
    }

    /// At one place, the first of several.
    #[inline]
    pub(super) fn at(place: Place) -> Self {
        Self::TABLE.get(place.0.trailing_zeros() as usize).copied().unwrap_or(Self::NONE)
    }

    /// Which may still come beside these.
    #[inline]
    pub(super) const fn beside(self, seen: Seen) -> u64 {
        self.any & !(seen.0 & self.once)
    }
}

/// A set of properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wire) struct Seen(pub(super) u64);

impl Seen {
    /// True when `id` is in the set.
    #[inline]
    pub(in crate::wire) const fn has(self, id: PropertyId) -> bool {
        self.0 & Self::bit(id) != 0
    }

    #[inline]
    pub(super) const fn bit(id: PropertyId) -> u64 {
        1_u64.wrapping_shl(id as u32)
    }

    /// Data is never sent without a method, in CONNECT, CONNACK and AUTH alike.
    #[inline]
    pub(in crate::wire) const fn lacks_method(self) -> bool {
        self.has(PropertyId::AuthenticationData) && !self.has(PropertyId::AuthenticationMethod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_property_as_often_as_the_specification() {
        // Section 2.2.2.2: how many properties each place has, User Property included.
        for (place, count) in [
            (CONNECT, 9),
            (Place::WILL, 7),
            (CONNACK, 17),
            (Place::from(PacketType::Publish, Sender::Client), 7),
            (Place::from(PacketType::Publish, Sender::Server), 8),
            (Place::of(PacketType::PubAck), 2),
            (SUBSCRIBE, 2),
            (Place::of(PacketType::SubAck), 2),
            (Place::of(PacketType::Unsubscribe), 1),
            (Place::of(PacketType::UnsubAck), 2),
            (CLIENT_DISCONNECT, 3),
            (SERVER_DISCONNECT, 3),
            (AUTH, 4),
        ] {
            assert_eq!(PropertyId::ALL.iter().filter(|id| row(**id).places.meets(place)).count(), count);
        }
    }
}
