//! Owns the way from an MQTT client to tokio: names, sockets, one timer, one task. It must not know MQTT.
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

mod run;

use std::future::Future;
use std::ops::Deref;

pub use mqtt_machine_client::*;

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
    /// [`ConnectError::Timeout`] at the deadline, [`ConnectError::Runtime`] outside of a tokio runtime.
    pub async fn connect<O>(options: O) -> Result<Self, ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        let client = Self::start(options)?;
        match tokio::time::timeout(client.connect_deadline(), client.connected()).await {
            Ok(Ok(_)) => Ok(client),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(client.connect_timeout()),
        }
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
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ConnectError::Runtime("there is no tokio runtime here".to_owned()))?;
        let (client, run) = Self::parts(options)?;
        runtime.spawn(run);
        Ok(client)
    }

    /// For those who do not want a task to be spawned: nothing happens unless the future is polled, within a tokio
    /// runtime, until it ends with the client.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] for a URL that is none.
    pub fn with_driver<O>(
        options: O,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<O>), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        Self::parts(options)
    }

    fn parts<O>(options: O) -> Result<(Self, Run), ConnectError>
    where
        O: TryInto<Options>,
        ConnectError: From<O::Error>,
    {
        let (client, driver) = mqtt_machine_client::Client::new(options.try_into()?);
        Ok((Self(client), Run::new(driver)))
    }
}

impl Deref for Client {
    type Target = mqtt_machine_client::Client;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
