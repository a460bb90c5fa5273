//! Owns which address of a name is tried when, and beside which others (RFC 8305). It must not make an attempt itself.

use std::net::SocketAddr;
use std::time::Instant;

use crate::address::AddressSequence;

/// The attempts to connect to one name: staggered, a few beside each other, until one succeeds.
///
/// The next address is tried as soon as the latest attempt failed, or beside it once it has taken
/// [`AddressSequence::ATTEMPT_DELAY`]. Earlier attempts go on; the first that succeeds wins, and whoever drives this drops
/// the others.
///
/// ```
/// use std::time::{Duration, Instant};
/// use mqtt_machine_transport::AddressAttempts;
///
/// let start = Instant::now();
/// let mut attempts = AddressAttempts::new(["[::1]:1883".parse()?, "127.0.0.1:1883".parse()?]);
/// let first = attempts.poll_attempt(start).expect("the first begins at once");
/// assert!(first.is_ipv6() && attempts.poll_attempt(start).is_none());
/// let then = attempts.deadline().expect("the second waits");
/// assert_eq!(then, start + Duration::from_millis(250));
/// assert!(attempts.poll_attempt(then).expect("now").is_ipv4());
/// attempts.handle_failed(first);
/// assert!(!attempts.is_exhausted());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddressAttempts {
    waiting: AddressSequence,
    /// Under way; the latest last.
    running: Vec<SocketAddr>,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Now,
    At(Instant),
}

impl AddressAttempts {
    /// Attempts at `resolved`, which stands as the resolver gave it.
    pub fn new(resolved: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { waiting: AddressSequence::new(resolved), running: Vec::new(), next: Next::Now }
    }

    /// The address to try now, beside those under way; `None` when none is due.
    #[must_use]
    pub fn poll_attempt(&mut self, now: Instant) -> Option<SocketAddr> {
        if matches!(self.next, Next::At(then) if now < then) {
            return None;
        }
        let address = self.waiting.next()?;
        self.running.push(address);
        self.next = now.checked_add(AddressSequence::ATTEMPT_DELAY).map_or(Next::Now, Next::At);
        Some(address)
    }

    /// When to ask [`poll_attempt`](Self::poll_attempt) again if nothing fails before; `None` when no address is left.
    pub fn deadline(&self) -> Option<Instant> {
        match self.next {
            Next::At(then) if self.waiting.len() > 0 => Some(then),
            _ => None,
        }
    }

    /// This attempt failed. When it was the latest, the next one is due at once.
    pub fn handle_failed(&mut self, address: SocketAddr) {
        if self.running.last() == Some(&address) || self.running.len() <= 1 {
            self.next = Next::Now;
        }
        self.running.retain(|running| *running != address);
    }

    /// Whether every address was tried and every attempt failed.
    pub fn is_exhausted(&self) -> bool {
        self.waiting.len() == 0 && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn attempts_begin_a_delay_apart_and_at_once_after_a_failure_of_the_latest() {
        let (start, list) = (Instant::now(), addresses(4));
        let mut attempts = AddressAttempts::new(list.clone());
        assert_eq!(attempts.deadline(), None, "the first one is due now");
        assert_eq!(attempts.poll_attempt(start), Some(list[0]));
        assert_eq!(attempts.poll_attempt(start + ms(249)), None);
        assert_eq!(attempts.poll_attempt(start + ms(250)), Some(list[1]));

        // An earlier one that fails changes nothing: the latest still has its time.
        attempts.handle_failed(list[0]);
        assert_eq!(attempts.poll_attempt(start + ms(260)), None);
        attempts.handle_failed(list[1]);
        assert_eq!(attempts.poll_attempt(start + ms(261)), Some(list[2]));
        assert_eq!(attempts.deadline(), Some(start + ms(511)));
        assert_eq!(attempts.poll_attempt(start + ms(511)), Some(list[3]));
        assert_eq!((attempts.deadline(), attempts.is_exhausted()), (None, false));
        attempts.handle_failed(list[2]);
        attempts.handle_failed(list[3]);
        assert!(attempts.is_exhausted());
        assert_eq!(attempts.poll_attempt(start + ms(999)), None);
    }

    #[test]
    fn no_addresses_are_exhausted_from_the_start() {
        let mut attempts = AddressAttempts::new([]);
        assert!(attempts.is_exhausted());
        assert_eq!(attempts.poll_attempt(Instant::now()), None);
        assert_eq!(attempts.deadline(), None);
    }

    #[test]
    fn an_attempt_that_nobody_began_fails_without_effect() {
        let (start, list) = (Instant::now(), addresses(3));
        let mut attempts = AddressAttempts::new(list.clone());
        assert_eq!(attempts.poll_attempt(start), Some(list[0]));
        assert_eq!(attempts.poll_attempt(start + ms(250)), Some(list[1]));
        attempts.handle_failed(list[2]);
        assert_eq!(attempts.poll_attempt(start + ms(251)), None);
    }
}
