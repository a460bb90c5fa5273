//! MQTT as a pure state machine.
#![no_std]
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
mod time;
mod types;
pub mod wire;

pub use config::{
    Authentication, Backoff, CleanStart, Config, Credentials, Limits, LostSession, Offline, Will,
};
pub use error::{PropertyError, TopicError};
pub use interface::{
    Acknowledgement, Action, Answer, Capabilities, Codes, Command, Connected, Disconnect, DropReason,
    EndReason, Ended, Event, Input, Outcome, ProtocolViolation, Receipt, Refused, Reply, StoreError,
    Subscribe, TransportEvent, Unsubscribe,
};
pub use machine::{Machine, RestoreError};
pub use message::Message;
pub use output::Output;
pub use reason::ReasonCode;
pub use session::SessionSnapshot;
pub use time::Instant;
pub use types::{
    JournalSeq, MAX_FIELD, OpId, PacketId, ProtocolVersion, QoS, RetainHandling, Secret, Server,
    Subscription, SubscriptionOptions, TopicFilter, TopicName, TransportId,
};
