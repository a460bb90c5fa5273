//! Owns WebSocket by tungstenite as a stream of bytes: one binary message for what is written at once. It must not know MQTT.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

use crate::Failure;

const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// A WebSocket over some stream.
pub struct Messages<S> {
    socket: WebSocket<S>,
    /// What has not been read of the last message.
    rest: Bytes,
}

fn told(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<S: Read + Write> Messages<S> {
    /// The server's side.
    ///
    /// # Errors
    /// When the client does not ask for it.
    pub fn accept(stream: S) -> Result<Self, Failure> {
        #[allow(clippy::result_large_err, reason = "tungstenite's callback is like this")]
        let agree = |_: &Request, mut response: Response| {
            response.headers_mut().insert(SUBPROTOCOL, HeaderValue::from_static("mqtt"));
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, agree).map_err(|error| error.to_string())?;
        Ok(Self { socket, rest: Bytes::new() })
    }

    /// The client's side.
    ///
    /// # Errors
    /// When the server does not agree.
    pub fn connect(stream: S) -> Result<Self, Failure> {
        let mut request = "ws://localhost/mqtt".into_client_request()?;
        request.headers_mut().insert(SUBPROTOCOL, HeaderValue::from_static("mqtt"));
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| error.to_string())?;
        Ok(Self { socket, rest: Bytes::new() })
    }
}

impl<S: Read + Write> Read for Messages<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(told(error)),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl<S: Read + Write> Write for Messages<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(Message::binary(bytes.to_vec())).map_err(told)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(told)
    }
}
