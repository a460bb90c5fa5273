//! Owns an open socket of whatever kind, to be read and written without waiting. It must not know what its bytes mean.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::task::{Context, Poll};

use bytes::BytesMut;
use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mqtt_machine_client::read_behind;
use mqtt_machine_client::threads::Halves;

use crate::network::Threads;

/// A socket of the system's.
pub(crate) trait Stream: Read + Write + Source + Send + Sync + 'static {
    /// Whether a connect has come to its end, and how: it would block when not.
    fn connected(&self) -> io::Result<()>;

    /// Ends this direction. What was written still arrives.
    fn end(&self) -> io::Result<()>;
}

macro_rules! stream {
    ($type:ty) => {
        impl Stream for $type {
            fn connected(&self) -> io::Result<()> {
                if let Some(error) = self.take_error()? {
                    return Err(error);
                }
                match self.peer_addr() {
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        Err(ErrorKind::WouldBlock.into())
                    }
                    peer => peer.map(drop),
                }
            }

            fn end(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Write)
            }
        }
    };
}

stream!(TcpStream);
#[cfg(unix)]
stream!(UnixStream);

/// A read that did not fill its room need not be followed by one that blocks.
const SHORT_IS_LAST: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// An open socket.
pub(crate) enum Socket {
    System {
        stream: Box<dyn Stream>,
        threads: Threads,
        reads: Blocked,
        writes: Blocked,
        /// A read has blocked, so that whatever has come since is news.
        drained: bool,
    },
    /// It wakes the loop by itself.
    Own(Halves),
}

/// That the system has said that it would block, and how often something had happened to a socket by then.
#[derive(Default)]
pub(crate) struct Blocked(Option<u64>);

impl Blocked {
    /// Tries, unless it would block for sure.
    fn unless<T>(
        &mut self,
        threads: &Threads,
        attempt: impl FnOnce() -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let news = Some(threads.news());
        if self.0 == news {
            return Poll::Pending;
        }
        let result = attempt();
        if result.is_pending() {
            self.0 = news;
        }
        result
    }
}

impl Socket {
    pub(crate) fn system(stream: impl Stream, threads: Threads) -> Self {
        threads.begin();
        Self::System {
            stream: Box::new(stream),
            threads,
            reads: Blocked::default(),
            writes: Blocked::default(),
            drained: false,
        }
    }

    pub(crate) const fn own(halves: Halves) -> Self {
        Self::Own(halves)
    }

    /// Reads behind the end of `input`, into the room that is there.
    pub(crate) fn poll_read(
        &mut self,
        input: &mut BytesMut,
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::System { stream, threads, reads, drained, .. } => {
                let (news, mut room) = (threads.news(), 0);
                let result = reads.unless(threads, || {
                    read_behind(input, |offered| {
                        room = offered.len();
                        now(|| stream.read(offered))
                    })
                });
                match result {
                    Poll::Pending => *drained = true,
                    // As epoll(7) has it, the next byte is news; an end that came with these would be none.
                    Poll::Ready(Ok(count @ 1..)) if count < room => {
                        if SHORT_IS_LAST && *drained && !threads.has_ended() {
                            reads.0 = Some(news);
                        }
                    }
                    Poll::Ready(_) => {}
                }
                result
            }
            Self::Own(halves) => halves.poll_read(input, context),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::System { stream, threads, writes, .. } => {
                writes.unless(threads, || now(|| stream.write_vectored(slices)))
            }
            Self::Own(halves) => halves.poll_write(slices, context),
        }
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        match self {
            Self::System { stream, .. } => stream.end(),
            Self::Own(halves) => {
                halves.close();
                Ok(())
            }
        }
    }
}

/// The result of what does not block, `Pending` where it would.
pub(crate) fn now<T>(mut attempt: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        return match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        };
    }
}
