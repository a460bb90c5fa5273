//! Owns the memory of what happened at the broker, for tests to assert on.
//! It must not know what a test expects.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mqtt_machine::packet::{Packet, PacketType, Sender};
use mqtt_machine::{Instant, PacketId, QoS, ReasonCode, TopicName};

use super::ConnId;

/// A message that the broker accepted for delivery. One of QoS 2 that is sent again is not accepted again.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// When.
    pub at: Instant,
    /// Who published it.
    pub client_id: Arc<str>,
    /// Where.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// With which QoS.
    pub qos: QoS,
    /// Whether it was to be retained.
    pub retain: bool,
}

/// One packet that passed the broker, in either direction.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was read, or made.
    pub at: Instant,
    /// On which connection.
    pub conn: ConnId,
    /// The client, once it is known.
    pub client_id: Option<Arc<str>>,
    /// From whom.
    pub sender: Sender,
    /// What it is.
    pub packet_type: PacketType,
    /// Its packet identifier.
    pub packet_id: Option<PacketId>,
    /// PUBLISH: its QoS.
    pub qos: QoS,
    /// PUBLISH: perhaps sent before.
    pub dup: bool,
    /// PUBLISH: its retain flag. CONNECT: clean start. CONNACK: session present.
    pub flag: bool,
    /// PUBLISH: its topic name, as it was on the wire.
    pub topic: String,
    /// PUBLISH: the first 64 bytes of its payload.
    pub payload: Bytes,
    /// The reason code of a packet that has one; `Success` for others.
    pub reason: ReasonCode,
}

impl Seen {
    pub(super) fn new(
        at: Instant,
        conn: ConnId,
        client_id: Option<Arc<str>>,
        sender: Sender,
        packet: &Packet<'_>,
    ) -> Self {
        let mut seen = Self {
            at,
            conn,
            client_id,
            sender,
            packet_type: packet.packet_type(),
            packet_id: None,
            qos: QoS::AtMostOnce,
            dup: false,
            flag: false,
            topic: String::new(),
            payload: Bytes::new(),
            reason: ReasonCode::Success,
        };
        match packet {
            Packet::Connect(connect) => seen.flag = connect.clean_start,
            Packet::ConnAck(connack) => {
                seen.flag = connack.session_present;
                seen.reason = connack.reason;
            }
            Packet::Publish(publish) => {
                seen.packet_id = publish.packet_id;
                seen.qos = publish.qos;
                seen.dup = publish.dup;
                seen.flag = publish.retain;
                publish.topic.as_str().clone_into(&mut seen.topic);
                seen.payload = Bytes::copy_from_slice(&publish.payload[..publish.payload.len().min(64)]);
            }
            Packet::Ack(ack) => {
                seen.packet_id = Some(ack.packet_id);
                seen.reason = ack.reason;
            }
            Packet::Subscribe(subscribe) => seen.packet_id = Some(subscribe.packet_id),
            Packet::SubAck(suback) => seen.packet_id = Some(suback.packet_id),
            Packet::Unsubscribe(unsubscribe) => seen.packet_id = Some(unsubscribe.packet_id),
            Packet::UnsubAck(unsuback) => seen.packet_id = Some(unsuback.packet_id),
            Packet::Disconnect(disconnect) => seen.reason = disconnect.reason,
            Packet::Auth(auth) => seen.reason = auth.reason,
            Packet::PingReq | Packet::PingResp => {}
        }
        seen
    }
}

/// What a client did that it must not, and what the broker says about it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// On which connection.
    pub conn: ConnId,
    /// The client, once it is known.
    pub client_id: Option<Arc<str>>,
    /// The reason code for it.
    pub reason: ReasonCode,
    /// What it was, in words.
    pub what: String,
}

/// A message that a client did not get: its queue was full, or it takes no packet of that size.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// When.
    pub at: Instant,
    /// Who did not get it.
    pub client_id: Arc<str>,
    /// Its topic.
    pub topic: TopicName,
}

/// What happened at the broker. Each list keeps its newest entries, up to the configuration's bound.
#[derive(Clone, Debug, Default)]
pub struct Log {
    limit: usize,
    accepted: VecDeque<Accepted>,
    packets: VecDeque<Seen>,
    violations: VecDeque<Violation>,
    dropped: VecDeque<Dropped>,
}

fn push<T>(list: &mut VecDeque<T>, limit: usize, entry: T) {
    if list.len() >= limit {
        list.pop_front();
    }
    if limit > 0 {
        list.push_back(entry);
    }
}

impl Log {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn accept(&mut self, accepted: Accepted) {
        push(&mut self.accepted, self.limit, accepted);
    }

    pub(super) fn see(&mut self, seen: Seen) {
        push(&mut self.packets, self.limit, seen);
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        push(&mut self.violations, self.limit, violation);
    }

    pub(super) fn drop(&mut self, dropped: Dropped) {
        push(&mut self.dropped, self.limit, dropped);
    }

    pub(super) const fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// The messages accepted for delivery, in that order.
    pub fn accepted(&self) -> impl DoubleEndedIterator<Item = &Accepted> {
        self.accepted.iter()
    }

    /// How often a message with this topic and payload was accepted.
    pub fn count(&self, topic: &str, payload: &[u8]) -> usize {
        self.accepted()
            .filter(|entry| entry.topic.as_bytes() == topic.as_bytes() && entry.payload == payload)
            .count()
    }

    /// The packets that passed, in both directions, in order.
    pub fn packets(&self) -> impl DoubleEndedIterator<Item = &Seen> {
        self.packets.iter()
    }

    /// The packets of one type that `client_id` sent, in order.
    pub fn sent_by<'a>(
        &'a self,
        client_id: &'a str,
        packet_type: PacketType,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> {
        self.packets().filter(move |seen| {
            seen.sender == Sender::Client
                && seen.packet_type == packet_type
                && seen.client_id.as_deref() == Some(client_id)
        })
    }

    /// The packets of one type that were sent to `client_id`, in order.
    pub fn sent_to<'a>(
        &'a self,
        client_id: &'a str,
        packet_type: PacketType,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> {
        self.packets().filter(move |seen| {
            seen.sender == Sender::Server
                && seen.packet_type == packet_type
                && seen.client_id.as_deref() == Some(client_id)
        })
    }

    /// What clients did that they must not, in order.
    pub fn violations(&self) -> impl DoubleEndedIterator<Item = &Violation> {
        self.violations.iter()
    }

    /// The messages that clients did not get.
    pub fn dropped(&self) -> impl DoubleEndedIterator<Item = &Dropped> {
        self.dropped.iter()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}
