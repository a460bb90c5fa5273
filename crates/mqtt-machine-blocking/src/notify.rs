//! Owns how those who wait for a client's sockets are woken: only when nobody looks anyway. It must not know what for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Wake;

/// Nothing is to be done.
const IDLE: u8 = 0;
/// Something is to be done, and somebody has been woken for it or will look.
const WOKEN: u8 = 1;
/// Somebody is at work.
const WORKING: u8 = 2;
/// Somebody is at work, and something has come up since.
const AGAIN: u8 = 3;

/// The waker of the driver.
pub(crate) struct Notify {
    waker: mio::Waker,
    state: AtomicU8,
    /// The host looks by itself, soon.
    dozes: AtomicBool,
    /// A guest waits for the sockets.
    led: AtomicBool,
}

impl Notify {
    pub(crate) const fn new(waker: mio::Waker) -> Self {
        let (dozes, led) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { waker, state: AtomicU8::new(IDLE), dozes, led }
    }

    /// Whoever waits for the sockets stops waiting.
    pub(crate) fn rouse(&self) {
        // A counter that is full wakes as well.
        let _ = self.waker.wake();
    }

    /// The work begins: what comes up from now on is for another time.
    pub(crate) fn begin(&self) {
        self.state.swap(WORKING, Ordering::SeqCst);
    }

    /// The work has ended. True when something has come up since it began.
    pub(crate) fn end(&self) -> bool {
        self.state.swap(IDLE, Ordering::SeqCst) == AGAIN
    }

    /// As [`end`](Self::end), for who goes on when something has come up.
    pub(crate) fn end_or_go_on(&self) -> bool {
        let next = |state| Some(if state == AGAIN { WOKEN } else { IDLE });
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) == Ok(AGAIN)
    }

    /// Whether there is something to do that nobody has begun.
    pub(crate) fn is_woken(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WOKEN
    }

    pub(crate) fn set_dozes(&self, dozes: bool) {
        self.dozes.store(dozes, Ordering::SeqCst);
    }

    pub(crate) fn dozes(&self) -> bool {
        self.dozes.load(Ordering::SeqCst)
    }

    /// A guest waits for the sockets, or does not any more. It must look whether there [is](Self::is_woken) something to do after it has
    /// told so.
    pub(crate) fn set_led(&self, led: bool) {
        self.led.store(led, Ordering::SeqCst);
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(WOKEN),
            WORKING => Some(AGAIN),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        let looks = self.dozes.load(Ordering::SeqCst) && !self.led.load(Ordering::SeqCst);
        if before == Ok(IDLE) && !looks {
            self.rouse();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    /// With the poll that it rouses.
    fn notify() -> (Arc<Notify>, Poll) {
        let poll = Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), Token(0)).unwrap();
        (Arc::new(Notify::new(waker)), poll)
    }

    fn is_roused(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn somebody_is_roused_once_and_not_while_there_is_somebody_at_work() {
        let (notify, mut poll) = notify();
        notify.wake_by_ref();
        assert!(notify.is_woken() && is_roused(&mut poll));
        notify.wake_by_ref();
        assert!(notify.is_woken() && !is_roused(&mut poll));
        notify.begin();
        assert!(!notify.is_woken() && !notify.end());
        notify.begin();
        notify.wake_by_ref();
        assert!(!is_roused(&mut poll));
        assert!(notify.end() && !notify.is_woken());
        notify.begin();
        notify.wake_by_ref();
        assert!(notify.end_or_go_on() && notify.is_woken());
        notify.begin();
        assert!(!notify.end_or_go_on() && !notify.is_woken());
    }

    #[test]
    fn nobody_is_roused_who_looks_soon_unless_another_waits() {
        let (notify, mut poll) = notify();
        notify.set_dozes(true);
        notify.wake_by_ref();
        assert!(notify.is_woken() && !is_roused(&mut poll));
        notify.begin();
        notify.end();
        notify.set_led(true);
        notify.wake_by_ref();
        assert!(is_roused(&mut poll));
    }
}
