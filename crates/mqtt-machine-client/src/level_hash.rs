//! Owns the hash of the names of topic levels: a few bytes each, looked up for every message.
//! It must not know what is found by them.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes short names in a few multiplications. The secret is of this map alone, since those who publish choose the names.
#[derive(Clone, Debug)]
pub(crate) struct LevelHash {
    start: u64,
    factor: u64,
}

impl LevelHash {
    pub(crate) fn new() -> Self {
        let secret = RandomState::new();
        Self { start: secret.hash_one(0), factor: secret.hash_one(1) | 1 }
    }
}

impl BuildHasher for LevelHash {
    type Hasher = LevelHasher;

    fn build_hasher(&self) -> LevelHasher {
        LevelHasher { state: self.start, factor: self.factor }
    }
}

#[derive(Debug)]
pub(crate) struct LevelHasher {
    state: u64,
    factor: u64,
}

impl LevelHasher {
    /// Multiplies, and folds the halves of the product together: every bit of the word reaches every bit of the state.
    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.factor));
        self.state = (product as u64) ^ (product.wrapping_shr(64) as u64);
    }
}

impl Hasher for LevelHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if rest.is_empty() {
            return;
        }
        // The last word may overlap the one before: names of one length still differ in their words.
        let word = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => rest.iter().fold(0_u64, |word, byte| word.wrapping_shl(8) | u64::from(*byte)),
        };
        self.mix(word);
    }

    /// The length, which a slice tells before its bytes: with it no two names are the same words.
    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(by: &LevelHash, name: &[u8]) -> u64 {
        by.hash_one(name)
    }

    #[test]
    fn names_that_are_alike_spread_over_places_and_tags() {
        let by = LevelHash::new();
        let names: Vec<String> = (0..10_000).map(|number| format!("sensor-{number}")).collect();
        let hashes: Vec<u64> = names.iter().map(|name| hash(&by, name.as_bytes())).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), names.len());
        // 10,000 balls into 16,384 places fill about 45.7 % of them; into 128 tags, all.
        let places = hashes.iter().map(|hash| hash & 0x3FFF).collect::<HashSet<_>>().len();
        assert!((7_000..8_000).contains(&places), "{places}");
        assert_eq!(hashes.iter().map(|hash| hash >> 57).collect::<HashSet<_>>().len(), 128);
    }

    #[test]
    fn length_and_every_byte_count_and_another_map_has_another_hash() {
        let by = LevelHash::new();
        let zeros: HashSet<u64> = (0..100).map(|length| hash(&by, &vec![0; length])).collect();
        assert_eq!(zeros.len(), 100);
        let mut ones = HashSet::new();
        for at in 0..40 {
            let mut name = [0_u8; 40];
            name[at] = 1;
            ones.insert(hash(&by, &name));
        }
        assert_eq!(ones.len(), 40);
        assert_eq!(hash(&by, b"kitchen"), hash(&by.clone(), b"kitchen"));
        assert_ne!(hash(&by, b"kitchen"), hash(&LevelHash::new(), b"kitchen"));
    }
}
