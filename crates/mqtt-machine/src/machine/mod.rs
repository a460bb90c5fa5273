//! Owns the question whether we should be connected, and joins the session with one connection after another.
//! It must not know the wire beyond asking for packets, nor any I/O.

mod commands;
mod counters;
mod direct;
mod events;
mod expiry;
mod inbound;
mod lifecycle;
mod observe;
mod outbound;
mod outcomes;
mod overflow;
mod packets;
mod requests;
mod rng;
mod round_trip;
mod route;
mod watchdog;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::time::Duration;

use bytes::BytesMut;

use crate::config::{Config, Overflow};
use crate::connection::{Connection, Presented};
use crate::interface::{
    Action, Answer, Capabilities, Command, Completions, Disconnect, Drained, Event, Input, KeyedPublication,
    Metrics, Outcome, Receipt, Refused, Reply, StoreError, Subscribe, TransportEvent, Unsubscribe,
};
use crate::journal::{PublishKey, Record};
use crate::message::Message;
use crate::output::Output;
use crate::reason::ReasonCode;
use crate::session::{KnownKey, Session, SessionSnapshot, Stage};
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, Secret, Server, TopicFilter, TransportId};
use counters::Counters;
use direct::Way;
use events::Events;
use rng::Rng;
use round_trip::Trips;
use route::Route;

/// The most that is read at once when nothing larger is awaited, in bytes.
const READ_SIZE: usize = 64 << 10;

/// Why records are no session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreError {
    /// Which record, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} does not follow from those before it: {}", self.index, self.what)
    }
}

impl core::error::Error for RestoreError {}

/// Where the machine stands between connections and in them. All transitions are in `lifecycle`.
#[derive(Clone, Debug)]
enum State {
    /// Not asked to connect, or given up.
    Idle,
    /// The driver was asked for a server and credentials.
    Preparing { id: TransportId, deadline: Instant },
    /// The driver is opening a transport.
    Opening { id: TransportId, deadline: Instant, with: Box<(Server, Presented)> },
    /// A transport is open.
    Live(Box<Connection>),
    /// The next attempt waits for its time.
    Waiting { until: Instant },
}

/// A disconnect in progress.
#[derive(Clone, Debug)]
struct Drain {
    op: OpId,
    until: Instant,
    request: Disconnect,
    /// What has become of publications so far.
    report: Drained,
}

/// The journal's position: what was recorded, and what of it is durable.
#[derive(Clone, Debug)]
struct Journal {
    enabled: bool,
    failed: bool,
    last: JournalSeq,
    durable: JournalSeq,
    /// Outcomes that are told when their record is durable; most machines have no store.
    #[expect(clippy::box_collection, reason = "it takes the room of a pointer where there is none")]
    held: Option<Box<VecDeque<(JournalSeq, OpId, Outcome)>>>,
    /// The record of the present session: nothing is subscribed to before it is durable, since keys of deliveries are its.
    began: JournalSeq,
}

/// Subscriptions that are being made again after a lost session. A connection that ends before `Done` leaves the rest to
/// the next one, whether the session is present there or not.
#[derive(Clone, Debug)]
enum Resubscribe {
    Done,
    /// All requests are written, some are not acknowledged.
    Written,
    /// From the one after this; `None`: from the first.
    After(Option<Box<TopicFilter>>),
}

/// The client as a pure state machine: bytes, time and commands in; bytes, one deadline, actions and events out.
///
/// The loop that drives it, in any program:
///
/// 1. Do every [`poll_action`](Self::poll_action): open and close transports as asked.
/// 2. Call [`transmit`](Self::transmit), write what is in the [`Output`], and tell [`handle_sent`](Self::handle_sent).
/// 3. Take every [`poll_event`](Self::poll_event); give every receipt back with [`settle`](Self::settle).
/// 4. Wait for whatever comes first: bytes (if [`read_capacity`](Self::read_capacity) is not 0), room to write, the
///    time of [`poll_timeout`](Self::poll_timeout), a command. Tell the machine, and begin again.
///
/// ```
/// use std::sync::Arc;
/// use mqtt_machine::{Action, Config, Instant, Machine, Server};
///
/// let now = Instant::ZERO;
/// let mut machine = Machine::new(Arc::new(Config::new(Server::new("broker:1883"))), 42, now);
/// machine.connect(now)?;
/// assert!(matches!(machine.poll_action(), Some(Action::OpenTransport { .. })));
/// # Ok::<(), mqtt_machine::Refused>(())
/// ```
#[derive(Clone, Debug)]
pub struct Machine {
    /// In force for the present attempt.
    config: Arc<Config>,
    /// In force from the next attempt on.
    next_config: Option<Arc<Config>>,
    rng: Rng,
    /// Of sessions.
    identities: Rng,
    session: Session,
    state: State,
    journal: Journal,
    drain: Option<Box<Drain>>,
    actions: VecDeque<Action>,
    events: Events,
    /// Bytes of messages whose receipts are out.
    incoming_bytes: usize,
    /// When the first of the messages that wait may be worth nothing any more.
    next_expiry: Option<Instant>,
    /// Messages of QoS 0 that were dropped since the consumer was told so.
    overrun: u64,
    counters: Counters,
    round_trip: Trips,
    resubscribe: Resubscribe,
    route: Route,
    ever_connected: bool,
    /// The server that answered the last CONNECT.
    home: Option<Server>,
    /// The last connection was a clean one of 3.x: the server discards its session when it ends.
    discarded: bool,
    /// The server has a session that this client knows nothing of and does not want: the next one begins empty.
    foreign_session: bool,
    next_transport: u64,
    /// What may be written as soon as it is published.
    way: Way,
}

impl Machine {
    /// A machine that is idle until [`connect`](Self::connect). `seed` feeds jitter and generated client identifiers.
    pub fn new(config: Arc<Config>, seed: u64, now: Instant) -> Self {
        let _ = now;
        let enabled = config.durable;
        Self {
            config,
            next_config: None,
            rng: Rng::new(seed),
            identities: Rng::new(seed.rotate_left(32) ^ 0x6A09_E667_F3BC_C908),
            session: Session::new(),
            state: State::Idle,
            journal: Journal {
                enabled,
                failed: false,
                last: JournalSeq::ZERO,
                // Without a store nothing waits for one.
                durable: if enabled { JournalSeq::ZERO } else { JournalSeq::new(u64::MAX) },
                held: None,
                began: JournalSeq::ZERO,
            },
            drain: None,
            actions: VecDeque::new(),
            events: Events::default(),
            incoming_bytes: 0,
            next_expiry: None,
            overrun: 0,
            counters: Counters::default(),
            round_trip: Trips::default(),
            resubscribe: Resubscribe::Done,
            route: Route::default(),
            ever_connected: false,
            home: None,
            discarded: false,
            foreign_session: false,
            next_transport: 0,
            way: Way::CLOSED,
        }
    }

    /// A machine whose session is the fold of `records`, as [`Action::Store`] gave them, in order. Publications in it
    /// complete under the [`OpId`]s that they had. `away` is the wall time since the last record: messages that waited
    /// expire by it.
    ///
    /// # Errors
    /// The first record that does not follow from those before it.
    pub fn restore(
        config: Arc<Config>,
        seed: u64,
        now: Instant,
        away: Duration,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RestoreError> {
        let mut machine = Self::new(config, seed, now);
        for (index, record) in records.into_iter().enumerate() {
            machine.session.check(&record).map_err(|what| RestoreError { index, what })?;
            machine.session.apply(record);
            machine.journal.last = machine.journal.last.next();
            machine.ever_connected = true;
        }
        if machine.journal.enabled {
            machine.journal.durable = machine.journal.last;
        }
        for op in machine.session.restored(now, away) {
            // Its key may be given to another publication from now on.
            machine.record(Record::Forgotten { op });
        }
        machine.expires_later(now);
        machine.counters.accepted = machine.session.outgoing.len() as u64;
        Ok(machine)
    }

    /// The one door: everything that happens to a machine comes through here, or through the method that spells it.
    pub fn handle(&mut self, now: Instant, input: Input) -> Reply {
        let accepted = |result: Result<OpId, Refused>| match result {
            Ok(op) => Reply::Accepted(op),
            Err(refused) => Reply::Refused(refused),
        };
        let done = |result: Result<(), Refused>| match result {
            Ok(()) => Reply::Done,
            Err(refused) => Reply::Refused(refused),
        };
        match input {
            Input::Transport { id, event } => self.handle_transport(now, id, event),
            Input::Bytes { id, mut bytes } => {
                self.handle_input(now, id, &mut bytes);
                return if bytes.is_empty() { Reply::Done } else { Reply::Unread(bytes) };
            }
            Input::Sent { id, bytes } => self.handle_sent(now, id, bytes),
            Input::Stored(result) => self.handle_stored(now, result),
            Input::Timeout => self.handle_timeout(now),
            Input::Answer(answer) => self.answer(now, answer),
            Input::Command(command) => match command {
                Command::Publish(message) => return accepted(self.publish(now, message)),
                Command::PublishKeyed(key, message) => {
                    return match self.publish_keyed(now, key, message) {
                        Ok(KeyedPublication::Accepted(op) | KeyedPublication::Open(op)) => {
                            Reply::Accepted(op)
                        }
                        Ok(KeyedPublication::Ended(op, outcome)) => Reply::Ended(op, outcome),
                        Err(refused) => Reply::Refused(refused),
                    };
                }
                Command::Forget(key) => self.forget(now, &key),
                Command::Subscribe(subscribe) => return accepted(self.subscribe(now, subscribe)),
                Command::Unsubscribe(unsubscribe) => return accepted(self.unsubscribe(now, unsubscribe)),
                Command::Disconnect(disconnect) => return accepted(self.disconnect(now, disconnect)),
                Command::Connect => return done(self.connect(now)),
                Command::Reconnect => return done(self.reconnect(now)),
                Command::Reauthenticate(data) => return done(self.reauthenticate(now, data)),
                Command::Settle(receipt, reason) => self.settle(now, receipt, reason),
                Command::Reconfigure(config) => self.reconfigure(now, config),
            },
        }
        Reply::Done
    }

    /// Something happened to the transport `id`. An id that is not the present one is ignored.
    pub fn handle_transport(&mut self, now: Instant, id: TransportId, event: TransportEvent) {
        self.way.close();
        self.transport_event(now, id, event);
        self.progress(now);
    }

    /// Takes whole frames from the front of `input` until a bound; what it leaves is the rest of a frame or, while
    /// [`read_capacity`](Self::read_capacity) is 0, more than may be taken: call again when reading resumes,
    /// before more is read.
    ///
    /// Where the bytes are split never matters. Bytes of another transport than the present one are dropped.
    pub fn handle_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) {
        self.way.close();
        self.take_input(now, id, input);
        self.progress(now);
    }

    /// `bytes` more of the output were handed to the transport `id`: QoS 0 publications within them have been sent.
    pub fn handle_sent(&mut self, now: Instant, id: TransportId, bytes: usize) {
        self.way.close();
        self.sent(id, bytes);
        self.progress(now);
    }

    /// Records up to here are durable: what depends on them may leave. After an error the machine stops for good.
    pub fn handle_stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) {
        self.way.close();
        self.stored(now, result);
        self.progress(now);
    }

    /// Time has passed. Calls before [`poll_timeout`](Self::poll_timeout), or repeated ones, change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.way.close();
        // It has been quiet: what a burst needed is given back.
        self.events.shrink();
        self.session.shrink();
        if let State::Live(connection) = &mut self.state {
            connection.shrink();
        }
        self.time_passed(now);
        self.progress(now);
    }

    /// Publishes a message: at once, or when there is a connection. The command ends with [`Outcome::Sent`] (QoS 0),
    /// [`Outcome::Acknowledged`] or [`Outcome::Refused`] (QoS 1 and 2), or why it could not be.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed: no room, too large, not supported by the connected server, or a property that
    /// does not belong into a PUBLISH from a client.
    pub fn publish(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> {
        self.way.close();
        if self.may_pass(&message) {
            return Ok(self.pass(message));
        }
        self.accept_publish(now, message, None)
    }

    /// Publishes a message and writes what may be written: as [`publish`](Self::publish), and then [`transmit`](Self::transmit). A message
    /// that is only lent, `&message`, stays the caller's, and a clone is published.
    ///
    /// When nothing else waits to be written the message goes into `out` at once, and one of QoS 0 is neither cloned nor kept. So it
    /// is the short way for who has the output at hand, a gateway that forwards what it receives, or a device that publishes one
    /// message again and again.
    ///
    /// # Errors
    /// As [`publish`](Self::publish). Then nothing is written either.
    ///
    /// ```
    /// # use mqtt_machine::{Instant, Machine, Message, Output, Refused};
    /// # fn forward(machine: &mut Machine, now: Instant, messages: &[Message]) -> Result<(), Refused> {
    /// let mut out = Output::new();
    /// for message in messages {
    ///     machine.publish_into(now, message, &mut out)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[inline(always)]
    pub fn publish_into(
        &mut self,
        now: Instant,
        message: impl Borrow<Message> + Into<Message>,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        self.take_into(now, message, out)
    }

    /// Whether [`publish_into`](Self::publish_into) would write this message into `out` at once, and surely not refuse it. So a caller who
    /// gives a message away can keep one that would be refused.
    #[inline(always)]
    pub fn is_clear_for(&mut self, message: &Message, out: &Output) -> bool {
        self.goes_at_once(message, out)
    }

    /// Publishes a message of QoS 1 or 2 once under a key of the caller's. While the key is known the message is not accepted
    /// again: what comes back tells how far the one that was is. With a store that holds across restarts, so that a caller who
    /// does not know whether it has published asks again.
    ///
    /// A key is known from here until [`forget`](Self::forget); of publications that have ended the newest
    /// [`keyed_outcomes`](crate::Limits::keyed_outcomes) are. A server
    /// that takes only QoS 0 ends that: what is lowered to it has no key.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); a message of QoS 0 has no key.
    pub fn publish_keyed(
        &mut self,
        now: Instant,
        key: PublishKey,
        message: Message,
    ) -> Result<KeyedPublication, Refused> {
        self.way.close();
        self.accept_keyed(now, key, message)
    }

    /// Whether [`publish_keyed`](Self::publish_keyed) would not accept another message under this key.
    #[must_use]
    pub fn is_known(&self, key: &PublishKey) -> bool {
        self.session.keyed.op_of(key).is_some()
    }

    /// The newest record. What was accepted until now is durable when it is.
    #[must_use]
    pub const fn journal_position(&self) -> JournalSeq {
        self.journal.last
    }

    /// Forgets the key of a publication that has ended. Before that it does nothing.
    pub fn forget(&mut self, now: Instant, key: &PublishKey) {
        self.way.close();
        let _ = now;
        if let Some(KnownKey::Ended(op, _)) = self.session.keyed.known(key) {
            self.record(Record::Forgotten { op });
        }
    }

    /// Whether `message` would find room now: false where [`publish`](Self::publish) would refuse it with
    /// [`Refused::Full`], so that a caller who then waits for room can keep it.
    #[must_use]
    pub fn has_room_for(&self, message: &Message) -> bool {
        message.cost() > self.config.limits.outgoing_bytes || self.room_for(message).is_some()
    }

    /// Whether a caller that finds no room should wait for it: under [`Overflow::Refuse`] it should not.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.config.overflow != Overflow::Refuse
    }

    /// Subscribes: at once, or when there is a connection. The command ends with [`Outcome::Subscribed`]. What was
    /// granted is made again whenever the server lost the session, or may have. Requests overtake publications that still wait.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed.
    pub fn subscribe(&mut self, now: Instant, subscribe: Subscribe) -> Result<OpId, Refused> {
        self.way.close();
        let _ = now;
        self.accept_subscribe(subscribe)
    }

    /// Unsubscribes: at once, or when there is a connection. The command ends with [`Outcome::Unsubscribed`].
    ///
    /// # Errors
    /// [`Refused`], with nothing changed.
    pub fn unsubscribe(&mut self, now: Instant, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        self.way.close();
        let _ = now;
        self.accept_unsubscribe(unsubscribe)
    }

    /// Gives a receipt back: its bytes return to the inbound budget, and its message is acknowledged with `reason`.
    ///
    /// Receipts may come back in any order; acknowledgements leave in the order of arrival `[MQTT-4.6.0-2]`. A failure
    /// (0x80 and above) refuses the message in 5.0; 3.x cannot say it and acknowledges. A code that PUBACK and PUBREC do not
    /// have (5.0, section 3.4.2.1) is told as "unspecified error" when it is a failure, and as success when it is none.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a receipt is credit: whoever gives it back has it no more"
    )]
    #[inline]
    pub fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        let paused = self.is_paused();
        self.incoming_bytes = self.incoming_bytes.saturating_sub(receipt.bytes);
        if receipt.acknowledges() || paused || self.overrun > 0 {
            self.take_receipt(now, &receipt, reason, paused);
        }
        self.progress(now);
    }

    /// Begins to connect, and to reconnect whenever the connection ends, until [`disconnect`](Self::disconnect).
    ///
    /// # Errors
    /// [`Refused::NotNow`] when it does so already; [`Refused::Encode`] for a configuration that no CONNECT can carry.
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> {
        self.way.close();
        self.begin(now)
    }

    /// Ends the present connection or attempt and begins another one at once, with what
    /// [`reconfigure`](Self::reconfigure) set.
    ///
    /// # Errors
    /// [`Refused::NotNow`] when the machine is idle.
    pub fn reconnect(&mut self, now: Instant) -> Result<(), Refused> {
        self.way.close();
        self.begin_again(now)
    }

    /// Brings what was accepted to its end, for at most `disconnect.drain`, then sends DISCONNECT and closes. The
    /// command ends with [`Outcome::Disconnected`], and every other one has ended by then: what was never sent with
    /// [`Outcome::NotSent`], what was sent and not acknowledged with [`Outcome::Unknown`]. The session still owes the
    /// latter, and a later [`connect`](Self::connect) resumes it. With a store both of QoS 1 and 2 end with [`Outcome::Kept`],
    /// and a later connection, of this machine or of one that is restored, delivers them.
    ///
    /// # Errors
    /// [`Refused::Disconnecting`] when it is under way.
    pub fn disconnect(&mut self, now: Instant, disconnect: Disconnect) -> Result<OpId, Refused> {
        self.way.close();
        let op = self.begin_disconnect(now, disconnect)?;
        self.progress(now);
        Ok(op)
    }

    /// Authenticates again on the present connection (5.0, section 4.12.1) by the method that its CONNECT named: sends AUTH
    /// with `data` as the first step. The server's steps come as [`Action::Authenticate`]; everything else goes on.
    /// A server that does not agree ends the connection.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed: no connection, no method `[MQTT-4.12.1-1]`, an exchange of this kind that has not
    /// ended, or more than 65,535 bytes.
    pub fn reauthenticate(&mut self, now: Instant, data: Option<Secret>) -> Result<(), Refused> {
        self.way.close();
        let _ = now;
        self.begin_reauthentication(data)
    }

    /// The configuration from the next attempt on. The present connection keeps its own.
    pub fn reconfigure(&mut self, now: Instant, config: Arc<Config>) {
        self.way.close();
        let _ = now;
        self.next_config = Some(config);
    }

    /// Answers [`Action::Prepare`] or [`Action::Authenticate`]. An answer to an attempt that is over is ignored.
    pub fn answer(&mut self, now: Instant, answer: Answer) {
        self.way.close();
        self.take_answer(now, answer);
        self.progress(now);
    }

    /// Whether the answer to [`Action::Prepare`] for `id` would be taken: once the attempt is over, nobody waits for it.
    #[must_use]
    pub fn is_preparing(&self, id: TransportId) -> bool {
        matches!(self.state, State::Preparing { id: asked, .. } if asked == id)
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        // Without a store actions are rare, and room for them is not kept.
        if self.actions.len() == 1 && !self.journal.enabled {
            return core::mem::take(&mut self.actions).pop_front();
        }
        self.actions.pop_front()
    }

    /// The next thing to tell.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// The ends of commands that come next, at once where [`poll_event`](Self::poll_event) would tell them one by one: those whose
    /// names follow each other and of which nothing is to be said but [`Outcome::Sent`], or [`Outcome::Acknowledged`] with success
    /// alone. `None` when something else comes next, or nothing.
    ///
    /// A caller that publishes much asks here first, and then `poll_event`:
    ///
    /// ```
    /// # use mqtt_machine::{Event, Machine};
    /// # fn told(machine: &mut Machine) {
    /// loop {
    ///     while let Some(completions) = machine.poll_completions() {
    ///         println!("from {:?} to {:?}", completions.first, completions.last);
    ///     }
    ///     let Some(event) = machine.poll_event() else { break };
    ///     println!("{event:?}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn poll_completions(&mut self) -> Option<Completions> {
        self.events.pop_run()
    }

    /// Gives `take` the messages that come next, with their receipts, as [`poll_event`](Self::poll_event) would tell them one by one. It ends
    /// before the first event that is no message, which `poll_event` tells then.
    ///
    /// ```
    /// # use mqtt_machine::{Instant, Machine, ReasonCode};
    /// # fn told(now: Instant, machine: &mut Machine) {
    /// let mut receipts = Vec::new();
    /// machine.poll_messages(|message, receipt| {
    ///     println!("{message:?}");
    ///     receipts.push(receipt);
    /// });
    /// for receipt in receipts {
    ///     machine.settle(now, receipt, ReasonCode::Success);
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn poll_messages(&mut self, take: impl FnMut(Message, Receipt)) {
        self.events.pop_messages(take);
    }

    /// Shows what [`poll_messages`](Self::poll_messages) gives.
    pub(crate) fn show_messages(&self, show: impl FnMut(&Event)) {
        self.events.show_messages(show);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due: one deadline for everything.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    /// Moves whole packets into `out` until it is full: acknowledgements and pings first, then requests, then
    /// publications. A packet in `out` is committed: it has its place in the quota, and is a DUP next time.
    pub fn transmit(&mut self, now: Instant, out: &mut Output) {
        self.way.close();
        self.write_output(now, out);
        self.progress(now);
    }

    /// How many bytes to read at most, at once: 0 means stop reading, until receipts come back or output leaves.
    /// Otherwise it is at least one read, or what the frame at the front still lacks.
    #[must_use]
    pub fn read_capacity(&self) -> usize {
        match &self.state {
            State::Live(connection) if self.takes_input(connection) => {
                (connection.lacking as usize).max(READ_SIZE)
            }
            _ => 0,
        }
    }

    /// True while the inbound budget is used up: nothing is read until receipts come back, and a call that would wait
    /// for the server must not wait.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.held_bytes() >= self.config.limits.incoming_bytes
    }

    /// What is held of the inbound budget.
    fn held_bytes(&self) -> usize {
        self.incoming_bytes.saturating_add(self.session.incoming.waiting_bytes())
    }

    /// True between CONNACK and the end of that connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.capabilities().is_some()
    }

    /// What the connected server allows.
    #[must_use]
    pub fn capabilities(&self) -> Option<&Capabilities> {
        match &self.state {
            State::Live(connection) if connection.is_established() => Some(&connection.capabilities),
            _ => None,
        }
    }

    /// True when nothing more happens until [`connect`](Self::connect).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The durable part of the session.
    #[must_use]
    pub fn session(&self) -> SessionSnapshot {
        self.session.snapshot()
    }

    /// What has been counted, and how much there is now. It costs no more however many messages there are.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let outgoing = &self.session.outgoing;
        let waiting = outgoing.count(Stage::Waiting);
        Metrics {
            waiting,
            in_flight: outgoing.len().saturating_sub(waiting),
            outgoing_bytes: outgoing.bytes(),
            incoming_bytes: self.held_bytes(),
            memory_used: self.memory_used(),
            round_trip: self.round_trip.told(),
            ..self.counters.told()
        }
    }

    /// Heap bytes of queues and tables, delivered messages whose receipts are out among them.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        let connection = match &self.state {
            State::Live(connection) => connection.memory_used().saturating_add(size_of::<Connection>()),
            _ => 0,
        };
        let actions = self.actions.capacity().saturating_mul(size_of::<Action>());
        let held = self.journal.held.as_ref().map_or(0, |held| held.capacity());
        let held = held.saturating_mul(size_of::<(JournalSeq, OpId, Outcome)>());
        self.session
            .memory_used()
            .saturating_add(connection)
            .saturating_add(self.events.memory_used())
            .saturating_add(actions)
            .saturating_add(held)
            .saturating_add(self.incoming_bytes)
    }

    /// Whether what changes the session is kept: only then a record need be made of it.
    const fn keeps_records(&self) -> bool {
        self.journal.enabled && !self.journal.failed
    }

    /// Changes the session, and has the change kept. Returns the position that must be durable before anything that
    /// depends on the change leaves.
    fn record(&mut self, record: Record) -> JournalSeq {
        if !self.keeps_records() {
            self.session.apply(record);
            return JournalSeq::ZERO;
        }
        self.session.apply(record.clone());
        self.journal.last = self.journal.last.next();
        let seq = self.journal.last;
        self.actions.push_back(Action::Store { seq, record });
        seq
    }
}
