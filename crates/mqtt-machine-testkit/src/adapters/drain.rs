//! Owns how clients end. It must not know why they do.

use std::time::{Duration, Instant};

use mqtt_machine_client::{CommandError, ConnectError, Disconnect, Drained, Outcome, QoS};

use super::bench::{Bench, SECOND, V5, accepted, broker, message, numbers, options};
use super::peers::{Relay, free_port};

const QOS_1: QoS = QoS::AtLeastOnce;
const QOS_2: QoS = QoS::ExactlyOnce;

pub(super) fn a_disconnect_drains_what_was_accepted(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "drain", V5));
    broker.broker(|broker| broker.delay_client("drain", Duration::from_millis(20)));
    let mut stream = bench.subscribe(&client, "none", QOS_1);
    let mut deliveries = Vec::new();
    for (number, text) in numbers(300).into_iter().enumerate() {
        let qos = [QoS::AtMostOnce, QOS_1, QOS_2][number % 3];
        deliveries.push((qos, bench.wait("room", client.publish(message("drain", text, qos)))));
    }
    bench.disconnect(&client);
    assert_eq!(client.try_publish(message("drain", "late", QOS_1)).map(|_| ()), Err(CommandError::Closed));
    for (qos, delivery) in deliveries {
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        match qos {
            QoS::AtMostOnce => assert!(matches!(outcome, Ok(Outcome::Sent)), "{outcome:?}"),
            _ => assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}"),
        }
    }
    assert!(bench.wait("the end of a stream", stream.recv()).is_none());
    let mut expected = numbers(300);
    expected.sort();
    let sorted = || {
        let mut accepted = accepted(&broker);
        accepted.sort();
        accepted
    };
    bench.until("everything is there", || sorted() == expected);
    bench.until("the client is gone", || broker.broker(|broker| broker.connected().count()) == 0);
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

pub(super) fn a_disconnect_tells_in_time_what_was_not_delivered(bench: &Bench) {
    let broker = broker();
    let relay = Relay::start(broker.port());
    let client = bench.connect(options(&relay.url(), "late", V5));
    relay.hold_down(true);
    let publish = |qos| bench.wait("room", client.publish(message("late", "x", qos)));
    let deliveries = [QOS_1, QOS_2, QOS_1].map(publish);
    bench.until("all have left", || broker.broker(|broker| broker.log().packets().count()) >= 5);
    let start = Instant::now();
    let end = bench.wait("the end", client.disconnect_with(Disconnect::new(SECOND / 4)));
    assert_eq!(end, Ok(Drained { delivered: 0, undelivered: 3, kept: 0 }));
    assert!((SECOND / 4..4 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    for delivery in deliveries {
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Unknown)), "{outcome:?}");
    }
    assert_eq!(bench.wait("the end", client.connected()), Err(ConnectError::Closed));
    assert_eq!(client.pending(), 0);
    // The last word has left nevertheless: no will would be published.
    bench.until("the client is gone", || broker.broker(|broker| broker.connected().count()) == 0);
    broker.broker(|broker| {
        let packet = mqtt_machine::packet::PacketType::Disconnect;
        assert_eq!(broker.log().sent_by("late", packet).count(), 1);
    });
}

pub(super) fn dropping_the_last_handle_delivers_and_disconnects(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "last", V5));
    let mut stream = bench.subscribe(&client, "none", QoS::AtMostOnce);
    let other = client.clone();
    let delivery = bench.wait("room", client.publish(message("last", "words", QOS_2)));
    drop(client);
    bench.deliver(&other, message("last", "handle", QOS_1));
    drop(other);
    let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
    assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    assert!(bench.wait("the end of a stream", stream.recv()).is_none());
    bench.until("the client is gone", || broker.broker(|broker| broker.connected().count()) == 0);
}

pub(super) fn a_disconnect_does_not_wait_for_a_connection(bench: &Bench) {
    let client = bench.start(options(&format!("mqtt://127.0.0.1:{}", free_port()), "nobody", V5));
    let mut events = client.events();
    let delivery = client.try_publish(message("a", "never", QOS_1));
    let start = Instant::now();
    let end = bench.wait("the end", client.disconnect_with(Disconnect::new(SECOND / 4)));
    assert_eq!(end, Ok(Drained { delivered: 0, undelivered: 1, kept: 0 }));
    assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
    let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
    assert!(matches!(outcome, Ok(Outcome::NotSent)), "{outcome:?}");
    while bench.wait("the last event", events.recv()).is_some() {}
    let again = bench.wait("an answer", client.disconnect());
    assert_eq!(again, Err(CommandError::Closed));
}
