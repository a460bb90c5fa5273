//! Owns the way to an endpoint: what to open, and which layers lie on it. It must not open anything itself.

use std::fmt;

use crate::endpoint::{Authority, Destination, Endpoint};
use crate::error::ConfigError;
use crate::layer::Layers;
#[cfg(feature = "proxy")]
use crate::proxy::Proxy;
#[cfg(feature = "tls")]
use crate::tls::{Tls, TlsClient, TlsOptions};
#[cfg(feature = "websocket")]
use crate::websocket::{WebSocket, WebSocketOptions};

/// What a way needs beside its URL.
#[derive(Clone, Debug, Default)]
pub struct RouteOptions {
    #[cfg(feature = "tls")]
    tls: TlsChoice,
    /// `None`: the defaults.
    #[cfg(feature = "websocket")]
    websocket: Option<Box<WebSocketOptions>>,
    #[cfg(feature = "proxy")]
    proxies: Vec<Proxy>,
}

#[cfg(feature = "tls")]
#[derive(Clone, Debug, Default)]
enum TlsChoice {
    /// [`TlsOptions::new`], which every client has that says nothing.
    #[default]
    Default,
    Options(Box<TlsOptions>),
    Ready(TlsClient),
}

impl RouteOptions {
    /// The system's roots, no proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these options of TLS, to which the URL's own are added.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = TlsChoice::Options(Box::new(options));
        self
    }

    /// With a TLS client that is ready, shared with whoever else has it; the URL's options of TLS are not looked at.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_client(mut self, client: TlsClient) -> Self {
        self.tls = TlsChoice::Ready(client);
        self
    }

    /// Whether a TLS client was given that is ready. All others are made with the route, and have sessions to resume that end with it.
    pub const fn has_tls_client(&self) -> bool {
        #[cfg(feature = "tls")]
        if matches!(self.tls, TlsChoice::Ready(_)) {
            return true;
        }
        false
    }

    /// With these options of WebSocket.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn websocket(mut self, options: WebSocketOptions) -> Self {
        self.websocket = Some(Box::new(options));
        self
    }

    /// Through this proxy. A second one lies behind the first, which resolves the second's name.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxies.push(proxy);
        self
    }
}

/// The way to an endpoint, made once and kept across reconnects: its TLS configuration, with the sessions to resume, is made
/// here and shared by all connections.
///
/// An adapter does for each attempt:
///
/// 1. It takes the servers from [`destination`](Self::destination): one, or those of the SRV records of
///    [`service_name`](Self::service_name).
/// 2. Where [`wants_address`](Self::wants_address), it resolves the server's name and goes on with the address.
/// 3. It opens a socket to the [`first_hop`](Self::first_hop).
/// 4. It makes the [`layers`](Self::layers_to) and lets the bytes through.
#[derive(Clone)]
pub struct Route {
    endpoint: Endpoint,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
    #[cfg(feature = "websocket")]
    websocket: WebSocketOptions,
    #[cfg(feature = "proxy")]
    proxies: Vec<Proxy>,
}

impl Route {
    /// The way to `endpoint`. Reads the files that the options and the URL name.
    ///
    /// # Errors
    /// A [`ConfigError`]: a file, a key, a root, or a feature that is not compiled in.
    pub fn new(endpoint: Endpoint, options: &RouteOptions) -> Result<Self, ConfigError> {
        let missing = |has: bool, feature: &'static str| {
            if has { Ok(()) } else { Err(ConfigError::FeatureMissing(feature)) }
        };
        missing(!endpoint.scheme.is_secure() || cfg!(feature = "tls"), "tls")?;
        missing(!endpoint.scheme.is_websocket() || cfg!(feature = "websocket"), "websocket")?;
        missing(!endpoint.scheme.is_service() || cfg!(feature = "srv"), "srv")?;
        #[cfg(feature = "proxy")]
        if !options.proxies.is_empty() && matches!(endpoint.destination, Destination::Unix(_)) {
            return Err(ConfigError::ProxyToUnixSocket);
        }
        #[cfg(not(any(feature = "tls", feature = "websocket", feature = "proxy")))]
        let _ = options;
        let route = Self {
            #[cfg(feature = "tls")]
            tls: match &options.tls {
                _ if !endpoint.scheme.is_secure() => None,
                TlsChoice::Default => Some(TlsOptions::new().with_url(&endpoint.options).build()?),
                TlsChoice::Options(tls) => Some(TlsOptions::clone(tls).with_url(&endpoint.options).build()?),
                TlsChoice::Ready(client) => Some(client.clone()),
            },
            #[cfg(feature = "websocket")]
            websocket: options
                .websocket
                .as_deref()
                .cloned()
                .unwrap_or_default()
                .for_version(endpoint.options.version),
            #[cfg(feature = "proxy")]
            proxies: options.proxies.clone(),
            endpoint,
        };
        // A name that TLS cannot ask for is told now, not at every attempt.
        #[cfg(feature = "tls")]
        if let (Some(tls), Some(authority)) = (&route.tls, route.authority()) {
            tls.name_for(&authority.host.name())?;
        }
        Ok(route)
    }

    /// The endpoint.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the endpoint is.
    pub const fn destination(&self) -> &Destination {
        &self.endpoint.destination
    }

    /// The name whose SRV records tell the servers: `_mqtt._tcp.` or `_secure-mqtt._tcp.` and the domain.
    pub fn service_name(&self) -> Option<String> {
        let Destination::Service(authority) = &self.endpoint.destination else { return None };
        let service = if self.endpoint.scheme.is_secure() { "_secure-mqtt" } else { "_mqtt" };
        Some(format!("{service}._tcp.{}", authority.host))
    }

    /// Whether the last proxy is to be asked for an address rather than for the server's name.
    pub fn wants_address(&self) -> bool {
        #[cfg(feature = "proxy")]
        if let Some(last) = self.proxies.last() {
            return last.wants_address();
        }
        false
    }

    /// What to open a socket to in order to reach `server`: the first proxy, or the server itself.
    pub fn first_hop<'a>(&'a self, server: &'a Authority) -> &'a Authority {
        #[cfg(feature = "proxy")]
        if let Some(first) = self.proxies.first() {
            return &first.authority;
        }
        server
    }

    /// New layers for one connection to the endpoint's own authority, or to its Unix socket.
    ///
    /// # Errors
    /// As [`layers_to`](Self::layers_to).
    pub fn layers(&self) -> Result<Layers, ConfigError> {
        self.stack(self.authority())
    }

    /// New layers for one connection to `server`: one of the servers of a service, or the endpoint's with its name resolved.
    ///
    /// That is what the last proxy is asked for. The name that TLS checks and WebSocket asks for stays the URL's: SRV records
    /// and addresses come from DNS, which anybody on the way can forge.
    ///
    /// # Errors
    /// A [`ConfigError`] when the WebSocket request was not signed or cannot be written.
    pub fn layers_to(&self, server: &Authority) -> Result<Layers, ConfigError> {
        self.stack(Some(server))
    }

    fn authority(&self) -> Option<&Authority> {
        match &self.endpoint.destination {
            Destination::Server(authority) | Destination::Service(authority) => Some(authority),
            Destination::Unix(_) => None,
        }
    }

    fn stack(&self, server: Option<&Authority>) -> Result<Layers, ConfigError> {
        #[cfg_attr(
            not(any(feature = "tls", feature = "websocket", feature = "proxy")),
            expect(unused_mut, reason = "there is no layer to put in")
        )]
        let mut layers = Layers::new();
        let (Some(server), Some(named)) = (server, self.authority()) else { return Ok(layers) };
        #[cfg(feature = "proxy")]
        for (at, proxy) in self.proxies.iter().enumerate() {
            let next = self.proxies.get(at.saturating_add(1)).map_or(server, |next| &next.authority);
            layers = layers.with(proxy.layer(next));
        }
        #[cfg(feature = "tls")]
        if let Some(client) = &self.tls {
            let name = client.name_for(&named.host.name())?;
            layers = layers.with(Box::new(Tls::new(client, name).map_err(ConfigError::Tls)?));
        }
        #[cfg(feature = "websocket")]
        if self.endpoint.scheme.is_websocket() {
            let secure = self.endpoint.scheme.is_secure();
            let socket = WebSocket::new(&self.websocket, named, &self.endpoint.path, secure)?;
            layers = layers.with(Box::new(socket));
        }
        let _ = (server, named);
        Ok(layers)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Route");
        debug.field("endpoint", &self.endpoint);
        #[cfg(feature = "proxy")]
        debug.field("proxies", &self.proxies);
        debug.finish_non_exhaustive()
    }
}
