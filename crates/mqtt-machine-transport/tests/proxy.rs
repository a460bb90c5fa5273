//! What proxies refuse, and how it is told.
#![cfg(all(feature = "ring", feature = "encrypted-keys", feature = "websocket", feature = "proxy"))]

mod support;

use mqtt_machine_transport::{
    Endpoint, HttpProxyError, LayerError, LayerKind, LayersState, Proxy, Route, RouteOptions, Socks5Error,
    Socks5Reply,
};
use support::Client;

fn through(proxy: &str) -> Client {
    let options = RouteOptions::new().proxy(Proxy::parse(proxy).unwrap());
    let route = Route::new(Endpoint::parse("mqtt://host").unwrap(), &options).unwrap();
    let mut client = Client::new(route.layers().unwrap());
    assert!(!client.output().is_empty(), "it begins when the socket is open");
    client
}

/// What comes of these answers, a byte at a time.
fn answered(proxy: &str, answers: &[u8]) -> Client {
    let mut client = through(proxy);
    for byte in answers {
        client.receive(&[*byte]);
    }
    client
}

#[test]
fn an_http_proxy_tells_the_status_of_its_refusal() {
    let error = |answer: &[u8]| answered("http://me:hush@proxy", answer).error;
    let refused =
        |status, reason: &str| Some(HttpProxyError::Refused { status, reason: reason.into() }.into());
    assert_eq!(error(b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n"), refused(403, "Forbidden"));
    assert_eq!(error(b"HTTP/1.0 502 Bad\x01Gateway\r\n\r\n"), Some(HttpProxyError::NotHttp.into()));
    assert_eq!(error(b"HTTP/1.0 502 \r\n\r\n"), refused(502, ""));
    assert_eq!(error(b"HTTP/1.1 407 No\r\n\r\n"), Some(HttpProxyError::AuthenticationRequired.into()));
    assert_eq!(error(b"\x05\xFF"), Some(HttpProxyError::NotHttp.into()));
    let long = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'x'; 17_000]].concat();
    assert_eq!(error(&long), Some(HttpProxyError::HeadTooLong.into()));
}

#[test]
fn a_socks5_proxy_tells_its_reply() {
    let error = |answers: &[u8]| answered("socks5h://me:hush@proxy", answers).error;
    let socks = |error: Socks5Error| Some(LayerError::Socks5(error));
    assert_eq!(error(b"\x05\xFF"), socks(Socks5Error::NoAcceptableMethod));
    assert_eq!(error(b"\x05\x01"), socks(Socks5Error::UnofferedMethod(1)));
    assert_eq!(error(b"\x04\x00"), socks(Socks5Error::NotSocks5));
    assert_eq!(error(b"HTTP/1.1"), socks(Socks5Error::NotSocks5));
    assert_eq!(error(b"\x05\x02\x01\x01"), socks(Socks5Error::BadCredentials));
    assert_eq!(error(b"\x05\x02\x05\x00"), socks(Socks5Error::Malformed));
    assert_eq!(error(b"\x05\x02\x01\x00\x05\x05\x00"), socks(Socks5Error::Refused(Socks5Reply(5))));
    assert_eq!(error(b"\x05\x00\x05\x00\x00\x02\x00"), socks(Socks5Error::Malformed));
    assert_eq!(Socks5Reply(5).to_string(), "connection refused (5)");

    let unoffered = answered("socks5h://proxy", b"\x05\x02");
    assert_eq!(unoffered.error, socks(Socks5Error::UnofferedMethod(2)), "without credentials");
    let mut open = answered("socks5h://proxy", b"\x05\x00\x05\x00\x00\x01\x7F\0\0\x01\x12\x34 rest");
    assert!(open.is_open() && !open.layers.is_plain(), "the request is still to be written");
    open.output();
    assert!(open.layers.is_plain());
    assert_eq!(open.plaintext, &b" rest"[..]);
}

#[test]
fn a_proxy_that_goes_away_is_told_apart_from_a_server_that_does() {
    for (proxy, kind) in [("http://proxy", LayerKind::HttpProxy), ("socks5://proxy", LayerKind::Socks5)] {
        let mut client = through(proxy);
        client.end();
        assert_eq!(client.error, Some(LayerError::Truncated(kind)));
    }
    let mut client = answered("http://proxy", b"HTTP/1.1 200 OK\r\n\r\n");
    client.end();
    assert_eq!((client.layers.state(), client.error), (LayersState::PeerClosed, None));
}

#[test]
fn nothing_shows_the_credentials_of_a_proxy() {
    for url in ["http://hush:hush@proxy", "socks5://hush:hush@proxy"] {
        let proxy = Proxy::parse(url).unwrap();
        let options = RouteOptions::new().proxy(proxy.clone());
        let route = Route::new(Endpoint::parse("mqtt://hush:hush@host").unwrap(), &options).unwrap();
        let mut layers = route.layers().unwrap();
        let before = format!("{layers:?}");
        layers.handle_open().unwrap();
        let text = format!("{before} {layers:#?} {route:?} {options:?} {proxy:?} {proxy}");
        // Nor in Base64 or as numbers.
        for secret in ["hush", "aHVzaDpodXNo", "104, 117, 115, 104"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
