//! Owns how long one message takes on an idle client: a publication of QoS 1 and its PUBACK, one after another, beside the same
//! bytes over a socket of the same runtime. It must not know how a client does it.

mod futures;
mod peers;
mod threads;

use std::time::Instant;

use mqtt_machine_benches::instructions;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::broker::publication;
use crate::process::{Broker, per_message, system_calls, told};
use crate::{Failure, TOPIC};

/// Round trips of each side that are timed.
const TIMED: u64 = 20_000;
/// Round trips of one side before the other has its turn, so that what else the machine does meets both.
const BLOCK: u64 = 50;
/// Round trips of the two runs whose difference is counted.
const COUNTED: [u64; 2] = [1_000, 4_000];

/// The CONNECT of the raw socket, and the length of its answer.
const CONNECT: &[u8] = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07bench-r";
const ANSWER: usize = 4;

/// Which side of a client and a raw socket goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Both,
    Client,
    Raw,
}

/// What a process is told.
#[derive(Clone, Copy, Debug)]
struct Job {
    port: u16,
    side: Side,
    count: u64,
}

/// Makes a client's round trips.
type Measure = fn(Job) -> Result<Times, Failure>;

/// Every client by its name, with the raw socket of its runtime beside it.
const CLIENTS: &[(&str, Measure)] = &[
    ("mqtt-machine-tokio", futures::tokio),
    ("mqtt-machine-blocking", threads::run),
    ("mqtt-machine-smol", futures::smol),
    ("mqtt-machine-async-std", futures::async_std),
    ("ntex-mqtt", peers::ntex),
    ("rumqttc", peers::rumqttc),
    ("rumqttc-next", peers::rumqttc_next),
    ("mqtt5", peers::mqtt5),
];

/// How long every round trip took, in nanoseconds.
#[derive(Debug, Default)]
struct Times {
    client: Vec<u128>,
    raw: Vec<u128>,
}

/// The publication that a raw socket sends.
fn request() -> Vec<u8> {
    let mut packet = Vec::new();
    publication(TOPIC, 1, 1, false, &mut packet);
    packet
}

/// Lets both go in turns, or one alone.
async fn alternate(
    job: Job,
    mut client: impl AsyncFnMut() -> Result<(), Failure>,
    mut raw: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<Times, Failure> {
    let mut times = Times::default();
    let mut left = job.count;
    while left > 0 {
        let now = left.min(BLOCK);
        left -= now;
        if job.side != Side::Raw {
            for _ in 0..now {
                let begin = Instant::now();
                client().await?;
                times.client.push(begin.elapsed().as_nanos());
            }
        }
        if job.side != Side::Client {
            for _ in 0..now {
                let begin = Instant::now();
                raw().await?;
                times.raw.push(begin.elapsed().as_nanos());
            }
        }
    }
    Ok(times)
}

/// Does round trips and prints the median and the 99th percentile of both sides, in nanoseconds.
///
/// # Errors
/// When there is no such client or side, or a round trip fails.
pub fn run(name: &str, side: &str, port: &str, count: &str) -> Result<(), Failure> {
    let (_, run) = CLIENTS.iter().find(|(known, _)| *known == name).ok_or("there is no such client")?;
    let side = match side {
        "both" => Side::Both,
        "client" => Side::Client,
        "raw" => Side::Raw,
        _ => return Err("there is no such side".into()),
    };
    let times = run(Job { port: port.parse()?, side, count: count.parse()? })?;
    let [client, raw] = [times.client, times.raw].map(|mut times| {
        times.sort_unstable();
        [50, 99].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or_default())
    });
    println!("{} {} {} {}", client[0], client[1], raw[0], raw[1]);
    Ok(())
}

/// Every publication of both connections has arrived.
fn arrived(broker: &mut Broker, expected: u64) -> Result<(), Failure> {
    let received = broker.received()? + broker.received()?;
    if received == expected { Ok(()) } else { Err(format!("{received} of {expected} arrived").into()) }
}

/// Median and 99th percentile of the client and of the raw socket.
fn timed(broker: &mut Broker, name: &str, count: u64) -> Result<[f64; 4], Failure> {
    let told = told(&["round-trips", name, "both", &broker.port, &count.to_string()])?;
    arrived(broker, 2 * count)?;
    let times = told.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    Ok(times.try_into().map_err(|_| "a client told something else")?)
}

fn counted(
    broker: &mut Broker,
    name: &str,
    side: &str,
    count: fn(&[&str]) -> Result<u64, Failure>,
) -> Result<f64, Failure> {
    per_message(COUNTED, |trips| {
        let spent = count(&["round-trips", name, side, &broker.port, &trips.to_string()])?;
        arrived(broker, trips)?;
        Ok(spent)
    })
}

/// As long as this is there, this process and those that it starts share one processor. Between two of them it is the waking of the
/// other that takes the time, and how long that takes depends on where the threads happen to be.
struct OneProcessor(CpuSet);

impl OneProcessor {
    fn stay() -> Result<Self, Failure> {
        let here = Pid::from_raw(0);
        let before = sched_getaffinity(here)?;
        let mut one = CpuSet::new();
        let last = (0..CpuSet::count()).rev().find(|cpu| before.is_set(*cpu) == Ok(true));
        one.set(last.ok_or("there is no processor")?)?;
        sched_setaffinity(here, &one)?;
        Ok(Self(before))
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// The table.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    let _one = OneProcessor::stay()?;
    let mut broker = Broker::start("mqtt")?;
    println!(
        "\n| round trip at QoS 1 | median, µs | raw | ratio | 99 of 100 within, µs | raw | user instructions | raw | \
         system calls | raw |"
    );
    println!("|---|{}", "---:|".repeat(9));
    for (name, _) in CLIENTS {
        let [median, most, raw_median, raw_most] = timed(&mut broker, name, TIMED)?.map(|nanos| nanos / 1e3);
        let mut counts = String::new();
        for side in ["client", "raw"] {
            counts += &format!(" {:.0} |", counted(&mut broker, name, side, instructions)?);
        }
        for side in ["client", "raw"] {
            counts += &format!(" {:.2} |", counted(&mut broker, name, side, system_calls)?);
        }
        println!(
            "| {name} | {median:.1} | {raw_median:.1} | {:.2} | {most:.1} | {raw_most:.1} |{counts}",
            median / raw_median
        );
    }
    Ok(())
}

/// That every client does it, a few times.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    let mut broker = Broker::start("mqtt")?;
    for (name, _) in CLIENTS {
        timed(&mut broker, name, 200).map_err(|error| format!("round trips of {name}: {error}"))?;
    }
    println!("{} clients do round trips", CLIENTS.len());
    Ok(())
}
