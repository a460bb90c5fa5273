//! Subscriptions that are made again for a server that lost them, and requests that a disconnect ends.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, config, list};
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{Packet, Properties, PropertiesBuf, Property, Sender};
use mqtt_machine::{
    Action, CleanStart, Disconnect, Drained, DropReason, Event, Instant, Machine, Outcome, PropertyError,
    ProtocolVersion, QoS, ReasonCode, Refused, Server, Subscribe, Subscription, TopicFilter, wire,
};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn resubscribed(codes: Vec<(TopicFilter, ReasonCode)>) -> Event {
    Event::Resubscribed { codes, properties: PropertiesBuf::new() }
}

/// Connected, and granted these subscriptions.
fn subscribed(filters: &[&str]) -> Bench {
    let mut bench = Bench::connected(config(ProtocolVersion::V5).clean_start(CleanStart::Never));
    for (filter, id) in filters.iter().zip(1..) {
        bench.machine.subscribe(bench.now, Subscribe::to(self::filter(filter), QoS::AtLeastOnce)).unwrap();
        assert_eq!(bench.sent(), [format!("Subscribe id{id} {filter}")]);
        bench.suback(id, &[1]);
    }
    assert_eq!(bench.outcomes().len(), filters.len());
    bench
}

#[test]
fn subscriptions_that_are_too_large_for_the_server_that_lost_them_are_told_as_lost() {
    let long = "a/very/long/filter/that/no/small/server/takes";
    let mut bench = subscribed(&[long]);
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(false, list([Property::MaximumPacketSize(30)]).as_properties());
    assert_eq!(bench.sent(), [""; 0]);
    let lost = vec![(filter(long), ReasonCode::PacketTooLarge)];
    assert_eq!(bench.events(), [resubscribed(lost)]);
    // Where it fits again, it is made again.
    bench.reconnect(false);
    assert_eq!(bench.sent(), [format!("Subscribe id2 {long}")]);
}

#[test]
fn under_another_client_identifier_subscriptions_are_made_again() {
    let mut bench = subscribed(&["x", "y"]);
    let other = config(ProtocolVersion::V5).clean_start(CleanStart::Never).client_id("other");
    bench.machine.reconfigure(bench.now, Arc::new(other));
    // The server has a session of that name, which is not ours.
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Subscribe id3 x,y"]);
    bench.suback(3, &[1, 1]);
    bench.reconnect(true);
    assert_eq!(bench.sent(), [""; 0], "and once is enough");
}

#[test]
fn a_disconnect_ends_requests_in_flight_and_gives_up_those_of_its_own() {
    let mut bench = subscribed(&["x"]);
    bench.reconnect(false);
    assert_eq!(bench.sent(), ["Subscribe id2 x"]);
    let request = Subscribe::to(filter("y"), QoS::AtMostOnce);
    let op = bench.machine.subscribe(bench.now, request).unwrap().to_u64();
    assert_eq!(bench.sent(), ["Subscribe id3 y"]);
    bench.events();
    let leave = bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO)).unwrap().to_u64();
    assert_eq!(bench.sent(), ["Disconnect 0x00"]);
    let ended = bench.outcomes();
    assert_eq!(ended, [(op, Outcome::Unknown), (leave, Outcome::Disconnected(Drained::default()))]);
    // Their identifiers are free, and what was granted once is made again.
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.accept(false, Properties::EMPTY);
    assert_eq!(bench.sent(), ["Subscribe id4 x"]);
    assert_eq!(bench.machine.session().subscriptions.len(), 1);
}

/// The SUBSCRIBE packets that leave now: their filters, and their properties.
fn subscribes(bench: &mut Bench) -> Vec<(String, String)> {
    let mut bytes = bench.sent_bytes();
    let mut found = Vec::new();
    while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
        let frame = bytes.split_to(header.frame_len());
        let packet = wire::decode(&frame, bench.version, Sender::Client).unwrap();
        let Packet::Subscribe(subscribe) = packet else { panic!("{packet:?}") };
        let filters: Vec<&str> = subscribe.filters.iter().map(|filter| filter.filter).collect();
        found.push((filters.join(","), format!("{:?}", subscribe.properties)));
    }
    found
}

/// The connection ends, and the next server says this and has no session.
fn lost_at(bench: &mut Bench, properties: &[Property<'_>]) {
    let mut list = PropertiesBuf::new();
    properties.iter().for_each(|property| list.push(*property).unwrap());
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(false, list.as_properties());
}

const NO_IDENTIFIERS: Property<'static> = Property::SubscriptionIdentifierAvailable(false);

#[test]
fn an_identifier_goes_where_the_server_has_them_and_comes_back_after_one_that_has_none() {
    let mut bench =
        bench::connected(config(ProtocolVersion::V5).clean_start(CleanStart::Never), [NO_IDENTIFIERS]);
    let user = || list([Property::UserProperty("a", "b")]);
    let request = Subscribe::to(filter("x"), QoS::AtLeastOnce).properties(user()).identifier(7);
    bench.machine.subscribe(bench.now, request).unwrap();
    let (x, y) = ("x".to_owned(), "y".to_owned());
    let plain = "[UserProperty(\"a\", \"b\")]".to_owned();
    assert_eq!(subscribes(&mut bench), [(x.clone(), plain)], "the rest of the properties stays");
    bench.suback(1, &[1]);
    assert_eq!(bench.machine.session().subscriptions[0].1, Some(7), "it is kept for other servers");
    let identified = |filter: &String, id: u32| (filter.clone(), format!("[SubscriptionIdentifier({id})]"));
    lost_at(&mut bench, &[]);
    assert_eq!(subscribes(&mut bench), [identified(&x, 7)]);
    bench.suback(2, &[1]);
    bench.machine.subscribe(bench.now, Subscribe::to(filter("y"), QoS::AtMostOnce).identifier(8)).unwrap();
    assert_eq!(subscribes(&mut bench), [identified(&y, 8)]);
    bench.suback(3, &[1]);
    lost_at(&mut bench, &[NO_IDENTIFIERS]);
    assert_eq!(subscribes(&mut bench), [("x,y".into(), "[]".into())], "together, where nothing divides them");
    bench.suback(4, &[1, 1]);
    lost_at(&mut bench, &[]);
    assert_eq!(subscribes(&mut bench), [identified(&x, 7), identified(&y, 8)]);
}

// 5.0: MQTT-3.8.4-3
#[test]
fn a_filter_that_is_subscribed_again_has_the_identifier_of_the_last_grant() {
    let mut bench =
        Bench::connected(config(ProtocolVersion::V5).clean_start(CleanStart::Never).durable(true));
    for (id, code) in [(7, 1), (8, 0x87), (9, 2)] {
        let request = Subscribe::to(filter("x"), QoS::ExactlyOnce).identifier(id);
        bench.machine.subscribe(bench.now, request).unwrap();
        let [(_, properties)] = subscribes(&mut bench).try_into().unwrap();
        assert_eq!(properties, format!("[SubscriptionIdentifier({id})]"));
        bench.suback(u16::try_from(id - 6).unwrap(), &[code]);
    }
    let session = bench.machine.session();
    assert_eq!(session.subscriptions.len(), 1);
    assert_eq!(session.subscriptions[0].1, Some(9));
    let record = |action| match action {
        Action::Store { record, .. } => Some(record),
        _ => None,
    };
    let records: Vec<Record> =
        std::iter::from_fn(|| bench.machine.poll_action()).filter_map(record).collect();
    let config = Arc::new(config(ProtocolVersion::V5).durable(true));
    let restored = Machine::restore(config, 1, Instant::ZERO, Duration::ZERO, records).unwrap();
    assert_eq!(restored.session().subscriptions, session.subscriptions);
}

#[test]
fn an_identifier_that_is_none_is_refused_and_3_x_asks_for_none() {
    for version in ProtocolVersion::ALL {
        let mut bench = Bench::connected(config(version));
        for value in [0, 268_435_456] {
            let request = Subscribe::to(filter("x"), QoS::AtMostOnce).identifier(value);
            let refused = bench.machine.subscribe(bench.now, request).unwrap_err();
            assert!(
                matches!(refused, Refused::Property { error: PropertyError::OutOfRange { .. }, .. }),
                "{refused}"
            );
        }
        assert!(subscribes(&mut bench).is_empty());
        let request = Subscribe::to(filter("x"), QoS::AtMostOnce).identifier(268_435_455);
        bench.machine.subscribe(bench.now, request).unwrap();
        let expected = match version {
            ProtocolVersion::V5 => "[SubscriptionIdentifier(268435455)]",
            _ => "[]",
        };
        assert_eq!(subscribes(&mut bench), [("x".to_owned(), expected.to_owned())]);
    }
}

#[test]
fn two_identifiers_in_one_request_are_refused() {
    let mut bench = Bench::connected(config(ProtocolVersion::V5));
    let insisted = list([Property::SubscriptionIdentifier(1)]);
    let request = Subscribe::to(filter("x"), QoS::AtMostOnce).properties(insisted).identifier(2);
    let refused = bench.machine.subscribe(bench.now, request).unwrap_err();
    assert!(matches!(refused, Refused::Encode(_)), "{refused}");
    assert!(subscribes(&mut bench).is_empty());
}

const NO_KINDS: [Property<'static>; 2] =
    [Property::WildcardSubscriptionAvailable(false), Property::SharedSubscriptionAvailable(false)];

#[test]
fn a_request_that_waited_for_a_server_that_does_not_do_it_ends_and_never_leaves() {
    let mut bench = Bench::new(config(ProtocolVersion::V5));
    bench.machine.connect(bench.now).unwrap();
    for text in ["a/+", "$share/g/a", "a"] {
        bench.machine.subscribe(bench.now, Subscribe::to(filter(text), QoS::AtMostOnce)).unwrap();
    }
    let both = ["b", "b/#"].map(|text| Subscription::new(filter(text), QoS::AtMostOnce)).to_vec();
    bench.machine.subscribe(bench.now, Subscribe::new(both)).unwrap();
    bench.open();
    bench.accept(false, list(NO_KINDS).as_properties());
    assert_eq!(bench.sent(), ["Subscribe id1 a"]);
    let unsupported = Outcome::Dropped(DropReason::NotSupported);
    let ended: Vec<(u64, Outcome)> = [1, 2, 4].map(|op| (op, unsupported.clone())).to_vec();
    assert_eq!(bench.outcomes(), ended);
}

#[test]
fn what_a_server_does_not_do_is_told_as_lost_and_the_rest_is_made_again() {
    let mut bench = subscribed(&["a", "b/+", "$share/g/c", "d"]);
    lost_at(&mut bench, &NO_KINDS);
    assert_eq!(bench.sent(), ["Subscribe id5 a,d"]);
    let lost = vec![
        (filter("$share/g/c"), ReasonCode::SharedSubscriptionsNotSupported),
        (filter("b/+"), ReasonCode::WildcardSubscriptionsNotSupported),
    ];
    assert_eq!(bench.events(), [resubscribed(lost)]);
    bench.suback(5, &[1, 1]);
    let made = ["a", "d"].map(|text| (filter(text), ReasonCode::GrantedQoS1)).to_vec();
    assert_eq!(bench.events(), [resubscribed(made)]);
    // Elsewhere all of them are.
    lost_at(&mut bench, &[]);
    assert_eq!(bench.sent(), ["Subscribe id6 $share/g/c,a,b/+,d"]);
}

#[test]
fn when_a_server_does_none_of_the_subscriptions_there_is_nothing_left_to_make() {
    let mut bench = subscribed(&["b/+", "c/+"]);
    lost_at(&mut bench, &NO_KINDS);
    assert_eq!(bench.sent(), [""; 0]);
    assert!(matches!(bench.events().as_slice(), [Event::Resubscribed { codes, .. }] if codes.len() == 2));
    bench.reconnect(true);
    assert_eq!(bench.sent(), [""; 0], "and that is settled");
}

#[test]
fn at_another_server_subscriptions_are_made_again_though_it_has_a_session() {
    let mut config = config(ProtocolVersion::V5).clean_start(CleanStart::Never);
    config.servers = vec![Server::new("one"), Server::new("two")];
    let mut bench = Bench::connected(config);
    bench.machine.subscribe(bench.now, Subscribe::to(filter("x"), QoS::AtLeastOnce)).unwrap();
    assert_eq!(bench.sent(), ["Subscribe id1 x"]);
    bench.suback(1, &[1]);
    for id in 2..5 {
        // The servers take turns. This one may have a session from before the subscription.
        bench.reconnect(true);
        assert_eq!(bench.sent(), [format!("Subscribe id{id} x")]);
        bench.suback(id, &[1]);
    }
}

#[test]
fn after_a_connect_without_an_answer_subscriptions_are_made_again_though_there_is_a_session() {
    let mut bench = subscribed(&["x"]);
    bench.reconnect(true);
    assert_eq!(bench.sent(), [""; 0], "this is the session that was left");
    // The server has lost the session and begins another; its CONNACK does not arrive.
    bench.cut();
    bench.wake();
    bench.open();
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Subscribe id2 x"]);
    bench.suback(2, &[1]);
    bench.reconnect(true);
    assert_eq!(bench.sent(), [""; 0]);
}
