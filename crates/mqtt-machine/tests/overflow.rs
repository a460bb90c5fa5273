//! Who goes when there is no room, and who goes first when there is: the policies of overflow, priorities, and what becomes of QoS 0
//! while its consumer is behind.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, config, incoming};
use mqtt_machine::journal::{self, PublishKey, Record};
use mqtt_machine::packet::{AckKind, Properties, PropertiesBuf, Property};
use mqtt_machine::{
    Behind, Config, DropReason, Event, Instant, KeyedPublication, Machine, Message, Offline, Outcome,
    Overflow, Priority, ProtocolVersion, QoS, ReasonCode, Refused,
};

const V5: ProtocolVersion = ProtocolVersion::V5;
const DROPPED: Outcome = Outcome::Dropped(DropReason::Overflow);
const SUPERSEDED: Outcome = Outcome::Dropped(DropReason::Superseded);

fn to(topic: &str, payload: &str) -> Message {
    Message::to(topic, payload.to_owned()).unwrap().qos(QoS::AtLeastOnce)
}

fn with(overflow: Overflow, messages: usize) -> Config {
    let mut config = config(V5).overflow(overflow);
    config.limits.outgoing_messages = messages;
    config
}

/// Publishes, which is accepted: under which number.
fn publish(bench: &mut Bench, message: Message) -> u64 {
    bench.machine.publish(bench.now, message).unwrap().to_u64()
}

/// The payloads of what leaves now, in order.
fn leaving(bench: &mut Bench) -> Vec<String> {
    let last = |line: String| line.rsplit(' ').next().map(str::to_owned);
    bench.sent().into_iter().filter(|line| line.starts_with("Publish")).filter_map(last).collect()
}

/// Connects, and tells what leaves.
fn connect(bench: &mut Bench) -> Vec<String> {
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.events();
    bench.accept(false, Properties::EMPTY);
    leaving(bench)
}

#[test]
fn without_a_policy_what_finds_no_room_is_refused() {
    for overflow in [Overflow::Wait, Overflow::Refuse] {
        let mut bench = Bench::new(with(overflow, 2));
        publish(&mut bench, to("t", "1"));
        publish(&mut bench, to("t", "2"));
        assert!(!bench.machine.has_room_for(&to("t", "3")));
        assert_eq!(bench.machine.publish(bench.now, to("t", "3")), Err(Refused::Full));
        assert_eq!(bench.machine.waits_for_room(), overflow == Overflow::Wait);
        assert!(bench.events().is_empty());
        assert_eq!(connect(&mut bench), ["1", "2"]);
    }
}

#[test]
fn drop_oldest_ends_the_oldest_that_waits_and_keeps_the_rest_in_order() {
    let mut bench = Bench::new(with(Overflow::DropOldest, 3));
    for number in 1..=5 {
        assert!(bench.machine.has_room_for(&to("t", "x")));
        publish(&mut bench, to("t", &number.to_string()));
    }
    assert_eq!(bench.outcomes(), [(1, DROPPED), (2, DROPPED)]);
    assert_eq!(bench.machine.metrics().dropped, 2);
    assert_eq!(connect(&mut bench), ["3", "4", "5"]);
}

#[test]
fn drop_oldest_makes_as_much_room_as_the_bytes_need_and_not_more() {
    let mut limited = with(Overflow::DropOldest, 100);
    limited.limits.outgoing_bytes = 4 * to("t", "").cost() + 40;
    let mut bench = Bench::new(limited);
    for _ in 0..4 {
        publish(&mut bench, to("t", "0123456789"));
    }
    assert!(bench.events().is_empty());
    publish(&mut bench, to("t", "01234567890"));
    assert_eq!(bench.outcomes(), [(1, DROPPED), (2, DROPPED)], "one would leave a byte too little");
    publish(&mut bench, to("t", "01234567"));
    assert!(bench.events().is_empty(), "there is room");
}

#[test]
fn drop_oldest_leaves_what_is_in_the_window_to_the_server() {
    let mut bench = Bench::connected(with(Overflow::DropOldest, 2));
    publish(&mut bench, to("t", "1"));
    publish(&mut bench, to("t", "2"));
    assert_eq!(leaving(&mut bench), ["1", "2"]);
    assert!(!bench.machine.has_room_for(&to("t", "3")));
    assert_eq!(bench.machine.publish(bench.now, to("t", "3")), Err(Refused::Full));
    assert!(bench.events().is_empty(), "nothing was given up in vain");
    bench.ack(AckKind::PubAck, 1);
    publish(&mut bench, to("t", "4"));
    publish(&mut bench, to("t", "5"));
    let outcomes = bench.outcomes();
    assert!(matches!(outcomes.as_slice(), [(1, Outcome::Acknowledged(_)), (3, DROPPED)]), "{outcomes:?}");
    assert_eq!(leaving(&mut bench), ["5"]);
}

#[test]
fn drop_oldest_drops_the_least_urgent_first_and_the_new_one_where_all_are_more_urgent() {
    let mut bench = Bench::new(with(Overflow::DropOldest, 4));
    publish(&mut bench, to("t", "high").priority(Priority::High));
    publish(&mut bench, to("t", "low").priority(Priority::Low));
    publish(&mut bench, to("t", "normal"));
    publish(&mut bench, to("t", "low too").priority(Priority::Low));
    publish(&mut bench, to("t", "normal too"));
    assert_eq!(bench.outcomes(), [(2, DROPPED)]);
    publish(&mut bench, to("t", "high too").priority(Priority::High));
    assert_eq!(bench.outcomes(), [(4, DROPPED)]);
    assert_eq!(publish(&mut bench, to("t", "lowest").priority(Priority::Low)), 7);
    assert_eq!(bench.outcomes(), [(7, DROPPED)]);
    publish(&mut bench, to("t", "highest").priority(Priority::High));
    assert_eq!(bench.outcomes(), [(3, DROPPED)]);
    assert_eq!(connect(&mut bench), ["high", "too", "highest", "too"]);
}

#[test]
fn drop_newest_ends_what_finds_no_room() {
    let mut bench = Bench::new(with(Overflow::DropNewest, 2));
    for number in 1..=4 {
        assert_eq!(publish(&mut bench, to("t", &number.to_string())), number);
    }
    assert_eq!(bench.outcomes(), [(3, DROPPED), (4, DROPPED)]);
    assert_eq!(connect(&mut bench), ["1", "2"]);
}

#[test]
fn outcomes_that_nobody_takes_are_bounded_under_every_policy() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::LastValue] {
        let mut bench = Bench::new(with(overflow, 10));
        let accepted = (0..1_000).filter(|_| bench.machine.publish(bench.now, to("t", "x")).is_ok()).count();
        let left = if overflow == Overflow::LastValue { 1 } else { 10 };
        assert_eq!(accepted, left + 10, "{overflow:?}");
        assert!(!bench.machine.has_room_for(&to("t", "x")));
        assert_eq!(bench.outcomes().len(), 10);
        assert!(bench.machine.publish(bench.now, to("t", "x")).is_ok());
    }
}

#[test]
fn the_last_value_of_each_topic_is_kept_without_a_connection() {
    let mut bench = Bench::new(with(Overflow::LastValue, 100));
    for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5"), ("a", "6")] {
        publish(&mut bench, to(topic, payload));
    }
    assert_eq!(bench.outcomes(), [(1, SUPERSEDED), (2, SUPERSEDED), (3, SUPERSEDED)]);
    assert_eq!(connect(&mut bench), ["4", "5", "6"]);
    // With a connection and with room nothing is left out.
    publish(&mut bench, to("a", "7"));
    publish(&mut bench, to("a", "8"));
    assert_eq!(leaving(&mut bench), ["7", "8"]);
}

#[test]
fn the_last_value_takes_room_of_its_own_topic_only() {
    let list = PropertiesBuf::new().with(Property::ReceiveMaximum(1)).unwrap();
    let mut bench = Bench::connected_with(with(Overflow::LastValue, 4), false, list.as_properties());
    for (topic, payload) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")] {
        publish(&mut bench, to(topic, payload));
    }
    assert_eq!(leaving(&mut bench), ["1"]);
    assert_eq!(bench.machine.publish(bench.now, to("c", "5")), Err(Refused::Full));
    publish(&mut bench, to("a", "6"));
    assert_eq!(bench.outcomes(), [(3, SUPERSEDED)], "the newest that waits, not the one that has left");
    for (id, next) in [(1, "2"), (2, "4"), (3, "6")] {
        bench.ack(AckKind::PubAck, id);
        assert_eq!(leaving(&mut bench), [next]);
    }
}

#[test]
fn the_last_value_is_known_of_messages_that_waited_before_the_policy() {
    let mut bench = Bench::new(with(Overflow::Wait, 100));
    for payload in ["1", "2"] {
        publish(&mut bench, to("a", payload));
    }
    publish(&mut bench, to("b", "3"));
    bench.machine.reconfigure(bench.now, Arc::new(with(Overflow::LastValue, 100)));
    bench.machine.connect(bench.now).unwrap();
    publish(&mut bench, to("a", "4"));
    assert_eq!(bench.outcomes(), [(2, SUPERSEDED)]);
    bench.open();
    bench.accept(false, Properties::EMPTY);
    assert_eq!(leaving(&mut bench), ["1", "3", "4"]);
}

#[test]
fn a_policy_ends_qos_0_and_keyed_publications_too() {
    let mut bench = Bench::new(with(Overflow::DropOldest, 1));
    publish(&mut bench, to("t", "1").qos(QoS::AtMostOnce));
    let key = PublishKey::new("k").unwrap();
    let keyed = bench.machine.publish_keyed(bench.now, key.clone(), to("t", "2")).unwrap();
    assert!(matches!(keyed, KeyedPublication::Accepted(_)));
    assert_eq!(bench.outcomes(), [(1, DROPPED)]);
    publish(&mut bench, to("t", "3"));
    assert_eq!(bench.outcomes(), [(2, DROPPED)]);
    let again = bench.machine.publish_keyed(bench.now, key, to("t", "2")).unwrap();
    assert!(matches!(again, KeyedPublication::Ended(_, DROPPED)), "who asks again is told");

    let mut bench = Bench::new(with(Overflow::DropNewest, 1));
    publish(&mut bench, to("t", "1"));
    let key = PublishKey::new("k").unwrap();
    bench.machine.publish_keyed(bench.now, key.clone(), to("t", "2")).unwrap();
    assert_eq!(bench.outcomes(), [(2, DROPPED)]);
    assert!(!bench.machine.is_known(&key), "it may be tried again");
}

#[test]
fn a_full_queue_and_a_policy_for_qos_0_do_not_get_in_each_others_way() {
    let mut config = with(Overflow::Wait, 1);
    config.offline = Offline::Drop;
    let mut bench = Bench::new(config);
    publish(&mut bench, to("t", "1"));
    publish(&mut bench, to("t", "2").qos(QoS::AtMostOnce));
    assert_eq!(bench.outcomes(), [(2, Outcome::Dropped(DropReason::Offline))]);
}

#[test]
fn the_urgent_leave_first_and_each_priority_keeps_its_order() {
    let mut bench = Bench::new(with(Overflow::Wait, 100));
    use Priority::{High, Low, Normal};
    for (priority, payload) in
        [(Low, "a"), (Normal, "b"), (High, "c"), (Low, "d"), (High, "e"), (Normal, "f")]
    {
        let qos = if payload == "e" { QoS::AtMostOnce } else { QoS::ExactlyOnce };
        publish(&mut bench, to("t", payload).qos(qos).priority(priority));
    }
    assert_eq!(connect(&mut bench), ["c", "e", "b", "f", "a", "d"]);
}

#[test]
fn a_message_that_is_in_the_window_is_not_overtaken_and_a_lost_session_keeps_the_order() {
    let list = PropertiesBuf::new().with(Property::ReceiveMaximum(2)).unwrap();
    let mut bench = Bench::connected_with(with(Overflow::Wait, 100), false, list.as_properties());
    for (priority, payload) in [(Priority::Low, "1"), (Priority::Low, "2"), (Priority::Low, "3")] {
        publish(&mut bench, to("t", payload).priority(priority));
    }
    assert_eq!(leaving(&mut bench), ["1", "2"]);
    publish(&mut bench, to("t", "4").priority(Priority::High));
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(true, list.as_properties());
    assert_eq!(leaving(&mut bench), ["1", "2"], "they are owed first");
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(false, Properties::EMPTY);
    assert_eq!(leaving(&mut bench), ["4", "1", "2", "3"], "as if they had never left");
}

#[test]
fn priorities_and_policies_hold_after_a_restart() {
    let config = with(Overflow::LastValue, 100).durable(true);
    let mut bench = Bench::new(config.clone());
    for (topic, payload, priority) in [
        ("a", "1", Priority::Low),
        ("b", "2", Priority::High),
        ("a", "3", Priority::Normal),
        ("c", "4", Priority::Low),
    ] {
        publish(&mut bench, to(topic, payload).priority(priority));
    }
    let mut records = Vec::new();
    while let Some(action) = bench.machine.poll_action() {
        if let mqtt_machine::Action::Store { record, .. } = action {
            // As a store has it.
            records.push(journal::decode(&journal::encode(&record)).unwrap());
        }
    }
    assert!(
        records.iter().any(|record| matches!(record, Record::Discarded { .. })),
        "what was dropped stays so"
    );
    let restored = Machine::restore(Arc::new(config), 7, Instant::ZERO, Duration::ZERO, records).unwrap();
    assert_eq!(restored.session(), bench.machine.session());
    assert_eq!(restored.metrics().accepted, 3);
    let payload = |(_, _, message): &(_, _, Option<Message>)| message.as_ref().map(Message::payload_lossy);
    let order: Vec<_> = restored.session().publications.iter().filter_map(payload).collect();
    assert_eq!(order, ["2", "3", "4"]);
}

#[test]
fn qos_0_is_dropped_while_its_consumer_is_behind_and_the_rest_is_not() {
    let cost = Message::to("in", "x").unwrap().cost();
    let mut config = config(V5).behind(Behind::DropQoS0);
    config.limits.incoming_bytes = 10 * cost;
    let mut bench = Bench::connected(config);
    for _ in 0..1_000 {
        bench.receive(&incoming(QoS::AtMostOnce, 0));
    }
    assert!(bench.machine.read_capacity() > 0, "a flood of QoS 0 does not stop the reads");
    let receipts = bench.receipts();
    assert_eq!(receipts.len(), 5, "half of the budget");
    for id in 1..=5 {
        bench.receive(&incoming(QoS::AtLeastOnce, id));
    }
    assert_eq!(bench.machine.read_capacity(), 0, "QoS 1 does");
    let metrics = bench.machine.metrics();
    assert_eq!((metrics.overrun, metrics.received, metrics.incoming_bytes), (995, 10, 10 * cost));
    let more = bench.receipts();
    assert_eq!(more.len(), 5);
    for receipt in receipts {
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
    }
    assert!(bench.events().is_empty(), "half is not less than half");
    for receipt in more {
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
    }
    assert_eq!(bench.events(), [Event::Overrun { messages: 995 }], "once");
    bench.receive(&incoming(QoS::AtMostOnce, 0));
    assert_eq!(bench.receipts().len(), 1);
}

#[test]
fn an_older_value_is_known_when_the_newest_has_gone_another_way() {
    let mut config = with(Overflow::Wait, 100);
    config.clean_start = mqtt_machine::CleanStart::Never;
    let mut bench = Bench::new(config.clone().durable(true));
    publish(&mut bench, to("a", "1"));
    publish(&mut bench, to("a", "2").qos(QoS::AtMostOnce));
    config.overflow = Overflow::LastValue;
    bench.machine.reconfigure(bench.now, Arc::new(config.durable(true)));
    bench.machine.connect(bench.now).unwrap();
    publish(&mut bench, to("b", "3"));
    bench.machine.disconnect(bench.now, mqtt_machine::Disconnect::new(Duration::ZERO)).unwrap();
    bench.events();
    // Of those that waited only QoS 0 has gone.
    publish(&mut bench, to("a", "4"));
    let snapshot = bench.machine.session();
    let payload = |(_, _, message): &(_, _, Option<Message>)| message.as_ref().map(Message::payload_lossy);
    assert_eq!(snapshot.publications.iter().filter_map(payload).collect::<Vec<_>>(), ["3", "4"]);
}

/// A message that is worth nothing after so many seconds.
fn expiring(payload: &str, seconds: u32) -> Message {
    to("t", payload).property(Property::MessageExpiryInterval(seconds)).unwrap()
}

#[test]
fn what_expires_makes_room_without_a_connection() {
    let mut bench = Bench::new(with(Overflow::Wait, 3));
    publish(&mut bench, expiring("1", 10));
    publish(&mut bench, expiring("2", 20).qos(QoS::AtMostOnce));
    publish(&mut bench, to("t", "3"));
    assert!(!bench.machine.has_room_for(&to("t", "4")));
    bench.wake();
    assert_eq!(bench.now, Instant::from_micros(10_000_000));
    assert_eq!(bench.outcomes(), [(1, Outcome::Expired)]);
    publish(&mut bench, expiring("4", 5));
    bench.wake();
    assert_eq!(bench.now, Instant::from_micros(15_000_000));
    assert_eq!(bench.outcomes(), [(4, Outcome::Expired)]);
    bench.wake();
    assert_eq!(bench.outcomes(), [(2, Outcome::Expired)]);
    assert_eq!(bench.machine.poll_timeout(), None, "the last one keeps its worth");
    assert_eq!(bench.machine.metrics().expired, 3);
    assert_eq!(connect(&mut bench), ["3"]);
}

#[test]
fn many_messages_that_expire_one_after_the_other_are_looked_at_once_a_second() {
    let mut bench = Bench::new(with(Overflow::Wait, 10_000));
    for number in 0..5_000_u64 {
        bench.now = Instant::from_micros(number);
        publish(&mut bench, expiring("x", 10));
    }
    let mut wakes = 0;
    while bench.machine.poll_timeout().is_some() {
        bench.wake();
        wakes += 1;
    }
    assert_eq!(bench.outcomes().len(), 5_000);
    assert_eq!((wakes, bench.now), (2, Instant::from_micros(11_000_000)));
}

#[test]
fn what_has_left_does_not_expire_and_what_waited_through_a_restart_does() {
    let mut bench = Bench::connected(with(Overflow::Wait, 10));
    publish(&mut bench, expiring("1", 10));
    assert_eq!(leaving(&mut bench), ["1"]);
    bench.cut();
    bench.events();
    bench.now = Instant::from_micros(60_000_000);
    bench.machine.handle_timeout(bench.now);
    assert!(bench.outcomes().is_empty());

    let config = with(Overflow::Wait, 10).durable(true);
    let mut before = Bench::new(config.clone());
    publish(&mut before, expiring("1", 10));
    let mut records = Vec::new();
    while let Some(action) = before.machine.poll_action() {
        if let mqtt_machine::Action::Store { record, .. } = action {
            records.push(record);
        }
    }
    let away = Duration::from_secs(7);
    let restored = Machine::restore(Arc::new(config), 7, Instant::ZERO, away, records).unwrap();
    assert_eq!(restored.poll_timeout(), Some(Instant::from_micros(3_000_000)));
}
