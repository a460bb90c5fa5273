//! Owns an open socket of whatever kind, and how one of the user's own is opened. It must not know what its bytes mean.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Async;
use bytes::BytesMut;
use futures_io::{AsyncRead, AsyncWrite};
use mqtt_machine_client::{connector, read_behind};

/// A stream of the user's own.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open socket of an adapter over `futures-io`.
pub struct Socket(Kind);

enum Kind {
    Tcp(Async<TcpStream>),
    #[cfg(unix)]
    Unix(Async<UnixStream>),
    Own(Box<dyn Stream>),
}

impl Socket {
    pub(crate) const fn tcp(stream: Async<TcpStream>) -> Self {
        Self(Kind::Tcp(stream))
    }

    #[cfg(unix)]
    pub(crate) const fn unix(stream: Async<UnixStream>) -> Self {
        Self(Kind::Unix(stream))
    }

    fn own(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Kind::Own(Box::new(stream)))
    }

    fn stream(&mut self) -> Pin<&mut (dyn Stream + 'static)> {
        match &mut self.0 {
            Kind::Tcp(stream) => Pin::new(stream),
            #[cfg(unix)]
            Kind::Unix(stream) => Pin::new(stream),
            Kind::Own(stream) => Pin::new(&mut **stream),
        }
    }

    /// Reads behind the end of `input`, into the room that is there.
    pub(crate) fn poll_read(
        &mut self,
        input: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream();
        read_behind(input, |room| stream.as_mut().poll_read(context, room))
    }

    pub(crate) fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    /// To the sockets of the system this is nothing; others may keep bytes back.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_close(context)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket(..)")
    }
}

connector! {
    /// How a transport of your own is opened: a serial line, a pipe within the process; anything that is [`AsyncRead`] and
    /// [`AsyncWrite`] of `futures-io`. It is asked again for every reconnect.
    ///
    /// The server's name may be anything. With a URL whose scheme says so, TLS and WebSocket lie on it.
    stream: AsyncRead + AsyncWrite,
    socket: Socket,
    own: Socket::own,
}
