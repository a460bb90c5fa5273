//! Owns endpoint URLs: which server, how, with which credentials and which options. It must not know how a name is
//! resolved, nor what an option does to a connection.

mod host;
mod options;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use host::{Authority, Host, Password};
pub(crate) use host::{excerpt, parse_url};
pub(crate) use options::NAMES as OPTION_NAMES;
pub use options::{CleanStart, EndpointOptions, Version};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::error::EndpointError;

/// How an endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `mqtt` (or `tcp`): MQTT over plain TCP, port 1883.
    Mqtt,
    /// `mqtts` (or `ssl`): over TLS, port 8883.
    Mqtts,
    /// `ws`: over WebSocket, port 80, path `/mqtt`.
    Ws,
    /// `wss`: over WebSocket over TLS, port 443, path `/mqtt`.
    Wss,
    /// `unix`: over a Unix socket, whose path is the URL's.
    Unix,
    /// `mqtt+srv`: over plain TCP, to the servers that the domain's SRV records name.
    MqttSrv,
    /// `mqtts+srv`: over TLS, to the servers that the domain's SRV records name.
    MqttsSrv,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Mqtt, Self::Mqtts, Self::Ws, Self::Wss, Self::Unix, Self::MqttSrv, Self::MqttsSrv];

    /// Its name in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
            Self::MqttSrv => "mqtt+srv",
            Self::MqttsSrv => "mqtts+srv",
        }
    }

    /// The port of a URL that names none; `None` for a Unix socket. That of a service is for domains without SRV records.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Mqtt | Self::MqttSrv => Some(1883),
            Self::Mqtts | Self::MqttsSrv => Some(8883),
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            Self::Unix => None,
        }
    }

    /// Whether TLS is spoken.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::MqttsSrv)
    }

    /// Whether WebSocket is spoken.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether SRV records tell the servers.
    pub const fn is_service(self) -> bool {
        matches!(self, Self::MqttSrv | Self::MqttsSrv)
    }

    fn from_name(name: &str) -> Result<Self, EndpointError> {
        match name {
            "tcp" => Ok(Self::Mqtt),
            "ssl" => Ok(Self::Mqtts),
            _ => (Self::ALL.into_iter().find(|scheme| scheme.name() == name))
                .ok_or_else(|| EndpointError::UnknownScheme { scheme: excerpt(name) }),
        }
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// A server.
    Server(Authority),
    /// The servers that the SRV records of this domain name; the authority itself where there are no records.
    Service(Authority),
    /// The Unix socket of this path, percent-decoded, never empty.
    Unix(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(authority) => authority.fmt(f),
            Self::Service(authority) => authority.host.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// A server, with the credentials and options that its URL carries.
///
/// ```
/// use mqtt_machine_transport::{Endpoint, Version};
///
/// let endpoint = Endpoint::parse("mqtts://me:p%40ss@broker.example?version=3.1.1&keep_alive=30")?;
/// assert_eq!(endpoint.destination.to_string(), "broker.example:8883");
/// assert_eq!(endpoint.username.as_deref(), Some("me"));
/// assert_eq!(endpoint.password.as_ref().map(|password| password.as_bytes()), Some(&b"p@ss"[..]));
/// assert_eq!(endpoint.options.version, Some(Version::V3_1_1));
/// assert_eq!(endpoint.options.keep_alive_seconds, Some(30));
/// assert_eq!(endpoint.to_string(), "mqtts://broker.example:8883?version=3.1.1&keep_alive=30");
/// # Ok::<(), mqtt_machine_transport::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// How it is reached.
    pub scheme: Scheme,
    /// Where it is.
    pub destination: Destination,
    /// The path of the WebSocket request, percent-encoded, `/mqtt` when the URL names none; empty for other schemes.
    pub path: String,
    /// The user name, percent-decoded; an empty one counts as none.
    pub username: Option<String>,
    /// The password, percent-decoded; an empty one counts as none.
    pub password: Option<Password>,
    /// What the query says.
    pub options: EndpointOptions,
}

impl Endpoint {
    /// Reads `scheme://[user[:password]@]host[:port][/path][?option=value&...]`, or
    /// `unix://[user[:password]@][localhost]/path/of/socket[?option=value&...]`.
    ///
    /// # Errors
    /// An [`EndpointError`] that says what is wrong and never holds credentials.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (name, rest) = text.split_once("://").ok_or(EndpointError::NotAUrl)?;
        if !is_scheme(name) {
            return Err(EndpointError::NotAUrl);
        }
        let scheme = Scheme::from_name(&name.to_ascii_lowercase())?;

        // Whatever stands behind a stray `@` may belong to a password that was cut at a `/`, `?` or `#`: then no
        // error may quote it.
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let behind_host = rest.get(end..).unwrap_or_default();
        let authority = rest.get(..end).unwrap_or_default();
        let parsed = match scheme {
            // The URL parser wants a host before a path.
            Scheme::Unix if authority.is_empty() || authority.ends_with('@') => {
                parse_url(text).or_else(|error| match error {
                    EndpointError::MissingHost => {
                        parse_url(&format!("{name}://{authority}localhost{behind_host}"))
                    }
                    error => Err(error),
                })
            }
            _ => parse_url(text),
        };
        parsed.and_then(|url| Self::of_url(scheme, &url)).map_err(|error| {
            if behind_host.contains('@') { EndpointError::UnencodedCredentials } else { error }
        })
    }

    /// This endpoint with another server, `host` or `host:port`: reached in the same way, with the same path and options,
    /// and without credentials. A service's servers are reached directly; what stands for a Unix socket is a TCP server.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); credentials are refused as [`EndpointError::UnencodedCredentials`].
    pub fn at(&self, server: &str) -> Result<Self, EndpointError> {
        if server.contains(['@', '/', '?', '#']) {
            return Err(EndpointError::UnencodedCredentials);
        }
        let scheme = match self.scheme {
            Scheme::MqttSrv | Scheme::Unix => Scheme::Mqtt,
            Scheme::MqttsSrv => Scheme::Mqtts,
            scheme => scheme,
        };
        let url = parse_url(&format!("{}://{server}", scheme.name()))?;
        let mut options = self.options.clone();
        options.nameserver = None;
        Ok(Self {
            scheme,
            destination: Self::destination_of(scheme, &url)?,
            path: self.path.clone(),
            username: None,
            password: None,
            options,
        })
    }

    fn of_url(scheme: Scheme, url: &Url) -> Result<Self, EndpointError> {
        let destination = Self::destination_of(scheme, url)?;
        let username = percent_decode_str(url.username())
            .decode_utf8()
            .map_err(|_| EndpointError::UsernameNotUtf8)?
            .into_owned();
        let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
        let path = match (scheme.is_websocket(), url.path()) {
            (true, "") => "/mqtt",
            // A path with an `@` is more likely half of a password than a path; `%40` is one.
            (true, path) if path.contains('@') => return Err(EndpointError::UnencodedCredentials),
            (true, path) => path,
            (false, "" | "/") => "",
            (false, _) if scheme == Scheme::Unix => "",
            (false, _) => return Err(EndpointError::PathNotAllowed),
        };
        if url.fragment().is_some() {
            return Err(EndpointError::FragmentNotAllowed);
        }
        Ok(Self {
            scheme,
            destination,
            path: path.to_owned(),
            username: (!username.is_empty()).then_some(username),
            password: (!password.is_empty()).then(|| Password::new(password)),
            options: EndpointOptions::parse(url.query().unwrap_or_default(), scheme)?,
        })
    }

    fn destination_of(scheme: Scheme, url: &Url) -> Result<Destination, EndpointError> {
        let Some(default_port) = scheme.default_port() else {
            if !matches!(url.host_str(), None | Some("" | "localhost")) {
                return Err(EndpointError::SocketHost);
            }
            if url.port().is_some() {
                return Err(EndpointError::PortNotAllowed);
            }
            let path = percent_decode_str(url.path()).decode_utf8().map_err(|_| EndpointError::SocketPath)?;
            if path.len() < 2 || path.contains('\0') {
                return Err(EndpointError::SocketPath);
            }
            return Ok(Destination::Unix(path.into_owned()));
        };
        let authority = Authority::of_url(url, default_port)?;
        if !scheme.is_service() {
            return Ok(Destination::Server(authority));
        }
        if url.port().is_some() {
            return Err(EndpointError::PortNotAllowed);
        }
        match authority.host {
            Host::Domain(_) => Ok(Destination::Service(authority)),
            Host::Ipv4(_) | Host::Ipv6(_) => Err(EndpointError::ServiceNeedsDomain),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    /// The URL without credentials, with the port, the path and the options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        match &self.destination {
            Destination::Unix(path) => utf8_percent_encode(path, PATH).fmt(f)?,
            destination => destination.fmt(f)?,
        }
        write!(f, "{}{}", self.path, self.options)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("scheme", &self.scheme)
            .field("destination", &self.destination)
            .field("path", &self.path)
            .field("username", &self.username.is_some())
            .field("password", &self.password.is_some())
            .field("options", &self.options)
            .finish()
    }
}

/// What a path of a Unix socket cannot have in a URL.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'\\').add(b'@');

fn is_scheme(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
