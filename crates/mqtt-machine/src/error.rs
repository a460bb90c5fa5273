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

impl TopicError {
    /// The rule that it breaks.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::TooLong { .. } => "MQTT-4.7.3-3",
            Self::Nul { .. } => "MQTT-4.7.3-2",
            Self::WildcardInName { .. } => "MQTT-3.3.2-2",
            Self::Wildcard { .. } => "MQTT-4.7.1-1, MQTT-4.7.1-2",
            Self::ShareName => "MQTT-4.8.2-1, MQTT-4.8.2-2",
            Self::ShareWithoutFilter => "MQTT-4.8.2-2",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic is never empty"),
            Self::TooLong { bytes } => write!(f, "a topic has at most 65,535 bytes, this one has {bytes}"),
            Self::Nul { at } => write!(f, "a topic never holds U+0000, as here at byte {at}"),
            Self::WildcardInName { at } => {
                write!(f, "a topic name never holds a wildcard, as here at byte {at}")
            }
            Self::Wildcard { at } => {
                write!(f, "`+` fills a whole level and `#` the whole last one, unlike here at byte {at}")
            }
            Self::ShareName => f.write_str("a share name is never empty and never holds a wildcard"),
            Self::ShareWithoutFilter => f.write_str("a shared subscription is $share/name/filter"),
        }?;
        write!(f, " [{}]", self.rule())
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
        /// Where it stands; of a User Property, in its name or else in its value.
        at: usize,
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

impl PropertyError {
    /// The property that was refused.
    pub const fn property(&self) -> PropertyId {
        match self {
            Self::Repeated { property }
            | Self::TooLong { property, .. }
            | Self::Nul { property, .. }
            | Self::OutOfRange { property, .. } => *property,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
        }
    }

    /// The rule that it breaks: its number in 5.0, or the section where it has none.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Repeated { .. } | Self::OutOfRange { .. } => "5.0 section 2.2.2.2",
            Self::TooLong { .. } => "5.0 section 1.5",
            Self::Nul { .. } => "MQTT-1.5.4-2",
            Self::ResponseTopic(error) => error.rule(),
        }
    }
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.property().name();
        match self {
            Self::Repeated { .. } => write!(f, "{name} may stand only once"),
            Self::TooLong { bytes, .. } => write!(f, "{name} has at most 65,535 bytes, this one has {bytes}"),
            Self::Nul { at, .. } => write!(f, "{name} never holds U+0000, as here at byte {at}"),
            Self::OutOfRange { value, .. } => write!(f, "{name} cannot be {value}"),
            Self::ResponseTopic(error) => return write!(f, "{name}: {error}"),
        }?;
        write!(f, " [{}]", self.rule())
    }
}

impl core::error::Error for PropertyError {}
