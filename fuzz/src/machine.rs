//! Owns what holds for the machine and any bytes of a server. It must not know what a session owes: the testkit does.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{ConnAck, Packet, Properties, Sender};
use mqtt_machine::{
    Action, Config, Disconnect, Event, Instant, JournalSeq, Limits, Machine, Message, Output,
    ProtocolVersion, QoS, ReasonCode, Receipt, Server, SessionSnapshot, Subscribe, TopicFilter,
    TransportEvent, TransportId, wire,
};
use mqtt_machine_testkit::generate::Any;
use mqtt_machine_testkit::script::{Script, run};

/// What everything in the machine may come to under [`config`], in bytes: the caps, and room for what is counted with
/// them (tables, a frame at its limit, completions).
const MOST_MEMORY: usize = 256 << 10;

fn config(version: ProtocolVersion, durable: bool) -> Config {
    let mut limits = Limits::DEFAULT;
    limits.outgoing_messages = 64;
    limits.outgoing_bytes = 16 << 10;
    limits.requests = 8;
    limits.subscriptions = 32;
    limits.incoming_bytes = 16 << 10;
    Config::new(Server::new("fuzz"))
        .client_id("fuzz")
        .version(version)
        .durable(durable)
        .limits(limits)
        .maximum_packet_size(4 << 10)
        .receive_maximum(16)
        .topic_alias_maximum(8)
}

/// A machine with the least of a driver around it.
struct Rig {
    machine: Machine,
    version: ProtocolVersion,
    now: Instant,
    transport: Option<TransportId>,
    output: Output,
    sent: BytesMut,
    input: BytesMut,
    receipts: VecDeque<Receipt>,
    stored: JournalSeq,
}

impl Rig {
    fn new(version: ProtocolVersion, durable: bool) -> Self {
        let mut rig = Self {
            machine: Machine::new(Arc::new(config(version, durable)), 7, Instant::ZERO),
            version,
            now: Instant::ZERO,
            transport: None,
            output: Output::with_mark(1 << 10),
            sent: BytesMut::new(),
            input: BytesMut::new(),
            receipts: VecDeque::new(),
            stored: JournalSeq::ZERO,
        };
        rig.machine.connect(rig.now).expect("an idle machine connects");
        rig.drive();
        rig
    }

    /// Does what a driver does: opens, writes, takes the events.
    fn drive(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::OpenTransport { id, .. } => {
                    self.transport = Some(id);
                    self.output.clear();
                    self.sent.clear();
                    self.input.clear();
                    self.machine.handle_transport(self.now, id, TransportEvent::Opened);
                }
                Action::CloseTransport { id } => drop(self.transport.take_if(|open| *open == id)),
                Action::Store { seq, .. } => self.stored = seq,
                _ => {}
            }
        }
        self.machine.transmit(self.now, &mut self.output);
        self.sent.extend_from_slice(&self.output.copy_to_bytes(self.output.remaining()));
        while let Some(event) = self.machine.poll_event() {
            drop(format!("{event:?}"));
            if let Event::Message { receipt, .. } = event {
                self.receipts.push_back(receipt);
            }
        }
        self.check_sent();
        assert!(self.machine.memory_used() <= MOST_MEMORY, "{} bytes", self.machine.memory_used());
    }

    /// Whatever the server says, the client never answers with what is no packet.
    fn check_sent(&mut self) {
        let Some(id) = self.transport else { return };
        while let Some(header) = wire::frame_header(&self.sent, u32::MAX).expect("the client's own frame") {
            let frame = self.sent.split_to(header.frame_len());
            let packet = wire::decode(&frame, self.version, Sender::Client);
            assert!(packet.is_ok(), "{packet:?}: {frame:02x?}");
            self.machine.handle_sent(self.now, id, frame.len());
        }
        assert!(self.sent.is_empty(), "a part of a packet was transmitted");
    }

    fn greet(&mut self, session_present: bool) {
        let properties = Properties::EMPTY;
        let connack = ConnAck { session_present, reason: ReasonCode::Success, properties };
        let mut bytes = BytesMut::new();
        wire::encode(&Packet::ConnAck(connack), self.version, &mut bytes).expect("a valid CONNACK");
        self.receive(&bytes);
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Some(id) = self.transport else { return };
        self.input.extend_from_slice(bytes);
        self.machine.handle_input(self.now, id, &mut self.input);
    }

    fn command(&mut self, choice: u8) {
        let now = self.now;
        match choice % 8 {
            which @ 0..=2 => {
                let message = Message::to("a/b", "payload").expect("a topic");
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(which)];
                let _ = self.machine.publish(now, message.qos(qos));
            }
            3 => {
                let filter = TopicFilter::new("a/#").expect("a filter");
                let _ = self.machine.subscribe(now, Subscribe::to(filter, QoS::ExactlyOnce));
            }
            4 => {
                if let Some(receipt) = self.receipts.pop_front() {
                    self.machine.settle(now, receipt, ReasonCode::Success);
                }
            }
            5 => {
                if let Some(id) = self.transport.take() {
                    self.machine.handle_transport(now, id, TransportEvent::Closed(None));
                }
            }
            6 => drop(self.machine.reconnect(now)),
            _ => self.machine.handle_stored(now, Ok(self.stored)),
        }
    }

    fn wait(&mut self, seconds: u8) {
        self.now += Duration::from_secs(u64::from(seconds));
        self.machine.handle_timeout(self.now);
        assert!(self.machine.poll_timeout().is_none_or(|at| at >= self.now), "a deadline is in the past");
        if self.machine.is_idle() {
            let _ = self.machine.connect(self.now);
        }
    }
}

/// A server that says whatever it likes to a client that does something meanwhile: no panic, bounded memory, and the
/// client's own packets stay well formed.
pub(crate) fn bytes(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let mut rig = Rig::new(crate::version(choice), choice & 0x80 != 0);
    if choice & 0x40 == 0 {
        rig.greet(false);
    }
    while let Some((&step, after)) = rest.split_first() {
        rest = after;
        match step >> 6 {
            0 => rig.command(step),
            1 => rig.wait(step & 0x3F),
            2 => rig.greet(step & 1 != 0),
            _ => {
                let (chunk, after) = rest.split_at(usize::from(step & 0x3F).min(rest.len()));
                rest = after;
                rig.receive(chunk);
            }
        }
        rig.drive();
    }
    let _ = rig.machine.disconnect(rig.now, Disconnect::new(Duration::ZERO));
    for _ in 0..4 {
        rig.machine.handle_stored(rig.now, Ok(rig.stored));
        rig.drive();
        if let Some(at) = rig.machine.poll_timeout() {
            rig.now = rig.now.max(at);
            rig.machine.handle_timeout(rig.now);
        }
    }
    assert!(rig.machine.is_idle(), "a disconnect did not end");
}

/// A script of commands, packets, raw bytes, pieces, time and faults through a machine with the reference model beside it.
pub(crate) fn script(data: &[u8]) {
    let Ok(Any(script)) = Any::<Script>::arbitrary(&mut Unstructured::new(data)) else { return };
    run(&script);
}

/// What is left of a run: the bytes written, the events as text, the session.
type Traces = (Vec<u8>, Vec<String>, SessionSnapshot, bool);

/// Any bytes of a server do the same in one piece and in pieces of any size.
pub(crate) fn chunking(data: &[u8]) {
    let [choice, step, data @ ..] = data else { return };
    let version = crate::version(*choice);
    let whole = trace(version, *choice, data, data.len().max(1));
    for size in [1, 3, usize::from(*step).max(1)] {
        assert_eq!(trace(version, *choice, data, size), whole, "{size} bytes at a time");
    }
}

fn trace(version: ProtocolVersion, choice: u8, data: &[u8], size: usize) -> Traces {
    let mut rig = Rig::new(version, false);
    if choice & 0x40 == 0 {
        rig.greet(false);
    }
    for command in [0, 1, 2, 3] {
        rig.command(command);
    }
    rig.drive();
    for chunk in data.chunks(size) {
        rig.receive(chunk);
    }
    let mut output = Output::with_mark(usize::MAX);
    rig.machine.transmit(rig.now, &mut output);
    let events = std::iter::from_fn(|| rig.machine.poll_event()).map(|event| format!("{event:?}"));
    let events = events.collect();
    (
        output.copy_to_bytes(output.remaining()).to_vec(),
        events,
        rig.machine.session(),
        rig.machine.is_connected(),
    )
}
