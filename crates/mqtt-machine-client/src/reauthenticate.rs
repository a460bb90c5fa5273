//! Owns the way to the end of an authentication that a user began again. It must not know the method, nor who asks it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mqtt_machine::EndReason;

use crate::shared::Shared;
use crate::wake::Wakes;

/// Why authenticating again came to no good end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReauthenticationError {
    /// The [authenticator](crate::Options::authenticator) gave it up, and the connection ends; the text is for people.
    Failed(String),
    /// The connection ended meanwhile: the server did not accept, or something else happened. The next connection authenticates
    /// anyway.
    Ended(EndReason),
    /// There was no connection when its turn came. The next one authenticates anyway.
    NotConnected,
    /// The client has ended.
    Closed,
}

impl fmt::Display for ReauthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "the authenticator gave up: {why}"),
            Self::Ended(reason) => write!(f, "the connection ended: {reason}"),
            Self::NotConnected => f.write_str("there is no connection to authenticate again"),
            Self::Closed => f.write_str("the client has ended"),
        }
    }
}

impl std::error::Error for ReauthenticationError {}

type Verdict = Result<(), ReauthenticationError>;

/// The exchange that a user began, of which there is never more than one at a time, and who waits for its end.
#[derive(Debug, Default)]
pub(crate) struct Reauthentication {
    /// Names the last one that began.
    number: u64,
    under_way: bool,
    /// How the last one ended.
    verdict: Option<Verdict>,
    waker: Option<Waker>,
}

impl Reauthentication {
    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// One begins; its number.
    pub(crate) fn begin(&mut self, wakes: &mut Wakes) -> u64 {
        self.wake(wakes);
        *self = Self { number: self.number.wrapping_add(1), under_way: true, verdict: None, waker: None };
        self.number
    }

    /// The one that is under way, if any, has ended.
    pub(crate) fn end(&mut self, verdict: Verdict, wakes: &mut Wakes) {
        if std::mem::take(&mut self.under_way) {
            self.verdict = Some(verdict);
            self.wake(wakes);
        }
    }

    fn wake(&mut self, wakes: &mut Wakes) {
        if let Some(waker) = self.waker.take() {
            wakes.push(waker);
        }
    }

    fn poll(&mut self, number: u64, waker: &Waker) -> Poll<Verdict> {
        if number != self.number {
            // It ended so long ago that another one has begun since; its event has told how.
            return Poll::Ready(Err(ReauthenticationError::NotConnected));
        }
        match &self.verdict {
            Some(verdict) => Poll::Ready(verdict.clone()),
            None => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// An authentication that goes on, made by [`Client::reauthenticate`](crate::Client::reauthenticate). It goes on without this future,
/// too, which tells how it ended.
#[derive(Debug)]
pub struct Reauthenticating {
    shared: Arc<Shared>,
    number: u64,
}

impl Reauthenticating {
    pub(crate) const fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number }
    }
}

impl Future for Reauthenticating {
    type Output = Result<(), ReauthenticationError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.lock().reauthentication.make().poll(self.number, context.waker())
    }
}
