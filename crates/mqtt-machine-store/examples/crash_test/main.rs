//! Three processes and `kill -9`: a publisher and a subscriber at QoS 2, each with its store, and a broker that syncs before it
//! answers. At random moments one of them is killed and begins again. In the end the subscriber's own record must hold every
//! message once, in the order of its topic.
//!
//! ```sh
//! cargo run --release -p mqtt-machine-store --example crash_test -- --rounds 20 --messages 3000
//! ```
//!
//! With `--broker mosquitto` (persistence on) the broker is told to end, since mosquitto loses what it has acknowledged when it is killed,
//! and the links to it are cut as well; publisher and subscriber are killed all the same.
//!
//! `--strike publisher,subscriber,broker,links` says what is hit, all that can be unless it is given.
//!
//! Other options: `--qos 1` (none lost; twice is allowed), `--topics N`, `--seed N`, `--folder PATH` (kept; else a temporary one that is
//! removed when all is well).

mod broker;
mod processes;
mod verdict;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use broker::Broker;
use mqtt_machine_testkit::Random;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What all processes are told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    rounds: u64,
    pub(crate) messages: u64,
    pub(crate) topics: u64,
    pub(crate) qos: u8,
    seed: u64,
    pub(crate) folder: PathBuf,
    keep: bool,
    pub(crate) port: u16,
    pub(crate) mosquitto: bool,
    /// What is hit, by its place in [`BLOWS`].
    strike: Vec<usize>,
}

impl Plan {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut values = BTreeMap::new();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{pair:?} is no option with a value").into());
            };
            values.insert(name.trim_start_matches("--").to_owned(), value.clone());
        }
        let number = |name: &str, default: u64| -> Result<u64> {
            Ok(values.get(name).map(|value| value.parse()).transpose()?.unwrap_or(default))
        };
        let mosquitto = match values.get("broker").map(String::as_str) {
            None | Some("model") => false,
            Some("mosquitto") => true,
            Some(other) => return Err(format!("there is no broker {other}").into()),
        };
        // Only mosquitto has links that can be cut.
        let all = if mosquitto { BLOWS.join(",") } else { BLOWS[..3].join(",") };
        let place = |name: &str| {
            BLOWS.iter().position(|blow| *blow == name).ok_or(format!("nothing is called {name}"))
        };
        let strike = values.get("strike").unwrap_or(&all).split(',').map(place);
        let temporary = std::env::temp_dir().join(format!("mqtt-crash-{}", std::process::id()));
        Ok(Self {
            rounds: number("rounds", 20)?,
            messages: number("messages", 3_000)?,
            topics: number("topics", 5)?.max(1),
            qos: number("qos", 2)?.try_into()?,
            seed: number("seed", std::process::id().into())?,
            keep: values.contains_key("folder"),
            folder: values.get("folder").map_or(temporary, PathBuf::from),
            port: number("port", 0)?.try_into()?,
            mosquitto,
            strike: strike.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// A child of this program, which plays one part.
    pub(crate) fn start(&self, part: &str) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(part).stdin(Stdio::null());
        for (name, value) in [
            ("--messages", self.messages.to_string()),
            ("--topics", self.topics.to_string()),
            ("--qos", self.qos.to_string()),
            ("--port", self.port.to_string()),
            ("--folder", self.folder.display().to_string()),
        ] {
            command.arg(name).arg(value);
        }
        Ok(command.spawn()?)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((part, rest)) if !part.starts_with("--") => {
            Plan::parse(rest).and_then(|plan| match part.as_str() {
                "broker" => processes::broker(&plan),
                "publisher" => processes::publisher(&plan),
                "subscriber" => processes::subscriber(&plan),
                other => Err(format!("there is no part {other}").into()),
            })
        }
        _ => Plan::parse(&arguments).and_then(|plan| run(&plan)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

const PARTS: [&str; 2] = ["publisher", "subscriber"];
/// What can be hit.
const BLOWS: [&str; 4] = [PARTS[0], PARTS[1], "broker", "links"];
/// How long everything may stand still.
const PATIENCE: Duration = Duration::from_secs(180);

struct Show {
    plan: Plan,
    broker: Broker,
    clients: Vec<Child>,
    /// How often the publisher was killed, the subscriber, the broker ended and the links cut.
    blows: [u64; 4],
}

impl Drop for Show {
    fn drop(&mut self) {
        for child in &mut self.clients {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Show {
    fn start(plan: &Plan) -> Result<Self> {
        let (broker, port) = Broker::start(plan)?;
        let plan = Plan { port, ..plan.clone() };
        let mut show = Self { plan, broker, clients: Vec::new(), blows: [0; 4] };
        for part in PARTS {
            let child = show.plan.start(part)?;
            show.clients.push(child);
        }
        Ok(show)
    }

    fn strike(&mut self, which: usize) -> Result<()> {
        match which {
            0 | 1 => {
                // On Unix this is SIGKILL: nothing is told, nothing is written.
                self.clients[which].kill()?;
                self.clients[which].wait()?;
                self.clients[which] = self.plan.start(PARTS[which])?;
            }
            2 => self.broker.restart(&self.plan)?,
            _ => drop(self.broker.cut()),
        }
        self.blows[which] += 1;
        Ok(())
    }

    /// A part that ended by itself, in error.
    fn fallen(&mut self) -> Result<()> {
        for (child, part) in self.clients.iter_mut().zip(PARTS) {
            if let Some(status) = child.try_wait()?
                && !(part == "publisher" && status.success())
            {
                return Err(format!("the {part} ended by itself: {status}").into());
            }
        }
        Ok(())
    }
}

fn run(plan: &Plan) -> Result<()> {
    std::fs::create_dir_all(&plan.folder)?;
    let mut random = Random::new(plan.seed);
    let begin = Instant::now();
    let mut show = Show::start(plan)?;
    let (mut rounds, mut last, mut moved) = (0, 0, Instant::now());
    let mut next = Instant::now() + Duration::from_millis(500);
    loop {
        std::thread::sleep(Duration::from_millis(5));
        show.fallen()?;
        if rounds < plan.rounds && Instant::now() >= next {
            rounds += 1;
            let which = random.size(0..=plan.strike.len() - 1);
            show.strike(plan.strike[which])?;
            next = Instant::now() + Duration::from_millis(random.range(20..=600));
            continue;
        }
        let bytes = std::fs::metadata(plan.file("consumer")).map_or(0, |found| found.len());
        if bytes != last {
            (last, moved) = (bytes, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(format!("nothing moves any more; see {}", plan.folder.display()).into());
        }
        if rounds >= plan.rounds && moved.elapsed() > Duration::from_millis(500) && is_done(plan) {
            break;
        }
    }
    let blows = show.blows;
    drop(show);
    let verdict = verdict::judge(plan)?;
    let took = begin.elapsed();
    let broker = if plan.mosquitto { "mosquitto" } else { "the model broker" };
    println!(
        "{broker}, seed {}: {} messages at QoS {}, {rounds} rounds (publisher killed {}, subscriber {}, broker ended {}, links cut {}) in \
         {took:.1?}: {verdict}",
        plan.seed, plan.messages, plan.qos, blows[0], blows[1], blows[2], blows[3]
    );
    if !plan.keep {
        std::fs::remove_dir_all(&plan.folder)?;
    }
    Ok(())
}

/// Whether the publisher has been told of all its messages, and the subscriber has as many.
fn is_done(plan: &Plan) -> bool {
    let done = processes::progress(&plan.file("publisher.done"));
    done >= plan.messages
        && verdict::lines(&plan.file("consumer")).is_ok_and(|lines| lines.len() as u64 >= plan.messages)
}

/// Where the stores are.
pub(crate) fn store(folder: &Path, part: &str) -> PathBuf {
    folder.join(format!("{part}.mqtt"))
}
