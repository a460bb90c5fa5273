//! Owns one connection of the broker: its buffers, where it stands, and what was agreed in its CONNECT.
//! It must not know sessions.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_machine::{Instant, PacketId, ProtocolVersion, TopicName};
use mqtt_machine_scram::{Mechanism, Server};

use super::script::Plan;

#[derive(Debug)]
pub(super) enum State {
    /// Waits for CONNECT, until then.
    Opened { deadline: Instant },
    /// CONNECT came and would be accepted, and the client must prove who it is, until then.
    Authenticating { deadline: Instant, exchange: Box<Exchange> },
    /// CONNECT was accepted.
    Running(Box<Running>),
    /// Takes everything and says nothing.
    Silent,
    /// No more is read; it closes when its output has left.
    Closing,
}

/// A SCRAM exchange that waits for the client's proof.
#[derive(Debug)]
pub(super) struct Exchange {
    /// CONNECT, until it is accepted; empty when the client authenticates again.
    pub(super) connect: BytesMut,
    pub(super) mechanism: Mechanism,
    pub(super) server: Server,
}

/// What was agreed with a client.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) client_id: Arc<str>,
    pub(super) version: ProtocolVersion,
    /// One and a half times the keep alive.
    pub(super) patience: Option<Duration>,
    pub(super) last_received: Instant,
    pub(super) receive_maximum: usize,
    pub(super) maximum_packet_size: usize,
    /// The CONNECT's session expiry interval was zero.
    pub(super) expiry_was_zero: bool,
    pub(super) topic_alias_maximum: u16,
    pub(super) aliases_in: BTreeMap<u16, TopicName>,
    pub(super) aliases_out: BTreeMap<TopicName, u16>,
    /// Publications of QoS 1 and 2 that came on this connection and whose last acknowledgement has not left.
    pub(super) unanswered: BTreeSet<PacketId>,
    /// By which mechanism the client proved who it is, and may again.
    pub(super) mechanism: Option<Mechanism>,
    /// The client authenticates again.
    pub(super) exchange: Option<Box<Exchange>>,
}

/// Bytes on their way out.
#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: BytesMut,
    answers: Vec<PacketId>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Outbox {
    /// The buffer for what is to leave at `due`, never before what was put in earlier.
    pub(super) fn at(&mut self, due: Instant) -> &mut BytesMut {
        let due = self.chunks.back().map_or(due, |last| last.due.max(due));
        if self.chunks.back().is_none_or(|last| last.due != due) {
            self.chunks.push_back(Chunk { due, bytes: BytesMut::new(), answers: Vec::new() });
        }
        match self.chunks.back_mut() {
            Some(last) => &mut last.bytes,
            None => unreachable!("a chunk was just put in"),
        }
    }

    /// When what was put in last leaves, the exchange of `packet_id` has ended.
    pub(super) fn answers(&mut self, packet_id: PacketId) {
        if let Some(last) = self.chunks.back_mut() {
            last.answers.push(packet_id);
        }
    }

    pub(super) fn grew(&mut self, by: usize) {
        self.bytes += by;
    }

    /// Bytes waiting, due or not.
    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// When the next bytes are due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.due)
    }

    pub(super) fn take(&mut self, now: Instant, answered: &mut Vec<PacketId>) -> Bytes {
        let mut taken = BytesMut::new();
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.due > now {
                break;
            }
            if taken.is_empty() {
                taken = core::mem::take(&mut chunk.bytes);
            } else {
                taken.extend_from_slice(&chunk.bytes);
            }
            answered.append(&mut chunk.answers);
            self.chunks.pop_front();
        }
        self.bytes -= taken.len();
        taken.freeze()
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) plan: Plan,
    pub(super) input: BytesMut,
    pub(super) outbox: Outbox,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Connection {
    pub(super) fn new(plan: Plan, deadline: Instant) -> Self {
        Self {
            state: State::Opened { deadline },
            plan,
            input: BytesMut::new(),
            outbox: Outbox::default(),
            received: 0,
            sent: 0,
        }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// When time alone changes something.
    pub(super) fn timeout(&self, now: Instant) -> Option<Instant> {
        let own = match &self.state {
            State::Opened { deadline } | State::Authenticating { deadline, .. } => Some(*deadline),
            State::Running(running) => running.patience.map(|patience| running.last_received + patience),
            State::Silent | State::Closing => None,
        };
        // What is due already waits for the driver, not for time.
        let output = self.outbox.due().filter(|due| *due > now);
        [own, output].into_iter().flatten().min()
    }
}
