//! Owns what a client asks of an adapter that lets the threads of its users drive it, and how they wait. It must not know how it is
//! driven.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::shared::Shared;
use crate::wake::{Wakes, block_until};

/// Lets threads that call a client do for it what else its own thread would have to be woken for; see
/// [`Handle::steered_by`](super::Handle::steered_by).
pub trait Helm: fmt::Debug + Send + Sync {
    /// A thread has given the client something to do, and goes on with its own. The driver was to be woken for it, and was not: either
    /// what there is to do is done now, or it is woken.
    fn attend(&self);

    /// Waits until `poll` is true, which is polled as a future is, for as long as `deadline` lets it; false when it was not. The
    /// thread that waits may drive the client meanwhile.
    fn wait(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> bool, deadline: Option<Instant>) -> bool;
}

impl Shared {
    pub(crate) fn steered_by(&self, helm: Weak<dyn Helm>) {
        // The first is the one.
        let _ = self.helm.set(Box::new(helm));
    }

    fn helm(&self) -> Option<Arc<dyn Helm>> {
        self.helm.get()?.upgrade()
    }

    /// As [`wake`](Self::wake), on a thread that may drive in the driver's place.
    #[inline]
    pub(crate) fn attend(&self, mut wakes: Wakes) {
        if let Some(driver) = wakes.take_driver() {
            match self.helm() {
                Some(helm) => helm.attend(),
                None => driver.wake(),
            }
        }
        wakes.finish();
    }

    /// As [`block_until`], and drives meanwhile if it may.
    pub(crate) fn wait_until<F: Future>(&self, future: F, deadline: Option<Instant>) -> Option<F::Output> {
        let Some(helm) = self.helm() else { return block_until(future, deadline) };
        let mut future = pin!(future);
        let mut output = None;
        let mut poll = |context: &mut Context<'_>| match future.as_mut().poll(context) {
            Poll::Ready(ready) => {
                output = Some(ready);
                true
            }
            Poll::Pending => false,
        };
        helm.wait(&mut poll, deadline);
        output
    }
}

/// Waits by `poll` for what `waiter` may have already, which then costs no more than to take it; `shared` is its client.
pub(crate) fn waited<W, T>(
    waiter: &mut W,
    shared: impl FnOnce(&W) -> &Arc<Shared>,
    deadline: impl FnOnce() -> Option<Instant>,
    mut poll: impl FnMut(&mut W, &mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    if let Poll::Ready(output) = poll(waiter, &mut Context::from_waker(Waker::noop())) {
        return Some(output);
    }
    let shared = Arc::clone(shared(waiter));
    shared.wait_until(poll_fn(|context| poll(waiter, context)), deadline())
}
