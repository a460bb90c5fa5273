//! Durable sessions in a file: what an MQTT client owes survives crashes and power cuts.
//!
//! The file is a [redb](https://docs.rs/redb) database: pure Rust, crash-safe, one writer at a time. Several clients can share one
//! file, each under a name. This crate needs Rust 1.90.
//!
//! ```no_run
//! use mqtt_machine_client::{Client, Options};
//! use mqtt_machine_store::StoreFile;
//!
//! let file = StoreFile::open("sessions.mqtt")?;
//! let options = Options::from_url("mqtt://broker.example?client_id=meter-7")?.store(file.client("meter-7")?);
//! let (client, driver) = Client::new(options)?;
//! # drop((client, driver));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A file that is damaged, foreign or newer is a typed error and is left as it is; nothing is ever begun anew in its place.
//! [`StoreFile::inspect`] looks into it, [`StoreFile::repair`] takes out what is no record.
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

mod error;
mod file;
mod inspect;
mod rows;

pub use file::{ClientStore, StoreFile};
pub use inspect::{Findings, Removed};
pub use mqtt_machine_client::store::{Change, Kept, Store, StoreError};
pub use redb::StorageBackend;
