//! The numbered statements about connections: CONNECT and CONNACK, keep alive, what a server allows.
//! Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::collections::BTreeMap;
use std::time::Duration;

use bench::{Bench, authenticating, config, connected, list, message};
use bytes::BytesMut;
use mqtt_machine::packet::{ConnAck, Packet, Properties, PropertiesBuf, Property, PropertyId, Sender};
use mqtt_machine::{
    Action, CleanStart, Config, DropReason, EndReason, Event, Instant, Message, Outcome, ProtocolVersion,
    QoS, ReasonCode, Refused, Subscribe, TopicAliases, TopicFilter, wire,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

// 5.0: MQTT-3.1.0-1, MQTT-3.1.0-2
// 3.1.1: MQTT-3.1.0-1, MQTT-3.1.0-2
#[test]
fn connect_is_the_first_packet_of_a_connection_and_never_comes_again() {
    for version in BOTH {
        let mut bench = Bench::new(config(version).keep_alive(Duration::from_secs(10)));
        let now = bench.now;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            bench.machine.publish(now, message(qos)).unwrap();
        }
        bench.machine.subscribe(now, Subscribe::to(TopicFilter::new("f").unwrap(), QoS::AtMostOnce)).unwrap();
        bench.machine.connect(now).unwrap();
        bench.open();
        assert!(bench.sent().is_empty(), "everything else waits");
        assert!(bench.machine.connect(now).is_err());
        bench.accept(false, Properties::EMPTY);
        let sent = bench.sent();
        assert_eq!(sent.len(), 3);
        bench.wake();
        assert!(sent.iter().chain(&bench.sent()).all(|line| !line.starts_with("Connect ")));
        bench.cut();
        bench.wake();
        // `open` sees that CONNECT is the first packet again.
        bench.open();
    }
}

// 5.0: MQTT-3.1.2-2, MQTT-3.1.3-8, MQTT-3.1.4-2, MQTT-3.2.2-7, MQTT-3.2.2-12, MQTT-3.2.2-13, MQTT-4.12.0-1
// 5.0: MQTT-4.12.0-4, MQTT-4.13.2-1
// 3.1.1: MQTT-3.1.2-2, MQTT-3.1.3-8, MQTT-3.1.3-9, MQTT-3.2.2-5
#[test]
fn a_refusal_is_told_with_its_code_and_closes_the_connection() {
    for (code, reason) in [
        (0x80, ReasonCode::UnspecifiedError),
        (0x84, ReasonCode::UnsupportedProtocolVersion),
        (0x85, ReasonCode::ClientIdentifierNotValid),
        (0x87, ReasonCode::NotAuthorized),
        (0x8C, ReasonCode::BadAuthenticationMethod),
        (0x9A, ReasonCode::RetainNotSupported),
        (0x9B, ReasonCode::QoSNotSupported),
    ] {
        refused(authenticating(), &[0x20, 3, 0, code, 0], reason);
        refused(config(V5), &[0x20, 3, 0, code, 0], reason);
    }
    for (code, reason) in [
        (1, ReasonCode::UnsupportedProtocolVersion),
        (2, ReasonCode::ClientIdentifierNotValid),
        (3, ReasonCode::ServerUnavailable),
        (4, ReasonCode::BadUserNameOrPassword),
        (5, ReasonCode::NotAuthorized),
    ] {
        refused(config(V3_1_1), &[0x20, 2, 0, code], reason);
    }
}

fn refused(config: Config, connack: &[u8], expected: ReasonCode) {
    let mut bench = Bench::connecting(config);
    bench.receive_bytes(&mut BytesMut::from(connack));
    assert!(bench.is_closed(), "{expected}");
    assert!(bench.sent().is_empty());
    let reason = bench.end();
    assert!(matches!(reason, EndReason::Refused { reason, .. } if reason == expected), "{reason:?}");
}

// 5.0: MQTT-3.1.4-2
// 3.1.1: MQTT-3.1.4-1, MQTT-3.2.2-6
#[test]
fn a_close_without_connack_is_an_attempt_that_failed() {
    for version in BOTH {
        let mut bench = Bench::connecting(config(version));
        bench.cut();
        let events = bench.events();
        let [Event::ConnectFailed(ended)] = &events[..] else { panic!("{events:?}") };
        assert!(matches!(ended.reason, EndReason::Closed(_)) && ended.retry_at.is_some());
        bench.wake();
        bench.open();
    }
}

// 5.0: MQTT-3.1.4-5
// 3.1.1: MQTT-3.1.4-4
#[test]
fn a_connack_of_0_is_the_acceptance() {
    for version in BOTH {
        let mut bench = Bench::connecting(config(version));
        assert!(!bench.machine.is_connected());
        bench.accept(false, Properties::EMPTY);
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.2.0-1, MQTT-3.14.0-1
// 3.1.1: MQTT-3.2.0-1
#[test]
fn whatever_comes_before_connack_ends_the_attempt_without_a_word() {
    for (version, bytes) in [
        (V5, &[0xE0, 1, 0x8B][..]),
        (V5, &[0xD0, 0]),
        (V5, &[0x40, 2, 0, 1]),
        (V5, &[0x30, 5, 0, 1, b'a', 0, b'x']),
        (V5, &[0x90, 4, 0, 1, 0, 0]),
        (V3_1_1, &[0xD0, 0]),
        (V3_1_1, &[0x40, 2, 0, 1]),
        (V3_1_1, &[0x30, 4, 0, 1, b'a', b'x']),
        (V3_1_1, &[0xB0, 2, 0, 1]),
    ] {
        let mut bench = Bench::connecting(config(version));
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert!(bench.sent().is_empty());
        assert!(bench.is_closed(), "{bytes:x?}");
        assert!(matches!(bench.end(), EndReason::Protocol(_)), "{bytes:x?}");
    }
}

// 5.0: MQTT-3.2.0-2
#[test]
fn a_second_connack_ends_the_connection() {
    for (version, bytes, answer) in
        [(V5, &[0x20, 3, 0, 0, 0][..], &["Disconnect 0x82"][..]), (V3_1_1, &[0x20, 2, 0, 0], &[])]
    {
        let mut bench = connected(config(version), []);
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert_eq!(bench.told(), answer);
    }
}

// 5.0: MQTT-3.1.2-20, MQTT-3.12.4-1
// 3.1.1: MQTT-3.1.2-23, MQTT-3.12.4-1
#[test]
fn no_two_packets_are_further_apart_than_the_keep_alive_and_an_unanswered_ping_is_the_end() {
    for version in BOTH {
        let keep_alive = Duration::from_secs(10);
        let mut bench = connected(config(version).keep_alive(keep_alive), []);
        let mut last_sent = bench.now;
        for round in 0..30 {
            let due = bench.machine.poll_timeout().unwrap();
            assert!(due - last_sent <= keep_alive, "round {round}");
            if round % 3 == 1 {
                bench.now += Duration::from_secs(3);
                bench.machine.publish(bench.now, message(QoS::AtMostOnce)).unwrap();
            } else {
                bench.wake();
            }
            let sent = bench.sent();
            assert_eq!(sent.len(), 1, "round {round}: {sent:?}");
            last_sent = bench.now;
            if sent == ["PINGREQ"] {
                bench.receive(&Packet::PingResp);
            }
        }
        assert!(bench.machine.is_connected());
        bench.wake();
        while bench.sent() != ["PINGREQ"] {
            bench.wake();
        }
        bench.events();
        bench.wake();
        assert_eq!(bench.end(), EndReason::PingTimeout);
        assert!(bench.is_closed());
    }
}

// 5.0: MQTT-3.1.2-21, MQTT-3.2.2-21
#[test]
fn the_keep_alive_of_the_server_replaces_the_own_one() {
    let mut bench =
        connected(config(V5).keep_alive(Duration::from_secs(600)), [Property::ServerKeepAlive(5)]);
    assert_eq!(bench.machine.poll_timeout(), Some(Instant::from_micros(5_000_000)));
    bench.wake();
    assert_eq!(bench.sent(), ["PINGREQ"]);
    let off = connected(config(V5).keep_alive(Duration::from_secs(600)), [Property::ServerKeepAlive(0)]);
    assert_eq!(off.machine.poll_timeout(), None);
    let longer = connected(config(V5).keep_alive(Duration::from_secs(5)), [Property::ServerKeepAlive(600)]);
    assert_eq!(longer.machine.poll_timeout(), Some(Instant::from_micros(600_000_000)));
}

// 5.0: MQTT-3.1.2-24, MQTT-3.2.2-19, MQTT-3.2.2-20, MQTT-3.9.2-1, MQTT-3.9.2-2, MQTT-3.11.2-1, MQTT-3.11.2-2
#[test]
fn a_packet_above_the_own_maximum_is_refused_whatever_made_it_so_long() {
    let text = "x".repeat(40);
    for property in [Property::ReasonString(&text), Property::UserProperty("n", &text)] {
        let list = list([property]);
        let properties = list.as_properties().as_bytes();
        let length = u8::try_from(properties.len()).unwrap();
        let mut bench = Bench::connecting(config(V5).maximum_packet_size(40));
        let connack = [&[0x20, length + 3, 0, 0, length][..], properties].concat();
        bench.receive_bytes(&mut BytesMut::from(&connack[..]));
        let reason = bench.end();
        assert!(
            matches!(reason, EndReason::Malformed(error) if error.reason() == ReasonCode::PacketTooLarge)
        );
        for first_byte in [0x90, 0xB0] {
            let ack = [&[first_byte, length + 4, 0, 1, length][..], properties, &[0]].concat();
            for (maximum, answer) in [(40, &["Disconnect 0x95"][..]), (60, &[])] {
                let mut bench = connected(config(V5).maximum_packet_size(maximum), []);
                bench.receive_bytes(&mut BytesMut::from(&ack[..]));
                assert_eq!(bench.sent(), answer);
                assert_eq!(bench.is_closed(), !answer.is_empty());
            }
        }
    }
    let asked = connecting_with(config(V5).maximum_packet_size(40));
    assert_eq!(
        asked.as_properties().find(PropertyId::MaximumPacketSize),
        Some(Property::MaximumPacketSize(40))
    );
}

/// The properties of the CONNECT that this configuration makes.
fn connecting_with(config: Config) -> PropertiesBuf {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { panic!("a transport") };
    bench.machine.handle_transport(bench.now, id, mqtt_machine::TransportEvent::Opened);
    let bytes = bench.sent_bytes();
    let Ok(Packet::Connect(connect)) = wire::decode(&bytes, V5, Sender::Client) else { panic!("{bytes:x?}") };
    PropertiesBuf::copy_from(connect.properties)
}

#[test]
fn connect_says_what_is_configured_and_nothing_that_is_the_default() {
    let plain = connecting_with(config(V5));
    let said = |config: Config| {
        let properties = connecting_with(config);
        let new = properties
            .as_properties()
            .iter()
            .filter(|it| !plain.as_properties().iter().any(|own| own == *it));
        new.map(|property| format!("{property:?}")).collect::<Vec<_>>()
    };
    assert_eq!(said(config(V5)), [""; 0]);
    let largest = plain.as_properties().find(PropertyId::MaximumPacketSize);
    assert!(matches!(largest, Some(Property::MaximumPacketSize(bytes)) if bytes > 0));
    assert_eq!(said(config(V5).session_expiry(Duration::from_secs(9))), ["SessionExpiryInterval(9)"]);
    let mut full = config(V5);
    full.receive_maximum = 8;
    full.maximum_packet_size = 70;
    full.topic_alias_maximum = 6;
    full.request_problem_information = false;
    let all = [
        "ReceiveMaximum(8)",
        "MaximumPacketSize(70)",
        "TopicAliasMaximum(6)",
        "RequestProblemInformation(false)",
    ];
    assert_eq!(said(full), all);
}

// 5.0: MQTT-3.1.2-28
#[test]
fn response_information_is_asked_for_by_option_and_its_absence_is_no_error() {
    let asks = |config| {
        let properties = connecting_with(config);
        let asked = properties.as_properties().find(PropertyId::RequestResponseInformation);
        asked == Some(Property::RequestResponseInformation(true))
    };
    assert!(!asks(config(V5)));
    let mut asking = config(V5);
    asking.request_response_information = true;
    assert!(asks(asking.clone()));
    for config in [config(V5), asking] {
        assert!(connected(config, []).machine.is_connected());
    }
}

// 5.0: MQTT-3.1.3-6, MQTT-3.1.3-7, MQTT-3.2.2-16
#[test]
fn an_assigned_client_identifier_is_told_and_used_from_then_on() {
    let mut bench = Bench::connecting(config(V5).client_id(""));
    let properties = list([Property::AssignedClientIdentifier("assigned")]);
    let properties = properties.as_properties();
    bench.receive(&Packet::ConnAck(ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties,
    }));
    let Some(Event::Connected(connected)) = bench.machine.poll_event() else { panic!("connected") };
    assert_eq!(connected.client_id, "assigned");
    bench.cut();
    bench.wake();
    let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { panic!("a transport") };
    bench.transport = Some(id);
    bench.machine.handle_transport(bench.now, id, mqtt_machine::TransportEvent::Opened);
    assert_eq!(bench.sent(), ["Connect clean=false id=assigned"]);
    // A client that named itself keeps its name.
    let assigned = list([Property::AssignedClientIdentifier("assigned")]);
    let mut bench = Bench::connected_with(config(V5), false, assigned.as_properties());
    assert_eq!(bench.machine.session().client_id, "test");
    bench.cut();
    bench.wake();
    bench.open();
    assert_eq!(bench.machine.session().client_id, "test");
}

// 3.1.1: MQTT-3.1.3-7
#[test]
fn an_empty_client_identifier_never_leaves_with_a_session_to_keep() {
    for clean_start in [CleanStart::Always, CleanStart::Never, CleanStart::FirstOnly] {
        let mut bench = Bench::new(config(V3_1_1).client_id("").clean_start(clean_start));
        bench.machine.connect(bench.now).unwrap();
        for _ in 0..3 {
            let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else {
                panic!("a transport")
            };
            bench.transport = Some(id);
            bench.machine.handle_transport(bench.now, id, mqtt_machine::TransportEvent::Opened);
            let bytes = bench.sent_bytes();
            let connect = wire::decode(&bytes, V3_1_1, Sender::Client).unwrap();
            let Packet::Connect(connect) = connect else { panic!("{connect:?}") };
            assert!(!connect.client_id.is_empty() || connect.clean_start, "{connect:?}");
            bench.accept(false, Properties::EMPTY);
            bench.cut();
            bench.events();
            bench.wake();
        }
    }
}

// 5.0: MQTT-3.2.2-9, MQTT-3.2.2-11, MQTT-3.2.2-14
#[test]
fn nothing_leaves_above_the_maximum_qos_or_with_retain_where_that_is_not_available() {
    let too_much = |bench: &Bench, message: &Message| {
        let capabilities = bench.machine.capabilities().unwrap();
        message.qos > capabilities.maximum_qos || message.retain && !capabilities.retain_available
    };
    for properties in
        [[Property::MaximumQoS(0)], [Property::MaximumQoS(1)], [Property::RetainAvailable(false)]]
    {
        // What waited since before the server was known, and what is asked for now.
        let mut bench = Bench::new(config(V5));
        let messages = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
            .into_iter()
            .flat_map(|qos| [message(qos), message(qos).retain(true)]);
        for message in messages.clone() {
            bench.machine.publish(bench.now, message).unwrap();
        }
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(false, list(properties).as_properties());
        let expected = messages.clone().filter(|message| !too_much(&bench, message)).count();
        assert!(expected < 6);
        assert_eq!(bench.sent().len(), expected);
        let outcomes = bench.outcomes();
        let dropped = |outcome: &&(u64, Outcome)| outcome.1 == Outcome::Dropped(DropReason::NotSupported);
        assert_eq!(outcomes.iter().filter(dropped).count(), 6 - expected);
        for message in messages {
            let refused = bench.machine.publish(bench.now, message.clone());
            assert_eq!(matches!(refused, Err(Refused::NotSupported(_))), too_much(&bench, &message));
        }
        assert_eq!(bench.sent().len(), expected);
    }
    assert_eq!(connected(config(V5), []).machine.capabilities().unwrap().maximum_qos, QoS::ExactlyOnce);
}

// 5.0: MQTT-3.2.2-15
#[test]
fn nothing_leaves_above_the_maximum_packet_size_of_the_server() {
    let of = |length: usize| Message::to("t", "x".repeat(length)).unwrap().qos(QoS::AtLeastOnce);
    let mut bench = Bench::new(config(V5));
    // A fixed header of 2 bytes, a topic of 3, an identifier of 2 and no properties.
    for payload in [32, 33] {
        bench.machine.publish(bench.now, of(payload)).unwrap();
    }
    let long = TopicFilter::new(&"f".repeat(40)).unwrap();
    bench.machine.subscribe(bench.now, Subscribe::to(long.clone(), QoS::AtMostOnce)).unwrap();
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.accept(false, list([Property::MaximumPacketSize(40)]).as_properties());
    assert_eq!(bench.sent_bytes().len(), 40);
    let too_large = Outcome::Dropped(DropReason::PacketTooLarge);
    assert_eq!(bench.outcomes(), [(3, too_large.clone()), (2, too_large)]);
    let refused = bench.machine.publish(bench.now, of(33));
    assert!(matches!(refused, Err(Refused::TooLarge { bytes: 41, limit: 40, .. })), "{refused:?}");
    let refused = bench.machine.subscribe(bench.now, Subscribe::to(long, QoS::AtMostOnce));
    assert!(matches!(refused, Err(Refused::TooLarge { limit: 40, .. })), "{refused:?}");
    bench.machine.publish(bench.now, of(32)).unwrap();
    assert_eq!(bench.sent_bytes().len(), 40);
}

// 5.0: MQTT-3.2.2-17, MQTT-3.2.2-18, MQTT-3.3.2-7, MQTT-3.3.2-9
#[test]
fn no_alias_leaves_above_the_maximum_of_the_server_nor_outlives_its_connection() {
    for maximum in [0, 1, 5] {
        let aliases = TopicAliases { maximum: 16, automatic: true };
        let config = config(V5).clean_start(CleanStart::Never).topic_aliases(aliases);
        let mut offered = PropertiesBuf::new();
        if maximum > 0 {
            offered.push(Property::TopicAliasMaximum(maximum)).unwrap();
        }
        let mut bench = Bench::connecting(config);
        for round in 0..3 {
            bench.accept(false, offered.as_properties());
            for number in (0..8).chain(0..8).chain([7, 7]) {
                let message = Message::to(&format!("topic/{number}"), "x").unwrap();
                let chosen = message.clone().property(Property::TopicAlias(maximum + 1)).unwrap();
                assert!(bench.machine.publish(bench.now, chosen).is_err());
                bench.machine.publish(bench.now, message).unwrap();
            }
            let used = aliases_used(&mut bench.sent_bytes());
            assert_eq!(used.len(), usize::from(maximum), "round {round}: all of them are used");
            assert!(used.keys().all(|alias| *alias <= maximum), "{used:?}");
            bench.cut();
            bench.events();
            bench.wake();
            bench.open();
        }
    }
}

/// The aliases of the QoS 0 publications in these bytes, none of which is used before it was given its topic.
fn aliases_used(bytes: &mut BytesMut) -> BTreeMap<u16, String> {
    let mut topics = BTreeMap::new();
    while let Some(header) = wire::frame_header(bytes, u32::MAX).unwrap() {
        let frame = bytes.split_to(header.frame_len());
        let Ok(Packet::Publish(publish)) = wire::decode(&frame, V5, Sender::Client) else {
            panic!("{frame:x?}")
        };
        match publish.properties.find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) if publish.topic.is_empty() => {
                assert!(topics.contains_key(&alias), "{alias} stands for nothing yet");
            }
            Some(Property::TopicAlias(alias)) => drop(topics.insert(alias, publish.topic.to_string())),
            _ => assert!(!publish.topic.is_empty()),
        }
    }
    topics
}
