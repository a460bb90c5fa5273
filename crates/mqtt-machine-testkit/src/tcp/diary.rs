//! Owns the diary of a broker that survives its process: everything that was done to it, so that it can be done again. It must not
//! know sockets.
//!
//! The model broker is a pure state machine, so what was done to it, with the times, is all there is to it. An entry is `u8` what,
//! `u64` when in microseconds, `u64` to which connection, `u32` a length and that many bytes, integers big-endian. An entry that a
//! crash cut off at the end was not acted upon, and is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use mqtt_machine::Instant;

use crate::broker::{Broker, ConnId};

const HEAD: usize = 21;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Open = 1,
    Input = 2,
    Closed = 3,
    Timeout = 4,
    Output = 5,
}

/// A file to which every call is appended, and synced before anything that follows from it leaves.
#[derive(Debug)]
pub(super) struct Diary {
    file: File,
    entries: Vec<u8>,
}

impl Diary {
    /// Opens the diary at `path`, and does to `broker` again what stands in it. Returns the time of the last entry, and the number of
    /// the next connection.
    pub(super) fn open(path: &Path, broker: &mut Broker) -> io::Result<(Self, Instant, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let (mut last, mut conns) = (Instant::ZERO, Vec::new());
        while let Some((entry, behind)) = split(rest) {
            rest = behind;
            last = entry.at;
            entry.again(broker, &mut conns);
        }
        file.set_len((bytes.len() - rest.len()) as u64)?;
        let next = conns.last().map_or(0, |conn: &ConnId| conn.to_u64() + 1);
        // Its connections went with the process.
        for conn in conns {
            broker.closed(last, conn);
        }
        while broker.poll_close().is_some() {}
        Ok((Self { file, entries: Vec::new() }, last, next))
    }

    pub(super) fn note(&mut self, done: Done, at: Instant, conn: ConnId, bytes: &[u8]) {
        self.entries.push(done as u8);
        self.entries.extend_from_slice(&at.as_micros().to_be_bytes());
        self.entries.extend_from_slice(&conn.to_u64().to_be_bytes());
        self.entries.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.entries.extend_from_slice(bytes);
    }

    /// Everything that was noted is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.entries.is_empty() {
            self.file.write_all(&self.entries)?;
            self.entries.clear();
            self.file.sync_data()?;
        }
        Ok(())
    }
}

struct Entry<'a> {
    done: u8,
    at: Instant,
    conn: ConnId,
    bytes: &'a [u8],
}

fn split(input: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = input.split_first_chunk::<HEAD>()?;
    let number = |from: usize| head[from..from + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let length = head[17..].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let (bytes, rest) = rest.split_at_checked(length)?;
    let entry =
        Entry { done: head[0], at: Instant::from_micros(number(1)), conn: ConnId::new(number(9)), bytes };
    Some((entry, rest))
}

impl Entry<'_> {
    fn again(&self, broker: &mut Broker, conns: &mut Vec<ConnId>) {
        match self.done {
            done if done == Done::Open as u8 => {
                broker.open(self.at, self.conn);
                conns.push(self.conn);
            }
            done if done == Done::Input as u8 => broker.handle_input(self.at, self.conn, self.bytes),
            done if done == Done::Closed as u8 => broker.closed(self.at, self.conn),
            done if done == Done::Output as u8 => drop(broker.poll_output(self.conn)),
            _ => broker.handle_timeout(self.at),
        }
        while broker.poll_close().is_some() {}
    }
}
