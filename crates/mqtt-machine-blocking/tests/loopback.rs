//! Owns the proof that calls which block keep the handle's promises, against the model broker on a loopback port. What every
//! adapter does is in `adapter.rs`. It must not know the wire.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_blocking::{
    Backoff, Client, ClientEvent, CommandError, ConnectError, EndReason, Limits, OneShotError, Outcome,
    ProtocolVersion, QoS, ReasonCode, SubscribeError, TransportError, TryRecvError, publish_multiple,
    publish_single, response_to, subscribe_callback, subscribe_simple,
};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use support::{SECOND, VERSIONS, broker, message, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;
const QOS: QoS = QoS::AtLeastOnce;

// 5.0: MQTT-4.2.0-1
// 3.1.1: MQTT-7.1.2-1
#[test]
fn messages_of_every_qos_and_version_come_back() {
    within(60, || {
        let broker = broker();
        for version in VERSIONS {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let client = Client::connect(options(&broker.url(), "round", version)).unwrap();
                let mut stream = client.subscribe("round/#", qos).unwrap();
                for payload in ["", "x", "more"] {
                    let delivery = client.publish(message("round/trip", payload).qos(qos)).unwrap();
                    let outcome = delivery.wait(5 * SECOND).unwrap();
                    assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
                }
                for payload in ["", "x", "more"] {
                    let got = stream.recv().unwrap();
                    assert_eq!((got.payload_lossy().as_str(), got.qos), (payload, qos));
                }
                assert_eq!(client.disconnect().unwrap().undelivered, 0);
                assert!(stream.recv().is_none());
                assert!(matches!(client.publish(message("a", "")), Err(CommandError::Closed)));
                assert!(matches!(client.disconnect(), Err(CommandError::Closed)));
            }
        }
    });
}

#[test]
fn a_loop_over_messages_can_be_left_and_ends_with_the_client() {
    within(20, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "loop", V5)).unwrap();
        let mut stream = client.subscribe("loop", QOS).unwrap();
        for number in 0..5 {
            client.publish(message("loop", &number.to_string()).qos(QOS)).unwrap();
        }
        for message in &mut stream {
            if message.payload_lossy() == "2" {
                break;
            }
        }
        let reader = thread::spawn(move || stream.map(|message| message.payload_lossy()).collect::<Vec<_>>());
        while client.unrouted() == 0 && broker.broker(|broker| broker.owed_to("loop")) > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        client.disconnect().unwrap();
        assert_eq!(reader.join().unwrap(), ["3", "4"]);
    });
}

#[test]
fn waiting_has_an_end() {
    within(20, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "waiting", V5)).unwrap();
        let (mut stream, mut events) = (client.subscribe("never", QOS).unwrap(), client.events());
        let begin = Instant::now();
        assert_eq!(stream.recv_timeout(SECOND / 10).unwrap_err(), TryRecvError::Empty);
        assert_eq!(events.recv_timeout(SECOND / 10).unwrap_err(), TryRecvError::Empty);
        assert!((SECOND / 5..5 * SECOND).contains(&begin.elapsed()));
        assert_eq!(stream.try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(events.try_recv().is_none());

        broker.broker(|broker| broker.delay_client("waiting", SECOND));
        let delivery = client.publish(message("t", "late").qos(QOS)).unwrap();
        let delivery = delivery.wait(Duration::from_millis(10)).unwrap_err();
        assert!(matches!(delivery.wait(Duration::MAX), Ok(Outcome::Acknowledged(_))));
        client.disconnect().unwrap();
        assert_eq!(stream.recv_timeout(SECOND).unwrap_err(), TryRecvError::Closed);
        assert!(matches!(events.recv_timeout(SECOND), Ok(ClientEvent::Disconnected { retry_at: None, .. })));
        assert_eq!(events.recv_timeout(SECOND).unwrap_err(), TryRecvError::Closed);
        assert!(events.next().is_none());
    });
}

#[test]
fn a_cut_in_the_middle_loses_nothing() {
    within(60, || {
        let broker = broker();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let client = Client::connect(options(&broker.url(), "cut", V5)).unwrap();
            let mut events = client.events();
            let mut stream = client.subscribe("cut", qos).unwrap();
            let mut deliveries = Vec::new();
            for number in 0..200 {
                if number % 50 == 25 {
                    broker.cut("cut");
                }
                deliveries.push(client.publish(message("cut", &number.to_string()).qos(qos)).unwrap());
            }
            for delivery in deliveries {
                assert!(matches!(delivery.wait(20 * SECOND), Ok(Outcome::Acknowledged(_))));
            }
            let mut got = Vec::new();
            while got.len() < 200 {
                let number: u32 = stream.recv().unwrap().payload_lossy().parse().unwrap();
                if qos == QoS::ExactlyOnce || !got.contains(&number) {
                    got.push(number);
                }
            }
            assert!(got.iter().copied().eq(0..200), "{got:?}");
            assert!(matches!(events.recv(), Some(ClientEvent::Disconnected { retry_at: Some(_), .. })));
            client.disconnect().unwrap();
        }
    });
}

#[test]
fn a_refused_filter_is_an_error_with_its_code() {
    within(20, || {
        let denied = BrokerConfig::new().deny("secret/#".parse().unwrap());
        let broker = Broker::start(denied).unwrap();
        let client = Client::connect(options(&broker.url(), "denied", V5)).unwrap();
        let error = client.subscribe("secret/#", QOS).unwrap_err();
        assert!(matches!(error, SubscribeError::Rejected(_)), "{error}");
        assert!(matches!(client.subscribe("a/#/b", QOS).unwrap_err(), SubscribeError::Filter(_)));
        let stream = client.subscribe("open", QOS).unwrap();
        assert_eq!(stream.granted().unwrap().codes.len(), 1);
        assert_eq!(stream.unsubscribe().unwrap().codes, [ReasonCode::Success]);
        assert_eq!(client.pending(), 0);
    });
}

#[test]
fn publishing_from_the_receive_loop_with_full_queues_never_hangs() {
    const COUNT: usize = 3_000;
    within(60, || {
        let broker = broker();
        let limits = Limits { outgoing_messages: 4, incoming_bytes: 2_000, ..Limits::DEFAULT };
        let echo = options(&broker.url(), "echo", V5).configure(|config| config.limits(limits));
        let echo = Client::connect(echo).unwrap();
        let mut requests = echo.subscribe("requests", QOS).unwrap();
        let flood = Client::connect(options(&broker.url(), "flood", V5)).unwrap();
        let flooding = thread::spawn(move || {
            for number in 0..COUNT {
                flood.publish(message("requests", &number.to_string()).qos(QOS)).unwrap();
            }
            flood.disconnect().unwrap()
        });
        let (mut answered, mut full) = (0, 0);
        for number in 0..COUNT {
            let request = requests.recv().unwrap();
            assert_eq!(request.payload_lossy(), number.to_string());
            // Held while publishing: the budget is used up by what is unread.
            match echo.publish(message("answers", &number.to_string()).qos(QOS)) {
                Ok(_) => answered += 1,
                Err(error) if error.is_full() => full += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(answered + full, COUNT);
        assert!(answered > 0);
        assert_eq!(flooding.join().unwrap().undelivered, 0);
        assert_eq!(echo.disconnect().unwrap().undelivered, 0);
    });
}

#[test]
fn publishers_of_many_threads_wait_for_room() {
    within(60, || {
        let broker = broker();
        let limits = Limits { outgoing_messages: 2, ..Limits::DEFAULT };
        let options = options(&broker.url(), "many", V5).configure(|config| config.limits(limits));
        let client = Client::connect(options).unwrap();
        thread::scope(|scope| {
            for publisher in 0..8 {
                let client = client.clone();
                scope.spawn(move || {
                    for number in 0..50 {
                        let text = format!("{publisher} {number}");
                        client.publish(message("many", &text).qos(QOS)).unwrap();
                    }
                });
            }
        });
        assert_eq!(client.disconnect().unwrap().undelivered, 0);
        assert_eq!(broker.broker(|broker| broker.log().accepted().count()), 400);
    });
}

#[test]
fn a_refused_port_and_a_name_that_leads_nowhere_are_told() {
    within(30, || {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let once = |url: &str| options(url, "nowhere", V5).configure(|config| config.backoff(Backoff::NEVER));
        let cases =
            [format!("mqtt://{free}"), "mqtt://no-such-name.invalid".into(), "unix:///no/such/socket".into()];
        for url in cases {
            let begin = Instant::now();
            let error = Client::connect(once(&url)).unwrap_err();
            assert!(matches!(error, ConnectError::Transport(TransportError::Dial(_))), "{url}: {error:?}");
            assert!(begin.elapsed() < 20 * SECOND);
        }
        let retried = options(&format!("mqtt://{free}"), "nowhere", V5).connect_deadline(SECOND / 2);
        let error = Client::connect(retried).unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { cause: Some(_), .. }), "{error:?}");
    });
}

#[cfg(unix)]
#[test]
fn a_url_of_a_unix_socket_leads_to_the_broker() {
    use std::io;
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;

    within(20, || {
        let broker = broker();
        let path = std::env::temp_dir().join(format!("mqtt-machine-blocking-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let port = broker.port();
        thread::spawn(move || {
            let (mut near, _) = listener.accept().unwrap();
            let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            io::copy(&mut far, &mut near)
        });
        let url = format!("unix://{}", path.display());
        let client = Client::connect(options(&url, "unix", V5)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut stream = client.subscribe("unix", QOS).unwrap();
        let large = "x".repeat(1 << 20);
        client.publish(message("unix", &large).qos(QOS)).unwrap();
        assert!(stream.recv().unwrap().payload_lossy() == large);
        assert_eq!(client.disconnect().unwrap().undelivered, 0);
    });
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    within(30, || {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("mqtt://{}", silent.local_addr().unwrap());
        let options = options(&url, "silent", V5)
            .configure(|config| config.backoff(Backoff::NEVER).connect_timeout(SECOND));
        let begin = Instant::now();
        let error = Client::connect(options).unwrap_err();
        assert!(matches!(error, ConnectError::GaveUp(EndReason::ConnectTimeout)), "{error:?}");
        assert!((SECOND..10 * SECOND).contains(&begin.elapsed()));
    });
}

#[test]
fn the_last_handle_disconnects_in_the_background() {
    within(20, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "dropped", V5)).unwrap();
        let mut stream = client.subscribe("dropped", QOS).unwrap();
        let delivery = client.publish(message("dropped", "x").qos(QOS)).unwrap();
        drop(client.clone());
        assert!(client.is_connected());
        drop(client);
        assert!(matches!(delivery.wait(5 * SECOND), Ok(Outcome::Acknowledged(_))));
        assert_eq!(stream.recv().unwrap().payload_lossy(), "x");
        assert!(stream.recv().is_none());
        assert!(broker.wait_until(5 * SECOND, |broker| broker.connected().count() == 0));
        let violations = broker.broker(|broker| broker.log().violations().count());
        assert_eq!(violations, 0, "it said goodbye");
    });
}

#[test]
fn one_call_does_one_thing() {
    within(20, || {
        let broker = broker();
        let url = broker.url();
        let taking = {
            let url = url.clone();
            thread::spawn(move || subscribe_simple(url, ["one/#"], QOS, 3).unwrap())
        };
        let calling = {
            let url = url.clone();
            thread::spawn(move || {
                let mut taken = Vec::new();
                let take = |message: mqtt_machine_blocking::Incoming| {
                    taken.push(message.payload_lossy());
                    if taken.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                };
                subscribe_callback(url, ["one/#"], QOS, take).unwrap();
                taken
            })
        };
        assert!(broker.wait_until(5 * SECOND, |broker| broker.connected().count() == 2));
        // They are connected; that both have subscribed shows when a message reaches them.
        while !(taking.is_finished() && calling.is_finished()) {
            let outcome = publish_single(&url, message("one/1", "first").qos(QOS)).unwrap();
            assert!(matches!(outcome, Outcome::Acknowledged(_)));
        }
        assert_eq!(taking.join().unwrap().len(), 3);
        assert_eq!(calling.join().unwrap(), ["first", "first"]);
        let outcomes = publish_multiple(&url, ["a", "b"].map(|text| message("one/2", text))).unwrap();
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Sent]);
        let nowhere = publish_single("nonsense://", message("a", "b"));
        assert!(matches!(nowhere, Err(OneShotError::Connect(ConnectError::Endpoint(_)))));
    });
}

#[test]
fn a_request_is_answered() {
    within(20, || {
        let broker = broker();
        let answering = Client::connect(options(&broker.url(), "answering", V5)).unwrap();
        let mut questions = answering.subscribe("question", QOS).unwrap();
        let answers = {
            let answering = answering.clone();
            thread::spawn(move || {
                let question = questions.recv().unwrap();
                let answer = response_to(&question, "42".to_owned()).unwrap();
                answering.publish(answer.qos(QOS)).unwrap().wait(5 * SECOND).unwrap()
            })
        };
        let asking = Client::connect(options(&broker.url(), "asking", V5)).unwrap();
        let requester = asking.requester();
        assert_eq!(requester.request(message("question", "?").qos(QOS)).unwrap().payload_lossy(), "42");
        assert!(matches!(answers.join().unwrap(), Outcome::Acknowledged(_)));
        assert_eq!(requester.open(), 0);
        asking.disconnect().unwrap();
        assert!(requester.request(message("question", "?")).is_err());
        answering.disconnect().unwrap();
    });
}
