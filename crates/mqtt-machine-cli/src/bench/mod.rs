//! Owns `bench`: publishers, subscribers, and what is measured of the messages between them. It must not know how a connection is
//! made.

mod meter;
mod plot;
mod report;

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mqtt_machine::Disconnect;
use mqtt_machine_tokio::{Client, Delivery, Message, Outcome, QoS, Subscription};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::{Connection, qos};
use crate::failure::{Failure, usage};
use crate::runtime::Interrupts;
use meter::Meter;
use report::{Report, Setting};

/// A payload begins with when it was published.
const STAMP: usize = size_of::<u64>();
/// How long messages may be on their way when nothing comes any more.
const SILENCE: Duration = Duration::from_secs(2);
/// How long what was accepted may take to arrive after the last message.
const DRAIN: Duration = Duration::from_secs(30);

/// What `bench` is told.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Bench {
    #[command(flatten)]
    connection: Connection,
    /// How many clients publish
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: u32,
    /// How many clients subscribe; each gets every message
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    subscribers: u32,
    /// How many messages each publisher publishes
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,
    /// The size of a payload in bytes, at least 8: it begins with the time
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(8..=16 << 20))]
    size: u32,
    /// The QoS of publications and subscriptions
    #[arg(short = 'q', long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Each publisher publishes at most so many messages a second
    #[arg(long, value_name = "COUNT")]
    rate: Option<f64>,
    /// The first level of the topics
    #[arg(short = 't', long, default_value = "bench", value_name = "TOPIC")]
    topic: String,
    /// Write the results into this file as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw latency and throughput over time into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// No progress bars; there are none either where standard error is no terminal
    #[arg(long)]
    quiet: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// What the tasks of one run share.
#[derive(Clone)]
struct Shared {
    meter: Arc<Mutex<Meter>>,
    begin: Instant,
    published: ProgressBar,
    received: ProgressBar,
}

impl Shared {
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures, and says in the table, in JSON and in a picture what came of it.
pub(crate) async fn run(arguments: Bench) -> Result<(), Failure> {
    if arguments.connection.is_named() {
        return Err(usage("each client of `bench` has a name of its own, so that none can be given"));
    }
    let pace = arguments.pace()?;
    // Another run at the same time, or messages that were retained, must not count here.
    let topic = format!("{}/{}", arguments.topic, std::process::id());
    let shared = arguments.shared();
    let mut interrupts = Interrupts::new();
    let mut subscribers = JoinSet::new();
    for _ in 0..arguments.subscribers {
        let client = interrupts.or_interrupted(arguments.connection.connect()).await?;
        let granted = client.subscribe(format!("{topic}/#").as_str(), arguments.qos).await;
        let messages = granted.map_err(|error| Failure::Refused(error.to_string()))?;
        subscribers.spawn(receive(client, messages, shared.clone()));
    }
    let mut clients = Vec::new();
    for _ in 0..arguments.publishers {
        clients.push(interrupts.or_interrupted(arguments.connection.connect()).await?);
    }
    let shared = Shared { begin: Instant::now(), ..shared };
    shared.meter().begin(shared.begin);
    let mut publishers = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let message =
            Message::to(&format!("{topic}/{number}"), bytes::Bytes::new()).map_err(usage)?.qos(arguments.qos);
        let (count, size) = (arguments.messages, arguments.size as usize);
        publishers.spawn(publish(client, message, Load { count, size, pace }, shared.clone()));
    }
    let publishing = async { while publishers.join_next().await.is_some() {} };
    tokio::select! {
        () = publishing => {}
        () = interrupts.next() => eprintln!("interrupted: what has come so far is measured"),
    }
    publishers.abort_all();
    let settling = async {
        arguments.settle(&shared).await;
        Ok(())
    };
    interrupts.or_interrupted(settling).await?;
    subscribers.abort_all();
    shared.published.finish_and_clear();
    shared.received.finish_and_clear();
    let report = Report::new(arguments.setting(), &shared.meter());
    arguments.tell(&report)
}

/// What one publisher does.
#[derive(Clone, Copy)]
struct Load {
    count: u64,
    size: usize,
    pace: Option<Duration>,
}

async fn publish(client: Client, template: Message, load: Load, shared: Shared) {
    let mut waiting = VecDeque::new();
    let mut ticks = load.pace.map(|pace| {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    for _ in 0..load.count {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let mut message = template.clone();
        let mut payload = BytesMut::with_capacity(load.size);
        payload.put_u64(micros(shared.begin.elapsed()));
        payload.resize(load.size, b'.');
        message.payload = payload.freeze();
        match client.publish(message).await {
            Ok(delivery) => waiting.push_back(delivery),
            Err(_) => shared.meter().failed(),
        }
        while let Some(delivery) = waiting.pop_front() {
            match delivery.wait(Duration::ZERO) {
                Ok(outcome) => note(&outcome, &shared),
                Err(delivery) => {
                    waiting.push_front(delivery);
                    break;
                }
            }
        }
    }
    let ends = async {
        for delivery in waiting {
            let delivery: Delivery = delivery;
            note(&delivery.await, &shared);
        }
    };
    // The outcomes come while the client drains, or by its end.
    let _ = tokio::join!(client.disconnect_with(Disconnect::new(DRAIN)), ends);
}

fn note(outcome: &Outcome, shared: &Shared) {
    match outcome {
        Outcome::Sent | Outcome::Acknowledged(_) => {
            shared.meter().published(shared.begin.elapsed());
            shared.published.inc(1);
        }
        _ => shared.meter().failed(),
    }
}

async fn receive(client: Client, mut messages: Subscription, shared: Shared) {
    while let Some(message) = messages.recv().await {
        let Some(stamp) = message.payload.first_chunk::<STAMP>() else { continue };
        let mut meter = shared.meter();
        let now = meter.elapsed();
        meter.received(now, micros(now).saturating_sub(u64::from_be_bytes(*stamp)));
        drop(meter);
        shared.received.inc(1);
    }
    drop(client);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Bench {
    fn pace(&self) -> Result<Option<Duration>, Failure> {
        let Some(rate) = self.rate else { return Ok(None) };
        match Duration::try_from_secs_f64(1.0 / rate) {
            Ok(pace) if !pace.is_zero() => Ok(Some(pace)),
            _ => {
                Err(usage("the rate is a number of messages a second, above 0 and below a thousand million"))
            }
        }
    }

    fn setting(&self) -> Setting {
        Setting {
            publishers: self.publishers,
            subscribers: self.subscribers,
            messages: self.messages,
            size: self.size,
            qos: self.qos.to_u8(),
        }
    }

    fn shared(&self) -> Shared {
        let setting = self.setting();
        let bars = MultiProgress::new();
        let bar = |name: &'static str, length: u64| {
            if self.quiet || length == 0 {
                return ProgressBar::hidden();
            }
            let style = ProgressStyle::with_template("{msg:9} {bar:40} {pos}/{len} {per_sec}");
            let bar = ProgressBar::new(length).with_message(name);
            bars.add(match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            })
        };
        let (published, received) =
            (bar("published", setting.published()), bar("received", setting.received()));
        let begin = Instant::now();
        Shared { meter: Arc::new(Mutex::new(Meter::new(begin))), begin, published, received }
    }

    /// Waits until everything has come, or nothing comes any more.
    async fn settle(&self, shared: &Shared) {
        let expected = u64::from(self.subscribers).saturating_mul(shared.meter().published_count());
        let (mut last, mut since) = (shared.meter().received_count(), Instant::now());
        while last < expected && since.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let count = shared.meter().received_count();
            if count != last {
                (last, since) = (count, Instant::now());
            }
        }
    }

    fn tell(&self, report: &Report) -> Result<(), Failure> {
        if let Some(path) = &self.svg {
            std::fs::write(path, plot::svg(report))?;
        }
        let mut out = anstream::stdout();
        match &self.json {
            Some(path) if path.as_os_str() == "-" => writeln!(out, "{}", report.json())?,
            Some(path) => {
                std::fs::write(path, report.json())?;
                write!(out, "{}", report.table())?;
            }
            None => write!(out, "{}", report.table())?,
        }
        match report.missing() {
            0 => Ok(()),
            missing => Err(Failure::Refused(format!("{missing} messages of QoS 1 or 2 are missing"))),
        }
    }
}
