//! Whatever a peer sends to whatever layer: nothing panics, nothing grows, and an error stays.
#![cfg(all(feature = "ring", feature = "encrypted-keys", feature = "websocket", feature = "proxy"))]

mod support;

use std::sync::{Arc, LazyLock};

use mqtt_machine_testkit::layers::{ProxyKind, server_config};
use mqtt_machine_transport::rustls::ServerConfig;
use mqtt_machine_transport::rustls::version::{TLS12, TLS13};
use mqtt_machine_transport::{LayersState, Route};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use support::{Ca, Client, Peer, route};

struct Way {
    route: Route,
    config: Option<Arc<ServerConfig>>,
    proxy: Option<ProxyKind>,
    websocket: bool,
}

static WAYS: LazyLock<Vec<Way>> = LazyLock::new(|| {
    let ca = Ca::new("ours");
    let leaf = ca.server(&["host"]);
    let config = |versions| Some(Arc::new(server_config(&leaf, versions, None)));
    [
        ("mqtt://host", None, &["http://me:pw@proxy"][..], Some(ProxyKind::Http)),
        ("mqtt://host", None, &["socks5h://me:pw@proxy"], Some(ProxyKind::Socks5Auth)),
        ("mqtts://host", config(&[&TLS12]), &[], None),
        ("mqtts://host", config(&[&TLS13]), &[], None),
        ("ws://host", None, &[], None),
        ("wss://host", config(&[&TLS13]), &["socks5://proxy"], Some(ProxyKind::Socks5)),
    ]
    .into_iter()
    .map(|(url, config, proxies, proxy)| {
        let websocket = url.starts_with("ws");
        Way { route: route(url, &ca, proxies), config, proxy, websocket }
    })
    .collect()
});

impl Way {
    fn connect(&self) -> (Client, Peer) {
        let mut peer = Peer::plain();
        if let Some(kind) = self.proxy {
            peer = peer.proxy(kind);
        }
        if let Some(config) = &self.config {
            peer = peer.tls(Arc::clone(config));
        }
        if self.websocket {
            peer = peer.websocket();
        }
        (Client::new(self.route.layers().unwrap()), peer)
    }
}

/// Gives the client bytes in pieces and checks it after each.
fn give(client: &mut Client, mut bytes: &[u8], piece: usize) {
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(piece.clamp(1, bytes.len()));
        bytes = rest;
        client.receive(now);
        assert!(client.input.len() < 80 << 10, "what waits stays bounded");
        assert!(client.layers.memory_used() < 600 << 10, "{}", client.layers.memory_used());
        if client.error.is_some() {
            assert_eq!(client.layers.state(), LayersState::Closed);
        }
    }
}

/// The call that ends every script: everything else that can happen to the layers.
fn the_rest(client: &mut Client) {
    let mut plaintext = &b"plaintext"[..];
    let _ = client.layers.handle_output(&mut plaintext);
    client.end();
    client.layers.close();
    client.receive(b"late");
    client.output();
    assert_eq!(client.layers.state(), LayersState::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(which in any::<Index>(), bytes in vec(any::<u8>(), 0..2_000), piece in 1_usize..300) {
        let (mut client, _) = which.get(&WAYS).connect();
        give(&mut client, &bytes, piece);
        the_rest(&mut client);
    }

    /// A true conversation with a few bytes of the server changed, dropped or put in.
    #[test]
    fn spoilt_conversations_never_panic(
        which in any::<Index>(),
        spoils in vec((any::<Index>(), any::<u8>(), 0_u8..4), 1..4),
        round in 0_usize..5,
        piece in prop_oneof![Just(1_usize), 1_usize..3_000],
    ) {
        let (mut client, mut peer) = which.get(&WAYS).connect();
        for turn in 0..8 {
            peer.receive(&client.output());
            if turn == 4 && peer.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
                peer.send(b"hello from the server");
            }
            let mut bytes = peer.output();
            if turn == round && !bytes.is_empty() {
                for (at, byte, kind) in &spoils {
                    let at = at.index(bytes.len().max(1));
                    match kind {
                        _ if at >= bytes.len() => bytes.push(*byte),
                        0 => bytes[at] = *byte,
                        1 => bytes[at] ^= 1 << (byte & 7),
                        2 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, *byte),
                    }
                }
            }
            give(&mut client, &bytes, piece);
            let mut plaintext = &b"hello from the client"[..];
            let _ = client.layers.handle_output(&mut plaintext);
            if peer.tls_error.is_some() || client.error.is_some() {
                break;
            }
        }
        the_rest(&mut client);
    }

    /// Frames that are nearly right, behind an upgrade that is.
    #[test]
    fn arbitrary_frames_never_panic(bytes in vec(prop_oneof![Just(0x82_u8), Just(0x89), Just(0), 0_u8..8, any::<u8>()], 0..600), piece in 1_usize..100) {
        let (mut client, mut peer) = WAYS[4].connect();
        peer.receive(&client.output());
        give(&mut client, &peer.output(), piece);
        prop_assert!(client.is_open());
        let before = client.plaintext.len();
        give(&mut client, &bytes, piece);
        prop_assert!(client.plaintext.len() - before <= bytes.len());
        the_rest(&mut client);
    }
}
