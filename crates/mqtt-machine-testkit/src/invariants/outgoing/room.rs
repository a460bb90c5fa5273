//! Owns who goes when there is no room: what a policy makes of the messages that wait. It must not know what leaves.

use mqtt_machine::{DropReason, Limits, Message, OpId, Overflow, Priority};

use super::{Expect, Findings, Invariant, Outgoing, Publication, Stage};

impl Outgoing {
    /// A publication was accepted under this policy: those that must go for it are gone. False when it is itself the one to go.
    pub(in crate::invariants) fn make_room(
        &mut self,
        op: OpId,
        message: &Message,
        policy: (Overflow, Limits),
        connected: bool,
        findings: &mut Findings,
    ) -> bool {
        let (overflow, limits) = policy;
        let (most, most_bytes) = (limits.outgoing_messages, limits.outgoing_bytes);
        let cost = message.cost();
        let fits = |(count, bytes): (usize, usize)| count < most && bytes + cost <= most_bytes;
        let held = (self.len(), self.bytes);
        let clash = (overflow == Overflow::LastValue && !connected) || !fits(held);
        if matches!(overflow, Overflow::Wait | Overflow::Refuse) || !clash {
            return true;
        }
        if self.certain(findings.now) != held {
            // The machine may have given some up that stand here still: which of the rest goes is not known.
            self.publications.values_mut().for_each(|publication| publication.doubtful = true);
            self.next_is_doubtful = true;
            return true;
        }
        let victims = match overflow {
            Overflow::LastValue => self.newest_of(message).into_iter().collect(),
            Overflow::DropOldest => self.least_urgent(message.priority, fits),
            _ => Vec::new(),
        };
        let reason = match overflow {
            Overflow::LastValue => DropReason::Superseded,
            _ => DropReason::Overflow,
        };
        for victim in victims {
            self.end(victim, Expect::Dropped(reason));
        }
        let room = fits((self.len(), self.bytes));
        if !room {
            findings.ensure(overflow != Overflow::LastValue, Invariant::Memory, || {
                format!("{op:?} was accepted and has no room")
            });
            self.expected.insert(op, Expect::Dropped(DropReason::Overflow));
        }
        room
    }

    fn newest_of(&self, message: &Message) -> Option<OpId> {
        let is_it =
            |op: &&OpId| self.publications.get(op).is_some_and(|it| it.message.topic == message.topic);
        self.waiting.iter().filter(is_it).max().copied()
    }

    /// As many of the least urgent and oldest as make room; none when all of them do not.
    fn least_urgent(&self, priority: Priority, fits: impl Fn((usize, usize)) -> bool) -> Vec<OpId> {
        let (mut count, mut bytes) = (self.len(), self.bytes);
        let mut victims = Vec::new();
        for class in
            [Priority::Low, Priority::Normal, Priority::High].into_iter().filter(|it| *it <= priority)
        {
            for op in &self.waiting {
                let Some(publication) = self.publications.get(op) else { continue };
                if publication.message.priority != class {
                    continue;
                }
                victims.push(*op);
                (count, bytes) = (count - 1, bytes - publication.cost());
                if fits((count, bytes)) {
                    return victims;
                }
            }
        }
        Vec::new()
    }

    /// Behind all that are as urgent.
    pub(super) fn queue(&mut self, op: OpId) {
        let priority = self.priority_of(op);
        let place = self.waiting.iter().rposition(|it| self.priority_of(*it) >= priority);
        self.waiting.insert(place.map_or(0, |place| place + 1), op);
    }

    /// Before all that are as urgent.
    pub(super) fn queue_again(&mut self, op: OpId) {
        let priority = self.priority_of(op);
        let place = self.waiting.iter().position(|it| self.priority_of(*it) <= priority);
        self.waiting.insert(place.unwrap_or(self.waiting.len()), op);
    }

    pub(super) fn priority_of(&self, op: OpId) -> Priority {
        self.publications.get(&op).map_or(Priority::Normal, |publication| publication.message.priority)
    }

    /// A publication that waits is the next: nothing more urgent waits.
    pub(in crate::invariants) fn is_next(&self, op: OpId, findings: &mut Findings) {
        let now = findings.now;
        let waits = self.publications.get(&op).is_some_and(|publication| publication.stage == Stage::Waiting);
        let overtaken = self.waiting.iter().find(|it| {
            self.priority_of(**it) > self.priority_of(op)
                && self.publications.get(it).is_some_and(|it: &Publication| !it.may_be_gone(now))
        });
        findings.ensure(!waits || overtaken.is_none(), Invariant::Order, || {
            format!("{op:?} goes before {overtaken:?}, which is more urgent")
        });
    }
}
