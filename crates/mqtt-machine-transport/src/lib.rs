//! Owns what stands between the name of a server and the bytes of a connection: endpoint URLs and the order in
//! which the addresses of a name are tried. It must not know MQTT's packets, sockets, clocks or runtimes.
//!
//! An adapter parses the URL, resolves [`Endpoint::host`] by its own means and tries the addresses as
//! [`AddressSequence`] hands them out:
//!
//! ```
//! use mqtt_machine_transport::{AddressSequence, Endpoint};
//!
//! let endpoint = Endpoint::parse("mqtt://localhost?client_id=kitchen")?;
//! let resolved = ["[::1]:1883".parse()?, "127.0.0.1:1883".parse()?];
//! for address in AddressSequence::new(resolved) {
//!     // Connect; when it fails, or is not done after `AddressSequence::ATTEMPT_DELAY`, go on with the next.
//!     assert_eq!(address.port(), endpoint.port);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

mod address;
mod endpoint;
mod error;

pub use address::AddressSequence;
pub use endpoint::{CleanStart, Endpoint, EndpointOptions, Host, Password, Scheme, Version};
pub use error::EndpointError;
