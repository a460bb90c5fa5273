//! The numbered statements about the end of a connection. Each test names those that it holds.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{config, connected, incoming, list, message};
use bytes::BytesMut;
use mqtt_machine::packet::{Packet, Property, PropertyId, Sender};
use mqtt_machine::{
    Disconnect, EndReason, Event, ProtocolVersion, QoS, ReasonCode, Refused, StoreError, wire,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

// 5.0: MQTT-3.1.4-3, MQTT-4.13.2-1
// 3.1.1: MQTT-3.1.4-2
#[test]
fn a_take_over_is_told_with_its_reason_where_there_is_one() {
    let mut bench = connected(config(V5), []);
    bench.receive_bytes(&mut BytesMut::from(&[0xE0, 1, 0x8E][..]));
    assert!(bench.is_closed());
    assert!(bench.sent().is_empty());
    let reason = bench.end();
    assert!(matches!(reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. }));
    let mut bench = connected(config(V3_1_1), []);
    bench.cut();
    assert!(matches!(bench.end(), EndReason::Closed(_)));
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
        assert!(bench.is_closed());
        assert!(bench.sent().is_empty());
        assert_eq!(bench.machine.poll_timeout(), None);
        assert_eq!(bench.end(), EndReason::Requested);
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

// 5.0: MQTT-3.14.2-1
#[test]
fn a_bad_authentication_method_ends_a_connection_by_the_server_and_never_by_the_client() {
    // Section 2.4 lists 0x8C for DISCONNECT, section 3.14.2.1 does not.
    let mut bench = connected(config(V5), []);
    bench.receive_bytes(&mut BytesMut::from(&[0xE0, 1, 0x8C][..]));
    let reason = ReasonCode::BadAuthenticationMethod;
    assert!(matches!(bench.end(), EndReason::Disconnect { reason: said, .. } if said == reason));
    let mut bench = connected(config(V5), []);
    let refused = bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO).reason(reason));
    assert!(matches!(refused, Err(Refused::Misuse(_))), "{refused:?}");
    assert!(wire::decode(&[0xE0, 1, 0x8C], V5, Sender::Client).is_err());
}

// 5.0: MQTT-3.14.2-2, MQTT-4.13.1-1
// 3.1.1: MQTT-3.14.1-1, MQTT-4.8.0-1
#[test]
fn a_violation_closes_the_connection_that_it_came_on() {
    for (version, bytes, answer) in [
        (V5, &[0x40, 2, 0, 0][..], "Disconnect 0x82"),
        (V5, &[0x41, 2, 0, 1], "Disconnect 0x81"),
        (V5, &[0xC0, 0], "Disconnect 0x82"),
        (V5, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0], "Disconnect 0x82"),
        (V3_1_1, &[0x40, 2, 0, 0], ""),
        (V3_1_1, &[0x41, 2, 0, 1], ""),
        (V3_1_1, &[0xE0, 0], ""),
        (V3_1_1, &[0xE1, 0], ""),
    ] {
        let mut bench = connected(config(version), []);
        bench.receive_bytes(&mut BytesMut::from(bytes));
        assert_eq!(bench.told().concat(), answer, "{bytes:x?}");
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
        assert!(bench.is_closed());
        assert!(matches!(bench.end(), EndReason::Store(_)));
    }
}
