//! Owns the ways to the servers of a client, kept across its connections, and why a transport failed. It must not open
//! anything, nor know when a server is tried.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mqtt_machine::{ProtocolVersion, Server};
use mqtt_machine_transport::{
    ConfigError, Destination, DialError, Endpoint, EndpointError, LayerError, Layers, Route, RouteOptions,
    Version,
};

use crate::options::endpoint_of;

/// How many ways are kept; with more, as when servers redirect on and on, all are made anew.
const ROUTES: usize = 64;

/// Why there was no transport, or why it ended: what failed, for a program to match on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// The name of the server is no endpoint.
    Endpoint(EndpointError),
    /// The way to the server cannot be made ready: a file, a key, a feature that is not compiled in.
    Config(ConfigError),
    /// No socket could be opened.
    Dial(DialError),
    /// TLS, WebSocket or a proxy failed.
    Layer(LayerError),
    /// The socket failed.
    Socket {
        /// What kind of failure it was.
        kind: io::ErrorKind,
        /// Why, in the system's words.
        why: String,
    },
}

impl TransportError {
    /// Whether another attempt fails in the same way unless somebody changes something.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Endpoint(_) => true,
            Self::Config(error) | Self::Dial(DialError::Config(error)) => {
                !matches!(error, ConfigError::Signing(_) | ConfigError::NoRandomness)
            }
            Self::Layer(error) => error.is_permanent(),
            Self::Dial(_) | Self::Socket { .. } => false,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Dial(error) => error.fmt(f),
            Self::Layer(error) => error.fmt(f),
            Self::Socket { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Dial(error) => Some(error),
            Self::Layer(error) => Some(error),
            Self::Socket { .. } => None,
        }
    }
}

impl From<EndpointError> for TransportError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<ConfigError> for TransportError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<DialError> for TransportError {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<LayerError> for TransportError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        Self::Socket { kind: error.kind(), why: error.to_string() }
    }
}

/// The ways to the servers of one client. One with TLS is made once, and keeps what TLS needs to resume its sessions.
#[derive(Debug)]
pub(crate) struct Routes {
    /// How a server is reached that is named as `host:port`; `None`: over TCP, if it is dialled at all.
    like: Option<Like>,
    options: RouteOptions,
    /// The version that the client speaks: WebSocket has a sub-protocol of its own for 3.1.
    version: ProtocolVersion,
    made: Mutex<Vec<(Server, Arc<Route>)>>,
}

/// An endpoint that is rarely looked at.
#[derive(Debug)]
enum Like {
    /// As it prints, which is a tenth of its size.
    Text(Box<str>),
    /// One that does not print as what it is.
    Whole(Box<Endpoint>),
}

impl Like {
    fn new(endpoint: Endpoint) -> Self {
        let text = endpoint.to_string();
        match Endpoint::parse(&text) {
            Ok(same) if same == endpoint => Self::Text(text.into()),
            _ => Self::Whole(Box::new(endpoint)),
        }
    }

    /// # Errors
    /// None: it was one before.
    fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        match self {
            Self::Text(text) => Endpoint::parse(text),
            Self::Whole(endpoint) => Ok(Endpoint::clone(endpoint)),
        }
    }
}

impl Routes {
    pub(crate) fn new(like: Option<Endpoint>, options: RouteOptions, version: ProtocolVersion) -> Self {
        Self { like: like.map(Like::new), options, version, made: Mutex::new(Vec::new()) }
    }

    /// Makes the ways to `servers` ready, so that what is wrong with them is told at once.
    pub(crate) fn prepare(&self, servers: &[Server]) -> Result<(), TransportError> {
        if self.like.is_some() {
            servers.iter().try_for_each(|server| self.route(server).map(|_| ()))?;
        }
        Ok(())
    }

    /// The way to `server`.
    pub(crate) fn route(&self, server: &Server) -> Result<Arc<Route>, TransportError> {
        let known = |made: &Vec<(Server, Arc<Route>)>| {
            made.iter().find(|(known, _)| known == server).map(|(_, route)| Arc::clone(route))
        };
        if let Some(route) = known(&self.made.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(route);
        }
        // Files are read without the lock.
        let like = self.like.as_ref().map(Like::endpoint).transpose()?;
        let mut endpoint = endpoint_of(server, like.as_ref())?;
        // The configuration's word is the last one, as it is for the CONNECT.
        let is_3_1 = self.version == ProtocolVersion::V3_1;
        if is_3_1 != (endpoint.options.version == Some(Version::V3_1)) {
            endpoint.options.version = is_3_1.then_some(Version::V3_1);
        }
        let is_secure = endpoint.scheme.is_secure();
        let route = Arc::new(Route::new(endpoint, &self.options)?);
        if !is_secure || self.options.has_tls_client() {
            // Nothing in it is kept from one connection to the next: it is made again when it is needed.
            return Ok(route);
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= ROUTES {
            made.clear();
        }
        if let Some(other) = known(&made) {
            return Ok(other);
        }
        made.push((server.clone(), Arc::clone(&route)));
        Ok(route)
    }

    /// The layers on a pipe of the user's own to `server`, whose name may be anything as long as no layer needs it.
    pub(crate) fn layers(&self, server: &Server) -> Result<Layers, TransportError> {
        if self.like.is_none() && !server.as_str().contains("://") {
            return Ok(Layers::new());
        }
        let route = self.route(server)?;
        let layers = match route.destination() {
            Destination::Server(authority) | Destination::Service(authority) => route.layers_to(authority),
            _ => route.layers(),
        };
        Ok(layers?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_like_the_one_of_the_url_unless_it_is_a_url_itself() {
        let like = Endpoint::parse("unix:///run/broker.sock").unwrap();
        let routes = Routes::new(Some(like), RouteOptions::new(), ProtocolVersion::V5);
        let to = |name: &str| routes.route(&Server::new(name)).unwrap().endpoint().to_string();
        assert_eq!(to("unix:///run/broker.sock"), "unix:///run/broker.sock");
        assert_eq!(to("other.example:1884"), "mqtt://other.example:1884");
        assert_eq!(to("[::1]"), "mqtt://[::1]:1883");
    }

    #[test]
    fn an_endpoint_is_kept_as_what_it_is() {
        for url in ["mqtt://host", "wss://host:444/a%20b?version=3.1", "mqtts://[::1]?ca_file=a%26b&alpn=x,y"]
        {
            let endpoint = Endpoint::parse(url).unwrap();
            let like = Like::new(endpoint.clone());
            assert!(matches!(like, Like::Text(_)), "{like:?}");
            assert_eq!(like.endpoint(), Ok(endpoint));
        }
        let mut odd = Endpoint::parse("ws://host/path").unwrap();
        odd.path = "no path".to_owned();
        assert_eq!(Like::new(odd.clone()).endpoint(), Ok(odd));
    }

    #[test]
    fn a_name_that_is_no_endpoint_is_only_wrong_where_one_is_needed() {
        let routes = Routes::new(None, RouteOptions::new(), ProtocolVersion::V5);
        let odd = Server::new("/dev/ttyUSB0");
        assert!(routes.layers(&odd).unwrap().is_plain());
        let error = routes.route(&odd).unwrap_err();
        assert!(matches!(error, TransportError::Endpoint(_)) && error.is_permanent(), "{error}");
        for name in ["user:secret@host", "mqtt://user:secret@host", "host/path", "host?version=5"] {
            let error = routes.route(&Server::new(name)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[cfg(feature = "ring")]
    #[test]
    fn no_more_than_so_many_ways_with_tls_are_kept() {
        let options = RouteOptions::new()
            .tls(mqtt_machine_transport::TlsOptions::new().dangerous_accept_any_certificate());
        let routes = Routes::new(None, options, ProtocolVersion::V5);
        let first = Server::new("mqtts://host");
        let made = routes.route(&first).unwrap();
        assert!(Arc::ptr_eq(&made, &routes.route(&first).unwrap()), "it is made once");
        for port in 1..=200_u16 {
            routes.route(&Server::new(format!("mqtts://127.0.0.1:{port}"))).unwrap();
            routes.route(&Server::new(format!("127.0.0.1:{port}"))).unwrap();
            assert!(routes.made.lock().unwrap().len() <= ROUTES);
        }
    }
}
