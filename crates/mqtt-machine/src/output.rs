//! Owns the bytes on their way out, between the machine that wrote them and the driver that sends them.
//! It must not know what they mean.

use alloc::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Payloads of at least this many bytes are chained, smaller ones are copied together.
pub(crate) const CHAIN_FROM: usize = 2_048;

/// The caller's output buffer: a queue of chunks that [`Machine::transmit`](crate::Machine::transmit) fills up to the
/// mark and the driver drains as a [`bytes::Buf`].
///
/// Small packets are copied together into few large chunks; large payloads are chained without a copy. The driver
/// writes without holding the machine, advances by what was written, and tells
/// [`Machine::handle_sent`](crate::Machine::handle_sent). When a transport dies, [`clear`](Self::clear) it.
pub struct Output {
    chunks: VecDeque<Bytes>,
    chained: usize,
    tail: BytesMut,
    mark: usize,
}

impl Output {
    /// An empty buffer with a mark of 64 KiB.
    pub fn new() -> Self {
        Self::with_mark(64 << 10)
    }

    /// An empty buffer that is filled until it holds at least `mark` bytes: one more packet may go past it.
    pub fn with_mark(mark: usize) -> Self {
        Self { chunks: VecDeque::new(), chained: 0, tail: BytesMut::new(), mark }
    }

    /// Whether no further packet is put in.
    pub fn is_full(&self) -> bool {
        self.remaining() >= self.mark
    }

    /// Forgets everything in it; the memory of small chunks is kept.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.chained = 0;
        self.tail.clear();
    }

    /// The buffer that packets are written into.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends `payload` without copying it, when that is cheaper.
    #[inline]
    pub(crate) fn append(&mut self, payload: &Bytes) {
        if payload.len() < CHAIN_FROM {
            self.tail.extend_from_slice(payload);
        } else {
            self.chain(payload);
        }
    }

    #[inline(never)]
    fn chain(&mut self, payload: &Bytes) {
        self.seal();
        self.chained = self.chained.saturating_add(payload.len());
        self.chunks.push_back(payload.clone());
    }

    /// Appends bytes of a layer between the machine and the transport, and leaves `bytes` empty: large ones are chained
    /// without a copy, of small ones the buffer is kept.
    ///
    /// For those who send other bytes than the machine's own. Tell [`Machine::handle_sent`](crate::Machine::handle_sent) how
    /// many of *its* bytes have left.
    pub fn put(&mut self, bytes: &mut BytesMut) {
        if bytes.len() < CHAIN_FROM {
            self.tail.extend_from_slice(bytes);
            bytes.clear();
            return;
        }
        self.seal();
        self.chained = self.chained.saturating_add(bytes.len());
        self.chunks.push_back(core::mem::take(bytes).freeze());
    }

    /// Moves everything that is in `other` behind what is in here, and copies none of it. An empty one of them leaves its buffer to the
    /// other.
    ///
    /// For a machine that writes to two places, one after another: what [`publish_into`](crate::Machine::publish_into) wrote to one
    /// goes behind what [`transmit`](crate::Machine::transmit) wrote to the other before.
    pub fn take_all(&mut self, other: &mut Self) {
        if other.remaining() == 0 {
            return;
        }
        if self.remaining() > 0 {
            self.seal();
            self.chained = self.chained.saturating_add(other.chained);
            self.chunks.append(&mut other.chunks);
        } else {
            core::mem::swap(&mut self.chunks, &mut other.chunks);
            core::mem::swap(&mut self.chained, &mut other.chained);
        }
        other.chained = 0;
        core::mem::swap(&mut self.tail, &mut other.tail);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chained = self.chained.saturating_add(self.tail.len());
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// How many bytes it lacks to its mark.
    pub(crate) fn room(&self) -> usize {
        self.mark.saturating_sub(self.remaining())
    }

    /// What it holds behind the first `count` bytes, in parts.
    pub(crate) fn parts_behind(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let mut skip = count;
        let tail = core::iter::once(self.tail.as_ref());
        self.chunks.iter().map(Bytes::as_ref).chain(tail).filter_map(move |chunk| {
            let part = chunk.get(skip.min(chunk.len())..)?;
            skip = skip.saturating_sub(chunk.len());
            (!part.is_empty()).then_some(part)
        })
    }

    /// Lets `edit` change the chunk of small packets that begins behind the first `count` bytes, or the part of one.
    pub(crate) fn rewrite(&mut self, count: usize, edit: impl FnOnce(&mut [u8])) {
        let mut skip = count;
        for chunk in &mut self.chunks {
            if skip < chunk.len() {
                // A chunk that was split off the tail shares its memory: the edited one is a copy.
                let mut bytes = match core::mem::take(chunk).try_into_mut() {
                    Ok(bytes) => bytes,
                    Err(shared) => BytesMut::from(shared.as_ref()),
                };
                edit(bytes.get_mut(skip..).unwrap_or_default());
                *chunk = bytes.freeze();
                return;
            }
            skip = skip.saturating_sub(chunk.len());
        }
        edit(self.tail.get_mut(skip..).unwrap_or_default());
    }

    /// Its memory in bytes: what is queued and the room of the tail.
    pub fn memory_used(&self) -> usize {
        self.chained.saturating_add(self.tail.capacity())
    }
}

impl core::fmt::Debug for Output {
    /// How much there is. Passwords of CONNECT and of proxies pass here.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Output").field("bytes", &self.remaining()).field("mark", &self.mark).finish()
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.chained.saturating_add(self.tail.len())
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(self.tail.as_ref(), |chunk| chunk.as_ref())
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                self.chained = self.chained.saturating_sub(count);
                return;
            }
            count = count.saturating_sub(chunk.len());
            self.chained = self.chained.saturating_sub(chunk.len());
            self.chunks.pop_front();
        }
        if count >= self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }

    #[cfg(feature = "std")]
    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut filled = 0_usize;
        let tail = (!self.tail.is_empty()).then_some(self.tail.as_ref());
        for (slice, chunk) in slices.iter_mut().zip(self.chunks.iter().map(Bytes::as_ref).chain(tail)) {
            *slice = std::io::IoSlice::new(chunk);
            filled = filled.saturating_add(1);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_copied_together_and_large_ones_chained() {
        let mut output = Output::with_mark(10_000);
        output.tail().extend_from_slice(b"head");
        output.append(&Bytes::from_static(b"small"));
        let large = Bytes::from(alloc::vec![7_u8; CHAIN_FROM]);
        output.append(&large);
        output.tail().extend_from_slice(b"end");
        assert_eq!(output.remaining(), 9 + CHAIN_FROM + 3);
        assert_eq!(output.chunk(), b"headsmall");
        output.advance(9);
        assert_eq!(output.chunk().as_ptr(), large.as_ptr());
        output.advance(CHAIN_FROM + 1);
        assert_eq!(output.chunk(), b"nd");
        assert!(!output.is_full());
        output.clear();
        assert_eq!(output.remaining(), 0);
    }

    #[test]
    fn bytes_of_a_layer_stand_behind_the_machines_own() {
        let mut output = Output::new();
        output.tail().extend_from_slice(b"own");
        let (mut small, mut large) = (BytesMut::from(&b"small"[..]), BytesMut::zeroed(CHAIN_FROM));
        let (room, place) = (small.capacity(), large.as_ptr());
        output.put(&mut small);
        output.put(&mut large);
        assert!(small.is_empty() && small.capacity() == room && large.is_empty());
        assert_eq!((output.remaining(), output.chunk()), (8 + CHAIN_FROM, &b"ownsmall"[..]));
        output.advance(8);
        assert_eq!(output.chunk().as_ptr(), place);
    }

    #[test]
    fn all_of_one_goes_behind_all_of_another() {
        let large = Bytes::from(alloc::vec![7_u8; CHAIN_FROM]);
        let (mut first, mut second) = (Output::with_mark(1), Output::with_mark(2));
        let mut expected = alloc::vec::Vec::new();
        for part in [&b"small"[..], &large, b"more"] {
            for empty in [true, false] {
                if empty {
                    first.clear();
                    expected.clear();
                }
                second.append(&Bytes::copy_from_slice(part));
                second.append(&large);
                second.tail().extend_from_slice(b"end");
                expected.extend_from_slice(&[part, &large, b"end"].concat());
                first.take_all(&mut second);
                assert_eq!((first.mark, second.mark), (1, 2));
                assert_eq!((second.remaining(), second.chunk()), (0, &b""[..]));
                first.take_all(&mut second);
                assert_eq!(first.remaining(), expected.len());
                assert_eq!(first.parts_behind(0).collect::<alloc::vec::Vec<_>>().concat(), expected);
            }
        }
    }

    #[test]
    fn an_empty_one_leaves_its_buffer_to_the_other() {
        let (mut first, mut second) = (Output::new(), Output::new());
        first.tail().extend_from_slice(b"sent");
        let place = first.chunk().as_ptr();
        first.advance(4);
        second.tail().extend_from_slice(b"next");
        first.take_all(&mut second);
        assert_eq!(first.chunk(), b"next");
        second.tail().extend_from_slice(b"then");
        assert_eq!(second.chunk().as_ptr(), place);
    }

    #[test]
    fn what_stands_behind_a_place_is_seen_and_edited_in_its_chunk() {
        let mut output = Output::with_mark(10);
        output.tail().extend_from_slice(b"headMORE");
        let seen =
            |output: &Output, count| output.parts_behind(count).collect::<alloc::vec::Vec<_>>().concat();
        assert_eq!((seen(&output, 4), seen(&output, 8)), (b"MORE".to_vec(), b"".to_vec()));
        output.rewrite(4, <[u8]>::make_ascii_lowercase);
        assert_eq!((output.chunk(), output.room()), (&b"headmore"[..], 2));
        // The tail's chunk is sealed, and shares its memory with the new tail.
        output.append(&Bytes::from(alloc::vec![b'-'; CHAIN_FROM]));
        output.tail().extend_from_slice(b"end");
        output.advance(2);
        output.rewrite(2, <[u8]>::make_ascii_uppercase);
        assert_eq!((output.chunk(), output.room()), (&b"adMORE"[..], 0));
        assert_eq!(seen(&output, 3).len(), 3 + CHAIN_FROM + 3);
        assert_eq!(output.parts_behind(6 + CHAIN_FROM + 1).next(), Some(&b"nd"[..]));
        output.rewrite(6 + CHAIN_FROM, <[u8]>::make_ascii_uppercase);
        assert_eq!(output.parts_behind(6 + CHAIN_FROM).next(), Some(&b"END"[..]));
    }
}
