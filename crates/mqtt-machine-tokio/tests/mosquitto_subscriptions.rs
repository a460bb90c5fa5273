//! Owns the proof that overlapping and shared subscriptions come out right against a real broker: mosquitto on a loopback port.
//! It must not know the model broker.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt_machine_tokio::{Client, ProtocolVersion, QoS, Subscription};
use support::{
    Broker, EVERY_QOS, Kind, Proxy, VERSIONS, message, options, publish, publish_numbers, resuming, within,
};

/// How often each of these streams gets each message of its filter, up to the one that says `end`.
async fn counts<const N: usize>(streams: [&mut Subscription; N]) -> [BTreeMap<String, usize>; N] {
    let mut all = [const { BTreeMap::new() }; N];
    for (stream, counts) in streams.into_iter().zip(&mut all) {
        loop {
            let got = stream.recv().await.unwrap().payload_lossy();
            if got == "end" {
                break;
            }
            *counts.entry(got).or_insert(0) += 1;
        }
    }
    all
}

/// Whether so many messages came, each so often.
fn are(counts: &BTreeMap<String, usize>, messages: usize, times: usize) -> bool {
    counts.len() == messages && counts.values().all(|count| *count == times)
}

/// mosquitto sends a copy for each subscription in 5.0, each with its own identifier; before that it sends one, but for this
/// configuration.
const COPIES: &str = "allow_anonymous true\nallow_duplicate_messages true";

// 5.0: MQTT-3.3.4-4, MQTT-3.3.4-5
#[tokio::test]
async fn overlapping_streams_get_each_message_once_in_5_0_and_what_the_broker_sends_before() {
    use ProtocolVersion::{V3_1, V3_1_1, V5};
    for (lines, expected) in [
        ("allow_anonymous true", [(V3_1, 1), (V3_1_1, 1), (V5, 1)]),
        (COPIES, [(V3_1, 3), (V3_1_1, 3), (V5, 1)]),
    ] {
        let Some(broker) = Broker::start_with(Kind::Mosquitto, lines) else { return };
        for (version, times) in expected {
            for qos in EVERY_QOS {
                within(30, async {
                    let client = Client::connect(options(&broker.url(), "overlap", version)).await.unwrap();
                    let mut all = client.subscribe("over/#", qos).await.unwrap();
                    let mut some = client.subscribe("over/+", qos).await.unwrap();
                    let mut one = client.subscribe("over/lap", qos).await.unwrap();
                    let mut again = client.subscribe("over/lap", qos).await.unwrap();
                    publish_numbers(&client, "over/lap", qos, 30).await;
                    publish(&client, message("over/lap", "end").qos(qos)).await;
                    for counts in counts([&mut all, &mut some, &mut one, &mut again]).await {
                        assert!(are(&counts, 30, times), "{lines} {version} {qos}: {counts:?}");
                    }
                    client.disconnect().await.unwrap();
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn each_of_overlapping_streams_gets_the_qos_that_it_asked_for() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    within(30, async {
        let client = Client::connect(options(&broker.url(), "mixed", ProtocolVersion::V5)).await.unwrap();
        let mut streams = Vec::new();
        for (filter, qos) in ["mixed/#", "mixed/+", "mixed/x"].into_iter().zip(EVERY_QOS) {
            streams.push((client.subscribe(filter, qos).await.unwrap(), qos));
        }
        for published in EVERY_QOS {
            publish(&client, message("mixed/x", "x").qos(published)).await;
            for (stream, asked) in &mut streams {
                let got = stream.recv().await.unwrap();
                assert_eq!(got.qos, published.min(*asked), "{published} to {asked}");
                assert_eq!(got.subscription_identifiers().count(), 0, "the client's own are not shown");
            }
        }
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_goes_while_messages_are_on_their_way_leaves_the_others_as_they_were() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    within(30, async {
        let client = Client::connect(options(&broker.url(), "leaves", ProtocolVersion::V5)).await.unwrap();
        let qos = QoS::AtLeastOnce;
        let all = client.subscribe("over/#", qos).await.unwrap();
        let mut one = client.subscribe("over/lap", qos).await.unwrap();
        let publishing = publish_numbers(&client, "over/lap", qos, 300);
        tokio::join!(publishing, async move {
            tokio::task::yield_now().await;
            drop(all);
        });
        publish(&client, message("over/lap", "end").qos(qos)).await;
        let [counts] = counts([&mut one]).await;
        assert!(are(&counts, 300, 1), "{counts:?}");
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_broker_kept_for_overlapping_streams_comes_to_each_of_them_once_after_a_cut() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    within(30, async {
        let proxy = Proxy::start(broker.port).await.unwrap();
        let client = Client::connect(resuming(&proxy.url(), "kept", ProtocolVersion::V5)).await.unwrap();
        let speaker = Client::connect(options(&broker.url(), "speaker", ProtocolVersion::V5)).await.unwrap();
        let qos = QoS::ExactlyOnce;
        let mut all = client.subscribe("kept/#", qos).await.unwrap();
        let mut one = client.subscribe("kept/x", qos).await.unwrap();
        for number in 0..100 {
            if number % 20 == 10 {
                proxy.cut();
            }
            publish(&speaker, message("kept/x", number.to_string()).qos(qos)).await;
        }
        publish(&speaker, message("kept/x", "end").qos(qos)).await;
        for counts in counts([&mut all, &mut one]).await {
            assert!(are(&counts, 100, 1), "{counts:?}");
        }
        client.disconnect().await.unwrap();
        speaker.disconnect().await.unwrap();
    })
    .await;
}

/// What comes to these streams until nothing has come for a while: how often each message, and how many to each stream.
async fn divided(streams: &mut [Subscription]) -> (BTreeMap<String, usize>, Vec<usize>) {
    let (mut counts, mut parts) = (BTreeMap::new(), Vec::new());
    for stream in streams {
        let mut part = 0;
        while let Ok(Some(got)) = tokio::time::timeout(Duration::from_millis(300), stream.recv()).await {
            assert_eq!(got.topic.as_str(), "share/x", "a message comes under its own topic");
            *counts.entry(got.payload_lossy()).or_insert(0) += 1;
            part += 1;
        }
        parts.push(part);
    }
    (counts, parts)
}

#[tokio::test]
async fn members_of_a_share_divide_the_messages_and_every_other_subscription_gets_them_all() {
    let Some(broker) = Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        within(30, async {
            let qos = QoS::AtLeastOnce;
            let connect = async |id| Client::connect(options(&broker.url(), id, version)).await.unwrap();
            let (first, second, third) =
                (connect("first").await, connect("second").await, connect("third").await);
            let mut plain = third.subscribe("share/#", qos).await.unwrap();
            let mut members = [
                first.subscribe("$share/g/share/+", qos).await.unwrap(),
                second.subscribe("$share/g/share/+", qos).await.unwrap(),
            ];
            let mut other = [third.subscribe("$share/other/share/+", qos).await.unwrap()];
            publish_numbers(&second, "share/x", qos, 50).await;
            publish(&second, message("share", "end").qos(qos)).await;
            let [counts] = counts([&mut plain]).await;
            assert!(are(&counts, 50, 1), "{version}: {counts:?}");
            let (counts, parts) = divided(&mut members).await;
            assert!(are(&counts, 50, 1), "{version}: {counts:?}");
            assert!(parts.iter().all(|part| *part > 0), "{version}: {parts:?}");
            // Before 5.0 it sends one copy to a client, whatever its subscriptions are: the trie finds the other one's stream.
            let (counts, _) = divided(&mut other).await;
            assert!(are(&counts, 50, 1), "{version}: {counts:?}");
            for client in [first, second, third] {
                client.disconnect().await.unwrap();
            }
        })
        .await;
    }
}
