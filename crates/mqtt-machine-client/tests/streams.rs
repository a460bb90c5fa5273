//! Streams whose readers are slow: what waits for them is bounded, by the stream's own limit and by the client's budget.

mod support;

use std::task::{Context, Waker};
use std::time::Duration;

use mqtt_machine::packet::PacketType;
use mqtt_machine_client::{
    Behind, Client, ClientEvent, Incoming, Message, Options, Outcome, Overflow, Priority, QoS, StreamLimit,
    Subscription, WhenFull,
};
use support::Way;
use support::bench::{Bench, is_ready};

const QOS_1: QoS = QoS::AtLeastOnce;

fn bench(configure: impl FnOnce(Options) -> Options) -> (Client, Bench) {
    let way = Way::direct("mqtt://host");
    let (client, mut bench) = Bench::new(way, configure(way.options()));
    bench.done(client.connected()).unwrap();
    (client, bench)
}

/// Publishes these payloads on these topics, and has them delivered.
fn publish(client: &Client, bench: &mut Bench, messages: &[(&str, &str)]) {
    for (topic, payload) in messages {
        let message = Message::to(topic, (*payload).to_owned()).unwrap().qos(QOS_1);
        let delivery = bench.done(client.publish(message)).unwrap();
        assert!(matches!(bench.done(delivery), Outcome::Acknowledged(_)));
    }
    bench.run();
}

fn read(stream: &mut Subscription) -> Vec<String> {
    std::iter::from_fn(|| stream.try_recv().ok()).map(|message: Incoming| message.payload_lossy()).collect()
}

/// A stream under this limit, and what is in it after messages "1" to "5" on one topic.
fn after_five(limit: StreamLimit) -> (Vec<String>, u64, Client, Bench) {
    let (client, mut bench) = bench(|options| options);
    let mut stream = bench.done(client.subscribe("t/#", QOS_1)).unwrap();
    stream.limit(limit);
    publish(&client, &mut bench, &[("t/a", "1"), ("t/b", "2"), ("t/a", "3"), ("t/c", "4"), ("t/a", "5")]);
    let texts = read(&mut stream);
    let dropped = stream.dropped();
    assert_eq!(texts.len() as u64 + dropped, 5);
    (texts, dropped, client, bench)
}

#[test]
fn a_stream_keeps_as_many_messages_as_its_limit_says() {
    let limit = StreamLimit::messages(3);
    assert_eq!(after_five(limit).0, ["3", "4", "5"]);
    assert_eq!(after_five(limit.when_full(WhenFull::DropNewest)).0, ["1", "2", "3"]);
    assert_eq!(after_five(limit.when_full(WhenFull::Reject)).0, ["1", "2", "3"]);
    assert_eq!(after_five(limit.when_full(WhenFull::LastValue)).0, ["5", "2", "4"]);
    assert_eq!(after_five(StreamLimit::messages(2).when_full(WhenFull::LastValue)).0, ["4", "5"]);
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::LastValue, WhenFull::Reject] {
        assert_eq!(after_five(StreamLimit::messages(0).when_full(when_full)).1, 5);
    }
}

#[test]
fn a_stream_keeps_as_many_bytes_as_its_limit_says() {
    let each = Message::to("t/a", "1").unwrap().cost();
    let limit = StreamLimit::messages(100).bytes(2 * each);
    assert_eq!(after_five(limit).0, ["4", "5"]);
    assert_eq!(after_five(limit.when_full(WhenFull::DropNewest)).0, ["1", "2"]);
    assert_eq!(after_five(limit.bytes(each - 1)).1, 5, "none is as small");
}

#[test]
fn what_a_stream_has_no_room_for_is_acknowledged_and_gives_its_bytes_back() {
    let (_, dropped, client, mut bench) = after_five(StreamLimit::messages(1));
    assert_eq!(dropped, 4);
    bench.run();
    assert_eq!(client.metrics().incoming_bytes, 0);
    let acknowledged = bench.broker.log().sent_by("stack", PacketType::PubAck).count();
    assert_eq!(acknowledged, 5, "those that were read, too");
}

#[test]
fn a_server_of_5_0_is_told_of_what_is_rejected() {
    let (_, _, _, mut bench) = after_five(StreamLimit::messages(3).when_full(WhenFull::Reject));
    bench.run();
    assert_eq!(bench.broker.log().sent_by("stack", PacketType::PubAck).count(), 5);
    // PUBACK with the packet identifier and the reason code.
    let refusal = |bytes: &&[u8]| matches!(bytes, [0x40, 3, 0, _, 0x97]);
    assert_eq!(bench.got.windows(5).filter(refusal).count(), 2);
}

#[test]
fn a_limit_holds_for_what_has_arrived_and_for_one_stream_only() {
    let (client, mut bench) = bench(|options| options);
    let mut all = bench.done(client.subscribe("t/#", QOS_1)).unwrap();
    let mut few = bench.done(client.subscribe("t/+", QOS_1)).unwrap();
    publish(&client, &mut bench, &[("t/a", "1"), ("t/a", "2"), ("t/a", "3")]);
    few.limit(StreamLimit::messages(1));
    assert_eq!((few.dropped(), all.dropped()), (2, 0));
    assert_eq!(read(&mut few), ["3"]);
    assert_eq!(read(&mut all), ["1", "2", "3"]);
    publish(&client, &mut bench, &[("t/a", "4"), ("t/a", "5")]);
    assert_eq!((read(&mut few), read(&mut all)), (vec!["5".into()], vec!["4".into(), "5".into()]));
}

#[test]
fn a_reader_that_is_behind_loses_qos_0_only_and_is_told() {
    let (client, mut bench) = bench(|options| {
        options.configure(|config| {
            let mut config = config.behind(Behind::DropQoS0);
            config.limits.incoming_bytes = 4_000;
            config
        })
    });
    let mut events = client.events();
    let mut stream = bench.done(client.subscribe("t", QOS_1)).unwrap();
    for number in 0..100 {
        let qos = if number % 10 == 0 { QOS_1 } else { QoS::AtMostOnce };
        let delivery =
            bench.done(client.publish(Message::to("t", number.to_string()).unwrap().qos(qos))).unwrap();
        bench.done(delivery);
        bench.run();
    }
    let overrun = client.metrics().overrun;
    assert!(overrun > 50, "{overrun}");
    let texts = read(&mut stream);
    assert_eq!(texts.len() as u64 + overrun, 100);
    assert_eq!(texts.iter().filter(|text| text.ends_with('0')).count(), 10, "{texts:?}");
    bench.run();
    assert_eq!(bench.done(events.recv()), Some(ClientEvent::Overrun { messages: overrun }));
}

#[test]
fn a_publish_waits_for_room_or_does_not_as_the_policy_says() {
    let limited = |overflow: Overflow| {
        bench(|options| {
            options.configure(|config| {
                let mut config = config.overflow(overflow);
                config.limits.outgoing_messages = 1;
                config
            })
        })
    };
    let message = |payload: &'static str| Message::to("t", payload).unwrap().qos(QOS_1);
    let (client, mut bench) = limited(Overflow::Wait);
    let first = client.try_publish(message("1")).unwrap();
    let mut second = client.publish(message("2"));
    assert!(!is_ready(&mut second));
    assert!(matches!(bench.done(first), Outcome::Acknowledged(_)));
    let second = bench.done(second).unwrap();
    assert!(matches!(bench.done(second), Outcome::Acknowledged(_)));

    let (client, mut bench) = limited(Overflow::Refuse);
    let _first = client.try_publish(message("1")).unwrap();
    assert!(bench.done(client.publish(message("2"))).unwrap_err().is_full());

    let (client, mut bench) = limited(Overflow::DropNewest);
    let first = client.try_publish(message("1").priority(Priority::Low)).unwrap();
    let second = bench.done(client.publish(message("2"))).unwrap();
    assert!(matches!(bench.done(second), Outcome::Dropped(mqtt_machine_client::DropReason::Overflow)));
    assert!(matches!(bench.done(first), Outcome::Acknowledged(_)));
}

/// Six messages of 60,000 bytes, of which the server has each on its way before the next.
fn blast(client: &Client, bench: &mut Bench) {
    for _ in 0..6 {
        drop(bench.done(client.publish(Message::to("t", vec![b'x'; 60_000]).unwrap())).unwrap());
        bench.run();
    }
}

fn waits(stream: &mut Subscription) -> bool {
    stream.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_reader_who_was_woken_comes_before_much_more_is_read() {
    // Who has just subscribed has been woken too.
    for waits_first in [true, false] {
        let (client, mut bench) = bench(|options| options);
        let mut stream = bench.done(client.subscribe("t", QOS_1)).unwrap();
        assert!(!waits_first || waits(&mut stream));
        blast(&client, &mut bench);
        let held = client.metrics().incoming_bytes;
        assert!((128 << 10..200_000).contains(&held), "{held}");
        assert_eq!(read(&mut stream).len(), 3);
        bench.run();
        assert_eq!(read(&mut stream).len(), 3, "the others follow, though nobody waits for them");
    }
}

#[test]
fn a_reader_who_does_not_come_is_not_waited_for() {
    let (client, mut bench) = bench(|options| options);
    let mut stream = bench.done(client.subscribe("t", QOS_1)).unwrap();
    assert!(waits(&mut stream));
    blast(&client, &mut bench);
    std::thread::sleep(Duration::from_millis(10));
    bench.run();
    assert_eq!(read(&mut stream).len(), 6);
    assert!(waits(&mut stream));
    blast(&client, &mut bench);
    drop(stream);
    bench.run();
    assert_eq!(client.metrics().incoming_bytes, 0, "nor one who is gone");
    assert_eq!(client.metrics().received, 12);
}
