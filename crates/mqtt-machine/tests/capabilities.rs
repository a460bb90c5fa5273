//! What a server does not do is refused to the caller before anything is queued, or given up with its reason when the
//! server turns out not to do it later; and what can never be sent is no command.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::Bench;
use mqtt_machine::packet::{
    AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, ReasonCodes, SubAck, UnsubAck,
};
use mqtt_machine::{
    CleanStart, Config, Disconnect, DropReason, Event, Limits, Message, NotSupported, OpId, Outcome,
    PacketId, ProtocolVersion, QoS, ReasonCode, Refused, Server, Subscribe, Subscription, TopicFilter,
    Unsubscribe, wire::EncodeError,
};

fn config() -> Config {
    Config::new(Server::new("broker")).client_id("test")
}

/// A machine whose server grants this much.
fn with(list: &[Property<'_>]) -> Bench {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).unwrap();
    }
    Bench::connected_with(config(), false, properties.as_properties())
}

fn message(qos: QoS) -> Message {
    Message::to("a/b", "x").unwrap().qos(qos)
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn publish(bench: &mut Bench, message: Message) -> Result<u64, Refused> {
    bench.machine.publish(bench.now, message).map(OpId::to_u64)
}

fn subscribe(bench: &mut Bench, text: &str) -> Result<u64, Refused> {
    let request = Subscribe::to(filter(text), QoS::AtMostOnce);
    bench.machine.subscribe(bench.now, request).map(OpId::to_u64)
}

#[test]
fn what_a_server_does_not_say_is_what_was_asked_for() {
    let told = |list: &[Property<'_>]| {
        let config = config().session_expiry(Duration::from_secs(7)).keep_alive(Duration::from_secs(9));
        let mut bench = Bench::connecting(config);
        let mut properties = PropertiesBuf::new();
        list.iter().for_each(|property| properties.push(*property).unwrap());
        let (session_present, reason) = (false, ReasonCode::Success);
        let properties = properties.as_properties();
        bench.receive(&Packet::ConnAck(ConnAck { session_present, reason, properties }));
        let Some(Event::Connected(connected)) = bench.machine.poll_event() else { panic!("not connected") };
        (connected.capabilities.session_expiry.as_secs(), connected.capabilities.keep_alive.as_secs())
    };
    assert_eq!(told(&[]), (7, 9));
    assert_eq!(told(&[Property::SessionExpiryInterval(3), Property::ServerKeepAlive(4)]), (3, 4));
}

// 5.0: MQTT-3.2.2-11
#[test]
fn a_qos_above_the_maximum_of_the_server_is_refused_and_the_connection_stays() {
    for maximum in 0..=1 {
        let mut bench = with(&[Property::MaximumQoS(maximum)]);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let result = publish(&mut bench, message(qos));
            assert_eq!(result.is_ok(), qos.to_u8() <= maximum, "{qos}: {result:?}");
            if let Err(refused) = result {
                assert!(refused.to_string().contains("QoS"), "{refused}");
            }
        }
        assert_eq!(bench.sent().len(), usize::from(maximum) + 1);
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.2.2-14
#[test]
fn a_retained_message_is_refused_where_the_server_keeps_none() {
    let mut bench = with(&[Property::RetainAvailable(false)]);
    let refused = publish(&mut bench, message(QoS::AtMostOnce).retain(true)).unwrap_err();
    assert!(matches!(refused, Refused::NotSupported(NotSupported::Retain)), "{refused}");
    assert!(publish(&mut bench, message(QoS::AtMostOnce)).is_ok());
}

#[test]
fn subscriptions_of_a_kind_that_the_server_does_not_take_are_refused() {
    let mut bench = with(&[
        Property::WildcardSubscriptionAvailable(false),
        Property::SharedSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(false),
    ]);
    for (text, what) in [("a/+", "wildcard"), ("a/#", "wildcard"), ("$share/g/a", "shared")] {
        let refused = subscribe(&mut bench, text).unwrap_err();
        assert!(refused.to_string().contains(what), "{refused}");
    }
    let properties = PropertiesBuf::new().with(Property::SubscriptionIdentifier(7)).unwrap();
    let request = Subscribe::to(filter("a"), QoS::AtMostOnce).properties(properties);
    let refused = bench.machine.subscribe(bench.now, request).unwrap_err();
    assert!(refused.to_string().contains("SubscriptionIdentifier 7"), "{refused}");
    assert!(subscribe(&mut bench, "a").is_ok());
    assert_eq!(bench.sent(), ["Subscribe id1 a"]);
}

// 5.0: MQTT-3.8.3-4
#[test]
fn a_shared_subscription_with_no_local_is_refused() {
    let mut bench = with(&[]);
    let mut subscription = Subscription::new(filter("$share/g/a"), QoS::AtMostOnce);
    subscription.options.no_local = true;
    let refused = bench.machine.subscribe(bench.now, Subscribe::new(vec![subscription])).unwrap_err();
    assert!(refused.to_string().contains("MQTT-3.8.3-4"), "{refused}");
}

// 5.0: MQTT-3.2.2-15, MQTT-3.8.3-2, MQTT-3.10.3-2
#[test]
fn a_request_without_filters_and_one_that_is_too_large_are_refused() {
    let mut bench = with(&[Property::MaximumPacketSize(40)]);
    let now = bench.now;
    let nothing = bench.machine.subscribe(now, Subscribe::new(Vec::new()));
    assert!(matches!(nothing, Err(Refused::Encode(EncodeError::NoFilters { .. }))), "{nothing:?}");
    let nothing = bench.machine.unsubscribe(now, Unsubscribe::new(Vec::new()));
    assert!(matches!(nothing, Err(Refused::Encode(EncodeError::NoFilters { .. }))), "{nothing:?}");
    let long = "a".repeat(60);
    assert!(matches!(subscribe(&mut bench, &long), Err(Refused::TooLarge { limit: 40, .. })));
    let request = Unsubscribe::new(vec![filter(&long)]);
    assert!(matches!(bench.machine.unsubscribe(now, request), Err(Refused::TooLarge { limit: 40, .. })));
    let large = Message::to("a", "x".repeat(60)).unwrap();
    assert!(matches!(publish(&mut bench, large), Err(Refused::TooLarge { limit: 40, .. })));
    assert!(bench.sent().is_empty());
}

#[test]
fn what_is_larger_than_the_caps_can_never_be_accepted() {
    let limits = Limits { outgoing_bytes: 1_000, requests: 1, subscriptions: 2, ..Limits::DEFAULT };
    let mut bench = Bench::connected(config().limits(limits));
    let large = Message::to("a", "x".repeat(2_000)).unwrap();
    assert!(matches!(publish(&mut bench, large.clone()), Err(Refused::TooLarge { limit: 1_000, .. })));
    assert!(bench.machine.has_room_for(&large), "waiting for room would never end");
    assert!(bench.machine.has_room_for(&message(QoS::AtLeastOnce)));
    let three = ["a", "b", "c"].map(|text| Subscription::new(filter(text), QoS::AtMostOnce)).to_vec();
    assert_eq!(bench.machine.subscribe(bench.now, Subscribe::new(three)), Err(Refused::Full));
    assert!(subscribe(&mut bench, "a").is_ok());
    assert_eq!(subscribe(&mut bench, "b"), Err(Refused::Full));
}

// 5.0: MQTT-3.3.4-6, MQTT-3.14.2-1
#[test]
fn what_a_publisher_may_not_say_is_refused() {
    let mut bench = with(&[]);
    let identified = message(QoS::AtMostOnce).property(Property::SubscriptionIdentifier(1)).unwrap();
    let refused = publish(&mut bench, identified).unwrap_err();
    assert!(refused.to_string().contains("MQTT-3.3.4-6"), "{refused}");
    let disconnect = Disconnect::new(Duration::ZERO).reason(ReasonCode::ServerBusy);
    let refused = bench.machine.disconnect(bench.now, disconnect).unwrap_err();
    assert!(refused.to_string().contains("MQTT-3.14.2-1"), "{refused}");
    let refused = bench.machine.connect(bench.now).unwrap_err();
    assert!(matches!(refused, Refused::NotNow(_)), "{refused}");
}

// 5.0: MQTT-3.2.2-11, MQTT-3.2.2-14, MQTT-3.2.2-15
#[test]
fn what_waited_for_a_server_that_cannot_take_it_is_given_up_with_the_reason() {
    let mut bench = Bench::new(config());
    bench.machine.connect(bench.now).unwrap();
    for message in [
        message(QoS::ExactlyOnce),
        message(QoS::AtMostOnce).retain(true),
        Message::to("a", "x".repeat(100)).unwrap().qos(QoS::AtLeastOnce),
        Message::to("a", "x".repeat(100)).unwrap(),
        message(QoS::AtLeastOnce),
    ] {
        publish(&mut bench, message).unwrap();
    }
    subscribe(&mut bench, &"f".repeat(100)).unwrap();
    bench.open();
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MaximumQoS(1)).unwrap();
    properties.push(Property::RetainAvailable(false)).unwrap();
    properties.push(Property::MaximumPacketSize(50)).unwrap();
    bench.accept(false, properties.as_properties());
    assert_eq!(bench.sent().len(), 1);
    let mut outcomes = bench.outcomes();
    outcomes.sort_by_key(|(op, _)| *op);
    assert_eq!(
        outcomes,
        [
            (1, Outcome::Dropped(DropReason::NotSupported)),
            (2, Outcome::Dropped(DropReason::NotSupported)),
            (3, Outcome::Dropped(DropReason::PacketTooLarge)),
            (4, Outcome::Dropped(DropReason::PacketTooLarge)),
            (6, Outcome::Dropped(DropReason::PacketTooLarge)),
        ]
    );
}

#[test]
fn a_message_expires_while_it_waits_for_a_connection() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut bench = Bench::new(config());
        let expiring = message(qos).property(Property::MessageExpiryInterval(5)).unwrap();
        publish(&mut bench, expiring).unwrap();
        bench.now += Duration::from_secs(5);
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(false, Properties::EMPTY);
        assert!(bench.sent().is_empty());
        assert_eq!(bench.outcomes(), [(1, Outcome::Expired)], "{qos}");
    }
}

#[test]
fn an_unsubscription_is_answered_by_filter_and_forgotten_for_the_next_lost_session() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut bench = Bench::connected(config().version(version).clean_start(CleanStart::Never));
        let both = ["a", "b"].map(|text| Subscription::new(filter(text), QoS::AtMostOnce)).to_vec();
        bench.machine.subscribe(bench.now, Subscribe::new(both)).unwrap();
        assert_eq!(bench.sent(), ["Subscribe id1 a,b"]);
        bench.suback(1, &[0, 0]);
        bench.machine.unsubscribe(bench.now, Unsubscribe::new(vec![filter("a")])).unwrap();
        assert_eq!(bench.sent(), ["Unsubscribe id2 a"]);
        let codes = ReasonCodes::from_bytes(&[0][..usize::from(version == ProtocolVersion::V5)]).unwrap();
        let (packet_id, properties) = (PacketId::new(2).unwrap(), Properties::EMPTY);
        bench.receive(&Packet::UnsubAck(UnsubAck { packet_id, properties, codes }));
        let outcomes = bench.outcomes();
        let [(1, Outcome::Subscribed(_)), (2, Outcome::Unsubscribed(codes))] = outcomes.as_slice() else {
            panic!("{outcomes:?}")
        };
        assert_eq!(codes.codes, [ReasonCode::Success]);
        bench.reconnect(false);
        assert_eq!(bench.sent(), ["Subscribe id3 b"]);
    }
}

#[test]
fn an_answer_to_another_request_breaks_the_protocol() {
    let codes = ReasonCodes::from_bytes(&[0]).unwrap();
    let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);

    let mut bench = with(&[]);
    subscribe(&mut bench, "a").unwrap();
    bench.sent();
    bench.receive(&Packet::UnsubAck(UnsubAck { packet_id, properties, codes }));
    assert_eq!(bench.sent(), ["Disconnect 0x82"]);

    let mut bench = with(&[]);
    bench.machine.unsubscribe(bench.now, Unsubscribe::new(vec![filter("a")])).unwrap();
    bench.sent();
    bench.receive(&Packet::SubAck(SubAck { packet_id, properties, codes }));
    assert_eq!(bench.sent(), ["Disconnect 0x82"]);

    for (qos, kind) in [(QoS::ExactlyOnce, AckKind::PubAck), (QoS::AtLeastOnce, AckKind::PubRec)] {
        let mut bench = with(&[]);
        publish(&mut bench, message(qos)).unwrap();
        bench.sent();
        bench.ack(kind, 1);
        assert_eq!(bench.sent(), ["Disconnect 0x82"], "{kind:?}");
    }
}
