//! Every refusal names the packet, the field, the rule and the value. A caller's mistake is an error of that call: nothing is
//! queued, and the connection stays. A peer's mistake ends the connection with the right code, and the session is kept.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, connected, message};
use bytes::BytesMut;
use mqtt_machine::journal::PublishKey;
use mqtt_machine::packet::{PacketType, Property, PropertyId, Sender};
use mqtt_machine::wire::{self, EncodeError};
use mqtt_machine::{
    Config, Disconnect, EndReason, Message, PropertyError, ProtocolVersion, QoS, ReasonCode, Refused, Secret,
    Subscribe, Subscription, TopicFilter, Unsubscribe,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// What a client may ask for.
enum Asked {
    Publish(Message),
    PublishKeyed(Message),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Disconnect(Disconnect),
    Reauthenticate(Secret),
}

fn ask(bench: &mut Bench, asked: Asked) -> Option<Refused> {
    let (machine, now) = (&mut bench.machine, bench.now);
    match asked {
        Asked::Publish(message) => machine.publish(now, message).err(),
        Asked::PublishKeyed(message) => {
            machine.publish_keyed(now, PublishKey::new("key").unwrap(), message).err()
        }
        Asked::Subscribe(request) => machine.subscribe(now, request).err(),
        Asked::Unsubscribe(request) => machine.unsubscribe(now, request).err(),
        Asked::Disconnect(request) => machine.disconnect(now, request).err(),
        Asked::Reauthenticate(data) => machine.reauthenticate(now, Some(data)).err(),
    }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn to(text: &str) -> Subscribe {
    Subscribe::to(filter(text), QoS::AtMostOnce)
}

fn unshared() -> Subscribe {
    let mut subscription = Subscription::new(filter("$share/g/a"), QoS::AtMostOnce);
    subscription.options.no_local = true;
    Subscribe::new(vec![subscription])
}

fn with(property: Property<'_>) -> Asked {
    Asked::Publish(message(QoS::AtMostOnce).property(property).unwrap())
}

/// A server that does nothing that it need not do.
fn poor() -> Bench {
    let mut properties = mqtt_machine::packet::PropertiesBuf::new();
    for property in [
        Property::MaximumPacketSize(40),
        Property::MaximumQoS(0),
        Property::RetainAvailable(false),
        Property::TopicAliasMaximum(3),
        Property::WildcardSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ] {
        properties.push(property).unwrap();
    }
    Bench::connected_with(config(V5), false, properties.as_properties())
}

fn rich() -> Bench {
    connected(config(V5), [])
}

fn sessionless() -> Bench {
    connected(config(V5).session_expiry(Duration::ZERO), [])
}

fn tight() -> Bench {
    let mut config = config(V5);
    config.limits.outgoing_bytes = 1_000;
    Bench::connected(config)
}

/// What is asked, of which client, and the packet, field, rule and value that the refusal must name.
type Row = (fn() -> Bench, Asked, PacketType, &'static str, &'static str, &'static str);

fn rows() -> Vec<Row> {
    use PacketType::{Auth, Disconnect as Leaving, Publish, Subscribe as Subscribing, Unsubscribe as Leave};
    let insisted = bench::list([Property::SubscriptionIdentifier(9)]);
    let reason = ReasonCode::SessionTakenOver;
    let expiry = Property::SessionExpiryInterval(7);
    vec![
        (poor, Asked::Publish(message(QoS::ExactlyOnce)), Publish, "QoS", "MQTT-3.2.2-11", "2"),
        (
            poor,
            Asked::Publish(message(QoS::AtMostOnce).retain(true)),
            Publish,
            "RETAIN flag",
            "MQTT-3.2.2-14",
            "1",
        ),
        (poor, with(Property::TopicAlias(4)), Publish, "TopicAlias", "MQTT-3.2.2-17", "4"),
        (
            poor,
            Asked::Publish(Message::to("t", vec![0; 40]).unwrap()),
            Publish,
            "packet",
            "MQTT-3.2.2-15",
            "46",
        ),
        (poor, Asked::Subscribe(to("a/+")), Subscribing, "topic filter", "5.0 section 3.2.2.3.11", "a/+"),
        (
            poor,
            Asked::Subscribe(to("a").properties(insisted)),
            Subscribing,
            "SubscriptionIdentifier",
            "5.0 section 3.2.2.3.12",
            "9",
        ),
        (
            poor,
            Asked::Subscribe(to("$share/g/a")),
            Subscribing,
            "topic filter",
            "5.0 section 3.2.2.3.13",
            "$share/g/a",
        ),
        (poor, Asked::Subscribe(to(&"f".repeat(40))), Subscribing, "packet", "MQTT-3.2.2-15", "48"),
        (
            poor,
            Asked::Unsubscribe(Unsubscribe::new(vec![filter(&"f".repeat(40))])),
            Leave,
            "packet",
            "MQTT-3.2.2-15",
            "47",
        ),
        (
            tight,
            Asked::Publish(Message::to("t", vec![0; 1_000]).unwrap()),
            Publish,
            "packet",
            "Limits::outgoing_bytes",
            "1000",
        ),
        (
            tight,
            Asked::Subscribe(to(&"f".repeat(1_000))),
            Subscribing,
            "packet",
            "Limits::outgoing_bytes",
            "1009",
        ),
        (
            rich,
            with(Property::SubscriptionIdentifier(5)),
            Publish,
            "SubscriptionIdentifier",
            "MQTT-3.3.4-6",
            "5",
        ),
        (
            rich,
            with(Property::SessionExpiryInterval(5)),
            Publish,
            "SessionExpiryInterval",
            "5.0 section 2.2.2.2",
            "",
        ),
        (
            rich,
            Asked::Subscribe(to("a").identifier(0)),
            Subscribing,
            "SubscriptionIdentifier",
            "5.0 section 2.2.2.2",
            "0",
        ),
        (rich, Asked::PublishKeyed(message(QoS::AtMostOnce)), Publish, "QoS", "Machine::publish_keyed", "0"),
        (
            rich,
            Asked::Subscribe(unshared()),
            Subscribing,
            "subscription options",
            "MQTT-3.8.3-4",
            "$share/g/a",
        ),
        (rich, Asked::Subscribe(Subscribe::new(vec![])), Subscribing, "topic filter", "MQTT-3.8.3-2", ""),
        (rich, Asked::Unsubscribe(Unsubscribe::new(vec![])), Leave, "topic filter", "MQTT-3.10.3-2", ""),
        (
            rich,
            Asked::Disconnect(Disconnect::new(Duration::ZERO).reason(reason)),
            Leaving,
            "reason code",
            "MQTT-3.14.2-1",
            "Session taken over",
        ),
        (
            sessionless,
            Asked::Disconnect(Disconnect::new(Duration::ZERO).properties(bench::list([expiry]))),
            Leaving,
            "SessionExpiryInterval",
            "5.0 section 3.14.2.2.2",
            "7",
        ),
        (
            rich,
            Asked::Reauthenticate(Secret::default()),
            Auth,
            "authentication method",
            "5.0 section 3.15.2.2.2",
            "",
        ),
    ]
}

#[test]
fn a_callers_mistake_is_named_and_changes_nothing() {
    for (bench, asked, packet, field, rule, value) in rows() {
        let mut bench = bench();
        let refused = ask(&mut bench, asked).unwrap_or_else(|| panic!("{packet} {field} was accepted"));
        assert_eq!((refused.packet(), refused.field()), (Some(packet), Some(field)), "{refused}");
        assert!(refused.rule().is_some_and(|it| it.contains(rule)), "{refused}: {rule}");
        let text = refused.to_string();
        for part in [&packet.to_string(), field, rule, value] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(bench.sent().is_empty() && bench.outcomes().is_empty(), "{text}");
        assert!(bench.machine.is_connected(), "{text}");
        bench.machine.publish(bench.now, message(QoS::AtMostOnce)).unwrap();
        assert_eq!(bench.sent().len(), 1, "{text}");
    }
}

#[test]
fn a_refused_moment_names_no_packet() {
    let mut bench = rich();
    let moment = bench.machine.connect(bench.now).unwrap_err();
    assert_eq!((moment.packet(), moment.field(), moment.rule()), (None, None, None), "{moment}");
    assert!(matches!(moment, Refused::NotNow(_)), "{moment}");
}

#[test]
fn a_configuration_that_cannot_be_sent_is_refused_before_anything_is_opened() {
    let long = "u".repeat(65_536);
    let rows: [(Config, &str, &str, &str); 4] = [
        (
            config(ProtocolVersion::V3_1).client_id("c".repeat(24)),
            "client identifier",
            "3.1 section 3.1",
            "24",
        ),
        (config(V5).client_id("a\0b"), "client identifier", "MQTT-1.5.4-2", "byte 1"),
        (config(V5).username_password(long.as_str(), "p"), "user name", "5.0 section 1.5", "65536"),
        (config(V5).username_password("u\0", "p"), "user name", "MQTT-1.5.4-2", "byte 1"),
    ];
    for (config, field, rule, value) in rows {
        let mut bench = Bench::new(config);
        let refused = bench.machine.connect(bench.now).unwrap_err();
        assert_eq!(
            (refused.packet(), refused.field()),
            (Some(PacketType::Connect), Some(field)),
            "{refused}"
        );
        assert_eq!(refused.rule(), Some(rule));
        let text = refused.to_string();
        assert!(text.contains(value) && text.contains(field) && text.contains(rule), "{text}");
        assert_eq!(bench.machine.poll_action(), None);
    }
}

#[test]
fn a_property_that_is_refused_is_named_with_its_value_and_rule() {
    let long = "x".repeat(65_536);
    for (property, value, rule) in [
        (Property::ReceiveMaximum(0), "0", "5.0 section 2.2.2.2"),
        (Property::ContentType(&long), "65536", "5.0 section 1.5"),
        (Property::ReasonString("ab\0"), "byte 2", "MQTT-1.5.4-2"),
        (Property::ResponseTopic("a/#"), "byte 2", "MQTT-3.3.2-2"),
    ] {
        let error: PropertyError = mqtt_machine::packet::PropertiesBuf::new().with(property).unwrap_err();
        let text = error.to_string();
        assert_eq!((error.property(), error.rule()), (property.id(), rule), "{text}");
        for part in [error.property().name(), value, rule] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
    }
}

/// Bytes of a server, and the packet, field, rule, value and code that the end of the connection must name.
type Broken = (&'static [u8], PacketType, &'static str, &'static str, Option<u32>, ReasonCode);

const BROKEN: &[Broken] = {
    use PacketType::{ConnAck, PubAck, PubRec, Publish, SubAck};
    use ReasonCode::{MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid};
    &[
        (&[0x36, 5, 0, 1, b'a', 0, 1], Publish, "QoS", "MQTT-3.3.1-4", None, MalformedPacket),
        (&[0x41, 2, 0, 1], PubAck, "flags", "MQTT-2.1.3-1", Some(1), MalformedPacket),
        (&[0x40, 2, 0, 0], PubAck, "packet identifier", "5.0 section 2.2.1", None, ProtocolError),
        (&[0x40, 3, 0, 1, 0x42], PubAck, "reason code", "5.0 section 2.4", Some(0x42), MalformedPacket),
        (
            &[0x40, 0x82, 0x00, 0, 1],
            PubAck,
            "variable byte integer",
            "MQTT-1.5.5-1",
            Some(2),
            MalformedPacket,
        ),
        (&[0x50, 1, 0], PubRec, "remaining length", "5.0 section 2.1.4", Some(1), MalformedPacket),
        (&[0x90, 5, 0, 1, 0, 0, 3], SubAck, "reason code", "5.0 section 2.4", Some(3), MalformedPacket),
        (&[0x30, 5, 0, 2, b'a', b'#', 0], Publish, "topic name", "MQTT-3.3.2-2", Some(0x23), MalformedPacket),
        (
            &[0x30, 5, 0, 2, b'a', 0xFF, 0],
            Publish,
            "UTF-8 string",
            "MQTT-1.5.4-1",
            Some(0xFF),
            MalformedPacket,
        ),
        (
            &[0x30, 6, 0, 1, b'a', 2, 0x7F, 0],
            Publish,
            "properties",
            "5.0 section 2.2.2.2",
            Some(0x7F),
            MalformedPacket,
        ),
        (
            &[0x30, 6, 0, 1, b'a', 2, 0x01, 7],
            Publish,
            "PayloadFormatIndicator",
            "5.0 section 2.2.2.2",
            Some(7),
            ProtocolError,
        ),
        (
            &[0x30, 7, 0, 1, b'a', 3, 0x13, 0, 1],
            Publish,
            "ServerKeepAlive",
            "5.0 section 2.2.2.2",
            None,
            MalformedPacket,
        ),
        (
            &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0],
            Publish,
            "TopicAlias",
            "MQTT-3.3.2-8",
            None,
            TopicAliasInvalid,
        ),
        (
            &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 9],
            Publish,
            "TopicAlias",
            "MQTT-3.1.2-26",
            Some(9),
            TopicAliasInvalid,
        ),
        (&[0x20, 3, 0, 0, 0], ConnAck, "packet type", "MQTT-3.2.0-2", Some(2), ProtocolError),
        (&[0x30, 0x80, 0x08], Publish, "remaining length", "MQTT-3.1.2-24", Some(1_027), PacketTooLarge),
    ]
};

// 5.0: MQTT-4.13.1-1
#[test]
fn a_peers_mistake_is_named_ends_the_connection_with_its_code_and_keeps_the_session() {
    for (bytes, packet, field, rule, value, code) in BROKEN {
        let mut bench = connected(config(V5).maximum_packet_size(1_000), []);
        bench.machine.publish(bench.now, message(QoS::AtLeastOnce)).unwrap();
        bench.sent();
        bench.receive_bytes(&mut BytesMut::from(*bytes));
        let told = bench.sent_bytes();
        assert_eq!(told.as_ref(), [0xE0, 1, code.to_u8()], "{bytes:x?}");
        let end = bench.end();
        let text = end.to_string();
        let named = match end {
            EndReason::Malformed(error) => (error.packet(), error.field(), error.rule(), error.value()),
            EndReason::Protocol(error) => (Some(error.packet), error.field, error.rule, error.value),
            other => panic!("{other}"),
        };
        assert_eq!(named, (Some(*packet), *field, *rule, *value), "{text}");
        let value = value.map_or(String::new(), |value| value.to_string());
        for part in [&packet.to_string(), *rule, &value] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert_eq!(bench.machine.session().publications.len(), 1, "{text}");
    }
}

#[test]
fn an_error_of_the_decoder_names_the_property_that_is_to_blame() {
    let error = wire::decode(&[0x30, 6, 0, 1, b'a', 2, 0x01, 7], V5, Sender::Server).unwrap_err();
    assert_eq!(error.property(), Some(PropertyId::PayloadFormatIndicator));
    let text = "PUBLISH: a property has a value that it does not allow: PayloadFormatIndicator is 7 (0x07) [5.0 section 2.2.2.2]";
    assert_eq!(error.to_string(), text);
    let error = EncodeError::PacketIdMissing { qos: QoS::AtLeastOnce };
    assert_eq!(
        (error.packet(), error.field(), error.rule()),
        (PacketType::Publish, "packet identifier", "MQTT-2.2.1-3")
    );
}
