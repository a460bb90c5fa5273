//! Owns what a simulation is told: how links and drivers behave.
//! It must not know how that is simulated.

use core::ops::RangeInclusive;
use core::time::Duration;

use mqtt_machine::transcript::Recording;
use mqtt_machine::{Config, Server};

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
    /// The broker's configuration.
    pub broker: BrokerConfig,
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
    /// The broker forgets the session before one in so many openings; 0: never.
    pub forget_one_in: u64,
    /// How receipts come back.
    pub settle: Settle,
    /// How long a record takes to be durable, with a durable configuration.
    pub store: RangeInclusive<Duration>,
    /// How clients that are added from now on are recorded: their `machine` collects the transcript.
    pub recording: Option<Recording>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: BrokerConfig::new(),
            latency: Duration::from_millis(5)..=Duration::from_millis(5),
            chunk: 65_536..=65_536,
            mark: 65_536..=65_536,
            capacity: 65_536,
            break_after: None,
            breaks: 0,
            notice: Duration::ZERO..=Duration::ZERO,
            refuse_one_in: 0,
            forget_one_in: 0,
            settle: Settle::AtOnce,
            store: Duration::ZERO..=Duration::ZERO,
            recording: None,
        }
    }
}

/// A configuration for tests: one server, this client identifier, the rest as by default.
pub fn config(client_id: &str) -> Config {
    Config::new(Server::new("model")).client_id(client_id)
}
