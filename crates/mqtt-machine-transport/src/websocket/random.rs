//! Owns where masks and keys come from. It must not know what they protect.

use std::fmt;
use std::sync::Arc;

/// Bytes drawn at once, so that a mask is no call into the system.
const POOL: usize = 256;

/// A source of random bytes for masks and keys.
///
/// Masks keep a peer's payload from looking like another protocol's request to a proxy that does not know WebSocket
/// (RFC 6455, section 10.3), so they must be unpredictable: the source is the operating system's unless one is given. A test
/// or a replay gives its own, and then the layer's bytes are the same every time.
#[derive(Clone, Default)]
pub struct Randomness(
    /// `None`: the operating system's.
    Option<Arc<Fill>>,
);

type Fill = dyn Fn(&mut [u8]) -> Result<(), NoRandomness> + Send + Sync;

/// The source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl Randomness {
    /// The operating system's.
    pub const fn system() -> Self {
        Self(None)
    }

    /// One that fills the whole slice, or fails.
    pub fn from_fn(fill: impl Fn(&mut [u8]) -> Result<(), NoRandomness> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(fill)))
    }

    pub(super) fn draw<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        match &self.0 {
            Some(fill) => fill(&mut bytes)?,
            None => getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?,
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness")
    }
}

/// Masks, one after the other.
#[derive(Debug)]
pub(super) struct Masks {
    source: Randomness,
    pool: Vec<[u8; 4]>,
}

impl Masks {
    pub(super) const fn new(source: Randomness) -> Self {
        Self { source, pool: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<[u8; 4], NoRandomness> {
        if self.pool.is_empty() {
            let drawn: [u8; POOL] = self.source.draw()?;
            self.pool.extend_from_slice(drawn.as_chunks().0);
        }
        self.pool.pop().ok_or(NoRandomness)
    }
}
