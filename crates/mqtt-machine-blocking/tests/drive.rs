//! Owns the proof that a client runs on the caller's own thread, as a whole and a step at a time, and leaves no thread behind.
//! It must not know the wire.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_blocking::{
    Client, CommandError, Limits, Message, Outcome, ProtocolVersion, QoS, Subscription, TryRecvError,
};
use support::{SECOND, broker, message, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;
const QOS: QoS = QoS::ExactlyOnce;

#[test]
fn a_thread_of_the_callers_own_drives_the_client_until_it_ends() {
    within(20, || {
        let broker = broker();
        let (client, runner) = Client::with_driver(options(&broker.url(), "run", V5)).unwrap();
        let asking = thread::spawn(move || {
            client.connected().unwrap();
            let mut stream = client.subscribe("run", QOS).unwrap();
            broker.cut("run");
            let delivery = client.publish(message("run", "x").qos(QOS)).unwrap();
            assert!(matches!(delivery.wait(5 * SECOND), Ok(Outcome::Acknowledged(_))));
            assert_eq!(stream.recv().unwrap().payload_lossy(), "x");
            client.disconnect().unwrap()
        });
        runner.run().unwrap();
        assert_eq!(asking.join().unwrap().undelivered, 0);
    });
}

#[test]
fn one_thread_does_everything_a_step_at_a_time() {
    within(20, || {
        let broker = broker();
        let (client, mut runner) = Client::with_driver(options(&broker.url(), "step", V5)).unwrap();
        assert!(runner.deadline().is_some_and(|then| then <= Instant::now()), "it has not begun");
        runner.until(client.handle().connected(), 5 * SECOND).unwrap().unwrap().unwrap();
        let subscribing = client.handle().subscribe("step", QOS);
        let stream = runner.until(subscribing, 5 * SECOND).unwrap().unwrap().unwrap();
        let mut stream = Subscription::from(stream);
        for number in 0..10 {
            if number == 5 {
                broker.cut("step");
            }
            let mut delivery = client.try_publish(message("step", &number.to_string()).qos(QOS)).unwrap();
            assert!(runner.until(&mut delivery, Duration::ZERO).unwrap().is_none());
            let outcome = runner.until(delivery, 5 * SECOND).unwrap();
            assert!(matches!(outcome, Some(Outcome::Acknowledged(_))));
        }
        let mut got = Vec::new();
        while got.len() < 10 {
            let step = runner.step(SECOND).unwrap();
            assert!(!step.done && step.deadline == runner.deadline());
            loop {
                match stream.try_recv() {
                    Ok(message) => got.push(message.payload_lossy()),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => panic!("{got:?}"),
                }
            }
        }
        assert!(
            got.iter().map(String::as_str).eq((0..10).map(|number| number.to_string()).collect::<Vec<_>>())
        );
        assert_eq!(
            runner.until(client.handle().disconnect(), 5 * SECOND).unwrap().unwrap().unwrap().undelivered,
            0
        );
        assert!(runner.step(SECOND).unwrap().done);
        assert!(runner.step(Duration::ZERO).unwrap().done, "and it stays so");
        assert!(runner.until(std::future::pending::<()>(), SECOND).unwrap().is_none());
    });
}

#[test]
fn a_step_waits_no_longer_than_it_is_told_and_an_idle_client_does_not_spin() {
    within(20, || {
        let broker = broker();
        let (client, mut runner) = Client::with_driver(options(&broker.url(), "idle", V5)).unwrap();
        runner.until(client.handle().connected(), 5 * SECOND).unwrap().unwrap().unwrap();
        while runner.step(SECOND / 5).unwrap().deadline.is_none_or(|then| then <= Instant::now()) {}
        let begin = Instant::now();
        runner.step(Duration::ZERO).unwrap();
        assert!(begin.elapsed() < SECOND / 10);
        let (begin, mut steps) = (Instant::now(), 0);
        while begin.elapsed() < SECOND {
            runner.step(SECOND / 4).unwrap();
            steps += 1;
        }
        assert!(steps <= 8, "{steps} steps in a second in which nothing happened");
        // A handle wakes it from another thread.
        let publishing = thread::spawn(move || {
            thread::sleep(SECOND / 10);
            client.try_publish(Message::to("a", "b").unwrap()).unwrap();
            client
        });
        let begin = Instant::now();
        runner.step(10 * SECOND).unwrap();
        assert!(begin.elapsed() < 5 * SECOND);
        publishing.join().unwrap();
    });
}

#[test]
fn a_runner_that_is_dropped_ends_the_client() {
    within(20, || {
        let broker = broker();
        let (client, mut runner) = Client::with_driver(options(&broker.url(), "gone", V5)).unwrap();
        runner.until(client.handle().connected(), 5 * SECOND).unwrap().unwrap().unwrap();
        let stream = client.messages();
        let delivery = client.try_publish(message("a", "b").qos(QOS)).unwrap();
        drop(runner);
        assert!(matches!(delivery.wait(SECOND), Ok(Outcome::NotSent | Outcome::Unknown)));
        assert_eq!(stream.count(), 0);
        assert!(client.publish(message("a", "b")).is_err() && client.disconnect().is_err());
        assert!(broker.wait_until(5 * SECOND, |broker| broker.connected().count() == 0));
    });
}

#[test]
fn a_publisher_that_waits_for_room_is_told_when_nobody_drives_the_client_any_more() {
    within(20, || {
        let broker = broker();
        let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
        let options = options(&broker.url(), "room", V5).configure(|config| config.limits(limits));
        let (client, runner) = Client::with_driver(options).unwrap();
        client.try_publish(message("a", "b").qos(QOS)).unwrap();
        let waiting = thread::spawn(move || client.publish(message("a", "c").qos(QOS)).map(drop));
        thread::sleep(SECOND / 10);
        assert!(!waiting.is_finished());
        drop(runner);
        assert_eq!(waiting.join().unwrap(), Err(CommandError::Closed));
    });
}

#[test]
fn publishers_that_wait_for_room_are_told_when_there_will_be_no_connection() {
    within(20, || {
        let limits = Limits { outgoing_messages: 1, ..Limits::DEFAULT };
        let hopeless = options("mqtt://127.0.0.1:1", &"x".repeat(70_000), V5);
        let hopeless = hopeless.configure(|config| config.limits(limits));
        let (client, mut runner) = Client::with_driver(hopeless).unwrap();
        client.try_publish(message("a", "b").qos(QOS)).unwrap();
        let waiting = [(); 3].map(|()| {
            let client = client.clone();
            thread::spawn(move || client.publish(message("a", "c").qos(QOS)).map(drop))
        });
        thread::sleep(SECOND / 10);
        // The identifier cannot be written, which shows when the first CONNECT is.
        runner.step(Duration::ZERO).unwrap();
        for publisher in waiting {
            assert!(publisher.join().unwrap().unwrap_err().is_full());
        }
    });
}

#[cfg(unix)]
#[test]
fn another_event_loop_waits_for_the_descriptor() {
    use std::os::fd::AsRawFd;

    within(20, || {
        let broker = broker();
        let (client, mut runner) = Client::with_driver(options(&broker.url(), "foreign", V5)).unwrap();
        let mut foreign = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(4);
        let descriptor = runner.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        foreign.registry().register(&mut source, mio::Token(7), mio::Interest::READABLE).unwrap();
        let talking = thread::spawn(move || {
            client.connected().unwrap();
            let mut stream = client.subscribe("foreign", QOS).unwrap();
            for number in 0..100 {
                client.publish(message("foreign", &number.to_string()).qos(QOS)).unwrap();
                assert_eq!(stream.recv().unwrap().payload_lossy(), number.to_string());
            }
            client.disconnect().unwrap();
        });
        loop {
            let step = runner.step(Duration::ZERO).unwrap();
            if step.done {
                break;
            }
            let timeout = step.deadline.map(|then| then.saturating_duration_since(Instant::now()));
            foreign.poll(&mut events, timeout).unwrap();
        }
        talking.join().unwrap();
    });
}

/// How many threads of the adapter there are: their names are its own, and only one test of this binary starts any.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // One may end while it is looked at.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("mqtt-")).count()
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_left_behind() {
    use mqtt_machine_blocking::{Backoff, Config, Connector, Server};
    use std::net::{Shutdown, TcpStream};

    within(60, || {
        let broker = broker();
        let port = broker.port();
        let connector = Connector::new(move |_| {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
            Ok((reader, writer, move || drop(stream.shutdown(Shutdown::Both))))
        });
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        for round in 0..5 {
            let client = Client::connect(options(&broker.url(), "leak", V5)).unwrap();
            client.publish(message("a", "b").qos(QOS)).unwrap();
            client.disconnect().unwrap();
            drop(Client::connect(options(&format!("mqtt://localhost:{port}"), "leak", V5)).unwrap());
            let own = support::quick(Config::new(Server::new("own")), "own");
            let own = Client::connect_with(own, connector.clone()).unwrap();
            broker.cut("own");
            own.publish(message("a", "b").qos(QOS)).unwrap().wait(10 * SECOND).unwrap();
            if round % 2 == 0 {
                own.disconnect().unwrap();
            }
            drop(own);
            let never = |url: &str| options(url, "x", V5).configure(|config| config.backoff(Backoff::NEVER));
            Client::connect(never(&format!("mqtt://{closed}"))).unwrap_err();
            drop(Client::start(never("mqtt://no-such-name.invalid")).unwrap());
        }
        let begin = Instant::now();
        while threads() > 0 {
            assert!(begin.elapsed() < 30 * SECOND, "{} threads are left", threads());
            thread::sleep(Duration::from_millis(20));
        }
    });
}
