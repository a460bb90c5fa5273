//! Owns what all adapters share: the cloneable [`Client`], delivery futures, message streams, routing by topic filter.
//! It must not know a runtime: it wakes wakers, and an adapter runs the [`Driver`].
//!
//! Users take an adapter, such as `mqtt-machine-tokio`, which gives this crate's names again. Authors of adapters start
//! at [`Client::new`] and [`Driver`].
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

mod authenticate;
mod backlog;
mod batch;
mod client;
mod clock;
mod connector;
mod dial;
mod driver;
mod error;
mod events;
mod face;
mod filter_map;
mod identifiers;
mod link;
pub mod one_shot;
mod options;
mod outcomes;
mod pipe;
mod prepare;
mod publish;
mod rarely;
mod reauthenticate;
mod record;
mod request;
mod router;
mod run;
#[cfg(feature = "scram")]
mod scram;
mod shared;
mod slab;
mod socket;
mod stack;
pub mod store;
mod subscription;
pub mod threads;
mod transport;
mod wake;

pub use authenticate::{AuthenticationError, Authenticator, Exchange};
pub use backlog::{StreamLimit, WhenFull};
pub use batch::Batch;
pub use client::{Client, Connecting, Disconnecting};
pub use clock::Clock;
pub use dial::{Network, NetworkFuture, dial};
pub use driver::{Driver, Task, Turn};
pub use error::{CommandError, ConnectError, SubscribeError, TryRecvError};
pub use events::{ClientEvent, Events};
pub use face::first_connection;
pub use filter_map::FilterMap;
pub use one_shot::OneShotError;
pub use options::{IntoOptions, Options};
pub use pipe::{HANDSHAKE_READ, News, Pipe};
pub use prepare::{Attempt, NotNow, Prepared};
pub use publish::{Delivery, Durable, NotDurable, Publish, Sending};
pub use reauthenticate::{Reauthenticating, ReauthenticationError};
pub use record::Record;
pub use request::{
    Dropped, NotARequest, REPLY_LEVEL, Request, RequestError, RequestOptions, Requester, request_filters,
    requested_topic, response_to,
};
pub use run::{Run, Runtime, ask_over_stream, read_behind};
#[cfg(feature = "scram")]
pub use scram::Scram;
pub use socket::SocketOptions;
pub use stack::Stack;
pub use store::{Durability, Store, StoreError};
pub use subscription::{Incoming, IntoFilter, Subscribing, Subscription};
pub use transport::TransportError;
pub use wake::block_until;

pub use mqtt_machine::journal::{DeliveryKey, KeyError, PublishKey};
pub use mqtt_machine::packet::{Properties, PropertiesBuf, Property, PropertyId};
pub use mqtt_machine::{
    Acknowledgement, Action, Backoff, Behind, Capabilities, CleanStart, Codes, Config, Connected,
    Credentials, Disconnect, Drained, DropReason, EndReason, Feature, Limits, Message, Metrics, Misuse,
    NotSupported, Outcome, Overflow, Priority, ProtocolVersion, QoS, ReasonCode, Redirection, Refused,
    RetainHandling, RoundTrip, Secret, Server, SizeBound, Subscribe, SubscriptionOptions, TopicAliases,
    TopicError, TopicFilter, TopicName, TransportId, Unsubscribe, Unsupported, Watchdog, Will,
};
pub use mqtt_machine_transport::{
    ConfigError, DialError, Endpoint, EndpointError, HttpProxyError, LayerError, LayerKind, Layers, Route,
    RouteOptions, Socks5Error, Socks5Reply, Target, TlsAlert, TlsError, WebSocketError,
};
#[cfg(feature = "proxy")]
pub use mqtt_machine_transport::{Proxy, ProxyUrlError};
#[cfg(feature = "tls")]
pub use mqtt_machine_transport::{TlsClient, TlsOptions, rustls};
#[cfg(feature = "websocket")]
pub use mqtt_machine_transport::{UpgradeRequest, WebSocketOptions};
