//! Owns what stands before a client where the broker is too good: a relay with faults, and servers that say what is written
//! down. It must not know the client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_machine_client::{Backoff, Options, ProtocolVersion};
use socket2::SockRef;

use super::bench::{Bench, options};

/// Between two looks at sockets that have nothing.
const PAUSE: Duration = Duration::from_micros(500);
/// Between two bytes that travel alone.
const APART: Duration = Duration::from_micros(50);
/// What the relay carries at once.
const CHUNK: usize = 64 << 10;

/// What the relay is told while it runs.
#[derive(Debug, Default)]
struct Faults {
    /// Nothing is read from the client.
    hold_up: AtomicBool,
    /// Nothing is read from the server.
    hold_down: AtomicBool,
    /// How often every link was reset.
    resets: AtomicU64,
    stop: AtomicBool,
    /// Bytes given to clients.
    down: AtomicU64,
    /// Bytes taken from clients.
    up: AtomicU64,
}

/// Stands between clients and a server on 127.0.0.1. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    faults: Arc<Faults>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays to this port.
    pub(super) fn start(to: u16) -> Self {
        Self::with_chunks(to, CHUNK)
    }

    /// Relays to this port, one byte at a time.
    pub(super) fn byte_by_byte(to: u16) -> Self {
        Self::with_chunks(to, 1)
    }

    fn with_chunks(to: u16, chunk: usize) -> Self {
        let (listener, port) = listen();
        let faults = Arc::new(Faults::default());
        let threads = Arc::new(Mutex::new(Vec::new()));
        let (shared, links) = (Arc::clone(&faults), Arc::clone(&threads));
        let acceptor = thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let shared = Arc::clone(&shared);
                let link = thread::spawn(move || {
                    // A link that fails has ended, which both sides see.
                    let _ = relay(near, far, chunk, &shared);
                });
                links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
            }
        });
        Self { port, faults, threads, acceptor: Some(acceptor) }
    }

    pub(super) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Reads from clients no more, or again.
    pub(super) fn hold_up(&self, hold: bool) {
        self.faults.hold_up.store(hold, SeqCst);
    }

    /// Gives nothing more to clients, or again.
    pub(super) fn hold_down(&self, hold: bool) {
        self.faults.hold_down.store(hold, SeqCst);
    }

    /// Resets every link, in both directions.
    pub(super) fn reset(&self) {
        self.faults.resets.fetch_add(1, SeqCst);
    }

    /// How many bytes were taken from clients.
    pub(super) fn taken(&self) -> u64 {
        self.faults.up.load(SeqCst)
    }

    /// How many bytes were given to clients.
    pub(super) fn given(&self) -> u64 {
        self.faults.down.load(SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.faults.stop.store(true, SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let links = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for link in links {
            let _ = link.join();
        }
    }
}

/// One direction of a link.
struct Lane {
    buffer: Vec<u8>,
    chunk: usize,
    /// What has been read and not written.
    held: usize,
    ended: bool,
}

impl Lane {
    fn new(chunk: usize) -> Self {
        Self { buffer: vec![0; chunk], chunk, held: 0, ended: false }
    }

    /// How many bytes were read and written on.
    fn step(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<usize> {
        if self.held == 0 && !self.ended {
            match from.read(&mut self.buffer[..self.chunk]) {
                Ok(0) => {
                    self.ended = true;
                    to.shutdown(Shutdown::Write)?;
                }
                Ok(count) => self.held = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        if self.held == 0 {
            return Ok(0);
        }
        match to.write(&self.buffer[..self.held]) {
            Ok(count) => {
                self.buffer.copy_within(count..self.held, 0);
                self.held -= count;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn relay(mut near: TcpStream, mut far: TcpStream, chunk: usize, faults: &Faults) -> io::Result<()> {
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
    }
    // What waits here is little, so that whoever is not read is soon held back.
    SockRef::from(&near).set_send_buffer_size(CHUNK)?;
    let resets = faults.resets.load(SeqCst);
    let (mut up, mut down) = (Lane::new(chunk), Lane::new(chunk));
    while !faults.stop.load(SeqCst) && (!up.ended || !down.ended) {
        if faults.resets.load(SeqCst) != resets {
            for stream in [&near, &far] {
                SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            }
            return Ok(());
        }
        let mut moved = 0;
        if !faults.hold_up.load(SeqCst) {
            let count = up.step(&mut near, &mut far)?;
            faults.up.fetch_add(count as u64, SeqCst);
            moved += count;
        }
        if !faults.hold_down.load(SeqCst) {
            let count = down.step(&mut far, &mut near)?;
            faults.down.fetch_add(count as u64, SeqCst);
            moved += count;
        }
        match moved {
            0 => thread::sleep(PAUSE),
            _ if chunk == 1 => thread::sleep(APART),
            _ => {}
        }
    }
    Ok(())
}

#[track_caller]
pub(super) fn listen() -> (TcpListener, u16) {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    match bound.and_then(|listener| listener.local_addr().map(|address| (listener, address.port()))) {
        Ok(bound) => bound,
        Err(error) => panic!("no port: {error}"),
    }
}

/// A port that nobody listens on now.
#[track_caller]
pub(super) fn free_port() -> u16 {
    listen().1
}

/// The next connection, and none after the patience has ended.
pub(super) fn accept(listener: &TcpListener, patience: Duration) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < patience => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads a CONNECT, which is a short one, and answers it.
pub(super) fn greet(stream: &mut TcpStream, greeting: &[u8]) -> io::Result<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    if head[0] != 0x10 || head[1] >= 0x80 {
        return Err(io::Error::other("a short CONNECT comes first"));
    }
    stream.read_exact(&mut vec![0; usize::from(head[1])])?;
    stream.write_all(greeting)
}

/// Everything until the end, which the client makes; an error when it does not.
pub(super) fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => Ok(heard),
        // A socket that is closed with bytes unread is reset: an end too.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(heard),
        Err(error) => Err(error),
    }
}

pub(super) const fn connack(version: ProtocolVersion) -> &'static [u8] {
    match version {
        ProtocolVersion::V5 => &[0x20, 3, 0, 0, 0],
        _ => &[0x20, 2, 0, 0],
    }
}

/// A server that does what a function says with its listener.
#[derive(Debug)]
pub(super) struct Server<T> {
    pub(super) port: u16,
    thread: JoinHandle<io::Result<T>>,
    /// How many parts of a dialogue are over.
    answered: Arc<AtomicUsize>,
}

impl<T: Send + 'static> Server<T> {
    pub(super) fn start(run: impl FnOnce(&TcpListener) -> io::Result<T> + Send + 'static) -> Self {
        let (listener, port) = listen();
        Self { port, thread: thread::spawn(move || run(&listener)), answered: Arc::default() }
    }

    pub(super) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What the function gave when it came to its end.
    #[track_caller]
    pub(super) fn end(self) -> T {
        match self.thread.join() {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => panic!("the client does not do its part: {error}"),
            Err(_) => panic!("the server has panicked"),
        }
    }
}

impl Server<Vec<u8>> {
    /// A server for one connection: it answers CONNECT with `greeting`; each part of the dialogue waits for so many bytes and
    /// answers them. What it heard is everything after CONNECT up to the end that the client made.
    pub(super) fn scripted(bench: &Bench, greeting: &[u8], dialogue: Vec<(usize, &'static [u8])>) -> Self {
        let (greeting, patience) = (greeting.to_vec(), bench.patience);
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        let server = Self::start(move |listener| {
            let mut stream = accept(listener, patience)?;
            greet(&mut stream, &greeting)?;
            let mut heard = Vec::new();
            for (expected, answer) in dialogue {
                let mut part = vec![0; expected];
                stream.read_exact(&mut part)?;
                heard.extend(part);
                stream.write_all(answer)?;
                count.fetch_add(1, SeqCst);
            }
            heard.extend(read_to_end(&mut stream)?);
            Ok(heard)
        });
        Self { answered, ..server }
    }

    /// How many parts of the dialogue are over.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(SeqCst)
    }

    /// A client that tries once.
    pub(super) fn once(&self, version: ProtocolVersion) -> Options {
        options(&self.url(), "conformance", version).configure(|config| config.backoff(Backoff::NEVER))
    }
}
