//! Owns the proof that any pair of halves will do, also such that stall, fail or panic. It must not know sockets beyond that.
#![cfg(unix)]

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_blocking::{
    Backoff, Client, ClientEvent, Config, ConnectError, Connector, Disconnect, EndReason, Limits, Outcome,
    QoS, Server,
};
use mqtt_machine_testkit::tcp::Broker;
use support::{SECOND, broker, message, quick, within};

const QOS: QoS = QoS::ExactlyOnce;

fn config(client_id: &str) -> Config {
    quick(Config::new(Server::new("a pipe")), client_id)
}

/// Halves to the broker, through a pair of sockets and two threads that copy.
fn piped(port: u16) -> io::Result<(UnixStream, UnixStream, impl FnOnce() + Send)> {
    let (near, far) = UnixStream::pair()?;
    let broker = TcpStream::connect(("127.0.0.1", port))?;
    let (mut up_from, mut up_to) = (far.try_clone()?, broker.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(Shutdown::Write);
    });
    let (mut down_from, mut down_to) = (broker, far);
    thread::spawn(move || {
        let _ = io::copy(&mut down_from, &mut down_to);
        let _ = down_to.shutdown(Shutdown::Both);
    });
    let (reader, writer) = (near.try_clone()?, near.try_clone()?);
    Ok((reader, writer, move || drop(near.shutdown(Shutdown::Both))))
}

fn to(broker: &Broker) -> Connector {
    let port = broker.port();
    Connector::new(move |_| piped(port))
}

#[test]
fn messages_pass_through_a_pair_of_halves_across_cuts() {
    within(60, || {
        let broker = broker();
        let client = Client::connect_with(config("piped"), to(&broker)).unwrap();
        let mut stream = client.subscribe("piped", QOS).unwrap();
        let mut deliveries = Vec::new();
        for number in 0..100 {
            if number % 40 == 20 {
                broker.cut("piped");
            }
            deliveries.push(client.publish(message("piped", &number.to_string()).qos(QOS)).unwrap());
        }
        for delivery in deliveries {
            assert!(matches!(delivery.wait(20 * SECOND), Ok(Outcome::Acknowledged(_))));
        }
        for number in 0..100 {
            assert_eq!(stream.recv().unwrap().payload_lossy(), number.to_string());
        }
        let large = "x".repeat(1 << 20);
        client.publish(message("piped", &large).qos(QOS)).unwrap();
        assert!(stream.recv().unwrap().payload_lossy() == large);
        assert_eq!(client.disconnect().unwrap().undelivered, 0);
        assert!(broker.wait_until(5 * SECOND, |broker| broker.connected().count() == 0));
        assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
    });
}

#[test]
fn halves_that_were_used_are_not_used_again() {
    within(20, || {
        let broker = broker();
        let (reader, writer, shutdown) = piped(broker.port()).unwrap();
        let options = config("once").backoff(Backoff::NEVER);
        let client = Client::connect_with(options, Connector::once(reader, writer, shutdown)).unwrap();
        let mut events = client.events();
        client.reconnect().unwrap();
        loop {
            match events.recv().unwrap() {
                ClientEvent::ConnectFailed { reason, .. } => {
                    break assert!(reason.to_string().contains("used before"), "{reason}");
                }
                ClientEvent::Disconnected { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        client.disconnect().unwrap();
    });
}

/// A valve in front of a half.
#[derive(Default)]
struct Valve {
    shut: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Valve {
    fn shut(&self, shut: bool) {
        self.shut.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.shut.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Waits until it is open, or fails when it has ended.
    fn pass(&self) -> io::Result<()> {
        let shut = self.changed.wait_while(self.shut.lock().unwrap(), |(shut, ended)| *shut && !*ended);
        if shut.unwrap().1 { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

struct Through<T>(T, Arc<Valve>);

impl<T: Write> Write for Through<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.pass()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Halves whose writer stalls at each shut valve; the newest valve is the last.
fn stalling(broker: &Broker) -> (Connector, Arc<Mutex<Vec<Arc<Valve>>>>) {
    let valves = Arc::new(Mutex::new(Vec::new()));
    let (made, port) = (Arc::clone(&valves), broker.port());
    let connector = Connector::new(move |_| {
        let valve = Arc::new(Valve::default());
        made.lock().unwrap().push(Arc::clone(&valve));
        let (reader, writer, shutdown) = piped(port)?;
        let ended = Arc::clone(&valve);
        Ok((reader, Through(writer, valve), move || {
            ended.end();
            shutdown();
        }))
    });
    (connector, valves)
}

#[test]
fn a_stuck_write_stops_neither_reads_nor_the_disconnect() {
    within(30, || {
        let broker = broker();
        let (connector, valves) = stalling(&broker);
        let client = Client::connect_with(config("stuck"), connector).unwrap();
        let mut stream = client.subscribe("stuck", QoS::AtMostOnce).unwrap();
        valves.lock().unwrap()[0].shut(true);
        let stuck = client.publish(message("elsewhere", "x").qos(QOS)).unwrap();
        let stuck = stuck.wait(SECOND / 10).unwrap_err();
        let other = Client::connect(support::options(&broker.url(), "other", support::VERSIONS[1])).unwrap();
        other.publish(message("stuck", "it is read")).unwrap();
        assert_eq!(stream.recv().unwrap().payload_lossy(), "it is read");
        let begin = Instant::now();
        assert_eq!(client.disconnect_with(Disconnect::new(SECOND / 2)).unwrap().undelivered, 1);
        assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
        assert!(matches!(stuck.wait(SECOND), Ok(Outcome::Unknown | Outcome::NotSent)));
    });
}

#[test]
fn a_stuck_write_does_not_stop_keep_alive() {
    within(60, || {
        let broker = broker();
        let (connector, valves) = stalling(&broker);
        let options = config("dead").keep_alive(SECOND);
        let client = Client::connect_with(options, connector).unwrap();
        let mut events = client.events();
        valves.lock().unwrap()[0].shut(true);
        let delivery = client.publish(message("elsewhere", "x").qos(QOS)).unwrap();
        // Nothing comes back, since nothing leaves; the next transport is a good one.
        let Some(ClientEvent::Disconnected { .. }) = events.recv() else { panic!("the link is dead") };
        assert!(matches!(delivery.wait(20 * SECOND), Ok(Outcome::Acknowledged(_))));
        assert!(valves.lock().unwrap().len() >= 2);
        client.disconnect().unwrap();
    });
}

/// Counts what is read.
struct Counting<T>(T, Arc<AtomicUsize>);

impl<T: Read> Read for Counting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.fetch_add(length, Ordering::Relaxed);
        Ok(length)
    }
}

#[test]
fn no_more_is_read_than_the_machine_takes() {
    within(30, || {
        let broker = broker();
        let (counted, port) = (Arc::new(AtomicUsize::new(0)), broker.port());
        let count = Arc::clone(&counted);
        let connector = Connector::new(move |_| {
            let (reader, writer, shutdown) = piped(port)?;
            Ok((Counting(reader, Arc::clone(&count)), writer, shutdown))
        });
        let limits = Limits { incoming_bytes: 10_000, ..Limits::DEFAULT };
        let client = Client::connect_with(config("slow").limits(limits), connector).unwrap();
        let mut stream = client.subscribe("slow", QoS::AtLeastOnce).unwrap();
        let flood = Client::connect(support::options(&broker.url(), "flood", support::VERSIONS[1])).unwrap();
        let payload = "x".repeat(1_000);
        for _ in 0..200 {
            flood.publish(message("slow", &payload).qos(QoS::AtLeastOnce)).unwrap();
        }
        assert_eq!(flood.disconnect().unwrap().undelivered, 0);
        let mut before = usize::MAX;
        while before != counted.load(Ordering::Relaxed) {
            before = counted.load(Ordering::Relaxed);
            thread::sleep(SECOND / 5);
        }
        assert!((5_000..40_000).contains(&before), "{before} bytes were read though nobody takes messages");
        for _ in 0..200 {
            assert_eq!(stream.recv().unwrap().payload_lossy(), payload);
        }
        client.disconnect().unwrap();
    });
}

#[test]
fn halves_that_fail_panic_or_pause_are_no_news_to_the_driver() {
    /// Says that there is nothing, every other time; reads and writes one byte.
    struct Hesitant<T>(T, bool);

    impl<T> Hesitant<T> {
        fn hesitates(&mut self) -> io::Result<()> {
            self.1 = !self.1;
            if self.1 { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
        }
    }

    impl<T: Read> Read for Hesitant<T> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.hesitates()?;
            self.0.read(&mut buffer[..1])
        }
    }

    impl<T: Write> Write for Hesitant<T> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.hesitates()?;
            self.0.write(&bytes[..1])
        }

        fn flush(&mut self) -> io::Result<()> {
            self.hesitates()?;
            self.0.flush()
        }
    }

    struct Panicking;

    impl Read for Panicking {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("on purpose")
        }
    }

    within(60, || {
        let broker = broker();
        let (attempts, port) = (AtomicUsize::new(0), broker.port());
        let connector = Connector::new(move |_| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            assert!(attempt != 0, "on purpose");
            let (reader, writer, shutdown) = piped(port)?;
            let reader: Box<dyn Read + Send> =
                if attempt == 1 { Box::new(Panicking) } else { Box::new(Hesitant(reader, false)) };
            Ok((reader, Hesitant(writer, false), shutdown))
        });
        let client = Client::start_with(config("hesitant"), connector).unwrap();
        let mut events = client.events();
        client.connected().unwrap();
        let mut why = String::new();
        while let Some(ClientEvent::ConnectFailed { reason, .. } | ClientEvent::Disconnected { reason, .. }) =
            events.recv()
        {
            why += &reason.to_string();
        }
        assert!(
            why.contains("the thread that did it has panicked") && why.contains("reader has panicked"),
            "{why}"
        );
        let mut stream = client.subscribe("hesitant", QOS).unwrap();
        let delivery = client.publish(message("hesitant", "x").qos(QOS)).unwrap();
        assert!(matches!(delivery.wait(20 * SECOND), Ok(Outcome::Acknowledged(_))));
        assert_eq!(stream.recv().unwrap().payload_lossy(), "x");
        client.disconnect().unwrap();
    });
}

#[test]
fn a_transport_that_never_closes_is_not_opened_again() {
    within(30, || {
        let broker = broker();
        let (opened, port) = (Arc::new(AtomicUsize::new(0)), broker.port());
        let free = Arc::new(AtomicBool::new(false));
        let (count, gate) = (Arc::clone(&opened), Arc::clone(&free));
        let connector = Connector::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let (reader, writer, shutdown) = piped(port)?;
            let gate = Arc::clone(&gate);
            Ok((reader, writer, move || {
                shutdown();
                while !gate.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
            }))
        });
        let options = config("held").connect_timeout(SECOND / 4);
        let client = Client::connect_with(options, connector).unwrap();
        let mut events = client.events();
        broker.cut("held");
        let mut failures = 0;
        while failures < 3 {
            if let Some(ClientEvent::ConnectFailed { reason, .. }) = events.recv() {
                assert!(matches!(reason, EndReason::ConnectTimeout), "{reason}");
                failures += 1;
            }
        }
        assert_eq!(opened.load(Ordering::Relaxed), 1);
        free.store(true, Ordering::Relaxed);
        client.connected().unwrap();
        assert_eq!(opened.load(Ordering::Relaxed), 2);
        client.disconnect().unwrap();
    });
}

#[test]
fn what_is_opened_too_late_is_shut_down_again() {
    within(20, || {
        let shut = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&shut);
        let connector = Connector::new(move |_| {
            thread::sleep(SECOND);
            let (near, far) = UnixStream::pair()?;
            let told = Arc::clone(&told);
            Ok((near, far, move || told.store(true, Ordering::Relaxed)))
        });
        let options = config("late").connect_timeout(SECOND / 4).backoff(Backoff::NEVER);
        let begin = Instant::now();
        let error = Client::connect_with(options, connector).unwrap_err();
        assert!(matches!(error, ConnectError::GaveUp(EndReason::ConnectTimeout)), "{error:?}");
        assert!(begin.elapsed() < SECOND);
        while !shut.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    });
}
