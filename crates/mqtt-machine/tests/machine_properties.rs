//! Properties of the whole machine under arbitrary histories: the session is the fold of its journal, nothing leaves
//! before it is durable, chunking never matters, arbitrary bytes never panic, every command ends exactly once.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::journal::{self, PublishKey, Record};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, Publish, ReasonCodes, Sender, SubAck,
    Topic,
};
use mqtt_machine::{
    Action, CleanStart, Config, Disconnect, Event, Instant, JournalSeq, KeyedPublication, LostSession,
    Machine, Message, Output, PacketId, Priority, ProtocolVersion, QoS, ReasonCode, Receipt, Server,
    Subscribe, TopicFilter, TransportEvent, TransportId, Watchdog, wire,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Publish(QoS),
    /// A message of this QoS, retained or not, this urgent, which expires after so many seconds if it does, with a payload of so
    /// many bytes.
    PublishInto(QoS, bool, Priority, Option<u32>, usize),
    PublishKeyed(QoS, u8),
    Forget(u8),
    Subscribe,
    /// Lets the machine write, and answers so many of the packets that it wrote.
    Exchange(usize),
    Incoming(QoS, u16, bool),
    Release(u16),
    Settle(bool),
    Store,
    Cut,
    Reconnect(bool),
    Time(u64),
    Raw(Vec<u8>),
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![6 => Just(Priority::Normal), 1 => Just(Priority::High), 1 => Just(Priority::Low)]
}

fn expiry() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![6 => Just(None), 1 => (0_u32..50).prop_map(Some)]
}

fn step(raw: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => qos().prop_map(Step::Publish),
        6 => (qos(), any::<bool>(), priority(), expiry(), prop_oneof![0_usize..40, 0_usize..4_000])
            .prop_map(|(qos, retain, priority, expiry, size)| Step::PublishInto(qos, retain, priority, expiry, size)),
        2 => (qos(), 0_u8..4).prop_map(|(qos, key)| Step::PublishKeyed(qos, key)),
        1 => (0_u8..4).prop_map(Step::Forget),
        1 => Just(Step::Subscribe),
        6 => (0_usize..6).prop_map(Step::Exchange),
        4 => (qos(), 1_u16..6, any::<bool>()).prop_map(|(qos, id, dup)| Step::Incoming(qos, id, dup)),
        2 => (1_u16..6).prop_map(Step::Release),
        3 => any::<bool>().prop_map(Step::Settle),
        4 => Just(Step::Store),
        1 => Just(Step::Cut),
        2 => any::<bool>().prop_map(Step::Reconnect),
        1 => (0_u64..100_000_000).prop_map(Step::Time),
        u32::from(raw) => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Raw),
    ]
}

fn config(version: ProtocolVersion, durable: bool, policy: LostSession) -> Config {
    Config::new(Server::new("s"))
        .client_id("c")
        .version(version)
        .clean_start(CleanStart::Never)
        .lost_session(policy)
        .durable(durable)
}

/// A machine with a store that syncs when told, and a server made of the test's steps.
struct World {
    machine: Machine,
    version: ProtocolVersion,
    now: Instant,
    transport: Option<TransportId>,
    output: Output,
    pending: Vec<Packet<'static>>,
    receipts: Vec<Receipt>,
    records: Vec<Record>,
    /// What a store holds of them.
    table: BTreeMap<Bytes, Bytes>,
    durable: usize,
    accepted: BTreeSet<u64>,
    ended: BTreeMap<u64, usize>,
    delivered: usize,
    /// Publications go the short way, and ends of commands are taken in runs.
    short: bool,
    /// What the server says of itself.
    capabilities: PropertiesBuf,
}

impl World {
    fn new(config: Config) -> Self {
        let version = config.version;
        let mut machine = Machine::new(Arc::new(config), 3, Instant::ZERO);
        machine.connect(Instant::ZERO).unwrap();
        Self {
            machine,
            version,
            now: Instant::ZERO,
            transport: None,
            output: Output::with_mark(200),
            pending: Vec::new(),
            receipts: Vec::new(),
            records: Vec::new(),
            table: BTreeMap::new(),
            durable: 0,
            accepted: BTreeSet::new(),
            ended: BTreeMap::new(),
            delivered: 0,
            short: false,
            capabilities: PropertiesBuf::new(),
        }
    }

    fn collect(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Store { seq, record } => {
                    assert_eq!(journal::decode(&journal::encode(&record)), Ok(record.clone()));
                    let table = &mut self.table;
                    journal::changes(&record, &mut |change| change.apply(table));
                    self.records.push(record);
                    assert_eq!(seq, JournalSeq::new(self.records.len() as u64));
                }
                Action::OpenTransport { id, .. } => {
                    self.transport = Some(id);
                    self.output.clear();
                    self.pending.clear();
                }
                Action::CloseTransport { id } if self.transport == Some(id) => self.transport = None,
                _ => {}
            }
        }
        loop {
            while self.short
                && let Some(completions) = self.machine.poll_completions()
            {
                completions.ops().for_each(|op| *self.ended.entry(op.to_u64()).or_default() += 1);
            }
            let Some(event) = self.machine.poll_event() else { break };
            match event {
                Event::Message { receipt, .. } => {
                    self.delivered += 1;
                    self.receipts.push(receipt);
                }
                Event::Completed { op, .. } => *self.ended.entry(op.to_u64()).or_default() += 1,
                _ => {}
            }
        }
        if let Some(at) = self.machine.poll_timeout() {
            let mut probe = self.machine.clone();
            let when = at.max(self.now);
            probe.handle_timeout(when);
            assert!(probe.poll_timeout().is_none_or(|next| next > when), "a deadline that does not move");
        }
    }

    fn receive(&mut self, packet: &Packet<'_>) {
        let Some(id) = self.transport else { return };
        let mut bytes = BytesMut::new();
        wire::encode(packet, self.version, &mut bytes).unwrap();
        self.machine.handle_input(self.now, id, &mut bytes);
    }

    /// Takes what the machine writes; the server's answers wait in `pending`.
    fn exchange(&mut self, answers: usize) {
        self.machine.transmit(self.now, &mut self.output);
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&self.output.copy_to_bytes(self.output.remaining()));
        if let Some(id) = self.transport {
            self.machine.handle_sent(self.now, id, bytes.len());
        }
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            let packet = wire::decode(&frame, self.version, Sender::Client).unwrap();
            self.assert_durable(&packet);
            if let Some(answer) = answer(&packet, self.version) {
                self.pending.push(answer);
            }
        }
        let answers = answers.min(self.pending.len());
        for packet in self.pending.drain(..answers).collect::<Vec<_>>() {
            self.receive(&packet);
        }
    }

    /// Contract 8: what a packet depends on stands in the durable part of the journal.
    fn assert_durable(&self, packet: &Packet<'_>) {
        let durable = &self.records[..self.durable];
        let holds = match packet {
            Packet::Publish(Publish { packet_id: Some(id), .. }) => durable
                .iter()
                .any(|record| matches!(record, Record::Assigned { packet_id, .. } if packet_id == id)),
            Packet::Ack(Ack {
                kind: AckKind::PubRel, packet_id: id, reason: ReasonCode::Success, ..
            }) => {
                self.version != ProtocolVersion::V5
                    || durable
                        .iter()
                        .any(|record| matches!(record, Record::Released { packet_id, .. } if packet_id == id))
            }
            Packet::Ack(Ack {
                kind: AckKind::PubRec, packet_id: id, reason: ReasonCode::Success, ..
            }) => durable
                .iter()
                .any(|record| matches!(record, Record::Received { packet_id, .. } if packet_id == id)),
            Packet::Connect(_) => durable.iter().any(|record| matches!(record, Record::SessionBegan { .. })),
            _ => true,
        };
        assert!(holds || !self.is_durable_run(), "{packet:?} left before its record was durable");
    }

    fn is_durable_run(&self) -> bool {
        !self.records.is_empty()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish(qos) => {
                let message = Message::to("t", "payload").unwrap().qos(qos);
                if let Ok(op) = self.machine.publish(self.now, message) {
                    assert!(self.accepted.insert(op.to_u64()), "an operation's name came again");
                }
            }
            Step::PublishInto(qos, retain, priority, expiry, size) => {
                let message = Message::to("topic/1", vec![b'x'; size]).unwrap();
                let mut message = message.qos(qos).retain(retain).priority(priority);
                if let Some(seconds) = expiry {
                    message = message.property(Property::MessageExpiryInterval(seconds)).unwrap();
                }
                let result = if self.short {
                    self.machine.publish_into(self.now, &message, &mut self.output)
                } else {
                    self.machine.publish(self.now, message).inspect(|_| {
                        self.machine.transmit(self.now, &mut self.output);
                    })
                };
                if let Ok(op) = result {
                    assert!(self.accepted.insert(op.to_u64()), "an operation's name came again");
                }
            }
            Step::PublishKeyed(qos, key) => {
                let message = Message::to("t", "payload").unwrap().qos(qos);
                let key = PublishKey::new([key]).unwrap();
                if let Ok(KeyedPublication::Accepted(op)) = self.machine.publish_keyed(self.now, key, message)
                {
                    assert!(self.accepted.insert(op.to_u64()), "an operation's name came again");
                }
            }
            Step::Forget(key) => self.machine.forget(self.now, &PublishKey::new([key]).unwrap()),
            Step::Subscribe => {
                let subscribe = Subscribe::to(TopicFilter::new("a/#").unwrap(), QoS::AtLeastOnce);
                self.accepted.insert(self.machine.subscribe(self.now, subscribe).unwrap().to_u64());
            }
            Step::Exchange(answers) => self.exchange(answers),
            Step::Incoming(qos, id, dup) => {
                let packet_id = (qos != QoS::AtMostOnce).then(|| PacketId::new(id).unwrap());
                let dup = dup && packet_id.is_some();
                let properties = Properties::EMPTY;
                let (topic, payload, retain) = (Topic::new("a/b").unwrap(), &b"in"[..], false);
                self.receive(&Packet::Publish(Publish {
                    dup,
                    qos,
                    retain,
                    topic,
                    packet_id,
                    properties,
                    payload,
                }));
            }
            Step::Release(id) => {
                self.receive(&Packet::Ack(Ack::new(AckKind::PubRel, PacketId::new(id).unwrap())));
            }
            Step::Settle(last) => {
                if !self.receipts.is_empty() {
                    let place = if last { self.receipts.len() - 1 } else { 0 };
                    let receipt = self.receipts.remove(place);
                    self.machine.settle(self.now, receipt, ReasonCode::Success);
                }
            }
            Step::Store => {
                self.durable = self.records.len();
                self.machine.handle_stored(self.now, Ok(JournalSeq::new(self.durable as u64)));
            }
            Step::Cut => {
                if let Some(id) = self.transport.take() {
                    self.machine.handle_transport(self.now, id, TransportEvent::Closed(None));
                }
            }
            Step::Reconnect(session_present) => self.reconnect(session_present),
            Step::Time(micros) => {
                self.now += Duration::from_micros(micros);
                self.machine.handle_timeout(self.now);
            }
            Step::Raw(bytes) => {
                if let Some(id) = self.transport {
                    self.machine.handle_input(self.now, id, &mut BytesMut::from(&bytes[..]));
                }
            }
        }
        self.collect();
    }

    fn reconnect(&mut self, session_present: bool) {
        if self.machine.is_connected() {
            return;
        }
        if let Some(at) = self.machine.poll_timeout() {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
        if self.machine.is_idle() {
            let _ = self.machine.connect(self.now);
        }
        self.collect();
        let Some(id) = self.transport else { return };
        self.machine.handle_transport(self.now, id, TransportEvent::Opened);
        // CONNECT waits for the records before it.
        self.apply(Step::Store);
        self.exchange(0);
        let capabilities = self.capabilities.clone();
        let properties = capabilities.as_properties();
        self.receive(&Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::Success, properties }));
    }
}

fn answer(packet: &Packet<'_>, version: ProtocolVersion) -> Option<Packet<'static>> {
    match packet {
        Packet::Publish(publish) => {
            let kind = if publish.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
            Some(Packet::Ack(Ack::new(kind, publish.packet_id?)))
        }
        Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
            Some(Packet::Ack(Ack::new(AckKind::PubComp, ack.packet_id)))
        }
        Packet::Subscribe(subscribe) => {
            let codes = ReasonCodes::from_bytes(&[1]).unwrap();
            let (packet_id, properties) = (subscribe.packet_id, Properties::EMPTY);
            let _ = version;
            Some(Packet::SubAck(SubAck { packet_id, properties, codes }))
        }
        _ => None,
    }
}

fn versions() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V3_1), Just(ProtocolVersion::V3_1_1), Just(ProtocolVersion::V5)]
}

fn policies() -> impl Strategy<Value = LostSession> {
    prop_oneof![Just(LostSession::SendAgain), Just(LostSession::Report)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_session_is_the_fold_of_its_records_after_every_step(
        version in versions(),
        policy in policies(),
        steps in proptest::collection::vec(step(true), 0..120),
    ) {
        let config = config(version, true, policy);
        let mut world = World::new(config.clone());
        for step in steps {
            world.apply(step);
            let records = world.records.clone();
            let restored = Machine::restore(Arc::new(config.clone()), 1, world.now, Duration::ZERO, records).unwrap();
            prop_assert_eq!(restored.session(), world.machine.session());
            let records = journal::records(&world.table).unwrap();
            let restored = Machine::restore(Arc::new(config.clone()), 1, world.now, Duration::ZERO, records).unwrap();
            prop_assert_eq!(restored.session(), world.machine.session());
        }
    }

    #[test]
    fn every_accepted_command_ends_exactly_once(
        version in versions(),
        policy in policies(),
        durable in any::<bool>(),
        steps in proptest::collection::vec(step(true), 0..160),
    ) {
        let mut world = World::new(config(version, durable, policy));
        for step in steps {
            world.apply(step);
        }
        world.apply(Step::Store);
        let op = world.machine.disconnect(world.now, Disconnect::new(Duration::ZERO));
        if let Ok(op) = op {
            world.accepted.insert(op.to_u64());
        }
        for _ in 0..10 {
            world.exchange(0);
            world.apply(Step::Store);
            if let Some(at) = world.machine.poll_timeout() {
                world.now = world.now.max(at);
                world.machine.handle_timeout(world.now);
            }
            world.collect();
        }
        prop_assert!(world.machine.is_idle());
        let ended: BTreeSet<u64> = world.ended.keys().copied().collect();
        prop_assert_eq!(ended, world.accepted);
        prop_assert!(world.ended.values().all(|count| *count == 1));
    }

    #[test]
    fn publishing_into_the_output_is_to_publish_and_to_transmit(
        version in versions(),
        durable in any::<bool>(),
        aliases in any::<bool>(),
        little in any::<bool>(),
        steps in proptest::collection::vec(step(true), 0..120),
    ) {
        let mut config = config(version, durable, LostSession::SendAgain);
        config.topic_aliases.automatic = aliases;
        config.limits.outgoing_messages = 12;
        config.watchdog = aliases.then(|| Watchdog::tell_after(Duration::from_secs(20)));
        let mut capabilities = PropertiesBuf::new();
        if little {
            for property in [
                Property::ReceiveMaximum(2), Property::MaximumPacketSize(60), Property::MaximumQoS(1), Property::RetainAvailable(false),
                Property::TopicAliasMaximum(2),
            ] {
                capabilities.push(property).unwrap();
            }
        }
        let world = |short| World { short, capabilities: capabilities.clone(), ..World::new(config.clone()) };
        let (mut long, mut short) = (world(false), world(true));
        for step in steps {
            long.apply(step.clone());
            short.apply(step);
            let seen = |world: &mut World| {
                let mut bytes = Vec::new();
                let mut slices = [IoSlice::new(&[]); 64];
                let filled = world.output.chunks_vectored(&mut slices);
                slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
                let machine = &world.machine;
                let mut metrics = machine.metrics();
                metrics.memory_used = 0;
                (bytes, machine.session(), metrics, machine.poll_timeout(), world.ended.clone(), world.accepted.clone())
            };
            prop_assert_eq!(seen(&mut short), seen(&mut long));
        }
    }

    #[test]
    fn chunking_never_matters(
        version in versions(),
        packets in proptest::collection::vec((qos(), 1_u16..9, any::<bool>(), 0_usize..300), 1..20),
        cuts in proptest::collection::vec(1_usize..40, 1..20),
        garbage in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = BytesMut::new();
        let properties = Properties::EMPTY;
        let connack = ConnAck { session_present: false, reason: ReasonCode::Success, properties };
        wire::encode(&Packet::ConnAck(connack), version, &mut bytes).unwrap();
        for (qos, id, ack, size) in packets {
            let id = PacketId::new(id).unwrap();
            let payload = vec![b'x'; size];
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            let packet = if ack {
                Packet::Ack(Ack::new(AckKind::PubRel, id))
            } else {
                Packet::Publish(Publish {
                    dup: false, qos, retain: false, topic: Topic::new("t/u").unwrap(), packet_id, properties, payload: &payload,
                })
            };
            wire::encode(&packet, version, &mut bytes).unwrap();
        }
        bytes.extend_from_slice(&garbage);
        let run = |sizes: &mut dyn Iterator<Item = usize>| {
            let mut world = World::new(config(version, false, LostSession::SendAgain));
            world.collect();
            let id = world.transport.unwrap();
            world.machine.handle_transport(world.now, id, TransportEvent::Opened);
            let mut rest = bytes.clone();
            let mut buffer = BytesMut::new();
            while !rest.is_empty() {
                let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
                buffer.unsplit(rest.split_to(size));
                world.machine.handle_input(world.now, id, &mut buffer);
            }
            let mut output = Output::with_mark(usize::MAX);
            world.machine.transmit(world.now, &mut output);
            let events: Vec<Event> = std::iter::from_fn(|| world.machine.poll_event()).collect();
            (output.copy_to_bytes(output.remaining()), events, world.machine.session(), world.machine.is_connected())
        };
        let whole = run(&mut std::iter::empty());
        prop_assert_eq!(&run(&mut cuts.iter().copied().cycle()), &whole);
        prop_assert_eq!(&run(&mut std::iter::repeat(1)), &whole);
    }
}
