//! Owns the pairing of a machine with its model: the machine's surface, each call of it watched.
//! It must not know what the model makes of it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::journal::{PublishKey, Record};
use mqtt_machine::transcript::{Recorder, Recording};
use mqtt_machine::{
    Action, Answer, Capabilities, Command, Completions, Config, Disconnect, Event, Input, Instant,
    JournalSeq, KeyedPublication, Machine, Message, OpId, Output, ReasonCode, Receipt, Refused, Reply,
    RestoreError, Secret, SessionSnapshot, StoreError, Subscribe, TransportEvent, TransportId, Unsubscribe,
};

use super::model::{Asked, Model, Vitals};
use super::{Invariant, Violation};

/// Records up to which every step is followed by a comparison of the whole session and of its fold.
const SMALL_JOURNAL: usize = 16;

/// Beyond that, one in so many steps is.
const DEEP_EVERY: u64 = 64;

/// A machine with its reference model: the surface of [`Machine`], where every call is followed by a comparison.
///
/// The model sees what passes this surface, so nobody may reach the machine around it. Its methods are documented at
/// [`Machine`]. Actions are taken from the machine as soon as they are made, and handed out by
/// [`poll_action`](Self::poll_action) in the same order.
#[derive(Debug)]
pub struct Checked {
    machine: Recorder,
    model: Model,
    actions: VecDeque<Action>,
    steps: u64,
    compared: usize,
}

/// Setting up, and what was found.
impl Checked {
    /// As [`Machine::new`].
    pub fn new(config: Arc<Config>, seed: u64, now: Instant) -> Self {
        Self::recorded(config, seed, now, None)
    }

    /// As [`Recorder::new`].
    pub fn recorded(config: Arc<Config>, seed: u64, now: Instant, recording: Option<Recording>) -> Self {
        let model = Model::new(Arc::clone(&config));
        Self::with(Recorder::new(config, seed, now, recording), model)
    }

    /// As [`Recorder::restore`].
    ///
    /// # Errors
    /// As [`Recorder::restore`].
    pub fn restore(
        config: Arc<Config>,
        seed: u64,
        now: Instant,
        away: Duration,
        records: Vec<Record>,
        recording: Option<Recording>,
    ) -> Result<Self, RestoreError> {
        let model = Model::restore(Arc::clone(&config), now, away, &records);
        let machine = Recorder::restore(config, seed, now, away, records, recording)?;
        let mut checked = Self::with(machine, model);
        checked.after(now);
        checked.compare();
        Ok(checked)
    }

    fn with(machine: Recorder, model: Model) -> Self {
        Self { machine, model, actions: VecDeque::new(), steps: 0, compared: 0 }
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// As [`Recorder::take_recorded`].
    #[must_use]
    pub fn take_recorded(&mut self) -> Bytes {
        self.machine.take_recorded()
    }

    /// What did not hold so far, the first 64 of it.
    pub fn violations(&self) -> &[Violation] {
        &self.model.findings.list
    }

    /// # Panics
    /// With every violation, when there is one.
    pub fn assert_sound(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// Compares the whole session with the model and with the fold of its records, now rather than at its time.
    pub fn compare(&mut self) {
        let session = self.machine.session();
        self.model.session(&session);
        let records = &self.model.journal.records;
        // What happens after a store has failed is kept nowhere.
        if !self.model.journal.keeps() || self.compared == records.len() {
            return;
        }
        self.compared = records.len();
        let config = Arc::clone(self.model.config());
        let restored = Machine::restore(config, 0, Instant::ZERO, Duration::ZERO, records.iter().cloned());
        let detail = match restored {
            Ok(restored) if restored.session() == session => return,
            Ok(restored) => format!("the fold is {:?}, the session is {session:?}", restored.session()),
            Err(error) => error.to_string(),
        };
        self.model.findings.report(Invariant::Fold, detail);
    }

    /// The machine has been disconnected, and its events were taken: nothing may be left open.
    pub fn finish(&mut self) {
        self.compare();
        self.model.finished();
    }

    /// Commands that were accepted and have not been told to have ended.
    pub fn open_commands(&self) -> impl Iterator<Item = OpId> {
        self.model.open_commands()
    }

    /// Every record that was handed out, restored ones included.
    pub fn records(&self) -> &[Record] {
        &self.model.journal.records
    }

    /// The most publications that were in flight at once.
    pub const fn most_in_flight(&self) -> usize {
        self.model.outgoing.most_in_flight
    }

    /// How many PUBLISH packets were written with DUP.
    pub const fn resent(&self) -> usize {
        self.model.outgoing.resent
    }
}

/// What follows every call.
impl Checked {
    /// Shows the model an action that the machine did not make.
    #[cfg(test)]
    pub(super) fn invent(&mut self, action: &Action) {
        self.model.action(action);
    }

    fn before(&mut self, now: Instant) {
        self.model.findings.now = now;
    }

    fn after(&mut self, now: Instant) {
        self.model.findings.now = now;
        while let Some(action) = self.machine.poll_action() {
            self.model.action(&action);
            self.actions.push_back(action);
        }
        self.model.vitals(&Vitals {
            memory_used: self.machine.memory_used(),
            deadline: self.machine.poll_timeout(),
            read_capacity: self.machine.read_capacity(),
            is_paused: self.machine.is_paused(),
            is_connected: self.machine.is_connected(),
            is_idle: self.machine.is_idle(),
            has_actions: !self.actions.is_empty(),
        });
        self.steps += 1;
        let records = self.model.journal.records.len();
        let fresh = records > self.compared && records <= SMALL_JOURNAL;
        if fresh || self.steps.is_multiple_of(DEEP_EVERY) {
            self.compare();
        }
    }

    fn accepted(&mut self, result: &Result<OpId, Refused>, asked: Asked) {
        if let Ok(op) = result {
            self.model.accepted(*op, asked);
        }
    }
}

/// What happens to the machine.
impl Checked {
    /// As [`Machine::handle`].
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
            Input::Command(Command::Publish(message)) => return accepted(self.publish(now, message)),
            Input::Command(Command::Subscribe(subscribe)) => return accepted(self.subscribe(now, subscribe)),
            Input::Command(Command::Unsubscribe(unsubscribe)) => {
                return accepted(self.unsubscribe(now, unsubscribe));
            }
            Input::Command(Command::Disconnect(disconnect)) => {
                return accepted(self.disconnect(now, disconnect));
            }
            Input::Command(Command::Connect) => return done(self.connect(now)),
            Input::Command(Command::Reconnect) => return done(self.reconnect(now)),
            Input::Command(Command::Reauthenticate(data)) => return done(self.reauthenticate(now, data)),
            Input::Command(Command::Settle(receipt, reason)) => self.settle(now, receipt, reason),
            Input::Command(Command::Reconfigure(config)) => self.reconfigure(now, config),
            // An input that this crate does not know yet is passed on, unwatched.
            other => {
                let reply = self.machine.handle(now, other);
                self.after(now);
                return reply;
            }
        }
        Reply::Done
    }

    /// As [`Machine::handle_transport`].
    pub fn handle_transport(&mut self, now: Instant, id: TransportId, event: TransportEvent) {
        self.before(now);
        match &event {
            TransportEvent::Opened => self.model.opened(id),
            _ => self.model.closed(id),
        }
        self.machine.handle_transport(now, id, event);
        self.after(now);
    }

    /// As [`Machine::handle_input`].
    pub fn handle_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) {
        self.before(now);
        let mut taken = input.to_vec();
        self.machine.handle_input(now, id, input);
        taken.truncate(taken.len().saturating_sub(input.len()));
        self.model.received(id, &taken);
        self.after(now);
    }

    /// As [`Machine::handle_sent`].
    pub fn handle_sent(&mut self, now: Instant, id: TransportId, bytes: usize) {
        self.before(now);
        self.model.handed(id, bytes);
        self.machine.handle_sent(now, id, bytes);
        self.after(now);
    }

    /// As [`Machine::handle_stored`].
    pub fn handle_stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) {
        self.before(now);
        match &result {
            Ok(seq) => self.model.stored(*seq),
            Err(_) => self.model.store_failed(),
        }
        self.machine.handle_stored(now, result);
        self.after(now);
    }

    /// As [`Machine::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.before(now);
        self.machine.handle_timeout(now);
        self.model.timed_out(now, self.machine.poll_timeout());
        self.after(now);
    }

    /// As [`Machine::publish`].
    ///
    /// # Errors
    /// As [`Machine::publish`].
    pub fn publish(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> {
        self.before(now);
        let connected = self.machine.is_connected();
        let result = self.machine.publish(now, message.clone());
        match &result {
            Ok(op) => self.model.published(*op, message, connected),
            Err(Refused::Full) => self.model.found_full(&message),
            Err(_) => {}
        }
        self.after(now);
        result
    }

    /// As [`Machine::publish_into`].
    ///
    /// # Errors
    /// As [`Machine::publish_into`].
    pub fn publish_into(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        self.before(now);
        let (connected, before) = (self.machine.is_connected(), out.remaining());
        let result = self.machine.publish_into(now, message, out);
        match &result {
            Ok(op) => self.model.published(*op, message.clone(), connected),
            Err(Refused::Full) => self.model.found_full(message),
            Err(_) => {}
        }
        let written = tail_of(out, before);
        self.model.transmitted(&written);
        self.after(now);
        if result.is_ok() && !out.is_full() {
            self.model.wrote_all();
        }
        result
    }

    /// As [`Machine::publish_keyed`].
    ///
    /// # Errors
    /// As [`Machine::publish_keyed`].
    pub fn publish_keyed(
        &mut self,
        now: Instant,
        key: PublishKey,
        message: Message,
    ) -> Result<KeyedPublication, Refused> {
        self.before(now);
        let connected = self.machine.is_connected();
        let asked = key.clone();
        let result = self.machine.publish_keyed(now, key, message.clone());
        match &result {
            Ok(known) => {
                self.model.asked_by_key(&asked, known);
                if let KeyedPublication::Accepted(op) = known {
                    self.model.published(*op, message, connected);
                }
            }
            Err(Refused::Full) => self.model.found_full(&message),
            Err(_) => {}
        }
        self.after(now);
        result
    }

    /// As [`Machine::subscribe`].
    ///
    /// # Errors
    /// As [`Machine::subscribe`].
    pub fn subscribe(&mut self, now: Instant, subscribe: Subscribe) -> Result<OpId, Refused> {
        self.before(now);
        let filters = subscribe.subscriptions.iter().map(|it| it.filter.clone()).collect();
        let insisted = subscribe.properties.as_properties().subscription_identifiers().next();
        let identifier = subscribe.identifier.or(insisted);
        let asked = Asked::Subscribe(filters, identifier, subscribe.properties.len());
        let result = self.machine.subscribe(now, subscribe);
        self.accepted(&result, asked);
        self.after(now);
        result
    }

    /// As [`Machine::unsubscribe`].
    ///
    /// # Errors
    /// As [`Machine::unsubscribe`].
    pub fn unsubscribe(&mut self, now: Instant, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        self.before(now);
        let asked = Asked::Unsubscribe(unsubscribe.filters.clone(), unsubscribe.properties.len());
        let result = self.machine.unsubscribe(now, unsubscribe);
        self.accepted(&result, asked);
        self.after(now);
        result
    }

    /// As [`Machine::settle`].
    pub fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        self.before(now);
        self.model.settled(&receipt, reason);
        self.machine.settle(now, receipt, reason);
        self.after(now);
    }

    /// As [`Machine::connect`].
    ///
    /// # Errors
    /// As [`Machine::connect`].
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> {
        self.before(now);
        let result = self.machine.connect(now);
        self.after(now);
        result
    }

    /// As [`Machine::reconnect`].
    ///
    /// # Errors
    /// As [`Machine::reconnect`].
    pub fn reconnect(&mut self, now: Instant) -> Result<(), Refused> {
        self.before(now);
        let result = self.machine.reconnect(now);
        self.after(now);
        result
    }

    /// As [`Machine::disconnect`].
    ///
    /// # Errors
    /// As [`Machine::disconnect`].
    pub fn disconnect(&mut self, now: Instant, disconnect: Disconnect) -> Result<OpId, Refused> {
        self.before(now);
        let result = self.machine.disconnect(now, disconnect);
        self.accepted(&result, Asked::Disconnect);
        self.after(now);
        result
    }

    /// As [`Machine::reauthenticate`].
    ///
    /// # Errors
    /// As [`Machine::reauthenticate`].
    pub fn reauthenticate(&mut self, now: Instant, data: Option<Secret>) -> Result<(), Refused> {
        self.before(now);
        let result = self.machine.reauthenticate(now, data);
        self.after(now);
        result
    }

    /// As [`Machine::reconfigure`].
    pub fn reconfigure(&mut self, now: Instant, config: Arc<Config>) {
        self.before(now);
        self.model.reconfigured(Arc::clone(&config));
        self.machine.reconfigure(now, config);
        self.after(now);
    }

    /// As [`Machine::answer`].
    pub fn answer(&mut self, now: Instant, answer: Answer) {
        self.before(now);
        self.machine.answer(now, answer);
        self.after(now);
    }
}

/// What the machine wants, tells and shows.
impl Checked {
    /// As [`Machine::poll_action`].
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// As [`Machine::poll_event`].
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.machine.poll_event();
        match &event {
            Some(event) => self.model.event(event),
            None => self.model.told_everything(),
        }
        event
    }

    /// As [`Machine::poll_completions`].
    #[must_use]
    pub fn poll_completions(&mut self) -> Option<Completions> {
        let completions = self.machine.poll_completions()?;
        for op in completions.ops() {
            self.model.event(&Event::Completed { op, outcome: completions.outcome.clone() });
        }
        Some(completions)
    }

    /// As [`Machine::poll_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// As [`Machine::transmit`].
    pub fn transmit(&mut self, now: Instant, out: &mut Output) {
        self.before(now);
        let before = out.remaining();
        self.machine.transmit(now, out);
        let written = tail_of(out, before);
        self.model.transmitted(&written);
        self.after(now);
        if !out.is_full() {
            self.model.wrote_all();
        }
    }

    /// As [`Machine::read_capacity`].
    #[must_use]
    pub fn read_capacity(&self) -> usize {
        self.machine.read_capacity()
    }

    /// As [`Machine::is_paused`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.machine.is_paused()
    }

    /// As [`Machine::is_connected`].
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.machine.is_connected()
    }

    /// As [`Machine::capabilities`].
    #[must_use]
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.machine.capabilities()
    }

    /// As [`Machine::is_idle`].
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }

    /// As [`Machine::has_room_for`].
    #[must_use]
    pub fn has_room_for(&self, message: &Message) -> bool {
        self.machine.has_room_for(message)
    }

    /// As [`Machine::session`].
    #[must_use]
    pub fn session(&self) -> SessionSnapshot {
        self.machine.session()
    }

    /// As [`Machine::memory_used`].
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.machine.memory_used()
    }
}

/// What is in the output behind its first `skip` bytes.
fn tail_of(out: &Output, skip: usize) -> Vec<u8> {
    let total = out.remaining();
    let mut slots = 16;
    loop {
        let mut slices = vec![IoSlice::new(&[]); slots];
        let filled = out.chunks_vectored(&mut slices);
        let seen: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        if seen >= total {
            let mut bytes = Vec::with_capacity(total);
            for slice in &slices[..filled] {
                bytes.extend_from_slice(slice);
            }
            return bytes.split_off(skip.min(total));
        }
        slots *= 4;
    }
}
