//! Owns why a command is refused, in the words of the packet that it asked for. It must not know when that is.

use core::fmt;

use crate::error::PropertyError;
use crate::packet::{PacketType, PropertyId};
use crate::reason::ReasonCode;
use crate::types::{QoS, TopicFilter};
use crate::wire::EncodeError;

/// Why a command was not accepted. Nothing has changed, nothing is queued, and the connection goes on.
///
/// What is wrong with the command itself names [the packet](Self::packet), [its field](Self::field), [the rule](Self::rule) and,
/// in its text, the value. [`Full`](Self::Full), [`Disconnecting`](Self::Disconnecting), [`StoreFailed`](Self::StoreFailed) and
/// [`NotNow`](Self::NotNow) refuse the moment and no packet: the same command may be accepted at another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There is no room within [`Limits`](crate::Limits) now; an event of [`Event::Completed`](crate::Event::Completed) makes some.
    Full,
    /// It can never fit on this connection, or within the limits of this client.
    TooLarge {
        /// Which packet.
        packet: PacketType,
        /// Its size in bytes.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
        /// Whose limit that is.
        bound: SizeBound,
    },
    /// The server said in CONNACK that it does not do this.
    NotSupported(NotSupported),
    /// What a client may never ask for, whatever the server does.
    Misuse(Misuse),
    /// The packet could not be written.
    Encode(EncodeError),
    /// A value that no property has.
    Property {
        /// In which packet.
        packet: PacketType,
        /// Which property, and its value.
        error: PropertyError,
    },
    /// The machine is disconnecting, or has.
    Disconnecting,
    /// The store failed; nothing durable can be accepted.
    StoreFailed,
    /// Not in the present state of the connection: there is none, or there is one already; the text says which.
    NotNow(&'static str),
}

impl Refused {
    /// The packet that cannot be sent; `None` when it is the moment that is refused.
    pub const fn packet(&self) -> Option<PacketType> {
        Some(match self {
            Self::TooLarge { packet, .. } | Self::Property { packet, .. } => *packet,
            Self::NotSupported(what) => what.packet(),
            Self::Misuse(what) => what.packet(),
            Self::Encode(error) => error.packet(),
            Self::Full | Self::Disconnecting | Self::StoreFailed | Self::NotNow(_) => return None,
        })
    }

    /// Its field that is to blame, in the words of the specification.
    pub const fn field(&self) -> Option<&'static str> {
        Some(match self {
            Self::TooLarge { .. } => "packet",
            Self::NotSupported(what) => what.field(),
            Self::Misuse(what) => what.field(),
            Self::Encode(error) => error.field(),
            Self::Property { error, .. } => error.property().name(),
            Self::Full | Self::Disconnecting | Self::StoreFailed | Self::NotNow(_) => return None,
        })
    }

    /// The rule that it would break: its number in 5.0, the section where it has none, or the name of our own limit.
    pub const fn rule(&self) -> Option<&'static str> {
        Some(match self {
            Self::TooLarge { bound, .. } => bound.rule(),
            Self::NotSupported(what) => what.rule(),
            Self::Misuse(what) => what.rule(),
            Self::Encode(error) => error.rule(),
            Self::Property { error, .. } => error.rule(),
            Self::Full | Self::Disconnecting | Self::StoreFailed | Self::NotNow(_) => return None,
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::TooLarge { packet, bytes, limit, bound } => write!(
                f,
                "{packet}: the packet has {bytes} bytes, more than {limit}, {} [{}]",
                bound.whose(),
                bound.rule()
            ),
            Self::NotSupported(what) => what.fmt(f),
            Self::Misuse(what) => what.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Property { packet, error } => write!(f, "{packet}: {error}"),
            Self::Disconnecting => f.write_str("the client is disconnecting or was disconnected"),
            Self::StoreFailed => f.write_str("the store has failed"),
            Self::NotNow(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Refused {}

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// Whose limit a packet is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizeBound {
    /// The server's Maximum Packet Size `[MQTT-3.2.2-15]`.
    MaximumPacketSize,
    /// Our own [`Limits::outgoing_bytes`](crate::Limits::outgoing_bytes).
    OutgoingBytes,
}

impl SizeBound {
    const fn rule(self) -> &'static str {
        match self {
            Self::MaximumPacketSize => "MQTT-3.2.2-15",
            Self::OutgoingBytes => "Limits::outgoing_bytes",
        }
    }

    const fn whose(self) -> &'static str {
        match self {
            Self::MaximumPacketSize => "the server's Maximum Packet Size",
            Self::OutgoingBytes => "the most that this client queues",
        }
    }
}

/// What the server said in its CONNACK that it does not do, and what would have needed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSupported {
    /// A QoS above its Maximum QoS `[MQTT-3.2.2-11]`.
    QoS {
        /// That of the message.
        qos: QoS,
        /// The highest that the server takes.
        maximum: QoS,
    },
    /// RETAIN without Retain Available `[MQTT-3.2.2-14]`.
    Retain,
    /// A topic alias above its Topic Alias Maximum `[MQTT-3.2.2-17]`.
    TopicAlias {
        /// That of the message.
        alias: u16,
        /// The highest that the server takes; 0 when it takes none.
        maximum: u16,
    },
    /// A filter with a wildcard, without Wildcard Subscription Available (5.0, section 3.2.2.3.11).
    WildcardSubscription {
        /// The filter.
        filter: TopicFilter,
    },
    /// A shared subscription, without Shared Subscription Available (5.0, section 3.2.2.3.13).
    SharedSubscription {
        /// The filter.
        filter: TopicFilter,
    },
    /// A Subscription Identifier, without Subscription Identifiers Available (5.0, section 3.2.2.3.12).
    SubscriptionIdentifier {
        /// The identifier.
        identifier: u32,
    },
}

impl NotSupported {
    /// The packet that cannot be sent.
    pub const fn packet(&self) -> PacketType {
        match self {
            Self::QoS { .. } | Self::Retain | Self::TopicAlias { .. } => PacketType::Publish,
            Self::WildcardSubscription { .. }
            | Self::SharedSubscription { .. }
            | Self::SubscriptionIdentifier { .. } => PacketType::Subscribe,
        }
    }

    /// The field to blame, in the words of the specification.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::QoS { .. } => "QoS",
            Self::Retain => "RETAIN flag",
            Self::TopicAlias { .. } => PropertyId::TopicAlias.name(),
            Self::WildcardSubscription { .. } | Self::SharedSubscription { .. } => "topic filter",
            Self::SubscriptionIdentifier { .. } => PropertyId::SubscriptionIdentifier.name(),
        }
    }

    /// The rule: its number in 5.0, or the section where it has none.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::QoS { .. } => "MQTT-3.2.2-11",
            Self::Retain => "MQTT-3.2.2-14",
            Self::TopicAlias { .. } => "MQTT-3.2.2-17",
            Self::WildcardSubscription { .. } => "5.0 section 3.2.2.3.11",
            Self::SubscriptionIdentifier { .. } => "5.0 section 3.2.2.3.12",
            Self::SharedSubscription { .. } => "5.0 section 3.2.2.3.13",
        }
    }
}

impl fmt::Display for NotSupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.packet())?;
        match self {
            Self::QoS { qos, maximum } => {
                write!(f, "QoS {} is above the server's Maximum QoS of {}", qos.to_u8(), maximum.to_u8())
            }
            Self::Retain => f.write_str("the RETAIN flag is 1 and the server retains no messages"),
            Self::TopicAlias { alias, maximum } => {
                write!(f, "TopicAlias {alias} is above the server's Topic Alias Maximum of {maximum}")
            }
            Self::WildcardSubscription { filter } => {
                write!(f, "the topic filter {filter} has a wildcard and the server takes none")
            }
            Self::SharedSubscription { filter } => {
                write!(f, "the topic filter {filter} is shared and the server has no shared subscriptions")
            }
            Self::SubscriptionIdentifier { identifier } => {
                write!(f, "SubscriptionIdentifier {identifier} is given and the server takes none")
            }
        }?;
        write!(f, " [{}]", self.rule())
    }
}

impl core::error::Error for NotSupported {}

/// What a client may never ask for, whatever the server does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// A Subscription Identifier in a message to the server `[MQTT-3.3.4-6]`.
    SubscriptionIdentifier {
        /// The identifier.
        identifier: u32,
    },
    /// A key for a message of QoS 0, whose end nobody learns ([`Machine::publish_keyed`](crate::Machine::publish_keyed)).
    KeyWithoutQoS,
    /// No Local on a shared subscription `[MQTT-3.8.3-4]`.
    NoLocalShared {
        /// The filter.
        filter: TopicFilter,
    },
    /// A DISCONNECT with a reason code that only a server says `[MQTT-3.14.2-1]`.
    DisconnectReason {
        /// The code.
        reason: ReasonCode,
    },
    /// A Session Expiry Interval in DISCONNECT after a CONNECT with none, or with zero (5.0, section 3.14.2.2.2).
    SessionExpiryInterval {
        /// The interval.
        seconds: u32,
    },
}

impl Misuse {
    /// The packet that cannot be sent.
    pub const fn packet(&self) -> PacketType {
        match self {
            Self::SubscriptionIdentifier { .. } | Self::KeyWithoutQoS => PacketType::Publish,
            Self::NoLocalShared { .. } => PacketType::Subscribe,
            Self::DisconnectReason { .. } | Self::SessionExpiryInterval { .. } => PacketType::Disconnect,
        }
    }

    /// The field to blame, in the words of the specification.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::SubscriptionIdentifier { .. } => PropertyId::SubscriptionIdentifier.name(),
            Self::KeyWithoutQoS => "QoS",
            Self::NoLocalShared { .. } => "subscription options",
            Self::DisconnectReason { .. } => "reason code",
            Self::SessionExpiryInterval { .. } => PropertyId::SessionExpiryInterval.name(),
        }
    }

    /// The rule: its number in 5.0, or the section where it has none.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::SubscriptionIdentifier { .. } => "MQTT-3.3.4-6",
            Self::KeyWithoutQoS => "Machine::publish_keyed",
            Self::NoLocalShared { .. } => "MQTT-3.8.3-4",
            Self::DisconnectReason { .. } => "MQTT-3.14.2-1",
            Self::SessionExpiryInterval { .. } => "5.0 section 3.14.2.2.2",
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.packet())?;
        match self {
            Self::SubscriptionIdentifier { identifier } => {
                write!(f, "SubscriptionIdentifier {identifier} is given, which only a server says")
            }
            Self::KeyWithoutQoS => f.write_str("the QoS is 0, and a key is for what is acknowledged"),
            Self::NoLocalShared { filter } => {
                write!(f, "the subscription options have No Local on the shared {filter}")
            }
            Self::DisconnectReason { reason } => {
                write!(f, "the reason code is {reason}, which only a server says")
            }
            Self::SessionExpiryInterval { seconds } => {
                write!(f, "SessionExpiryInterval is {seconds} and was zero in CONNECT")
            }
        }?;
        write!(f, " [{}]", self.rule())
    }
}

impl core::error::Error for Misuse {}
