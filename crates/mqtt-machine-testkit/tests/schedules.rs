//! Every invariant holds under thousands of random schedules: links that break, fall silent or straggle, servers that
//! fail over, sessions that are lost, processes that crash, sleep and begin again, clocks that jump, any chunking, any
//! order of receipts, with and without a store.
//!
//! `MQTT_MACHINE_SEEDS` changes how many seeds each test runs, `MQTT_MACHINE_SEED` runs one alone. The `simulate` command
//! runs as many as one likes.

use std::time::Instant;

use mqtt_machine::ProtocolVersion;
use mqtt_machine_testkit::sim::{Report, Schedule};

/// How many seeds each version runs.
const SEEDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(version: ProtocolVersion, forgetful: bool) {
    let seeds = match number("MQTT_MACHINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MQTT_MACHINE_SEEDS").unwrap_or(SEEDS),
    };
    let start = Instant::now();
    let mut total = Report::default();
    for seed in seeds.clone() {
        let schedule = Schedule::from_seed(version, seed);
        let schedule = if forgetful { schedule.forgetful() } else { schedule };
        match schedule.run() {
            Ok(report) => total += report,
            Err(failure) => {
                let small = schedule.shrink(&failure);
                panic!("MQTT {version}, seed {seed}:\n{failure}\nrun again: {}\n{small}", schedule.rerun())
            }
        }
    }
    println!("MQTT {version}: {total} in {:?}", start.elapsed());
    let count = seeds.end - seeds.start;
    let happened = [
        total.resent,
        total.crashes,
        total.fail_overs,
        total.jumps,
        total.suspended,
        total.stranded,
        total.confused,
        total.sessions_lost,
        total.vanished,
    ];
    // What a version can do at all.
    let v5 = version == ProtocolVersion::V5;
    let lesser = [
        (true, total.redirected),
        (version != ProtocolVersion::V3_1, total.fell_back),
        (v5, total.lowered),
        (v5, total.identified),
        (v5, total.authenticated),
        (true, total.overlapping),
        (true, total.asked),
    ];
    let lesser = lesser.iter().all(|(can, times)| !can || *times > count / 20);
    let enough = lesser && total.connections > count * 3 && happened.iter().all(|times| *times > count / 100);
    assert!(count < 500 || enough, "the faults do not happen: {total}");
}

#[test]
fn every_invariant_holds_under_random_schedules_in_5_0() {
    run(ProtocolVersion::V5, false);
}

#[test]
fn every_invariant_holds_under_random_schedules_in_3_1_1() {
    run(ProtocolVersion::V3_1_1, false);
}

#[test]
fn every_invariant_holds_under_random_schedules_in_3_1() {
    run(ProtocolVersion::V3_1, false);
}

#[test]
fn every_command_ends_once_and_every_message_arrives_though_sessions_are_lost() {
    for version in ProtocolVersion::ALL {
        run(version, true);
    }
}
