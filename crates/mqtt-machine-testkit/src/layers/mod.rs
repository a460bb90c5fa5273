//! Owns the server's side of what lies between a socket and the machine (TLS, WebSocket, proxies), in memory and with
//! certificates made on the spot. It must not know sockets, nor MQTT.
//!
//! For tests: what is impossible in them panics.

pub mod certificates;
pub mod peer;

pub use certificates::{Authority, Leaf, server_config};
pub use peer::{Peer, ProxyKind};
