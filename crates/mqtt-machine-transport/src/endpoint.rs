//! Owns endpoint URLs: which server, with which credentials and which options. It must not know how a name is
//! resolved, nor what an option does to a connection.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::error::EndpointError;

/// How an endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `mqtt` (or `tcp`): MQTT over plain TCP, port 1883.
    Mqtt,
}

impl Scheme {
    /// Its name in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
        }
    }

    /// The port of a URL that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
        }
    }

    fn from_name(name: &str) -> Result<Self, EndpointError> {
        const NOT_YET: [&str; 6] = ["mqtts", "ws", "wss", "unix", "mqtt+srv", "mqtts+srv"];
        match name {
            "mqtt" | "tcp" => Ok(Self::Mqtt),
            _ => Err(match NOT_YET.into_iter().find(|known| *known == name) {
                Some(scheme) => EndpointError::SchemeNotSupported { scheme },
                None => EndpointError::UnknownScheme { scheme: excerpt(name) },
            }),
        }
    }
}

/// The host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name in ASCII (an international one in its `xn--` form), never empty.
    Domain(String),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
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
}

/// The options in the query of an endpoint URL; `None` where the URL does not say.
///
/// The values are well formed, but MQTT's own rules (how long a client identifier may be) are not checked here.
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
}

impl EndpointOptions {
    /// Reads a query. A `+` is a plus: only percent-encoding is decoded.
    fn parse(query: &str) -> Result<Self, EndpointError> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            options.set(&name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), EndpointError> {
        match name {
            "client_id" => {
                let parse = |text: &str| Some(text.to_owned());
                set_once(&mut self.client_id, "client_id", value, "UTF-8 text", parse)
            }
            "version" => {
                set_once(&mut self.version, "version", value, "5, 3.1.1 or 3.1", |text| match text {
                    "5" | "5.0" => Some(Version::V5),
                    "3.1.1" => Some(Version::V3_1_1),
                    "3.1" => Some(Version::V3_1),
                    _ => None,
                })
            }
            "keep_alive" => {
                let expected = "a number of seconds from 0 to 65535";
                set_once(&mut self.keep_alive_seconds, "keep_alive", value, expected, number)
            }
            "clean_start" => {
                let expected = "always, never or first";
                set_once(&mut self.clean_start, "clean_start", value, expected, |text| match text {
                    "always" => Some(CleanStart::Always),
                    "never" => Some(CleanStart::Never),
                    "first" => Some(CleanStart::First),
                    _ => None,
                })
            }
            "connect_timeout" => {
                let expected = "a number of seconds from 1 to 65535";
                set_once(&mut self.connect_timeout_seconds, "connect_timeout", value, expected, number)
            }
            _ => Err(EndpointError::UnknownOption { name: excerpt(name) }),
        }
    }

    /// The options as name and value, in a fixed order.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let encoded = |id: &String| utf8_percent_encode(id, NON_ALPHANUMERIC).to_string();
        [
            ("client_id", self.client_id.as_ref().map(encoded)),
            ("version", self.version.map(|version| version.name().to_owned())),
            ("keep_alive", self.keep_alive_seconds.map(|seconds| seconds.to_string())),
            ("clean_start", self.clean_start.map(|when| when.name().to_owned())),
            ("connect_timeout", self.connect_timeout_seconds.map(|seconds| seconds.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A server, with the credentials and options that its URL carries.
///
/// ```
/// use mqtt_machine_transport::{Endpoint, Host, Version};
///
/// let endpoint = Endpoint::parse("mqtt://me:p%40ss@broker.example?version=3.1.1&keep_alive=30")?;
/// assert_eq!(endpoint.host, Host::Domain("broker.example".to_owned()));
/// assert_eq!(endpoint.port, 1883);
/// assert_eq!(endpoint.username.as_deref(), Some("me"));
/// assert_eq!(endpoint.password.as_ref().map(|password| password.as_bytes()), Some(&b"p@ss"[..]));
/// assert_eq!(endpoint.options.version, Some(Version::V3_1_1));
/// assert_eq!(endpoint.options.keep_alive_seconds, Some(30));
/// assert_eq!(endpoint.to_string(), "mqtt://broker.example:1883?version=3.1.1&keep_alive=30");
/// # Ok::<(), mqtt_machine_transport::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// How it is reached.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
    /// The port, the scheme's default when the URL names none; never 0.
    pub port: u16,
    /// The user name, percent-decoded; an empty one counts as none.
    pub username: Option<String>,
    /// The password, percent-decoded; an empty one counts as none.
    pub password: Option<Password>,
    /// What the query says.
    pub options: EndpointOptions,
}

impl Endpoint {
    /// Reads `scheme://[user[:password]@]host[:port][?option=value&...]`.
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
        let behind_host = rest.find(['/', '?', '#']).and_then(|end| rest.get(end..)).unwrap_or_default();
        Self::parse_with_scheme(scheme, text).map_err(|error| {
            if behind_host.contains('@') { EndpointError::UnencodedCredentials } else { error }
        })
    }

    fn parse_with_scheme(scheme: Scheme, text: &str) -> Result<Self, EndpointError> {
        check_characters(text)?;
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => EndpointError::MissingHost,
            url::ParseError::InvalidPort => EndpointError::BadPort,
            _ => EndpointError::BadHost,
        })?;
        let host = match url.host_str().unwrap_or_default() {
            "" => return Err(EndpointError::MissingHost),
            host => parse_host(host)?,
        };
        let port = url.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(EndpointError::BadPort);
        }
        let username = percent_decode_str(url.username())
            .decode_utf8()
            .map_err(|_| EndpointError::UsernameNotUtf8)?
            .into_owned();
        let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
        if !matches!(url.path(), "" | "/") {
            return Err(EndpointError::PathNotAllowed);
        }
        if url.fragment().is_some() {
            return Err(EndpointError::FragmentNotAllowed);
        }
        Ok(Self {
            scheme,
            host,
            port,
            username: (!username.is_empty()).then_some(username),
            password: (!password.is_empty()).then(|| Password::new(password)),
            options: EndpointOptions::parse(url.query().unwrap_or_default())?,
        })
    }

    /// The host alone, an IPv6 address without brackets: what a resolver is asked and a certificate is for.
    pub fn server_name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// `host:port`, an IPv6 address in brackets; without credentials.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    /// The URL without credentials, with the port and the options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)?;
        let mut separator = '?';
        for (name, value) in self.options.pairs() {
            write!(f, "{separator}{name}={value}")?;
            separator = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("username", &self.username.is_some())
            .field("password", &self.password.is_some())
            .field("options", &self.options)
            .finish()
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

/// The URL parser leaves the hosts of schemes that it does not know as they are; this reads them like those of the web.
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

fn is_scheme(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// As much of a text as an error quotes.
fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> EndpointError {
        Endpoint::parse(text).unwrap_err()
    }

    #[test]
    fn a_full_url_gives_every_part() {
        let endpoint = Endpoint::parse(
            "MQTT://us%C3%A9r:p%00%FF%3A@Broker.Example:11883/?client_id=a%26b+c%20d&version=5&keep_alive=0\
             &clean_start=first&connect_timeout=7",
        )
        .unwrap();
        assert_eq!(endpoint.scheme, Scheme::Mqtt);
        assert_eq!(endpoint.host, Host::Domain("broker.example".to_owned()));
        assert_eq!(endpoint.port, 11883);
        assert_eq!(endpoint.username.as_deref(), Some("usér"));
        assert_eq!(endpoint.password, Some(Password::new(*b"p\0\xFF:")));
        assert_eq!(endpoint.options.client_id.as_deref(), Some("a&b+c d"));
        assert_eq!(endpoint.options.version, Some(Version::V5));
        assert_eq!(endpoint.options.keep_alive_seconds, Some(0));
        assert_eq!(endpoint.options.clean_start, Some(CleanStart::First));
        assert_eq!(endpoint.options.connect_timeout_seconds, NonZeroU16::new(7));
    }

    #[test]
    fn hosts_are_names_or_addresses_and_the_port_is_1883_unless_said() {
        for (text, host, authority, name) in [
            ("mqtt://localhost", Host::Domain("localhost".into()), "localhost:1883", "localhost"),
            ("tcp://127.0.0.1:1", Host::Ipv4(Ipv4Addr::LOCALHOST), "127.0.0.1:1", "127.0.0.1"),
            ("mqtt://[::1]", Host::Ipv6(Ipv6Addr::LOCALHOST), "[::1]:1883", "::1"),
            ("mqtt://[::1]:65535", Host::Ipv6(Ipv6Addr::LOCALHOST), "[::1]:65535", "::1"),
            ("mqtt://my_broker:1883", Host::Domain("my_broker".into()), "my_broker:1883", "my_broker"),
            (
                "mqtt://bücher.example",
                Host::Domain("xn--bcher-kva.example".into()),
                "xn--bcher-kva.example:1883",
                "xn--bcher-kva.example",
            ),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.host, host, "{text}");
            assert_eq!(endpoint.authority(), authority, "{text}");
            assert_eq!(endpoint.server_name(), name, "{text}");
            assert_eq!(endpoint.options, EndpointOptions::default(), "{text}");
        }
    }

    #[test]
    fn a_password_may_come_without_a_user_name_and_empty_ones_are_none() {
        let alone = Endpoint::parse("mqtt://:secret@host").unwrap();
        assert_eq!((alone.username, alone.password), (None, Some(Password::new(*b"secret"))));
        for text in ["mqtt://@host", "mqtt://:@host"] {
            let neither = Endpoint::parse(text).unwrap();
            assert_eq!((neither.username, neither.password), (None, None), "{text}");
        }
        let user = Endpoint::parse("mqtt://user:@host").unwrap();
        assert_eq!((user.username.as_deref(), user.password), (Some("user"), None));
        let at = Endpoint::parse("mqtt://a@b:c@d@host").unwrap();
        assert_eq!((at.username.as_deref(), at.password), (Some("a@b"), Some(Password::new(*b"c@d"))));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use EndpointError as E;
        for (text, expected) in [
            ("", E::NotAUrl),
            ("host:1883", E::NotAUrl),
            ("mqtt:host", E::NotAUrl),
            ("://host", E::NotAUrl),
            ("http://host", E::UnknownScheme { scheme: "http".into() }),
            ("mqtts://host", E::SchemeNotSupported { scheme: "mqtts" }),
            ("MQTT+SRV://host", E::SchemeNotSupported { scheme: "mqtt+srv" }),
            ("mqtt://", E::MissingHost),
            ("mqtt:///", E::MissingHost),
            ("mqtt://?version=5", E::MissingHost),
            ("mqtt://:1883", E::MissingHost),
            ("mqtt://user:pass@", E::MissingHost),
            ("mqtt://user@:1883", E::MissingHost),
            ("mqtt://::1", E::MissingHost),
            ("mqtt://[::1", E::BadHost),
            ("mqtt://[nonsense]", E::BadHost),
            ("mqtt://[fe80::1%25eth0]", E::BadHost),
            ("mqtt://ho^st", E::BadHost),
            ("mqtt://999.1.1.1", E::BadHost),
            ("mqtt://host%00", E::BadHost),
            ("mqtt://host:0", E::BadPort),
            ("mqtt://host:65536", E::BadPort),
            ("mqtt://host:mqtt", E::BadPort),
            ("mqtt://host:-1", E::BadPort),
            ("mqtt://host/path", E::PathNotAllowed),
            ("mqtt://host#", E::FragmentNotAllowed),
            ("mqtt://host?version=5#x", E::FragmentNotAllowed),
            ("mqtt://ho st", E::Character { at: 9 }),
            ("mqtt://host\n", E::Character { at: 11 }),
            ("mqtt://50%off@host", E::PercentEncoding { at: 9 }),
            ("mqtt://host?client_id=%f", E::PercentEncoding { at: 22 }),
            ("mqtt://%FF@host", E::UsernameNotUtf8),
            ("mqtt://host?qos=1", E::UnknownOption { name: "qos".into() }),
            ("mqtt://host?Version=5", E::UnknownOption { name: "Version".into() }),
            ("mqtt://host?version=5&version=5", E::RepeatedOption { name: "version" }),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_told_with_its_option_and_what_it_could_be() {
        for (query, name, value) in [
            ("version=4", "version", "4"),
            ("version", "version", ""),
            ("keep_alive=65536", "keep_alive", "65536"),
            ("keep_alive=%2B5", "keep_alive", "+5"),
            ("keep_alive=", "keep_alive", ""),
            ("clean_start=true", "clean_start", "true"),
            ("connect_timeout=0", "connect_timeout", "0"),
            ("client_id=%FF", "client_id", "\u{FFFD}"),
        ] {
            let error = error(&format!("mqtt://host?{query}"));
            let EndpointError::BadOptionValue { name: told, value: quoted, expected } = &error else {
                panic!("{query}: {error:?}");
            };
            assert_eq!((*told, quoted.as_str()), (name, value), "{query}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(expected), "{text}");
        }
        let long = error(&format!("mqtt://host?version={}", "9".repeat(10_000)));
        assert!(long.to_string().len() < 200, "an error quotes only the start of a long value");
    }

    #[test]
    fn nothing_that_is_printed_holds_credentials() {
        let endpoint = Endpoint::parse("mqtt://hush:hush@host?client_id=me").unwrap();
        for text in
            [format!("{endpoint}"), format!("{endpoint:?}"), format!("{endpoint:#?}"), endpoint.authority()]
        {
            assert!(!text.contains("hush"), "{text}");
        }
        for text in [
            "hush:hush@host",
            "hush@host",
            "mqtts://hush:hush@host",
            "nothing://hush:hush@host",
            "mqtt://hush:hush@",
            "mqtt://hush:hush@[x]",
            "mqtt://hush:hush@host:port",
            "mqtt://hush:hush@host/path",
            "mqtt://hush:hush@host#x",
            "mqtt://hush:hush@host?x",
            "mqtt://hush:hush@host?version=2",
            "mqtt://hush:hu sh@host",
            "mqtt://hush:hush%@host",
            // Passwords with characters that end the authority of a URL.
            "mqtt://me:hush/hush@host",
            "mqtt://me:1?hush@host",
            "mqtt://me:1?version=hush@host",
            "mqtt://me:1#hush@host",
            "mqtt://me:1/hush@host",
            "mqtt://me:x@y?hush@host",
        ] {
            let error = error(text);
            assert!(!format!("{error} {error:?}").contains("hush"), "{text}: {error}");
        }
        assert_eq!(error("mqtt://me:1?2@host"), EndpointError::UnencodedCredentials);
    }

    #[test]
    fn an_at_sign_in_an_option_is_no_mistake() {
        let endpoint = Endpoint::parse("mqtt://host?client_id=me@home").unwrap();
        assert_eq!(endpoint.options.client_id.as_deref(), Some("me@home"));
    }
}
