//! The bounds of a machine, each met exactly and passed by one, and what a lost session ends.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, config, incoming};
use mqtt_machine::journal::Record;
use mqtt_machine::packet::AckKind;
use mqtt_machine::{
    CleanStart, Instant, LostSession, Machine, Message, Offline, OpId, Outcome, PacketId, ProtocolVersion,
    QoS, ReasonCode, Refused, Subscribe, Subscription, TopicFilter, wire::EncodeError,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Subscribes to these filters in one request, which is granted.
fn subscribe(bench: &mut Bench, id: u16, filters: &[String]) {
    let subscription =
        |filter: &String| Subscription::new(TopicFilter::new(filter.as_str()).unwrap(), QoS::AtLeastOnce);
    let subscriptions = filters.iter().map(subscription).collect();
    bench.machine.subscribe(bench.now, Subscribe::new(subscriptions)).unwrap();
    assert_eq!(bench.sent().len(), 1);
    bench.suback(id, &vec![1; filters.len()]);
    assert!(matches!(bench.outcomes().as_slice(), [(_, Outcome::Subscribed(_))]));
}

#[test]
fn a_client_identifier_has_23_characters_at_most_in_3_1() {
    let named = |version, count| {
        let mut bench = Bench::new(config(version).client_id("\u{FC}".repeat(count)));
        bench.machine.connect(bench.now)
    };
    assert_eq!(named(ProtocolVersion::V3_1, 23), Ok(()));
    let error = EncodeError::ClientIdentifierTooLong { characters: 24 };
    assert_eq!(named(ProtocolVersion::V3_1, 24), Err(Refused::Encode(error)));
    assert_eq!(named(ProtocolVersion::V3_1_1, 24), Ok(()));
}

#[test]
fn waiting_bytes_are_accepted_up_to_their_cap_and_given_back() {
    let text = |bytes: usize| Message::to("t", vec![0; bytes]).unwrap().qos(QoS::AtLeastOnce);
    let mut config = config(V5);
    config.limits.outgoing_bytes = 2 * text(100).cost();
    let mut bench = Bench::connected(config);
    bench.machine.publish(bench.now, text(100)).unwrap();
    assert_eq!(bench.machine.publish(bench.now, text(101)), Err(Refused::Full));
    bench.machine.publish(bench.now, text(100)).unwrap();
    assert_eq!(bench.machine.publish(bench.now, text(0)), Err(Refused::Full));
    bench.sent();
    bench.ack(AckKind::PubAck, 1);
    assert!(matches!(bench.outcomes().as_slice(), [(1, Outcome::Acknowledged(_))]));
    bench.machine.publish(bench.now, text(100)).unwrap();
    assert_eq!(bench.machine.publish(bench.now, text(0)), Err(Refused::Full));
}

#[test]
fn what_two_thousand_publications_needed_is_given_back_with_the_last() {
    let mut bench = Bench::connected(config(V5));
    for _ in 0..2_000 {
        bench.machine.publish(bench.now, bench::message(QoS::AtLeastOnce)).unwrap();
    }
    assert_eq!(bench.sent().len(), 2_000);
    for id in 1..=2_000 {
        bench.ack(AckKind::PubAck, id);
    }
    assert_eq!(bench.outcomes().len(), 2_000);
    // The queue of events is given back when it has been quiet.
    bench.machine.handle_timeout(bench.now);
    let used = bench.machine.memory_used();
    assert!(used < 4_096, "{used}");
}

#[test]
fn subscriptions_are_kept_up_to_their_cap() {
    let mut config = config(V5);
    config.limits.subscriptions = 3;
    let mut bench = Bench::connected(config);
    subscribe(&mut bench, 1, &["a".into(), "b".into(), "c".into()]);
    let request = Subscribe::to(TopicFilter::new("d").unwrap(), QoS::AtMostOnce);
    assert_eq!(bench.machine.subscribe(bench.now, request), Err(Refused::Full));
}

#[test]
fn subscriptions_are_made_again_in_requests_of_8_kib_at_most() {
    // With their lengths and options 2,048 bytes each: four fit exactly.
    let filters: Vec<String> = (0..9).map(|n| format!("{n}{}", "x".repeat(2_044))).collect();
    let mut bench = Bench::connected(config(V5).clean_start(CleanStart::Never));
    for (id, filter) in (1..).zip(&filters) {
        subscribe(&mut bench, id, std::slice::from_ref(filter));
    }
    bench.reconnect(false);
    let sent = bench.sent();
    let counts: Vec<usize> = sent.iter().map(|line| line.split(',').count()).collect();
    assert_eq!(counts, [4, 4, 1], "{sent:?}");
}

#[test]
fn two_thousand_unacknowledged_messages_are_acknowledged_to_the_last() {
    let mut bench = Bench::connected(config(V5));
    for id in 1..=2_000 {
        bench.receive(&incoming(QoS::AtLeastOnce, id));
    }
    let receipts = bench.receipts();
    assert_eq!(receipts.len(), 2_000);
    for (id, receipt) in (1..).zip(receipts) {
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        assert_eq!(bench.sent(), [format!("PubAck id{id}")]);
    }
    // The queue of events is given back when it has been quiet.
    bench.machine.handle_timeout(bench.now);
    assert!(bench.machine.memory_used() < 4_096, "what a burst needed is given back");
}

#[test]
fn requests_wait_up_to_the_cap_in_bytes() {
    let request =
        |bytes: usize| Subscribe::to(TopicFilter::new("x".repeat(bytes).as_str()).unwrap(), QoS::AtMostOnce);
    let mut config = config(V5);
    config.limits.outgoing_bytes = 1_000;
    let mut bench = Bench::new(config);
    bench.machine.subscribe(bench.now, request(600)).unwrap();
    assert_eq!(bench.machine.subscribe(bench.now, request(600)), Err(Refused::Full));
    bench.machine.subscribe(bench.now, request(100)).unwrap();
    let refused = bench.machine.subscribe(bench.now, request(1_200)).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { limit: 1_000, .. }), "{refused:?}");
}

#[test]
fn what_waits_of_qos_0_is_no_part_of_the_session() {
    let mut bench = Bench::new(config(V5).offline(Offline::Queue));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        bench.machine.publish(bench.now, bench::message(qos)).unwrap();
    }
    let kept = bench.machine.session().publications;
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[test]
fn records_that_do_not_follow_from_each_other_are_no_session() {
    let packet_id = PacketId::MIN;
    let op = OpId::new(1);
    for record in
        [Record::Assigned { op, packet_id }, Record::Ended { op, packet_id }, Record::Discarded { op }]
    {
        let records = [Record::ClientId("test".into()), record.clone()];
        let (config, away) = (Arc::new(config(V5)), Duration::ZERO);
        let restored = Machine::restore(config, 1, Instant::ZERO, away, records);
        assert_eq!(restored.err().map(|error| error.index), Some(1), "{record:?}");
    }
    // Publications are named in rising order.
    let queued = |op| Record::Queued { op: OpId::new(op), message: bench::message(QoS::AtLeastOnce) };
    for (ops, wrong) in [(vec![1, 2, 7], None), (vec![1, 1], Some(1)), (vec![3, 4, 2], Some(2))] {
        let records = ops.into_iter().map(queued);
        let restored = Machine::restore(Arc::new(config(V5)), 1, Instant::ZERO, Duration::ZERO, records);
        assert_eq!(restored.err().map(|error| error.index), wrong);
    }
    // A packet identifier is that of one publication.
    let assigned = |op, packet_id| Record::Assigned { op: OpId::new(op), packet_id };
    for (second, wrong) in [(2, None), (1, Some(3))] {
        let second = PacketId::new(second).unwrap();
        let records = [queued(1), queued(2), assigned(1, packet_id), assigned(2, second)];
        let restored = Machine::restore(Arc::new(config(V5)), 1, Instant::ZERO, Duration::ZERO, records);
        assert_eq!(restored.err().map(|error| error.index), wrong);
    }
}

#[test]
fn a_lost_session_that_is_to_be_reported_ends_qos_2_messages_in_flight_and_sends_the_others_again() {
    let mut bench =
        Bench::connected(config(V5).clean_start(CleanStart::Never).lost_session(LostSession::Report));
    for qos in [QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce] {
        bench.machine.publish(bench.now, bench::message(qos)).unwrap();
    }
    assert_eq!(bench.sent().len(), 3);
    bench.ack(AckKind::PubRec, 2);
    bench.reconnect(false);
    assert_eq!(bench.outcomes(), [(1, Outcome::Unknown), (2, Outcome::Unknown)]);
    assert_eq!(bench.sent(), ["Publish a/b qos1 id4 x"]);
}
