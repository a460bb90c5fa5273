//! Owns a relay between a client and what it connects to, which cuts links and counts bytes. It must not know what passes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A socket of either kind.
trait Duplex: Read + Write + Send {
    fn another(&self) -> io::Result<Box<dyn Duplex>>;
    fn end(&self, how: Shutdown);
}

impl Duplex for TcpStream {
    fn another(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self, how: Shutdown) {
        // It may have ended already.
        let _ = self.shutdown(how);
    }
}

#[cfg(unix)]
impl Duplex for UnixStream {
    fn another(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

/// One connection through the relay.
struct Link {
    near: Box<dyn Duplex>,
    far: Box<dyn Duplex>,
    down: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shared {
    links: Mutex<Vec<Link>>,
    stop: AtomicBool,
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Place {
    Tcp(u16),
    Unix(PathBuf),
}

/// Stands between clients and one server, on loopback or as a Unix socket. It ends when it is dropped.
pub struct Relay {
    place: Place,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("links", &self.shared.links().len()).finish_non_exhaustive()
    }
}

impl Relay {
    /// Relays to this port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn tcp(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Self { place: Place::Tcp(port), shared: Arc::default() };
        let shared = Arc::clone(&relay.shared);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                let _ = near.set_nodelay(true);
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let _ = far.set_nodelay(true);
                carry(&shared, Box::new(near), Box::new(far));
            }
        });
        relay
    }

    /// Relays from the new Unix socket at `from` to that at `to`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[cfg(unix)]
    pub fn unix(from: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(from).unwrap();
        let relay = Self { place: Place::Unix(from.to_owned()), shared: Arc::default() };
        let (shared, to) = (Arc::clone(&relay.shared), to.to_owned());
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if shared.stop.load(SeqCst) {
                    return;
                }
                let Ok(far) = UnixStream::connect(&to) else { continue };
                carry(&shared, Box::new(near), Box::new(far));
            }
        });
        relay
    }

    /// Its port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Tcp(port) => port,
            Place::Unix(_) => 0,
        }
    }

    /// Cuts every link, whatever is on its way.
    pub fn cut(&self) {
        for link in self.shared.links().iter() {
            link.near.end(Shutdown::Both);
            link.far.end(Shutdown::Both);
        }
    }

    /// The bytes that each link has brought to its client, the oldest first.
    pub fn brought(&self) -> Vec<usize> {
        self.shared.links().iter().map(|link| link.down.load(SeqCst)).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.cut();
        // Its listener wakes up and goes.
        match &self.place {
            Place::Tcp(port) => drop(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))),
            #[cfg(unix)]
            Place::Unix(path) => drop(UnixStream::connect(path)),
            #[cfg(not(unix))]
            Place::Unix(_) => {}
        }
    }
}

fn carry(shared: &Shared, near: Box<dyn Duplex>, far: Box<dyn Duplex>) {
    let down = Arc::new(AtomicUsize::new(0));
    let copies = || Ok::<_, io::Error>((near.another()?, near.another()?, far.another()?, far.another()?));
    let Ok((near_in, near_out, far_in, far_out)) = copies() else { return };
    let count = Arc::clone(&down);
    thread::spawn(move || pump(near_in, far_out, &AtomicUsize::new(0)));
    thread::spawn(move || pump(far_in, near_out, &count));
    shared.links().push(Link { near, far, down });
}

/// From one side to the other, until an end that is passed on.
fn pump(mut from: Box<dyn Duplex>, mut to: Box<dyn Duplex>, count: &AtomicUsize) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read, SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    to.end(Shutdown::Write);
}
