//! Owns the simulation: machines, the model broker and the links between them, in virtual time.
//! It must not know what a test expects of them beyond the rules that always hold.
//!
//! [`Sim::step`] drives everything that can happen now, then jumps to the earliest wake-up. All chance comes from one
//! seed: a run with the same seed and the same calls is the same run.
//!
//! ```
//! use core::time::Duration;
//! use mqtt_machine::{Message, QoS, Subscribe, TopicFilter};
//! use mqtt_machine_testkit::sim::{Options, Sim, config};
//!
//! let mut sim = Sim::new(Options::default(), 7);
//! let one = sim.add(config("one"));
//! sim.connect(one);
//! sim.subscribe(one, Subscribe::to(TopicFilter::new("greetings")?, QoS::AtLeastOnce))?;
//! sim.publish(one, Message::to("greetings", "hello")?.qos(QoS::ExactlyOnce))?;
//! assert!(sim.run_until(Duration::from_secs(5), |sim| sim.client(one).messages.len() == 1));
//! sim.assert_sound();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod link;
mod options;
mod schedule;
mod tap;

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use mqtt_machine::transcript::Recorder;
use mqtt_machine::{
    Action, Config, Disconnect, Instant, Message, OpId, Output, ReasonCode, Refused, Subscribe,
    TransportEvent, TransportId, Unsubscribe,
};

pub use client::Client;
pub use options::{Options, Settle, config};
pub use schedule::{Report, Schedule};

use crate::broker::{Broker, ConnId, Violation};
use crate::random::Random;
use link::{Link, Phase, Pipe};
use tap::Tap;

/// Machines and a broker in virtual time.
#[derive(Debug)]
pub struct Sim {
    /// The time.
    pub now: Instant,
    /// The broker.
    pub broker: Broker,
    options: Options,
    random: Random,
    clients: Vec<Client>,
    client_ids: Vec<String>,
    links: Vec<Link>,
    /// Connections whose link broke: that the client falls silent there is not its fault.
    broken: BTreeSet<ConnId>,
    next_conn: u64,
    /// Opens that fail, for tests that ask for it.
    refuse: u32,
    steps: u64,
}

/// Setting up, and the commands of clients.
impl Sim {
    /// A broker and no clients.
    pub fn new(options: Options, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            now: Instant::ZERO,
            broker: Broker::new(options.broker.clone(), random.next_u64()),
            options,
            random,
            clients: Vec::new(),
            client_ids: Vec::new(),
            links: Vec::new(),
            broken: BTreeSet::new(),
            next_conn: 0,
            refuse: 0,
            steps: 0,
        }
    }

    /// Adds a client; it is named by its place, from 0.
    pub fn add(&mut self, config: Config) -> usize {
        let tap = Tap::new(config.version);
        self.client_ids.push(config.client_id.clone());
        let seed = self.random.next_u64();
        let machine = Recorder::new(Arc::new(config), seed, self.now, self.options.recording);
        self.clients.push(Client::new(machine, tap, self.options.settle.clone()));
        self.clients.len() - 1
    }

    /// A client.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn client(&self, client: usize) -> &Client {
        &self.clients[client]
    }

    /// A client, to give it commands directly.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn client_mut(&mut self, client: usize) -> &mut Client {
        &mut self.clients[client]
    }

    /// What the links and drivers are like from now on.
    pub const fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// How many steps were made.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Lets a client begin to connect.
    ///
    /// # Panics
    /// When the machine refuses: it connects already.
    pub fn connect(&mut self, client: usize) {
        let result = self.clients[client].machine.connect(self.now);
        assert!(result.is_ok(), "connect: {result:?}");
    }

    /// Lets a client connect and runs until it is connected.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn connect_now(&mut self, client: usize) {
        self.connect(client);
        assert!(self.run_until(Duration::from_secs(60), |sim| sim.client(client).machine.is_connected()));
    }

    fn accept(&mut self, client: usize, result: Result<OpId, Refused>) -> Result<OpId, Refused> {
        let op = result?;
        if !self.clients[client].accepted.insert(op) || self.clients[client].outcomes.contains_key(&op) {
            self.clients[client].complaints.push(format!("{op:?} names two commands"));
        }
        Ok(op)
    }

    /// Lets a client publish.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn publish(&mut self, client: usize, message: Message) -> Result<OpId, Refused> {
        let result = self.clients[client].machine.publish(self.now, message);
        self.accept(client, result)
    }

    /// Lets a client subscribe.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn subscribe(&mut self, client: usize, subscribe: Subscribe) -> Result<OpId, Refused> {
        let result = self.clients[client].machine.subscribe(self.now, subscribe);
        self.accept(client, result)
    }

    /// Lets a client unsubscribe.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn unsubscribe(&mut self, client: usize, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        let result = self.clients[client].machine.unsubscribe(self.now, unsubscribe);
        self.accept(client, result)
    }

    /// Lets a client disconnect.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn disconnect(&mut self, client: usize, disconnect: Disconnect) -> Result<OpId, Refused> {
        let result = self.clients[client].machine.disconnect(self.now, disconnect);
        self.accept(client, result)
    }

    /// Breaks the link of a client now: what is on its way is lost, both sides notice in their time.
    pub fn cut(&mut self, client: usize) {
        let Some(at) = self.link_of(client) else { return };
        self.break_link(at);
    }

    /// Breaks the link of a client so that neither side ever notices: nothing arrives any more.
    pub fn black_hole(&mut self, client: usize) {
        let Some(at) = self.link_of(client) else { return };
        let never = Instant::from_micros(u64::MAX);
        self.broken.insert(self.links[at].conn);
        self.links[at].up.break_off(never);
        self.links[at].down.break_off(never);
        self.links[at].budget = Some(0);
    }

    /// The next `count` attempts to open a link fail.
    pub const fn refuse(&mut self, count: u32) {
        self.refuse = count;
    }
}

/// Running.
impl Sim {
    /// Does everything that can happen now, then jumps to the earliest wake-up. False when there is none.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        let mut rounds = 0_u32;
        while self.drive() {
            rounds += 1;
            if rounds > 100_000 {
                self.complain("there is always more to do and time stands still");
                return false;
            }
        }
        let Some(next) = self.next_wake() else { return false };
        self.now = self.now.max(next);
        true
    }

    /// Runs for so long.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until `is_true`, or for `at_most`; whether it came true. The clock ends at the earlier of the two.
    pub fn run_until(&mut self, at_most: Duration, mut is_true: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + at_most;
        loop {
            let mut rounds = 0_u32;
            while self.drive() && rounds < 100_000 {
                rounds += 1;
                if is_true(self) {
                    return true;
                }
            }
            if is_true(self) {
                return true;
            }
            self.steps += 1;
            match self.next_wake() {
                Some(next) if next <= end && rounds < 100_000 => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return false;
                }
            }
        }
    }

    /// Lets time jump without anybody waking, as in a suspended machine. What is due is late.
    pub fn sleep(&mut self, duration: Duration) {
        self.now += duration;
    }

    /// What broke a rule that always holds, so far.
    pub fn complaints(&self) -> Vec<String> {
        let mut list = Vec::new();
        for (client, client_id) in self.clients.iter().zip(&self.client_ids) {
            let own = client.complaints.iter().chain(&client.tap.complaints);
            list.extend(own.map(|complaint| format!("{client_id}: {complaint}")));
        }
        let silent = |violation: &&Violation| {
            violation.reason == ReasonCode::KeepAliveTimeout && self.broken.contains(&violation.conn)
        };
        let violations = self.broker.log().violations().filter(|violation| !silent(violation));
        list.extend(violations.map(|violation| {
            format!("the broker at {} says {}: {}", violation.at, violation.reason, violation.what)
        }));
        list
    }

    /// # Panics
    /// With every complaint, when there is one.
    pub fn assert_sound(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn complain(&mut self, what: &str) {
        if let Some(client) = self.clients.first_mut() {
            client.complaints.push(what.to_owned());
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let clients = self.clients.iter().flat_map(Client::deadlines);
        let links = self.links.iter().flat_map(Link::due);
        // What has arrived and is not read waits for the client, not for time.
        let later = clients.chain(links).filter(|at| *at > self.now);
        later.chain(self.broker.poll_timeout()).min().filter(|at| *at < Instant::from_micros(u64::MAX))
    }

    fn link_of(&self, client: usize) -> Option<usize> {
        let id = self.clients[client].transport?;
        self.links.iter().position(|link| link.client == client && link.id == id)
    }

    fn latency(&mut self) -> Duration {
        self.random.duration(self.options.latency.clone())
    }

    /// Everything that can happen now, once; false when nothing did.
    fn drive(&mut self) -> bool {
        let mut any = false;
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle_timeout(self.now);
        }
        for client in 0..self.clients.len() {
            any |= self.clients[client].take_timeout(self.now);
            any |= self.clients[client].take_due(self.now);
            any |= self.do_actions(client);
            any |= self.write(client);
            any |= self.clients[client].take_events(self.now, &mut self.random);
        }
        for at in 0..self.links.len() {
            any |= self.open(at);
            any |= self.deliver_up(at);
            any |= self.deliver_down(at);
        }
        any |= self.broker_output();
        self.links.retain(|link| !(link.client_done && link.broker_done));
        any
    }

    fn do_actions(&mut self, client: usize) -> bool {
        let mut any = false;
        while let Some(action) = self.clients[client].machine.poll_action() {
            any = true;
            match action {
                Action::OpenTransport { id, .. } => self.begin_open(client, id),
                Action::CloseTransport { id } => {
                    let due = self.now + self.latency();
                    let own = |link: &&mut Link| link.client == client && link.id == id;
                    if let Some(link) = self.links.iter_mut().find(own) {
                        link.client_done = true;
                        link.broker_done |= link.phase != Phase::Open;
                        link.up.finish(due);
                    }
                    self.clients[client].transport.take_if(|transport| *transport == id);
                }
                Action::Store { seq, record } => {
                    let due = self.now + self.random.duration(self.options.store.clone());
                    let last = self.clients[client].records.last().map_or(due, |(last, ..)| *last);
                    self.clients[client].records.push((due.max(last), seq, record));
                }
                // Nobody is asked here: configurations for simulations do not say so.
                _ => {}
            }
        }
        any
    }

    fn begin_open(&mut self, client: usize, id: TransportId) {
        let fails = self.refuse > 0 || self.random.one_in(self.options.refuse_one_in);
        self.refuse = self.refuse.saturating_sub(1);
        let at = self.now + self.latency() + self.latency();
        let budget = match &self.options.break_after {
            Some(range) if self.options.breaks > 0 => {
                self.options.breaks -= 1;
                Some(self.random.range(range.clone()))
            }
            _ => None,
        };
        let conn = ConnId::new(self.next_conn);
        self.next_conn += 1;
        self.links.push(Link {
            client,
            id,
            conn,
            phase: Phase::Opening { at, fails },
            up: Pipe::default(),
            down: Pipe::default(),
            client_done: false,
            broker_done: false,
            budget,
        });
        let mark = self.random.size(self.options.mark.clone());
        let client = &mut self.clients[client];
        client.transport = Some(id);
        client.output = Output::with_mark(mark);
        client.pending.clear();
        client.input.clear();
        client.tap.opened();
    }

    fn open(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        let Phase::Opening { at: when, fails } = link.phase else { return false };
        if when > self.now || link.client_done {
            return false;
        }
        let machine = &mut self.clients[link.client].machine;
        link.phase = Phase::Open;
        if fails {
            link.client_done = true;
            link.broker_done = true;
            machine.handle_transport(self.now, link.id, TransportEvent::OpenFailed("refused".into()));
            return true;
        }
        if self.random.one_in(self.options.forget_one_in) {
            self.broker.forget_session(&self.client_ids[link.client]);
        }
        self.broker.open(self.now, link.conn);
        machine.handle_transport(self.now, link.id, TransportEvent::Opened);
        true
    }

    /// Fills the client's output and puts a part of it on the link.
    fn write(&mut self, client: usize) -> bool {
        let Some(at) = self.link_of(client) else { return false };
        if self.links[at].phase != Phase::Open || self.links[at].client_done {
            return false;
        }
        let owner = &mut self.clients[client];
        if owner.pending.is_empty() {
            owner.machine.transmit(self.now, &mut owner.output);
            let bytes = owner.output.copy_to_bytes(owner.output.remaining());
            owner.tap.sent(&bytes);
            owner.pending.extend_from_slice(&bytes);
        }
        let room = self.options.capacity.saturating_sub(self.links[at].up.len());
        let chunk = self.random.size(self.options.chunk.clone());
        let owner = &mut self.clients[client];
        let count = chunk.min(room).min(owner.pending.len());
        if count == 0 {
            return false;
        }
        let bytes = owner.pending.split_to(count).freeze();
        owner.machine.handle_sent(self.now, self.links[at].id, count);
        let due = self.now + self.latency();
        // On a link that broke, what the client still says is lost.
        if self.links[at].up.is_whole() {
            self.links[at].up.push(due, bytes);
        }
        true
    }

    fn deliver_up(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        if link.broker_done || link.phase != Phase::Open {
            return false;
        }
        if self.broker.is_congested(link.conn) {
            return false;
        }
        if let Some(bytes) = link.up.take(self.now, usize::MAX) {
            let (arrive, breaks) = link.spend(bytes.len());
            self.broker.handle_input(self.now, link.conn, &bytes[..arrive]);
            if breaks {
                self.break_link(at);
            }
            return true;
        }
        let ended = link.up.has_ended(self.now);
        if ended {
            link.broker_done = true;
            self.broker.closed(self.now, link.conn);
        }
        ended
    }

    fn deliver_down(&mut self, at: usize) -> bool {
        let most = self.random.size(self.options.chunk.clone());
        let link = &mut self.links[at];
        if link.client_done || link.phase != Phase::Open {
            return false;
        }
        let client = &mut self.clients[link.client];
        let capacity = client.machine.read_capacity();
        if capacity > 0 && !client.input.is_empty() && client.transport == Some(link.id) {
            let before = client.input.len();
            client.machine.handle_input(self.now, link.id, &mut client.input);
            if client.input.len() != before {
                return true;
            }
        }
        if let Some(bytes) = link.down.take(self.now, most.min(capacity)) {
            let (arrive, breaks) = link.spend(bytes.len());
            client.tap.received(&bytes[..arrive]);
            client.input.extend_from_slice(&bytes[..arrive]);
            client.machine.handle_input(self.now, link.id, &mut client.input);
            if breaks {
                self.break_link(at);
            }
            return true;
        }
        let ended = link.down.has_ended(self.now);
        if ended {
            link.client_done = true;
            client.transport.take_if(|transport| *transport == link.id);
            link.up.finish(self.now);
            let event = TransportEvent::Closed(Some("the link is gone".into()));
            client.machine.handle_transport(self.now, link.id, event);
        }
        ended
    }

    fn break_link(&mut self, at: usize) {
        let (client_notice, broker_notice) = (
            self.random.duration(self.options.notice.clone()),
            self.random.duration(self.options.notice.clone()),
        );
        let link = &mut self.links[at];
        self.broken.insert(link.conn);
        link.up.break_off(self.now + broker_notice);
        link.down.break_off(self.now + client_notice);
    }

    fn broker_output(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.links.len() {
            let link = &self.links[at];
            if link.broker_done || link.phase != Phase::Open || link.down.len() >= self.options.capacity {
                continue;
            }
            let bytes: Bytes = self.broker.poll_output(link.conn);
            if !bytes.is_empty() {
                any = true;
                let due = self.now + self.latency();
                // On a link that broke, what the broker still says is lost.
                if self.links[at].down.is_whole() {
                    self.links[at].down.push(due, bytes);
                }
            }
        }
        while let Some(conn) = self.broker.poll_close() {
            any = true;
            let due = self.now + self.latency();
            if let Some(link) = self.links.iter_mut().find(|link| link.conn == conn) {
                link.broker_done = true;
                link.down.finish(due);
            }
        }
        any
    }
}
