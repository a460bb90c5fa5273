//! Owns the proof that every stream gets what it subscribed to, once, whatever kind of server sends it: against the model
//! broker on a loopback port. It must not know the wire.

mod support;

use std::time::Duration;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Client, ClientEvent, CommandError, DropReason, Message, NotSupported, Outcome, PropertiesBuf, Property,
    ProtocolVersion, QoS, Refused, RetainHandling, Subscribe, SubscribeError, Subscription, TopicFilter,
    Unsubscribe,
};
use support::{VERSIONS, free_port, resuming, within};
use tokio::time::{sleep, timeout};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;

fn broker(config: BrokerConfig) -> Broker {
    Broker::start(config).unwrap()
}

async fn connect(broker: &Broker, client_id: &str, version: ProtocolVersion) -> Client {
    Client::connect(resuming(&broker.url(), client_id, version)).await.unwrap()
}

async fn say(client: &Client, topic: &str, payload: &str) {
    let message = Message::to(topic, payload.to_owned()).unwrap().qos(QoS::AtLeastOnce);
    let outcome = client.publish(message).await.unwrap().await;
    assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
}

/// Everything that this stream gets, up to the word that ends it.
async fn heard(stream: &mut Subscription) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let message = timeout(Duration::from_secs(10), stream.recv()).await.expect("a message").unwrap();
        match message.payload_lossy() {
            end if end == "end" => return heard,
            payload => heard.push(payload),
        }
    }
}

fn request(filter: &str) -> Subscribe {
    Subscribe::to(TopicFilter::new(filter).unwrap(), QoS::AtLeastOnce)
}

/// A client with two streams that overlap, and what each hears of `x` and `end`, each in both of their filters.
async fn overlap(client: &Client) -> [Vec<String>; 2] {
    let mut all = client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap();
    let mut one = client.subscribe("a/b", QoS::AtLeastOnce).await.unwrap();
    say(client, "a/b", "x").await;
    say(client, "a/b", "end").await;
    let heard = [heard(&mut all).await, heard(&mut one).await];
    all.unsubscribe().await.unwrap();
    one.unsubscribe().await.unwrap();
    heard
}

// 5.0: MQTT-3.3.4-4, MQTT-3.3.4-5
#[tokio::test]
async fn overlapping_streams_get_a_message_once_each_from_one_copy_and_from_a_copy_for_each() {
    for config in [BrokerConfig::new(), BrokerConfig::new().copies()] {
        let broker = broker(config);
        within(20, async {
            let client = connect(&broker, "overlap", V5).await;
            assert_eq!(overlap(&client).await, [["x"], ["x"]]);
        })
        .await;
    }
}

#[tokio::test]
async fn without_identifiers_every_copy_goes_into_every_stream_that_has_a_filter_for_it() {
    for (config, version, copies) in [
        (BrokerConfig::new(), V3_1_1, 1),
        (BrokerConfig::new().copies(), V3_1_1, 2),
        (BrokerConfig::new().no_subscription_identifiers(), V5, 1),
        (BrokerConfig::new().copies().no_subscription_identifiers(), V5, 2),
    ] {
        let broker = broker(config);
        within(20, async {
            let client = connect(&broker, "trie", version).await;
            let x = vec!["x".to_owned(); copies];
            assert_eq!(overlap(&client).await, [x.clone(), x], "{version}");
        })
        .await;
    }
}

#[tokio::test]
async fn streams_with_the_same_filter_get_each_message_once_and_one_may_go() {
    let broker = broker(BrokerConfig::new().copies());
    within(20, async {
        let client = connect(&broker, "same", V5).await;
        let mut first = client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap();
        let mut second = client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap();
        let mut other = client.subscribe("+/b", QoS::AtLeastOnce).await.unwrap();
        say(&client, "a/b", "1").await;
        say(&client, "a/b", "end").await;
        for stream in [&mut first, &mut second, &mut other] {
            assert_eq!(heard(stream).await, ["1"]);
        }
        drop(first);
        say(&client, "a/b", "2").await;
        say(&client, "a/b", "end").await;
        for stream in [&mut second, &mut other] {
            assert_eq!(heard(stream).await, ["2"]);
        }
    })
    .await;
}

#[tokio::test]
async fn identifiers_come_back_with_the_subscriptions_that_a_server_lost_and_go_where_there_are_none() {
    let port = free_port();
    let mut broker = Broker::start_on(BrokerConfig::new().copies(), port).unwrap();
    within(60, async {
        let client = connect(&broker, "moves", V5).await;
        let mut events = client.events();
        let mut all = client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap();
        let mut one = client.subscribe("a/b", QoS::AtLeastOnce).await.unwrap();
        let without = || BrokerConfig::new().copies().no_subscription_identifiers();
        for (config, copies) in
            [(BrokerConfig::new().copies(), 1), (without(), 2), (BrokerConfig::new().copies(), 1)]
        {
            drop(broker);
            broker = Broker::start_on(config, port).unwrap();
            let mut made = 0;
            while made < 2 {
                if let ClientEvent::Resubscribed { codes, .. } = events.recv().await.unwrap() {
                    assert!(codes.iter().all(|(_, code)| !code.is_failure()), "{codes:?}");
                    made += codes.len();
                }
            }
            say(&client, "a/b", "x").await;
            say(&client, "a/b", "end").await;
            for stream in [&mut all, &mut one] {
                assert_eq!(heard(stream).await, vec!["x"; copies]);
                // The copies of `end` but the first.
                for _ in 1..copies {
                    assert_eq!(stream.recv().await.unwrap().payload_lossy(), "end");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_of_a_session_whose_subscriptions_have_identifiers_of_an_earlier_process() {
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let (client, driver) = Client::with_driver(resuming(&broker.url(), "lives", V5)).unwrap();
        let driver = tokio::spawn(driver);
        client.connected().await.unwrap();
        let stream = client.subscribe_with(request("a/#")).await.unwrap();
        driver.abort();
        drop((stream, client));
        let speaker = connect(&broker, "speaker", V5).await;
        say(&speaker, "a/b", "x").await;
        say(&speaker, "a/b", "end").await;
        // The streams are there before the session is.
        let (client, driver) = Client::with_driver(resuming(&broker.url(), "lives", V5)).unwrap();
        let one = tokio::spawn({
            let client = client.clone();
            async move { heard(&mut client.subscribe("a/b", QoS::AtLeastOnce).await.unwrap()).await }
        });
        let all = tokio::spawn({
            let client = client.clone();
            async move { heard(&mut client.subscribe("a/#", QoS::AtLeastOnce).await.unwrap()).await }
        });
        sleep(Duration::from_millis(50)).await;
        tokio::spawn(driver);
        assert_eq!(one.await.unwrap(), ["x"]);
        assert_eq!(all.await.unwrap(), ["x"]);
        assert_eq!(client.unrouted(), 0);
    })
    .await;
}

#[tokio::test]
async fn only_the_identifiers_of_the_user_are_seen_and_what_was_received_can_be_forwarded() {
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let client = connect(&broker, "seen", V5).await;
        let mut own = client.subscribe("a/b", QoS::AtLeastOnce).await.unwrap();
        let properties = PropertiesBuf::new().with(Property::SubscriptionIdentifier(7)).unwrap();
        let mut users = client.subscribe_with(request("a/+").properties(properties)).await.unwrap();
        let message = Message::to("a/b", "x").unwrap().property(Property::UserProperty("k", "v")).unwrap();
        client.publish(message).await.unwrap();
        let got = users.recv().await.unwrap();
        assert_eq!(got.subscription_identifiers().collect::<Vec<_>>(), [7]);
        assert_eq!(got.properties.as_properties().user_properties().collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(own.recv().await.unwrap().into_message(), got.into_message());
        users.unsubscribe().await.unwrap();
        client.publish(Message::to("a/b", "x").unwrap()).await.unwrap();
        let mut got = own.recv().await.unwrap().into_message();
        assert!(got.properties.is_empty(), "{:?}", got.properties);
        // As a bridge does.
        got.topic = mqtt_machine_tokio::TopicName::new("there").unwrap();
        assert_eq!(client.publish(got).await.unwrap().await, Outcome::Sent);
    })
    .await;
}

// 5.0: MQTT-3.8.3-3
#[tokio::test]
async fn no_local_keeps_a_clients_own_messages_from_it() {
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let client = connect(&broker, "local", V5).await;
        let other = connect(&broker, "other", V5).await;
        let mut stream = client.subscribe_with(request("a").no_local()).await.unwrap();
        say(&client, "a", "own").await;
        say(&other, "a", "theirs").await;
        say(&other, "a", "end").await;
        assert_eq!(heard(&mut stream).await, ["theirs"]);
    })
    .await;
}

#[tokio::test]
async fn retain_as_published_keeps_the_flag_of_later_messages() {
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let client = connect(&broker, "flags", V5).await;
        for keeps in [false, true] {
            let request = if keeps { request("a").retain_as_published() } else { request("a") };
            let mut stream = client.subscribe_with(request).await.unwrap();
            for retain in [true, false] {
                client.publish(Message::to("a", "").unwrap().retain(retain)).await.unwrap();
                assert_eq!(stream.recv().await.unwrap().retain, keeps && retain, "{keeps} {retain}");
            }
            stream.unsubscribe().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn retain_handling_says_whether_retained_messages_come_on_subscribing() {
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let client = connect(&broker, "handling", V5).await;
        let kept = Message::to("a", "kept").unwrap().qos(QoS::AtLeastOnce).retain(true);
        client.publish(kept).await.unwrap().await;
        for (handling, expected) in [
            (RetainHandling::DoNotSend, [0, 0]),
            (RetainHandling::SendIfNew, [1, 0]),
            (RetainHandling::Send, [1, 1]),
        ] {
            let request = || request("a").retain_handling(handling);
            let mut first = client.subscribe_with(request()).await.unwrap();
            say(&client, "a", "end").await;
            let fresh = heard(&mut first).await.len();
            // The subscription is made again, not anew.
            let mut second = client.subscribe_with(request()).await.unwrap();
            say(&client, "a", "end").await;
            let again = heard(&mut second).await.len();
            assert_eq!([fresh, again], expected, "{handling:?}");
            drop(first);
            second.unsubscribe().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn members_of_a_share_get_each_message_once_between_them_under_its_own_topic() {
    let broker = broker(BrokerConfig::new());
    for version in VERSIONS {
        within(20, async {
            let speaker = connect(&broker, "speaker", version).await;
            let members = [connect(&broker, "m1", version).await, connect(&broker, "m2", version).await];
            let mut streams = Vec::new();
            for member in &members {
                streams.push(member.subscribe("$share/g/a/+", QoS::AtLeastOnce).await.unwrap());
            }
            for number in 0..10 {
                say(&speaker, "a/b", &number.to_string()).await;
            }
            let mut heard = Vec::new();
            for stream in &mut streams {
                while let Ok(Some(message)) = timeout(Duration::from_millis(200), stream.recv()).await {
                    assert_eq!(message.topic.as_str(), "a/b");
                    heard.push(message.payload_lossy());
                }
            }
            heard.sort();
            let all: Vec<String> = (0..10).map(|number| number.to_string()).collect();
            assert_eq!(heard, all, "{version}");
            for stream in streams {
                stream.unsubscribe().await.unwrap();
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_shared_and_a_plain_subscription_of_one_client_each_get_their_own_copy() {
    for config in [BrokerConfig::new(), BrokerConfig::new().copies()] {
        let broker = broker(config);
        within(20, async {
            let client = connect(&broker, "both", V5).await;
            let mut shared = client.subscribe("$share/g/a/+", QoS::AtLeastOnce).await.unwrap();
            let mut plain = client.subscribe("a/+", QoS::AtLeastOnce).await.unwrap();
            say(&client, "a/b", "x").await;
            say(&client, "a/b", "end").await;
            assert_eq!(heard(&mut shared).await, ["x"]);
            assert_eq!(heard(&mut plain).await, ["x"]);
        })
        .await;
    }
}

// 5.0: MQTT-3.8.3-4
#[tokio::test]
async fn what_a_shared_subscription_cannot_be_is_refused_with_its_reason() {
    let mut config = BrokerConfig::new();
    config.shared_subscriptions = false;
    let lacking = broker(config);
    let broker = broker(BrokerConfig::new());
    within(20, async {
        let client = connect(&broker, "no", V5).await;
        let refused = client.subscribe_with(request("$share/g/a").no_local()).await;
        let Err(SubscribeError::Command(CommandError::Refused(Refused::Misuse(what)))) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(what.rule(), "MQTT-3.8.3-4");
        for wrong in ["$share/g", "$share//a", "$share/g/", "$share/g+/a", "$share/#/a"] {
            let refused = client.subscribe(wrong, QoS::AtMostOnce).await;
            assert!(matches!(refused, Err(SubscribeError::Filter(_))), "{wrong}: {refused:?}");
        }
        let client = connect(&lacking, "no", V5).await;
        let refused = client.subscribe("$share/g/a", QoS::AtMostOnce).await;
        let Err(SubscribeError::Command(CommandError::Refused(Refused::NotSupported(what)))) = refused else {
            panic!("{refused:?}")
        };
        assert!(matches!(what, NotSupported::SharedSubscription { .. }), "{what}");
        // Before the server is known, it is accepted, and then never sent.
        let (client, driver) = Client::with_driver(resuming(&lacking.url(), "early", V5)).unwrap();
        let early = tokio::spawn({
            let client = client.clone();
            async move { client.subscribe("$share/g/a", QoS::AtMostOnce).await }
        });
        sleep(Duration::from_millis(50)).await;
        tokio::spawn(driver);
        let refused = early.await.unwrap();
        let unsupported = Outcome::Dropped(DropReason::NotSupported);
        assert!(
            matches!(&refused, Err(SubscribeError::Ended(outcome)) if *outcome == unsupported),
            "{refused:?}"
        );
        assert!(client.is_connected());
        assert!(
            client.unsubscribe_with(Unsubscribe::new(vec![TopicFilter::new("a").unwrap()])).await.is_ok()
        );
    })
    .await;
}
