//! Owns why a text is no endpoint, or no proxy. It must not hold anything that could be a user name or a password.

use std::fmt;
use std::path::PathBuf;

use crate::endpoint::{OPTION_NAMES, Scheme};
use crate::layer::TlsError;
#[cfg(feature = "tls")]
use crate::tls::KeyError;

/// Why a text is no endpoint.
///
/// Neither the variants nor their texts ever hold credentials, also not those of a URL that was put together
/// wrongly, so that an error may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text does not begin with `scheme://`.
    NotAUrl,
    /// Credentials, where all servers get the same.
    CredentialsNotAllowed,
    /// A scheme that has nothing to do with MQTT.
    UnknownScheme {
        /// The scheme, in lower case; at most 64 characters of it.
        scheme: String,
    },
    /// A space or a control character, which a URL writes as `%20` and the like.
    Character {
        /// Where it stands, in bytes from the start.
        at: usize,
    },
    /// A `%` without two hexadecimal digits behind it; `%` itself is written `%25`.
    PercentEncoding {
        /// Where it stands, in bytes from the start.
        at: usize,
    },
    /// No host stands behind `scheme://`.
    MissingHost,
    /// The host is neither a domain name, an IPv4 address nor an IPv6 address in brackets.
    BadHost,
    /// The port is not a number from 1 to 65,535.
    BadPort,
    /// A port, where SRV records tell it or a Unix socket has none.
    PortNotAllowed,
    /// An address where SRV records are to be looked up, which only domains have.
    ServiceNeedsDomain,
    /// A Unix socket on a host; it stands in `unix:///path` or `unix://localhost/path`.
    SocketHost,
    /// A Unix socket without a path, or with one that is not UTF-8 once decoded.
    SocketPath,
    /// A user name that is not UTF-8 once decoded; MQTT knows no other.
    UsernameNotUtf8,
    /// An `@` behind the host, in a URL that cannot be read: most likely a password that was not percent-encoded.
    UnencodedCredentials,
    /// A path, which this scheme has no use for.
    PathNotAllowed,
    /// A fragment (`#...`), which no endpoint has.
    FragmentNotAllowed,
    /// An option that does not exist.
    UnknownOption {
        /// Its name; at most 64 characters of it.
        name: String,
    },
    /// An option that this scheme has no use for.
    OptionNotForScheme {
        /// The option's name.
        name: &'static str,
        /// The scheme.
        scheme: &'static str,
    },
    /// An option that stands in the URL twice.
    RepeatedOption {
        /// Its name.
        name: &'static str,
    },
    /// An option with a value that it cannot have.
    BadOptionValue {
        /// The option's name.
        name: &'static str,
        /// The value, decoded; at most 64 characters of it.
        value: String,
        /// What it can have.
        expected: &'static str,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl => f.write_str("an endpoint is a URL such as mqtt://host:1883"),
            Self::CredentialsNotAllowed => f.write_str("only the first server's URL has credentials, which all get"),
            Self::UnknownScheme { scheme } => {
                write!(f, "unknown scheme `{scheme}`; there are")?;
                for (at, scheme) in Scheme::ALL.into_iter().enumerate() {
                    write!(f, "{} `{}`", if at == 0 { "" } else { "," }, scheme.name())?;
                }
                Ok(())
            }
            Self::Character { at } => {
                write!(f, "a space or control character at byte {at}; percent-encode it (a space is `%20`)")
            }
            Self::PercentEncoding { at } => {
                write!(f, "the `%` at byte {at} is not followed by two hexadecimal digits; write `%25` for `%`")
            }
            Self::MissingHost => f.write_str("the URL has no host"),
            Self::BadHost => {
                f.write_str("the host is neither a domain name, an IPv4 address nor an IPv6 address in brackets")
            }
            Self::BadPort => f.write_str("the port is not a number from 1 to 65535"),
            Self::PortNotAllowed => f.write_str("a port has no meaning for this scheme"),
            Self::ServiceNeedsDomain => f.write_str("only a domain name has SRV records"),
            Self::SocketHost => f.write_str("a Unix socket has no host; write unix:///path/of/socket"),
            Self::SocketPath => f.write_str("a Unix socket needs a path in UTF-8: unix:///path/of/socket"),
            Self::UsernameNotUtf8 => f.write_str("the user name is not UTF-8 after percent-decoding"),
            Self::UnencodedCredentials => f.write_str(
                "an `@` stands behind the host; percent-encode `/ ? # @ : %` in user names, passwords and options",
            ),
            Self::PathNotAllowed => f.write_str("a path has no meaning for this scheme"),
            Self::FragmentNotAllowed => f.write_str("a fragment (`#...`) has no meaning in an endpoint"),
            Self::UnknownOption { name } => {
                write!(f, "unknown option {name:?}; there are {OPTION_NAMES}")
            }
            Self::OptionNotForScheme { name, scheme } => {
                write!(f, "the option `{name}` has no meaning for the scheme `{scheme}`")
            }
            Self::RepeatedOption { name } => write!(f, "the option `{name}` stands in the URL twice"),
            Self::BadOptionValue { name, value, expected } => {
                write!(f, "the option `{name}` cannot be {value:?}; it is {expected}")
            }
        }
    }
}

impl std::error::Error for EndpointError {}

/// Why a text is no proxy. As with [`EndpointError`], nothing of it holds credentials.
#[cfg(feature = "proxy")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// The text does not begin with `scheme://`.
    NotAUrl,
    /// Another scheme than `http`, `socks5` and `socks5h`.
    UnknownScheme {
        /// The scheme, in lower case; at most 64 characters of it.
        scheme: String,
    },
    /// The host, the port or the text as a whole is wrong.
    Url(EndpointError),
    /// A path, a query or a fragment, which the URL of a proxy does not have.
    OnlyAHost,
    /// A user name that is not UTF-8 once decoded.
    UsernameNotUtf8,
    /// A user name with a colon, which HTTP cannot carry.
    ColonInUsername,
    /// A user name or a password of more than 255 bytes, which SOCKS5 cannot carry.
    CredentialsTooLong,
}

#[cfg(feature = "proxy")]
impl fmt::Display for ProxyUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl => f.write_str("a proxy is a URL such as socks5://host:1080"),
            Self::UnknownScheme { scheme } => {
                write!(f, "unknown proxy scheme `{scheme}`; there are `http`, `socks5`, `socks5h`")
            }
            Self::Url(error) => error.fmt(f),
            Self::OnlyAHost => f.write_str(
                "a proxy has no path, query or fragment; percent-encode `/ ? # @ : %` in user names and passwords",
            ),
            Self::UsernameNotUtf8 => f.write_str("the user name is not UTF-8 after percent-decoding"),
            Self::ColonInUsername => f.write_str("a user name of an HTTP proxy has no colon"),
            Self::CredentialsTooLong => {
                f.write_str("user names and passwords of a SOCKS5 proxy have at most 255 bytes")
            }
        }
    }
}

#[cfg(feature = "proxy")]
impl std::error::Error for ProxyUrlError {}

/// Why the way to an endpoint cannot be made ready. As with [`EndpointError`], nothing of it holds credentials or keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The scheme needs this feature of the crate, which is not compiled in.
    FeatureMissing(&'static str),
    /// A proxy in front of a Unix socket.
    ProxyToUnixSocket,
    /// The server's name is neither a domain name nor an address that a certificate can be for.
    ServerName,
    /// A file cannot be read.
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// A text in PEM is no certificate or no key.
    #[cfg(feature = "tls")]
    Key {
        /// The file that it stands in; `None` when it was given as bytes.
        path: Option<PathBuf>,
        /// Why.
        error: KeyError,
    },
    /// rustls does not take the configuration, as when a key does not fit its certificate.
    Tls(TlsError),
    /// The operating system has no roots, or the feature `native-roots` is off: name a CA file.
    NoSystemRoots,
    /// Neither `ring` nor `aws-lc-rs` is compiled in, and the process has installed none.
    NoCryptoProvider,
    /// A header of the WebSocket request has a name or a value that cannot be sent, or one that the upgrade itself writes.
    Header {
        /// Its name.
        name: String,
    },
    /// The target or the host of the WebSocket request cannot be sent.
    Target,
    /// The name of a sub-protocol cannot be sent.
    Subprotocol {
        /// The name.
        name: String,
    },
    /// The callback did not sign the WebSocket request, in its own words.
    Signing(String),
    /// The source of randomness failed.
    NoRandomness,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FeatureMissing(feature) => write!(f, "the feature `{feature}` is not compiled in"),
            Self::ProxyToUnixSocket => f.write_str("a Unix socket is not reached through a proxy"),
            Self::ServerName => f.write_str("the server's name is neither a domain name nor an address"),
            Self::File { path, kind } => write!(f, "{}: {kind}", path.display()),
            #[cfg(feature = "tls")]
            Self::Key { path: Some(path), error } => write!(f, "{}: {error}", path.display()),
            #[cfg(feature = "tls")]
            Self::Key { path: None, error } => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::NoSystemRoots => {
                f.write_str("there are no root certificates of the system; name a CA file")
            }
            Self::NoCryptoProvider => {
                f.write_str("no crypto provider: enable the feature `ring` or `aws-lc-rs`")
            }
            Self::Header { name } => write!(f, "the WebSocket header {name:?} cannot be sent"),
            Self::Target => f.write_str("the target of the WebSocket request cannot be sent"),
            Self::Subprotocol { name } => write!(f, "the sub-protocol {name:?} cannot be sent"),
            Self::Signing(why) => write!(f, "the WebSocket request was not signed: {why}"),
            Self::NoRandomness => f.write_str("the source of randomness failed"),
        }
    }
}

impl std::error::Error for ConfigError {}
