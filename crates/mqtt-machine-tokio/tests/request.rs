//! Owns the proof that requests find their answers, against the model broker on a loopback port and against mosquitto. It must
//! not know how a request says where its answer goes.

mod support;

use std::time::{Duration, Instant};

use mqtt_machine::packet::{PacketType, Property, PropertyId};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    CleanStart, Client, ClientEvent, CommandError, Message, NotARequest, Options, Outcome, ProtocolVersion,
    QoS, RequestError, RequestOptions, TopicFilter, request_filters, requested_topic, response_to,
};
use support::{Kind, Proxy, VERSIONS, options, within};
use tokio::task::JoinHandle;

const V5: ProtocolVersion = ProtocolVersion::V5;
const V3: ProtocolVersion = ProtocolVersion::V3_1_1;

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

fn request(topic: &str, payload: &str) -> Message {
    Message::to(topic, payload.to_owned()).unwrap().qos(QoS::AtLeastOnce)
}

/// How a server treats its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Once,
    Twice,
    /// Only those that say so in their payload.
    Never,
}

/// A client that answers requests to `echo/#` with their topic and payload.
async fn responder(options: Options, manner: Manner) -> (Client, JoinHandle<()>) {
    let client = Client::connect(options).await.unwrap();
    let mut requests = client.subscribe("echo/#", QoS::ExactlyOnce).await.unwrap();
    let answering = client.clone();
    let task = tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let payload = format!("{} {}", requested_topic(&request), request.payload_lossy());
            let count = match manner {
                Manner::Once => 1,
                Manner::Twice => 2,
                Manner::Never => 0,
            };
            for _ in 0..count {
                let response = response_to(&request, payload.clone()).unwrap();
                if answering.publish(response).await.is_err() {
                    return;
                }
            }
        }
    });
    (client, task)
}

#[tokio::test]
async fn a_request_is_answered_in_every_version_and_across_them() {
    let broker = broker();
    for (asks, answers) in [(V5, V5), (V3, V3), (V3, V5), (ProtocolVersion::V3_1, V3)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            within(20, async {
                let (server, task) = responder(options(&broker.url(), "server", answers), Manner::Once).await;
                let client = Client::connect(options(&broker.url(), "asker", asks)).await.unwrap();
                let requester = client.requester_with(RequestOptions::new().qos(qos));
                let asked = (0..20).map(|number| {
                    let topic = format!("echo/{}", number % 3);
                    requester.request(request(&topic, &number.to_string()).qos(qos))
                });
                // All of them at once, awaited in another order.
                let asked: Vec<_> = asked.map(tokio::spawn).collect();
                for (number, task) in asked.into_iter().enumerate().rev() {
                    let answer = task.await.unwrap().unwrap();
                    assert_eq!(answer.payload_lossy(), format!("echo/{} {number}", number % 3));
                    assert_eq!(answer.qos, qos);
                }
                assert_eq!((requester.open(), client.unrouted()), (0, 0));
                assert_eq!(requester.dropped(), mqtt_machine_tokio::Dropped::default());
                client.disconnect().await.unwrap();
                server.disconnect().await.unwrap();
                task.await.unwrap();
            })
            .await;
        }
    }
    assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
}

#[tokio::test]
async fn without_an_answer_the_driver_tells_when_the_time_is_up() {
    let broker = broker();
    within(20, async {
        let (server, task) = responder(options(&broker.url(), "silent", V5), Manner::Never).await;
        let client = Client::connect(options(&broker.url(), "waits", V5)).await.unwrap();
        let after = Duration::from_millis(150);
        let requester = client.requester_with(RequestOptions::new().timeout(after));
        let begin = Instant::now();
        let short = requester.request(request("echo/1", ""));
        assert_eq!(short.await.unwrap_err(), RequestError::Timeout { after });
        assert!(begin.elapsed() >= after && begin.elapsed() < 10 * after, "{:?}", begin.elapsed());
        // A plain thread waits the same way.
        let asked = requester.request(request("echo/1", ""));
        let error = tokio::task::spawn_blocking(|| asked.wait()).await.unwrap().unwrap_err();
        assert_eq!(error, RequestError::Timeout { after });
        assert_eq!((requester.open(), client.pending()), (0, 0));
        client.disconnect().await.unwrap();
        assert!(matches!(
            requester.request(request("a", "")).await,
            Err(RequestError::Command(CommandError::Closed))
        ));
        server.disconnect().await.unwrap();
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_connection_waits_for_one_and_for_no_longer_than_its_time() {
    let port = support::free_port();
    within(20, async {
        let url = format!("mqtt://127.0.0.1:{port}");
        let client = Client::start(options(&url, "early", V5)).unwrap();
        let after = Duration::from_millis(60);
        let hasty = client.requester_with(RequestOptions::new().timeout(after));
        assert_eq!(hasty.request(request("echo/1", "")).await.unwrap_err(), RequestError::Timeout { after });
        let requester = client.requester();
        let asked = tokio::spawn(requester.request(request("echo/1", "?")));
        let broker = Broker::start_on(BrokerConfig::new(), port).unwrap();
        let (server, _task) = responder(options(&broker.url(), "server", V5), Manner::Once).await;
        let answer = match asked.await.unwrap() {
            Ok(answer) => answer,
            // The client was there first, and the broker knew of nobody.
            Err(RequestError::NotDelivered(Outcome::Acknowledged(_))) => {
                requester.request(request("echo/1", "?")).await.unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(answer.payload_lossy(), "echo/1 ?");
        // What had its time does not leave when there is a connection.
        assert_eq!(broker.broker(|broker| broker.log().count("echo/1", b"")), 0);
        client.disconnect().await.unwrap();
        server.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn late_repeated_and_unknown_answers_are_dropped_and_counted() {
    let broker = broker();
    for version in VERSIONS {
        within(20, async {
            let (server, task) = responder(options(&broker.url(), "twice", version), Manner::Twice).await;
            let client = Client::connect(options(&broker.url(), "counts", version)).await.unwrap();
            let requester = client.requester();
            let answer = requester.request(request("echo/1", "!")).await.unwrap();
            let place = answer.topic.as_str().to_owned();
            let data = match answer.properties.as_properties().find(PropertyId::CorrelationData) {
                Some(Property::CorrelationData(data)) => data.to_vec(),
                _ => Vec::new(),
            };
            drop(answer);
            while requester.dropped().late < 1 {
                tokio::task::yield_now().await;
            }
            // One that is given up gets two.
            let given_up = requester.request(request("echo/1", "!"));
            let mut given_up = Box::pin(given_up);
            while requester.open() == 0 || client.pending() == 0 {
                poll_once(&mut given_up).await;
            }
            drop(given_up);
            assert_eq!((requester.open(), client.pending()), (0, 0));
            while requester.dropped().late < 3 {
                tokio::task::yield_now().await;
            }
            // And some that nobody asked for: without, with another's and with a broken correlation.
            let mut strange = vec![request(&place, "")];
            if version == V5 {
                let with =
                    |data: &[u8]| request(&place, "").property(Property::CorrelationData(data)).unwrap();
                let mut other = data.clone();
                other[0] ^= 1;
                let mut future = data;
                future[8] ^= 1;
                strange.extend([with(&other), with(&future), with(b"7")]);
            } else {
                let (base, _) = place.rsplit_once('/').unwrap();
                strange = vec![
                    request(&format!("{base}/7"), ""),
                    request(&format!("{base}/{}", "+0".repeat(16).replace('+', "A")), ""),
                    request(&format!("{base}/{}", "z".repeat(32)), ""),
                ];
            }
            let count = strange.len() as u64;
            for message in strange {
                server.publish(message).await.unwrap().await;
            }
            while requester.dropped().unknown < count {
                tokio::task::yield_now().await;
            }
            assert_eq!((requester.dropped().late, requester.dropped().unknown), (3, count));
            client.disconnect().await.unwrap();
            server.disconnect().await.unwrap();
            task.await.unwrap();
        })
        .await;
    }
}

/// Cuts the connection and waits for the next one.
async fn reconnected(client: &Client, cut: impl Fn()) {
    client.connected().await.unwrap();
    let mut events = client.events();
    cut();
    while !matches!(events.recv().await.unwrap(), ClientEvent::Connected(_)) {}
}

/// Polls once.
async fn poll_once<F: Future>(future: &mut std::pin::Pin<Box<F>>) {
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn the_number_of_open_requests_is_bounded_and_nothing_is_sent_beyond() {
    let broker = broker();
    within(20, async {
        let (server, task) = responder(options(&broker.url(), "silent", V5), Manner::Never).await;
        let client = Client::connect(options(&broker.url(), "many", V5)).await.unwrap();
        let requester = client.requester_with(RequestOptions::new().open(2));
        let clone = requester.clone();
        let held: Vec<_> = (0..2).map(|_| tokio::spawn(clone.request(request("echo/1", "held")))).collect();
        while requester.open() < 2 {
            tokio::task::yield_now().await;
        }
        let error = requester.request(request("echo/1", "beyond")).await.unwrap_err();
        assert_eq!(error, RequestError::TooMany { open: 2 });
        // Another requester has its own count.
        let other = client.requester_with(RequestOptions::new().timeout(Duration::from_millis(20)));
        let error = other.request(request("echo/1", "other")).await.unwrap_err();
        assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
        held.iter().for_each(JoinHandle::abort);
        while requester.open() > 0 {
            tokio::task::yield_now().await;
        }
        client.disconnect().await.unwrap();
        assert_eq!(broker.broker(|broker| broker.log().count("echo/1", b"beyond")), 0);
        server.disconnect().await.unwrap();
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn requesters_do_not_get_each_others_answers_and_unsubscribe_when_they_are_dropped() {
    let broker = broker();
    for version in VERSIONS {
        within(20, async {
            let (server, task) = responder(options(&broker.url(), "server", version), Manner::Once).await;
            let client = Client::connect(options(&broker.url(), "a/b+c", version)).await.unwrap();
            // Somebody reads everything besides.
            let mut all = client.subscribe("reply/#", QoS::AtMostOnce).await.unwrap();
            let (one, two) = (client.requester(), client.requester());
            for round in 0..3 {
                let asked = tokio::join!(
                    one.request(request("echo/one", &format!("{round}"))),
                    two.request(request("echo/two", &format!("{round}")))
                );
                let (first, second) = (asked.0.unwrap(), asked.1.unwrap());
                assert_eq!(first.payload_lossy(), format!("echo/one {round}"));
                assert_eq!(second.payload_lossy(), format!("echo/two {round}"));
                assert!(first.topic.as_str().starts_with("reply/a%2Fb%2Bc/0"), "{}", first.topic.as_str());
                assert!(second.topic.as_str().starts_with("reply/a%2Fb%2Bc/1"), "{}", second.topic.as_str());
            }
            all.recv().await.unwrap();
            drop(all);
            drop(one);
            let unsubscribed =
                || broker.broker(|broker| broker.log().sent_by("a/b+c", PacketType::Unsubscribe).count());
            while unsubscribed() < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // The number is free again, and the place with it.
            let three = client.requester();
            let answer = three.request(request("echo/three", "")).await.unwrap();
            assert!(answer.topic.as_str().starts_with("reply/a%2Fb%2Bc/0"));
            client.disconnect().await.unwrap();
            server.disconnect().await.unwrap();
            task.await.unwrap();
            broker.broker(|broker| broker.log_mut().clear());
        })
        .await;
    }
}

#[tokio::test]
async fn the_reply_topic_stands_below_the_response_information_of_each_connection() {
    let broker = Broker::start(BrokerConfig::new().response_information("answers/here")).unwrap();
    within(20, async {
        let (server, task) = responder(options(&broker.url(), "server", V5), Manner::Once).await;
        let asking =
            options(&broker.url(), "asker", V5).configure(|config| config.request_response_information(true));
        let client = Client::connect(asking).await.unwrap();
        let requester = client.requester();
        let topic = |answer: mqtt_machine_tokio::Incoming| answer.topic.as_str().to_owned();
        let answer = requester.request(request("echo/1", "")).await.unwrap();
        assert_eq!(topic(answer), "answers/here/asker/0");
        // The next connection is told another place.
        broker.broker(|broker| broker.config_mut().response_information = Some("moved".into()));
        reconnected(&client, || assert!(broker.cut("asker"))).await;
        let answer = requester.request(request("echo/1", "")).await.unwrap();
        assert_eq!(topic(answer), "moved/asker/0");
        // Who does not ask is told nothing.
        let plain = Client::connect(options(&broker.url(), "plain", V5)).await.unwrap();
        let answer =
            plain.requester_with(RequestOptions::new().prefix("back")).request(request("echo/1", ""));
        assert_eq!(topic(answer.await.unwrap()), "back/plain/0");
        // What is no topic is told, and nothing hangs.
        broker.broker(|broker| broker.config_mut().response_information = Some("no/+/topic".into()));
        reconnected(&client, || assert!(broker.cut("asker"))).await;
        let error = requester.request(request("echo/1", "")).await.unwrap_err();
        assert!(matches!(error, RequestError::Topic(_)), "{error}");
        for client in [client, plain, server] {
            client.disconnect().await.unwrap();
        }
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_refused_reply_topic_and_a_request_of_ones_own_making_are_errors_of_that_call() {
    let denied = ["reply/denied/0", "reply/denied/0/+"].map(|filter| filter.parse().unwrap());
    let config = denied.into_iter().fold(BrokerConfig::new(), BrokerConfig::deny);
    let broker = Broker::start(config).unwrap();
    within(20, async {
        for version in VERSIONS {
            let client = Client::connect(options(&broker.url(), "denied", version)).await.unwrap();
            let error = client.requester().request(request("echo/1", "")).await.unwrap_err();
            let RequestError::Rejected(codes) = &error else { panic!("{error}") };
            assert!(codes.codes.len() == 1 && codes.codes[0].is_failure(), "{error}");
            let requester = client.requester_with(RequestOptions::new().prefix("allowed"));
            let error = match version {
                V5 => {
                    let own = request("echo/1", "").property(Property::ResponseTopic("mine")).unwrap();
                    requester.request(own).await.unwrap_err()
                }
                _ => requester.request(request("a/@reply/b", "")).await.unwrap_err(),
            };
            assert!(matches!(error, RequestError::Property(_) | RequestError::ReservedLevel), "{error}");
            // A server of 5.0 knows that nobody listens.
            let after = Duration::from_millis(50);
            let hasty = client.requester_with(RequestOptions::new().prefix("other").timeout(after));
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let error = hasty.request(request("nobody/listens", "").qos(qos)).await.unwrap_err();
                match (version, &error) {
                    (V5, RequestError::NotDelivered(Outcome::Acknowledged(told))) => {
                        assert!(told.reached_nobody(), "{qos}: {told:?}");
                    }
                    (ProtocolVersion::V3_1_1, RequestError::Timeout { .. }) => {}
                    _ => panic!("{qos}: {error}"),
                }
            }
            assert_eq!(requester.open(), 0);
            client.disconnect().await.unwrap();
        }
        let none = response_to(&request("a", ""), "").unwrap_err();
        assert_eq!(none, NotARequest::NoResponseTopic);
        assert!(request_filters(&TopicFilter::new("a").unwrap()).unwrap().len() == 2);
    })
    .await;
}

/// Asks through cuts of the asker's link; every request is answered, since both sides send again.
async fn asks_through_cuts(broker_url: &str, proxy: &Proxy, version: ProtocolVersion, forget: impl Fn()) {
    let (server, task) = responder(options(broker_url, "server", version), Manner::Once).await;
    // In 3.1.1 a first connection with a clean session would lose its answers with the first cut.
    let resuming =
        options(&proxy.url(), "cut", version).configure(|config| config.clean_start(CleanStart::Never));
    let client = Client::connect(resuming).await.unwrap();
    let requester = client.requester_with(RequestOptions::new().timeout(Duration::from_secs(20)));
    for round in 0..5 {
        let asked: Vec<_> = (0..10)
            .map(|number| {
                let message = request("echo/cut", &format!("{round}.{number}")).qos(QoS::ExactlyOnce);
                tokio::spawn(requester.request(message))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        proxy.cut();
        for (number, asked) in asked.into_iter().enumerate() {
            let answer = asked.await.unwrap().unwrap();
            assert_eq!(answer.payload_lossy(), format!("echo/cut {round}.{number}"));
        }
        // With the session the subscription to the answers is gone as well.
        reconnected(&client, || {
            forget();
            proxy.cut();
        })
        .await;
    }
    let answer = requester.request(request("echo/cut", "last")).await.unwrap();
    assert_eq!(answer.payload_lossy(), "echo/cut last");
    assert_eq!(client.unrouted(), 0);
    drop(answer);
    client.disconnect().await.unwrap();
    server.disconnect().await.unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn requests_outlive_cuts_and_a_lost_session() {
    let broker = broker();
    for version in VERSIONS {
        within(60, async {
            let proxy = Proxy::start(broker.port()).await.unwrap();
            let forget = || broker.broker(|broker| broker.forget_session("cut"));
            asks_through_cuts(&broker.url(), &proxy, version, forget).await;
        })
        .await;
    }
}

#[tokio::test]
async fn mosquitto_carries_requests_and_answers_through_cuts() {
    let Some(broker) = support::Broker::start(Kind::Mosquitto) else { return };
    for version in VERSIONS {
        within(60, async {
            let proxy = Proxy::start(broker.port).await.unwrap();
            asks_through_cuts(&broker.url(), &proxy, version, || ()).await;
        })
        .await;
    }
}
