//! Owns the translation between the system's monotonic clock and the machine's time.
//! It must not know what happens at any time.

use std::time;

use mqtt_machine::Instant;

/// Counts the machine's microseconds from the moment of its creation.
///
/// ```
/// use mqtt_machine_client::Clock;
///
/// let clock = Clock::new();
/// let now = clock.now();
/// assert!(clock.to_std(now) <= std::time::Instant::now());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: time::Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn new() -> Self {
        Self { origin: time::Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The system's name for `instant`; a century ahead when it lies further away than the system can say.
    pub fn to_std(&self, instant: Instant) -> time::Instant {
        const CENTURY: time::Duration = time::Duration::from_secs(100 * 366 * 24 * 3_600);
        let since = instant.saturating_duration_since(Instant::ZERO).min(CENTURY);
        self.origin.checked_add(since).unwrap_or(self.origin)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
