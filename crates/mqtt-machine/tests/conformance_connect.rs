//! The numbered statements about connections: CONNECT and CONNACK, keep alive, what a server allows, authentication, the end.
//! Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::Bench;
use bytes::BytesMut;
use mqtt_machine::packet::{
    Auth, ConnAck, Packet, Properties, PropertiesBuf, Property, PropertyId, Publish, Sender,
};
use mqtt_machine::{
    Action, Answer, Authentication, CleanStart, Config, Disconnect, DropReason, EndReason, Event, Instant,
    Message, Outcome, PacketId, ProtocolVersion, QoS, ReasonCode, Refused, Secret, Server, StoreError,
    Subscribe, TopicFilter, wire,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

fn config(version: ProtocolVersion) -> Config {
    Config::new(Server::new("broker")).client_id("test").version(version)
}

fn authenticating() -> Config {
    let mut config = config(V5);
    let initial_data = Some(Secret::new(&b"first"[..]));
    config.authentication = Some(Authentication { method: "X".to_owned(), initial_data });
    config
}

fn list<const N: usize>(properties: [Property<'_>; N]) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for property in properties {
        list.push(property).unwrap();
    }
    list
}

/// Connected to a server that says this in its CONNACK.
fn connected<const N: usize>(config: Config, properties: [Property<'_>; N]) -> Bench {
    Bench::connected_with(config, false, list(properties).as_properties())
}

/// CONNECT has left.
fn connecting(config: Config) -> Bench {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench
}

fn message(qos: QoS) -> Message {
    Message::to("a/b", "x").unwrap().qos(qos)
}

fn incoming(qos: QoS, id: u16) -> Packet<'static> {
    let (topic, packet_id) = ("in", PacketId::new(id));
    let properties = Properties::EMPTY;
    Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" })
}

/// Whether the machine has asked for its transport to be closed.
fn is_closed(bench: &mut Bench) -> bool {
    std::iter::from_fn(|| bench.machine.poll_action())
        .any(|action| matches!(action, Action::CloseTransport { .. }))
}

/// How the connection or the attempt ended.
fn end(bench: &mut Bench) -> EndReason {
    let ended = bench.events().into_iter().find_map(|event| match event {
        Event::ConnectFailed(ended) | Event::Disconnected(ended) => Some(ended.reason),
        _ => None,
    });
    ended.expect("it has ended")
}

/// The code by which this client told the server of its mistake, which also closed the connection.
fn told(bench: &mut Bench) -> Vec<String> {
    let sent = bench.sent();
    assert!(is_closed(bench));
    assert!(matches!(end(bench), EndReason::Malformed(_) | EndReason::Protocol(_)));
    sent
}

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
    let mut bench = connecting(config);
    bench.receive_bytes(&mut BytesMut::from(connack));
    assert!(is_closed(&mut bench), "{expected}");
    assert!(bench.sent().is_empty());
    let reason = end(&mut bench);
    assert!(matches!(reason, EndReason::Refused { reason, .. } if reason == expected), "{reason:?}");
}

// 5.0: MQTT-3.1.4-2
// 3.1.1: MQTT-3.1.4-1, MQTT-3.2.2-6
#[test]
fn a_close_without_connack_is_an_attempt_that_failed() {
    for version in BOTH {
        let mut bench = connecting(config(version));
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
        let mut bench = connecting(config(version));
        assert!(!bench.machine.is_connected());
        bench.accept(false, Properties::EMPTY);
        assert!(bench.machine.is_connected());
    }
}

// 5.0: MQTT-3.1.4-3, MQTT-4.13.2-1
// 3.1.1: MQTT-3.1.4-2
#[test]
fn a_take_over_is_told_with_its_reason_where_there_is_one() {
    let mut bench = connected(config(V5), []);
    bench.receive_bytes(&mut BytesMut::from(&[0xE0, 1, 0x8E][..]));
    assert!(is_closed(&mut bench));
    assert!(bench.sent().is_empty());
    let reason = end(&mut bench);
    assert!(matches!(reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. }));
    let mut bench = connected(config(V3_1_1), []);
    bench.cut();
    assert!(matches!(end(&mut bench), EndReason::Closed(_)));
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
        let mut bench = connecting(config(version));
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert!(bench.sent().is_empty());
        assert!(is_closed(&mut bench), "{bytes:x?}");
        assert!(matches!(end(&mut bench), EndReason::Protocol(_)), "{bytes:x?}");
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
        assert_eq!(told(&mut bench), answer);
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
                bench.now = bench.now + Duration::from_secs(3);
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
        assert_eq!(end(&mut bench), EndReason::PingTimeout);
        assert!(is_closed(&mut bench));
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
        let mut bench = connecting(config(V5).maximum_packet_size(40));
        let connack = [&[0x20, length + 3, 0, 0, length][..], properties].concat();
        bench.receive_bytes(&mut BytesMut::from(&connack[..]));
        let reason = end(&mut bench);
        assert!(
            matches!(reason, EndReason::Malformed(error) if error.reason() == ReasonCode::PacketTooLarge)
        );
        for first_byte in [0x90, 0xB0] {
            let ack = [&[first_byte, length + 4, 0, 1, length][..], properties, &[0]].concat();
            for (maximum, answer) in [(40, &["Disconnect 0x95"][..]), (60, &[])] {
                let mut bench = connected(config(V5).maximum_packet_size(maximum), []);
                bench.receive_bytes(&mut BytesMut::from(&ack[..]));
                assert_eq!(bench.sent(), answer);
                assert_eq!(is_closed(&mut bench), !answer.is_empty());
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
    let mut bench = connecting(config(V5).client_id(""));
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
    assert_eq!(bench.machine.publish(bench.now, of(33)), Err(Refused::TooLarge { bytes: 41, limit: 40 }));
    let refused = bench.machine.subscribe(bench.now, Subscribe::to(long, QoS::AtMostOnce));
    assert!(matches!(refused, Err(Refused::TooLarge { limit: 40, .. })), "{refused:?}");
    bench.machine.publish(bench.now, of(32)).unwrap();
    assert_eq!(bench.sent_bytes().len(), 40);
}

// 5.0: MQTT-3.2.2-17, MQTT-3.2.2-18, MQTT-3.3.2-9
#[test]
fn no_alias_leaves_above_the_topic_alias_maximum_of_the_server() {
    for (maximum, alias) in [(None, 1), (Some(5), 6)] {
        let properties = maximum.map(Property::TopicAliasMaximum);
        let mut list = PropertiesBuf::new();
        if let Some(maximum) = properties {
            list.push(maximum).unwrap();
        }
        let mut bench = Bench::connected_with(config(V5), false, list.as_properties());
        let aliased = message(QoS::AtMostOnce).property(Property::TopicAlias(alias)).unwrap();
        assert!(bench.machine.publish(bench.now, aliased).is_err());
        for _ in 0..10 {
            bench.machine.publish(bench.now, message(QoS::AtMostOnce)).unwrap();
        }
        let mut bytes = bench.sent_bytes();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            let Ok(Packet::Publish(publish)) = wire::decode(&frame, V5, Sender::Client) else {
                panic!("{frame:x?}")
            };
            match publish.properties.find(PropertyId::TopicAlias) {
                Some(Property::TopicAlias(alias)) => assert!(maximum.is_some_and(|maximum| alias <= maximum)),
                _ => assert_eq!(publish.topic, "a/b"),
            }
        }
    }
}

fn receive_auth(bench: &mut Bench, method: &str, reason: ReasonCode) {
    let properties =
        list([Property::AuthenticationMethod(method), Property::AuthenticationData(b"challenge")]);
    bench.receive(&Packet::Auth(Auth { reason, properties: properties.as_properties() }));
}

// 5.0: MQTT-3.1.2-30, MQTT-4.12.0-3, MQTT-4.12.0-5, MQTT-3.15.2-2, MQTT-3.15.2-3
#[test]
fn an_authentication_goes_on_with_its_method_and_nothing_else_before_connack() {
    let mut bench = Bench::new(authenticating());
    let now = bench.now;
    bench.machine.publish(now, message(QoS::AtLeastOnce)).unwrap();
    bench.machine.subscribe(now, Subscribe::to(TopicFilter::new("f").unwrap(), QoS::AtMostOnce)).unwrap();
    bench.machine.connect(now).unwrap();
    bench.open();
    for _ in 0..3 {
        receive_auth(&mut bench, "X", ReasonCode::ContinueAuthentication);
        assert!(bench.sent().is_empty());
        let Some(Action::Authenticate { id, finished: false, .. }) = bench.machine.poll_action() else {
            panic!("a question")
        };
        let data = Some(Secret::new(&b"response"[..]));
        bench.machine.answer(now, Answer::Authenticate { id, data });
        let bytes = bench.sent_bytes();
        let answer = wire::decode(&bytes, V5, Sender::Client).unwrap();
        let Packet::Auth(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.reason, ReasonCode::ContinueAuthentication);
        let expected = [Property::AuthenticationMethod("X"), Property::AuthenticationData(b"response")];
        assert_eq!(answer.properties.iter().collect::<Vec<_>>(), expected);
    }
    bench.accept(false, list([Property::AuthenticationMethod("X")]).as_properties());
    assert_eq!(bench.sent().len(), 2);
}

// 5.0: MQTT-4.12.0-2, MQTT-4.12.0-5, MQTT-4.12.0-6
#[test]
fn an_auth_of_the_server_that_breaks_the_exchange_ends_the_attempt() {
    let violation = |config, method: &str, reason| {
        let mut bench = connecting(config);
        receive_auth(&mut bench, method, reason);
        assert!(is_closed(&mut bench) && bench.sent().is_empty());
        match end(&mut bench) {
            EndReason::Protocol(violation) => violation.rule,
            other => panic!("{other:?}"),
        }
    };
    let goes_on = ReasonCode::ContinueAuthentication;
    assert_eq!(violation(authenticating(), "X", ReasonCode::Success), "MQTT-4.12.0-2");
    assert_eq!(violation(authenticating(), "Y", goes_on), "MQTT-4.12.0-5");
    assert_eq!(violation(config(V5), "X", goes_on), "MQTT-4.12.0-6");
    for (config, method) in [(authenticating(), None), (authenticating(), Some("Y")), (config(V5), Some("X"))]
    {
        let mut bench = connecting(config);
        let mut properties = PropertiesBuf::new();
        if let Some(method) = method {
            properties.push(Property::AuthenticationMethod(method)).unwrap();
        }
        let (reason, properties) = (ReasonCode::Success, properties.as_properties());
        bench.receive(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        assert!(matches!(end(&mut bench), EndReason::Protocol(_)), "{method:?}");
    }
    let mut bench = connected(config(V5), []);
    receive_auth(&mut bench, "X", goes_on);
    assert_eq!(told(&mut bench), ["Disconnect 0x82"]);
}

// 5.0: MQTT-4.12.0-7
#[test]
fn without_a_method_no_auth_is_sent_even_if_the_caller_answers() {
    let mut bench = connected(config(V5), []);
    let data = Some(Secret::new(&b"response"[..]));
    bench.machine.answer(bench.now, Answer::Authenticate { id: bench.transport.unwrap(), data });
    assert!(bench.sent().is_empty());
    assert!(bench.machine.is_connected());
}

// 5.0: MQTT-3.14.4-1, MQTT-3.14.4-2, MQTT-4.13.2-1
// 3.1.1: MQTT-3.14.4-1, MQTT-3.14.4-2
#[test]
fn after_disconnect_nothing_is_sent_and_the_connection_is_closed() {
    for version in BOTH {
        let mut bench = connected(config(version).keep_alive(Duration::from_secs(1)), []);
        let now = bench.now;
        bench.receive(&incoming(QoS::AtLeastOnce, 7));
        let Some(Event::Message { receipt, .. }) = bench.machine.poll_event() else { panic!("a message") };
        bench.machine.disconnect(now, Disconnect::new(Duration::ZERO)).unwrap();
        bench.machine.transmit(now, &mut bench.output);
        assert!(bench.machine.publish(now, message(QoS::AtMostOnce)).is_err());
        bench.receive(&incoming(QoS::AtLeastOnce, 8));
        bench.machine.settle(now, receipt, ReasonCode::Success);
        assert_eq!(bench.sent(), ["Disconnect 0x00"]);
        assert!(is_closed(&mut bench));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.machine.poll_timeout(), None);
        assert_eq!(end(&mut bench), EndReason::Requested);
    }
}

// 5.0: MQTT-3.14.2-3, MQTT-3.14.2-4
#[test]
fn a_disconnect_leaves_out_what_would_make_it_too_large_for_the_server() {
    for (maximum, length, expected) in [(40, 60, 1), (40, 5, 2), (200, 60, 2)] {
        for property in [PropertyId::ReasonString, PropertyId::UserProperty] {
            let text = "x".repeat(length);
            let explains = match property {
                PropertyId::ReasonString => Property::ReasonString(&text),
                _ => Property::UserProperty("n", &text),
            };
            let mut bench = connected(config(V5), [Property::MaximumPacketSize(maximum)]);
            let properties = list([explains, Property::SessionExpiryInterval(9)]);
            let request = Disconnect::new(Duration::ZERO).properties(properties);
            bench.machine.disconnect(bench.now, request).unwrap();
            let bytes = bench.sent_bytes();
            assert!(bytes.len() <= maximum as usize);
            let Ok(Packet::Disconnect(sent)) = wire::decode(&bytes, V5, Sender::Client) else {
                panic!("{bytes:x?}")
            };
            assert_eq!(sent.properties.iter().count(), expected);
            let expiry = sent.properties.find(PropertyId::SessionExpiryInterval);
            assert_eq!(expiry, Some(Property::SessionExpiryInterval(9)));
        }
    }
}

// 5.0: MQTT-4.13.1-1
// 3.1.1: MQTT-4.8.0-1
#[test]
fn a_violation_closes_the_connection_that_it_came_on() {
    for (version, bytes, answer) in [
        (V5, &[0x40, 2, 0, 0][..], "Disconnect 0x82"),
        (V5, &[0x41, 2, 0, 1], "Disconnect 0x81"),
        (V5, &[0xC0, 0], "Disconnect 0x82"),
        (V3_1_1, &[0x40, 2, 0, 0], ""),
        (V3_1_1, &[0x41, 2, 0, 1], ""),
        (V3_1_1, &[0xE0, 0], ""),
    ] {
        let mut bench = connected(config(version), []);
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert_eq!(told(&mut bench).concat(), answer, "{bytes:x?}");
        assert!(!bench.machine.is_connected());
    }
}

// 3.1.1: MQTT-4.8.0-2
#[test]
fn a_store_that_fails_while_a_packet_is_handled_closes_the_connection() {
    for version in BOTH {
        let mut bench = connected(config(version).durable(true), []);
        bench.receive(&incoming(QoS::ExactlyOnce, 7));
        let Some(Event::Message { receipt, .. }) = bench.machine.poll_event() else { panic!("a message") };
        bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        assert!(bench.sent().is_empty(), "the record is not durable");
        bench.machine.handle_stored(bench.now, Err(StoreError("disk full".to_owned())));
        assert!(bench.sent().is_empty());
        assert!(is_closed(&mut bench));
        assert!(matches!(end(&mut bench), EndReason::Store(_)));
    }
}
