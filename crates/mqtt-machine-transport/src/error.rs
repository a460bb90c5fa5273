//! Owns why a text is no endpoint. It must not hold anything that could be a user name or a password.

use std::fmt;

/// Why a text is no endpoint.
///
/// Neither the variants nor their texts ever hold credentials, also not those of a URL that was put together
/// wrongly, so that an error may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text does not begin with `scheme://`.
    NotAUrl,
    /// A known scheme that this version cannot connect to.
    SchemeNotSupported {
        /// The scheme.
        scheme: &'static str,
    },
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
            Self::SchemeNotSupported { scheme } => {
                write!(f, "the scheme `{scheme}` is not supported yet; `mqtt` and its other name `tcp` are")
            }
            Self::UnknownScheme { scheme } => write!(f, "unknown scheme `{scheme}`; use `mqtt`"),
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
            Self::UsernameNotUtf8 => f.write_str("the user name is not UTF-8 after percent-decoding"),
            Self::UnencodedCredentials => f.write_str(
                "an `@` stands behind the host; percent-encode `/ ? # @ : %` in user names, passwords and options",
            ),
            Self::PathNotAllowed => f.write_str("a path has no meaning for this scheme"),
            Self::FragmentNotAllowed => f.write_str("a fragment (`#...`) has no meaning in an endpoint"),
            Self::UnknownOption { name } => write!(
                f,
                "unknown option {name:?}; there are client_id, version, keep_alive, clean_start, connect_timeout"
            ),
            Self::RepeatedOption { name } => write!(f, "the option `{name}` stands in the URL twice"),
            Self::BadOptionValue { name, value, expected } => {
                write!(f, "the option `{name}` cannot be {value:?}; it is {expected}")
            }
        }
    }
}

impl std::error::Error for EndpointError {}
