//! Owns every transition of the machine: attempts, connections, back-off, and the end. It must not know packets beyond
//! which one to queue.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::config::{CleanStart, Config};
use crate::connection::{Connection, Control, Identity, Phase, Presented, connect_packet_length};
use crate::interface::{
    Action, Answer, Disconnect, Drained, EndReason, Ended, Event, Misuse, Outcome, Refused, StoreError,
    TransportEvent,
};
use crate::journal::Record;
use crate::packet::{self, Packet, PacketType, PropertiesBuf, Property, PropertyId, Sender};
use crate::reason::ReasonCode;
use crate::session::Stage;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, ProtocolVersion, Server, TransportId};
use crate::wire::{self, reasons};

use super::route::Reached;
use super::{Drain, Machine, Resubscribe, State};

/// How much news of connections waits for the caller before the oldest is forgotten.
const MOST_NEWS: usize = 64;

impl Machine {
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), Refused> {
        if self.drain.is_some() {
            return Err(Refused::Disconnecting);
        }
        if self.journal.failed {
            return Err(Refused::StoreFailed);
        }
        if !matches!(self.state, State::Idle) {
            return Err(Refused::NotNow("a connection is already there or being made"));
        }
        let config = self.next_config.as_ref().unwrap_or(&self.config);
        let identity = Identity { client_id: &config.client_id, clean_start: true };
        connect_packet_length(config, &Presented::of(config), identity)?;
        self.route.failed = 0;
        self.start_attempt(now);
        Ok(())
    }

    pub(super) fn begin_again(&mut self, now: Instant) -> Result<(), Refused> {
        match &self.state {
            State::Idle => return Err(Refused::NotNow("there is no connection to make again")),
            State::Waiting { .. } => self.start_attempt(now),
            State::Preparing { .. } | State::Opening { .. } => self.end(now, EndReason::Reconnect),
            State::Live(_) => {
                self.close(now, EndReason::Reconnect, Some(ReasonCode::Success), PropertiesBuf::new());
            }
        }
        Ok(())
    }

    pub(super) fn begin_disconnect(&mut self, now: Instant, request: Disconnect) -> Result<OpId, Refused> {
        if self.drain.is_some() {
            return Err(Refused::Disconnecting);
        }
        if !reasons::may_say(Sender::Client, PacketType::Disconnect, request.reason) {
            return Err(Refused::Misuse(Misuse::DisconnectReason { reason: request.reason }));
        }
        if self.config.session_expiry.is_zero()
            && let Some(Property::SessionExpiryInterval(seconds)) =
                request.properties.as_properties().find(PropertyId::SessionExpiryInterval)
            && seconds > 0
        {
            return Err(Refused::Misuse(Misuse::SessionExpiryInterval { seconds }));
        }
        let packet =
            packet::Disconnect { reason: request.reason, properties: request.properties.as_properties() };
        wire::encoded_len(&Packet::Disconnect(packet), self.version())?;
        let op = self.session.next_op();
        let until = now + request.drain;
        self.drain = Some(Box::new(Drain { op, until, request, report: Drained::default() }));
        Ok(op)
    }

    fn start_attempt(&mut self, now: Instant) {
        if let Some(config) = self.next_config.take() {
            self.config = config;
            self.route.reconfigured();
        }
        self.next_transport = self.next_transport.saturating_add(1);
        self.counters.attempts = self.counters.attempts.saturating_add(1);
        let id = TransportId::new(self.next_transport);
        let deadline = now + self.config.connect_timeout;
        let server = self.route.server(&self.config);
        self.route.own_credentials = false;
        if self.config.prepare {
            self.state = State::Preparing { id, deadline };
            self.actions.push_back(Action::Prepare { id, server, failed: self.route.failed });
            return;
        }
        let presented = Presented::of(&self.config);
        match server {
            Some(server) => self.open(id, server, presented, deadline),
            None => {
                self.state = State::Preparing { id, deadline };
                self.end(now, EndReason::NoServer);
            }
        }
    }

    fn open(&mut self, id: TransportId, server: Server, presented: Presented, deadline: Instant) {
        self.actions.push_back(Action::OpenTransport { id, server: server.clone() });
        self.state = State::Opening { id, deadline, with: Box::new((server, presented)) };
    }

    pub(super) fn take_answer(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Prepared { id, server, credentials, initial_data } => {
                if let State::Preparing { id: asked, deadline } = self.state
                    && asked == id
                {
                    let mut presented = Presented::of(&self.config);
                    self.route.own_credentials = credentials.is_some();
                    if let Some(credentials) = credentials {
                        presented.credentials = credentials;
                    }
                    if initial_data.is_some() {
                        presented.initial_data = initial_data;
                    }
                    self.open(id, server, presented, deadline);
                }
            }
            Answer::NotPrepared { id, why } => {
                if matches!(self.state, State::Preparing { id: asked, .. } if asked == id) {
                    self.end(now, EndReason::NotPrepared(why));
                }
            }
            Answer::Authenticate { id, data } => {
                let State::Live(connection) = &mut self.state else { return };
                // Without a method in CONNECT no AUTH may be sent `[MQTT-4.12.0-7]`: nobody can have asked.
                if connection.id != id || connection.is_closing() || connection.authentication.is_none() {
                    return;
                }
                match data {
                    Some(data) => {
                        let reason = ReasonCode::ContinueAuthentication;
                        connection
                            .queue(JournalSeq::ZERO, Control::Auth { reason, data: Some(Box::new(data)) });
                    }
                    None => self.close(
                        now,
                        EndReason::AuthenticationFailed,
                        Some(ReasonCode::UnspecifiedError),
                        PropertiesBuf::new(),
                    ),
                }
            }
        }
    }

    pub(super) fn transport_event(&mut self, now: Instant, id: TransportId, event: TransportEvent) {
        match &mut self.state {
            State::Opening { id: opening, deadline, with } if *opening == id => match event {
                TransportEvent::Opened => {
                    let clean_start = match self.config.clean_start {
                        CleanStart::Always => true,
                        CleanStart::FirstOnly => !self.ever_connected,
                        CleanStart::Never => false,
                        CleanStart::OwnOnly => self.foreign_session,
                    };
                    let (server, presented) = (with.0.clone(), core::mem::take(&mut with.1));
                    let mut connection =
                        Connection::new(id, server, &self.config, clean_start, now, *deadline);
                    connection.familiar = self.home.take().is_some_and(|home| home == connection.server);
                    self.state = State::Live(Box::new(connection));
                    if self.session.identity == 0 {
                        self.begin_session();
                    }
                    self.choose_client_id();
                    // Who connects, and to which session, is known after a crash.
                    let gate = self.journal.last;
                    if let State::Live(connection) = &mut self.state {
                        connection.queue(gate, Control::Connect(Box::new(presented)));
                    }
                }
                TransportEvent::OpenFailed(why) => self.end(now, EndReason::OpenFailed(why)),
                TransportEvent::Closed(why) => {
                    self.end(
                        now,
                        EndReason::OpenFailed(why.unwrap_or_else(|| "closed while opening".into())),
                    );
                }
            },
            State::Live(connection) if connection.id == id => match event {
                TransportEvent::Opened => {}
                TransportEvent::OpenFailed(why) => self.end(now, EndReason::Closed(Some(why))),
                TransportEvent::Closed(why) => self.end(now, EndReason::Closed(why)),
            },
            _ => {}
        }
    }

    /// The client identifier of the session: the configured one, else the one the server assigned, else, for 3.x where
    /// no server can tell it, one made here.
    fn choose_client_id(&mut self) {
        let client_id = if !self.config.client_id.is_empty() {
            self.config.client_id.clone()
        } else if self.session.client_id.is_empty() && self.config.version != ProtocolVersion::V5 {
            format!("mm-{:016x}", self.rng.next())
        } else {
            return;
        };
        if self.session.client_id == client_id {
            return;
        }
        // The session belongs to its client identifier `[MQTT-3.1.3-2]`: under another one everything starts over.
        if !self.session.client_id.is_empty() {
            self.session_lost();
            if self.session.subscription_count() > 0 {
                self.resubscribe = Resubscribe::After(None);
            }
        }
        self.record(Record::ClientId(client_id));
    }

    /// Ends the present connection from our side: DISCONNECT where the version has a reason to tell or the end is
    /// normal, then the transport.
    pub(super) fn close(
        &mut self,
        now: Instant,
        reason: EndReason,
        code: Option<ReasonCode>,
        properties: PropertiesBuf,
    ) {
        let State::Live(connection) = &mut self.state else { return };
        if connection.is_closing() {
            return;
        }
        let normal = matches!(code, Some(ReasonCode::Success | ReasonCode::DisconnectWithWill));
        if !connection.is_established() || !(normal || connection.version == ProtocolVersion::V5) {
            self.end(now, reason);
            return;
        }
        let Some(code) = code else {
            self.end(now, reason);
            return;
        };
        // 3.x knows one DISCONNECT, and it discards the will: to have the will published the transport just closes.
        let silent = code == ReasonCode::DisconnectWithWill && connection.version != ProtocolVersion::V5;
        if silent {
            self.end(now, reason);
            return;
        }
        if !normal {
            connection.drop_queue();
        }
        connection
            .queue(JournalSeq::ZERO, Control::Disconnect { reason: code, properties: Box::new(properties) });
        let deadline = now + self.config.close_timeout;
        connection.phase = Phase::Closing { reason: Box::new(reason), deadline };
    }

    /// The last bytes have left, or have had their time: the connection ends for the reason that closing began with.
    fn end_closing(&mut self, now: Instant) {
        if let State::Live(connection) = &self.state
            && let Phase::Closing { reason, .. } = &connection.phase
        {
            let reason = EndReason::clone(reason);
            self.end(now, reason);
        }
    }

    /// The present attempt or connection is over. What comes next follows from why.
    pub(super) fn end(&mut self, now: Instant, reason: EndReason) {
        let state = core::mem::replace(&mut self.state, State::Idle);
        let mut reason = reason;
        let mut reached = Reached::Nothing;
        let id = match state {
            State::Idle | State::Waiting { .. } => {
                self.state = state;
                return;
            }
            State::Preparing { id, .. } => id,
            State::Opening { id, .. } => {
                if !matches!(reason, EndReason::OpenFailed(_)) {
                    self.actions.push_back(Action::CloseTransport { id });
                }
                id
            }
            State::Live(connection) => {
                if !matches!(reason, EndReason::Closed(_)) {
                    self.actions.push_back(Action::CloseTransport { id: connection.id });
                }
                // Once we are closing, every end of the transport is the end that we wanted.
                if let Phase::Closing { reason: wanted, .. } = connection.phase {
                    reason = *wanted;
                }
                reached = Reached::Handshake;
                if let Some(since) = connection.established_at {
                    reached = Reached::Connection;
                    if now - since >= self.config.backoff.stable_after {
                        self.route.stable();
                    }
                }
                for (_, op) in connection.unsent {
                    self.lose(op);
                }
                connection.id
            }
        };
        self.session.connection_ended();
        let place = self.events.mark();
        let retry_at = self.schedule(now, &reason, reached);
        let requested = matches!(reason, EndReason::Requested);
        let ended = Ended { id, reason, retry_at };
        let event = if reached == Reached::Connection {
            Event::Disconnected(ended)
        } else {
            Event::ConnectFailed(ended)
        };
        // Before what follows from it.
        self.events.insert(place, event);
        self.forget_old_news();
        if requested {
            self.finish_disconnect();
        }
    }

    /// A caller that takes no events does not make the machine grow: of the news of connections only the latest are kept.
    pub(super) fn forget_old_news(&mut self) {
        self.events.forget_news(MOST_NEWS);
    }

    pub(super) fn stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) {
        match result {
            Ok(seq) => {
                self.journal.durable = self.journal.durable.max(seq.min(self.journal.last));
                while let Some(held) = &mut self.journal.held
                    && let Some((gate, op, outcome)) = held.pop_front()
                {
                    if gate > self.journal.durable {
                        held.push_front((gate, op, outcome));
                        break;
                    }
                    self.events.complete(op, outcome);
                }
            }
            Err(error) => {
                self.journal.failed = true;
                // Nothing is sent any more; what is known of the commands is told all the same.
                self.journal.durable = JournalSeq::new(u64::MAX);
                for (_, op, outcome) in self.journal.held.take().into_iter().flat_map(|held| *held) {
                    self.events.complete(op, outcome);
                }
                match &self.state {
                    State::Live(connection) if connection.is_closing() => {}
                    State::Waiting { .. } => self.state = State::Idle,
                    _ => self.end(now, EndReason::Store(error)),
                }
                self.end_for_want_of_a_store();
            }
        }
    }

    /// The store has failed: nothing is sent any more, and every command ends.
    fn end_for_want_of_a_store(&mut self) {
        self.session.outgoing.hold_passing();
        let slots: Vec<u32> = self
            .session
            .outgoing
            .owed_slots()
            .into_iter()
            .chain(self.session.outgoing.waiting_slots())
            .collect();
        for slot in slots {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            let op = entry.op;
            if !self.session.outgoing.tell(slot) {
                self.session.keyed.tell(op);
                self.end_publication(op, Outcome::StoreFailed, JournalSeq::ZERO);
            }
        }
        for request in self.session.requests.drain() {
            if let Some(packet_id) = request.packet_id() {
                self.session.ids.remove(packet_id);
            }
            if let Some(op) = request.op {
                self.complete(op, Outcome::StoreFailed, JournalSeq::ZERO);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = match &self.state {
            State::Idle => None,
            State::Preparing { deadline, .. } | State::Opening { deadline, .. } => Some(*deadline),
            State::Waiting { until } => Some(*until),
            State::Live(connection) => {
                let stalls = self.stalls_at(connection);
                let alive = connection.deadline(self.is_paused());
                alive.map_or(stalls, |alive| Some(stalls.map_or(alive, |stalls| stalls.min(alive))))
            }
        };
        let drain = self.drain.as_ref().filter(|_| !self.is_closing()).map(|drain| drain.until);
        [deadline, drain, self.next_expiry].into_iter().flatten().min()
    }

    fn is_closing(&self) -> bool {
        matches!(&self.state, State::Live(connection) if connection.is_closing())
    }

    pub(super) fn time_passed(&mut self, now: Instant) {
        self.expire(now);
        match &mut self.state {
            State::Idle => {}
            State::Waiting { until } => {
                if now >= *until {
                    self.start_attempt(now);
                }
            }
            State::Preparing { deadline, .. } | State::Opening { deadline, .. } => {
                if now >= *deadline {
                    self.end(now, EndReason::ConnectTimeout);
                }
            }
            State::Live(connection) => match &connection.phase {
                Phase::Handshake { deadline } if now >= *deadline => self.end(now, EndReason::ConnectTimeout),
                Phase::Closing { deadline, .. } if now >= *deadline => {
                    self.end(now, EndReason::ConnectTimeout);
                }
                Phase::Established => {
                    self.keep_alive(now);
                    self.watch(now);
                }
                Phase::Handshake { .. } | Phase::Closing { .. } => {}
            },
        }
    }

    /// What follows from the present state without any further input: the steps of a disconnect, the end of a flushed
    /// connection, the records of publications that may now enter the window.
    #[inline]
    pub(super) fn progress(&mut self, now: Instant) {
        // Nothing does while a connection is as most are, and this is asked for every receipt.
        if self.journal.enabled || self.drain.is_some() || self.is_closing() {
            self.progress_on(now);
        }
    }

    #[inline(never)]
    fn progress_on(&mut self, now: Instant) {
        if self.journal.enabled {
            self.fill_window(now);
        }
        if let State::Live(connection) = &self.state
            && connection.is_closing()
            && connection.is_flushed()
        {
            self.end_closing(now);
        }
        let Some(drain) = &self.drain else { return };
        let due = now >= drain.until || self.is_idle();
        if !due && !self.is_drained() {
            return;
        }
        let request = drain.request.clone();
        match &self.state {
            State::Idle => self.finish_disconnect(),
            State::Waiting { .. } => {
                self.state = State::Idle;
                self.finish_disconnect();
            }
            State::Preparing { .. } | State::Opening { .. } => self.end(now, EndReason::Requested),
            State::Live(_) => self.close(now, EndReason::Requested, Some(request.reason), request.properties),
        }
    }

    /// Whether everything that was accepted has ended.
    fn is_drained(&self) -> bool {
        let outgoing = &self.session.outgoing;
        outgoing.count(Stage::Waiting) == 0
            && outgoing.len() == outgoing.told()
            && self.session.requests.len() == 0
            && match &self.state {
                State::Live(connection) => !connection.is_established() || connection.unsent.is_empty(),
                _ => true,
            }
    }

    /// Ends every command: nothing is accepted any more until the next connect.
    fn finish_disconnect(&mut self) {
        if self.drain.is_none() {
            return;
        }
        let keeps = self.journal.enabled && !self.journal.failed;
        for slot in self.session.outgoing.owed_slots() {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            let (op, gate) = (entry.op, entry.gate);
            let packet_id = entry.owed.packet_id().filter(|_| !entry.sent);
            let told = self.session.outgoing.tell(slot);
            if keeps {
                self.tell_kept(op, gate, told);
                continue;
            }
            // What has not left at all is not owed any more; the fate of the rest is for a later connection to settle.
            match packet_id {
                Some(packet_id) => {
                    self.conclude(op, Record::Ended { op, packet_id }, Outcome::NotSent, told);
                }
                None if told => {}
                None => {
                    self.session.keyed.tell(op);
                    self.end_publication(op, Outcome::Unknown, JournalSeq::ZERO);
                }
            }
        }
        let waiting: Vec<u32> = self.session.outgoing.waiting_slots().collect();
        for slot in waiting {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            if keeps && !entry.owed.is_qos_0() {
                let (op, gate) = (entry.op, entry.gate);
                let told = self.session.outgoing.tell(slot);
                self.tell_kept(op, gate, told);
            } else {
                self.discard(slot, Outcome::NotSent);
            }
        }
        // Nothing below is a publication.
        let Some(drain) = self.drain.take() else { return };
        for request in self.session.requests.drain() {
            if let Some(op) = request.op {
                let outcome = if request.sent { Outcome::Unknown } else { Outcome::NotSent };
                self.complete(op, outcome, JournalSeq::ZERO);
            }
        }
        self.complete(drain.op, Outcome::Disconnected(drain.report), self.journal.last);
    }

    /// The store has the publication, and a later client delivers it.
    fn tell_kept(&mut self, op: OpId, gate: JournalSeq, told: bool) {
        self.session.keyed.tell(op);
        if !told {
            self.end_publication(op, Outcome::Kept, gate);
        }
    }

    /// The configuration of the present attempt.
    pub(crate) const fn config(&self) -> &Arc<Config> {
        &self.config
    }
}
