//! Owns one transport's life: handshake, capabilities, keep-alive, aliases, quota, what is queued to be written first.
//! It must not know the session, nor whether there should be another connection after this one.

mod aliases;
mod capabilities;
mod handshake;
mod keep_alive;
mod publish;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Buf;

pub(crate) use handshake::{Identity, Presented, connect_packet_length, write_connect};
pub(crate) use keep_alive::{Due as KeepAliveDue, KeepAlive};
pub(crate) use publish::Sending;

use aliases::{IncomingAliases, OutgoingAliases};

use crate::config::{Config, Unsupported};
use crate::interface::{Capabilities, EndReason, ProtocolViolation};
use crate::output::Output;
use crate::packet::{Ack, AckKind, ConnAck, Packet, PropertiesBuf, Property};
use crate::reason::ReasonCode;
use crate::session::PacketIdMap;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, PacketId, ProtocolVersion, Secret, Server, TopicName, TransportId};
use crate::wire::{self, EncodeError, reasons};

/// Control packets that may be queued at once before no further input is taken.
pub(crate) const CONTROL_LIMIT: usize = 4_096;

/// Where one transport stands. `connection` has no other state that decides what is legal.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// CONNECT is on its way, CONNACK has not come.
    Handshake {
        /// When the connect timeout strikes.
        deadline: Instant,
    },
    /// CONNACK accepted the client.
    Established,
    /// Nothing more is read; the last bytes leave.
    Closing {
        /// Why the connection ends.
        reason: Box<EndReason>,
        /// When the transport is closed whether they left or not.
        deadline: Instant,
    },
}

/// A packet without a payload that goes before all publications. Almost all are acknowledgements, so the others take no room of
/// theirs.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    Connect(Box<Presented>),
    Ack { kind: AckKind, packet_id: PacketId, reason: ReasonCode },
    PingReq,
    Disconnect { reason: ReasonCode, properties: Box<PropertiesBuf> },
    Auth { reason: ReasonCode, data: Option<Box<Secret>> },
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) id: TransportId,
    pub(crate) server: Server,
    pub(crate) phase: Phase,
    pub(crate) version: ProtocolVersion,
    pub(crate) clean_start: bool,
    /// The last CONNECT before this one went to the same server and was answered, so that a session that it has is the one that the
    /// client knows. Another server may go on with one of an earlier time, and a CONNECT whose CONNACK was lost may have made a new
    /// one.
    pub(crate) familiar: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) keep_alive: KeepAlive,
    /// When something was acknowledged last, or began to wait for it.
    pub(crate) advanced_at: Instant,
    /// When CONNACK came.
    pub(crate) established_at: Option<Instant>,
    /// Queued control packets, each with the record that must be durable first.
    control: VecDeque<(JournalSeq, Control)>,
    /// Bytes put into the output, ever.
    pub(crate) written: u64,
    /// Bytes of them handed to the transport.
    pub(crate) handed: u64,
    /// QoS 0 publications in the output: where each ends, and whose it is.
    pub(crate) unsent: VecDeque<(u64, OpId)>,
    incoming_aliases: IncomingAliases,
    outgoing_aliases: OutgoingAliases,
    /// What the server does not do is done as far as it does it.
    pub(crate) downgrades: bool,
    /// Publications of QoS 1 and 2 that the server sent on this connection and that are not acknowledged to the end.
    pub(crate) unacknowledged: PacketIdMap<()>,
    /// How many bytes the frame at the front of the input still lacks, when its header is known.
    pub(crate) lacking: u32,
    /// How many bytes of the input were left to the caller the last time, as far as 32 bits count.
    pub(crate) left: u32,
    /// The method of enhanced authentication that this connection's CONNECT named.
    pub(crate) authentication: Option<Box<str>>,
    /// The client has begun to authenticate again, and the server has not ended that.
    pub(crate) reauthenticating: bool,
    /// The present session began on this connection: the server cannot have been asked for it before.
    pub(crate) began_session: bool,
}

impl Connection {
    pub(crate) fn new(
        id: TransportId,
        server: Server,
        config: &Config,
        clean_start: bool,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            id,
            server,
            phase: Phase::Handshake { deadline },
            version: config.version,
            clean_start,
            familiar: false,
            capabilities: Capabilities::before_connack(config),
            keep_alive: KeepAlive::new(now),
            advanced_at: now,
            established_at: None,
            control: VecDeque::new(),
            written: 0,
            handed: 0,
            unsent: VecDeque::new(),
            incoming_aliases: IncomingAliases::default(),
            outgoing_aliases: OutgoingAliases::default(),
            downgrades: config.unsupported == Unsupported::Downgrade,
            unacknowledged: PacketIdMap::new(),
            lacking: 0,
            left: 0,
            authentication: config
                .authentication
                .as_ref()
                .filter(|_| config.version == ProtocolVersion::V5)
                .map(|authentication| authentication.method.as_str().into()),
            reauthenticating: false,
            began_session: false,
        }
    }

    pub(crate) const fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established)
    }

    pub(crate) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Reads CONNACK: the server's capabilities and its keep alive are in force from here on.
    pub(crate) fn establish(&mut self, now: Instant, config: &Config, connack: &ConnAck<'_>) {
        self.phase = Phase::Established;
        self.established_at = Some(now);
        self.capabilities = Capabilities::before_connack(config).after_connack(connack);
        let maximum = self.capabilities.topic_alias_maximum.min(config.topic_aliases.maximum);
        self.outgoing_aliases = OutgoingAliases::new(maximum, config.topic_aliases.automatic);
        self.keep_alive.start(now, self.capabilities.keep_alive, config.ping_timeout);
    }

    /// Queues a control packet behind those that are queued.
    #[inline]
    pub(crate) fn queue(&mut self, gate: JournalSeq, control: Control) {
        self.control.push_back((gate, control));
    }

    /// The code with which a message of this connection is acknowledged. 3.x has no way to refuse one.
    pub(crate) fn acknowledgement(&self, reason: ReasonCode) -> ReasonCode {
        let refuses = self.version == ProtocolVersion::V5 && reason != ReasonCode::Success;
        if refuses { reasons::of_acknowledgement(reason) } else { ReasonCode::Success }
    }

    /// Queues the PUBACK of a message of this connection, of which no record is kept, with a code of
    /// [`acknowledgement`](Self::acknowledgement).
    #[inline(always)]
    pub(crate) fn queue_puback(&mut self, packet_id: PacketId, reason: ReasonCode) {
        self.unacknowledged.remove(packet_id);
        self.queue(JournalSeq::ZERO, Control::Ack { kind: AckKind::PubAck, packet_id, reason });
    }

    /// Queues a PINGREQ before everything else: it depends on nothing.
    pub(crate) fn queue_ping(&mut self) {
        self.control.push_front((JournalSeq::ZERO, Control::PingReq));
    }

    /// Drops what is queued: a connection that ends in an error says only why.
    pub(crate) fn drop_queue(&mut self) {
        self.control.clear();
    }

    pub(crate) fn queued(&self) -> usize {
        self.control.len()
    }

    /// The next control packet that may be written, if its record is durable.
    pub(crate) fn next_control(&mut self, durable: JournalSeq) -> Option<Control> {
        let (gate, _) = self.control.front()?;
        if *gate > durable {
            return None;
        }
        let (_, control) = self.control.pop_front()?;
        if self.control.is_empty() {
            // Other packets than acknowledgements are rare, and one that is sent alone is the only one for long.
            self.control = VecDeque::new();
        }
        Some(control)
    }

    /// Writes the acknowledgements at the front of the queue that may be written, until the output is full.
    pub(crate) fn write_acks(&mut self, durable: JournalSeq, out: &mut Output) -> Result<(), EncodeError> {
        let before = out.remaining();
        while !out.is_full()
            && let Some((gate, Control::Ack { kind, packet_id, reason })) = self.control.front()
            && *gate <= durable
        {
            if *reason == ReasonCode::Success {
                wire::encode_bare_ack(*kind, *packet_id, out.tail());
            } else {
                let ack = Ack { reason: *reason, ..Ack::new(*kind, *packet_id) };
                wire::encode(&Packet::Ack(ack), self.version, out.tail())?;
            }
            self.control.pop_front();
        }
        self.shrink_control();
        self.wrote(before, out);
        Ok(())
    }

    fn shrink_control(&mut self) {
        if self.control.is_empty() && self.control.capacity() > 1_024 {
            self.control = VecDeque::new();
        }
    }

    /// The longest that a packet to the server may be.
    pub(crate) const fn maximum_packet_size(&self) -> usize {
        self.capabilities.maximum_packet_size as usize
    }

    /// Finds the topic of a PUBLISH whose topic alias is `alias`, and learns it when the topic is given.
    ///
    /// # Errors
    /// 0x94 for an alias above the maximum that the client offered `[MQTT-3.1.2-26] [MQTT-3.3.2-11]`, 0x82 for one that
    /// was never mapped.
    pub(crate) fn resolve_alias(
        &mut self,
        alias: u16,
        topic: Option<TopicName>,
        maximum: u16,
    ) -> Result<TopicName, ProtocolViolation> {
        self.incoming_aliases.resolve(alias, topic, maximum)
    }

    /// When something of this connection is due.
    pub(crate) fn deadline(&self, paused: bool) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake { deadline } | Phase::Closing { deadline, .. } => Some(*deadline),
            Phase::Established => self.keep_alive.deadline(paused),
        }
    }

    /// Whether every byte that was written has been handed to the transport.
    pub(crate) fn is_flushed(&self) -> bool {
        self.control.is_empty() && self.handed >= self.written
    }

    /// It has been quiet: what a burst needed is given back.
    pub(crate) fn shrink(&mut self) {
        if self.unsent.is_empty() {
            self.unsent = VecDeque::new();
        }
        self.unacknowledged.shrink();
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.control
            .capacity()
            .saturating_mul(size_of::<(JournalSeq, Control)>())
            .saturating_add(self.unsent.capacity().saturating_mul(size_of::<(u64, OpId)>()))
            .saturating_add(self.incoming_aliases.memory_used())
            .saturating_add(self.outgoing_aliases.memory_used())
            .saturating_add(self.unacknowledged.memory_used())
    }
}

/// The first value of a property that stands once.
pub(crate) fn text_of(property: Option<Property<'_>>) -> Option<&str> {
    match property? {
        Property::AssignedClientIdentifier(text) | Property::AuthenticationMethod(text) => Some(text),
        _ => None,
    }
}

/// Whole seconds for a two-byte field.
pub(crate) fn seconds_u16(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX)
}

/// Whole seconds for a four-byte field; the longest means "for ever" where the specification says so.
pub(crate) fn seconds_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
