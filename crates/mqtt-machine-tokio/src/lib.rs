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
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod network;
#[cfg(feature = "quic")]
mod quic;
mod socket;

pub use mqtt_machine_client::*;

pub use socket::Connector;

use network::Tokio;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

face! {
    crate_name: "mqtt_machine_tokio",
    runtime: Tokio,
    spawn: spawn,
}

fn spawn(run: Run<Tokio>) -> Result<(), ConnectError> {
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|_| ConnectError::Runtime("there is no tokio runtime here".to_owned()))?;
    runtime.spawn(run);
    Ok(())
}
