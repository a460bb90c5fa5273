//! Owns the limit: a socket, packets made beforehand, and the least that finds where packets end.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Direction, Job, Meter, Used};
use crate::broker::{frame, publication};
use crate::{Failure, TOPIC};

const BUFFER: usize = 64 << 10;

struct Socket<S> {
    stream: S,
    buffer: Vec<u8>,
    filled: usize,
}

impl<S: Read + Write> Socket<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !bytes.is_empty() {
            self.stream.write_all(bytes)?;
            self.stream.flush()?;
        }
        Ok(())
    }

    /// Reads once and hands every packet that is whole to `take`.
    fn read(&mut self, mut take: impl FnMut(u8, &[u8])) -> Result<(), Failure> {
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        if count == 0 {
            return Err("the broker has closed".into());
        }
        self.filled += count;
        let mut at = 0;
        while let Some((head, length)) = frame(&self.buffer[at..self.filled]) {
            take(self.buffer[at], &self.buffer[at + head..at + head + length]);
            at += head + length;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    run_over(stream, job)
}

/// The same over any stream of bytes.
pub fn run_over(stream: impl Read + Write, job: Job) -> Result<Used, Failure> {
    let mut socket = connect(stream, *b"bench")?;
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish => publish(&mut socket, TOPIC, job)?,
        Direction::Receive => receive(&mut socket, job)?,
    }
    let used = meter.stop()?;
    socket.write(&[0xe0, 0])?;
    Ok(used)
}

/// Publishes what another client is to receive.
pub fn feed(job: Job, topic: &str) -> Result<(), Failure> {
    let stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    let mut socket = connect(stream, *b"feeds")?;
    publish(&mut socket, topic, job)?;
    socket.write(&[0xe0, 0])
}

fn connect<S: Read + Write>(stream: S, id: [u8; 5]) -> Result<Socket<S>, Failure> {
    let mut socket = Socket { stream, buffer: vec![0; BUFFER], filled: 0 };
    let mut connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05".to_vec();
    connect.extend_from_slice(&id);
    socket.write(&connect)?;
    socket.read(|_, _| ())?;
    Ok(socket)
}

fn publish(socket: &mut Socket<impl Read + Write>, topic: &str, job: Job) -> Result<(), Failure> {
    let mut out = Vec::new();
    let qos = job.case.qos;
    let batch = if qos == 0 { (BUFFER / 100) as u64 } else { job.case.window().into() };
    let mut left = job.count;
    while left > 0 {
        let now = left.min(batch);
        out.clear();
        for id in 1..=now {
            publication(topic, qos, id as u16, false, &mut out);
        }
        socket.write(&out)?;
        let mut open = if qos == 0 { 0 } else { now };
        while open > 0 {
            out.clear();
            socket.read(|first, body| match first >> 4 {
                5 => out.extend_from_slice(&[0x62, 2, body[0], body[1]]),
                _ => open -= 1,
            })?;
            socket.write(&out)?;
        }
        left -= now;
    }
    Ok(())
}

fn receive(socket: &mut Socket<impl Read + Write>, job: Job) -> Result<(), Failure> {
    let filter = job.case.blast(job.count);
    let mut out = vec![0x82, (5 + filter.len()) as u8, 0, 1, 0, filter.len() as u8];
    out.extend_from_slice(filter.as_bytes());
    out.push(job.case.qos);
    socket.write(&out)?;
    let mut open = job.count;
    while open > 0 {
        out.clear();
        socket.read(|first, body| match first >> 4 {
            3 => {
                open -= 1;
                let answer = match job.case.qos {
                    0 => return,
                    1 => 0x40,
                    _ => 0x50,
                };
                let at = 2 + filter.len();
                out.extend_from_slice(&[answer, 2, body[at], body[at + 1]]);
            }
            6 => out.extend_from_slice(&[0x70, 2, body[0], body[1]]),
            _ => {}
        })?;
        socket.write(&out)?;
    }
    Ok(())
}
