//! Owns the stream of what happens to the connection. It must not know messages.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use mqtt_machine::packet::PropertiesBuf;
use mqtt_machine::{Connected, EndReason, Ended, Feature, ProtocolVersion, ReasonCode, TopicFilter};

use crate::clock::Clock;
use crate::shared::Shared;
use crate::transport::TransportError;
use crate::wake::Wakes;

/// What happened to the connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A server accepted the client: whether for the first time (`reconnected`) and whether it had kept the session.
    Connected(Connected),
    /// An attempt to connect failed.
    ConnectFailed {
        /// Why.
        reason: EndReason,
        /// What failed of the transport, if that was it.
        cause: Option<TransportError>,
        /// When the next attempt begins; `None`: there is none until [`reconnect`](crate::Client::reconnect).
        retry_at: Option<Instant>,
    },
    /// The connection ended.
    Disconnected {
        /// Why.
        reason: EndReason,
        /// What failed of the transport, if that was it.
        cause: Option<TransportError>,
        /// When the next attempt begins; `None`: there is none until [`reconnect`](crate::Client::reconnect).
        retry_at: Option<Instant>,
    },
    /// The server had lost the session and subscriptions were made again.
    Resubscribed {
        /// Which, and the code of each; those whose code is a failure are gone.
        codes: Vec<(TopicFilter, ReasonCode)>,
        /// The server's reason string and user properties.
        properties: PropertiesBuf,
    },
    /// The server does not speak the version of the last attempt: the next one speaks a lower one.
    FellBack {
        /// The version of the next attempt.
        version: ProtocolVersion,
        /// What it cannot do of what is asked for.
        without: Vec<Feature>,
    },
    /// A step of the server's in an enhanced authentication explained itself.
    Auth {
        /// Its reason code.
        reason: ReasonCode,
        /// Its reason string and user properties.
        properties: PropertiesBuf,
    },
    /// The connection is alive, and nothing was acknowledged for as long as the [`Watchdog`](crate::Watchdog) says. One that also
    /// reconnects tells [`Disconnected`](Self::Disconnected) with [`EndReason::Stalled`] in its place.
    Stalled {
        /// How long nothing was.
        waited: Duration,
        /// How many publications and requests wait for their acknowledgement.
        unacknowledged: usize,
    },
    /// The consumer has caught up after messages of QoS 0 were dropped under [`Behind::DropQoS0`](crate::Behind::DropQoS0).
    Overrun {
        /// How many were dropped since the last such event.
        messages: u64,
    },
    /// What [`reauthenticate`](crate::Client::reauthenticate) began has ended well.
    Reauthenticated,
    /// The [authenticator](crate::Options::authenticator) has given an exchange up; the connection ends.
    AuthenticationFailed {
        /// Why, for people.
        why: String,
    },
    /// The [recording](crate::Options::record) has ended before the client: its sink failed, or its buffer was full.
    RecordingStopped {
        /// Why, for people.
        why: String,
    },
    /// So many events were not read in time and are gone; those that follow are the newest.
    Lagged(u64),
}

impl ClientEvent {
    pub(crate) fn connect_failed(ended: &Ended, cause: Option<TransportError>, clock: &Clock) -> Self {
        let retry_at = ended.retry_at.map(|at| clock.to_std(at));
        Self::ConnectFailed { reason: ended.reason.clone(), cause, retry_at }
    }

    pub(crate) fn disconnected(ended: &Ended, cause: Option<TransportError>, clock: &Clock) -> Self {
        let retry_at = ended.retry_at.map(|at| clock.to_std(at));
        Self::Disconnected { reason: ended.reason.clone(), cause, retry_at }
    }
}

/// The events that one reader has not read.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    queue: VecDeque<ClientEvent>,
    lagged: u64,
    waker: Option<Waker>,
}

impl Feed {
    pub(crate) fn push(&mut self, event: ClientEvent, wakes: &mut Wakes) {
        if self.queue.len() >= Events::CAPACITY {
            self.queue.pop_front();
            self.lagged = self.lagged.saturating_add(1);
        }
        self.queue.push_back(event);
        self.wake(wakes);
    }

    pub(crate) fn wake(&mut self, wakes: &mut Wakes) {
        if let Some(waker) = self.waker.take() {
            wakes.push(waker);
        }
    }

    fn pop(&mut self) -> Option<ClientEvent> {
        match std::mem::take(&mut self.lagged) {
            0 => self.queue.pop_front(),
            lagged => Some(ClientEvent::Lagged(lagged)),
        }
    }
}

/// What happens to the connection from the moment of [`Client::events`](crate::Client::events) on.
///
/// A reader that falls behind by more than [`CAPACITY`](Self::CAPACITY) events loses the oldest and is told how many.
/// The stream ends with the client. A [`Stream`] of `futures` as well.
#[derive(Debug)]
#[must_use = "events are kept for nobody else"]
pub struct Events {
    shared: Arc<Shared>,
    feed: usize,
}

impl Events {
    /// How many unread events are kept.
    pub const CAPACITY: usize = 64;

    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let feed = shared.lock().feeds.make().insert(Feed::default());
        Self { shared: Arc::clone(shared), feed }
    }

    /// The next event; `None` when the client has ended. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Self::recv), for futures written by hand.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        let mut state = self.shared.lock();
        let closed = state.is_closed();
        let Some(feed) = state.feeds.make().get_mut(self.feed) else { return Poll::Ready(None) };
        match feed.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if closed => Poll::Ready(None),
            None => {
                feed.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next event that has already happened, if any.
    pub fn try_recv(&mut self) -> Option<ClientEvent> {
        self.shared.lock().feeds.make().get_mut(self.feed)?.pop()
    }
}

impl Stream for Events {
    type Item = ClientEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        self.get_mut().poll_recv(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let feed = self.shared.lock().feeds.make().remove(self.feed);
        drop(feed);
    }
}
