//! Owns what is owed, both ways: the session of section 4.1, as a fold over its records.
//! It must not know bytes, the clock, or whether there is a connection beyond being told that one ended.

mod ids;
mod incoming;
mod outgoing;
mod requests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

pub(crate) use ids::PacketIdMap;
pub(crate) use incoming::{Incoming, Known};
pub(crate) use outgoing::{Outgoing, Owed, Stage};
pub(crate) use requests::{Ask, Request, Requests};

use crate::config::LostSession;
use crate::journal::Record;
use crate::message::Message;
use crate::time::Instant;
use crate::types::{OpId, PacketId, QoS, Subscription, SubscriptionOptions, TopicFilter};

/// Who uses an outgoing packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdUse {
    /// The publication in this slot.
    Publication(u32),
    /// A SUBSCRIBE or UNSUBSCRIBE.
    Request,
}

/// A granted subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<u32>,
}

/// Everything that outlives a connection. Its durable part changes by [`apply`](Self::apply) alone.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) client_id: String,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    pub(crate) requests: Requests,
    pub(crate) ids: PacketIdMap<IdUse>,
    next_id: PacketId,
    subscriptions: BTreeMap<TopicFilter, Kept>,
    subscription_bytes: usize,
    last_op: u64,
}

/// The durable part of a session as plain values: what [`Machine::restore`](crate::Machine::restore) brings back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionSnapshot {
    /// The client identifier, once it is known.
    pub client_id: String,
    /// Publications of QoS 1 and 2 that have not ended, in the order in which they are sent: first those with a packet
    /// identifier; without a message, PUBREL is owed.
    pub publications: Vec<(OpId, Option<PacketId>, Option<Message>)>,
    /// Incoming QoS 2 messages whose PUBREL has not come, ascending.
    pub received: Vec<PacketId>,
    /// Granted subscriptions with their Subscription Identifiers, by filter.
    pub subscriptions: Vec<(Subscription, Option<u32>)>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            client_id: String::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::new(),
            requests: Requests::default(),
            ids: PacketIdMap::new(),
            next_id: PacketId::MIN,
            subscriptions: BTreeMap::new(),
            subscription_bytes: 0,
            last_op: 0,
        }
    }

    /// The name of the next command.
    pub(crate) const fn next_op(&mut self) -> OpId {
        self.last_op = self.last_op.saturating_add(1);
        OpId::new(self.last_op)
    }

    /// The next free packet identifier: they count up from 1 and go round `[MQTT-2.2.1-3]`.
    pub(crate) fn free_id(&self) -> Option<PacketId> {
        self.ids.free_from(self.next_id)
    }

    /// The one way in which the durable part changes, live and in a restore.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::ClientId(client_id) => self.client_id = client_id,
            Record::Queued { op, message } => {
                self.last_op = self.last_op.max(op.to_u64());
                self.outgoing.push(op, message);
            }
            Record::Assigned { op, packet_id } => {
                let slot = self.first_waiting(op);
                if let Some(slot) = slot {
                    self.outgoing.assign(slot, packet_id);
                    self.ids.insert(packet_id, IdUse::Publication(slot));
                    self.next_id = packet_id.next();
                }
            }
            Record::Released { packet_id } => {
                if let Some(slot) = self.publication(packet_id) {
                    self.outgoing.release(slot);
                }
            }
            Record::Ended { packet_id } => {
                if let Some(slot) = self.publication(packet_id) {
                    self.ids.remove(packet_id);
                    self.outgoing.remove(slot);
                }
            }
            Record::Discarded { op } => {
                if let Some(slot) = self.first_waiting(op) {
                    self.outgoing.remove(slot);
                }
            }
            Record::Downgraded { op, qos } => {
                if let Some(slot) = self.first_waiting(op) {
                    self.outgoing.downgrade(slot, qos);
                }
            }
            Record::Received { packet_id } => self.incoming.apply_received(packet_id),
            Record::Completed { packet_id } => self.incoming.apply_completed(packet_id),
            Record::Subscribed { subscription, identifier } => self.keep(subscription, identifier),
            Record::Unsubscribed { filter } => self.drop_subscription(&filter),
            Record::SessionLost { policy } => self.apply_session_lost(policy),
        }
    }

    /// Whether a record from outside follows from those applied before it.
    pub(crate) fn check(&self, record: &Record) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        match record {
            Record::Queued { op, message } => {
                ensure(
                    op.to_u64() > self.last_op,
                    "a publication's name is not greater than those before it",
                )?;
                ensure(message.qos != QoS::AtMostOnce, "a publication of QoS 0 is not kept")
            }
            Record::Assigned { op, packet_id } => {
                ensure(self.first_waiting(*op).is_some(), "no publication of this name waits")?;
                ensure(!self.ids.contains(*packet_id), "the packet identifier is in use")
            }
            Record::Discarded { op } | Record::Downgraded { op, .. } => {
                ensure(self.first_waiting(*op).is_some(), "no publication of this name waits")
            }
            Record::Released { packet_id } | Record::Ended { packet_id } => {
                ensure(self.publication(*packet_id).is_some(), "no publication has this packet identifier")
            }
            Record::Completed { packet_id } => {
                let received = self.incoming.known(*packet_id) == Some(Known::Received);
                ensure(received, "no message was received under this packet identifier")
            }
            Record::ClientId(_)
            | Record::Received { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::SessionLost { .. } => Ok(()),
        }
    }

    /// After the fold of a restore: what has a packet identifier may have been sent, and waiting messages are as old as
    /// the time away says.
    pub(crate) fn restored(&mut self, now: Instant, away: Duration) {
        let waiting: Vec<u32> = self.outgoing.slots(Stage::Waiting).collect();
        for slot in &waiting {
            // Downgraded to QoS 0: the session does not owe it.
            if self.outgoing.get(*slot).is_some_and(|entry| entry.owed.is_qos_0()) {
                self.outgoing.remove(*slot);
            }
        }
        for slot in self.outgoing.owed_slots().into_iter().chain(waiting) {
            if let Some(entry) = self.outgoing.get_mut(slot) {
                entry.accepted_at = now;
                entry.away = away;
                entry.sent = entry.owed.packet_id().is_some();
            }
        }
    }

    /// A request is written under this packet identifier.
    pub(crate) fn assign_request(&mut self, packet_id: PacketId) {
        self.requests.assign(packet_id);
        self.ids.insert(packet_id, IdUse::Request);
        self.next_id = packet_id.next();
    }

    /// A request is acknowledged: its identifier is free.
    pub(crate) fn end_request(&mut self, packet_id: PacketId) -> Option<Request> {
        let request = self.requests.remove(packet_id)?;
        self.ids.remove(packet_id);
        Some(request)
    }

    pub(crate) fn publication(&self, packet_id: PacketId) -> Option<u32> {
        match self.ids.get(packet_id)? {
            IdUse::Publication(slot) => Some(slot),
            IdUse::Request => None,
        }
    }

    fn first_waiting(&self, op: OpId) -> Option<u32> {
        self.outgoing
            .slots(Stage::Waiting)
            .find(|slot| self.outgoing.get(*slot).is_some_and(|entry| entry.op == op))
    }

    fn keep(&mut self, subscription: Subscription, identifier: Option<u32>) {
        let cost = subscription.cost();
        let kept = Kept { options: subscription.options, identifier };
        if self.subscriptions.insert(subscription.filter, kept).is_none() {
            self.subscription_bytes = self.subscription_bytes.saturating_add(cost);
        }
    }

    fn drop_subscription(&mut self, filter: &TopicFilter) {
        if let Some((filter, kept)) = self.subscriptions.remove_entry(filter) {
            let cost = Subscription { filter, options: kept.options }.cost();
            self.subscription_bytes = self.subscription_bytes.saturating_sub(cost);
        }
    }

    fn apply_session_lost(&mut self, policy: LostSession) {
        let mut again = Vec::new();
        for slot in self.outgoing.owed_slots() {
            if let Some(packet_id) = self.outgoing.get(slot).and_then(|entry| entry.owed.packet_id()) {
                self.ids.remove(packet_id);
            }
            if self.is_given_up(slot, policy) {
                self.outgoing.remove(slot);
            } else {
                again.push(slot);
            }
        }
        self.outgoing.unassign(&again);
        self.incoming.session_lost();
    }

    /// Whether a lost session ends this publication: its payload went with PUBREC, or the policy says so.
    fn is_given_up(&self, slot: u32, policy: LostSession) -> bool {
        match self.outgoing.get(slot).map(|entry| &entry.owed) {
            Some(Owed::Release(..)) => true,
            Some(Owed::Publish(_, message)) => {
                policy == LostSession::Report && message.qos == QoS::ExactlyOnce
            }
            Some(Owed::Waiting(_)) | None => false,
        }
    }

    /// The publications that a lost session ends.
    pub(crate) fn given_up(&self, policy: LostSession) -> Vec<OpId> {
        let ended = |slot: &u32| self.is_given_up(*slot, policy);
        let entries = self.outgoing.owed_slots();
        entries
            .iter()
            .filter(|slot| ended(slot))
            .filter_map(|slot| self.outgoing.get(*slot))
            .filter(|entry| !entry.ended)
            .map(|entry| entry.op)
            .collect()
    }

    /// Whether a lost session would change anything that the journal keeps.
    pub(crate) fn has_connection_state(&self) -> bool {
        self.outgoing.len() > self.outgoing.count(Stage::Waiting) || !self.incoming.is_empty()
    }

    /// Tells that the transport is gone.
    pub(crate) fn connection_ended(&mut self) {
        self.outgoing.connection_ended();
        self.incoming.connection_ended();
        for packet_id in self.requests.connection_ended() {
            self.ids.remove(packet_id);
        }
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// The subscriptions after `cursor`, at most as many as fit in `bytes` and, where they are `identified`, share one Subscription
    /// Identifier.
    pub(crate) fn subscriptions_after(
        &self,
        cursor: Option<&TopicFilter>,
        bytes: usize,
        identified: bool,
    ) -> (Vec<Subscription>, Option<u32>) {
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut chunk = Vec::new();
        let mut identifier = None;
        let mut size = 0_usize;
        for (filter, kept) in self.subscriptions.range::<TopicFilter, _>((from, Bound::Unbounded)) {
            size = size.saturating_add(filter.as_str().len()).saturating_add(3);
            let own = kept.identifier.filter(|_| identified);
            if !chunk.is_empty() && (size > bytes || identifier != own) {
                break;
            }
            identifier = own;
            chunk.push(Subscription { filter: filter.clone(), options: kept.options });
        }
        (chunk, identifier)
    }

    /// The durable part, as plain values.
    pub(crate) fn snapshot(&self) -> SessionSnapshot {
        let owed = self.outgoing.owed_slots();
        let publications = owed
            .into_iter()
            .chain(self.outgoing.slots(Stage::Waiting))
            .filter_map(|slot| self.outgoing.get(slot))
            .filter_map(|entry| match &entry.owed {
                owed if owed.is_qos_0() => None,
                Owed::Waiting(message) => Some((entry.op, None, Some(message.clone()))),
                Owed::Publish(packet_id, message) => {
                    Some((entry.op, Some(*packet_id), Some(message.clone())))
                }
                Owed::Release(packet_id, _) => Some((entry.op, Some(*packet_id), None)),
            })
            .collect();
        SessionSnapshot {
            client_id: self.client_id.clone(),
            publications,
            received: self.incoming.received().collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(filter, kept)| {
                    (Subscription { filter: filter.clone(), options: kept.options }, kept.identifier)
                })
                .collect(),
        }
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.outgoing
            .memory_used()
            .saturating_add(self.incoming.memory_used())
            .saturating_add(self.requests.bytes())
            .saturating_add(self.ids.memory_used())
            .saturating_add(self.subscription_bytes)
    }
}
