//! Every invariant holds when clients speak through the layers of a transport: TLS, WebSocket and proxies, under the same
//! faults, at any byte of a handshake, a record or a frame.
//!
//! `MQTT_MACHINE_SEEDS` changes how many seeds each version runs, `MQTT_MACHINE_SEED` runs one alone.

use core::time::Duration;

use mqtt_machine::{Message, ProtocolVersion, QoS, Subscribe, TopicFilter};
use mqtt_machine_testkit::layers::ProxyKind;
use mqtt_machine_testkit::sim::{Layering, Options, Report, Schedule, Sim, config};

/// How many seeds each version runs.
const SEEDS: u64 = 150;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_invariant_holds_under_random_schedules_through_layers() {
    let seeds = match number("MQTT_MACHINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MQTT_MACHINE_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    for version in ProtocolVersion::ALL {
        let mut total = Report::default();
        for seed in seeds.clone() {
            let schedule = Schedule::from_seed(version, seed).layered();
            match schedule.run() {
                Ok(report) => total += report,
                Err(failure) => {
                    let small = schedule.shrink(&failure);
                    panic!(
                        "MQTT {version}, seed {seed}:\n{failure}\nrun again: {}\n{small}",
                        schedule.rerun()
                    )
                }
            }
        }
        println!("MQTT {version}: {total}");
        let happened = [total.resent, total.crashes, total.fail_overs, total.suspended, total.stranded];
        let enough = total.connections > count * 3 && happened.iter().all(|times| *times > count / 50);
        assert!(count < 100 || enough, "the faults do not happen: {total}");
    }
}

fn layered(layering: Layering) -> Options {
    let mut options = Options::default();
    options.layers = Some(layering);
    options
}

/// One message of each QoS from one client to another; the connection of the first breaks after so many bytes. Whether it
/// did.
fn deliver(mut options: Options, breaks_after: Option<u64>) -> bool {
    let subscribe = || Subscribe::to(TopicFilter::new("topic").unwrap(), QoS::ExactlyOnce);
    options.broker.receive_maximum = 10;
    let mut sim = Sim::new(options, 7);
    let subscriber = sim.add(config("subscriber"));
    sim.connect_now(subscriber);
    sim.subscribe(subscriber, subscribe()).unwrap();
    sim.run_for(Duration::from_secs(1));
    sim.options_mut().break_after = breaks_after.map(|bytes| bytes..=bytes);
    sim.options_mut().breaks = u32::from(breaks_after.is_some());
    let publisher = sim.add(config("publisher"));
    sim.connect(publisher);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        sim.publish(publisher, Message::to("topic", qos.to_string()).unwrap().qos(qos)).unwrap();
    }
    let done = sim.run_until(Duration::from_secs(60), |sim| {
        sim.client(publisher).accepted.is_empty() && sim.client(subscriber).messages.len() >= 2
    });
    assert!(done, "{breaks_after:?}: {:?}", sim.client(publisher).ended);
    assert_eq!(sim.count("topic", b"2"), 1, "{breaks_after:?}");
    sim.assert_sound();
    !sim.client(publisher).ended.is_empty()
}

#[test]
fn a_link_that_is_cut_at_any_byte_below_the_layers_loses_and_doubles_nothing() {
    let proxies = [ProxyKind::Http, ProxyKind::Socks5Auth];
    let mut bytes = 1;
    while deliver(layered(Layering::wss(proxies)), Some(bytes)) {
        bytes += 5;
    }
    assert!(bytes > 1_500, "the handshakes, of which one resumes a session, are longer than {bytes} bytes");
}

#[test]
fn the_same_seed_is_the_same_run_through_tls_too() {
    for seed in 0..40 {
        let schedule = Schedule::from_seed(ProtocolVersion::V5, seed).layered();
        let run = || schedule.run_traced().map(|report| report.to_string()).map_err(|failure| failure.trace);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn the_line_that_runs_a_layered_schedule_again_says_so() {
    let schedule = Schedule::from_seed(ProtocolVersion::V5, 3);
    assert!(!schedule.rerun().contains("layers"));
    let line = schedule.layered().rerun();
    assert!(line.contains("--features layers --bin simulate") && line.ends_with(" --layers"), "{line}");
}
