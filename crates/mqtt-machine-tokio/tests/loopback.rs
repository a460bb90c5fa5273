//! Owns the proof that the adapter keeps the handle's promises, against the model broker on a loopback port.
//! It must not know the wire.

mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Client, ClientEvent, CommandError, ConnectError, EndReason, Limits, Message, OneShotError, Options,
    Outcome, ProtocolVersion, QoS, ReasonCode, SubscribeError, Subscription, TryRecvError, publish_multiple,
    publish_single, subscribe_callback, subscribe_simple,
};
use support::{VERSIONS, free_port, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;
const SECOND: Duration = Duration::from_secs(1);

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

fn message(topic: &str, payload: &str) -> Message {
    Message::to(topic, payload.to_owned()).unwrap()
}

async fn next(stream: &mut Subscription) -> String {
    stream.recv().await.unwrap().payload_lossy()
}

// 5.0: MQTT-4.2.0-1
// 3.1.1: MQTT-7.1.2-1
#[tokio::test]
async fn messages_of_every_qos_and_version_come_back() {
    let broker = broker();
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            within(20, async {
                let client = Client::connect(options(&broker.url(), "round", version)).await.unwrap();
                let mut stream = client.subscribe("round/#", qos).await.unwrap();
                for payload in ["", "x", "more"] {
                    let outcome =
                        client.publish(message("round/trip", payload).qos(qos)).await.unwrap().await;
                    assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
                }
                for payload in ["", "x", "more"] {
                    let got = stream.recv().await.unwrap();
                    assert_eq!((got.payload_lossy().as_str(), got.qos), (payload, qos));
                }
                assert_eq!(client.disconnect().await.unwrap(), 0);
                assert!(stream.recv().await.is_none());
                assert!(matches!(client.try_publish(message("a", "")), Err(CommandError::Closed)));
            })
            .await;
        }
    }
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
        assert!(broker.wait_until(5 * SECOND, |broker| broker.session_count() == 0));

        let refused = subscribe_simple(url.as_str(), ["not/#/a/filter"], QoS::AtMostOnce, 1).await;
        assert!(matches!(refused, Err(OneShotError::Subscribe(SubscribeError::Filter(_)))), "{refused:?}");
        let nowhere = publish_single("http://host", hello(0)).await;
        assert!(matches!(nowhere, Err(OneShotError::Connect(ConnectError::Endpoint(_)))), "{nowhere:?}");
    })
    .await;
}

#[tokio::test]
async fn overlapping_streams_get_each_message_once_and_unused_filters_are_unsubscribed() {
    let broker = broker();
    within(20, async {
        let client = Client::connect(options(&broker.url(), "overlap", V5)).await.unwrap();
        let mut wide = client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap();
        let mut exact = client.subscribe("b/c", QoS::AtLeastOnce).await.unwrap();
        let mut twin = client.subscribe("b/c", QoS::AtLeastOnce).await.unwrap();
        let qos = QoS::AtLeastOnce;
        for (topic, payload) in [("a/b", "1"), ("b/c", "2"), ("a", "3")] {
            client.publish(message(topic, payload).qos(qos)).await.unwrap().await;
        }
        assert_eq!([next(&mut wide).await, next(&mut wide).await], ["1", "3"]);
        assert_eq!([next(&mut exact).await, next(&mut twin).await], ["2", "2"]);
        assert_eq!(exact.try_recv().unwrap_err(), TryRecvError::Empty);

        let codes = exact.unsubscribe().await.unwrap();
        assert!(codes.codes.is_empty(), "the twin still uses the filter");
        client.publish(message("b/c", "4").qos(qos)).await.unwrap().await;
        assert_eq!(next(&mut twin).await, "4");
        assert_eq!(twin.unsubscribe().await.unwrap().codes, [ReasonCode::Success]);
        drop(wide);
        client.publish(message("a/b", "5").qos(qos)).await.unwrap().await;
        client.publish(message("b/c", "6").qos(qos)).await.unwrap().await;
        assert_eq!(client.unrouted(), 0);
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_refused_filter_is_an_error_with_its_code() {
    let denied = BrokerConfig::new().deny("secret/#".parse().unwrap());
    let broker = Broker::start(denied).unwrap();
    within(20, async {
        for version in VERSIONS {
            let client = Client::connect(options(&broker.url(), "denied", version)).await.unwrap();
            let error = client.subscribe("secret/#", QoS::AtMostOnce).await.unwrap_err();
            let SubscribeError::Rejected(codes) = error else { panic!("{error}") };
            assert!(codes.codes.iter().all(|code| code.is_failure()) && codes.codes.len() == 1);
            assert!(matches!(
                client.subscribe("a/#/b", QoS::AtMostOnce).await.unwrap_err(),
                SubscribeError::Filter(_)
            ));
            assert_eq!(client.pending(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn publishing_from_the_receive_loop_with_full_queues_never_hangs() {
    const COUNT: usize = 3_000;
    let broker = broker();
    within(60, async {
        let limits = Limits { outgoing_messages: 4, incoming_bytes: 2_000, ..Limits::DEFAULT };
        let echo = options(&broker.url(), "echo", V5).configure(|config| config.limits(limits));
        let echo = Client::connect(echo).await.unwrap();
        let mut requests = echo.subscribe("requests", QoS::AtLeastOnce).await.unwrap();
        let flood = Client::connect(options(&broker.url(), "flood", V5)).await.unwrap();
        let flooding = tokio::spawn(async move {
            for number in 0..COUNT {
                let request = message("requests", &number.to_string()).qos(QoS::AtLeastOnce);
                flood.publish(request).await.unwrap();
            }
            flood.disconnect().await.unwrap()
        });
        let (mut answered, mut full) = (0, 0);
        for number in 0..COUNT {
            let request = requests.recv().await.unwrap();
            assert_eq!(request.payload_lossy(), number.to_string());
            // Held while publishing: the budget is used up by what is unread.
            match echo.publish(message("answers", &number.to_string()).qos(QoS::AtLeastOnce)).await {
                Ok(_) => answered += 1,
                Err(error) if error.is_full() => full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(answered + full, COUNT);
        assert!(answered > 0);
        assert_eq!(flooding.await.unwrap(), 0);
        assert_eq!(echo.disconnect().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_publish_is_not_accepted_and_loses_nothing_that_was() {
    let broker = broker();
    let limits = Limits { outgoing_messages: 2, ..Limits::DEFAULT };
    let options = options(&broker.url(), "cancel", V5).configure(|config| config.limits(limits));
    let (client, driver) = Client::with_driver(options).unwrap();
    let qos = QoS::AtLeastOnce;
    let first = client.try_publish(message("t", "1").qos(qos)).unwrap();
    let second = client.try_publish(message("t", "2").qos(qos)).unwrap();
    assert!(client.try_publish(message("t", "full").qos(qos)).unwrap_err().is_full());
    {
        // Nothing runs yet, so both wait; the first of them is given up.
        let mut context = Context::from_waker(Waker::noop());
        let mut cancelled = pin!(client.publish(message("t", "cancelled").qos(qos)));
        assert!(cancelled.as_mut().poll(&mut context).is_pending());
    }
    let third = client.publish(message("t", "3").qos(qos));
    tokio::spawn(driver);
    within(20, async {
        let third = third.await.unwrap();
        for delivery in [first, second, third] {
            assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        }
        client.disconnect().await.unwrap();
    })
    .await;
    let accepted: Vec<String> = broker.broker(|broker| {
        let accepted = broker.log().accepted();
        accepted.map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect()
    });
    assert_eq!(accepted, ["1", "2", "3"]);
}

#[tokio::test]
async fn waiting_publishers_are_served_in_order() {
    let broker = broker();
    let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
    let options = options(&broker.url(), "line", V5).configure(|config| config.limits(limits));
    let (client, driver) = Client::with_driver(options).unwrap();
    let mut publishers = Vec::new();
    for number in 0..50 {
        let client = client.clone();
        let publisher =
            async move { client.publish(message("line", &number.to_string())).await.unwrap().await };
        publishers.push(tokio::spawn(publisher));
        tokio::task::yield_now().await;
    }
    tokio::spawn(driver);
    within(20, async {
        for publisher in publishers {
            assert_eq!(publisher.await.unwrap(), Outcome::Sent);
        }
        client.disconnect().await.unwrap();
    })
    .await;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let is_all = |broker: &mut mqtt_machine_testkit::broker::Broker| broker.log().accepted().count() == 50;
    assert!(broker.wait_until(5 * SECOND, is_all));
    let accepted: Vec<String> = broker.broker(|broker| {
        let accepted = broker.log().accepted();
        accepted.map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect()
    });
    assert_eq!(accepted, expected);
}

#[tokio::test]
async fn a_name_whose_first_address_refuses_is_reached_at_the_next() {
    // The broker listens on 127.0.0.1 only; where the name has ::1 as well, that is tried first and refused.
    let broker = broker();
    within(20, async {
        let url = format!("mqtt://localhost:{}", broker.port());
        let client = Client::connect(options(&url, "name", V5)).await.unwrap();
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropped_deliveries_and_streams_leak_nothing() {
    let broker = broker();
    within(30, async {
        let client = Client::connect(options(&broker.url(), "leak", V5)).await.unwrap();
        let mut used = Vec::new();
        for _ in 0..3 {
            for round in 0..1_000 {
                let stream = client.subscribe("leak", QoS::AtLeastOnce);
                let delivery = client.publish(message("leak", "x").qos(QoS::AtLeastOnce)).await.unwrap();
                if round % 100 == 0 {
                    drop(stream.await.unwrap());
                } else if round % 100 == 50 {
                    // Asked for, and given up before the answer.
                    let mut asked = pin!(stream);
                    assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
                drop(delivery);
            }
            let last = client.publish(message("leak", "last").qos(QoS::AtLeastOnce)).await.unwrap();
            assert!(matches!(last.await, Outcome::Acknowledged(_)));
            assert_eq!(client.pending(), 0);
            used.push(client.memory_used());
        }
        assert!(used[2] < used[0] + (16 << 10), "{used:?}");
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_event_stream_tells_of_a_cut_and_what_came_after() {
    let broker = broker();
    within(20, async {
        let client = Client::connect(options(&broker.url(), "events", V5)).await.unwrap();
        let mut stream = client.subscribe("after", QoS::AtLeastOnce).await.unwrap();
        let mut events = client.events();
        assert!(broker.cut("events"));
        let Some(ClientEvent::Disconnected { retry_at: Some(_), .. }) = events.recv().await else { panic!() };
        let connected = loop {
            match events.recv().await.unwrap() {
                ClientEvent::Connected(connected) => break connected,
                ClientEvent::ConnectFailed { retry_at: Some(_), .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(connected.reconnected && connected.session_present);
        client.publish(message("after", "all").qos(QoS::AtLeastOnce)).await.unwrap().await;
        assert_eq!(next(&mut stream).await, "all");

        broker.broker(|broker| broker.forget_session("events"));
        broker.cut("events");
        loop {
            match events.recv().await.unwrap() {
                ClientEvent::Resubscribed(codes) => break assert_eq!(codes.len(), 1),
                ClientEvent::Connected(connected) => assert!(!connected.session_present),
                _ => {}
            }
        }
        client.publish(message("after", "again").qos(QoS::AtLeastOnce)).await.unwrap().await;
        assert_eq!(next(&mut stream).await, "again");
        client.reconnect().unwrap();
        client.disconnect().await.unwrap();
        while events.recv().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_delivery_that_is_awaited_across_a_cut_ends() {
    let broker = broker();
    within(20, async {
        let client = Client::connect(options(&broker.url(), "awaiting", V5)).await.unwrap();
        broker.broker(|broker| broker.delay_client("awaiting", SECOND));
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let delivery = client.publish(message("t", "x").qos(qos)).await.unwrap();
            tokio::time::sleep(SECOND / 10).await;
            assert!(broker.cut("awaiting"));
            assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        }
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn futures_that_a_select_cancels_lose_no_acknowledgement() {
    let broker = broker();
    let qos = QoS::ExactlyOnce;
    within(30, async {
        let client = Client::connect(options(&broker.url(), "select", V5)).await.unwrap();
        let mut stream = client.subscribe("select", qos).await.unwrap();
        let (mut sent, mut got, mut cancelled) = (0, Vec::new(), 0);
        while got.len() < 300 {
            // Whatever is not ready at once is dropped half-way and begun again.
            tokio::select! {
                biased;
                message = stream.recv() => got.push(message.unwrap().payload_lossy()),
                delivery = client.publish(message("select", &sent.to_string()).qos(qos)), if sent < 300 => {
                    sent += 1;
                    tokio::select! {
                        biased;
                        _ = delivery.unwrap() => {}
                        () = tokio::task::yield_now() => cancelled += 1,
                    }
                }
                () = tokio::task::yield_now() => cancelled += 1,
            }
        }
        let expected: Vec<String> = (0..300).map(|number: u32| number.to_string()).collect();
        assert_eq!(got, expected);
        assert!(cancelled > 0);
        // A PUBREC or PUBCOMP that was lost would never come.
        while broker.broker(|broker| broker.owed_to("select")) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.disconnect().await.unwrap(), 0);
    })
    .await;
    assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
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
async fn a_client_that_is_told_of_a_take_over_does_not_come_back() {
    let broker = broker();
    within(20, async {
        let first = Client::connect(options(&broker.url(), "same", V5)).await.unwrap();
        let mut events = first.events();
        let mut stream = first.subscribe("same", QoS::AtMostOnce).await.unwrap();
        let second = Client::connect(options(&broker.url(), "same", V5)).await.unwrap();
        let event = events.recv().await.unwrap();
        let ClientEvent::Disconnected { reason, retry_at: None, .. } = event else { panic!("{event:?}") };
        assert!(
            matches!(reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. }),
            "{reason}"
        );
        assert!(stream.recv().await.is_none());
        assert!(second.is_connected());
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
async fn dropping_the_last_handle_delivers_and_disconnects() {
    let broker = broker();
    within(20, async {
        let client = Client::connect(options(&broker.url(), "last", V5)).await.unwrap();
        let mut stream = client.subscribe("none", QoS::AtMostOnce).await.unwrap();
        let delivery = client.publish(message("last", "words").qos(QoS::ExactlyOnce)).await.unwrap();
        drop(client);
        assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        assert!(stream.recv().await.is_none());
        assert!(broker.wait_until(5 * SECOND, |broker| broker.connected().count() == 0));
    })
    .await;
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
async fn unrouted_messages_go_to_the_stream_for_the_rest_or_are_counted() {
    let broker = broker();
    let resume = || {
        use mqtt_machine_tokio::CleanStart::Never;
        options(&broker.url(), "resumed", V5).configure(|config| config.clean_start(Never))
    };
    within(20, async {
        let client = Client::connect(resume()).await.unwrap();
        let kept = client.subscribe("kept", QoS::AtLeastOnce).await.unwrap();
        let other = Client::connect(options(&broker.url(), "other", V5)).await.unwrap();
        client.disconnect().await.unwrap();
        drop(kept);
        other.publish(message("kept", "1").qos(QoS::AtLeastOnce)).await.unwrap().await;

        let (client, driver) = Client::with_driver(resume()).unwrap();
        let mut rest = client.messages();
        tokio::spawn(driver);
        assert_eq!(next(&mut rest).await, "1");
        drop(rest);
        other.publish(message("kept", "2").qos(QoS::AtLeastOnce)).await.unwrap().await;
        while client.unrouted() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_thread_publishes_and_waits() {
    let broker = broker();
    within(20, async {
        let client = Client::connect(options(&broker.url(), "thread", V5)).await.unwrap();
        let thread = std::thread::spawn(move || {
            let delivery = client.publish(message("a", "b").qos(QoS::ExactlyOnce)).wait().unwrap();
            delivery.wait(10 * SECOND).unwrap()
        });
        let outcome = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert!(matches!(outcome, Outcome::Acknowledged(_)));
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_stops_reading_and_loses_nothing() {
    const COUNT: usize = 500;
    let broker = broker();
    within(60, async {
        let limits = Limits { incoming_bytes: 4_000, ..Limits::DEFAULT };
        let slow = options(&broker.url(), "slow", V5).configure(|config| config.limits(limits));
        let slow = Client::connect(slow).await.unwrap();
        let mut stream = slow.subscribe("flood", QoS::ExactlyOnce).await.unwrap();
        let flood = Client::connect(options(&broker.url(), "flood", V5)).await.unwrap();
        for number in 0..COUNT {
            flood.publish(message("flood", &number.to_string()).qos(QoS::ExactlyOnce)).await.unwrap();
        }
        assert_eq!(flood.disconnect().await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(slow.memory_used() < 400 << 10, "{}", slow.memory_used());
        let mut got = BTreeSet::new();
        while got.len() < COUNT {
            let message = stream.recv().await.unwrap();
            assert!(got.insert(message.payload_lossy()), "twice: {}", message.payload_lossy());
        }
        slow.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up_in_time() {
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
        assert_eq!(client.disconnect().await.unwrap(), 0);
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
