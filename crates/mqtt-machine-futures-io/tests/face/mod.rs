//! Owns the proof of what a face of this crate adds to what the adapter conformance suite holds: the ways to begin, streams of
//! the runtime's own, the helpers. It is written once: a face's test calls its crate `adapter` and its runtime `runtime`, and
//! includes this. It must not know the wire, nor which runtime it is.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdTcp};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream as StdUnix};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

use super::adapter::{
    Backoff, Client, ClientEvent, CommandError, Config, ConnectError, Connector, DialError, EndReason,
    Message, Options, Outcome, ProtocolVersion, QoS, Server, TransportError, publish_multiple,
    publish_single, subscribe_callback, subscribe_simple,
};
use super::runtime::{TcpStream, UnixStream, block_on, spawn, unix_of_std};

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const SOON: Duration = Duration::from_secs(10);

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

fn quick(config: Config) -> Config {
    config.backoff(Backoff { first: Duration::from_millis(20), jitter: false, ..Backoff::DEFAULT })
}

fn options(url: &str, client_id: &str) -> Options {
    Options::from_url(url).unwrap().configure(|config| quick(config).client_id(client_id))
}

fn message(payload: impl Into<Vec<u8>>, qos: QoS) -> Message {
    Message::to("face/a", payload.into()).unwrap().qos(qos)
}

/// Publishes and receives at each QoS.
async fn exchange(client: &Client, payload: &[u8]) {
    let mut messages = client.subscribe("face/#", QoS::ExactlyOnce).await.unwrap();
    for qos in ALL {
        let outcome = client.publish(message(payload, qos)).await.unwrap().await;
        assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
        let message = messages.recv().await.unwrap();
        assert!(message.qos == qos && message.payload == payload, "{} bytes", message.payload.len());
    }
}

/// As [`exchange`], with a cut in the middle.
async fn exchange_across_a_cut(client: &Client, broker: &Broker) {
    let mut events = client.events();
    exchange(client, b"before").await;
    broker.cut_all();
    while !matches!(events.recv().await, Some(ClientEvent::Connected(_))) {}
    exchange(client, b"after").await;
    assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
    assert!(matches!(client.try_publish(message("", QoS::AtMostOnce)), Err(CommandError::Closed)));
}

/// Carries bytes between two sockets until both have ended.
macro_rules! relay {
    ($near:expr, $port:expr) => {{
        let (near, far) = ($near, StdTcp::connect((Ipv4Addr::LOCALHOST, $port)).unwrap());
        let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut near_in, &mut far_out);
            far_out.shutdown(std::net::Shutdown::Write)
        });
        thread::spawn(move || {
            let (mut near, mut far) = (near, far);
            let _ = io::copy(&mut far, &mut near);
            near.shutdown(std::net::Shutdown::Write)
        });
    }};
}

#[test]
fn messages_of_every_qos_and_version_come_back_across_a_cut() {
    let broker = broker();
    block_on(async {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            let options = options(&broker.url(), "cut").configure(|config| config.version(version));
            exchange_across_a_cut(&Client::connect(options).await.unwrap(), &broker).await;
        }
    });
}

#[test]
fn a_name_and_a_unix_socket_lead_to_the_broker() {
    let broker = broker();
    let directory =
        std::env::temp_dir().join(format!("mqtt-machine-{}-{}", adapter_name(), std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = broker.port();
    thread::spawn(move || {
        for near in listener.incoming() {
            relay!(near.unwrap(), port);
        }
    });
    block_on(async {
        for url in [format!("mqtt://localhost:{port}"), format!("unix://{}", path.display())] {
            let client = Client::connect(options(&url, "name")).await.unwrap();
            exchange_across_a_cut(&client, &broker).await;
        }
    });
    std::fs::remove_dir_all(directory).unwrap();
}

fn adapter_name() -> &'static str {
    std::any::type_name::<Client>().split("::").next().unwrap_or_default()
}

#[test]
fn a_stream_of_the_runtimes_own_is_opened_again_for_every_connection() {
    let broker = broker();
    let (opened, port) = (Arc::new(AtomicUsize::new(0)), broker.port());
    let count = Arc::clone(&opened);
    let connector = Connector::new(move |server: Server| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(server.as_str(), "the one at the end of the corridor");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
        }
    });
    let config = quick(Config::new(Server::new("the one at the end of the corridor")).client_id("own"));
    block_on(async {
        let client = Client::connect_with(config, connector).await.unwrap();
        exchange_across_a_cut(&client, &broker).await;
    });
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[test]
fn a_pipe_that_is_there_once_is_used_once() {
    let broker = broker();
    let (near, far) = StdUnix::pair().unwrap();
    relay!(far, broker.port());
    block_on(async {
        let near: UnixStream = unix_of_std(near);
        let config = Config::new(Server::new("pipe")).backoff(Backoff::NEVER);
        let client = Client::start_with(config, Connector::once(near)).unwrap();
        client.connected().await.unwrap();
        exchange(&client, b"through the pipe").await;
        let mut events = client.events();
        client.reconnect().unwrap();
        while !matches!(events.recv().await, Some(ClientEvent::ConnectFailed { retry_at: None, .. })) {}
        let error = client.connected().await.unwrap_err();
        assert!(error.to_string().contains("used before"), "{error}");
    });
}

#[test]
fn why_there_is_no_connection_is_told() {
    assert!(matches!(Client::start("http://host"), Err(ConnectError::Endpoint(_))));
    assert!(matches!(Client::start("mqtts://host?ca_file=/no/such/file"), Err(ConnectError::Transport(_))));
    let strict = Broker::start(BrokerConfig::new().user("me", "right")).unwrap();
    let free = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let silent = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let short = |url: String| {
        let options = options(&url, "none").connect_deadline(Duration::from_millis(400));
        Client::connect(options.configure(|config| config.connect_timeout(Duration::from_millis(100))))
    };
    block_on(async {
        let refused =
            Client::connect(format!("mqtt://me:wrong@127.0.0.1:{}", strict.port())).await.unwrap_err();
        assert!(matches!(refused, ConnectError::GaveUp(EndReason::Refused { .. })), "{refused:?}");

        let ConnectError::Timeout { last, cause, .. } = short(format!("mqtt://{free}")).await.unwrap_err()
        else {
            panic!("nobody is there")
        };
        assert!(matches!(last, Some(EndReason::OpenFailed(_))), "{last:?}");
        let kind = io::ErrorKind::ConnectionRefused;
        assert!(
            matches!(cause.as_deref(), Some(TransportError::Dial(DialError::Connect { kind: of, .. })) if *of == kind),
            "{cause:?}"
        );

        let nowhere = short("unix:///no/such/socket".to_owned()).await.unwrap_err();
        let ConnectError::Timeout { cause, .. } = nowhere else { panic!("{nowhere}") };
        let kind = io::ErrorKind::NotFound;
        assert!(
            matches!(cause.as_deref(), Some(TransportError::Dial(DialError::Connect { kind: of, .. })) if *of == kind),
            "{cause:?}"
        );

        let silent = format!("mqtt://{}", silent.local_addr().unwrap());
        let ConnectError::Timeout { last, .. } = short(silent).await.unwrap_err() else {
            panic!("nobody speaks")
        };
        assert_eq!(last, Some(EndReason::ConnectTimeout));
    });
}

#[test]
fn a_driver_that_nobody_polls_does_nothing_and_ends_everything_when_it_is_dropped() {
    let broker = broker();
    block_on(async {
        let (client, driver) = Client::with_driver(options(&broker.url(), "gone")).unwrap();
        let delivery = client.try_publish(message("never", QoS::AtLeastOnce)).unwrap();
        let mut messages = client.messages();
        let connected = client.connected();
        thread::sleep(Duration::from_millis(50));
        assert!(!client.is_connected() && broker.broker(|broker| broker.log().accepted().count()) == 0);
        drop(driver);
        assert_eq!(delivery.await, Outcome::NotSent);
        assert_eq!(connected.await.unwrap_err(), ConnectError::Closed);
        assert!(messages.recv().await.is_none());

        let (client, driver) = Client::with_driver(options(&broker.url(), "polled")).unwrap();
        let mut driver = pin!(driver);
        assert!(driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        spawn(async move {
            client.connected().await.unwrap();
            exchange(&client, b"by hand").await;
        });
        // The handle is dropped, and so the driver comes to its end.
        driver.await;
    });
}

#[test]
fn dropping_the_last_handle_delivers_and_disconnects() {
    let broker = broker();
    block_on(async {
        let client = Client::connect(options(&broker.url(), "last")).await.unwrap();
        let delivery = client.publish(message("words", QoS::ExactlyOnce)).await.unwrap();
        drop(client);
        assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        assert!(broker.wait_until(SOON, |broker| broker.connected().count() == 0));
    });
}

#[test]
fn a_future_of_connect_that_is_given_up_leaves_no_client_behind() {
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", silent.local_addr().unwrap());
    block_on(async {
        let mut connecting = Box::pin(Client::connect(options(&url, "given up")));
        assert!(connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let (mut socket, _) = silent.accept().unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        drop(connecting);
        let mut seen = Vec::new();
        socket.read_to_end(&mut seen).unwrap();
        assert!(seen.is_empty() || seen[0] == 0x10, "a CONNECT at most: {seen:?}");
    });
}

#[test]
fn the_helpers_do_one_thing_and_go() {
    let broker = broker();
    block_on(async {
        let kept = message("once", QoS::AtLeastOnce).retain(true);
        let outcome = publish_single(broker.url(), kept).await.unwrap();
        assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
        let got = subscribe_simple(broker.url(), ["face/a"], QoS::AtLeastOnce, 1).await.unwrap();
        assert_eq!(got[0].payload_lossy(), "once");
        let mut got = Vec::new();
        subscribe_callback(broker.url(), ["face/#"], QoS::AtLeastOnce, |message| {
            got.push(message.payload_lossy());
            ControlFlow::Break(())
        })
        .await
        .unwrap();
        assert_eq!(got, ["once"]);
        let outcomes = publish_multiple(broker.url(), ALL.map(|qos| message("more", qos))).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Sent, Outcome::Acknowledged(_), Outcome::Acknowledged(_)]));
    });
    assert!(broker.wait_until(SOON, |broker| broker.connected().count() == 0));
}

#[test]
fn futures_of_a_client_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (client, driver) = Client::with_driver("mqtt://localhost").unwrap();
    is_send(&driver);
    is_send(&client.publish(message("", QoS::AtMostOnce)));
    is_send(&client.subscribe("a", QoS::AtMostOnce));
    is_send(&Client::connect("mqtt://localhost"));
    is_send(&subscribe_simple("mqtt://localhost", ["a"], QoS::AtMostOnce, 1));
}
