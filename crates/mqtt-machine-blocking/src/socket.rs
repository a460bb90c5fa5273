//! Owns an open socket of whatever kind, to be read and written without waiting. It must not know what its bytes mean.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mqtt_machine_client::{Driver, Received};

use crate::halves::Halves;
use crate::network::now;

/// How much is read at once: little, and more when there is more.
const READ: [usize; 2] = [4 << 10, 64 << 10];

/// An open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    kind: Kind,
    /// Whether there may be something to read, or room to write to: told by an event, and over when the system says that it would
    /// block.
    readable: bool,
    writable: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Own(Halves),
}

impl Socket {
    pub(crate) const fn tcp(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(stream), readable: true, writable: true }
    }

    #[cfg(unix)]
    pub(crate) const fn unix(stream: UnixStream) -> Self {
        Self { kind: Kind::Unix(stream), readable: true, writable: true }
    }

    pub(crate) const fn own(halves: Halves) -> Self {
        Self { kind: Kind::Own(halves), readable: true, writable: true }
    }

    /// Something has happened to it.
    pub(crate) const fn stir(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    /// Reads once behind the end of `input`, at most `capacity` bytes. `scratch` is memory to read to.
    pub(crate) fn read(
        &mut self,
        input: &mut BytesMut,
        capacity: usize,
        scratch: &mut Vec<u8>,
    ) -> io::Result<Received> {
        if capacity == 0 || !self.readable {
            return Ok(Received::Nothing);
        }
        let length = match &mut self.kind {
            Kind::Tcp(stream) => read(stream, input, capacity, scratch),
            #[cfg(unix)]
            Kind::Unix(stream) => read(stream, input, capacity, scratch),
            // They wake the driver by themselves.
            Kind::Own(halves) => {
                return Ok(match halves.read(input, capacity)? {
                    Poll::Pending => Received::Nothing,
                    Poll::Ready(0) => Received::End,
                    Poll::Ready(_) => Received::Some,
                });
            }
        };
        self.readable = length.is_ready();
        match length? {
            Poll::Pending => Ok(Received::Nothing),
            Poll::Ready(0) => Ok(Received::End),
            Poll::Ready(_) => Ok(Received::Some),
        }
    }

    /// Writes the driver's output until either has had enough. True when anything left.
    pub(crate) fn write(&mut self, driver: &mut Driver) -> io::Result<bool> {
        driver.write_by(|slices| self.write_some(slices))
    }

    fn write_some(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        let written = match &mut self.kind {
            Kind::Tcp(stream) => now(|| stream.write_vectored(slices)),
            #[cfg(unix)]
            Kind::Unix(stream) => now(|| stream.write_vectored(slices)),
            Kind::Own(halves) => return halves.write(slices),
        };
        self.writable = written.is_ready();
        written
    }

    /// Says goodbye: these are calls that never wait, and what was written still arrives.
    pub(crate) fn close(mut self, mut farewell: impl Buf) {
        if let Kind::Own(halves) = self.kind {
            return halves.close(farewell.copy_to_bytes(farewell.remaining()));
        }
        while farewell.has_remaining() {
            match self.write_some(&[IoSlice::new(farewell.chunk())]) {
                Poll::Ready(Ok(count)) if count > 0 => farewell.advance(count),
                _ => break,
            }
        }
        // The peer may have closed it already.
        let _ = match &self.kind {
            Kind::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Kind::Unix(stream) => stream.shutdown(Shutdown::Write),
            Kind::Own(_) => Ok(()),
        };
    }
}

fn read(
    stream: &mut impl Read,
    input: &mut BytesMut,
    capacity: usize,
    scratch: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let [least, most] = READ;
    if scratch.is_empty() {
        scratch.resize(least, 0);
    }
    let size = scratch.len();
    let room = scratch.get_mut(..capacity.min(size)).unwrap_or_default();
    let length = now(|| stream.read(room));
    if let Poll::Ready(Ok(length)) = length {
        input.extend_from_slice(room.get(..length).unwrap_or_default());
        if length == size {
            scratch.resize(size.saturating_mul(2).min(most), 0);
        }
    }
    length
}
