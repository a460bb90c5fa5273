//! Owns the adapter's side of a client: the buffers, and one turn of the machine under one lock.
//! It must not know sockets or timers: an adapter resolves, opens, moves bytes and waits, and this tells it what.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mqtt_machine::transcript::StopReason;
use mqtt_machine::{Action, Answer, Disconnect, EndReason, Output, TransportEvent, TransportId};

use crate::authenticate::{Asker, AuthenticationError, Question, Told};
use crate::events::ClientEvent;
use crate::prepare::{Attempt, Preparer};
use crate::record::Sink;
use crate::shared::{Phase, Shared, State};
use crate::wake::Wakes;

/// What an adapter holds to drive a client. It runs
///
/// 1. [`turn`](Self::turn), which gives everything that happened to the machine and takes everything out;
/// 2. the actions of [`next_action`](Self::next_action): [`Action::OpenTransport`], answered by
///    [`opened`](Self::opened) or [`open_failed`](Self::open_failed), and [`Action::CloseTransport`], which also
///    cancels an opening;
/// 3. a write of [`output`](Self::output), which is told by [`wrote`](Self::wrote);
/// 4. a read of at most [`Turn::read_capacity`] bytes behind the end of [`input`](Self::input);
///
/// and all of it again as long as any of it made progress; then it waits for the socket, the deadline of the last turn
/// or the waker that the turn was given. When [`Turn::done`] says so, it is over. When a connection ends by itself,
/// [`closed`](Self::closed) tells.
///
/// Dropping the driver ends the client at once: what was accepted ends as not sent or unknown, and streams end.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    transport: Option<TransportId>,
    output: Output,
    input: BytesMut,
    /// Written and not yet told the machine.
    written: usize,
    actions: VecDeque<Action>,
    started: bool,
    wakes: Wakes,
    sink: Sink,
    preparer: Preparer,
    asker: Asker,
}

/// What a turn says about the time until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How many bytes may be read now; 0: do not read.
    pub read_capacity: usize,
    /// When the next turn is due if nothing else happens.
    pub deadline: Option<Instant>,
    /// The input holds more that can be taken at once: run another turn before waiting.
    pub more: bool,
    /// The client has ended: carry out the actions of this turn, then stop.
    pub done: bool,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, sink: Sink) -> Self {
        let preparer = Preparer::new(shared.prepare.clone());
        let asker = Asker::new(shared.method.clone());
        Self {
            shared,
            transport: None,
            output: Output::new(),
            input: BytesMut::new(),
            written: 0,
            actions: VecDeque::new(),
            started: false,
            wakes: Wakes::default(),
            sink,
            preparer,
            asker,
        }
    }

    /// One turn of the machine: tells it what was written and read and what time it is, hands its events to streams
    /// and futures, collects its actions and fills the output. `waker` is woken when a handle wants another turn.
    pub fn turn(&mut self, waker: &Waker) -> Turn {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now();
        let mut stale = Stale::default();
        let (turn, recorded) = {
            let state = &mut *shared.lock();
            match &mut state.driver {
                Some(known) => known.clone_from(waker),
                None => state.driver = Some(waker.clone()),
            }
            state.burst = 0;
            self.start(state, now);
            let more = self.tell(state, now);
            let due = state.machine.poll_timeout().is_some_and(|deadline| deadline <= now);
            if due {
                state.machine.handle_timeout(now);
            }
            state.dispatch(now, &shared.clock, &mut self.wakes);
            self.act(state, now, &mut stale);
            // Until a server is known to be the right one nothing leaves for it.
            if self.transport.is_some() && self.asker.questions.is_empty() {
                state.machine.transmit(now, &mut self.output);
            }
            // What was transmitted, or could not be, may have ended commands.
            state.dispatch(now, &shared.clock, &mut self.wakes);
            self.act(state, now, &mut stale);
            if due && self.input.is_empty() {
                // Nothing has come for a while: an idle client keeps no read buffer.
                stale.input = std::mem::take(&mut self.input);
            }
            let read_capacity = if self.transport.is_some() { state.machine.read_capacity() } else { 0 };
            state.reads_blocked = read_capacity == 0;
            let deadline = state.machine.poll_timeout().map(|deadline| shared.clock.to_std(deadline));
            let turn = Turn { read_capacity, deadline, more, done: state.is_closed() };
            (turn, Recorded::take(state))
        };
        self.wakes.wake();
        self.keep(&recorded);
        self.prepare(waker);
        let asked = !self.asker.questions.is_empty();
        self.authenticate();
        Turn { more: turn.more || asked, ..turn }
    }

    /// Goes on with the question before an attempt; when it is answered, the authenticator is next.
    fn prepare(&mut self, waker: &Waker) {
        let waits = |id| self.shared.lock().machine.is_preparing(id);
        if let Some((id, prepared)) = self.preparer.poll(waker, waits) {
            self.asker.questions.push(Question::Connect { id, prepared });
        }
    }

    /// Asks the authenticator what was asked of the client, and tells the machine.
    fn authenticate(&mut self) {
        for question in std::mem::take(&mut self.asker.questions) {
            let told = self.asker.ask(question);
            self.shared.with(|state, now, wakes| {
                let give_up = |id| Answer::Authenticate { id, data: None };
                match told {
                    Told::Answer(answer) => state.machine.answer(now, answer),
                    // The connection that it was meant for may have ended by now, and then nothing is to be done.
                    Told::Again(id, data) if self.transport == Some(id) => {
                        let _ = state.machine.reauthenticate(now, data);
                    }
                    Told::Failed(id, AuthenticationError(why)) => {
                        state.tell(&ClientEvent::AuthenticationFailed { why }, wakes);
                        state.machine.answer(now, give_up(id));
                    }
                    Told::Reauthenticated => state.tell(&ClientEvent::Reauthenticated, wakes),
                    Told::Again(..) | Told::Nothing => {}
                }
            });
        }
    }

    /// Writes what was recorded, when the lock is released.
    fn keep(&mut self, recorded: &Recorded) {
        let Some(why) = self.sink.write(&recorded.bytes, recorded.stopped) else { return };
        let _unwritten = self.shared.with(|state, _, wakes| {
            state.machine.stop_recording();
            state.tell(&ClientEvent::RecordingStopped { why }, wakes);
            state.machine.take_recorded()
        });
    }

    fn start(&mut self, state: &mut State, now: mqtt_machine::Instant) {
        if self.started {
            return;
        }
        self.started = true;
        if state.closing.is_some() {
            return;
        }
        if let Err(mqtt_machine::Refused::Encode(error)) = state.machine.connect(now) {
            state.enter(Phase::GaveUp(EndReason::Config(error)), &mut self.wakes);
        }
    }

    /// Tells the machine what was written and read. True when input was taken and some is left.
    fn tell(&mut self, state: &mut State, now: mqtt_machine::Instant) -> bool {
        let Some(id) = self.transport else { return false };
        let written = std::mem::take(&mut self.written);
        if written > 0 {
            state.machine.handle_sent(now, id, written);
        }
        if self.input.is_empty() {
            return false;
        }
        let before = self.input.len();
        state.machine.handle_input(now, id, &mut self.input);
        !self.input.is_empty() && self.input.len() < before
    }

    /// Collects the actions for the adapter.
    fn act(&mut self, state: &mut State, now: mqtt_machine::Instant, stale: &mut Stale) {
        while let Some(action) = state.machine.poll_action() {
            match action {
                Action::Prepare { id, server, failed } => {
                    self.preparer.note(id, Attempt { server, failed, last: state.last_end() });
                }
                Action::Authenticate { id, finished, data } if self.shared.method.is_some() => {
                    self.asker.questions.push(if finished {
                        Question::Finish { id, data }
                    } else {
                        Question::Step { id, data }
                    });
                }
                // No handle can be asked.
                Action::Authenticate { id, finished: false, .. } => {
                    state.machine.answer(now, Answer::Authenticate { id, data: None });
                }
                Action::OpenTransport { .. } => self.actions.push_back(action),
                Action::CloseTransport { id } => {
                    if self.transport == Some(id) {
                        self.transport = None;
                        stale.output = std::mem::take(&mut self.output);
                        stale.input = std::mem::take(&mut self.input);
                        self.written = 0;
                    }
                    self.actions.push_back(action);
                }
                // Records are kept with `durable` only, which a handle does not take.
                _ => {}
            }
        }
        if state.reauthenticate && self.asker.questions.is_empty() {
            // Without a connection the next one authenticates anyway.
            state.reauthenticate = false;
            if let Some(id) = self.transport.filter(|_| state.machine.may_reauthenticate().is_ok()) {
                self.asker.questions.push(Question::Again { id });
            }
        }
    }

    /// The next thing to do: [`Action::OpenTransport`] or [`Action::CloseTransport`].
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The transport `id` is open.
    pub fn opened(&mut self, id: TransportId) {
        self.output = Output::new();
        self.input.clear();
        self.written = 0;
        self.transport = Some(id);
        self.report(id, TransportEvent::Opened);
    }

    /// The transport `id` could not be opened; `why` is for people.
    pub fn open_failed(&mut self, id: TransportId, why: String) {
        self.report(id, TransportEvent::OpenFailed(why));
    }

    /// The transport `id` is gone: the server closed it, or it failed with `why`.
    pub fn closed(&mut self, id: TransportId, why: Option<String>) {
        // What was read before counts.
        {
            let shared = Arc::clone(&self.shared);
            let state = &mut *shared.lock();
            self.tell(state, shared.clock.now());
        }
        if self.transport == Some(id) {
            self.transport = None;
            self.output = Output::new();
            self.input = BytesMut::new();
            self.written = 0;
        }
        self.report(id, TransportEvent::Closed(why));
    }

    fn report(&self, id: TransportId, event: TransportEvent) {
        self.shared.with(|state, now, _| state.machine.handle_transport(now, id, event));
    }

    /// What is to be written next, as a [`bytes::Buf`]; tell how far that came by [`wrote`](Self::wrote).
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// `count` bytes of the output were handed to the transport.
    pub fn wrote(&mut self, count: usize) {
        bytes::Buf::advance(&mut self.output, count);
        self.written = self.written.saturating_add(count);
    }

    /// Where to read to: append what was read. Room of its own choice may be reserved.
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }
}

/// What was recorded since it was last taken, and whether nothing follows.
#[derive(Debug)]
struct Recorded {
    bytes: Bytes,
    stopped: Option<StopReason>,
}

impl Recorded {
    fn take(state: &mut State) -> Self {
        Self { bytes: state.machine.take_recorded(), stopped: state.machine.stopped() }
    }
}

/// What is dropped once the lock is released.
#[derive(Debug, Default)]
struct Stale {
    output: Output,
    input: BytesMut,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let recorded = self.shared.with(|state, now, wakes| {
            if state.is_closed() {
                return Recorded::take(state);
            }
            // Every accepted command gets the outcome that it has so far.
            let _ = state.machine.disconnect(now, Disconnect::new(std::time::Duration::ZERO));
            if let Some(id) = self.transport {
                state.machine.handle_transport(now, id, TransportEvent::Closed(None));
            }
            state.enter(Phase::Closed, wakes);
            state.dispatch(now, &self.shared.clock, wakes);
            Recorded::take(state)
        });
        self.keep(&recorded);
    }
}
