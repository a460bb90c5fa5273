//! Owns an open socket of whatever kind, and how one of the user's own is opened. It must not know what its bytes mean.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use mqtt_machine_client::connector;
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
    fn own(stream: impl Stream + 'static) -> Self {
        Self::Own(Box::new(stream))
    }

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

connector! {
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
    stream: AsyncRead + AsyncWrite,
    socket: Socket,
    own: Socket::own,
}
