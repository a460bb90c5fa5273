//! Owns what every client does in the same way: the cases, and what a run has used.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Failure;

mod async_std;
mod blocking;
mod mqtt5;
mod ntex;
pub mod raw;
mod rumqttc;
mod rumqttc_next;
mod smol;
pub mod tokio;

/// What is done with so many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client sends them, and waits for the end of the last exchange.
    Publish,
    /// The client gets them, and acknowledges them.
    Receive,
}

/// One case: a direction and a QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where the messages go.
    pub direction: Direction,
    /// Their QoS.
    pub qos: u8,
}

impl Case {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [
        Self { direction: Direction::Publish, qos: 0 },
        Self { direction: Direction::Publish, qos: 1 },
        Self { direction: Direction::Publish, qos: 2 },
        Self { direction: Direction::Receive, qos: 0 },
        Self { direction: Direction::Receive, qos: 1 },
        Self { direction: Direction::Receive, qos: 2 },
    ];

    /// As it stands on command lines and in tables.
    pub fn name(self) -> String {
        let verb = match self.direction {
            Direction::Publish => "publish",
            Direction::Receive => "receive",
        };
        format!("{verb}-{}", self.qos)
    }

    /// The case of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    /// How many publications may be on their way at once, in a client that can be told.
    pub const fn window(self) -> u16 {
        if self.qos == 2 { 100 } else { 1_000 }
    }

    /// The topic whose subscription makes the null broker send; as long as that of publications.
    pub fn blast(self, count: u64) -> String {
        format!("blast/{}/{count:013}", self.qos)
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// What is to be done.
    pub case: Case,
    /// Where the broker is.
    pub port: u16,
    /// How many messages.
    pub count: u64,
}

/// What happens in one process.
type Client = fn(Job) -> Result<Used, Failure>;

/// Every client by its name, and the cases that it is not asked for.
pub const CLIENTS: &[(&str, Client, &[&str])] = &[
    ("raw socket", raw::run, &[]),
    ("mqtt-machine-tokio", tokio::run, &[]),
    ("mqtt-machine-tokio, one by one", tokio::run_singly, &["publish-0", "publish-1", "publish-2"]),
    ("mqtt-machine-blocking", blocking::run, &[]),
    ("mqtt-machine-smol", smol::run, &[]),
    ("mqtt-machine-async-std", async_std::run, &[]),
    // Of publications of QoS 2 that are on their way at once it goes on with one alone.
    ("ntex-mqtt", ntex::run, &["publish-2"]),
    ("rumqttc", rumqttc::run, &[]),
    ("rumqttc-next", rumqttc_next::run, &[]),
    // A publication of QoS 1 or 2 is a future to the end of its exchange, so a window is as many tasks.
    ("mqtt5", mqtt5::run, &["publish-1", "publish-2"]),
];

/// What the process had used at one time.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    processor: Duration,
}

/// What a run has used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// From the first message to the end of the last.
    pub wall: Duration,
    /// Of the process, in user and system mode.
    pub processor: Duration,
    /// The most memory that the process ever had, in KiB.
    pub memory: u64,
}

impl Used {
    /// For the process that asked for it.
    pub fn print(self) {
        println!("{} {} {}", self.wall.as_micros(), self.processor.as_micros(), self.memory);
    }

    /// As [`print`](Self::print) has written it.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let wall = Duration::from_micros(words.next()?.parse().ok()?);
        let processor = Duration::from_micros(words.next()?.parse().ok()?);
        Some(Self { wall, processor, memory: words.next()?.parse().ok()? })
    }
}

/// `getrusage` would count what the parent process had before it started this one.
fn memory() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak of memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn processor() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    Ok(Duration::from_micros(micros.try_into()?))
}

impl Meter {
    /// To be called when the client is connected.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn start() -> Result<Self, Failure> {
        Ok(Self { begin: Instant::now(), processor: processor()? })
    }

    /// To be called when all is done.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn stop(self) -> Result<Used, Failure> {
        let wall = self.begin.elapsed();
        let processor = processor()? - self.processor;
        Ok(Used { wall, processor, memory: memory()? })
    }
}
