//! What 5.0 adds, and what becomes of it where a server speaks less, from the caller to the other end and back, in virtual time.

mod common;

use common::*;
use mqtt_machine::packet::{PacketType, PropertiesBuf, Property};
use mqtt_machine::{
    Backoff, CleanStart, Config, Disconnect, Event, Outcome, ProtocolVersion, QoS, ReasonCode, Subscribe,
    TopicAliases, Unsupported,
};
use mqtt_machine_testkit::broker::{BrokerConfig, Plan};
use mqtt_machine_testkit::sim::{Options, Settle, Sim};

use ProtocolVersion::{V3_1, V3_1_1, V5};

fn list<const N: usize>(properties: [Property<'_>; N]) -> PropertiesBuf {
    let with = |list: PropertiesBuf, property| list.with(property).unwrap();
    properties.into_iter().fold(PropertiesBuf::new(), with)
}

/// One that does not come back by itself.
fn mortal(client_id: &str) -> Config {
    config(client_id).backoff(Backoff::NEVER)
}

#[test]
fn a_will_reaches_its_subscribers_after_its_delay_with_every_property_that_it_has() {
    for version in [V3_1_1, V5] {
        let mut sim = with(BrokerConfig::new());
        let subscriber = sim.add(config("subscriber"));
        subscribed(&mut sim, subscriber, "gone", QoS::ExactlyOnce);
        let properties = [
            Property::PayloadFormatIndicator(true),
            Property::ContentType("text/plain"),
            Property::ResponseTopic("answers"),
            Property::CorrelationData(b"\x00\xFF"),
            Property::UserProperty("a", "1"),
            Property::UserProperty("a", "2"),
        ];
        let mut will = message("gone", "for good", QoS::ExactlyOnce);
        will.properties = list(properties).with(Property::WillDelayInterval(30)).unwrap();
        let client = sim.add(mortal("c").version(version).will(will));
        sim.connect_now(client);
        sim.cut(client);
        let delay = if version == V5 { secs(30) } else { secs(0) };
        let cut = sim.now;
        assert!(sim.run_until(secs(100), |sim| !sim.client(subscriber).messages.is_empty()));
        assert!(sim.now - cut >= delay && sim.now - cut < delay + secs(1), "{version}: {:?}", sim.now - cut);
        let got = &sim.client(subscriber).messages[0];
        assert_eq!((got.payload_lossy().as_str(), got.qos), ("for good", QoS::ExactlyOnce));
        let expected = if version == V5 { list(properties) } else { PropertiesBuf::new() };
        let mut said: Vec<String> =
            got.properties.as_properties().iter().map(|it| format!("{it:?}")).collect();
        let mut asked: Vec<String> = expected.as_properties().iter().map(|it| format!("{it:?}")).collect();
        said.sort();
        asked.sort();
        assert_eq!(said, asked, "{version}");
        sim.assert_sound();
    }
}

#[test]
fn a_will_whose_client_is_back_within_the_delay_is_not_published() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber"));
    subscribed(&mut sim, subscriber, "gone", QoS::ExactlyOnce);
    let will =
        message("gone", "too soon", QoS::AtLeastOnce).property(Property::WillDelayInterval(30)).unwrap();
    let client = sim.add(config("c").will(will));
    sim.connect_now(client);
    sim.cut(client);
    sim.run_for(secs(100));
    assert_eq!(sim.client(client).connected.len(), 2);
    assert!(sim.client(subscriber).messages.is_empty());
    sim.assert_sound();
}

#[test]
fn a_disconnect_may_change_how_long_the_session_stays() {
    for (asked, after, stays) in [
        (None, 20, true),
        (None, 61, false),
        (Some(0), 0, false),
        (Some(5), 4, true),
        (Some(5), 6, false),
        (Some(600), 400, true),
    ] {
        let mut sim = with(BrokerConfig::new());
        let client = sim.add(config("c").session_expiry(secs(60)));
        subscribed(&mut sim, client, "t", QoS::AtLeastOnce);
        let mut request = Disconnect::new(secs(1));
        if let Some(seconds) = asked {
            request = request.properties(list([Property::SessionExpiryInterval(seconds)]));
        }
        let op = sim.disconnect(client, request).unwrap();
        ended(&mut sim, client, op);
        // DISCONNECT is on its way for a moment.
        sim.run_for(secs(after) + millis(100));
        assert_eq!(sim.broker.has_session("c"), stays, "{asked:?} after {after} s");
        // Whatever became of it, the client has its subscription when it comes again.
        sim.connect_now(client);
        sim.run_for(secs(1));
        let connected = &sim.client(client).connected;
        assert_eq!(connected.last().unwrap().1.session_present, stays, "{asked:?} after {after} s");
        assert!(sim.broker.subscription("c", "t").is_some());
        sim.assert_sound();
    }
}

#[test]
fn what_a_server_does_not_take_is_lowered_where_the_caller_opted_in_and_refused_where_not() {
    for (maximum, retain) in [
        (QoS::AtLeastOnce, true),
        (QoS::AtMostOnce, true),
        (QoS::ExactlyOnce, false),
        (QoS::AtMostOnce, false),
    ] {
        for waits in [false, true] {
            let mut broker = BrokerConfig::new().maximum_qos(maximum);
            broker.retain_available = retain;
            let mut sim = with(broker);
            let lowering = sim.add(config("lowering").unsupported(Unsupported::Downgrade));
            let strict = sim.add(config("strict"));
            if !waits {
                sim.connect_now(lowering);
                sim.connect_now(strict);
            }
            let message = |text: &str| message("t", text, QoS::ExactlyOnce).retain(true);
            let lowered = sim.publish(lowering, message("lowered")).unwrap();
            let refused = sim.publish(strict, message("refused"));
            if waits {
                sim.connect_now(lowering);
                sim.connect_now(strict);
            }
            all_ended(&mut sim, lowering);
            sim.run_for(secs(1));
            let outcome = &sim.client(lowering).outcomes[&lowered];
            let expected =
                if maximum == QoS::AtMostOnce { *outcome == Outcome::Sent } else { is_acknowledged(outcome) };
            assert!(expected, "{maximum} {retain}: {outcome:?}");
            let sent: Vec<(QoS, bool)> = sim
                .broker
                .log()
                .sent_by("lowering", PacketType::Publish)
                .map(|seen| (seen.qos, seen.flag))
                .collect();
            assert_eq!(sent, [(maximum, retain)], "waits: {waits}");
            assert_eq!(sim.count("t", b"lowered"), 1);
            match refused {
                Ok(op) => {
                    assert!(waits, "the server was known");
                    assert!(matches!(ended(&mut sim, strict, op), Outcome::Dropped(_)));
                }
                Err(_) => assert!(!waits),
            }
            assert_eq!(sim.count("t", b"refused"), 0);
            sim.assert_sound();
        }
    }
}

#[test]
fn a_client_falls_back_to_what_the_server_speaks_and_messages_of_every_qos_arrive() {
    for speaks in [V3_1_1, V3_1] {
        for closes in [false, true] {
            let mut sim = with(BrokerConfig::new().versions(&[speaks]));
            let way = if speaks == V3_1 { &[V3_1_1, V3_1][..] } else { &[V3_1_1] };
            if closes {
                // Instead of a refusal, for each version that it does not speak.
                sim.broker.plan_next(way.len(), Plan::close_before_connack());
            }
            let client = sim.add(config("c").fallback_to(V3_1));
            subscribed(&mut sim, client, "t", QoS::ExactlyOnce);
            for qos in QOS {
                sim.publish(client, message("t", &format!("{qos}"), qos)).unwrap();
            }
            all_ended(&mut sim, client);
            sim.run_for(secs(1));
            assert_eq!(sim.client(client).payloads("t"), [b"0", b"1", b"2"], "{speaks} {closes}");
            let versions: Vec<ProtocolVersion> = sim
                .client(client)
                .others
                .iter()
                .filter_map(|event| match event {
                    Event::FellBack { version, without } => {
                        assert!(!without.is_empty(), "sessions of 5.0 have an expiry");
                        Some(*version)
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(versions, way, "{closes}");
            assert_eq!(sim.client(client).machine.capabilities().unwrap().version, speaks);
            // It stays with what was accepted.
            sim.cut(client);
            sim.run_for(secs(30));
            assert_eq!(sim.client(client).connected.len(), 2);
            sim.assert_sound();
        }
    }
}

#[test]
fn options_of_a_subscription_are_kept_when_it_is_made_again() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    let other = sim.add(config("other"));
    sim.connect_now(client);
    sim.connect_now(other);
    let request = Subscribe::to(filter("t"), QoS::AtLeastOnce).no_local().retain_as_published().identifier(7);
    let op = sim.subscribe(client, request).unwrap();
    ended(&mut sim, client, op);
    for forgotten in [false, true] {
        if forgotten {
            sim.broker.forget_session("c");
            sim.run_for(secs(30));
            assert!(!sim.client(client).connected.last().unwrap().1.session_present);
        }
        sim.publish(client, message("t", "own", QoS::AtLeastOnce)).unwrap();
        sim.publish(other, message("t", "theirs", QoS::AtLeastOnce).retain(true)).unwrap();
        sim.run_for(secs(1));
        let got = sim.client(client).messages.last().unwrap();
        assert_eq!((got.payload_lossy().as_str(), got.retain), ("theirs", true), "{forgotten}");
        assert_eq!(got.subscription_identifiers().collect::<Vec<_>>(), [7], "{forgotten}");
        assert!(sim.client(client).payloads("t").iter().all(|payload| *payload == b"theirs"));
    }
    sim.assert_sound();
}

#[test]
fn a_message_that_its_receiver_refuses_is_refused_by_its_code() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut options = Options::default();
        options.settle = Settle::Never;
        let mut sim = Sim::new(options, 1);
        let subscriber = sim.add(config("subscriber"));
        let publisher = sim.add(config("publisher"));
        subscribed(&mut sim, subscriber, "t", qos);
        sim.connect_now(publisher);
        sim.publish(publisher, message("t", "unwanted", qos)).unwrap();
        all_ended(&mut sim, publisher);
        assert!(sim.run_until(secs(1), |sim| !sim.client(subscriber).receipts.is_empty()));
        let now = sim.now;
        let receipt = sim.client_mut(subscriber).receipts.remove(0);
        sim.client_mut(subscriber).machine.settle(now, receipt, ReasonCode::PayloadFormatInvalid);
        sim.run_for(secs(1));
        let kind = if qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
        let said: Vec<ReasonCode> =
            sim.broker.log().sent_by("subscriber", kind).map(|seen| seen.reason).collect();
        assert_eq!(said, [ReasonCode::PayloadFormatInvalid], "{qos}");
        assert_eq!(sim.broker.owed_to("subscriber"), 0, "the server has let it go");
        sim.assert_sound();
    }
}

#[test]
fn aliases_of_both_sides_carry_their_topics_across_cuts() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber").topic_alias_maximum(2));
    let aliases = TopicAliases { maximum: 2, automatic: true };
    let publisher = sim.add(config("publisher").topic_aliases(aliases).clean_start(CleanStart::Never));
    subscribed(&mut sim, subscriber, "topic/#", QoS::ExactlyOnce);
    sim.connect_now(publisher);
    let mut expected = Vec::new();
    for number in 0..60 {
        let topic = format!("topic/{}", number / 3 % 4);
        sim.publish(publisher, message(&topic, &number.to_string(), QoS::ExactlyOnce)).unwrap();
        expected.push((topic, number.to_string()));
        if number % 17 == 5 {
            sim.run_for(millis(7));
            sim.cut(publisher);
        }
        if number % 23 == 7 {
            sim.cut(subscriber);
        }
    }
    all_ended(&mut sim, publisher);
    assert!(sim.run_until(secs(100), |sim| sim.client(subscriber).messages.len() == 60));
    let mut got: Vec<(String, String)> = sim
        .client(subscriber)
        .messages
        .iter()
        .map(|it| (it.topic.as_str().to_owned(), it.payload_lossy()))
        .collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    let without =
        sim.broker.log().sent_by("publisher", PacketType::Publish).filter(|seen| seen.topic.is_empty());
    assert!(without.count() > 0, "aliases were used at all");
    sim.assert_sound();
}
