//! Owns what a simulation is told: how links and drivers behave.
//! It must not know how that is simulated.

use core::ops::RangeInclusive;
use core::time::Duration;

use mqtt_machine::transcript::Recording;
use mqtt_machine::{Config, Server};

use super::storage::{InMemory, Storage};
use crate::broker::BrokerConfig;

/// How receipts come back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settle {
    /// As soon as the message is taken.
    AtOnce,
    /// After a time in this range, so in any order.
    After(RangeInclusive<Duration>),
    /// Not: they are kept in [`Client::receipts`](super::Client::receipts).
    Never,
}

/// What the links and the drivers are like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The brokers' configuration.
    pub broker: BrokerConfig,
    /// How many servers there are: `model`, `model-1`, `model-2` and so on, for [`Config::servers`].
    pub servers: usize,
    /// All servers are doors of one broker, so that sessions are kept when clients fail over. Else each is a broker of
    /// its own that knows nothing of the others.
    pub shared: bool,
    /// How long bytes travel, one way.
    pub latency: RangeInclusive<Duration>,
    /// How many bytes are written or read at once.
    pub chunk: RangeInclusive<usize>,
    /// The marks of the outputs.
    pub mark: RangeInclusive<usize>,
    /// Bytes on their way in one direction before the writer has to wait.
    pub capacity: usize,
    /// Each connection breaks after so many bytes in both directions together, at any byte.
    pub break_after: Option<RangeInclusive<u64>>,
    /// How many connections break like that at most.
    pub breaks: u32,
    /// How long each side takes to notice that the link broke.
    pub notice: RangeInclusive<Duration>,
    /// One in so many attempts to open a link fails; 0: none.
    pub refuse_one_in: u64,
    /// What a client that closes its link still had on its way arrives this much later, perhaps after the next
    /// connection's first bytes.
    pub straggle: RangeInclusive<Duration>,
    /// What is still on its way to a client that closed its link reaches its driver, under the old name; the machine
    /// must ignore it.
    pub late_input: bool,
    /// An application whose connection was taken over by another connects again after a second, rather than never.
    pub come_back: bool,
    /// The broker forgets the session before one in so many openings; 0: never.
    pub forget_one_in: u64,
    /// How receipts come back.
    pub settle: Settle,
    /// How long a record takes to be durable, with a durable configuration.
    pub store: RangeInclusive<Duration>,
    /// Where a client that is added from now on keeps its records, with a durable configuration.
    pub storage: fn() -> Box<dyn Storage>,
    /// How clients that are added from now on are recorded: their `machine` collects the transcript.
    pub recording: Option<Recording>,
    /// What clients speak through; `None`: bytes pass as they are.
    #[cfg(feature = "layers")]
    pub layers: Option<super::Layering>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: BrokerConfig::new(),
            servers: 1,
            shared: true,
            latency: Duration::from_millis(5)..=Duration::from_millis(5),
            chunk: 65_536..=65_536,
            mark: 65_536..=65_536,
            capacity: 65_536,
            break_after: None,
            breaks: 0,
            notice: Duration::ZERO..=Duration::ZERO,
            refuse_one_in: 0,
            straggle: Duration::ZERO..=Duration::ZERO,
            late_input: false,
            come_back: false,
            forget_one_in: 0,
            settle: Settle::AtOnce,
            store: Duration::ZERO..=Duration::ZERO,
            storage: || Box::new(InMemory::default()),
            recording: None,
            #[cfg(feature = "layers")]
            layers: None,
        }
    }
}

/// The name of a server of the simulation, from 0.
pub fn server(place: usize) -> Server {
    if place == 0 { Server::new("model") } else { Server::new(format!("model-{place}")) }
}

/// Which server this is; the first for a name that is none.
pub(super) fn place_of(server: &Server, servers: usize) -> usize {
    (0..servers).find(|place| self::server(*place) == *server).unwrap_or(0)
}

/// A configuration for tests: the first server, this client identifier, the rest as by default.
pub fn config(client_id: &str) -> Config {
    Config::new(server(0)).client_id(client_id)
}
