//! Owns what MQTT says: one model of the 15 control packets for 3.1, 3.1.1 and 5.0.
//! It must not know how a packet is written, nor whether it is legal at this moment.
//!
//! A packet borrows its text, payload and properties from the frame it was decoded from, or from the caller that
//! encodes it. Fields that a version does not know are empty when decoded from it and not written when encoded for it.

mod property;
mod topic;

use alloc::vec::Vec;
use core::fmt;

pub use property::{Properties, PropertiesBuf, PropertiesIter, Property, PropertyId};
pub use topic::Topic;

use crate::reason::ReasonCode;
use crate::types::{PacketId, ProtocolVersion, QoS, SubscriptionOptions};

/// Who sends a packet: some packets, properties and reason codes belong to one side only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The client: CONNECT, SUBSCRIBE, PINGREQ ...
    Client,
    /// The server: CONNACK, SUBACK, PINGRESP ...
    Server,
}

/// The 15 control packet types (5.0, section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Connection request, from the client.
    Connect = 1,
    /// Connect acknowledgement, from the server.
    ConnAck = 2,
    /// Publish message, both ways.
    Publish = 3,
    /// Publish acknowledgement (QoS 1), both ways.
    PubAck = 4,
    /// Publish received (QoS 2, part 1), both ways.
    PubRec = 5,
    /// Publish release (QoS 2, part 2), both ways.
    PubRel = 6,
    /// Publish complete (QoS 2, part 3), both ways.
    PubComp = 7,
    /// Subscribe request, from the client.
    Subscribe = 8,
    /// Subscribe acknowledgement, from the server.
    SubAck = 9,
    /// Unsubscribe request, from the client.
    Unsubscribe = 10,
    /// Unsubscribe acknowledgement, from the server.
    UnsubAck = 11,
    /// Ping request, from the client.
    PingReq = 12,
    /// Ping response, from the server.
    PingResp = 13,
    /// Disconnect notification, both ways in 5.0, from the client before.
    Disconnect = 14,
    /// Authentication exchange, both ways, 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in the upper four bits of a packet's first byte; `None` for 0.
    pub const fn from_first_byte(byte: u8) -> Option<Self> {
        Some(match byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The specification's name, in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Any control packet.
// With a tag of its own: one in a niche of the largest packet takes five instructions more at every match.
#[repr(u8)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the packet that its type documents")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Its type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::Ack(ack) => ack.kind.packet_type(),
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT (section 3.1). It carries its own version: a server learns it here.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the rest of the connection speaks.
    pub version: ProtocolVersion,
    /// mosquitto's bridge bit (0x80) in the protocol level; 3.1 and 3.1.1 only.
    pub bridge: bool,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// The keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The client identifier; empty asks the server for one.
    pub client_id: &'a str,
    /// The will message, if any.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password. Without a user name only in 5.0 `[MQTT-3.1.2-22]` of 3.1.1.
    pub password: Option<&'a [u8]>,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with a clean start, a keep alive of 60 s and nothing else.
    pub const fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 60,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        }
    }
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username.is_some())
            .field("password", &self.password.is_some())
            .field("properties", &self.properties)
            .finish()
    }
}

/// The will message within a CONNECT (section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where the will is published.
    pub topic: &'a str,
    /// What is published.
    pub payload: &'a [u8],
    /// With which QoS.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// 5.0 will properties.
    pub properties: Properties<'a>,
}

/// CONNACK (section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// The server kept the session. Not on the wire in 3.1.
    pub session_present: bool,
    /// The connect reason code; the return codes of 3.x in the terms of 5.0.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// PUBLISH (section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Perhaps sent before.
    pub dup: bool,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name; empty only in 5.0 with a topic alias.
    pub topic: Topic<'a>,
    /// Present exactly when the QoS is not 0 `[MQTT-2.2.1-2]`.
    pub packet_id: Option<PacketId>,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// The application message.
    pub payload: &'a [u8],
}

/// Which of the four acknowledgements an [`Ack`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named like the packets")]
#[repr(u8)]
pub enum AckKind {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

impl AckKind {
    /// The packet type.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }

    /// The first byte of the packet: its type, and the flags that belong to it.
    #[inline]
    pub(crate) const fn first_byte(self) -> u8 {
        self as u8
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7): the same fields under four names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Which of the four.
    pub kind: AckKind,
    /// Which message.
    pub packet_id: PacketId,
    /// The reason code; `Success` in 3.x, which has none.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement with `Success` and no properties.
    pub const fn new(kind: AckKind, packet_id: PacketId) -> Self {
        Self { kind, packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
    }
}

/// One topic filter of a [`Subscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// The topic filter.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscriptionOptions,
}

/// SUBSCRIBE (section 3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Names the request.
    pub packet_id: PacketId,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// At least one `[MQTT-3.8.3-2]`.
    pub filters: Vec<SubscribeFilter<'a>>,
}

/// UNSUBSCRIBE (section 3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Names the request.
    pub packet_id: PacketId,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// At least one `[MQTT-3.10.3-2]`.
    pub filters: Vec<&'a str>,
}

/// SUBACK (section 3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Which request.
    pub packet_id: PacketId,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// One code for each filter, in the order of the request `[MQTT-3.9.3-1]`.
    pub codes: ReasonCodes<'a>,
}

/// UNSUBACK (section 3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Which request.
    pub packet_id: PacketId,
    /// 5.0 properties.
    pub properties: Properties<'a>,
    /// One code for each filter `[MQTT-3.11.3-1]`; empty in 3.x, which has none.
    pub codes: ReasonCodes<'a>,
}

/// DISCONNECT (section 3.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; `Success` in 3.x, which has no code.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// AUTH (section 3.15), 5.0 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

/// A list of defined reason codes, as bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReasonCodes<'a>(&'a [u8]);

impl<'a> ReasonCodes<'a> {
    /// No codes.
    pub const EMPTY: Self = Self(&[]);

    /// A list of codes; `None` when a byte is not a defined reason code.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        bytes.iter().all(|byte| ReasonCode::from_u8(*byte).is_some()).then_some(Self(bytes))
    }

    /// Takes bytes that [`wire`](crate::wire) has already validated.
    pub(crate) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The codes as bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The codes, in order.
    pub fn iter(self) -> impl Iterator<Item = ReasonCode> + 'a {
        self.0.iter().filter_map(|byte| ReasonCode::from_u8(*byte))
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
