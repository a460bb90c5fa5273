//! Owns the errors and their blame: the bytes, the peer, or the caller.
//! It must not know what becomes of the connection after one.

use core::fmt;

use crate::packet::PropertyId;

/// Why a text is no topic name or topic filter. Positions are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// Topic names and filters have at least one character `[MQTT-4.7.3-1]`.
    Empty,
    /// They have at most 65,535 bytes `[MQTT-4.7.3-3]`.
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// They hold no U+0000 `[MQTT-4.7.3-2]`.
    Nul {
        /// Where it stands.
        at: usize,
    },
    /// A topic name holds no wildcard `[MQTT-3.3.2-2]`.
    WildcardInName {
        /// Where it stands.
        at: usize,
    },
    /// `#` is the whole last level and `+` a whole level, or they are not there `[MQTT-4.7.1-1] [MQTT-4.7.1-2]`.
    Wildcard {
        /// Where the level's wildcard stands.
        at: usize,
    },
    /// A share name has a character, and neither `/`, `+` nor `#` `[MQTT-4.8.2-1] [MQTT-4.8.2-2]`.
    ShareName,
    /// `$share/name` is followed by `/` and a filter `[MQTT-4.8.2-2]`.
    ShareWithoutFilter,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic is never empty [MQTT-4.7.3-1]"),
            Self::TooLong { bytes } => {
                write!(f, "a topic has at most 65,535 bytes, this one has {bytes} [MQTT-4.7.3-3]")
            }
            Self::Nul { at } => write!(f, "a topic never holds U+0000, as here at byte {at} [MQTT-4.7.3-2]"),
            Self::WildcardInName { at } => {
                write!(f, "a topic name never holds a wildcard, as here at byte {at} [MQTT-3.3.2-2]")
            }
            Self::Wildcard { at } => write!(
                f,
                "`+` fills a whole level and `#` the whole last one, unlike here at byte {at} [MQTT-4.7.1-1] [MQTT-4.7.1-2]"
            ),
            Self::ShareName => f.write_str(
                "a share name is never empty and never holds a wildcard [MQTT-4.8.2-1] [MQTT-4.8.2-2]",
            ),
            Self::ShareWithoutFilter => {
                f.write_str("a shared subscription is $share/name/filter [MQTT-4.8.2-1] [MQTT-4.8.2-2]")
            }
        }
    }
}

impl core::error::Error for TopicError {}

/// Why a property was refused by the list that should take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropertyError {
    /// The property may stand only once in a packet.
    Repeated {
        /// Which.
        property: PropertyId,
    },
    /// A text or binary value of more than 65,535 bytes.
    TooLong {
        /// Which.
        property: PropertyId,
        /// How long its value is.
        bytes: usize,
    },
    /// A text with U+0000 `[MQTT-1.5.4-2]`.
    Nul {
        /// Which.
        property: PropertyId,
    },
    /// A number outside of what the property allows.
    OutOfRange {
        /// Which.
        property: PropertyId,
        /// The number.
        value: u32,
    },
    /// A response topic with a wildcard `[MQTT-3.3.2-14]`, or an empty one.
    ResponseTopic(TopicError),
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated { property } => write!(f, "{} may stand only once", property.name()),
            Self::TooLong { property, bytes } => {
                write!(f, "{} has at most 65,535 bytes, this one has {bytes}", property.name())
            }
            Self::Nul { property } => write!(f, "{} never holds U+0000 [MQTT-1.5.4-2]", property.name()),
            Self::OutOfRange { property, value } => write!(f, "{} cannot be {value}", property.name()),
            Self::ResponseTopic(error) => write!(f, "ResponseTopic: {error}"),
        }
    }
}

impl core::error::Error for PropertyError {}
