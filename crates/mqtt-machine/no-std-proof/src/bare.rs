//! Owns a bare loop: a machine that talks over a UART, a byte at a time, and a clock that counts turns. It must not know how
//! memory is had.
//!
//! The UART is a fake with two queues of 64 bytes, as a chip has them. At its other end stands just enough of a server to
//! answer one client: it decodes and encodes with the core's own codec.

use alloc::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{Ack, AckKind, ConnAck, Packet, Properties, Publish, ReasonCodes, Sender, SubAck};
use mqtt_machine::wire::{decode, encode, frame_header};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, Limits, Machine, Message, Outcome, Output, ProtocolVersion,
    QoS, ReasonCode, Server, Subscribe, TopicFilter, TransportEvent, TransportId,
};

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
/// How much a queue of the UART holds.
const DEPTH: usize = 64;
/// Messages there and back.
const MESSAGES: usize = 20;
/// One turn of the loop, in microseconds.
const TURN: u64 = 100;

/// One direction of the UART: a queue of fixed size.
struct Queue {
    bytes: [u8; DEPTH],
    first: usize,
    len: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { bytes: [0; DEPTH], first: 0, len: 0 }
    }

    /// False when it is full.
    fn push(&mut self, byte: u8) -> bool {
        if self.len == DEPTH {
            return false;
        }
        self.bytes[(self.first + self.len) % DEPTH] = byte;
        self.len += 1;
        true
    }

    fn pop(&mut self) -> Option<u8> {
        if self.len == 0 {
            return None;
        }
        let byte = self.bytes[self.first];
        self.first = (self.first + 1) % DEPTH;
        self.len -= 1;
        Some(byte)
    }
}

/// The other end of the line: accepts, acknowledges, and sends every message back at QoS 0.
struct Peer {
    input: BytesMut,
    output: BytesMut,
}

impl Peer {
    /// `None` when the client broke a rule.
    fn turn(&mut self, from: &mut Queue, to: &mut Queue) -> Option<()> {
        while let Some(byte) = from.pop() {
            self.input.extend_from_slice(&[byte]);
        }
        while let Some(header) = frame_header(&self.input, 1024).ok()? {
            if self.input.len() < header.frame_len() {
                break;
            }
            let frame = BytesMut::from(self.input.get(..header.frame_len())?);
            self.input.advance(frame.len());
            let packet = decode(&frame, VERSION, Sender::Client).ok()?;
            self.answer(&packet)?;
        }
        while let Some(&byte) = self.output.first() {
            if !to.push(byte) {
                break;
            }
            self.output.advance(1);
        }
        Some(())
    }

    fn answer(&mut self, packet: &Packet<'_>) -> Option<()> {
        match packet {
            Packet::Connect(_) => self.send(&Packet::ConnAck(ConnAck {
                session_present: false,
                reason: ReasonCode::Success,
                properties: Properties::EMPTY,
            })),
            Packet::Subscribe(subscribe) => {
                // Granted, at QoS 0.
                let codes = ReasonCodes::from_bytes(&[0])?;
                let properties = Properties::EMPTY;
                self.send(&Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, codes }))
            }
            Packet::Publish(publish) => {
                if let Some(id) = publish.packet_id {
                    self.send(&Packet::Ack(Ack::new(AckKind::PubAck, id)))?;
                }
                let back = Publish {
                    qos: QoS::AtMostOnce,
                    packet_id: None,
                    properties: Properties::EMPTY,
                    ..*publish
                };
                self.send(&Packet::Publish(back))
            }
            Packet::Disconnect(_) => Some(()),
            _ => None,
        }
    }

    fn send(&mut self, packet: &Packet<'_>) -> Option<()> {
        encode(packet, VERSION, &mut self.output).ok()
    }
}

/// A machine with caps for a small heap.
fn machine(now: Instant) -> Option<Machine> {
    let limits = Limits {
        outgoing_messages: 8,
        outgoing_bytes: 2048,
        requests: 2,
        subscriptions: 4,
        incoming_bytes: 2048,
        in_flight: 4,
        ..Limits::DEFAULT
    };
    let config = Config::new(Server::new("uart")).client_id("meter").version(VERSION).limits(limits);
    let mut machine = Machine::new(Arc::new(config.maximum_packet_size(512)), 7, now);
    machine.subscribe(now, Subscribe::to(TopicFilter::new("meter").ok()?, QoS::AtMostOnce)).ok()?;
    machine.connect(now).ok()?;
    Some(machine)
}

/// Runs until [`MESSAGES`] have come back and the machine has disconnected; `None` when that goes wrong.
pub(crate) fn run() -> Option<()> {
    let (mut sending, mut receiving) = (Queue::new(), Queue::new());
    let mut peer = Peer { input: BytesMut::new(), output: BytesMut::new() };
    let mut now = Instant::ZERO;
    let mut machine = machine(now)?;
    let (mut output, mut input) = (Output::with_mark(DEPTH), BytesMut::new());
    let mut line: Option<TransportId> = None;
    let (mut accepted, mut returned) = (0, 0);
    loop {
        now = Instant::from_micros(now.as_micros() + TURN);
        machine.handle_timeout(now);
        while let Some(action) = machine.poll_action() {
            match action {
                Action::OpenTransport { id, .. } => {
                    line = Some(id);
                    machine.handle_transport(now, id, TransportEvent::Opened);
                }
                Action::CloseTransport { .. } => line = None,
                _ => return None,
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Message { message, receipt } => {
                    (message.payload == b"21.5"[..]).then_some(())?;
                    machine.settle(now, receipt, ReasonCode::Success);
                    returned += 1;
                    if returned == MESSAGES {
                        machine.disconnect(now, Disconnect::new(core::time::Duration::from_secs(1))).ok()?;
                    }
                }
                Event::Completed { outcome: Outcome::Disconnected(drained), .. } => {
                    return (drained.undelivered == 0 && returned == MESSAGES && accepted == MESSAGES)
                        .then_some(());
                }
                Event::ConnectFailed(_) | Event::Disconnected(_) if returned < MESSAGES => return None,
                _ => {}
            }
        }
        // A queue that is full is no error: the message is offered again at the next turn.
        if accepted < MESSAGES && machine.is_connected() {
            let message = Message::to("meter", &b"21.5"[..]).ok()?.qos(QoS::AtLeastOnce);
            accepted += usize::from(machine.publish(now, message).is_ok());
        }
        if let Some(id) = line {
            machine.transmit(now, &mut output);
            while output.has_remaining() && sending.push(output.chunk()[0]) {
                output.advance(1);
                machine.handle_sent(now, id, 1);
            }
            while machine.read_capacity() > input.len() {
                let Some(byte) = receiving.pop() else { break };
                input.extend_from_slice(&[byte]);
            }
            machine.handle_input(now, id, &mut input);
        }
        peer.turn(&mut sending, &mut receiving)?;
        // Nothing hangs here: what takes longer than this is an error.
        (now < Instant::from_micros(10_000_000)).then_some(())?;
    }
}
