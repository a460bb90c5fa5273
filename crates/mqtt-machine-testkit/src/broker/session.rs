//! Owns what the broker owes one client across connections: subscriptions, messages waiting and in flight, the
//! identifiers of incoming QoS 2 messages.
//! It must not know bytes, connections beyond their name, or what other clients do.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mqtt_machine::packet::{Ack, AckKind, PropertiesBuf};
use mqtt_machine::{Instant, PacketId, QoS, SubscriptionOptions, TopicFilter, TopicName};

use super::ConnId;

/// A message on its way through the broker.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) client_id: Arc<str>,
    pub(super) topic: TopicName,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// What is forwarded: without topic alias, subscription identifier and expiry.
    pub(super) properties: PropertiesBuf,
    pub(super) expires_at: Option<Instant>,
}

/// A message for one client.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Published>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Subscribed {
    pub(super) filter: TopicFilter,
    pub(super) options: SubscriptionOptions,
    pub(super) identifier: Option<u32>,
}

/// What an outgoing QoS 1 or 2 message waits for.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// PUBACK, or PUBREC.
    Published(Delivery),
    /// PUBCOMP.
    Released,
}

#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) packet_id: PacketId,
    pub(super) stage: Stage,
    /// It was sent on some connection: the next time it is sent, DUP is set.
    pub(super) sent_before: bool,
    /// How many PUBACKs come for it: two after a duplicate.
    pub(super) acks_due: u32,
}

/// The will, with what the broker needs to publish it.
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) message: Arc<Published>,
    pub(super) delay: Duration,
    pub(super) expiry: Option<Duration>,
}

/// What the client's acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Taken.
    Done,
    /// A PUBREL is owed.
    Release,
    /// There is no such message, or not at this stage.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) conn: Option<ConnId>,
    pub(super) subscriptions: BTreeMap<Arc<str>, Subscribed>,
    pub(super) in_flight: VecDeque<InFlight>,
    /// How many of the first of those were sent on the present connection; they wait for the client.
    pub(super) sent: usize,
    used: BTreeSet<PacketId>,
    pub(super) queue: VecDeque<Delivery>,
    next_id: PacketId,
    /// QoS 2 messages received and not yet released.
    pub(super) incoming: BTreeSet<PacketId>,
    /// How long it outlives its connection; `None`: for ever.
    pub(super) expiry: Option<Duration>,
    /// Without a connection: when it ends.
    pub(super) ends_at: Option<Instant>,
    pub(super) will: Option<Will>,
    /// Without a connection: when the will is published.
    pub(super) will_at: Option<Instant>,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            conn: None,
            subscriptions: BTreeMap::new(),
            in_flight: VecDeque::new(),
            sent: 0,
            used: BTreeSet::new(),
            queue: VecDeque::new(),
            next_id: PacketId::MIN,
            incoming: BTreeSet::new(),
            expiry: Some(Duration::ZERO),
            ends_at: None,
            will: None,
            will_at: None,
        }
    }

    /// It, without a connection and without the will, which is published once at most.
    pub(super) fn copy(&self) -> Self {
        Self { conn: None, ends_at: None, will: None, will_at: None, ..self.clone() }
    }

    /// A new connection carries it: everything in flight is to be sent again, in its order.
    pub(super) fn resume(&mut self) {
        self.sent = 0;
        for entry in &mut self.in_flight {
            entry.acks_due = 1;
        }
    }

    /// Gives the first waiting message an identifier and puts it in flight. Not called when all are in use.
    pub(super) fn assign(&mut self, delivery: Delivery) -> PacketId {
        let mut packet_id = self.next_id;
        while self.used.contains(&packet_id) {
            packet_id = packet_id.next();
        }
        self.next_id = packet_id.next();
        self.used.insert(packet_id);
        self.in_flight.push_back(InFlight {
            packet_id,
            stage: Stage::Published(delivery),
            sent_before: false,
            acks_due: 1,
        });
        packet_id
    }

    /// The client's PUBACK, PUBREC or PUBCOMP.
    pub(super) fn acknowledge(&mut self, ack: &Ack<'_>) -> Effect {
        let mut sent = self.in_flight.iter().take(self.sent);
        let Some(at) = sent.position(|entry| entry.packet_id == ack.packet_id) else {
            return Effect::Unknown;
        };
        let entry = &mut self.in_flight[at];
        let expected = match &entry.stage {
            Stage::Published(delivery) if delivery.qos == QoS::AtLeastOnce => AckKind::PubAck,
            Stage::Published(_) => AckKind::PubRec,
            Stage::Released => AckKind::PubComp,
        };
        match ack.kind {
            // A PUBREC that repeats is answered with the PUBREL again.
            AckKind::PubRec if expected == AckKind::PubComp => return Effect::Release,
            kind if kind != expected => return Effect::Unknown,
            AckKind::PubRec if !ack.reason.is_failure() => {
                entry.stage = Stage::Released;
                return Effect::Release;
            }
            _ => {}
        }
        entry.acks_due -= 1;
        if entry.acks_due == 0 {
            self.forget(at);
        }
        Effect::Done
    }

    /// Takes the message at this place of the flight out of it.
    pub(super) fn forget(&mut self, at: usize) {
        if let Some(entry) = self.in_flight.remove(at) {
            self.used.remove(&entry.packet_id);
            if at < self.sent {
                self.sent -= 1;
            }
        }
    }

    /// Whether another message of QoS 1 or 2 can get an identifier.
    pub(super) fn has_free_id(&self) -> bool {
        self.used.len() < usize::from(u16::MAX)
    }
}
