//! Owns wakers: those that wait in a line, those to be woken once the lock is released, and the one of a thread.
//! It must not know what anybody waits for.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::rarely::Rarely;

/// A place in a [`WaitList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// Tasks that wait in line. A place is kept until it is left, woken or not.
#[derive(Debug, Default)]
pub(crate) struct WaitList(Rarely<Line>);

#[derive(Debug, Default)]
struct Line {
    line: VecDeque<(Place, Waker)>,
    next: u64,
}

impl WaitList {
    pub(crate) fn is_empty(&self) -> bool {
        self.front().is_none()
    }

    fn front(&self) -> Option<&(Place, Waker)> {
        self.0.get()?.line.front()
    }

    /// Whether `place` is the first in line; without a place, whether nobody is in line.
    pub(crate) fn is_turn_of(&self, place: Option<Place>) -> bool {
        self.front().map(|(first, _)| *first) == place
    }

    /// Waits at `place`, or at a new one at the end.
    pub(crate) fn wait(&mut self, place: &mut Option<Place>, waker: &Waker) {
        let Line { line, next } = self.0.make();
        if let Some((_, known)) =
            place.and_then(|place| position(line, place)).and_then(|at| line.get_mut(at))
        {
            known.clone_from(waker);
            return;
        }
        let new = Place(*next);
        *next = next.wrapping_add(1);
        line.push_back((new, waker.clone()));
        *place = Some(new);
    }

    /// Leaves the line. True when a place was given up.
    pub(crate) fn leave(&mut self, place: &mut Option<Place>) -> bool {
        let (Some(place), Some(Line { line, .. })) = (place.take(), self.0.get_mut()) else { return false };
        position(line, place).is_some_and(|at| line.remove(at).is_some())
    }

    /// Gives the memory back that an empty line has: nobody holds a place in it.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.0.take();
        }
    }

    pub(crate) fn wake_first(&self, wakes: &mut Wakes) {
        if let Some((_, waker)) = self.front() {
            wakes.push(waker.clone());
        }
    }

    pub(crate) fn wake_all(&self, wakes: &mut Wakes) {
        let line = self.0.get().into_iter().flat_map(|Line { line, .. }| line);
        line.for_each(|(_, waker)| wakes.push(waker.clone()));
    }
}

fn position(line: &VecDeque<(Place, Waker)>, place: Place) -> Option<usize> {
    line.binary_search_by_key(&place, |(place, _)| *place).ok()
}

/// What is to be done once the lock is released: tasks to wake.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    driver: Option<Waker>,
    tasks: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn push(&mut self, waker: Waker) {
        self.tasks.push(waker);
    }

    pub(crate) fn push_driver(&mut self, waker: Option<Waker>) {
        if waker.is_some() {
            self.driver = waker;
        }
    }

    pub(crate) const fn take_driver(&mut self) -> Option<Waker> {
        self.driver.take()
    }

    /// Wakes everybody, and is no more; never under the lock.
    pub(crate) fn finish(mut self) {
        if self.driver.is_none() && self.tasks.capacity() == 0 {
            // Nothing is in here that has to be dropped, which is nearly always so.
            std::mem::forget(self);
        } else {
            self.wake();
        }
    }

    /// Wakes everybody; never under the lock. The memory is kept.
    pub(crate) fn wake(&mut self) {
        if !self.tasks.is_empty() {
            self.tasks.drain(..).for_each(Waker::wake);
        }
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// That of this thread. A wake of a wait that is over ends the next one early, which then looks and goes on.
fn own_waker() -> Waker {
    thread_local! {
        static OWN: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }
    // While the thread ends it is gone already.
    OWN.try_with(Waker::clone).unwrap_or_else(|_| Waker::from(Arc::new(Unpark(thread::current()))))
}

/// Polls `future` on this thread, which sleeps in between; `None` when it is not ready by `deadline`. Without a deadline it waits
/// for as long as it takes. Something else must drive the client meanwhile.
///
/// ```no_run
/// # fn example(client: mqtt_machine_client::Client) {
/// use std::time::{Duration, Instant};
///
/// let connected = mqtt_machine_client::block_until(client.connected(), Some(Instant::now() + Duration::from_secs(5)));
/// # }
/// ```
pub fn block_until<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let waker = own_waker();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_served_in_order_and_can_be_left() {
        let waker = Waker::noop();
        let mut list = WaitList::default();
        let (mut first, mut second, mut third) = (None, None, None);
        assert!(list.is_turn_of(None));
        list.wait(&mut first, waker);
        list.wait(&mut second, waker);
        list.wait(&mut third, waker);
        list.wait(&mut first, waker);
        assert!(list.is_turn_of(first) && !list.is_turn_of(second) && !list.is_turn_of(None));
        assert!(list.leave(&mut second));
        assert!(!list.leave(&mut second));
        assert!(list.leave(&mut first));
        assert!(list.is_turn_of(third));
        assert!(list.leave(&mut third));
        assert!(list.is_empty());
        list.shrink();
        list.wait(&mut third, waker);
        assert!(list.is_turn_of(third) && !list.is_turn_of(None));
    }

    #[test]
    fn a_thread_waits_until_the_deadline() {
        assert_eq!(block_until(ready(7), None), Some(7));
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(block_until(pending::<()>(), Some(soon)), None);
        assert!(Instant::now() >= soon);
    }
}
