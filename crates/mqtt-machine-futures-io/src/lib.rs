//! Owns what the adapters for async-std and smol share: names, sockets and a timer over `async-io`, on which both of them stand,
//! and any stream of `futures-io`. It must not know MQTT, nor who spawns its future.
//!
//! Users take `mqtt-machine-smol` or `mqtt-machine-async-std`, which give these names again. For another runtime whose streams are
//! those of `futures-io`, [`Run`] with [`FuturesIo`] is the driver: spawn it.
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
mod socket;

pub use mqtt_machine_client::*;

pub use network::FuturesIo;
pub use socket::{Connector, Socket};
