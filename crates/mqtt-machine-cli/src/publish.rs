//! Owns `pub`: messages from arguments, files and standard input, and whether they arrived. It must not know how a connection
//! is made.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgGroup, Args};
use mqtt_machine::Disconnect;
use mqtt_machine_tokio::{Client, Delivery, Message, Outcome, QoS};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::connection::{Connection, connected, qos};
use crate::failure::{Failure, usage};
use crate::property::Packet;
use crate::runtime::Interrupts;

/// How many lines are read ahead.
const AHEAD: usize = 64;

/// What `pub` is told.
#[derive(Args)]
#[command(group = ArgGroup::new("payload").required(true))]
#[command(disable_help_flag = true)]
pub(crate) struct Publish {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    #[arg(short = 't', long)]
    topic: String,
    /// The payload
    #[arg(short = 'm', long, group = "payload")]
    message: Option<String>,
    /// The file that is the payload
    #[arg(short = 'f', long, group = "payload", value_name = "FILE")]
    file: Option<PathBuf>,
    /// An empty payload: with --retain, the server forgets the retained message
    #[arg(short = 'n', long, group = "payload")]
    null_message: bool,
    /// Each line of standard input is a message
    #[arg(short = 'l', long, group = "payload")]
    stdin_line: bool,
    /// Standard input as a whole is the payload
    #[arg(short = 's', long, group = "payload")]
    stdin_file: bool,
    /// The QoS
    #[arg(short = 'q', long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// The server retains it
    #[arg(short = 'r', long)]
    retain: bool,
    /// Publish it so many times
    #[arg(long, default_value_t = 1, value_name = "COUNT", conflicts_with = "stdin_line")]
    repeat: u64,
    /// Wait so many seconds between two messages
    #[arg(long, value_name = "SECONDS", conflicts_with = "rate")]
    repeat_delay: Option<f64>,
    /// Publish at most so many messages a second
    #[arg(long, value_name = "COUNT")]
    rate: Option<f64>,
    /// How long what was accepted may take to arrive after the last message or an interrupt, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,
    /// Say nothing of messages that did not arrive; the exit code does
    #[arg(long)]
    quiet: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// What becomes of the messages.
struct Tracker {
    client: Client,
    waiting: VecDeque<(u64, Delivery)>,
    count: u64,
    failed: u64,
    /// Of those that failed, what the store has for the next time.
    kept: u64,
    quiet: bool,
}

/// Publishes, and says whether everything arrived.
pub(crate) async fn run(arguments: Publish) -> Result<(), Failure> {
    let pace = arguments.pace()?;
    let template = arguments.template()?;
    let mut payloads = arguments.payloads()?;
    let mut interrupts = Interrupts::new();
    let client = arguments.connection.start()?;
    let mut drain = Duration::from_secs(arguments.drain.into());
    match interrupts.or_interrupted(connected(&client)).await {
        Err(Failure::NotConnected(why)) if arguments.connection.is_stored() => {
            eprintln!("{why}; messages of QoS 1 and 2 are kept for the next time");
            drain = Duration::ZERO;
        }
        result => result?,
    }
    let quiet = arguments.quiet;
    let mut tracker = Tracker { client, waiting: VecDeque::new(), count: 0, failed: 0, kept: 0, quiet };
    let mut ticks = pace.map(|pace| {
        let mut ticks = interval_at(Instant::now(), pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let publishing = async {
        while let Some(payload) = payloads.recv().await {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let mut message = template.clone();
            message.payload = payload?;
            tracker.publish(message).await?;
        }
        Ok::<(), Failure>(())
    };
    tokio::select! {
        result = publishing => result?,
        () = interrupts.next() => eprintln!("interrupted: what was accepted is delivered first"),
    }
    interrupts.or_interrupted(tracker.finish(drain)).await
}

impl Publish {
    fn pace(&self) -> Result<Option<Duration>, Failure> {
        let seconds = match (self.repeat_delay, self.rate) {
            (Some(delay), _) => delay,
            (_, Some(rate)) => 1.0 / rate,
            (None, None) => return Ok(None),
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(pace) if pace.is_zero() => Ok(None),
            Ok(pace) => Ok(Some(pace)),
            Err(_) => Err(usage("a delay or rate that is no number of seconds")),
        }
    }

    fn template(&self) -> Result<Message, Failure> {
        let mut message =
            Message::to(&self.topic, Bytes::new()).map_err(usage)?.qos(self.qos).retain(self.retain);
        for property in &self.connection.properties {
            match property.packet {
                Packet::Publish => message = message.property(property.as_property()).map_err(usage)?,
                Packet::Connect | Packet::Will => {}
                other => return Err(usage(format!("`pub` sends no {other:?} with properties"))),
            }
        }
        Ok(message)
    }

    /// The payloads one after the other; lines are read by a thread of their own, which ends with the process.
    fn payloads(&self) -> Result<mpsc::Receiver<Result<Bytes, Failure>>, Failure> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        if self.stdin_line {
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().split(b'\n') {
                    let line = line.map(|mut line| {
                        line.pop_if(|last| *last == b'\r');
                        Bytes::from(line)
                    });
                    if sender.blocking_send(line.map_err(Failure::from)).is_err() {
                        break;
                    }
                }
            });
            return Ok(receiver);
        }
        let payload = if let Some(text) = &self.message {
            Bytes::from(text.clone())
        } else if let Some(path) = &self.file {
            let read = std::fs::read(path);
            read.map_err(|error| usage(format!("{}: {error}", path.display())))?.into()
        } else if self.stdin_file {
            let mut payload = Vec::new();
            std::io::stdin().lock().read_to_end(&mut payload)?;
            payload.into()
        } else {
            Bytes::new()
        };
        let repeat = self.repeat;
        tokio::spawn(async move {
            for _ in 0..repeat {
                if sender.send(Ok(payload.clone())).await.is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl Tracker {
    async fn publish(&mut self, message: Message) -> Result<(), Failure> {
        match self.client.publish(message).await {
            Ok(delivery) => self.waiting.push_back((self.count, delivery)),
            Err(error) => self.fail(self.count, &error.to_string()),
        }
        self.count += 1;
        // What has ended is not kept.
        while let Some((number, delivery)) = self.waiting.pop_front() {
            match delivery.wait(Duration::ZERO) {
                Ok(outcome) => self.note(number, &outcome),
                Err(delivery) => {
                    self.waiting.push_front((number, delivery));
                    break;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, number: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Sent | Outcome::Acknowledged(_) => {}
            Outcome::Refused(acknowledgement) => {
                self.fail(number, &format!("refused: {}", acknowledgement.reason));
            }
            other => {
                self.kept += u64::from(*other == Outcome::Kept);
                self.fail(number, &format!("{other:?}"));
            }
        }
    }

    fn fail(&mut self, number: u64, why: &str) {
        self.failed += 1;
        if !self.quiet {
            eprintln!("message {}: {why}", number + 1);
        }
    }

    async fn finish(mut self, drain: Duration) -> Result<(), Failure> {
        let closing = self.client.disconnect_with(Disconnect::new(drain));
        let waiting = std::mem::take(&mut self.waiting);
        let ends = async {
            let mut outcomes = Vec::new();
            for (number, delivery) in waiting {
                outcomes.push((number, delivery.await));
            }
            outcomes
        };
        let (closed, outcomes) = tokio::join!(closing, ends);
        outcomes.iter().for_each(|(number, outcome)| self.note(*number, outcome));
        if let Err(error) = closed {
            return Err(Failure::NotConnected(error.to_string()));
        }
        match self.failed {
            0 => Ok(()),
            failed => {
                let why = format!("{failed} of {} messages were not delivered", self.count);
                let kept =
                    if self.kept > 0 { format!("; {} of them are kept", self.kept) } else { String::new() };
                Err(Failure::Refused(why + &kept))
            }
        }
    }
}
