//! Every way to a server, with every chunking, in memory.
#![cfg(all(feature = "ring", feature = "encrypted-keys", feature = "websocket", feature = "proxy"))]

mod support;

use std::sync::Arc;

use mqtt_machine_testkit::layers::{ProxyKind, server_config};
use mqtt_machine_transport::rustls::ServerConfig;
use mqtt_machine_transport::rustls::version::{TLS12, TLS13};
use mqtt_machine_transport::{
    Authority, Endpoint, Host, LayersState, Proxy, Route, RouteOptions, TlsOptions,
};
use proptest::prelude::*;
use support::{Ca, Client, Peer, carry, noise, route, send};

/// A way, and the server at its end.
struct Case {
    name: String,
    route: Route,
    config: Option<Arc<ServerConfig>>,
    websocket: bool,
    proxies: Vec<ProxyKind>,
}

impl Case {
    fn connect(&self) -> (Client, Peer) {
        let mut peer = Peer::plain();
        for kind in &self.proxies {
            peer = peer.proxy(*kind);
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

fn cases() -> Vec<Case> {
    let ca = Ca::new("the authority");
    let leaf = ca.server(&["broker.example", "127.0.0.1"]);
    let of = |versions, client_ca| Some(Arc::new(server_config(&leaf, versions, client_ca)));
    let me = ca.client("me");
    let mutual = TlsOptions::new()
        .ca_pem(ca.pem().as_bytes())
        .client_certificate_pem(me.certificate.pem().as_bytes(), me.key.serialize_pem().as_bytes());
    let ways = [
        ("plain", "mqtt://broker.example", None, None),
        ("TLS 1.2", "mqtts://broker.example", of(&[&TLS12], None), None),
        ("TLS 1.3", "mqtts://broker.example", of(&[&TLS13], None), None),
        ("mutual 1.2", "mqtts://broker.example", of(&[&TLS12], Some(&ca)), Some(&mutual)),
        ("mutual 1.3", "mqtts://127.0.0.1", of(&[&TLS13], Some(&ca)), Some(&mutual)),
        ("ws", "ws://broker.example", None, None),
        ("wss", "wss://broker.example/path", of(&[&TLS13], None), None),
        ("mutual wss", "wss://broker.example", of(&[&TLS13], Some(&ca)), Some(&mutual)),
    ];
    let before: [(&str, &[&str], &[ProxyKind]); 5] = [
        ("", &[], &[]),
        (" through HTTP", &["http://me:secret@proxy"], &[ProxyKind::Http]),
        (" through SOCKS5", &["socks5h://proxy"], &[ProxyKind::Socks5]),
        (
            " through SOCKS5, then HTTP",
            &["socks5h://me:secret@proxy", "http://second"],
            &[ProxyKind::Socks5Auth, ProxyKind::Http],
        ),
        (
            " through HTTP, then SOCKS5",
            &["http://proxy", "socks5://second"],
            &[ProxyKind::Http, ProxyKind::Socks5],
        ),
    ];
    let mut cases = Vec::new();
    for (name, url, config, tls) in ways {
        for (via, urls, kinds) in before {
            let endpoint = Endpoint::parse(url).unwrap();
            let trusting = TlsOptions::new().ca_pem(ca.pem().as_bytes());
            let mut options = RouteOptions::new().tls(tls.cloned().unwrap_or(trusting));
            for url in urls {
                options = options.proxy(Proxy::parse(url).unwrap());
            }
            cases.push(Case {
                name: format!("{name}{via}"),
                route: Route::new(endpoint, &options).unwrap(),
                config: config.clone(),
                websocket: url.starts_with("ws"),
                proxies: kinds.to_vec(),
            });
        }
    }
    cases
}

/// Opens, moves `size` bytes both ways, and closes.
fn run(case: &Case, size: usize, chunks: support::Chunks<'_>) {
    let name = &case.name;
    let (mut client, mut peer) = case.connect();
    carry(&mut client, &mut peer, chunks);
    assert!(client.is_open(), "{name}: {:?} {:?}", client.layers.state(), client.error);
    let bytes = noise(size);
    send(&mut client, &mut peer, &bytes, chunks);
    assert!(peer.received == bytes, "{name}: {} of {size} bytes arrived", peer.received.len());
    peer.send(&bytes);
    carry(&mut client, &mut peer, chunks);
    assert!(client.plaintext == bytes, "{name}: {} of {size} bytes came back", client.plaintext.len());
    assert_eq!(client.error, None, "{name}");

    client.layers.close();
    carry(&mut client, &mut peer, chunks);
    assert_eq!(client.layers.state(), LayersState::Closed, "{name}");
    assert_eq!((client.error, &peer.tls_error), (None, &None), "{name}");
    if case.websocket {
        assert!(peer.messages.last().is_some_and(tungstenite::Message::is_close), "{name}: a close frame");
    }
    if let Some(tls) = &mut peer.tls {
        assert!(tls.process_new_packets().unwrap().peer_has_closed(), "{name}: a close_notify");
    }
}

#[test]
fn every_way_carries_a_megabyte_both_ways() {
    for case in cases() {
        run(&case, 1 << 20, &mut || 8 << 10);
    }
}

#[test]
fn every_way_works_one_byte_at_a_time() {
    for case in cases() {
        run(&case, 3_000, &mut || 1);
    }
}

#[test]
fn every_way_works_whole() {
    for case in cases() {
        run(&case, 100_000, &mut || usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunking_never_matters(sizes in proptest::collection::vec(1_usize..5_000, 1..40), which in any::<prop::sample::Index>()) {
        let cases = cases();
        let mut at = 0;
        run(which.get(&cases), 40_000, &mut || {
            at += 1;
            sizes[at % sizes.len()]
        });
    }
}

#[test]
fn proxies_are_asked_for_what_they_should_be() {
    let ca = Ca::new("the authority");
    let asked = |url: &str, proxy: &str, kind, server: Option<Authority>| {
        let route = route(url, &ca, &[proxy]);
        let layers = server.map_or_else(|| route.layers(), |server| route.layers_to(&server)).unwrap();
        let (mut client, mut peer) = (Client::new(layers), Peer::plain().proxy(kind));
        carry(&mut client, &mut peer, &mut || 1);
        assert!(client.layers.is_plain(), "a proxy costs nothing once it has let us through");
        peer.asked
    };
    assert_eq!(
        asked("mqtt://[::1]", "http://me:secret@proxy", ProxyKind::Http, None),
        [
            "CONNECT [::1]:1883 HTTP/1.1\r\nHost: [::1]:1883\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
        ]
    );
    assert_eq!(
        asked("mqtt://host:7", "http://proxy", ProxyKind::Http, None),
        ["CONNECT host:7 HTTP/1.1\r\nHost: host:7\r\n\r\n"]
    );
    assert_eq!(
        asked("mqtt://host", "socks5h://me:pw@proxy", ProxyKind::Socks5Auth, None),
        ["me\u{2}pw", "[3, 4, 104, 111, 115, 116, 7, 91]"]
    );
    let address = Authority::new(Host::Ipv4([10, 0, 0, 1].into()), 1883);
    assert_eq!(
        asked("mqtt://host", "socks5://proxy", ProxyKind::Socks5, Some(address)),
        ["[1, 10, 0, 0, 1, 7, 91]"]
    );
}

#[test]
fn the_route_tells_what_to_open_and_what_to_resolve() {
    let ca = Ca::new("the authority");
    let server = Authority::new(Host::Domain("broker".into()), 1883);
    let direct = route("mqtt://broker", &ca, &[]);
    assert_eq!((direct.first_hop(&server), direct.wants_address()), (&server, false));
    assert!(direct.layers().unwrap().is_plain());

    let local = route("mqtt://broker", &ca, &["socks5://proxy"]);
    assert_eq!((local.first_hop(&server).to_string(), local.wants_address()), ("proxy:1080".into(), true));
    let chained = route("mqtt://broker", &ca, &["socks5://proxy", "http://second"]);
    assert_eq!(
        (chained.first_hop(&server).to_string(), chained.wants_address()),
        ("proxy:1080".into(), false)
    );

    let service = route("mqtts+srv://example.org", &ca, &[]).service_name();
    assert_eq!(service.as_deref(), Some("_secure-mqtt._tcp.example.org"));
    assert_eq!(route("mqtt+srv://e.org", &ca, &[]).service_name().as_deref(), Some("_mqtt._tcp.e.org"));
    assert!(route("unix:///run/x", &ca, &[]).layers().unwrap().is_plain());
}

#[test]
fn a_server_that_does_not_read_bounds_what_the_layers_hold() {
    for case in cases() {
        let (mut client, mut peer) = case.connect();
        carry(&mut client, &mut peer, &mut || usize::MAX);
        let bytes = noise(4 << 20);
        let mut rest = &bytes[..];
        for _ in 0..100 {
            client.layers.handle_output(&mut rest).unwrap();
        }
        let taken = bytes.len() - rest.len();
        assert!(taken <= 192 << 10, "{}: {taken} bytes were taken", case.name);
        assert!(client.layers.memory_used() <= 400 << 10, "{}: {}", case.name, client.layers.memory_used());
        // It goes on as soon as somebody writes.
        carry(&mut client, &mut peer, &mut || usize::MAX);
        send(&mut client, &mut peer, rest, &mut || usize::MAX);
        assert!(peer.received == bytes, "{}", case.name);
    }
}
