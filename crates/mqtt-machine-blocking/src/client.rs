//! Owns the handle whose calls block, and the ways to begin. It must not know how a client is driven.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mqtt_machine_client::threads::Handle;
use mqtt_machine_client::{
    self as shared, CommandError, ConnectError, Disconnect, Drained, IntoOptions, block_until,
};

use crate::connector::Connector;
use crate::run::Runner;

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
    handle: Handle,
    background: Option<Arc<Background>>,
}

/// The ways to begin.
impl Client {
    /// Connects, and returns after the first CONNACK. Failures that may pass are retried until the connect deadline
    /// (30 s unless [`Options::connect_deadline`](crate::Options::connect_deadline) says otherwise). The client runs in a thread of its own.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] for a URL that is none, [`ConnectError::GaveUp`] for a permanent refusal,
    /// [`ConnectError::Transport`] for a way to the server that cannot work (a file that is missing, a certificate that is not
    /// trusted), [`ConnectError::Timeout`] at the deadline, [`ConnectError::Runtime`] when the system has no thread or no
    /// descriptor left.
    pub fn connect<O: IntoOptions>(options: O) -> Result<Self, ConnectError> {
        let client = Self::start(options)?;
        client.first_connection()?;
        Ok(client)
    }

    /// As [`connect`](Self::connect), over transports of your own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with<O: IntoOptions>(options: O, connector: Connector) -> Result<Self, ConnectError> {
        let client = Self::start_with(options, connector)?;
        client.first_connection()?;
        Ok(client)
    }

    /// Returns at once and connects in the background, in a thread of its own, without an end of attempts.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), for what can be known at once.
    pub fn start<O: IntoOptions>(options: O) -> Result<Self, ConnectError> {
        Self::spawn(Self::with_driver(options)?)
    }

    /// As [`start`](Self::start), over transports of your own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<O: IntoOptions>(options: O, connector: Connector) -> Result<Self, ConnectError> {
        Self::spawn(Self::with_driver_and_connector(options, connector)?)
    }

    /// For those who do not want a thread to be started: nothing happens unless the [`Runner`] runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_driver<O: IntoOptions>(options: O) -> Result<(Self, Runner), ConnectError> {
        Self::parts(options, None)
    }

    /// As [`with_driver`](Self::with_driver), over transports of your own.
    ///
    /// # Errors
    /// As [`with_driver`](Self::with_driver).
    pub fn with_driver_and_connector<O: IntoOptions>(
        options: O,
        connector: Connector,
    ) -> Result<(Self, Runner), ConnectError> {
        Self::parts(options, Some(connector))
    }

    fn parts<O: IntoOptions>(
        options: O,
        connector: Option<Connector>,
    ) -> Result<(Self, Runner), ConnectError> {
        let (handle, driver) = shared::Client::new(options.into_options()?)?;
        let runner = Runner::new(driver, connector).map_err(|error| runtime(&error))?;
        Ok((Self { handle: Handle::new(handle), background: None }, runner))
    }

    fn spawn((mut client, runner): (Self, Runner)) -> Result<Self, ConnectError> {
        let helm = Arc::downgrade(runner.helm());
        client.handle = client.handle.steered_by(helm);
        let run = move || {
            // Without the system's readiness there is nothing left to do, and the client ends with the runner.
            let _ = runner.host();
        };
        let thread = thread::Builder::new().name("mqtt-machine".to_owned()).spawn(run);
        let thread = thread.map_err(|error| runtime(&error))?;
        client.background = Some(Arc::new(Background(Mutex::new(Some(thread)))));
        Ok(client)
    }
}

/// How it ends. All else is [`Handle`]'s.
impl Client {
    /// Ends the client: what was accepted is brought to its end within 5 s, then the server is told. Returns when that is done and
    /// the background thread has ended. Gives what became of the publications that were open.
    ///
    /// # Errors
    /// [`CommandError::Closed`] when the client has ended before.
    pub fn disconnect(&self) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.handle().disconnect(), None))
    }

    /// As [`disconnect`](Self::disconnect), within this time.
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    pub fn drain(&self, deadline: Duration) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.handle().drain(deadline), None))
    }

    /// As [`disconnect`](Self::disconnect), within a time of its own, or with a reason code, a reason and properties (5.0).
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    pub fn disconnect_with(&self, request: Disconnect) -> Result<Drained, CommandError> {
        self.ended(block_until(self.handle.handle().disconnect_with(request), None))
    }

    fn ended(&self, result: Option<Result<Drained, CommandError>>) -> Result<Drained, CommandError> {
        if let (Some(Ok(_)), Some(background)) = (&result, &self.background) {
            background.join();
        }
        result.unwrap_or(Err(CommandError::Closed))
    }
}

impl Deref for Client {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

fn runtime(error: &std::io::Error) -> ConnectError {
    ConnectError::Runtime(format!("the system does not let the client run: {error}"))
}
