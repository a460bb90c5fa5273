//! Owns messages that a reader takes together. It must not know how they come to the reader.

use std::collections::VecDeque;
use std::sync::Arc;

use mqtt_machine::journal::DeliveryKey;
use mqtt_machine::transcript::Recorder;
use mqtt_machine::{Instant, Message, ReasonCode, Receipt};

use crate::router::Item;
use crate::shared::{Clocked, Shared};

/// Messages that have arrived, in the order of their arrival, as [`Subscription::recv_batch`](crate::Subscription::recv_batch) gives them.
///
/// Those that [`next`](Self::next) gave are settled when the batch is dropped, all under one lock: then the server gets its
/// acknowledgements (QoS 1 and 2) and the inbound budget its bytes back. The others stay in the stream, and are what comes next. What is not
/// settled yet holds its part of the inbound budget, and of the Receive Maximum: a batch that is kept for long slows the server down.
#[derive(Debug)]
#[must_use = "what it does not give stays in the stream"]
pub struct Batch<'a> {
    shared: &'a Arc<Shared>,
    items: &'a mut VecDeque<Item>,
    /// How many it gives.
    len: usize,
    /// How many of them were given.
    given: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, items: &'a mut VecDeque<Item>, most: usize) -> Self {
        let len = items.len().min(most.max(1));
        Self { shared, items, len, given: 0 }
    }

    /// The next message, which is settled with the batch from now on. It is lent: to keep it, clone it, and for long
    /// [detach](Message::detached) it.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend what it gives")]
    pub fn next(&mut self) -> Option<&Message> {
        if self.given >= self.len {
            return None;
        }
        let item = self.items.get(self.given)?;
        self.given = self.given.saturating_add(1);
        Some(&item.message)
    }

    /// How many it has yet to give.
    pub const fn len(&self) -> usize {
        self.len.saturating_sub(self.given)
    }

    /// Whether it has given all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names the message that was given last, as [`Incoming::delivery_key`](crate::Incoming::delivery_key) does. `None` when none was,
    /// at QoS 0, and when it was rejected.
    pub fn delivery_key(&self) -> Option<DeliveryKey> {
        self.items.get(self.given.checked_sub(1)?)?.credit.as_ref()?.key()
    }

    /// Settles the message that was given last with this reason code, at once, as [`Incoming::reject`](crate::Incoming::reject) does. Without
    /// one, and the second time, it does nothing.
    pub fn reject(&mut self, reason: ReasonCode) {
        let last = self.given.checked_sub(1).and_then(|last| self.items.get_mut(last));
        if let Some((receipt, reason)) = last.and_then(|item| item.spend(reason)) {
            self.shared.with(|state, now, wakes| state.settle(now, receipt, reason, wakes));
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let given = self.given.min(self.items.len());
        if given == 0 {
            return;
        }
        let (front, back) = self.items.as_mut_slices();
        let (back, _) = back.split_at_mut(given.saturating_sub(front.len()).min(back.len()));
        let (front, _) = front.split_at_mut(given.min(front.len()));
        self.shared.with_clock(Clocked::Turn, |state, now, wakes| {
            let acknowledges = settle(front, &mut state.machine, now) | settle(back, &mut state.machine, now);
            state.settled(acknowledges, wakes);
        });
        // Not under the lock.
        self.items.drain(..given);
    }
}

/// Gives the receipts of these messages back, as many together as can be; true when one of them was acknowledged.
#[inline]
fn settle(items: &mut [Item], machine: &mut Recorder, now: Instant) -> bool {
    let mut acknowledges = false;
    let mut together: Option<Receipt> = None;
    for item in items {
        let Some((receipt, reason)) = item.spend(ReasonCode::Success) else { continue };
        acknowledges |= receipt.acknowledges();
        if reason != ReasonCode::Success {
            machine.settle(now, receipt, reason);
            continue;
        }
        let Some(before) = &mut together else {
            together = Some(receipt);
            continue;
        };
        if let Err(receipt) = before.merge(receipt) {
            machine.settle(now, std::mem::replace(before, receipt), ReasonCode::Success);
        }
    }
    if let Some(last) = together {
        machine.settle(now, last, ReasonCode::Success);
    }
    acknowledges
}
