//! Owns a machine with the layers of its transport, under the machine's own surface. It must not know sockets, locks or a
//! clock.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::journal::PublishKey;
use mqtt_machine::{
    Action, Answer, Command, Config, Disconnect, Event, Input, Instant, JournalSeq, KeyedPublication,
    Machine, Message, OpId, Output, ReasonCode, Receipt, Refused, Reply, Server, StoreError, Subscribe,
    TransportEvent, TransportId, Unsubscribe,
};
use mqtt_machine_transport::LayerError;

use crate::error::ConnectError;
use crate::options::Options;
use crate::pipe::{HANDSHAKE_READ, News, Pipe};
use crate::transport::{Routes, TransportError};

/// A [`Machine`] and the TLS, WebSocket and proxies of its transport as one: a driver of the machine's, such as that on the
/// crate page of `mqtt-machine`, drives this instead and has them all.
///
/// It has the machine's own calls, and dereferences to it for everything that only reads. What differs:
///
/// - [`TransportEvent::Opened`] is told when the socket is open; the machine is told when its layers are. To which socket
///   that is, the proxy or the server, `Endpoint` and `Dial` of `mqtt-machine-transport` say; a pipe of your own may do.
/// - Bytes are the socket's. Call [`transmit`](Self::transmit) after every input, for any of it may have made a layer speak.
/// - Before a socket is closed for [`Action::CloseTransport`], [`transmit`](Self::transmit) once more: that is what the layers
///   have to say last.
/// - What failed of a transport is kept for [`take_error`](Self::take_error).
///
/// ```
/// use mqtt_machine::{Action, Instant, Output, TransportEvent};
/// use mqtt_machine_client::{Options, Stack};
///
/// let now = Instant::ZERO;
/// let mut stack = Stack::new(Options::from_url("mqtt://broker.example")?, 7, now)?;
/// stack.connect(now)?;
/// let Some(Action::OpenTransport { id, server }) = stack.poll_action() else { panic!("it connects") };
/// assert_eq!(server.as_str(), "broker.example:1883");
/// stack.handle_transport(now, id, TransportEvent::Opened); // Your socket is open.
/// let mut output = Output::new();
/// stack.transmit(now, &mut output);
/// # assert!(bytes::Buf::has_remaining(&output));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stack {
    machine: Machine,
    routes: Routes,
    /// What the machine wants a transport to, until that is open.
    opening: Option<(TransportId, Server)>,
    transport: Option<TransportId>,
    /// `None`: nothing lies between the machine and the transport.
    pipe: Option<Box<Pipe>>,
    /// Out of the layers, and not yet taken by the machine.
    plaintext: BytesMut,
    /// What the layers say last.
    farewell: Output,
    /// Ahead of the machine's own.
    actions: VecDeque<Action>,
    error: Option<TransportError>,
    /// That the transport has ended, as long as the machine does not take what came last.
    ending: Option<Ending>,
}

/// The end of a transport that the machine is to be told of.
#[derive(Debug)]
struct Ending {
    error: Option<TransportError>,
    socket: Socket,
}

/// Whether the driver still holds the socket of a transport that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Open,
    Gone,
}

impl Stack {
    /// A stack that is idle until [`connect`](Self::connect). `seed` feeds jitter and generated client identifiers.
    ///
    /// # Errors
    /// [`ConnectError::Transport`] when a way to a server cannot be made ready.
    pub fn new(options: Options, seed: u64, now: Instant) -> Result<Self, ConnectError> {
        let machine = Machine::new(Arc::new(options.config.clone()), seed, now);
        Self::with_machine(machine, options)
    }

    /// A stack of this machine, as [`Machine::restore`] gives it, with the ways that the options say; their configuration is
    /// not looked at.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_machine(machine: Machine, options: Options) -> Result<Self, ConnectError> {
        let routes = Routes::new(options.like, options.routes, options.config.version);
        routes.prepare(&options.config.servers)?;
        Ok(Self {
            machine,
            routes,
            opening: None,
            transport: None,
            pipe: None,
            plaintext: BytesMut::new(),
            farewell: Output::new(),
            actions: VecDeque::new(),
            error: None,
            ending: None,
        })
    }

    /// What failed of a transport since this was last called.
    pub const fn take_error(&mut self) -> Option<TransportError> {
        self.error.take()
    }

    /// As [`Machine::handle`].
    pub fn handle(&mut self, now: Instant, input: Input) -> Reply {
        match input {
            Input::Transport { id, event } => self.handle_transport(now, id, event),
            Input::Bytes { id, mut bytes } => {
                self.handle_input(now, id, &mut bytes);
                return if bytes.is_empty() { Reply::Done } else { Reply::Unread(bytes) };
            }
            Input::Sent { id, bytes } => self.handle_sent(now, id, bytes),
            input => {
                let reply = self.machine.handle(now, input);
                self.resume(now);
                return reply;
            }
        }
        Reply::Done
    }

    /// As [`Machine::handle_transport`], for the socket.
    pub fn handle_transport(&mut self, now: Instant, id: TransportId, event: TransportEvent) {
        match event {
            TransportEvent::Opened if self.opening.as_ref().is_some_and(|(opening, _)| *opening == id) => {
                self.open(now, id);
            }
            TransportEvent::Closed(None) if self.transport == Some(id) => {
                let news = self.pipe.as_mut().map_or(News::Ended, |pipe| pipe.end());
                self.digest(now, news, Socket::Gone);
            }
            TransportEvent::Closed(Some(why)) if self.transport == Some(id) => {
                let error = TransportError::Socket { kind: std::io::ErrorKind::Other, why };
                self.over(now, Some(error), Socket::Gone);
            }
            TransportEvent::Opened => {}
            event => {
                self.opening.take_if(|(opening, _)| *opening == id);
                self.machine.handle_transport(now, id, event);
            }
        }
    }

    /// As [`Machine::handle_input`], for what was read from the socket. With layers, nothing is left in `input`.
    pub fn handle_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) {
        if self.transport != Some(id) {
            input.clear();
            return;
        }
        let Some(pipe) = &mut self.pipe else {
            if self.plaintext.is_empty() {
                return self.machine.handle_input(now, id, input);
            }
            self.plaintext.unsplit(input.split());
            return self.machine.handle_input(now, id, &mut self.plaintext);
        };
        pipe.raw.unsplit(input.split());
        let news = pipe.rise(&mut self.plaintext);
        if pipe.is_spent() {
            self.pipe = None;
        }
        match news {
            News::Opened => {
                self.digest(now, News::Opened, Socket::Open);
                self.machine.handle_input(now, id, &mut self.plaintext);
            }
            news => {
                self.machine.handle_input(now, id, &mut self.plaintext);
                self.digest(now, news, Socket::Open);
            }
        }
    }

    /// As [`Machine::handle_sent`], for bytes of the socket.
    pub fn handle_sent(&mut self, now: Instant, id: TransportId, bytes: usize) {
        if self.transport == Some(id) {
            let own = self.pipe.as_mut().map_or(bytes, |pipe| pipe.wrote(bytes));
            self.machine.handle_sent(now, id, own);
            self.resume(now);
        }
    }

    /// As [`Machine::transmit`], for the socket. With layers `output` is filled again when all of it has been
    /// [sent](Self::handle_sent).
    pub fn transmit(&mut self, now: Instant, output: &mut Output) {
        while self.farewell.has_remaining() {
            let mut last = BytesMut::from(self.farewell.chunk());
            self.farewell.advance(last.len());
            output.put(&mut last);
        }
        let Some(pipe) = &mut self.pipe else { return self.machine.transmit(now, output) };
        if pipe.is_open() {
            self.machine.transmit(now, &mut pipe.plain);
        }
        let news = pipe.sink(output);
        self.digest(now, news, Socket::Open);
    }

    /// As [`Machine::poll_action`].
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front().or_else(|| self.machine.poll_action())?;
        match &action {
            Action::OpenTransport { id, server } => self.opening = Some((*id, server.clone())),
            Action::CloseTransport { id } => {
                self.opening.take_if(|(opening, _)| opening == id);
                if self.transport == Some(*id) {
                    self.leave();
                }
            }
            _ => {}
        }
        Some(action)
    }

    /// As [`Machine::read_capacity`], for bytes of the socket.
    #[must_use]
    pub fn read_capacity(&self) -> usize {
        match &self.pipe {
            _ if self.ending.is_some() => 0,
            Some(pipe) if !pipe.is_open() => HANDSHAKE_READ,
            _ => self.machine.read_capacity(),
        }
    }

    fn open(&mut self, now: Instant, id: TransportId) {
        let Some((_, server)) = self.opening.take() else { return };
        match self.routes.layers(&server) {
            Ok(layers) => {
                self.transport = Some(id);
                self.plaintext.clear();
                self.farewell.clear();
                if layers.is_plain() {
                    self.pipe = None;
                    return self.machine.handle_transport(now, id, TransportEvent::Opened);
                }
                let pipe = self.pipe.insert(Box::new(Pipe::new(layers)));
                let news = pipe.open();
                self.digest(now, news, Socket::Open);
            }
            Err(error) => {
                self.actions.push_back(Action::CloseTransport { id });
                self.machine.handle_transport(now, id, TransportEvent::OpenFailed(error.to_string()));
                self.error = Some(error);
            }
        }
    }

    fn digest(&mut self, now: Instant, news: News, socket: Socket) {
        match (news, self.transport) {
            (News::Opened, Some(id)) => self.machine.handle_transport(now, id, TransportEvent::Opened),
            (News::Ended, _) => self.over(now, None, socket),
            (News::Failed(error), _) => self.over(now, Some(LayerError::into(error)), socket),
            (News::Nothing | News::Opened, _) => {}
        }
    }

    /// The transport has ended by itself, and its socket is to be closed unless it is gone.
    fn over(&mut self, now: Instant, error: Option<TransportError>, socket: Socket) {
        let Some(id) = self.transport else { return };
        while let Some(action) = self.machine.poll_action() {
            self.actions.push_back(action);
        }
        let closes = |action: &Action| matches!(action, Action::CloseTransport { id: of } if *of == id);
        if self.actions.iter().any(closes) {
            // It is over for the machine: after DISCONNECT every end is a normal one.
            return;
        }
        // What was read before counts.
        self.machine.handle_input(now, id, &mut self.plaintext);
        if self.machine.is_paused() && !self.plaintext.is_empty() {
            let ending = self.ending.get_or_insert(Ending { error, socket });
            ending.socket = socket;
            return;
        }
        let was_open = self.pipe.as_ref().is_none_or(|pipe| pipe.was_open());
        let why = error.as_ref().map(ToString::to_string);
        let event = if was_open {
            TransportEvent::Closed(why)
        } else {
            TransportEvent::OpenFailed(why.unwrap_or_else(|| "the server closed the connection".to_owned()))
        };
        self.leave();
        match socket {
            Socket::Open => self.actions.push_back(Action::CloseTransport { id }),
            Socket::Gone => self.farewell.clear(),
        }
        self.machine.handle_transport(now, id, event);
        self.error = error.or(self.error.take());
    }

    /// Gives the machine what it has not taken before, if it takes it now.
    fn resume(&mut self, now: Instant) {
        if let Some(id) = self.transport
            && !self.plaintext.is_empty()
        {
            self.machine.handle_input(now, id, &mut self.plaintext);
        }
        if let Some(Ending { error, socket }) = self.ending.take() {
            self.over(now, error, socket);
        }
    }

    fn shrink(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            pipe.shrink();
        }
        if self.plaintext.is_empty() {
            self.plaintext = BytesMut::new();
        }
    }

    fn leave(&mut self) {
        self.transport = None;
        self.ending = None;
        self.plaintext = BytesMut::new();
        if let Some(mut pipe) = self.pipe.take() {
            pipe.close(&mut self.farewell);
        }
    }
}

/// The machine's own calls, passed on.
impl Stack {
    /// As [`Machine::handle_stored`].
    pub fn handle_stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) {
        self.machine.handle_stored(now, result);
    }

    /// As [`Machine::handle_timeout`]. When the time has come, nothing has happened for a while, and empty buffers are given back.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.machine.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.shrink();
        }
        self.machine.handle_timeout(now);
        self.resume(now);
    }

    /// As [`Machine::poll_event`].
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.machine.poll_event()
    }

    /// As [`Machine::publish`].
    ///
    /// # Errors
    /// As [`Machine::publish`].
    pub fn publish(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> {
        self.machine.publish(now, message)
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
        self.machine.publish_keyed(now, key, message)
    }

    /// As [`Machine::forget`].
    pub fn forget(&mut self, now: Instant, key: &PublishKey) {
        self.machine.forget(now, key);
    }

    /// As [`Machine::subscribe`].
    ///
    /// # Errors
    /// As [`Machine::subscribe`].
    pub fn subscribe(&mut self, now: Instant, subscribe: Subscribe) -> Result<OpId, Refused> {
        self.machine.subscribe(now, subscribe)
    }

    /// As [`Machine::unsubscribe`].
    ///
    /// # Errors
    /// As [`Machine::unsubscribe`].
    pub fn unsubscribe(&mut self, now: Instant, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        self.machine.unsubscribe(now, unsubscribe)
    }

    /// As [`Machine::settle`].
    pub fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        self.machine.settle(now, receipt, reason);
        self.resume(now);
    }

    /// As [`Machine::connect`].
    ///
    /// # Errors
    /// As [`Machine::connect`].
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> {
        self.machine.connect(now)
    }

    /// As [`Machine::reconnect`].
    ///
    /// # Errors
    /// As [`Machine::reconnect`].
    pub fn reconnect(&mut self, now: Instant) -> Result<(), Refused> {
        self.machine.reconnect(now)
    }

    /// As [`Machine::reauthenticate`].
    ///
    /// # Errors
    /// As [`Machine::reauthenticate`].
    pub fn reauthenticate(
        &mut self,
        now: Instant,
        data: Option<mqtt_machine::Secret>,
    ) -> Result<(), Refused> {
        self.machine.reauthenticate(now, data)
    }

    /// As [`Machine::disconnect`].
    ///
    /// # Errors
    /// As [`Machine::disconnect`].
    pub fn disconnect(&mut self, now: Instant, disconnect: Disconnect) -> Result<OpId, Refused> {
        self.machine.disconnect(now, disconnect)
    }

    /// As [`Machine::reconfigure`].
    pub fn reconfigure(&mut self, now: Instant, config: Arc<Config>) {
        self.machine.reconfigure(now, config);
    }

    /// As [`Machine::answer`].
    pub fn answer(&mut self, now: Instant, answer: Answer) {
        self.machine.answer(now, answer);
    }

    /// As [`Machine::handle`] with a command.
    pub fn command(&mut self, now: Instant, command: Command) -> Reply {
        self.handle(now, Input::Command(command))
    }
}

impl Deref for Stack {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("machine", &self.machine)
            .field("routes", &self.routes)
            .field("opening", &self.opening)
            .field("transport", &self.transport)
            .field("pipe", &self.pipe)
            .field("plaintext", &self.plaintext.len())
            .field("farewell", &self.farewell)
            .field("error", &self.error)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
