//! Owns the simulation: processes with machines, model brokers and the links between them, in virtual time.
//! It must not know what a test expects of them beyond the rules that always hold.
//!
//! [`Sim::step`] drives everything that can happen now, then jumps to the earliest wake-up. All chance comes from one
//! seed: a run with the same seed and the same calls is the same run. Every machine is a
//! [`Checked`] one: what does not hold stands in [`Sim::complaints`].
//!
//! A [`Schedule`] is such a run drawn from a seed, faults and all, with what must hold at its end.
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

mod authenticate;
mod between;
mod client;
#[cfg(feature = "layers")]
mod layered;
mod link;
mod options;
mod run;
mod schedule;
mod storage;

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use mqtt_machine::journal::PublishKey;
use mqtt_machine::{
    Config, Disconnect, Instant, KeyedPublication, Message, OpId, ReasonCode, Refused, Subscribe, Unsubscribe,
};

pub use client::Client;
#[cfg(feature = "layers")]
pub use layered::Layering;
pub use options::{Options, Settle, config, server};
pub use schedule::{Failure, Report, Schedule};
pub use storage::{Storage, fold};

use crate::broker::{self, Broker, ConnId};
use crate::invariants::{Checked, Invariant, Violation};
use crate::random::Random;
use between::Ways;
use client::Process;
use link::Link;

/// Processes with machines, and brokers, in virtual time.
#[derive(Debug)]
pub struct Sim {
    /// The time.
    pub now: Instant,
    /// The first broker, which is the only one unless [`Options::shared`] is off.
    pub broker: Broker,
    /// The brokers of the other servers, when they share nothing with the first.
    pub others: Vec<Broker>,
    /// For each server, until when it is down.
    doors: Vec<Instant>,
    options: Options,
    random: Random,
    clients: Vec<Client>,
    client_ids: Vec<String>,
    links: Vec<Link>,
    /// Connections whose link broke: that the client falls silent there is not its fault.
    broken: BTreeSet<ConnId>,
    next_conn: u64,
    /// What lies between clients and servers.
    ways: Option<Box<dyn Ways>>,
    /// Opens that fail, for tests that ask for it.
    refuse: u32,
    steps: u64,
    /// Something that is nobody's alone did not hold.
    stuck: Option<Violation>,
    /// What happened, in words, when it is wanted.
    trace: Option<Vec<String>>,
}

/// Setting up, and the commands of clients.
impl Sim {
    /// A broker and no clients.
    pub fn new(options: Options, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let broker = Broker::new(options.broker.clone(), random.next_u64());
        let servers = options.servers.max(1);
        #[cfg(feature = "layers")]
        let ways = options.layers.as_ref().map(|layers| layers.ways(seed));
        #[cfg(not(feature = "layers"))]
        let ways = None;
        let separate = if options.shared { 1 } else { servers };
        Self {
            now: Instant::ZERO,
            broker,
            others: (1..separate).map(|_| Broker::new(options.broker.clone(), random.next_u64())).collect(),
            doors: vec![Instant::ZERO; servers],
            options,
            random,
            clients: Vec::new(),
            client_ids: Vec::new(),
            links: Vec::new(),
            broken: BTreeSet::new(),
            next_conn: 0,
            ways,
            refuse: 0,
            steps: 0,
            stuck: None,
            trace: None,
        }
    }

    /// Adds a client; it is named by its place, from 0.
    pub fn add(&mut self, config: Config) -> usize {
        self.client_ids.push(config.client_id.clone());
        let config = Arc::new(config);
        let seed = self.random.next_u64();
        let machine = Checked::recorded(Arc::clone(&config), seed, self.now, self.options.recording);
        self.clients.push(Client::new(config, machine, &self.options));
        self.clients.len() - 1
    }

    /// A client.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn client(&self, client: usize) -> &Client {
        &self.clients[client]
    }

    /// All clients, in their order.
    pub fn clients(&self) -> &[Client] {
        &self.clients
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
        let result = self.try_connect(client);
        assert!(result.is_ok(), "connect: {result:?}");
    }

    /// Lets a client begin to connect. One that has crashed does when it runs again.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn try_connect(&mut self, client: usize) -> Result<(), Refused> {
        self.note(|sim| format!("{}: connect", sim.name(client)));
        let now = self.now;
        let client = &mut self.clients[client];
        client.wanted = true;
        if matches!(client.process, Process::Down { .. }) {
            return Ok(());
        }
        client.machine.connect(now)
    }

    /// Lets a client end its connection and begin the next at once.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn reconnect(&mut self, client: usize) -> Result<(), Refused> {
        self.note(|sim| format!("{}: reconnect", sim.name(client)));
        self.clients[client].machine.reconnect(self.now)
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
        self.clients[client].accepted.insert(op);
        Ok(op)
    }

    /// Lets a client publish under a key, or tells what became of what was published under it.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn publish_keyed(
        &mut self,
        client: usize,
        key: PublishKey,
        message: Message,
    ) -> Result<KeyedPublication, Refused> {
        let name = format!("{key:?}");
        let known = self.clients[client].machine.publish_keyed(self.now, key, message)?;
        self.note(|sim| format!("{}: publish under {name}: {known:?}", sim.name(client)));
        if let KeyedPublication::Accepted(op) = known {
            self.accept(client, Ok(op))?;
        }
        Ok(known)
    }

    /// Lets a client publish.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn publish(&mut self, client: usize, message: Message) -> Result<OpId, Refused> {
        self.note(|sim| {
            let text = message.payload_lossy();
            let text = text.trim_end_matches('.');
            format!(
                "{}: publish {text:?} QoS {} to {}",
                sim.name(client),
                message.qos,
                message.topic.as_str()
            )
        });
        let writes = self.link_of(client).is_some_and(|at| self.links[at].takes_output());
        let owner = &mut self.clients[client];
        let result = if writes && owner.publishes_into() {
            owner.machine.publish_into(self.now, &message, &mut owner.output)
        } else {
            owner.machine.publish(self.now, message)
        };
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
        self.note(|sim| format!("{}: disconnect", sim.name(client)));
        self.clients[client].wanted = false;
        self.clients[client].again_at = None;
        let result = self.clients[client].machine.disconnect(self.now, disconnect);
        self.accept(client, result)
    }
}

/// Faults.
impl Sim {
    /// Breaks the link of a client now: what is on its way is lost, both sides notice in their time.
    pub fn cut(&mut self, client: usize) {
        let Some(at) = self.link_of(client) else { return };
        self.note(|sim| format!("{}: its link breaks", sim.name(client)));
        self.break_link(at);
    }

    /// Breaks the link of a client for the client alone, which notices in its time. What it had on its way still arrives,
    /// `later` than it would have: perhaps after the first bytes of its next connection.
    pub fn strand(&mut self, client: usize, later: Duration) {
        let Some(at) = self.link_of(client) else { return };
        self.note(|sim| {
            format!("{}: its link breaks, what it sent arrives {later:?} later", sim.name(client))
        });
        let notice = self.random.duration(self.options.notice.clone());
        let link = &mut self.links[at];
        self.broken.insert(link.conn);
        link.up.delay(self.now + later);
        link.up.finish(self.now + later);
        link.down.break_off(self.now + notice);
    }

    /// Breaks the link of a client so that neither side ever notices: nothing arrives any more.
    pub fn black_hole(&mut self, client: usize) {
        let Some(at) = self.link_of(client) else { return };
        self.note(|sim| format!("{}: its link falls silent", sim.name(client)));
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

    /// A server is down for so long: its links break, and new ones are refused. Clients that know others go there.
    pub fn fail_over(&mut self, server: usize, duration: Duration) {
        let until = self.now + duration;
        let Some(door) = self.doors.get_mut(server) else { return };
        *door = until.max(*door);
        self.note(|_| format!("server {server} is down for {duration:?}"));
        for at in 0..self.links.len() {
            if self.links[at].door == server {
                self.break_link(at);
            }
        }
    }

    /// Lets time jump without anybody waking, as in a suspended machine. What is due is late.
    pub fn sleep(&mut self, duration: Duration) {
        self.note(|_| format!("everything stands still for {duration:?}"));
        self.now += duration;
        self.excuse(|_| true);
    }

    /// Suspends the process of one client for so long: it does nothing, and nobody notices but by its silence.
    pub fn suspend(&mut self, client: usize, duration: Duration) {
        if !self.clients[client].is_running() {
            return;
        }
        self.note(|sim| format!("{}: suspended for {duration:?}", sim.name(client)));
        self.clients[client].process = Process::Suspended { until: self.now + duration };
        self.excuse(|link| link.client == client);
    }

    /// Crashes the process of a client. What its store had made durable survives, and perhaps a part of what it had not.
    /// It runs again after `pause`, restored from that, and connects if it was asked to before.
    pub fn crash(&mut self, client: usize, pause: Duration) {
        if matches!(self.clients[client].process, Process::Down { .. }) {
            return;
        }
        let handed = self.clients[client].records.len();
        if let Some(at) = self.link_of(client) {
            // The operating system still sends what it was handed, and closes.
            let due = self.now + self.latency();
            let link = &mut self.links[at];
            link.client_done = true;
            link.broker_done |= link.phase != link::Phase::Open;
            link.up.finish(due);
            self.broken.insert(self.links[at].conn);
        }
        self.clients[client].crash(self.now, self.now + pause, &mut self.random);
        let kept = self.clients[client].records.len();
        self.note(|sim| {
            format!("{}: crashes for {pause:?}, {kept} of {handed} records survive", sim.name(client))
        });
    }

    /// The silence of those connections is not their clients' fault.
    fn excuse(&mut self, whose: impl Fn(&Link) -> bool) {
        let conns = self.links.iter().filter(|link| whose(link)).map(|link| link.conn);
        self.broken.extend(conns);
    }
}

/// What is wrong, and what happened.
impl Sim {
    /// What broke a rule that always holds, so far.
    pub fn violations(&self) -> Vec<Violation> {
        let mut list: Vec<Violation> = self.stuck.iter().cloned().collect();
        for (place, client) in self.clients.iter().enumerate() {
            list.extend(client.violations().map(|violation| {
                let detail = format!("{}: {}", self.name(place), violation.detail);
                Violation::new(violation.invariant, violation.at, detail)
            }));
        }
        list
    }

    /// What the brokers say that clients did wrong, so far.
    pub fn accusations(&self) -> Vec<Violation> {
        let silent = |violation: &&broker::Violation| {
            violation.reason == ReasonCode::KeepAliveTimeout && self.broken.contains(&violation.conn)
        };
        let brokers = core::iter::once(&self.broker).chain(&self.others);
        let violations = brokers.flat_map(|broker| broker.log().violations()).filter(|it| !silent(it));
        violations
            .map(|violation| {
                let who = violation.client_id.as_deref().unwrap_or("somebody");
                let detail = format!("{who} is accused of {}: {}", violation.reason, violation.what);
                Violation::new(Invariant::Client, violation.at, detail)
            })
            .collect()
    }

    /// Both, in words.
    pub fn complaints(&self) -> Vec<String> {
        self.violations().iter().chain(&self.accusations()).map(ToString::to_string).collect()
    }

    /// # Panics
    /// With every complaint, when there is one.
    pub fn assert_sound(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// From now on what happens is written down.
    pub fn keep_trace(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// What happened since [`keep_trace`](Self::keep_trace), one line each.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Writes a line down, if that is wanted.
    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>14} {}", self.now.to_string(), line(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    /// The client identifier that a client was made with.
    pub fn client_id(&self, client: usize) -> &str {
        &self.client_ids[client]
    }

    /// What a client is called in a trace: its identifier, and its place when it has a twin.
    fn name(&self, client: usize) -> String {
        let own = &self.client_ids[client];
        let twins = self.client_ids.iter().filter(|other| *other == own).count();
        if twins > 1 { format!("{own} ({client})") } else { own.clone() }
    }

    /// How often a message with this topic and payload was accepted, by all brokers together.
    pub fn count(&self, topic: &str, payload: &[u8]) -> usize {
        let others = self.others.iter().map(|broker| broker.log().count(topic, payload));
        self.broker.log().count(topic, payload) + others.sum::<usize>()
    }

    /// How many messages wait for a client, at all brokers together.
    pub fn owed_to(&self, client_id: &str) -> usize {
        let others = self.others.iter().map(|broker| broker.owed_to(client_id));
        self.broker.owed_to(client_id) + others.sum::<usize>()
    }

    /// The broker behind a server.
    fn broker_at(&mut self, door: usize) -> &mut Broker {
        match door.checked_sub(1).filter(|_| !self.options.shared) {
            Some(other) if other < self.others.len() => &mut self.others[other],
            _ => &mut self.broker,
        }
    }
}
