//! Owns the scenarios of messages: every QoS over every way, with the link cut in the middle. It must not know how a way is made.

use std::time::Duration;

use mqtt_machine_client::{
    CleanStart, Client, ClientEvent, Events, Message, Options, Outcome, ProtocolVersion, QoS,
};

use super::site::{http, socks5, through};
use super::{Relay, Site, Start, Way, connected, quick, wait};

/// Messages of each QoS that are under way when the link is cut.
const COUNT: usize = 40;

pub(super) fn tcp_carries_every_qos_across_a_cut(start: Start<'_>) {
    direct(start, Way::Tcp);
}

pub(super) fn tls_carries_every_qos_across_a_cut(start: Start<'_>) {
    direct(start, Way::Tls);
}

pub(super) fn tls_with_a_client_certificate_carries_every_qos_across_a_cut(start: Start<'_>) {
    direct(start, Way::MutualTls);
}

pub(super) fn websocket_carries_every_qos_across_a_cut(start: Start<'_>) {
    direct(start, Way::WebSocket);
}

pub(super) fn websocket_over_tls_carries_every_qos_across_a_cut(start: Start<'_>) {
    direct(start, Way::SecureWebSocket);
}

pub(super) fn a_unix_socket_carries_every_qos_across_a_cut(start: Start<'_>) {
    if cfg!(unix) {
        direct(start, Way::Unix);
    }
}

pub(super) fn tcp_through_socks5_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::Tcp, "socks5");
}

pub(super) fn tls_through_socks5_with_remote_dns_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::Tls, "socks5h");
}

pub(super) fn tls_with_a_client_certificate_through_socks5_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::MutualTls, "socks5");
}

pub(super) fn websocket_through_socks5_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::WebSocket, "socks5h");
}

pub(super) fn websocket_over_tls_through_socks5_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::SecureWebSocket, "socks5h");
}

pub(super) fn tcp_through_an_http_proxy_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::Tcp, "http");
}

pub(super) fn tls_through_an_http_proxy_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::Tls, "http");
}

pub(super) fn tls_with_a_client_certificate_through_an_http_proxy_carries_every_qos_across_a_cut(
    start: Start<'_>,
) {
    proxied(start, Way::MutualTls, "http");
}

pub(super) fn websocket_through_an_http_proxy_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::WebSocket, "http");
}

pub(super) fn websocket_over_tls_through_an_http_proxy_carries_every_qos_across_a_cut(start: Start<'_>) {
    proxied(start, Way::SecureWebSocket, "http");
}

pub(super) fn both_proxies_in_a_row_carry_every_qos_across_a_cut(start: Start<'_>) {
    let (Some(site), Some(first), Some(second)) = (Site::start(), socks5(), http()) else { return };
    let relay = Relay::tcp(first.port);
    let options = site.options(Way::Tls, site.port(Way::Tls));
    let options = through(through(options, "socks5h", relay.port()), "http", second.port);
    carries(start, options, &relay);
}

fn direct(start: Start<'_>, way: Way) {
    let Some(site) = Site::start() else { return };
    let relay = site.relay(way);
    carries(start, site.options(way, relay.port()), &relay);
}

/// The relay stands before the proxy.
fn proxied(start: Start<'_>, way: Way, scheme: &str) {
    let Some(site) = Site::start() else { return };
    let Some(proxy) = (if scheme == "http" { http() } else { socks5() }) else { return };
    let relay = Relay::tcp(proxy.port);
    carries(start, through(site.options(way, site.port(way)), scheme, relay.port()), &relay);
}

fn message(topic: &str, number: usize, qos: QoS) -> Message {
    Message::to(topic, number.to_string()).unwrap().qos(qos)
}

fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Sent => true,
        Outcome::Acknowledged(acknowledgement) => !acknowledgement.reason.is_failure(),
        _ => false,
    }
}

/// Every QoS comes back; then the link is cut in the middle of many messages: those of QoS 1 come at least once, those of QoS 2
/// exactly once and in order.
fn carries(start: Start<'_>, options: Options, relay: &Relay) {
    let options = quick(options, "matrix").configure(|config| config.clean_start(CleanStart::FirstOnly));
    let client = start(options).unwrap();
    let mut events = client.events();
    connected(&client);
    let mut stream = wait("a subscription", client.subscribe("t/#", QoS::ExactlyOnce)).unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let delivery = wait("room", client.publish(message("t/first", 7, qos))).unwrap();
        assert!(is_done(&wait("an outcome", delivery)), "{qos}");
        let got = wait("a message", stream.recv()).unwrap();
        assert_eq!((got.qos, &got.payload[..]), (qos, &b"7"[..]));
    }
    let mut deliveries = Vec::new();
    for number in 0..COUNT {
        for (topic, qos) in [("t/1", QoS::AtLeastOnce), ("t/2", QoS::ExactlyOnce)] {
            deliveries.push(wait("room", client.publish(message(topic, number, qos))).unwrap());
        }
    }
    let (mut once, mut at_least_once) = (Vec::new(), vec![0_usize; COUNT]);
    let mut came = 0_usize;
    while once.len() < COUNT || at_least_once.contains(&0) {
        let got = wait("a message", stream.recv()).unwrap();
        let number: usize = got.payload_lossy().parse().unwrap();
        match got.topic.as_str() {
            "t/1" => at_least_once[number] += 1,
            _ => once.push(number),
        }
        came += 1;
        if came == 5 {
            relay.cut();
        }
    }
    for delivery in deliveries {
        assert!(is_done(&wait("an outcome", delivery)));
    }
    assert_eq!(once, (0..COUNT).collect::<Vec<_>>(), "exactly once and in order");
    reconnected(&mut events);
    assert_eq!(wait("the end", client.disconnect()).map(|it| it.undelivered), Ok(0));
    assert!(relay.brought().len() >= 2, "it was cut");
}

/// The events tell of one cut, and of a connection with the same session after it.
fn reconnected(events: &mut Events) {
    let mut cut = false;
    loop {
        match wait("an event", events.recv()).unwrap() {
            ClientEvent::Disconnected { .. } => cut = true,
            ClientEvent::Connected(connected) if cut => {
                assert!(connected.session_present);
                return;
            }
            ClientEvent::Connected(_) | ClientEvent::ConnectFailed { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

pub(super) fn websocket_speaks_the_sub_protocol_of_every_version(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let options = quick(site.options(Way::WebSocket, site.ports.ws), "version");
        let client = start(options.configure(|config| config.version(version))).unwrap();
        let connected = connected(&client);
        assert_eq!(connected.capabilities.version, version);
        assert_eq!(wait("the end", client.disconnect()).map(|it| it.undelivered), Ok(0));
    }
}

/// A resumed handshake has no certificates, so it is smaller.
pub(super) fn a_reconnect_resumes_the_session_of_tls(start: Start<'_>) {
    let Some(site) = Site::start() else { return };
    let relay = site.relay(Way::Tls);
    let client = || {
        let options = quick(site.options(Way::Tls, relay.port()), "resumes");
        start(options.configure(|config| config.keep_alive(Duration::from_secs(60)))).unwrap()
    };
    let (one, mut events) = {
        let one = client();
        let events = one.events();
        (one, events)
    };
    for _ in 0..2 {
        connected_anew(&mut events);
        settled(&one);
        relay.cut();
    }
    connected_anew(&mut events);
    settled(&one);
    assert_eq!(wait("the end", one.disconnect()).map(|it| it.undelivered), Ok(0));
    // Another client begins anew.
    let two = client();
    connected_anew(&mut two.events());
    settled(&two);
    assert_eq!(wait("the end", two.disconnect()).map(|it| it.undelivered), Ok(0));
    let brought = relay.brought();
    let [first, second, third, fresh] = brought[..] else { panic!("{brought:?}") };
    assert!(second + 300 < first && third + 300 < first, "resumed: {brought:?}");
    assert!(fresh + 100 > first, "not resumed: {brought:?}");
}

fn connected_anew(events: &mut Events) {
    while !matches!(wait("an event", events.recv()).unwrap(), ClientEvent::Connected(_)) {}
}

/// A message there and back: everything that the server says after a handshake has come.
fn settled(client: &Client) {
    let delivery = wait("room", client.publish(message("settled", 0, QoS::AtLeastOnce))).unwrap();
    assert!(is_done(&wait("an outcome", delivery)));
}
