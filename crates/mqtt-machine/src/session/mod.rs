//! Owns what is owed, both ways: the session of section 4.1, as a fold over its records.
//! It must not know bytes, the clock, or whether there is a connection beyond being told that one ended.

mod ids;
mod incoming;
mod keyed;
mod outgoing;
mod requests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

pub(crate) use ids::PacketIdMap;
pub(crate) use incoming::{Due, Incoming, Known};
pub(crate) use keyed::{Keyed, Known as KnownKey};
pub(crate) use outgoing::{Ended, Entry, Next, Outgoing, Owed, Stage};
pub(crate) use requests::{Ask, Request, Requests};

use crate::config::LostSession;
use crate::interface::Outcome;
use crate::journal::{PublishKey, Record};
use crate::message::Message;
use crate::packet::AckKind;
use crate::time::Instant;
use crate::types::{OpId, PacketId, QoS, Subscription, SubscriptionOptions, TopicFilter};

/// How many names of commands are reserved by one record.
const RESERVE: u64 = 4_095;

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
    pub(crate) keyed: Keyed,
    /// What the server's session is called here; 0 before there was one.
    pub(crate) identity: u64,
    next_id: PacketId,
    subscriptions: BTreeMap<TopicFilter, Kept>,
    subscription_bytes: usize,
    last_op: u64,
    /// No process before named a command beyond this.
    reserved: u64,
    /// How many PUBRECs came.
    turns: u64,
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
    /// The keys of publications in the order in which they were accepted, with how they ended, if they have.
    pub keyed: Vec<(OpId, PublishKey, Option<Outcome>)>,
    /// What the server's session is called in delivery keys; 0 before there was one.
    pub identity: u64,
    /// How many messages have ended under a packet identifier of the server's, ascending, where the journal knows of any.
    pub generations: Vec<(PacketId, u32)>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            client_id: String::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::new(),
            requests: Requests::default(),
            ids: PacketIdMap::new(),
            keyed: Keyed::default(),
            identity: 0,
            next_id: PacketId::MIN,
            subscriptions: BTreeMap::new(),
            subscription_bytes: 0,
            last_op: 0,
            reserved: 0,
            turns: 0,
        }
    }

    /// The name of the next command.
    pub(crate) const fn next_op(&mut self) -> OpId {
        self.last_op = self.last_op.saturating_add(1);
        OpId::new(self.last_op)
    }

    /// The record that reserves names from this one on, when it is not reserved.
    pub(crate) fn reserve(&self, op: OpId) -> Option<Record> {
        let op = op.to_u64();
        (op > self.reserved).then(|| Record::Reserved { op: OpId::new(op.saturating_add(RESERVE)) })
    }

    /// The next free packet identifier: they count up from 1 and go round `[MQTT-2.2.1-3]`.
    pub(crate) fn free_id(&self) -> Option<PacketId> {
        self.ids.free_from(self.next_id)
    }

    /// How many packet identifiers are free.
    pub(crate) fn free_ids(&self) -> usize {
        usize::from(u16::MAX).saturating_sub(self.ids.len())
    }

    /// The one way in which the durable part changes, live and in a restore.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::ClientId(client_id) => self.client_id = client_id,
            Record::Reserved { op } => self.reserved = self.reserved.max(op.to_u64()),
            Record::Queued { op, message } => {
                self.last_op = self.last_op.max(op.to_u64());
                self.outgoing.push(op, message);
            }
            Record::Assigned { op, packet_id } => {
                if let Some(slot) = self.outgoing.find_waiting(op) {
                    self.assign(slot, packet_id);
                }
            }
            Record::Released { op, packet_id, after, turn } => {
                let order = (after.to_u64(), turn);
                self.last_op = self.last_op.max(after.to_u64());
                self.turns = self.turns.max(turn);
                match self.publication(packet_id) {
                    Some(slot) => self.outgoing.release(slot, order),
                    // A table of rows has no message for it any more.
                    None => {
                        let slot = self.outgoing.push_released(op, packet_id, order);
                        self.ids.insert(packet_id, IdUse::Publication(slot));
                    }
                }
            }
            Record::Ended { op, packet_id } => {
                if let Some(slot) = self.publication(packet_id) {
                    self.ids.remove(packet_id);
                    self.outgoing.remove(slot);
                    self.keyed.ended(op);
                }
            }
            Record::Discarded { op } => {
                if let Some(slot) = self.outgoing.find_waiting(op) {
                    self.outgoing.remove(slot);
                    self.keyed.ended(op);
                }
            }
            Record::Downgraded { op, qos } => {
                if let Some(slot) = self.outgoing.find_waiting(op) {
                    self.outgoing.downgrade(slot, qos);
                }
                if qos == QoS::AtMostOnce {
                    self.keyed.ended(op);
                }
            }
            Record::Keyed { op, key, outcome } => {
                if outcome.is_some() {
                    self.last_op = self.last_op.max(op.to_u64());
                }
                self.keyed.apply(op, key, outcome);
            }
            Record::Forgotten { op } => self.keyed.forget(op),
            Record::Received { packet_id, generation } => self.incoming.apply_received(packet_id, generation),
            Record::Completed { packet_id, generation } => {
                self.incoming.apply_completed(packet_id, generation);
            }
            Record::Subscribed { subscription, identifier } => self.keep(subscription, identifier),
            Record::Unsubscribed { filter } => self.drop_subscription(&filter),
            Record::SessionBegan { identity } => self.apply_session_began(identity),
        }
    }

    /// The publication that waits in this slot enters the window.
    pub(crate) fn assign(&mut self, slot: u32, packet_id: PacketId) {
        self.outgoing.assign(slot, packet_id);
        self.ids.insert(packet_id, IdUse::Publication(slot));
        self.next_id = packet_id.next();
    }

    /// The first of the publications that pass was written under this packet identifier.
    #[inline]
    pub(crate) fn passes(&mut self, packet_id: PacketId, now: Instant) {
        if let Some(slot) = self.outgoing.passes(packet_id, now) {
            self.ids.insert(packet_id, IdUse::Publication(slot));
            self.next_id = packet_id.next();
        }
    }

    /// A publication was written under this packet identifier when it was accepted.
    #[inline]
    pub(crate) fn push_written(&mut self, op: OpId, packet_id: PacketId, message: Message, now: Instant) {
        self.outgoing.count_in(&message);
        let slot = self.outgoing.push_written(op, packet_id, message, now);
        self.ids.insert(packet_id, IdUse::Publication(slot));
        self.next_id = packet_id.next();
    }

    /// PUBREC has come for the publication in this slot.
    pub(crate) fn release(&mut self, slot: u32) {
        self.turns = self.turns.saturating_add(1);
        self.outgoing.release(slot, (self.last_op, self.turns));
    }

    /// PUBREC has come under this identifier. False, with nothing changed, unless a message of QoS 2 waits for it on this connection.
    #[inline]
    pub(crate) fn release_written(&mut self, packet_id: PacketId) -> bool {
        let Some(slot) = self.publication(packet_id) else { return false };
        let waits = self.outgoing.get(slot).is_some_and(|entry| {
            let is_qos_2 = matches!(&entry.owed, Owed::Publish(_, it) if it.qos == QoS::ExactlyOnce);
            is_qos_2 && entry.is_in_flight()
        });
        if waits {
            self.release(slot);
        }
        waits
    }

    /// An acknowledgement of this kind has come: takes out the publication that it ends, if that was written on this connection and
    /// nothing more is to be said of it.
    #[inline]
    pub(crate) fn end_written(&mut self, packet_id: PacketId, kind: AckKind) -> Option<Ended> {
        let Self { ids, outgoing, .. } = self;
        ids.remove_if(packet_id, |used| match used {
            IdUse::Publication(slot) => outgoing.end_written(slot, kind),
            IdUse::Request => None,
        })
    }

    /// The record of a PUBREC.
    pub(crate) fn released(&self, op: OpId, packet_id: PacketId) -> Record {
        let (after, turn) = (OpId::new(self.last_op), self.turns.saturating_add(1));
        Record::Released { op, packet_id, after, turn }
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
                ensure(self.outgoing.find_waiting(*op).is_some(), "no publication of this name waits")?;
                ensure(!self.ids.contains(*packet_id), "the packet identifier is in use")
            }
            Record::Discarded { op } | Record::Downgraded { op, .. } => {
                ensure(self.outgoing.find_waiting(*op).is_some(), "no publication of this name waits")
            }
            Record::Ended { op, packet_id } => {
                ensure(self.owner(*packet_id) == Some(*op), "no publication has this packet identifier")
            }
            Record::Released { op, packet_id, .. } => match self.owner(*packet_id) {
                Some(owner) => ensure(owner == *op, "another publication has this packet identifier"),
                None => Ok(()),
            },
            Record::Keyed { op, key, .. } => {
                let same = self.keyed.op_of(key).is_none_or(|known| known == *op);
                ensure(same, "another publication has this key")
            }
            Record::ClientId(_)
            | Record::SessionBegan { .. }
            | Record::Reserved { .. }
            | Record::Forgotten { .. }
            | Record::Received { .. }
            | Record::Completed { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. } => Ok(()),
        }
    }

    /// The publication under this packet identifier.
    fn owner(&self, packet_id: PacketId) -> Option<OpId> {
        let slot = self.publication(packet_id)?;
        self.outgoing.get(slot).map(|entry| entry.op)
    }

    /// After the fold of a restore: what has a packet identifier may have been sent, waiting messages are as old as the time
    /// away says, and all is in the order in which it is sent again. Returns whose key is known although there is no such publication.
    pub(crate) fn restored(&mut self, now: Instant, away: Duration) -> Vec<OpId> {
        self.outgoing.connection_ended();
        self.last_op = self.last_op.max(self.reserved);
        let waiting: Vec<u32> = self.outgoing.waiting_slots().collect();
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
        self.keyed.stray(self.outgoing.ops())
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

    #[inline]
    pub(crate) fn publication(&self, packet_id: PacketId) -> Option<u32> {
        match self.ids.get(packet_id)? {
            IdUse::Publication(slot) => Some(slot),
            IdUse::Request => None,
        }
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

    fn apply_session_began(&mut self, identity: u64) {
        self.identity = identity;
        let mut again = self.outgoing.owed_slots();
        for slot in &again {
            if let Some(packet_id) = self.outgoing.get(*slot).and_then(|entry| entry.owed.packet_id()) {
                self.ids.remove(packet_id);
            }
        }
        // What has no message any more was given up before.
        again.retain(|slot| match self.outgoing.get(*slot).map(|entry| &entry.owed) {
            Some(Owed::Release(..)) | None => {
                self.outgoing.remove(*slot);
                false
            }
            Some(Owed::Publish(..) | Owed::Waiting(_)) => true,
        });
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
    pub(crate) fn given_up(&self, policy: LostSession) -> Vec<u32> {
        let mut slots = self.outgoing.owed_slots();
        slots.retain(|slot| self.is_given_up(*slot, policy));
        slots
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
        let owed = owed.into_iter().filter_map(|slot| self.outgoing.get(slot));
        let owed = owed.filter_map(|entry| match &entry.owed {
            Owed::Waiting(_) => None,
            Owed::Publish(packet_id, message) => Some((entry.op, Some(*packet_id), Some(message.clone()))),
            Owed::Release(packet_id, _) => Some((entry.op, Some(*packet_id), None)),
        });
        let waiting = self.outgoing.waiting().filter(|(_, message)| message.qos != QoS::AtMostOnce);
        let waiting = waiting.map(|(op, message)| (op, None, Some(message.clone())));
        let publications = owed.chain(waiting).collect();
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
            keyed: self.keyed.list(),
            identity: self.identity,
            generations: self.incoming.generations().collect(),
        }
    }

    /// It has been quiet: what a burst needed is given back.
    pub(crate) fn shrink(&mut self) {
        self.outgoing.shrink();
        self.ids.shrink();
        self.incoming.shrink();
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.outgoing
            .memory_used()
            .saturating_add(self.incoming.memory_used())
            .saturating_add(self.requests.bytes())
            .saturating_add(self.ids.memory_used())
            .saturating_add(self.subscription_bytes)
            .saturating_add(self.keyed.memory_used())
    }
}
