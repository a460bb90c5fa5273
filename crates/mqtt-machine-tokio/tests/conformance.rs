//! Owns the numbered statements that need a socket, against a server that says exactly what a test wrote down.
//! Each test names those that it holds.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mqtt_machine_tokio::{Backoff, Client, ConnectError, EndReason, Options, ProtocolVersion};
use support::{VERSIONS, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;
const PATIENCE: Duration = Duration::from_secs(5);

/// A server for one connection.
struct Server {
    port: u16,
    thread: JoinHandle<Vec<u8>>,
}

impl Server {
    /// Answers CONNECT with `greeting`; each part of the dialogue waits for so many bytes and answers them.
    /// What it heard is everything after CONNECT up to the end that the client made.
    fn start(greeting: &[u8], dialogue: Vec<(usize, &'static [u8])>) -> Self {
        let greeting = greeting.to_vec();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut head = [0; 2];
            stream.read_exact(&mut head).unwrap();
            assert!(head[0] == 0x10 && head[1] < 0x80, "a short CONNECT comes first");
            stream.read_exact(&mut vec![0; usize::from(head[1])]).unwrap();
            stream.write_all(&greeting).unwrap();
            let mut heard = Vec::new();
            for (expected, answer) in dialogue {
                let mut part = vec![0; expected];
                stream.read_exact(&mut part).unwrap();
                heard.extend(part);
                stream.write_all(answer).unwrap();
            }
            read_to_end(&mut stream, &mut heard);
            heard
        });
        Self { port, thread }
    }

    /// A client that tries once.
    fn options(&self, version: ProtocolVersion) -> Options {
        let url = format!("mqtt://127.0.0.1:{}", self.port);
        options(&url, "conformance", version).configure(|config| config.backoff(Backoff::NEVER))
    }

    fn heard(self) -> Vec<u8> {
        self.thread.join().expect("the client closed its side in time")
    }
}

/// Fails when the client does not end the connection.
fn read_to_end(stream: &mut TcpStream, heard: &mut Vec<u8>) {
    match stream.read_to_end(heard) {
        Ok(_) => {}
        // A socket closed with bytes unread is reset: an end too.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the client keeps the connection: {error}"),
    }
}

const fn connack(version: ProtocolVersion) -> &'static [u8] {
    match version {
        ProtocolVersion::V5 => &[0x20, 3, 0, 0, 0],
        _ => &[0x20, 2, 0, 0],
    }
}

// 5.0: MQTT-4.5.0-2
// 3.1.1: MQTT-4.5.0-2
#[tokio::test]
async fn messages_that_the_application_ignores_are_acknowledged() {
    for version in VERSIONS {
        let (qos_1, qos_2): (&[u8], &'static [u8]) = match version {
            ProtocolVersion::V5 => {
                (&[0x32, 7, 0, 1, b'a', 0, 7, 0, b'x'], &[0x34, 7, 0, 1, b'a', 0, 8, 0, b'x'])
            }
            _ => (&[0x32, 6, 0, 1, b'a', 0, 7, b'x'], &[0x34, 6, 0, 1, b'a', 0, 8, b'x']),
        };
        let dialogue = vec![(4, qos_2), (4, &[0x62, 2, 0, 8][..]), (4, &[])];
        let server = Server::start(&[connack(version), qos_1].concat(), dialogue);
        within(20, async {
            let client = Client::connect(server.options(version)).await.unwrap();
            while client.unrouted() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            client.disconnect().await.unwrap();
        })
        .await;
        let expected = [&[0x40, 2, 0, 7][..], &[0x50, 2, 0, 8], &[0x70, 2, 0, 8], &[0xE0, 0]].concat();
        assert_eq!(server.heard(), expected, "{version}");
    }
}

// 5.0: MQTT-3.14.4-1, MQTT-3.14.4-2
// 3.1.1: MQTT-3.14.4-1, MQTT-3.14.4-2
#[tokio::test]
async fn after_disconnect_the_socket_is_closed_and_nothing_more_was_written() {
    for version in VERSIONS {
        let server = Server::start(connack(version), Vec::new());
        within(20, async {
            let client = Client::connect(server.options(version)).await.unwrap();
            client.disconnect().await.unwrap();
        })
        .await;
        assert_eq!(server.heard(), [0xE0, 0], "{version}");
    }
}

// 5.0: MQTT-3.2.2-7, MQTT-4.13.2-1
// 3.1.1: MQTT-3.2.2-5
#[tokio::test]
async fn after_a_refusal_the_socket_is_closed() {
    for (version, refusal) in [(V5, &[0x20, 3, 0, 0x87, 0][..]), (ProtocolVersion::V3_1_1, &[0x20, 2, 0, 5])]
    {
        let server = Server::start(refusal, Vec::new());
        let error = within(20, Client::connect(server.options(version))).await.unwrap_err();
        assert!(matches!(error, ConnectError::GaveUp(EndReason::Refused { .. })), "{error:?}");
        assert_eq!(server.heard(), [0_u8; 0], "{version}");
    }
}

// 5.0: MQTT-4.13.1-1, MQTT-4.13.2-1
// 3.1.1: MQTT-4.8.0-1
#[tokio::test]
async fn after_a_violation_or_a_disconnect_of_the_server_the_socket_is_closed() {
    for (version, greeting, answer) in [
        // A PUBACK with identifier 0.
        (V5, &[0x20, 3, 0, 0, 0, 0x40, 2, 0, 0][..], &[0xE0, 1, 0x82][..]),
        (ProtocolVersion::V3_1_1, &[0x20, 2, 0, 0, 0x40, 2, 0, 0], &[]),
        // The server is shutting down, and leaves the closing to us.
        (V5, &[0x20, 3, 0, 0, 0, 0xE0, 1, 0x8B], &[]),
    ] {
        let server = Server::start(greeting, Vec::new());
        within(20, async {
            // Whether the connection is seen at all before it ends is a matter of time.
            drop(Client::connect(server.options(version)).await);
        })
        .await;
        assert_eq!(server.heard(), answer, "{version}");
    }
}
