//! Owns the messages that are written when their turn comes, without another look at them. It must not know which those are.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Entry, NONE, Outgoing, Owed, Stage, Waiting};
use crate::message::Message;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, PacketId, Priority};

impl Outgoing {
    /// Whether a message of normal priority without properties may [pass](Self::pass): it would overtake none.
    pub(crate) const fn may_pass(&self) -> bool {
        self.waiting.normal.first == NONE && self.newest.is_none()
    }

    /// Takes a message that is written without another look at it, when its turn has come: see [`may_pass`](Self::may_pass).
    #[inline]
    pub(crate) fn pass(&mut self, op: OpId, message: Message) {
        self.count_in(&message);
        self.passing.push_back((op, message));
    }

    /// Counts the bytes of a message that is taken.
    #[inline]
    pub(crate) fn count_in(&mut self, message: &Message) {
        self.bytes = self.bytes.saturating_add(message.cost());
    }

    /// The oldest of those that pass.
    #[inline]
    pub(crate) fn first_passing(&self) -> Option<(OpId, &Message)> {
        self.passing.front().map(|(op, message)| (*op, message))
    }

    /// Those that pass, in order.
    #[inline]
    pub(crate) fn passing(&self) -> impl Iterator<Item = (OpId, &Message)> {
        self.passing.iter().map(|(op, message)| (*op, message))
    }

    /// So many of those that pass have ended, whose cost was `cost`.
    pub(crate) fn passed(&mut self, count: usize, cost: usize) {
        self.bytes = self.bytes.saturating_sub(cost);
        if count < self.passing.len() {
            self.passing.drain(..count);
            return;
        }
        self.passing.clear();
        self.shrink_passing();
    }

    /// The oldest of those that pass was written under this packet identifier: it has a slot now.
    #[inline]
    pub(crate) fn passes(&mut self, packet_id: PacketId, now: Instant) -> Option<u32> {
        let (op, message) = self.passing.pop_front()?;
        let slot = self.push_written(op, packet_id, message, now);
        self.shrink_passing();
        Some(slot)
    }

    /// A new entry of a message without properties that was written when it was accepted.
    #[inline]
    pub(crate) fn push_written(
        &mut self,
        op: OpId,
        packet_id: PacketId,
        message: Message,
        now: Instant,
    ) -> u32 {
        let slot = self.free_slot();
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Entry {
                op,
                owed: Owed::Publish(packet_id, message),
                order: (op.to_u64(), 0),
                // It has no properties that its age counts for.
                accepted_at: now,
                away: Duration::ZERO,
                gate: JournalSeq::ZERO,
                written_at: now,
                priority: Priority::Normal,
                sent: true,
                ended: false,
                misanswered: false,
                stage: Stage::InFlight,
                previous: NONE,
                next: NONE,
            });
            self.in_flight = self.in_flight.saturating_add(1);
        }
        slot
    }

    /// Whether nothing waits or is ready to be written.
    pub(crate) fn is_nothing_ahead(&self) -> bool {
        let Waiting { high, normal, low } = &self.waiting;
        self.ready.first == NONE
            && high.first == NONE
            && normal.first == NONE
            && low.first == NONE
            && self.passing.is_empty()
    }

    fn shrink_passing(&mut self) {
        if self.passing.is_empty() && self.passing.capacity() > 1_024 {
            self.passing = VecDeque::new();
        }
    }

    /// Those that were to pass wait like the rest, before those that came after them.
    pub(crate) fn hold_passing(&mut self) {
        if self.passing.is_empty() {
            return;
        }
        let later: Vec<u32> = self.along(self.waiting.normal).collect();
        for (op, message) in core::mem::take(&mut self.passing) {
            self.bytes = self.bytes.saturating_sub(message.cost());
            self.push(op, message);
        }
        for slot in later {
            self.advance(slot, Stage::Waiting);
        }
    }
}
