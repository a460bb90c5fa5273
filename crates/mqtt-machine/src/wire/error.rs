//! Owns the ways in which bytes break the rules of the wire, and packets the rules of the encoder.
//! It must not know what becomes of the connection after one.

use core::fmt;

use nom::error::{ErrorKind, ParseError};

use crate::error::TopicError;
use crate::packet::{PacketType, PropertyId};
use crate::reason::ReasonCode;
use crate::types::{PacketId, ProtocolVersion, QoS};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $reason:ident, $field:literal, $rule:literal, $text:literal;)*) => {
        /// The rule that received bytes break: one variant per rule, one byte large.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What a DISCONNECT says about it in 5.0. Before 5.0 the connection is closed without a word.
            pub const fn reason(self) -> ReasonCode {
                match self {
                    $(Self::$name => ReasonCode::$reason,)*
                }
            }

            /// Which part of the packet breaks the rule, in the words of the specification.
            pub const fn field(self) -> &'static str {
                match self {
                    $(Self::$name => $field,)*
                }
            }

            /// The number of the broken rule in 5.0, or the section where no number was given. Rules that only
            /// earlier versions have are named with their version.
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => $rule,)*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// A packet of type 0.
    PacketTypeZero = MalformedPacket, "packet type", "5.0 section 2.1.2", "packet type 0 is reserved";
    /// AUTH before 5.0.
    PacketTypeNotInVersion = MalformedPacket, "packet type", "3.1.1 section 2.2.1",
        "packet type 15 is reserved before 5.0";
    /// A packet that only the other side sends.
    PacketSender = ProtocolError, "packet type", "5.0 section 2.1.2", "only the other side may send this packet";
    /// Fixed header flags other than the type's.
    Flags = MalformedPacket, "flags", "MQTT-2.1.3-1", "the flags are not those of the packet type";
    /// A variable byte integer of more than four bytes.
    VarIntTooLong = MalformedPacket, "variable byte integer", "5.0 section 1.5.5",
        "a variable byte integer has more than four bytes";
    /// A variable byte integer with padding.
    VarIntNotMinimal = MalformedPacket, "variable byte integer", "MQTT-1.5.5-1",
        "a variable byte integer is longer than it needs to be";
    /// A packet above the receiver's Maximum Packet Size.
    PacketTooLarge = PacketTooLarge, "remaining length", "MQTT-3.1.2-24",
        "the packet is larger than its receiver allows";
    /// A field goes on behind the end of the packet, or of the properties.
    Truncated = MalformedPacket, "remaining length", "5.0 section 2.1.4", "the packet ends inside a field";
    /// Bytes behind the last field.
    TrailingBytes = MalformedPacket, "remaining length", "5.0 section 2.1.4", "bytes follow the last field";
    /// Text that is not UTF-8.
    Utf8 = MalformedPacket, "UTF-8 string", "MQTT-1.5.4-1", "a text is not UTF-8";
    /// Text with U+0000.
    TextNul = MalformedPacket, "UTF-8 string", "MQTT-1.5.4-2", "a text holds U+0000";
    /// A packet identifier of 0.
    PacketIdZero = ProtocolError, "packet identifier", "5.0 section 2.2.1", "the packet identifier is 0";
    /// A topic name with a wildcard.
    TopicWildcard = MalformedPacket, "topic name", "MQTT-3.3.2-2", "topic name holds a wildcard";
    /// An empty topic name without a topic alias.
    TopicEmpty = ProtocolError, "topic name", "5.0 section 3.3.2.1",
        "the topic name is empty and no topic alias stands for it";
    /// A QoS of 3.
    QoS3 = MalformedPacket, "QoS", "MQTT-3.3.1-4", "both QoS bits are set";
    /// DUP on a QoS 0 message.
    DupWithoutQoS = MalformedPacket, "DUP flag", "MQTT-3.3.1-2", "DUP is set on a QoS 0 message";
    /// A property identifier that does not exist.
    PropertyUnknown = MalformedPacket, "properties", "5.0 section 2.2.2.2", "a property identifier is not defined";
    /// A property of another packet.
    PropertyMisplaced = MalformedPacket, "properties", "5.0 section 2.2.2.2",
        "a property does not belong to this packet";
    /// A property that only the other side sends in this packet: Session Expiry Interval in a server's DISCONNECT,
    /// Subscription Identifier in a client's PUBLISH.
    PropertySender = ProtocolError, "properties", "MQTT-3.14.2-2, MQTT-3.3.4-6",
        "only the other side may send this property in this packet";
    /// A property that stands twice and may not.
    PropertyRepeated = ProtocolError, "properties", "5.0 section 2.2.2.2", "a property stands twice";
    /// A property with a value that it does not allow.
    PropertyValue = ProtocolError, "properties", "5.0 section 2.2.2.2", "a property has a value that it does not allow";
    /// A topic alias of 0.
    TopicAliasZero = TopicAliasInvalid, "topic alias", "MQTT-3.3.2-8", "the topic alias is 0";
    /// A response topic that is no topic name.
    ResponseTopic = ProtocolError, "response topic", "MQTT-3.3.2-14",
        "the response topic is empty or holds a wildcard";
    /// Authentication data without a method.
    AuthenticationMethodMissing = ProtocolError, "authentication method", "5.0 section 3.15.2.2.2",
        "the authentication method is missing";
    /// A reason code or return code that this packet does not have.
    ReasonCodeUnknown = MalformedPacket, "reason code", "5.0 section 2.4", "the reason code is not one of this packet's";
    /// A reason code that only the other side sends.
    ReasonCodeSender = ProtocolError, "reason code", "5.0 section 2.4", "only the other side may send this reason code";
    /// No reason code where there is at least one.
    NoReasonCodes = ProtocolError, "reason codes", "MQTT-3.8.4-6", "there is no reason code";
    /// Reserved bits in a CONNACK.
    ConnAckFlags = MalformedPacket, "connect acknowledge flags", "MQTT-3.2.2-1",
        "a reserved connect acknowledge flag is set";
    /// Session present on a refusal.
    SessionPresentWithRefusal = ProtocolError, "session present", "MQTT-3.2.2-6",
        "session present is set on a refusal";
    /// A protocol name that is none of MQTT's.
    ProtocolName = UnsupportedProtocolVersion, "protocol name", "MQTT-3.1.2-1", "the protocol name is not MQTT's";
    /// A protocol level that does not exist, or not with this name.
    ProtocolLevel = UnsupportedProtocolVersion, "protocol version", "MQTT-3.1.2-2",
        "the protocol version is not supported";
    /// The reserved bit of the connect flags.
    ConnectFlags = MalformedPacket, "connect flags", "MQTT-3.1.2-3", "the reserved connect flag is set";
    /// Will QoS or will retain without a will.
    WillFlags = MalformedPacket, "connect flags", "MQTT-3.1.2-11, MQTT-3.1.2-13",
        "will QoS or will retain is set without a will";
    /// A will QoS of 3.
    WillQoS3 = MalformedPacket, "will QoS", "MQTT-3.1.2-12", "both will QoS bits are set";
    /// A password without a user name before 5.0.
    PasswordWithoutUserName = MalformedPacket, "connect flags", "3.1.1 MQTT-3.1.2-22",
        "there is a password without a user name";
    /// A topic filter that breaks the rules of wildcards or of shared subscriptions.
    TopicFilter = MalformedPacket, "topic filter", "MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.8.2-1, MQTT-4.8.2-2",
        "a topic filter is not valid";
    /// Reserved bits in subscription options, or a value of 3 in one of their fields.
    SubscriptionOptions = MalformedPacket, "subscription options", "MQTT-3.8.3-5",
        "the subscription options have a reserved value";
    /// No Local on a shared subscription.
    NoLocalShared = ProtocolError, "subscription options", "MQTT-3.8.3-4", "No Local is set on a shared subscription";
    /// SUBSCRIBE or UNSUBSCRIBE without a topic filter.
    NoFilters = ProtocolError, "payload", "MQTT-3.8.3-2, MQTT-3.10.3-2", "there is no topic filter";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text(), self.rule())
    }
}

impl core::error::Error for Fault {}

impl Fault {
    /// This fault, and the number that stands where it should not.
    pub(super) fn with(self, value: impl Into<u32>) -> Flaw {
        Flaw { fault: self, property: None, value: value.into() }
    }

    /// This fault of a property.
    pub(super) const fn of(self, property: PropertyId) -> Flaw {
        Flaw { fault: self, property: Some(property), value: Flaw::NO_VALUE }
    }
}

/// What a parser found wrong: the rule, and what stands there in the property or field that breaks it. Eight bytes, so
/// that the errors of the parsers are no larger than nom's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flaw {
    pub(super) fault: Fault,
    property: Option<PropertyId>,
    value: u32,
}

impl Flaw {
    /// No field of the wire that is at fault holds this number, four bytes of ones being a value that each of their kind allows.
    const NO_VALUE: u32 = u32::MAX;

    /// The same flaw, in a property.
    pub(super) const fn of(self, property: PropertyId) -> Self {
        Self { property: Some(property), ..self }
    }

    /// The same number, by another rule.
    pub(super) const fn as_fault(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    /// The same flaw with this number, unless it is a property's or has one.
    pub(super) const fn or_value(self, value: u32) -> Self {
        if self.value == Self::NO_VALUE && self.property.is_none() { Self { value, ..self } } else { self }
    }
}

impl From<Fault> for Flaw {
    #[inline]
    fn from(fault: Fault) -> Self {
        Self { fault, property: None, value: Self::NO_VALUE }
    }
}

/// nom's own primitives fail only where the input ends too early; every other fault is named by our parsers.
impl<I> ParseError<I> for Flaw {
    #[inline]
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Fault::Truncated.into()
    }

    #[inline]
    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Why received bytes are no packet: they are to blame, or the peer who sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecodeError {
    packet: Option<PacketType>,
    flaw: Flaw,
}

impl DecodeError {
    pub(super) fn new(packet: Option<PacketType>, flaw: impl Into<Flaw>) -> Self {
        Self { packet, flaw: flaw.into() }
    }

    /// The type of the packet, if it has one.
    pub const fn packet(&self) -> Option<PacketType> {
        self.packet
    }

    /// The rule that it breaks.
    pub const fn fault(&self) -> Fault {
        self.flaw.fault
    }

    /// The part of the packet that breaks it, in the words of the specification: a property by its name, any other field as
    /// [`Fault::field`] calls it.
    pub const fn field(&self) -> &'static str {
        match self.flaw.property {
            Some(property) => property.name(),
            None => self.flaw.fault.field(),
        }
    }

    /// The property that breaks it, if it is one.
    pub const fn property(&self) -> Option<PropertyId> {
        self.flaw.property
    }

    /// The number that stands in that field and may not: a code, a byte of flags, a length in bytes, or the byte of a text.
    /// `None` where the fault itself says it (a topic alias of 0), and where nothing stands.
    pub const fn value(&self) -> Option<u32> {
        if self.flaw.value == Flaw::NO_VALUE { None } else { Some(self.flaw.value) }
    }

    /// What a DISCONNECT says about it in 5.0.
    pub const fn reason(&self) -> ReasonCode {
        self.flaw.fault.reason()
    }

    /// The number of the rule; see [`Fault::rule`].
    pub const fn rule(&self) -> &'static str {
        self.flaw.fault.rule()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packet) = self.packet {
            write!(f, "{packet}: ")?;
        }
        f.write_str(self.flaw.fault.text())?;
        match (self.flaw.property, self.value()) {
            (None, None) => Ok(()),
            (None, Some(value)) => write!(f, ": {value} ({value:#04x})"),
            (Some(property), None) => write!(f, ": {}", property.name()),
            (Some(property), Some(value)) => write!(f, ": {} is {value} ({value:#04x})", property.name()),
        }?;
        write!(f, " [{}]", self.rule())
    }
}

impl core::error::Error for DecodeError {}

/// Why a packet cannot be written: the caller who built it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A text or binary field of more than 65,535 bytes `[MQTT-4.7.3-3]`.
    FieldTooLong {
        /// In which packet.
        packet: PacketType,
        /// Which field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A text with U+0000 `[MQTT-1.5.4-2]`.
    Nul {
        /// In which packet.
        packet: PacketType,
        /// Which field.
        field: &'static str,
        /// Where it stands, in bytes.
        at: usize,
    },
    /// A text that is no topic name or no topic filter.
    Topic {
        /// In which packet.
        packet: PacketType,
        /// Which field.
        field: &'static str,
        /// The rule that it breaks.
        error: TopicError,
    },
    /// A client identifier of more than 23 characters, which is all that 3.1 allows (3.1, section 3.1).
    ClientIdentifierTooLong {
        /// How many characters it has.
        characters: usize,
    },
    /// The remaining length would be above 268,435,455.
    PacketTooLarge {
        /// Which packet.
        packet: PacketType,
        /// The remaining length that it would need.
        remaining: usize,
    },
    /// A QoS 1 or 2 PUBLISH without a packet identifier `[MQTT-2.2.1-3]`.
    PacketIdMissing {
        /// Its QoS.
        qos: QoS,
    },
    /// A QoS 0 PUBLISH with a packet identifier `[MQTT-2.2.1-2]`.
    PacketIdSuperfluous {
        /// The identifier.
        packet_id: PacketId,
    },
    /// A QoS 0 PUBLISH with DUP `[MQTT-3.3.1-2]`.
    DupWithoutQoS,
    /// A packet that the version does not have.
    NotInVersion {
        /// Which packet.
        packet: PacketType,
        /// In which version.
        version: ProtocolVersion,
    },
    /// A reason code that the packet cannot say, in this version or at all.
    Reason {
        /// In which packet.
        packet: PacketType,
        /// Which code.
        reason: ReasonCode,
        /// In which version.
        version: ProtocolVersion,
    },
    /// SUBACK, or UNSUBACK in 5.0, without a reason code.
    NoReasonCodes {
        /// Which packet.
        packet: PacketType,
    },
    /// A CONNACK that refuses and says that the session is present `[MQTT-3.2.2-6]`.
    SessionPresentWithRefusal,
    /// A property of another packet (5.0, section 2.2.2.2).
    PropertyMisplaced {
        /// In which packet.
        packet: PacketType,
        /// Which property.
        property: PropertyId,
    },
    /// A property that stands twice and may not in this packet.
    PropertyRepeated {
        /// In which packet.
        packet: PacketType,
        /// Which property.
        property: PropertyId,
    },
    /// Authentication data, or an AUTH, without an authentication method (5.0, section 3.15.2.2.2).
    AuthenticationMethodMissing {
        /// In which packet.
        packet: PacketType,
    },
    /// A password without a user name before 5.0 (3.1.1 `[MQTT-3.1.2-22]`).
    PasswordWithoutUserName {
        /// In which version.
        version: ProtocolVersion,
    },
    /// No Local on a shared subscription `[MQTT-3.8.3-4]`.
    NoLocalShared,
    /// SUBSCRIBE or UNSUBSCRIBE without a topic filter `[MQTT-3.8.3-2] [MQTT-3.10.3-2]`.
    NoFilters {
        /// Which packet.
        packet: PacketType,
    },
}

impl EncodeError {
    /// The packet that cannot be written.
    pub const fn packet(&self) -> PacketType {
        match self {
            Self::FieldTooLong { packet, .. }
            | Self::Nul { packet, .. }
            | Self::Topic { packet, .. }
            | Self::PacketTooLarge { packet, .. }
            | Self::NotInVersion { packet, .. }
            | Self::Reason { packet, .. }
            | Self::NoReasonCodes { packet }
            | Self::PropertyMisplaced { packet, .. }
            | Self::PropertyRepeated { packet, .. }
            | Self::AuthenticationMethodMissing { packet }
            | Self::NoFilters { packet } => *packet,
            Self::PacketIdMissing { .. } | Self::PacketIdSuperfluous { .. } | Self::DupWithoutQoS => {
                PacketType::Publish
            }
            Self::SessionPresentWithRefusal => PacketType::ConnAck,
            Self::PasswordWithoutUserName { .. } | Self::ClientIdentifierTooLong { .. } => {
                PacketType::Connect
            }
            Self::NoLocalShared => PacketType::Subscribe,
        }
    }

    /// The field to blame, in the words of the specification.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::FieldTooLong { field, .. } | Self::Nul { field, .. } | Self::Topic { field, .. } => field,
            Self::ClientIdentifierTooLong { .. } => "client identifier",
            Self::PacketTooLarge { .. } => "remaining length",
            Self::PacketIdMissing { .. } | Self::PacketIdSuperfluous { .. } => "packet identifier",
            Self::DupWithoutQoS => "DUP flag",
            Self::NotInVersion { .. } => "packet type",
            Self::Reason { .. } | Self::NoReasonCodes { .. } => "reason code",
            Self::SessionPresentWithRefusal => "session present",
            Self::PropertyMisplaced { property, .. } | Self::PropertyRepeated { property, .. } => {
                property.name()
            }
            Self::AuthenticationMethodMissing { .. } => "authentication method",
            Self::PasswordWithoutUserName { .. } => "password",
            Self::NoLocalShared => "subscription options",
            Self::NoFilters { .. } => "topic filter",
        }
    }

    /// The rule that the packet would break: its number in 5.0, or the section where it has none. Rules that only
    /// earlier versions have are named with their version.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::FieldTooLong { .. } => "5.0 section 1.5",
            Self::Nul { .. } => "MQTT-1.5.4-2",
            Self::Topic { error, .. } => error.rule(),
            Self::ClientIdentifierTooLong { .. } => "3.1 section 3.1",
            Self::PacketTooLarge { .. } => "5.0 section 2.1.4",
            Self::PacketIdMissing { .. } => "MQTT-2.2.1-3",
            Self::PacketIdSuperfluous { .. } => "MQTT-2.2.1-2",
            Self::DupWithoutQoS => "MQTT-3.3.1-2",
            Self::NotInVersion { .. } => "3.1.1 section 2.2.1",
            Self::Reason { .. } => "5.0 section 2.4",
            Self::NoReasonCodes { .. } => "MQTT-3.8.4-6",
            Self::SessionPresentWithRefusal => "MQTT-3.2.2-6",
            Self::PropertyMisplaced { .. } | Self::PropertyRepeated { .. } => "5.0 section 2.2.2.2",
            Self::AuthenticationMethodMissing { .. } => "5.0 section 3.15.2.2.2",
            Self::PasswordWithoutUserName { .. } => "3.1.1 MQTT-3.1.2-22",
            Self::NoLocalShared => "MQTT-3.8.3-4",
            Self::NoFilters { .. } => "MQTT-3.8.3-2, MQTT-3.10.3-2",
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.packet())?;
        match self {
            Self::FieldTooLong { field, bytes, .. } => {
                write!(f, "the {field} has at most 65,535 bytes, this one has {bytes}")
            }
            Self::Nul { field, at, .. } => write!(f, "the {field} never holds U+0000, as here at byte {at}"),
            Self::Topic { field, error, .. } => return write!(f, "{field}: {error}"),
            Self::ClientIdentifierTooLong { characters } => write!(
                f,
                "the client identifier has at most 23 characters in MQTT 3.1, this one has {characters}"
            ),
            Self::PacketTooLarge { remaining, .. } => {
                write!(f, "the remaining length is at most 268,435,455 bytes, this one is {remaining}")
            }
            Self::PacketIdMissing { qos } => {
                write!(f, "QoS {} needs a packet identifier", qos.to_u8())
            }
            Self::PacketIdSuperfluous { packet_id } => {
                write!(f, "QoS 0 has no packet identifier, this one has {packet_id}")
            }
            Self::DupWithoutQoS => f.write_str("the DUP flag is 1, which it never is at QoS 0"),
            Self::NotInVersion { version, .. } => write!(f, "MQTT {version} does not have this packet type"),
            Self::Reason { reason, version, .. } => {
                write!(f, "MQTT {version} has no reason code \"{reason}\" here")
            }
            Self::NoReasonCodes { .. } => f.write_str("there is no reason code"),
            Self::SessionPresentWithRefusal => {
                f.write_str("session present is 1, which it never is in a refusal")
            }
            Self::PropertyMisplaced { property, .. } => {
                write!(f, "{} does not belong to this packet", property.name())
            }
            Self::PropertyRepeated { property, .. } => write!(f, "{} may stand only once", property.name()),
            Self::AuthenticationMethodMissing { .. } => f.write_str("the authentication method is missing"),
            Self::PasswordWithoutUserName { version } => {
                write!(f, "MQTT {version} has no password without a user name")
            }
            Self::NoLocalShared => {
                f.write_str("the subscription options have No Local on a shared subscription")
            }
            Self::NoFilters { .. } => f.write_str("there is no topic filter"),
        }?;
        write!(f, " [{}]", self.rule())
    }
}

impl core::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_error_says_packet_fault_and_rule_in_one_line() {
        let error = DecodeError::new(Some(PacketType::Publish), Fault::TopicWildcard);
        assert_eq!(error.to_string(), "PUBLISH: topic name holds a wildcard [MQTT-3.3.2-2]");
        assert_eq!(error.packet(), Some(PacketType::Publish));
        let error = DecodeError::new(None, Fault::PacketTypeZero);
        assert_eq!(error.packet(), None);
        assert_eq!(error.to_string(), "packet type 0 is reserved [5.0 section 2.1.2]");
        let error = EncodeError::PacketIdMissing { qos: QoS::AtLeastOnce };
        assert_eq!(error.to_string(), "PUBLISH: QoS 1 needs a packet identifier [MQTT-2.2.1-3]");
    }

    #[test]
    fn an_error_of_the_callers_names_packet_and_field() {
        let (packet, version) = (PacketType::Subscribe, ProtocolVersion::V3_1_1);
        let expiry = PropertyId::SessionExpiryInterval;
        for (error, blamed) in [
            (EncodeError::Nul { packet, field: "topic filter", at: 0 }, "topic filter"),
            (EncodeError::PacketTooLarge { packet, remaining: 0 }, "remaining length"),
            (EncodeError::NotInVersion { packet, version }, "packet type"),
            (EncodeError::NoReasonCodes { packet }, "reason code"),
            (EncodeError::PropertyMisplaced { packet, property: expiry }, expiry.name()),
            (EncodeError::PropertyRepeated { packet, property: expiry }, expiry.name()),
            (EncodeError::AuthenticationMethodMissing { packet }, "authentication method"),
            (EncodeError::NoLocalShared, "subscription options"),
            (EncodeError::NoFilters { packet }, "topic filter"),
        ] {
            assert_eq!((error.packet(), error.field()), (packet, blamed));
        }
        for (error, packet, blamed) in [
            (
                EncodeError::PacketIdMissing { qos: QoS::AtLeastOnce },
                PacketType::Publish,
                "packet identifier",
            ),
            (
                EncodeError::PacketIdSuperfluous { packet_id: PacketId::MIN },
                PacketType::Publish,
                "packet identifier",
            ),
            (EncodeError::DupWithoutQoS, PacketType::Publish, "DUP flag"),
            (EncodeError::SessionPresentWithRefusal, PacketType::ConnAck, "session present"),
            (EncodeError::PasswordWithoutUserName { version }, PacketType::Connect, "password"),
            (
                EncodeError::ClientIdentifierTooLong { characters: 24 },
                PacketType::Connect,
                "client identifier",
            ),
        ] {
            assert_eq!((error.packet(), error.field()), (packet, blamed));
        }
    }

    #[test]
    fn a_fault_is_one_byte_and_names_a_rule_and_a_failure() {
        assert_eq!(size_of::<Fault>(), 1);
        assert_eq!(size_of::<Flaw>(), 8);
        // With pointers of 32 bits it takes one word more than that of a fault alone.
        #[cfg(target_pointer_width = "64")]
        assert_eq!(size_of::<nom::Err<Flaw>>(), size_of::<nom::Err<Fault>>());
        for fault in Fault::ALL {
            assert!(fault.reason().is_failure() && !fault.field().is_empty());
            assert!(fault.rule().contains("MQTT-") || fault.rule().contains("section"), "{fault}");
        }
    }
}
