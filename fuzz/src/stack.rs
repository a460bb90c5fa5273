//! Owns what holds for a machine behind layers, whatever a server sends in whatever pieces and whatever its driver does.

use bytes::{Buf, BytesMut};
use mqtt_machine::{
    Action, Disconnect, Event, Instant, Message, Output, QoS, ReasonCode, Receipt, TransportEvent,
    TransportId,
};
use mqtt_machine_client::{Options, Proxy, Stack, TlsOptions, WebSocketOptions};
use mqtt_machine_transport::Randomness;

/// The ways that a choice of the fuzzer's stands for.
const WAYS: [(&str, &[&str]); 7] = [
    ("mqtt://host", &[]),
    ("mqtt://host", &["http://user:secret@proxy"]),
    ("mqtt://host", &["socks5h://user:secret@proxy"]),
    ("mqtts://host", &[]),
    ("ws://host", &[]),
    ("wss://host", &[]),
    ("ws://host", &["socks5h://proxy", "http://second"]),
];

struct World {
    stack: Stack,
    now: Instant,
    id: Option<TransportId>,
    output: Output,
    input: BytesMut,
    receipts: Vec<Receipt>,
}

/// Nothing panics or grows, and what the socket does to a link that is gone changes nothing. The first byte chooses the way.
pub(crate) fn any_order(data: &[u8]) {
    let [way, steps @ ..] = data else { return };
    let (url, proxies) = WAYS[usize::from(*way) % WAYS.len()];
    // The same masks and keys every time, so that an input means the same every time.
    let same = WebSocketOptions::new().randomness(Randomness::from_fn(|bytes| {
        bytes.fill(7);
        Ok(())
    }));
    let mut options = Options::from_url(url)
        .expect("a URL")
        .route(|route| route.websocket(same).tls(TlsOptions::new().dangerous_accept_any_certificate()));
    for proxy in proxies {
        let proxy = Proxy::parse(proxy).expect("a proxy");
        options = options.route(|route| route.proxy(proxy));
    }
    let now = Instant::ZERO;
    let mut world = World {
        stack: Stack::new(options, 1, now).expect("a stack"),
        now,
        id: None,
        output: Output::new(),
        input: BytesMut::new(),
        receipts: Vec::new(),
    };
    let _ = world.stack.connect(now);
    world.act(true);
    let mut rest = steps;
    while let [what, how, behind @ ..] = rest {
        rest = world.step(*what, *how, behind);
        let sent_all = world.output.remaining();
        assert!(sent_all < 600 << 10, "what waits to be written is bounded");
    }
}

impl World {
    fn step<'a>(&mut self, what: u8, how: u8, behind: &'a [u8]) -> &'a [u8] {
        let now = self.now;
        let mut rest = behind;
        match what % 10 {
            0..=3 => {
                let (bytes, left) = behind.split_at(usize::from(how).min(behind.len()));
                rest = left;
                if let Some(id) = self.id.filter(|_| self.stack.read_capacity() > 0) {
                    self.input.extend_from_slice(bytes);
                    self.stack.handle_input(now, id, &mut self.input);
                }
            }
            4 => self.write(how),
            5 => {
                self.now = now + std::time::Duration::from_millis(u64::from(how) * 100);
                self.stack.handle_timeout(self.now);
            }
            6 => {
                let qos = QoS::from_u8(how % 3).unwrap_or_default();
                let payload = vec![how; usize::from(how) * 16];
                let _ = self.stack.publish(now, Message::to("t", payload).expect("a topic").qos(qos));
            }
            7 => {
                if let Some(receipt) = self.receipts.pop() {
                    self.stack.settle(now, receipt, ReasonCode::Success);
                }
            }
            8 => self.end(how),
            _ => {
                let _ = match how {
                    0 => self
                        .stack
                        .disconnect(now, Disconnect::new(std::time::Duration::from_secs(1)))
                        .map(drop),
                    _ => self.stack.reconnect(now),
                };
            }
        }
        self.act(how != 1);
        rest
    }

    fn end(&mut self, how: u8) {
        let Some(id) = self.id.take() else { return };
        let why = (how > 100).then(|| "reset".to_owned());
        self.stack.handle_transport(self.now, id, TransportEvent::Closed(why));
        let before = format!("{:?}", self.stack);
        let mut stale = BytesMut::from(&b"stale"[..]);
        self.stack.handle_input(self.now, id, &mut stale);
        self.stack.handle_sent(self.now, id, 100);
        assert_eq!(format!("{:?}", self.stack), before, "a link that is gone changes nothing");
    }

    fn write(&mut self, how: u8) {
        let Some(id) = self.id else { return };
        let count = self.output.remaining().min(usize::from(how) * 100);
        self.output.advance(count);
        self.stack.handle_sent(self.now, id, count);
    }

    fn act(&mut self, opens: bool) {
        while let Some(event) = self.stack.poll_event() {
            if let Event::Message { receipt, .. } = event {
                self.receipts.push(receipt);
            }
        }
        let _ = self.stack.take_error();
        while let Some(action) = self.stack.poll_action() {
            match action {
                Action::OpenTransport { id, .. } if opens => {
                    self.output.clear();
                    self.input.clear();
                    self.id = Some(id);
                    self.stack.handle_transport(self.now, id, TransportEvent::Opened);
                }
                Action::OpenTransport { id, .. } => {
                    self.stack.handle_transport(
                        self.now,
                        id,
                        TransportEvent::OpenFailed("refused".to_owned()),
                    );
                }
                Action::CloseTransport { id } if self.id == Some(id) => {
                    self.stack.transmit(self.now, &mut self.output);
                    self.output.clear();
                    self.id = None;
                }
                _ => {}
            }
        }
        if self.id.is_some() {
            self.stack.transmit(self.now, &mut self.output);
        }
    }
}
