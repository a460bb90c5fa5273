//! Messages that a reader takes together: in which order they come, and what of them is acknowledged when.

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mqtt_machine::packet::PacketType;
use mqtt_machine_client::{
    Batch, Client, Message, Outcome, ProtocolVersion, QoS, ReasonCode, StreamLimit, Subscription,
    TryRecvError, WhenFull, threads,
};
use support::Way;
use support::bench::Bench;

const QOS_1: QoS = QoS::AtLeastOnce;

fn bench(version: ProtocolVersion) -> (Client, Bench) {
    let way = Way::direct("mqtt://host");
    let options = way.options().configure(|config| config.version(version));
    let (client, mut bench) = Bench::new(way, options);
    bench.done(client.connected()).unwrap();
    (client, bench)
}

/// Publishes these payloads at this QoS, and has them delivered.
fn publish(client: &Client, bench: &mut Bench, topic: &str, qos: QoS, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = Message::to(topic, number.to_string()).unwrap().qos(qos);
        let delivery = bench.done(client.publish(message)).unwrap();
        assert!(matches!(bench.done(delivery), Outcome::Acknowledged(_) | Outcome::Sent));
    }
    bench.run();
}

/// A stream in which "0" to "9" wait at QoS 1.
fn ten() -> (Client, Bench, Subscription) {
    let (client, mut bench) = bench(ProtocolVersion::V5);
    let stream = bench.done(client.subscribe("t", QOS_1)).unwrap();
    publish(&client, &mut bench, "t", QOS_1, 0..10);
    (client, bench, stream)
}

fn acknowledged(bench: &mut Bench) -> usize {
    bench.run();
    bench.broker.log().sent_by("stack", PacketType::PubAck).count()
}

/// The next `count` messages of a batch.
fn read(batch: &mut Batch<'_>, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count
        && let Some(message) = batch.next()
    {
        texts.push(message.payload_lossy());
    }
    texts
}

/// What is left in a stream.
fn rest(stream: &mut Subscription) -> Vec<String> {
    std::iter::from_fn(|| stream.try_recv().ok()).map(|message| message.payload_lossy()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_batch_gives_what_has_arrived_in_order_and_settles_it_once_at_its_end() {
    let (client, mut bench, mut stream) = ten();
    let mut batch = bench.done(pin!(stream.recv_batch(100))).unwrap();
    assert_eq!((batch.len(), batch.is_empty()), (10, false));
    assert_eq!(read(&mut batch, 100), numbers(0..10));
    assert!(batch.next().is_none() && batch.is_empty());
    assert_eq!(acknowledged(&mut bench), 0, "not before its end");
    assert!(client.metrics().incoming_bytes > 0);
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 10);
    assert_eq!(client.metrics().incoming_bytes, 0);
    assert!(matches!(stream.try_recv_batch(100), Err(TryRecvError::Empty)));
    drop(stream);
    assert_eq!(acknowledged(&mut bench), 10, "once");
    let identifiers: Vec<u8> =
        bench.got.windows(4).filter(|bytes| bytes[..3] == [0x40, 2, 0]).map(|bytes| bytes[3]).collect();
    assert!(identifiers.is_sorted() && identifiers.len() == 10, "in the order of arrival: {identifiers:?}");
}

#[test]
fn what_a_batch_did_not_give_comes_next_and_is_not_acknowledged() {
    let (client, mut bench, mut stream) = ten();
    drop(stream.try_recv_batch(100).unwrap());
    assert_eq!(acknowledged(&mut bench), 0, "nothing was given");
    let mut batch = stream.try_recv_batch(100).unwrap();
    assert_eq!(read(&mut batch, 3), numbers(0..3));
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 3);
    let mut batch = stream.try_recv_batch(4).unwrap();
    assert_eq!(batch.len(), 4, "as many as are asked for");
    assert_eq!(read(&mut batch, 100), numbers(3..7));
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 7);
    assert_eq!(stream.try_recv().unwrap().payload_lossy(), "7");
    // One that is forgotten gives nothing back, and what it gave comes again.
    let mut batch = stream.try_recv_batch(0).unwrap();
    assert_eq!(read(&mut batch, 100), ["8"], "one at least");
    std::mem::forget(batch);
    assert_eq!(acknowledged(&mut bench), 8);
    assert_eq!(rest(&mut stream), numbers(8..10));
    assert_eq!(acknowledged(&mut bench), 10);
    assert_eq!(client.metrics().incoming_bytes, 0);
}

#[test]
fn waiting_for_a_batch_can_be_given_up() {
    let (client, mut bench, mut stream) = ten();
    let mut batch = stream.try_recv_batch(10).unwrap();
    assert_eq!(read(&mut batch, 10).len(), 10);
    drop(batch);
    {
        let mut waiting = pin!(stream.recv_batch(10));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        publish(&client, &mut bench, "t", QOS_1, 10..13);
    }
    assert_eq!(acknowledged(&mut bench), 10);
    {
        // It was ready, and nobody has looked.
        let mut waiting = pin!(stream.recv_batch(10));
        assert!(matches!(
            waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Some(_))
        ));
    }
    assert_eq!(acknowledged(&mut bench), 10);
    assert_eq!(rest(&mut stream), numbers(10..13));
}

#[test]
fn one_message_of_a_batch_can_be_rejected() {
    let (_client, mut bench, mut stream) = ten();
    let mut batch = stream.try_recv_batch(10).unwrap();
    batch.reject(ReasonCode::ImplementationSpecificError);
    assert_eq!(batch.delivery_key(), None, "none was given");
    let mut keys = Vec::new();
    for number in 0..10 {
        assert_eq!(read(&mut batch, 1), [number.to_string()]);
        keys.push(batch.delivery_key().unwrap());
        if number % 5 == 1 {
            batch.reject(ReasonCode::NotAuthorized);
            batch.reject(ReasonCode::ImplementationSpecificError);
            assert_eq!(batch.delivery_key(), None);
        }
    }
    keys.dedup();
    assert_eq!(keys.len(), 10);
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 10);
    let refused =
        |code: u8| bench.got.windows(5).filter(|it| it[..3] == [0x40, 3, 0] && it[4] == code).count();
    assert_eq!((refused(0x87), refused(0x83)), (2, 0));
}

#[test]
fn a_batch_may_hold_messages_of_every_qos_and_of_several_streams() {
    let (client, mut bench) = bench(ProtocolVersion::V3_1_1);
    let mut all = bench.done(client.subscribe("#", QoS::ExactlyOnce)).unwrap();
    publish(&client, &mut bench, "t", QoS::AtMostOnce, 0..3);
    publish(&client, &mut bench, "t", QOS_1, 3..5);
    publish(&client, &mut bench, "t", QoS::AtMostOnce, 5..6);
    let mut batch = all.try_recv_batch(10).unwrap();
    assert_eq!(read(&mut batch, 10), numbers(0..6));
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 2);
    assert_eq!(client.metrics().incoming_bytes, 0);
    // Of what is in two streams, both give their share back.
    let mut more = bench.done(client.subscribe("t", QoS::ExactlyOnce)).unwrap();
    publish(&client, &mut bench, "t", QOS_1, 6..8);
    let count = |stream: &mut Subscription| {
        let mut batch = stream.try_recv_batch(10).unwrap();
        read(&mut batch, 10).len()
    };
    let first = count(&mut all);
    assert!(first >= 2);
    assert_eq!(acknowledged(&mut bench), 2, "the other stream has not");
    assert_eq!(count(&mut more), first);
    assert_eq!(acknowledged(&mut bench), 2 + first);
    assert_eq!(client.metrics().incoming_bytes, 0);
}

#[test]
fn a_limit_holds_before_a_batch_is_taken() {
    for (when_full, kept) in [(WhenFull::DropOldest, 6..10), (WhenFull::DropNewest, 0..4)] {
        let (client, mut bench) = bench(ProtocolVersion::V5);
        let mut stream = bench.done(client.subscribe("t", QOS_1)).unwrap();
        stream.limit(StreamLimit::messages(4).when_full(when_full));
        publish(&client, &mut bench, "t", QOS_1, 0..10);
        let mut batch = bench.done(pin!(stream.recv_batch(100))).unwrap();
        assert_eq!(read(&mut batch, 100), numbers(kept));
        drop(batch);
        assert_eq!((stream.dropped(), acknowledged(&mut bench)), (6, 10));
        assert_eq!(client.metrics().incoming_bytes, 0);
    }
}

#[test]
fn batches_end_with_the_client() {
    let (client, mut bench, mut stream) = ten();
    let mut disconnecting = pin!(client.disconnect());
    assert!(bench.done(disconnecting.as_mut()).is_ok());
    let mut batch = bench.done(pin!(stream.recv_batch(4))).unwrap();
    assert_eq!(read(&mut batch, 100), numbers(0..4), "what has arrived can be read");
    drop(batch);
    assert_eq!(rest(&mut stream), numbers(4..10));
    assert!(bench.done(pin!(stream.recv_batch(4))).is_none());
    assert!(matches!(stream.try_recv_batch(4), Err(TryRecvError::Closed)));
}

#[test]
fn threads_take_batches_too() {
    let (_client, mut bench, stream) = ten();
    let mut stream = threads::Subscription::from(stream);
    let mut batch = stream.recv_batch(4).unwrap();
    assert_eq!(read(&mut batch, 100), numbers(0..4));
    drop(batch);
    let mut batch = stream.try_recv_batch(100).unwrap();
    assert_eq!(read(&mut batch, 2), numbers(4..6));
    drop(batch);
    assert_eq!(acknowledged(&mut bench), 6);
    drop(bench);
    assert_eq!(stream.recv().unwrap().payload_lossy(), "6");
}

#[test]
fn a_topic_that_comes_again_goes_where_it_belongs_by_then() {
    let (client, mut bench) = bench(ProtocolVersion::V3_1_1);
    let mut first = bench.done(client.subscribe("a/+", QOS_1)).unwrap();
    let mut number = 0;
    let mut send = |bench: &mut Bench| {
        publish(&client, bench, "a/b", QoS::AtMostOnce, number..number + 3);
        number += 3;
    };
    send(&mut bench);
    assert_eq!(rest(&mut first), numbers(0..3));
    let mut second = bench.done(client.subscribe("a/b", QOS_1)).unwrap();
    send(&mut bench);
    let (in_first, in_second) = (rest(&mut first), rest(&mut second));
    assert!(in_first.len() >= 3);
    assert_eq!(in_first, in_second);
    drop(first);
    send(&mut bench);
    assert_eq!(rest(&mut second), numbers(6..9));
    drop(second);
    let mut third = bench.done(client.subscribe("a/#", QOS_1)).unwrap();
    send(&mut bench);
    assert_eq!(rest(&mut third), numbers(9..12));
    assert_eq!(client.metrics().incoming_bytes, 0);
}
