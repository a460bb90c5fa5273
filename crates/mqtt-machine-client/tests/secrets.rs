//! Owns the search for secrets in everything that can be printed. It must not know how it is printed.

mod support;

use std::fmt::Debug;
use std::task::Waker;

use bytes::Buf;
use mqtt_machine::{Authentication, Event, Instant, QoS, Secret};
use mqtt_machine_client::{
    Client, ConfigError, ConnectError, Endpoint, Options, Proxy, Route, RouteOptions, Stack, Task,
    TlsOptions, TransportError, WebSocketOptions,
};
use mqtt_machine_testkit::layers::{Authority, Peer, ProxyKind};
use mqtt_machine_transport::Password;
use support::{Way, World};

/// In every user name, password, token and signature of these tests. `hu%73h` is how one may stand in a URL.
const SECRET: &str = "hush";
const URL: &str = "wss://hushuser:hu%73hpass@host/path";
const PROXIES: [&str; 2] = ["socks5h://hushuser:hu%73hpass@one", "http://hushuser:hu%73hpass@two"];

#[track_caller]
fn silent(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what} says something");
    // As it is, as base64 of every alignment, as bytes in a list, and as hexadecimal digits.
    let bytes = SECRET.as_bytes();
    let list = format!("{bytes:?}");
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for form in [SECRET, "hu%73h", "aHVza", "h1c2", "odXNo", list.trim_matches(['[', ']']), &hex] {
        assert!(!text.contains(form), "{what} tells {form}: {text}");
    }
}

#[track_caller]
fn silent_value(what: &str, value: &impl Debug) {
    silent(what, &format!("{value:?} {value:#?}"));
}

/// The body of the client's private key: its longest line in PEM.
fn key_body(pem: &str) -> String {
    pem.lines().max_by_key(|line| line.len()).unwrap().to_owned()
}

fn routes(options: RouteOptions) -> (RouteOptions, String) {
    let ca = Authority::new("the tests");
    let leaf = ca.client("client");
    let key = leaf.key.serialize_pem();
    let tls = TlsOptions::new()
        .ca_pem(ca.pem().as_bytes())
        .client_certificate_pem(leaf.certificate.pem().as_bytes(), key.as_bytes())
        .key_password(Password::new(*b"hushkey"));
    let websocket = WebSocketOptions::new().header("X-Token", "hushheader").sign_with(|request| {
        request.target = "/path?signature=hushsignature".to_owned();
        Ok(())
    });
    let mut options = options.tls(tls).websocket(websocket);
    for proxy in PROXIES {
        options = options.proxy(Proxy::parse(proxy).unwrap());
    }
    (options, key_body(&key))
}

fn options() -> (Options, String) {
    let mut key = String::new();
    let options = Options::from_url(URL)
        .unwrap()
        .configure(|mut config| {
            config.authentication = Some(Authentication {
                method: "M".to_owned(),
                initial_data: Some(Secret::new(&b"hushdata"[..])),
            });
            config
        })
        .route(|route| {
            let (route, body) = routes(route);
            key = body;
            route
        });
    (options, key)
}

#[test]
fn nothing_that_can_be_printed_tells_a_secret() {
    let (options, key) = options();
    let endpoint = Endpoint::parse(URL).unwrap();
    let route = Route::new(endpoint.clone(), &options.routes).unwrap();
    let layers = route.layers().unwrap();
    let proxy = Proxy::parse(PROXIES[0]).unwrap();
    let stack = Stack::new(options.clone(), 1, Instant::ZERO).unwrap();
    let (client, driver) = Client::new(options.clone()).unwrap();
    let texts = [
        ("options", format!("{options:?} {options:#?}")),
        ("config", format!("{:?} {:#?}", options.config, options.config)),
        ("route options", format!("{:?} {:#?}", options.routes, options.routes)),
        ("endpoint", format!("{endpoint:?} {endpoint:#?} {endpoint}")),
        ("route", format!("{route:?} {route:#?}")),
        ("layers", format!("{layers:?} {layers:#?}")),
        ("proxy", format!("{proxy:?} {proxy:#?} {proxy}")),
        ("stack", format!("{stack:?} {stack:#?}")),
        ("driver", format!("{driver:?} {driver:#?}")),
        ("client", format!("{client:?} {client:#?}")),
        ("password", format!("{:?}", Password::new(*b"hush"))),
    ];
    for (what, text) in texts {
        silent(what, &text);
        assert!(!text.contains(&key), "{what} tells the key");
    }
}

/// The errors of everything that is wrong with a text that holds secrets.
#[test]
fn no_error_of_a_configuration_tells_a_secret() {
    let endpoints = [
        "hush",
        "hush://hush:hush@host",
        "mqtt://hush:hush@",
        "mqtt://hush:hu sh@host",
        "mqtt://hush:hush@host:hush",
        "mqtt://hush:hu/sh@host",
        "mqtt://hush:hu#sh@host",
        "mqtt://hush:%ff@host?hush=1",
        "mqtt://u:hush@host?password=hush",
        "unix://hush:hush@",
        "mqtt+srv://hush:hush@127.0.0.1",
        "wss://hush:hush@host/path?keep_alive=hush",
    ];
    for url in endpoints {
        if let Err(error) = Options::from_url(url) {
            // What is no secret may be told: where no user name stands before an `@`.
            if url.contains('@') && !url.starts_with("hush") && !url.contains('?') {
                silent(url, &format!("{error} {error:?} {:?}", ConnectError::from(error.clone())));
            }
        }
    }
    for url in [
        "socks5h://hush:hush@",
        "http://hush:hush@host:hush",
        "gopher://hush:hush@host",
        "http://hush:hush@h/p",
    ] {
        let error = Proxy::parse(url).unwrap_err();
        silent(url, &format!("{error} {error:?}"));
    }
    let broken = |tls: TlsOptions| tls.build().unwrap_err();
    let key = "-----BEGIN PRIVATE KEY-----\naHVzaGh1c2hodXNoaHVzaA==\n-----END PRIVATE KEY-----\n";
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let certificate = Authority::new("the tests").client("client").certificate.pem();
    for error in [
        broken(TlsOptions::new().ca_pem(b"hush")),
        broken(TlsOptions::new().client_certificate_pem(certificate.as_bytes(), key.as_bytes())),
        broken(TlsOptions::new().client_certificate_pem(certificate.as_bytes(), b"hush")),
        broken(
            TlsOptions::new()
                .client_certificate_pem(certificate.as_bytes(), encrypted.as_bytes())
                .key_password(Password::new(*b"hush")),
        ),
    ] {
        silent_value("a key", &error);
        silent("a key", &format!("{error} {}", TransportError::from(error.clone())));
    }
    let unsigned = WebSocketOptions::new().header("X-Token", "hush\r\n");
    let route = Route::new(Endpoint::parse("ws://host").unwrap(), &RouteOptions::new().websocket(unsigned));
    let error = match route {
        Ok(route) => route.layers().unwrap_err(),
        Err(error) => error,
    };
    assert!(!matches!(error, ConfigError::Signing(_)));
    silent("a header", &format!("{error} {error:?}"));
}

/// What is told of connections, and of those that never came to be.
#[test]
fn no_event_and_no_failure_of_a_connection_tells_a_secret() {
    let way =
        Way { url: URL, proxies: &[(PROXIES[0], ProxyKind::Socks5Auth), (PROXIES[1], ProxyKind::Http)] };
    // The key's password would be one too many for a key that has none.
    let options = way.options();
    let mut world = World::new(way, options.clone());
    world.stack.connect(world.now).unwrap();
    world.subscribe("t", QoS::AtLeastOnce);
    world.connect();
    silent("a stack", &format!("{:?} {:#?}", world.stack, world.stack));
    silent("events", &format!("{:?}", world.events));

    let refusals: [&[u8]; 5] = [
        &[5, 0xFF],
        &[5, 2, 1, 1],
        &[5, 2, 1, 0, 5, 5],
        b"\x05\x02\x01\x00\x05\x00\x00\x01aaaabbHTTP/1.1 407 no\r\n\r\n",
        b"\x05\x02\x01\x00\x05\x00\x00\x01aaaabbHTTP/1.1 200 ok\r\n\r\n\x15\x03\x03\x00\x02\x02\x28",
    ];
    for refusal in refusals {
        let mut world = World::new(way, options.clone());
        world.stack.connect(world.now).unwrap();
        let mut peer = Peer::plain();
        peer.send_frame(refusal);
        world.next_peer = Some(peer);
        world.settle();
        assert!(world.events.iter().any(|event| matches!(event, Event::ConnectFailed(_))), "{refusal:?}");
        let [error] = &world.errors[..] else { panic!("{refusal:?}: {:?}", world.errors) };
        silent("a failure", &format!("{error} {error:?} {:?} {:?}", world.events, world.stack));
    }
}

/// The CONNECT of a plain connection, and what a proxy is told, as they wait to be written.
#[test]
fn nothing_that_waits_to_be_written_tells_a_secret() {
    let plain = Options::from_url("mqtt://hushuser:hushpass@host").unwrap();
    let proxied = plain.clone().route(|route| route.proxy(Proxy::parse(PROXIES[1]).unwrap()));
    for options in [plain, proxied] {
        let (_client, mut driver) = Client::new(options.clone()).unwrap();
        driver.turn(Waker::noop());
        let Some(Task::Open { id, server }) = driver.next_task() else { panic!("it opens") };
        let layers = driver.layers(&server).unwrap();
        driver.opened(id, layers);
        driver.turn(Waker::noop());
        assert!(driver.output().has_remaining());
        silent_value("a driver", &driver);

        let way = Way { url: "mqtt://host", proxies: &[] };
        let mut world = World::new(way, options);
        world.deaf = true;
        world.stack.connect(world.now).unwrap();
        world.settle();
        assert!(world.output.has_remaining());
        silent("a stack", &format!("{:?} {:?}", world.stack, world.output));
    }
}
