//! Owns the data types of section 1.5, as nom parsers over borrowed bytes.
//! It must not know in which packet they stand.
//!
//! Text is looked at twice where a `&str` is wanted: once by [`core::str::from_utf8`], the only safe way to a `&str`, and
//! once, eight bytes at a time, for the characters that MQTT forbids. All of these are ASCII, so that second pass needs no
//! decoding. Where no `&str` is wanted one pass does both, and only text that is not plain ASCII pays for the full check.

use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32};

use super::error::{Fault, Flaw};
use super::frame::long_length;
use crate::types::PacketId;

/// What a parser of the wire returns: the rest and a value, or a [`Flaw`].
pub(super) type Parsed<'a, T> = nom::IResult<&'a [u8], T, Flaw>;

/// A parser's failure.
#[inline]
pub(super) fn fail<T>(flaw: impl Into<Flaw>) -> Result<T, nom::Err<Flaw>> {
    Err(nom::Err::Failure(flaw.into()))
}

/// One byte.
#[inline]
pub(super) fn byte(input: &[u8]) -> Parsed<'_, u8> {
    be_u8(input)
}

/// A two byte integer.
#[inline]
pub(super) fn two_bytes(input: &[u8]) -> Parsed<'_, u16> {
    be_u16(input)
}

/// A four byte integer.
#[inline]
pub(super) fn four_bytes(input: &[u8]) -> Parsed<'_, u32> {
    be_u32(input)
}

/// A variable byte integer in its shortest form `[MQTT-1.5.5-1]`.
#[inline]
pub(super) fn var_int(input: &[u8]) -> Parsed<'_, u32> {
    match input.split_first() {
        Some((&byte, rest)) if byte < 0x80 => Ok((rest, u32::from(byte))),
        _ => long_var_int(input),
    }
}

#[inline(never)]
fn long_var_int(input: &[u8]) -> Parsed<'_, u32> {
    match long_length(input) {
        Ok(Some((value, count))) => take(count as usize)(input).map(|(rest, _): (_, &[u8])| (rest, value)),
        Ok(None) => fail(Fault::Truncated),
        Err(flaw) => fail(flaw),
    }
}

/// A packet identifier, which is never 0.
#[inline]
pub(super) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, value) = two_bytes(input)?;
    match PacketId::new(value) {
        Some(id) => Ok((rest, id)),
        None => fail(Fault::PacketIdZero),
    }
}

/// Binary data: a length of two bytes and that many bytes.
#[inline]
pub(super) fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, length) = two_bytes(input)?;
    take(length)(rest)
}

/// A UTF-8 string without U+0000 `[MQTT-1.5.4-1] [MQTT-1.5.4-2]`.
#[inline]
pub(super) fn text(input: &[u8]) -> Parsed<'_, &str> {
    let (rest, bytes) = binary(input)?;
    if bytes.contains(&0) {
        return fail(Fault::TextNul);
    }
    Ok((rest, text_of(bytes)?))
}

/// A UTF-8 string that is checked and not kept, so that one pass is enough.
#[inline]
pub(super) fn checked_text(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, bytes) = binary(input)?;
    if !is_plain(bytes)
        && let Err(flaw) = check_unusual_text(bytes)
    {
        return fail(flaw);
    }
    Ok((rest, bytes))
}

/// A topic name: text without wildcards `[MQTT-3.3.2-2]`, perhaps empty. [`text_of`] makes text of it.
#[inline]
pub(super) fn topic_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, bytes) = binary(input)?;
    if !is_plain_name(bytes)
        && let Err(flaw) = check_unusual_topic(bytes)
    {
        return fail(flaw);
    }
    Ok((rest, bytes))
}

/// The text that these bytes are.
#[inline]
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, nom::Err<Flaw>> {
    core::str::from_utf8(bytes).map_err(|error| nom::Err::Error(not_utf8(bytes, error)))
}

#[cold]
fn check_unusual_text(bytes: &[u8]) -> Result<(), Flaw> {
    if let Err(error) = core::str::from_utf8(bytes) {
        return Err(not_utf8(bytes, error));
    }
    if bytes.contains(&0) { Err(Fault::TextNul.into()) } else { Ok(()) }
}

/// Names the byte at which `bytes` stop being UTF-8.
#[cold]
fn not_utf8(bytes: &[u8], error: core::str::Utf8Error) -> Flaw {
    bytes.get(error.valid_up_to()).map_or(Fault::Utf8.into(), |byte| Fault::Utf8.with(*byte))
}

/// A topic name that is not plain: beyond ASCII, or wrong.
#[cold]
fn check_unusual_topic(bytes: &[u8]) -> Result<(), Flaw> {
    check_unusual_text(bytes)?;
    match bytes.iter().find(|byte| is_forbidden(**byte)) {
        Some(byte) => Err(Fault::TopicWildcard.with(*byte)),
        None => Ok(()),
    }
}

const ONES: u64 = u64::MAX / 0xFF;
const HIGHS: u64 = ONES << 7;

/// True when all bytes are ASCII and none is 0.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    // A byte less one has its high bit set when it was 0 or above 0x80; a borrow reaches the next byte only from a 0,
    // which settles the answer anyway.
    !any_word(bytes, |word| (word.wrapping_sub(ONES) | word) & HIGHS)
}

/// True when one of the three characters that no topic name has is in `bytes`: U+0000, `+` or `#`.
pub(super) fn has_forbidden(bytes: &[u8]) -> bool {
    bytes.iter().copied().any(is_forbidden)
}

const fn is_forbidden(byte: u8) -> bool {
    matches!(byte, 0 | b'+' | b'#')
}

/// True when all bytes are ASCII and none is a character that no topic name has: U+0000, `+` or `#`.
#[inline]
pub(super) fn is_plain_name(bytes: &[u8]) -> bool {
    // `+` and `#` differ in one bit: with it set, both are one pattern. For the borrow see `is_plain`.
    const WILDCARD: u64 = splat(b'+');
    const BIT: u64 = splat(b'+' ^ b'#');
    !any_word(bytes, |word| {
        let wildcard = (word | BIT) ^ WILDCARD;
        (word.wrapping_sub(ONES) | wildcard.wrapping_sub(ONES) | word) & HIGHS
    })
}

#[inline]
const fn splat(byte: u8) -> u64 {
    ONES.wrapping_mul(byte as u64)
}

/// Shows all of `bytes` to `test`, eight at a time, and tells whether it ever answered with a bit. Bytes may be shown twice:
/// the last word overlaps the one before it, and a word of fewer than eight bytes repeats some.
#[inline(always)]
fn any_word(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return !bytes.is_empty() && test(short_word(bytes)) != 0;
    };
    let mut found = test(u64::from_ne_bytes(*last));
    for chunk in bytes.as_chunks::<8>().0 {
        found |= test(u64::from_ne_bytes(*chunk));
    }
    found != 0
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
    use alloc::vec::Vec;

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn fault<T>(parsed: &Parsed<'_, T>) -> Option<Fault> {
        match parsed {
            Ok(_) => None,
            Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Some(fault.fault),
            Err(nom::Err::Incomplete(_)) => panic!("only complete parsers are used"),
        }
    }

    #[test]
    fn a_forbidden_byte_is_seen_at_every_place_of_every_length() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), byte != 0 && byte < 0x80, "{length} {at} {byte}");
                    let forbidden = matches!(byte, 0 | b'+' | b'#');
                    assert_eq!(has_forbidden(&bytes), forbidden, "{length} {at} {byte}");
                    assert_eq!(is_plain_name(&bytes), !forbidden && byte < 0x80, "{length} {at} {byte}");
                }
            }
        }
        assert!(is_plain(&[]) && is_plain_name(&[]) && !has_forbidden(&[]));
    }

    // 5.0: MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-3.3.2-2
    // 3.1.1: MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-3.3.2-2
    #[test]
    fn text_is_utf_8_without_nul_and_topic_names_have_no_wildcards() {
        for (bytes, in_text, in_topic) in [
            (&b""[..], None, None),
            (b"a/b", None, None),
            ("m\u{FC}ller/\u{FEFF}/\u{1F600}".as_bytes(), None, None),
            (b"a/+/b", None, Some(Fault::TopicWildcard)),
            (b"sensors/#", None, Some(Fault::TopicWildcard)),
            (b"sensors/\0", Some(Fault::TextNul), Some(Fault::TextNul)),
            (b"\xED\xA0\x80", Some(Fault::Utf8), Some(Fault::Utf8)),
            (b"\xC0\x80", Some(Fault::Utf8), Some(Fault::Utf8)),
            (b"+\x80", Some(Fault::Utf8), Some(Fault::Utf8)),
        ] {
            let field = with_length(bytes);
            assert_eq!(fault(&text(&field)), in_text, "{bytes:x?}");
            assert_eq!(fault(&checked_text(&field)), in_text, "{bytes:x?}");
            assert_eq!(fault(&topic_name(&field)), in_topic, "{bytes:x?}");
            assert_eq!(fault(&text(&field[..field.len() - 1])), Some(Fault::Truncated));
        }
    }

    #[test]
    fn numbers_are_read_in_network_order() {
        assert_eq!(two_bytes(&[1, 2, 3]), Ok((&[3][..], 0x0102)));
        assert_eq!(four_bytes(&[1, 2, 3, 4]), Ok((&[][..], 0x0102_0304)));
        assert_eq!(var_int(&[0xFF, 0x01, 9]), Ok((&[9][..], 255)));
        assert_eq!(fault(&var_int(&[0x80])), Some(Fault::Truncated));
        assert_eq!(fault(&var_int(&[0x80, 0x00])), Some(Fault::VarIntNotMinimal));
        assert_eq!(fault(&var_int(&[0x80, 0x80, 0x80, 0x80, 0x01])), Some(Fault::VarIntTooLong));
        assert_eq!(fault(&packet_id(&[0, 0])), Some(Fault::PacketIdZero));
    }
}
