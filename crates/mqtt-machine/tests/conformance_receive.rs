//! The numbered statements about messages that a client receives: acknowledgements, their order, duplicates, aliases, the
//! receive quota. Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, incoming, list};
use bytes::BytesMut;
use mqtt_machine::packet::{AckKind, Packet, PropertiesBuf, Property, Publish, Sender, Topic};
use mqtt_machine::{
    CleanStart, Config, EndReason, Event, Message, PacketId, ProtocolVersion, QoS, ReasonCode, Receipt,
    Server, TopicFilter, Unsubscribe, wire,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

/// Resumes its session always.
fn config(version: ProtocolVersion) -> Config {
    Config::new(Server::new("broker")).client_id("test").version(version).clean_start(CleanStart::Never)
}

/// A PUBLISH of the server's with these properties.
fn receive_with(bench: &mut Bench, topic: &str, qos: QoS, id: u16, properties: &PropertiesBuf) {
    let (packet_id, properties) = (PacketId::new(id), properties.as_properties());
    let topic = Topic::new(topic).unwrap_or_default();
    let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" };
    bench.receive(&Packet::Publish(publish));
}

fn receive_again(bench: &mut Bench, qos: QoS, id: u16) {
    let Packet::Publish(publish) = incoming(qos, id) else { unreachable!() };
    bench.receive(&Packet::Publish(Publish { dup: true, ..publish }));
}

fn messages(bench: &mut Bench) -> Vec<(Message, Receipt)> {
    let message = |event| match event {
        Event::Message { message, receipt } => Some((message, receipt)),
        _ => None,
    };
    bench.events().into_iter().filter_map(message).collect()
}

// 5.0: MQTT-3.3.4-1, MQTT-2.2.1-5, MQTT-4.3.2-4, MQTT-4.3.3-8, MQTT-4.3.3-11
// 3.1.1: MQTT-3.3.4-1, MQTT-2.3.1-6, MQTT-4.3.2-2, MQTT-4.3.3-2
#[test]
fn each_qos_has_its_own_answer_under_the_identifier_of_the_message() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        for (qos, id, answer) in [
            (QoS::AtMostOnce, 0, &[][..]),
            (QoS::AtLeastOnce, 65_535, &["PubAck id65535"]),
            (QoS::ExactlyOnce, 77, &["PubRec id77"]),
        ] {
            bench.receive(&incoming(qos, id));
            assert!(bench.sent().is_empty(), "the application does not own it yet");
            bench.settle_all(ReasonCode::Success);
            assert_eq!(bench.sent(), answer, "{version}");
        }
        bench.ack(AckKind::PubRel, 77);
        assert_eq!(bench.sent(), ["PubComp id77"]);
    }
}

// 5.0: MQTT-4.3.2-5
// 3.1.1: MQTT-4.3.2-2
#[test]
fn after_puback_the_same_identifier_is_a_new_message_whatever_dup_says() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        for round in 0..4 {
            if round % 2 == 0 {
                bench.receive(&incoming(QoS::AtLeastOnce, 7));
            } else {
                receive_again(&mut bench, QoS::AtLeastOnce, 7);
            }
            let receipts = bench.receipts();
            assert_eq!(receipts.len(), 1, "round {round}");
            for receipt in receipts {
                bench.machine.settle(bench.now, receipt, ReasonCode::Success);
            }
            assert_eq!(bench.sent(), ["PubAck id7"]);
        }
    }
}

// 5.0: MQTT-4.3.3-10, MQTT-4.3.3-11, MQTT-4.3.3-12
// 3.1.1: MQTT-4.3.3-2
#[test]
fn before_pubrel_a_repeat_is_acknowledged_and_not_delivered_and_after_pubcomp_it_is_new() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        for _ in 0..3 {
            bench.receive(&incoming(QoS::ExactlyOnce, 7));
            assert_eq!(bench.receipts().into_iter().map(|receipt| settle(&mut bench, receipt)).count(), 1);
            assert_eq!(bench.sent(), ["PubRec id7"]);
            for _ in 0..2 {
                receive_again(&mut bench, QoS::ExactlyOnce, 7);
                assert!(bench.receipts().is_empty());
                assert_eq!(bench.sent(), ["PubRec id7"]);
            }
            bench.reconnect(true);
            receive_again(&mut bench, QoS::ExactlyOnce, 7);
            assert!(bench.receipts().is_empty(), "also on the next connection of the session");
            assert_eq!(bench.sent(), ["PubRec id7"]);
            bench.ack(AckKind::PubRel, 7);
            assert_eq!(bench.sent(), ["PubComp id7"]);
        }
    }
}

fn settle(bench: &mut Bench, receipt: Receipt) {
    bench.machine.settle(bench.now, receipt, ReasonCode::Success);
}

// 5.0: MQTT-4.3.3-9
#[test]
fn after_a_pubrec_that_refuses_the_same_identifier_is_a_new_message() {
    let mut bench = Bench::connected(config(V5));
    for _ in 0..3 {
        bench.receive(&incoming(QoS::ExactlyOnce, 7));
        let receipts = bench.receipts();
        assert_eq!(receipts.len(), 1);
        for receipt in receipts {
            bench.machine.settle(bench.now, receipt, ReasonCode::QuotaExceeded);
        }
        assert_eq!(bench.sent(), ["PubRec id7 0x97"]);
    }
    bench.ack(AckKind::PubRel, 7);
    assert_eq!(bench.sent(), ["PubComp id7 0x92"]);
}

// 5.0: MQTT-4.3.3-9
#[test]
fn a_message_that_was_refused_while_there_was_no_connection_is_a_new_one_when_it_comes_again() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        bench.receive(&incoming(QoS::ExactlyOnce, 7));
        let receipts = bench.receipts();
        bench.cut();
        for receipt in receipts {
            bench.machine.settle(bench.now, receipt, ReasonCode::QuotaExceeded);
        }
        bench.wake();
        bench.open();
        bench.accept_after_events(true);
        receive_again(&mut bench, QoS::ExactlyOnce, 7);
        let again = bench.receipts();
        if version == V5 {
            assert_eq!(again.len(), 1, "nobody has told the server of the refusal");
            bench.machine.settle(bench.now, again.into_iter().next().unwrap(), ReasonCode::QuotaExceeded);
            assert_eq!(bench.sent(), ["PubRec id7 0x97"]);
        } else {
            assert!(again.is_empty(), "3.x cannot refuse: the message was taken");
            assert_eq!(bench.sent(), ["PubRec id7"]);
        }
    }
}

// 5.0: MQTT-4.3.3-13
#[test]
fn the_handshake_of_an_expired_message_goes_on() {
    let mut bench = Bench::connected(config(V5).keep_alive(Duration::ZERO));
    receive_with(&mut bench, "in", QoS::ExactlyOnce, 7, &list([Property::MessageExpiryInterval(1)]));
    bench.now += Duration::from_secs(10);
    bench.settle_all(ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubRec id7"]);
    bench.now += Duration::from_secs(10);
    bench.ack(AckKind::PubRel, 7);
    assert_eq!(bench.sent(), ["PubComp id7"]);
}

// 5.0: MQTT-4.6.0-2, MQTT-4.6.0-3
// 3.1.1: MQTT-4.6.0-2, MQTT-4.6.0-3
#[test]
fn acknowledgements_leave_in_the_order_in_which_the_messages_came() {
    for version in BOTH {
        for (qos, name) in [(QoS::AtLeastOnce, "PubAck"), (QoS::ExactlyOnce, "PubRec")] {
            let mut bench = Bench::connected(config(version));
            for id in [5, 3, 9] {
                bench.receive(&incoming(qos, id));
            }
            let mut receipts = bench.receipts();
            let first = receipts.remove(0);
            for receipt in receipts.into_iter().rev() {
                settle(&mut bench, receipt);
                assert!(bench.sent().is_empty());
            }
            settle(&mut bench, first);
            assert_eq!(bench.sent(), [5, 3, 9].map(|id| format!("{name} id{id}")), "{version}");
        }
    }
}

// 5.0: MQTT-3.3.2-3, MQTT-3.8.4-8
// 3.1.1: MQTT-3.3.2-3, MQTT-3.8.4-6
#[test]
fn a_message_that_no_subscription_asked_for_is_delivered_and_acknowledged() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        bench.receive(&incoming(QoS::ExactlyOnce, 7));
        let delivered = messages(&mut bench);
        assert_eq!((delivered.len(), delivered[0].0.qos), (1, QoS::ExactlyOnce));
        for (_, receipt) in delivered {
            settle(&mut bench, receipt);
        }
        assert_eq!(bench.sent(), ["PubRec id7"]);
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.1.2-26, MQTT-3.1.2-27, MQTT-3.3.2-10, MQTT-3.3.2-11
#[test]
fn every_alias_up_to_the_own_maximum_is_taken_and_any_above_is_refused() {
    for maximum in [0, 1, 10] {
        let mut bench = Bench::connected(config(V5).topic_alias_maximum(maximum));
        for alias in 1..=maximum {
            let topic = format!("topic/{alias}");
            receive_with(&mut bench, &topic, QoS::AtMostOnce, 0, &list([Property::TopicAlias(alias)]));
        }
        for alias in (1..=maximum).rev() {
            receive_with(&mut bench, "", QoS::AtMostOnce, 0, &list([Property::TopicAlias(alias)]));
        }
        let aliases = (1..=maximum).chain((1..=maximum).rev());
        let topics: Vec<String> =
            messages(&mut bench).iter().map(|(message, _)| message.topic.as_str().to_owned()).collect();
        assert_eq!(topics, aliases.map(|alias| format!("topic/{alias}")).collect::<Vec<_>>());
        receive_with(&mut bench, "t", QoS::AtMostOnce, 0, &list([Property::TopicAlias(maximum + 1)]));
        assert_eq!(bench.told(), ["Disconnect 0x94"]);
    }
}

// 5.0: MQTT-3.3.2-7
#[test]
fn an_alias_ends_with_the_connection_that_it_was_made_on() {
    let mut bench = Bench::connected(config(V5).topic_alias_maximum(1));
    receive_with(&mut bench, "t", QoS::AtMostOnce, 0, &list([Property::TopicAlias(1)]));
    assert_eq!(messages(&mut bench).len(), 1);
    bench.reconnect(true);
    bench.events();
    receive_with(&mut bench, "", QoS::AtMostOnce, 0, &list([Property::TopicAlias(1)]));
    assert_eq!(bench.told(), ["Disconnect 0x82"]);
}

// 5.0: MQTT-3.3.4-9
#[test]
fn more_unacknowledged_messages_than_the_own_receive_maximum_are_refused() {
    for (qos, maximum) in
        [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().flat_map(|qos| [(qos, 1), (qos, 3)])
    {
        let mut bench = Bench::connected(config(V5).receive_maximum(maximum));
        for id in 1..=maximum {
            bench.receive(&incoming(qos, id));
            bench.receive(&incoming(QoS::AtMostOnce, 0));
        }
        assert_eq!(bench.receipts().len(), usize::from(maximum) * 2, "QoS 0 does not count");
        bench.receive(&incoming(qos, maximum + 1));
        assert_eq!(bench.told(), ["Disconnect 0x93"]);
    }
    // PUBREC leaves the place taken, PUBCOMP frees it.
    let mut bench = Bench::connected(config(V5).receive_maximum(1));
    for id in 1..=3 {
        bench.receive(&incoming(QoS::ExactlyOnce, id));
        bench.settle_all(ReasonCode::Success);
        bench.ack(AckKind::PubRel, id);
    }
    bench.receive(&incoming(QoS::ExactlyOnce, 9));
    bench.settle_all(ReasonCode::Success);
    bench.receive(&incoming(QoS::ExactlyOnce, 10));
    assert!(bench.sent().ends_with(&["Disconnect 0x93".to_owned()]));
}

// 5.0: MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.5.2-2, MQTT-3.5.2-3, MQTT-3.6.2-2, MQTT-3.6.2-3, MQTT-3.7.2-2
// 5.0: MQTT-3.7.2-3
#[test]
fn an_acknowledgement_carries_nothing_that_a_small_server_could_not_take() {
    let properties = list([Property::MaximumPacketSize(10)]);
    for reason in [ReasonCode::Success, ReasonCode::QuotaExceeded] {
        let mut bench = Bench::connected_with(config(V5), false, properties.as_properties());
        bench.machine.publish(bench.now, Message::to("t", "x").unwrap().qos(QoS::ExactlyOnce)).unwrap();
        bench.sent();
        bench.receive(&incoming(QoS::AtLeastOnce, 1));
        bench.receive(&incoming(QoS::ExactlyOnce, 2));
        bench.settle_all(reason);
        bench.ack(AckKind::PubRel, 2);
        bench.ack(AckKind::PubRel, 3);
        bench.ack(AckKind::PubRec, 1);
        bench.ack(AckKind::PubRec, 4);
        let mut bytes = bench.sent_bytes();
        let mut kinds = Vec::new();
        while let Some(header) = wire::frame_header(&bytes, 10).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            let Ok(Packet::Ack(ack)) = wire::decode(&frame, V5, Sender::Client) else { panic!("{frame:x?}") };
            assert!(ack.properties.is_empty() && frame.len() <= 5, "{ack:?}");
            kinds.push(ack.kind);
        }
        let expected = [
            AckKind::PubAck,
            AckKind::PubRec,
            AckKind::PubComp,
            AckKind::PubComp,
            AckKind::PubRel,
            AckKind::PubRel,
        ];
        assert_eq!(kinds, expected);
    }
}

// 5.0: MQTT-3.3.4-3, MQTT-3.3.4-4, MQTT-3.3.4-5
#[test]
fn a_message_may_carry_one_subscription_identifier_or_several_or_come_once_for_each() {
    let mut bench = Bench::connected(config(V5));
    for identifiers in [&[][..], &[1], &[1, 268_435_455, 7], &[7, 7], &[1], &[2]] {
        let mut properties = PropertiesBuf::new();
        for identifier in identifiers {
            properties.push(Property::SubscriptionIdentifier(*identifier)).unwrap();
        }
        receive_with(&mut bench, "in", QoS::AtMostOnce, 0, &properties);
        let delivered = messages(&mut bench);
        assert_eq!(delivered.len(), 1);
        assert_eq!(delivered[0].0.subscription_identifiers().collect::<Vec<_>>(), identifiers);
    }
    assert!(bench.machine.is_connected());
}

// 5.0: MQTT-3.10.4-3
// 3.1.1: MQTT-3.10.4-3
#[test]
fn deliveries_that_began_before_an_unsubscribe_are_brought_to_their_end() {
    for version in BOTH {
        let mut bench = Bench::connected(config(version));
        bench.receive(&incoming(QoS::AtLeastOnce, 7));
        bench.receive(&incoming(QoS::ExactlyOnce, 8));
        let filters = vec![TopicFilter::new("in").unwrap()];
        bench.machine.unsubscribe(bench.now, Unsubscribe::new(filters)).unwrap();
        assert_eq!(bench.sent(), ["Unsubscribe id1 in"]);
        let unsuback: &[u8] = if version == V5 { &[0xB0, 4, 0, 1, 0, 0] } else { &[0xB0, 2, 0, 1] };
        bench.receive_bytes(&mut BytesMut::from(unsuback));
        bench.settle_all(ReasonCode::Success);
        assert_eq!(bench.sent(), ["PubAck id7", "PubRec id8"]);
        bench.receive(&incoming(QoS::AtLeastOnce, 9));
        bench.settle_all(ReasonCode::Success);
        bench.ack(AckKind::PubRel, 8);
        assert_eq!(bench.sent(), ["PubAck id9", "PubComp id8"], "{version}");
    }
}

// 5.0: MQTT-3.1.2-29
#[test]
fn problem_information_that_was_not_asked_for_is_taken_in_three_packets_only() {
    let mut config = config(V5);
    config.request_problem_information = false;
    for property in [Property::ReasonString("why"), Property::UserProperty("n", "v")] {
        let bare = list([property]);
        let properties = bare.as_properties();
        let length = u8::try_from(properties.as_bytes().len()).unwrap();
        for (head, tail) in [
            (&[0x40, length + 4, 0, 1, 0, length][..], &[][..]),
            (&[0x50, length + 4, 0, 1, 0, length], &[]),
            (&[0x62, length + 4, 0, 1, 0, length], &[]),
            (&[0x70, length + 4, 0, 1, 0, length], &[]),
            (&[0x90, length + 4, 0, 1, length], &[0]),
            (&[0xB0, length + 4, 0, 1, length], &[0]),
        ] {
            let mut bench = Bench::connected(config.clone());
            let bytes = [head, properties.as_bytes(), tail].concat();
            bench.receive_bytes(&mut BytesMut::from(&bytes[..]));
            assert_eq!(bench.told(), ["Disconnect 0x82"], "{bytes:x?}");
        }
        // CONNACK may say it, and DISCONNECT.
        let mut bench = Bench::connected_with(config.clone(), false, properties);
        let bytes = [&[0xE0, length + 2, 0x8B, length][..], properties.as_bytes()].concat();
        bench.receive_bytes(&mut BytesMut::from(&bytes[..]));
        assert!(matches!(bench.end(), EndReason::Disconnect { .. }));
    }
    let mut bench = Bench::connected(config);
    receive_with(&mut bench, "in", QoS::AtMostOnce, 0, &list([Property::UserProperty("n", "v")]));
    assert_eq!(messages(&mut bench).len(), 1);
    assert!(bench.sent().is_empty());
}
