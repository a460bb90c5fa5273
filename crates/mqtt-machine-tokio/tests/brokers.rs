//! Owns the proof against several real brokers: the same scenarios on each, in every version and at every QoS that it speaks.
//! It must not know how a broker is started. What was seen is written down in `docs/brokers.md`.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use mqtt_machine_tokio::{
    Backoff, CleanStart, Client, ClientEvent, ConnectError, Delivery, EndReason, Incoming, Limits, Message,
    Options, Outcome, ProtocolVersion, QoS, ReasonCode, Subscription,
};
use tokio::time::sleep;

use support::{Broker, EVERY_QOS, Kind, Proxy, options, within};

/// What a scenario has: a broker and the version to speak.
#[derive(Clone, Copy)]
struct Scene<'a> {
    broker: &'a Broker,
    version: ProtocolVersion,
}

impl Scene<'_> {
    fn options(self, client_id: &str) -> Options {
        options(&self.broker.url(), client_id, self.version)
    }

    async fn connect(self, client_id: &str) -> Client {
        Client::connect(self.options(client_id)).await.unwrap()
    }

    /// Every QoS at which this broker takes messages.
    fn published(self) -> impl Iterator<Item = QoS> {
        EVERY_QOS.into_iter().filter(move |qos| *qos <= self.broker.kind.takes())
    }

    fn delivered(self, published: QoS, asked: QoS) -> QoS {
        self.broker.kind.delivers(published, asked)
    }
}

fn message(topic: &str, payload: impl Into<Vec<u8>>, qos: QoS) -> Message {
    Message::to(topic, payload.into()).unwrap().qos(qos)
}

fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Sent => true,
        // A PUBREL that is sent again may find nothing: the broker had completed the message, and its PUBCOMP was cut off.
        Outcome::Acknowledged(acknowledgement) => {
            !acknowledgement.reason.is_failure()
                || acknowledgement.reason == ReasonCode::PacketIdentifierNotFound
        }
        _ => false,
    }
}

async fn publish(client: &Client, message: Message) {
    let outcome = client.publish(message).await.unwrap().await;
    assert!(is_done(&outcome), "{outcome:?}");
}

/// Subscribes, and holds what is granted against what this broker grants.
async fn subscribe(scene: Scene<'_>, client: &Client, filter: &str, qos: QoS) -> Subscription {
    let stream = client.subscribe(filter, qos).await.unwrap();
    let granted = match scene.broker.kind.grants(qos) {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    };
    assert_eq!(stream.granted().unwrap().codes, [granted], "granted for QoS {qos}");
    stream
}

async fn next(stream: &mut Subscription) -> Incoming {
    within(10, stream.recv()).await.expect("the stream goes on")
}

async fn end(client: Client) {
    assert_eq!(client.disconnect().await.unwrap().undelivered, 0, "nothing is left undelivered");
}

async fn every_qos_goes_both_ways(scene: Scene<'_>) {
    let client = scene.connect("both-ways").await;
    for asked in EVERY_QOS {
        let mut stream = subscribe(scene, &client, "both/+", asked).await;
        for published in scene.published() {
            for payload in [&b""[..], b"x", &[7; 100_000]] {
                publish(&client, message("both/ways", payload, published)).await;
                let got = next(&mut stream).await;
                assert_eq!(got.qos, scene.delivered(published, asked), "{published} to {asked}");
                assert_eq!((got.topic.as_str(), &got.payload[..]), ("both/ways", payload));
            }
        }
        stream.unsubscribe().await.unwrap();
    }
    end(client).await;
}

async fn a_retained_message_is_kept_until_it_is_cleared(scene: Scene<'_>) {
    let client = scene.connect("retain").await;
    let topic = format!("retained/{}", scene.version.level());
    let kept = |payload: &str| message(&topic, payload, QoS::AtLeastOnce).retain(true);
    publish(&client, kept("1")).await;
    // aedes acknowledges before it forwards: who subscribes at once may get it as a new message.
    sleep(Duration::from_millis(200)).await;
    let mut stream = subscribe(scene, &client, &topic, QoS::AtLeastOnce).await;
    let got = next(&mut stream).await;
    assert!(got.retain && &got.payload[..] == b"1", "{got:?}");
    // Which acknowledges it: ejabberd sends one message at a time.
    drop(got);
    publish(&client, kept("")).await;
    assert!(next(&mut stream).await.payload.is_empty());
    stream.unsubscribe().await.unwrap();
    let mut late = subscribe(scene, &client, &topic, QoS::AtLeastOnce).await;
    publish(&client, message(&topic, "new", QoS::AtLeastOnce)).await;
    let got = next(&mut late).await;
    assert!(!got.retain && &got.payload[..] == b"new", "{got:?}");
    end(client).await;
}

async fn a_will_follows_a_cut_and_no_disconnect(scene: Scene<'_>) {
    let watcher = scene.connect("watcher").await;
    let mut stream = subscribe(scene, &watcher, "will/#", QoS::AtLeastOnce).await;
    let will = |topic| message(topic, "gone", QoS::AtLeastOnce);
    let orderly = scene.options("orderly").configure(|config| config.will(will("will/not")));
    end(Client::connect(orderly).await.unwrap()).await;

    let proxy = Proxy::start(scene.broker.port).await.unwrap();
    let mortal = options(&scene.broker.url_at(proxy.port), "mortal", scene.version)
        .configure(|c| c.will(will("will/yes")));
    let (mortal, driver) = Client::with_driver(mortal).unwrap();
    let driver = tokio::spawn(driver);
    mortal.connected().await.unwrap();
    driver.abort();
    proxy.cut();
    let got = next(&mut stream).await;
    assert_eq!((got.topic.as_str(), &got.payload[..]), ("will/yes", &b"gone"[..]));
    end(watcher).await;
}

/// A subscriber dies, messages come, and another client under its name gets them with the session.
async fn a_resumed_session_has_what_came_in_between(scene: Scene<'_>) {
    let publisher = scene.connect("between").await;
    for asked in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let name = format!("sleeper-{}-{asked}", scene.version.level());
        let proxy = Proxy::start(scene.broker.port).await.unwrap();
        let sleeping = options(&scene.broker.url_at(proxy.port), &name, scene.version)
            .configure(|config| config.clean_start(CleanStart::Never));
        let (sleeper, driver) = Client::with_driver(sleeping.clone()).unwrap();
        let driver = tokio::spawn(driver);
        assert!(!sleeper.connected().await.unwrap().session_present);
        let _stream = subscribe(scene, &sleeper, "between", asked).await;
        driver.abort();
        proxy.cut();
        // The broker takes a moment to see the end; until then it may think that it delivers.
        sleep(Duration::from_millis(300)).await;
        let qos_of = |number: usize| EVERY_QOS[1 + number % 2].min(scene.broker.kind.takes());
        for number in 0..20 {
            let qos = qos_of(number);
            publish(&publisher, message("between", number.to_string(), qos)).await;
        }
        let (woken, driver) = Client::with_driver(sleeping).unwrap();
        let mut messages = woken.messages();
        tokio::spawn(driver);
        let connected = woken.connected().await.unwrap();
        // 3.1 cannot say it.
        assert!(connected.session_present || scene.version == ProtocolVersion::V3_1, "{connected:?}");
        for number in 0..20 {
            let got = next(&mut messages).await;
            assert_eq!(got.payload_lossy(), number.to_string());
            assert_eq!(got.qos, scene.delivered(qos_of(number), asked));
        }
        end(woken).await;
        // The next version finds no session.
        let clean = scene.options(&name).configure(|config| config.clean_start(CleanStart::Always));
        end(Client::connect(clean).await.unwrap()).await;
    }
    end(publisher).await;
}

/// Both ends of a flow of messages lose their links again and again, and resume.
async fn what_is_in_flight_survives_cuts(scene: Scene<'_>) {
    const COUNT: usize = 1_000;
    for qos in scene.published().filter(|qos| scene.broker.kind.survives_cuts(*qos)) {
        let proxy = Proxy::start(scene.broker.port).await.unwrap();
        let resuming = |name: &str| {
            options(
                &scene.broker.url_at(proxy.port),
                &format!("{name}-{}-{qos}", scene.version.level()),
                scene.version,
            )
            .configure(|config| {
                let limits = Limits { outgoing_messages: 100, in_flight: 50, ..Limits::DEFAULT };
                config.clean_start(CleanStart::Never).limits(limits)
            })
        };
        let subscriber = Client::connect(resuming("subscriber")).await.unwrap();
        let mut stream = subscribe(scene, &subscriber, "flow", qos).await;
        let publisher = Client::connect(resuming("publisher")).await.unwrap();
        let publishing = tokio::spawn({
            let publisher = publisher.clone();
            async move {
                let mut deliveries: Vec<Delivery> = Vec::with_capacity(COUNT);
                for number in 0..COUNT {
                    let numbered = message("flow", number.to_string(), qos);
                    deliveries.push(publisher.publish(numbered).await.unwrap());
                }
                for delivery in deliveries {
                    let outcome = delivery.await;
                    assert!(is_done(&outcome), "{outcome:?}");
                }
            }
        });
        let once = scene.delivered(qos, qos) == QoS::ExactlyOnce;
        let (mut seen, mut repeated) = (BTreeSet::new(), 0);
        while seen.len() < COUNT {
            let got = next(&mut stream).await;
            let number: usize = got.payload_lossy().parse().unwrap();
            if !seen.insert(number) {
                repeated += 1;
                continue;
            }
            let in_order = seen.last() == Some(&(seen.len() - 1));
            assert!(in_order || !scene.broker.kind.keeps_order(), "{number} came as number {}", seen.len());
            if seen.len() % (COUNT / 6) == 0 {
                proxy.cut();
            }
        }
        within(20, publishing).await.unwrap();
        assert!(!once || repeated == 0, "{repeated} came again at QoS 2");
        println!("{} {} QoS {qos}: {repeated} repeated", scene.broker.kind.name(), scene.version);
        end(publisher).await;
        end(subscriber).await;
    }
}

async fn a_client_waits_for_a_broker_that_restarts(broker: &mut Broker) {
    let version = broker.kind.versions()[0];
    let client = Client::connect(options(&broker.url(), "patient", version)).await.unwrap();
    let mut events = client.events();
    tokio::task::block_in_place(|| broker.stop());
    let event = within(10, events.recv()).await.unwrap();
    let ClientEvent::Disconnected { reason, retry_at: Some(_), .. } = event else { panic!("{event:?}") };
    println!("{} stops: {reason}", broker.kind.name());
    tokio::task::block_in_place(|| broker.run());
    within(30, client.connected()).await.unwrap();
    let mut stream = client.subscribe("again", QoS::AtLeastOnce).await.unwrap();
    publish(&client, message("again", "!", QoS::AtLeastOnce)).await;
    assert_eq!(&next(&mut stream).await.payload[..], b"!");
    end(client).await;
}

/// A broker of 3.x says so, each in its way.
async fn a_version_that_is_not_spoken_is_refused(broker: &Broker) {
    let version = ProtocolVersion::V5;
    let once = options(&broker.url(), "too-new", version).configure(|config| config.backoff(Backoff::NEVER));
    let error = within(20, Client::connect(once)).await.unwrap_err();
    match (broker.kind, error) {
        (Kind::Aedes, ConnectError::GaveUp(EndReason::Refused { reason, .. })) => {
            assert_eq!(reason, ReasonCode::UnsupportedProtocolVersion);
        }
        (Kind::RabbitMq, ConnectError::GaveUp(EndReason::Closed(_))) => {}
        (kind, error) => panic!("{}: {error:?}", kind.name()),
    }
}

async fn every_scenario(kind: Kind) {
    let Some(mut broker) = Broker::start(kind) else { return };
    for version in kind.versions().iter().copied() {
        let scene = Scene { broker: &broker, version };
        println!("{} {version}", kind.name());
        println!("- QoS both ways");
        within(30, every_qos_goes_both_ways(scene)).await;
        println!("- retained");
        within(30, a_retained_message_is_kept_until_it_is_cleared(scene)).await;
        println!("- will");
        within(30, a_will_follows_a_cut_and_no_disconnect(scene)).await;
        println!("- resume");
        within(60, a_resumed_session_has_what_came_in_between(scene)).await;
        println!("- cuts");
        within(120, what_is_in_flight_survives_cuts(scene)).await;
    }
    if !kind.versions().contains(&ProtocolVersion::V5) {
        a_version_that_is_not_spoken_is_refused(&broker).await;
    }
    a_client_waits_for_a_broker_that_restarts(&mut broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_carries_every_scenario() {
    every_scenario(Kind::Mosquitto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ejabberd_carries_every_scenario() {
    every_scenario(Kind::Ejabberd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_carries_every_scenario() {
    every_scenario(Kind::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aedes_carries_every_scenario() {
    every_scenario(Kind::Aedes).await;
}
