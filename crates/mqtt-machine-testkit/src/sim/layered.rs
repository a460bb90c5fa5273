//! Owns which layers lie between the clients and the servers of a simulation, and both ends of them: the client's own, and
//! the testkit's server. It must not know links, nor when bytes pass.
//!
//! The bytes of TLS are others in each run, their number is not: nothing in a simulation depends on more than that.

use core::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::{Output, ProtocolVersion};
use mqtt_machine_client::{News, Pipe};
use mqtt_machine_transport::{
    Endpoint, LayerError, Proxy, Randomness, Route, RouteOptions, TlsOptions, WebSocketOptions, rustls,
};
use tungstenite::Message;

use super::between::{Far, Near, Turn, Ways};
use crate::layers::{Authority, Leaf, Peer, ProxyKind, server_config};
use crate::random::Random;

/// What the clients of a simulation speak through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layering {
    /// TLS 1.3.
    pub tls: bool,
    /// WebSocket, above TLS if that is there.
    pub websocket: bool,
    /// Proxies, one behind the other, below everything else.
    pub proxies: Vec<ProxyKind>,
}

impl Layering {
    /// WebSocket over TLS through these proxies, of which there may be none.
    pub fn wss(proxies: impl Into<Vec<ProxyKind>>) -> Self {
        Self { tls: true, websocket: true, proxies: proxies.into() }
    }

    /// Some layers, at least one.
    pub fn draw(random: &mut Random) -> Self {
        let (tls, websocket) =
            [(false, true), (true, true), (true, false), (false, false)][random.size(0..=3)];
        let least = usize::from(!tls && !websocket);
        let kinds = [ProxyKind::Http, ProxyKind::Socks5, ProxyKind::Socks5Auth];
        let proxies = (0..random.size(least..=2)).map(|_| kinds[random.size(0..=2)]).collect();
        Self { tls, websocket, proxies }
    }

    /// With one layer less, the proxies first; `None`: it was the last.
    pub(super) fn less(mut self) -> Option<Self> {
        if self.proxies.pop().is_none() {
            if self.tls {
                self.tls = false;
            } else {
                self.websocket = false;
            }
        }
        (self.tls || self.websocket || !self.proxies.is_empty()).then_some(self)
    }

    const fn scheme(&self) -> &'static str {
        match (self.tls, self.websocket) {
            (true, true) => "wss",
            (true, false) => "mqtts",
            (false, true) => "ws",
            (false, false) => "mqtt",
        }
    }

    /// Makes the ways ready for one simulation.
    pub(super) fn ways(&self, seed: u64) -> Box<dyn Ways> {
        let tls = Tls::get();
        let random = Mutex::new(Random::new(seed));
        let masks = Randomness::from_fn(move |bytes| {
            let mut random = random.lock().unwrap();
            bytes.iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
            Ok(())
        });
        let mut options = RouteOptions::new()
            .tls(TlsOptions::new().ca_pem(tls.authority.pem().as_bytes()))
            .websocket(WebSocketOptions::new().randomness(masks));
        for (at, kind) in self.proxies.iter().enumerate() {
            let url = match kind {
                ProxyKind::Http => format!("http://proxy-{at}.example:8080"),
                ProxyKind::Socks5 => format!("socks5h://proxy-{at}.example"),
                ProxyKind::Socks5Auth => format!("socks5h://user:secret@proxy-{at}.example"),
            };
            options = options.proxy(Proxy::parse(&url).unwrap());
        }
        let route = |query: &str| {
            let endpoint = Endpoint::parse(&format!("{}://model.example{query}", self.scheme())).unwrap();
            Route::new(endpoint, &options).unwrap()
        };
        // Made anew for each simulation, so that the sessions that are resumed are its own.
        let server = Arc::new(server_config(&tls.leaf, &[&rustls::version::TLS13], None));
        Box::new(Prepared { layering: self.clone(), route: route(""), of_3_1: route("?version=3.1"), server })
    }
}

impl fmt::Display for Layering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} through {:?}", self.scheme(), self.proxies)
    }
}

/// The certificate of all servers, made once.
struct Tls {
    authority: Authority,
    leaf: Leaf,
}

impl Tls {
    fn get() -> &'static Self {
        static TLS: OnceLock<Tls> = OnceLock::new();
        TLS.get_or_init(|| {
            let authority = Authority::of_one_length("Simulation");
            let leaf = authority.server(&["model.example"]);
            Self { authority, leaf }
        })
    }
}

/// The ways of one simulation.
#[derive(Debug)]
struct Prepared {
    layering: Layering,
    route: Route,
    /// WebSocket has a sub-protocol of its own for it.
    of_3_1: Route,
    server: Arc<rustls::ServerConfig>,
}

impl Ways for Prepared {
    fn link(&mut self, version: ProtocolVersion) -> (Box<dyn Near>, Box<dyn Far>) {
        let route = if version == ProtocolVersion::V3_1 { &self.of_3_1 } else { &self.route };
        let mut peer = self.layering.proxies.iter().fold(Peer::plain(), |peer, kind| peer.proxy(*kind));
        if self.layering.tls {
            peer = peer.tls(Arc::clone(&self.server));
        }
        if self.layering.websocket {
            peer = peer.websocket();
        }
        (Box::new(Client(Pipe::new(route.layers().unwrap()))), Box::new(Server { peer, closing: false }))
    }
}

/// The client's end: what the adapters have, too.
#[derive(Debug)]
struct Client(Pipe);

fn turn(news: News) -> Turn {
    match news {
        News::Nothing => Turn::Nothing,
        News::Opened => Turn::Opened,
        News::Ended => Turn::Ended,
        News::Failed(error @ LayerError::Truncated(_)) => Turn::Cut(error.to_string()),
        News::Failed(error) => Turn::Failed(error.to_string()),
    }
}

impl Near for Client {
    fn open(&mut self) -> Turn {
        turn(self.0.open())
    }

    fn is_ready(&self) -> bool {
        self.0.is_open() && !self.0.plain.has_remaining()
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn was_open(&self) -> bool {
        self.0.was_open()
    }

    fn is_spent(&self) -> bool {
        self.0.is_spent()
    }

    fn sink(&mut self, plaintext: &[u8], wire: &mut BytesMut) -> Turn {
        self.0.plain.put(&mut BytesMut::from(plaintext));
        let mut output = Output::new();
        let news = self.0.sink(&mut output);
        wire.extend_from_slice(&output.copy_to_bytes(output.remaining()));
        turn(news)
    }

    fn wrote(&mut self, count: usize) -> usize {
        self.0.wrote(count)
    }

    fn rise(&mut self, bytes: &[u8], plaintext: &mut BytesMut) -> Turn {
        self.0.raw.extend_from_slice(bytes);
        turn(self.0.rise(plaintext))
    }

    fn end(&mut self) -> Turn {
        turn(self.0.end())
    }

    fn close(&mut self) -> Bytes {
        let mut output = Output::new();
        self.0.close(&mut output);
        output.copy_to_bytes(output.remaining())
    }
}

/// The server's end.
#[derive(Debug)]
struct Server {
    peer: Peer,
    /// One side has sent a close frame: that the other says no more is no failure.
    closing: bool,
}

impl Far for Server {
    fn receive(&mut self, bytes: &[u8]) -> Bytes {
        self.peer.receive(bytes);
        self.closing |= self.peer.messages.drain(..).any(|message| matches!(message, Message::Close(_)));
        core::mem::take(&mut self.peer.received).into()
    }

    fn send(&mut self, plaintext: &[u8]) {
        self.peer.send(plaintext);
    }

    fn close(&mut self) {
        self.closing = true;
        self.peer.close();
    }

    fn output(&mut self) -> Bytes {
        self.peer.output().into()
    }

    fn complaint(&self) -> Option<String> {
        let websocket = self.peer.ws_error.clone().filter(|_| !self.closing);
        self.peer.tls_error.as_ref().map(ToString::to_string).or(websocket)
    }
}
