//! Owns the count of instructions, per packet or message: what a noisy machine cannot change. It must not know time.
//!
//! Each case runs twice under valgrind's callgrind, once with more repetitions; the difference of the two counts is what the
//! repetitions cost, and all of the start cancels.
//!
//! ```sh
//! cargo run --release --bin instructions            # a table of every case
//! cargo run --release --bin instructions -- --check # fails where a count is more than 5 % off the recorded one, or grows
//! cargo run --release --bin instructions -- --write # records the counts in instructions.tsv
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Display, Write as _};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::BytesMut;
use mqtt_machine::packet::Sender;
use mqtt_machine::{PacketId, ProtocolVersion, QoS, wire};
use mqtt_machine_benches::{Acknowledgements, Failure, Filters, Rig, SIZES, cases, instructions};

/// Repetitions of the shorter run and of the longer one.
const RUNS: [u64; 2] = [2_000, 12_000];
/// How far a count may be off the recorded one, and how far those of one thing among few and among many may be apart, in per cent.
const TOLERANCE: f64 = 5.0;
/// Messages of a batch of the whole machine.
const BATCH: u16 = 50;
/// Topics that are looked up in turn.
const TOPICS: usize = 500;

/// What is counted: its name, and one repetition of it.
struct Work {
    name: String,
    /// Packets or messages in one repetition.
    units: u64,
    /// What is the same in cases that differ only in how many there are, so that they cost the same.
    growth: Option<String>,
    step: Box<dyn FnMut()>,
}

impl Work {
    fn new(name: impl Into<String>, units: u64, step: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), units, growth: None, step: Box::new(step) }
    }

    /// One of something, while there are `many`.
    fn among(what: impl Into<String>, many: impl Display, of: &str, step: impl FnMut() + 'static) -> Self {
        let what = what.into();
        Self { growth: Some(what.clone()), ..Self::new(format!("{what}, {many} {of}"), 1, step) }
    }
}

/// Everything that is counted. With and without encoding the rest is the same, so that the difference is the encoding alone.
fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for case in cases() {
        let (frame, version, name) = (case.frame.clone(), case.version, case.name.clone());
        let mut out = BytesMut::with_capacity(64 << 10);
        works.push(Work::new(format!("decode {name}"), 1, move || {
            out.clear();
            if let Ok(packet) = &wire::decode(black_box(&frame), version, Sender::Server) {
                black_box(packet);
            }
        }));
        let mut out = BytesMut::with_capacity(64 << 10);
        works.push(Work::new(format!("decode and encode {name}"), 1, move || {
            out.clear();
            if let Ok(packet) = &wire::decode(black_box(&case.frame), version, Sender::Server) {
                wire::encode(black_box(packet), version, &mut out).expect("it was decoded");
            }
        }));
    }
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            works.push(publish("publish", version, qos, Rig::publish));
            works.push(publish("forward", version, qos, Rig::forward));
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut rig = Rig::new(version);
            let bytes = rig.publications(qos, BATCH);
            works.push(Work::new(format!("machine receive QoS {qos}, {version}"), BATCH.into(), move || {
                black_box(rig.receive(black_box(&bytes)));
            }));
        }
    }
    // From one to all: what a message costs does not depend on how many there are.
    for window in [1, 1_000, u16::MAX] {
        works.push(publish_within(QoS::AtLeastOnce, window));
        works.push(publish_within(QoS::ExactlyOnce, window));
        works.push(receive_within(window));
    }
    for filters in Filters::ALL {
        for size in SIZES {
            works.push(match_among(filters, size.max(filters.least())));
        }
        for size in SIZES {
            // One more is always there: a map that is emptied gives back all that it has.
            works.push(replace_among(filters, size.max(filters.least() + 1)));
        }
    }
    works
}

/// Finds the one filter of a topic.
fn match_among(filters: Filters, size: usize) -> Work {
    let mut next = 0;
    let mut made = None;
    Work::among(format!("find a filter among {}", filters.name()), size, "filters", move || {
        let (map, topics) = made.get_or_insert_with(|| (filters.map(size), filters.topics(size, TOPICS)));
        next = if next + 1 < topics.len() { next + 1 } else { 0 };
        map.matches(black_box(&topics[next]), |number| _ = black_box(number));
    })
}

/// Takes one filter out of so many, and puts it in again.
fn replace_among(filters: Filters, size: usize) -> Work {
    let mut next = 0;
    let mut made = None;
    Work::among(format!("take a filter out and put it in, {}", filters.name()), size, "filters", move || {
        let (map, list) = made.get_or_insert_with(|| (filters.map(size), filters.some(size, TOPICS)));
        next = if next + 1 < list.len() { next + 1 } else { 0 };
        if let Some(number) = map.remove(&list[next]) {
            black_box(map.insert(list[next].clone(), number));
        }
    })
}

/// One publication after another with its complete exchange, while `window` are in flight.
fn publish_within(qos: QoS, window: u16) -> Work {
    let mut oldest = PacketId::MIN;
    let mut filled = None;
    Work::among(format!("machine publish QoS {qos}, one by one"), window, "in flight", move || {
        let (rig, answers) = filled.get_or_insert_with(|| {
            let mut rig = Rig::new(ProtocolVersion::V5);
            rig.publish(qos, window);
            (rig, Acknowledgements::new(qos, ProtocolVersion::V5, 1))
        });
        for bytes in answers.of(oldest, 1) {
            black_box(rig.receive(bytes));
        }
        rig.publish(qos, 1);
        oldest = oldest.next();
    })
}

/// One message after another, while `window` are not acknowledged.
fn receive_within(window: u16) -> Work {
    let qos = QoS::AtLeastOnce;
    let mut next = usize::from(window);
    let mut receipts = VecDeque::new();
    let mut filled = None;
    Work::among(format!("machine receive QoS {qos}, one by one"), window, "unsettled", move || {
        let (rig, frames) = filled.get_or_insert_with(|| {
            let mut rig = Rig::new(ProtocolVersion::V5);
            rig.hold(&rig.publications(qos, window), &mut receipts);
            // One of every identifier, all of one length.
            let frames = rig.publications(qos, u16::MAX);
            (rig, frames)
        });
        if let Some(receipt) = receipts.pop_front() {
            rig.settle(receipt);
        }
        let length = frames.len() / usize::from(u16::MAX);
        let start = next % usize::from(u16::MAX) * length;
        rig.hold(&frames[start..start + length], &mut receipts);
        next += 1;
    })
}

/// Publications with the complete exchange, each way of which the rig has.
fn publish(way: &str, version: ProtocolVersion, qos: QoS, publish: fn(&mut Rig, QoS, u16)) -> Work {
    let mut rig = Rig::new(version);
    let mut made = None;
    let mut first = PacketId::MIN;
    Work::new(format!("machine {way} QoS {qos}, {version}"), BATCH.into(), move || {
        let answers = made.get_or_insert_with(|| Acknowledgements::new(qos, version, BATCH));
        publish(&mut rig, qos, BATCH);
        for bytes in answers.of(first, BATCH) {
            black_box(rig.receive(bytes));
        }
        if qos == QoS::AtMostOnce {
            black_box(rig.receive(&[]));
        } else {
            first = (0..BATCH).fold(first, |id, _| id.next());
        }
    })
}

/// Runs one case so many times.
fn run(name: &str, count: u64) -> Result<(), Failure> {
    let mut work = works().into_iter().find(|work| work.name == name).ok_or("there is no such case")?;
    for _ in 0..count / work.units {
        (work.step)();
    }
    Ok(())
}

/// What one packet or message costs.
fn per_unit(work: &Work) -> Result<f64, Failure> {
    let [short, long] = RUNS;
    let count = |repetitions: u64| instructions(&["run", &work.name, &repetitions.to_string()]);
    let difference = count(long)?.saturating_sub(count(short)?);
    let (long, short) = (long / work.units * work.units, short / work.units * work.units);
    Ok(difference as f64 / (long - short) as f64)
}

fn recorded_at() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv")
}

/// The recorded counts by name.
fn recorded() -> Result<BTreeMap<String, f64>, Failure> {
    let text = std::fs::read_to_string(recorded_at())?;
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, count) = line.split_once('\t').ok_or("a line without a tab")?;
        counts.insert(name.to_owned(), count.parse()?);
    }
    Ok(counts)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["run", name, count] => count.parse().map_err(Failure::from).and_then(|count| run(name, count)),
        [] => table("", false),
        ["--check"] => check(),
        ["--write"] => table("", true),
        [filter] => table(filter, false),
        _ => Err("usage: instructions [--check | --write | PART_OF_A_NAME]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(filter: &str, write: bool) -> Result<(), Failure> {
    let mut text =
        String::from("# Instructions of one packet or message; written by the binary `instructions`.\n");
    for work in works().iter().filter(|work| work.name.contains(filter)) {
        let cost = per_unit(work)?;
        println!("{cost:8.0}  {}", work.name);
        writeln!(text, "{}\t{cost:.0}", work.name)?;
    }
    if write {
        std::fs::write(recorded_at(), text)?;
    }
    Ok(())
}

fn check() -> Result<(), Failure> {
    let recorded = recorded()?;
    let mut off = Vec::new();
    let mut families: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for work in works() {
        let cost = per_unit(&work)?;
        if let Some(growth) = work.growth {
            families.entry(growth).or_default().push(cost);
        }
        let Some(known) = recorded.get(&work.name) else {
            off.push(format!("{} is not recorded", work.name));
            continue;
        };
        let change = (cost - known) / known * 100.0;
        println!("{cost:8.0}  {change:+5.1} %  {}", work.name);
        if change.abs() > TOLERANCE {
            off.push(format!("{}: {known:.0} instructions are {cost:.0} now", work.name));
        }
    }
    for (what, costs) in families {
        let growth = growth(&costs);
        println!("          {growth:+5.1} %  {what}, from the cheapest size to the dearest");
        if growth > TOLERANCE {
            off.push(format!("{what}: {growth:.1} % between sizes, {costs:.0?}"));
        }
    }
    if off.is_empty() { Ok(()) } else { Err(off.join("\n").into()) }
}

/// How much dearer the dearest is than the cheapest, in per cent.
fn growth(costs: &[f64]) -> f64 {
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = costs.iter().copied().fold(0.0, f64::max);
    (most - least) / least * 100.0
}

/// Nothing here may be cheaper because a packet is wrong.
#[cfg(test)]
mod tests {
    use mqtt_machine::packet::Packet;

    use super::*;

    #[test]
    fn every_case_runs_and_its_packet_is_right() {
        for case in cases() {
            let packet = wire::decode(&case.frame, case.version, Sender::Server);
            assert!(matches!(
                packet,
                Ok(Packet::Publish(_) | Packet::Ack(_) | Packet::SubAck(_) | Packet::ConnAck(_))
            ));
        }
        for mut work in works() {
            (work.step)();
        }
    }

    #[test]
    fn what_is_counted_among_few_is_counted_among_many_in_the_same_step() {
        let mut families: BTreeMap<String, usize> = BTreeMap::new();
        for growth in works().into_iter().filter_map(|work| work.growth) {
            *families.entry(growth).or_default() += 1;
        }
        assert_eq!(families.len(), 9);
        assert!(families.values().all(|sizes| *sizes == SIZES.len()), "{families:?}");
        assert!((growth(&[105.0, 100.0, 101.0]) - 5.0).abs() < 1e-9);
    }
}
