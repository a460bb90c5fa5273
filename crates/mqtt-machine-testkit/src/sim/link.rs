//! Owns one simulated link: bytes on their way in both directions, and how it breaks.
//! It must not know what the bytes mean.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use mqtt_machine::{Instant, TransportId};

use super::between::Far;
use crate::broker::ConnId;

/// One direction: chunks with the time at which they arrive, in order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<(Instant, Bytes)>,
    last: Instant,
    bytes: usize,
    /// The end of the stream, behind all chunks.
    end: Option<Instant>,
}

impl Pipe {
    pub(super) fn push(&mut self, due: Instant, bytes: Bytes) {
        self.last = self.last.max(due);
        self.bytes += bytes.len();
        self.chunks.push_back((self.last, bytes));
    }

    /// The stream ends behind what is on its way.
    pub(super) fn finish(&mut self, due: Instant) {
        self.last = self.last.max(due);
        self.end.get_or_insert(self.last);
    }

    /// What is on its way arrives no earlier than `due`.
    pub(super) fn delay(&mut self, due: Instant) {
        for (at, _) in &mut self.chunks {
            *at = due.max(*at);
        }
        self.last = self.last.max(due);
    }

    /// What is on its way is lost; the end is noticed at `due`.
    pub(super) fn break_off(&mut self, due: Instant) {
        self.chunks.clear();
        self.bytes = 0;
        self.end = Some(due);
    }

    /// At most `most` bytes that have arrived.
    pub(super) fn take(&mut self, now: Instant, most: usize) -> Option<Bytes> {
        let (due, chunk) = self.chunks.front_mut()?;
        if *due > now || most == 0 {
            return None;
        }
        let taken = chunk.split_to(most.min(chunk.len()));
        self.bytes -= taken.len();
        if !chunk.has_remaining() {
            self.chunks.pop_front();
        }
        Some(taken)
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether everything has arrived, the end too.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.chunks.is_empty() && self.end.is_some_and(|end| end <= now)
    }

    /// Whether the stream has no end so far.
    pub(super) const fn is_whole(&self) -> bool {
        self.end.is_none()
    }

    /// When something arrives.
    pub(super) fn due(&self) -> Option<Instant> {
        self.chunks.front().map(|(due, _)| *due).or(self.end)
    }
}

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It opens at that time, or fails to.
    Opening {
        at: Instant,
        fails: bool,
    },
    Open,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) id: TransportId,
    pub(super) conn: ConnId,
    /// Which server it leads to.
    pub(super) door: usize,
    pub(super) phase: Phase,
    /// From the client to the broker.
    pub(super) up: Pipe,
    /// From the broker to the client.
    pub(super) down: Pipe,
    /// The client's side is closed.
    pub(super) client_done: bool,
    /// The broker's side is closed.
    pub(super) broker_done: bool,
    /// Bytes until it breaks, both directions together.
    pub(super) budget: Option<u64>,
    /// What lies between it and the broker.
    pub(super) far: Option<Box<dyn Far>>,
}

impl Link {
    /// Whether the client may write.
    pub(super) fn takes_output(&self) -> bool {
        self.phase == Phase::Open && !self.client_done
    }

    /// Takes `bytes` from the budget: how many of them still arrive, and whether the link breaks behind them.
    pub(super) fn spend(&mut self, bytes: usize) -> (usize, bool) {
        let Some(budget) = &mut self.budget else { return (bytes, false) };
        if (bytes as u64) < *budget {
            *budget -= bytes as u64;
            return (bytes, false);
        }
        let arrive = usize::try_from(*budget).unwrap_or(bytes);
        self.budget = None;
        (arrive, true)
    }

    /// When something happens on it.
    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        let (open, up, down) = match self.phase {
            Phase::Opening { at, .. } => (Some(at), None, None),
            Phase::Open => (
                None,
                self.up.due().filter(|_| !self.broker_done),
                self.down.due().filter(|_| !self.client_done),
            ),
        };
        [open, up, down].into_iter().flatten()
    }
}
