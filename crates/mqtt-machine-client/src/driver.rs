//! Owns the adapter's side of a client: the buffers, and one turn of the machine under one lock.
//! It must not know sockets or timers: an adapter resolves, opens, moves bytes and waits, and this tells it what.

mod questions;
mod readers;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::transcript::StopReason;
use mqtt_machine::{Action, Answer, Disconnect, EndReason, Output, Server, TransportEvent, TransportId};
use mqtt_machine_transport::{Layers, Route};

use crate::authenticate::{Asker, Question};
use crate::events::ClientEvent;
use crate::pipe::{HANDSHAKE_READ, News, Pipe};
use crate::prepare::{Attempt, Preparer};
use crate::rarely::Rarely;
use crate::reauthenticate::ReauthenticationError;
use crate::record::Sink;
use crate::shared::{Phase, Shared, State};
use crate::socket::SocketOptions;
use crate::store::Keeper;
use crate::transport::{Routes, TransportError};
use crate::wake::Wakes;

/// What an adapter holds to drive a client. It runs
///
/// 1. [`turn`](Self::turn), which gives everything that happened to the machine and takes everything out;
/// 2. the tasks of [`next_task`](Self::next_task): [`Task::Open`], for which it opens a socket as [`dial`](crate::dial) does
///    and answers with [`opened`](Self::opened) or [`open_failed`](Self::open_failed), and [`Task::Close`], which also
///    cancels an opening;
/// 3. a write of [`output`](Self::output), which is told by [`wrote`](Self::wrote): both are in [`write_by`](Self::write_by);
/// 4. a read of at most [`Turn::read_capacity`] bytes behind the end of [`input`](Self::input);
///
/// and all of it again as long as any of it made progress; then it waits for the socket, the deadline of the last turn
/// or the waker that the turn was given. When [`Turn::done`] says so, it is over. When the socket ends by itself,
/// [`ended`](Self::ended) or [`failed`](Self::failed) tells. TLS, WebSocket and proxies are in here: what is written and
/// read are the socket's bytes.
///
/// Dropping the driver ends the client at once: what was accepted ends as not sent or unknown, and streams end.
pub struct Driver {
    shared: Arc<Shared>,
    routes: Routes,
    /// What the machine wants to be opened.
    opening: Option<TransportId>,
    transport: Option<TransportId>,
    /// That the transport has ended, as long as the machine does not take what came last.
    ending: Option<Ending>,
    /// The transport that the machine has given up in this turn.
    parting: Option<TransportId>,
    /// What lies between the machine and the transport; `None`: nothing.
    pipe: Option<Box<Pipe>>,
    /// For the socket.
    output: Output,
    /// From the socket, or from the layers.
    input: BytesMut,
    /// Bytes of the machine's that were written and not yet told it.
    written: usize,
    /// There are some when a connection begins or ends.
    tasks: Rarely<VecDeque<Task>>,
    started: bool,
    /// Until when readers are waited for.
    patience: Option<mqtt_machine::Instant>,
    wakes: Wakes,
    sink: Sink,
    preparer: Rarely<Preparer>,
    asker: Rarely<Asker>,
    /// Writes records to the store, if there is one.
    keeper: Option<Box<Keeper>>,
}

/// The end of a transport that the machine is to be told of.
#[derive(Debug)]
struct Ending {
    cause: Option<Box<TransportError>>,
}

/// What an adapter is to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Task {
    /// Open a socket to the server, or a pipe of whatever kind.
    Open {
        /// Names the transport.
        id: TransportId,
        /// Where to; [`Driver::route`] is the way there.
        server: Server,
    },
    /// Close a transport, or stop opening it.
    Close {
        /// Which.
        id: TransportId,
        /// The last words of its layers: write as much of them as can be written at once.
        farewell: Output,
    },
}

/// What a turn says about the time until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// How many bytes may be read now; 0: do not read.
    pub read_capacity: usize,
    /// When the next turn is due if nothing else happens.
    pub deadline: Option<Instant>,
    /// The deadline had come: nothing has happened for a while, and a buffer in which nothing stands may be given back.
    pub due: bool,
    /// The input holds more that can be taken at once: run another turn before waiting.
    pub more: bool,
    /// The client has ended: carry out the actions of this turn, then stop.
    pub done: bool,
    /// What time it was; `None`: nobody has looked.
    pub(crate) now: Option<Instant>,
}

/// What became of the input.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Some was taken, and some is left.
    more: bool,
    /// What is left may hold whole packets, of which no more may be taken.
    stopped: bool,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, sink: Sink, routes: Routes, keeper: Option<Keeper>) -> Self {
        Self {
            shared,
            routes,
            opening: None,
            transport: None,
            ending: None,
            parting: None,
            pipe: None,
            output: Output::new(),
            input: BytesMut::new(),
            written: 0,
            tasks: Rarely::default(),
            started: false,
            patience: None,
            wakes: Wakes::default(),
            sink,
            preparer: Rarely::default(),
            asker: Rarely::default(),
            keeper: keeper.map(Box::new),
        }
    }

    /// One turn of the machine: tells it what was written and read and what time it is, hands its events to streams
    /// and futures, collects its actions and fills the output. `waker` is woken when a handle wants another turn.
    pub fn turn(&mut self, waker: &Waker) -> Turn {
        let turn = self.turn_of_guest(waker);
        if turn.done {
            return turn;
        }
        self.prepare(waker);
        let asked = self.is_asking();
        self.authenticate();
        Turn { more: turn.more || asked, ..turn }
    }

    /// Whether anybody may drive, and not only the one who drives: nothing is to be opened, closed, written to a recording, or asked
    /// of the user, whose configuration of TLS may ask in a handshake.
    pub(crate) fn takes_guests(&self) -> bool {
        !self.is_handshaking()
            && self.tasks.get().is_none_or(VecDeque::is_empty)
            && !self.is_asking()
            && !self.preparer.get().is_some_and(Preparer::has_question)
            && matches!(self.sink, Sink::None)
    }

    /// Whether a turn would find nothing that the last one has not seen, unless bytes were written or read, or time has passed.
    pub(crate) fn is_settled(&self, waker: &Waker) -> bool {
        let told = self.keeper.is_none() && self.takes_guests() && self.ending.is_none();
        told && self.shared.lock().driver.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// A [`turn`](Self::turn) that asks nothing of the user.
    pub(crate) fn turn_of_guest(&mut self, waker: &Waker) -> Turn {
        self.rise();
        if let Some(Ending { cause }) = self.ending.take() {
            self.over(cause.map(|cause| *cause));
        }
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now();
        let mut stale = None;
        let (turn, recorded) = {
            let state = &mut *shared.lock();
            let now = state.see(now);
            match &mut state.driver {
                Some(known) => known.clone_from(waker),
                None => state.driver = Some(waker.clone()),
            }
            state.burst = 0;
            if let Some(keeper) = &mut self.keeper {
                if let Some(news) = keeper.news() {
                    state.store_news(now, news, &mut self.wakes);
                }
                // What is told of the end holds for what is in the store by then.
                if state.closing.is_some() && !keeper.drain() {
                    let more = keeper.hand_over(waker);
                    return Turn {
                        read_capacity: 0,
                        deadline: None,
                        due: false,
                        more,
                        done: false,
                        now: None,
                    };
                }
            }
            self.start(state, now);
            let Left { more, stopped } =
                self.transport.map_or(Left::default(), |id| self.tell(state, id, now));
            let due = state.machine.poll_timeout().is_some_and(|deadline| deadline <= now);
            if due {
                state.machine.handle_timeout(now);
            }
            state.dispatch(now, &shared.clock, &mut self.wakes);
            self.act(state, now);
            // A ping leaves buffers behind, which its answer finds empty.
            if std::mem::replace(&mut state.settles, due) || due {
                stale = self.shrink();
                state.shrink();
            }
            self.transmit(state, now);
            // What was transmitted, or could not be, may have ended commands.
            state.dispatch(now, &shared.clock, &mut self.wakes);
            self.act(state, now);
            // What the machine stopped at it has not been offered since: nothing is read before it has.
            let resumed = stopped && state.machine.read_capacity() > 0;
            let capacity = if resumed { 0 } else { self.capacity(state) };
            state.reads_blocked = capacity == 0 && !resumed;
            self.wait_for_readers(state, now);
            let read_capacity = if self.patience.is_some() { 0 } else { capacity };
            let deadline = state.deadline().into_iter().chain(self.patience).min();
            let deadline = deadline.map(|deadline| shared.clock.to_std(deadline));
            let (more, now) = (more || resumed, Some(shared.clock.to_std(now)));
            let turn = Turn { read_capacity, deadline, due, more, done: state.is_closed(), now };
            (turn, Recorded::take(state))
        };
        self.wakes.wake();
        if turn.due {
            self.wakes = Wakes::default();
        }
        drop(stale);
        let news = self.keeper.as_mut().is_some_and(|keeper| keeper.hand_over(waker));
        self.keep(&recorded);
        self.part();
        let before = self.transport;
        self.sink();
        let over = self.transport != before;
        Turn { more: turn.more || over || news, ..turn }
    }

    fn is_asking(&self) -> bool {
        self.asker.get().is_some_and(Asker::is_asking)
    }

    /// Lets the machine write what it has.
    fn transmit(&mut self, state: &mut State, now: mqtt_machine::Instant) {
        let plain = match &mut self.pipe {
            // What handles wrote was for a transport that is no more.
            _ if self.transport.is_none() => {
                state.ahead.clear();
                None
            }
            // Until a server is known to be the right one nothing leaves for it.
            _ if self.asker.get().is_some_and(Asker::is_asking) => None,
            None => Some(&mut self.output),
            Some(pipe) if pipe.is_open() => Some(&mut pipe.plain),
            Some(_) => None,
        };
        state.direct = false;
        if let Some(plain) = plain {
            let has_left = !plain.has_remaining();
            plain.take_all(&mut state.ahead);
            state.machine.transmit(now, plain);
            // A socket that takes nothing leaves the messages where they are counted, and where those that matter overtake.
            state.direct = has_left && !self.shared.durable && matches!(state.phase, Phase::Connected(_));
        }
    }

    /// How much the machine or the layers take.
    fn capacity(&self, state: &State) -> usize {
        match (&self.transport, &self.pipe) {
            (None, _) => 0,
            _ if self.ending.is_some() => 0,
            (_, Some(pipe)) if !pipe.is_open() => HANDSHAKE_READ,
            _ => state.machine.read_capacity(),
        }
    }

    /// Nothing has come for a while: gives back the buffers in which nothing stands, since an idle client keeps none.
    fn shrink(&mut self) -> Option<(BytesMut, Output)> {
        if let Some(pipe) = &mut self.pipe {
            pipe.shrink();
        }
        let input = if self.input.is_empty() { std::mem::take(&mut self.input) } else { BytesMut::new() };
        let output =
            if self.output.has_remaining() { Output::new() } else { std::mem::take(&mut self.output) };
        Some((input, output))
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
            state.enter(Phase::GaveUp(EndReason::Config(error).into()), &mut self.wakes);
        }
    }

    /// Tells the machine what was written and read.
    fn tell(&mut self, state: &mut State, id: TransportId, now: mqtt_machine::Instant) -> Left {
        let written = std::mem::take(&mut self.written);
        if written > 0 {
            state.machine.handle_sent(now, id, written);
        }
        if self.input.is_empty() {
            return Left::default();
        }
        let before = self.input.len();
        state.machine.handle_input(now, id, &mut self.input);
        if let Some(pipe) = &mut self.pipe
            && self.input.is_empty()
            && pipe.raw.capacity() == 0
        {
            // What was read may have come up as it was: its room serves the next read.
            std::mem::swap(&mut pipe.raw, &mut self.input);
        }
        let left = !self.input.is_empty();
        Left { more: left && self.input.len() < before, stopped: left && state.machine.read_capacity() == 0 }
    }

    /// Collects the tasks for the adapter.
    fn act(&mut self, state: &mut State, now: mqtt_machine::Instant) {
        while let Some(action) = state.machine.poll_action() {
            match action {
                Action::Prepare { id, server, failed } => {
                    let last = state.last_failure().map(|failure| failure.reason);
                    self.preparer.make().note(id, Attempt { server, failed, last });
                }
                Action::Authenticate { id, finished, data } if self.shared.method().is_some() => {
                    self.asker.make().questions.push(if finished {
                        Question::Finish { id, data }
                    } else {
                        Question::Step { id, data }
                    });
                }
                // No handle can be asked.
                Action::Authenticate { id, finished: false, .. } => {
                    state.machine.answer(now, Answer::Authenticate { id, data: None });
                }
                Action::OpenTransport { id, server } => {
                    self.opening = Some(id);
                    self.tasks.make().push_back(Task::Open { id, server });
                }
                Action::CloseTransport { id } => {
                    self.opening.take_if(|opening| *opening == id);
                    if self.transport == Some(id) {
                        self.transport = None;
                        self.parting = Some(id);
                    }
                    self.tasks.make().push_back(Task::Close { id, farewell: Output::new() });
                }
                Action::Store { seq, record } => {
                    if let Some(keeper) = &mut self.keeper {
                        keeper.take(seq, record);
                    }
                }
                _ => {}
            }
        }
        if state.reauthenticate && !self.is_asking() {
            // Without a connection the next one authenticates anyway.
            state.reauthenticate = false;
            match self.transport.filter(|_| state.machine.may_reauthenticate().is_ok()) {
                Some(id) => self.asker.make().questions.push(Question::Again { id }),
                None => {
                    let error = ReauthenticationError::NotConnected;
                    state.reauthenticated(&mut self.wakes, || Err(error));
                }
            }
        }
    }

    /// The next thing to do.
    pub fn next_task(&mut self) -> Option<Task> {
        let task = self.tasks.get_mut()?.pop_front();
        if task.is_none() {
            self.tasks.take();
        }
        task
    }

    /// The way to a server, for [`dial`](crate::dial): made once and kept across connections.
    ///
    /// # Errors
    /// Why there is none; to be told by [`open_failed`](Self::open_failed).
    pub fn route(&self, server: &Server) -> Result<Arc<Route>, TransportError> {
        self.routes.route(server)
    }

    /// The layers on a pipe of the user's own to a server, as its URL says; none where there is no URL.
    ///
    /// # Errors
    /// Why they cannot be made; to be told by [`open_failed`](Self::open_failed).
    pub fn layers(&self, server: &Server) -> Result<Layers, TransportError> {
        self.routes.layers(server)
    }

    /// What is set on TCP sockets.
    pub fn socket_options(&self) -> SocketOptions {
        self.shared.socket.as_deref().copied().unwrap_or(SocketOptions::DEFAULT)
    }

    /// The socket of the transport `id` is open, and `layers` lie on it. When it has been given up meanwhile, which
    /// [`Task::Close`] tells, this changes nothing.
    pub fn opened(&mut self, id: TransportId, layers: Layers) {
        if self.opening.take_if(|opening| *opening == id).is_none() {
            return;
        }
        self.output = Output::new();
        self.input.clear();
        self.written = 0;
        self.transport = Some(id);
        self.pipe = None;
        if layers.is_plain() {
            self.report(id, TransportEvent::Opened, None);
            return;
        }
        let mut pipe = Box::new(Pipe::new(layers));
        let news = pipe.open();
        self.pipe = Some(pipe);
        self.sink();
        self.digest(news);
    }

    /// The transport `id` could not be opened.
    pub fn open_failed(&mut self, id: TransportId, error: impl Into<TransportError>) {
        if self.opening.take_if(|opening| *opening == id).is_some() {
            let error = error.into();
            self.report(id, TransportEvent::OpenFailed(error.to_string()), Some(error));
        }
    }

    /// The server has ended its direction of the socket, which is closed.
    pub fn ended(&mut self, id: TransportId) {
        if self.transport == Some(id) {
            self.rise();
            let news = self.pipe.as_mut().map_or(News::Ended, |pipe| pipe.end());
            self.digest(news);
            self.forget_close(id);
        }
    }

    /// The socket of the transport `id` failed, and is closed.
    pub fn failed(&mut self, id: TransportId, error: io::Error) {
        if self.transport == Some(id) {
            self.rise();
            self.over(Some(error.into()));
            self.forget_close(id);
        }
    }

    /// Nobody need close the socket of `id` any more.
    fn forget_close(&mut self, id: TransportId) {
        if let Some(tasks) = self.tasks.get_mut() {
            tasks.retain(|task| !matches!(task, Task::Close { id: closing, .. } if *closing == id));
        }
    }

    /// Lets what was read through the layers.
    fn rise(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let news = pipe.rise(&mut self.input);
        if pipe.is_spent() {
            self.pipe = None;
        }
        self.digest(news);
    }

    /// Lets what is to be sent through the layers.
    fn sink(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            let news = pipe.sink(&mut self.output);
            self.digest(news);
        }
    }

    fn digest(&mut self, news: News) {
        match (news, self.transport) {
            (News::Opened, Some(id)) => self.report(id, TransportEvent::Opened, None),
            (News::Ended, _) => self.over(None),
            (News::Failed(error), _) => self.over(Some(error.into())),
            (News::Nothing | News::Opened, _) => {}
        }
    }

    /// The transport has ended by itself. Its socket is to be closed, with the last words of its layers.
    fn over(&mut self, cause: Option<TransportError>) {
        let Some(id) = self.transport else { return };
        if self.is_behind(id) {
            self.ending.get_or_insert(Ending { cause: cause.map(Box::new) });
            return;
        }
        self.transport = None;
        let was_open = self.pipe.as_ref().is_none_or(|pipe| pipe.was_open());
        let why = cause.as_ref().map(ToString::to_string);
        let event = if was_open {
            TransportEvent::Closed(why)
        } else {
            TransportEvent::OpenFailed(why.unwrap_or_else(|| "the server closed the connection".to_owned()))
        };
        self.report(id, event, cause);
        self.parting = Some(id);
        self.tasks.make().push_back(Task::Close { id, farewell: Output::new() });
        self.part();
    }

    /// Tells the machine what was read, which counts although the transport has ended. True when it takes the rest only after
    /// receipts have come back.
    fn is_behind(&mut self, id: TransportId) -> bool {
        let shared = Arc::clone(&self.shared);
        let state = &mut *shared.lock();
        self.tell(state, id, shared.clock.now());
        state.machine.is_paused() && !self.input.is_empty()
    }

    /// Takes leave of the transport that has been given up, outside of the lock.
    fn part(&mut self) {
        let Some(parting) = self.parting.take() else { return };
        self.input = BytesMut::new();
        self.written = 0;
        self.ending = None;
        let mut output = std::mem::take(&mut self.output);
        match self.pipe.take() {
            Some(mut pipe) => pipe.close(&mut output),
            // Without layers the machine has seen to it that its last word has left.
            None => output = Output::new(),
        }
        for task in self.tasks.get_mut().into_iter().flatten() {
            match task {
                Task::Close { id, farewell } if *id == parting => std::mem::swap(farewell, &mut output),
                _ => {}
            }
        }
    }

    fn report(&self, id: TransportId, event: TransportEvent, cause: Option<TransportError>) {
        self.shared.with(|state, now, _| {
            state.cause = cause.map(|cause| (id, Box::new(cause)));
            state.machine.handle_transport(now, id, event);
        });
    }

    /// What is to be written next, as a [`bytes::Buf`]; tell how far that came by [`wrote`](Self::wrote).
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// `count` bytes of the output were handed to the socket.
    pub fn wrote(&mut self, count: usize) {
        self.output.advance(count);
        let own = self.pipe.as_mut().map_or(count, |pipe| pipe.wrote(count));
        self.written = self.written.saturating_add(own);
        self.sink();
    }

    /// Hands the output to `write`, which is a vectored write that never waits, until either has had enough, and takes note of
    /// what was written. True when anything left.
    ///
    /// # Errors
    /// Those of `write`, and [`WriteZero`](std::io::ErrorKind::WriteZero) when it takes nothing: tell [`failed`](Self::failed).
    pub fn write_by(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> io::Result<bool> {
        let mut wrote = false;
        while self.output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 32];
            let count = self.output.chunks_vectored(&mut slices);
            match write(slices.get(..count).unwrap_or_default())? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(bytes) => {
                    self.wrote(bytes);
                    wrote = true;
                }
            }
        }
        Ok(wrote)
    }

    /// Whether the layers of the transport have not let plaintext through yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| !pipe.is_open())
    }

    /// Where to read to: append what was read. Room of its own choice may be reserved.
    pub fn input(&mut self) -> &mut BytesMut {
        self.pipe.as_mut().map_or(&mut self.input, |pipe| &mut pipe.raw)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was read may be secret, so only how much of it.
        f.debug_struct("Driver")
            .field("shared", &self.shared)
            .field("routes", &self.routes)
            .field("opening", &self.opening)
            .field("transport", &self.transport)
            .field("pipe", &self.pipe)
            .field("output", &self.output)
            .field("input", &self.input.len())
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
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

impl Drop for Driver {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let open = shared.with(|state, now, _| {
            if state.is_closed() {
                return false;
            }
            // Every accepted command gets the outcome that it has so far.
            let _ = state.machine.disconnect(now, Disconnect::new(Duration::ZERO));
            if let Some(id) = self.transport {
                state.machine.handle_transport(now, id, TransportEvent::Closed(None));
            }
            if let Some(keeper) = &mut self.keeper {
                while let Some(action) = state.machine.poll_action() {
                    if let Action::Store { seq, record } = action {
                        keeper.take(seq, record);
                    }
                }
            }
            true
        });
        // The outcomes depend on the store, and nobody is left to wait for it later. It is waited for without the lock.
        let news = self.keeper.as_mut().filter(|_| open).and_then(|keeper| keeper.finish());
        let recorded = shared.with(|state, now, wakes| {
            if open {
                if let Some(news) = news {
                    state.store_news(now, news, wakes);
                }
                state.enter(Phase::Closed, wakes);
                state.dispatch(now, &shared.clock, wakes);
            }
            Recorded::take(state)
        });
        self.keep(&recorded);
    }
}
