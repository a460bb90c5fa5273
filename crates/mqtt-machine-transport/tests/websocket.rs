//! What WebSocket demands, answers and refuses.
#![cfg(all(feature = "ring", feature = "encrypted-keys", feature = "websocket", feature = "proxy"))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::BytesMut;
use mqtt_machine_transport::{
    ConfigError, Endpoint, LayerError, LayerKind, LayersState, NoRandomness, Randomness, Route, RouteOptions,
    UpgradeRequest, WebSocketError, WebSocketOptions,
};
use support::{Client, Peer, carry, send};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// A source that gives the same bytes every time.
fn counted() -> Randomness {
    let next = AtomicU32::new(1);
    Randomness::from_fn(move |bytes| {
        for chunk in bytes.chunks_mut(4) {
            let number = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9);
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
        Ok(())
    })
}

fn way(url: &str, options: WebSocketOptions) -> Route {
    let options = RouteOptions::new().websocket(options);
    Route::new(Endpoint::parse(url).unwrap(), &options).unwrap()
}

fn open() -> (Client, Peer) {
    let mut client = Client::new(way("ws://host", WebSocketOptions::new()).layers().unwrap());
    let mut peer = Peer::plain().websocket();
    carry(&mut client, &mut peer, &mut || 1);
    assert!(client.is_open(), "{:?}", client.error);
    (client, peer)
}

/// What comes of this answer to an upgrade whose key is known.
fn answered(answer: &str) -> Option<LayerError> {
    let route = way("ws://host", WebSocketOptions::new().randomness(counted()));
    let mut client = Client::new(route.layers().unwrap());
    let request = String::from_utf8(client.output().to_vec()).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    for byte in answer.replace("ACCEPT", &accept).bytes() {
        client.receive(&[byte]);
    }
    assert_eq!(client.is_open(), client.error.is_none());
    client.error
}

#[test]
fn the_request_has_path_host_sub_protocol_headers_and_what_the_callback_signs() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    let options =
        WebSocketOptions::new().header("X-Static", "one").sign_with(move |request: &mut UpgradeRequest| {
            let call = seen.fetch_add(1, Ordering::Relaxed);
            assert_eq!(request.url(), "ws://host:8080/a/b");
            assert_eq!(request.headers, [("X-Static".to_owned(), "one".to_owned())]);
            request.headers.push(("Authorization".to_owned(), format!("hush {call}")));
            request.target.push_str(&format!("?sign=hush{call}"));
            assert!(!format!("{request:?}").contains("hush"), "{request:?}");
            Ok(())
        });
    let route = way("ws://host:8080/a/b?version=3.1", options);
    for call in 0..2 {
        let (mut client, mut peer) = (Client::new(route.layers().unwrap()), Peer::plain().websocket());
        carry(&mut client, &mut peer, &mut || 5);
        assert!(client.is_open());
        let request = peer.request.unwrap();
        assert_eq!(request.uri().to_string(), format!("/a/b?sign=hush{call}"));
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header("Host"), "host:8080");
        assert_eq!(header("X-Static"), "one");
        assert_eq!(header("Authorization"), format!("hush {call}"));
        assert_eq!(header("Sec-WebSocket-Protocol"), "mqttv3.1");
        let printed = format!("{client:?} {route:?}");
        assert!(!printed.contains("hush"), "{printed}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2, "once at each connect");
}

// 5.0: MQTT-6.0.0-3
// 3.1.1: MQTT-6.0.0-3
#[test]
fn the_sub_protocol_mqtt_is_offered() {
    for url in ["ws://host", "ws://host?version=3.1.1", "ws://host?version=5.0"] {
        let mut client = Client::new(way(url, WebSocketOptions::new()).layers().unwrap());
        let request = String::from_utf8(client.output().to_vec()).unwrap();
        assert!(request.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{request}");
    }
}

// 5.0: MQTT-6.0.0-1
// 3.1.1: MQTT-6.0.0-1
#[test]
fn what_is_sent_is_binary_messages() {
    let (mut client, mut peer) = open();
    for text in ["hello", "world"] {
        let mut bytes = text.as_bytes();
        client.layers.handle_output(&mut bytes).unwrap();
        peer.receive(&client.output());
    }
    let binary = |text: &'static str| Message::Binary(text.as_bytes().into());
    assert_eq!(peer.messages, [binary("hello"), binary("world")]);
}

#[test]
fn the_default_port_stays_out_of_the_host_header() {
    for (url, host) in [("ws://host", "host"), ("ws://host:443", "host:443"), ("ws://[::1]:80", "[::1]")] {
        let mut client = Client::new(way(url, WebSocketOptions::new()).layers().unwrap());
        let request = String::from_utf8(client.output().to_vec()).unwrap();
        assert!(request.starts_with(&format!("GET /mqtt HTTP/1.1\r\nHost: {host}\r\n")), "{request}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_before_it_is() {
    let error = |options| way("ws://host", options).layers().unwrap_err();
    for (name, value) in
        [("A", "x\r\nB: y"), ("A B", "x"), ("", "x"), ("Host", "x"), ("sec-websocket-key", "x")]
    {
        let told = error(WebSocketOptions::new().header(name, value));
        assert!(matches!(told, ConfigError::Header { .. }), "{name}: {told:?}");
    }
    assert_eq!(
        error(WebSocketOptions::new().subprotocols(["a,b"])),
        ConfigError::Subprotocol { name: "a,b".into() }
    );
    assert_eq!(
        error(WebSocketOptions::new().sign_with(|_| Err("no token".into()))),
        ConfigError::Signing("no token".into())
    );
    let spoil = |request: &mut UpgradeRequest| {
        request.target = "/a b".into();
        Ok(())
    };
    assert_eq!(error(WebSocketOptions::new().sign_with(spoil)), ConfigError::Target);
    let empty = Randomness::from_fn(|_| Err(NoRandomness));
    assert_eq!(error(WebSocketOptions::new().randomness(empty)), ConfigError::NoRandomness);
}

// 5.0: MQTT-6.0.0-4
// 3.1.1: MQTT-6.0.0-4
#[test]
fn an_upgrade_is_taken_only_whole() {
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert_eq!(answered(GOOD), None);
    let bad = |header| Some(WebSocketError::BadUpgrade { header }.into());
    let without = |line: &str| GOOD.replace(line, "");
    assert_eq!(answered(&without("Upgrade: WebSocket\r\n")), bad("Upgrade"));
    assert_eq!(answered(&without("Connection: keep-alive, Upgrade\r\n")), bad("Connection"));
    assert_eq!(answered(&GOOD.replace("ACCEPT", "bm9uc2Vuc2U=")), bad("Sec-WebSocket-Accept"));
    let extended = GOOD.replace(
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol",
    );
    assert_eq!(answered(&extended), bad("Sec-WebSocket-Extensions"));
    assert_eq!(
        answered(&without("Sec-WebSocket-Protocol: mqtt\r\n")),
        Some(WebSocketError::NoSubprotocol.into())
    );
    assert_eq!(
        answered(&GOOD.replace("Protocol: mqtt", "Protocol: chat")),
        Some(WebSocketError::WrongSubprotocol("chat".into()).into())
    );
    let refused =
        |status, reason: &str| Some(WebSocketError::Refused { status, reason: reason.into() }.into());
    assert_eq!(answered("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n"), refused(403, "Forbidden"));
    assert_eq!(answered("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), refused(302, "Found"));
    assert_eq!(answered("\x20\x02"), Some(WebSocketError::NotHttp.into()));
    let long = format!("HTTP/1.1 101 X\r\nA: {}", "x".repeat(17_000));
    assert_eq!(answered(&long), Some(WebSocketError::HeadTooLong.into()));
}

#[test]
fn a_server_may_answer_and_speak_at_once() {
    let (mut client, mut peer) =
        (Client::new(way("ws://host", WebSocketOptions::new()).layers().unwrap()), Peer::plain().websocket());
    peer.receive(&client.output());
    peer.send(b"early");
    client.receive(&peer.output());
    assert!(client.is_open());
    assert_eq!(client.plaintext, &b"early"[..]);
}

// 5.0: MQTT-6.0.0-2
// 3.1.1: MQTT-6.0.0-2
#[test]
fn messages_come_in_many_frames_or_many_in_one_read() {
    let (mut client, _) = open();
    // "hel" and "lo" as one message in two frames with a ping between, then two messages, one of them empty.
    let bytes = b"\x02\x03hel\x89\x02hi\x80\x02lo\x82\x00\x82\x01!";
    for byte in bytes {
        client.receive(&[*byte]);
    }
    assert_eq!((&client.plaintext[..], client.error.as_ref()), (&b"hello!"[..], None));
    let pong = client.output();
    assert_eq!((pong[0], pong[1], pong.len()), (0x8A, 0x82, 8), "a masked pong");
    client.plaintext.clear();
    client.receive(bytes);
    assert_eq!(client.plaintext, &b"hello!"[..]);
}

#[test]
fn a_frame_larger_than_memory_would_be_passes_as_it_comes() {
    let (mut client, _) = open();
    client.receive(&[&[0x82, 127][..], &(1_u64 << 62).to_be_bytes()].concat());
    for _ in 0..100 {
        client.input = BytesMut::from(&[7; 10_000][..]);
        let place = client.input.as_ptr();
        client.receive(&[]);
        assert_eq!((client.plaintext.len(), client.plaintext.as_ptr()), (10_000, place), "nothing is copied");
        client.plaintext.clear();
    }
    assert!(client.layers.memory_used() < 64 << 10);
}

// 5.0: MQTT-6.0.0-1
// 3.1.1: MQTT-6.0.0-1
#[test]
fn what_a_frame_must_not_be_ends_the_connection_with_the_right_code() {
    for (frame, text, code) in [
        (&b"\x81\x01x"[..], false, 1003_u16),
        (b"\x82\x81\0\0\0\0x", true, 1002),
        (b"\xC2\x01x", true, 1002),
        (b"\x83\x00", true, 1002),
        (b"\x80\x00", true, 1002),
        (b"\x02\x00\x82\x00", true, 1002),
        (b"\x09\x00", true, 1002),
        (b"\x89\x7E\x00\x7E", true, 1002),
        (b"\x82\x7E\x00\x7D", true, 1002),
        (b"\x82\x7F\x80\0\0\0\0\0\0\0", true, 1002),
        (b"\x88\x01\x03", true, 1002),
        (b"\x88\x03\x03\xE8\xFF", true, 1002),
    ] {
        let (mut client, mut peer) = open();
        client.receive(frame);
        match &client.error {
            Some(LayerError::WebSocket(WebSocketError::TextFrame)) if !text => {}
            Some(LayerError::WebSocket(WebSocketError::Protocol(_))) if text => {}
            other => panic!("{frame:?}: {other:?}"),
        }
        peer.receive(&client.output());
        let Some(Message::Close(Some(CloseFrame { code: told, .. }))) = peer.messages.last() else {
            panic!("{frame:?}: {:?}", peer.messages);
        };
        assert_eq!(u16::from(*told), code, "{frame:?}");
    }
}

#[test]
fn the_server_closes_properly_or_says_why() {
    for (payload, error) in [
        (&b""[..], None),
        (b"\x03\xE8", None),
        (b"\x03\xE9going", None),
        (b"\x03\xF0no", Some(WebSocketError::Closed { code: 1008, reason: "no".into() })),
    ] {
        let (mut client, mut peer) = open();
        client.receive(&[&[0x88, u8::try_from(payload.len()).unwrap()], payload, b"ignored"].concat());
        assert_eq!(client.error, error.clone().map(LayerError::WebSocket));
        let state = if error.is_none() { LayersState::PeerClosed } else { LayersState::Closed };
        assert_eq!(client.layers.state(), state);
        peer.receive(&client.output());
        assert!(peer.messages.last().is_some_and(Message::is_close), "the close is answered");
        client.error = None;
        client.end();
        assert_eq!(client.error.is_none(), error.is_none(), "an end after it is an end");
    }
    let (mut client, _) = open();
    client.end();
    assert_eq!(client.error, Some(LayerError::Truncated(LayerKind::WebSocket)));
}

#[test]
fn pings_of_a_server_that_does_not_read_fill_nothing() {
    let (mut client, _) = open();
    let ping = [&[0x89, 125][..], &[0; 125]].concat().repeat(1_000);
    for _ in 0..10 {
        client.receive(&ping);
    }
    assert_eq!(client.error, None);
    assert!(client.output().len() < 66 << 10);
}

#[test]
fn the_same_randomness_gives_the_same_bytes() {
    let record = || {
        let route = way("ws://host", WebSocketOptions::new().randomness(counted()));
        let (mut client, mut peer) = (Client::new(route.layers().unwrap()), Peer::plain().websocket());
        carry(&mut client, &mut peer, &mut || 1);
        let mut bytes = &b"hello"[..];
        client.layers.handle_output(&mut bytes).unwrap();
        client.output()
    };
    assert_eq!(record(), record());
}

#[test]
fn masks_that_run_out_fail_the_connection_and_nothing_goes_out_bare() {
    let left = AtomicU32::new(2);
    let source = Randomness::from_fn(move |bytes| {
        bytes.fill(1);
        let drawn = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        drawn.map(|_| ()).map_err(|_| NoRandomness)
    });
    let (mut client, mut peer) = (
        Client::new(way("ws://host", WebSocketOptions::new().randomness(source)).layers().unwrap()),
        Peer::plain().websocket(),
    );
    carry(&mut client, &mut peer, &mut || 1);
    for _ in 0..64 {
        send(&mut client, &mut peer, b"x", &mut || 100);
    }
    assert_eq!((peer.received.len(), client.error.as_ref()), (64, None));
    send(&mut client, &mut peer, b"x", &mut || 100);
    assert_eq!(client.error, Some(WebSocketError::NoRandomness.into()));
    assert_eq!(peer.received.len(), 64);
}
