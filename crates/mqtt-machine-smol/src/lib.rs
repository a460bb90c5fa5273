//! Owns the way from an MQTT client to smol: a task. It must not know MQTT, nor sockets: `mqtt-machine-futures-io` does.
//!
//! It runs on smol's global executor, whose threads are started when they are first needed; [`Client::with_driver`] gives the future to
//! those who have an executor of their own.
//!
//! ```no_run
//! use mqtt_machine_smol::{Client, Message, QoS};
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
//! A URL says how the server is reached: `mqtt`, `mqtts`, `ws`, `wss`, `unix`, `mqtt+srv` and `mqtts+srv`; [`Options`] refine it with
//! certificates, headers and proxies. Over anything else that reads and writes as `futures-io` says there is a [`Connector`]:
//!
//! ```no_run
//! use mqtt_machine_smol::{Client, Config, Connector, Server};
//!
//! # #[cfg(unix)]
//! # async fn own() -> Result<(), Box<dyn std::error::Error>> {
//! use smol::net::unix::UnixStream;
//!
//! let connector = Connector::new(|server: Server| async move { UnixStream::connect(server.as_str()).await });
//! let client = Client::connect_with(Config::new(Server::new("/run/broker.sock")), connector).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything but how a client begins is [`mqtt_machine_client::Client`](mqtt_machine_futures_io::Client), which this crate's [`Client`]
//! dereferences to: the same calls in every adapter. Changing the runtime changes one `use` line.
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

pub use mqtt_machine_futures_io::*;

face! {
    crate_name: "mqtt_machine_smol",
    runtime: FuturesIo,
    spawn: spawn,
}

#[expect(clippy::unnecessary_wraps, reason = "other runtimes may refuse")]
fn spawn(run: Run<FuturesIo>) -> Result<(), ConnectError> {
    smol::spawn(run).detach();
    Ok(())
}
