//! The side under test, and what carries bytes between it and its peer.
#![allow(dead_code, reason = "every test file uses its part")]

use bytes::BytesMut;
pub(crate) use mqtt_machine_testkit::layers::{Authority as Ca, Peer};
use mqtt_machine_transport::{
    Endpoint, LayerError, Layers, LayersState, Proxy, Route, RouteOptions, TlsOptions,
};

/// How many bytes come at once, next.
pub(crate) type Chunks<'a> = &'a mut dyn FnMut() -> usize;

/// The side under test, with its buffers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) layers: Layers,
    pub(crate) input: BytesMut,
    pub(crate) plaintext: BytesMut,
    pub(crate) error: Option<LayerError>,
}

impl Client {
    pub(crate) fn new(layers: Layers) -> Self {
        let mut client = Self { layers, input: BytesMut::new(), plaintext: BytesMut::new(), error: None };
        let opened = client.layers.handle_open();
        client.keep(opened);
        client
    }

    pub(crate) fn keep(&mut self, result: Result<(), LayerError>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let result = self.layers.handle_input(&mut self.input, &mut self.plaintext);
        self.keep(result);
    }

    pub(crate) fn end(&mut self) {
        let result = self.layers.handle_end();
        self.keep(result);
    }

    /// Everything that it has for the socket.
    pub(crate) fn output(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        self.layers.transmit(&mut out);
        out
    }

    pub(crate) fn is_open(&self) -> bool {
        self.layers.state() == LayersState::Open
    }
}

/// Carries bytes both ways, in pieces, until neither side has any.
pub(crate) fn carry(client: &mut Client, peer: &mut Peer, chunks: Chunks<'_>) {
    loop {
        let (up, down) = (client.output(), peer.output());
        if up.is_empty() && down.is_empty() {
            return;
        }
        for piece in pieces(&up, chunks) {
            peer.receive(piece);
        }
        for piece in pieces(&down, chunks) {
            client.receive(piece);
        }
    }
}

fn pieces<'a>(mut bytes: &'a [u8], chunks: Chunks<'_>) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(chunks().clamp(1, bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Sends `bytes` to the peer through the client's layers, as an adapter would.
pub(crate) fn send(client: &mut Client, peer: &mut Peer, mut bytes: &[u8], chunks: Chunks<'_>) {
    while !bytes.is_empty() && client.error.is_none() {
        let before = bytes.len();
        let result = client.layers.handle_output(&mut bytes);
        client.keep(result);
        carry(client, peer, chunks);
        assert!(bytes.len() < before || client.error.is_some(), "the layers take nothing any more");
    }
}

/// The way to `url` that trusts `ca`, through these proxies.
pub(crate) fn route(url: &str, ca: &Ca, proxies: &[&str]) -> Route {
    let mut options = RouteOptions::new().tls(TlsOptions::new().ca_pem(ca.pem().as_bytes()));
    for proxy in proxies {
        options = options.proxy(Proxy::parse(proxy).unwrap());
    }
    Route::new(Endpoint::parse(url).unwrap(), &options).unwrap()
}

/// Bytes that are not all alike.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..count).map(step).collect()
}
