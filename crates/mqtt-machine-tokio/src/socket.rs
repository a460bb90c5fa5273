//! Owns an open socket of whatever kind, and how one of the user's own is opened. It must not know what its bytes mean.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::BytesMut;
use mqtt_machine_client::{NetworkFuture, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A stream of the user's own.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Own(Box<dyn Stream>),
}

impl Socket {
    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream),
            Self::Own(stream) => Pin::new(stream),
        }
    }

    /// Reads behind the end of `input`, into the room that is there.
    pub(crate) fn poll_read(
        &mut self,
        input: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(input)).poll(context),
            #[cfg(unix)]
            Self::Unix(stream) => pin!(stream.read_buf(input)).poll(context),
            Self::Own(stream) => pin!(stream.read_buf(input)).poll(context),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            _ => self.writer().poll_write_vectored(context, slices),
        }
    }

    /// To the sockets of the system this is nothing; others may keep bytes back.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(context)
    }

    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(context)
    }
}

/// How a transport of your own is opened: a serial line, a stream of QUIC, a pipe within the process; anything that is
/// [`AsyncRead`] and [`AsyncWrite`]. It is asked again for every reconnect.
///
/// The server's name may be anything. With a URL whose scheme says so, TLS and WebSocket lie on it.
///
/// ```no_run
/// use mqtt_machine_tokio::{Client, Config, Connector, Server};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = Connector::new(|server: Server| async move { tokio::net::UnixStream::connect(server.as_str()).await });
/// let client = Client::connect_with(Config::new(Server::new("/run/broker.sock")), connector).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector(Arc<OpenOwn>);

type OpenOwn = dyn Fn(Server) -> NetworkFuture<io::Result<Socket>> + Send + Sync;

impl Connector {
    /// Opens by `open`, which is given the server whose turn it is. The machine's connect timeout bounds it: then the future
    /// is dropped.
    pub fn new<F, S>(open: impl Fn(Server) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |server| {
            let opening = open(server);
            Box::pin(async move { Ok(Socket::Own(Box::new(opening.await?))) })
        }))
    }

    /// A stream that is open already. There is no other one: further attempts fail, so [`Backoff::NEVER`] goes well with it.
    ///
    /// [`Backoff::NEVER`]: mqtt_machine_client::Backoff::NEVER
    pub fn once(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let stream = Mutex::new(Some(stream));
        Self::new(move |_| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let used = || io::Error::new(io::ErrorKind::NotConnected, "the stream was used before");
                stream.ok_or_else(used)
            }
        })
    }

    pub(crate) fn open(&self, server: Server) -> NetworkFuture<io::Result<Socket>> {
        (self.0)(server)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector(..)")
    }
}
