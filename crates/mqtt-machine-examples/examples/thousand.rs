//! Shows: one thread that drives a thousand machines over a thousand sockets, with one queue of deadlines.
//! `cargo run -p mqtt-machine-examples --example thousand -- 127.0.0.1:1883 1000`

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, Machine, Message, Outcome, Output, QoS, ReasonCode, Server,
    Subscribe, TopicFilter, TransportEvent, TransportId,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Link {
    id: TransportId,
    stream: TcpStream,
    opened: bool,
}

/// One client: a machine, its buffers, and the socket that it has at times.
struct Node {
    machine: Machine,
    output: Output,
    input: BytesMut,
    link: Option<Link>,
    /// Where it stands in the queue of deadlines.
    deadline: Option<Instant>,
    received: bool,
    done: bool,
}

impl Node {
    /// Each subscribes to a topic of its own and publishes there: what comes back is its own message.
    fn new(number: usize, server: &Server, now: Instant) -> Result<Self, Box<dyn Error>> {
        let config = Config::new(server.clone()).client_id(format!("node-{number}"));
        let mut machine = Machine::new(Arc::new(config), number as u64, now);
        let topic = format!("nodes/{number}");
        machine.subscribe(now, Subscribe::to(TopicFilter::new(&topic)?, QoS::AtLeastOnce))?;
        machine.publish(now, Message::to(&topic, topic.clone())?.qos(QoS::AtLeastOnce))?;
        machine.connect(now)?;
        let (output, input) = (Output::with_mark(4096), BytesMut::new());
        Ok(Self { machine, output, input, link: None, deadline: None, received: false, done: false })
    }

    /// Goes round the loop of a driver until nothing moves.
    fn turn(&mut self, token: Token, registry: &Registry, now: Instant) {
        self.machine.handle_timeout(now);
        loop {
            while let Some(action) = self.machine.poll_action() {
                match action {
                    Action::OpenTransport { id, server } => match open(&server, token, registry) {
                        Ok(stream) => {
                            self.output.clear();
                            self.input.clear();
                            self.link = Some(Link { id, stream, opened: false });
                        }
                        Err(why) => {
                            let failed = TransportEvent::OpenFailed(why.to_string());
                            self.machine.handle_transport(now, id, failed);
                        }
                    },
                    Action::CloseTransport { .. } => self.link = None,
                    _ => {}
                }
            }
            while let Some(event) = self.machine.poll_event() {
                match event {
                    Event::Message { message, receipt } => {
                        self.received |= message.payload == message.topic.as_bytes();
                        self.machine.settle(now, receipt, ReasonCode::Success);
                        // Accepted at most once: later calls are refused, and that is fine.
                        let _ = self.machine.disconnect(now, Disconnect::new(Duration::from_secs(5)));
                    }
                    Event::Completed { outcome: Outcome::Disconnected { .. }, .. } => self.done = true,
                    _ => {}
                }
            }
            match self.move_bytes(now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    if let Some(link) = self.link.take() {
                        let closed = TransportEvent::Closed(Some(why.to_string()));
                        self.machine.handle_transport(now, link.id, closed);
                    }
                }
            }
        }
    }

    fn move_bytes(&mut self, now: Instant) -> io::Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        if !link.opened {
            match (link.stream.take_error()?, link.stream.peer_addr()) {
                (Some(error), _) => return Err(error),
                (None, Err(_)) => return Ok(false),
                (None, Ok(_)) => link.opened = true,
            }
            self.machine.handle_transport(now, link.id, TransportEvent::Opened);
        }
        let mut moved = false;
        self.machine.transmit(now, &mut self.output);
        while self.output.has_remaining() {
            let Some(sent) = ready(link.stream.write(self.output.chunk()))? else { break };
            self.output.advance(sent);
            self.machine.handle_sent(now, link.id, sent);
            moved = true;
        }
        let mut buffer = [0; 4096];
        let room = self.machine.read_capacity().min(buffer.len());
        if room > 0
            && let Some(count) = ready(link.stream.read(&mut buffer[..room]))?
        {
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&buffer[..count]);
            moved = true;
        }
        // Also what was left when there was no room.
        self.machine.handle_input(now, link.id, &mut self.input);
        Ok(moved)
    }
}

fn open(server: &Server, token: Token, registry: &Registry) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(server.as_str().parse()?)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each machine has one descriptor.
fn raise_limit_of_descriptors(wanted: u64) -> rustix::io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = Server::new(arguments.next().unwrap_or_else(|| "127.0.0.1:1883".to_owned()));
    let count: usize = arguments.next().map_or(Ok(1_000), |count| count.parse())?;
    raise_limit_of_descriptors(count as u64 + 100)?;
    let begin = Clock::now();
    let now = || Instant::ZERO + begin.elapsed();
    let mut nodes =
        (0..count).map(|number| Node::new(number, &server, now())).collect::<Result<Vec<_>, _>>()?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut deadlines = BTreeSet::new();
    let mut due: Vec<usize> = (0..count).collect();
    let mut left = count;
    while left > 0 {
        for number in due.drain(..) {
            let node = &mut nodes[number];
            let was_done = node.done;
            node.turn(Token(number), poll.registry(), now());
            left -= usize::from(node.done && !was_done);
            if let Some(old) = node.deadline.take() {
                deadlines.remove(&(old, number));
            }
            node.deadline = node.machine.poll_timeout();
            deadlines.extend(node.deadline.map(|deadline| (deadline, number)));
        }
        if left == 0 {
            break;
        }
        poll.poll(&mut events, deadlines.first().map(|(first, _)| *first - now()))?;
        due.extend(events.iter().map(|event| event.token().0));
        // Whose deadline has come: their turns take them out of the queue.
        let time = now();
        due.extend(deadlines.iter().take_while(|(deadline, _)| *deadline <= time).map(|(_, number)| *number));
    }
    let received = nodes.iter().filter(|node| node.received).count();
    let memory: usize = nodes.iter().map(|node| node.machine.memory_used()).sum();
    println!(
        "{count} machines on one thread: {received} messages back in {:?}, {memory} bytes of machines",
        begin.elapsed()
    );
    if received == count { Ok(()) } else { Err("messages are missing".into()) }
}
