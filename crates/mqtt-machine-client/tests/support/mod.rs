//! Owns a stack and a server behind layers, in memory and in virtual time, and the link between them. It must not know what
//! any test is about.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod bench;

use std::sync::{Arc, LazyLock};

use bytes::{Buf, BytesMut};
use mqtt_machine::{
    Action, CleanStart, Event, Instant, Message, Output, QoS, ReasonCode, Receipt, Subscribe, Subscription,
    TransportEvent, TransportId,
};
use mqtt_machine_client::{Options, Stack, TlsOptions, TransportError};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use mqtt_machine_testkit::layers::{Authority, Peer, ProxyKind, server_config};
use mqtt_machine_transport::Proxy;
use mqtt_machine_transport::rustls::{ALL_VERSIONS, ServerConfig};

/// Who issues the certificates of the tests.
pub(crate) static CA: LazyLock<Authority> = LazyLock::new(|| Authority::new("the tests"));

/// What the server does about TLS.
static SERVER: LazyLock<Arc<ServerConfig>> =
    LazyLock::new(|| Arc::new(server_config(&CA.server(&["host"]), ALL_VERSIONS, None)));

/// A way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) url: &'static str,
    pub(crate) proxies: &'static [(&'static str, ProxyKind)],
}

impl Way {
    pub(crate) const fn direct(url: &'static str) -> Self {
        Self { url, proxies: &[] }
    }

    pub(crate) fn has_tls(self) -> bool {
        self.url.starts_with("mqtts") || self.url.starts_with("wss")
    }

    pub(crate) fn has_websocket(self) -> bool {
        self.url.starts_with("ws")
    }

    /// Options of a client whose session outlives its connections, and who trusts the tests.
    pub(crate) fn options(self) -> Options {
        let mut options = Options::from_url(self.url)
            .unwrap()
            .configure(|config| config.client_id("stack").clean_start(CleanStart::FirstOnly))
            .route(|route| route.tls(TlsOptions::new().ca_pem(CA.pem().as_bytes())));
        for (url, _) in self.proxies {
            options = options.route(|route| route.proxy(Proxy::parse(url).unwrap()));
        }
        options
    }

    pub(crate) fn peer(self) -> Peer {
        let mut peer = Peer::plain();
        for (_, kind) in self.proxies {
            peer = peer.proxy(*kind);
        }
        if self.has_tls() {
            peer = peer.tls(Arc::clone(&SERVER));
        }
        if self.has_websocket() {
            peer = peer.websocket();
        }
        peer
    }
}

/// Everything that a scheme and a proxy can be.
pub(crate) const WAYS: [Way; 7] = [
    Way::direct("mqtt://host"),
    Way::direct("mqtts://host"),
    Way::direct("ws://host"),
    Way::direct("wss://host"),
    Way { url: "mqtt://host", proxies: &[("socks5h://u:p@proxy", ProxyKind::Socks5Auth)] },
    Way { url: "wss://host", proxies: &[("http://u:p@proxy", ProxyKind::Http)] },
    Way {
        url: "mqtts://host",
        proxies: &[("socks5h://one", ProxyKind::Socks5), ("http://two", ProxyKind::Http)],
    },
];

/// How the next link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Never,
    /// After so many bytes of the client's.
    Up(usize),
    /// After so many bytes of the server's.
    Down(usize),
    /// As `Down`, by the end of the server's direction.
    EndDown(usize),
}

/// The socket, while it is open.
pub(crate) struct Link {
    id: TransportId,
    pub(crate) peer: Peer,
    conn: ConnId,
    down: BytesMut,
    pub(crate) carried_up: usize,
    pub(crate) carried_down: usize,
    cut: Cut,
}

impl Link {
    pub(crate) fn id(&self) -> TransportId {
        self.id
    }
}

pub(crate) struct World {
    pub(crate) way: Way,
    pub(crate) now: Instant,
    pub(crate) stack: Stack,
    pub(crate) broker: Broker,
    pub(crate) link: Option<Link>,
    /// The last link that the client has closed, or that broke.
    pub(crate) past: Option<Link>,
    pub(crate) output: Output,
    input: BytesMut,
    /// How many bytes travel at once.
    pub(crate) chunk: Box<dyn FnMut() -> usize>,
    pub(crate) next_cut: Cut,
    /// Who answers the next link instead of the server.
    pub(crate) next_peer: Option<Peer>,
    pub(crate) links: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) messages: Vec<Message>,
    pub(crate) errors: Vec<TransportError>,
    /// Receipts are kept here instead of coming back.
    pub(crate) held: Option<Vec<Receipt>>,
    /// The peer takes nothing.
    pub(crate) deaf: bool,
}

impl World {
    pub(crate) fn new(way: Way, options: Options) -> Self {
        let now = Instant::ZERO;
        Self {
            way,
            now,
            stack: Stack::new(options, 7, now).unwrap(),
            broker: Broker::new(BrokerConfig::new(), 1),
            link: None,
            past: None,
            output: Output::new(),
            input: BytesMut::new(),
            chunk: Box::new(|| usize::MAX),
            next_cut: Cut::Never,
            next_peer: None,
            links: 0,
            events: Vec::new(),
            messages: Vec::new(),
            errors: Vec::new(),
            held: None,
            deaf: false,
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let subscription = Subscription::new(filter.try_into().unwrap(), qos);
        self.stack.subscribe(self.now, Subscribe::new(vec![subscription])).unwrap();
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>, qos: QoS) {
        let message = Message::to(topic, payload.into()).unwrap().qos(qos);
        self.stack.publish(self.now, message).unwrap();
    }

    /// Goes on until nothing moves.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let acted = self.act();
            let told = self.take_events();
            // A client that closes is faster than the server's answer to its DISCONNECT.
            let up = self.carry_up() | self.act();
            let down = self.carry_down();
            self.errors.extend(self.stack.take_error());
            if !(acted || told || up || down) {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Lets time pass until the next deadline of the stack.
    pub(crate) fn wait(&mut self) {
        self.now = self.now.max(self.stack.poll_timeout().expect("it waits for something"));
        self.stack.handle_timeout(self.now);
        self.settle();
    }

    /// Settles, and waits while there is no connection.
    pub(crate) fn connect(&mut self) {
        self.settle();
        for _ in 0..100 {
            if self.stack.is_connected() {
                return;
            }
            self.wait();
        }
        panic!("{:?}: no connection: {:?} {:?}", self.way, self.events, self.errors);
    }

    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.stack.poll_action() {
            acted = true;
            match action {
                Action::OpenTransport { id, .. } => {
                    assert!(self.link.is_none(), "one at a time");
                    self.links += 1;
                    let conn = ConnId::new(self.links);
                    self.broker.open(self.now, conn);
                    let cut = std::mem::replace(&mut self.next_cut, Cut::Never);
                    self.link = Some(Link {
                        id,
                        peer: self.next_peer.take().unwrap_or_else(|| self.way.peer()),
                        conn,
                        down: BytesMut::new(),
                        carried_up: 0,
                        carried_down: 0,
                        cut,
                    });
                    self.output.clear();
                    self.input.clear();
                    self.stack.handle_transport(self.now, id, TransportEvent::Opened);
                }
                Action::CloseTransport { id } if self.link.as_ref().is_some_and(|link| link.id == id) => {
                    self.stack.transmit(self.now, &mut self.output);
                    self.carry_up();
                    self.hang_up();
                }
                _ => {}
            }
        }
        acted
    }

    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            self.broker.closed(self.now, link.conn);
            self.past = Some(link);
        }
        self.output.clear();
    }

    fn take_events(&mut self) -> bool {
        let mut told = false;
        while let Some(event) = self.stack.poll_event() {
            told = true;
            match event {
                Event::Message { message, receipt } => {
                    self.messages.push(message);
                    match &mut self.held {
                        Some(held) => held.push(receipt),
                        None => self.stack.settle(self.now, receipt, ReasonCode::Success),
                    }
                }
                event => self.events.push(event),
            }
        }
        told
    }

    /// Gives every receipt back.
    pub(crate) fn give_back(&mut self) {
        for receipt in self.held.take().unwrap_or_default() {
            self.stack.settle(self.now, receipt, ReasonCode::Success);
        }
    }

    fn carry_up(&mut self) -> bool {
        if self.link.is_some() {
            self.stack.transmit(self.now, &mut self.output);
        }
        let mut moved = false;
        while self.output.has_remaining() && !self.deaf {
            let Some(link) = &mut self.link else { return moved };
            let room = match link.cut {
                Cut::Up(after) => after - link.carried_up,
                _ => usize::MAX,
            };
            let count = (self.chunk)().clamp(1, self.output.chunk().len()).min(room);
            if count == 0 {
                self.reset();
                return true;
            }
            moved = true;
            link.carried_up += count;
            link.peer.receive(&self.output.chunk()[..count]);
            let received = std::mem::take(&mut link.peer.received);
            self.broker.handle_input(self.now, link.conn, &received);
            self.output.advance(count);
            let id = link.id;
            self.stack.handle_sent(self.now, id, count);
            self.take_events();
            self.stack.transmit(self.now, &mut self.output);
        }
        moved
    }

    fn reset(&mut self) {
        if let Some(link) = &self.link {
            let id = link.id;
            self.hang_up();
            self.stack.handle_transport(self.now, id, TransportEvent::Closed(Some("reset".to_owned())));
        }
    }

    fn carry_down(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let plain = self.broker.poll_output(link.conn);
        if !plain.is_empty() {
            link.peer.send(&plain);
        }
        link.down.extend_from_slice(&link.peer.output());
        let mut moved = false;
        let id = link.id;
        if !self.input.is_empty() && self.stack.read_capacity() > 0 {
            // Without layers the rest is the driver's to keep.
            self.stack.handle_input(self.now, id, &mut self.input);
            moved = true;
        }
        while let Some(link) = &mut self.link
            && !link.down.is_empty()
        {
            let capacity = self.stack.read_capacity();
            let room = match link.cut {
                Cut::Down(after) | Cut::EndDown(after) => after - link.carried_down,
                _ => usize::MAX,
            };
            if capacity == 0 {
                break;
            }
            let count = (self.chunk)().clamp(1, link.down.len()).min(capacity).min(room);
            if count == 0 {
                match link.cut {
                    Cut::EndDown(_) => self.end(),
                    _ => self.reset(),
                }
                return true;
            }
            moved = true;
            link.carried_down += count;
            self.input.extend_from_slice(&link.down.split_to(count));
            let id = link.id;
            self.stack.handle_input(self.now, id, &mut self.input);
        }
        while let Some(conn) = self.broker.poll_close() {
            if let Some(link) = &mut self.link
                && link.conn == conn
            {
                link.cut = Cut::EndDown(link.carried_down + link.down.len());
                if link.down.is_empty() {
                    self.end();
                }
                moved = true;
            }
        }
        moved
    }

    /// The server's direction of the socket ends, and the client's with it.
    pub(crate) fn end(&mut self) {
        if let Some(link) = &self.link {
            let id = link.id;
            self.hang_up();
            self.stack.handle_transport(self.now, id, TransportEvent::Closed(None));
        }
    }

    /// The payloads that came on a topic.
    pub(crate) fn payloads(&self, topic: &str) -> Vec<&[u8]> {
        let on = |message: &&Message| message.topic.as_bytes() == topic.as_bytes();
        self.messages.iter().filter(on).map(|message| &message.payload[..]).collect()
    }
}
