//! Owns the quick look at text: is it plain ASCII without what MQTT forbids? It must not know which field the text is.
//!
//! Nearly all text is plain, and then one pass of eight bytes at a time settles UTF-8, U+0000 and wildcards at once. What is not
//! plain is not wrong yet: the callers then look again, slowly, for what it is. The two functions are not inlined, since each
//! needs all the registers that its caller would have to put aside.

const ONES: u64 = u64::MAX / 0xFF;
const HIGHS: u64 = ONES << 7;

/// True when all bytes are ASCII and none is 0.
#[inline(never)]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    // A byte less one has its high bit set when it was 0 or above 0x80; a borrow reaches the next byte only from a 0,
    // which settles the answer anyway.
    no_word(bytes, |word| word.wrapping_sub(ONES) | word)
}

/// True when all bytes are ASCII and none is a character that no topic name has: U+0000, `+` or `#`.
#[inline(never)]
pub(crate) fn is_plain_name(bytes: &[u8]) -> bool {
    // Most topics have sixteen bytes or more, and then the compiler makes vectors of this.
    if let Some(last) = bytes.last_chunk::<16>() {
        return !bytes.as_chunks::<16>().0.iter().any(has_unusual) && !has_unusual(last);
    }
    // `+` and `#` differ in one bit: with it set, both are one pattern. For the borrow see `is_plain`.
    const WILDCARD: u64 = splat(b'+');
    const BIT: u64 = splat(b'+' ^ b'#');
    no_word(bytes, |word| {
        let wildcard = (word | BIT) ^ WILDCARD;
        word.wrapping_sub(ONES) | wildcard.wrapping_sub(ONES) | word
    })
}

/// Whether a byte is not ASCII, or none of a topic name.
#[inline(always)]
fn has_unusual(chunk: &[u8; 16]) -> bool {
    // As in a word: `+` and `#` with their one bit set; U+0000 and all beyond ASCII are not above 0 as signed numbers.
    chunk.iter().fold(false, |found, byte| found | (byte.cast_signed() <= 0) | (byte | (b'+' ^ b'#') == b'+'))
}

/// True for the three characters that no topic name has.
pub(crate) const fn is_forbidden_in_name(byte: u8) -> bool {
    matches!(byte, 0 | b'+' | b'#')
}

#[inline]
const fn splat(byte: u8) -> u64 {
    ONES.wrapping_mul(byte as u64)
}

/// Shows all of `bytes` to `test`, eight at a time, and tells whether it never answered with the high bit of a byte. Bytes may
/// be shown twice: the last word overlaps the one before it, and a word of fewer than eight bytes repeats some.
#[inline(always)]
fn no_word(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.is_empty() || test(short_word(bytes)) & HIGHS == 0;
    };
    let mut found = test(u64::from_ne_bytes(*last));
    for chunk in bytes.as_chunks::<8>().0 {
        found |= test(u64::from_ne_bytes(*chunk));
    }
    found & HIGHS == 0
}

/// One to seven bytes as a word, some of them twice.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_ne_bytes(*first)) | u64::from(u32::from_ne_bytes(*last)).wrapping_shl(32)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        let pair =
            u64::from(u16::from_ne_bytes(*first)) | u64::from(u16::from_ne_bytes(*last)).wrapping_shl(16);
        pair | pair.wrapping_shl(32)
    } else {
        splat(bytes.first().copied().unwrap_or(b'-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_forbidden_byte_is_seen_at_every_place_of_every_length() {
        for length in 1..40 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                for byte in 0..=255_u8 {
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), byte != 0 && byte < 0x80, "{length} {at} {byte}");
                    let forbidden = is_forbidden_in_name(byte);
                    assert_eq!(is_plain_name(&bytes), !forbidden && byte < 0x80, "{length} {at} {byte}");
                }
            }
        }
        assert!(is_plain(&[]) && is_plain_name(&[]));
    }
}
