//! Owns the proof against a real broker: mosquitto on a loopback port, with its links cut and itself restarted.
//! It must not know the model broker.

mod support;

use std::time::Duration;

use mqtt_machine_tokio::{
    Backoff, Client, ClientEvent, ConnectError, Delivery, EndReason, Incoming, Limits, Options,
    ProtocolVersion, QoS, ReasonCode, Subscription,
};
use support::{
    Broker, EVERY_QOS, Kind, Proxy, VERSIONS, is_done, message, options, publish, publish_numbers, resuming,
    within,
};

// 5.0: MQTT-4.2.0-1
// 3.1.1: MQTT-7.0.0-2, MQTT-7.1.2-1
#[tokio::test]
async fn every_version_and_qos_carries_payloads_of_no_one_and_ten_million_bytes() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    let large: Vec<u8> = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
    for version in VERSIONS {
        within(60, async {
            let client = Client::connect(options(&broker.url(), "sizes", version)).await.unwrap();
            for qos in EVERY_QOS {
                let mut stream = client.subscribe("sizes", qos).await.unwrap();
                for payload in [&[][..], &[7][..], &large[..]] {
                    publish(&client, message("sizes", payload).qos(qos)).await;
                    let got = stream.recv().await.unwrap();
                    assert_eq!((got.qos, got.payload.len()), (qos, payload.len()));
                    assert!(got.payload == payload, "{version} {qos}: the bytes differ");
                }
                stream.unsubscribe().await.unwrap();
            }
            assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
        })
        .await;
    }
}

#[tokio::test]
async fn retained_messages_come_to_later_subscribers_until_they_are_cleared() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        within(20, async {
            let client = Client::connect(options(&broker.url(), "retain", version)).await.unwrap();
            let qos = QoS::AtLeastOnce;
            publish(&client, message("kept", "1").qos(qos).retain(true)).await;
            let mut stream = client.subscribe("kept", qos).await.unwrap();
            let got = stream.recv().await.unwrap();
            assert!(got.retain);
            assert_eq!(&got.payload[..], b"1");
            publish(&client, message("kept", "").qos(qos).retain(true)).await;
            assert!(stream.recv().await.unwrap().payload.is_empty());
            stream.unsubscribe().await.unwrap();

            let mut late = client.subscribe("kept", qos).await.unwrap();
            publish(&client, message("kept", "new").qos(qos)).await;
            let got = late.recv().await.unwrap();
            assert!(!got.retain && &got.payload[..] == b"new");
            client.disconnect().await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_will_is_published_after_an_abrupt_close_and_not_after_a_disconnect() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        within(20, async {
            let watcher = Client::connect(options(&broker.url(), "watcher", version)).await.unwrap();
            let mut stream = watcher.subscribe("will/#", QoS::AtLeastOnce).await.unwrap();
            let will = |topic| message(topic, "gone").qos(QoS::AtLeastOnce);
            let orderly = options(&broker.url(), "orderly", version).configure(|c| c.will(will("will/not")));
            Client::connect(orderly).await.unwrap().disconnect().await.unwrap();

            let proxy = Proxy::start(broker.port).await.unwrap();
            let mortal = options(&proxy.url(), "mortal", version).configure(|c| c.will(will("will/yes")));
            let (mortal, driver) = Client::with_driver(mortal).unwrap();
            let driver = tokio::spawn(driver);
            mortal.connected().await.unwrap();
            driver.abort();
            proxy.cut();
            let got = stream.recv().await.unwrap();
            assert_eq!((got.topic.as_str(), &got.payload[..]), ("will/yes", &b"gone"[..]));
            watcher.disconnect().await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn as_many_are_in_flight_as_the_server_grants() {
    const COUNT: usize = 20_000;
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            within(60, async {
                let client = Client::connect(options(&broker.url(), "many", version)).await.unwrap();
                let mut stream = client.subscribe("many", qos).await.unwrap();
                let mut deliveries: Vec<Delivery> = Vec::with_capacity(COUNT);
                for number in 0..COUNT {
                    let numbered = message("many", number.to_string()).qos(qos);
                    deliveries.push(client.publish(numbered).await.unwrap());
                }
                for number in 0..COUNT {
                    let got = stream.recv().await.unwrap();
                    assert_eq!(got.payload_lossy(), number.to_string(), "{version} {qos}");
                }
                for delivery in deliveries {
                    assert!(is_done(&delivery.await));
                }
                assert_eq!(client.pending(), 0);
                client.disconnect().await.unwrap();
            })
            .await;
        }
    }
}

fn paced(options: Options) -> Options {
    options.configure(|config| {
        let limits = Limits { outgoing_messages: 300, in_flight: 100, ..Limits::DEFAULT };
        config.limits(limits)
    })
}

/// Receives the numbers from 0 to `count`, each for the first time in order, and calls `progress` after each. What comes
/// again is held against `may_repeat`.
async fn receive_numbers(
    stream: &mut Subscription,
    count: usize,
    may_repeat: impl Fn(&Incoming) -> bool,
    mut progress: impl FnMut(usize),
) {
    let mut next = 0;
    let mut repeated = 0;
    while next < count {
        let got = stream.recv().await.expect("the stream goes on");
        let number: usize = got.payload_lossy().parse().unwrap();
        if number == next {
            next += 1;
            progress(next);
        } else {
            assert!(number < next, "{number} came where {next} was due: something was lost");
            assert!(may_repeat(&got), "{number} came again, before {next}: {got:?}");
            repeated += 1;
        }
    }
    println!("{count} received, {repeated} repeated");
}

async fn cut_twenty_times(version: ProtocolVersion, qos: QoS) {
    const COUNT: usize = 10_000;
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    within(120, async {
        let proxy = Proxy::start(broker.port).await.unwrap();
        let subscriber = Client::connect(resuming(&proxy.url(), "subscriber", version)).await.unwrap();
        let mut stream = subscriber.subscribe("numbers", qos).await.unwrap();
        let mut events = subscriber.events();
        let publisher = Client::connect(paced(resuming(&proxy.url(), "publisher", version))).await.unwrap();
        let publishing = tokio::spawn({
            let publisher = publisher.clone();
            async move { publish_numbers(&publisher, "numbers", qos, COUNT).await }
        });
        let mut cuts = 0;
        receive_numbers(
            &mut stream,
            COUNT,
            |_| qos == QoS::AtLeastOnce,
            |number| {
                if number % (COUNT / 21) == 0 && cuts < 20 {
                    cuts += 1;
                    proxy.cut();
                }
            },
        )
        .await;
        publishing.await.unwrap();
        assert_eq!(cuts, 20);
        let mut reconnects = 0;
        while let Some(event) = events.try_recv() {
            if let ClientEvent::Connected(connected) = event {
                assert!(connected.session_present);
                reconnects += 1;
            }
        }
        assert!(reconnects >= 5, "only {reconnects} reconnects");
        // Nothing more is on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        while let Ok(extra) = stream.try_recv() {
            assert_ne!(qos, QoS::ExactlyOnce, "{} came once more", extra.payload_lossy());
        }
        publisher.disconnect().await.unwrap();
        subscriber.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_at_qos_1_survive_twenty_cuts_in_3_1_1() {
    cut_twenty_times(ProtocolVersion::V3_1_1, QoS::AtLeastOnce).await;
}

#[tokio::test]
async fn ten_thousand_at_qos_1_survive_twenty_cuts_in_5_0() {
    cut_twenty_times(ProtocolVersion::V5, QoS::AtLeastOnce).await;
}

#[tokio::test]
async fn ten_thousand_at_qos_2_come_exactly_once_through_twenty_cuts_in_3_1_1() {
    cut_twenty_times(ProtocolVersion::V3_1_1, QoS::ExactlyOnce).await;
}

#[tokio::test]
async fn ten_thousand_at_qos_2_come_exactly_once_through_twenty_cuts_in_5_0() {
    cut_twenty_times(ProtocolVersion::V5, QoS::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_stopped_and_started_again_is_resumed_and_nothing_is_lost() {
    const COUNT: usize = 3_000;
    let persistent = "allow_anonymous true\npersistence true\npersistence_location FOLDER/";
    for (version, qos) in
        [(ProtocolVersion::V3_1_1, QoS::AtLeastOnce), (ProtocolVersion::V5, QoS::ExactlyOnce)]
    {
        let Some(mut broker) = Broker::start_with(Kind::Mosquitto, persistent) else { return };
        within(60, async {
            let url = broker.url();
            let subscriber = Client::connect(resuming(&url, "subscriber", version)).await.unwrap();
            let mut stream = subscriber.subscribe("numbers", qos).await.unwrap();
            let publisher = Client::connect(paced(resuming(&url, "publisher", version))).await.unwrap();
            let publishing = tokio::spawn({
                let publisher = publisher.clone();
                async move { publish_numbers(&publisher, "numbers", qos, COUNT).await }
            });
            let mut restarts = 0;
            // mosquitto 2.0.11 keeps no record that a QoS 2 message reached PUBREL: after its restart it sends such messages
            // again, with DUP, to a subscriber that has released them. A repeat without DUP would be the publisher's.
            let may_repeat = |got: &Incoming| qos == QoS::AtLeastOnce || got.dup;
            receive_numbers(&mut stream, COUNT, may_repeat, |number| {
                if number == COUNT / 3 || number == 2 * COUNT / 3 {
                    restarts += 1;
                    broker.stop();
                    broker.run();
                }
            })
            .await;
            assert_eq!(restarts, 2);
            publishing.await.unwrap();
            publisher.disconnect().await.unwrap();
            subscriber.disconnect().await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_for_good_and_right_ones_are_not() {
    let Some(broker) = Broker::with_password("me", "right") else { return };
    for version in VERSIONS {
        within(20, async {
            let url = |user| format!("mqtt://{user}127.0.0.1:{}", broker.port);
            for wrong in ["me:wrong@", "you:right@", ""] {
                let error = Client::connect(options(&url(wrong), "wrong", version)).await.unwrap_err();
                let ConnectError::GaveUp(EndReason::Refused { reason, .. }) = error else {
                    panic!("{error}")
                };
                let expected = [ReasonCode::NotAuthorized, ReasonCode::BadUserNameOrPassword];
                assert!(expected.contains(&reason), "{reason}");
            }
            let client = Client::connect(options(&url("me:right@"), "right", version)).await.unwrap();
            client.disconnect().await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_second_client_of_the_same_identifier_takes_over() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        within(20, async {
            // mosquitto 2.0.11 closes without a word, so only a client that does not try again leaves the other alone.
            let once = options(&broker.url(), "same", version).configure(|c| c.backoff(Backoff::NEVER));
            let first = Client::connect(once).await.unwrap();
            let mut events = first.events();
            let mut stream = first.subscribe("same", QoS::AtMostOnce).await.unwrap();
            let second = Client::connect(options(&broker.url(), "same", version)).await.unwrap();
            let event = events.recv().await.unwrap();
            let ClientEvent::Disconnected { retry_at: None, .. } = event else { panic!("{event:?}") };
            assert!(stream.recv().await.is_none());
            assert!(second.is_connected());

            // And back again.
            let mut events = second.events();
            first.reconnect().unwrap();
            first.connected().await.unwrap();
            let event = events.recv().await.unwrap();
            let ClientEvent::Disconnected { .. } = event else { panic!("{event:?}") };
            first.disconnect().await.unwrap();
            second.disconnect().await.unwrap();
        })
        .await;
    }
}
