//! Owns the recording in progress: entries one behind the other in a bounded buffer, until one does not fit.
//! It must not know machines beyond how one stands after a call.

use alloc::boxed::Box;

use bytes::BytesMut;

use crate::interface::Input;
use crate::time::Instant;
use crate::types::TransportId;

use super::entry::{Call, Header, Observed, Said, StopReason};
use super::sink::Bounded;
use super::{tag, write};

/// Whether there is a recording, and how far it is.
#[derive(Debug)]
pub(super) enum Tape {
    /// There is none.
    Off,
    /// It runs.
    On(Box<Running>),
    /// It has ended; what was not taken yet is still here.
    Stopped { rest: Box<BytesMut>, reason: StopReason },
}

#[derive(Debug)]
pub(super) struct Running {
    out: Bounded,
    /// The time of the last entry.
    at: Instant,
    /// What the last call that took bytes left, to be recognised at the front of the next.
    left: Left,
    /// Where the entry begins whose call has not returned.
    open: Option<usize>,
}

/// What a call left of its bytes, to be recognised when the next call brings it again: by its length and its two ends,
/// so that a large frame that comes in small parts costs no more for each part than a small one.
#[derive(Debug, Default)]
struct Left {
    length: usize,
    ends: BytesMut,
}

impl Left {
    /// How much of either end is kept.
    const END: usize = 32 << 10;

    fn keep(&mut self, left: &[u8]) {
        self.length = left.len();
        self.ends.clear();
        let (first, last) = Self::ends_of(left);
        self.ends.extend_from_slice(first);
        self.ends.extend_from_slice(last);
    }

    /// What stands in `bytes` behind this; `None` when this is not what they begin with.
    fn behind<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (front, behind) = bytes.split_at_checked(self.length).filter(|_| self.length > 0)?;
        let (first, last) = Self::ends_of(front);
        (self.ends.starts_with(first) && self.ends.ends_with(last)).then_some(behind)
    }

    fn ends_of(bytes: &[u8]) -> (&[u8], &[u8]) {
        let middle = bytes.len().saturating_sub(Self::END).max(Self::END);
        match (bytes.get(..Self::END), bytes.get(middle..)) {
            (Some(first), Some(last)) => (first, last),
            _ => (bytes, &[]),
        }
    }
}

/// All but the last `hidden` bytes.
fn without(bytes: &[u8], hidden: usize) -> &[u8] {
    bytes.get(..bytes.len().saturating_sub(hidden)).unwrap_or_default()
}

impl Tape {
    /// Begins with a header; the records of a restored machine follow.
    pub(super) fn new(header: &Header, limit: usize) -> Self {
        let mut out = Bounded::new(limit);
        write::header(&mut out, header);
        Self::On(Box::new(Running { out, at: header.start, left: Left::default(), open: None }))
    }

    fn stopped(rest: BytesMut, reason: StopReason) -> Self {
        Self::Stopped { rest: Box::new(rest), reason }
    }

    /// Writes a part of the header. One that does not fit leaves nothing that could be replayed.
    pub(super) fn head(&mut self, write: impl FnOnce(&mut Bounded)) {
        let Self::On(running) = self else { return };
        write(&mut running.out);
        if running.out.overflowed() {
            *self = Self::stopped(BytesMut::new(), StopReason::BufferFull);
        }
    }

    /// Begins the entry of a call that takes `input`.
    pub(super) fn input(&mut self, at: Instant, input: &Input) {
        self.begin(at, |running, before| write::input(&mut running.out, before, at, input));
    }

    /// Begins the entry of a call that takes bytes, of which the last `hidden` ones are only counted.
    pub(super) fn bytes(&mut self, at: Instant, id: TransportId, bytes: &[u8], hidden: usize) {
        self.begin(at, |running, before| {
            let bytes = without(bytes, hidden);
            let new = running.left.behind(bytes);
            write::bytes(&mut running.out, before, at, id, (new.is_some(), hidden), new.unwrap_or(bytes));
        });
    }

    /// Begins the entry of another call.
    pub(super) fn call(&mut self, at: Option<Instant>, call: &Call) {
        if let Self::On(running) = self {
            let at = at.unwrap_or(running.at);
            self.begin(at, |running, before| write::call(&mut running.out, before, at, call));
        }
    }

    fn begin(&mut self, at: Instant, write: impl FnOnce(&mut Running, Instant)) {
        let Self::On(running) = self else { return };
        if running.open.is_some() {
            // A call that never returned: its entry is the last.
            let rest = running.out.take();
            *self = Self::stopped(rest, StopReason::Asked);
            return;
        }
        running.open = Some(running.out.len());
        let before = core::mem::replace(&mut running.at, at);
        write(running, before);
    }

    /// Ends the entry.
    pub(super) fn end(&mut self, observed: impl FnOnce() -> Observed) {
        let Self::On(running) = self else { return };
        let Some(open) = running.open.take() else { return };
        write::observed(&mut running.out, &observed());
        if running.out.overflowed() {
            running.out.cut(open, &tag::call::STOP_BUFFER_FULL);
            *self = Self::stopped(running.out.take(), StopReason::BufferFull);
        }
    }

    /// Ends the entry of a call that took bytes, and left `left`, of which the last `hidden` ones are only counted.
    pub(super) fn end_bytes(&mut self, left: &[u8], hidden: usize, observed: impl FnOnce(Said) -> Observed) {
        if let Self::On(running) = self {
            running.left.keep(without(left, hidden));
        }
        let said = if left.is_empty() { Said::Nothing } else { Said::Unread(left.len()) };
        self.end(|| observed(said));
    }

    /// Ends the recording on request.
    pub(super) fn stop(&mut self) {
        if let Self::On(running) = self {
            let length = running.out.len();
            let end = running.open.unwrap_or(length);
            running.out.cut(end, &tag::call::STOP_ASKED);
            *self = Self::stopped(running.out.take(), StopReason::Asked);
        }
    }

    /// What was recorded and not taken yet.
    pub(super) fn take(&mut self) -> BytesMut {
        match self {
            Self::Off => BytesMut::new(),
            Self::On(running) => running.out.take(),
            Self::Stopped { rest, .. } => core::mem::take(&mut **rest),
        }
    }

    /// How many bytes wait to be taken.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::On(running) => running.out.len(),
            Self::Stopped { rest, .. } => rest.len(),
        }
    }

    /// Its heap bytes.
    pub(super) fn memory_used(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::On(running) => running.out.memory_used().saturating_add(running.left.ends.capacity()),
            Self::Stopped { rest, .. } => rest.capacity().saturating_add(size_of::<BytesMut>()),
        }
    }
}
