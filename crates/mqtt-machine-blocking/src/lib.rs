//! Owns the way from an MQTT client to threads and the standard library's sockets: the thread that drives it, and calls that
//! block. It must not know MQTT.
//!
//! A URL says how the server is reached: `mqtt`, `mqtts`, `ws`, `wss`, `unix`, `mqtt+srv` and `mqtts+srv`; [`Options`] refine it with
//! certificates, headers and proxies. For any other transport there is a [`Connector`].
//!
//! ```no_run
//! use std::time::Duration;
//! use mqtt_machine_blocking::{Client, Message, QoS};
//!
//! let client = Client::connect("mqtt://localhost:1883")?;
//! let mut messages = client.subscribe("sensors/#", QoS::AtLeastOnce)?;
//! let delivery = client.publish(Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce))?;
//! println!("{:?}", delivery.wait(Duration::from_secs(5)));
//! for message in &mut messages {
//!     println!("{} {}", message.topic, message.payload_lossy());
//! }
//! client.disconnect()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who drives the client
//!
//! Sockets, timers and the machine are one loop, and one of three runs it:
//!
//! 1. a background thread, by [`Client::connect`] and [`Client::start`]; threads that publish or wait do for it what they can do at once,
//!    but closures of yours, and what a TLS configuration of yours does in a handshake, are called by it alone;
//! 2. a thread of your own, by [`Runner::run`];
//! 3. another event loop, a step at a time, by [`Runner::step`].
//!
//! ```no_run
//! use std::time::Duration;
//! use mqtt_machine_blocking::{Client, Message, QoS};
//!
//! let (client, runner) = Client::with_driver("mqtt://localhost:1883")?;
//! std::thread::spawn(move || {
//!     client.connected()?;
//!     client.publish(Message::to("greetings", "hello")?)?;
//!     client.disconnect()?;
//!     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! });
//! runner.run()?; // Until the client has ended.
//!
//! let (client, mut runner) = Client::with_driver("mqtt://localhost:1883")?;
//! let subscribing = client.handle().subscribe("sensors/#", QoS::AtLeastOnce);
//! let Some(subscription) = runner.until(subscribing, Duration::from_secs(10))? else { return Ok(()) };
//! let mut messages = subscription?;
//! while !runner.step(Duration::from_millis(100))?.done {
//!     while let Ok(message) = messages.try_recv() {
//!         println!("{} {}", message.topic, message.payload_lossy());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the third nobody else drives the client, so calls that wait must not be made on that thread: [`Runner::until`] waits for
//! any of them and steps meanwhile, and the `try_` calls never wait. The same holds for closures that the driver itself calls.
//!
//! # Any pair of halves
//!
//! ```no_run
//! use std::fs::OpenOptions;
//! use mqtt_machine_blocking::{Client, Config, Connector, Server};
//!
//! let connector = Connector::new(|server: Server| {
//!     let line = OpenOptions::new().read(true).write(true).open(server.as_str())?;
//!     let hang_up = || { /* Whatever makes both halves return. */ };
//!     Ok((line.try_clone()?, line, hang_up))
//! });
//! let client = Client::connect_with(Config::new(Server::new("/dev/ttyUSB0")), connector)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything that does not wait is [`mqtt_machine_client::Client`], which this crate's [`Client`] dereferences to by way of [`Handle`]: the same calls in
//! every adapter.
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

mod client;
mod connector;
mod helm;
mod helpers;
mod network;
mod notify;
mod run;
mod socket;
mod wait;

pub use mqtt_machine_client::*;

pub use client::Client;
pub use connector::Connector;
pub use helpers::{publish_multiple, publish_single, subscribe_callback, subscribe_simple};
pub use mqtt_machine_client::threads::{Events, Handle, Requester, Subscription};
pub use run::{Runner, Step};
