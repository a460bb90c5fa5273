//! Owns the sockets of `fuzz-broker`: one case on one connection, and the watchdog's.
//! It must not know which cases there are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant as Clock};

use mqtt_machine::Instant;
use mqtt_machine_testkit::fuzz_broker::{Case, Conversation, Verdict};

/// How long a broker that is gone may take to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// Where the broker is, and how long it may take for an answer.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) patience: Duration,
}

impl Target {
    fn connect(&self) -> io::Result<TcpStream> {
        let start = Clock::now();
        let stream = loop {
            match TcpStream::connect_timeout(&self.address, self.patience) {
                // Our own ports are used up for a while: that is not the broker's fault.
                Err(error)
                    if error.kind() == ErrorKind::AddrNotAvailable && start.elapsed() < 10 * COME_BACK =>
                {
                    sleep(Duration::from_millis(500));
                }
                other => break other?,
            }
        };
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }

    /// Whether a broker that was gone takes connections again, within a bound.
    pub(super) fn comes_back(&self) -> bool {
        let start = Clock::now();
        while start.elapsed() < COME_BACK {
            if self.connect().is_ok() {
                return true;
            }
            sleep(Duration::from_millis(100));
        }
        false
    }

    /// Carries a case on to its end.
    pub(super) fn run(&self, case: &Case) -> io::Result<Verdict> {
        let mut stream = self.connect()?;
        let origin = Clock::now();
        let now = || Instant::ZERO + origin.elapsed();
        let mut conversation = Conversation::new(case, self.patience, now());
        let mut buffer = vec![0; 64 << 10];
        let mut writable = true;
        loop {
            while let Some(bytes) = conversation.poll_output(now()) {
                // Who closed the connection is seen by reading.
                writable = writable && stream.write_all(&bytes).is_ok();
            }
            if let Some(verdict) = conversation.verdict() {
                return Ok(verdict);
            }
            let wait = conversation.poll_timeout().saturating_duration_since(now());
            stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            match stream.read(&mut buffer) {
                Ok(0) => conversation.handle_closed(),
                Ok(count) => conversation.handle_input(now(), &buffer[..count]),
                Err(error) if is_timeout(&error) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => conversation.handle_closed(),
            }
            conversation.handle_timeout(now());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A connection that does nothing wrong.
pub(super) struct Watchdog {
    stream: TcpStream,
}

impl Watchdog {
    /// Connects with this CONNECT.
    pub(super) fn start(target: &Target, connect: &[u8]) -> io::Result<Self> {
        let mut stream = target.connect()?;
        stream.set_read_timeout(Some(target.patience))?;
        stream.write_all(connect)?;
        let mut watchdog = Self { stream };
        match watchdog.packet()? {
            (0x20, body) if body.get(1) == Some(&0) => Ok(watchdog),
            _ => Err(io::Error::other("the watchdog was not accepted")),
        }
    }

    /// Whether it is answered still.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        self.stream.write_all(&[0xC0, 0])?;
        match self.packet()? {
            (0xD0, _) => Ok(()),
            (first, _) => {
                Err(io::Error::other(format!("a packet with the first byte {first:02x} came instead")))
            }
        }
    }

    /// The next packet: its first byte and what follows its length.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let mut length = 0;
        for shift in [0, 7] {
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7F) << shift;
            if byte[0] < 0x80 {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                return Ok((first, body));
            }
        }
        Err(io::Error::other("a packet that is too long for one who asked for nothing"))
    }
}

/// Whether waiting, rather than the end of the connection, made this error.
pub(super) fn is_silence(error: &io::Error) -> bool {
    is_timeout(error)
}
