//! QoS 1 and 2 hold under thousands of random schedules: broken links, slow and refused ones, any chunking, any order of
//! receipts, with and without a store.

use std::time::Instant;

use mqtt_machine::ProtocolVersion;
use mqtt_machine_testkit::sim::Schedule;

/// How many seeds each version runs; `MQTT_MACHINE_SEEDS` changes it, `MQTT_MACHINE_SEED` runs one alone.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(version: ProtocolVersion) {
    let seeds = match number("MQTT_MACHINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MQTT_MACHINE_SEEDS").unwrap_or(SEEDS),
    };
    let start = Instant::now();
    let (mut connections, mut resent, mut steps) = (0, 0, 0);
    for seed in seeds.clone() {
        let schedule = Schedule::from_seed(version, seed);
        match schedule.run() {
            Ok(report) => {
                connections += report.connections;
                resent += report.resent;
                steps += report.steps;
            }
            Err(wrong) => panic!(
                "MQTT {version}, seed {seed}:\n{wrong}\nrun again: {}\n{schedule:#?}",
                schedule.rerun()
            ),
        }
    }
    let count = seeds.end - seeds.start;
    println!(
        "MQTT {version}: {count} schedules, {connections} connections, {resent} resent, {steps} steps in {:?}",
        start.elapsed()
    );
    assert!(count < 100 || (connections as u64 > count * 3 && resent > 0), "the faults do not happen");
}

#[test]
fn qos_1_and_2_hold_under_random_schedules_in_5_0() {
    run(ProtocolVersion::V5);
}

#[test]
fn qos_1_and_2_hold_under_random_schedules_in_3_1_1() {
    run(ProtocolVersion::V3_1_1);
}

#[test]
fn qos_1_and_2_hold_under_random_schedules_in_3_1() {
    run(ProtocolVersion::V3_1);
}
