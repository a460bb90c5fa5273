//! Owns the outcomes that somebody wants, by the numbers of their operations. It must not know what the operations were.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::{Context, Poll, Waker};

use mqtt_machine::packet::PropertiesBuf;
use mqtt_machine::{Acknowledgement, Completions, OpId, Outcome, ReasonCode};

use crate::wake::Wakes;

/// An accepted command whose outcome somebody wants.
#[derive(Debug)]
enum Pending {
    Waiting(Option<Waker>),
    Ended(Outcome),
    /// Ended with [`Outcome::Sent`].
    Sent,
    /// Ended with [`Outcome::Acknowledged`] with success and nothing else, as most do.
    Acknowledged,
}

/// What most publications of QoS 1 and 2 end with.
const fn acknowledged() -> Outcome {
    Outcome::Acknowledged(Acknowledgement::new(ReasonCode::Success, PropertiesBuf::new()))
}

impl Pending {
    /// The outcome, once.
    fn poll(&mut self, context: &Context<'_>) -> Poll<Outcome> {
        match self {
            Self::Waiting(Some(known)) => {
                known.clone_from(context.waker());
                Poll::Pending
            }
            Self::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Self::Ended(outcome) => Poll::Ready(std::mem::replace(outcome, Outcome::Unknown)),
            Self::Sent => Poll::Ready(Outcome::Sent),
            Self::Acknowledged => Poll::Ready(acknowledged()),
        }
    }
}

/// Operations are numbered by the machine, so a product spreads them well enough.
#[derive(Default)]
pub(crate) struct OpHasher(u64);

impl Hasher for OpHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A map by operations.
pub(crate) type OpMap<T> = HashMap<OpId, T, BuildHasherDefault<OpHasher>>;

/// The slots of a table that was empty.
const LEAST: usize = 4;

/// What is kept for whoever asks for the outcome of an operation.
///
/// The machine numbers operations one after another, so those that are open at one time nearly always have different last bits: each
/// has the slot that these name. Where two would have the same one, the table grows while it is half full; else the later goes
/// into the map beside it, so that one that is open for long does not make the table as large as what came meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// None, or a power of two.
    slots: Vec<Option<(OpId, Pending)>>,
    /// How many of the slots are taken.
    taken: usize,
    others: OpMap<Pending>,
}

impl Outcomes {
    /// Keeps the outcome of `op`, which has not ended.
    pub(crate) fn expect(&mut self, op: OpId) {
        self.insert(op, Pending::Waiting(None));
    }

    /// Keeps an outcome that is known already.
    pub(crate) fn insert_ended(&mut self, op: OpId, outcome: Outcome) {
        self.insert(op, Pending::Ended(outcome));
    }

    /// Nobody asks for the outcome of `op` any more.
    pub(crate) fn forget(&mut self, op: OpId) {
        let at = self.slot(op);
        if let Some(slot) = self.slots.get_mut(at)
            && slot.take_if(|(known, _)| *known == op).is_some()
        {
            self.taken = self.taken.saturating_sub(1);
        } else if !self.others.is_empty() {
            self.others.remove(&op);
        }
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.taken.saturating_add(self.others.len())
    }

    /// The outcome of `op`, once.
    pub(crate) fn poll(&mut self, op: OpId, context: &Context<'_>) -> Poll<Outcome> {
        let at = self.slot(op);
        if let Some(slot @ Some(_)) = self.slots.get_mut(at)
            && let Some((known, pending)) = slot
            && *known == op
        {
            let outcome = pending.poll(context);
            if outcome.is_ready() {
                *slot = None;
                self.taken = self.taken.saturating_sub(1);
            }
            return outcome;
        }
        let Some(pending) = self.others.get_mut(&op) else {
            // It was taken before, so nothing more is known.
            return Poll::Ready(Outcome::Unknown);
        };
        let outcome = pending.poll(context);
        if outcome.is_ready() {
            self.others.remove(&op);
        }
        outcome
    }

    /// `op` has ended.
    pub(crate) fn end(&mut self, op: OpId, outcome: Outcome, wakes: &mut Wakes) {
        self.end_as(op, Pending::Ended(outcome), wakes);
    }

    #[inline]
    fn end_as(&mut self, op: OpId, ended: Pending, wakes: &mut Wakes) {
        if let Some(pending) = self.get_mut(op)
            && let Pending::Waiting(Some(waker)) = std::mem::replace(pending, ended)
        {
            wakes.push(waker);
        }
    }

    /// All of these have ended.
    pub(crate) fn end_all(&mut self, ended: &Completions, wakes: &mut Wakes) {
        if self.len() == 0 {
            return;
        }
        // An outcome is large, and there are many.
        if ended.outcome == Outcome::Sent {
            ended.ops().for_each(|op| self.end_as(op, Pending::Sent, wakes));
        } else if ended.outcome == acknowledged() {
            ended.ops().for_each(|op| self.end_as(op, Pending::Acknowledged, wakes));
        } else {
            ended.ops().for_each(|op| self.end(op, ended.outcome.clone(), wakes));
        }
    }

    /// Nothing completes any more: what has not ended yet never will.
    pub(crate) fn fail_all(&mut self, wakes: &mut Wakes) {
        let slots = self.slots.iter_mut().flatten().map(|(_, pending)| pending);
        for pending in slots.chain(self.others.values_mut()) {
            if let Pending::Waiting(waker) = pending {
                if let Some(waker) = waker.take() {
                    wakes.push(waker);
                }
                *pending = Pending::Ended(Outcome::Unknown);
            }
        }
    }

    /// Gives the memory back when nothing is kept.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// The slot of `op`; none in a table without any.
    fn slot(&self, op: OpId) -> usize {
        // Only the last bits count, whatever the width of a pointer.
        #[allow(clippy::cast_possible_truncation)]
        let number = op.to_u64() as usize;
        number & self.slots.len().wrapping_sub(1)
    }

    fn insert(&mut self, op: OpId, pending: Pending) {
        loop {
            let at = self.slot(op);
            let is_roomy = self.taken < self.slots.len() / 2;
            match self.slots.get_mut(at) {
                Some(slot @ None) => {
                    *slot = Some((op, pending));
                    self.taken = self.taken.saturating_add(1);
                    return;
                }
                Some(_) if is_roomy => {
                    self.others.insert(op, pending);
                    return;
                }
                _ => self.grow(),
            }
        }
    }

    /// Twice the slots. What had one has one again: it differed from the others in fewer bits already.
    fn grow(&mut self) {
        let length = self.slots.len().saturating_mul(2).max(LEAST);
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(length, || None);
        for kept in old.into_iter().flatten() {
            let at = self.slot(kept.0);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Some(kept);
            }
        }
    }

    fn get_mut(&mut self, op: OpId) -> Option<&mut Pending> {
        let at = self.slot(op);
        match self.slots.get_mut(at) {
            Some(Some((known, pending))) if *known == op => Some(pending),
            _ if self.others.is_empty() => None,
            _ => self.others.get_mut(&op),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn poll(outcomes: &mut Outcomes, op: u64) -> Poll<Outcome> {
        outcomes.poll(OpId::new(op), &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_that_is_open_for_long_does_not_make_the_table_grow() {
        let (mut outcomes, mut wakes) = (Outcomes::default(), Wakes::default());
        outcomes.expect(OpId::new(0));
        for op in 1..100_000 {
            outcomes.expect(OpId::new(op));
            assert!(poll(&mut outcomes, op).is_pending());
            outcomes.end(OpId::new(op), Outcome::Sent, &mut wakes);
            assert_eq!(poll(&mut outcomes, op), Poll::Ready(Outcome::Sent));
            assert_eq!(poll(&mut outcomes, op), Poll::Ready(Outcome::Unknown), "once");
        }
        assert!(poll(&mut outcomes, 0).is_pending());
        assert_eq!((outcomes.len(), outcomes.slots.len()), (1, LEAST));
        outcomes.forget(OpId::new(0));
        outcomes.shrink();
        assert_eq!(outcomes.slots.capacity(), 0);
    }

    #[test]
    fn as_many_as_are_open_have_a_slot_each() {
        let mut outcomes = Outcomes::default();
        (500..1_500).for_each(|op| outcomes.expect(OpId::new(op)));
        assert_eq!((outcomes.slots.len(), outcomes.others.len()), (1_024, 0));
    }

    proptest! {
        /// Against a plain map.
        #[test]
        fn each_outcome_is_told_to_whom_it_belongs(
            steps in prop::collection::vec((0_u8..4, prop_oneof![0_u64..40, u64::MAX - 40..=u64::MAX]), 0..300),
        ) {
            let (mut outcomes, mut wakes) = (Outcomes::default(), Wakes::default());
            let mut model: HashMap<u64, bool> = HashMap::new();
            for (what, op) in steps {
                let id = OpId::new(op);
                match what {
                    0 if !model.contains_key(&op) => {
                        outcomes.expect(id);
                        model.insert(op, false);
                    }
                    1 => {
                        outcomes.end(id, Outcome::Expired, &mut wakes);
                        model.entry(op).and_modify(|ended| *ended = true);
                    }
                    2 => {
                        outcomes.forget(id);
                        model.remove(&op);
                    }
                    _ => {
                        let expected = match model.get(&op) {
                            Some(false) => Poll::Pending,
                            Some(true) => Poll::Ready(Outcome::Expired),
                            None => Poll::Ready(Outcome::Unknown),
                        };
                        prop_assert_eq!(poll(&mut outcomes, op), expected);
                        if model.get(&op) == Some(&true) {
                            model.remove(&op);
                        }
                    }
                }
                prop_assert_eq!(outcomes.len(), model.len());
                prop_assert!(outcomes.slots.len() <= 256, "it stays in proportion");
            }
            outcomes.fail_all(&mut wakes);
            for op in model.keys() {
                prop_assert!(poll(&mut outcomes, *op).is_ready());
            }
        }
    }
}
