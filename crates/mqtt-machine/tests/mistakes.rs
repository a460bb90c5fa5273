//! A caller's mistake is an error of that call: nothing is queued, nothing leaves, nothing is told, and the connection stays.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, config, connected, list, message};
use mqtt_machine::packet::{Properties, PropertiesBuf, Property};
use mqtt_machine::{
    Config, Disconnect, Limits, Message, OpId, ProtocolVersion, QoS, ReasonCode, Refused, Subscribe,
    Subscription, TopicFilter, Unsubscribe,
};

use ProtocolVersion::{V3_1, V3_1_1, V5};

/// What a caller does wrong: its name, and the call.
type Mistake = (&'static str, Box<dyn Fn(&mut Bench) -> Result<OpId, Refused>>);

fn publish(what: &'static str, message: Message) -> Mistake {
    (what, Box::new(move |bench| bench.machine.publish(bench.now, message.clone())))
}

fn with(properties: PropertiesBuf) -> Message {
    Message { properties, ..message(QoS::AtMostOnce) }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn to(text: &str) -> Subscribe {
    Subscribe::to(filter(text), QoS::AtMostOnce)
}

fn subscribe(what: &'static str, request: Subscribe) -> Mistake {
    (what, Box::new(move |bench| bench.machine.subscribe(bench.now, request.clone())))
}

fn unsubscribe(what: &'static str, request: Unsubscribe) -> Mistake {
    (what, Box::new(move |bench| bench.machine.unsubscribe(bench.now, request.clone())))
}

fn disconnect(what: &'static str, request: Disconnect) -> Mistake {
    (what, Box::new(move |bench| bench.machine.disconnect(bench.now, request.clone())))
}

/// A call without a command, for the same list.
fn other(what: &'static str, call: impl Fn(&mut Bench) -> Result<(), Refused> + 'static) -> Mistake {
    (what, Box::new(move |bench| call(bench).map(|()| OpId::new(u64::MAX))))
}

/// Makes every mistake, each of which must be refused and leave no trace; then what is right still is.
fn make(mut bench: Bench, mistakes: Vec<Mistake>) {
    bench.sent();
    bench.events();
    for (what, call) in mistakes {
        let look = |bench: &mut Bench| {
            let machine = &bench.machine;
            let (session, memory) = (machine.session(), machine.memory_used());
            (session, memory, machine.poll_timeout(), machine.read_capacity())
        };
        let before = look(&mut bench);
        let result = call(&mut bench);
        assert!(result.is_err(), "{what}: it is accepted");
        assert_eq!(look(&mut bench), before, "{what}");
        assert!(bench.sent_bytes().is_empty(), "{what}: something leaves");
        assert!(bench.events().is_empty(), "{what}: something is told");
        assert!(bench.machine.poll_action().is_none(), "{what}: something is done");
        assert!(bench.machine.is_connected(), "{what}: the connection ends");
    }
    let op = bench.machine.publish(bench.now, message(QoS::AtLeastOnce)).unwrap();
    assert_eq!(op, OpId::new(1), "what was refused has no name");
    assert_eq!(bench.sent(), ["Publish a/b qos1 id1 x"]);
}

// 5.0: MQTT-3.2.2-11, MQTT-3.2.2-14, MQTT-3.2.2-15, MQTT-3.2.2-17, MQTT-3.3.4-6, MQTT-3.8.3-2, MQTT-3.8.3-4
// 5.0: MQTT-3.10.3-2, MQTT-3.14.2-1, MQTT-4.12.1-1
#[test]
fn what_this_server_or_5_0_does_not_take_is_refused_and_leaves_no_trace() {
    let bench = connected(
        config(V5).session_expiry(Duration::ZERO),
        [
            Property::MaximumQoS(1),
            Property::RetainAvailable(false),
            Property::WildcardSubscriptionAvailable(false),
            Property::SharedSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(false),
            Property::MaximumPacketSize(60),
            Property::TopicAliasMaximum(2),
        ],
    );
    let long = "x".repeat(80);
    let user = list([Property::UserProperty("name", &long)]);
    let shared = Subscription::new(filter("$share/g/a"), QoS::AtMostOnce);
    let leaving = || Disconnect::new(Duration::ZERO);
    make(
        bench,
        vec![
            publish("a QoS above the server's maximum", message(QoS::ExactlyOnce)),
            publish("a retained message", message(QoS::AtMostOnce).retain(true)),
            publish("a payload that is too large", Message::to("a", long.clone()).unwrap()),
            publish("properties that are too large", with(user.clone())),
            publish("an alias above the server's maximum", with(list([Property::TopicAlias(3)]))),
            publish("a Subscription Identifier", with(list([Property::SubscriptionIdentifier(1)]))),
            publish("a property of CONNECT", with(list([Property::ReceiveMaximum(1)]))),
            publish("a property of a will", with(list([Property::WillDelayInterval(1)]))),
            publish("a property of an acknowledgement", with(list([Property::ReasonString("x")]))),
            subscribe("a wildcard", to("a/+")),
            subscribe("a shared subscription", to("$share/g/a")),
            subscribe("a wildcard behind what is right", to("a").and(filter("b/#"), QoS::AtMostOnce)),
            subscribe("no filter", Subscribe::new(Vec::new())),
            subscribe("No Local on a shared one", Subscribe::new(vec![shared]).no_local()),
            subscribe("a filter that is too large", to(&long)),
            subscribe(
                "an identifier that is insisted on",
                to("a").properties(list([Property::SubscriptionIdentifier(1)])),
            ),
            subscribe("an identifier of 0", to("a").identifier(0)),
            subscribe("an identifier of 2^28", to("a").identifier(1 << 28)),
            subscribe("a property of PUBLISH", to("a").properties(list([Property::ContentType("t")]))),
            unsubscribe("no filter", Unsubscribe::new(Vec::new())),
            unsubscribe("a filter that is too large", Unsubscribe::new(vec![filter(&long)])),
            unsubscribe(
                "a property of SUBSCRIBE",
                Unsubscribe::new(vec![filter("a")]).properties(list([Property::SubscriptionIdentifier(1)])),
            ),
            disconnect("a reason of the server's", leaving().reason(ReasonCode::ServerBusy)),
            disconnect("a reason of another packet", leaving().reason(ReasonCode::GrantedQoS1)),
            disconnect(
                "an expiry after none",
                leaving().properties(list([Property::SessionExpiryInterval(1)])),
            ),
            disconnect("a property of PUBLISH", leaving().properties(list([Property::TopicAlias(1)]))),
            other("connecting twice", |bench| bench.machine.connect(bench.now)),
            other("authenticating without a method", |bench| bench.machine.reauthenticate(bench.now, None)),
        ],
    );
}

// 3.1.1: MQTT-3.8.3-3, MQTT-3.10.3-2
#[test]
fn what_3_x_cannot_say_or_do_is_refused_and_leaves_no_trace() {
    for version in [V3_1, V3_1_1] {
        let bench = connected(config(version), []);
        make(
            bench,
            vec![
                subscribe("no filter", Subscribe::new(Vec::new())),
                unsubscribe("no filter", Unsubscribe::new(Vec::new())),
                disconnect("a reason", Disconnect::new(Duration::ZERO).reason(ReasonCode::UnspecifiedError)),
                other("connecting twice", |bench| bench.machine.connect(bench.now)),
                other("authenticating", |bench| bench.machine.reauthenticate(bench.now, None)),
            ],
        );
    }
}

#[test]
fn what_no_cap_has_room_for_is_refused_and_leaves_no_trace() {
    let limits = Limits {
        outgoing_bytes: 300,
        outgoing_messages: 5,
        requests: 0,
        subscriptions: 1,
        ..Limits::DEFAULT
    };
    for version in ProtocolVersion::ALL {
        make(
            Bench::connected_with(config(version).limits(limits), false, Properties::EMPTY),
            vec![
                publish("more than there can be", Message::to("a", "x".repeat(301)).unwrap()),
                subscribe("more requests than there may be", to("a")),
                subscribe("more subscriptions than are kept", to("a").and(filter("b"), QoS::AtMostOnce)),
                unsubscribe("more requests than there may be", Unsubscribe::new(vec![filter("a")])),
            ],
        );
    }
}

#[test]
fn a_configuration_that_no_connect_can_carry_is_an_error_of_connect_and_nothing_begins() {
    let mut password = config(V3_1_1);
    password.credentials.password = Some(mqtt_machine::Secret::new(&b"secret"[..]));
    let mut properties = config(V5);
    properties.user_properties = list([Property::TopicAlias(1)]);
    let will = |property| {
        let mut will = Message::to("gone", "x").unwrap();
        will.properties = list([property]);
        config(V5).will(will)
    };
    let wrong: [(&str, Config); 6] = [
        ("a password without a user name", password),
        ("a client identifier with U+0000", config(V5).client_id("a\0b")),
        ("a client identifier that is too long", config(V5).client_id("x".repeat(65_536))),
        ("24 characters in 3.1", config(V3_1).client_id("x".repeat(24))),
        ("a property of PUBLISH", properties),
        ("a will with a Subscription Identifier", will(Property::SubscriptionIdentifier(1))),
    ];
    for (what, config) in wrong {
        let mut bench = Bench::new(config);
        let before = bench.machine.memory_used();
        assert!(bench.machine.connect(bench.now).is_err(), "{what}");
        assert!(bench.machine.is_idle(), "{what}");
        assert_eq!(bench.machine.memory_used(), before, "{what}");
        assert!(bench.machine.poll_action().is_none() && bench.machine.poll_event().is_none(), "{what}");
        assert_eq!(bench.machine.poll_timeout(), None, "{what}");
    }
}
