//! Owns publishing from a task: waiting for room, and the outcome. It must not know how a message is sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mqtt_machine::journal::PublishKey;
use mqtt_machine::{JournalSeq, KeyedPublication, Message, OpId, Outcome, Refused};

use crate::error::CommandError;
use crate::shared::{BURST, Clocked, Phase, Shared, State};
use crate::threads::waited;
use crate::wake::{Place, Wakes};

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
    key: Option<PublishKey>,
    place: Option<Place>,
}

impl Publish {
    pub(crate) const fn new(shared: Arc<Shared>, message: Message) -> Self {
        Self { shared, message: Some(message), key: None, place: None }
    }

    pub(crate) const fn keyed(shared: Arc<Shared>, key: PublishKey, message: Message) -> Self {
        Self { shared, message: Some(message), key: Some(key), place: None }
    }

    /// Blocks this thread until the message is accepted or refused.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(mut self) -> Result<Delivery, CommandError> {
        match self.advance(&Context::from_waker(Waker::noop()), Shared::attend) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => {
                let shared = Arc::clone(&self.shared);
                shared.wait_until(self, None).unwrap_or(Err(CommandError::Closed))
            }
        }
    }

    #[inline]
    fn advance(
        &mut self,
        context: &Context<'_>,
        finish: fn(&Shared, Wakes),
    ) -> Poll<Result<Delivery, CommandError>> {
        let Self { shared, message, key, place } = self;
        let Some(given) = message else { return Poll::Pending };
        let clock = clocked(given);
        let mut locked = shared.lock();
        if key.is_none()
            && locked.is_clear_for(given)
            && let Some(given) = message.take()
        {
            let accepted = locked.publish_ahead(given).map(|op| Accepted::new(&mut locked, op));
            drop(locked);
            let delivery = accepted.map(|accepted| Delivery::of(Arc::clone(shared), accepted));
            return Poll::Ready(delivery.map_err(CommandError::from));
        }
        let result = shared.with_locked(locked, clock, finish, |state, now, wakes| {
            if stands_back(state, place, key.as_ref(), context) {
                return None;
            }
            if !state.machine.has_room_for(message.as_ref()?) && waits(state, place, key.as_ref(), context) {
                return None;
            }
            let result = accept(state, now, message.take()?, key.take(), wakes);
            leave(state, place, wakes);
            Some(result)
        });
        match result {
            Some(Ok(accepted)) => Poll::Ready(Ok(Delivery::of(Arc::clone(shared), accepted))),
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl Future for Publish {
    type Output = Result<Delivery, CommandError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().advance(context, Shared::wake)
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        give_up(&self.shared, &mut self.place);
    }
}

/// A message that has not been accepted yet and whose outcome nobody asks for, made by [`Client::send`](crate::Client::send).
///
/// It waits for room as [`Publish`] does.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Sending<'a> {
    shared: &'a Shared,
    /// `None`: it was accepted or refused.
    message: Option<&'a Message>,
    place: Option<Place>,
}

impl<'a> Sending<'a> {
    pub(crate) const fn new(shared: &'a Shared, message: &'a Message) -> Self {
        Self { shared, message: Some(message), place: None }
    }

    /// Blocks this thread until the message is accepted or refused.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(mut self) -> Result<OpId, CommandError> {
        match self.advance(&Context::from_waker(Waker::noop()), Shared::attend) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => {
                let shared = self.shared;
                shared.wait_until(self, None).unwrap_or(Err(CommandError::Closed))
            }
        }
    }

    #[inline]
    fn advance(
        &mut self,
        context: &Context<'_>,
        finish: fn(&Shared, Wakes),
    ) -> Poll<Result<OpId, CommandError>> {
        let Self { shared, message: sent, place } = self;
        let Some(message) = *sent else { return Poll::Pending };
        let mut locked = shared.lock();
        if locked.is_open()
            && let Ok(op) = locked.publish_ahead(message)
        {
            *sent = None;
            return Poll::Ready(Ok(op));
        }
        let result = shared.with_locked(locked, clocked(message), finish, |state, now, wakes| {
            if stands_back(state, place, None, context) {
                return None;
            }
            let result = send(state, now, message, wakes);
            if is_full(&result) && waits(state, place, None, context) {
                return None;
            }
            leave(state, place, wakes);
            Some(result)
        });
        if result.is_some() {
            *sent = None;
        }
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Future for Sending<'_> {
    type Output = Result<OpId, CommandError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().advance(context, Shared::wake)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        give_up(self.shared, &mut self.place);
    }
}

/// Whether a message does not try now: others are before it, or the driver has to have its turn. Then it stands in line.
#[inline]
fn stands_back(
    state: &mut State,
    place: &mut Option<Place>,
    key: Option<&PublishKey>,
    context: &Context<'_>,
) -> bool {
    let starves = state.burst >= BURST && place.is_none();
    let is_behind = !state.room.is_turn_of(*place) && state.machine.waits_for_room();
    if !(starves || is_behind) || !may_pause(state, key) {
        return false;
    }
    if starves {
        state.burst = 0;
        context.waker().wake_by_ref();
    }
    state.room.wait(place, context.waker());
    true
}

fn is_full(result: &Result<OpId, CommandError>) -> bool {
    matches!(result, Err(CommandError::Refused(Refused::Full)))
}

/// Whether a message for which there is no room waits for it. Then it stands in line.
fn waits(
    state: &mut State,
    place: &mut Option<Place>,
    key: Option<&PublishKey>,
    context: &Context<'_>,
) -> bool {
    let waits = state.machine.waits_for_room() && may_pause(state, key);
    if waits {
        state.room.wait(place, context.waker());
    }
    waits
}

/// Leaves the line when it has been one's turn.
#[inline]
fn leave(state: &mut State, place: &mut Option<Place>, wakes: &mut Wakes) {
    if place.is_some() && state.room.leave(place) {
        state.room.wake_first(wakes);
    }
}

/// Leaves the line without having published.
#[inline]
fn give_up(shared: &Shared, place: &mut Option<Place>) {
    if place.is_some() {
        shared.with(|state, _, wakes| {
            state.room.leave(place);
            state.room.wake_first(wakes);
        });
    }
}

/// How long a message is worth something is among its properties.
fn clocked(message: &Message) -> Clocked {
    if message.properties.is_empty() { Clocked::Turn } else { Clocked::Now }
}

/// Whether a publication may wait. While nothing is read, nothing is waited for.
fn may_pause(state: &State, key: Option<&PublishKey>) -> bool {
    let known = key.is_some_and(|key| state.machine.is_known(key));
    !known && !state.machine.is_paused() && !state.is_over()
}

/// Publishes if there is room now and nobody waits for it.
pub(crate) fn publish_now(shared: &Arc<Shared>, message: Message) -> Result<Delivery, CommandError> {
    let accepted = shared.with_clock(clocked(&message), |state, now, wakes| {
        if !state.room.is_empty() {
            return Err(CommandError::Refused(Refused::Full));
        }
        accept(state, now, message, None, wakes)
    })?;
    Ok(Delivery::of(Arc::clone(shared), accepted))
}

/// Publishes, for nobody who asks what became of it, if there is room now and nobody waits for it.
pub(crate) fn send_now(shared: &Shared, message: &Message) -> Result<OpId, CommandError> {
    shared.with_clock(clocked(message), |state, now, wakes| {
        if !state.room.is_empty() {
            return Err(CommandError::Refused(Refused::Full));
        }
        send(state, now, message, wakes)
    })
}

fn send(
    state: &mut State,
    now: mqtt_machine::Instant,
    message: &Message,
    wakes: &mut Wakes,
) -> Result<OpId, CommandError> {
    let op = state.publish(now, message, wakes)?;
    state.burst = state.burst.saturating_add(message.cost());
    Ok(op)
}

/// What was accepted, now or before: its name, the name to ask by, and the record that makes it durable.
struct Accepted {
    op: OpId,
    ticket: OpId,
    recorded: JournalSeq,
}

impl Accepted {
    /// The machine has accepted a message.
    fn new(state: &mut State, op: OpId) -> Self {
        state.outcomes.expect(op);
        Self { op, ticket: op, recorded: state.machine.journal_position() }
    }
}

fn accept(
    state: &mut State,
    now: mqtt_machine::Instant,
    message: Message,
    key: Option<PublishKey>,
    wakes: &mut Wakes,
) -> Result<Accepted, CommandError> {
    let cost = message.cost();
    let known = match key {
        None => KeyedPublication::Accepted(state.publish(now, message, wakes)?),
        Some(key) => state.command(wakes, |machine| machine.publish_keyed(now, key, message))?,
    };
    let (op, ticket) = match known {
        KeyedPublication::Accepted(op) => {
            state.burst = state.burst.saturating_add(cost);
            return Ok(Accepted::new(state, op));
        }
        KeyedPublication::Open(op) => (op, state.join(op)),
        KeyedPublication::Ended(op, outcome) => (op, state.known(outcome)),
    };
    Ok(Accepted { op, ticket, recorded: state.machine.journal_position() })
}

/// The way to the outcome of an accepted publication. It ends exactly once, whatever happens to the connection.
///
/// As a future it gives the [`Outcome`]. Dropping it forgets the outcome and changes nothing else: the message is
/// delivered all the same.
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    op: OpId,
    /// The name to ask by: several may wait for one operation.
    ticket: OpId,
    recorded: JournalSeq,
    taken: bool,
}

impl Delivery {
    pub(crate) const fn new(shared: Arc<Shared>, op: OpId) -> Self {
        Self { shared, op, ticket: op, recorded: JournalSeq::ZERO, taken: false }
    }

    const fn of(shared: Arc<Shared>, Accepted { op, ticket, recorded }: Accepted) -> Self {
        Self { shared, op, ticket, recorded, taken: false }
    }

    /// Waits until the message is in the store for good, as [`Options::durability`](crate::Options::durability) says: from then on it
    /// is delivered, whatever becomes of this process. A message of QoS 0 is in no store; this is ready when what was accepted
    /// before it is.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::{Message, QoS};
    ///
    /// let delivery = client.publish(Message::to("meters/7", "21.5")?.qos(QoS::AtLeastOnce)).await?;
    /// delivery.durable().await?; // now the reading may be deleted from where it came
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(&self) -> Durable {
        Durable { shared: Arc::clone(&self.shared), recorded: self.recorded, place: None }
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
        let deadline = || Instant::now().checked_add(timeout);
        let poll = |delivery: &mut Self, context: &mut Context<'_>| Pin::new(delivery).poll(context);
        waited(&mut self, |delivery| &delivery.shared, deadline, poll).ok_or(self)
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let outcome = this.shared.lock().outcomes.poll(this.ticket, context);
        this.taken = outcome.is_ready();
        outcome
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.taken {
            self.shared.lock().outcomes.forget(self.ticket);
        }
    }
}

/// Waits until a publication is durable; made by [`Delivery::durable`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Durable {
    shared: Arc<Shared>,
    recorded: JournalSeq,
    place: Option<Place>,
}

/// Why a publication is not durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDurable {
    /// The client has no store.
    NoStore,
    /// The store has failed; the text says how.
    Failed(String),
    /// The client ended before.
    Closed,
}

impl fmt::Display for NotDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore => f.write_str("the client has no store"),
            Self::Failed(why) => write!(f, "the store failed: {why}"),
            Self::Closed => f.write_str("the client has ended"),
        }
    }
}

impl std::error::Error for NotDurable {}

impl Durable {
    /// Blocks this thread until it is known, for at most `timeout`.
    ///
    /// # Errors
    /// Itself, to go on waiting, when the time is up.
    pub fn wait(mut self, timeout: Duration) -> Result<Result<(), NotDurable>, Self> {
        let deadline = Instant::now().checked_add(timeout);
        let shared = Arc::clone(&self.shared);
        shared.wait_until(&mut self, deadline).ok_or(self)
    }
}

impl Future for Durable {
    type Output = Result<(), NotDurable>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, recorded, place } = self.get_mut();
        let state = &mut *shared.lock();
        let result = match &state.phase {
            _ if !shared.durable => Err(NotDurable::NoStore),
            _ if state.kept >= *recorded => Ok(()),
            Phase::Closed => Err(NotDurable::Closed),
            phase => match phase.store_error() {
                Some(error) => Err(NotDurable::Failed(error.to_string())),
                None => {
                    state.kept_waiters.wait(place, context.waker());
                    return Poll::Pending;
                }
            },
        };
        state.kept_waiters.leave(place);
        Poll::Ready(result)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.shared.lock().kept_waiters.leave(&mut self.place);
        }
    }
}
