//! The numbered statements about sessions: what is kept, for how long, for whom. Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, incoming};
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{AckKind, ConnAck, Packet, Properties};
use mqtt_machine::{
    CleanStart, Config, EndReason, Event, Machine, Message, ProtocolVersion, QoS, ReasonCode, Server,
    TransportEvent,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

fn config(version: ProtocolVersion, clean_start: CleanStart) -> Config {
    Config::new(Server::new("broker")).client_id("test").version(version).clean_start(clean_start)
}

/// A connection that leaves a bit of everything behind: a message of each QoS in flight, the release of another, and a
/// received message of QoS 2.
fn with_state(config: Config) -> Bench {
    let mut bench = Bench::connected(config);
    for (qos, payload) in [(QoS::ExactlyOnce, "a"), (QoS::AtLeastOnce, "b"), (QoS::ExactlyOnce, "c")] {
        bench.machine.publish(bench.now, Message::to("t", payload).unwrap().qos(qos)).unwrap();
    }
    bench.sent();
    bench.ack(AckKind::PubRec, 1);
    bench.receive(&incoming(QoS::ExactlyOnce, 9));
    bench.settle_all(ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubRel id1", "PubRec id9"]);
    bench
}

/// What a resumed session sends at once.
const RESUMED: [&str; 3] = ["Publish t qos1 dup id2 b", "Publish t qos2 dup id3 c", "PubRel id1"];

fn connack(bench: &mut Bench, session_present: bool) {
    let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
    bench.receive(&Packet::ConnAck(ConnAck { session_present, reason, properties }));
}

/// Whether a message of QoS 2 that was received before is taken for a new one.
fn is_new(bench: &mut Bench) -> bool {
    bench.events();
    bench.receive(&incoming(QoS::ExactlyOnce, 9));
    !bench.receipts().is_empty()
}

// 5.0: MQTT-3.1.2-23, MQTT-3.1.2-5, MQTT-3.2.2-3, MQTT-4.1.0-1
// 3.1.1: MQTT-3.1.2-4, MQTT-3.2.2-2, MQTT-4.1.0-1, MQTT-4.1.0-2
#[test]
fn a_session_that_the_server_kept_goes_on_where_it_was() {
    for version in BOTH {
        let mut bench = with_state(config(version, CleanStart::Never));
        let before = bench.machine.session();
        assert!(before.publications.len() == 3 && before.received.len() == 1);
        for away in [0, 3_000] {
            bench.cut();
            bench.now += Duration::from_secs(away);
            bench.wake();
            bench.events();
            bench.open();
            connack(&mut bench, true);
            let Some(Event::Connected(connected)) = bench.machine.poll_event() else { panic!("connected") };
            assert!(connected.session_present);
            assert_eq!(bench.machine.session(), before, "{version}");
            assert_eq!(bench.sent(), RESUMED);
        }
        assert!(!is_new(&mut bench));
    }
}

// 5.0: MQTT-3.2.2-3, MQTT-3.2.2-5
// 3.1.1: MQTT-3.2.2-3, MQTT-3.1.2-4
#[test]
fn a_session_that_the_server_lost_is_dropped_here_too() {
    for version in BOTH {
        let mut bench = with_state(config(version, CleanStart::Never));
        bench.reconnect(false);
        // The messages that wait for an acknowledgement begin anew; the release belongs to the session that is gone.
        assert_eq!(bench.sent(), ["Publish t qos1 id4 b", "Publish t qos2 id5 c"]);
        assert!(bench.machine.session().received.is_empty());
        assert!(is_new(&mut bench), "{version}");
    }
}

// 5.0: MQTT-3.1.2-4
// 3.1.1: MQTT-3.1.2-6
#[test]
fn a_clean_start_takes_nothing_of_an_earlier_session_over() {
    for version in BOTH {
        let mut bench = with_state(config(version, CleanStart::Always));
        bench.cut();
        bench.wake();
        bench.events();
        let sent_connect = |bench: &mut Bench| {
            let Some(mqtt_machine::Action::OpenTransport { id, .. }) = bench.machine.poll_action() else {
                panic!("a transport")
            };
            bench.transport = Some(id);
            bench.machine.handle_transport(bench.now, id, TransportEvent::Opened);
            bench.sent()
        };
        assert_eq!(sent_connect(&mut bench), ["Connect clean=true id=test"]);
        connack(&mut bench, false);
        assert_eq!(bench.sent(), ["Publish t qos1 id4 b", "Publish t qos2 id5 c"], "new, and not as repeats");
        assert!(is_new(&mut bench), "{version}");
    }
}

// 5.0: MQTT-3.2.2-2
// 3.1.1: MQTT-3.2.2-1
#[test]
fn a_session_after_a_clean_start_is_refused() {
    for version in BOTH {
        for clean_start in [CleanStart::Always, CleanStart::FirstOnly] {
            let mut bench = Bench::connecting(config(version, clean_start));
            connack(&mut bench, true);
            assert!(bench.is_closed());
            assert!(matches!(bench.end(), EndReason::Protocol(_)), "{version}");
        }
    }
}

// 5.0: MQTT-3.1.3-2
// 3.1.1: MQTT-3.1.3-2
#[test]
fn a_session_belongs_to_its_client_identifier() {
    for version in BOTH {
        let mut bench = with_state(config(version, CleanStart::Never));
        let other = config(version, CleanStart::Never).client_id("other");
        bench.machine.reconfigure(bench.now, Arc::new(other));
        bench.reconnect(true);
        assert_eq!(bench.sent(), ["Publish t qos1 id4 b", "Publish t qos2 id5 c"], "{version}");
        assert_eq!(bench.machine.session().client_id, "other");
        assert!(is_new(&mut bench));
        // The same one again is no other.
        let same = config(version, CleanStart::Never).client_id("other");
        bench.machine.reconfigure(bench.now, Arc::new(same));
        bench.reconnect(true);
        assert_eq!(bench.sent(), ["Publish t qos1 dup id4 b", "Publish t qos2 dup id5 c"]);
    }
}

// 5.0: MQTT-4.1.0-1
// 3.1.1: MQTT-4.1.0-1, MQTT-4.1.0-2
#[test]
fn a_session_lasts_as_long_as_its_connection_whatever_its_expiry() {
    for version in BOTH {
        let config = config(version, CleanStart::Always).session_expiry(Duration::ZERO);
        let mut bench = with_state(config.keep_alive(Duration::ZERO));
        let before = bench.machine.session();
        bench.now += Duration::from_secs(1_000_000);
        bench.machine.handle_timeout(bench.now);
        assert_eq!(bench.machine.session(), before);
        assert!(!is_new(&mut bench), "{version}");
        for id in [3, 1] {
            bench.ack(AckKind::PubRec, id);
        }
        assert_eq!(bench.sent(), ["PubRec id9", "PubRel id3", "PubRel id1"]);
    }
}

// 5.0: MQTT-3.2.2-4
#[test]
fn a_session_that_a_strict_client_knows_nothing_of_closes_the_connection_and_the_next_one_begins_empty() {
    for version in BOTH {
        let mut bench = Bench::connecting(config(version, CleanStart::OwnOnly));
        connack(&mut bench, true);
        assert!(bench.is_closed());
        let end = bench.end();
        assert!(matches!(end, EndReason::Protocol(violation) if violation.rule == "MQTT-3.2.2-4"), "{end}");
        bench.wake();
        bench.open_as("Connect clean=true id=test");
        connack(&mut bench, false);
        assert!(bench.machine.is_connected());
        // From here on the session is the client's own.
        bench.cut();
        bench.wake();
        bench.open_as("Connect clean=false id=test");
        connack(&mut bench, true);
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.2.2-4
#[test]
fn a_strict_client_that_was_restored_takes_its_session_and_a_lenient_one_takes_any() {
    let mut bench = Bench::connecting(config(V5, CleanStart::Never));
    connack(&mut bench, true);
    assert!(bench.machine.is_connected(), "a session of another process is what this option is for");

    let strict = || Arc::new(config(V5, CleanStart::OwnOnly).durable(true));
    for (records, takes) in [(vec![Record::ClientId("test".to_owned())], true), (Vec::new(), false)] {
        let mut bench = Bench::new(config(V5, CleanStart::OwnOnly).durable(true));
        bench.machine = Machine::restore(strict(), 1, bench.now, Duration::from_secs(9), records).unwrap();
        bench.machine.connect(bench.now).unwrap();
        bench.open_as("Connect clean=false id=test");
        connack(&mut bench, true);
        assert_eq!(bench.machine.is_connected(), takes);
    }
}
