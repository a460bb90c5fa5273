//! Owns the way from an MQTT client to tokio: names, sockets, one timer, one task. It must not know MQTT.
//!
//! A URL says how the server is reached: `mqtt`, `mqtts`, `ws`, `wss`, `unix`, `mqtt+srv` and `mqtts+srv`; [`Options`] refine it with
//! certificates, headers and proxies. For any other transport there is a [`Connector`].
//!
//! ```no_run
//! use mqtt_machine_tokio::{Client, Message, QoS};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("mqtt://localhost:1883").await?;
//! let mut messages = client.subscribe("sensors/#", QoS::AtLeastOnce).await?;
//! client.publish(Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce)).await?.await;
//! while let Some(message) = messages.recv().await {
//!     println!("{} {}", message.topic, message.payload_lossy());
//! }
//! client.disconnect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything but how a client begins is [`mqtt_machine_client::Client`], which this crate's [`Client`] dereferences to:
//! the same calls in every adapter.

mod helpers;
mod network;
#[cfg(feature = "quic")]
mod quic;
mod run;
mod socket;

use std::future::Future;
use std::ops::Deref;

pub use mqtt_machine_client::*;

pub use helpers::{publish_multiple, publish_single, subscribe_callback, subscribe_simple};
pub use socket::Connector;

use run::Run;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// A client on tokio: [`mqtt_machine_client::Client`], and the ways to begin.
#[derive(Clone, Debug)]
pub struct Client(mqtt_machine_client::Client);

impl Client {
    /// Connects, and returns after the first CONNACK. Failures that may pass are retried until the connect deadline
    /// (30 s unless [`Options::connect_deadline`] says otherwise). The client runs in a task of its own.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] for a URL that is none, [`ConnectError::GaveUp`] for a permanent refusal,
    /// [`ConnectError::Transport`] for a way to the server that cannot work (a file that is missing, a certificate that is not
    /// trusted), [`ConnectError::Timeout`] at the deadline, [`ConnectError::Runtime`] outside of a tokio runtime.
    pub async fn connect<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::start(options)?.first_connection().await
    }

    /// As [`connect`](Self::connect), over transports of your own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with<O>(options: O, connector: Connector) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::start_with(options, connector)?.first_connection().await
    }

    /// Returns at once and connects in the background, in a task of its own, without an end of attempts.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), for what can be known at once.
    pub fn start<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::spawn(options, None)
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
        Self::spawn(options, Some(connector))
    }

    /// For those who do not want a task to be spawned: nothing happens unless the future is polled, within a tokio
    /// runtime, until it ends with the client.
    ///
    /// # Errors
    /// As [`start`](Self::start), but for the runtime.
    pub fn with_driver<O>(
        options: O,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<O>), ConnectError>
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
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<O>), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::parts(options, Some(connector))
    }

    fn spawn<O>(options: O, connector: Option<Connector>) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ConnectError::Runtime("there is no tokio runtime here".to_owned()))?;
        let (client, run) = Self::parts(options, connector)?;
        runtime.spawn(run);
        Ok(client)
    }

    fn parts<O>(options: O, connector: Option<Connector>) -> Result<(Self, Run), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        let (client, driver) = mqtt_machine_client::Client::new(options.try_into()?)?;
        Ok((Self(client), Run::new(driver, connector)))
    }

    async fn first_connection(self) -> Result<Self, ConnectError> {
        match tokio::time::timeout(self.connect_deadline(), self.connected()).await {
            Ok(Ok(_)) => Ok(self),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.connect_timeout()),
        }
    }
}

impl Deref for Client {
    type Target = mqtt_machine_client::Client;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
