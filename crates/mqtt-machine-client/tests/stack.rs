//! Owns the proof of the stack: a machine through TLS, WebSocket and proxies in memory, against the model broker behind the
//! server's side of them, in any pieces and cut anywhere. It must not open a socket.

mod support;

use std::io::Read;

use bytes::Buf;
use mqtt_machine::{Disconnect, EndReason};
use mqtt_machine::{Event, Limits, Outcome, QoS};
use mqtt_machine_client::{
    LayerError, LayerKind, TlsAlert, TlsError, TlsOptions, TransportError, WebSocketError,
};
use mqtt_machine_testkit::layers::{Authority, Peer};
use mqtt_machine_transport::rustls::{AlertDescription, Error};
use support::{Cut, WAYS, Way, World};

const WSS: Way = Way::direct("wss://host");
const MQTTS: Way = Way::direct("mqtts://host");
const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn outcomes(world: &World) -> Vec<&Outcome> {
    let ended = world.events.iter().filter_map(|event| match event {
        Event::Completed { outcome, .. } => Some(outcome),
        _ => None,
    });
    ended.collect()
}

/// Disconnects, and sees that every layer ended in order.
fn leave(world: &mut World) {
    world.stack.disconnect(world.now, Disconnect::new(std::time::Duration::from_secs(5))).unwrap();
    world.settle();
    let way = world.way;
    let past = world.past.as_mut().expect("the link is closed");
    assert_eq!((&past.peer.tls_error, &world.errors), (&None, &Vec::new()), "{way:?}");
    if way.has_websocket() {
        assert!(past.peer.messages.last().is_some_and(tungstenite::Message::is_close), "{way:?}");
    }
    if let Some(tls) = &mut past.peer.tls {
        assert_eq!(tls.reader().read(&mut [0]).unwrap(), 0, "{way:?}: close_notify");
    }
    assert!(world.broker.log().violations().next().is_none(), "{way:?}");
}

#[test]
fn every_way_carries_every_qos_in_any_pieces() {
    for way in WAYS {
        for piece in [1, 5, 1_000, usize::MAX] {
            let mut world = World::new(way, way.options());
            let mut random = 1_u32;
            world.chunk = Box::new(move || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if piece == 5 { random as usize % 50 } else { piece }
            });
            world.stack.connect(world.now).unwrap();
            world.subscribe("t", QoS::ExactlyOnce);
            world.connect();
            let large = vec![b'x'; if piece == 1 { 3_000 } else { 200_000 }];
            for qos in EVERY_QOS {
                world.publish("t", "small", qos);
                world.publish("t", large.clone(), qos);
            }
            world.settle();
            let all = [&b"small"[..], &large[..]].repeat(3);
            assert!(world.payloads("t") == all, "{way:?} {piece}: {}", world.messages.len());
            leave(&mut world);
            assert!(!outcomes(&world).iter().any(|outcome| matches!(outcome, Outcome::Unknown)));
        }
    }
}

/// What is needed for the first connection and one message of QoS 2.
fn carried(way: Way) -> (usize, usize) {
    let mut world = begun(way);
    world.connect();
    world.settle();
    let link = world.link.as_ref().unwrap();
    (link.carried_up, link.carried_down)
}

fn begun(way: Way) -> World {
    let mut world = World::new(way, way.options());
    world.stack.connect(world.now).unwrap();
    world.subscribe("t", QoS::ExactlyOnce);
    world.publish("t", "once", QoS::ExactlyOnce);
    world
}

/// After whatever befell the first connection, another one delivers exactly once.
fn recovers(mut world: World, what: &str) {
    world.connect();
    for _ in 0..20 {
        if outcomes(&world).len() == 2 && world.payloads("t").len() == 1 {
            break;
        }
        world.wait();
    }
    world.settle();
    assert_eq!(world.payloads("t"), [&b"once"[..]], "{what}: {:?} {:?}", world.events, world.errors);
    assert_eq!(world.broker.log().count("t", b"once"), 1, "{what}");
    assert_eq!(outcomes(&world).len(), 2, "{what}");
}

#[test]
fn a_cut_at_every_byte_of_handshake_and_delivery_loses_and_doubles_nothing() {
    for way in WAYS {
        // The lengths of signatures differ by a few bytes from one handshake to the next.
        let (up, down) = carried(way);
        let cuts = (0..up).map(Cut::Up).chain((0..down).map(Cut::Down));
        for cut in cuts {
            let mut world = begun(way);
            world.next_cut = cut;
            world.settle();
            recovers(world, &format!("{way:?} {cut:?}"));
        }
    }
}

#[test]
fn an_end_of_the_server_at_every_byte_names_the_layer_that_was_cut() {
    for way in WAYS {
        let (_, down) = carried(way);
        for after in 0..down.saturating_sub(8) {
            let mut world = begun(way);
            world.next_cut = Cut::EndDown(after);
            world.settle();
            let plain = !(way.has_tls() || way.has_websocket() || !way.proxies.is_empty());
            let ended = world.events.iter().filter_map(|event| match event {
                Event::ConnectFailed(ended) | Event::Disconnected(ended) => Some(&ended.reason),
                _ => None,
            });
            let ended: Vec<_> = ended.collect();
            assert!(
                matches!(ended[..], [EndReason::Closed(_) | EndReason::OpenFailed(_)]),
                "{way:?} {after}: {ended:?}"
            );
            match &world.errors[..] {
                [TransportError::Layer(LayerError::Truncated(kind))] => {
                    // A proxy comes first, and WebSocket lies on TLS.
                    let expected =
                        [LayerKind::HttpProxy, LayerKind::Socks5, LayerKind::Tls, LayerKind::WebSocket];
                    assert!(expected.contains(kind), "{way:?} {after}: {kind}");
                    assert!(
                        after > 0
                            || way.proxies.is_empty()
                            || !matches!(kind, LayerKind::Tls | LayerKind::WebSocket)
                    );
                }
                // What the proxies leave behind is a plain socket.
                [] => assert!(plain || way.url.starts_with("mqtt:"), "{way:?} {after}"),
                errors => panic!("{way:?} {after}: {errors:?}"),
            }
            recovers(world, &format!("{way:?} end after {after}"));
        }
    }
}

#[test]
fn sent_is_told_when_the_last_byte_is_with_the_socket_and_not_before() {
    for way in WAYS {
        for size in [10, 16_384, 65_000, 65_536, 70_000, 300_000] {
            let mut world = World::new(way, way.options());
            world.stack.connect(world.now).unwrap();
            world.connect();
            world.deaf = true;
            world.publish("t", vec![b'x'; size], QoS::AtMostOnce);
            world.settle();
            // Written by hand, to look at the machine after each piece.
            loop {
                world.stack.transmit(world.now, &mut world.output);
                let Some(link) = &mut world.link else { panic!("{way:?}: {:?}", world.errors) };
                if !world.output.has_remaining() {
                    break;
                }
                let count = world.output.chunk().len().min(1_000);
                link.peer.receive(&world.output.chunk()[..count]);
                world.output.advance(count);
                let id = link.id();
                let arrived = link.peer.received.len() > size;
                world.stack.handle_sent(world.now, id, count);
                let sent =
                    matches!(world.stack.poll_event(), Some(Event::Completed { outcome: Outcome::Sent, .. }));
                assert!(!sent || arrived, "{way:?} {size}: told too early");
                assert!(sent || !arrived || world.output.has_remaining(), "{way:?} {size}: told too late");
            }
            assert!(
                world.link.as_ref().is_some_and(|link| link.peer.received.len() > size),
                "{way:?} {size}"
            );
        }
    }
}

#[test]
fn what_came_with_the_end_counts_although_the_machine_takes_it_later() {
    for way in [WSS, MQTTS, Way::direct("ws://host")] {
        let limits = Limits { incoming_bytes: 100, ..Limits::DEFAULT };
        let mut world = World::new(way, way.options().configure(|config| config.limits(limits)));
        world.stack.connect(world.now).unwrap();
        world.subscribe("t", QoS::AtMostOnce);
        world.connect();
        world.held = Some(Vec::new());
        // Ten messages and the proper end of every layer, in one read.
        for number in 0..10_u8 {
            let publish = [&[0x30, 84, 0, 1, b't', 0][..], &[b'0' + number; 80][..]].concat();
            world.broker.inject("stack", &publish);
        }
        let conn = world.broker.conn_of("stack").unwrap();
        let plain = world.broker.poll_output(conn);
        let link = world.link.as_mut().unwrap();
        link.peer.send(&plain);
        if way.has_websocket() {
            link.peer.socket().close(None).unwrap();
        }
        if way.has_tls() {
            link.peer.close_tls();
        }
        world.settle();
        assert!(world.payloads("t").len() < 10, "{way:?}: the machine is paused");
        assert_eq!(world.stack.read_capacity(), 0);
        assert!(world.stack.is_connected(), "{way:?}: it does not know the end yet");
        for _ in 0..20 {
            world.give_back();
            world.held = Some(Vec::new());
            world.settle();
            if !world.stack.is_connected() {
                break;
            }
        }
        assert_eq!(world.payloads("t").len(), 10, "{way:?}");
        assert!(
            matches!(world.events.last(), Some(Event::Disconnected(ended)) if ended.reason == EndReason::Closed(None))
        );
        assert_eq!(world.errors, [], "{way:?}");
        world.give_back();
        world.connect();
    }
}

#[test]
fn what_the_machine_left_behind_is_taken_when_receipts_come_back_without_another_byte() {
    for way in WAYS {
        let limits = Limits { incoming_bytes: 100, ..Limits::DEFAULT };
        let mut world = World::new(way, way.options().configure(|config| config.limits(limits)));
        world.stack.connect(world.now).unwrap();
        world.subscribe("t", QoS::AtLeastOnce);
        world.connect();
        world.held = Some(Vec::new());
        for _ in 0..10 {
            world.publish("t", vec![b'x'; 80], QoS::AtLeastOnce);
        }
        world.settle();
        for _ in 0..20 {
            world.give_back();
            world.held = Some(Vec::new());
            world.settle();
        }
        assert_eq!(world.payloads("t").len(), 10, "{way:?}");
    }
}

#[test]
fn a_peer_that_pings_and_does_not_read_costs_no_more_than_a_bound() {
    for way in [WSS, Way::direct("ws://host")] {
        let mut world = World::new(way, way.options());
        world.stack.connect(world.now).unwrap();
        world.connect();
        world.deaf = true;
        for _ in 0..20_000 {
            let link = world.link.as_mut().unwrap();
            link.peer.send_frame(&[&[0x89, 125][..], &[7; 125]].concat());
            world.settle();
        }
        assert!(world.output.remaining() < 300 << 10, "{way:?}: {}", world.output.remaining());
        world.deaf = false;
        world.settle();
        assert!(world.stack.is_connected());
        leave(&mut world);
    }
}

#[test]
fn an_alert_tells_the_server_why_it_is_not_trusted() {
    let options = MQTTS
        .options()
        .route(|route| route.tls(TlsOptions::new().ca_pem(Authority::new("others").pem().as_bytes())));
    let mut world = World::new(MQTTS, options);
    world.stack.connect(world.now).unwrap();
    world.settle();
    assert_eq!(world.errors, [TransportError::Layer(LayerError::Tls(TlsError::UnknownIssuer))]);
    assert_eq!(world.past.unwrap().peer.tls_error, Some(Error::AlertReceived(AlertDescription::UnknownCA)));
}

#[test]
fn a_fatal_alert_of_the_server_is_told_by_its_name() {
    let mut world = World::new(MQTTS, MQTTS.options());
    world.stack.connect(world.now).unwrap();
    let mut peer = Peer::plain();
    peer.send_frame(&[21, 3, 3, 0, 2, 2, 40]);
    world.next_peer = Some(peer);
    world.settle();
    assert_eq!(world.errors, [TransportError::Layer(LayerError::Tls(TlsError::Alert(TlsAlert(40))))]);
}

#[test]
fn a_layer_that_fails_ends_by_its_close_frame_and_those_below_it_in_order() {
    let mut world = World::new(WSS, WSS.options());
    world.stack.connect(world.now).unwrap();
    world.connect();
    world.link.as_mut().unwrap().peer.send_frame(&[0x81, 2, b'h', b'i']);
    world.settle();
    assert_eq!(world.errors, [TransportError::Layer(LayerError::WebSocket(WebSocketError::TextFrame))]);
    let mut past = world.past.take().unwrap();
    assert!(matches!(
        past.peer.messages.last(),
        Some(tungstenite::Message::Close(Some(frame))) if u16::from(frame.code) == 1003
    ));
    assert_eq!(past.peer.tls.as_mut().unwrap().reader().read(&mut [0]).unwrap(), 0, "close_notify");
    world.connect();
}

#[test]
fn bytes_and_answers_of_a_link_that_is_gone_change_nothing() {
    for way in WAYS {
        let mut world = begun(way);
        world.connect();
        world.settle();
        let old = world.link.as_ref().unwrap().id();
        world.end();
        world.connect();
        world.errors.clear();
        let before = format!("{:?}", world.stack);
        world.stack.handle_sent(world.now, old, 10_000);
        let mut stale = bytes::BytesMut::from(&b"stale bytes"[..]);
        world.stack.handle_input(world.now, old, &mut stale);
        assert!(stale.is_empty());
        world.stack.handle_transport(world.now, old, mqtt_machine::TransportEvent::Closed(None));
        world.stack.handle_transport(world.now, old, mqtt_machine::TransportEvent::Opened);
        assert_eq!(format!("{:?}", world.stack), before, "{way:?}");
        assert!(world.stack.is_connected());
        leave(&mut world);
    }
}
