//! Owns proxies: their URLs, and the layers that ask them for a way to the server. It must not know what goes through.

mod http_connect;
mod socks5;

pub use http_connect::HttpConnect;
pub use socks5::Socks5;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::endpoint::{Authority, Host, Password, excerpt, parse_url};
use crate::error::ProxyUrlError;
use crate::layer::Layer;

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyScheme {
    /// `http://`: HTTP CONNECT, port 8080 unless said; the proxy resolves the server's name.
    Http,
    /// `socks5://`: SOCKS5, port 1080 unless said; the server's name is resolved here.
    Socks5,
    /// `socks5h://`: as `socks5`, but the proxy resolves the server's name.
    Socks5RemoteDns,
}

impl ProxyScheme {
    /// Its name in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Socks5RemoteDns => "socks5h",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Socks5 | Self::Socks5RemoteDns => 1080,
        }
    }
}

/// A proxy in front of the server.
///
/// ```
/// use mqtt_machine_transport::{Proxy, ProxyScheme};
///
/// let proxy = Proxy::parse("socks5h://me:secret@proxy.example")?;
/// assert_eq!(proxy.scheme, ProxyScheme::Socks5RemoteDns);
/// assert_eq!(proxy.authority.to_string(), "proxy.example:1080");
/// assert_eq!(proxy.to_string(), "socks5h://proxy.example:1080");
/// # Ok::<(), mqtt_machine_transport::ProxyUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxy {
    /// How it is spoken to.
    pub scheme: ProxyScheme,
    /// Where it is.
    pub authority: Authority,
    /// The user name, percent-decoded. For SOCKS5, 255 bytes at most.
    pub username: Option<String>,
    /// The password, percent-decoded. For SOCKS5, 255 bytes at most.
    pub password: Option<Password>,
}

impl Proxy {
    /// Reads `http://`, `socks5://` or `socks5h://` with `[user[:password]@]host[:port]`.
    ///
    /// # Errors
    /// A [`ProxyUrlError`], which never holds credentials.
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        let (name, _) = text.split_once("://").ok_or(ProxyUrlError::NotAUrl)?;
        let scheme = match name.to_ascii_lowercase().as_str() {
            "http" => ProxyScheme::Http,
            "socks5" => ProxyScheme::Socks5,
            "socks5h" => ProxyScheme::Socks5RemoteDns,
            // What stands before `://` could be part of a password that was put there wrongly.
            other if other.contains(['@', ':']) => return Err(ProxyUrlError::NotAUrl),
            other => return Err(ProxyUrlError::UnknownScheme { scheme: excerpt(other) }),
        };
        let url = parse_url(text).map_err(ProxyUrlError::Url)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::OnlyAHost);
        }
        let authority = Authority::of_url(&url, scheme.default_port()).map_err(ProxyUrlError::Url)?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let username = decode(url.username()).map_err(|_| ProxyUrlError::UsernameNotUtf8)?;
        let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
        let is_socks = scheme != ProxyScheme::Http;
        if is_socks && (username.len() > 255 || password.len() > 255) {
            return Err(ProxyUrlError::CredentialsTooLong);
        }
        // The end of a name is a colon in HTTP's basic authentication.
        if !is_socks && username.contains(':') {
            return Err(ProxyUrlError::ColonInUsername);
        }
        Ok(Self {
            scheme,
            authority,
            username: (!username.is_empty()).then_some(username),
            password: (!password.is_empty()).then(|| Password::new(password)),
        })
    }

    /// Whether the server's name has to be resolved before this proxy is asked for it.
    pub fn wants_address(&self) -> bool {
        self.scheme == ProxyScheme::Socks5
    }

    /// The layer that asks this proxy for a way to `server`.
    pub(crate) fn layer(&self, server: &Authority) -> Box<dyn Layer> {
        match self.scheme {
            ProxyScheme::Http => Box::new(HttpConnect::new(self, server)),
            ProxyScheme::Socks5 | ProxyScheme::Socks5RemoteDns => Box::new(Socks5::new(self, server)),
        }
    }

    fn has_credentials(&self) -> bool {
        self.username.is_some() || self.password.is_some()
    }

    fn username_bytes(&self) -> &[u8] {
        self.username.as_deref().unwrap_or_default().as_bytes()
    }

    fn password_bytes(&self) -> &[u8] {
        self.password.as_ref().map(Password::as_bytes).unwrap_or_default()
    }
}

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for Proxy {
    /// The URL without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("scheme", &self.scheme)
            .field("authority", &self.authority)
            .field("username", &self.username.is_some())
            .field("password", &self.password.is_some())
            .finish()
    }
}

/// The domain name of a host, if it is one.
fn domain(host: &Host) -> Option<&str> {
    match host {
        Host::Domain(name) => Some(name),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EndpointError;

    #[test]
    fn urls_give_scheme_place_and_credentials() {
        let proxy = Proxy::parse("HTTP://us%20er:p%40ss@[::1]:3128/").unwrap();
        assert_eq!((proxy.scheme, proxy.authority.port), (ProxyScheme::Http, 3128));
        assert_eq!(proxy.username.as_deref(), Some("us er"));
        assert_eq!(proxy.password, Some(Password::new(*b"p@ss")));
        assert!(!proxy.wants_address());
        let plain = Proxy::parse("http://proxy").unwrap();
        assert_eq!((plain.authority.port, plain.has_credentials()), (8080, false));
        assert!(Proxy::parse("socks5://proxy").unwrap().wants_address());
    }

    #[test]
    fn mistakes_are_told_without_credentials() {
        use ProxyUrlError as E;
        let long = "h".repeat(256);
        for (text, expected) in [
            ("proxy:1080", E::NotAUrl),
            ("hush:hush@x://y", E::NotAUrl),
            ("https://hush@proxy", E::UnknownScheme { scheme: "https".into() }),
            ("socks5://hush:hush@", E::Url(EndpointError::MissingHost)),
            ("socks5://hush:hush@proxy:0", E::Url(EndpointError::BadPort)),
            ("socks5://hush:hush@proxy/hush", E::OnlyAHost),
            ("socks5://hush:hush@proxy?hush", E::OnlyAHost),
            (&format!("socks5://hush:{long}@proxy"), E::CredentialsTooLong),
            ("http://hu%3Ash:hush@proxy", E::ColonInUsername),
            ("http://%FF:hush@proxy", E::UsernameNotUtf8),
        ] {
            let error = Proxy::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{text}: {error}");
        }
        let proxy = Proxy::parse("http://hush:hush@proxy").unwrap();
        assert!(!format!("{proxy} {proxy:?}").contains("hush"));
    }
}
