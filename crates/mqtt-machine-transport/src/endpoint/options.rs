//! Owns the options in the query of an endpoint URL. It must not know what an option does to a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Scheme;
use super::host::excerpt;
use crate::error::EndpointError;

/// The version of the protocol that a URL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// `version=3.1`
    V3_1,
    /// `version=3.1.1`
    V3_1_1,
    /// `version=5`
    V5,
}

impl Version {
    const fn name(self) -> &'static str {
        match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "5" | "5.0" => Some(Self::V5),
            "3.1.1" => Some(Self::V3_1_1),
            "3.1" => Some(Self::V3_1),
            _ => None,
        }
    }
}

/// When a URL asks for a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CleanStart {
    /// `clean_start=always`: at every connect.
    Always,
    /// `clean_start=never`: what the server kept is resumed.
    Never,
    /// `clean_start=first`: at the first connect of this client, not when it reconnects.
    First,
}

impl CleanStart {
    const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::First => "first",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Always, Self::Never, Self::First].into_iter().find(|when| when.name() == name)
    }
}

/// The options in the query of an endpoint URL; `None` where the URL does not say.
///
/// The values are well formed, but MQTT's own rules (how long a client identifier may be) are not checked here, and no file
/// is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointOptions {
    /// `client_id`: the client identifier, percent-decoded.
    pub client_id: Option<String>,
    /// `version`: `5` (or `5.0`), `3.1.1` or `3.1`.
    pub version: Option<Version>,
    /// `keep_alive`: the keep alive in seconds, 0 to 65,535; 0 turns it off.
    pub keep_alive_seconds: Option<u16>,
    /// `clean_start`: `always`, `never` or `first`.
    pub clean_start: Option<CleanStart>,
    /// `connect_timeout`: how long one attempt to connect may take in seconds, 1 to 65,535.
    pub connect_timeout_seconds: Option<NonZeroU16>,
    /// `ca_file`: the PEM file of the only roots that are trusted. Schemes with TLS only.
    pub ca_file: Option<PathBuf>,
    /// `cert_file`: the PEM file of the client certificate and its chain. Schemes with TLS only.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: the PEM file of the client certificate's key. Schemes with TLS only.
    pub key_file: Option<PathBuf>,
    /// `server_name`: the name that TLS asks for and checks instead of the host. Schemes with TLS only.
    pub server_name: Option<String>,
    /// `alpn`: the protocols that TLS offers, separated by commas. Schemes with TLS only.
    pub alpn: Option<Vec<String>>,
    /// `nameserver`: the address of the DNS server to ask, port 53 unless said. Schemes with `+srv` only.
    pub nameserver: Option<SocketAddr>,
}

/// The names of all options, for those who misspelt one.
pub(crate) const NAMES: &str = "client_id, version, keep_alive, clean_start, connect_timeout, ca_file, cert_file, \
                                key_file, server_name, alpn, nameserver";

impl EndpointOptions {
    /// Reads a query. A `+` is a plus: only percent-encoding is decoded.
    pub(super) fn parse(query: &str, scheme: Scheme) -> Result<Self, EndpointError> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            options.set(&name, value)?;
        }
        let refuse = |has: bool, name: &'static str| {
            if has { Err(EndpointError::OptionNotForScheme { name, scheme: scheme.name() }) } else { Ok(()) }
        };
        if !scheme.is_secure() {
            refuse(options.ca_file.is_some(), "ca_file")?;
            refuse(options.cert_file.is_some(), "cert_file")?;
            refuse(options.key_file.is_some(), "key_file")?;
            refuse(options.server_name.is_some(), "server_name")?;
            refuse(options.alpn.is_some(), "alpn")?;
        }
        if let (Some(key), None) = (&options.key_file, &options.cert_file) {
            let (value, expected) = (excerpt(&key.to_string_lossy()), "given together with cert_file");
            return Err(EndpointError::BadOptionValue { name: "key_file", value, expected });
        }
        if !scheme.is_service() {
            refuse(options.nameserver.is_some(), "nameserver")?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), EndpointError> {
        const KEEP_ALIVE: &str = "a number of seconds from 0 to 65535";
        const CONNECT_TIMEOUT: &str = "a number of seconds from 1 to 65535";
        const PATH: &str = "the path of a file";
        let set_path = |slot, name| set_once(slot, name, value, PATH, |text| some(text).map(PathBuf::from));
        match name {
            "client_id" => {
                set_once(&mut self.client_id, "client_id", value, "UTF-8 text", |text| Some(text.to_owned()))
            }
            "version" => set_once(&mut self.version, "version", value, "5, 3.1.1 or 3.1", Version::from_name),
            "keep_alive" => set_once(&mut self.keep_alive_seconds, "keep_alive", value, KEEP_ALIVE, number),
            "clean_start" => {
                let expected = "always, never or first";
                set_once(&mut self.clean_start, "clean_start", value, expected, CleanStart::from_name)
            }
            "connect_timeout" => {
                set_once(&mut self.connect_timeout_seconds, "connect_timeout", value, CONNECT_TIMEOUT, number)
            }
            "ca_file" => set_path(&mut self.ca_file, "ca_file"),
            "cert_file" => set_path(&mut self.cert_file, "cert_file"),
            "key_file" => set_path(&mut self.key_file, "key_file"),
            "server_name" => {
                let expected = "a domain name or an address";
                let parse = |text: &str| some(text).map(str::to_owned);
                set_once(&mut self.server_name, "server_name", value, expected, parse)
            }
            "alpn" => set_once(
                &mut self.alpn,
                "alpn",
                value,
                "names of 1 to 255 bytes, separated by commas",
                protocols,
            ),
            "nameserver" => {
                let expected = "an IP address, with or without a port";
                set_once(&mut self.nameserver, "nameserver", value, expected, nameserver)
            }
            _ => Err(EndpointError::UnknownOption { name: excerpt(name) }),
        }
    }

    /// The options as name and value, in a fixed order.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| encoded(&path.to_string_lossy()));
        [
            ("client_id", self.client_id.as_deref().map(encoded)),
            ("version", self.version.map(|version| version.name().to_owned())),
            ("keep_alive", self.keep_alive_seconds.map(|seconds| seconds.to_string())),
            ("clean_start", self.clean_start.map(|when| when.name().to_owned())),
            ("connect_timeout", self.connect_timeout_seconds.map(|seconds| seconds.to_string())),
            ("ca_file", path(&self.ca_file)),
            ("cert_file", path(&self.cert_file)),
            ("key_file", path(&self.key_file)),
            ("server_name", self.server_name.as_deref().map(encoded)),
            ("alpn", self.alpn.as_ref().map(|names| encoded(&names.join(",")))),
            ("nameserver", self.nameserver.map(|address| address.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

impl fmt::Display for EndpointOptions {
    /// As the query of a URL with its question mark; nothing when there is no option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = '?';
        for (name, value) in self.pairs() {
            write!(f, "{separator}{name}={value}")?;
            separator = '&';
        }
        Ok(())
    }
}

/// Sets an option that may stand only once to its decoded and parsed value.
fn set_once<T>(
    slot: &mut Option<T>,
    name: &'static str,
    value: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<(), EndpointError> {
    if slot.is_some() {
        return Err(EndpointError::RepeatedOption { name });
    }
    let decoded = percent_decode_str(value).decode_utf8();
    *slot = decoded.ok().and_then(|text| parse(&text));
    if slot.is_none() {
        let value = excerpt(&percent_decode_str(value).decode_utf8_lossy());
        return Err(EndpointError::BadOptionValue { name, value, expected });
    }
    Ok(())
}

/// A number in plain digits; Rust's own parser also takes a leading `+`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn protocols(text: &str) -> Option<Vec<String>> {
    let fits = |name: &str| (1..=255).contains(&name.len());
    text.split(',').map(|name| fits(name).then(|| name.to_owned())).collect()
}

fn nameserver(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)))
}
