//! Owns the two keys by which an application and a session agree across a crash: of what it publishes, and of what it gets.
//! It must not know how either is kept.

use alloc::sync::Arc;
use core::fmt;

use crate::types::PacketId;

/// What its user calls a publication: 1 to [`MAX`](Self::MAX) bytes. To publish again under a key that is known is not to publish
/// again. See [`Machine::publish_keyed`](crate::Machine::publish_keyed).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublishKey(Arc<[u8]>);

/// Bytes that are no [`PublishKey`]: none, or more than [`PublishKey::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// How many there are.
    pub bytes: usize,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {} bytes; it has 1 to {}", self.bytes, PublishKey::MAX)
    }
}

impl core::error::Error for KeyError {}

impl PublishKey {
    /// The longest key, in bytes.
    pub const MAX: usize = 128;

    /// A key of these bytes.
    ///
    /// # Errors
    /// [`KeyError`] for none, or more than [`MAX`](Self::MAX).
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || bytes.len() > Self::MAX {
            return Err(KeyError { bytes: bytes.len() });
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Names one message that arrived with QoS 1 or 2. With a store it is the same when the message comes again, also after a
/// crash, and another message never has it: a consumer that keeps it together with what the message did, in one transaction, does
/// nothing twice. In 3.1, where no server says that it has lost a session, a message of the next one may have the key of another.
///
/// At QoS 2 that is exact. At QoS 1 a message that was acknowledged, by an acknowledgement that did not arrive, comes again as
/// another one. Without a store the key is of this process, and each arrival has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    pub(crate) identity: u64,
    pub(crate) packet_id: PacketId,
    pub(crate) generation: u64,
}

impl DeliveryKey {
    /// The key as bytes, for a column or a file. The same on every machine.
    pub const fn to_bytes(self) -> [u8; 18] {
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.identity.to_be_bytes();
        let [p0, p1] = self.packet_id.to_u16().to_be_bytes();
        let [g0, g1, g2, g3, g4, g5, g6, g7] = self.generation.to_be_bytes();
        [i0, i1, i2, i3, i4, i5, i6, i7, p0, p1, g0, g1, g2, g3, g4, g5, g6, g7]
    }
}

/// As hexadecimal digits: of the session, of the packet identifier, of the message.
impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:04x}-{:x}", self.identity, self.packet_id.to_u16(), self.generation)
    }
}
