//! Owns one connection as it can be seen on the wire: how far the handshake is, and what both sides agreed to.
//! It must not know the session.

use std::collections::BTreeMap;

use bytes::BytesMut;
use mqtt_machine::packet::{
    AckKind, ConnAck, Connect, Packet, PacketType, Properties, Property, PropertyId, Publish, Sender, Topic,
};
use mqtt_machine::wire::{self, FrameHeader};
use mqtt_machine::{Config, Message, ProtocolVersion, QoS, TransportId};

use super::incoming::alias_of;
use super::{Findings, Invariant};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was written.
    Open,
    /// CONNECT was written.
    Greeted,
    /// A CONNACK accepted the client.
    Established,
    /// DISCONNECT is decided on: nothing that comes counts any more.
    Closing,
}

/// One open transport.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) id: TransportId,
    pub(super) stage: Stage,
    pub(super) version: ProtocolVersion,
    pub(super) clean_start: bool,
    method: Option<String>,
    pub(super) receive_maximum: usize,
    maximum_packet_size: usize,
    maximum_qos: QoS,
    retain_available: bool,
    /// The server has Subscription Identifiers.
    pub(super) has_identifiers: bool,
    alias_maximum: u16,
    aliases: BTreeMap<u16, String>,
    /// DISCONNECT was written.
    over: bool,
    pub(super) written: u64,
    pub(super) handed: u64,
}

/// The first text of a property.
fn method_of(properties: Properties<'_>) -> Option<&str> {
    match properties.find(PropertyId::AuthenticationMethod) {
        Some(Property::AuthenticationMethod(method)) => Some(method),
        _ => None,
    }
}

impl Wire {
    pub(super) fn new(id: TransportId, config: &Config) -> Self {
        Self {
            id,
            stage: Stage::Open,
            version: config.version,
            clean_start: false,
            method: None,
            receive_maximum: usize::from(u16::MAX),
            maximum_packet_size: usize::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            has_identifiers: false,
            alias_maximum: 0,
            aliases: BTreeMap::new(),
            over: false,
            written: 0,
            handed: 0,
        }
    }

    /// Splits what was written into packets.
    pub(super) fn frames(bytes: &mut BytesMut, findings: &mut Findings) -> Vec<BytesMut> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            match wire::frame_header(bytes, u32::MAX) {
                Ok(Some(header)) if header.frame_len() <= bytes.len() => {
                    frames.push(bytes.split_to(header.frame_len()));
                }
                _ => {
                    findings.report(Invariant::Wire, format!("what was written ends in {bytes:?}"));
                    bytes.clear();
                }
            }
        }
        frames
    }

    /// The packet in a frame from the client.
    pub(super) fn decode<'a>(&self, frame: &'a [u8], findings: &mut Findings) -> Option<Packet<'a>> {
        match wire::decode(frame, self.version, Sender::Client) {
            Ok(packet) => Some(packet),
            Err(error) => {
                findings.report(Invariant::Wire, format!("what was written is no packet: {error}"));
                None
            }
        }
    }

    /// The header of the first frame of what was read; `Err` when it breaks a rule, `Ok(None)` when it is not whole.
    pub(super) fn header(bytes: &[u8], most: u32) -> Result<Option<FrameHeader>, ()> {
        match wire::frame_header(bytes, most) {
            Ok(header) => Ok(header.filter(|header| header.frame_len() <= bytes.len())),
            Err(_) => Err(()),
        }
    }

    /// A packet was written that ends at `written`.
    pub(super) fn sees(&mut self, packet: &Packet<'_>, length: usize, findings: &mut Findings) {
        self.written += length as u64;
        let kind = packet.packet_type();
        let may = match self.stage {
            _ if self.over => false,
            Stage::Open => kind == PacketType::Connect,
            Stage::Greeted => matches!(kind, PacketType::Auth | PacketType::Disconnect),
            Stage::Established | Stage::Closing => kind != PacketType::Connect,
        };
        findings.ensure(may, Invariant::Wire, || {
            format!("{kind} was written, and the connection is {:?} (over: {})", self.stage, self.over)
        });
        let limited = matches!(kind, PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe);
        findings.ensure(!limited || length <= self.maximum_packet_size, Invariant::Wire, || {
            format!("{kind} of {length} bytes, and the server takes {}", self.maximum_packet_size)
        });
        match packet {
            Packet::Connect(connect) => self.greets(connect),
            Packet::Publish(publish) => self.publishes(publish, findings),
            Packet::Disconnect(_) => self.over = true,
            _ => {}
        }
    }

    fn greets(&mut self, connect: &Connect<'_>) {
        self.stage = Stage::Greeted;
        self.version = connect.version;
        self.clean_start = connect.clean_start;
        self.method = method_of(connect.properties).map(str::to_owned);
    }

    fn publishes(&mut self, publish: &Publish<'_>, findings: &mut Findings) {
        let alias = alias_of(publish.properties);
        let known = match alias {
            None => !publish.topic.is_empty(),
            Some(alias) if alias == 0 || alias > self.alias_maximum => false,
            Some(alias) if publish.topic.is_empty() => self.aliases.contains_key(&alias),
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_string());
                true
            }
        };
        findings.ensure(known, Invariant::Aliases, || {
            format!("a PUBLISH uses the alias {alias:?}, which the server does not know")
        });
        let allowed = publish.qos <= self.maximum_qos && (self.retain_available || !publish.retain);
        findings.ensure(allowed, Invariant::Wire, || {
            format!("a PUBLISH of QoS {} (retain: {}) to a server without", publish.qos, publish.retain)
        });
    }

    /// CONNACK came: whether the connection is established. What it breaks, or refuses, ends the connection.
    pub(super) fn answered(&mut self, connack: &ConnAck<'_>) -> bool {
        if connack.reason.is_failure()
            || (connack.session_present && self.clean_start)
            || method_of(connack.properties) != self.method.as_deref()
        {
            return false;
        }
        self.stage = Stage::Established;
        self.has_identifiers = self.version == ProtocolVersion::V5;
        for property in connack.properties {
            match property {
                Property::ReceiveMaximum(most) => self.receive_maximum = usize::from(most),
                Property::MaximumPacketSize(most) => self.maximum_packet_size = most as usize,
                Property::MaximumQoS(most) => {
                    self.maximum_qos = QoS::from_u8(most).unwrap_or(QoS::ExactlyOnce);
                }
                Property::RetainAvailable(available) => self.retain_available = available,
                Property::SubscriptionIdentifierAvailable(available) => self.has_identifiers = available,
                Property::TopicAliasMaximum(most) => self.alias_maximum = most,
                _ => {}
            }
        }
        true
    }

    /// Whether AUTH may come: the client named its method.
    pub(super) fn may_authenticate(&self, properties: Properties<'_>) -> bool {
        self.method.is_some() && method_of(properties) == self.method.as_deref()
    }

    /// Bytes of the topics that aliases of the client stand for. The client finds each by the other, so that it has both twice.
    pub(super) fn alias_bytes(&self) -> usize {
        2 * self.aliases.values().map(String::len).sum::<usize>()
    }

    /// The topic of a PUBLISH that was written, alias or not.
    pub(super) fn topic_of<'a>(&'a self, publish: &Publish<'a>) -> Topic<'a> {
        let alias = alias_of(publish.properties).filter(|_| publish.topic.is_empty());
        alias
            .and_then(|alias| self.aliases.get(&alias))
            .map_or(publish.topic, |topic| Topic::new(topic).unwrap_or_default())
    }

    /// The highest QoS that the connected server takes.
    pub(super) const fn maximum_qos(&self) -> QoS {
        self.maximum_qos
    }

    /// Whether the connected server takes this message, perhaps with less than it asks for.
    pub(super) fn takes(&self, message: &Message, lowered: bool) -> bool {
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: (&message.topic).into(),
            packet_id: (message.qos != QoS::AtMostOnce).then_some(mqtt_machine::PacketId::MIN),
            properties: message.properties.as_properties(),
            payload: &message.payload,
        };
        (lowered || message.qos <= self.maximum_qos)
            && (lowered || self.retain_available || !message.retain)
            && wire::encoded_len(&Packet::Publish(publish), self.version)
                .is_ok_and(|length| length <= self.maximum_packet_size)
    }
}

/// Whether an acknowledgement is one for what arrived, rather than for what the client sent.
pub(super) const fn is_receivers(kind: AckKind) -> bool {
    !matches!(kind, AckKind::PubRel)
}
