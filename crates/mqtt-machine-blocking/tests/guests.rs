//! Owns the proof that threads which call a client may drive it, and that nothing depends on their doing so. It must not know how they
//! do it.

mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_blocking::rustls::KeyLog;
use mqtt_machine_blocking::{
    Client, ClientEvent, Limits, Outcome, Prepared, ProtocolVersion, QoS, TlsClient, TryRecvError,
};
use mqtt_machine_testkit::transports::{Site, Way};
use support::{SECOND, broker, message, options, quick, within};

const V5: ProtocolVersion = ProtocolVersion::V5;
const QOS: QoS = QoS::AtLeastOnce;

fn round_trip(client: &Client, topic: &str, payload: &str) -> Outcome {
    client.publish(message(topic, payload).qos(QOS)).unwrap().wait(10 * SECOND).unwrap()
}

#[test]
fn code_of_the_user_s_runs_on_the_client_s_own_thread() {
    within(60, || {
        let broker = broker();
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let (seen, own) = (Arc::clone(&names), Arc::new(Mutex::new(())));
        let theirs = Arc::clone(&own);
        let options = options(&broker.url(), "asked", V5).prepare(move |_| {
            let _held = theirs.lock().unwrap();
            seen.lock().unwrap().insert(thread::current().name().map(ToOwned::to_owned));
            Ok(Prepared::as_configured())
        });
        let client = Client::connect(options).unwrap();
        let mut events = client.events();
        for number in 0..200 {
            if number % 20 == 10 {
                broker.cut("asked");
            }
            {
                // What that code waits for may be held by one who publishes.
                let _held = own.lock().unwrap();
                client.publish(message("asked", "").qos(QOS)).unwrap();
            }
            assert!(matches!(round_trip(&client, "asked", "x"), Outcome::Acknowledged(_)));
        }
        let mut reconnects = 0;
        while let Some(event) = events.try_recv() {
            reconnects += u32::from(matches!(event, ClientEvent::Connected(_)));
        }
        assert!(reconnects >= 5, "{reconnects}");
        assert_eq!(*names.lock().unwrap(), BTreeSet::from([Some("mqtt-machine".to_owned())]));
    });
}

/// Notes the threads that it is called on.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeSet<Option<String>>>);

impl KeyLog for Names {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap().insert(thread::current().name().map(ToOwned::to_owned));
    }
}

#[test]
fn handshakes_of_tls_are_made_on_the_client_s_own_thread() {
    within(60, || {
        let Some(site) = Site::start() else { return };
        let (relay, names) = (site.relay(Way::Tls), Arc::new(Names::default()));
        let options = site.options(Way::Tls, relay.port()).configure(|config| quick(config, "handshakes"));
        let theirs = Arc::clone(&names);
        let options = options.route(|route| {
            let mut config = (**site.tls(None).build().unwrap().config()).clone();
            config.key_log = theirs;
            route.tls_client(TlsClient::from_config(Arc::new(config)))
        });
        let client = Client::connect(options).unwrap();
        let (mut events, mut stream) = (client.events(), client.subscribe("never", QOS).unwrap());
        let mut reconnects = 0;
        for _ in 0..10 {
            relay.cut();
            let begin = Instant::now();
            loop {
                assert!(begin.elapsed() < 10 * SECOND);
                assert_eq!(stream.recv_timeout(SECOND / 500).unwrap_err(), TryRecvError::Empty);
                if let Some(ClientEvent::Connected(_)) = events.try_recv() {
                    reconnects += 1;
                    break;
                }
            }
        }
        assert_eq!(reconnects, 10);
        assert_eq!(*names.0.lock().unwrap(), BTreeSet::from([Some("mqtt-machine".to_owned())]));
    });
}

#[test]
fn guests_move_bytes_through_every_layer() {
    const WAYS: [Way; 4] = [Way::Tls, Way::MutualTls, Way::WebSocket, Way::SecureWebSocket];
    within(120, || {
        let Some(site) = Site::start() else { return };
        for way in WAYS {
            let relay = site.relay(way);
            let options = site.options(way, relay.port()).configure(|config| quick(config, "through"));
            let client = Client::connect(options).unwrap();
            let mut stream = client.subscribe("through", QoS::ExactlyOnce).unwrap();
            // Few, since this server takes and gives over WebSocket 4 KiB every tenth of a second.
            for round in 0..30 {
                if round % 10 == 5 {
                    relay.cut();
                }
                let payload = format!("{round}").repeat(if round % 10 == 0 { 10_000 } else { 1 });
                let sent = client.publish(message("through", &payload).qos(QoS::ExactlyOnce)).unwrap();
                assert!(matches!(sent.wait(10 * SECOND).unwrap(), Outcome::Acknowledged(_)), "{way:?}");
                assert_eq!(stream.recv_timeout(10 * SECOND).unwrap().payload_lossy(), payload, "{way:?}");
            }
            assert_eq!(client.disconnect().unwrap().undelivered, 0);
        }
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("as it is meant to");
    }
}

#[test]
fn a_waker_that_panics_ends_the_client_and_everybody_is_told() {
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "panics", V5)).unwrap();
        let mut stream = client.subscribe("never", QOS).unwrap();
        let waker = Waker::from(Arc::new(Panics));
        let mut context = Context::from_waker(&waker);
        let mut accepted = pin!(client.handle().publish(message("panics", "").qos(QOS)));
        let Poll::Ready(Ok(delivery)) = accepted.as_mut().poll(&mut context) else { panic!("there is room") };
        let mut delivery = pin!(delivery);
        assert!(delivery.as_mut().poll(&mut context).is_pending());
        // Whoever drives then meets it.
        let other = client.clone();
        let _ = thread::spawn(move || {
            if let Ok(delivery) = other.publish(message("panics", "").qos(QOS)) {
                let _ = delivery.wait(10 * SECOND);
            }
        })
        .join();
        assert_eq!(stream.recv_timeout(10 * SECOND).unwrap_err(), TryRecvError::Closed);
        assert!(client.publish(message("panics", "").qos(QOS)).is_err());
    });
}

#[test]
fn those_who_wait_at_the_same_time_all_come_to_an_end() {
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "all", V5)).unwrap();
        let streams = [0, 1, 2].map(|reader| client.subscribe(format!("all/{reader}/#"), QOS).unwrap());
        thread::scope(|scope| {
            for mut stream in streams {
                scope.spawn(move || {
                    for _ in 0..2 * 300 {
                        stream.recv_timeout(10 * SECOND).unwrap();
                    }
                });
            }
            for publisher in 0..2 {
                let client = client.clone();
                scope.spawn(move || {
                    for number in 0..300 {
                        for reader in 0..3 {
                            let outcome = round_trip(&client, &format!("all/{reader}/{publisher}"), "");
                            assert!(matches!(outcome, Outcome::Acknowledged(_)), "{number}: {outcome:?}");
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn what_nobody_waits_for_is_done_too() {
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "alone", V5)).unwrap();
        let mut stream = client.subscribe("alone", QOS).unwrap();
        for round in 1..=5 {
            // Threads that wait are at work, and then are no more.
            for _ in 0..50 {
                round_trip(&client, "other", "");
            }
            for _ in 0..20 {
                client.publish(message("alone", &round.to_string()).qos(QOS)).unwrap();
            }
            let (mut came, begin) = (0, Instant::now());
            while came < 20 {
                match stream.try_recv() {
                    Ok(got) => {
                        assert_eq!(got.payload_lossy(), round.to_string());
                        came += 1;
                    }
                    Err(TryRecvError::Empty) => thread::sleep(Duration::from_millis(1)),
                    Err(error) => panic!("{error}"),
                }
                assert!(begin.elapsed() < 5 * SECOND, "{came} in round {round}");
            }
        }
    });
}

#[test]
fn what_a_thread_publishes_that_never_waits_is_not_put_off() {
    const COUNT: u32 = 1_000;
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "steady", V5)).unwrap();
        let reader = Client::connect(options(&broker.url(), "reader", V5)).unwrap();
        let mut stream = reader.subscribe("steady", QoS::AtMostOnce).unwrap();
        let begin = Instant::now();
        let publisher = thread::spawn(move || {
            for _ in 0..COUNT {
                let sent = begin.elapsed().as_micros().to_string();
                client.publish(message("steady", &sent)).unwrap();
                thread::sleep(Duration::from_micros(300));
            }
            client
        });
        let mut late: Vec<_> = (0..COUNT)
            .map(|_| {
                let message = stream.recv_timeout(10 * SECOND).unwrap();
                let sent = Duration::from_micros(message.payload_lossy().parse().unwrap());
                begin.elapsed().saturating_sub(sent)
            })
            .collect();
        late.sort_unstable();
        // Left to its end they would be late by a third of a second and more, most of them by half of that.
        assert!(late[late.len() / 2] < SECOND / 20, "{:?}", late[late.len() / 2]);
        drop(publisher.join().unwrap());
    });
}

#[test]
fn a_thread_that_polls_and_never_waits_is_served_all_the_same() {
    const COUNT: usize = 21;
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "polls", V5)).unwrap();
        let mut stream = client.subscribe("polls", QOS).unwrap();
        let mut late: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut delivery = client.publish(message("polls", "").qos(QOS)).unwrap();
                let begin = Instant::now();
                while let Err(still) = delivery.wait(Duration::ZERO) {
                    delivery = still;
                }
                while let Err(error) = stream.recv_timeout(Duration::ZERO) {
                    assert_eq!(error, TryRecvError::Empty);
                }
                begin.elapsed()
            })
            .collect();
        late.sort_unstable();
        // A few milliseconds, where a host that lay down for whoever polls came after 40 and more.
        assert!(late[COUNT / 2] < SECOND / 50, "{late:?}");
    });
}

#[test]
fn a_wait_ends_in_time_while_others_keep_the_client_busy() {
    within(60, || {
        let broker = broker();
        let client = Client::connect(options(&broker.url(), "busy", V5)).unwrap();
        let mut stream = client.subscribe("never", QOS).unwrap();
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        client.publish(message("busy", "").qos(QOS)).unwrap();
                    }
                });
            }
            for _ in 0..20 {
                let begin = Instant::now();
                assert_eq!(stream.recv_timeout(SECOND / 50).unwrap_err(), TryRecvError::Empty);
                assert!((SECOND / 50..5 * SECOND).contains(&begin.elapsed()), "{:?}", begin.elapsed());
            }
            ends.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn the_client_is_kept_alive_while_a_thread_waits() {
    within(60, || {
        let broker = broker();
        let options =
            options(&broker.url(), "awake", V5).configure(|config| config.keep_alive(Duration::from_secs(1)));
        let client = Client::connect(options).unwrap();
        let (mut events, mut stream) = (client.events(), client.subscribe("never", QOS).unwrap());
        assert_eq!(stream.recv_timeout(3 * SECOND).unwrap_err(), TryRecvError::Empty);
        assert!(matches!(round_trip(&client, "awake", ""), Outcome::Acknowledged(_)));
        assert!(events.try_recv().is_none(), "the connection is the first one");
    });
}

#[test]
fn a_burst_of_one_thread_finds_its_way_through_a_small_window() {
    within(60, || {
        let broker = broker();
        let limits = Limits { in_flight: 10, outgoing_messages: 50, ..Limits::DEFAULT };
        let options = options(&broker.url(), "burst", V5).configure(|config| config.limits(limits));
        let client = Client::connect(options).unwrap();
        let mut stream = client.subscribe("burst", QoS::ExactlyOnce).unwrap();
        for number in 0..500 {
            let payload = number.to_string();
            client.publish(message("burst", &payload).qos(QoS::ExactlyOnce)).unwrap();
        }
        for number in 0..500 {
            assert_eq!(stream.recv().unwrap().payload_lossy(), number.to_string());
        }
        assert_eq!(client.disconnect().unwrap().undelivered, 0);
    });
}
