//! Owns why a layer failed, in terms that a program can match on. It must not hold credentials, keys or payload.

use std::fmt;

/// Why the way to the server ended before, or other than by, a proper close.
///
/// No variant, and no text of one, ever holds a password, a key or payload; what a peer said is quoted only in part and
/// without control characters. All variants exist whatever features are compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerError {
    /// The TLS handshake or a TLS record failed.
    Tls(TlsError),
    /// The WebSocket upgrade or a frame failed.
    WebSocket(WebSocketError),
    /// The HTTP proxy did not open the tunnel.
    HttpProxy(HttpProxyError),
    /// The SOCKS5 proxy did not open the connection.
    Socks5(Socks5Error),
    /// The bytes below ended where this layer was not at its end: a cut connection, or a peer that does not say goodbye
    /// (`close_notify`, a close frame). Before MQTT's DISCONNECT that is a fault, after it a habit of many servers.
    Truncated(LayerKind),
    /// A layer that did not come from here, in its own words.
    Custom(String),
}

impl LayerError {
    /// Whether another attempt fails in the same way unless somebody changes something: a certificate, credentials, the
    /// port of another protocol. A cut connection, or a server that is busy, is not.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Tls(error) => {
                !matches!(error, TlsError::Alert(_) | TlsError::Misbehaved(_) | TlsError::Other(_))
            }
            Self::WebSocket(error) => match error {
                WebSocketError::Refused { status, .. } => is_client_error(*status),
                WebSocketError::NotHttp
                | WebSocketError::BadUpgrade { .. }
                | WebSocketError::NoSubprotocol
                | WebSocketError::WrongSubprotocol(_) => true,
                _ => false,
            },
            Self::HttpProxy(error) => match error {
                HttpProxyError::Refused { status, .. } => is_client_error(*status),
                HttpProxyError::AuthenticationRequired | HttpProxyError::NotHttp => true,
                HttpProxyError::HeadTooLong => false,
            },
            Self::Socks5(error) => match error {
                Socks5Error::NotSocks5
                | Socks5Error::NoAcceptableMethod
                | Socks5Error::BadCredentials
                | Socks5Error::UnofferedMethod(_) => true,
                // Not allowed by the rule set.
                Socks5Error::Refused(reply) => reply.0 == 2,
                Socks5Error::Malformed => false,
            },
            Self::Truncated(_) | Self::Custom(_) => false,
        }
    }
}

/// Whether an HTTP status blames the request, and not only for now: 408 and 429 pass.
const fn is_client_error(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 429)
}

/// Which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerKind {
    /// HTTP CONNECT.
    HttpProxy,
    /// SOCKS5.
    Socks5,
    /// TLS.
    Tls,
    /// WebSocket.
    WebSocket,
    /// One that did not come from here.
    Custom(&'static str),
}

/// Which check of TLS failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// No trusted root has issued the server's certificate.
    UnknownIssuer,
    /// The server's certificate, or one above it, has expired.
    Expired,
    /// The server's certificate, or one above it, is not valid yet; or the clock here is wrong.
    NotYetValid,
    /// The server's certificate is for other names.
    WrongName {
        /// The name that it should be for.
        expected: String,
        /// The names that it is for, at most eight of them.
        presented: Vec<String>,
    },
    /// The server's certificate was revoked.
    Revoked,
    /// The server's certificate is not meant for a server.
    WrongPurpose,
    /// A signature on the server's certificate or handshake is wrong, or made with an algorithm that is not accepted.
    BadSignature,
    /// The server's certificate fails another check, told in words.
    BadCertificate(String),
    /// The server wants a client certificate and got none.
    ClientCertificateRequired,
    /// The server did not accept the client certificate.
    ClientCertificateRejected {
        /// Its alert.
        alert: TlsAlert,
    },
    /// Both sides have no version or cipher suite in common, told in words.
    Incompatible(String),
    /// The server speaks none of the protocols that ALPN offered.
    NoApplicationProtocol,
    /// What the server sent is not TLS: most likely the port of another protocol.
    NotTls,
    /// The server ended the connection with an alert.
    Alert(TlsAlert),
    /// The server broke the rules of TLS, told in words.
    Misbehaved(String),
    /// Anything else, told in words.
    Other(String),
}

/// An alert of TLS: its number, printed by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsAlert(pub u8);

impl TlsAlert {
    /// Its name in RFC 8446, section 6.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "unknown alert",
        }
    }
}

/// Why WebSocket failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The server answered the upgrade with another status than 101.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// The answer is no HTTP/1.1 response: most likely the port of another protocol.
    NotHttp,
    /// The head of the answer is longer than is accepted.
    HeadTooLong,
    /// The answer has status 101 but not what an upgrade needs.
    BadUpgrade {
        /// The header that is missing or wrong.
        header: &'static str,
    },
    /// The server chose no sub-protocol. [MQTT-6.0.0-4]
    NoSubprotocol,
    /// The server chose a sub-protocol that was not offered.
    WrongSubprotocol(String),
    /// A text frame: MQTT travels in binary frames only. [MQTT-6.0.0-1]
    TextFrame,
    /// A frame breaks a rule of RFC 6455, told in words.
    Protocol(&'static str),
    /// The server closed with another code than 1000 (normal) and 1001 (going away).
    Closed {
        /// The close code of RFC 6455, section 7.4.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The source of randomness failed: nothing can be masked.
    NoRandomness,
}

/// Why an HTTP proxy did not open a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpProxyError {
    /// It wants other credentials than it got (407).
    AuthenticationRequired,
    /// It answered with a status that is no success.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// The answer is no HTTP/1.x response.
    NotHttp,
    /// The head of the answer is longer than is accepted.
    HeadTooLong,
}

/// Why a SOCKS5 proxy did not open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Socks5Error {
    /// The answer is not SOCKS version 5.
    NotSocks5,
    /// It accepts none of the ways to authenticate that were offered.
    NoAcceptableMethod,
    /// It did not accept the user name and password.
    BadCredentials,
    /// It chose a way to authenticate that was not offered.
    UnofferedMethod(u8),
    /// It could not, or would not, connect.
    Refused(Socks5Reply),
    /// Its answer breaks RFC 1928.
    Malformed,
}

/// The reply of a SOCKS5 proxy: its number, printed in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socks5Reply(pub u8);

impl Socks5Reply {
    /// Its meaning in RFC 1928, section 6.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "succeeded",
            1 => "general failure",
            2 => "connection not allowed by the ruleset",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "command not supported",
            8 => "address type not supported",
            _ => "unknown reply",
        }
    }
}

impl LayerKind {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpProxy => "HTTP proxy",
            Self::Socks5 => "SOCKS5 proxy",
            Self::Tls => "TLS",
            Self::WebSocket => "WebSocket",
            Self::Custom(name) => name,
        }
    }
}

/// What a peer said, fit to be shown: at most 64 characters of it, and no control characters.
#[cfg(any(feature = "tls", feature = "websocket", feature = "proxy"))]
pub(crate) fn quoted(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for Socks5Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::WebSocket(error) => write!(f, "WebSocket: {error}"),
            Self::HttpProxy(error) => write!(f, "HTTP proxy: {error}"),
            Self::Socks5(error) => write!(f, "SOCKS5 proxy: {error}"),
            Self::Truncated(kind) => write!(f, "{kind}: the connection was cut off"),
            Self::Custom(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str("the server's certificate has no trusted issuer"),
            Self::Expired => f.write_str("the server's certificate has expired"),
            Self::NotYetValid => f.write_str("the server's certificate is not valid yet"),
            Self::WrongName { expected, presented } => {
                write!(f, "the server's certificate is not for {expected}")?;
                for (at, name) in presented.iter().enumerate() {
                    write!(f, "{}{name}", if at == 0 { " but for " } else { ", " })?;
                }
                Ok(())
            }
            Self::Revoked => f.write_str("the server's certificate was revoked"),
            Self::WrongPurpose => f.write_str("the server's certificate is not meant for a server"),
            Self::BadSignature => f.write_str("a signature of the server is wrong or not accepted"),
            Self::BadCertificate(why) => write!(f, "the server's certificate is not acceptable: {why}"),
            Self::ClientCertificateRequired => f.write_str("the server requires a client certificate"),
            Self::ClientCertificateRejected { alert } => {
                write!(f, "the server rejected the client certificate: {alert}")
            }
            Self::Incompatible(why) => write!(f, "the server has no TLS in common with this client: {why}"),
            Self::NoApplicationProtocol => f.write_str("the server speaks no protocol that ALPN offered"),
            Self::NotTls => f.write_str("the server did not answer in TLS"),
            Self::Alert(alert) => write!(f, "the server ended the connection: {alert}"),
            Self::Misbehaved(why) => write!(f, "the server broke the protocol: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for WebSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, reason } => {
                write!(f, "the server refused the upgrade: {status} {reason}")
            }
            Self::NotHttp => f.write_str("the server did not answer in HTTP"),
            Self::HeadTooLong => f.write_str("the head of the server's answer is too long"),
            Self::BadUpgrade { header } => write!(f, "the upgrade has no or a wrong header {header}"),
            Self::NoSubprotocol => f.write_str("the server did not choose a sub-protocol"),
            Self::WrongSubprotocol(name) => {
                write!(f, "the server chose the sub-protocol {name:?}, which was not offered")
            }
            Self::TextFrame => f.write_str("the server sent a text frame"),
            Self::Protocol(why) => write!(f, "the server broke the protocol: {why}"),
            Self::Closed { code, reason } => write!(f, "the server closed with code {code} {reason:?}"),
            Self::NoRandomness => f.write_str("the source of randomness failed"),
        }
    }
}

impl fmt::Display for HttpProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthenticationRequired => f.write_str("it requires other credentials (407)"),
            Self::Refused { status, reason } => write!(f, "it refused the tunnel: {status} {reason}"),
            Self::NotHttp => f.write_str("it did not answer in HTTP"),
            Self::HeadTooLong => f.write_str("the head of its answer is too long"),
        }
    }
}

impl fmt::Display for Socks5Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSocks5 => f.write_str("it did not answer in SOCKS version 5"),
            Self::NoAcceptableMethod => f.write_str("it accepts no way to authenticate that was offered"),
            Self::BadCredentials => f.write_str("it did not accept the user name and password"),
            Self::UnofferedMethod(method) => {
                write!(f, "it chose the way to authenticate {method}, which was not offered")
            }
            Self::Refused(reply) => write!(f, "it did not connect: {reply}"),
            Self::Malformed => f.write_str("its answer is malformed"),
        }
    }
}

impl std::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::WebSocket(error) => Some(error),
            Self::HttpProxy(error) => Some(error),
            Self::Socks5(error) => Some(error),
            Self::Truncated(_) | Self::Custom(_) => None,
        }
    }
}

impl std::error::Error for TlsError {}
impl std::error::Error for WebSocketError {}
impl std::error::Error for HttpProxyError {}
impl std::error::Error for Socks5Error {}

impl From<TlsError> for LayerError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<WebSocketError> for LayerError {
    fn from(error: WebSocketError) -> Self {
        Self::WebSocket(error)
    }
}

impl From<HttpProxyError> for LayerError {
    fn from(error: HttpProxyError) -> Self {
        Self::HttpProxy(error)
    }
}

impl From<Socks5Error> for LayerError {
    fn from(error: Socks5Error) -> Self {
        Self::Socks5(error)
    }
}
