//! Owns how commands end: the record of it, what is told, and what is counted. It must not know why they end.

use crate::interface::{Acknowledgement, DropReason, Outcome};
use crate::journal::Record;
use crate::packet::PropertiesBuf;
use crate::types::{JournalSeq, OpId};

use super::Machine;
use super::events::Plainly;

impl Machine {
    /// Records the end of a publication, with its outcome if it has a key, and tells it unless it was told before.
    pub(super) fn conclude(&mut self, op: OpId, ending: Record, outcome: Outcome, told: bool) {
        let most = self.config.limits.keyed_outcomes;
        if most > 0
            && let Some(key) = self.session.keyed.key_of(op).cloned()
        {
            while let Some(oldest) = self.session.keyed.too_many(most) {
                self.record(Record::Forgotten { op: oldest });
            }
            let bare = |ack: &Acknowledgement| Acknowledgement::new(ack.reason, PropertiesBuf::new());
            let kept = match &outcome {
                Outcome::Acknowledged(ack) => Outcome::Acknowledged(bare(ack)),
                Outcome::Refused(ack) => Outcome::Refused(bare(ack)),
                other => other.clone(),
            };
            self.record(Record::Keyed { op, key, outcome: Some(kept) });
        }
        let gate = self.record(ending);
        if !told {
            self.end_publication(op, outcome, gate);
        }
    }

    /// Counts and tells that a publication was acknowledged, unless it was told before. There is nothing to say of it, and no record.
    pub(super) fn acknowledged_plainly(&mut self, op: OpId, told: bool) {
        if told {
            return;
        }
        self.counters.acknowledged = self.counters.acknowledged.saturating_add(1);
        if let Some(drain) = &mut self.drain {
            drain.report.delivered = drain.report.delivered.saturating_add(1);
        }
        self.events.complete_plainly(op, Plainly::Acknowledged);
    }

    /// Counts and tells how a publication ended.
    pub(super) fn end_publication(&mut self, op: OpId, outcome: Outcome, gate: JournalSeq) {
        let counters = &mut self.counters;
        let counter = match &outcome {
            Outcome::Sent => &mut counters.sent,
            Outcome::Acknowledged(_) => &mut counters.acknowledged,
            Outcome::Refused(_) => &mut counters.refused,
            Outcome::Expired => &mut counters.expired,
            Outcome::Dropped(_) => &mut counters.dropped,
            _ => &mut counters.cut_off,
        };
        *counter = counter.saturating_add(1);
        if let Some(drain) = &mut self.drain {
            let report = &mut drain.report;
            let place = match &outcome {
                Outcome::Sent | Outcome::Acknowledged(_) => &mut report.delivered,
                _ => &mut report.undelivered,
            };
            *place = place.saturating_add(1);
            if outcome == Outcome::Kept {
                report.kept = report.kept.saturating_add(1);
            }
        }
        self.complete(op, outcome, gate);
    }

    /// Tells that a publication was on its way when its connection ended, and is not sent again.
    pub(super) fn lose(&mut self, op: OpId) {
        self.end_publication(op, Outcome::Dropped(DropReason::ConnectionLost), JournalSeq::ZERO);
    }

    /// Outcomes that the caller has not taken: they count against the caps.
    pub(super) fn completions(&self) -> usize {
        self.events.completions().saturating_add(self.journal.held.as_ref().map_or(0, |held| held.len()))
    }

    /// Tells how a command ended, once the record `gate` is durable.
    pub(super) fn complete(&mut self, op: OpId, outcome: Outcome, gate: JournalSeq) {
        if gate > self.journal.durable {
            self.journal.held.get_or_insert_default().push_back((gate, op, outcome));
        } else {
            self.events.complete(op, outcome);
        }
    }
}
