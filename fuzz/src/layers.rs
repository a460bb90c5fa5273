//! Owns what holds for the layers of every scheme, and whatever a server sends in whatever pieces.

use std::sync::LazyLock;

use bytes::BytesMut;
use mqtt_machine_transport::{
    Endpoint, LayersState, Proxy, Randomness, Route, RouteOptions, TlsOptions, WebSocketOptions,
};

/// The ways that a choice of the fuzzer's stands for.
static WAYS: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let ways: [(&str, &[&str]); 6] = [
        ("mqtt://host", &["http://user:secret@proxy"]),
        ("mqtt://host", &["socks5h://user:secret@proxy"]),
        ("mqtts://host", &[]),
        ("ws://host", &[]),
        ("wss://host", &[]),
        ("ws://host", &["socks5h://proxy", "http://second"]),
    ];
    // The same masks and keys every time, so that an input means the same every time.
    let same = WebSocketOptions::new().randomness(Randomness::from_fn(|bytes| {
        bytes.fill(7);
        Ok(())
    }));
    let route = |(url, proxies): (&str, &[&str])| {
        let trusting = TlsOptions::new().dangerous_accept_any_certificate();
        let mut options = RouteOptions::new().tls(trusting).websocket(same.clone());
        for proxy in proxies {
            options = options.proxy(Proxy::parse(proxy).expect("a proxy"));
        }
        Route::new(Endpoint::parse(url).expect("an endpoint"), &options).expect("a route")
    };
    ways.into_iter().map(route).collect()
});

/// The layers of any way take a server's bytes in pieces: nothing panics or grows, and an error stays. The first byte chooses the way,
/// the second the pieces.
pub(crate) fn input(data: &[u8]) {
    if let [way, rest @ ..] = data {
        take(usize::from(*way) % WAYS.len(), rest);
    }
}

/// An HTTP proxy answers anything.
pub(crate) fn http_proxy(data: &[u8]) {
    take(0, data);
}

/// A SOCKS5 proxy answers anything.
pub(crate) fn socks5(data: &[u8]) {
    take(1, data);
}

/// A server of TLS says anything.
pub(crate) fn tls(data: &[u8]) {
    take(2, data);
}

/// A WebSocket server says anything.
pub(crate) fn websocket(data: &[u8]) {
    take(3, data);
}

/// The first byte chooses the pieces.
fn take(way: usize, data: &[u8]) {
    let [piece, bytes @ ..] = data else { return };
    let mut layers = WAYS[way].layers().expect("layers");
    let (mut input, mut plaintext, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    let mut result = layers.handle_open();
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        let failed = result.is_err();
        input.extend_from_slice(piece);
        result = layers.handle_input(&mut input, &mut plaintext);
        assert!(result.is_err() || !failed, "an error stays");
        let _ = layers.handle_output(&mut &b"plaintext"[..]);
        layers.transmit(&mut out);
        out.clear();
        assert!(layers.memory_used() < 600 << 10, "what the layers hold is bounded");
    }
    assert!(plaintext.len() <= bytes.len());
    let _ = layers.handle_end();
    layers.close();
    assert_eq!(layers.state(), LayersState::Closed);
}
