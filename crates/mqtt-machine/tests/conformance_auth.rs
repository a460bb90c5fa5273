//! The numbered statements about enhanced authentication. Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::{Bench, authenticating, config, connected, list, message};
use mqtt_machine::packet::{Auth, ConnAck, Packet, PropertiesBuf, Property, Sender};
use mqtt_machine::{
    Action, Answer, EndReason, ProtocolVersion, QoS, ReasonCode, Secret, Subscribe, TopicFilter, wire,
};

use ProtocolVersion::V5;

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
        let mut bench = Bench::connecting(config);
        receive_auth(&mut bench, method, reason);
        assert!(bench.is_closed() && bench.sent().is_empty());
        match bench.end() {
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
        let mut bench = Bench::connecting(config);
        let mut properties = PropertiesBuf::new();
        if let Some(method) = method {
            properties.push(Property::AuthenticationMethod(method)).unwrap();
        }
        let (reason, properties) = (ReasonCode::Success, properties.as_properties());
        bench.receive(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        assert!(matches!(bench.end(), EndReason::Protocol(_)), "{method:?}");
    }
    let mut bench = connected(config(V5), []);
    receive_auth(&mut bench, "X", goes_on);
    assert_eq!(bench.told(), ["Disconnect 0x82"]);
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
