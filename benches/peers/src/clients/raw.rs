//! Owns the limit: a socket, packets made beforehand, and the least that finds where packets end.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Direction, Job, Meter, Used};
use crate::broker::{frame, publication};
use crate::{Failure, TOPIC};

const BUFFER: usize = 64 << 10;

struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Socket {
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
    let mut socket = Socket { stream, buffer: vec![0; BUFFER], filled: 0 };
    socket.stream.write_all(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05bench")?;
    socket.read(|_, _| ())?;
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish => publish(&mut socket, job)?,
        Direction::Receive => receive(&mut socket, job)?,
    }
    let used = meter.stop()?;
    socket.stream.write_all(&[0xe0, 0])?;
    Ok(used)
}

fn publish(socket: &mut Socket, job: Job) -> Result<(), Failure> {
    let mut out = Vec::new();
    let qos = job.case.qos;
    let batch = if qos == 0 { (BUFFER / 100) as u64 } else { job.case.window().into() };
    let mut left = job.count;
    while left > 0 {
        let now = left.min(batch);
        out.clear();
        for id in 1..=now {
            publication(TOPIC, qos, id as u16, false, &mut out);
        }
        socket.stream.write_all(&out)?;
        let mut open = if qos == 0 { 0 } else { now };
        while open > 0 {
            out.clear();
            socket.read(|first, body| match first >> 4 {
                5 => out.extend_from_slice(&[0x62, 2, body[0], body[1]]),
                _ => open -= 1,
            })?;
            socket.stream.write_all(&out)?;
        }
        left -= now;
    }
    Ok(())
}

fn receive(socket: &mut Socket, job: Job) -> Result<(), Failure> {
    let filter = job.case.blast(job.count);
    let mut out = vec![0x82, (5 + filter.len()) as u8, 0, 1, 0, filter.len() as u8];
    out.extend_from_slice(filter.as_bytes());
    out.push(job.case.qos);
    socket.stream.write_all(&out)?;
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
        socket.stream.write_all(&out)?;
    }
    Ok(())
}
