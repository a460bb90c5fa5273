//! Owns the reason codes of MQTT 5.0 and what the return codes of MQTT 3.x mean in their terms.
//! It must not know which packet a code arrived in beyond the table of where each is legal.

use core::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// A reason code of MQTT 5.0 (section 2.4), also used for the return codes of MQTT 3.x.
        ///
        /// Values below 0x80 are successes, the rest are failures. `Display` prints the specification's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code with this value, if the specification defines one.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The specification's name of the code.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; also "Normal disconnection" and "Granted QoS 0".
    Success = 0x00, "Success";
    /// The subscription was accepted with QoS 1 at most.
    GrantedQoS1 = 0x01, "Granted QoS 1";
    /// The subscription was accepted with QoS 2 at most.
    GrantedQoS2 = 0x02, "Granted QoS 2";
    /// The client disconnects but wants its will published.
    DisconnectWithWill = 0x04, "Disconnect with Will Message";
    /// The message was accepted, and nobody is subscribed to its topic.
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    /// There was no such subscription to remove.
    NoSubscriptionExisted = 0x11, "No subscription existed";
    /// The authentication exchange goes on.
    ContinueAuthentication = 0x18, "Continue authentication";
    /// The client starts a re-authentication.
    ReAuthenticate = 0x19, "Re-authenticate";
    /// A failure that the sender will not or cannot describe.
    UnspecifiedError = 0x80, "Unspecified error";
    /// The packet could not be parsed.
    MalformedPacket = 0x81, "Malformed Packet";
    /// The packet was well formed and not legal here.
    ProtocolError = 0x82, "Protocol Error";
    /// Valid, but not accepted by this implementation.
    ImplementationSpecificError = 0x83, "Implementation specific error";
    /// The server does not speak the version asked for.
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    /// The client identifier is not allowed.
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    /// User name or password not accepted.
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    /// Not authorized.
    NotAuthorized = 0x87, "Not authorized";
    /// The server is not available.
    ServerUnavailable = 0x88, "Server unavailable";
    /// The server is busy; try again later.
    ServerBusy = 0x89, "Server busy";
    /// This client has been banned.
    Banned = 0x8A, "Banned";
    /// The server is shutting down.
    ServerShuttingDown = 0x8B, "Server shutting down";
    /// The authentication method is not supported or not the one in use.
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    /// Nothing was received for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    /// Another connection uses this client identifier now.
    SessionTakenOver = 0x8E, "Session taken over";
    /// The topic filter is well formed and not accepted.
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    /// The topic name is well formed and not accepted.
    TopicNameInvalid = 0x90, "Topic Name invalid";
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    /// More unacknowledged publications than the Receive Maximum allows.
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    /// A topic alias of zero or above the maximum.
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    /// The packet is larger than the receiver accepts.
    PacketTooLarge = 0x95, "Packet too large";
    /// The receiver gets messages faster than it wants them.
    MessageRateTooHigh = 0x96, "Message rate too high";
    /// An implementation's or administrator's limit was exceeded.
    QuotaExceeded = 0x97, "Quota exceeded";
    /// Closed by an administrator.
    AdministrativeAction = 0x98, "Administrative action";
    /// The payload is not in the format that it claims.
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    /// The server does not keep retained messages.
    RetainNotSupported = 0x9A, "Retain not supported";
    /// The QoS is above the server's Maximum QoS.
    QoSNotSupported = 0x9B, "QoS not supported";
    /// Use another server for now.
    UseAnotherServer = 0x9C, "Use another server";
    /// Use another server from now on.
    ServerMoved = 0x9D, "Server moved";
    /// The server does not do shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    /// Too many connections in a short time.
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    /// The connection lasted as long as it may.
    MaximumConnectTime = 0xA0, "Maximum connect time";
    /// The server does not do Subscription Identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    /// The server does not do wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// The value on the wire.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// True for values of 0x80 and above.
    pub const fn is_failure(self) -> bool {
        self.to_u8() >= 0x80
    }

    /// What a CONNACK return code of MQTT 3.1 or 3.1.1 means (3.1.1 table 3.1); `None` when it is reserved.
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 for this reason; `None` when they have none.
    pub const fn to_connect_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized => Some(5),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), self.to_u8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_value_and_prints_its_name() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(code.to_u8()), Some(*code));
        }
        assert_eq!(
            alloc::format!("{}", ReasonCode::PacketIdentifierInUse),
            "Packet Identifier in use (0x91)"
        );
        assert_eq!(ReasonCode::from_u8(0x03), None);
    }

    #[test]
    fn return_codes_of_3_1_1_map_both_ways() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connect_return_code(code).unwrap();
            assert_eq!(reason.to_connect_return_code(), Some(code));
        }
        assert_eq!(ReasonCode::from_connect_return_code(6), None);
    }
}
