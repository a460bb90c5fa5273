//! Owns the machine that is recorded, behind the machine's own surface. It must not know the format.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::ops::Deref;
use core::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::config::Config;
use crate::interface::{
    Action, Answer, Command, Completions, Disconnect, Event, Input, KeyedPublication, Receipt, Refused,
    Reply, StoreError, Subscribe, TransportEvent, Unsubscribe,
};
use crate::journal::{PublishKey, Record};
use crate::machine::{Machine, RestoreError};
use crate::message::Message;
use crate::output::Output;
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, Secret, TransportId};

use super::entry::{Call, Header, Observed, Origin, Said, Standing, StopReason};
use super::redaction::{Hidden, Vault};
use super::sink::Sink;
use super::tape::Tape;
use super::{digest, tag, write};

/// How a machine is recorded: redacted, in a buffer of 8 MiB, unless told otherwise.
///
/// Redacted, the machine itself sees placeholders of the same length instead of user names, passwords and
/// authentication data, and the real bytes are put into its packets behind it. So the transcript holds no secret and
/// replays all the same. **Payloads, topics and everything else are recorded as they are.**
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Recording {
    redacted: bool,
    buffer: usize,
}

impl Recording {
    /// Redacted, in a buffer of 8 MiB.
    pub const fn new() -> Self {
        Self { redacted: true, buffer: 8 << 20 }
    }

    /// With user names, passwords and authentication data as they are: whoever reads the transcript has them.
    pub const fn including_secrets(mut self) -> Self {
        self.redacted = false;
        self
    }

    /// With so many bytes for what was recorded and not taken yet. An entry that does not fit ends the recording, and
    /// the machine goes on.
    pub const fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

/// A [`Machine`] that can write down what is done to it. It has the machine's calls, and dereferences to it for
/// everything that only reads. Without a recording each call costs one comparison more.
///
/// What is recorded collects in a bounded buffer: take it with [`take_recorded`](Self::take_recorded) and write it to
/// wherever it is kept. What was taken, one behind the other, is a [`Transcript`](super::Transcript).
#[derive(Debug)]
pub struct Recorder {
    machine: Machine,
    tape: Tape,
    /// There for as long as the machine holds placeholders, so also behind the end of a recording.
    vault: Option<Box<Vault>>,
}

impl From<Machine> for Recorder {
    /// Without a recording: that begins with the machine or not at all.
    fn from(machine: Machine) -> Self {
        Self { machine, tape: Tape::Off, vault: None }
    }
}

impl Deref for Recorder {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

/// What the recorder adds.
impl Recorder {
    /// As [`Machine::new`], recorded if so asked.
    pub fn new(config: Arc<Config>, seed: u64, now: Instant, recording: Option<Recording>) -> Self {
        let Some(recording) = recording else { return Machine::new(config, seed, now).into() };
        let (config, vault) = Vault::lock(config, recording.redacted);
        let header = Header {
            redacted: recording.redacted,
            seed,
            start: now,
            config: Arc::clone(&config),
            origin: Origin::New,
        };
        let mut tape = Tape::new(&header, recording.buffer);
        tape.head(|_| {});
        Self { machine: Machine::new(config, seed, now), tape, vault: vault.map(Box::new) }
    }

    /// As [`Machine::restore`], recorded if so asked.
    ///
    /// # Errors
    /// As [`Machine::restore`].
    pub fn restore(
        config: Arc<Config>,
        seed: u64,
        now: Instant,
        away: Duration,
        records: impl IntoIterator<Item = Record>,
        recording: Option<Recording>,
    ) -> Result<Self, RestoreError> {
        let Some(recording) = recording else {
            return Machine::restore(config, seed, now, away, records).map(Self::from);
        };
        let (config, vault) = Vault::lock(config, recording.redacted);
        let header = Header {
            redacted: recording.redacted,
            seed,
            start: now,
            config: Arc::clone(&config),
            origin: Origin::Restored { away },
        };
        let mut tape = Tape::new(&header, recording.buffer);
        let records = records.into_iter().inspect(|record| tape.head(|out| write::record(out, record)));
        let machine = Machine::restore(config, seed, now, away, records)?;
        tape.head(|out| out.byte(tag::record::END));
        Ok(Self { machine, tape, vault: vault.map(Box::new) })
    }

    /// The bytes recorded since this was last called, in order; none without a recording.
    #[must_use]
    pub fn take_recorded(&mut self) -> Bytes {
        self.tape.take().freeze()
    }

    /// How many bytes [`take_recorded`](Self::take_recorded) would give.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.tape.len()
    }

    /// Why there is no recording any more, although there was.
    #[must_use]
    pub const fn stopped(&self) -> Option<StopReason> {
        match &self.tape {
            Tape::Stopped { reason, .. } => Some(*reason),
            Tape::Off | Tape::On(_) => None,
        }
    }

    /// Ends the recording; the machine goes on.
    pub fn stop_recording(&mut self) {
        self.tape.stop();
    }

    /// Heap bytes of the machine as [`Machine::memory_used`] tells them, and of what is recorded and not taken yet.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.machine.memory_used().saturating_add(self.tape.memory_used())
    }

    /// True when there is nothing to do but to pass calls on. The calls that move large values look at this first, so
    /// that they move them once.
    const fn is_plain(&self) -> bool {
        matches!(self.tape, Tape::Off)
    }

    /// Begins an entry; `input` is asked for only when there is a recording.
    fn begin(&mut self, now: Instant, input: impl FnOnce() -> Input) {
        if let Tape::On(_) = self.tape {
            self.tape.input(now, &input());
        }
    }

    /// Ends an entry.
    fn end(&mut self, said: impl FnOnce() -> Said) {
        let machine = &self.machine;
        self.tape.end(|| Observed { said: said(), standing: Some(Standing::of(machine)) });
    }
}

/// The machine's own calls.
impl Recorder {
    /// As [`Machine::handle`].
    pub fn handle(&mut self, now: Instant, input: Input) -> Reply {
        match input {
            Input::Bytes { id, mut bytes } => {
                self.handle_input(now, id, &mut bytes);
                return if bytes.is_empty() { Reply::Done } else { Reply::Unread(bytes) };
            }
            Input::Answer(answer) => self.answer(now, answer),
            Input::Command(Command::Reauthenticate(data)) => {
                return match self.reauthenticate(now, data) {
                    Ok(()) => Reply::Done,
                    Err(refused) => Reply::Refused(refused),
                };
            }
            Input::Command(Command::Reconfigure(config)) => self.reconfigure(now, config),
            input => {
                self.tape.input(now, &input);
                let reply = self.machine.handle(now, input);
                self.end(|| Said::of_reply(&reply));
                return reply;
            }
        }
        Reply::Done
    }

    /// As [`Machine::handle_transport`].
    pub fn handle_transport(&mut self, now: Instant, id: TransportId, event: TransportEvent) {
        self.begin(now, || Input::Transport { id, event: event.clone() });
        self.machine.handle_transport(now, id, event);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::handle_input`].
    pub fn handle_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) {
        let hidden =
            self.vault.as_ref().map_or_else(Hidden::default, |vault| vault.hide(&self.machine, input));
        self.tape.bytes(now, id, input, hidden.behind());
        self.machine.handle_input(now, id, input);
        let machine = &self.machine;
        let observed = |said| Observed { said, standing: Some(Standing::of(machine)) };
        self.tape.end_bytes(input, hidden.behind(), observed);
        if let Some(vault) = &mut self.vault {
            vault.show(hidden, id, machine, input);
        }
    }

    /// As [`Machine::handle_sent`].
    pub fn handle_sent(&mut self, now: Instant, id: TransportId, bytes: usize) {
        self.begin(now, || Input::Sent { id, bytes });
        self.machine.handle_sent(now, id, bytes);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::handle_stored`].
    pub fn handle_stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) {
        self.begin(now, || Input::Stored(result.clone()));
        self.machine.handle_stored(now, result);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now, || Input::Timeout);
        self.machine.handle_timeout(now);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::publish`].
    ///
    /// # Errors
    /// As [`Machine::publish`].
    #[inline]
    pub fn publish(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> {
        if self.is_plain() {
            return self.machine.publish(now, message);
        }
        self.publish_recorded(now, message)
    }

    #[inline(never)]
    fn publish_recorded(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> {
        self.begin(now, || Input::Command(Command::Publish(message.clone())));
        let result = self.machine.publish(now, message);
        self.end(|| Said::of_op(&result));
        result
    }

    /// As [`Machine::publish_into`], which is recorded as the two calls that it stands for.
    ///
    /// # Errors
    /// As [`Machine::publish_into`].
    #[inline(always)]
    pub fn publish_into(
        &mut self,
        now: Instant,
        message: impl Borrow<Message> + Into<Message>,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        if self.is_plain() && self.vault.is_none() {
            return self.machine.publish_into(now, message, out);
        }
        self.publish_and_transmit(now, message.into(), out)
    }

    #[inline(never)]
    fn publish_and_transmit(
        &mut self,
        now: Instant,
        message: Message,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        let op = self.publish(now, message)?;
        self.transmit(now, out);
        Ok(op)
    }

    /// As [`Machine::is_clear_for`]; false while there is a recording.
    #[inline(always)]
    pub fn is_clear_for(&mut self, message: &Message, out: &Output) -> bool {
        self.is_plain() && self.vault.is_none() && self.machine.is_clear_for(message, out)
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
        self.begin(now, || Input::Command(Command::PublishKeyed(key.clone(), message.clone())));
        let result = self.machine.publish_keyed(now, key, message);
        self.end(|| match &result {
            Ok(
                KeyedPublication::Accepted(op) | KeyedPublication::Open(op) | KeyedPublication::Ended(op, _),
            ) => Said::Accepted(*op),
            Err(refused) => Said::Refused(digest::of_refused(refused)),
        });
        result
    }

    /// As [`Machine::forget`].
    pub fn forget(&mut self, now: Instant, key: &PublishKey) {
        self.begin(now, || Input::Command(Command::Forget(key.clone())));
        self.machine.forget(now, key);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::subscribe`].
    ///
    /// # Errors
    /// As [`Machine::subscribe`].
    pub fn subscribe(&mut self, now: Instant, subscribe: Subscribe) -> Result<OpId, Refused> {
        self.begin(now, || Input::Command(Command::Subscribe(subscribe.clone())));
        let result = self.machine.subscribe(now, subscribe);
        self.end(|| Said::of_op(&result));
        result
    }

    /// As [`Machine::unsubscribe`].
    ///
    /// # Errors
    /// As [`Machine::unsubscribe`].
    pub fn unsubscribe(&mut self, now: Instant, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        self.begin(now, || Input::Command(Command::Unsubscribe(unsubscribe.clone())));
        let result = self.machine.unsubscribe(now, unsubscribe);
        self.end(|| Said::of_op(&result));
        result
    }

    /// As [`Machine::settle`].
    #[inline]
    pub fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        self.begin(now, || Input::Command(Command::Settle(receipt.clone(), reason)));
        self.machine.settle(now, receipt, reason);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::connect`].
    ///
    /// # Errors
    /// As [`Machine::connect`].
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> {
        self.begin(now, || Input::Command(Command::Connect));
        let result = self.machine.connect(now);
        self.end(|| Said::of_done(&result));
        result
    }

    /// As [`Machine::reconnect`].
    ///
    /// # Errors
    /// As [`Machine::reconnect`].
    pub fn reconnect(&mut self, now: Instant) -> Result<(), Refused> {
        self.begin(now, || Input::Command(Command::Reconnect));
        let result = self.machine.reconnect(now);
        self.end(|| Said::of_done(&result));
        result
    }

    /// As [`Machine::disconnect`].
    ///
    /// # Errors
    /// As [`Machine::disconnect`].
    pub fn disconnect(&mut self, now: Instant, disconnect: Disconnect) -> Result<OpId, Refused> {
        self.begin(now, || Input::Command(Command::Disconnect(disconnect.clone())));
        let result = self.machine.disconnect(now, disconnect);
        self.end(|| Said::of_op(&result));
        result
    }

    /// As [`Machine::reauthenticate`].
    ///
    /// # Errors
    /// As [`Machine::reauthenticate`].
    pub fn reauthenticate(&mut self, now: Instant, data: Option<Secret>) -> Result<(), Refused> {
        let data = match &mut self.vault {
            Some(vault) => vault.reauthenticate(&self.machine, data),
            None => data,
        };
        self.begin(now, || Input::Command(Command::Reauthenticate(data.clone())));
        let result = self.machine.reauthenticate(now, data);
        self.end(|| Said::of_done(&result));
        result
    }

    /// As [`Machine::reconfigure`].
    pub fn reconfigure(&mut self, now: Instant, config: Arc<Config>) {
        let config = match &mut self.vault {
            Some(vault) => vault.reconfigure(&self.machine, config),
            None => config,
        };
        self.begin(now, || Input::Command(Command::Reconfigure(Arc::clone(&config))));
        self.machine.reconfigure(now, config);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::answer`].
    pub fn answer(&mut self, now: Instant, answer: Answer) {
        let answer = match &mut self.vault {
            Some(vault) => vault.answer(&self.machine, answer),
            None => answer,
        };
        self.begin(now, || Input::Answer(answer.clone()));
        self.machine.answer(now, answer);
        self.end(|| Said::Nothing);
    }

    /// As [`Machine::poll_action`].
    #[must_use]
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.is_plain() { self.machine.poll_action() } else { self.poll_recorded_action() }
    }

    #[inline(never)]
    fn poll_recorded_action(&mut self) -> Option<Action> {
        let mut action = self.machine.poll_action()?;
        self.tape.call(None, &Call::PollAction);
        self.tape.end(|| Observed::gave(digest::of_action(&action)));
        if let Some(vault) = &mut self.vault {
            vault.show_action(&mut action);
        }
        Some(action)
    }

    /// As [`Machine::poll_event`].
    #[must_use]
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.is_plain() { self.machine.poll_event() } else { self.poll_recorded_event() }
    }

    #[inline(never)]
    fn poll_recorded_event(&mut self) -> Option<Event> {
        let mut event = self.machine.poll_event()?;
        self.tape.call(None, &Call::PollEvent);
        self.tape.end(|| Observed::gave(digest::of_event(&event)));
        if let Some(vault) = &mut self.vault {
            vault.show_event(&mut event);
        }
        Some(event)
    }

    /// As [`Machine::poll_messages`].
    #[inline]
    pub fn poll_messages(&mut self, take: impl FnMut(Message, Receipt)) {
        if !self.is_plain() {
            self.record_messages();
        }
        self.machine.poll_messages(take);
    }

    /// Records that the messages which come next are taken, one by one.
    #[inline(never)]
    fn record_messages(&mut self) {
        let tape = &mut self.tape;
        self.machine.show_messages(|event| {
            tape.call(None, &Call::PollEvent);
            tape.end(|| Observed::gave(digest::of_event(event)));
        });
    }

    /// As [`Machine::poll_completions`]. They are recorded as the events that they stand for.
    #[must_use]
    #[inline]
    pub fn poll_completions(&mut self) -> Option<Completions> {
        let completions = self.machine.poll_completions()?;
        if !self.is_plain() {
            self.record_completions(&completions);
        }
        Some(completions)
    }

    #[inline(never)]
    fn record_completions(&mut self, completions: &Completions) {
        for op in completions.ops() {
            let event = Event::Completed { op, outcome: completions.outcome.clone() };
            self.tape.call(None, &Call::PollEvent);
            self.tape.end(|| Observed::gave(digest::of_event(&event)));
        }
    }

    /// As [`Machine::transmit`].
    pub fn transmit(&mut self, now: Instant, out: &mut Output) {
        self.tape.call(Some(now), &Call::Transmit { room: out.room() });
        let (before, live) = (out.remaining(), self.machine.live());
        self.machine.transmit(now, out);
        self.end_transmit(out, before);
        if let (Some(vault), Some(id)) = (&mut self.vault, live)
            && out.remaining() > before
            && vault.owes(id)
        {
            out.rewrite(before, |bytes| vault.reveal(id, &self.machine, bytes));
        }
    }

    fn end_transmit(&mut self, out: &Output, before: usize) {
        self.end(|| {
            let (length, digest) = digest::of_parts(out.parts_behind(before));
            if length == 0 { Said::Nothing } else { Said::Wrote(length, digest) }
        });
    }
}

impl Observed {
    pub(super) const fn gave(digest: u32) -> Self {
        Self { said: Said::Gave(digest), standing: None }
    }
}

impl Said {
    pub(super) fn of_reply(reply: &Reply) -> Self {
        match reply {
            Reply::Done => Self::Nothing,
            Reply::Accepted(op) | Reply::Ended(op, _) => Self::Accepted(*op),
            Reply::Refused(refused) => Self::Refused(digest::of_refused(refused)),
            Reply::Unread(bytes) => Self::Unread(bytes.len()),
        }
    }

    fn of_op(result: &Result<OpId, Refused>) -> Self {
        match result {
            Ok(op) => Self::Accepted(*op),
            Err(refused) => Self::Refused(digest::of_refused(refused)),
        }
    }

    fn of_done(result: &Result<(), Refused>) -> Self {
        match result {
            Ok(()) => Self::Nothing,
            Err(refused) => Self::Refused(digest::of_refused(refused)),
        }
    }
}

impl Standing {
    pub(super) fn of(machine: &Machine) -> Self {
        let (actions, events) = machine.waiting();
        Self { deadline: machine.poll_timeout(), read_capacity: machine.read_capacity(), actions, events }
    }
}
