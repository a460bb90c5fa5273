//! The numbered statements about messages that a client sends: identifiers, DUP, order, the two handshakes, the send quota.
//! Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::collections::BTreeSet;
use std::time::Duration;

use bench::{Bench, incoming, list};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, ReasonCodes, SubAck,
};
use mqtt_machine::{
    CleanStart, Config, EndReason, Message, Outcome, PacketId, ProtocolVersion, QoS, ReasonCode, Refused,
    Server, Subscribe, TopicFilter,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];
const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Resumes its session always.
fn config(version: ProtocolVersion) -> Config {
    Config::new(Server::new("broker")).client_id("test").version(version).clean_start(CleanStart::Never)
}

fn message(qos: QoS, payload: &'static str) -> Message {
    Message::to("t", payload).unwrap().qos(qos)
}

fn publish(bench: &mut Bench, qos: QoS, payload: &'static str) {
    bench.machine.publish(bench.now, message(qos, payload)).unwrap();
}

fn refuse(bench: &mut Bench, kind: AckKind, id: u16) {
    let reason = ReasonCode::QuotaExceeded;
    bench.receive(&Packet::Ack(Ack { reason, ..Ack::new(kind, PacketId::new(id).unwrap()) }));
}

fn subscribe(bench: &mut Bench) {
    let filter = TopicFilter::new("f").unwrap();
    bench.machine.subscribe(bench.now, Subscribe::to(filter, QoS::AtMostOnce)).unwrap();
}

fn suback(bench: &mut Bench, id: u16) {
    let codes = ReasonCodes::from_bytes(&[0]).unwrap();
    let (packet_id, properties) = (PacketId::new(id).unwrap(), Properties::EMPTY);
    bench.receive(&Packet::SubAck(SubAck { packet_id, properties, codes }));
}

/// The identifier in a line of the bench's.
fn id_of(line: &str) -> u16 {
    let part = line.split(' ').find_map(|part| part.strip_prefix("id"));
    part.and_then(|id| id.parse().ok()).expect("an identifier")
}

/// The identifiers of as many new messages of QoS 1 as there are identifiers.
fn cycle(bench: &mut Bench) -> BTreeSet<u16> {
    let mut used = BTreeSet::new();
    for _ in 0..u16::MAX {
        publish(bench, QoS::AtLeastOnce, "x");
        let id = id_of(&bench.sent()[0]);
        used.insert(id);
        bench.ack(AckKind::PubAck, id);
        bench.events();
    }
    used
}

// 5.0: MQTT-2.2.1-3, MQTT-4.3.2-1, MQTT-4.3.3-1
// 3.1.1: MQTT-2.3.1-1, MQTT-2.3.1-2, MQTT-2.3.1-3
#[test]
fn an_identifier_is_not_zero_and_not_used_again_before_its_last_acknowledgement() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        publish(&mut bench, QoS::ExactlyOnce, "x");
        publish(&mut bench, QoS::ExactlyOnce, "y");
        subscribe(&mut bench);
        let sent = bench.sent();
        assert_eq!(sent, ["Subscribe id1 f", "Publish t qos2 id2 x", "Publish t qos2 id3 y"]);
        bench.ack(AckKind::PubRec, 3);
        assert_eq!(bench.sent(), ["PubRel id3"]);
        let used = cycle(&mut bench);
        assert_eq!((used.len(), used.first()), (65_532, Some(&4)), "{version}");
        suback(&mut bench, 1);
        bench.ack(AckKind::PubRec, 2);
        bench.ack(AckKind::PubComp, 2);
        bench.ack(AckKind::PubComp, 3);
        bench.sent();
        assert!(bench.machine.session().publications.is_empty());
        assert_eq!((cycle(&mut bench).len(), cycle(&mut bench).first()), (65_535, Some(&1)), "{version}");
    }
}

// 5.0: MQTT-2.2.1-5, MQTT-4.3.2-2, MQTT-4.3.2-3, MQTT-4.3.3-2, MQTT-4.3.3-3, MQTT-4.3.3-4, MQTT-4.3.3-5
// 3.1.1: MQTT-2.3.1-6, MQTT-4.3.2-1, MQTT-4.3.3-1
#[test]
fn a_message_is_owed_until_its_own_last_acknowledgement() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        publish(&mut bench, QoS::AtLeastOnce, "x");
        publish(&mut bench, QoS::ExactlyOnce, "y");
        assert_eq!(bench.sent(), ["Publish t qos1 id1 x", "Publish t qos2 id2 y"]);
        let owed = |bench: &Bench| -> Vec<(u16, bool)> {
            let session = bench.machine.session();
            let owed = session.publications.iter();
            owed.map(|(_, id, message)| (id.unwrap().to_u16(), message.is_some())).collect()
        };
        bench.ack(AckKind::PubAck, 9);
        assert_eq!(owed(&bench), [(1, true), (2, true)], "an identifier that nobody uses");
        bench.ack(AckKind::PubAck, 1);
        assert_eq!(owed(&bench), [(2, true)]);
        assert!(matches!(bench.outcomes()[..], [(1, Outcome::Acknowledged(_))]));
        bench.ack(AckKind::PubRec, 2);
        assert_eq!(bench.sent(), ["PubRel id2"]);
        assert_eq!(owed(&bench), [(2, false)], "PUBREL is owed, the message is not");
        assert!(bench.outcomes().is_empty());
        bench.ack(AckKind::PubComp, 2);
        assert!(owed(&bench).is_empty());
        assert!(matches!(bench.outcomes()[..], [(2, Outcome::Acknowledged(_))]));
    }
}

// 5.0: MQTT-4.3.2-3, MQTT-4.3.3-3, MQTT-4.3.3-5
// 3.1.1: MQTT-4.3.2-1, MQTT-4.3.3-1
#[test]
fn an_acknowledgement_of_another_handshake_or_before_its_turn_is_a_violation() {
    for version in BOTH {
        for (qos, kind) in [
            (QoS::AtLeastOnce, AckKind::PubRec),
            (QoS::AtLeastOnce, AckKind::PubComp),
            (QoS::ExactlyOnce, AckKind::PubAck),
            (QoS::ExactlyOnce, AckKind::PubComp),
        ] {
            let mut bench = Bench::connected(config(version));
            publish(&mut bench, qos, "x");
            bench.sent();
            bench.ack(kind, 1);
            bench.sent();
            assert!(matches!(bench.end(), EndReason::Protocol(_)), "{qos} {kind:?}");
            assert_eq!(bench.machine.session().publications.len(), 1, "it is still owed");
        }
    }
}

#[test]
fn a_server_that_says_puback_to_qos_2_again_gets_the_message_no_third_time() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        publish(&mut bench, QoS::ExactlyOnce, "x");
        publish(&mut bench, QoS::ExactlyOnce, "y");
        bench.sent();
        bench.ack(AckKind::PubAck, 1);
        bench.sent();
        let EndReason::Protocol(violation) = bench.end() else { panic!() };
        assert_eq!(violation.rule, "MQTT-4.3.3-4");
        bench.wake();
        bench.open();
        bench.accept_after_events(true);
        assert_eq!(bench.sent(), ["Publish t qos2 dup id1 x", "Publish t qos2 dup id2 y"]);
        bench.ack(AckKind::PubAck, 1);
        bench.sent();
        assert_eq!(bench.outcomes(), [(1, Outcome::Unknown)]);
        bench.wake();
        bench.open();
        bench.accept_after_events(true);
        // The other one was never answered wrong.
        assert_eq!(bench.sent(), ["Publish t qos2 dup id2 y"]);
        bench.ack(AckKind::PubRec, 2);
        bench.ack(AckKind::PubAck, 2);
        bench.sent();
        assert!(bench.outcomes().is_empty(), "its PUBREL is owed: the server keeps its identifier");
        assert_eq!(bench.machine.session().publications.len(), 1);
    }
}

// 5.0: MQTT-3.3.1-1, MQTT-3.3.1-3, MQTT-4.3.2-2, MQTT-4.3.3-2
// 3.1.1: MQTT-3.3.1-1, MQTT-3.3.1-3, MQTT-4.3.2-1, MQTT-4.3.3-1
#[test]
fn dup_says_that_this_message_was_sent_before_and_nothing_else() {
    for (version, qos) in BOTH.into_iter().flat_map(|version| ACKNOWLEDGED.map(|qos| (version, qos))) {
        let mut bench = Bench::connected(config(version));
        // As a bridge forwards what it received a second time.
        let mut forwarded = message(qos, "a");
        forwarded.dup = true;
        bench.machine.publish(bench.now, forwarded).unwrap();
        assert_eq!(bench.sent(), [format!("Publish t qos{qos} id1 a")]);
        publish(&mut bench, qos, "b");
        bench.reconnect(true);
        let again = format!("Publish t qos{qos} dup id1 a");
        assert_eq!(bench.sent(), [again.clone(), format!("Publish t qos{qos} id2 b")], "b never left before");
        bench.reconnect(true);
        assert_eq!(bench.sent(), [again, format!("Publish t qos{qos} dup id2 b")]);
        bench.reconnect(false);
        let anew = [format!("Publish t qos{qos} id3 a"), format!("Publish t qos{qos} id4 b")];
        assert_eq!(bench.sent(), anew, "without the session they are new messages");
    }
}

// 5.0: MQTT-4.4.0-1
// 3.1.1: MQTT-4.4.0-1, MQTT-2.3.1-3
#[test]
fn what_is_unacknowledged_is_sent_again_with_its_identifier_on_a_resume_and_at_no_other_time() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version).keep_alive(Duration::from_secs(10)));
        for (qos, payload) in [(QoS::AtLeastOnce, "a"), (QoS::ExactlyOnce, "b"), (QoS::ExactlyOnce, "c")] {
            publish(&mut bench, qos, payload);
        }
        assert_eq!(bench.sent().len(), 3);
        bench.ack(AckKind::PubRec, 3);
        assert_eq!(bench.sent(), ["PubRel id3"]);
        for _ in 0..100 {
            bench.wake();
            assert_eq!(bench.sent(), ["PINGREQ"], "time alone sends nothing again");
            bench.receive(&Packet::PingResp);
        }
        for _ in 0..2 {
            bench.reconnect(true);
            let expected = ["Publish t qos1 dup id1 a", "Publish t qos2 dup id2 b", "PubRel id3"];
            assert_eq!(bench.sent(), expected, "{version}");
        }
    }
}

// 5.0: MQTT-4.3.3-6
// 3.1.1: MQTT-4.3.3-1
#[test]
fn after_pubrel_the_message_itself_is_never_sent_again() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        publish(&mut bench, QoS::ExactlyOnce, "x");
        bench.sent();
        bench.ack(AckKind::PubRec, 1);
        assert_eq!(bench.sent(), ["PubRel id1"]);
        bench.ack(AckKind::PubRec, 1);
        assert_eq!(bench.sent(), ["PubRel id1"], "a repeated PUBREC");
        for _ in 0..3 {
            bench.reconnect(true);
            assert_eq!(bench.sent(), ["PubRel id1"]);
        }
    }
}

// 5.0: MQTT-4.4.0-2, MQTT-4.3.3-4
#[test]
fn a_refused_message_has_ended_and_is_never_sent_again() {
    let mut bench = Bench::connected(config(V5));
    for (qos, payload) in [(QoS::AtLeastOnce, "a"), (QoS::ExactlyOnce, "b")] {
        publish(&mut bench, qos, payload);
    }
    bench.sent();
    refuse(&mut bench, AckKind::PubAck, 1);
    refuse(&mut bench, AckKind::PubRec, 2);
    assert!(bench.sent().is_empty(), "no PUBREL either");
    assert!(matches!(bench.outcomes()[..], [(1, Outcome::Refused(_)), (2, Outcome::Refused(_))]));
    bench.reconnect(true);
    assert!(bench.sent().is_empty());
}

// 5.0: MQTT-4.6.0-1
// 3.1.1: MQTT-4.6.0-1
#[test]
fn messages_that_are_sent_again_keep_their_order() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        let payloads = ["a", "b", "c", "d", "e", "f"];
        for (number, payload) in payloads.into_iter().enumerate() {
            publish(&mut bench, ACKNOWLEDGED[number % 2], payload);
        }
        bench.sent();
        bench.ack(AckKind::PubAck, 3);
        for _ in 0..3 {
            bench.reconnect(true);
            let sent = bench.sent();
            let order: Vec<&str> = sent.iter().map(|line| &line[line.len() - 1..]).collect();
            assert_eq!(order, ["a", "b", "d", "e", "f"], "{version}");
        }
    }
}

// 5.0: MQTT-4.6.0-4
// 3.1.1: MQTT-4.6.0-4
#[test]
fn pubrels_leave_in_the_order_in_which_the_pubrecs_came() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        for payload in ["a", "b", "c"] {
            publish(&mut bench, QoS::ExactlyOnce, payload);
        }
        bench.sent();
        for id in [3, 1, 2] {
            bench.ack(AckKind::PubRec, id);
        }
        assert_eq!(bench.sent(), ["PubRel id3", "PubRel id1", "PubRel id2"]);
        bench.reconnect(true);
        assert_eq!(bench.sent(), ["PubRel id3", "PubRel id1", "PubRel id2"], "{version}");
    }
}

// 5.0: MQTT-4.3.3-7
#[test]
fn a_message_that_was_sent_does_not_expire() {
    let mut bench = Bench::connected(config(V5));
    let expiring =
        |payload| message(QoS::ExactlyOnce, payload).property(Property::MessageExpiryInterval(1)).unwrap();
    bench.machine.publish(bench.now, expiring("x")).unwrap();
    assert_eq!(bench.sent(), ["Publish t qos2 id1 x"]);
    bench.now += Duration::from_secs(10);
    bench.machine.handle_timeout(bench.now);
    assert!(bench.outcomes().is_empty());
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Publish t qos2 dup id1 x"]);
    bench.ack(AckKind::PubRec, 1);
    bench.now += Duration::from_secs(10);
    assert_eq!(bench.sent(), ["PubRel id1"]);
    bench.cut();
    bench.machine.publish(bench.now, expiring("y")).unwrap();
    bench.now += Duration::from_secs(10);
    bench.wake();
    assert_eq!(bench.outcomes(), [(2, Outcome::Expired)], "one that still waited does");
    bench.open();
    bench.events();
    let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
    bench.receive(&Packet::ConnAck(ConnAck { session_present: true, reason, properties }));
    assert_eq!(bench.sent(), ["PubRel id1"]);
}

// 5.0: MQTT-3.3.4-7, MQTT-3.3.4-8, MQTT-4.9.0-1, MQTT-4.9.0-2, MQTT-4.9.0-3
#[test]
fn a_full_send_window_delays_publish_and_nothing_else() {
    for maximum in [1, 2, 5] {
        let properties = list([Property::ReceiveMaximum(maximum)]);
        let mut bench = Bench::connected_with(
            config(V5).keep_alive(Duration::from_secs(10)),
            false,
            properties.as_properties(),
        );
        for number in 0..8 {
            publish(&mut bench, ACKNOWLEDGED[number % 2], "x");
        }
        assert_eq!(bench.sent().len(), usize::from(maximum), "all of the quota, and no more");
        subscribe(&mut bench);
        assert!(bench.sent()[0].starts_with("Subscribe"));
        bench.receive(&incoming(QoS::AtLeastOnce, 7));
        bench.settle_all(ReasonCode::Success);
        assert_eq!(bench.sent(), ["PubAck id7"]);
        bench.wake();
        assert_eq!(bench.sent(), ["PINGREQ"]);
        bench.receive(&Packet::PingResp);
        bench.ack(AckKind::PubAck, 1);
        let next = bench.sent();
        assert_eq!((next.len(), id_of(&next[0])), (1, maximum + 2), "one ends, one follows");
    }
    let defaults = Bench::connected(config(V5));
    assert_eq!(defaults.machine.capabilities().unwrap().receive_maximum, 65_535);
}

// 5.0: MQTT-3.3.4-7, MQTT-4.9.0-1, MQTT-4.9.0-2
#[test]
fn the_quota_of_a_resumed_connection_is_its_own() {
    let properties = list([Property::ReceiveMaximum(2)]);
    let mut bench = Bench::connected(config(V5));
    for _ in 0..4 {
        publish(&mut bench, QoS::AtLeastOnce, "x");
    }
    assert_eq!(bench.sent().len(), 4);
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(true, properties.as_properties());
    assert_eq!(bench.sent(), ["Publish t qos1 dup id1 x", "Publish t qos1 dup id2 x"]);
    bench.ack(AckKind::PubAck, 2);
    assert_eq!(bench.sent(), ["Publish t qos1 dup id3 x"]);
}

// 5.0: MQTT-3.3.4-6
#[test]
fn a_subscription_identifier_in_a_publish_is_refused() {
    let mut bench = Bench::connected(config(V5));
    let identified = message(QoS::AtMostOnce, "x").property(Property::SubscriptionIdentifier(1)).unwrap();
    let refused = bench.machine.publish(bench.now, identified);
    assert!(matches!(refused, Err(Refused::Misuse(_))), "{refused:?}");
    assert!(bench.sent().is_empty());
    // One that was delivered with an identifier is not forwarded with it.
    let properties: PropertiesBuf = list([Property::SubscriptionIdentifier(1)]);
    let Packet::Publish(received) = incoming(QoS::AtMostOnce, 0) else { unreachable!() };
    bench.receive(&Packet::Publish(mqtt_machine::packet::Publish {
        properties: properties.as_properties(),
        ..received
    }));
    let Some(mqtt_machine::Event::Message { message, .. }) = bench.machine.poll_event() else {
        panic!("a message")
    };
    assert!(bench.machine.publish(bench.now, message).is_err());
    assert!(bench.sent().is_empty());
}

// 3.1.1: MQTT-3.3.5-2
#[test]
fn a_publish_that_was_not_authorised_may_be_acknowledged_or_close_the_connection() {
    let mut bench = Bench::connected(config(V3_1_1));
    publish(&mut bench, QoS::AtLeastOnce, "x");
    bench.sent();
    bench.ack(AckKind::PubAck, 1);
    assert!(matches!(bench.outcomes()[..], [(1, Outcome::Acknowledged(_))]));
    publish(&mut bench, QoS::AtLeastOnce, "y");
    bench.sent();
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Publish t qos1 dup id2 y"]);
}
