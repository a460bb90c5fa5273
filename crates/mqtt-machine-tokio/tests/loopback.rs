//! Owns what this adapter has of its own, against the model broker on a loopback port: `connect` and its errors, helpers, a
//! driver without a task. What every adapter does is in `adapter.rs`. It must not know the wire.

mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::task::Poll;
use std::time::Duration;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Client, CommandError, ConnectError, EndReason, Limits, Message, OneShotError, Options, Outcome,
    ProtocolVersion, QoS, SubscribeError, publish_multiple, publish_single, subscribe_callback,
    subscribe_simple,
};
use support::{VERSIONS, free_port, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

fn message(topic: &str, payload: &str) -> Message {
    Message::to(topic, payload.to_owned()).unwrap()
}

#[tokio::test]
async fn the_helpers_do_one_thing_and_leave_no_session() {
    let broker = broker();
    within(20, async {
        let url = broker.url();
        let hello = |n: u8| message(&format!("once/{n}"), "hello").qos(QoS::AtLeastOnce).retain(true);
        let outcome = publish_single(url.as_str(), hello(0)).await.unwrap();
        assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
        let outcomes = publish_multiple(url.as_str(), (1..5).map(hello)).await.unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Acknowledged(_))), "{outcomes:?}");
        let got = subscribe_simple(url.as_str(), ["once/+"], QoS::AtLeastOnce, 5).await.unwrap();
        assert!(got.iter().all(|message| message.retain && message.payload_lossy() == "hello"), "{got:?}");
        let mut topics = BTreeSet::new();
        subscribe_callback(url.as_str(), ["once/#", "else"], QoS::AtMostOnce, |message| {
            topics.insert(message.topic.to_string());
            if topics.len() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
        .unwrap();
        assert_eq!(topics.first().map(String::as_str), Some("once/0"));
        assert!(subscribe_simple(url.as_str(), ["x"], QoS::AtMostOnce, 0).await.unwrap().is_empty());
        // The broker may still be reading the last DISCONNECT.
        assert!(broker.wait_until(Duration::from_secs(5), |broker| broker.session_count() == 0));

        let refused = subscribe_simple(url.as_str(), ["not/#/a/filter"], QoS::AtMostOnce, 1).await;
        assert!(matches!(refused, Err(OneShotError::Subscribe(SubscribeError::Filter(_)))), "{refused:?}");
        let nowhere = publish_single("http://host", hello(0)).await;
        assert!(matches!(nowhere, Err(OneShotError::Connect(ConnectError::Endpoint(_)))), "{nowhere:?}");
    })
    .await;
}

#[tokio::test]
async fn a_permanent_refusal_is_the_error_of_connect() {
    let broker = Broker::start(BrokerConfig::new().user("me", "right")).unwrap();
    within(20, async {
        for version in VERSIONS {
            let url = format!("mqtt://me:wrong@127.0.0.1:{}", broker.port());
            let error = Client::connect(options(&url, "refused", version)).await.unwrap_err();
            assert!(matches!(error, ConnectError::GaveUp(EndReason::Refused { .. })), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_passing_failure_is_retried_until_the_deadline() {
    within(20, async {
        let url = format!("mqtt://127.0.0.1:{}", free_port());
        let short = options(&url, "nobody", V5).connect_deadline(Duration::from_millis(300));
        let error = Client::connect(short).await.unwrap_err();
        let ConnectError::Timeout { last: Some(EndReason::OpenFailed(_)), .. } = error else {
            panic!("{error}")
        };

        let port = free_port();
        let late = options(&format!("mqtt://127.0.0.1:{port}"), "late", V5);
        let connecting = tokio::spawn(Client::connect(late));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _broker = Broker::start_on(BrokerConfig::new(), port).unwrap();
        connecting.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_url_that_is_none_and_a_missing_runtime_are_told_at_once() {
    assert!(matches!(Client::start("http://host"), Err(ConnectError::Endpoint(_))));
    let outside = std::thread::spawn(|| Client::start("mqtt://localhost").map(drop));
    assert!(matches!(outside.join().unwrap(), Err(ConnectError::Runtime(_))));
}

#[tokio::test]
async fn dropping_the_driver_ends_everything_that_waits() {
    let broker = broker();
    within(20, async {
        let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
        let options = options(&broker.url(), "gone", V5).configure(|config| config.limits(limits));
        let (client, driver) = Client::with_driver(options).unwrap();
        let mut stream = client.messages();
        let mut events = client.events();
        let delivery = client.try_publish(message("a", "never")).unwrap();
        let waiting = client.publish(message("a", "never"));
        let connected = client.connected();
        drop(driver);
        assert_eq!(delivery.await, Outcome::NotSent);
        assert!(matches!(waiting.await, Err(CommandError::Closed)));
        assert_eq!(connected.await.unwrap_err(), ConnectError::Closed);
        assert!(stream.recv().await.is_none());
        while events.recv().await.is_some() {}
        assert!(client.disconnect().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn the_reason_of_a_timeout_is_what_the_last_attempt_failed_of() {
    within(20, async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let silent = Options::from_url(&format!("mqtt://{address}"))
            .unwrap()
            .configure(|config| config.connect_timeout(Duration::from_millis(100)))
            .connect_deadline(Duration::from_millis(400));
        let error = Client::connect(silent).await.unwrap_err();
        let ConnectError::Timeout { last, .. } = error else { panic!("{error}") };
        assert_eq!(last, Some(EndReason::ConnectTimeout));
    })
    .await;
}

#[test]
fn a_publisher_that_never_waits_lets_the_driver_on_its_thread_run() {
    let broker = broker();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within(60, async {
        let client = Client::connect(options(&broker.url(), "starve", V5)).await.unwrap();
        let mut most = 0;
        for _ in 0..20_000 {
            client.publish(message("a", "0123456789012345678901234567890123456789")).await.unwrap();
            most = most.max(client.memory_used());
        }
        assert!(most < 4 << 20, "{most} bytes were queued");
        assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
    }));
}

#[test]
fn futures_of_a_client_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: T) -> Poll<()> {
        Poll::Ready(())
    }
    let (client, driver) = Client::with_driver("mqtt://localhost").unwrap();
    let _ = is_send(driver);
    let _ = is_send(client.publish(message("a", "b")));
    let _ = is_send(client.subscribe("a", QoS::AtMostOnce));
    let _ = is_send(client.disconnect());
    let _ = is_send(Client::connect("mqtt://localhost"));
    let _ = is_send(client.messages());
}
