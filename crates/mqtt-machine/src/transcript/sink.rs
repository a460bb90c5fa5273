//! Owns the primitives of the format on their way out: numbers, bytes, texts, and the numbers of small enumerations.
//! It must not know in which order they stand.

use core::time::Duration;

use bytes::BytesMut;

use crate::config::{Behind, CleanStart, LostSession, Offline, Overflow, Unsupported};
use crate::packet::PropertiesBuf;
use crate::time::Instant;
use crate::types::{Priority, ProtocolVersion, QoS, RetainHandling, Secret};

/// Where values are written to.
pub(super) trait Sink: Sized {
    /// Appends these bytes.
    fn put(&mut self, bytes: &[u8]);

    fn byte(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// An unsigned number in groups of seven bits, the lowest first.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn size(&mut self, value: usize) {
        self.number(value as u64);
    }

    fn flag(&mut self, value: bool) {
        self.byte(value.into());
    }

    /// A length and that many bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.put(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// 0, or 1 and the value.
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    fn instant(&mut self, instant: Instant) {
        self.number(instant.as_micros());
    }

    fn secret(&mut self, secret: &Secret) {
        self.bytes(secret.expose());
    }

    fn properties(&mut self, properties: &PropertiesBuf) {
        self.bytes(properties.as_properties().as_bytes());
    }

    fn code<T: Code>(&mut self, value: T) {
        self.byte(value.code());
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A buffer that takes so many bytes and no more; what goes past is noted.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: BytesMut,
    limit: usize,
    overflowed: bool,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit, overflowed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Forgets what stands behind `length`, and writes `last` past the limit.
    pub(super) fn cut(&mut self, length: usize, last: &[u8]) {
        self.bytes.truncate(length);
        self.bytes.extend_from_slice(last);
    }

    pub(super) fn take(&mut self) -> BytesMut {
        self.bytes.split()
    }

    pub(super) fn memory_used(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Sink for Bounded {
    fn put(&mut self, bytes: &[u8]) {
        if self.overflowed || bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.overflowed = true;
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }
}

/// What stands in the format as one byte.
pub(super) trait Code: Sized {
    /// Its byte.
    fn code(self) -> u8;
    /// The value of a byte.
    fn from_code(code: u8) -> Option<Self>;
}

/// Both directions of a small enumeration; a variant that is missing here does not compile.
macro_rules! codes {
    ($($type:ident { $($variant:ident = $code:literal)* })*) => {$(
        impl Code for $type {
            fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

codes! {
    ProtocolVersion { V3_1 = 3 V3_1_1 = 4 V5 = 5 }
    QoS { AtMostOnce = 0 AtLeastOnce = 1 ExactlyOnce = 2 }
    RetainHandling { Send = 0 SendIfNew = 1 DoNotSend = 2 }
    CleanStart { Always = 0 FirstOnly = 1 Never = 2 OwnOnly = 3 }
    LostSession { SendAgain = 0 Report = 1 }
    Offline { Queue = 0 Drop = 1 }
    Unsupported { Refuse = 0 Downgrade = 1 }
    Overflow { Wait = 0 Refuse = 1 DropOldest = 2 DropNewest = 3 LastValue = 4 }
    Behind { StopReading = 0 DropQoS0 = 1 }
    Priority { Normal = 0 High = 1 Low = 2 }
}

/// A 64-bit FNV-1a over what is written, folded to 32 bits: it tells values apart that differ by accident, and is no
/// protection against anybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    pub(super) const fn finish(self) -> u32 {
        (self.0 ^ (self.0 >> 32)) as u32
    }

    /// The digest of what `write` writes.
    pub(super) fn of(write: impl FnOnce(&mut Self)) -> u32 {
        let mut digest = Self::new();
        write(&mut digest);
        digest.finish()
    }
}

impl Sink for Digest {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
}
