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

mod error;
pub mod packet;
mod reason;
mod time;
mod types;
pub mod wire;

pub use error::{PropertyError, TopicError};
pub use reason::ReasonCode;
pub use time::Instant;
pub use types::{
    JournalSeq, MAX_FIELD, OpId, PacketId, ProtocolVersion, QoS, RetainHandling, Secret, Server, Subscription,
    SubscriptionOptions, TopicFilter, TopicName, TransportId,
};
