//! Owns streams as threads read them: calls that wait, and iterators. It must not know where messages come from.

use std::ops::Deref;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mqtt_machine::{Codes, Message};

use crate::backlog::StreamLimit;
use crate::batch::Batch;
use crate::error::{CommandError, SubscribeError, TryRecvError};
use crate::events::ClientEvent;
use crate::request::RequestError;
use crate::subscription::Incoming;
use crate::threads::waited;
use crate::wake::block_until;

/// The messages of some filters, in the order of their arrival: [`crate::Subscription`] for threads.
///
/// An iterator over what arrives, which waits for every message and ends with the client. Each message is acknowledged when it is
/// dropped, so at the end of its turn of a `for` loop. `for message in &mut subscription` can be left with the subscription
/// kept; dropping the subscription unsubscribes.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub struct Subscription(crate::Subscription);

impl Subscription {
    /// The answer of the server to the request: one code for each filter, in the order of the request; those of 0x80
    /// and above are refusals. `None` for a stream that no request was made for.
    pub const fn granted(&self) -> Option<&Codes> {
        self.0.granted()
    }

    fn waited<T>(
        &mut self,
        deadline: impl FnOnce() -> Option<Instant>,
        poll: impl FnMut(&mut crate::Subscription, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        waited(&mut self.0, crate::Subscription::shared, deadline, poll)
    }

    /// Waits for the next message; `None` when there will be none.
    pub fn recv(&mut self) -> Option<Incoming> {
        self.waited(|| None, crate::Subscription::poll_recv).flatten()
    }

    /// Waits for the next message, for at most `timeout`.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] when none has arrived in time, [`TryRecvError::Closed`] when there will be none.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Incoming, TryRecvError> {
        within(self.waited(|| Instant::now().checked_add(timeout), crate::Subscription::poll_recv))
    }

    /// Waits until messages have arrived, and gives those that have, at most `most` (at least one) of them; `None` when there will be none. They are settled
    /// together when the [`Batch`] is dropped, which costs less than one by one.
    ///
    /// ```no_run
    /// # fn example(mut values: mqtt_machine_client::threads::Subscription) {
    /// while let Some(mut batch) = values.recv_batch(1_000) {
    ///     while let Some(message) = batch.next() {
    ///         println!("{}: {}", message.topic, message.payload_lossy());
    ///     }
    /// }
    /// # }
    /// ```
    pub fn recv_batch(&mut self, most: usize) -> Option<Batch<'_>> {
        let arrived = self.waited(|| None, |stream, context| stream.poll_arrived(context));
        arrived.unwrap_or_default().then(|| self.0.arrived(most))
    }

    /// As [`recv_batch`](Self::recv_batch), of what has already arrived.
    ///
    /// # Errors
    /// [`TryRecvError`] when there is nothing yet, or will be nothing.
    pub fn try_recv_batch(&mut self, most: usize) -> Result<Batch<'_>, TryRecvError> {
        self.0.try_recv_batch(most)
    }

    /// The next message that has already arrived.
    ///
    /// # Errors
    /// [`TryRecvError`] when there is none yet, or will be none.
    pub fn try_recv(&mut self) -> Result<Incoming, TryRecvError> {
        self.0.try_recv()
    }

    /// Limits what waits for this reader from now on, also of what has arrived already.
    pub fn limit(&mut self, limit: StreamLimit) {
        self.0.limit(limit);
    }

    /// How many messages had no room under the [limit](Self::limit).
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    /// Unsubscribes from those filters that no other stream uses and waits for the server's answer: one code for each
    /// of them. What was not read is acknowledged.
    ///
    /// # Errors
    /// [`SubscribeError::Command`] when the request is not accepted; [`SubscribeError::Ended`] when it got no answer.
    pub fn unsubscribe(self) -> Result<Codes, SubscribeError> {
        let closed = SubscribeError::Command(CommandError::Closed);
        block_until(self.0.unsubscribe(), None).unwrap_or(Err(closed))
    }
}

impl Iterator for Subscription {
    type Item = Incoming;

    fn next(&mut self) -> Option<Incoming> {
        self.recv()
    }
}

impl From<crate::Subscription> for Subscription {
    fn from(subscription: crate::Subscription) -> Self {
        Self(subscription)
    }
}

impl From<Subscription> for crate::Subscription {
    fn from(subscription: Subscription) -> Self {
        subscription.0
    }
}

/// What happens to the connection: [`crate::Events`] for threads. An iterator that waits for every event and ends
/// with the client.
#[derive(Debug)]
#[must_use = "events are kept for nobody else"]
pub struct Events(crate::Events);

impl Events {
    /// How many unread events are kept.
    pub const CAPACITY: usize = crate::Events::CAPACITY;

    /// Waits for the next event; `None` when the client has ended.
    pub fn recv(&mut self) -> Option<ClientEvent> {
        block_until(self.0.recv(), None).flatten()
    }

    /// Waits for the next event, for at most `timeout`.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] when nothing has happened in time, [`TryRecvError::Closed`] when the client has ended.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<ClientEvent, TryRecvError> {
        within(block_until(self.0.recv(), Instant::now().checked_add(timeout)))
    }

    /// The next event that has already happened, if any.
    pub fn try_recv(&mut self) -> Option<ClientEvent> {
        self.0.try_recv()
    }
}

impl Iterator for Events {
    type Item = ClientEvent;

    fn next(&mut self) -> Option<ClientEvent> {
        self.recv()
    }
}

impl From<crate::Events> for Events {
    fn from(events: crate::Events) -> Self {
        Self(events)
    }
}

/// Asks, and gets the answers: [`crate::Requester`] for threads, which it dereferences to. Clones are cheap and mean
/// the same requester.
#[derive(Clone, Debug)]
pub struct Requester(crate::Requester);

impl Requester {
    /// Publishes a request and waits for its answer, for as long as the requester's options say.
    ///
    /// # Errors
    /// [`RequestError`] when there is no answer.
    pub fn request(&self, message: Message) -> Result<Incoming, RequestError> {
        self.0.request(message).wait()
    }
}

impl Deref for Requester {
    type Target = crate::Requester;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<crate::Requester> for Requester {
    fn from(requester: crate::Requester) -> Self {
        Self(requester)
    }
}

/// What came of waiting for something with an end.
fn within<T>(waited: Option<Option<T>>) -> Result<T, TryRecvError> {
    match waited {
        Some(Some(item)) => Ok(item),
        Some(None) => Err(TryRecvError::Closed),
        None => Err(TryRecvError::Empty),
    }
}
