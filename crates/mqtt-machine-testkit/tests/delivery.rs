//! Messages through machine, link and broker in virtual time: what is delivered, how often, in which order, and what the
//! publisher is told.

mod common;

use common::*;
use mqtt_machine::packet::{PacketType, PropertiesBuf, Property};
use mqtt_machine::{
    CleanStart, Disconnect, Drained, DropReason, Event, LostSession, Offline, Outcome, ProtocolVersion, QoS,
    ReasonCode, Refused, Subscribe,
};
use mqtt_machine_testkit::broker::{BrokerConfig, Plan};
use mqtt_machine_testkit::sim::Settle;

#[test]
fn a_message_of_every_qos_arrives_once_in_every_version() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let subscriber = sim.add(config("subscriber").version(version));
        let publisher = sim.add(config("publisher").version(version));
        subscribed(&mut sim, subscriber, "t/#", QoS::ExactlyOnce);
        sim.connect(publisher);
        for qos in QOS {
            sim.publish(publisher, message("t/1", &format!("qos {qos}"), qos)).unwrap();
        }
        all_ended(&mut sim, publisher);
        sim.run_for(secs(1));
        assert_eq!(sim.client(subscriber).payloads("t/1"), [b"qos 0", b"qos 1", b"qos 2"], "{version}");
        sim.assert_sound();
    }
}

// 5.0: MQTT-3.3.1-1, MQTT-4.6.0-1
#[test]
fn a_resend_carries_dup_and_keeps_the_original_order() {
    let mut sim = with(BrokerConfig::new().delay(secs(1)));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    for number in 0..50 {
        sim.publish(client, message("t", &number.to_string(), QOS[1 + number % 2])).unwrap();
    }
    sim.run_for(millis(100));
    sim.broker.log_mut().clear();
    sim.cut(client);
    all_ended(&mut sim, client);
    let sent: Vec<_> = sim.broker.log().sent_by("c", PacketType::Publish).collect();
    assert_eq!(sent.len(), 50);
    for (number, seen) in sent.iter().enumerate() {
        assert!(seen.dup);
        assert_eq!(seen.payload, number.to_string());
    }
    for number in (1..50).step_by(2) {
        assert_eq!(sim.broker.log().count("t", number.to_string().as_bytes()), 0, "QoS 2 again: {number}");
    }
    sim.assert_sound();
}

// 5.0: MQTT-4.3.3-6, MQTT-4.4.0-1
// 3.1.1: MQTT-4.3.3-1, MQTT-4.4.0-1
#[test]
fn a_link_cut_at_any_byte_from_or_to_the_publisher_loses_and_doubles_nothing() {
    for version in ProtocolVersion::ALL {
        for at in 1..160 {
            for plan in [Plan::cut_after_received(at), Plan::cut_after_sent(at)] {
                let mut sim = with(BrokerConfig::new());
                let subscriber = sim.add(config("subscriber").version(version));
                let publisher = sim.add(config("publisher").version(version));
                subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
                sim.broker.plan(plan);
                sim.connect(publisher);
                let ops = ["a", "b", "c"]
                    .map(|text| sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap());
                for op in ops {
                    assert!(is_acknowledged(&ended(&mut sim, publisher, op)), "{version} {plan:?}");
                }
                sim.run_for(secs(5));
                assert_eq!(sim.client(subscriber).payloads("t"), [b"a", b"b", b"c"], "{version} {plan:?}");
                sim.assert_sound();
            }
        }
    }
}

// 5.0: MQTT-4.3.3-10
// 3.1.1: MQTT-4.3.3-2
#[test]
fn a_link_cut_at_any_byte_from_or_to_the_subscriber_loses_and_doubles_nothing() {
    for version in ProtocolVersion::ALL {
        for at in 1..120 {
            for received in [true, false] {
                let mut sim = with(BrokerConfig::new());
                let subscriber = sim.add(config("subscriber").version(version));
                let publisher = sim.add(config("publisher").version(version));
                subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
                sim.connect_now(publisher);
                let (up, down) = if received { (Some(at), None) } else { (None, Some(at)) };
                assert!(sim.broker.cut_client_after("subscriber", up, down));
                for text in ["a", "b", "c", "d"] {
                    sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap();
                }
                let done = sim.run_until(secs(100), |sim| {
                    sim.client(subscriber).messages.len() >= 4 && sim.broker.owed_to("subscriber") == 0
                });
                assert!(done, "{version}, {at} bytes");
                assert_eq!(
                    sim.client(subscriber).payloads("t"),
                    [b"a", b"b", b"c", b"d"],
                    "{version}, {at} bytes"
                );
                sim.assert_sound();
            }
        }
    }
}

// The server gives its packet identifiers from 1 again: what was received under them before must be forgotten, in 3.1 too, whose
// CONNACK does not say that the session is gone.
#[test]
fn a_session_that_ended_with_its_clean_connection_hides_no_later_message() {
    for version in ProtocolVersion::ALL {
        for at in 1..=24 {
            // What is cut must be cut by the first two messages: a clean session takes what waits in it along.
            for received in [true, false].into_iter().filter(|received| !received || at <= 16) {
                let mut sim = with(BrokerConfig::new());
                let subscriber =
                    sim.add(config("subscriber").version(version).clean_start(CleanStart::FirstOnly));
                let publisher = sim.add(config("publisher").version(version));
                subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
                sim.connect_now(publisher);
                let (up, down) = if received { (Some(at), None) } else { (None, Some(at)) };
                assert!(sim.broker.cut_client_after("subscriber", up, down));
                for text in ["a", "b"] {
                    sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap();
                }
                sim.run_for(secs(20));
                for text in ["c", "d", "e"] {
                    sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap();
                }
                sim.run_for(secs(20));
                let payloads = sim.client(subscriber).payloads("t");
                assert!(payloads.ends_with(&[b"c", b"d", b"e"]), "{version}, {at} bytes: {payloads:?}");
                sim.assert_sound();
            }
        }
    }
}

#[test]
fn the_quota_is_right_across_a_resume_and_refused_publications() {
    let mut sim = with(BrokerConfig::new().receive_maximum(2).deny(filter("no/#")));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    let mut refused = Vec::new();
    for number in 0..40 {
        refused.push(sim.publish(client, message("no/x", &number.to_string(), QOS[1 + number % 2])).unwrap());
        sim.publish(client, message("t", &number.to_string(), QOS[1 + number % 2])).unwrap();
        if number % 10 == 9 {
            sim.run_for(millis(13));
            sim.cut(client);
        }
    }
    all_ended(&mut sim, client);
    for op in refused {
        let outcome = &sim.client(client).outcomes[&op];
        assert!(
            matches!(outcome, Outcome::Refused(ack) if ack.reason == ReasonCode::NotAuthorized),
            "{outcome:?}"
        );
    }
    assert_eq!(sim.client(client).most_in_flight(), 2);
    sim.assert_sound();
}

// 5.0: MQTT-3.3.4-7, MQTT-4.9.0-2
#[test]
fn the_receive_maximum_of_the_server_is_honoured_and_used() {
    let mut sim = with(BrokerConfig::new().receive_maximum(3).delay(millis(50)));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    for number in 0..20 {
        sim.publish(client, message("t", &number.to_string(), QoS::ExactlyOnce)).unwrap();
    }
    all_ended(&mut sim, client);
    assert_eq!(sim.client(client).most_in_flight(), 3);
    sim.assert_sound();
}

#[test]
fn a_hundred_pipelined_qos_2_publications_are_in_flight_at_once() {
    let mut sim = with(BrokerConfig::new().delay(secs(1)));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    for number in 0..100 {
        sim.publish(client, message("t", &number.to_string(), QoS::ExactlyOnce)).unwrap();
    }
    all_ended(&mut sim, client);
    assert_eq!(sim.client(client).most_in_flight(), 100);
    sim.assert_sound();
}

#[test]
fn the_own_receive_maximum_bounds_what_the_server_sends_until_receipts_come_back() {
    let mut sim = with(BrokerConfig::new());
    sim.options_mut().settle = Settle::Never;
    let subscriber = sim.add(config("subscriber").receive_maximum(2));
    let publisher = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::AtLeastOnce);
    sim.connect(publisher);
    for number in 0..5 {
        sim.publish(publisher, message("t", &number.to_string(), QoS::AtLeastOnce)).unwrap();
    }
    all_ended(&mut sim, publisher);
    sim.run_for(secs(5));
    assert_eq!(sim.client(subscriber).messages.len(), 2);
    let now = sim.now;
    let owner = sim.client_mut(subscriber);
    let receipt = owner.receipts.remove(0);
    owner.machine.settle(now, receipt, ReasonCode::Success);
    sim.run_for(secs(5));
    assert_eq!(sim.client(subscriber).payloads("t"), [b"0", b"1", b"2"]);
    sim.assert_sound();
}

// 5.0: MQTT-2.2.1-3
#[test]
fn packet_identifiers_count_from_1_and_a_subscribe_takes_none_that_is_in_flight() {
    let mut sim = with(BrokerConfig::new().delay(secs(1)));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    for _ in 0..3 {
        sim.publish(client, message("t", "x", QoS::ExactlyOnce)).unwrap();
    }
    sim.run_for(millis(50));
    sim.subscribe(client, Subscribe::to(filter("t"), QoS::AtMostOnce)).unwrap();
    all_ended(&mut sim, client);
    let ids = |kind| -> Vec<u16> {
        sim.broker.log().sent_by("c", kind).map(|seen| seen.packet_id.unwrap().to_u16()).collect()
    };
    assert_eq!(ids(PacketType::Publish), [1, 2, 3]);
    assert_eq!(ids(PacketType::Subscribe), [4]);
    sim.assert_sound();
}

// 5.0: MQTT-4.3.2-4, MQTT-4.3.2-5
#[test]
fn a_duplicate_of_qos_1_is_delivered_with_dup_and_acknowledged_each_time() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    subscribed(&mut sim, client, "t", QoS::AtLeastOnce);
    sim.broker.duplicate_to("c", 1);
    let op = sim.publish(client, message("t", "x", QoS::AtLeastOnce)).unwrap();
    ended(&mut sim, client, op);
    sim.run_for(secs(1));
    let dups: Vec<bool> = sim.client(client).messages.iter().map(|message| message.dup).collect();
    assert_eq!(dups, [false, true]);
    assert_eq!(sim.broker.log().sent_by("c", PacketType::PubAck).count(), 2);
    sim.assert_sound();
}

#[test]
fn a_qos_2_message_whose_session_was_lost_is_sent_again_or_reported_by_policy() {
    for (policy, version) in [
        (LostSession::SendAgain, ProtocolVersion::V5),
        (LostSession::Report, ProtocolVersion::V5),
        (LostSession::SendAgain, ProtocolVersion::V3_1_1),
        (LostSession::Report, ProtocolVersion::V3_1_1),
    ] {
        let mut sim = with(BrokerConfig::new().delay(secs(1)));
        let client = sim.add(config("c").lost_session(policy).version(version));
        sim.connect_now(client);
        let twice = sim.publish(client, message("t", "2", QoS::ExactlyOnce)).unwrap();
        let once = sim.publish(client, message("t", "1", QoS::AtLeastOnce)).unwrap();
        sim.run_for(millis(50));
        sim.broker.forget_session("c");
        let outcome = ended(&mut sim, client, twice);
        match policy {
            LostSession::SendAgain => assert!(is_acknowledged(&outcome), "{outcome:?}"),
            LostSession::Report => assert_eq!(outcome, Outcome::Unknown),
        }
        assert!(is_acknowledged(&ended(&mut sim, client, once)), "QoS 1 is sent again in any case");
        assert_eq!(sim.broker.log().count("t", b"2"), if policy == LostSession::Report { 1 } else { 2 });
        assert!(!sim.client(client).connected[1].1.session_present);
        sim.assert_sound();
    }
}

#[test]
fn a_disconnect_drains_what_was_accepted_and_the_will_stays_unpublished() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").will(message("will", "gone", QoS::AtMostOnce)));
    sim.connect_now(client);
    for number in 0..30 {
        sim.publish(client, message("t", &number.to_string(), QOS[number % 3])).unwrap();
    }
    let op = sim.disconnect(client, Disconnect::new(secs(10))).unwrap();
    let Outcome::Disconnected(drained) = ended(&mut sim, client, op) else { panic!("no report") };
    assert!(drained.is_complete() && drained.delivered > 0, "{drained:?}");
    assert!(sim.client(client).accepted.is_empty());
    assert!(
        sim.client(client)
            .outcomes
            .values()
            .all(|outcome| !matches!(outcome, Outcome::Unknown | Outcome::NotSent))
    );
    sim.run_for(secs(100));
    assert_eq!(sim.broker.log().count("will", b"gone"), 0);
    assert_eq!(sim.broker.log().sent_by("c", PacketType::Disconnect).count(), 1);
    assert_eq!(sim.client(client).connected.len(), 1);
    sim.assert_sound();
}

#[test]
fn a_disconnect_whose_time_is_up_ends_every_command_and_counts_the_undelivered() {
    let mut sim = with(BrokerConfig::new().receive_maximum(2));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    sim.broker.delay_client("c", secs(100));
    let ops: Vec<_> =
        (0..5).map(|_| sim.publish(client, message("t", "x", QoS::AtLeastOnce)).unwrap()).collect();
    sim.run_for(millis(50));
    let op = sim.disconnect(client, Disconnect::new(secs(1))).unwrap();
    assert_eq!(
        ended(&mut sim, client, op),
        Outcome::Disconnected(Drained { delivered: 0, undelivered: 5, kept: 0 })
    );
    let outcomes: Vec<_> = ops.iter().map(|op| sim.client(client).outcomes[op].clone()).collect();
    assert_eq!(outcomes[..2], [Outcome::Unknown, Outcome::Unknown]);
    assert_eq!(outcomes[2..], [Outcome::NotSent, Outcome::NotSent, Outcome::NotSent]);
    sim.assert_sound();
}

#[test]
fn qos_0_ends_as_sent_or_waits_or_is_dropped_by_policy_without_a_connection() {
    let mut sim = with(BrokerConfig::new());
    let waits = sim.add(config("waits"));
    let drops = sim.add(config("drops").offline(Offline::Drop));
    let waiting = sim.publish(waits, message("t", "x", QoS::AtMostOnce)).unwrap();
    let dropped = sim.publish(drops, message("t", "x", QoS::AtMostOnce)).unwrap();
    assert_eq!(ended(&mut sim, drops, dropped), Outcome::Dropped(DropReason::Offline));
    assert!(!sim.client(waits).outcomes.contains_key(&waiting));
    sim.connect(waits);
    assert_eq!(ended(&mut sim, waits, waiting), Outcome::Sent);
    sim.assert_sound();
}

// 5.0: MQTT-3.2.2-15
#[test]
fn a_packet_above_the_servers_maximum_is_refused_to_the_caller_and_the_connection_stays() {
    let mut sim = with(BrokerConfig::new().maximum_packet_size(100));
    let client = sim.add(config("c"));
    sim.connect_now(client);
    let refused = sim.publish(client, message("t", &"x".repeat(200), QoS::AtLeastOnce)).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { limit: 100, .. }), "{refused:?}");
    let op = sim.publish(client, message("t", "small", QoS::AtLeastOnce)).unwrap();
    assert!(is_acknowledged(&ended(&mut sim, client, op)));
    assert_eq!(sim.client(client).connected.len(), 1);
    sim.assert_sound();
}

// 5.0: MQTT-3.3.4-4
#[test]
fn several_subscription_identifiers_in_one_publish_reach_the_caller() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.connect_now(client);
    for (topics, id) in [("a/#", 1), ("a/+", 300)] {
        let properties = PropertiesBuf::new().with(Property::SubscriptionIdentifier(id)).unwrap();
        sim.subscribe(client, Subscribe::to(filter(topics), QoS::AtLeastOnce).properties(properties))
            .unwrap();
    }
    all_ended(&mut sim, client);
    sim.publish(client, message("a/b", "x", QoS::AtLeastOnce)).unwrap();
    all_ended(&mut sim, client);
    sim.run_for(secs(1));
    let mut ids: Vec<u32> = sim.client(client).messages[0].subscription_identifiers().collect();
    ids.sort_unstable();
    assert_eq!((sim.client(client).messages.len(), ids), (1, vec![1, 300]));
    sim.assert_sound();
}

#[test]
fn a_refused_filter_is_reported_as_refused_and_not_made_again() {
    for (version, code) in [
        (ProtocolVersion::V3_1_1, ReasonCode::UnspecifiedError),
        (ProtocolVersion::V5, ReasonCode::NotAuthorized),
    ] {
        let mut sim = with(BrokerConfig::new().deny(filter("no")));
        let client = sim.add(config("c").version(version));
        sim.connect_now(client);
        let op = sim.subscribe(client, Subscribe::to(filter("no"), QoS::AtLeastOnce)).unwrap();
        let outcome = ended(&mut sim, client, op);
        assert!(matches!(&outcome, Outcome::Subscribed(codes) if codes.codes == [code]), "{outcome:?}");
        sim.broker.forget_session("c");
        sim.run_for(secs(30));
        assert_eq!(sim.client(client).connected.len(), 2);
        assert_eq!(sim.broker.log().sent_by("c", PacketType::Subscribe).count(), 1, "{version}");
    }
}

#[test]
fn subscriptions_come_back_when_the_server_lost_the_session() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let subscriber = sim.add(config("subscriber").version(version));
        let publisher = sim.add(config("publisher").version(version));
        subscribed(&mut sim, subscriber, "t/+", QoS::ExactlyOnce);
        sim.broker.forget_session("subscriber");
        sim.run_for(secs(30));
        sim.connect(publisher);
        sim.publish(publisher, message("t/1", "x", QoS::ExactlyOnce)).unwrap();
        all_ended(&mut sim, publisher);
        sim.run_for(secs(5));
        assert_eq!(sim.client(subscriber).payloads("t/1"), [b"x"], "{version}");
        let told = |event: &Event| matches!(event, Event::Resubscribed { codes, .. } if codes == &[(filter("t/+"), ReasonCode::GrantedQoS2)]);
        assert!(sim.client(subscriber).others.iter().any(told), "{:?}", sim.client(subscriber).others);
        sim.assert_sound();
    }
}

#[test]
fn a_session_that_is_present_is_not_subscribed_again() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut sim = with(BrokerConfig::new());
        let client = sim.add(config("c").version(version));
        subscribed(&mut sim, client, "t", QoS::AtLeastOnce);
        sim.cut(client);
        sim.run_for(secs(30));
        assert!(sim.client(client).connected[1].1.session_present);
        assert_eq!(sim.broker.log().sent_by("c", PacketType::Subscribe).count(), 1);
        sim.assert_sound();
    }
}

#[test]
fn a_retained_message_reaches_a_later_subscriber_with_the_flag() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.connect_now(client);
    sim.publish(client, message("state", "on", QoS::AtLeastOnce).retain(true)).unwrap();
    all_ended(&mut sim, client);
    sim.subscribe(client, Subscribe::to(filter("state"), QoS::AtLeastOnce)).unwrap();
    all_ended(&mut sim, client);
    sim.run_for(secs(1));
    assert_eq!(sim.client(client).payloads("state"), [b"on"]);
    assert!(sim.client(client).messages[0].retain);
    sim.assert_sound();
}
