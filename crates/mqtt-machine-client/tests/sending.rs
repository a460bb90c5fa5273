//! Owns the proof that messages may be written by those who publish them, ahead of the driver: in order, for one connection alone, and
//! no further than the socket takes. It must not open a socket.

mod support;

use std::pin::pin;
use std::task::{Context, Waker};

use mqtt_machine::packet::PacketType;
use mqtt_machine::{DropReason, Limits, Message, Outcome, Overflow, Priority, QoS, Refused};
use mqtt_machine_client::{Client, CommandError};
use mqtt_machine_testkit::Random;
use support::bench::{Bench, is_ready};
use support::{WAYS, Way};

const PLAIN: Way = Way::direct("mqtt://host");

fn message(payload: impl Into<Vec<u8>>, qos: QoS) -> Message {
    Message::to("t", payload.into()).unwrap().qos(qos)
}

fn connected(way: Way, limits: Limits, overflow: Overflow) -> (Client, Bench) {
    let options = way.options().configure(|config| config.limits(limits).overflow(overflow));
    let (client, mut bench) = Bench::new(way, options);
    bench.done(client.connected()).unwrap();
    (client, bench)
}

/// The payloads of the PUBLISH packets that the server got, in order; 64 bytes of each.
fn arrived(bench: &Bench) -> Vec<Vec<u8>> {
    let publications = bench.broker.log().sent_by("stack", PacketType::Publish);
    publications.map(|seen| seen.payload.to_vec()).collect()
}

#[test]
fn messages_leave_in_the_order_in_which_they_were_accepted() {
    for (seed, way) in (1..).zip(WAYS) {
        let mut random = Random::new(seed);
        let (client, mut bench) = connected(way, Limits::DEFAULT, Overflow::Wait);
        let mut accepted = Vec::new();
        for number in 0..2_000_u32 {
            // Of some the payload is chained, of a few it fills the output.
            let size = [0, 60, 1_000, 3_000, 70_000][random.size(0..=32) / 8];
            let qos =
                [QoS::AtMostOnce, QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.size(0..=3)];
            let payload = [&number.to_be_bytes()[..], &vec![7; size]].concat();
            accepted.push(payload[..payload.len().min(64)].to_vec());
            let message = message(payload, qos);
            match random.size(0..=2) {
                0 => drop(bench.done(client.publish(message)).unwrap()),
                1 => drop(bench.done(client.send(&message)).unwrap()),
                _ => drop(client.try_send(&message).unwrap()),
            }
            bench.deaf = random.size(0..=4) == 0;
            if random.size(0..=7) == 0 {
                bench.run();
            }
        }
        bench.deaf = false;
        bench.run();
        assert!(bench.done(client.disconnect()).unwrap().is_complete(), "{way:?}");
        assert_eq!(arrived(&bench).len(), accepted.len(), "{way:?}");
        assert!(arrived(&bench) == accepted, "{way:?}: another order");
        assert_eq!(bench.broker.log().violations().count(), 0, "{way:?}");
    }
}

#[test]
fn what_was_written_for_a_connection_that_ended_goes_to_no_other() {
    for way in WAYS {
        for handle in [true, false] {
            let (client, mut bench) = connected(way, Limits::DEFAULT, Overflow::Wait);
            let mut lost = bench.done(client.publish(message("lost", QoS::AtMostOnce))).unwrap();
            bench.done(client.send(&message("sent", QoS::AtMostOnce))).unwrap();
            let mut again = bench.done(client.publish(message("again", QoS::AtLeastOnce))).unwrap();
            assert!(!is_ready(&mut lost) && !is_ready(&mut again), "the driver has had no turn");
            if handle {
                client.reconnect().unwrap();
            } else {
                bench.cut();
                client.reconnect().unwrap();
            }
            bench.run();
            bench.done(client.connected()).unwrap();
            assert!(matches!(bench.done(again), Outcome::Acknowledged(_)), "{way:?}");
            let outcome = bench.done(lost);
            if !handle {
                assert_eq!(outcome, Outcome::Dropped(DropReason::ConnectionLost), "{way:?}");
                assert_eq!(arrived(&bench), [b"again"], "{way:?}");
            }
            assert!(bench.broker.log().count("t", b"again") > 0, "{way:?}");
            assert_eq!(bench.broker.log().violations().count(), 0, "{way:?}, {handle}");
        }
    }
}

#[test]
fn what_a_socket_does_not_take_can_be_overtaken() {
    for way in WAYS {
        let (client, mut bench) = connected(way, Limits::DEFAULT, Overflow::Wait);
        bench.deaf = true;
        // These fill the layers, if there are any, and what comes before them.
        for _ in 0..4 {
            bench.done(client.send(&message([b'-'; 70_000], QoS::AtMostOnce))).unwrap();
            bench.run();
        }
        for (payload, priority) in [("later", Priority::Normal), ("soon", Priority::High)] {
            let message = message(payload, QoS::AtMostOnce).priority(priority);
            bench.done(client.send(&message)).unwrap();
            bench.run();
        }
        bench.deaf = false;
        bench.run();
        let order = arrived(&bench);
        let place = |payload: &[u8]| order.iter().position(|arrived| arrived == payload).unwrap();
        assert_eq!(order.len(), 6, "{way:?}");
        assert!(place(b"soon") < place(b"later"), "{way:?}");
    }
}

#[test]
fn a_message_that_is_sent_waits_for_room_in_the_line_of_those_that_are_published() {
    let limits = Limits { outgoing_messages: 2, ..Limits::DEFAULT };
    for overflow in [Overflow::Wait, Overflow::Refuse] {
        let (client, mut bench) = connected(PLAIN, limits, overflow);
        let mut context = Context::from_waker(Waker::noop());
        bench.deaf = true;
        for payload in ["one", "two"] {
            bench.done(client.send(&message(payload, QoS::AtLeastOnce))).unwrap();
        }
        let full = Err(CommandError::Refused(Refused::Full));
        assert_eq!(client.try_send(&message("no", QoS::AtLeastOnce)), full);
        let (third, fourth, fifth) = (
            message("three", QoS::AtLeastOnce),
            message("four", QoS::AtLeastOnce),
            message("five", QoS::AtMostOnce),
        );
        let mut third = Box::pin(client.send(&third));
        let mut fourth = pin!(client.publish(fourth));
        let mut fifth = pin!(client.send(&fifth));
        if overflow == Overflow::Refuse {
            assert!(bench.done(third).is_err() && bench.done(fourth).is_err() && bench.done(fifth).is_err());
            continue;
        }
        assert!(Future::poll(third.as_mut(), &mut context).is_pending());
        assert!(Future::poll(fourth.as_mut(), &mut context).is_pending());
        assert!(Future::poll(fifth.as_mut(), &mut context).is_pending());
        // Who goes gives the place to the next.
        drop(third);
        bench.deaf = false;
        bench.run();
        assert!(Future::poll(fifth.as_mut(), &mut context).is_pending(), "it is not its turn");
        assert!(Future::poll(fourth.as_mut(), &mut context).is_ready());
        assert!(Future::poll(fifth.as_mut(), &mut context).is_ready());
        bench.run();
        assert_eq!(arrived(&bench), [&b"one"[..], b"two", b"four", b"five"]);
    }
}

#[test]
fn what_is_written_ahead_of_the_driver_is_bounded_and_told() {
    let limits = Limits { outgoing_messages: 3, ..Limits::DEFAULT };
    let (client, mut bench) = connected(PLAIN, limits, Overflow::Wait);
    let (before, large) = (client.memory_used(), message([7; 10_000], QoS::AtMostOnce));
    let mut accepted = 0;
    while client.try_send(&large).is_ok() {
        accepted += 1;
        assert!(client.memory_used() >= before + accepted * 10_000, "{accepted}: {}", client.memory_used());
    }
    // Seven fill the 64 KiB that are written ahead, and what comes then waits where the caps count it.
    assert_eq!((accepted, client.metrics().sent), (10, 0));
    bench.run();
    assert_eq!((client.metrics().sent, arrived(&bench).len()), (10, 10));
}

#[test]
fn a_future_that_is_polled_after_it_was_ready_publishes_nothing_more() {
    let (client, mut bench) = connected(PLAIN, Limits::DEFAULT, Overflow::Wait);
    let (sent, mut context) = (message("sent", QoS::AtMostOnce), Context::from_waker(Waker::noop()));
    let mut sending = pin!(client.send(&sent));
    let mut publish = pin!(client.publish(message("published", QoS::AtMostOnce)));
    for is_first in [true, false, false] {
        assert_eq!(Future::poll(sending.as_mut(), &mut context).is_ready(), is_first);
        assert_eq!(Future::poll(publish.as_mut(), &mut context).is_ready(), is_first);
    }
    bench.run();
    assert_eq!(arrived(&bench), [&b"sent"[..], b"published"]);
}

#[test]
fn a_client_that_has_ended_sends_nothing() {
    let (client, mut bench) = connected(PLAIN, Limits::DEFAULT, Overflow::Wait);
    bench.done(client.send(&message("sent", QoS::AtMostOnce))).unwrap();
    assert!(bench.done(client.disconnect()).unwrap().is_complete());
    let late = message("late", QoS::AtMostOnce);
    assert_eq!(bench.done(client.send(&late)), Err(CommandError::Closed));
    assert_eq!(client.try_send(&late), Err(CommandError::Closed));
    assert_eq!(arrived(&bench), [b"sent"]);
}

#[test]
fn a_client_whose_driver_is_gone_accepts_nothing_however_open_the_way_was() {
    let (client, mut bench) = connected(PLAIN, Limits::DEFAULT, Overflow::Wait);
    // The driver is woken, and has no turn any more.
    bench.done(client.send(&message("before", QoS::AtMostOnce))).unwrap();
    drop(bench);
    let refused = |result| assert_eq!(result, Err(CommandError::Closed));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let message = message("after", qos);
        refused(client.send(&message).wait().map(drop));
        refused(client.try_send(&message).map(drop));
        refused(client.publish(message.clone()).wait().map(drop));
        refused(client.try_publish(message).map(drop));
    }
}
