//! Owns publishing from a task: waiting for room, and the outcome. It must not know how a message is sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mqtt_machine::{Message, OpId, Outcome, Refused};

use crate::error::CommandError;
use crate::shared::{Shared, State};
use crate::wake::{Place, Wakes, block_until};

/// How many bytes are accepted before a publisher lets the driver have a turn. A publisher that never waits would
/// otherwise keep a driver on its own thread from sending anything until the queue is full.
const BURST: usize = 64 << 10;

/// A publication that has not been accepted yet, made by [`Client::publish`](crate::Client::publish).
///
/// Ready at once when there is room; else it waits in line, first come first served. While reading is paused because
/// the messages that arrived fill the inbound budget, it does not wait: it fails with
/// [`Refused::Full`], so that a task that publishes from its receive loop always comes back to receiving.
///
/// The message is accepted at the moment when this future is ready and never otherwise: to drop it earlier is to not
/// have published. A place in line is kept while this future exists, so poll it or drop it.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Publish {
    shared: Arc<Shared>,
    message: Option<Message>,
    place: Option<Place>,
}

impl Publish {
    pub(crate) const fn new(shared: Arc<Shared>, message: Message) -> Self {
        Self { shared, message: Some(message), place: None }
    }

    /// Blocks this thread until the message is accepted or refused.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<Delivery, CommandError> {
        block_until(self, None).unwrap_or(Err(CommandError::Closed))
    }
}

impl Future for Publish {
    type Output = Result<Delivery, CommandError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, message, place } = self.get_mut();
        let result = shared.with(|state, now, wakes| {
            let held = message.take()?;
            // While nothing is read, nothing is waited for.
            let waits = !state.machine.is_paused() && !state.is_over();
            let starves = state.burst >= BURST && place.is_none();
            if waits && (starves || !state.room.is_turn_of(*place) || !state.machine.has_room_for(&held)) {
                if starves {
                    state.burst = 0;
                    context.waker().wake_by_ref();
                }
                *message = Some(held);
                state.room.wait(place, context.waker());
                return None;
            }
            let result = accept(state, now, held, wakes);
            if state.room.leave(place) {
                state.room.wake_first(wakes);
            }
            Some(result)
        });
        match result {
            Some(Ok(op)) => Poll::Ready(Ok(Delivery::new(Arc::clone(shared), op))),
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if let place @ Some(_) = &mut self.place {
            self.shared.with(|state, _, wakes| {
                state.room.leave(place);
                state.room.wake_first(wakes);
            });
        }
    }
}

/// Publishes if there is room now and nobody waits for it.
pub(crate) fn publish_now(shared: &Arc<Shared>, message: Message) -> Result<Delivery, CommandError> {
    let op = shared.with(|state, now, wakes| {
        if !state.room.is_empty() {
            return Err(CommandError::Refused(Refused::Full));
        }
        accept(state, now, message, wakes)
    })?;
    Ok(Delivery::new(Arc::clone(shared), op))
}

fn accept(
    state: &mut State,
    now: mqtt_machine::Instant,
    message: Message,
    wakes: &mut Wakes,
) -> Result<OpId, CommandError> {
    let cost = message.cost();
    let op = state.command(wakes, |machine| machine.publish(now, message))?;
    state.burst = state.burst.saturating_add(cost);
    state.expect(op);
    Ok(op)
}

/// The way to the outcome of an accepted publication. It ends exactly once, whatever happens to the connection.
///
/// As a future it gives the [`Outcome`]. Dropping it forgets the outcome and changes nothing else: the message is
/// delivered all the same.
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    op: OpId,
    taken: bool,
}

impl Delivery {
    pub(crate) const fn new(shared: Arc<Shared>, op: OpId) -> Self {
        Self { shared, op, taken: false }
    }

    /// The operation's number.
    pub const fn op(&self) -> OpId {
        self.op
    }

    /// Blocks this thread until the outcome is known, for at most `timeout`.
    ///
    /// # Errors
    /// Itself, to go on waiting, when the time is up.
    pub fn wait(mut self, timeout: Duration) -> Result<Outcome, Self> {
        let deadline = Instant::now().checked_add(timeout);
        block_until(&mut self, deadline).ok_or(self)
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let outcome = this.shared.lock().poll_outcome(this.op, context);
        this.taken = outcome.is_ready();
        outcome
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.taken {
            self.shared.lock().forget(self.op);
        }
    }
}
