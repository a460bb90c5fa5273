//! Owns the proof of the driver's borders: between the layers and the machine, between one transport and the next, and of what
//! is told when. It must not open a socket.

mod support;

use std::task::Waker;

use bytes::Buf;
use mqtt_machine::{Limits, Message, Outcome, QoS};
use mqtt_machine_client::{ClientEvent, Layers, Task, TransportError};
use support::bench::{Bench, is_ready};
use support::{WAYS, Way};

#[test]
fn what_came_with_the_end_counts_although_the_machine_takes_it_later() {
    for way in WAYS.into_iter().filter(|way| way.has_tls() || way.has_websocket()) {
        let limits = Limits { incoming_bytes: 100, ..Limits::DEFAULT };
        let (client, mut bench) = Bench::new(way, way.options().configure(|config| config.limits(limits)));
        bench.done(client.connected()).unwrap();
        let mut events = client.events();
        let mut stream = bench.done(client.subscribe("t", QoS::AtMostOnce)).unwrap();
        // Ten messages and the proper end of every layer, in one read.
        for number in 0..10_u8 {
            let publish = [&[0x30, 84, 0, 1, b't', 0][..], &[b'0' + number; 80][..]].concat();
            bench.broker.inject("stack", &publish);
        }
        let plain = bench.broker.poll_output(bench.conn);
        bench.peer.send(&plain);
        if way.has_websocket() {
            bench.peer.socket().close(None).unwrap();
        }
        if way.has_tls() {
            bench.peer.close_tls();
        }
        bench.run();
        for number in 0..10_u8 {
            let got = bench.done(stream.recv()).unwrap();
            assert_eq!(got.payload[0], b'0' + number, "{way:?}");
        }
        bench.run();
        match bench.done(events.recv()) {
            Some(ClientEvent::Disconnected { cause: None, .. }) => {}
            event => panic!("{way:?}: {event:?}"),
        }
    }
}

#[test]
fn sent_is_told_when_the_last_byte_is_with_the_socket_and_not_before() {
    for way in WAYS {
        for size in [10, 65_000, 65_536, 70_000, 300_000] {
            let (client, mut bench) = Bench::new(way, way.options());
            bench.done(client.connected()).unwrap();
            bench.deaf = true;
            let message = Message::to("t", vec![b'x'; size]).unwrap();
            let mut delivery = bench.done(client.publish(message)).unwrap();
            bench.run();
            while bench.driver.output().has_remaining() {
                assert!(!is_ready(&mut delivery), "{way:?} {size}: told too early");
                let count = bench.driver.output().chunk().len().min(1_000);
                bench.peer.receive(&bench.driver.output().chunk()[..count]);
                bench.driver.wrote(count);
                bench.run();
            }
            assert_eq!(bench.broker.log().count("t", &vec![b'x'; size]), 1, "{way:?} {size}");
            assert_eq!(bench.done(delivery), Outcome::Sent);
        }
    }
}

#[test]
fn a_socket_that_opens_after_it_was_given_up_changes_nothing() {
    let way = Way::direct("wss://host");
    let (client, mut bench) = Bench::new(way, way.options());
    bench.driver.turn(Waker::noop());
    let Some(Task::Open { id, .. }) = bench.driver.next_task() else { panic!("it opens") };
    client.reconnect().unwrap();
    bench.driver.turn(Waker::noop());
    let Some(Task::Close { id: closed, .. }) = bench.driver.next_task() else { panic!("it gives up") };
    assert_eq!(closed, id);
    let mut events = client.events();
    bench.driver.opened(id, Layers::new());
    bench.driver.open_failed(id, TransportError::from(std::io::Error::other("late")));
    assert!(!bench.driver.output().has_remaining());
    bench.run();
    assert!(matches!(bench.done(events.recv()), Some(ClientEvent::Connected(_))));
}

#[test]
fn every_layer_ends_in_order_when_the_client_does() {
    for way in WAYS {
        let (client, mut bench) = Bench::new(way, way.options());
        bench.done(client.connected()).unwrap();
        assert_eq!(bench.done(client.disconnect()).map(|it| it.undelivered), Ok(0));
        if way.has_websocket() {
            assert!(bench.peer.messages.last().is_some_and(tungstenite::Message::is_close), "{way:?}");
        }
        if let Some(tls) = &mut bench.peer.tls {
            let end = std::io::Read::read(&mut tls.reader(), &mut [0]);
            assert_eq!(end.unwrap(), 0, "{way:?}: close_notify");
        }
    }
}

#[test]
fn a_peer_that_pings_and_does_not_read_costs_no_more_than_a_bound() {
    let way = Way::direct("wss://host");
    let (client, mut bench) = Bench::new(way, way.options());
    bench.done(client.connected()).unwrap();
    bench.deaf = true;
    for _ in 0..20_000 {
        bench.peer.send_frame(&[&[0x89, 125][..], &[7; 125]].concat());
        bench.run();
    }
    let waiting = bench.driver.output().remaining();
    assert!(waiting < 300 << 10, "{waiting}");
    bench.deaf = false;
    bench.run();
    assert_eq!(bench.done(client.disconnect()).map(|it| it.undelivered), Ok(0));
}
