//! An MQTT client as a pure state machine, for 3.1, 3.1.1 and 5.0: bytes, time and commands go in; bytes, one deadline,
//! actions and events come out. No I/O, no clock, no threads, no runtime, `no_std` with `alloc`.
//!
//! A [`Machine`] is the whole client: QoS 0, 1 and 2 both ways, sessions, keep-alive, reconnection with back-off,
//! subscriptions that come back. A *driver* moves its bytes. To write one, go round this loop:
//!
//! 1. Do every [`Action`] of [`Machine::poll_action`]: open a transport, close one.
//! 2. Let [`Machine::transmit`] fill your [`Output`], write it, and tell [`Machine::handle_sent`] how much left.
//! 3. Take every [`Event`] of [`Machine::poll_event`]. A message comes with a [`Receipt`]: give it back with
//!    [`Machine::settle`] when you are done with it, which acknowledges it and makes room for the next.
//! 4. Wait for what comes first: bytes (while [`Machine::read_capacity`] is not 0), the time of
//!    [`Machine::poll_timeout`], a command of your own. Tell the machine.
//!
//! This is a complete driver over a blocking socket:
//!
//! ```no_run
//! use std::io::{ErrorKind, Read, Write};
//! use std::net::TcpStream;
//! use std::sync::Arc;
//! use std::time::{Duration, Instant as Clock};
//!
//! use bytes::{Buf, BytesMut};
//! use mqtt_machine::{
//!     Action, Config, Event, Instant, Machine, Message, Output, QoS, ReasonCode, Server, TransportEvent,
//! };
//!
//! let origin = Clock::now();
//! let now = || Instant::ZERO + origin.elapsed();
//! let mut machine = Machine::new(Arc::new(Config::new(Server::new("localhost:1883"))), 1, now());
//! let mut socket = None;
//! let (mut output, mut input) = (Output::new(), BytesMut::new());
//! machine.connect(now())?;
//! machine.publish(now(), Message::to("greetings", "hello")?.qos(QoS::AtLeastOnce))?;
//! loop {
//!     while let Some(action) = machine.poll_action() {
//!         match action {
//!             Action::OpenTransport { id, server } => match TcpStream::connect(server.as_str()) {
//!                 Ok(stream) => {
//!                     socket = Some((id, stream));
//!                     output.clear();
//!                     input.clear();
//!                     machine.handle_transport(now(), id, TransportEvent::Opened);
//!                 }
//!                 Err(e) => machine.handle_transport(now(), id, TransportEvent::OpenFailed(e.to_string())),
//!             },
//!             Action::CloseTransport { .. } => socket = None,
//!             _ => {}
//!         }
//!     }
//!     while let Some(event) = machine.poll_event() {
//!         println!("{event:?}");
//!         if let Event::Message { receipt, .. } = event {
//!             machine.settle(now(), receipt, ReasonCode::Success);
//!         }
//!     }
//!     let wait = machine.poll_timeout().map_or(Duration::from_secs(1), |at| at - now());
//!     let Some((id, stream)) = &mut socket else {
//!         std::thread::sleep(wait);
//!         machine.handle_timeout(now());
//!         continue;
//!     };
//!     machine.transmit(now(), &mut output);
//!     while output.has_remaining() {
//!         let sent = stream.write(output.chunk())?;
//!         output.advance(sent);
//!         machine.handle_sent(now(), *id, sent);
//!     }
//!     stream.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), Duration::from_millis(100))))?;
//!     let room = machine.read_capacity().min(64 << 10);
//!     let mut buffer = vec![0; room];
//!     match stream.read(&mut buffer) {
//!         Ok(0) if room > 0 => machine.handle_transport(now(), *id, TransportEvent::Closed(None)),
//!         Ok(count) => input.extend_from_slice(&buffer[..count]),
//!         Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
//!         Err(e) => machine.handle_transport(now(), *id, TransportEvent::Closed(Some(e.to_string()))),
//!     }
//!     // Also what was left in it when there was no room.
//!     machine.handle_input(now(), *id, &mut input);
//!     machine.handle_timeout(now());
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the machine promises, and where each promise is held, is in `docs/architecture.md` of the project. The
//! [`packet`] and [`wire`] modules stand alone: a broker, a proxy or a fuzzer uses the same model and codec.
//!
//! # Features
//!
//! - `std` (default): vectored writes of [`Output`]. The core itself never uses `std`.
#![no_std]
#![cfg_attr(test, allow(clippy::disallowed_methods))]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::disallowed_methods
    )
)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod config;
mod connection;
mod error;
mod interface;
pub mod journal;
mod machine;
mod message;
mod output;
pub mod packet;
mod reason;
mod session;
mod text;
mod time;
pub mod transcript;
mod types;
pub mod wire;

pub use config::{
    Authentication, Backoff, Behind, CleanStart, Config, Credentials, Limits, LostSession, Offline, Overflow,
    Redirection, TopicAliases, Unsupported, Watchdog, Will,
};
pub use error::{PropertyError, TopicError};
pub use interface::{
    Acknowledgement, Action, Answer, Capabilities, Codes, Command, Completions, Connected, Disconnect,
    Drained, DropReason, EndReason, Ended, Event, Feature, Input, KeyedPublication, Metrics, Misuse,
    NotSupported, Outcome, ProtocolViolation, Receipt, Refused, Reply, RoundTrip, SizeBound, StoreError,
    Subscribe, TransportEvent, Unsubscribe,
};
pub use machine::{Machine, RestoreError};
pub use message::Message;
pub use output::Output;
pub use reason::ReasonCode;
pub use session::SessionSnapshot;
pub use time::Instant;
pub use types::{
    JournalSeq, MAX_FIELD, OpId, PacketId, Priority, ProtocolVersion, QoS, RetainHandling, Secret, Server,
    Subscription, SubscriptionOptions, TopicFilter, TopicName, TransportId,
};
