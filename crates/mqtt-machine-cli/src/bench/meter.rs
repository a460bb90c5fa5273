//! Owns what is counted while messages flow: sums, latencies, and both over time in a bounded number of slices. It must not know
//! where messages come from.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The width of a slice at first; it doubles when there are too many.
const FIRST_SLICE: Duration = Duration::from_millis(50);
/// How many slices there are at most.
const SLICES: usize = 240;
/// Latencies above it count as it, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// What happened in one slice of time.
pub(super) struct Slice {
    pub(super) published: u64,
    pub(super) received: u64,
    pub(super) latency: Histogram<u64>,
}

/// Everything that is measured.
pub(super) struct Meter {
    begin: Instant,
    published: u64,
    received: u64,
    failed: u64,
    latency: Histogram<u64>,
    width: Duration,
    slices: Vec<Slice>,
    last: Duration,
}

/// Microseconds to so many significant digits.
fn histogram(digits: u8) -> Histogram<u64> {
    // Both bounds and the digits are in range.
    Histogram::new_with_bounds(1, LONGEST, digits).expect("a constant")
}

impl Meter {
    pub(super) fn new(begin: Instant) -> Self {
        Self {
            begin,
            published: 0,
            received: 0,
            failed: 0,
            latency: histogram(3),
            width: FIRST_SLICE,
            slices: Vec::new(),
            last: Duration::ZERO,
        }
    }

    /// Time counts from here.
    pub(super) fn begin(&mut self, begin: Instant) {
        self.begin = begin;
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// A message has left: by its acknowledgement, or at QoS 0 by its last byte.
    pub(super) fn published(&mut self, at: Duration) {
        self.published += 1;
        self.slice(at).published += 1;
    }

    pub(super) fn received(&mut self, at: Duration, micros: u64) {
        self.received += 1;
        self.latency.saturating_record(micros.max(1));
        let slice = self.slice(at);
        slice.received += 1;
        slice.latency.saturating_record(micros.max(1));
    }

    pub(super) fn failed(&mut self) {
        self.failed += 1;
    }

    fn slice(&mut self, at: Duration) -> &mut Slice {
        self.last = self.last.max(at);
        while at.as_nanos() / self.width.as_nanos() >= SLICES as u128 {
            self.widen();
        }
        let place = (at.as_nanos() / self.width.as_nanos()) as usize;
        while self.slices.len() <= place {
            // Two digits are enough for a picture, and 240 of them stay small.
            self.slices.push(Slice { published: 0, received: 0, latency: histogram(2) });
        }
        &mut self.slices[place]
    }

    /// Makes one slice of each two.
    fn widen(&mut self) {
        self.width *= 2;
        let mut slices = std::mem::take(&mut self.slices).into_iter();
        while let Some(mut slice) = slices.next() {
            if let Some(next) = slices.next() {
                slice.published += next.published;
                slice.received += next.received;
                // Both have the same bounds.
                slice.latency.add(next.latency).expect("it fits");
            }
            self.slices.push(slice);
        }
    }

    pub(super) const fn published_count(&self) -> u64 {
        self.published
    }

    pub(super) const fn received_count(&self) -> u64 {
        self.received
    }

    pub(super) const fn failed_count(&self) -> u64 {
        self.failed
    }

    /// Microseconds from publishing to receiving.
    pub(super) const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    pub(super) const fn width(&self) -> Duration {
        self.width
    }

    pub(super) fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// When the last message left or came.
    pub(super) const fn duration(&self) -> Duration {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_widen_and_lose_nothing() {
        let mut meter = Meter::new(Instant::now());
        for second in 0..3_000 {
            meter.published(Duration::from_secs(second));
            meter.received(Duration::from_secs(second), second + 1);
        }
        assert!(meter.slices().len() <= SLICES && meter.width() >= Duration::from_millis(12_500));
        assert_eq!(meter.slices().iter().map(|slice| slice.published).sum::<u64>(), 3_000);
        assert_eq!(meter.slices().iter().map(|slice| slice.latency.len()).sum::<u64>(), 3_000);
        assert_eq!(meter.duration(), Duration::from_secs(2_999));
        let median = meter.latency().value_at_quantile(0.5);
        assert!((1_490..=1_510).contains(&median), "{median}");
    }
}
