//! What a client asks of a session and of its will, and what it keeps to: clean starts, the expiry of sessions and of messages, the
//! will with everything that it can have, and what a peer's mistake leaves behind.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, connected, list, message};
use bytes::BytesMut;
use mqtt_machine::packet::{
    AckKind, Connect, Packet, Properties, PropertiesBuf, Property, PropertyId, Sender,
};
use mqtt_machine::{
    Action, Backoff, CleanStart, Config, Disconnect, EndReason, Event, JournalSeq, Message, Outcome,
    ProtocolVersion, QoS, ReasonCode, Subscribe, TopicFilter, TransportEvent, wire,
};

use ProtocolVersion::{V3_1_1, V5};

/// Makes the next connection, and looks at its CONNECT.
fn connecting<T>(bench: &mut Bench, see: impl FnOnce(&Connect<'_>) -> T) -> T {
    loop {
        match bench.machine.poll_action() {
            Some(Action::OpenTransport { id, .. }) => {
                bench.transport = Some(id);
                bench.machine.handle_transport(bench.now, id, TransportEvent::Opened);
                let bytes = bench.sent_bytes();
                let Ok(Packet::Connect(connect)) = wire::decode(&bytes, V5, Sender::Client) else {
                    panic!("{bytes:x?}")
                };
                return see(&connect);
            }
            Some(_) => {}
            None => bench.wake(),
        }
    }
}

#[test]
fn a_start_is_clean_always_never_or_at_the_first_connection_only() {
    for version in ProtocolVersion::ALL {
        for (clean_start, expected) in [
            (CleanStart::Always, [true, true, true, true]),
            (CleanStart::FirstOnly, [true, false, false, false]),
            (CleanStart::Never, [false, false, false, false]),
            (CleanStart::OwnOnly, [false, false, false, false]),
        ] {
            let mut bench = Bench::new(config(version).clean_start(clean_start));
            bench.machine.connect(bench.now).unwrap();
            let mut seen = Vec::new();
            for round in 0..4 {
                seen.push(connecting(&mut bench, |connect| connect.clean_start));
                bench.accept_after_events(false);
                if round == 2 {
                    // An end that was asked for, and a new beginning.
                    bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO)).unwrap();
                    bench.sent();
                    bench.machine.connect(bench.now).unwrap();
                } else {
                    bench.cut();
                }
            }
            assert_eq!(seen, expected, "{version} {clean_start:?}");
        }
    }
}

#[test]
fn a_first_connection_that_failed_does_not_count_as_one() {
    let mut bench = Bench::new(config(V5).clean_start(CleanStart::FirstOnly));
    bench.machine.connect(bench.now).unwrap();
    for _ in 0..3 {
        assert!(connecting(&mut bench, |connect| connect.clean_start));
        bench.cut();
    }
    assert!(connecting(&mut bench, |connect| connect.clean_start));
    bench.accept_after_events(false);
    bench.cut();
    assert!(!connecting(&mut bench, |connect| connect.clean_start));
}

#[test]
fn the_expiry_of_the_session_is_asked_for_in_connect_and_may_be_another_in_disconnect() {
    let expiry = |properties: Properties<'_>| match properties.find(PropertyId::SessionExpiryInterval) {
        Some(Property::SessionExpiryInterval(seconds)) => Some(seconds),
        _ => None,
    };
    for (configured, asked) in [(60, Some(0)), (60, Some(5)), (60, Some(u32::MAX)), (60, None), (0, Some(0))]
    {
        let mut bench = Bench::new(config(V5).session_expiry(Duration::from_secs(configured)));
        bench.machine.connect(bench.now).unwrap();
        let said = connecting(&mut bench, |connect| expiry(connect.properties));
        assert_eq!(said, (configured > 0).then_some(60));
        bench.accept(false, Properties::EMPTY);
        let mut properties = PropertiesBuf::new();
        if let Some(seconds) = asked {
            properties.push(Property::SessionExpiryInterval(seconds)).unwrap();
        }
        let request = Disconnect::new(Duration::ZERO).properties(properties);
        bench.machine.disconnect(bench.now, request).unwrap();
        let mut sent = Vec::new();
        bench.each_sent(|packet| {
            if let Packet::Disconnect(disconnect) = packet {
                sent.push((disconnect.reason, expiry(disconnect.properties)));
            }
        });
        assert_eq!(sent, [(ReasonCode::Success, asked)], "{configured}");
    }
    // 3.1.1 has no such interval: nothing of it leaves.
    let mut bench = connected(config(V3_1_1), []);
    let properties = list([Property::SessionExpiryInterval(5)]);
    bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO).properties(properties)).unwrap();
    assert_eq!(&bench.sent_bytes()[..], [0xE0, 0]);
}

/// A will with every property that one can have (5.0, section 3.1.3.2).
fn full_will() -> Message {
    let mut will = Message::to("gone", "for good").unwrap().qos(QoS::ExactlyOnce).retain(true);
    will.properties = list([
        Property::WillDelayInterval(30),
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("answers"),
        Property::CorrelationData(b"\x00\xFF"),
        Property::UserProperty("a", "1"),
        Property::UserProperty("a", "2"),
    ]);
    will
}

// 5.0: MQTT-3.1.2-9, MQTT-3.1.2-12
#[test]
fn a_will_leaves_with_every_property_that_it_has_and_in_3_x_without_them() {
    for version in ProtocolVersion::ALL {
        let will = full_will();
        let mut bench = Bench::new(config(version).will(will.clone()));
        bench.machine.connect(bench.now).unwrap();
        connecting(&mut bench, |connect| {
            let sent = connect.will.as_ref().expect("a will");
            assert_eq!((sent.topic, sent.payload), ("gone", &b"for good"[..]));
            assert_eq!((sent.qos, sent.retain), (QoS::ExactlyOnce, true));
            let expected = if version == V5 { will.properties.as_properties() } else { Properties::EMPTY };
            assert_eq!(sent.properties, expected, "{version}");
        });
    }
}

#[test]
fn a_property_that_no_will_has_is_an_error_of_connect() {
    for property in
        [Property::TopicAlias(1), Property::SubscriptionIdentifier(1), Property::ReceiveMaximum(1)]
    {
        let mut will = Message::to("gone", "x").unwrap();
        will.properties = list([property]);
        let mut bench = Bench::new(config(V5).will(will));
        assert!(bench.machine.connect(bench.now).is_err());
        assert!(bench.machine.is_idle() && bench.machine.poll_action().is_none());
    }
}

/// A message that is worth something for so many seconds.
fn expiring(seconds: u32, qos: QoS) -> Message {
    message(qos).property(Property::MessageExpiryInterval(seconds)).unwrap()
}

// 5.0: MQTT-4.3.3-7
#[test]
fn a_message_that_has_an_identifier_and_never_left_expires_all_the_same() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut bench = connected(config(V5).durable(true).keep_alive(Duration::ZERO), []);
        bench.machine.publish(bench.now, expiring(5, qos)).unwrap();
        assert!(bench.sent().is_empty(), "its records are not durable");
        bench.now += Duration::from_secs(5);
        bench.machine.handle_stored(bench.now, Ok(JournalSeq::new(100)));
        assert!(bench.sent().is_empty(), "it is worth nothing any more");
        bench.machine.handle_stored(bench.now, Ok(JournalSeq::new(100)));
        assert_eq!(bench.outcomes(), [(1, Outcome::Expired)]);
        // Its identifier is free, and nothing of it is owed.
        assert!(bench.machine.session().publications.is_empty());
        // One that left in time is sent again whenever there is a connection.
        bench.machine.publish(bench.now, expiring(5, qos)).unwrap();
        bench.machine.handle_stored(bench.now, Ok(JournalSeq::new(200)));
        assert_eq!(bench.sent().len(), 1);
        bench.now += Duration::from_secs(60);
        bench.machine.handle_timeout(bench.now);
        assert!(bench.outcomes().is_empty());
        bench.reconnect(true);
        let sent = bench.sent();
        assert!(matches!(sent.as_slice(), [line] if line.contains("dup")), "{sent:?}");
    }
}

#[test]
fn a_message_that_waits_for_room_in_the_window_counts_down() {
    let mut bench = connected(config(V5).keep_alive(Duration::ZERO), [Property::ReceiveMaximum(1)]);
    for _ in 0..3 {
        bench.machine.publish(bench.now, expiring(10, QoS::AtLeastOnce)).unwrap();
    }
    let left = |seconds| vec![("a/b".to_owned(), list([Property::MessageExpiryInterval(seconds)]))];
    assert_eq!(bench.publications(), left(10));
    bench.now += Duration::from_secs(4);
    bench.ack(AckKind::PubAck, 1);
    assert_eq!(bench.publications(), left(6));
    bench.now += Duration::from_secs(6);
    bench.ack(AckKind::PubAck, 2);
    assert!(bench.publications().is_empty());
    let outcomes = bench.outcomes();
    let [(1, Outcome::Acknowledged(_)), (2, Outcome::Acknowledged(_)), (3, Outcome::Expired)] =
        outcomes.as_slice()
    else {
        panic!("{outcomes:?}")
    };
}

/// Attempts exactly 1, 2, 4 ... s apart, and the session is resumed.
fn patient(version: ProtocolVersion) -> Config {
    config(version)
        .clean_start(CleanStart::Never)
        .backoff(Backoff { jitter: false, ..Backoff::DEFAULT })
        .maximum_packet_size(100)
        .receive_maximum(1)
        .topic_alias_maximum(1)
}

/// What a server must not do, with the code that a 5.0 server is told.
const MISTAKES: [(&str, &[u8], &str); 8] = [
    ("a PUBLISH above our Maximum Packet Size", &[0x30, 101], "Disconnect 0x95"),
    ("a PINGRESP above it", &[0xD0, 101], "Disconnect 0x95"),
    (
        "an alias above our Topic Alias Maximum",
        &[0x30, 8, 0, 1, b't', 3, 0x23, 0, 2, b'x'],
        "Disconnect 0x94",
    ),
    ("an alias that stands for nothing", &[0x30, 7, 0, 0, 3, 0x23, 0, 1, b'x'], "Disconnect 0x82"),
    (
        "more messages than our Receive Maximum",
        &[0x32, 6, 0, 1, b't', 0, 1, 0, 0x32, 6, 0, 1, b't', 0, 2, 0],
        "Disconnect 0x93",
    ),
    ("a packet with reserved flags", &[0x41, 2, 0, 1], "Disconnect 0x81"),
    ("a topic name with a wildcard", &[0x30, 4, 0, 1, b'#', 0], "Disconnect 0x81"),
    ("a packet of a client", &[0xC0, 0], "Disconnect 0x82"),
];

// 5.0: MQTT-4.13.1-1, MQTT-3.1.2-24, MQTT-3.1.2-26, MQTT-3.3.4-9
#[test]
fn a_mistake_of_the_server_is_told_it_and_the_session_is_resumed_after_the_back_off() {
    for (mistake, bytes, code) in MISTAKES {
        let mut bench = connected(patient(V5), []);
        let filter = TopicFilter::new("in").unwrap();
        bench.machine.subscribe(bench.now, Subscribe::to(filter, QoS::AtMostOnce)).unwrap();
        bench.sent();
        bench.suback(1, &[0]);
        bench.machine.publish(bench.now, message(QoS::ExactlyOnce)).unwrap();
        bench.sent();
        bench.events();
        let before = bench.machine.session();
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert_eq!(bench.sent(), [code], "{mistake}");
        assert!(bench.is_closed(), "{mistake}");
        let ended = bench.events().into_iter().find_map(|event| match event {
            Event::Disconnected(ended) => Some(ended),
            _ => None,
        });
        let ended = ended.unwrap_or_else(|| panic!("{mistake}: it goes on"));
        let blamed = matches!(ended.reason, EndReason::Malformed(_) | EndReason::Protocol(_));
        assert!(blamed, "{mistake}: {:?}", ended.reason);
        assert_eq!(ended.retry_at, Some(bench.now + Duration::from_secs(1)), "{mistake}");
        assert_eq!(bench.machine.session(), before, "{mistake}: the session is as it was");
        bench.wake();
        bench.open();
        bench.accept(true, Properties::EMPTY);
        assert_eq!(bench.sent(), ["Publish a/b qos2 dup id2 x"], "{mistake}");
    }
}

// 3.1.1: MQTT-4.8.0-1
#[test]
fn before_5_0_a_mistake_of_the_server_closes_the_connection_without_a_word() {
    for version in [ProtocolVersion::V3_1, V3_1_1] {
        for (mistake, bytes) in [
            ("a PUBLISH above our maximum", &[0x30, 101][..]),
            ("a packet with reserved flags", &[0x41, 2, 0, 1]),
            ("a topic name with a wildcard", &[0x30, 3, 0, 1, b'#']),
            ("a packet of a client", &[0xC0, 0]),
        ] {
            let mut bench = connected(patient(version), []);
            bench.machine.publish(bench.now, message(QoS::ExactlyOnce)).unwrap();
            bench.sent();
            let before = bench.machine.session();
            bench.receive_bytes(&mut BytesMut::from(bytes));
            assert!(bench.sent().is_empty() && bench.is_closed(), "{version}: {mistake}");
            assert!(matches!(bench.end(), EndReason::Malformed(_) | EndReason::Protocol(_)));
            assert_eq!(bench.machine.session(), before, "{version}: {mistake}");
            bench.wake();
            bench.open();
        }
    }
}
