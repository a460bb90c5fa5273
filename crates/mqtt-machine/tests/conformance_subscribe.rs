//! The numbered statements about SUBSCRIBE and UNSUBSCRIBE and their answers. Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::Bench;
use bytes::BytesMut;
use mqtt_machine::packet::{Packet, Properties, Subscribe as SubscribePacket, SubscribeFilter};
use mqtt_machine::wire::{EncodeError, encode};
use mqtt_machine::{
    Config, Outcome, PacketId, ProtocolVersion, QoS, Refused, Server, Subscribe, Subscription,
    SubscriptionOptions, TopicFilter, Unsubscribe, packet::PacketType,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

fn connected(version: ProtocolVersion) -> Bench {
    Bench::connected(Config::new(Server::new("broker")).client_id("test").version(version))
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

/// SUBSCRIBE or UNSUBSCRIBE for these filters has left.
fn ask(bench: &mut Bench, is_subscribe: bool, filters: &[&str]) {
    let filters = filters.iter().map(|text| filter(text));
    let asked = if is_subscribe {
        let subscriptions = filters.map(|filter| Subscription::new(filter, QoS::ExactlyOnce));
        bench.machine.subscribe(bench.now, Subscribe::new(subscriptions.collect()))
    } else {
        bench.machine.unsubscribe(bench.now, Unsubscribe::new(filters.collect()))
    };
    asked.unwrap();
    assert_eq!(bench.sent().len(), 1);
}

/// SUBACK or UNSUBACK with these codes, which UNSUBACK has in 5.0 only.
fn answer(bench: &mut Bench, is_subscribe: bool, id: u8, codes: &[u8]) {
    let first_byte = if is_subscribe { 0x90 } else { 0xB0 };
    let properties: &[u8] = if bench.version == V5 { &[0] } else { &[] };
    let codes = if is_subscribe || bench.version == V5 { codes } else { &[] };
    let body = [&[0, id], properties, codes].concat();
    let bytes = [&[first_byte, u8::try_from(body.len()).unwrap()][..], &body].concat();
    bench.receive_bytes(&mut BytesMut::from(&bytes[..]));
}

/// The codes of the commands that have ended.
fn codes(bench: &mut Bench) -> Vec<(u64, Vec<u8>)> {
    let codes = |(op, outcome)| match outcome {
        Outcome::Subscribed(codes) | Outcome::Unsubscribed(codes) => {
            (op, codes.codes.iter().map(|code| code.to_u8()).collect())
        }
        other => panic!("{other:?}"),
    };
    bench.outcomes().into_iter().map(codes).collect()
}

// 5.0: MQTT-2.2.1-6, MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-3.9.3-1
// 3.1.1: MQTT-2.3.1-7, MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-3.9.3-1
#[test]
fn a_subscribe_ends_with_its_own_suback_and_the_codes_in_the_order_of_the_filters() {
    for version in BOTH {
        let mut bench = connected(version);
        ask(&mut bench, true, &["a", "b", "c"]);
        ask(&mut bench, true, &["d"]);
        answer(&mut bench, true, 77, &[0]);
        assert!(codes(&mut bench).is_empty(), "an identifier that nobody uses");
        answer(&mut bench, true, 2, &[1]);
        assert_eq!(codes(&mut bench), [(2, vec![1])]);
        answer(&mut bench, true, 1, &[2, 0x80, 0]);
        assert_eq!(codes(&mut bench), [(1, vec![2, 0x80, 0])]);
        let kept: Vec<String> =
            bench.machine.session().subscriptions.iter().map(|(kept, _)| kept.filter.to_string()).collect();
        assert_eq!(kept, ["a", "c", "d"], "{version}");
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.8.4-6, MQTT-3.11.3-1
// 3.1.1: MQTT-3.8.4-5
#[test]
fn an_answer_with_another_number_of_codes_than_filters_is_a_violation() {
    for version in BOTH {
        for is_subscribe in [true, false] {
            for wrong in [&[0, 0][..], &[0, 0, 0, 0], &[]] {
                if version == V3_1_1 && !is_subscribe {
                    continue;
                }
                let mut bench = connected(version);
                ask(&mut bench, is_subscribe, &["a", "b", "c"]);
                answer(&mut bench, is_subscribe, 1, wrong);
                let told = bench.told().concat();
                let is_right = match version {
                    V5 => told == "Disconnect 0x82" || told == "Disconnect 0x81" && wrong.is_empty(),
                    _ => told.is_empty(),
                };
                assert!(is_right, "{version} {wrong:?}: {told}");
            }
        }
    }
}

// 5.0: MQTT-2.2.1-6, MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-3.11.3-1
// 3.1.1: MQTT-2.3.1-7, MQTT-3.10.4-4, MQTT-3.10.4-5
#[test]
fn an_unsubscribe_ends_with_its_own_unsuback_also_when_nothing_was_removed() {
    for version in BOTH {
        let mut bench = connected(version);
        ask(&mut bench, false, &["a", "b", "c"]);
        ask(&mut bench, false, &["d"]);
        answer(&mut bench, false, 77, &[0]);
        assert!(codes(&mut bench).is_empty(), "an identifier that nobody uses");
        answer(&mut bench, false, 2, &[0x11]);
        answer(&mut bench, false, 1, &[0, 0x11, 0x87]);
        let told = codes(&mut bench);
        if version == V5 {
            assert_eq!(told, [(2, vec![0x11]), (1, vec![0, 0x11, 0x87])]);
        } else {
            assert_eq!(told, [(2, vec![0]), (1, vec![0, 0, 0])]);
        }
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-2.2.1-6
// 3.1.1: MQTT-2.3.1-7, MQTT-3.8.4-1, MQTT-3.10.4-4
#[test]
fn an_answer_to_the_other_kind_of_request_is_a_violation() {
    for version in BOTH {
        for is_subscribe in [true, false] {
            let mut bench = connected(version);
            ask(&mut bench, is_subscribe, &["a"]);
            answer(&mut bench, !is_subscribe, 1, &[0]);
            bench.told();
        }
    }
}

// 5.0: MQTT-3.8.3-4
#[test]
fn no_local_is_never_set_on_a_shared_subscription() {
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
    let mut bench = connected(V5);
    let mut shared = Subscription::new(filter("$share/g/a"), QoS::AtLeastOnce);
    shared.options = options;
    let refused = bench.machine.subscribe(bench.now, Subscribe::new(vec![shared]));
    assert!(matches!(refused, Err(Refused::Misuse(_))), "{refused:?}");
    assert!(bench.sent().is_empty());
    let filters = vec![SubscribeFilter { filter: "$share/g/a", options }];
    let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);
    let packet = Packet::Subscribe(SubscribePacket { packet_id, properties, filters });
    assert_eq!(encode(&packet, V5, &mut BytesMut::new()), Err(EncodeError::NoLocalShared));
}

// 5.0: MQTT-3.8.3-2, MQTT-3.10.3-2
// 3.1.1: MQTT-3.8.3-3, MQTT-3.10.3-2
#[test]
fn a_request_for_nothing_is_refused_to_the_caller() {
    for version in BOTH {
        let mut bench = connected(version);
        let packet = PacketType::Subscribe;
        let refused = bench.machine.subscribe(bench.now, Subscribe::new(Vec::new()));
        assert_eq!(refused, Err(Refused::Encode(EncodeError::NoFilters { packet })));
        let packet = PacketType::Unsubscribe;
        let refused = bench.machine.unsubscribe(bench.now, Unsubscribe::new(Vec::new()));
        assert_eq!(refused, Err(Refused::Encode(EncodeError::NoFilters { packet })));
        assert!(bench.sent().is_empty());
    }
}

// 5.0: MQTT-3.8.4-7, MQTT-3.8.4-8
// 3.1.1: MQTT-3.8.3-2, MQTT-3.8.4-6
#[test]
fn a_lower_grant_and_a_refused_wildcard_are_told_and_no_error() {
    for version in BOTH {
        let mut bench = connected(version);
        ask(&mut bench, true, &["a/#", "b"]);
        answer(&mut bench, true, 1, &[0x80, 0]);
        assert_eq!(codes(&mut bench), [(1, vec![0x80, 0])]);
        assert!(bench.machine.is_connected());
    }
}
