//! Topic aliases as they leave (5.0, section 3.3.2.3.4): which topic has one, which has it longest, and what a resend does with it.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::{Bench, config, list};
use mqtt_machine::packet::{AckKind, Properties, PropertiesBuf, Property};
use mqtt_machine::{CleanStart, Config, Message, ProtocolVersion, QoS, TopicAliases};

use ProtocolVersion::V5;

/// A client that uses so many aliases by itself.
fn automatic(maximum: u16) -> Config {
    config(V5).clean_start(CleanStart::Never).topic_aliases(TopicAliases { maximum, automatic: true })
}

fn connected(config: Config, server_takes: u16) -> Bench {
    let properties = list([Property::TopicAliasMaximum(server_takes)]);
    Bench::connected_with(config, false, properties.as_properties())
}

fn publish(bench: &mut Bench, topic: &str, qos: QoS) {
    bench.machine.publish(bench.now, Message::to(topic, "x").unwrap().qos(qos)).unwrap();
}

/// A topic as it is sent together with the alias that it has from now on, an alias alone, and a topic alone.
fn introduced(topic: &str, alias: u16) -> (String, PropertiesBuf) {
    (topic.to_owned(), list([Property::TopicAlias(alias)]))
}

fn alone(alias: u16) -> (String, PropertiesBuf) {
    introduced("", alias)
}

fn plain(topic: &str) -> (String, PropertiesBuf) {
    (topic.to_owned(), PropertiesBuf::new())
}

// 5.0: MQTT-3.2.2-17, MQTT-3.3.2-9
#[test]
fn the_topic_that_was_used_longest_ago_gives_its_alias_to_the_next_one() {
    // The lower of the two maxima counts.
    for (own, servers) in [(3, 9), (9, 3)] {
        let mut bench = connected(automatic(own), servers);
        for topic in ["topic/a", "topic/b", "topic/c", "topic/a", "topic/d", "topic/a", "topic/c", "topic/b"]
        {
            publish(&mut bench, topic, QoS::AtMostOnce);
        }
        assert_eq!(
            bench.publications(),
            [
                introduced("topic/a", 1),
                introduced("topic/b", 2),
                introduced("topic/c", 3),
                alone(1),
                introduced("topic/d", 2),
                alone(1),
                alone(3),
                introduced("topic/b", 2),
            ],
            "{own} {servers}"
        );
    }
}

#[test]
fn no_alias_is_used_before_the_server_has_said_how_many_it_takes_nor_where_it_takes_none() {
    let mut bench = Bench::new(automatic(5));
    publish(&mut bench, "topic/a", QoS::AtMostOnce);
    publish(&mut bench, "topic/a", QoS::AtMostOnce);
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.accept(false, Properties::EMPTY);
    assert_eq!(bench.publications(), [plain("topic/a"), plain("topic/a")]);
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        let mut bench = Bench::connected(automatic(5).version(version));
        publish(&mut bench, "topic/a", QoS::AtMostOnce);
        publish(&mut bench, "topic/a", QoS::AtMostOnce);
        assert_eq!(bench.publications(), [plain("topic/a"), plain("topic/a")]);
    }
}

/// Connects again to a server that takes so many aliases now.
fn again(bench: &mut Bench, session_present: bool, server_takes: u16) {
    bench.cut();
    bench.opened();
    bench.events();
    let mut properties = PropertiesBuf::new();
    if server_takes > 0 {
        properties.push(Property::TopicAliasMaximum(server_takes)).unwrap();
    }
    bench.accept(session_present, properties.as_properties());
}

// 5.0: MQTT-3.3.2-7
#[test]
fn what_is_sent_again_names_its_topic_in_full_whatever_alias_it_had() {
    for session_present in [true, false] {
        let mut bench = connected(automatic(5), 5);
        for topic in ["topic/a", "topic/a", "topic/b"] {
            publish(&mut bench, topic, QoS::AtLeastOnce);
        }
        assert_eq!(bench.publications(), [introduced("topic/a", 1), alone(1), introduced("topic/b", 2)]);
        // The first message leaves, which alone told the server what the alias stands for.
        bench.ack(AckKind::PubAck, 1);
        again(&mut bench, session_present, 0);
        assert_eq!(bench.publications(), [plain("topic/a"), plain("topic/b")], "without aliases");
        again(&mut bench, true, 1);
        let sent = [introduced("topic/a", 1), introduced("topic/b", 1)];
        assert_eq!(bench.publications(), sent, "with aliases of the new connection's own");
        again(&mut bench, true, 5);
        assert_eq!(bench.publications(), [introduced("topic/a", 1), introduced("topic/b", 2)]);
    }
}

// 5.0: MQTT-3.2.2-17, MQTT-3.3.2-7
#[test]
fn an_alias_of_the_callers_is_left_out_of_a_resend_that_cannot_use_it() {
    let config = config(V5).clean_start(CleanStart::Never);
    let mut bench = connected(config, 5);
    for _ in 0..2 {
        let message = Message::to("some/topic", "x").unwrap().qos(QoS::ExactlyOnce);
        bench.machine.publish(bench.now, message.property(Property::TopicAlias(5)).unwrap()).unwrap();
    }
    assert_eq!(bench.publications(), [introduced("some/topic", 5), alone(5)]);
    for (server_takes, expected) in [
        (0, [plain("some/topic"), plain("some/topic")]),
        (4, [plain("some/topic"), plain("some/topic")]),
        (5, [introduced("some/topic", 5), alone(5)]),
    ] {
        again(&mut bench, true, server_takes);
        assert_eq!(bench.publications(), expected, "{server_takes}");
    }
}

#[test]
fn an_alias_that_would_make_a_message_too_large_is_left_out() {
    let properties = |bytes| list([Property::TopicAliasMaximum(5), Property::MaximumPacketSize(bytes)]);
    let published = |bytes: u32| {
        let mut bench = Bench::connected_with(automatic(5), false, properties(bytes).as_properties());
        publish(&mut bench, "topic/a", QoS::AtMostOnce);
        let sent = bench.publications();
        assert!(bench.machine.is_connected());
        sent
    };
    // A fixed header of 2 bytes, a topic of 9, the length of no properties and a byte of payload.
    assert_eq!(published(13), [plain("topic/a")]);
    assert_eq!(published(60), [introduced("topic/a", 1)]);
}
