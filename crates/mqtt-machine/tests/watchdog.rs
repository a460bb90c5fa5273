//! A connection that is alive while nothing is acknowledged: it is told, or it ends and what is owed is sent again.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, incoming};
use mqtt_machine::packet::{AckKind, Packet};
use mqtt_machine::{
    Config, EndReason, Event, Instant, Message, ProtocolVersion, QoS, Subscribe, TopicFilter, Watchdog,
};

const AFTER: Duration = Duration::from_secs(20);

fn watched(watchdog: Watchdog) -> Config {
    config(ProtocolVersion::V5).watchdog(watchdog)
}

fn telling() -> Bench {
    Bench::connected(watched(Watchdog::tell_after(AFTER)))
}

fn publish(bench: &mut Bench, qos: QoS) {
    bench.machine.publish(bench.now, Message::to("t", "x").unwrap().qos(qos)).unwrap();
    bench.sent();
}

/// The server stays alive: it answers every PINGREQ, and time goes on for so long in steps to the next deadline.
fn pass(bench: &mut Bench, time: Duration) -> Vec<Event> {
    let end = bench.now + time;
    let mut events = Vec::new();
    while let Some(next) = bench.machine.poll_timeout().filter(|next| *next <= end) {
        bench.now = next.max(bench.now);
        bench.machine.handle_timeout(bench.now);
        if bench.sent().iter().any(|line| line.to_ascii_lowercase().starts_with("pingreq")) {
            bench.receive(&Packet::PingResp);
        }
        events.extend(bench.events());
        if !bench.machine.is_connected() {
            break;
        }
    }
    bench.now = bench.now.max(end);
    events
}

#[test]
fn a_server_that_answers_pings_and_acknowledges_nothing_is_left_and_gets_the_message_again() {
    let mut bench = Bench::connected(watched(Watchdog::reconnect_after(AFTER)));
    publish(&mut bench, QoS::AtLeastOnce);
    let events = pass(&mut bench, 2 * AFTER);
    let [Event::Disconnected(ended)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(ended.reason, EndReason::Stalled);
    assert!(ended.retry_at.is_some() && !ended.reason.is_permanent());
    assert!(bench.is_closed());
    bench.machine.handle_timeout(ended.retry_at.unwrap());
    bench.open();
    bench.accept(true, mqtt_machine::packet::Properties::EMPTY);
    assert_eq!(bench.sent(), ["Publish t qos1 dup id1 x"]);
}

#[test]
fn it_is_told_once_for_each_time_that_passes() {
    let mut bench = telling();
    publish(&mut bench, QoS::AtLeastOnce);
    publish(&mut bench, QoS::ExactlyOnce);
    let stalled = Event::Stalled { waited: AFTER, unacknowledged: 2 };
    assert_eq!(pass(&mut bench, AFTER), std::slice::from_ref(&stalled));
    assert_eq!(pass(&mut bench, 2 * AFTER), [stalled.clone(), stalled]);
    assert!(bench.machine.is_connected());
}

#[test]
fn without_anything_that_waits_for_an_acknowledgement_nothing_is_watched() {
    let mut bench = telling();
    assert_eq!(pass(&mut bench, 5 * AFTER), []);
    publish(&mut bench, QoS::AtMostOnce);
    let told = pass(&mut bench, 5 * AFTER);
    assert!(!told.iter().any(|event| matches!(event, Event::Stalled { .. })), "{told:?}");
    publish(&mut bench, QoS::AtLeastOnce);
    assert_eq!(pass(&mut bench, AFTER / 2), []);
    bench.ack(AckKind::PubAck, 1);
    bench.events();
    assert_eq!(pass(&mut bench, 5 * AFTER), []);
    // The time begins with what waits, not with the last acknowledgement.
    publish(&mut bench, QoS::AtLeastOnce);
    assert_eq!(pass(&mut bench, AFTER - Duration::from_micros(1)), []);
    assert_eq!(pass(&mut bench, Duration::from_micros(1)).len(), 1);
}

#[test]
fn every_acknowledgement_is_an_advance() {
    let mut bench = telling();
    let filter = TopicFilter::new("f").unwrap();
    bench.machine.subscribe(bench.now, Subscribe::to(filter, QoS::AtLeastOnce)).unwrap();
    publish(&mut bench, QoS::ExactlyOnce);
    publish(&mut bench, QoS::AtLeastOnce);
    let nearly = AFTER - Duration::from_secs(1);
    assert_eq!(pass(&mut bench, nearly), []);
    bench.suback(1, &[1]);
    bench.events();
    assert_eq!(pass(&mut bench, nearly), []);
    bench.ack(AckKind::PubRec, 2);
    bench.sent();
    assert_eq!(pass(&mut bench, nearly), []);
    bench.ack(AckKind::PubComp, 2);
    bench.events();
    // A message from the server is life, and no acknowledgement.
    bench.receive(&incoming(QoS::AtMostOnce, 0));
    for receipt in bench.receipts() {
        bench.machine.settle(bench.now, receipt, mqtt_machine::ReasonCode::Success);
    }
    assert_eq!(pass(&mut bench, nearly), []);
    let told = pass(&mut bench, Duration::from_secs(1));
    assert_eq!(told, [Event::Stalled { waited: AFTER, unacknowledged: 1 }]);
}

#[test]
fn a_subscription_without_an_answer_is_watched_too() {
    let mut bench = telling();
    let filter = TopicFilter::new("f").unwrap();
    bench.machine.subscribe(bench.now, Subscribe::to(filter, QoS::AtLeastOnce)).unwrap();
    bench.sent();
    assert_eq!(pass(&mut bench, AFTER), [Event::Stalled { waited: AFTER, unacknowledged: 1 }]);
}

#[test]
fn nothing_is_declared_stalled_while_nobody_reads() {
    let mut config = watched(Watchdog::reconnect_after(AFTER));
    config.limits.incoming_bytes = 1;
    // What answers a PINGREQ would be read later, as everything.
    config.keep_alive = Duration::ZERO;
    let mut bench = Bench::connected(config);
    publish(&mut bench, QoS::AtLeastOnce);
    bench.receive(&incoming(QoS::AtLeastOnce, 1));
    let receipts = bench.receipts();
    assert!(bench.machine.is_paused());
    assert_eq!(pass(&mut bench, 10 * AFTER), []);
    for receipt in receipts {
        bench.machine.settle(bench.now, receipt, mqtt_machine::ReasonCode::Success);
    }
    bench.sent();
    assert_eq!(pass(&mut bench, AFTER - Duration::from_secs(1)), [], "time begins again");
    let events = pass(&mut bench, Duration::from_secs(1));
    assert!(matches!(events.as_slice(), [Event::Disconnected(ended)] if ended.reason == EndReason::Stalled));
}

#[test]
fn a_time_of_zero_watches_nothing() {
    let mut bench = Bench::connected(watched(Watchdog::reconnect_after(Duration::ZERO)));
    publish(&mut bench, QoS::AtLeastOnce);
    bench.machine.handle_timeout(bench.now);
    assert_eq!(pass(&mut bench, Duration::from_secs(1_000)), []);
    assert!(bench.now > Instant::ZERO && bench.machine.is_connected());
}
