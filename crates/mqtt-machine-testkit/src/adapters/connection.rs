//! Owns what becomes of a connection: cuts, resets, refusals, silence, halves of it that close, and ways that lead nowhere. It
//! must not know how a session goes on.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_client::{
    ClientEvent, ConnectError, DialError, Disconnect, Drained, EndReason, Events, Message, Outcome,
    ProtocolVersion, QoS, ReasonCode, TransportError,
};

use super::bench::{Bench, SECOND, V5, VERSIONS, broker, broker_with, message, numbers, options};
use super::peers::{Relay, Server, accept, connack, free_port, greet, read_to_end};
use crate::broker::{BrokerConfig, Plan};
use crate::tcp::Broker;

const QOS_1: QoS = QoS::AtLeastOnce;
const QOS_2: QoS = QoS::ExactlyOnce;

/// The next end of a connection or attempt.
#[track_caller]
fn failure(bench: &Bench, events: &mut Events) -> (EndReason, Option<TransportError>) {
    loop {
        match bench.event(events) {
            ClientEvent::ConnectFailed { reason, cause, .. }
            | ClientEvent::Disconnected { reason, cause, .. } => return (reason, cause),
            _ => {}
        }
    }
}

pub(super) fn the_event_stream_tells_of_a_cut_and_what_came_after(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "events", V5));
    let mut stream = bench.subscribe(&client, "after", QOS_1);
    let mut events = client.events();
    assert!(broker.cut("events"));
    let event = bench.event(&mut events);
    assert!(matches!(event, ClientEvent::Disconnected { retry_at: Some(_), .. }), "{event:?}");
    let connected = loop {
        match bench.event(&mut events) {
            ClientEvent::Connected(connected) => break connected,
            ClientEvent::ConnectFailed { retry_at: Some(_), .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(connected.reconnected && connected.session_present);
    bench.deliver(&client, message("after", "all", QOS_1));
    assert_eq!(bench.next(&mut stream), "all");

    broker.broker(|broker| broker.forget_session("events"));
    broker.cut("events");
    loop {
        match bench.event(&mut events) {
            ClientEvent::Resubscribed { codes, .. } => break assert_eq!(codes.len(), 1),
            ClientEvent::Connected(connected) => assert!(!connected.session_present),
            _ => {}
        }
    }
    bench.deliver(&client, message("after", "again", QOS_1));
    assert_eq!(bench.next(&mut stream), "again");
    for _ in 0..5 {
        assert_eq!(client.reconnect(), Ok(()));
        let reason = failure(bench, &mut events).0;
        assert_eq!(reason, EndReason::Reconnect);
        bench.connected(&client);
    }
    bench.disconnect(&client);
    while bench.wait("the last event", events.recv()).is_some() {}
}

pub(super) fn a_delivery_that_is_awaited_across_a_cut_ends(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "awaiting", V5));
    broker.broker(|broker| broker.delay_client("awaiting", SECOND));
    for qos in [QOS_1, QOS_2] {
        let delivery = bench.wait("room", client.publish(message("t", "x", qos)));
        thread::sleep(SECOND / 20);
        assert!(broker.cut("awaiting"));
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    }
    bench.disconnect(&client);
}

pub(super) fn links_that_are_cut_anywhere_lose_and_double_nothing(bench: &Bench) {
    let broker = broker();
    // Each connection comes somewhat further than the one before, and the last one to the end.
    broker.broker(|broker| {
        for bytes in (1..200).step_by(13) {
            broker.plan(Plan::cut_after_received(bytes));
            broker.plan(Plan::cut_after_sent(bytes));
        }
    });
    let client = bench.start(options(&broker.url(), "cuts", V5));
    let mut stream = bench.subscribe(&client, "cuts", QOS_2);
    let deliveries: Vec<_> = numbers(40)
        .into_iter()
        .map(|text| bench.wait("room", client.publish(message("cuts", text, QOS_2))))
        .collect();
    let got: Vec<String> = (0..40).map(|_| bench.next(&mut stream)).collect();
    assert_eq!(got, numbers(40));
    for delivery in deliveries {
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    }
    bench.until("everything is acknowledged", || broker.broker(|broker| broker.owed_to("cuts")) == 0);
    assert!(stream.try_recv().is_err(), "a message came twice");
    bench.disconnect(&client);
    assert_eq!(super::bench::accepted(&broker), numbers(40));
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

pub(super) fn a_reset_in_the_middle_of_a_large_message_is_a_reconnect(bench: &Bench) {
    let broker = broker();
    let relay = Relay::start(broker.port());
    let client = bench.connect(options(&relay.url(), "reset", V5));
    let mut stream = bench.subscribe(&client, "reset", QOS_2);
    let mut events = client.events();
    let large = |letter: u8| {
        let made = Message::to("reset", vec![letter; 4 << 20]).map(|message| message.qos(QOS_2));
        let Ok(message) = made else { panic!("{made:?}") };
        message
    };
    // On its way to the server, then on its way back.
    for (letter, back) in [(b'a', false), (b'b', true)] {
        let count = || if back { relay.given() } else { relay.taken() };
        let before = count();
        let delivery = bench.wait("room", client.publish(large(letter)));
        bench.until("half of it has passed", || count() > before + (1 << 20));
        relay.reset();
        let (reason, _) = failure(bench, &mut events);
        assert!(matches!(reason, EndReason::Closed(_)), "{reason:?}");
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
        let got = bench.wait("a large message", stream.recv()).map(|message| message.payload.clone());
        assert!(
            got.is_some_and(|payload| payload.len() == 4 << 20 && payload.iter().all(|&at| at == letter))
        );
    }
    bench.disconnect(&client);
    assert_eq!(broker.broker(|broker| broker.log().accepted().count()), 2);
}

pub(super) fn a_permanent_refusal_ends_the_attempts(bench: &Bench) {
    let broker = broker_with(BrokerConfig::new().user("me", "right"));
    for version in VERSIONS {
        let url = format!("mqtt://me:wrong@127.0.0.1:{}", broker.port());
        let client = bench.start(options(&url, "refused", version));
        let result = bench.wait("a refusal", client.connected());
        assert!(matches!(result, Err(ConnectError::GaveUp(EndReason::Refused { .. }))), "{result:?}");
        assert!(bench.wait("the end of a stream", client.messages().recv()).is_none());
    }
}

pub(super) fn a_client_that_is_told_of_a_take_over_does_not_come_back(bench: &Bench) {
    let broker = broker();
    let first = bench.connect(options(&broker.url(), "same", V5));
    let mut events = first.events();
    let mut stream = bench.subscribe(&first, "same", QoS::AtMostOnce);
    let second = bench.connect(options(&broker.url(), "same", V5));
    let event = bench.event(&mut events);
    let ClientEvent::Disconnected { reason, retry_at: None, .. } = event else { panic!("{event:?}") };
    assert!(matches!(reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. }), "{reason}");
    assert!(bench.wait("the end of a stream", stream.recv()).is_none());
    assert!(second.is_connected());
}

pub(super) fn a_port_that_refuses_is_tried_until_somebody_listens(bench: &Bench) {
    let port = free_port();
    let client = bench.start(options(&format!("mqtt://127.0.0.1:{port}"), "late", V5));
    let mut events = client.events();
    let delivery = client.try_publish(message("late", "x", QOS_1));
    for _ in 0..3 {
        let (reason, cause) = failure(bench, &mut events);
        assert!(matches!(reason, EndReason::OpenFailed(_)), "{reason}");
        let refused = matches!(
            &cause,
            Some(TransportError::Dial(DialError::Connect {
                kind: std::io::ErrorKind::ConnectionRefused,
                ..
            }))
        );
        assert!(refused, "{cause:?}");
    }
    let broker = match Broker::start_on(BrokerConfig::new(), port) {
        Ok(broker) => broker,
        Err(error) => panic!("the broker does not start: {error}"),
    };
    bench.connected(&client);
    let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
    assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    bench.disconnect(&client);
    drop(broker);
}

pub(super) fn a_name_that_nobody_has_is_told_and_holds_nothing_up(bench: &Bench) {
    let nowhere = options("mqtt://mqtt-machine.invalid", "nowhere", V5);
    // A resolver that finds no name server takes its time, and the timeout is what ends it.
    let client = bench.start(nowhere.configure(|config| config.connect_timeout(2 * SECOND)));
    let mut events = client.events();
    for _ in 0..2 {
        let start = Instant::now();
        let (reason, cause) = failure(bench, &mut events);
        match (&reason, &cause) {
            (EndReason::OpenFailed(_), Some(TransportError::Dial(error))) => {
                let named = matches!(error, DialError::Resolve { .. } | DialError::NoAddress { .. });
                assert!(named && error.to_string().contains("mqtt-machine.invalid"), "{error:?}");
            }
            (EndReason::ConnectTimeout, _) => assert!(start.elapsed() >= SECOND, "{reason}"),
            _ => panic!("{reason} {cause:?}"),
        }
    }
    let delivery = client.try_publish(message("nowhere", "x", QOS_1));
    let start = Instant::now();
    let end = bench.wait("the end", client.disconnect_with(Disconnect::new(Duration::ZERO)));
    assert_eq!(end, Ok(Drained { delivered: 0, undelivered: 1, kept: 0 }));
    let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
    assert!(matches!(outcome, Ok(Outcome::NotSent)), "{outcome:?}");
    assert!(start.elapsed() < 2 * SECOND, "a lookup held it up for {:?}", start.elapsed());
}

pub(super) fn a_name_whose_first_address_refuses_is_reached_at_the_next(bench: &Bench) {
    // The broker listens on 127.0.0.1 only; where the name has ::1 as well, that is tried first and refused.
    let broker = broker();
    let client = bench.connect(options(&format!("mqtt://localhost:{}", broker.port()), "name", V5));
    bench.disconnect(&client);
}

pub(super) fn a_peer_that_accepts_and_says_nothing_is_given_up_in_time(bench: &Bench) {
    let (patience, (seen, is_seen)) = (bench.patience, channel::<()>());
    let server = Server::start(move |listener| {
        // It hears a CONNECT and then the end, twice. Later attempts find a port that is open and nobody who speaks.
        let heard = [accept(listener, patience)?, accept(listener, patience)?]
            .map(|mut stream| read_to_end(&mut stream));
        let _ = is_seen.recv();
        Ok(heard)
    });
    let silent = options(&server.url(), "silent", V5);
    let client = bench.start(silent.configure(|config| config.connect_timeout(Duration::from_millis(150))));
    let mut events = client.events();
    for _ in 0..2 {
        let (reason, _) = failure(bench, &mut events);
        assert_eq!(reason, EndReason::ConnectTimeout);
    }
    drop(seen);
    for heard in server.end() {
        assert!(heard.as_ref().is_ok_and(|bytes| bytes.first() == Some(&0x10)), "{heard:x?}");
    }
}

pub(super) fn a_peer_that_falls_silent_is_declared_dead_in_time(bench: &Bench) {
    let broker = broker();
    let relay = Relay::start(broker.port());
    let quick = options(&relay.url(), "dead", V5);
    let quick = quick.configure(|config| config.keep_alive(SECOND).ping_timeout(SECOND / 4));
    let client = bench.connect(quick);
    let mut events = client.events();
    // While it answers, nothing happens.
    thread::sleep(2 * SECOND);
    assert_eq!(events.try_recv(), None);
    relay.hold_down(true);
    let (reason, _) = failure(bench, &mut events);
    assert_eq!(reason, EndReason::PingTimeout);
    relay.hold_down(false);
    bench.connected(&client);
    bench.disconnect(&client);
}

pub(super) fn a_half_close_of_the_server_ends_the_connection_after_its_last_words(bench: &Bench) {
    for (version, last_words) in [(V5, &[0xE0, 1, 0x8B][..]), (V5, &[]), (ProtocolVersion::V3_1_1, &[])] {
        let (patience, (watches, is_watched)) = (bench.patience, channel::<()>());
        let server = Server::start(move |listener| {
            let mut stream = accept(listener, patience)?;
            greet(&mut stream, connack(version))?;
            let _ = is_watched.recv();
            stream.write_all(last_words)?;
            stream.shutdown(Shutdown::Write)?;
            // The other half stays open until the client closes it.
            let heard = read_to_end(&mut stream)?;
            greet(&mut accept(listener, patience)?, connack(version))?;
            Ok(heard)
        });
        let client = bench.connect(options(&server.url(), "half", version));
        let mut events = client.events();
        drop(watches);
        let (reason, _) = failure(bench, &mut events);
        if last_words.is_empty() {
            assert_eq!(reason, EndReason::Closed(None), "{version}");
        } else {
            let told = matches!(reason, EndReason::Disconnect { reason: ReasonCode::ServerShuttingDown, .. });
            assert!(told, "{reason}");
        }
        assert_eq!(server.end(), [0_u8; 0], "{version}");
    }
}

pub(super) fn a_half_close_is_noticed_while_the_client_cannot_write(bench: &Bench) {
    let (patience, (writes, is_writing)) = (bench.patience, channel::<()>());
    let server = Server::start(move |listener| {
        let mut stream = accept(listener, patience)?;
        greet(&mut stream, connack(V5))?;
        // It reads no more, so that the client is soon in the middle of a write.
        let _ = is_writing.recv();
        thread::sleep(SECOND / 5);
        stream.shutdown(Shutdown::Write)?;
        greet(&mut accept(listener, patience)?, connack(V5))
    });
    let client = bench.connect(options(&server.url(), "stuck", V5));
    let mut events = client.events();
    let Ok(large) = Message::to("large", vec![0; 16 << 20]) else { panic!("a topic") };
    let _delivery = bench.wait("room", client.publish(large.qos(QOS_1)));
    drop(writes);
    let (reason, _) = failure(bench, &mut events);
    assert_eq!(reason, EndReason::Closed(None));
    server.end();
}
