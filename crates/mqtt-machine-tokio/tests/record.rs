//! Owns the proof that a client can be recorded while it works: what is recorded replays, and holds no secret.
//! It must not know the format.

mod support;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use mqtt_machine::packet::{Packet, Property, PropertyId, Sender};
use mqtt_machine::transcript::{Call, Replay, StopReason, Transcript};
use mqtt_machine::{Authentication, ProtocolVersion, wire};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Client, ClientEvent, Config, ConnectError, Message, Options, Outcome, QoS, Record, Secret, Server,
};
use support::{VERSIONS, options, within};

const USER: &str = "the-user-name";
const PASSWORD: &str = "the-password";

fn broker() -> Broker {
    let mut config = BrokerConfig::new();
    config.users.insert(USER.to_owned(), PASSWORD.into());
    Broker::start(config).unwrap()
}

fn with_login(broker: &Broker, client_id: &str, version: ProtocolVersion) -> Options {
    options(&broker.url(), client_id, version).configure(|config| config.username_password(USER, PASSWORD))
}

/// A sink that the test looks into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn transcript(&self) -> Transcript {
        Transcript::new(self.0.lock().unwrap().clone()).unwrap()
    }

    fn holds(&self, secret: &str) -> bool {
        holds(&self.0.lock().unwrap(), secret)
    }
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
}

fn file(name: &str) -> PathBuf {
    env::temp_dir().join(format!("mqtt-machine-{}-{name}.transcript", std::process::id()))
}

fn message(payload: &str) -> Message {
    Message::to("a/b", payload.to_owned()).unwrap().qos(QoS::ExactlyOnce)
}

/// A message there and back, over a connection that breaks, and the end of the client.
async fn work(client: &Client, broker: &Broker, client_id: &str) {
    let mut stream = client.subscribe("a/#", QoS::ExactlyOnce).await.unwrap();
    for payload in ["1", "2", "3"] {
        let outcome = client.publish(message(payload)).await.unwrap().await;
        assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
        assert_eq!(stream.recv().await.unwrap().payload_lossy(), payload);
        let mut events = client.events();
        broker.cut(client_id);
        while !matches!(events.recv().await, Some(ClientEvent::Connected(_))) {}
    }
    // More than the smallest buffer takes.
    client.publish(message(&"4".repeat(1_000))).await.unwrap().await;
    assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
}

/// The driver ends in its own time.
async fn written(path: &PathBuf) -> Transcript {
    let mut last = Vec::new();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = fs::read(path).unwrap();
        if now == last {
            return Transcript::new(now).unwrap();
        }
        last = now;
    }
}

#[tokio::test]
async fn a_client_recorded_into_a_file_replays_and_the_file_holds_no_secret() {
    let broker = broker();
    for version in VERSIONS {
        within(30, async {
            let path = file("redacted");
            let options = with_login(&broker, "redacted", version).record(Record::to_file(&path).unwrap());
            let client = Client::connect(options).await.unwrap();
            work(&client, &broker, "redacted").await;
            let transcript = written(&path).await;
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(!holds(&bytes, USER) && !holds(&bytes, PASSWORD));
            assert!(transcript.header().redacted);
            let count = Replay::verify(&transcript).unwrap();
            assert!(count > 50, "{count} entries");
        })
        .await;
    }
}

#[tokio::test]
async fn a_recording_that_is_asked_to_include_secrets_has_them() {
    let broker = broker();
    within(20, async {
        let sink = Shared::default();
        let record = Record::to(sink.clone()).including_secrets();
        let options = with_login(&broker, "clear", ProtocolVersion::V5).record(record);
        let client = Client::connect(options).await.unwrap();
        work(&client, &broker, "clear").await;
        assert!(sink.holds(USER) && sink.holds(PASSWORD));
        Replay::verify(&sink.transcript()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn authentication_data_reaches_the_server_and_not_the_recording() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        while wire::frame_header(&bytes, u32::MAX)
            .unwrap()
            .is_none_or(|header| header.frame_len() > bytes.len())
        {
            let mut chunk = [0; 512];
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0);
            bytes.extend_from_slice(&chunk[..count]);
        }
        // 0x87: not authorized.
        stream.write_all(&[0x20, 3, 0, 0x87, 0]).unwrap();
        bytes
    });
    within(20, async {
        let sink = Shared::default();
        let mut config = Config::new(Server::new(address.to_string())).username_password(USER, PASSWORD);
        config.authentication = Some(Authentication {
            method: "OAUTH".to_owned(),
            initial_data: Some(Secret::new(&b"the-token"[..])),
        });
        let options = Options::new(config).record(Record::to(sink.clone()));
        let error = Client::connect(options).await.unwrap_err();
        assert!(matches!(error, ConnectError::GaveUp(_)), "{error}");
        let bytes = server.join().unwrap();
        let packet = wire::decode(&bytes, ProtocolVersion::V5, Sender::Client).unwrap();
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        let data = connect.properties.find(PropertyId::AuthenticationData);
        assert_eq!(data, Some(Property::AuthenticationData(b"the-token")));
        assert_eq!((connect.username, connect.password), (Some(USER), Some(PASSWORD.as_bytes())));
        assert!(!sink.holds("the-token") && !sink.holds(USER) && !sink.holds(PASSWORD));
        Replay::verify(&sink.transcript()).unwrap();
    })
    .await;
}

/// A sink that takes so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a client whose recording ends early, and gives why it did.
async fn stopped(broker: &Broker, record: Record) -> String {
    let options = with_login(broker, "stopped", ProtocolVersion::V5).record(record);
    let client = Client::start(options).unwrap();
    let mut events = client.events();
    client.connected().await.unwrap();
    work(&client, broker, "stopped").await;
    let mut why = None;
    while let Some(event) = events.recv().await {
        if let ClientEvent::RecordingStopped { why: said } = event {
            assert_eq!(why.replace(said), None, "told once");
        }
    }
    why.expect("the recording stops")
}

#[tokio::test]
async fn a_recording_that_cannot_go_on_ends_and_the_client_does_not() {
    let broker = broker();
    within(30, async {
        let full = io::Error::from(io::ErrorKind::StorageFull).to_string();
        assert_eq!(stopped(&broker, Record::to(Full(600))).await, full);

        let sink = Shared::default();
        let why = stopped(&broker, Record::to(sink.clone()).buffer(300)).await;
        assert_eq!(why, StopReason::BufferFull.to_string());
        let transcript = sink.transcript();
        Replay::verify(&transcript).unwrap();
        let last = transcript.entries().last().unwrap().unwrap();
        assert!(matches!(last.call, Call::Stop(StopReason::BufferFull)));

        let record = Record::to(Shared::default());
        let first =
            Client::start(with_login(&broker, "first", ProtocolVersion::V5).record(record.clone())).unwrap();
        assert_eq!(stopped(&broker, record).await, "its sink is another client's");
        first.disconnect().await.unwrap();
    })
    .await;
}
