//! Owns the proof that a layer copies bytes once: a copy needs a place, and what is allocated while bytes pass shows how many places
//! there were. rustls has one of its own for each record, both ways. It must not know what the bytes mean.

mod support;

use std::alloc::System;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_machine_testkit::layers::server_config;
use mqtt_machine_transport::rustls::SupportedProtocolVersion;
use mqtt_machine_transport::rustls::version::{TLS12, TLS13};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use support::{Ca, Client, Peer, carry, noise, route, send};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Three records of TLS.
const SIZE: usize = 48 << 10;
/// Headers, tags and nonces, and tables of the layers'.
const SMALL: usize = 1 << 10;

fn measured(work: impl FnOnce()) -> Stats {
    let region = Region::new(HEAP);
    work();
    region.change()
}

/// A client and a server that have shaken hands.
fn met(url: &str, version: &'static SupportedProtocolVersion) -> (Client, Peer) {
    let ca = Ca::new("ours");
    let mut client = Client::new(route(url, &ca, &[]).layers().unwrap());
    let mut peer = Peer::plain();
    if url != "ws://host" {
        peer = peer.tls(Arc::new(server_config(&ca.server(&["host"]), &[version], None)));
    }
    if url != "mqtts://host" {
        peer = peer.websocket();
    }
    carry(&mut client, &mut peer, &mut || usize::MAX);
    // The tickets of TLS 1.3 come with the first bytes.
    send(&mut client, &mut peer, b"x", &mut || usize::MAX);
    assert!(client.is_open());
    client.layers.shrink();
    (client, peer)
}

fn bytes_are_copied_once_by_each_layer_and_once_by_rustls_itself() {
    // How often `SIZE` bytes have a new place: on their way up, and on their way down.
    for (url, up, down) in [("ws://host", 0, 1), ("mqtts://host", 2, 2), ("wss://host", 2, 3)] {
        for version in [&TLS12, &TLS13] {
            let (mut client, mut peer) = met(url, version);
            let payload = noise(SIZE);
            peer.send(&payload);
            let mut input = BytesMut::from(&peer.output()[..]);
            let mut plaintext = BytesMut::new();
            let rising = measured(|| client.layers.handle_input(&mut input, &mut plaintext).unwrap());
            assert_eq!(plaintext, payload);
            let mut output = Bytes::from(payload.clone());
            let mut out = BytesMut::new();
            let sinking = measured(|| {
                client.layers.handle_output(&mut output).unwrap();
                client.layers.transmit(&mut out);
            });
            assert!(output.is_empty() && out.len() > SIZE);
            peer.receive(&out);
            assert_eq!(peer.received[1..], payload);
            for (stats, places) in [(rising, up), (sinking, down)] {
                let allocated = stats.bytes_allocated;
                assert!(
                    (places * SIZE..=places * SIZE + SMALL).contains(&allocated),
                    "{url}, {version:?}: {places} places, but {stats:?}"
                );
                assert_eq!(stats.reallocations, 0, "what grows is copied: {url}, {version:?}: {stats:?}");
            }
        }
    }
}

mqtt_machine_testkit::alone!(bytes_are_copied_once_by_each_layer_and_once_by_rustls_itself);
