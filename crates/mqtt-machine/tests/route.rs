//! Where the next attempt leads: redirections, fallback to lower versions, rotation; and what a lower server is given.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, reference};
use bytes::BytesMut;
use mqtt_machine::packet::{AckKind, Disconnect, Packet, Properties, PropertiesBuf, Property};
use mqtt_machine::{
    Authentication, Backoff, CleanStart, Config, Drained, DropReason, Event, Feature, JournalSeq,
    LostSession, Message, NotSupported, Outcome, ProtocolVersion, QoS, ReasonCode, Redirection, Refused,
    Server, TopicAliases, Unsupported,
};

fn config() -> Config {
    let mut config = Config::new(Server::new("one")).client_id("test");
    config.servers.push(Server::new("two"));
    config.backoff(Backoff { jitter: false, ..Backoff::DEFAULT })
}

fn attempt(config: Config) -> (Bench, String) {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    let server = bench.opened();
    (bench, server)
}

#[test]
fn another_server_is_used_at_once_until_an_attempt_there_fails() {
    let (mut bench, server) = attempt(config().redirection(Redirection::Follow { hops: 2 }));
    assert_eq!(server, "one");
    bench.refuse(ReasonCode::UseAnotherServer, &reference("else:1 more:2"));
    let Some(Event::ConnectFailed(ended)) = bench.machine.poll_event() else { panic!() };
    assert_eq!(ended.retry_at, Some(bench.now));
    assert_eq!(bench.opened(), "else:1");
    // An attempt there fails: the next of the reference, at once.
    bench.cut();
    let before = bench.now;
    assert_eq!((bench.opened(), bench.now), ("more:2".into(), before));
    bench.accept_after_events(false);
    // A connection there ends: it is tried again.
    bench.cut();
    assert_eq!(bench.opened(), "more:2");
    bench.cut();
    assert_eq!(bench.opened(), "one");
}

#[test]
fn a_server_that_has_moved_takes_the_place_of_the_configured_ones() {
    let (mut bench, _) = attempt(config().redirection(Redirection::Follow { hops: 1 }));
    bench.accept_after_events(false);
    let properties = reference("new");
    let (reason, properties) = (ReasonCode::ServerMoved, properties.as_properties());
    bench.receive(&Packet::Disconnect(Disconnect { reason, properties }));
    let told = bench.events();
    assert!(matches!(told.as_slice(), [Event::Disconnected(ended)] if ended.retry_at == Some(bench.now)));
    for _ in 0..3 {
        assert_eq!(bench.opened(), "new");
        bench.cut();
    }
}

#[test]
fn references_are_followed_only_so_often_and_only_by_request() {
    let (mut bench, _) = attempt(config().redirection(Redirection::Follow { hops: 2 }));
    for server in ["a", "b"] {
        bench.refuse(ReasonCode::UseAnotherServer, &reference(server));
        assert_eq!(bench.opened(), server);
    }
    bench.refuse(ReasonCode::UseAnotherServer, &reference("c"));
    assert_eq!(bench.opened(), "one", "a circle of servers is left");

    let (mut bench, _) = attempt(config());
    bench.refuse(ReasonCode::UseAnotherServer, &reference("a"));
    let Some(Event::ConnectFailed(ended)) = bench.machine.poll_event() else { panic!() };
    assert!(ended.retry_at > Some(bench.now));
    assert_eq!(bench.opened(), "two");

    let (mut bench, _) = attempt(config().redirection(Redirection::Follow { hops: 2 }));
    bench.refuse(ReasonCode::UseAnotherServer, &PropertiesBuf::new());
    assert_eq!(bench.opened(), "two", "without a reference it is the next server's turn");
}

#[test]
fn a_reference_that_names_nobody_is_not_followed() {
    for properties in [PropertiesBuf::new(), reference(""), reference("  ")] {
        let (mut bench, _) = attempt(config().redirection(Redirection::Follow { hops: 2 }));
        bench.refuse(ReasonCode::ServerMoved, &properties);
        bench.events();
        assert_eq!(bench.opened(), "two");
    }
}

#[test]
fn a_server_that_speaks_a_lower_version_is_spoken_to_in_it() {
    let config = config().fallback_to(ProtocolVersion::V3_1).redirection(Redirection::Ignore);
    let (mut bench, _) = attempt(config.clone());
    assert_eq!(bench.version, ProtocolVersion::V5);
    // In the form of 3.x, as a server of 3.x answers.
    bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, 0, 1][..]));
    let told = bench.events();
    let [Event::ConnectFailed(ended), Event::FellBack { version: ProtocolVersion::V3_1_1, without }] =
        told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!(ended.retry_at, Some(bench.now));
    assert_eq!(without, &[Feature::SessionExpiry]);
    bench.opened();
    assert_eq!(bench.version, ProtocolVersion::V3_1_1);
    // A close before CONNACK is a refusal, too.
    bench.cut();
    let told = bench.events();
    let [_, Event::FellBack { version: ProtocolVersion::V3_1, without }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(without, &[Feature::SessionPresent]);
    bench.opened();
    assert_eq!(bench.version, ProtocolVersion::V3_1);
    // Nothing is lower: the attempts begin again from the top.
    bench.cut();
    assert!(matches!(bench.events().as_slice(), [Event::ConnectFailed(_)]));
    bench.opened();
    assert_eq!(bench.version, ProtocolVersion::V5);
}

#[test]
fn a_lower_version_that_was_accepted_stays() {
    let (mut bench, _) = attempt(config().fallback_to(ProtocolVersion::V3_1_1));
    bench.refuse(ReasonCode::UnsupportedProtocolVersion, &PropertiesBuf::new());
    bench.opened();
    bench.accept_after_events(false);
    bench.cut();
    bench.opened();
    assert_eq!(bench.version, ProtocolVersion::V3_1_1);
}

#[test]
fn without_leave_or_with_enhanced_authentication_no_lower_version_is_spoken() {
    let mut authenticating = config().fallback_to(ProtocolVersion::V3_1);
    authenticating.authentication = Some(Authentication { method: "X".into(), initial_data: None });
    for config in [config(), config().fallback_to(ProtocolVersion::V5), authenticating] {
        let (mut bench, _) = attempt(config);
        bench.refuse(ReasonCode::UnsupportedProtocolVersion, &PropertiesBuf::new());
        assert!(bench.machine.is_idle(), "the refusal is permanent");
    }
    // 3.1 allows 23 characters.
    let (mut bench, _) = attempt(
        config()
            .version(ProtocolVersion::V3_1_1)
            .client_id("x".repeat(24))
            .fallback_to(ProtocolVersion::V3_1),
    );
    bench.refuse(ReasonCode::UnsupportedProtocolVersion, &PropertiesBuf::new());
    assert!(bench.machine.is_idle());
    let mut bench = Bench::new(config().version(ProtocolVersion::V3_1).client_id("x".repeat(24)));
    let refused = bench.machine.connect(bench.now).unwrap_err();
    assert!(refused.to_string().contains("24"), "{refused}");
}

#[test]
fn what_the_lower_version_leaves_out_is_listed() {
    let mut config = config().fallback_to(ProtocolVersion::V3_1_1).receive_maximum(5).topic_alias_maximum(3);
    config.user_properties = PropertiesBuf::new().with(Property::UserProperty("a", "b")).unwrap();
    config.request_response_information = true;
    let will = Message::to("w", "").unwrap().property(Property::WillDelayInterval(1)).unwrap();
    let mut bench = Bench::new(config.will(will));
    let message = Message::to("a", "").unwrap().property(Property::ContentType("t")).unwrap();
    bench.machine.publish(bench.now, message).unwrap();
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    bench.refuse(ReasonCode::UnsupportedProtocolVersion, &PropertiesBuf::new());
    let told = bench.events();
    let [_, Event::FellBack { without, .. }] = told.as_slice() else { panic!("{told:?}") };
    let names: Vec<String> = without.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "session expiry",
            "receive maximum",
            "topic aliases",
            "user properties",
            "will properties",
            "message properties",
            "response information"
        ]
    );
}

fn granted(config: Config, list: &[Property<'_>]) -> Bench {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).unwrap();
    }
    Bench::connected_with(config, false, properties.as_properties())
}

fn alias(number: u16) -> PropertiesBuf {
    PropertiesBuf::new().with(Property::TopicAlias(number)).unwrap()
}

// 5.0: MQTT-3.2.2-18, MQTT-3.3.2-7
#[test]
fn topics_get_aliases_by_themselves_within_both_maxima_and_never_across_a_connection() {
    let aliases = TopicAliases { maximum: 1, automatic: true };
    let config = config().topic_aliases(aliases).clean_start(CleanStart::Never);
    let mut bench = granted(config, &[Property::TopicAliasMaximum(9)]);
    let publish = |bench: &mut Bench, topic| {
        let message = Message::to(topic, "x").unwrap().qos(QoS::AtLeastOnce);
        bench.machine.publish(bench.now, message).unwrap();
    };
    for topic in ["first/topic", "first/topic", "second/topic", "first/topic"] {
        publish(&mut bench, topic);
    }
    let named = |topic: &str| (topic.to_owned(), alias(1));
    assert_eq!(
        bench.publications(),
        [named("first/topic"), named(""), named("second/topic"), named("first/topic")]
    );
    bench.reconnect(true);
    let none = |topic: &str| (topic.to_owned(), PropertiesBuf::new());
    assert_eq!(
        bench.publications(),
        [none("first/topic"), none("first/topic"), none("second/topic"), none("first/topic")],
        "the server of the second connection takes no alias"
    );
}

// 5.0: MQTT-3.2.2-17, MQTT-3.2.2-18, MQTT-3.3.2-9
#[test]
fn an_alias_that_the_caller_asks_for_is_introduced_used_and_left_out_where_it_is_not_taken() {
    let mut bench = granted(config(), &[Property::TopicAliasMaximum(5)]);
    let message =
        |number| Message::to("some/topic", "x").unwrap().property(Property::TopicAlias(number)).unwrap();
    let refused = bench.machine.publish(bench.now, message(6)).unwrap_err();
    assert!(
        matches!(refused, Refused::NotSupported(NotSupported::TopicAlias { alias: 6, maximum: 5 })),
        "{refused}"
    );
    for _ in 0..2 {
        bench.machine.publish(bench.now, message(5)).unwrap();
    }
    assert_eq!(bench.publications(), [("some/topic".into(), alias(5)), (String::new(), alias(5))]);
    bench.machine.publish(bench.now, message(5)).unwrap();
    bench.reconnect(true);
    assert_eq!(bench.publications(), [("some/topic".into(), PropertiesBuf::new())]);
}

#[test]
fn the_expiry_interval_counts_down_while_a_message_waits_here() {
    for qos in [QoS::AtMostOnce, QoS::ExactlyOnce] {
        let mut bench = Bench::new(config().clean_start(CleanStart::Never));
        let message = Message::to("a", "x").unwrap().qos(qos);
        let message = message.property(Property::ContentType("t")).unwrap();
        let message = message.property(Property::MessageExpiryInterval(60)).unwrap();
        bench.machine.publish(bench.now, message).unwrap();
        bench.now += Duration::from_millis(12_900);
        bench.machine.connect(bench.now).unwrap();
        bench.opened();
        bench.accept_after_events(false);
        let left = |seconds| {
            let list = PropertiesBuf::new().with(Property::ContentType("t")).unwrap();
            list.with(Property::MessageExpiryInterval(seconds)).unwrap()
        };
        assert_eq!(bench.publications(), [("a".into(), left(48))]);
        if qos == QoS::ExactlyOnce {
            bench.now += Duration::from_secs(20);
            bench.cut();
            bench.opened();
            bench.accept_after_events(true);
            let waited = (bench.now - mqtt_machine::Instant::ZERO).as_secs();
            let [(_, properties)] = bench.publications().try_into().unwrap();
            assert_eq!(properties, left(60 - u32::try_from(waited).unwrap()));
        }
    }
}

#[test]
fn what_the_server_does_not_take_is_lowered_by_request() {
    let lowering = config().unsupported(Unsupported::Downgrade);
    let list = [Property::MaximumQoS(1), Property::RetainAvailable(false)];
    let message = || Message::to("a", "x").unwrap().qos(QoS::ExactlyOnce).retain(true);
    // Known when it is published.
    let mut bench = granted(lowering.clone(), &list);
    bench.machine.publish(bench.now, message()).unwrap();
    assert_eq!(bench.sent(), ["Publish a qos1 id1 x"]);
    bench.ack(AckKind::PubAck, 1);
    assert!(matches!(bench.outcomes().as_slice(), [(1, Outcome::Acknowledged(_))]));
    // Known only afterwards.
    for (maximum, sent) in [(1, "Publish a qos1 id1 x"), (0, "Publish a qos0 x")] {
        let mut bench = Bench::new(lowering.clone());
        bench.machine.publish(bench.now, message()).unwrap();
        bench.machine.connect(bench.now).unwrap();
        bench.opened();
        let list = PropertiesBuf::new().with(Property::MaximumQoS(maximum)).unwrap();
        let list = list.with(Property::RetainAvailable(false)).unwrap();
        bench.accept(false, list.as_properties());
        assert_eq!(bench.sent(), [sent]);
        if maximum == 0 {
            assert_eq!(bench.outcomes(), [(1, Outcome::Sent)]);
        }
    }
    // Not by request: as ever.
    let mut bench = Bench::new(config());
    bench.machine.publish(bench.now, message()).unwrap();
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    let list = PropertiesBuf::new().with(Property::MaximumQoS(1)).unwrap();
    bench.accept(false, list.as_properties());
    assert!(bench.sent().is_empty());
    assert_eq!(bench.outcomes(), [(1, Outcome::Dropped(DropReason::NotSupported))]);
}

#[test]
fn what_a_disconnect_has_ended_does_not_end_again_when_it_is_lowered_and_sent() {
    let config = config().unsupported(Unsupported::Downgrade).clean_start(CleanStart::Never);
    let mut bench = Bench::connected(config);
    bench.machine.publish(bench.now, Message::to("a", "x").unwrap().qos(QoS::ExactlyOnce)).unwrap();
    bench.sent();
    bench.machine.disconnect(bench.now, mqtt_machine::Disconnect::new(Duration::ZERO)).unwrap();
    bench.sent();
    let outcomes = bench.outcomes();
    assert!(matches!(
        outcomes.as_slice(),
        [
            (1, Outcome::Unknown),
            (2, Outcome::Disconnected(Drained { delivered: 0, undelivered: 1, kept: 0 }))
        ]
    ));
    // The session owes it still, and the next server has lost the session and takes QoS 0 only.
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    let list = PropertiesBuf::new().with(Property::MaximumQoS(0)).unwrap();
    bench.accept(false, list.as_properties());
    assert_eq!(bench.sent(), ["Publish a qos0 x"]);
    bench.cut();
    assert!(bench.outcomes().is_empty());
}

#[test]
fn what_was_lowered_to_qos_1_is_of_qos_1_when_the_session_is_lost_though_it_never_left() {
    let config = config()
        .unsupported(Unsupported::Downgrade)
        .clean_start(CleanStart::Never)
        .lost_session(LostSession::Report)
        .durable(true);
    let mut bench = Bench::new(config);
    bench.machine.publish(bench.now, Message::to("a", "x").unwrap().qos(QoS::ExactlyOnce)).unwrap();
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    let list = PropertiesBuf::new().with(Property::MaximumQoS(1)).unwrap();
    bench.accept(false, list.as_properties());
    assert!(bench.sent().is_empty(), "its records are not durable");
    bench.cut();
    bench.opened();
    bench.events();
    bench.accept(false, Properties::EMPTY);
    assert!(bench.outcomes().is_empty(), "only a message of QoS 2 is given up");
    bench.machine.handle_stored(bench.now, Ok(JournalSeq::new(100)));
    assert_eq!(bench.sent(), ["Publish a qos1 id2 x"]);
}

#[test]
fn a_session_that_ended_with_its_connection_is_not_prolonged_by_disconnect() {
    let bench = |expiry| Bench::connected(config().session_expiry(Duration::from_secs(expiry)));
    let request = |seconds| {
        let list = PropertiesBuf::new().with(Property::SessionExpiryInterval(seconds)).unwrap();
        mqtt_machine::Disconnect::new(Duration::ZERO).properties(list)
    };
    let mut without = bench(0);
    let refused = without.machine.disconnect(without.now, request(5)).unwrap_err();
    assert!(refused.to_string().contains("3.14.2.2.2"), "{refused}");
    assert!(without.machine.disconnect(without.now, request(0)).is_ok());
    let mut with = bench(60);
    assert!(with.machine.disconnect(with.now, request(5)).is_ok());
    assert_eq!(with.sent(), ["Disconnect 0x00"]);
}
