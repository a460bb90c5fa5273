//! Owns what arrives: every QoS, version and size, and which stream gets it. It must not know faults of the link, but for bytes
//! that come one by one.

use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use mqtt_machine_client::{
    CleanStart, Client, CommandError, Incoming, Message, Outcome, ProtocolVersion, QoS, ReasonCode,
    SubscribeError, TryRecvError,
};

use super::bench::{Bench, SECOND, V5, VERSIONS, broker, broker_with, message, numbers, options};
use super::drip::Drip;
use super::peers::Relay;
use crate::broker::BrokerConfig;

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const QOS_1: QoS = QoS::AtLeastOnce;

// 5.0: MQTT-4.2.0-1
// 3.1.1: MQTT-7.1.2-1
pub(super) fn messages_of_every_qos_and_version_come_back(bench: &Bench) {
    let broker = broker();
    for version in ProtocolVersion::ALL {
        for asked in EVERY_QOS {
            let client = bench.connect(options(&broker.url(), "round", version));
            let mut stream = bench.subscribe(&client, "round/#", asked);
            for published in EVERY_QOS {
                for payload in ["", "x", "more"] {
                    bench.deliver(&client, message("round/trip", payload, published));
                }
                for payload in ["", "x", "more"] {
                    let got = bench.wait("a message", stream.recv()).map(Incoming::into_message);
                    let got = got.map(|message| (message.payload_lossy(), message.qos));
                    let expected = (payload.to_owned(), published.min(asked));
                    assert_eq!(got, Some(expected), "{version} {published:?} {asked:?}");
                }
            }
            bench.disconnect(&client);
            assert!(bench.wait("the end", stream.recv()).is_none());
            let late = client.try_publish(message("a", "", QOS_1));
            assert!(matches!(late, Err(CommandError::Closed)), "{late:?}");
        }
    }
}

pub(super) fn payloads_of_ten_megabytes_pass_in_both_directions(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "large", V5));
    let mut stream = bench.subscribe(&client, "large", QoS::ExactlyOnce);
    for (number, qos) in (1_u8..).zip(EVERY_QOS) {
        let payload: Vec<u8> = (0..10_000_000_u32).map(|at| (at >> 8) as u8 ^ at as u8 ^ number).collect();
        let sent = Message::to("large", payload.clone()).map(|message| message.qos(qos));
        let Ok(sent) = sent else { panic!("{sent:?}") };
        bench.deliver(&client, sent);
        let got = bench.wait("a message of ten megabytes", stream.recv());
        let got = got.map(Incoming::into_message);
        // Not to be printed.
        assert!(got.is_some_and(|message| message.payload == payload), "{qos:?}: another payload");
    }
    bench.disconnect(&client);
}

pub(super) fn one_byte_at_a_time_is_the_same_stream(bench: &Bench) {
    let broker = broker();
    let relay = Relay::byte_by_byte(broker.port());
    for version in VERSIONS {
        let client = bench.connect(options(&relay.url(), "bytes", version));
        there_and_back(bench, &client);
    }
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

pub(super) fn reads_and_writes_of_one_byte_are_the_same_stream(bench: &Bench) {
    let broker = broker();
    for version in VERSIONS {
        let drip = Drip::default();
        let client = bench.start_dripping(options(&broker.url(), "bytes", version), &drip);
        bench.connected(&client);
        let bytes = there_and_back(bench, &client);
        let counts = drip.counts();
        assert!(counts.iter().all(|count| *count >= bytes), "{counts:?} times for {bytes} bytes");
    }
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

/// Messages of every QoS to the client itself; gives how many bytes their payloads had, and ends the client.
fn there_and_back(bench: &Bench, client: &Client) -> u64 {
    let mut stream = bench.subscribe(client, "bytes", QoS::ExactlyOnce);
    let payloads = EVERY_QOS.map(|qos| (qos, format!("{qos:?}").repeat(20)));
    for (qos, payload) in &payloads {
        bench.deliver(client, message("bytes", payload.clone(), *qos));
        assert_eq!(&bench.next(&mut stream), payload);
    }
    bench.disconnect(client);
    payloads.iter().map(|(_, payload)| payload.len() as u64).sum()
}

pub(super) fn overlapping_streams_get_each_message_once_and_unused_filters_are_unsubscribed(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "overlap", V5));
    let mut wide = bench.subscribe(&client, "a/#", QOS_1);
    let mut exact = bench.subscribe(&client, "b/c", QOS_1);
    let mut twin = bench.subscribe(&client, "b/c", QOS_1);
    for (topic, payload) in [("a/b", "1"), ("b/c", "2"), ("a", "3")] {
        bench.deliver(&client, message(topic, payload, QOS_1));
    }
    assert_eq!([bench.next(&mut wide), bench.next(&mut wide)], ["1", "3"]);
    assert_eq!([bench.next(&mut exact), bench.next(&mut twin)], ["2", "2"]);
    assert!(matches!(exact.try_recv(), Err(TryRecvError::Empty)));

    let codes = bench.wait("an answer", exact.unsubscribe()).map(|codes| codes.codes);
    assert_eq!(codes, Ok(Vec::new()), "the twin still uses the filter");
    bench.deliver(&client, message("b/c", "4", QOS_1));
    assert_eq!(bench.next(&mut twin), "4");
    let codes = bench.wait("an answer", twin.unsubscribe()).map(|codes| codes.codes);
    assert_eq!(codes, Ok(vec![ReasonCode::Success]));
    drop(wide);
    bench.deliver(&client, message("a/b", "5", QOS_1));
    bench.deliver(&client, message("b/c", "6", QOS_1));
    assert_eq!(client.unrouted(), 0);
    bench.disconnect(&client);
}

pub(super) fn a_refused_filter_is_an_error_with_its_code(bench: &Bench) {
    let Ok(denied) = "secret/#".parse() else { panic!("a filter") };
    let broker = broker_with(BrokerConfig::new().deny(denied));
    for version in VERSIONS {
        let client = bench.connect(options(&broker.url(), "denied", version));
        let refused = bench.wait("an answer", client.subscribe("secret/#", QoS::AtMostOnce));
        let Err(SubscribeError::Rejected(codes)) = refused else { panic!("{refused:?}") };
        assert!(codes.codes.len() == 1 && codes.codes.iter().all(|code| code.is_failure()), "{codes:?}");
        let none = bench.wait("an answer", client.subscribe("a/#/b", QoS::AtMostOnce));
        assert!(matches!(none, Err(SubscribeError::Filter(_))), "{none:?}");
        assert_eq!(client.pending(), 0);
    }
}

pub(super) fn unrouted_messages_go_to_the_stream_for_the_rest_or_are_counted(bench: &Bench) {
    let broker = broker();
    let resume =
        |url: &str| options(url, "resumed", V5).configure(|config| config.clean_start(CleanStart::Never));
    let client = bench.connect(resume(&broker.url()));
    let kept = bench.subscribe(&client, "kept", QOS_1);
    let other = bench.connect(options(&broker.url(), "other", V5));
    bench.disconnect(&client);
    drop(kept);
    bench.deliver(&other, message("kept", "1", QOS_1));

    // The link carries nothing until there is a stream.
    let relay = Relay::start(broker.port());
    relay.hold_down(true);
    let client = bench.start(resume(&relay.url()));
    let mut rest = client.messages();
    relay.hold_down(false);
    assert_eq!(bench.next(&mut rest), "1");
    drop(rest);
    bench.deliver(&other, message("kept", "2", QOS_1));
    bench.until("the message is counted", || client.unrouted() == 1);
    bench.disconnect(&client);
    bench.disconnect(&other);
}

pub(super) fn dropped_deliveries_and_streams_leak_nothing(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "leak", V5));
    let mut used = Vec::new();
    for _ in 0..4 {
        for round in 0..500 {
            let stream = client.subscribe("leak", QOS_1);
            let delivery = bench.wait("room", client.publish(message("leak", "x", QOS_1)));
            if round % 100 == 0 {
                drop(bench.wait("a subscription", stream));
            } else if round % 100 == 50 {
                // Asked for, and given up before the answer.
                let mut asked = pin!(stream);
                let answer = Future::poll(asked.as_mut(), &mut Context::from_waker(Waker::noop()));
                drop(answer);
            }
            drop(delivery);
        }
        bench.deliver(&client, message("leak", "last", QOS_1));
        assert_eq!(client.pending(), 0);
        used.push(client.memory_used());
    }
    // Tables grow with what is in flight at once; what is forgotten would be 100 bytes or more of each message.
    assert!(used[3] < used[0] + (64 << 10), "{used:?}");
    bench.disconnect(&client);
}

pub(super) fn messages_that_are_sent_arrive_in_order_among_those_that_are_published(bench: &Bench) {
    const COUNT: usize = 3_000;
    let broker = broker();
    for version in ProtocolVersion::ALL {
        let client = bench.connect(options(&broker.url(), "sends", version));
        let mut stream = bench.subscribe(&client, "sends", QoS::ExactlyOnce);
        // One task or thread publishes while another receives.
        let sender = client.clone();
        let sends = thread::spawn(move || {
            for (at, text) in numbers(COUNT).into_iter().enumerate() {
                let message = message("sends", text, QoS::AtMostOnce);
                let accepted = match at % 7 {
                    0 => sender.publish(message).wait().map(drop),
                    _ => sender.send(&message).wait().map(drop),
                };
                assert!(accepted.is_ok(), "{accepted:?}");
            }
        });
        let got: Vec<String> = (0..COUNT).map(|_| bench.next(&mut stream)).collect();
        assert!(sends.join().is_ok(), "everything was accepted");
        assert!(got == numbers(COUNT), "{version}: another order");
        // Nobody waits for them, and all the same they are delivered before the end.
        let last = format!("last/{version}");
        for qos in EVERY_QOS {
            let last = message(&last, "last", qos);
            let accepted = bench.wait("room", client.send(&last));
            assert!(accepted.is_ok(), "{accepted:?}");
        }
        bench.disconnect(&client);
        assert_eq!(broker.broker(|broker| broker.log().count(&last, b"last")), 3, "{version}");
    }
}

pub(super) fn a_plain_thread_publishes_and_waits(bench: &Bench) {
    let broker = broker();
    let client = bench.connect(options(&broker.url(), "thread", V5));
    let mut stream = bench.subscribe(&client, "thread", QoS::ExactlyOnce);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || {
                for text in numbers(25) {
                    let outcome = client
                        .publish(message("thread", text, QoS::ExactlyOnce))
                        .wait()
                        .map(|delivery| delivery.wait(10 * SECOND));
                    assert!(matches!(outcome, Ok(Ok(Outcome::Acknowledged(_)))), "{outcome:?}");
                }
            })
        })
        .collect();
    let mut got: Vec<String> = (0..100).map(|_| bench.next(&mut stream)).collect();
    for thread in threads {
        assert!(thread.join().is_ok(), "a thread has its outcomes");
    }
    let mut expected: Vec<String> = (0..4).flat_map(|_| numbers(25)).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    bench.disconnect(&client);
}
