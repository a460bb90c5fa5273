//! What a machine counts, and what a disconnect reports.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, incoming};
use mqtt_machine::packet::{AckKind, PropertiesBuf};
use mqtt_machine::{
    Disconnect, Drained, Message, Metrics, Outcome, ProtocolVersion, QoS, ReasonCode, StoreError,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn publish(bench: &mut Bench, qos: QoS) {
    bench.machine.publish(bench.now, Message::to("t", "x").unwrap().qos(qos)).unwrap();
}

fn after(bench: &mut Bench, millis: u64) {
    bench.now += Duration::from_millis(millis);
}

/// What leaves is handed to the transport.
fn send(bench: &mut Bench) -> usize {
    let bytes = bench.sent_bytes();
    bench.machine.handle_sent(bench.now, bench.transport.unwrap(), bytes.len());
    bytes.len()
}

/// The last outcome, which is that of the disconnect.
fn report(bench: &mut Bench) -> Drained {
    match bench.outcomes().pop() {
        Some((_, Outcome::Disconnected(drained))) => drained,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_publication_is_counted_once_by_its_end() {
    let mut bench = Bench::connected(config(V5));
    publish(&mut bench, QoS::AtMostOnce);
    publish(&mut bench, QoS::AtLeastOnce);
    publish(&mut bench, QoS::ExactlyOnce);
    publish(&mut bench, QoS::AtLeastOnce);
    let expiring = Message::to("t", "x").unwrap().qos(QoS::AtLeastOnce);
    let waiting = bench.machine.metrics();
    assert_eq!((waiting.accepted, waiting.waiting, waiting.in_flight), (4, 4, 0));
    assert_eq!(waiting.outgoing_bytes, 4 * expiring.cost());
    send(&mut bench);
    assert_eq!((bench.machine.metrics().waiting, bench.machine.metrics().in_flight), (0, 3));
    bench.ack(AckKind::PubAck, 1);
    bench.ack(AckKind::PubRec, 2);
    send(&mut bench);
    bench.ack(AckKind::PubComp, 2);
    bench.ack_with(AckKind::PubAck, 3, ReasonCode::QuotaExceeded, &PropertiesBuf::new());
    let Metrics { sent, acknowledged, refused, dropped, expired, cut_off, in_flight, outgoing_bytes, .. } =
        bench.machine.metrics();
    assert_eq!((sent, acknowledged, refused, dropped, expired, cut_off), (1, 2, 1, 0, 0, 0));
    assert_eq!((in_flight, outgoing_bytes), (0, 0));
    assert_eq!(bench.machine.metrics().memory_used, bench.machine.memory_used());
}

#[test]
fn the_time_of_an_acknowledgement_is_that_of_one_connection() {
    let mut bench = Bench::connected(config(V5));
    publish(&mut bench, QoS::AtLeastOnce);
    publish(&mut bench, QoS::ExactlyOnce);
    after(&mut bench, 1_000); // not on its way yet
    send(&mut bench);
    after(&mut bench, 40);
    bench.ack(AckKind::PubAck, 1);
    bench.ack(AckKind::PubRec, 2);
    send(&mut bench);
    after(&mut bench, 20);
    bench.ack(AckKind::PubComp, 2);
    let millis = Duration::from_millis;
    let trip = bench.machine.metrics().round_trip;
    assert_eq!((trip.count, trip.last, trip.shortest, trip.longest), (2, millis(60), millis(40), millis(60)));
    assert_eq!(trip.smoothed, Duration::from_micros(42_500));
    // A PUBCOMP on the next connection says nothing about the time of either.
    publish(&mut bench, QoS::ExactlyOnce);
    send(&mut bench);
    bench.ack(AckKind::PubRec, 3);
    bench.reconnect(true);
    send(&mut bench);
    after(&mut bench, 5);
    bench.ack(AckKind::PubComp, 3);
    let metrics = bench.machine.metrics();
    assert_eq!((metrics.round_trip.count, metrics.acknowledged), (2, 3));
}

#[test]
fn connections_bytes_and_repeats_are_counted() {
    let mut bench = Bench::connected(config(V5));
    let start = bench.machine.metrics();
    assert_eq!((start.attempts, start.connections), (1, 1));
    publish(&mut bench, QoS::ExactlyOnce);
    let written = send(&mut bench) as u64;
    assert_eq!(bench.machine.metrics().bytes_out, start.bytes_out + written);
    bench.receive(&incoming(QoS::ExactlyOnce, 7));
    bench.receive(&incoming(QoS::ExactlyOnce, 7));
    let metrics = bench.machine.metrics();
    assert_eq!((metrics.received, metrics.duplicates), (1, 1));
    assert!(metrics.bytes_in > start.bytes_in && metrics.incoming_bytes > 0);
    bench.reconnect(true);
    send(&mut bench);
    let metrics = bench.machine.metrics();
    assert_eq!((metrics.attempts, metrics.connections, metrics.resent), (2, 2, 1));
}

#[test]
fn a_report_tells_what_was_delivered_and_what_was_not() {
    let mut bench = Bench::connected(config(V5));
    publish(&mut bench, QoS::AtLeastOnce);
    send(&mut bench);
    bench.ack(AckKind::PubAck, 1);
    bench.events();
    // Only what is open now is reported.
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publish(&mut bench, qos);
    }
    bench.machine.disconnect(bench.now, Disconnect::new(Duration::from_secs(5))).unwrap();
    send(&mut bench);
    bench.ack(AckKind::PubAck, 2);
    bench.ack_with(AckKind::PubAck, 3, ReasonCode::NotAuthorized, &PropertiesBuf::new());
    bench.wake();
    send(&mut bench);
    let drained = report(&mut bench);
    assert_eq!(drained, Drained { delivered: 2, undelivered: 2, kept: 0 });
    assert!(!drained.is_complete());
}

#[test]
fn a_report_tells_what_the_store_keeps() {
    let mut bench = Bench::connected(config(V5).durable(true));
    publish(&mut bench, QoS::AtMostOnce);
    publish(&mut bench, QoS::AtLeastOnce);
    publish(&mut bench, QoS::ExactlyOnce);
    // None of the last two is durable, so that only the first leaves.
    assert_eq!(bench.sent().len(), 1);
    bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO)).unwrap();
    bench.sent();
    bench.machine.handle_stored(bench.now, Ok(bench.machine.journal_position()));
    assert_eq!(report(&mut bench), Drained { delivered: 0, undelivered: 2, kept: 2 });
}

#[test]
fn a_store_that_failed_keeps_nothing_that_could_be_promised() {
    let mut bench = Bench::connected(config(V5).durable(true));
    publish(&mut bench, QoS::AtLeastOnce);
    bench.machine.disconnect(bench.now, Disconnect::new(Duration::from_secs(1))).unwrap();
    bench.machine.handle_stored(bench.now, Err(StoreError("full".into())));
    let outcomes = bench.outcomes();
    let report = Drained { delivered: 0, undelivered: 1, kept: 0 };
    assert!(
        outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Disconnected(report))
            && outcomes.iter().any(|(_, outcome)| *outcome == Outcome::StoreFailed),
        "{outcomes:?}"
    );
}
