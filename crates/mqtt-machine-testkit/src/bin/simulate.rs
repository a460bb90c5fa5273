//! Runs random schedules on all cores, with every invariant, and shrinks the first one that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine::ProtocolVersion;
use mqtt_machine_testkit::sim::{Failure, Report, Schedule};

const USAGE: &str = "\
Runs random schedules: clients and brokers in virtual time, with faults, every invariant checked after every step.

usage: simulate [--seeds N | --seconds T | --seed S] [--first-seed S] [--version 3.1|3.1.1|5.0] [--forgetful] [--layers]
                [--threads N] [--transcripts D]

  --seeds N        runs N seeds of each version (default 10,000)
  --seconds T      runs seeds until T seconds have passed
  --seed S         runs this seed alone, and writes down what happens when it fails
  --first-seed S   begins with this seed (default 0)
  --version V      one version alone (default all three)
  --forgetful      with brokers that forget sessions
  --layers         with clients that speak through TLS, WebSocket and proxies; needs the feature `layers`, with which one
                   seed in eight is run so in any case
  --threads N      on so many threads (default: one for each core)
  --transcripts D  writes the transcripts of the machines of what fails into this folder, for `mqtt-machine replay`

At the first schedule that fails it prints the line that runs it again, the smallest schedule that fails by the same rule
and what happens in it, and exits with 1.";

/// When to stop.
#[derive(Clone, Copy)]
enum Until {
    Seeds(u64),
    Time(Duration),
}

struct Arguments {
    until: Until,
    first: u64,
    versions: Vec<ProtocolVersion>,
    forgetful: bool,
    layers: bool,
    threads: usize,
    transcripts: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut list: impl Iterator<Item = String>) -> Result<Self, String> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let versions = ProtocolVersion::ALL.to_vec();
        let mut arguments = Self {
            until: Until::Seeds(10_000),
            first: 0,
            versions,
            forgetful: false,
            layers: false,
            threads: cores,
            transcripts: None,
        };
        while let Some(name) = list.next() {
            if name == "--forgetful" {
                arguments.forgetful = true;
                continue;
            }
            if name == "--layers" && cfg!(feature = "layers") {
                arguments.layers = true;
                continue;
            }
            let value = list.next().ok_or_else(|| format!("{name} needs a value, or is not known"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            match name.as_str() {
                "--seeds" => arguments.until = Until::Seeds(number()?),
                "--seconds" => arguments.until = Until::Time(Duration::from_secs(number()?)),
                "--first-seed" => arguments.first = number()?,
                "--seed" => {
                    arguments.first = number()?;
                    arguments.until = Until::Seeds(1);
                }
                "--threads" => arguments.threads = number()?.max(1) as usize,
                "--transcripts" => arguments.transcripts = Some(PathBuf::from(&value)),
                "--version" => {
                    let known = ProtocolVersion::ALL.into_iter().find(|version| version.to_string() == value);
                    arguments.versions = vec![known.ok_or_else(|| format!("MQTT {value} is not known"))?];
                }
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(arguments)
    }

    /// The schedule with this number, over seeds and versions.
    fn schedule(&self, number: u64) -> Schedule {
        let count = self.versions.len() as u64;
        let version = self.versions[(number % count) as usize];
        let schedule = Schedule::from_seed(version, self.first + number / count);
        let schedule = if self.forgetful { schedule.forgetful() } else { schedule };
        let one_in_eight = (number / count) % 8 == 7;
        if self.layers || one_in_eight { layered(schedule) } else { schedule }
    }
}

#[cfg(feature = "layers")]
fn layered(schedule: Schedule) -> Schedule {
    schedule.layered()
}

#[cfg(not(feature = "layers"))]
const fn layered(schedule: Schedule) -> Schedule {
    schedule
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1);
    match Arguments::parse(arguments) {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    // A panic is a finding like any other: it is caught, and told once.
    std::panic::set_hook(Box::new(|_| {}));
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Report::default());
    let failed: Mutex<Option<(u64, Failure)>> = Mutex::new(None);
    let worker = || {
        let mut own = Report::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let over = match arguments.until {
                Until::Seeds(seeds) => number >= seeds.saturating_mul(arguments.versions.len() as u64),
                Until::Time(time) => begin.elapsed() >= time,
            };
            if over || stop.load(Ordering::Relaxed) {
                break;
            }
            match arguments.schedule(number).run() {
                Ok(report) => own += report,
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                        *failed = Some((number, failure));
                    }
                }
            }
        }
        *total.lock().unwrap_or_else(PoisonError::into_inner) += own;
    };
    thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(worker);
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = begin.elapsed();
    println!("{total}");
    println!(
        "{:.1} s on {} threads: {:.0} schedules a second, first seed {}",
        took.as_secs_f64(),
        arguments.threads,
        total.schedules as f64 / took.as_secs_f64(),
        arguments.first
    );
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => ExitCode::SUCCESS,
        Some((number, failure)) => {
            explain(&arguments.schedule(number), &failure, arguments.transcripts.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Prints how to run it again, the smallest schedule that fails in the same way, and what happens in it.
fn explain(schedule: &Schedule, failure: &Failure, folder: Option<&Path>) {
    println!("\nFAILED\n{failure}run again: {}\n", schedule.rerun());
    let small = schedule.shrink(failure);
    println!("shrunk from {} steps to {}:\n{small}", schedule.len(), small.len());
    if let Err(failure) = small.run_traced() {
        println!("{failure}");
        for line in &failure.trace {
            println!("{line}");
        }
        let Some(folder) = folder else { return };
        for (name, transcript) in &failure.transcripts {
            let path = folder.join(name);
            match fs::create_dir_all(folder).and_then(|()| fs::write(&path, transcript)) {
                Ok(()) => println!("written: {}", path.display()),
                Err(error) => println!("{}: {error}", path.display()),
            }
        }
    }
}
