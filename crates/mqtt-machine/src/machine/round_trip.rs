//! Owns the measure of how long acknowledgements take. It must not know what is acknowledged.

use core::time::Duration;

use crate::interface::RoundTrip;
use crate::time::Instant;

/// As [`RoundTrip`], in whole numbers of the shortest time that it tells: it is touched for every acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trips {
    count: u64,
    last: u64,
    shortest: u64,
    longest: u64,
    smoothed: u64,
}

/// Nanoseconds of the microseconds that an [`Instant`] counts.
const NANOS: u64 = 1_000;

impl Trips {
    /// Notes how long the acknowledgement took of what was written then.
    #[inline]
    pub(super) fn measure(&mut self, written_at: Instant, now: Instant) {
        let micros = now.as_micros().saturating_sub(written_at.as_micros());
        self.add(micros.saturating_mul(NANOS));
    }

    #[inline]
    fn add(&mut self, taken: u64) {
        self.last = taken;
        if self.count == 0 {
            (self.shortest, self.longest, self.smoothed) = (taken, taken, taken);
        } else {
            self.shortest = self.shortest.min(taken);
            self.longest = self.longest.max(taken);
            self.smoothed = self.smoothed.saturating_mul(7).saturating_add(taken) / 8;
        }
        self.count = self.count.saturating_add(1);
    }

    pub(super) const fn told(&self) -> RoundTrip {
        RoundTrip {
            count: self.count,
            last: Duration::from_nanos(self.last),
            shortest: Duration::from_nanos(self.shortest),
            longest: Duration::from_nanos(self.longest),
            smoothed: Duration::from_nanos(self.smoothed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_forgets_and_extremes_stay() {
        let mut trips = Trips::default();
        for millis in [8, 16, 0] {
            trips.add(millis * 1_000 * NANOS);
        }
        let told = trips.told();
        assert_eq!((told.count, told.last), (3, Duration::ZERO));
        assert_eq!((told.shortest, told.longest), (Duration::ZERO, Duration::from_millis(16)));
        assert_eq!(told.smoothed, Duration::from_micros(7_875), "9 ms, and an eighth off");
    }
}
