//! Shows: the core in a loop of `mio`, beside another socket; what that one receives is published.
//! `cargo run -p mqtt-machine-examples --example mio_loop -- 127.0.0.1:1883 3` ends after three datagrams.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, Bytes, BytesMut};
use mio::net::{TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Registry, Token};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, Machine, Message, Outcome, Output, QoS, ReasonCode, Server,
    TransportEvent, TransportId,
};

const BROKER: Token = Token(0);
const DATAGRAMS: Token = Token(1);

/// A transport: the machine knows it by its number, the system by its socket.
struct Link {
    id: TransportId,
    stream: TcpStream,
    opened: bool,
    output: Output,
    input: BytesMut,
}

impl Link {
    fn open(id: TransportId, server: &Server, registry: &Registry) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(server.as_str().parse()?)?;
        registry.register(&mut stream, BROKER, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { id, stream, opened: false, output: Output::new(), input: BytesMut::new() })
    }

    /// True when a byte was moved. A socket that is not ready is no error.
    fn move_bytes(&mut self, machine: &mut Machine, now: Instant) -> io::Result<bool> {
        if !self.opened {
            match (self.stream.take_error()?, self.stream.peer_addr()) {
                (Some(error), _) => return Err(error),
                (None, Err(_)) => return Ok(false),
                (None, Ok(_)) => self.opened = true,
            }
            machine.handle_transport(now, self.id, TransportEvent::Opened);
        }
        let mut moved = false;
        machine.transmit(now, &mut self.output);
        while self.output.has_remaining() {
            let Some(sent) = ready(self.stream.write(self.output.chunk()))? else { break };
            self.output.advance(sent);
            machine.handle_sent(now, self.id, sent);
            moved = true;
        }
        let mut buffer = [0; 4096];
        let room = machine.read_capacity().min(buffer.len());
        // With no room nothing is read: TCP then holds the server back.
        if room > 0
            && let Some(count) = ready(self.stream.read(&mut buffer[..room]))?
        {
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&buffer[..count]);
            moved = true;
        }
        // Also what was left when there was no room.
        machine.handle_input(now, self.id, &mut self.input);
        Ok(moved)
    }
}

fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does what the machine wants until it wants nothing more now. True when the client has ended.
fn turn(
    machine: &mut Machine,
    link: &mut Option<Link>,
    registry: &Registry,
    now: Instant,
    left: &mut usize,
) -> Result<bool, Box<dyn Error>> {
    loop {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::OpenTransport { id, server } => match Link::open(id, &server, registry) {
                    Ok(opening) => *link = Some(opening),
                    Err(why) => {
                        machine.handle_transport(now, id, TransportEvent::OpenFailed(why.to_string()));
                    }
                },
                Action::CloseTransport { .. } => *link = None,
                _ => {}
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Message { receipt, .. } => machine.settle(now, receipt, ReasonCode::Success),
                Event::Completed { outcome: Outcome::Disconnected { .. }, .. } => return Ok(true),
                Event::Completed { outcome, .. } => {
                    println!("{outcome:?}");
                    *left -= 1;
                    if *left == 0 {
                        machine.disconnect(now, Disconnect::new(Duration::from_secs(1)))?;
                    }
                }
                _ => {}
            }
        }
        let Some(present) = link else { return Ok(false) };
        match present.move_bytes(machine, now) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => {
                machine.handle_transport(now, present.id, TransportEvent::Closed(Some(why.to_string())));
                *link = None;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let mut left = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let (begin, mut link) = (Clock::now(), None);
    let now = || Instant::ZERO + begin.elapsed();
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(16));
    let mut datagrams = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut datagrams, DATAGRAMS, Interest::READABLE)?;
    println!("datagrams at {}", datagrams.local_addr()?);

    let mut machine = Machine::new(Config::new(Server::new(server)).into(), 7, now());
    machine.connect(now())?;
    while !turn(&mut machine, &mut link, poll.registry(), now(), &mut left)? {
        // One deadline for everything that the machine waits for.
        let wait = machine.poll_timeout().map(|deadline| deadline - now());
        poll.poll(&mut events, wait)?;
        machine.handle_timeout(now());
        let mut datagram = [0; 512];
        while let Some(count) = ready(datagrams.recv(&mut datagram))? {
            let payload = Bytes::copy_from_slice(&datagram[..count]);
            machine.publish(now(), Message::to("datagrams", payload)?.qos(QoS::AtLeastOnce))?;
        }
    }
    Ok(())
}
