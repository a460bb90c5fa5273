//! Owns the proof that the example's driver of forty lines speaks through every layer to a server on a socket. It must not know how.

mod support;

#[path = "../examples/stack.rs"]
mod stack;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mqtt_machine::{Backoff, Message, Outcome};
use mqtt_machine_client::{Options, TlsOptions};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::layers::{Peer, server_config};
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_transport::rustls::ALL_VERSIONS;
use support::CA;

/// The driver's lines, from its `fn` to the brace that ends it.
fn lines_of_the_driver() -> usize {
    let text = include_str!("../examples/stack.rs");
    let driver = text.lines().skip_while(|line| !line.starts_with("fn drive"));
    driver.take_while(|line| *line != "}").count() + 1
}

/// A port that leads one client after the other through the server's side of its layers to the broker.
fn gateway(to: u16, mut peer: impl FnMut() -> Peer + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming() {
            // A link that fails has ended.
            let _ = carry(near.unwrap(), TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap(), peer());
        }
    });
    port
}

fn carry(mut near: TcpStream, mut far: TcpStream, mut peer: Peer) -> io::Result<()> {
    let mut buffer = [0; 4096];
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    }
    loop {
        if let Some(count) = read(&mut near, &mut buffer)? {
            peer.receive(&buffer[..count]);
            far.write_all(&std::mem::take(&mut peer.received))?;
            if count == 0 {
                return Ok(());
            }
        }
        if let Some(count) = read(&mut far, &mut buffer)? {
            if count == 0 {
                peer.close();
            }
            peer.send(&buffer[..count]);
        }
        near.write_all(&peer.output())?;
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

#[test]
fn a_driver_of_forty_lines_publishes_by_every_scheme() {
    assert!(lines_of_the_driver() <= 40, "{} lines", lines_of_the_driver());
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let server = Arc::new(server_config(&CA.server(&["localhost"]), ALL_VERSIONS, None));
    for scheme in ["mqtt", "mqtts", "ws", "wss"] {
        let server = Arc::clone(&server);
        let port = gateway(broker.port(), move || {
            let peer = Peer::plain();
            let peer = if matches!(scheme, "mqtts" | "wss") { peer.tls(Arc::clone(&server)) } else { peer };
            if matches!(scheme, "ws" | "wss") { peer.websocket() } else { peer }
        });
        let trusting = || {
            let options = Options::from_url(&format!("{scheme}://localhost:{port}")).unwrap();
            options.route(|route| route.tls(TlsOptions::new().ca_pem(CA.pem().as_bytes())))
        };
        let large = "x".repeat(100_000);
        let outcome = stack::publish(trusting(), Message::to(scheme, large.clone()).unwrap());
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{scheme}: {outcome:?}");
        broker.broker(|broker| assert_eq!(broker.log().count(scheme, large.as_bytes()), 1));
        // Who is not trusted, and who is not there, is told.
        let once = |options: Options| options.configure(|config| config.backoff(Backoff::NEVER));
        if matches!(scheme, "mqtts" | "wss") {
            let none =
                once(trusting()).route(|route| route.tls(TlsOptions::new().ca_pem(other_ca().as_bytes())));
            let error = stack::publish(none, Message::to(scheme, "x").unwrap()).unwrap_err().to_string();
            assert!(error.contains("issuer"), "{error}");
        }
    }
    broker.broker(|broker| assert_eq!(broker.log().violations().count(), 0));
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = Options::from_url(&format!("mqtt://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let options = options.configure(|config| config.backoff(Backoff::NEVER));
    let error = stack::publish(options, Message::to("t", "x").unwrap()).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

fn other_ca() -> String {
    mqtt_machine_testkit::layers::Authority::new("somebody else").pem()
}
