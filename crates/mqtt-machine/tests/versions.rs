//! What a client does where a server speaks a lower version: when it falls back, what it tells of that, and what then leaves; and
//! what 3.1 and 3.1.1 have of their own.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, list};
use bytes::BytesMut;
use mqtt_machine::packet::{Packet, PropertiesBuf, Property, Sender};
use mqtt_machine::{
    CleanStart, Config, EndReason, Event, Feature, Message, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    Subscribe, TopicAliases, TopicFilter, TransportEvent, wire,
};

use ProtocolVersion::{V3_1, V3_1_1, V5};

/// How a server shows that it does not speak a version.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// This CONNACK.
    ConnAck(&'static [u8]),
    /// The end of the connection, without a word.
    Close,
}

/// 0x84 in the form of 5.0, and with a reason string.
const V5_REFUSAL: Sign = Sign::ConnAck(&[0x20, 3, 0, 0x84, 0]);
const V5_REFUSAL_IN_WORDS: Sign = Sign::ConnAck(&[0x20, 7, 0, 0x84, 4, 0x1F, 0, 1, b'3']);
/// Return code 1 in the form of 3.x.
const V3_REFUSAL: Sign = Sign::ConnAck(&[0x20, 2, 0, 1]);
/// The same in the form of 5.0, which has no such code.
const V3_CODE_IN_V5: Sign = Sign::ConnAck(&[0x20, 3, 0, 1, 0]);

fn plain(version: ProtocolVersion) -> Config {
    config(version).session_expiry(Duration::ZERO)
}

fn attempt(config: Config) -> Bench {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    bench
}

fn show(bench: &mut Bench, sign: Sign) {
    match sign {
        Sign::ConnAck(bytes) => bench.receive_bytes(&mut BytesMut::from(bytes)),
        Sign::Close => bench.cut(),
    }
}

/// What is told of a fallback, if there is one.
fn fallback(bench: &mut Bench) -> Option<(ProtocolVersion, Vec<Feature>)> {
    bench.events().into_iter().find_map(|event| match event {
        Event::FellBack { version, without } => Some((version, without)),
        _ => None,
    })
}

#[test]
fn every_sign_that_a_version_is_not_spoken_leads_to_the_next_lower_one_at_once() {
    for (version, sign, lower) in [
        (V5, V5_REFUSAL, V3_1_1),
        (V5, V5_REFUSAL_IN_WORDS, V3_1_1),
        (V5, V3_REFUSAL, V3_1_1),
        (V5, V3_CODE_IN_V5, V3_1_1),
        (V5, Sign::Close, V3_1_1),
        (V3_1_1, V3_REFUSAL, V3_1),
        (V3_1_1, Sign::Close, V3_1),
    ] {
        let mut bench = attempt(plain(version).fallback_to(V3_1));
        assert_eq!(bench.version, version);
        show(&mut bench, sign);
        let told = bench.events();
        let [Event::ConnectFailed(ended), Event::FellBack { version: told, .. }] = told.as_slice() else {
            panic!("{version} {sign:?}: {told:?}")
        };
        assert_eq!((ended.retry_at, *told), (Some(bench.now), lower), "{version} {sign:?}");
        let before = bench.now;
        bench.opened();
        assert_eq!((bench.version, bench.now), (lower, before), "{version} {sign:?}");
        bench.accept_after_events(false);
        assert_eq!(bench.machine.capabilities().unwrap().version, lower);
    }
}

#[test]
fn the_way_down_has_two_steps_and_ends_where_the_caller_says() {
    for (lowest, steps) in [(V5, &[][..]), (V3_1_1, &[V3_1_1]), (V3_1, &[V3_1_1, V3_1])] {
        let mut bench = attempt(plain(V5).fallback_to(lowest));
        for expected in steps {
            show(&mut bench, V3_REFUSAL);
            assert_eq!(fallback(&mut bench).map(|(version, _)| version), Some(*expected));
            bench.opened();
        }
        show(&mut bench, V3_REFUSAL);
        assert_eq!(fallback(&mut bench), None);
        assert!(bench.machine.is_idle(), "a version that is not spoken is refused for good");
    }
}

#[test]
fn a_refusal_in_the_form_of_3_x_is_told_as_such_to_a_client_of_5_0_that_does_not_fall_back() {
    for (code, reason, permanent) in [
        (1, ReasonCode::UnsupportedProtocolVersion, true),
        (2, ReasonCode::ClientIdentifierNotValid, true),
        (3, ReasonCode::ServerUnavailable, false),
        (4, ReasonCode::BadUserNameOrPassword, true),
        (5, ReasonCode::NotAuthorized, true),
    ] {
        let mut bench = attempt(plain(V5));
        bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, 0, code][..]));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.end(), EndReason::Refused { reason, properties: PropertiesBuf::new() });
        assert_eq!(bench.machine.is_idle(), permanent, "{code}");
    }
}

#[test]
fn nothing_else_that_goes_wrong_is_a_reason_to_fall_back() {
    let falling = || plain(V5).fallback_to(V3_1);
    // Every other refusal, in either form.
    for code in (0x80..=0x9F).filter(|code| *code != 0x84) {
        let mut bench = attempt(falling());
        bench.receive_bytes(&mut BytesMut::from(&[0x20, 3, 0, code, 0][..]));
        assert_eq!(fallback(&mut bench), None, "{code:x}");
    }
    for code in 2..=5 {
        let mut bench = attempt(falling());
        bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, 0, code][..]));
        assert_eq!(fallback(&mut bench), None, "{code:x}");
    }
    // A server that cannot be reached, or says nothing.
    let mut bench = Bench::new(falling());
    bench.machine.connect(bench.now).unwrap();
    let Some(mqtt_machine::Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { panic!() };
    bench.machine.handle_transport(bench.now, id, TransportEvent::OpenFailed("no".into()));
    assert_eq!(fallback(&mut bench), None);
    let mut bench = attempt(falling());
    bench.wake();
    assert!(
        matches!(bench.events().as_slice(), [Event::ConnectFailed(it)] if it.reason == EndReason::ConnectTimeout)
    );
    // One that had accepted the client.
    let mut bench = attempt(falling());
    bench.accept_after_events(false);
    bench.cut();
    assert_eq!(fallback(&mut bench), None);
    bench.opened();
    assert_eq!(bench.version, V5);
}

/// What is reported when a client of this configuration, asked for this much, falls back to 3.1.1.
fn without(config: Config, ask: impl FnOnce(&mut Bench)) -> Vec<Feature> {
    let mut bench = Bench::new(config.fallback_to(V3_1_1));
    ask(&mut bench);
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    show(&mut bench, V5_REFUSAL);
    fallback(&mut bench).expect("it falls back").1
}

fn subscribe(bench: &mut Bench, request: Subscribe) {
    bench.machine.subscribe(bench.now, request).unwrap();
}

fn request() -> Subscribe {
    Subscribe::to(TopicFilter::new("a").unwrap(), QoS::AtMostOnce)
}

#[test]
fn each_thing_that_the_lower_version_cannot_do_is_reported_where_it_was_asked_for_and_nowhere_else() {
    let nothing = |_: &mut Bench| {};
    assert_eq!(without(plain(V5), nothing), []);
    let mut informed = plain(V5);
    informed.request_response_information = true;
    let mut named = plain(V5);
    named.user_properties = list([Property::UserProperty("a", "b")]);
    let will = Message::to("w", "").unwrap();
    let late = will.clone().property(Property::WillDelayInterval(1)).unwrap();
    for (config, feature) in [
        (plain(V5).session_expiry(Duration::from_secs(1)), Some(Feature::SessionExpiry)),
        (plain(V5).receive_maximum(5), Some(Feature::ReceiveMaximum)),
        (plain(V5).topic_alias_maximum(1), Some(Feature::TopicAliases)),
        (plain(V5).topic_aliases(TopicAliases { maximum: 1, automatic: true }), Some(Feature::TopicAliases)),
        (plain(V5).will(will), None),
        (plain(V5).will(late), Some(Feature::WillProperties)),
        (informed, Some(Feature::ResponseInformation)),
        (named, Some(Feature::UserProperties)),
    ] {
        assert_eq!(without(config, nothing), Vec::from_iter(feature));
    }
    for (properties, expected) in
        [(PropertiesBuf::new(), None), (list([Property::ContentType("t")]), Some(Feature::MessageProperties))]
    {
        let told = without(plain(V5), |bench| {
            let mut message = Message::to("a", "x").unwrap();
            message.properties = properties;
            bench.machine.publish(bench.now, message).unwrap();
        });
        assert_eq!(told, Vec::from_iter(expected));
    }
}

#[test]
fn options_of_subscriptions_that_the_lower_version_leaves_out_are_reported_though_they_only_wait() {
    assert_eq!(without(plain(V5), |bench| subscribe(bench, request())), []);
    for asked in [
        request().no_local(),
        request().retain_as_published(),
        request().retain_handling(RetainHandling::DoNotSend),
        request().identifier(7),
        request().properties(list([Property::SubscriptionIdentifier(7)])),
    ] {
        let told = without(plain(V5), |bench| subscribe(bench, asked.clone()));
        assert_eq!(told, [Feature::SubscriptionOptions], "{asked:?}");
    }
    // Granted by a server that spoke 5.0, and to be made again.
    let mut bench = Bench::connected(plain(V5).fallback_to(V3_1_1).clean_start(CleanStart::Never));
    subscribe(&mut bench, request().no_local());
    bench.sent();
    bench.suback(1, &[0]);
    bench.cut();
    bench.opened();
    show(&mut bench, V5_REFUSAL);
    assert_eq!(fallback(&mut bench), Some((V3_1_1, vec![Feature::SubscriptionOptions])));
    bench.opened();
    bench.accept_after_events(false);
    assert_eq!(bench.sent(), ["Subscribe id2 a"]);
}

#[test]
fn after_a_fallback_everything_leaves_in_the_form_of_the_lower_version() {
    let full = |version| {
        let will = Message::to("w", "gone").unwrap().qos(QoS::AtLeastOnce).retain(true);
        let will = will.property(Property::WillDelayInterval(9)).unwrap();
        let mut config = config(version).will(will).receive_maximum(3).topic_alias_maximum(2);
        config.user_properties = list([Property::UserProperty("a", "b")]);
        config.username_password("me", "secret")
    };
    for lower in [V3_1_1, V3_1] {
        let mut bench = attempt(full(V5).fallback_to(lower));
        let message = Message::to("a", "x").unwrap().qos(QoS::AtLeastOnce);
        bench.machine.publish(bench.now, message.property(Property::ContentType("t")).unwrap()).unwrap();
        subscribe(&mut bench, request().no_local().identifier(7));
        while bench.version != lower {
            show(&mut bench, Sign::Close);
            let Some(mqtt_machine::Action::OpenTransport { id, .. }) = next_action(&mut bench) else {
                panic!()
            };
            bench.transport = Some(id);
            bench.machine.handle_transport(bench.now, id, TransportEvent::Opened);
            let connect = bench.sent_bytes();
            let Ok(Packet::Connect(sent)) = wire::decode(&connect, V5, Sender::Client) else { panic!() };
            bench.version = sent.version;
            let mut own = Bench::new(full(sent.version));
            own.machine.connect(own.now).unwrap();
            let Some(mqtt_machine::Action::OpenTransport { id, .. }) = own.machine.poll_action() else {
                panic!()
            };
            own.machine.handle_transport(own.now, id, TransportEvent::Opened);
            assert_eq!(connect, own.sent_bytes(), "as that of a client that was told to speak it");
        }
        bench.accept_after_events(false);
        let bytes = bench.sent_bytes();
        assert_eq!(&bytes[..], b"\x82\x06\x00\x01\x00\x01a\x00\x32\x06\x00\x01a\x00\x02x", "{lower}");
    }
}

/// The next action that is not the end of a transport.
fn next_action(bench: &mut Bench) -> Option<mqtt_machine::Action> {
    bench.machine.handle_timeout(bench.now);
    std::iter::from_fn(|| bench.machine.poll_action())
        .find(|action| !matches!(action, mqtt_machine::Action::CloseTransport { .. }))
}

#[test]
fn each_return_code_of_3_1_and_3_1_1_is_told_by_its_name_and_ends_the_attempts_where_it_must() {
    for version in [V3_1, V3_1_1] {
        for (code, reason, permanent) in [
            (1, ReasonCode::UnsupportedProtocolVersion, true),
            (2, ReasonCode::ClientIdentifierNotValid, true),
            (3, ReasonCode::ServerUnavailable, false),
            (4, ReasonCode::BadUserNameOrPassword, true),
            (5, ReasonCode::NotAuthorized, true),
        ] {
            let mut bench = attempt(config(version));
            bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, 0, code][..]));
            assert!(bench.is_closed() && bench.sent().is_empty());
            let end = bench.end();
            assert_eq!(end, EndReason::Refused { reason, properties: PropertiesBuf::new() }, "{version}");
            assert!(end.to_string().contains(reason.name()), "{end}");
            assert_eq!(bench.machine.is_idle(), permanent, "{version} {code}");
        }
        let mut bench = attempt(config(version));
        bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, 0, 6][..]));
        assert!(matches!(bench.end(), EndReason::Malformed(_)), "{version}: there is no code 6");
    }
}

#[test]
fn in_3_1_the_byte_before_the_return_code_says_nothing() {
    for flags in [0, 1, 0xFF] {
        let mut bench = attempt(config(V3_1));
        bench.receive_bytes(&mut BytesMut::from(&[0x20, 2, flags, 0][..]));
        let Some(Event::Connected(connected)) = bench.machine.poll_event() else { panic!("{flags}") };
        assert!(!connected.session_present, "3.1 has no such flag: {flags}");
    }
}

#[test]
fn a_client_of_3_1_has_an_identifier_of_1_to_23_characters_and_is_refused_a_longer_one() {
    for length in [1, 23] {
        let mut bench = attempt(config(V3_1).client_id("x".repeat(length)));
        bench.accept(false, mqtt_machine::packet::Properties::EMPTY);
        assert!(bench.machine.is_connected(), "{length}");
    }
    let mut bench = Bench::new(config(V3_1).client_id("x".repeat(24)));
    assert!(bench.machine.connect(bench.now).is_err());
    assert!(bench.machine.is_idle() && bench.machine.poll_action().is_none(), "nothing was begun");
    // One that is made here is within the limit.
    let mut bench = Bench::new(config(V3_1).client_id(""));
    bench.machine.connect(bench.now).unwrap();
    bench.opened();
    let made = bench.machine.session().client_id.chars().count();
    assert!((1..=23).contains(&made), "{made}");
}

#[test]
fn the_bridge_bit_is_set_by_option_and_never_in_5_0() {
    for (version, bridge, level) in [
        (V3_1, true, 0x83),
        (V3_1, false, 0x03),
        (V3_1_1, true, 0x84),
        (V3_1_1, false, 0x04),
        (V5, true, 0x05),
        (V5, false, 0x05),
    ] {
        let mut config = config(version);
        config.bridge = bridge;
        let mut bench = Bench::new(config);
        bench.machine.connect(bench.now).unwrap();
        let Some(mqtt_machine::Action::OpenTransport { id, .. }) = bench.machine.poll_action() else {
            panic!()
        };
        bench.machine.handle_transport(bench.now, id, TransportEvent::Opened);
        let sent = bench.sent_bytes();
        let name = version.protocol_name();
        assert_eq!(sent[4..4 + name.len()], *name.as_bytes());
        assert_eq!(sent[4 + name.len()], level, "{version}, bridge: {bridge}");
    }
}
