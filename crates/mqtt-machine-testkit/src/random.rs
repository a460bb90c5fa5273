//! Owns chance: a small generator of numbers that depend on a seed and on nothing else.
//! It must not know what the numbers decide.

use core::ops::RangeInclusive;
use core::time::Duration;

/// A seeded generator (SplitMix64): the same seed gives the same numbers on every machine. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `range`; its start when the range is empty.
    pub fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let span = range.end().saturating_sub(*range.start());
        match span.checked_add(1) {
            Some(count) => range.start() + self.next_u64() % count,
            None => self.next_u64(),
        }
    }

    /// A number in `range`, for lengths.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        self.range(*range.start() as u64..=*range.end() as u64) as usize
    }

    /// A duration in `range`, to the microsecond.
    pub fn duration(&mut self, range: RangeInclusive<Duration>) -> Duration {
        Duration::from_micros(self.range(range.start().as_micros() as u64..=range.end().as_micros() as u64))
    }

    /// True once in `n` times; never for 0.
    pub const fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.next_u64().is_multiple_of(n)
    }

    /// A generator of its own, so that what it decides does not change when something else draws more numbers.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_the_range() {
        let mut one = Random::new(7);
        let mut other = Random::new(7);
        for _ in 0..100 {
            let number = one.range(3..=9);
            assert_eq!(number, other.range(3..=9));
            assert!((3..=9).contains(&number));
        }
        assert_eq!(one.range(4..=4), 4);
        assert!(one.one_in(1));
        assert!(!one.one_in(0));
    }
}
