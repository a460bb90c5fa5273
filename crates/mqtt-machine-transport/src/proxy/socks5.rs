//! Owns the request for a connection through a SOCKS5 proxy (RFC 1928, RFC 1929). It must not know what goes through.

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::http_connect::{end, pass};
use super::{Proxy, domain};
use crate::endpoint::{Authority, Host};
use crate::layer::{Layer, LayerError, LayerKind, LayerState, Socks5Error, Socks5Reply, move_bytes};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USERNAME_PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;

/// The layer that opens a connection through a SOCKS5 proxy. Once it is open, it is [`LayerState::Done`].
///
/// A domain name is sent for the proxy to resolve, an address as an address: which of both is the caller's decision.
pub struct Socks5 {
    step: Step,
    /// RFC 1929's request, when there are credentials.
    credentials: Option<BytesMut>,
    /// RFC 1928's request to connect.
    request: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The method that the proxy chooses is awaited.
    Method,
    /// Its verdict on the credentials is.
    Authentication,
    /// Its reply to the request is.
    Reply,
    Done,
    PeerClosed,
    Closed,
}

impl Socks5 {
    /// Asks `proxy` for a connection to `server`. Credentials and names are cut at 255 bytes, which [`Proxy::parse`] and
    /// DNS keep to anyway.
    pub fn new(proxy: &Proxy, server: &Authority) -> Self {
        let credentials = proxy.has_credentials().then(|| {
            let mut bytes = BytesMut::from(&[1_u8][..]);
            put_short(&mut bytes, proxy.username_bytes());
            put_short(&mut bytes, proxy.password_bytes());
            bytes
        });
        let mut request = BytesMut::from(&[VERSION, 1, 0][..]);
        match (&server.host, domain(&server.host)) {
            (Host::Ipv4(address), _) => {
                request.put_u8(1);
                request.put_slice(&address.octets());
            }
            (Host::Ipv6(address), _) => {
                request.put_u8(4);
                request.put_slice(&address.octets());
            }
            (Host::Domain(_), name) => {
                request.put_u8(3);
                put_short(&mut request, name.unwrap_or_default().as_bytes());
            }
        }
        request.put_u16(server.port);
        Self { step: Step::Method, credentials, request }
    }

    /// One answer of the proxy, when it is complete.
    fn step(&mut self, input: &mut BytesMut, below: &mut BytesMut) -> Result<Progress, Socks5Error> {
        match (self.step, input.as_ref()) {
            (Step::Method, [VERSION, method, ..]) => {
                let method = *method;
                input.advance(2);
                match (method, self.credentials.take()) {
                    (NO_AUTHENTICATION, _) => self.ask(below),
                    (USERNAME_PASSWORD, Some(credentials)) => {
                        below.unsplit(credentials);
                        self.step = Step::Authentication;
                    }
                    (NO_ACCEPTABLE_METHOD, _) => return Err(Socks5Error::NoAcceptableMethod),
                    (method, _) => return Err(Socks5Error::UnofferedMethod(method)),
                }
            }
            (Step::Authentication, [1, verdict, ..]) => {
                if *verdict != 0 {
                    return Err(Socks5Error::BadCredentials);
                }
                input.advance(2);
                self.ask(below);
            }
            (Step::Authentication, [other, ..]) if *other != 1 => return Err(Socks5Error::Malformed),
            (Step::Reply, [VERSION, reply, _, ..]) if *reply != 0 => {
                return Err(Socks5Error::Refused(Socks5Reply(*reply)));
            }
            (Step::Reply, [VERSION, 0, _, kind, first, ..]) => {
                let address = match kind {
                    1 => 4,
                    4 => 16,
                    3 => usize::from(*first).saturating_add(1),
                    _ => return Err(Socks5Error::Malformed),
                };
                let whole = address.saturating_add(6);
                if input.len() < whole {
                    return Ok(Progress::NeedsMore);
                }
                input.advance(whole);
                self.step = Step::Done;
            }
            (Step::Method | Step::Reply, [other, ..]) if *other != VERSION => {
                return Err(Socks5Error::NotSocks5);
            }
            _ => return Ok(Progress::NeedsMore),
        }
        Ok(Progress::Made)
    }

    fn ask(&mut self, below: &mut BytesMut) {
        below.unsplit(std::mem::take(&mut self.request));
        self.step = Step::Reply;
    }
}

#[derive(PartialEq, Eq)]
enum Progress {
    Made,
    NeedsMore,
}

/// At most 255 bytes behind their length.
fn put_short(to: &mut BytesMut, bytes: &[u8]) {
    let bytes = bytes.get(..255).unwrap_or(bytes);
    to.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    to.put_slice(bytes);
}

impl Layer for Socks5 {
    fn kind(&self) -> LayerKind {
        LayerKind::Socks5
    }

    fn state(&self) -> LayerState {
        match self.step {
            Step::Method | Step::Authentication | Step::Reply => LayerState::Handshaking,
            Step::Done => LayerState::Done,
            Step::PeerClosed => LayerState::PeerClosed,
            Step::Closed => LayerState::Closed,
        }
    }

    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError> {
        let methods: &[u8] = match &self.credentials {
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USERNAME_PASSWORD],
            None => &[VERSION, 1, NO_AUTHENTICATION],
        };
        below.put_slice(methods);
        Ok(())
    }

    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        below: &mut BytesMut,
    ) -> Result<(), LayerError> {
        while self.state() == LayerState::Handshaking {
            match self.step(input, below) {
                Ok(Progress::Made) => {}
                Ok(Progress::NeedsMore) => return Ok(()),
                Err(error) => {
                    self.step = Step::Closed;
                    return Err(error.into());
                }
            }
            if self.step == Step::Done {
                // The rest is the next layer's.
                return Ok(());
            }
        }
        match self.step {
            Step::Closed => input.clear(),
            _ => move_bytes(input, above),
        }
        Ok(())
    }

    fn handle_end(&mut self, _below: &mut BytesMut) -> Result<(), LayerError> {
        let mut state = self.state();
        let result = end(&mut state, LayerKind::Socks5);
        self.step = if state == LayerState::PeerClosed { Step::PeerClosed } else { Step::Closed };
        result
    }

    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError> {
        pass(self.state(), plaintext, below);
        Ok(())
    }

    fn handle_close(&mut self, _below: &mut BytesMut) {
        self.step = Step::Closed;
    }
}

impl fmt::Debug for Socks5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socks5").field("step", &self.step).finish_non_exhaustive()
    }
}
