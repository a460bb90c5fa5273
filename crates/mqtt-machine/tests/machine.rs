//! The machine against hand-written packets: what leaves, what is told, when.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::Bench;
use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, Publish, Topic,
};
use mqtt_machine::{
    Action, CleanStart, Config, Disconnect, Drained, EndReason, Event, Instant, Message, Outcome, PacketId,
    ProtocolVersion, QoS, ReasonCode, Refused, Server, Subscribe, TopicFilter, TransportEvent, wire,
};

fn config() -> Config {
    Config::new(Server::new("broker")).client_id("test")
}

fn message(qos: QoS, payload: &'static str) -> Message {
    Message::to("a/b", payload).unwrap().qos(qos)
}

fn incoming(qos: QoS, id: u16, payload: &'static [u8]) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Topic::new("in/x").unwrap(),
        packet_id: PacketId::new(id),
        properties: Properties::EMPTY,
        payload,
    })
}

#[test]
fn every_qos_ends_with_its_own_outcome() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut bench = Bench::connected(config().version(version));
        let now = bench.now;
        for (qos, payload) in [(QoS::AtMostOnce, "0"), (QoS::AtLeastOnce, "1"), (QoS::ExactlyOnce, "2")] {
            bench.machine.publish(now, message(qos, payload)).unwrap();
        }
        assert_eq!(bench.sent(), ["Publish a/b qos0 0", "Publish a/b qos1 id1 1", "Publish a/b qos2 id2 2"]);
        assert_eq!(bench.outcomes(), [(1, Outcome::Sent)]);
        bench.ack(AckKind::PubAck, 1);
        assert!(matches!(bench.outcomes().as_slice(), [(2, Outcome::Acknowledged(_))]));
        bench.ack(AckKind::PubRec, 2);
        assert_eq!(bench.sent(), ["PubRel id2"]);
        assert!(bench.outcomes().is_empty());
        bench.ack(AckKind::PubComp, 2);
        assert!(matches!(bench.outcomes().as_slice(), [(3, Outcome::Acknowledged(_))]));
    }
}

// 5.0: MQTT-3.3.1-1, MQTT-4.4.0-1, MQTT-4.6.0-1
#[test]
fn a_resumed_session_is_resent_in_its_original_order_with_dup() {
    let mut bench = Bench::connected(config().clean_start(CleanStart::Never));
    let now = bench.now;
    for (qos, payload) in
        [(QoS::ExactlyOnce, "a"), (QoS::AtLeastOnce, "b"), (QoS::ExactlyOnce, "c"), (QoS::AtMostOnce, "d")]
    {
        bench.machine.publish(now, message(qos, payload)).unwrap();
    }
    bench.sent();
    bench.ack(AckKind::PubRec, 1);
    bench.machine.publish(now, message(QoS::AtLeastOnce, "e")).unwrap();
    bench.reconnect(true);
    assert_eq!(
        bench.sent(),
        ["Publish a/b qos1 dup id2 b", "Publish a/b qos2 dup id3 c", "PubRel id1", "Publish a/b qos1 id4 e"]
    );
}

// 5.0: MQTT-3.2.2-5
#[test]
fn a_lost_session_starts_over_with_new_messages_and_subscribes_again() {
    let mut bench = Bench::connected(config().clean_start(CleanStart::Never));
    let now = bench.now;
    bench.machine.subscribe(now, Subscribe::to(TopicFilter::new("x/#").unwrap(), QoS::AtLeastOnce)).unwrap();
    assert_eq!(bench.sent(), ["Subscribe id1 x/#"]);
    bench.suback(1, &[1]);
    assert!(matches!(bench.outcomes().as_slice(), [(1, Outcome::Subscribed(_))]));
    bench.machine.publish(now, message(QoS::AtLeastOnce, "b")).unwrap();
    bench.machine.publish(now, message(QoS::ExactlyOnce, "c")).unwrap();
    bench.sent();
    bench.reconnect(false);
    assert_eq!(bench.sent(), ["Subscribe id4 x/#", "Publish a/b qos1 id5 b", "Publish a/b qos2 id6 c"]);
}

// 5.0: MQTT-4.6.0-2, MQTT-4.6.0-3
#[test]
fn receipts_in_any_order_give_acknowledgements_in_order_of_arrival() {
    let mut bench = Bench::connected(config());
    let now = bench.now;
    let mut receipts = Vec::new();
    for (qos, id) in [(QoS::AtLeastOnce, 5), (QoS::ExactlyOnce, 6), (QoS::AtLeastOnce, 7)] {
        bench.receive(&incoming(qos, id, b"x"));
    }
    for event in bench.events() {
        let Event::Message { receipt, .. } = event else { panic!("{event:?}") };
        receipts.push(receipt);
    }
    while receipts.len() > 1 {
        bench.machine.settle(now, receipts.pop().unwrap(), ReasonCode::Success);
        assert!(bench.sent().is_empty());
    }
    bench.machine.settle(now, receipts.pop().unwrap(), ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubAck id5", "PubRec id6", "PubAck id7"]);
}

// 5.0: MQTT-4.3.3-10, MQTT-4.3.3-11
#[test]
fn a_qos_2_message_is_delivered_once_however_often_it_is_sent() {
    let mut bench = Bench::connected(config().clean_start(CleanStart::Never));
    let now = bench.now;
    bench.receive(&incoming(QoS::ExactlyOnce, 9, b"x"));
    let Some(Event::Message { receipt, .. }) = bench.machine.poll_event() else { panic!() };
    bench.reconnect(true);
    bench.events();
    bench.receive(&incoming(QoS::ExactlyOnce, 9, b"x"));
    assert!(bench.events().is_empty(), "its receipt is still out");
    bench.machine.settle(now, receipt, ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubRec id9"]);
    bench.reconnect(true);
    bench.events();
    bench.receive(&incoming(QoS::ExactlyOnce, 9, b"x"));
    assert!(bench.events().is_empty());
    assert_eq!(bench.sent(), ["PubRec id9"]);
    bench.ack(AckKind::PubRel, 9);
    assert_eq!(bench.sent(), ["PubComp id9"]);
    bench.ack(AckKind::PubRel, 9);
    assert_eq!(bench.sent(), ["PubComp id9 0x92"], "an unsolicited PUBREL is answered and nothing else");
    assert!(bench.machine.is_connected());
}

// 5.0: MQTT-3.3.4-7, MQTT-4.4.0-2, MQTT-4.9.0-1, MQTT-4.9.0-2
#[test]
fn the_quota_is_the_set_in_flight_across_resume_and_a_failed_pubrec() {
    let properties = PropertiesBuf::new().with(Property::ReceiveMaximum(2)).unwrap();
    let mut bench =
        Bench::connected_with(config().clean_start(CleanStart::Never), false, properties.as_properties());
    let now = bench.now;
    for payload in ["a", "b", "c", "d"] {
        bench.machine.publish(now, message(QoS::ExactlyOnce, payload)).unwrap();
    }
    assert_eq!(bench.sent(), ["Publish a/b qos2 id1 a", "Publish a/b qos2 id2 b"]);
    let mut failed = Ack::new(AckKind::PubRec, PacketId::MIN);
    failed.reason = ReasonCode::QuotaExceeded;
    bench.receive(&Packet::Ack(failed));
    assert_eq!(bench.sent(), ["Publish a/b qos2 id3 c"], "a failed PUBREC frees its place");
    bench.ack(AckKind::PubRec, 2);
    assert_eq!(bench.sent(), ["PubRel id2"], "PUBREC alone frees none");
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.receive(&Packet::ConnAck(ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: properties.as_properties(),
    }));
    assert_eq!(bench.sent(), ["Publish a/b qos2 dup id3 c", "PubRel id2", "Publish a/b qos2 id4 d"]);
    bench.ack(AckKind::PubComp, 2);
    bench.ack(AckKind::PubComp, 2);
    assert!(bench.sent().is_empty());
    assert!(bench.machine.is_connected());
}

#[test]
fn a_disconnect_drains_first_and_ends_every_command() {
    let mut bench = Bench::connected(config());
    let now = bench.now;
    bench.machine.publish(now, message(QoS::AtLeastOnce, "x")).unwrap();
    let op = bench.machine.disconnect(now, Disconnect::new(Duration::from_secs(5))).unwrap();
    assert_eq!(
        bench.machine.publish(now, message(QoS::AtMostOnce, "y")).unwrap_err(),
        Refused::Disconnecting
    );
    assert_eq!(bench.sent(), ["Publish a/b qos1 id1 x"]);
    bench.ack(AckKind::PubAck, 1);
    assert_eq!(bench.sent(), ["Disconnect 0x00"]);
    assert!(matches!(bench.machine.poll_action(), Some(Action::CloseTransport { .. })));
    let events = bench.events();
    assert!(
        matches!(
            events.as_slice(),
            [
                Event::Completed { outcome: Outcome::Acknowledged(_), .. },
                Event::Disconnected(ended),
                Event::Completed { op: last, outcome: Outcome::Disconnected(Drained { delivered: 1, undelivered: 0, kept: 0 }) },
            ] if ended.reason == EndReason::Requested && ended.retry_at.is_none() && *last == op
        ),
        "{events:?}"
    );
    assert!(bench.machine.is_idle());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_drain_that_runs_out_of_time_says_what_is_unknown_and_what_was_never_sent() {
    let properties = PropertiesBuf::new().with(Property::ReceiveMaximum(1)).unwrap();
    let mut bench = Bench::connected_with(config(), false, properties.as_properties());
    let now = bench.now;
    bench.machine.publish(now, message(QoS::AtLeastOnce, "x")).unwrap();
    bench.machine.publish(now, message(QoS::AtLeastOnce, "y")).unwrap();
    bench.machine.disconnect(now, Disconnect::new(Duration::from_secs(5))).unwrap();
    bench.sent();
    bench.wake();
    assert_eq!(bench.now, Instant::from_micros(5_000_000));
    assert_eq!(bench.sent(), ["Disconnect 0x00"]);
    assert_eq!(
        bench.outcomes(),
        [
            (1, Outcome::Unknown),
            (2, Outcome::NotSent),
            (3, Outcome::Disconnected(Drained { delivered: 0, undelivered: 2, kept: 0 }))
        ]
    );
}

#[test]
fn a_server_that_breaks_a_rule_is_told_which_and_the_connection_ends() {
    let mut bench = Bench::connected(config());
    bench.receive_bytes(&mut BytesMut::from(&[0x32, 0x07, 0, 1, b'a', 0, 0, 0, b'x'][..]));
    assert!(
        matches!(bench.sent().as_slice(), [line] if line == "Disconnect 0x82" || line == "Disconnect 0x81")
    );
    let events = bench.events();
    assert!(matches!(events.as_slice(), [Event::Disconnected(ended)]
        if matches!(ended.reason, EndReason::Malformed(_)) && ended.retry_at.is_some()));
    let mut bench = Bench::connected(config().version(ProtocolVersion::V3_1_1));
    bench.receive_bytes(&mut BytesMut::from(&[0x32, 0x06, 0, 1, b'a', 0, 0, b'x'][..]));
    assert!(bench.sent().is_empty(), "3.1.1 just closes");
    assert!(matches!(bench.machine.poll_action(), Some(Action::CloseTransport { .. })));
}

#[test]
fn a_refusal_is_typed_and_a_permanent_one_ends_the_attempts() {
    for (version, code, reason) in [
        (ProtocolVersion::V5, 0x86, ReasonCode::BadUserNameOrPassword),
        (ProtocolVersion::V3_1_1, 4, ReasonCode::BadUserNameOrPassword),
        (ProtocolVersion::V3_1, 5, ReasonCode::NotAuthorized),
        (ProtocolVersion::V3_1_1, 3, ReasonCode::ServerUnavailable),
    ] {
        let mut bench = Bench::new(config().version(version));
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        let bytes: &[u8] =
            if version == ProtocolVersion::V5 { &[0x20, 3, 0, code, 0] } else { &[0x20, 2, 0, code] };
        bench.receive_bytes(&mut BytesMut::from(bytes));
        let events = bench.events();
        let [Event::ConnectFailed(ended)] = events.as_slice() else { panic!("{events:?}") };
        let EndReason::Refused { reason: told, .. } = &ended.reason else { panic!("{ended:?}") };
        assert_eq!(*told, reason);
        assert_eq!(ended.retry_at.is_none(), reason != ReasonCode::ServerUnavailable);
    }
}

#[test]
fn without_room_a_command_is_refused_and_nothing_changes() {
    let mut config = config();
    config.limits.outgoing_messages = 2;
    let mut bench = Bench::connected(config);
    let now = bench.now;
    for _ in 0..2 {
        bench.machine.publish(now, message(QoS::AtMostOnce, "x")).unwrap();
    }
    assert_eq!(bench.machine.publish(now, message(QoS::AtMostOnce, "x")).unwrap_err(), Refused::Full);
    assert_eq!(bench.sent().len(), 2);
    assert_eq!(
        bench.machine.publish(now, message(QoS::AtMostOnce, "x")).unwrap_err(),
        Refused::Full,
        "completions that nobody took count"
    );
    assert_eq!(bench.outcomes().len(), 2);
    bench.machine.publish(now, message(QoS::AtMostOnce, "x")).unwrap();
}

#[test]
fn reading_stops_at_the_inbound_budget_and_goes_on_when_receipts_come_back() {
    let mut config = config().keep_alive(Duration::from_secs(10));
    config.limits.incoming_bytes = 400;
    let mut bench = Bench::connected(config);
    let mut bytes = BytesMut::new();
    for _ in 0..10 {
        wire::encode(&incoming(QoS::AtMostOnce, 0, &[7; 100]), ProtocolVersion::V5, &mut bytes).unwrap();
    }
    bench.receive_bytes(&mut bytes);
    let taken = bench.events();
    assert!(!taken.is_empty() && taken.len() < 10 && !bytes.is_empty());
    assert!(bench.machine.is_paused());
    assert_eq!(bench.machine.read_capacity(), 0);
    bench.now = Instant::from_micros(3_600_000_000);
    bench.machine.handle_timeout(bench.now);
    bench.now = Instant::from_micros(7_200_000_000);
    bench.machine.handle_timeout(bench.now);
    assert!(bench.machine.is_connected(), "nobody is declared dead while we do not read");
    let mut count = taken.len();
    let mut events = taken;
    while !events.is_empty() {
        for event in events {
            let Event::Message { receipt, .. } = event else { continue };
            bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        }
        bench.receive_bytes(&mut bytes);
        events = bench.events();
        count += events.len();
    }
    assert_eq!(count, 10);
    assert!(bench.machine.read_capacity() > 0);
}

#[test]
fn acknowledgements_that_wait_for_an_earlier_one_cost_32_bytes_of_the_inbound_budget() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut config = config();
        config.limits.incoming_bytes = 20_000;
        let mut bench = Bench::connected(config);
        bench.receive(&incoming(qos, 1, b"first"));
        let first = bench.receipts().pop().unwrap();
        let of_first = bench.machine.metrics().incoming_bytes;
        // All but the first are settled at once.
        let mut count = 0;
        while bench.machine.read_capacity() > 0 {
            assert_eq!(bench.machine.metrics().incoming_bytes, of_first + 32 * count);
            bench.receive(&incoming(qos, 2 + count as u16, b"next"));
            bench.settle_all(ReasonCode::Success);
            count += 1;
        }
        assert!(of_first + 32 * count >= 20_000 && of_first + 32 * (count - 1) < 20_000, "{count}");
        assert!(bench.machine.is_paused() && bench.sent().is_empty());
        bench.machine.settle(bench.now, first, ReasonCode::Success);
        assert!(bench.machine.read_capacity() > 0);
        assert_eq!(bench.machine.metrics().incoming_bytes, 0);
        assert_eq!(bench.sent().len(), count + 1);
    }
}

#[test]
fn a_driver_that_never_writes_makes_at_most_4096_control_packets_wait() {
    let mut bench = Bench::connected(config());
    let before = bench.machine.memory_used();
    let mut taken = 0;
    while bench.machine.read_capacity() > 0 {
        bench.ack(AckKind::PubRel, 1);
        taken += 1;
        assert!(taken <= 4_096, "each PUBREL is answered by a PUBCOMP that waits");
    }
    assert_eq!(taken, 4_096);
    let held = bench.machine.memory_used() - before;
    assert!(held <= 100 << 10, "{held} bytes");
    let mut rest = BytesMut::from(&[0x62, 2, 0, 1][..]);
    bench.receive_bytes(&mut rest);
    assert_eq!(rest.len(), 4, "nothing more is taken");
    assert_eq!(bench.sent().len(), 4_096);
    bench.receive_bytes(&mut rest);
    assert_eq!((rest.len(), bench.sent().len()), (0, 1), "and reading goes on once they have left");
}

// 5.0: MQTT-3.1.2-24
#[test]
fn a_large_header_reserves_nothing_and_is_refused_by_its_header() {
    let mut bench = Bench::connected(config());
    bench.receive_bytes(&mut BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]));
    assert_eq!(bench.sent(), ["Disconnect 0x95"]);
}

#[test]
fn an_idle_client_costs_two_kibibytes_at_most_whatever_the_receive_maximum() {
    for version in ProtocolVersion::ALL {
        let properties = PropertiesBuf::new().with(Property::ReceiveMaximum(u16::MAX)).unwrap();
        let properties =
            if version == ProtocolVersion::V5 { properties.as_properties() } else { Properties::EMPTY };
        let bench =
            Bench::connected_with(config().version(version).receive_maximum(u16::MAX), false, properties);
        assert!(bench.machine.memory_used() <= 2_048, "{version}: {} bytes", bench.machine.memory_used());
    }
}

#[test]
fn a_hundred_small_publications_leave_as_one_write() {
    let mut bench = Bench::connected(config());
    for _ in 0..100 {
        bench.machine.publish(bench.now, message(QoS::AtLeastOnce, "x")).unwrap();
    }
    bench.machine.transmit(bench.now, &mut bench.output);
    assert_eq!(bench.output.chunk().len(), bench.output.remaining());
    assert_eq!(bench.sent().len(), 100);
}

// 5.0: MQTT-3.3.2-7
#[test]
fn a_topic_alias_of_the_server_ends_with_its_connection() {
    let aliased = |bench: &mut Bench, topic| {
        let properties = PropertiesBuf::new().with(Property::TopicAlias(2)).unwrap();
        let Packet::Publish(publish) = incoming(QoS::AtMostOnce, 0, b"x") else { unreachable!() };
        let topic = Topic::new(topic).unwrap_or_default();
        bench.receive(&Packet::Publish(Publish { topic, properties: properties.as_properties(), ..publish }));
        bench.sent()
    };
    let mut bench = Bench::connected(config().topic_alias_maximum(2));
    assert!(aliased(&mut bench, "in/x").is_empty());
    assert!(aliased(&mut bench, "").is_empty());
    let topics: Vec<String> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Message { message, .. } => Some(message.topic.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(topics, ["in/x", "in/x"]);
    bench.reconnect(true);
    assert_eq!(aliased(&mut bench, ""), ["Disconnect 0x82"]);
}

#[test]
fn back_off_grows_and_stops_after_its_attempts() {
    let mut backoff = mqtt_machine::Backoff::DEFAULT;
    backoff.jitter = false;
    backoff.attempts = Some(3);
    let mut bench = Bench::new(config().backoff(backoff));
    bench.machine.connect(bench.now).unwrap();
    let mut waits = Vec::new();
    loop {
        let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { break };
        bench.machine.handle_transport(bench.now, id, TransportEvent::OpenFailed("refused".into()));
        let Some(Event::ConnectFailed(ended)) = bench.machine.poll_event() else { panic!() };
        match ended.retry_at {
            Some(at) => {
                waits.push((at - bench.now).as_secs());
                bench.wake();
            }
            None => break,
        }
    }
    assert_eq!(waits, [1, 2, 4]);
    assert!(bench.machine.is_idle());
}

#[test]
fn subscriptions_that_were_being_restored_when_the_link_broke_are_restored_on_the_next() {
    let mut bench = Bench::connected(config().clean_start(CleanStart::Never));
    let now = bench.now;
    bench.machine.subscribe(now, Subscribe::to(TopicFilter::new("x/#").unwrap(), QoS::AtLeastOnce)).unwrap();
    assert_eq!(bench.sent(), ["Subscribe id1 x/#"]);
    bench.suback(1, &[1]);
    bench.reconnect(false);
    assert_eq!(bench.sent(), ["Subscribe id2 x/#"]);
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Subscribe id3 x/#"], "nobody knows whether the server took the last one");
    bench.suback(3, &[1]);
    assert!(matches!(bench.events().last(), Some(Event::Resubscribed { .. })));
    bench.reconnect(true);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_receipt_of_a_lost_session_does_not_acknowledge_another_message() {
    let mut bench = Bench::connected(config().clean_start(CleanStart::Never));
    let now = bench.now;
    bench.receive(&incoming(QoS::ExactlyOnce, 9, b"old"));
    let Some(Event::Message { receipt: old, .. }) = bench.machine.poll_event() else { panic!() };
    bench.reconnect(false);
    bench.events();
    bench.receive(&incoming(QoS::ExactlyOnce, 9, b"new"));
    let Some(Event::Message { receipt: new, .. }) = bench.machine.poll_event() else { panic!() };
    bench.machine.settle(now, old, ReasonCode::Success);
    assert!(bench.sent().is_empty());
    assert!(bench.machine.session().received.is_empty());
    bench.machine.settle(now, new, ReasonCode::Success);
    assert_eq!(bench.sent(), ["PubRec id9"]);
}

#[test]
fn a_failed_store_ends_the_connection_and_still_tells_the_outcomes() {
    let mut bench = Bench::connected(config().durable(true));
    let now = bench.now;
    bench.machine.publish(now, message(QoS::AtLeastOnce, "x")).unwrap();
    assert!(bench.sent().is_empty(), "nothing leaves before it is durable");
    bench.machine.handle_stored(now, Ok(mqtt_machine::JournalSeq::new(5)));
    assert_eq!(bench.sent(), ["Publish a/b qos1 id1 x"]);
    bench.ack(AckKind::PubAck, 1);
    assert!(bench.outcomes().is_empty(), "no outcome before its record is durable");
    bench.machine.handle_stored(now, Err(mqtt_machine::StoreError("disk full".into())));
    let events = bench.events();
    assert!(matches!(events.as_slice(), [
        Event::Completed { outcome: Outcome::Acknowledged(_), .. },
        Event::Disconnected(ended),
    ] if matches!(ended.reason, EndReason::Store(_)) && ended.retry_at.is_none()));
    assert_eq!(bench.machine.connect(now).unwrap_err(), Refused::StoreFailed);
}

#[test]
fn bytes_that_are_shown_again_are_no_sign_of_life() {
    let mut bench = Bench::connected(config().keep_alive(Duration::from_secs(20)));
    let mut rest = BytesMut::from(&[0x30, 100, 0][..]);
    bench.receive_bytes(&mut rest);
    assert_eq!(rest.len(), 3, "the rest of a frame stays with the caller");
    for second in 1..40 {
        bench.now = Instant::from_micros(second * 1_000_000);
        bench.machine.handle_timeout(bench.now);
        bench.receive_bytes(&mut rest);
    }
    let told: Vec<Event> = core::iter::from_fn(|| bench.machine.poll_event()).collect();
    assert!(
        told.iter()
            .any(|event| matches!(event, Event::Disconnected(it) if it.reason == EndReason::PingTimeout)),
        "{told:?}"
    );
}

#[test]
fn a_connack_before_connect_was_sent_is_no_answer() {
    let mut bench = Bench::new(config());
    bench.machine.connect(bench.now).unwrap();
    let Some(Action::OpenTransport { id, .. }) = bench.machine.poll_action() else { panic!("no transport") };
    bench.transport = Some(id);
    bench.machine.handle_transport(bench.now, id, TransportEvent::Opened);
    let properties = Properties::EMPTY;
    let reason = ReasonCode::Success;
    bench.receive(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
    assert!(!bench.machine.is_connected());
    let event = bench.machine.poll_event();
    assert!(
        matches!(&event, Some(Event::ConnectFailed(it)) if matches!(it.reason, EndReason::Protocol(_))),
        "{event:?}"
    );
}

#[test]
fn what_a_disconnect_cuts_off_is_kept_in_the_store_and_sent_on_the_next_connection() {
    let mut bench = Bench::connected(config().durable(true));
    let message = Message::to("t", "x").unwrap().qos(QoS::ExactlyOnce);
    let op = bench.machine.publish(bench.now, message).unwrap();
    assert!(bench.sent().is_empty(), "its records are not durable");
    bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO)).unwrap();
    bench.sent();
    let records = core::iter::from_fn(|| bench.machine.poll_action())
        .filter_map(|action| if let Action::Store { seq, .. } = action { Some(seq) } else { None })
        .last();
    bench.machine.handle_stored(bench.now, Ok(records.unwrap()));
    let told: Vec<Event> = core::iter::from_fn(|| bench.machine.poll_event()).collect();
    assert!(told.contains(&Event::Completed { op, outcome: Outcome::Kept }), "{told:?}");
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.accept(true, Properties::EMPTY);
    assert_eq!(bench.sent(), ["Publish t qos2 id1 x"]);
}

#[test]
fn a_server_that_has_forgotten_a_completed_message_acknowledges_it_all_the_same() {
    let mut bench = Bench::connected(config());
    let message = Message::to("t", "x").unwrap().qos(QoS::ExactlyOnce);
    let op = bench.machine.publish(bench.now, message).unwrap();
    bench.sent();
    bench.ack(AckKind::PubRec, 1);
    bench.sent();
    let packet_id = PacketId::new(1).unwrap();
    let reason = ReasonCode::PacketIdentifierNotFound;
    bench.receive(&Packet::Ack(Ack { reason, ..Ack::new(AckKind::PubComp, packet_id) }));
    let event = bench.machine.poll_event();
    assert!(
        matches!(&event, Some(Event::Completed { op: ended, outcome: Outcome::Acknowledged(ack) })
            if *ended == op && ack.reason == ReasonCode::Success),
        "{event:?}"
    );
}
