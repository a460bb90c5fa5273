//! Owns the model broker on a loopback TCP port: threads that move bytes and time between sockets and the pure broker.
//! It must not know MQTT.
//!
//! Each connection has a thread that reads and one that writes; one thread accepts, one waits for the broker's deadline. All
//! share the broker behind one lock, and no socket is read or written under it. Dropping the [`Broker`] ends them all.
//!
//! ```no_run
//! use mqtt_machine_testkit::broker::BrokerConfig;
//! use mqtt_machine_testkit::tcp::Broker;
//!
//! let broker = Broker::start(BrokerConfig::new())?;
//! println!("connect to {}", broker.url());
//! # Ok::<(), std::io::Error>(())
//! ```

mod diary;

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time;

use mqtt_machine::Instant;

use crate::broker::{self, BrokerConfig, ConnId};

use diary::{Diary, Done};

/// How long one write to a client that reads nothing may take before its connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes of one read.
const READ: usize = 64 << 10;
/// The stack of a thread; nothing here recurses.
const STACK: usize = 512 << 10;

/// The model broker on 127.0.0.1. It ends when it is dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the thread that waits for the broker's deadline.
    timer: Condvar,
    origin: time::Instant,
    /// The time at the origin.
    base: Instant,
}

#[derive(Debug)]
struct State {
    broker: broker::Broker,
    diary: Option<Diary>,
    links: BTreeMap<ConnId, Link>,
    next: u64,
    refuse_until: Option<time::Instant>,
    /// When the timer thread wakes by itself.
    armed: Option<Instant>,
    stop: bool,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    /// Wakes both threads of the connection.
    changed: Arc<Condvar>,
    /// The broker closed it: what is being written is the last.
    closing: bool,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound or no thread be started.
    pub fn start(config: BrokerConfig) -> io::Result<Self> {
        Self::start_on(config, 0)
    }

    /// Starts a broker on this port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// When the port cannot be bound or no thread be started.
    pub fn start_on(config: BrokerConfig, port: u16) -> io::Result<Self> {
        Self::launch(config, port, None)
    }

    /// Starts a broker on this port that goes on where an earlier process with the same configuration and file ended, however it
    /// did: all that is done to it stands in the file, and is on the disk before anything that follows from it leaves. What
    /// [`broker`](Self::broker) changes is not in it.
    ///
    /// # Errors
    /// As [`start_on`](Self::start_on), and when the file cannot be read or written.
    pub fn start_journaled(config: BrokerConfig, port: u16, path: &Path) -> io::Result<Self> {
        Self::launch(config, port, Some(path))
    }

    fn launch(config: BrokerConfig, port: u16, diary: Option<&Path>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let mut broker = broker::Broker::new(config, u64::from(address.port()));
        let (diary, base, next) = match diary {
            None => (None, Instant::ZERO, 0),
            Some(path) => {
                Diary::open(path, &mut broker).map(|(diary, last, next)| (Some(diary), last, next))?
            }
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                next,
                broker,
                diary,
                links: BTreeMap::new(),
                refuse_until: None,
                armed: None,
                stop: false,
                threads: Vec::new(),
            }),
            timer: Condvar::new(),
            origin: time::Instant::now(),
            base,
        });
        let mut broker = Self { shared: Arc::clone(&shared), address, threads: Vec::new() };
        let for_timer = Arc::clone(&shared);
        broker.threads.push(spawn("broker-timer", move || for_timer.run_timer())?);
        broker.threads.push(spawn("broker-accept", move || shared.run_acceptor(&listener))?);
        Ok(broker)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// `mqtt://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Cuts the connection of a client abruptly, whatever is on its way; false when it is not connected.
    pub fn cut(&self, client_id: &str) -> bool {
        let mut state = self.shared.lock();
        let Some(conn) = state.broker.conn_of(client_id) else { return false };
        state.sever(conn);
        self.shared.settle(&mut state);
        true
    }

    /// Cuts all connections abruptly.
    pub fn cut_all(&self) {
        let mut state = self.shared.lock();
        let conns: Vec<ConnId> = state.broker.conns().collect();
        conns.into_iter().for_each(|conn| state.sever(conn));
        self.shared.settle(&mut state);
    }

    /// For so long, connections are accepted and dropped at once. Those that are open stay.
    pub fn refuse_for(&self, duration: Duration) {
        self.shared.lock().refuse_until = time::Instant::now().checked_add(duration);
    }

    /// The pure broker, to ask it for faults or what happened. No socket moves while `look` runs.
    pub fn broker<T>(&self, look: impl FnOnce(&mut broker::Broker) -> T) -> T {
        let mut state = self.shared.lock();
        let now = self.shared.now();
        state.broker.handle_timeout(now);
        let seen = look(&mut state.broker);
        self.shared.settle(&mut state);
        seen
    }

    /// Waits until `is_true` of the broker, looking every few milliseconds; false when that takes longer than `at_most`.
    pub fn wait_until(
        &self,
        at_most: Duration,
        mut is_true: impl FnMut(&mut broker::Broker) -> bool,
    ) -> bool {
        let start = time::Instant::now();
        loop {
            if self.broker(&mut is_true) {
                return true;
            }
            if start.elapsed() >= at_most {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut threads = core::mem::take(&mut self.threads);
        {
            let mut state = self.shared.lock();
            state.stop = true;
            for link in state.links.values() {
                let _ = link.stream.shutdown(Shutdown::Both);
                link.changed.notify_all();
            }
            self.shared.timer.notify_all();
            threads.append(&mut state.threads);
        }
        // Wakes the acceptor, which then sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for thread in threads {
            let _ = thread.join();
        }
        let late = core::mem::take(&mut self.shared.lock().threads);
        for thread in late {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run)
}

impl State {
    /// Cuts a link in both directions, whatever is being written.
    fn sever(&mut self, conn: ConnId) {
        if let Some(link) = self.links.get(&conn) {
            let _ = link.stream.shutdown(Shutdown::Both);
        }
        self.broker.cut(conn);
    }

    fn note(&mut self, done: Done, at: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(diary) = &mut self.diary {
            diary.note(done, at, conn, bytes);
        }
    }

    fn is_over(&self, conn: ConnId) -> bool {
        self.stop || self.links.get(&conn).is_none_or(|link| link.closing)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.base + self.origin.elapsed()
    }

    /// After anything happened to the broker: wakes whom it concerns.
    fn settle(&self, state: &mut State) {
        while let Some(conn) = state.broker.poll_close() {
            if let Some(link) = state.links.get_mut(&conn) {
                link.closing = true;
                link.changed.notify_all();
            }
        }
        for (conn, link) in &state.links {
            if state.broker.has_output(*conn) {
                link.changed.notify_all();
            }
        }
        if let Some(deadline) = state.broker.poll_timeout()
            && state.armed.is_none_or(|armed| deadline < armed)
        {
            self.timer.notify_all();
        }
    }

    fn run_timer(&self) {
        let mut state = self.lock();
        while !state.stop {
            state.armed = state.broker.poll_timeout();
            let now = self.now();
            let wait = state.armed.map_or(Duration::from_secs(3_600), |deadline| deadline - now);
            if !wait.is_zero() {
                state = match self.timer.wait_timeout(state, wait) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            let now = self.now();
            state.note(Done::Timeout, now, ConnId::new(0), &[]);
            state.broker.handle_timeout(now);
            self.settle(&mut state);
        }
    }

    fn run_acceptor(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            let mut state = self.lock();
            if state.stop {
                return;
            }
            let Ok((stream, _)) = accepted else {
                drop(state);
                // Out of descriptors, most likely: others close some.
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            state.threads.retain(|thread| !thread.is_finished());
            if state.refuse_until.is_some_and(|until| time::Instant::now() < until) {
                continue;
            }
            // A connection that cannot be served is dropped, which closes it.
            let _ = self.serve(&mut state, stream);
        }
    }

    fn serve(self: &Arc<Self>, state: &mut State, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (reading, writing) = (stream.try_clone()?, stream.try_clone()?);
        let conn = ConnId::new(state.next);
        state.next += 1;
        let changed = Arc::new(Condvar::new());
        state.links.insert(conn, Link { stream, changed: Arc::clone(&changed), closing: false });
        let now = self.now();
        state.note(Done::Open, now, conn, &[]);
        state.broker.open(now, conn);
        self.settle(state);
        let (shared, wake) = (Arc::clone(self), Arc::clone(&changed));
        state.threads.push(spawn("broker-read", move || shared.run_reader(conn, reading, &wake))?);
        let shared = Arc::clone(self);
        state.threads.push(spawn("broker-write", move || shared.run_writer(conn, writing, &changed))?);
        Ok(())
    }

    fn run_reader(&self, conn: ConnId, mut stream: TcpStream, changed: &Condvar) {
        let mut buffer = vec![0; READ];
        loop {
            let mut state = self.lock();
            while !state.is_over(conn) && state.broker.is_congested(conn) {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over(conn) {
                return;
            }
            drop(state);
            let read = match stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.unwrap_or(0),
            };
            let mut state = self.lock();
            let now = self.now();
            if read == 0 {
                state.note(Done::Closed, now, conn, &[]);
                state.broker.closed(now, conn);
                if let Some(link) = state.links.get_mut(&conn) {
                    link.closing = true;
                    link.changed.notify_all();
                }
                self.settle(&mut state);
                return;
            }
            state.note(Done::Input, now, conn, &buffer[..read]);
            state.broker.handle_input(now, conn, &buffer[..read]);
            self.settle(&mut state);
        }
    }

    fn run_writer(&self, conn: ConnId, mut stream: TcpStream, changed: &Condvar) {
        while let Some(bytes) = self.next_output(conn, changed) {
            if stream.write_all(&bytes).is_err() {
                let mut state = self.lock();
                let now = self.now();
                state.note(Done::Closed, now, conn, &[]);
                state.broker.closed(now, conn);
                self.settle(&mut state);
                break;
            }
        }
        // Wakes the reader, and tells the client.
        let _ = stream.shutdown(Shutdown::Both);
        self.lock().links.remove(&conn);
    }

    /// Waits for bytes to write; `None` when there will be none.
    fn next_output(&self, conn: ConnId, changed: &Condvar) -> Option<bytes::Bytes> {
        let mut state = self.lock();
        loop {
            if state.is_over(conn) {
                return None;
            }
            let bytes = state.broker.poll_output(conn);
            if !bytes.is_empty() {
                state.note(Done::Output, self.now(), conn, &[]);
            }
            self.settle(&mut state);
            if !bytes.is_empty() {
                if state.diary.as_mut().is_some_and(|diary| diary.sync().is_err()) {
                    // What is not on the disk must not be said.
                    return None;
                }
                // The reader may have waited for this.
                changed.notify_all();
                return Some(bytes);
            }
            if state.is_over(conn) {
                return None;
            }
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: [u8; 15] = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a'];

    fn connect(broker: &Broker) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(&CONNECT).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        stream
    }

    #[test]
    fn a_client_connects_pings_and_is_cut() {
        let broker = Broker::start(BrokerConfig::new()).unwrap();
        let mut stream = connect(&broker);
        stream.write_all(&[0xC0, 0]).unwrap();
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(pong, [0xD0, 0]);
        assert!(broker.cut("a"));
        assert_eq!(stream.read(&mut pong).unwrap_or(0), 0);
        assert!(!broker.cut("a"));
        drop(connect(&broker));
        assert!(broker.wait_until(Duration::from_secs(5), |broker| broker.connected().count() == 0));
    }

    #[test]
    fn connections_are_dropped_while_it_refuses() {
        let broker = Broker::start(BrokerConfig::new()).unwrap();
        broker.refuse_for(Duration::from_secs(3_600));
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
        broker.refuse_for(Duration::ZERO);
        connect(&broker);
    }

    #[test]
    fn a_broker_with_a_diary_goes_on_where_the_one_before_ended() {
        let path = std::env::temp_dir().join(format!("mqtt-machine-diary-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let broker = Broker::start_journaled(BrokerConfig::new(), 0, &path).unwrap();
        let port = broker.port();
        let hello = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 1, b'a'];
        let talk = |stream: &mut TcpStream, say: &[u8], hear: &[u8]| {
            stream.write_all(say).unwrap();
            let mut heard = vec![0; hear.len()];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(heard, hear);
        };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        talk(&mut stream, &hello, &[0x20, 2, 0, 0]);
        talk(&mut stream, &[0x82, 6, 0, 1, 0, 1, b't', 1], &[0x90, 3, 0, 1, 1]);
        // A message that comes back, and that the client does not acknowledge.
        stream.write_all(&[0x32, 6, 0, 1, b't', 0, 9, b'x']).unwrap();
        stream.read_exact(&mut [0; 8 + 4]).unwrap();
        drop((stream, broker));
        // A write that a crash cut off.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&[2, 0, 0]);
        std::fs::write(&path, bytes).unwrap();
        let broker = Broker::start_journaled(BrokerConfig::new(), port, &path).unwrap();
        assert_eq!(broker.broker(|broker| broker.owed_to("a")), 1);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        talk(&mut stream, &hello, &[0x20, 2, 1, 0]);
        let mut publish = [0; 8];
        stream.read_exact(&mut publish).unwrap();
        assert_eq!((publish[0] | 8, publish[7]), (0x3A, b'x'));
        drop((stream, broker));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_large_message_comes_back_whole() {
        let broker = Broker::start(BrokerConfig::new()).unwrap();
        let mut stream = connect(&broker);
        stream.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 0]).unwrap();
        let mut suback = [0; 5];
        stream.read_exact(&mut suback).unwrap();
        assert_eq!(suback, [0x90, 3, 0, 1, 0]);
        let mut publish = vec![0x30, 0x80 | 67, 0x80 | 9, 0x80, 5, 0, 1, b't'];
        publish.resize(5 + (67 + 9 * 128 + 5 * 128 * 128 * 128), 7);
        let mut writing = stream.try_clone().unwrap();
        let sent = publish.clone();
        let writer = thread::spawn(move || writing.write_all(&sent).unwrap());
        let mut received = vec![0; publish.len()];
        stream.read_exact(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received == publish);
    }
}
