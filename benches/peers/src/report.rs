//! Owns the tables: which process runs how often, and what is written of it. It must not know what the clients are.

use mqtt_machine_benches::{cases, instructions};

use crate::Failure;
use crate::clients::{CLIENTS, Case, Direction, Used};
use crate::codecs::{self, CODECS};
use crate::process::{Broker, per_message, system_calls, told};

/// Messages of a run that is timed. The table has the run of three with the median of processor time.
const TIMED: u64 = 300_000;
const RUNS: usize = 3;
/// Messages of the two runs whose difference is counted.
const COUNTED: [u64; 2] = [10_000, 40_000];
/// The same of system calls, which are traced at another cost.
const TRACED: [u64; 2] = [20_000, 60_000];
/// Decoded packets of the two runs.
const DECODED: [u64; 2] = [2_000, 12_000];

/// Every message of a run has arrived.
fn arrived(broker: &mut Broker, case: Case, count: u64) -> Result<(), Failure> {
    let expected = if case.direction == Direction::Publish { count } else { 0 };
    let received = broker.received()?;
    if received == expected { Ok(()) } else { Err(format!("{received} of {expected} arrived").into()) }
}

fn arguments<'a>(client: &'a str, case: &'a str, port: &'a str, count: &'a str) -> [&'a str; 5] {
    ["client", client, case, port, count]
}

fn timed(broker: &mut Broker, client: &str, case: Case) -> Result<Used, Failure> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let told = told(&arguments(client, &case.name(), &broker.port, &TIMED.to_string()))?;
        arrived(broker, case, TIMED)?;
        runs.push(Used::parse(&told).ok_or("a client told nothing")?);
    }
    runs.sort_by_key(|used| used.processor);
    Ok(*runs.get(RUNS / 2).ok_or("no run")?)
}

fn counted(broker: &mut Broker, client: &str, case: Case) -> Result<f64, Failure> {
    per_message(COUNTED, |count| {
        let port = broker.port.clone();
        let spent = instructions(&arguments(client, &case.name(), &port, &count.to_string()))?;
        arrived(broker, case, count)?;
        Ok(spent)
    })
}

fn traced(broker: &mut Broker, client: &str, case: Case) -> Result<f64, Failure> {
    per_message(TRACED, |count| {
        let port = broker.port.clone();
        let calls = system_calls(&arguments(client, &case.name(), &port, &count.to_string()))?;
        arrived(broker, case, count)?;
        Ok(calls)
    })
}

/// The decoders.
///
/// # Errors
/// When something could not be measured.
pub fn decoders() -> Result<(), Failure> {
    println!(
        "| instructions to decode |{}",
        CODECS.iter().map(|(name, ..)| format!(" {name} |")).collect::<String>()
    );
    println!("|---|{}", "---:|".repeat(CODECS.len()));
    for case in cases() {
        let cost = |codec: &str| {
            per_message(DECODED, |count| instructions(&["decode", codec, &case.name, &count.to_string()]))
        };
        let filling = cost(codecs::FILLING)?;
        let mut row = format!("| {} |", case.name);
        for (name, _, buffered) in CODECS {
            // What a peer cannot decode has no figure.
            if codecs::run(name, &case.name, 1).is_err() {
                row += " – |";
                continue;
            }
            let own = cost(name)? - if *buffered { filling } else { 0.0 };
            row += &format!(" {own:.0} |");
        }
        println!("{row}");
    }
    Ok(())
}

/// The clients, in the cases whose name has `filter` in it or of the client whose name it is.
///
/// # Errors
/// When something could not be measured.
pub fn clients(filter: &str) -> Result<(), Failure> {
    let mut broker = Broker::start("mqtt")?;
    for case in Case::ALL {
        let name = case.name();
        let asked = |client: &str| name.contains(filter) || client.contains(filter);
        if !CLIENTS.iter().any(|(client, ..)| asked(client)) {
            continue;
        }
        println!(
            "\n| {name} | messages/s | CPU s per million | user instructions | system calls | peak memory, MiB |"
        );
        println!("|---|---:|---:|---:|---:|---:|");
        for (client, _, without) in CLIENTS {
            if without.contains(&name.as_str()) || !asked(client) {
                continue;
            }
            let used = timed(&mut broker, client, case)?;
            let (spent, calls) = (counted(&mut broker, client, case)?, traced(&mut broker, client, case)?);
            println!(
                "| {client} | {:.0} | {:.3} | {spent:.0} | {calls:.3} | {:.1} |",
                TIMED as f64 / used.wall.as_secs_f64(),
                used.processor.as_secs_f64() * 1e6 / TIMED as f64,
                used.memory as f64 / 1024.0,
            );
        }
    }
    Ok(())
}

/// That every client does every case, with few messages.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    let mut broker = Broker::start("mqtt")?;
    for case in Case::ALL {
        for (client, _, without) in CLIENTS {
            if without.contains(&case.name().as_str()) {
                continue;
            }
            told(&arguments(client, &case.name(), &broker.port, "5000"))
                .and_then(|_| arrived(&mut broker, case, 5_000))
                .map_err(|error| format!("{client}, {}: {error}", case.name()))?;
        }
    }
    for (codec, ..) in CODECS {
        let known = cases().iter().filter(|case| codecs::run(codec, &case.name, 1_001).is_ok()).count();
        println!("{codec} decodes {known} of {} packets", cases().len());
    }
    Ok(())
}
