//! Owns the model broker's surface: connections, bytes and time in; bytes, closes and one deadline out.
//! It must not know sockets, threads or clocks.
//!
//! The broker speaks MQTT 3.1, 3.1.1 and 5.0 to any number of connections, each named by a [`ConnId`] of the caller's.
//! It is strict: what a client must not do ends the connection with the right code, or is written down as a
//! [`Violation`], so that a test can say that there was none.
//!
//! ```
//! use mqtt_machine::Instant;
//! use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
//!
//! let mut broker = Broker::new(BrokerConfig::new(), 1);
//! let conn = ConnId::new(1);
//! broker.open(Instant::ZERO, conn);
//! // CONNECT of 3.1.1: clean session, no keep alive, client identifier "a".
//! broker.handle_input(Instant::ZERO, conn, &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a']);
//! assert_eq!(&broker.poll_output(conn)[..], [0x20, 2, 0, 0]);
//! ```

mod authenticate;
mod config;
mod connect;
mod connection;
mod control;
mod copy;
mod log;
mod publish;
mod script;
mod session;
mod subscribe;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use mqtt_machine::packet::{Disconnect, Packet, PacketType, Property, PropertyId, Sender};
use mqtt_machine::wire::{self, DecodeError};
use mqtt_machine::{Instant, ProtocolVersion, ReasonCode, TopicName};

pub use config::BrokerConfig;
pub use copy::SessionCopy;
pub use log::{Accepted, Dropped, Log, Seen, Violation};
pub use script::{OnConnect, Plan};

use crate::random::Random;
use connection::{Connection, State};
use session::{Published, Session};

/// Names one connection. The caller gives a number to no two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// The connection with this number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// The model broker. What it is told of an unknown connection is ignored.
#[derive(Debug)]
pub struct Broker {
    config: BrokerConfig,
    random: Random,
    now: Instant,
    conns: BTreeMap<ConnId, Connection>,
    sessions: BTreeMap<Arc<str>, Session>,
    retained: BTreeMap<TopicName, Arc<Published>>,
    shares: BTreeMap<Arc<str>, usize>,
    closed: VecDeque<ConnId>,
    plans: VecDeque<Plan>,
    plans_for: BTreeMap<String, VecDeque<Plan>>,
    log: Log,
}

/// Why a connection ends, when the client is to blame.
struct Failure {
    reason: ReasonCode,
    what: String,
}

impl Failure {
    fn new(reason: ReasonCode, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// The driver's side: what a socket or a simulated link calls.
impl Broker {
    /// A broker without sessions. The seed feeds assigned client identifiers.
    pub fn new(config: BrokerConfig, seed: u64) -> Self {
        let log = Log::new(config.log_entries);
        Self {
            config,
            random: Random::new(seed),
            now: Instant::ZERO,
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            shares: BTreeMap::new(),
            closed: VecDeque::new(),
            plans: VecDeque::new(),
            plans_for: BTreeMap::new(),
            log,
        }
    }

    /// A connection was made. One too many is closed at once.
    pub fn open(&mut self, now: Instant, conn: ConnId) {
        self.advance(now);
        let plan = self.plans.pop_front().unwrap_or_default();
        if self.conns.len() >= self.config.max_connections {
            self.closed.push_back(conn);
            return;
        }
        let connection = Connection::new(plan, self.now + self.config.connect_timeout);
        self.conns.insert(conn, connection);
    }

    /// Bytes came from the client, in any chunks.
    pub fn handle_input(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        self.advance(now);
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        let mut bytes = bytes;
        let mut cut = false;
        if let Some(limit) = connection.plan.cut_after_received {
            let room = limit.saturating_sub(connection.received);
            if bytes.len() as u64 >= room {
                bytes = &bytes[..room as usize];
                cut = true;
            }
        }
        connection.received += bytes.len() as u64;
        match &mut connection.state {
            State::Silent | State::Closing => {}
            State::Opened { .. } | State::Authenticating { .. } => connection.input.extend_from_slice(bytes),
            State::Running(running) => {
                running.last_received = self.now;
                connection.input.extend_from_slice(bytes);
            }
        }
        self.read_packets(conn);
        // A plan for this client is known only now.
        let late = self.conns.get(&conn).is_some_and(|connection| {
            connection.plan.cut_after_received.is_some_and(|limit| connection.received >= limit)
        });
        if cut || late {
            self.cut(conn);
        }
    }

    /// The client closed its side, or the link is lost.
    pub fn closed(&mut self, now: Instant, conn: ConnId) {
        self.advance(now);
        self.detach(conn);
        self.conns.remove(&conn);
    }

    /// Time has passed. Early and repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.conns.get(&id) else { continue };
            match &connection.state {
                State::Opened { deadline } | State::Authenticating { deadline, .. }
                    if *deadline <= self.now =>
                {
                    self.cut(id);
                }
                State::Running(running)
                    if running
                        .patience
                        .is_some_and(|patience| running.last_received + patience <= self.now) =>
                {
                    let failure = Failure::new(
                        ReasonCode::KeepAliveTimeout,
                        "nothing came for 1.5 times the keep alive",
                    );
                    self.fail(id, failure);
                }
                _ => {}
            }
        }
        self.end_sessions();
    }

    /// When [`handle_timeout`](Self::handle_timeout), or [`poll_output`](Self::poll_output) for delayed bytes, is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let conns = self.conns.values().filter_map(|connection| connection.timeout(self.now));
        let sessions = self
            .sessions
            .values()
            .filter(|session| session.conn.is_none())
            .flat_map(|session| [session.ends_at, session.will_at])
            .flatten();
        conns.chain(sessions).min()
    }

    /// The bytes that are to be sent to the client now; empty when there are none.
    #[must_use]
    pub fn poll_output(&mut self, conn: ConnId) -> Bytes {
        let Some(connection) = self.conns.get_mut(&conn) else { return Bytes::new() };
        let mut answered = Vec::new();
        let mut bytes = connection.outbox.take(self.now, &mut answered);
        if let Some(running) = connection.running_mut() {
            for packet_id in answered {
                running.unanswered.remove(&packet_id);
            }
        }
        let mut cut = false;
        if let Some(limit) = connection.plan.cut_after_sent {
            let room = limit.saturating_sub(connection.sent);
            if bytes.len() as u64 >= room {
                bytes.truncate(room as usize);
                cut = true;
            }
        }
        connection.sent += bytes.len() as u64;
        if cut {
            self.cut(conn);
        } else if !bytes.is_empty() {
            self.pump_conn(conn);
        }
        bytes
    }

    /// A connection that the broker closes, after its output has been polled. It is unknown from then on.
    #[must_use]
    pub fn poll_close(&mut self) -> Option<ConnId> {
        if let Some(conn) = self.closed.pop_front() {
            return Some(conn);
        }
        let done = |connection: &Connection| {
            matches!(connection.state, State::Closing) && connection.outbox.is_empty()
        };
        let (&conn, _) = self.conns.iter().find(|(_, connection)| done(connection))?;
        self.conns.remove(&conn);
        Some(conn)
    }

    /// Whether [`poll_output`](Self::poll_output) has bytes for this connection by now.
    pub fn has_output(&self, conn: ConnId) -> bool {
        self.conns
            .get(&conn)
            .is_some_and(|connection| connection.outbox.due().is_some_and(|due| due <= self.now))
    }

    /// Whether the client does not take its output: a driver that reads no more from it until it does keeps memory bounded.
    pub fn is_congested(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|connection| connection.outbox.len() > 2 * self.config.max_output)
    }
}

impl Broker {
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn due(&self, conn: ConnId) -> Instant {
        let own =
            self.conns.get(&conn).map_or(core::time::Duration::ZERO, |connection| connection.plan.delay);
        self.now + self.config.delay + own
    }

    fn client_of(&self, conn: ConnId) -> Option<Arc<str>> {
        Some(Arc::clone(&self.conns.get(&conn)?.running()?.client_id))
    }

    /// Takes whole packets from the input until it is empty or the connection ends.
    fn read_packets(&mut self, conn: ConnId) {
        loop {
            let Some(connection) = self.conns.get_mut(&conn) else { return };
            let version = match &connection.state {
                State::Opened { .. } | State::Authenticating { .. } => ProtocolVersion::V5,
                State::Running(running) => running.version,
                State::Silent | State::Closing => return connection.input.clear(),
            };
            let header = match wire::frame_header(&connection.input, self.config.maximum_packet_size) {
                Ok(Some(header)) if connection.input.remaining() >= header.frame_len() => header,
                Ok(_) => return,
                Err(error) => return self.fail(conn, error.into()),
            };
            let frame = connection.input.split_to(header.frame_len());
            let result = match wire::decode(&frame, version, Sender::Client) {
                Ok(packet) => self.handle_packet(conn, &packet),
                Err(error) => Err(self.refuse_malformed(conn, &frame, error)),
            };
            if let Err(failure) = result {
                return self.fail(conn, failure);
            }
        }
    }

    fn handle_packet(&mut self, conn: ConnId, packet: &Packet<'_>) -> Result<(), Failure> {
        let client_id = self.client_of(conn);
        if self.log.is_on() {
            self.log.see(Seen::new(self.now, conn, client_id.clone(), Sender::Client, packet));
        }
        let Some(client_id) = client_id else {
            let authenticating = self
                .conns
                .get(&conn)
                .is_some_and(|connection| matches!(connection.state, State::Authenticating { .. }));
            return match packet {
                Packet::Auth(auth) if authenticating => self.handle_proof(conn, auth),
                Packet::Disconnect(_) if authenticating => {
                    self.shut(conn);
                    Ok(())
                }
                _ if authenticating => Err(Failure::new(
                    ReasonCode::ProtocolError,
                    "a packet other than AUTH and DISCONNECT while authenticating [MQTT-3.1.2-30]",
                )),
                Packet::Connect(connect) => self.handle_connect(conn, connect),
                _ => Err(Failure::new(
                    ReasonCode::ProtocolError,
                    "the first packet is not a CONNECT [MQTT-3.1.0-1]",
                )),
            };
        };
        match packet {
            Packet::Publish(publish) => self.handle_publish(conn, &client_id, publish),
            Packet::Ack(ack) => self.handle_ack(conn, &client_id, ack),
            Packet::Subscribe(subscribe) => self.handle_subscribe(conn, &client_id, subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                self.handle_unsubscribe(conn, &client_id, unsubscribe);
                Ok(())
            }
            Packet::PingReq => {
                self.send(conn, &Packet::PingResp);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(conn, &client_id, disconnect),
            Packet::Connect(_) => {
                Err(Failure::new(ReasonCode::ProtocolError, "a second CONNECT [MQTT-3.1.0-2]"))
            }
            Packet::Auth(auth) => self.handle_auth(conn, auth),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Failure::new(ReasonCode::ProtocolError, "a packet that only servers send"))
            }
        }
    }

    fn handle_disconnect(
        &mut self,
        conn: ConnId,
        client_id: &str,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), Failure> {
        let expiry_was_zero = self
            .conns
            .get(&conn)
            .and_then(Connection::running)
            .is_some_and(|running| running.expiry_was_zero);
        if let Some(Property::SessionExpiryInterval(seconds)) =
            disconnect.properties.find(PropertyId::SessionExpiryInterval)
        {
            if expiry_was_zero && seconds != 0 {
                return Err(Failure::new(
                    ReasonCode::ProtocolError,
                    "DISCONNECT with a session expiry after a CONNECT without [5.0 section 3.14.2.2.2]",
                ));
            }
            let expiry = self.granted_expiry(seconds);
            if let Some(session) = self.sessions.get_mut(client_id) {
                session.expiry = connect::expiry_duration(expiry);
            }
        }
        if disconnect.reason == ReasonCode::Success
            && let Some(session) = self.sessions.get_mut(client_id)
        {
            session.will = None;
        }
        self.shut(conn);
        Ok(())
    }

    /// Encodes a packet for the client. What this version cannot say is not said.
    fn send(&mut self, conn: ConnId, packet: &Packet<'_>) -> bool {
        let version = match self.conns.get(&conn).map(|connection| &connection.state) {
            Some(State::Running(running)) => running.version,
            _ => return false,
        };
        self.send_as(conn, version, packet)
    }

    fn send_as(&mut self, conn: ConnId, version: ProtocolVersion, packet: &Packet<'_>) -> bool {
        let due = self.due(conn);
        let client_id = self.client_of(conn);
        let Some(connection) = self.conns.get_mut(&conn) else { return false };
        let out = connection.outbox.at(due);
        let before = out.len();
        if wire::encode(packet, version, out).is_err() {
            return false;
        }
        let grown = out.len() - before;
        connection.outbox.grew(grown);
        if self.log.is_on() {
            self.log.see(Seen::new(self.now, conn, client_id, Sender::Server, packet));
        }
        true
    }

    /// Writes down what a client must not do.
    fn violation(&mut self, conn: ConnId, reason: ReasonCode, what: impl Into<String>) {
        let client_id = self.client_of(conn);
        self.log.violate(Violation { at: self.now, conn, client_id, reason, what: what.into() });
    }

    /// Ends a connection that the client is to blame for.
    fn fail(&mut self, conn: ConnId, failure: Failure) {
        let Failure { reason, what } = failure;
        self.violation(conn, reason, what);
        self.send_disconnect(conn, reason);
        self.shut(conn);
    }

    /// A server ends a 5.0 connection with a word, an earlier one without.
    fn send_disconnect(&mut self, conn: ConnId, reason: ReasonCode) {
        if self
            .conns
            .get(&conn)
            .and_then(Connection::running)
            .is_some_and(|it| it.version == ProtocolVersion::V5)
        {
            let away = self.away(reason);
            let properties = away.as_properties();
            self.send(conn, &Packet::Disconnect(Disconnect { reason, properties }));
        }
    }

    /// Ends a connection after its output has left. The client is gone for everybody else at once.
    fn shut(&mut self, conn: ConnId) {
        self.detach(conn);
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.state = State::Closing;
            connection.input.clear();
        }
    }

    /// Answers a CONNECT that is no CONNECT where there is an answer, before the connection fails.
    fn refuse_malformed(&mut self, conn: ConnId, frame: &[u8], error: DecodeError) -> Failure {
        let opened = self.conns.get(&conn).is_some_and(|it| matches!(it.state, State::Opened { .. }));
        if opened && frame.first().copied().and_then(PacketType::from_first_byte) == Some(PacketType::Connect)
        {
            self.answer_malformed_connect(conn, frame, error);
        }
        error.into()
    }
}

#[cfg(test)]
mod tests {}
