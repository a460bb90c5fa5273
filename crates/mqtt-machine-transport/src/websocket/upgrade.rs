//! Owns the upgrade from HTTP to WebSocket (RFC 6455, section 4): the request, and what makes its answer acceptable.
//! It must not know frames.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use tungstenite::handshake::derive_accept_key;

use super::random::Randomness;
use crate::endpoint::{Authority, Version};
use crate::error::ConfigError;
use crate::http::Answer;
use crate::layer::{WebSocketError, quoted};

const DEFAULT_SUBPROTOCOL: &str = "mqtt";

/// The headers that the upgrade itself writes.
const OWN_HEADERS: [&str; 8] = [
    "Host",
    "Upgrade",
    "Connection",
    "Content-Length",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
];

/// An upgrade about to be sent, for a callback to sign: what it adds to the headers, or to the query of the target, is sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// Whether TLS lies below: `wss` rather than `ws`.
    pub secure: bool,
    /// The host, with the port when it is not the scheme's own; sent as `Host`.
    pub host: String,
    /// The path with its query, percent-encoded.
    pub target: String,
    /// The headers beside those of the upgrade itself.
    pub headers: Vec<(String, String)>,
}

impl UpgradeRequest {
    /// The URL, as most ways to sign want it.
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.secure { "wss" } else { "ws" }, self.host, self.target)
    }
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and queries carry tokens and signatures.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("UpgradeRequest")
            .field("secure", &self.secure)
            .field("host", &self.host)
            .field("path", &self.target.split('?').next())
            .field("headers", &names)
            .finish()
    }
}

/// What signs the request of every connect.
pub(super) type Sign = Arc<dyn Fn(&mut UpgradeRequest) -> Result<(), String> + Send + Sync>;

/// How WebSocket is spoken.
#[derive(Clone)]
pub struct WebSocketOptions {
    /// `None`: by the version of MQTT.
    subprotocols: Option<Vec<String>>,
    headers: Vec<(String, String)>,
    sign: Option<Sign>,
    randomness: Randomness,
}

impl WebSocketOptions {
    /// The sub-protocol `mqtt`, or `mqttv3.1` where the URL asks for MQTT 3.1; no headers; masks from the system.
    pub fn new() -> Self {
        Self { subprotocols: None, headers: Vec::new(), sign: None, randomness: Randomness::system() }
    }

    /// With these sub-protocols, the preferred one first: `mqtt`, or `mqttv3.1` for MQTT 3.1. The server must choose one of
    /// them; none asks for none, which some servers want. [MQTT-6.0.0-3]
    #[must_use]
    pub fn subprotocols<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.subprotocols = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The sub-protocol of this version, unless there are others already.
    #[must_use]
    pub(crate) fn for_version(mut self, version: Option<Version>) -> Self {
        let name = if version == Some(Version::V3_1) { "mqttv3.1" } else { DEFAULT_SUBPROTOCOL };
        self.subprotocols.get_or_insert_with(|| vec![name.to_owned()]);
        self
    }

    /// With this header in every request. `Debug` never shows its value.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a callback that changes the request of every connect, to sign it with a token that is fresh then. It may change
    /// the headers and the target. An error of it fails that attempt; the text should hold no secret.
    #[must_use]
    pub fn sign_with(
        mut self,
        sign: impl Fn(&mut UpgradeRequest) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.sign = Some(Arc::new(sign));
        self
    }

    /// With masks and keys from here.
    #[must_use]
    pub fn randomness(mut self, source: Randomness) -> Self {
        self.randomness = source;
        self
    }

    pub(super) const fn source(&self) -> &Randomness {
        &self.randomness
    }
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WebSocketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("WebSocketOptions")
            .field("subprotocols", &self.subprotocols)
            .field("headers", &names)
            .field("signs", &self.sign.is_some())
            .finish_non_exhaustive()
    }
}

/// A request as it is sent, and what its answer must hold.
pub(super) struct Upgrade {
    pub(super) request: BytesMut,
    accept: String,
    subprotocols: Vec<String>,
}

impl Upgrade {
    pub(super) fn new(
        options: &WebSocketOptions,
        server: &Authority,
        target: &str,
        secure: bool,
    ) -> Result<Self, ConfigError> {
        let default_port = if secure { 443 } else { 80 };
        let host = if server.port == default_port { server.host.to_string() } else { server.to_string() };
        let target = target.to_owned();
        let mut request = UpgradeRequest { secure, host, target, headers: options.headers.clone() };
        if let Some(sign) = &options.sign {
            sign(&mut request).map_err(|why| ConfigError::Signing(quoted(&why)))?;
        }
        let subprotocols =
            options.subprotocols.clone().unwrap_or_else(|| vec![DEFAULT_SUBPROTOCOL.to_owned()]);
        check(&request, &subprotocols)?;

        let key: [u8; 16] = options.randomness.draw().map_err(|_| ConfigError::NoRandomness)?;
        let key = STANDARD.encode(key);
        let mut bytes = BytesMut::new();
        let UpgradeRequest { host, target, headers, .. } = request;
        let mut put = |text: &str| bytes.put_slice(text.as_bytes());
        put(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n"));
        put("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        put(&format!("Sec-WebSocket-Key: {key}\r\n"));
        if !subprotocols.is_empty() {
            put(&format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", ")));
        }
        for (name, value) in &headers {
            put(&format!("{name}: {value}\r\n"));
        }
        put("\r\n");
        Ok(Self { request: bytes, accept: derive_accept_key(key.as_bytes()), subprotocols })
    }

    /// Whether this answer makes the connection a WebSocket.
    pub(super) fn accepts(&self, answer: Answer) -> Result<(), WebSocketError> {
        let bad = |header| Err(WebSocketError::BadUpgrade { header });
        if answer.status != 101 {
            return Err(WebSocketError::Refused { status: answer.status, reason: answer.reason });
        }
        if !answer.is_1_1 {
            return Err(WebSocketError::NotHttp);
        }
        if !answer.has_word("Upgrade", "websocket") {
            return bad("Upgrade");
        }
        if !answer.has_word("Connection", "upgrade") {
            return bad("Connection");
        }
        if !answer.values("Sec-WebSocket-Accept").eq([self.accept.as_str()]) {
            return bad("Sec-WebSocket-Accept");
        }
        if answer.values("Sec-WebSocket-Extensions").any(|value| !value.is_empty()) {
            return bad("Sec-WebSocket-Extensions");
        }
        let mut chosen = answer.values("Sec-WebSocket-Protocol");
        match (chosen.next(), chosen.next()) {
            (None, _) if self.subprotocols.is_empty() => Ok(()),
            (None, _) => Err(WebSocketError::NoSubprotocol),
            (Some(one), None) if self.subprotocols.iter().any(|name| name == one) => Ok(()),
            (Some(one), _) => Err(WebSocketError::WrongSubprotocol(quoted(one))),
        }
    }
}

/// Nothing of a request may end its line before its time, or stand for what the upgrade writes itself.
fn check(request: &UpgradeRequest, subprotocols: &[String]) -> Result<(), ConfigError> {
    let is_token = |text: &str| {
        let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(of_token)
    };
    for (name, value) in &request.headers {
        let is_own = OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name));
        let is_value = value.chars().all(|c| c == '\t' || !c.is_control());
        if !is_token(name) || is_own || !is_value {
            return Err(ConfigError::Header { name: quoted(name) });
        }
    }
    if !request.target.starts_with('/') || !request.target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::Target);
    }
    if request.host.is_empty() || !request.host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::Target);
    }
    match subprotocols.iter().find(|name| !is_token(name)) {
        Some(name) => Err(ConfigError::Subprotocol { name: quoted(name) }),
        None => Ok(()),
    }
}
