//! Owns the handle whose calls block, and the ways to begin. It must not know how a client is driven.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_machine_client::{
    self as shared, CommandError, ConnectError, Connected, Delivery, Disconnect, Drained, IntoFilter,
    Message, Options, QoS, RequestOptions, Subscribe, SubscribeError, block_until,
};

use crate::connector::Connector;
use crate::run::Runner;
use crate::streams::{Events, Requester, Subscription};

/// The thread that drives a client, until somebody has joined it.
#[derive(Debug)]
struct Background(Mutex<Option<JoinHandle<()>>>);

impl Background {
    /// Waits for the end of the thread, unless it is this one.
    fn join(&self) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |thread: &mut JoinHandle<()>| thread.thread().id() != thread::current().id();
        let thread = place.take_if(own);
        drop(place);
        if let Some(thread) = thread {
            // It can only have panicked in a closure of the user's, which has been told.
            let _ = thread.join();
        }
    }
}

/// A client of threads: [`mqtt_machine_client::Client`] with calls that block, and the ways to begin.
///
/// Clones are cheap and mean the same client. When the last is dropped it disconnects in the background, as every adapter's.
#[derive(Clone, Debug)]
pub struct Client {
    handle: shared::Client,
    background: Option<Arc<Background>>,
}

/// The ways to begin.
impl Client {
    /// Connects, and returns after the first CONNACK. Failures that may pass are retried until the connect deadline
    /// (30 s unless [`Options::connect_deadline`] says otherwise). The client runs in a thread of its own.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] for a URL that is none, [`ConnectError::GaveUp`] for a permanent refusal,
    /// [`ConnectError::Transport`] for a way to the server that cannot work (a file that is missing, a certificate that is not
    /// trusted), [`ConnectError::Timeout`] at the deadline, [`ConnectError::Runtime`] when the system has no thread or no
    /// descriptor left.
    pub fn connect<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::start(options)?.first_connection()
    }

    /// As [`connect`](Self::connect), over transports of your own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with<O>(options: O, connector: Connector) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::start_with(options, connector)?.first_connection()
    }

    /// Returns at once and connects in the background, in a thread of its own, without an end of attempts.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), for what can be known at once.
    pub fn start<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::spawn(Self::with_driver(options)?)
    }

    /// As [`start`](Self::start), over transports of your own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<O>(options: O, connector: Connector) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::spawn(Self::with_driver_and_connector(options, connector)?)
    }

    /// For those who do not want a thread to be started: nothing happens unless the [`Runner`] runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_driver<O>(options: O) -> Result<(Self, Runner), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::parts(options, None)
    }

    /// As [`with_driver`](Self::with_driver), over transports of your own.
    ///
    /// # Errors
    /// As [`with_driver`](Self::with_driver).
    pub fn with_driver_and_connector<O>(
        options: O,
        connector: Connector,
    ) -> Result<(Self, Runner), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::parts(options, Some(connector))
    }

    fn parts<O>(options: O, connector: Option<Connector>) -> Result<(Self, Runner), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        let (handle, driver) = shared::Client::new(options.try_into()?)?;
        let runner = Runner::new(driver, connector).map_err(|error| runtime(&error))?;
        Ok((Self { handle, background: None }, runner))
    }

    fn spawn((mut client, runner): (Self, Runner)) -> Result<Self, ConnectError> {
        let run = move || {
            // Without the system's readiness there is nothing left to do, and the client ends with the runner.
            let _ = runner.run();
        };
        let thread = thread::Builder::new().name("mqtt-machine".to_owned()).spawn(run);
        let thread = thread.map_err(|error| runtime(&error))?;
        client.background = Some(Arc::new(Background(Mutex::new(Some(thread)))));
        Ok(client)
    }

    fn first_connection(self) -> Result<Self, ConnectError> {
        let deadline = Instant::now().checked_add(self.connect_deadline());
        match block_until(self.handle.connected(), deadline) {
            Some(Ok(_)) => Ok(self),
            Some(Err(error)) => Err(error),
            None => Err(self.connect_timeout()),
        }
    }
}

/// The calls that wait. They hold up the thread that makes them, and nothing else; none may be made by the thread that drives the
/// client.
impl Client {
    /// The handle that all adapters share, with futures instead of calls that block: for [`Runner::until`] and
    /// [`block_until`].
    pub const fn handle(&self) -> &shared::Client {
        &self.handle
    }

    /// Publishes a message: returns when it is accepted, which it is at once when there is room. What it gives is the way to
    /// the [`Outcome`](shared::Outcome), to be [waited](Delivery::wait) for or dropped.
    ///
    /// # Errors
    /// [`CommandError`] when it can never be accepted; also [`CommandError::is_full`] while reading is paused, so that a thread that
    /// publishes from its receive loop always comes back to receiving.
    pub fn publish(&self, message: Message) -> Result<Delivery, CommandError> {
        self.handle.publish(message).wait()
    }

    /// Subscribes to a filter: returns when the server has granted it, with the messages of this filter. Without a connection it waits
    /// for one, for as long as it takes: [`block_until`] has a deadline.
    ///
    /// # Errors
    /// [`SubscribeError`] when the server refuses it, or the client ends before.
    pub fn subscribe(&self, filter: impl IntoFilter, qos: QoS) -> Result<Subscription, SubscribeError> {
        subscribed(self.handle.subscribe(filter, qos))
    }

    /// Subscribes to several filters at once, or with 5.0 options and properties: one stream for all of them. It is an
    /// error when the server refuses all filters; [`Subscription::granted`] tells which it granted.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        subscribed(self.handle.subscribe_with(request))
    }

    /// The messages that belong to no other stream, from now on: those of a resumed session, for instance.
    pub fn messages(&self) -> Subscription {
        self.handle.messages().into()
    }

    /// Asks, and gets the answers, of other clients.
    pub fn requester(&self) -> Requester {
        self.handle.requester().into()
    }

    /// As [`requester`](Self::requester), with other options.
    pub fn requester_with(&self, options: RequestOptions) -> Requester {
        self.handle.requester_with(options).into()
    }

    /// What happens to the connection, from now on.
    pub fn events(&self) -> Events {
        self.handle.events().into()
    }

    /// Waits for a connection: returns at once when there is one.
    ///
    /// # Errors
    /// That the client gave up or has ended, or that the way to the server fails in a way that does not pass by itself.
    pub fn connected(&self) -> Result<Connected, ConnectError> {
        block_until(self.handle.connected(), None).unwrap_or(Err(ConnectError::Closed))
    }

    /// Ends the client: what was accepted is brought to its end within 5 s, then the server is told. Returns when that is done and
    /// the background thread has ended. Gives what became of the publications that were open.
    ///
    /// # Errors
    /// [`CommandError::Closed`] when the client has ended before.
    pub fn disconnect(&self) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.disconnect(), None))
    }

    /// As [`disconnect`](Self::disconnect), within this time.
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    pub fn drain(&self, deadline: Duration) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.drain(deadline), None))
    }

    /// As [`disconnect`](Self::disconnect), within a time of its own, or with a reason code, a reason and properties (5.0).
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    pub fn disconnect_with(&self, request: Disconnect) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.disconnect_with(request), None))
    }

    fn ended(&self, result: Option<Result<Drained, CommandError>>) -> Result<Drained, CommandError> {
        if let (Some(Ok(_)), Some(background)) = (&result, &self.background) {
            background.join();
        }
        result.unwrap_or(Err(CommandError::Closed))
    }
}

impl Deref for Client {
    type Target = shared::Client;

    fn deref(&self) -> &Self::Target {
        &self.handle
    }
}

fn runtime(error: &std::io::Error) -> ConnectError {
    ConnectError::Runtime(format!("the system does not let the client run: {error}"))
}

fn subscribed(subscribing: shared::Subscribing) -> Result<Subscription, SubscribeError> {
    let closed = SubscribeError::Command(CommandError::Closed);
    Ok(block_until(subscribing, None).unwrap_or(Err(closed))?.into())
}
