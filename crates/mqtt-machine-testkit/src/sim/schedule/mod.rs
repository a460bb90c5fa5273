//! Owns random schedules: clients, servers, messages and faults, all drawn from a seed.
//! It must not know how the simulation works, nor what must hold at its end.
//!
//! A schedule is data: a list of [`Step`]s and what the links are like. [`Schedule::run`] plays it and judges it by every
//! [`Invariant`](crate::invariants::Invariant); [`Schedule::shrink`] finds the smallest one that fails in the same way.
//!
//! ```
//! use mqtt_machine::ProtocolVersion;
//! use mqtt_machine_testkit::sim::Schedule;
//!
//! let schedule = Schedule::from_seed(ProtocolVersion::V5, 7);
//! let report = schedule.run().map_err(|failure| format!("{failure}\n{}", schedule.rerun()))?;
//! assert!(report.connections > 0);
//! # Ok::<(), String>(())
//! ```

mod interests;
mod judge;
mod policies;
mod report;
mod run;
mod shrink;
mod terms;

use core::fmt;
use core::time::Duration;

use mqtt_machine::{LostSession, ProtocolVersion, QoS};

use super::storage::Storage;
use super::{Options, Settle};
use crate::broker::BrokerConfig;
use crate::random::Random;
use interests::Interests;
use policies::Policies;
pub use report::{Failure, Report};
use terms::Terms;

/// Something that is done to the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A client begins to connect, if it does not already.
    Connect(usize),
    Publish {
        client: usize,
        number: u64,
        topic: u64,
        qos: QoS,
        filler: usize,
    },
    Cut(usize),
    /// The link breaks for the client alone; what it sent arrives so much later.
    Strand(usize, Duration),
    BlackHole(usize),
    Reconnect(usize),
    /// Everybody's clock jumps.
    Jump(Duration),
    Suspend(usize, Duration),
    Crash(usize, Duration),
    FailOver(usize, Duration),
    /// The broker loses the client's session.
    Forget(usize),
    /// The broker keeps a copy of the client's session, to resurrect it later.
    Copy(usize),
    Resurrect(usize),
    /// A subscriber asks for one filter more, or no longer.
    Ask {
        client: usize,
        more: bool,
    },
    /// A client proves itself again.
    Reauthenticate(usize),
    /// A second client with the same identifier comes up.
    Twin(usize),
    /// The client's server, or the next that it tries, sends it to this one: for good if it has moved.
    Redirect {
        client: usize,
        to: usize,
        moved: bool,
    },
}

impl What {
    /// The client that it is done to.
    const fn client(&self) -> Option<usize> {
        match self {
            Self::Connect(client)
            | Self::Publish { client, .. }
            | Self::Cut(client)
            | Self::Strand(client, _)
            | Self::BlackHole(client)
            | Self::Reconnect(client)
            | Self::Suspend(client, _)
            | Self::Crash(client, _)
            | Self::Forget(client)
            | Self::Copy(client)
            | Self::Resurrect(client)
            | Self::Twin(client)
            | Self::Ask { client, .. }
            | Self::Reauthenticate(client)
            | Self::Redirect { client, .. } => Some(*client),
            Self::Jump(_) | Self::FailOver(..) => None,
        }
    }
}

/// What is done, and how long after the step before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) after: Duration,
    pub(super) what: What,
}

impl Step {
    /// The server that it names.
    const fn server(&self) -> Option<usize> {
        match self.what {
            What::FailOver(server, _) | What::Redirect { to: server, .. } => Some(server),
            _ => None,
        }
    }
}

/// How much can be promised at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    /// Servers hold sessions that are not the client's own: what holds for each machine alone.
    Own,
    /// Servers lose sessions: every command ends, and every message reaches a server.
    Accepted,
    /// QoS 1 at least once and QoS 2 exactly once, to the subscribers, in order.
    Delivered,
}

/// What happens in one run. Everything in it follows from the version and the seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    version: ProtocolVersion,
    seed: u64,
    options: Options,
    publishers: usize,
    subscribers: usize,
    receive_maximum: u16,
    in_flight: u16,
    incoming_bytes: usize,
    durable: bool,
    prepare: bool,
    lost_session: LostSession,
    topics: u64,
    steps: Vec<Step>,
    forgetful: bool,
    terms: Terms,
    interests: Interests,
    policies: Policies,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Which faults a schedule has beyond broken links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// None but late, slow and broken links.
    Links,
    /// Processes crash, sleep and reconnect, servers fail over with their sessions, clocks jump.
    Rough,
    /// Sessions are lost as well.
    Forgetful,
    /// Sessions are those of others, or old.
    Confused,
}

impl Schedule {
    /// The schedule of this seed.
    pub fn from_seed(version: ProtocolVersion, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mood = match random.range(0..=9) {
            0..=2 => Mood::Links,
            3..=7 => Mood::Rough,
            8 => Mood::Forgetful,
            _ => Mood::Confused,
        };
        let publishers = [1, 1, 1, 2, 3][random.size(0..=4)];
        let subscribers = [1, 1, 2][random.size(0..=2)];
        let payload = [0, 10, 300][random.size(0..=2)];
        let topics = random.range(1..=3);
        let options = Self::options(&mut random, mood);
        let mut schedule = Self {
            version,
            seed,
            options,
            publishers,
            subscribers,
            receive_maximum: [1, 2, 10, u16::MAX][random.size(0..=3)],
            in_flight: [1, 4, u16::MAX][random.size(0..=2)],
            incoming_bytes: [300, 2_000, 32 << 20][random.size(0..=2)],
            durable: random.one_in(2),
            prepare: random.one_in(4),
            lost_session: if random.one_in(2) { LostSession::SendAgain } else { LostSession::Report },
            topics,
            steps: Vec::new(),
            forgetful: false,
            terms: Terms::default(),
            interests: Interests::default(),
            policies: Policies::default(),
        };
        schedule.draw_steps(&mut random, mood, payload);
        Terms::draw(&mut schedule);
        Interests::draw(&mut schedule);
        Policies::draw(&mut schedule);
        Policies::draw_keys(&mut schedule);
        schedule
    }

    fn options(random: &mut Random, mood: Mood) -> Options {
        let receive_maximum = [1, 2, 3, 10, u16::MAX][random.size(0..=4)];
        let slow = ms(random.range(0..=200));
        let chunk = [1, 3, 20, 65_536][random.size(0..=3)];
        let mark = [1, 64, 65_536][random.size(0..=2)];
        let settle = match random.range(0..=2) {
            0 => Settle::AtOnce,
            _ => Settle::After(ms(0)..=ms(random.range(1..=400))),
        };
        Options {
            broker: BrokerConfig::new().receive_maximum(receive_maximum).delay(ms(random.range(0..=1) * 7)),
            latency: ms(0)..=slow,
            chunk: 1..=chunk,
            mark: mark..=mark,
            break_after: Some(1..=random.range(2..=1_500)),
            breaks: random.range(0..=12) as u32,
            notice: ms(0)..=ms([0, 50, 20_000][random.size(0..=2)]),
            refuse_one_in: [0, 3, 10][random.size(0..=2)],
            settle,
            store: ms(0)..=ms(random.range(0..=30)),
            servers: if mood == Mood::Links { 1 } else { random.size(1..=3) },
            shared: mood != Mood::Confused || random.one_in(2),
            straggle: ms(0)..=ms([0, 0, 300, 5_000][random.size(0..=3)]),
            late_input: random.one_in(2),
            come_back: true,
            ..Options::default()
        }
    }

    fn draw_steps(&mut self, random: &mut Random, mood: Mood, payload: u64) {
        let pause = random.range(0..=500);
        let messages = random.range(1..=24);
        let mut whats = Vec::new();
        for number in 0..messages {
            let client = random.size(0..=self.publishers - 1);
            let qos = match random.range(0..=8) {
                0 => QoS::AtMostOnce,
                1..=4 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let topic = random.range(1..=self.topics);
            let filler = random.range(0..=payload) as usize;
            whats.push(What::Publish { client, number, topic, qos, filler });
        }
        let faults = if mood == Mood::Links { 0 } else { random.range(1..=8) };
        for client in 0..self.publishers {
            let at = random.size(0..=whats.len());
            whats.insert(at, What::Connect(client));
        }
        for _ in 0..faults {
            let at = random.size(0..=whats.len());
            let what = self.draw_fault(random, mood);
            whats.insert(at, what);
        }
        if mood == Mood::Confused {
            // A copy that is never resurrected says nothing.
            let client = self.anybody(random);
            whats.insert(random.size(0..=whats.len() / 2), What::Copy(client));
            whats.push(What::Resurrect(client));
        }
        self.steps =
            whats.into_iter().map(|what| Step { after: ms(random.range(0..=pause)), what }).collect();
    }

    fn anybody(&self, random: &mut Random) -> usize {
        random.size(0..=self.publishers + self.subscribers - 1)
    }

    fn draw_fault(&self, random: &mut Random, mood: Mood) -> What {
        let client = self.anybody(random);
        match (mood, random.range(0..=11)) {
            (Mood::Forgetful, 0..=3) => What::Forget(client),
            (Mood::Confused, 0..=1) => What::Twin(client),
            (Mood::Confused, 2) => What::Copy(client),
            (Mood::Confused, 3) => What::Resurrect(client),
            (_, 0..=3) if self.durable => What::Crash(client, ms(random.range(0..=20_000))),
            (_, 4) => What::Jump(Duration::from_secs(random.range(1..=20_000))),
            (_, 5) => What::Suspend(client, ms(random.range(1..=90_000))),
            (_, 6) => What::Strand(client, ms(random.range(0..=10_000))),
            (_, 7) => What::BlackHole(client),
            (_, 8) => What::Reconnect(client),
            (_, 9..=10) => {
                What::FailOver(random.size(0..=self.options.servers - 1), ms(random.range(0..=60_000)))
            }
            _ => What::Cut(client),
        }
    }

    /// The same schedule with a broker that forgets sessions, so that less can hold: every command still ends once, and
    /// every message reaches the broker.
    #[must_use]
    pub const fn forgetful(mut self) -> Self {
        self.options.forget_one_in = 3;
        self.forgetful = true;
        self
    }

    /// The same schedule whose clients speak through layers, drawn from its seed. Links that break do it after up to four times
    /// as many bytes, for there are more.
    #[cfg(feature = "layers")]
    #[must_use]
    pub fn layered(mut self) -> Self {
        let mut random = Random::new(self.seed ^ 0x6C61_7965_7273);
        self.options.layers = Some(super::Layering::draw(&mut random));
        let most = random.range(1..=4);
        self.options.break_after = self.options.break_after.map(|range| 1..=range.end() * most);
        self
    }

    /// One layer less, if there is any.
    fn peel(&mut self) {
        #[cfg(feature = "layers")]
        {
            self.options.layers = self.options.layers.take().and_then(super::Layering::less);
        }
        #[cfg(not(feature = "layers"))]
        let _ = self;
    }

    /// What clients speak through, in words; empty when nothing.
    fn layers(&self) -> String {
        #[cfg(feature = "layers")]
        return self.options.layers.as_ref().map(ToString::to_string).unwrap_or_default();
        #[cfg(not(feature = "layers"))]
        String::new()
    }

    /// The same schedule with another storage for the records of its clients. It has an effect where
    /// [`is_durable`](Self::is_durable).
    #[must_use]
    pub fn stored_in(mut self, storage: fn() -> Box<dyn Storage>) -> Self {
        self.options.storage = storage;
        self
    }

    /// Whether its clients have a store, and crash.
    pub fn is_durable(&self) -> bool {
        self.durable && self.steps.iter().any(|step| matches!(step.what, What::Crash(..)))
    }

    /// The line that runs this seed again, and shrinks what fails.
    pub fn rerun(&self) -> String {
        let forgetful = if self.forgetful { " --forgetful" } else { "" };
        let (feature, layers) =
            if self.layers().is_empty() { ("", "") } else { (" --features layers", " --layers") };
        format!(
            "cargo run --release -p mqtt-machine-testkit{feature} --bin simulate -- --version {} --seed {}{forgetful}{layers}",
            self.version, self.seed
        )
    }

    /// How many steps it has.
    pub const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has no steps.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn promise(&self) -> Promise {
        let has = |is: fn(&What) -> bool| self.steps.iter().any(|step| is(&step.what));
        let strange = has(|what| matches!(what, What::Twin(_) | What::Resurrect(_)));
        if strange || (!self.options.shared && self.options.servers > 1) {
            Promise::Own
        } else if self.options.forget_one_in > 0 || has(|what| matches!(what, What::Forget(_))) {
            Promise::Accepted
        } else {
            Promise::Delivered
        }
    }
}

/// The schedule as a list of steps.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { latency, chunk, mark, break_after, breaks, notice, store, settle, .. } = &self.options;
        writeln!(f, "MQTT {}, seed {}, {:?}", self.version, self.seed, self.promise())?;
        writeln!(
            f,
            "  {} publishers, {} subscribers, {} servers (shared: {}), durable: {}, asks for servers: {}",
            self.publishers,
            self.subscribers,
            self.options.servers,
            self.options.shared,
            self.durable,
            self.prepare
        )?;
        writeln!(
            f,
            "  in flight {}, receive maximum {} and {} of the server, {} bytes incoming, lost session: {:?}",
            self.in_flight,
            self.receive_maximum,
            self.options.broker.receive_maximum,
            self.incoming_bytes,
            self.lost_session
        )?;
        writeln!(
            f,
            "  latency {latency:?}, chunk {chunk:?}, mark {mark:?}, receipts {settle:?}, store {store:?}"
        )?;
        writeln!(
            f,
            "  {breaks} links break after {break_after:?} bytes, noticed within {notice:?}, late by {:?} (input: {})",
            self.options.straggle, self.options.late_input
        )?;
        writeln!(
            f,
            "  one in {} openings refused, one in {} forgets (0: none), broker delay {:?}",
            self.options.refuse_one_in, self.options.forget_one_in, self.options.broker.delay
        )?;
        if !self.layers().is_empty() {
            writeln!(f, "  layers: {}", self.layers())?;
        }
        if self.terms != Terms::default() {
            let BrokerConfig { versions, maximum_qos, retain_available, .. } = &self.options.broker;
            writeln!(
                f,
                "  {:?}, servers speak {versions:?}, QoS {maximum_qos}, retain: {retain_available}",
                self.terms
            )?;
        }
        if self.interests != Interests::default() {
            let BrokerConfig { copies, subscription_identifiers, .. } = &self.options.broker;
            writeln!(
                f,
                "  {:?}, servers have identifiers: {subscription_identifiers}, send copies: {copies}",
                self.interests
            )?;
        }
        if self.policies != Policies::default() {
            writeln!(f, "  {:?}", self.policies)?;
        }
        for Step { after, what } in &self.steps {
            writeln!(f, "  after {after:?}: {what:?}")?;
        }
        Ok(())
    }
}
