//! Owns the data types of section 1.5, as nom parsers over borrowed bytes.
//! It must not know in which packet they stand.
//!
//! Where no `&str` is wanted one quick look settles everything, and only text that is not plain ASCII pays for the full check.
//! A `&str` costs more: [`core::str::from_utf8`] is the only safe way to one.
//!
//! The parsers that every packet needs take their bytes from the slice themselves: nom's own count what is missing at the end of
//! the input, which a frame that is whole does not need.

use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u32};

use super::error::{Fault, Flaw};
use super::frame::long_length;
use crate::packet::Topic;
use crate::text::{is_forbidden_in_name, is_plain, is_plain_name};
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
    match input.split_first_chunk() {
        Some((bytes, rest)) => Ok((rest, u16::from_be_bytes(*bytes))),
        None => fail(Fault::Truncated),
    }
}

/// A four byte integer.
#[inline]
pub(super) fn four_bytes(input: &[u8]) -> Parsed<'_, u32> {
    be_u32(input)
}

/// A variable byte integer in its shortest form `[MQTT-1.5.5-1]`.
#[inline]
pub(super) fn var_int(input: &[u8]) -> Parsed<'_, u32> {
    match input {
        [byte @ ..0x80, rest @ ..] => Ok((rest, u32::from(*byte))),
        [low, high @ 1..0x80, rest @ ..] => Ok((rest, u32::from(*low & 0x7F) | u32::from(*high) << 7)),
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
    match rest.split_at_checked(usize::from(length)) {
        Some((bytes, rest)) => Ok((rest, bytes)),
        None => fail(Fault::Truncated),
    }
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

/// A topic name: text without wildcards `[MQTT-3.3.2-2]`, perhaps empty.
#[inline]
pub(super) fn topic_name(input: &[u8]) -> Parsed<'_, Topic<'_>> {
    let (rest, bytes) = binary(input)?;
    if !is_plain_name(bytes)
        && let Err(flaw) = check_unusual_topic(bytes)
    {
        return fail(flaw);
    }
    Ok((rest, Topic::from_validated(bytes)))
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
    match bytes.iter().find(|byte| is_forbidden_in_name(**byte)) {
        Some(byte) => Err(Fault::TopicWildcard.with(*byte)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
