//! Owns what stands between the name of a server and the bytes of a connection: endpoint URLs, the order in which addresses
//! are tried, and the layers of bytes between a socket and the core. It must not know MQTT's packets, sockets, runtimes
//! or clocks.
//!
//! Everything is a value: [`Endpoint`] is a URL that was read, [`Route`] the way there, made once and kept across reconnects,
//! and [`Layers`] one connection's TLS, WebSocket and proxies as one state machine over bytes. Nothing here opens, waits
//! or sleeps; an adapter does, in a few lines:
//!
//! 1. Do the steps of a [`Dial`] until a socket is open: it looks up SRV records and names, and staggers the attempts.
//! 2. It gives the [`Layers`] of the connection: tell them [`Layers::handle_open`].
//! 3. What is read goes to [`Layers::handle_input`], what the core wants to send to [`Layers::handle_output`].
//! 4. After each of these, also after an error, what [`Layers::transmit`] gives is written.
//! 5. The transport is open when [`Layers::state`] says [`LayersState::Open`], not when the socket is.
//!
//! Plain TCP and Unix sockets have no layers ([`Layers::is_plain`]): their bytes go past all this.
//!
//! # TLS over a plain `TcpStream`
//!
#![cfg_attr(feature = "tls", doc = "```no_run")]
#![cfg_attr(not(feature = "tls"), doc = "```ignore")]
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//!
//! use bytes::BytesMut;
//! use mqtt_machine_transport::{Destination, Endpoint, LayersState, Route, RouteOptions, TlsOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::parse("mqtts://broker.example")?;
//! let Destination::Server(server) = endpoint.destination.clone() else { return Ok(()) };
//! let options = RouteOptions::new().tls(TlsOptions::new().ca_file("ca.pem"));
//! let route = Route::new(endpoint, &options)?; // Once; the sessions to resume live in it.
//!
//! let hop = route.first_hop(&server);
//! let mut socket = TcpStream::connect((hop.host.name(), hop.port))?;
//! let mut layers = route.layers()?;
//! let (mut input, mut plaintext, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
//! // The core's output: a CONNECT of MQTT 3.1.1.
//! let mut to_send = &b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0"[..];
//!
//! let mut result = layers.handle_open();
//! while plaintext.is_empty() {
//!     if layers.state() == LayersState::Open {
//!         result = result.and_then(|()| layers.handle_output(&mut to_send));
//!     }
//!     layers.transmit(&mut out); // Also after an error: the server is told why.
//!     socket.write_all(&out.split())?;
//!     result.clone()?; // Says which check failed: the issuer, the name, the date.
//!
//!     let mut buffer = [0; 4096];
//!     result = match socket.read(&mut buffer)? {
//!         0 => layers.handle_end(),
//!         count => {
//!             input.extend_from_slice(&buffer[..count]);
//!             layers.handle_input(&mut input, &mut plaintext)
//!         }
//!     };
//! }
//! println!("CONNACK: {plaintext:?}"); // For the core's `handle_input`.
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! All but `aws-lc-rs` are on by default, and each can be left out: a URL that needs one that is missing is refused by
//! [`Route::new`], never opened in plain.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tls` | TLS by rustls; alone, for those who bring a ready [`rustls::ClientConfig`] or crypto provider |
//! | `ring`, `aws-lc-rs` | a crypto provider for [`TlsOptions::build`]; with both, aws-lc-rs is taken |
//! | `native-roots` | the certificates that the operating system trusts |
//! | `encrypted-keys` | client keys under a password (PKCS#8 with PBES2) |
//! | `websocket` | `ws` and `wss` |
//! | `proxy` | HTTP CONNECT and SOCKS5 |
//! | `srv` | the lookup of SRV records for `mqtt+srv` and `mqtts+srv` |
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
mod attempts;
mod dial;
mod endpoint;
mod error;
#[cfg(any(feature = "websocket", feature = "proxy"))]
mod http;
mod layer;
#[cfg(feature = "proxy")]
mod proxy;
mod route;
#[cfg(feature = "srv")]
mod srv;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

pub use address::AddressSequence;
pub use attempts::AddressAttempts;
pub use dial::{Attempt, Dial, DialError, DialStep, SrvError, SrvOver, SrvQuestion, Target, next_framed};
pub use endpoint::{
    Authority, CleanStart, Destination, Endpoint, EndpointOptions, Host, Password, Scheme, Version,
};
#[cfg(feature = "proxy")]
pub use error::ProxyUrlError;
pub use error::{ConfigError, EndpointError};
pub use layer::{
    HttpProxyError, Layer, LayerError, LayerKind, LayerState, Layers, LayersState, Socks5Error, Socks5Reply,
    TlsAlert, TlsError, WebSocketError,
};
#[cfg(feature = "proxy")]
pub use proxy::{HttpConnect, Proxy, ProxyScheme, Socks5};
pub use route::{Route, RouteOptions};
#[cfg(feature = "srv")]
pub use srv::{SrvLookup, SrvOutcome, SrvRecord, nameservers_in, order_records};
#[cfg(feature = "tls")]
pub use tls::{KeyError, Tls, TlsClient, TlsOptions, rustls};
#[cfg(feature = "websocket")]
pub use websocket::{NoRandomness, Randomness, UpgradeRequest, WebSocket, WebSocketOptions};
