//! Owns the same bytes over a socket of tokio's: what the runtime and the system cost, in bursts of the same size.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::{Part, filter};
use crate::broker::publication;
use crate::clients::Direction;
use crate::{Failure, TOPIC};

const BUFFER: usize = 64 << 10;
const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05bench";
const CONNACK: usize = 4;
const SUBACK: usize = 5;

/// A socket whose broker takes it for a client.
pub(super) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) async fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, buffer: vec![0; BUFFER] };
        socket.exchange(CONNECT, CONNACK).await?;
        Ok(socket)
    }

    /// Writes these bytes, and reads so many.
    async fn exchange(&mut self, request: &[u8], answer: usize) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        let mut left = answer;
        while left > 0 {
            match self.stream.read(&mut self.buffer).await? {
                0 => return Err("the broker has closed".into()),
                count => left = left.checked_sub(count).ok_or("more than was asked for")?,
            }
        }
        Ok(())
    }

    pub(super) async fn close(mut self) -> Result<(), Failure> {
        Ok(self.stream.write_all(&[0xe0, 0]).await?)
    }

    /// All messages of one client, in packets made beforehand.
    pub(super) async fn run(mut self, part: Part) -> Result<Self, Failure> {
        let (burst, qos) = (u16::try_from(part.burst)?, part.job.case.qos);
        let bursts = part.job.count / part.burst;
        let (filter, acks) = (filter(part), usize::from(qos) * 4 * usize::from(burst));
        let packets = |topic: &str| {
            let mut bytes = Vec::new();
            (1..=burst).for_each(|id| publication(topic, qos, id, false, &mut bytes));
            bytes
        };
        match part.job.case.direction {
            Direction::Publish => {
                let request = packets(TOPIC);
                for _ in 0..bursts {
                    self.exchange(&request, acks).await?;
                    if acks == 0 {
                        // As a client that waits for the end of its publications lets the others go on.
                        yield_now().await;
                    }
                }
            }
            Direction::Receive => {
                let mut subscribe =
                    vec![0x82, u8::try_from(5 + filter.len())?, 0, 1, 0, u8::try_from(filter.len())?];
                subscribe.extend_from_slice(filter.as_bytes());
                subscribe.push(qos);
                self.exchange(&subscribe, SUBACK).await?;
                let answer = packets(&filter).len();
                let puback: Vec<u8> =
                    (1..=burst).flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]).collect();
                for _ in 0..bursts {
                    self.exchange(b"\x30\x06\x00\x04more", answer).await?;
                    self.exchange(&puback[..acks], 0).await?;
                }
            }
        }
        Ok(self)
    }
}
