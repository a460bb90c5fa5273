//! What an acknowledgement says reaches whoever waits for it: reason codes, reason strings and user properties of every packet
//! that has them; and what the caller says through a receipt reaches the server.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::{Bench, authenticating, config, connected, incoming, list, message};
use bytes::BytesMut;
use mqtt_machine::packet::{
    AckKind, Auth, ConnAck, Disconnect, Packet, PropertiesBuf, Property, ReasonCodes, UnsubAck,
};
use mqtt_machine::{
    Acknowledgement, Action, CleanStart, Codes, EndReason, Event, Outcome, PacketId, ProtocolVersion, QoS,
    ReasonCode, Subscribe, TopicFilter, Unsubscribe,
};

use ProtocolVersion::{V3_1, V3_1_1, V5};

/// What PUBACK and PUBREC can say (5.0, sections 3.4.2.1 and 3.5.2.1).
const ACCEPTING: [ReasonCode; 2] = [ReasonCode::Success, ReasonCode::NoMatchingSubscribers];
const REFUSING: [ReasonCode; 7] = [
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

/// A reason in words, and two user properties of one name.
fn words() -> PropertiesBuf {
    list([
        Property::ReasonString("because"),
        Property::UserProperty("see", "here"),
        Property::UserProperty("see", "there"),
    ])
}

fn filters<const N: usize>(names: [&str; N]) -> Vec<TopicFilter> {
    names.map(|name| TopicFilter::new(name).unwrap()).to_vec()
}

/// Publishes with this QoS, and writes the PUBLISH.
fn published(version: ProtocolVersion, qos: QoS) -> Bench {
    let mut bench = connected(config(version), []);
    bench.machine.publish(bench.now, message(qos)).unwrap();
    assert_eq!(bench.sent().len(), 1);
    bench
}

#[test]
fn what_puback_says_comes_with_the_outcome() {
    for reason in ACCEPTING {
        let mut bench = published(V5, QoS::AtLeastOnce);
        bench.ack_with(AckKind::PubAck, 1, reason, &words());
        let said = Acknowledgement::new(reason, words());
        assert_eq!(bench.outcomes(), [(1, Outcome::Acknowledged(said))]);
    }
    for reason in REFUSING {
        let mut bench = published(V5, QoS::AtLeastOnce);
        bench.ack_with(AckKind::PubAck, 1, reason, &words());
        assert_eq!(bench.outcomes(), [(1, Outcome::Refused(Acknowledgement::new(reason, words())))]);
        assert!(bench.machine.is_connected());
    }
}

#[test]
fn what_a_refusing_pubrec_says_comes_with_the_outcome_and_no_pubrel_follows() {
    for reason in REFUSING {
        let mut bench = published(V5, QoS::ExactlyOnce);
        bench.ack_with(AckKind::PubRec, 1, reason, &words());
        assert_eq!(bench.outcomes(), [(1, Outcome::Refused(Acknowledgement::new(reason, words())))]);
        assert!(bench.sent().is_empty());
        assert!(bench.machine.is_connected());
    }
}

#[test]
fn what_pubcomp_says_comes_with_the_outcome() {
    let mut bench = published(V5, QoS::ExactlyOnce);
    bench.ack(AckKind::PubRec, 1);
    assert_eq!(bench.sent(), ["PubRel id1"]);
    bench.ack_with(AckKind::PubComp, 1, ReasonCode::Success, &words());
    let said = Acknowledgement::new(ReasonCode::Success, words());
    assert_eq!(bench.outcomes(), [(1, Outcome::Acknowledged(said))]);
}

#[test]
fn what_a_pubrec_said_that_took_the_message_comes_with_the_outcome_that_pubcomp_ends() {
    for reason in ACCEPTING {
        for said in [words(), PropertiesBuf::new()] {
            for cut in [false, true] {
                let mut bench = Bench::connected(config(V5).clean_start(CleanStart::Never));
                bench.machine.publish(bench.now, message(QoS::ExactlyOnce)).unwrap();
                bench.sent();
                bench.ack_with(AckKind::PubRec, 1, reason, &said);
                assert!(bench.outcomes().is_empty(), "it has not ended");
                if cut {
                    bench.reconnect(true);
                }
                assert_eq!(bench.sent(), ["PubRel id1"]);
                // A server that says it again says nothing new.
                bench.ack_with(AckKind::PubRec, 1, ReasonCode::Success, &PropertiesBuf::new());
                let end = list([Property::ReasonString("done")]);
                bench.ack_with(AckKind::PubComp, 1, ReasonCode::Success, &end);
                let outcomes = bench.outcomes();
                let [(1, Outcome::Acknowledged(told))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
                assert_eq!((told.reason, &told.properties), (ReasonCode::Success, &end));
                let plain = reason == ReasonCode::Success && said.is_empty();
                let received = (!plain).then(|| Acknowledgement::new(reason, said.clone()));
                assert_eq!(told.received.as_deref(), received.as_ref(), "{reason} {cut}");
            }
        }
    }
}

#[test]
fn what_a_pubrec_said_is_never_larger_than_the_message_that_it_took() {
    let room = message(QoS::ExactlyOnce).cost();
    let taken = |reason, said: &PropertiesBuf| {
        let mut bench = published(V5, QoS::ExactlyOnce);
        bench.ack_with(AckKind::PubRec, 1, reason, said);
        assert_eq!(bench.sent(), ["PubRel id1"]);
        bench
    };
    let plainly = taken(ReasonCode::Success, &PropertiesBuf::new()).machine.memory_used();
    // A property of this kind takes three bytes beside its text.
    for (length, is_kept) in [(room - 3, true), (room - 2, false), (60_000, false)] {
        let text = "x".repeat(length);
        let said = list([Property::ReasonString(&text)]);
        let mut bench = taken(ReasonCode::NoMatchingSubscribers, &said);
        let kept = if is_kept { room } else { 0 };
        assert_eq!(bench.machine.memory_used(), plainly + kept, "{length}");
        bench.ack(AckKind::PubComp, 1);
        let outcomes = bench.outcomes();
        let [(1, Outcome::Acknowledged(told))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let received = told.received.as_deref().unwrap();
        assert_eq!(received.reason, ReasonCode::NoMatchingSubscribers);
        assert_eq!(received.properties, if is_kept { said } else { PropertiesBuf::new() });
        // Too early for anything but that what was needed is given back.
        bench.machine.handle_timeout(bench.now);
        assert!(bench.machine.memory_used() <= plainly, "nothing of it stays");
    }
}

#[test]
fn before_5_0_an_acknowledgement_says_success_and_nothing_else() {
    for version in [V3_1, V3_1_1] {
        for (qos, acks) in [
            (QoS::AtLeastOnce, &[AckKind::PubAck][..]),
            (QoS::ExactlyOnce, &[AckKind::PubRec, AckKind::PubComp]),
        ] {
            let mut bench = published(version, qos);
            for kind in acks {
                bench.ack(*kind, 1);
            }
            let said = Acknowledgement::new(ReasonCode::Success, PropertiesBuf::new());
            assert_eq!(bench.outcomes(), [(1, Outcome::Acknowledged(said))], "{version} {qos}");
        }
    }
}

#[test]
fn what_suback_and_unsuback_say_comes_with_the_outcome_filter_by_filter() {
    let mut bench = connected(config(V5), []);
    let granted = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let numbered = (0..granted.len()).map(|place| TopicFilter::new(&format!("f/{place}")).unwrap());
    let request = Subscribe::to_all(numbered, QoS::ExactlyOnce);
    bench.machine.subscribe(bench.now, request).unwrap();
    bench.sent();
    bench.suback_with(1, &granted, words().as_properties());
    let codes = |bytes: &[u8]| bytes.iter().map(|byte| ReasonCode::from_u8(*byte).unwrap()).collect();
    assert_eq!(bench.outcomes(), [(1, Outcome::Subscribed(Codes::new(codes(&granted), words())))]);

    let request = Unsubscribe::new(filters(["f/0", "f/1", "f/2", "g/3", "g/4", "g/5", "g/6"]));
    bench.machine.unsubscribe(bench.now, request).unwrap();
    bench.sent();
    let said = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    bench.receive(&Packet::UnsubAck(UnsubAck {
        packet_id: PacketId::new(2).unwrap(),
        properties: words().as_properties(),
        codes: ReasonCodes::from_bytes(&said).unwrap(),
    }));
    assert_eq!(bench.outcomes(), [(2, Outcome::Unsubscribed(Codes::new(codes(&said), words())))]);
    assert!(bench.machine.is_connected());
}

#[test]
fn what_suback_says_of_subscriptions_that_are_made_again_comes_with_the_event() {
    let mut bench = connected(config(V5), []);
    bench
        .machine
        .subscribe(bench.now, Subscribe::to(TopicFilter::new("a").unwrap(), QoS::AtLeastOnce))
        .unwrap();
    bench.sent();
    bench.suback(1, &[1]);
    bench.reconnect(false);
    assert_eq!(bench.sent(), ["Subscribe id2 a"]);
    bench.events();
    bench.suback_with(2, &[0x87], words().as_properties());
    let codes = vec![(TopicFilter::new("a").unwrap(), ReasonCode::NotAuthorized)];
    assert_eq!(bench.events(), [Event::Resubscribed { codes, properties: words() }]);
}

#[test]
fn a_suback_of_3_1_1_tells_its_failures_filter_by_filter() {
    let mut bench = connected(config(V3_1_1), []);
    let request = Subscribe::to_all(filters(["a", "b", "c", "d"]), QoS::ExactlyOnce);
    bench.machine.subscribe(bench.now, request).unwrap();
    bench.sent();
    bench.suback(1, &[2, 0x80, 0, 1]);
    let outcomes = bench.outcomes();
    let [(1, Outcome::Subscribed(codes))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let said =
        [ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError, ReasonCode::Success, ReasonCode::GrantedQoS1];
    assert_eq!(codes.codes, said);
    assert!(codes.properties.is_empty());
}

#[test]
fn what_connack_says_comes_with_the_event_of_either_kind() {
    let mut bench = Bench::connecting(config(V5));
    let (session_present, reason) = (false, ReasonCode::Success);
    bench.receive(&Packet::ConnAck(ConnAck { session_present, reason, properties: words().as_properties() }));
    let Some(Event::Connected(connected)) = bench.machine.poll_event() else { panic!("not connected") };
    assert_eq!(connected.properties, words());

    for code in 0x80..=0x9F {
        let Some(reason) = ReasonCode::from_u8(code) else { continue };
        let mut bench = Bench::connecting(config(V5));
        let (mut connack, words) = (BytesMut::new(), words());
        let properties = words.as_properties();
        let packet = Packet::ConnAck(ConnAck { session_present, reason, properties });
        if mqtt_machine::wire::encode(&packet, V5, &mut connack).is_err() {
            continue;
        }
        bench.receive_bytes(&mut connack);
        let end = bench.end();
        assert_eq!(end, EndReason::Refused { reason, properties: words.clone() });
        let printed = end.to_string();
        assert!(printed.contains(reason.name()) && printed.contains("because"), "{printed}");
    }
}

#[test]
fn what_a_disconnect_of_the_server_says_comes_with_the_event() {
    let mut told = 0;
    for reason in ReasonCode::ALL.iter().copied() {
        let mut bench = connected(config(V5), []);
        let (mut bytes, words) = (BytesMut::new(), words());
        let packet = Packet::Disconnect(Disconnect { reason, properties: words.as_properties() });
        let from_client_only = reason == ReasonCode::DisconnectWithWill;
        if from_client_only || mqtt_machine::wire::encode(&packet, V5, &mut bytes).is_err() {
            continue;
        }
        told += 1;
        bench.receive_bytes(&mut bytes);
        assert!(bench.is_closed());
        let end = bench.end();
        assert_eq!(end, EndReason::Disconnect { reason, properties: words.clone() });
        let printed = end.to_string();
        assert!(printed.contains(reason.name()) && printed.contains("because"), "{printed}");
    }
    assert_eq!(told, 29);
}

#[test]
fn what_an_auth_of_the_server_says_comes_with_an_event_and_its_data_with_the_question() {
    let auth = |bench: &mut Bench, reason, said: &PropertiesBuf| {
        let mut properties =
            list([Property::AuthenticationMethod("X"), Property::AuthenticationData(b"data")]);
        for property in said.as_properties() {
            properties.push(property).unwrap();
        }
        bench.receive(&Packet::Auth(Auth { reason, properties: properties.as_properties() }));
        let asked = std::iter::from_fn(|| bench.machine.poll_action()).last();
        let Some(Action::Authenticate { finished, data, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!((finished, data.expose()), (reason == ReasonCode::Success, &b"data"[..]));
        bench.events()
    };
    let mut bench = Bench::connecting(authenticating());
    let reason = ReasonCode::ContinueAuthentication;
    let told = Event::Auth { reason, properties: words() };
    assert_eq!(auth(&mut bench, reason, &words()), [told]);
    assert_eq!(auth(&mut bench, reason, &PropertiesBuf::new()), [], "it says nothing");
    bench.accept(false, list([Property::AuthenticationMethod("X")]).as_properties());
    bench.machine.reauthenticate(bench.now, None).unwrap();
    bench.sent();
    let reason = ReasonCode::Success;
    let told = Event::Auth { reason, properties: words() };
    assert_eq!(auth(&mut bench, reason, &words()), [told]);
    // A caller that takes no events keeps the latest only.
    for _ in 0..1_000 {
        let mut properties = list([Property::AuthenticationMethod("X")]);
        properties.push(Property::ReasonString("again")).unwrap();
        let reason = ReasonCode::ContinueAuthentication;
        bench.receive(&Packet::Auth(Auth { reason, properties: properties.as_properties() }));
    }
    assert_eq!(bench.events().len(), 64);
}

#[test]
fn a_message_is_refused_through_its_receipt_with_every_code_that_its_acknowledgement_has() {
    for (qos, name) in [(QoS::AtLeastOnce, "PubAck"), (QoS::ExactlyOnce, "PubRec")] {
        for reason in ACCEPTING.into_iter().chain(REFUSING) {
            let mut bench = connected(config(V5), []);
            bench.receive(&incoming(qos, 7));
            bench.settle_all(reason);
            let said = match reason {
                ReasonCode::Success => format!("{name} id7"),
                reason => format!("{name} id7 0x{:02X}", reason.to_u8()),
            };
            assert_eq!(bench.sent(), [said]);
        }
    }
}

#[test]
fn before_5_0_a_message_that_is_refused_is_acknowledged() {
    for version in [V3_1, V3_1_1] {
        for (qos, name) in [(QoS::AtLeastOnce, "PubAck"), (QoS::ExactlyOnce, "PubRec")] {
            for reason in REFUSING {
                let mut bench = connected(config(version), []);
                bench.receive(&incoming(qos, 7));
                bench.settle_all(reason);
                assert_eq!(bench.sent(), [format!("{name} id7")], "{version}");
            }
        }
    }
}

#[test]
fn a_reason_that_no_acknowledgement_has_is_told_as_the_nearest_one_and_the_connection_stays() {
    for (qos, name) in [(QoS::AtLeastOnce, "PubAck"), (QoS::ExactlyOnce, "PubRec")] {
        for reason in ReasonCode::ALL.iter().copied() {
            if ACCEPTING.contains(&reason) || REFUSING.contains(&reason) {
                continue;
            }
            let mut bench = connected(config(V5), []);
            bench.receive(&incoming(qos, 7));
            bench.settle_all(reason);
            let said = if reason.is_failure() { format!("{name} id7 0x80") } else { format!("{name} id7") };
            assert_eq!(bench.sent(), [said], "{reason}");
            assert!(bench.machine.is_connected() && !bench.is_closed(), "{reason}");
        }
    }
}
