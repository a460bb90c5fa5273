//! Owns the null broker: it answers what a client needs to go on, as fast as it can, and keeps nothing.
//! It must not be anybody's model of a broker: it checks nothing.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use mqtt_machine_testkit::layers::{Authority, server_config};
use mqtt_machine_transport::rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned};

use crate::layers::Messages;
use crate::{Failure, PAYLOAD, fleet};

/// Publications of QoS 1 or 2 that are on their way to a subscriber at once.
const WINDOW: u64 = 1_000;
const READ: usize = 256 << 10;

/// Serves every connection on a port of its own, which the first line of its output names; those after it are who signs its
/// certificate. `way` is how clients come: `mqtt`, `mqtts` or `ws`. Every connection that ends adds a line: how many PUBLISH
/// packets came.
///
/// # Errors
/// When it cannot listen.
pub fn serve(way: &str) -> Result<(), Failure> {
    // One for every client of many.
    fleet::allow_sockets()?;
    let authority = Authority::new("benches");
    let tls = Arc::new(server_config(&authority.server(&["localhost"]), ALL_VERSIONS, None));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    print!("{}\n{}", listener.local_addr()?.port(), authority.pem());
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let (stream, tls, way) = (stream?, Arc::clone(&tls), way.to_owned());
        thread::spawn(move || {
            let mut session = Session::default();
            // A client that goes away in the middle is no failure of the broker's.
            let _ = session.run_over(&way, stream, tls);
            println!("{}", session.received);
        });
    }
    Ok(())
}

/// One subscription `blast/QOS/COUNT`: so many messages are on order, with this as their topic.
struct Blast {
    topic: String,
    qos: u8,
    left: u64,
    in_flight: u64,
    next: u16,
}

/// One subscription `burst/QOS/SIZE`: every publication of the client's asks for so many messages, with this as their topic.
struct Burst {
    topic: String,
    qos: u8,
    size: u64,
    next: u16,
}

/// What the broker knows of one client.
#[derive(Default)]
pub struct Session {
    v5: bool,
    received: u64,
    blast: Option<Blast>,
    burst: Option<Burst>,
    /// For the client.
    pub out: Vec<u8>,
}

impl Session {
    fn run_over(&mut self, way: &str, stream: TcpStream, tls: Arc<ServerConfig>) -> Result<(), Failure> {
        stream.set_nodelay(true)?;
        match way {
            "mqtt" => self.run(stream)?,
            "mqtts" => self.run(StreamOwned::new(ServerConnection::new(tls)?, stream))?,
            "ws" => self.run(Messages::accept(stream)?)?,
            _ => return Err("there is no such way".into()),
        }
        Ok(())
    }

    fn run(&mut self, mut stream: impl Read + Write) -> io::Result<()> {
        let mut buffer = vec![0; READ];
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            let count = stream.read(room)?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let mut at = 0;
            while let Some((head, length)) = frame(&buffer[at..filled]) {
                let body = &buffer[at + head..at + head + length];
                if !self.packet(buffer[at], body) {
                    return Ok(());
                }
                at += head + length;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            self.fill();
            if !self.out.is_empty() {
                stream.write_all(&self.out)?;
                self.out.clear();
            }
            self.pour(&mut stream)?;
            stream.flush()?;
        }
    }

    /// Answers one packet; false when the client takes its leave.
    pub fn packet(&mut self, first: u8, body: &[u8]) -> bool {
        match first >> 4 {
            1 => {
                self.v5 = body.get(6) == Some(&5);
                let connack: &[u8] = if self.v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
                self.out.extend_from_slice(connack);
            }
            3 => {
                self.received += 1;
                self.send_burst();
                let answer = match first >> 1 & 3 {
                    1 => 0x40,
                    2 => 0x50,
                    _ => return true,
                };
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                self.out.extend_from_slice(&[answer, 2, body[2 + topic], body[3 + topic]]);
            }
            4 | 7 => self.ended(),
            5 => self.out.extend_from_slice(&[0x62, 2, body[0], body[1]]),
            6 => self.out.extend_from_slice(&[0x70, 2, body[0], body[1]]),
            8 => self.subscribe(body),
            10 => {
                let unsuback: &[u8] =
                    if self.v5 { &[0xb0, 4, body[0], body[1], 0, 0] } else { &[0xb0, 2, body[0], body[1]] };
                self.out.extend_from_slice(unsuback);
            }
            12 => self.out.extend_from_slice(&[0xd0, 0]),
            14 => return false,
            _ => {}
        }
        true
    }

    fn ended(&mut self) {
        if let Some(blast) = &mut self.blast {
            blast.in_flight -= 1;
        }
    }

    fn send_burst(&mut self) {
        let Some(burst) = &mut self.burst else { return };
        for _ in 0..burst.size {
            publication(&burst.topic, burst.qos, burst.next, self.v5, &mut self.out);
            burst.next = burst.next.checked_add(1).unwrap_or(1);
        }
    }

    fn subscribe(&mut self, body: &[u8]) {
        let mut at = 2;
        if self.v5 {
            at += 1 + usize::from(body[2]);
        }
        let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let topic = String::from_utf8_lossy(&body[at + 2..at + 2 + length]).into_owned();
        let parts: Vec<&str> = topic.split('/').collect();
        let mut granted = 0;
        if let [kind @ ("blast" | "burst"), qos, count] = parts[..]
            && let (Ok(qos), Ok(count)) = (qos.parse(), count.parse())
        {
            granted = qos;
            if kind == "blast" {
                self.blast = Some(Blast { topic, qos, left: count, in_flight: 0, next: 1 });
            } else {
                self.burst = Some(Burst { topic, qos, size: count, next: 1 });
            }
        }
        let properties: &[u8] = if self.v5 { &[0] } else { &[] };
        self.out.extend_from_slice(&[0x90, 3 + properties.len() as u8, body[0], body[1]]);
        self.out.extend_from_slice(properties);
        self.out.push(granted);
    }

    /// Fills the window of a blast of QoS 1 or 2.
    fn fill(&mut self) {
        let Some(blast) = self.blast.as_mut().filter(|blast| blast.qos > 0) else { return };
        while blast.left > 0 && blast.in_flight < WINDOW {
            publication(&blast.topic, blast.qos, blast.next, self.v5, &mut self.out);
            blast.next = blast.next.checked_add(1).unwrap_or(1);
            blast.in_flight += 1;
            blast.left -= 1;
        }
    }

    /// Writes a blast of QoS 0 as a whole.
    fn pour(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let Some(blast) = self.blast.take_if(|blast| blast.qos == 0) else { return Ok(()) };
        let mut one = Vec::new();
        publication(&blast.topic, 0, 0, self.v5, &mut one);
        let batch = (READ / one.len()) as u64;
        let many = one.repeat(batch as usize);
        let mut left = blast.left;
        while left > 0 {
            let now = left.min(batch);
            stream.write_all(&many[..now as usize * one.len()])?;
            left -= now;
        }
        Ok(())
    }
}

/// Appends a PUBLISH packet of the payload that everything here has.
pub fn publication(topic: &str, qos: u8, packet_id: u16, v5: bool, out: &mut Vec<u8>) {
    let length = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(v5) + PAYLOAD.len();
    out.extend_from_slice(&[0x30 | qos << 1, u8::try_from(length).expect("one byte"), 0, topic.len() as u8]);
    out.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    if v5 {
        out.push(0);
    }
    out.extend_from_slice(&PAYLOAD);
}

/// The lengths of the header and the rest of the frame that is at the beginning, when all of it is there.
pub fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (bytes.len() >= at + 2 + length).then_some((at + 2, length));
        }
    }
    None
}
