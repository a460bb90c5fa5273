//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677) for the enhanced authentication of MQTT 5.0: both sides as pure
//! state machines. Messages go in and come out; nonces are the caller's, and so is their randomness.
//!
//! | step | client | MQTT packet |
//! | --- | --- | --- |
//! | 1 | [`Client::first`] | CONNECT or AUTH (re-authenticate), from the client |
//! | 2 | [`Client::respond`] to the server's challenge | AUTH, from the server and back |
//! | 3 | [`Client::verify`] the server's signature | CONNACK or AUTH (success), from the server |
//!
//! A server that does not know the password cannot sign: until `verify` has succeeded nobody has proved to be that server.
//!
//! ```
//! use mqtt_machine_scram::{Client, Mechanism};
//!
//! // The example of RFC 7677, section 3.
//! let mut client = Client::new(Mechanism::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")?;
//! assert_eq!(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
//! let challenge =
//!     b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
//! let response = client.respond(challenge)?;
//! assert!(response.ends_with(b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
//! client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")?;
//! # Ok::<(), mqtt_machine_scram::Error>(())
//! ```
//!
//! There is no channel binding: the client says `n,,`. `Debug` and `Display` print no user name, password, nonce or key.

mod client;
mod crypto;
mod error;
mod message;
mod server;

pub use client::Client;
pub use crypto::Mechanism;
pub use error::Error;
pub use server::{Server, Verifier};
