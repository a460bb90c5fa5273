//! Owns what stands between the name of a server and the bytes of a connection: endpoint URLs, the order in which addresses
//! are tried, and the layers of bytes between a socket and the core. It must not know MQTT's packets, sockets, runtimes
//! or clocks.
//!
//! LIBDOC
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
pub use srv::{
    SrvError, SrvLookup, SrvOutcome, SrvOver, SrvQuestion, SrvRecord, nameservers_in, next_framed,
    order_records,
};
#[cfg(feature = "tls")]
pub use tls::{KeyError, Tls, TlsClient, TlsOptions, rustls};
#[cfg(feature = "websocket")]
pub use websocket::{NoRandomness, Randomness, UpgradeRequest, WebSocket, WebSocketOptions};
