//! Owns what is known of the store: the records in order, which of them are durable, and what waits for which.
//! It must not know packets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mqtt_machine::journal::{PublishKey, Record};
use mqtt_machine::{JournalSeq, OpId, PacketId, TopicFilter};

use super::{Findings, Invariant};

/// What a packet or an outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Assigned,
    Released,
    Received,
    Completed,
}

fn queued_op(record: &Record) -> Option<OpId> {
    match record {
        // A store has no message for one that the server has taken.
        Record::Queued { op, .. } | Record::Released { op, .. } => Some(*op),
        _ => None,
    }
}

/// The store as the caller tells of it.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    enabled: bool,
    /// The caller told of a position that no record had, or that the store failed: there is nothing to hold it to.
    off: bool,
    failed: bool,
    last: JournalSeq,
    durable: JournalSeq,
    /// A server may use its identifier again before what depends on the earlier records has left: oldest first. Those of our own
    /// identifiers are the latest.
    steps: BTreeMap<(Step, PacketId), VecDeque<JournalSeq>>,
    terminal: BTreeMap<OpId, JournalSeq>,
    subscribed: BTreeMap<TopicFilter, JournalSeq>,
    /// Operations that ended without a record.
    free: BTreeSet<OpId>,
    pub(super) records: Vec<Record>,
    /// The publications that have a key, and whether they have ended.
    pub(super) keyed: BTreeMap<PublishKey, (OpId, bool)>,
}

impl Journal {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            off: false,
            failed: false,
            last: JournalSeq::ZERO,
            durable: JournalSeq::ZERO,
            steps: BTreeMap::new(),
            terminal: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            free: BTreeSet::new(),
            records: Vec::new(),
            keyed: BTreeMap::new(),
        }
    }

    /// Everything so far was durable before the process began.
    pub(super) fn restored(&mut self) {
        // A key whose publication was never kept is not known.
        let queued: BTreeSet<OpId> = self.records.iter().filter_map(queued_op).collect();
        self.keyed.retain(|_, (op, ended)| *ended || queued.contains(op));
        self.durable = self.last;
    }

    /// Whether nothing waits for the store.
    pub(super) fn is_settled(&self) -> bool {
        !self.enabled || self.off || self.durable >= self.last
    }

    /// A record was handed to the store.
    pub(super) fn stored(&mut self, seq: JournalSeq, record: &Record, findings: &mut Findings) {
        findings.ensure(self.enabled, Invariant::Durable, || format!("{record:?} without a store"));
        findings.ensure(seq == self.last.next(), Invariant::Identifiers, || {
            format!("record {} comes after {}", seq.to_u64(), self.last.to_u64())
        });
        self.last = seq;
        self.apply(seq, record);
        self.records.push(record.clone());
    }

    /// A record from before the process began.
    pub(super) fn replay(&mut self, record: &Record) {
        let seq = self.last.next();
        self.last = seq;
        self.apply(seq, record);
        self.records.push(record.clone());
    }

    fn apply(&mut self, seq: JournalSeq, record: &Record) {
        let mut step = |step, packet_id: &PacketId| {
            let seqs = self.steps.entry((step, *packet_id)).or_default();
            if matches!(step, Step::Assigned | Step::Released) {
                seqs.clear();
            }
            seqs.push_back(seq);
        };
        match record {
            Record::Assigned { packet_id, .. } => step(Step::Assigned, packet_id),
            Record::Released { packet_id, .. } => step(Step::Released, packet_id),
            Record::Received { packet_id, .. } => step(Step::Received, packet_id),
            Record::Completed { packet_id, .. } => step(Step::Completed, packet_id),
            Record::Keyed { op, key, outcome } => {
                self.keyed.insert(key.clone(), (*op, outcome.is_some()));
            }
            Record::Forgotten { op } => self.keyed.retain(|_, (known, _)| known != op),
            Record::Ended { op, .. } | Record::Discarded { op } => {
                self.terminal.insert(*op, seq);
            }
            Record::Subscribed { subscription, .. } => {
                // A later record of the same filter says nothing of an outcome that waits to be taken.
                self.subscribed.entry(subscription.filter.clone()).or_insert(seq);
            }
            _ => {}
        }
    }

    /// The caller says that records up to here are durable.
    pub(super) fn told(&mut self, seq: JournalSeq) {
        if seq > self.last {
            self.off = true;
        }
        self.durable = self.durable.max(seq.min(self.last));
    }

    /// The caller says that the store failed.
    pub(super) fn failed(&mut self) {
        self.off = true;
        self.failed = true;
    }

    /// Whether there is a store that works.
    pub(super) const fn keeps(&self) -> bool {
        self.enabled && !self.failed
    }

    fn holds(&self, seq: Option<JournalSeq>) -> bool {
        !self.enabled || self.off || seq.is_some_and(|seq| seq <= self.durable)
    }

    /// A packet leaves that depends on a record.
    pub(super) fn leaves(&mut self, step: Step, packet_id: PacketId, findings: &mut Findings) {
        let seq = self.steps.get(&(step, packet_id)).and_then(VecDeque::front).copied();
        findings.ensure(self.holds(seq), Invariant::Durable, || {
            format!("a packet under {packet_id} left before its record {step:?} ({seq:?}) was durable")
        });
        if step == Step::Completed {
            // What leaves from here on is of the next message under this identifier, if there is one.
            for step in [Step::Received, Step::Completed] {
                if let Some(seqs) = self.steps.get_mut(&(step, packet_id)).filter(|seqs| seqs.len() > 1) {
                    seqs.pop_front();
                }
            }
        }
    }

    /// The server uses this identifier for another message: nothing that leaves depends on what was recorded of the one before.
    pub(super) fn starts_over(&mut self, packet_id: PacketId) {
        for step in [Step::Received, Step::Completed] {
            self.steps.remove(&(step, packet_id));
        }
    }

    /// What had not left does not leave any more: the next connection depends on the latest records.
    pub(super) fn connection_ended(&mut self) {
        for seqs in self.steps.values_mut() {
            seqs.drain(..seqs.len().saturating_sub(1));
        }
    }

    /// The end of this operation, which is yet to be told, depends on no record.
    pub(super) fn depends_on_nothing(&mut self, op: OpId) {
        self.free.insert(op);
    }

    /// The end of a publication of QoS 1 or 2 is told.
    pub(super) fn tells(&mut self, op: OpId, findings: &mut Findings) {
        if self.free.remove(&op) {
            return;
        }
        let seq = self.terminal.get(&op).copied();
        // Ends that no record tells (the machine stops) depend on none.
        findings.ensure(seq.is_none() || self.holds(seq), Invariant::Durable, || {
            format!("the end of {op:?} is told before its record ({seq:?}) is durable")
        });
    }

    /// A granted subscription is told.
    pub(super) fn grants(&self, filter: &TopicFilter, findings: &mut Findings) {
        let seq = self.subscribed.get(filter).copied();
        findings.ensure(self.holds(seq), Invariant::Durable, || {
            format!("the subscription to {} is told before its record is durable", filter.as_str())
        });
    }
}
