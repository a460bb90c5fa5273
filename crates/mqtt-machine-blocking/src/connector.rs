//! Owns how a transport of the user's own is opened: any pair of halves. It must not know what their bytes mean.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use mqtt_machine_client::threads::{Gate, Halves, Pair};
use mqtt_machine_client::{NetworkFuture, Server};

/// How a transport of your own is opened: a serial line, a pipe, a tunnel; anything that has a half to [`Read`], a half to [`Write`]
/// and a closure that shuts both down. It is asked again for every reconnect.
///
/// Each half is moved to a thread of its own, and may block there for as long as it likes. No more is read than the client takes,
/// and at most 16 KiB are handed to the writer at once; a half that fails with [`WouldBlock`](io::ErrorKind::WouldBlock) or
/// [`TimedOut`](io::ErrorKind::TimedOut) is tried again after a moment.
///
/// The closure is called once, on a thread of its own, and must make both halves return: as the system's shutdown does for a
/// socket, or a read timeout together with a flag. Until both have returned the transport is not opened again, so a line that only one
/// may hold at a time is free when its turn comes, and nothing piles up when it is not.
///
/// The server's name may be anything. With a URL whose scheme says so, TLS and WebSocket lie on it.
///
/// ```no_run
/// # #[cfg(unix)] {
/// use std::net::Shutdown;
/// use std::os::unix::net::UnixStream;
/// use mqtt_machine_blocking::{Client, Config, Connector, Server};
///
/// let connector = Connector::new(|server: Server| {
///     let stream = UnixStream::connect(server.as_str())?;
///     let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
///     Ok((reader, writer, move || drop(stream.shutdown(Shutdown::Both))))
/// });
/// let client = Client::connect_with(Config::new(Server::new("/run/broker.sock")), connector)?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connector(Arc<OpenOwn>);

type OpenOwn = dyn Fn(Server) -> io::Result<Pair> + Send + Sync;

impl Connector {
    /// Opens by `open`, which is given the server whose turn it is and called on a thread of its own. The machine's connect timeout
    /// bounds it: what is opened later is shut down again.
    pub fn new<R, W, S>(open: impl Fn(Server) -> io::Result<(R, W, S)> + Send + Sync + 'static) -> Self
    where
        R: Read + Send + 'static,
        W: Write + Send + 'static,
        S: FnOnce() + Send + 'static,
    {
        Self(Arc::new(move |server| {
            let (reader, writer, shutdown) = open(server)?;
            Ok(Pair::new(reader, writer, shutdown))
        }))
    }

    /// Halves that are open already. There are no other ones: further attempts fail, so [`Backoff::NEVER`] goes well with it.
    ///
    /// [`Backoff::NEVER`]: mqtt_machine_client::Backoff::NEVER
    pub fn once(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        shutdown: impl FnOnce() + Send + 'static,
    ) -> Self {
        let halves = Mutex::new(Some((reader, writer, shutdown)));
        Self::new(move |_| {
            let halves = halves.lock().unwrap_or_else(PoisonError::into_inner).take();
            halves.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the halves were used before"))
        })
    }

    /// Opens when the last transport has gone through `gate`.
    pub(crate) fn open(&self, server: Server, gate: &Arc<Gate>) -> NetworkFuture<io::Result<Halves>> {
        let open = Arc::clone(&self.0);
        gate.open(move || open(server))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector(..)")
    }
}
