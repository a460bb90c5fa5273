//! Owns how much passes through a stream that drips, and how often it was asked. It must not know streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What a stream that drips asks at each read and write: one byte may pass at once.
#[derive(Clone, Debug, Default)]
pub struct Drip(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    asked_to_read: AtomicU64,
    asked_to_write: AtomicU64,
}

impl Drip {
    /// The room that a read may fill.
    pub fn read<'a>(&self, room: &'a mut [u8]) -> &'a mut [u8] {
        self.0.reads.fetch_add(1, SeqCst);
        let most = room.len().min(1);
        &mut room[..most]
    }

    /// The bytes that a write may take.
    pub fn write<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.0.writes.fetch_add(1, SeqCst);
        &bytes[..bytes.len().min(1)]
    }

    /// True every other time: then a stream that can wait says to a read that it is not ready, and wakes whoever asked.
    pub fn read_waits(&self) -> bool {
        self.0.asked_to_read.fetch_add(1, SeqCst).is_multiple_of(2)
    }

    /// As [`read_waits`](Self::read_waits), to a write.
    pub fn write_waits(&self) -> bool {
        self.0.asked_to_write.fetch_add(1, SeqCst).is_multiple_of(2)
    }

    /// How often a read and a write were let through.
    pub(super) fn counts(&self) -> [u64; 2] {
        [self.0.reads.load(SeqCst), self.0.writes.load(SeqCst)]
    }
}
