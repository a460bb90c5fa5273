//! Owns the form of a packet that keeps what it says: the core's packets borrow.
//! It must not know how a packet is made up or written.

use core::fmt;

use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PropertiesBuf, Publish, ReasonCodes, SubAck,
    Subscribe, SubscribeFilter, Topic, UnsubAck, Unsubscribe, Will,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions};

/// A [`Packet`] that owns what it says; the fields are those of the packets.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the packets of the core document every field")]
pub enum OwnedPacket {
    Connect(Box<OwnedConnect>),
    ConnAck { session_present: bool, reason: ReasonCode, properties: PropertiesBuf },
    Publish(OwnedPublish),
    Ack { kind: AckKind, packet_id: PacketId, reason: ReasonCode, properties: PropertiesBuf },
    Subscribe { packet_id: PacketId, properties: PropertiesBuf, filters: Vec<(String, SubscriptionOptions)> },
    SubAck { packet_id: PacketId, properties: PropertiesBuf, codes: OwnedCodes },
    Unsubscribe { packet_id: PacketId, properties: PropertiesBuf, filters: Vec<String> },
    UnsubAck { packet_id: PacketId, properties: PropertiesBuf, codes: OwnedCodes },
    PingReq,
    PingResp,
    Disconnect { reason: ReasonCode, properties: PropertiesBuf },
    Auth { reason: ReasonCode, properties: PropertiesBuf },
}

/// A [`Connect`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the packet of the core documents every field")]
pub struct OwnedConnect {
    pub version: ProtocolVersion,
    pub bridge: bool,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub client_id: String,
    pub will: Option<OwnedWill>,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub properties: PropertiesBuf,
}

/// A [`Will`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the packet of the core documents every field")]
pub struct OwnedWill {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub properties: PropertiesBuf,
}

/// A [`Publish`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the packet of the core documents every field")]
pub struct OwnedPublish {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub topic: String,
    pub packet_id: Option<PacketId>,
    pub properties: PropertiesBuf,
    pub payload: Vec<u8>,
}

impl OwnedPublish {
    /// The packet, borrowed. Its topic is empty when it is none.
    pub fn publish(&self) -> Publish<'_> {
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: Topic::new(&self.topic).unwrap_or_default(),
            packet_id: self.packet_id,
            properties: self.properties.as_properties(),
            payload: &self.payload,
        }
    }
}

impl OwnedConnect {
    /// A copy that owns what it says.
    pub fn from_connect(connect: &Connect<'_>) -> Self {
        Self {
            version: connect.version,
            bridge: connect.bridge,
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            client_id: connect.client_id.to_owned(),
            will: connect.will.as_ref().map(|will| OwnedWill {
                topic: will.topic.to_owned(),
                payload: will.payload.to_vec(),
                qos: will.qos,
                retain: will.retain,
                properties: PropertiesBuf::copy_from(will.properties),
            }),
            username: connect.username.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            properties: PropertiesBuf::copy_from(connect.properties),
        }
    }

    /// The packet, borrowed.
    pub fn connect(&self) -> Connect<'_> {
        Connect {
            version: self.version,
            bridge: self.bridge,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                topic: &will.topic,
                payload: &will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: will.properties.as_properties(),
            }),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: self.properties.as_properties(),
        }
    }
}

/// Reason codes in the form in which packets hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedCodes(Vec<u8>);

impl OwnedCodes {
    /// These codes.
    pub fn new(codes: impl IntoIterator<Item = ReasonCode>) -> Self {
        Self(codes.into_iter().map(ReasonCode::to_u8).collect())
    }

    /// The codes, borrowed.
    pub fn codes(&self) -> ReasonCodes<'_> {
        ReasonCodes::from_bytes(&self.0).unwrap_or(ReasonCodes::EMPTY)
    }
}

impl OwnedPacket {
    /// A copy of a packet that owns what it says.
    pub fn from_packet(packet: &Packet<'_>) -> Self {
        let copy = PropertiesBuf::copy_from;
        match packet {
            Packet::Connect(connect) => Self::Connect(Box::new(OwnedConnect::from_connect(connect))),
            Packet::ConnAck(packet) => Self::ConnAck {
                session_present: packet.session_present,
                reason: packet.reason,
                properties: copy(packet.properties),
            },
            Packet::Publish(publish) => Self::Publish(OwnedPublish {
                dup: publish.dup,
                qos: publish.qos,
                retain: publish.retain,
                topic: publish.topic.to_string(),
                packet_id: publish.packet_id,
                properties: copy(publish.properties),
                payload: publish.payload.to_vec(),
            }),
            Packet::Ack(ack) => Self::Ack {
                kind: ack.kind,
                packet_id: ack.packet_id,
                reason: ack.reason,
                properties: copy(ack.properties),
            },
            Packet::Subscribe(packet) => Self::Subscribe {
                packet_id: packet.packet_id,
                properties: copy(packet.properties),
                filters: packet.filters.iter().map(|one| (one.filter.to_owned(), one.options)).collect(),
            },
            Packet::SubAck(packet) => Self::SubAck {
                packet_id: packet.packet_id,
                properties: copy(packet.properties),
                codes: OwnedCodes::new(packet.codes.iter()),
            },
            Packet::Unsubscribe(packet) => Self::Unsubscribe {
                packet_id: packet.packet_id,
                properties: copy(packet.properties),
                filters: packet.filters.iter().map(|filter| (*filter).to_owned()).collect(),
            },
            Packet::UnsubAck(packet) => Self::UnsubAck {
                packet_id: packet.packet_id,
                properties: copy(packet.properties),
                codes: OwnedCodes::new(packet.codes.iter()),
            },
            Packet::PingReq => Self::PingReq,
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(packet) => {
                Self::Disconnect { reason: packet.reason, properties: copy(packet.properties) }
            }
            Packet::Auth(packet) => Self::Auth { reason: packet.reason, properties: copy(packet.properties) },
        }
    }

    /// The packet, borrowed.
    pub fn packet(&self) -> Packet<'_> {
        match self {
            Self::Connect(connect) => Packet::Connect(connect.connect()),
            Self::ConnAck { session_present, reason, properties } => Packet::ConnAck(ConnAck {
                session_present: *session_present,
                reason: *reason,
                properties: properties.as_properties(),
            }),
            Self::Publish(publish) => Packet::Publish(publish.publish()),
            Self::Ack { kind, packet_id, reason, properties } => Packet::Ack(Ack {
                kind: *kind,
                packet_id: *packet_id,
                reason: *reason,
                properties: properties.as_properties(),
            }),
            Self::Subscribe { packet_id, properties, filters } => Packet::Subscribe(Subscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters
                    .iter()
                    .map(|(filter, options)| SubscribeFilter { filter, options: *options })
                    .collect(),
            }),
            Self::SubAck { packet_id, properties, codes } => Packet::SubAck(SubAck {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                codes: codes.codes(),
            }),
            Self::Unsubscribe { packet_id, properties, filters } => Packet::Unsubscribe(Unsubscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters.iter().map(String::as_str).collect(),
            }),
            Self::UnsubAck { packet_id, properties, codes } => Packet::UnsubAck(UnsubAck {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                codes: codes.codes(),
            }),
            Self::PingReq => Packet::PingReq,
            Self::PingResp => Packet::PingResp,
            Self::Disconnect { reason, properties } => {
                Packet::Disconnect(Disconnect { reason: *reason, properties: properties.as_properties() })
            }
            Self::Auth { reason, properties } => {
                Packet::Auth(Auth { reason: *reason, properties: properties.as_properties() })
            }
        }
    }

    /// The version that its bytes are to be read by on a connection of `version`: a CONNECT carries its own.
    pub fn version_on(&self, version: ProtocolVersion) -> ProtocolVersion {
        if let Self::Connect(connect) = self { connect.version } else { version }
    }
}

impl fmt::Debug for OwnedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet().fmt(f)
    }
}
