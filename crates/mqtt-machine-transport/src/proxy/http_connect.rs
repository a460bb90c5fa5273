//! Owns the request for a tunnel through an HTTP proxy (RFC 9110, section 9.3.6). It must not know what goes through.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, BytesMut};

use super::Proxy;
use crate::endpoint::Authority;
use crate::http::{Head, HeadError};
use crate::layer::{HttpProxyError, Layer, LayerError, LayerKind, LayerState, MARK, move_bytes};

/// The layer that opens a tunnel through an HTTP proxy. Once the tunnel is there, it is [`LayerState::Done`].
pub struct HttpConnect {
    request: BytesMut,
    head: Head,
    state: LayerState,
}

impl HttpConnect {
    /// Asks `proxy` for a tunnel to `server`.
    pub fn new(proxy: &Proxy, server: &Authority) -> Self {
        let mut request = BytesMut::new();
        request.put_slice(format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n").as_bytes());
        if proxy.has_credentials() {
            let credentials = [proxy.username_bytes(), b":", proxy.password_bytes()].concat();
            request.put_slice(b"Proxy-Authorization: Basic ");
            request.put_slice(STANDARD.encode(credentials).as_bytes());
            request.put_slice(b"\r\n");
        }
        request.put_slice(b"\r\n");
        Self { request, head: Head::default(), state: LayerState::Handshaking }
    }
}

impl Layer for HttpConnect {
    fn kind(&self) -> LayerKind {
        LayerKind::HttpProxy
    }

    fn state(&self) -> LayerState {
        self.state
    }

    fn start(&mut self, below: &mut BytesMut) -> Result<(), LayerError> {
        below.unsplit(std::mem::take(&mut self.request));
        Ok(())
    }

    fn handle_input(
        &mut self,
        input: &mut BytesMut,
        above: &mut BytesMut,
        _below: &mut BytesMut,
    ) -> Result<(), LayerError> {
        match self.state {
            LayerState::Handshaking => {}
            LayerState::Closed => {
                input.clear();
                return Ok(());
            }
            _ => {
                move_bytes(input, above);
                return Ok(());
            }
        }
        let answer = self.head.handle_input(input).map_err(|error| {
            self.state = LayerState::Closed;
            match error {
                HeadError::TooLong => HttpProxyError::HeadTooLong,
                HeadError::NotHttp => HttpProxyError::NotHttp,
            }
        })?;
        let Some(answer) = answer else { return Ok(()) };
        self.state = LayerState::Closed;
        match answer.status {
            200..=299 => {
                self.state = LayerState::Done;
                self.head = Head::default();
                Ok(())
            }
            407 => Err(HttpProxyError::AuthenticationRequired.into()),
            status => Err(HttpProxyError::Refused { status, reason: answer.reason }.into()),
        }
    }

    fn handle_end(&mut self, _below: &mut BytesMut) -> Result<(), LayerError> {
        end(&mut self.state, LayerKind::HttpProxy)
    }

    fn handle_output(&mut self, plaintext: &mut dyn Buf, below: &mut BytesMut) -> Result<(), LayerError> {
        pass(self.state, plaintext, below);
        Ok(())
    }

    fn handle_close(&mut self, _below: &mut BytesMut) {
        self.state = LayerState::Closed;
    }
}

impl fmt::Debug for HttpConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The request holds credentials.
        f.debug_struct("HttpConnect").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The end of the bytes below a proxy's layer.
pub(super) fn end(state: &mut LayerState, kind: LayerKind) -> Result<(), LayerError> {
    match state {
        LayerState::Handshaking => {
            *state = LayerState::Closed;
            Err(LayerError::Truncated(kind))
        }
        LayerState::Closed => Ok(()),
        _ => {
            *state = LayerState::PeerClosed;
            Ok(())
        }
    }
}

/// Bytes on their way down through a proxy's layer, should it still be there when it is done.
pub(super) fn pass(state: LayerState, plaintext: &mut dyn Buf, below: &mut BytesMut) {
    if matches!(state, LayerState::Done | LayerState::PeerClosed) {
        let room = MARK.saturating_sub(below.len());
        below.put(plaintext.take(room));
    }
}
