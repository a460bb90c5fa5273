//! Owns hosts, authorities and passwords, and the reading of URLs that all kinds of them share. It must not know what a
//! scheme means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Url;

use crate::error::EndpointError;

/// The host of a server or a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name in ASCII (an international one in its `xn--` form), never empty.
    Domain(String),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
}

impl Host {
    /// The host as a resolver is asked for it and a certificate names it: an IPv6 address without brackets.
    pub fn name(&self) -> String {
        match self {
            Self::Domain(name) => name.clone(),
            Self::Ipv4(address) => address.to_string(),
            Self::Ipv6(address) => address.to_string(),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}

impl fmt::Display for Host {
    /// As in a URL: an IPv6 address stands in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A host and a port, never 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl Authority {
    /// This host at this port.
    pub const fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Of a URL, with the port of those that name none.
    pub(crate) fn of_url(url: &Url, default_port: u16) -> Result<Self, EndpointError> {
        let host = match url.host_str().unwrap_or_default() {
            "" => return Err(EndpointError::MissingHost),
            host => parse_host(host)?,
        };
        match url.port().unwrap_or(default_port) {
            0 => Err(EndpointError::BadPort),
            port => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for Authority {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A password: bytes that neither `Debug` nor anything else prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Keeps `bytes` from being printed.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to be sent.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Reads a URL whatever its scheme is; it stands in the result under another name, so that the URL parser knows nothing
/// special about it (as it would of `ws`: a backslash for a slash).
pub(crate) fn parse_url(text: &str) -> Result<Url, EndpointError> {
    check_characters(text)?;
    let (_, rest) = text.split_once("://").ok_or(EndpointError::NotAUrl)?;
    Url::parse(&format!("mqtt://{rest}")).map_err(|error| match error {
        url::ParseError::EmptyHost => EndpointError::MissingHost,
        url::ParseError::InvalidPort => EndpointError::BadPort,
        _ => EndpointError::BadHost,
    })
}

fn parse_host(host: &str) -> Result<Host, EndpointError> {
    match url::Host::parse(host) {
        Ok(url::Host::Domain(name)) => Ok(Host::Domain(name)),
        Ok(url::Host::Ipv4(address)) => Ok(Host::Ipv4(address)),
        Ok(url::Host::Ipv6(address)) => Ok(Host::Ipv6(address)),
        Err(_) => Err(EndpointError::BadHost),
    }
}

/// Refuses what the URL parser would silently drop (spaces and control characters) or take literally (a lone `%`).
fn check_characters(text: &str) -> Result<(), EndpointError> {
    for (at, byte) in text.bytes().enumerate() {
        if byte <= b' ' || byte == 0x7F {
            return Err(EndpointError::Character { at });
        }
        let mut following = text.bytes().skip(at).skip(1);
        if byte == b'%' && !(0..2).all(|_| following.next().is_some_and(|digit| digit.is_ascii_hexdigit())) {
            return Err(EndpointError::PercentEncoding { at });
        }
    }
    Ok(())
}

/// As much of a text as an error quotes.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}
