//! Owns the other side of every layer, in memory: proxies by hand, TLS by rustls, WebSocket by tungstenite. It must not know
//! what the bytes above mean.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use mqtt_machine_transport::rustls::{self, ServerConfig, ServerConnection};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket, accept_hdr_with_config};

/// A proxy that accepts everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5 without authentication.
    Socks5,
    /// SOCKS5 with user name and password.
    Socks5Auth,
}

#[derive(Debug, Default)]
struct Wire {
    to_server: VecDeque<u8>,
    from_server: Vec<u8>,
}

/// A stream in memory that blocks when it is empty.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<Wire>>);

impl Pipe {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire();
        if wire.to_server.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.to_server.read(out)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire().from_server.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Ws {
    None,
    /// The request, until it is whole: tungstenite takes small reads for an attack.
    Request(Vec<u8>),
    Open(Box<WebSocket<Pipe>>, Pipe),
}

/// A server behind the layers that it was made with.
#[derive(Debug)]
pub struct Peer {
    proxies: VecDeque<ProxyKind>,
    /// What the proxies were asked for.
    pub asked: Vec<String>,
    greeted: usize,
    raw: BytesMut,
    out: Vec<u8>,
    /// Its TLS, where it speaks that.
    pub tls: Option<ServerConnection>,
    ws: Ws,
    /// The request of the upgrade.
    pub request: Option<Request>,
    /// What came through all layers.
    pub received: Vec<u8>,
    /// The same as messages of WebSocket, and control frames.
    pub messages: Vec<Message>,
    /// Why TLS failed here.
    pub tls_error: Option<rustls::Error>,
    /// Why WebSocket failed here.
    pub ws_error: Option<String>,
}

impl Peer {
    /// A server without layers; the others add them.
    pub fn plain() -> Self {
        Self {
            proxies: VecDeque::new(),
            asked: Vec::new(),
            greeted: 0,
            raw: BytesMut::new(),
            out: Vec::new(),
            tls: None,
            ws: Ws::None,
            request: None,
            received: Vec::new(),
            messages: Vec::new(),
            tls_error: None,
            ws_error: None,
        }
    }

    /// With TLS.
    ///
    /// # Panics
    /// When the configuration cannot serve.
    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(ServerConnection::new(config).unwrap());
        self
    }

    /// With WebSocket, above TLS if that is there.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.ws = Ws::Request(Vec::new());
        self
    }

    /// Behind one more proxy, which is asked after those before it.
    #[must_use]
    pub fn proxy(mut self, kind: ProxyKind) -> Self {
        self.proxies.push_back(kind);
        self
    }

    /// Bytes from the client's socket.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        while let Some(kind) = self.proxies.front().copied() {
            if !self.serve_proxy(kind) {
                return;
            }
        }
        let bytes = self.raw.split();
        let plain = self.decrypt(&bytes);
        self.above_tls(&plain);
    }

    /// Everything for the client's socket.
    pub fn output(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.out)
    }

    /// Sends plaintext, in one message if WebSocket is spoken.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.ws {
            Ws::Open(socket, _) => {
                self.ws_error =
                    socket.send(Message::binary(bytes.to_vec())).err().map(|error| error.to_string());
            }
            _ => self.below_ws(bytes),
        }
        self.flush();
    }

    /// Sends these bytes under WebSocket, as a frame that the test wrote by hand.
    pub fn send_frame(&mut self, bytes: &[u8]) {
        self.below_ws(bytes);
    }

    /// The open WebSocket.
    ///
    /// # Panics
    /// When there is none, or not yet.
    pub fn socket(&mut self) -> &mut WebSocket<Pipe> {
        match &mut self.ws {
            Ws::Open(socket, _) => socket,
            other => panic!("no WebSocket: {other:?}"),
        }
    }

    /// Ends TLS by `close_notify`.
    ///
    /// # Panics
    /// When it speaks no TLS.
    pub fn close_tls(&mut self) {
        self.flush();
        self.tls.as_mut().unwrap().send_close_notify();
    }

    /// Ends every layer that has an end of its own, the uppermost first.
    pub fn close(&mut self) {
        if let Ws::Open(socket, _) = &mut self.ws {
            // Closed already by the other side, perhaps.
            let _ = socket.close(None);
            let _ = socket.flush();
        }
        self.flush();
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    fn flush(&mut self) {
        if let Ws::Open(_, pipe) = &self.ws {
            let bytes = std::mem::take(&mut pipe.wire().from_server);
            self.below_ws(&bytes);
        }
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out).unwrap();
            }
        }
    }

    fn below_ws(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.out.extend_from_slice(bytes),
            Some(tls) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let count = tls.writer().write(rest).unwrap();
                    rest = &rest[count..];
                    while tls.wants_write() {
                        tls.write_tls(&mut self.out).unwrap();
                    }
                }
            }
        }
    }

    fn decrypt(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return bytes.to_vec() };
        let mut plain = Vec::new();
        while !bytes.is_empty() && self.tls_error.is_none() {
            if tls.read_tls(&mut bytes).unwrap() == 0 {
                break;
            }
            if let Err(error) = tls.process_new_packets() {
                self.tls_error = Some(error);
            }
            // An empty buffer that is not at its end is no error here.
            let _ = tls.reader().read_to_end(&mut plain);
        }
        plain
    }

    fn above_tls(&mut self, plain: &[u8]) {
        match &mut self.ws {
            Ws::None => self.received.extend_from_slice(plain),
            Ws::Request(head) => {
                head.extend_from_slice(plain);
                if head.windows(4).any(|window| window == b"\r\n\r\n") {
                    let head = std::mem::take(head);
                    self.upgrade(&head);
                }
            }
            Ws::Open(_, pipe) => {
                pipe.wire().to_server.extend(plain);
                self.read_messages();
            }
        }
    }

    fn upgrade(&mut self, head: &[u8]) {
        let pipe = Pipe::default();
        pipe.wire().to_server.extend(head);
        let mut seen = None;
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        #[allow(clippy::result_large_err, reason = "tungstenite's callback is like this")]
        let callback = |request: &Request, mut response: Response| {
            seen = Some(request.clone());
            if let Some(wanted) = request.headers().get("Sec-WebSocket-Protocol") {
                let first = wanted.to_str().unwrap().split(", ").next().unwrap();
                response.headers_mut().insert("Sec-WebSocket-Protocol", first.parse().unwrap());
            }
            Ok(response)
        };
        let socket = accept_hdr_with_config(pipe.clone(), callback, Some(config)).unwrap();
        self.request = seen;
        self.ws = Ws::Open(Box::new(socket), pipe);
        self.read_messages();
    }

    fn read_messages(&mut self) {
        let Ws::Open(socket, _) = &mut self.ws else { return };
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) => {
                    self.received.extend_from_slice(&bytes);
                    self.messages.push(Message::Binary(bytes));
                }
                Ok(message) => self.messages.push(message),
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.ws_error = Some(error.to_string());
                    break;
                }
            }
        }
        let _ = socket.flush();
    }

    /// One step of the first proxy. True when it moved.
    fn serve_proxy(&mut self, kind: ProxyKind) -> bool {
        match kind {
            ProxyKind::Http => {
                let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") else {
                    return false;
                };
                let head = self.raw.split_to(end + 4);
                self.asked.push(String::from_utf8(head.to_vec()).unwrap());
                self.out.extend_from_slice(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
                self.proxies.pop_front();
                true
            }
            ProxyKind::Socks5 | ProxyKind::Socks5Auth => self.serve_socks(kind == ProxyKind::Socks5Auth),
        }
    }

    fn serve_socks(&mut self, auth: bool) -> bool {
        let raw = &self.raw[..];
        match self.greeted {
            0 => {
                let [5, count, methods @ ..] = raw else { return false };
                let count = usize::from(*count);
                if methods.len() < count {
                    return false;
                }
                let method = if auth { 2 } else { 0 };
                assert!(methods[..count].contains(&method));
                self.out.extend_from_slice(&[5, method]);
                self.raw.advance(2 + count);
                self.greeted = if auth { 1 } else { 2 };
            }
            1 => {
                let [1, length, rest @ ..] = raw else { return false };
                let name = usize::from(*length);
                let Some(length) = rest.get(name) else { return false };
                let whole = name + 1 + usize::from(*length);
                if rest.len() < whole {
                    return false;
                }
                self.asked.push(String::from_utf8_lossy(&rest[..whole]).into_owned());
                self.raw.advance(2 + whole);
                self.out.extend_from_slice(&[1, 0]);
                self.greeted = 2;
            }
            _ => {
                let [5, 1, 0, kind, first, ..] = raw else { return false };
                let length = match kind {
                    1 => 4,
                    4 => 16,
                    _ => usize::from(*first) + 1,
                };
                if raw.len() < 6 + length {
                    return false;
                }
                let request = self.raw.split_to(6 + length);
                self.asked.push(format!("{:?}", &request[3..]));
                // A bound address that is a name, to be skipped.
                self.out.extend_from_slice(b"\x05\0\0\x03\x04host\x12\x34");
                self.greeted = 0;
                self.proxies.pop_front();
            }
        }
        true
    }
}
