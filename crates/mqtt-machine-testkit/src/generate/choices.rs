//! Owns the one source of choices of all generators: bytes of a fuzzer, bytes that proptest shrinks, or chance.
//! It must not know what is generated.

use core::fmt;
use core::ops::RangeInclusive;

use crate::random::Random;

/// Where a generator takes its decisions from, one byte at a time.
///
/// The smaller a byte, the simpler what is made of it, and a source that has come to its end gives zeros for ever: so
/// whoever makes the bytes fewer and smaller makes the value simpler, and every sequence of bytes is a value.
pub struct Choices<'a>(Source<'a>);

enum Source<'a> {
    Bytes(&'a [u8]),
    Chance(Random),
    Drawn(&'a mut dyn FnMut() -> u8),
}

impl<'a> Choices<'a> {
    /// The choices that stand in `bytes`.
    pub const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(Source::Bytes(bytes))
    }

    /// Endless choices that depend on nothing but the seed.
    pub const fn from_seed(seed: u64) -> Self {
        Self(Source::Chance(Random::new(seed)))
    }

    /// The choices that `draw` makes.
    pub const fn drawn(draw: &'a mut dyn FnMut() -> u8) -> Self {
        Self(Source::Drawn(draw))
    }

    /// The next byte; 0 is the simplest.
    pub fn byte(&mut self) -> u8 {
        match &mut self.0 {
            Source::Bytes(bytes) => match bytes.split_first() {
                Some((first, rest)) => {
                    *bytes = rest;
                    *first
                }
                None => 0,
            },
            // Its upper bits are the better mixed.
            Source::Chance(random) => (random.next_u64() >> 56) as u8,
            Source::Drawn(draw) => draw(),
        }
    }

    /// True half of the time; false is the simpler.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True once in `n` times, for `n` from 1 to 256; false is the simpler.
    pub fn one_in(&mut self, n: u32) -> bool {
        u32::from(self.byte()) >= 256 - 256 / n.clamp(1, 256)
    }

    /// Any number of 16 bits.
    pub fn two_bytes(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Any number of 32 bits.
    pub fn four_bytes(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number in `range`, its start being the simplest; its start when the range is empty.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        let (start, end) = range.into_inner();
        let count = end.saturating_sub(start).saturating_add(1);
        let drawn = match count {
            0..=256 => usize::from(self.byte()),
            257..=65_536 => usize::from(self.two_bytes()),
            _ => self.four_bytes() as usize,
        };
        start + drawn % count
    }

    /// One of `items`, the first being the simplest.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        assert!(!items.is_empty(), "there is nothing to choose from");
        items[self.size(0..=items.len() - 1)].clone()
    }

    /// So many bytes in `length`, of any values.
    pub fn bytes(&mut self, length: RangeInclusive<usize>) -> Vec<u8> {
        let length = self.size(length);
        (0..length).map(|_| self.byte()).collect()
    }
}

impl fmt::Debug for Choices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Bytes(bytes) => f.debug_tuple("Choices").field(bytes).finish(),
            Source::Chance(random) => f.debug_tuple("Choices").field(random).finish(),
            Source::Drawn(_) => f.write_str("Choices(drawn)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_gives_the_simplest_choices_for_ever() {
        let mut choices = Choices::from_bytes(&[3]);
        assert_eq!(choices.pick(&[10, 20, 30, 40, 50]), 40);
        assert_eq!(choices.size(7..=9), 7);
        assert!(!choices.flag() && !choices.one_in(2));
        assert_eq!(choices.bytes(0..=4), []);
        assert!(choices.one_in(1));
    }

    #[test]
    fn chance_reaches_both_ends_of_a_range() {
        let mut choices = Choices::from_seed(1);
        let drawn: Vec<usize> = (0..2_000).map(|_| choices.size(300..=600)).collect();
        assert!(drawn.iter().all(|size| (300..=600).contains(size)));
        assert!(drawn.contains(&300) && drawn.contains(&600));
        let hits = (0..25_600).filter(|_| choices.one_in(256)).count();
        assert!((50..=150).contains(&hits), "{hits}");
    }
}
