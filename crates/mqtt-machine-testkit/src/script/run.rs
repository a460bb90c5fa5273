//! Owns the running of a script: a driver without sockets around one machine, and what must hold after each step.
//! It must not know how scripts are made.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, ReasonCodes, Sender, SubAck, UnsubAck,
};
use mqtt_machine::{
    Action, Answer, Disconnect, Event, Instant, JournalSeq, Output, ProtocolVersion, QoS, ReasonCode,
    Receipt, Secret, Server, StoreError, TransportEvent, TransportId, Unsubscribe, wire,
};

use super::{Script, Setup, Step};
use crate::invariants::Checked;

/// What a script drives: a machine with its reference model beside it.
type Driven = Checked;

/// More rounds than this in one place are a machine that never comes to rest.
const ROUNDS: usize = 100_000;

/// Everything that came out of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every event, in order.
    pub events: Vec<Event>,
    /// Every byte that was written, over all transports.
    pub sent: Vec<u8>,
    /// How many commands were accepted.
    pub accepted: usize,
}

/// Runs a script as a driver would, ends the machine, and returns what came out.
///
/// # Panics
/// When something does not hold: what is written are not whole packets that a client may send in the version of its
/// connection, a deadline does not move when its time has passed, the machine does not come to rest, or a command does not
/// end exactly once.
pub fn run(script: &Script) -> Report {
    let mut world = World::new(&script.setup);
    for step in &script.steps {
        world.apply(step);
        world.after();
    }
    world.finish()
}

/// A driver, a server and a store in one.
struct World {
    machine: Driven,
    setup: Setup,
    now: Instant,
    link: Link,
    output: Output,
    /// What was written on this transport and is no whole packet yet.
    written: BytesMut,
    /// What the server has not answered.
    asked: VecDeque<OwnedAnswer>,
    /// What came from the server and was not taken yet.
    unread: BytesMut,
    /// The version of this transport's CONNECT.
    version: ProtocolVersion,
    chunk: usize,
    questions: VecDeque<Question>,
    receipts: Vec<Receipt>,
    records: u64,
    store: Store,
    open: BTreeMap<u64, usize>,
    report: Report,
}

/// The transport, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    Opening(TransportId),
    Open(TransportId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Works,
    Failed,
}

#[derive(Debug)]
enum Question {
    Prepare(TransportId),
    Authenticate(TransportId),
}

/// What a server answers to a packet.
type OwnedAnswer = crate::generate::OwnedPacket;

impl World {
    fn new(setup: &Setup) -> Self {
        Self {
            machine: Driven::new(Arc::new(setup.config()), setup.seed, Instant::ZERO),
            setup: setup.clone(),
            now: Instant::ZERO,
            link: Link::None,
            output: Output::with_mark(setup.mark),
            written: BytesMut::new(),
            asked: VecDeque::new(),
            unread: BytesMut::new(),
            version: setup.version,
            chunk: 0,
            questions: VecDeque::new(),
            receipts: Vec::new(),
            records: 0,
            store: Store::Works,
            open: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn id(&self) -> Option<TransportId> {
        match self.link {
            Link::None => None,
            Link::Opening(id) | Link::Open(id) => Some(id),
        }
    }

    fn accept(&mut self, op: &Result<mqtt_machine::OpId, mqtt_machine::Refused>) {
        if let Ok(op) = op {
            assert!(self.open.insert(op.to_u64(), 0).is_none(), "the name of a command came again");
            self.report.accepted += 1;
        }
    }

    fn apply(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Publish(message) => {
                let op = self.machine.publish(now, message.clone());
                self.accept(&op);
            }
            Step::Subscribe(subscribe) => {
                let op = self.machine.subscribe(now, subscribe.clone());
                self.accept(&op);
            }
            Step::Unsubscribe(filters) => {
                let op = self.machine.unsubscribe(now, Unsubscribe::new(filters.clone()));
                self.accept(&op);
            }
            Step::Settle(at, reason) => {
                if !self.receipts.is_empty() {
                    let receipt = self.receipts.remove(at % self.receipts.len());
                    self.machine.settle(now, receipt, *reason);
                }
            }
            Step::Connect => drop(self.machine.connect(now)),
            Step::Reconnect => drop(self.machine.reconnect(now)),
            Step::Disconnect(drain) => {
                let op = self.machine.disconnect(now, Disconnect::new(*drain));
                self.accept(&op);
            }
            Step::Reconfigure(setup) => {
                let setup = Setup { durable: self.setup.durable, ..(**setup).clone() };
                self.machine.reconfigure(now, Arc::new(setup.config()));
            }
            Step::Answer(yes) => self.answer(*yes),
            Step::Transport(event) => self.transport(event.clone()),
            Step::StaleTransport(event) => {
                self.machine.handle_transport(now, TransportId::new(u64::MAX), event.clone());
                let mut bytes = BytesMut::from(&b"\xD0\0"[..]);
                self.machine.handle_input(now, TransportId::new(u64::MAX), &mut bytes);
                self.machine.handle_sent(now, TransportId::new(u64::MAX), 1);
            }
            Step::Transmit(most) => self.transmit(*most),
            Step::Serve(count) => {
                for _ in 0..*count {
                    let Some(answer) = self.asked.pop_front() else { break };
                    self.send(&answer);
                }
            }
            Step::Accept(session_present) => self.accept_connect(*session_present),
            Step::Packet(packet) => self.send(packet),
            Step::Broken(broken) => self.receive(&broken.bytes),
            Step::Raw(bytes) => self.receive(bytes),
            Step::Chunk(size) => self.chunk = *size,
            Step::Time(time) => self.pass(now + *time),
            Step::Deadline => {
                if let Some(at) = self.machine.poll_timeout() {
                    self.pass(at.max(now));
                }
            }
            Step::Retry => {
                let waits = self.link == Link::None && self.questions.is_empty();
                if let Some(at) = self.machine.poll_timeout().filter(|_| waits) {
                    self.pass(at.max(now));
                }
            }
            Step::Stored => self.stored(),
            Step::StoreFails => {
                if self.setup.durable && self.store == Store::Works {
                    self.store = Store::Failed;
                    self.machine.handle_stored(now, Err(StoreError("full".into())));
                }
            }
        }
    }

    fn pass(&mut self, now: Instant) {
        self.now = now;
        // What ends now may make the next thing due at once, such as an attempt that was asked for.
        for _ in 0..4 {
            self.machine.handle_timeout(now);
            match self.machine.poll_timeout() {
                Some(at) if at == now => self.after(),
                Some(at) => return assert!(at > now, "at {now:?} the deadline is {at:?}, which has passed"),
                None => return,
            }
        }
        panic!("at {now:?} the deadline does not move");
    }

    fn stored(&mut self) {
        if self.setup.durable && self.store == Store::Works {
            self.machine.handle_stored(self.now, Ok(JournalSeq::new(self.records)));
        }
    }

    fn answer(&mut self, yes: bool) {
        let Some(question) = self.questions.pop_front() else { return };
        let answer = match (question, yes) {
            (Question::Prepare(id), true) => {
                Answer::Prepared { id, server: Server::new("s"), credentials: None, initial_data: None }
            }
            (Question::Prepare(id), false) => Answer::NotPrepared { id, why: "not now".into() },
            (Question::Authenticate(id), true) => {
                Answer::Authenticate { id, data: Some(Secret::new(&b"next"[..])) }
            }
            (Question::Authenticate(id), false) => Answer::Authenticate { id, data: None },
        };
        self.machine.answer(self.now, answer);
    }

    fn transport(&mut self, event: TransportEvent) {
        self.link = match (&event, self.link) {
            (_, Link::None) => return,
            (TransportEvent::Opened, Link::Opening(id)) => {
                self.machine.handle_transport(self.now, id, event);
                self.link = Link::Open(id);
                return;
            }
            (TransportEvent::Opened, Link::Open(_)) => return,
            (_, Link::Opening(id) | Link::Open(id)) => {
                self.machine.handle_transport(self.now, id, event);
                Link::None
            }
        };
        self.forget();
    }

    /// What belonged to a transport that is gone.
    fn forget(&mut self) {
        self.output.clear();
        self.written.clear();
        self.asked.clear();
        self.unread.clear();
    }

    /// Lets the machine write, and takes `most` bytes of it.
    fn transmit(&mut self, most: usize) {
        let Link::Open(id) = self.link else { return };
        self.machine.transmit(self.now, &mut self.output);
        let count = self.output.remaining().min(most);
        let bytes = self.output.copy_to_bytes(count);
        if count > 0 {
            self.machine.handle_sent(self.now, id, count);
        }
        self.report.sent.extend_from_slice(&bytes);
        self.written.extend_from_slice(&bytes);
        self.read_written();
    }

    /// The server reads whole packets, and knows what it would answer.
    fn read_written(&mut self) {
        while let Some(header) =
            wire::frame_header(&self.written, u32::MAX).expect("the machine writes frames")
        {
            if self.written.len() < header.frame_len() {
                return;
            }
            let frame = self.written.split_to(header.frame_len());
            let packet = match wire::decode(&frame, self.version, Sender::Client) {
                Ok(packet) => packet,
                Err(error) => panic!("the machine wrote what no client may send: {error}: {frame:02x?}"),
            };
            if let Packet::Connect(connect) = &packet {
                self.version = connect.version;
            }
            if self.asked.len() < 10_000 {
                self.asked.extend(answer_to(&packet, self.version));
            }
        }
    }

    fn accept_connect(&mut self, session_present: bool) {
        let session_present = session_present && self.version != ProtocolVersion::V3_1;
        let mut properties = PropertiesBuf::new();
        if self.setup.authenticates && self.version == ProtocolVersion::V5 {
            properties.push(Property::AuthenticationMethod("m")).expect("a valid method");
        }
        if !self.setup.has_identifiers() && self.version == ProtocolVersion::V5 {
            properties.push(Property::SubscriptionIdentifierAvailable(false)).expect("a flag");
        }
        self.send(&OwnedAnswer::ConnAck { session_present, reason: ReasonCode::Success, properties });
    }

    fn send(&mut self, packet: &OwnedAnswer) {
        let mut bytes = BytesMut::new();
        // A packet of another version, after a reconfiguration, may have no form in this one.
        if wire::encode(&packet.packet(), self.version, &mut bytes).is_ok() {
            self.receive(&bytes);
        }
    }

    /// Bytes arrive, in pieces.
    fn receive(&mut self, bytes: &[u8]) {
        if !matches!(self.link, Link::Open(_)) {
            return;
        }
        let size = if self.chunk == 0 { bytes.len().max(1) } else { self.chunk };
        for piece in bytes.chunks(size) {
            self.unread.extend_from_slice(piece);
            self.read();
        }
    }

    /// Hands over what the machine will read now.
    fn read(&mut self) {
        if let Link::Open(id) = self.link
            && !self.unread.is_empty()
            && self.machine.read_capacity() > 0
        {
            self.machine.handle_input(self.now, id, &mut self.unread);
        }
    }

    /// Does what is to be done, takes what is told, and looks whether all is well.
    fn after(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS, "the machine always wants something more");
            let mut is_at_rest = true;
            while let Some(action) = self.machine.poll_action() {
                is_at_rest = false;
                self.act(&action);
            }
            while let Some(event) = self.machine.poll_event() {
                is_at_rest = false;
                self.take(event);
            }
            let unread = self.unread.len();
            self.read();
            if is_at_rest && self.unread.len() == unread {
                return;
            }
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Prepare { id, .. } => self.questions.push_back(Question::Prepare(id)),
            Action::Authenticate { id, finished: false, .. } => {
                self.questions.push_back(Question::Authenticate(id));
            }
            Action::OpenTransport { id, .. } => {
                assert_eq!(self.link, Link::None, "a second transport is opened");
                self.link = Link::Opening(id);
                self.version = self.setup.version;
                self.forget();
            }
            Action::CloseTransport { id } if self.id() == Some(id) => {
                self.link = Link::None;
                self.forget();
            }
            Action::Store { seq, .. } => {
                assert!(self.setup.durable, "a record without a store");
                self.records += 1;
                assert_eq!(seq, JournalSeq::new(self.records), "a place in the journal was left out");
            }
            _ => {}
        }
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::Message { receipt, .. } => self.receipts.push(receipt.clone()),
            Event::Completed { op, .. } => {
                let ended = self.open.get_mut(&op.to_u64());
                let ended = ended.unwrap_or_else(|| panic!("{op:?} ended and was never accepted"));
                *ended += 1;
                assert_eq!(*ended, 1, "{op:?} ended twice");
            }
            _ => {}
        }
        self.report.events.push(event);
    }

    /// Ends the machine: every command has ended then.
    fn finish(mut self) -> Report {
        self.stored();
        self.after();
        let op = self.machine.disconnect(self.now, Disconnect::new(Duration::ZERO));
        self.accept(&op);
        self.after();
        for _ in 0..20 {
            self.transmit(usize::MAX);
            self.after();
            self.stored();
            self.after();
            if let Some(at) = self.machine.poll_timeout() {
                self.pass(at.max(self.now));
                self.after();
            }
        }
        assert!(self.machine.is_idle(), "the machine is not idle after its end");
        let left: Vec<u64> = self.open.iter().filter(|(_, ended)| **ended == 0).map(|(op, _)| *op).collect();
        assert!(left.is_empty(), "commands that never ended: {left:?}");
        self.machine.finish();
        self.machine.assert_sound();
        self.report
    }
}

/// What a server says to a packet at once.
fn answer_to(packet: &Packet<'_>, version: ProtocolVersion) -> Option<OwnedAnswer> {
    let owned = |packet: &Packet<'_>| OwnedAnswer::from_packet(packet);
    let properties = Properties::EMPTY;
    match packet {
        Packet::Connect(_) => {
            let reason = ReasonCode::Success;
            Some(owned(&Packet::ConnAck(ConnAck { session_present: false, reason, properties })))
        }
        Packet::Publish(publish) => {
            let kind = if publish.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
            Some(owned(&Packet::Ack(Ack::new(kind, publish.packet_id?))))
        }
        Packet::Ack(ack) => match ack.kind {
            AckKind::PubRel => Some(owned(&Packet::Ack(Ack::new(AckKind::PubComp, ack.packet_id)))),
            AckKind::PubRec if !ack.reason.is_failure() => {
                Some(owned(&Packet::Ack(Ack::new(AckKind::PubRel, ack.packet_id))))
            }
            _ => None,
        },
        Packet::Subscribe(subscribe) => {
            let codes: Vec<u8> = subscribe.filters.iter().map(|filter| filter.options.qos.to_u8()).collect();
            let (packet_id, codes) = (subscribe.packet_id, ReasonCodes::from_bytes(&codes)?);
            Some(owned(&Packet::SubAck(SubAck { packet_id, properties, codes })))
        }
        Packet::Unsubscribe(unsubscribe) => {
            let codes = vec![0; unsubscribe.filters.len()];
            let codes = if version == ProtocolVersion::V5 { &codes[..] } else { &[] };
            let (packet_id, codes) = (unsubscribe.packet_id, ReasonCodes::from_bytes(codes)?);
            Some(owned(&Packet::UnsubAck(UnsubAck { packet_id, properties, codes })))
        }
        Packet::PingReq => Some(OwnedAnswer::PingResp),
        _ => None,
    }
}
