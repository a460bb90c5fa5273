//! Owns the place for one transport of a client, its threads included. It must not know what a transport is.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::aside::aside;
use super::halves::{Halves, Pair};
use crate::dial::NetworkFuture;

/// Lets one transport of one client be there at a time, its threads included: halves that hang then cost a bounded number of threads,
/// and a line that only one may hold is free when its turn comes.
#[derive(Debug, Default)]
pub struct Gate {
    place: Mutex<Place>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Place {
    taken: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// Opens a pair of halves by `open`, on a thread of its own, when the last one has gone through: when all of its threads have
    /// ended. When the future is dropped, what is opened later is shut down again.
    ///
    /// # Errors
    /// Those of `open`, and what the system says when there is no thread left.
    pub fn open(
        self: &Arc<Self>,
        open: impl FnOnce() -> io::Result<Pair> + Send + 'static,
    ) -> NetworkFuture<io::Result<Halves>> {
        let gate = Arc::clone(self);
        Box::pin(async move {
            let permit = poll_fn(|context| gate.poll_enter(context)).await;
            let (pair, permit) = aside("mqtt-open", move || Ok((open()?, permit))).await?;
            Halves::start(pair, &permit)
        })
    }

    /// Waits until nobody is inside, for at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let _ = self.left.wait_timeout_while(self.lock(), timeout, |place| place.taken);
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_enter(self: &Arc<Self>, context: &Context<'_>) -> Poll<Arc<Permit>> {
        let mut place = self.lock();
        if place.taken {
            place.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        place.taken = true;
        Poll::Ready(Arc::new(Permit(Arc::clone(self))))
    }
}

/// Is held by everything that belongs to one transport.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut place = self.0.lock();
        place.taken = false;
        let waker = place.waker.take();
        drop(place);
        self.0.left.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
