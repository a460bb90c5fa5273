//! Owns the fixed header: where one packet ends and the next begins.
//! It must not know what stands behind the fixed header.

use super::error::{DecodeError, Fault, Flaw};
use crate::packet::PacketType;

/// The largest remaining length that four bytes can say.
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// Which flags may stand behind each type, as a set of 16 bits; in some version at least. DUP on PUBREL, SUBSCRIBE and
/// UNSUBSCRIBE is legal in 3.1 only, so the decoder looks again. PUBLISH: no QoS 3, and DUP only above QoS 0.
const FLAGS: [u16; 16] = {
    const ZERO: u16 = 1;
    const QOS1: u16 = 1 << 2 | 1 << 10;
    const PUBLISH: u16 = 0b0011_1100_0011_1111;
    [0, ZERO, ZERO, PUBLISH, ZERO, ZERO, QOS1, ZERO, QOS1, ZERO, QOS1, ZERO, ZERO, ZERO, ZERO, ZERO]
};

/// What the fixed header of one packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Type and flags.
    pub first_byte: u8,
    /// The length of the fixed header itself: 2 to 5 bytes.
    pub header_len: usize,
    /// The bytes that follow the fixed header.
    pub remaining: usize,
}

impl FrameHeader {
    /// The length of the whole packet in bytes.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        self.header_len.saturating_add(self.remaining)
    }

    /// The packet type; `None` for type 0, which [`frame_header`] never returns.
    #[inline]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_first_byte(self.first_byte)
    }
}

/// Reads the fixed header of the first packet in `buf`, which may hold any part of the stream; `Ok(None)` asks for more
/// bytes. `maximum_packet_size` is in bytes and counts the fixed header too, as the property does.
///
/// # Errors
/// A [`DecodeError`] as soon as the bytes show it, the body never needs to be there: a type or flags that no version has, a
/// remaining length of more than four bytes or with padding `[MQTT-1.5.5-1]`, a packet that is too large
/// `[MQTT-3.1.2-24]`.
#[inline]
pub fn frame_header(buf: &[u8], maximum_packet_size: u32) -> Result<Option<FrameHeader>, DecodeError> {
    let Some((&first_byte, rest)) = buf.split_first() else {
        return Ok(None);
    };
    if !flags_exist(first_byte) {
        return Err(bad_first_byte(first_byte));
    }
    let (remaining, length_bytes) = match rest.first() {
        Some(&byte) if byte < 0x80 => (u32::from(byte), 1),
        _ => match long_length(rest) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(None),
            Err(flaw) => return Err(DecodeError::new(PacketType::from_first_byte(first_byte), flaw)),
        },
    };
    // At most 5 + 268,435,455.
    let frame_len = remaining.saturating_add(length_bytes).saturating_add(1);
    if frame_len > maximum_packet_size {
        return Err(DecodeError::new(
            PacketType::from_first_byte(first_byte),
            Fault::PacketTooLarge.with(frame_len),
        ));
    }
    Ok(Some(FrameHeader {
        first_byte,
        header_len: length_bytes.saturating_add(1) as usize,
        remaining: remaining as usize,
    }))
}

/// True when some version of MQTT has this type with these flags.
#[inline]
fn flags_exist(first_byte: u8) -> bool {
    let allowed = FLAGS.get(usize::from(first_byte >> 4)).copied().unwrap_or(0);
    allowed & 1_u16.wrapping_shl(u32::from(first_byte & 0x0F)) != 0
}

/// Names what is wrong with a first byte that [`flags_exist`] refused.
#[cold]
fn bad_first_byte(first_byte: u8) -> DecodeError {
    let packet = PacketType::from_first_byte(first_byte);
    let flaw: Flaw = match packet {
        None => Fault::PacketTypeZero.into(),
        Some(PacketType::Publish) if first_byte & 0x06 == 0x06 => Fault::QoS3.into(),
        Some(PacketType::Publish) => Fault::DupWithoutQoS.into(),
        Some(_) => Fault::Flags.with(first_byte & 0x0F),
    };
    DecodeError::new(packet, flaw)
}

/// A variable byte integer and the number of its bytes; `Ok(None)` asks for more.
pub(super) fn long_length(bytes: &[u8]) -> Result<Option<(u32, u32)>, Flaw> {
    let mut value = 0_u32;
    let mut count = 0_u32;
    for &byte in bytes.iter().take(4) {
        value |= u32::from(byte & 0x7F).wrapping_shl(count.wrapping_mul(7));
        count = count.wrapping_add(1);
        if byte < 0x80 {
            return if byte == 0 && count > 1 {
                Err(Fault::VarIntNotMinimal.with(value))
            } else {
                Ok(Some((value, count)))
            };
        }
    }
    if count == 4 { Err(Fault::VarIntTooLong.into()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_fixed_header_is_read_at_every_prefix() {
        for (bytes, remaining) in [
            (&[0x30, 0x00][..], 0_usize),
            (&[0x30, 0x7F], 127),
            (&[0x30, 0x80, 0x01], 128),
            (&[0x30, 0xFF, 0x7F], 16_383),
            (&[0x30, 0x80, 0x80, 0x01], 16_384),
            (&[0x30, 0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x30, 0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(frame_header(&bytes[..cut], u32::MAX), Ok(None));
            }
            let header = frame_header(bytes, u32::MAX).unwrap().unwrap();
            assert_eq!((header.header_len, header.remaining), (bytes.len(), remaining));
            assert_eq!(header.frame_len(), bytes.len() + remaining);
            assert_eq!(header.packet_type(), Some(PacketType::Publish));
        }
    }

    #[test]
    fn the_flags_that_some_version_has_are_passed_on_and_no_others() {
        for packet in 0..16_u8 {
            let passed: Vec<u8> =
                (0..16).filter(|flags| frame_header(&[packet << 4 | flags, 0], u32::MAX).is_ok()).collect();
            let expected: &[u8] = match packet {
                0 => &[],
                3 => &[0, 1, 2, 3, 4, 5, 10, 11, 12, 13],
                // DUP is 3.1's.
                6 | 8 | 10 => &[2, 10],
                _ => &[0],
            };
            assert_eq!(passed, expected, "{packet}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header_alone() {
        assert_eq!(frame_header(&[0x30, 18], 20).unwrap().unwrap().frame_len(), 20);
        assert_eq!(frame_header(&[0x30, 19], 20).unwrap_err().fault(), Fault::PacketTooLarge);
        assert_eq!(frame_header(&[0x30, 0x80], 20), Ok(None));
    }

    // 5.0: MQTT-1.5.5-1, MQTT-2.1.3-1, MQTT-3.3.1-2, MQTT-3.3.1-4
    // 3.1.1: MQTT-2.2.2-2, MQTT-3.3.1-2, MQTT-3.3.1-4
    #[test]
    fn padded_and_endless_lengths_are_refused() {
        for (bytes, fault) in [
            (&[0x40, 0x82, 0x00][..], Fault::VarIntNotMinimal),
            (&[0xD0, 0x80, 0x80, 0x80, 0x00], Fault::VarIntNotMinimal),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Fault::VarIntTooLong),
            (&[0x00], Fault::PacketTypeZero),
            (&[0x36], Fault::QoS3),
            (&[0x38], Fault::DupWithoutQoS),
            (&[0x41], Fault::Flags),
        ] {
            assert_eq!(frame_header(bytes, u32::MAX).unwrap_err().fault(), fault);
        }
    }
}
