//! Owns who waits for whom when one side is slower than the other. It must not know how much the system's own buffers hold, but
//! that it is less than what is sent here.

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::thread;

use mqtt_machine_client::{Limits, Message, Outcome, QoS};

use super::bench::{Bench, SECOND, V5, accepted, broker, limited, message, numbers, options};
use super::peers::{Relay, free_port};
use crate::broker::BrokerConfig;
use crate::tcp::Broker;

const QOS_1: QoS = QoS::AtLeastOnce;

pub(super) fn publishing_from_the_receive_loop_with_full_queues_never_hangs(bench: &Bench) {
    const COUNT: usize = 2_000;
    let broker = broker();
    let limits = Limits { outgoing_messages: 4, incoming_bytes: 2_000, ..Limits::DEFAULT };
    let echo = bench.connect(limited(&broker.url(), "echo", limits));
    let mut requests = bench.subscribe(&echo, "requests", QOS_1);
    let flood = bench.connect(options(&broker.url(), "flood", V5));
    let (mut answered, mut full) = (0, 0);
    thread::scope(|threads| {
        let flooding = threads.spawn(|| {
            for text in numbers(COUNT) {
                bench
                    .wait("room", flood.publish(message("requests", text, QOS_1)))
                    .map_or_else(|error| panic!("{error}"), drop);
            }
            bench.disconnect(&flood);
        });
        for number in 0..COUNT {
            let Some(request) = bench.wait("a request", requests.recv()) else {
                panic!("the stream has ended")
            };
            assert_eq!(request.payload_lossy(), number.to_string());
            // Held while publishing: the budget is used up by what is unread.
            let answer = message("answers", number.to_string(), QOS_1);
            match bench.wait("an answer", echo.publish(answer)) {
                Ok(_) => answered += 1,
                Err(error) if error.is_full() => full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(flooding.join().is_ok());
    });
    assert!(answered > 0 && answered + full == COUNT, "{answered} {full}");
    bench.disconnect(&echo);
}

pub(super) fn a_slow_consumer_stops_reading_and_nothing_is_declared_dead(bench: &Bench) {
    const COUNT: usize = 256;
    let broker = broker();
    let relay = Relay::start(broker.port());
    let limits = Limits { incoming_bytes: 256 << 10, ..Limits::DEFAULT };
    let slow = limited(&relay.url(), "slow", limits);
    let slow = slow.configure(|config| config.keep_alive(SECOND).ping_timeout(SECOND / 4));
    let slow = bench.connect(slow);
    let mut events = slow.events();
    let mut stream = bench.subscribe(&slow, "flood", QoS::ExactlyOnce);
    let flood = bench.connect(options(&broker.url(), "flood", V5));
    for number in 0..COUNT {
        let mut payload = vec![0; 64 << 10];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let Ok(message) = Message::to("flood", payload) else { panic!("a topic") };
        let accepted = bench.wait("room", flood.publish(message.qos(QoS::ExactlyOnce)));
        assert!(accepted.is_ok(), "{accepted:?}");
    }
    bench.disconnect(&flood);
    // Longer than a living server may be silent.
    thread::sleep(2 * SECOND);
    assert_eq!(events.try_recv(), None, "the server is alive");
    let (given, used) = (relay.given(), slow.memory_used());
    // One message more than the bound, its frame, and what is made of it.
    assert!(used < (256 << 10) + 4 * (64 << 10), "{used} bytes are held");
    assert!(given < (COUNT as u64 / 2) << 16, "the client reads on: {given} bytes");
    let mut got = BTreeSet::new();
    for number in 0..COUNT {
        let Some(message) = bench.wait("a message", stream.recv()) else { panic!("the stream has ended") };
        let head: Vec<u8> = message.payload[..8].to_vec();
        assert_eq!(head, number.to_be_bytes());
        assert!(got.insert(head), "twice: {number}");
    }
    assert_eq!(events.try_recv(), None);
    bench.until("all is acknowledged", || broker.broker(|broker| broker.owed_to("slow")) == 0);
    bench.disconnect(&slow);
}

pub(super) fn a_server_that_stops_reading_holds_publishers_back(bench: &Bench) {
    let broker = broker();
    let relay = Relay::start(broker.port());
    let limits = Limits { outgoing_bytes: 1 << 20, ..Limits::DEFAULT };
    let client = bench.connect(limited(&relay.url(), "held", limits));
    let mut events = client.events();
    relay.hold_up(true);
    let mut deliveries = Vec::new();
    let large = |number: usize| {
        let mut payload = format!("{number} ");
        payload.push_str(&"x".repeat(64 << 10));
        message("held", payload, QoS::AtMostOnce)
    };
    loop {
        match bench.wait_for(SECOND / 5, client.publish(large(deliveries.len()))) {
            Some(Ok(delivery)) => deliveries.push(delivery),
            Some(Err(error)) => panic!("{error}"),
            None => break,
        }
        // No system holds as much for one socket.
        assert!(deliveries.len() < 2_000, "nothing holds the publisher back");
    }
    assert!(client.memory_used() < 2 << 20, "{} bytes are held", client.memory_used());
    assert!(client.try_publish(large(0)).is_err_and(|error| error.is_full()));
    assert!(deliveries.len() >= 15, "only {} messages found room", deliveries.len());
    thread::sleep(SECOND / 5);
    assert_eq!(events.try_recv(), None, "the server is alive");

    relay.hold_up(false);
    let count = deliveries.len();
    for delivery in deliveries {
        assert_eq!(bench.wait("an outcome", delivery), Outcome::Sent);
    }
    bench.disconnect(&client);
    bench.until("everything is there", || broker.broker(|broker| broker.log().accepted().count()) == count);
    let order: Vec<String> =
        accepted(&broker).iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(order, numbers(count));
}

pub(super) fn waiting_publishers_are_served_in_order(bench: &Bench) {
    const COUNT: usize = 30;
    let port = free_port();
    let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
    let client = bench.start(limited(&format!("mqtt://127.0.0.1:{port}"), "line", limits));
    let _first = client.try_publish(message("line", "first", QOS_1));
    let publish = |text| Box::pin(client.publish(message("line", text, QOS_1)));
    let mut line: Vec<_> = numbers(COUNT).into_iter().map(publish).collect();
    let mut context = Context::from_waker(Waker::noop());
    // Nobody listens, so that each of them comes to wait.
    assert!(line.iter_mut().all(|waiting| waiting.as_mut().poll(&mut context).is_pending()));
    let broker = Broker::start_on(BrokerConfig::new(), port);
    let Ok(broker) = broker else { panic!("{broker:?}") };
    let mut deliveries = Vec::new();
    bench.until("everybody is served", || {
        // The last ones ask first.
        line.reverse();
        line.retain_mut(|waiting| match waiting.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(delivery) => {
                deliveries.push(delivery);
                false
            }
        });
        line.reverse();
        line.is_empty()
    });
    for delivery in deliveries {
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    }
    bench.disconnect(&client);
    let accepted = accepted(&broker);
    assert_eq!(accepted[0], "first");
    assert_eq!(accepted[1..], numbers(COUNT));
}
