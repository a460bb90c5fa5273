//! The invariants of a machine hold under hostile histories: packets that nobody asked for, raw bytes, stale names, a
//! caller that calls in any order, a store that lags or fails, receipts that come back twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Disconnect as DisconnectPacket, Packet, PropertiesBuf, Property, Publish,
    ReasonCodes, SubAck, Topic, UnsubAck,
};
use mqtt_machine::{
    Action, Backoff, CleanStart, Config, Disconnect, Event, Instant, JournalSeq, Limits, LostSession,
    Message, Offline, OpId, Output, PacketId, ProtocolVersion, QoS, ReasonCode, Receipt, Server, StoreError,
    Subscribe, TopicFilter, TransportEvent, TransportId, Unsubscribe, Unsupported, wire,
};
use mqtt_machine_testkit::Random;
use mqtt_machine_testkit::invariants::Checked;

/// How many histories each version has.
const SEEDS: u64 = 3_000;

struct Hostile {
    random: Random,
    version: ProtocolVersion,
    machine: Checked,
    now: Instant,
    output: Output,
    /// The transports that were ever asked for.
    transports: Vec<TransportId>,
    receipts: Vec<Receipt>,
    input: BytesMut,
    last: JournalSeq,
}

fn config(random: &mut Random, version: ProtocolVersion) -> Config {
    let limits = Limits {
        outgoing_messages: [3, 20, 1_000][random.size(0..=2)],
        outgoing_bytes: [600, 5_000, 1 << 20][random.size(0..=2)],
        incoming_bytes: [1, 400, 1 << 20][random.size(0..=2)],
        requests: [1, 10][random.size(0..=1)],
        in_flight: [0, 1, 3, u16::MAX][random.size(0..=3)],
        ..Limits::DEFAULT
    };
    let clean = [CleanStart::Always, CleanStart::FirstOnly, CleanStart::Never][random.size(0..=2)];
    let attempts = [Some(0), Some(3), None][random.size(0..=2)];
    let mut config = Config::new(Server::new("s"))
        .client_id(["", "c"][random.size(0..=1)])
        .version(version)
        .clean_start(clean)
        .keep_alive(Duration::from_secs([0, 20][random.size(0..=1)]))
        .backoff(Backoff { attempts, ..Backoff::DEFAULT })
        .lost_session([LostSession::SendAgain, LostSession::Report][random.size(0..=1)])
        .offline([Offline::Queue, Offline::Drop][random.size(0..=1)])
        .limits(limits)
        .durable(random.one_in(2));
    config.topic_aliases.automatic = random.one_in(2);
    config.receive_maximum = [1, 2, u16::MAX][random.size(0..=2)];
    config.topic_alias_maximum = [0, 2][random.size(0..=1)];
    config.maximum_packet_size = [64, 1 << 20][random.size(0..=1)];
    if random.one_in(3) {
        config.unsupported = Unsupported::Downgrade;
    }
    config
}

impl Hostile {
    fn new(seed: u64, version: ProtocolVersion) -> Self {
        let mut random = Random::new(seed);
        let config = config(&mut random, version);
        let machine = Checked::new(Arc::new(config), seed, Instant::ZERO);
        Self::with(random, version, machine)
    }

    /// Restored from a session that owes publications under the first and the last packet identifier.
    fn restored(seed: u64, version: ProtocolVersion) -> Self {
        let mut random = Random::new(seed);
        let config = config(&mut random, version).durable(true);
        let message = |text: &'static str, qos| Message::to("a", text).unwrap().qos(qos);
        let mut records = vec![Record::SessionBegan { identity: 1 }];
        let owed = [
            (1, QoS::AtLeastOnce),
            (2, QoS::ExactlyOnce),
            (4, QoS::ExactlyOnce),
            (u16::MAX, QoS::AtLeastOnce),
        ];
        for (op, (id, qos)) in (1..).map(OpId::new).zip(owed) {
            records.push(Record::Queued { op, message: message("owed", qos) });
            records.push(Record::Assigned { op, packet_id: PacketId::new(id).unwrap() });
        }
        let (now, away) = (Instant::ZERO, Duration::from_secs(1));
        let machine = Checked::restore(Arc::new(config), seed, now, away, records, None).unwrap();
        Self::with(random, version, machine)
    }

    fn with(random: Random, version: ProtocolVersion, machine: Checked) -> Self {
        Self {
            random,
            version,
            machine,
            now: Instant::ZERO,
            output: Output::with_mark(100),
            transports: Vec::new(),
            receipts: Vec::new(),
            input: BytesMut::new(),
            last: JournalSeq::ZERO,
        }
    }

    fn transport(&mut self) -> TransportId {
        let count = self.transports.len();
        if count == 0 || self.random.one_in(20) {
            return TransportId::new(self.random.range(0..=9));
        }
        let back = if self.random.one_in(8) { self.random.size(0..=count - 1) } else { 0 };
        self.transports[count - 1 - back]
    }

    fn packet_id(&mut self) -> PacketId {
        PacketId::new(self.random.range(1..=6) as u16).unwrap()
    }

    fn qos(&mut self) -> QoS {
        QoS::from_u8(self.random.range(0..=2) as u8).unwrap()
    }

    fn receive(&mut self, bytes: &[u8]) {
        let id = self.transport();
        self.input.extend_from_slice(bytes);
        self.machine.handle_input(self.now, id, &mut self.input);
        if self.input.len() > 10_000 {
            self.input.clear();
        }
    }

    fn receive_packet(&mut self, packet: &Packet<'_>) {
        let mut bytes = BytesMut::new();
        if wire::encode(packet, self.version, &mut bytes).is_ok() {
            self.receive(&bytes);
        }
    }

    fn connack(&mut self) {
        let mut properties = PropertiesBuf::new();
        if self.version == ProtocolVersion::V5 && self.random.one_in(2) {
            let maximum = [1, 2, 50][self.random.size(0..=2)];
            properties.push(Property::ReceiveMaximum(maximum)).unwrap();
            if self.random.one_in(4) {
                properties.push(Property::TopicAliasMaximum(2)).unwrap();
            }
            if self.random.one_in(4) {
                properties.push(Property::MaximumPacketSize(self.random.range(10..=60) as u32)).unwrap();
            }
            if self.random.one_in(4) {
                properties.push(Property::MaximumQoS(self.random.range(0..=1) as u8)).unwrap();
            }
        }
        let session_present = self.random.one_in(2);
        let reason = if self.random.one_in(10) { ReasonCode::ServerUnavailable } else { ReasonCode::Success };
        let session_present = session_present && reason == ReasonCode::Success;
        let properties = properties.as_properties();
        self.receive_packet(&Packet::ConnAck(ConnAck { session_present, reason, properties }));
    }

    fn publish(&mut self) {
        let qos = self.qos();
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.packet_id());
        let dup = packet_id.is_some() && self.random.one_in(2);
        let mut properties = PropertiesBuf::new();
        let mut topic = "a/b";
        if self.version == ProtocolVersion::V5 && self.random.one_in(3) {
            properties.push(Property::TopicAlias(self.random.range(1..=3) as u16)).unwrap();
            topic = if self.random.one_in(2) { "" } else { ["x", "y"][self.random.size(0..=1)] };
        }
        let payload = vec![b'p'; self.random.size(0..=80)];
        let retain = self.random.one_in(5);
        let properties = properties.as_properties();
        self.receive_packet(&Packet::Publish(Publish {
            dup,
            qos,
            retain,
            topic: Topic::new(topic).unwrap_or_default(),
            packet_id,
            properties,
            payload: &payload,
        }));
    }

    fn ack(&mut self) {
        let kinds = [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp];
        let kind = kinds[self.random.size(0..=3)];
        let failure = self.version == ProtocolVersion::V5 && self.random.one_in(4);
        let reason = match kind {
            _ if !failure => ReasonCode::Success,
            AckKind::PubAck | AckKind::PubRec if self.random.one_in(2) => ReasonCode::NoMatchingSubscribers,
            AckKind::PubAck | AckKind::PubRec => ReasonCode::NotAuthorized,
            AckKind::PubRel | AckKind::PubComp => ReasonCode::PacketIdentifierNotFound,
        };
        let packet_id = self.packet_id();
        let mut words = PropertiesBuf::new();
        if failure && self.random.one_in(2) {
            // Sometimes more than the message was.
            words.push(Property::ReasonString(&"w".repeat(self.random.size(0..=300)))).unwrap();
        }
        let properties = words.as_properties();
        self.receive_packet(&Packet::Ack(Ack { kind, packet_id, reason, properties }));
    }

    fn answer_request(&mut self) {
        let codes = [1_u8, 0x80, 0][self.random.size(0..=2)];
        let codes = vec![codes; self.random.size(1..=2)];
        let packet_id = self.packet_id();
        let properties = mqtt_machine::packet::Properties::EMPTY;
        if self.random.one_in(2) {
            let codes = ReasonCodes::from_bytes(&codes).unwrap();
            self.receive_packet(&Packet::SubAck(SubAck { packet_id, properties, codes }));
        } else {
            let codes = if self.version == ProtocolVersion::V5 { &[0_u8, 0x11][..codes.len()] } else { &[] };
            let codes = ReasonCodes::from_bytes(codes).unwrap();
            self.receive_packet(&Packet::UnsubAck(UnsubAck { packet_id, properties, codes }));
        }
    }

    fn odd_packet(&mut self) {
        let properties = mqtt_machine::packet::Properties::EMPTY;
        let reason = ReasonCode::ServerShuttingDown;
        let packet = match self.random.range(0..=3) {
            0 => Packet::PingResp,
            1 => Packet::Disconnect(DisconnectPacket { reason, properties }),
            2 => Packet::Auth(Auth { reason: ReasonCode::ContinueAuthentication, properties }),
            _ => Packet::PingReq,
        };
        self.receive_packet(&packet);
    }

    fn command(&mut self) {
        let now = self.now;
        match self.random.range(0..=9) {
            0 => drop(self.machine.connect(now)),
            1 if self.random.one_in(4) => drop(self.machine.reconnect(now)),
            2 if self.random.one_in(4) => {
                let drain = Duration::from_millis(self.random.range(0..=2_000));
                drop(self.machine.disconnect(now, Disconnect::new(drain)));
            }
            3 => {
                let filter = TopicFilter::new(["a/#", "b"][self.random.size(0..=1)]).unwrap();
                let mut request = Subscribe::to(filter, QoS::AtLeastOnce);
                // In turn with none, with one, and with another.
                request.identifier = Some(now.as_micros() as u32 % 3).filter(|number| *number > 0);
                drop(self.machine.subscribe(now, request));
            }
            4 => {
                let filters = vec![TopicFilter::new("a/#").unwrap()];
                drop(self.machine.unsubscribe(now, Unsubscribe::new(filters)));
            }
            _ => {
                let number = self.random.next_u64();
                // More topics than aliases, and long enough to get one.
                let topic = ["here", "there", "elsewhere"][(number % 3) as usize];
                let payload = format!("{number} {}", ".".repeat(self.random.size(0..=90)));
                let mut message = Message::to(topic, payload).unwrap().qos(self.qos());
                message.retain = self.random.one_in(9);
                if self.version == ProtocolVersion::V5 && self.random.one_in(4) {
                    message = message.property(Property::MessageExpiryInterval(1)).unwrap();
                }
                drop(self.machine.publish(now, message));
            }
        }
    }

    fn settle(&mut self) {
        if self.receipts.is_empty() {
            return;
        }
        let at = self.random.size(0..=self.receipts.len() - 1);
        let receipt = self.receipts.swap_remove(at);
        let reason = match self.random.range(0..=9) {
            0 | 1 => ReasonCode::NotAuthorized,
            2 => ReasonCode::ALL[self.random.size(0..=ReasonCode::ALL.len() - 1)],
            _ => ReasonCode::Success,
        };
        if self.random.one_in(30) {
            self.machine.settle(self.now, receipt.clone(), ReasonCode::Success);
        }
        self.machine.settle(self.now, receipt, reason);
    }

    fn write(&mut self) {
        let id = self.transport();
        self.machine.transmit(self.now, &mut self.output);
        let bytes = self.output.remaining();
        let sent = if self.random.one_in(3) { bytes / 2 } else { bytes };
        self.output.advance(sent);
        self.machine.handle_sent(self.now, id, sent);
    }

    fn collect(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::OpenTransport { id, .. } => {
                    self.transports.push(id);
                    self.output.clear();
                    self.input.clear();
                }
                Action::Store { seq, .. } => self.last = seq,
                _ => {}
            }
        }
    }

    /// Brings a connection about, so that histories become deep.
    fn get_on(&mut self) {
        self.collect();
        if self.machine.is_idle() {
            drop(self.machine.connect(self.now));
        } else if let Some(id) = self.transports.last().copied() {
            self.input.clear();
            self.machine.handle_transport(self.now, id, TransportEvent::Opened);
            self.machine.transmit(self.now, &mut self.output);
            self.output.clear();
            self.connack();
        }
        if !self.machine.is_connected()
            && let Some(at) = self.machine.poll_timeout()
        {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
    }

    fn step(&mut self) {
        let id = self.transport();
        if !self.machine.is_connected() && self.random.one_in(4) {
            return self.get_on();
        }
        match self.random.range(0..=30) {
            0..=5 => self.command(),
            6..=10 => self.write(),
            11..=12 => self.connack(),
            13..=15 => self.publish(),
            16..=18 => self.ack(),
            19 => self.answer_request(),
            20 if self.random.one_in(4) => self.odd_packet(),
            21 if self.random.one_in(8) => {
                let bytes: Vec<u8> =
                    (0..self.random.size(1..=20)).map(|_| self.random.next_u64() as u8).collect();
                self.receive(&bytes);
            }
            22..=23 => self.settle(),
            24 => {
                self.now += Duration::from_millis(self.random.range(0..=30_000));
                self.machine.handle_timeout(self.now);
            }
            25 => self.machine.handle_transport(self.now, id, TransportEvent::Opened),
            26 if self.random.one_in(4) => {
                self.machine.handle_transport(self.now, id, TransportEvent::Closed(None));
            }
            27 if self.random.one_in(9) => {
                self.machine.handle_transport(self.now, id, TransportEvent::OpenFailed("no".into()));
            }
            28 => {
                let seq = JournalSeq::new(self.random.range(0..=self.last.to_u64()));
                self.machine.handle_stored(self.now, Ok(seq));
            }
            29 if self.random.one_in(60) => {
                let error = StoreError("the disk is full".into());
                self.machine.handle_stored(self.now, Err(error));
            }
            30 => self.events(),
            _ => {
                if let Some(at) = self.machine.poll_timeout().filter(|_| self.random.one_in(3)) {
                    self.now = self.now.max(at);
                    self.machine.handle_timeout(self.now);
                }
            }
        }
        if !self.random.one_in(5) {
            self.collect();
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            if let Event::Message { receipt, .. } = event {
                self.receipts.push(receipt);
            }
            if self.random.one_in(10) {
                return;
            }
        }
    }

    /// Disconnects, and lets everything come to its end.
    fn end(&mut self) {
        self.collect();
        // Refused when one is under way.
        drop(self.machine.disconnect(self.now, Disconnect::new(Duration::ZERO)));
        for _ in 0..20 {
            self.collect();
            self.output.clear();
            self.machine.transmit(self.now, &mut self.output);
            if let Some(id) = self.transports.last() {
                self.machine.handle_sent(self.now, *id, self.output.remaining());
            }
            self.collect();
            self.machine.handle_stored(self.now, Ok(self.last));
            if let Some(at) = self.machine.poll_timeout() {
                self.now = self.now.max(at);
                self.machine.handle_timeout(self.now);
            }
            while self.machine.poll_event().is_some() {}
        }
        assert!(self.machine.is_idle());
        self.machine.finish();
    }
}

fn run(version: ProtocolVersion) {
    let mut resent = 0;
    for seed in 0..SEEDS {
        resent += play(Hostile::new(seed, version), seed);
    }
    println!("MQTT {version}: {resent} resent");
    assert!(resent > 500, "{resent} resent: the histories are too shallow");
}

/// Plays a history to its end: how many publications were sent again.
fn play(mut hostile: Hostile, seed: u64) -> usize {
    let version = hostile.version;
    drop(hostile.machine.connect(Instant::ZERO));
    for step in 0..200 {
        hostile.step();
        let found = hostile.machine.violations();
        assert!(found.is_empty(), "MQTT {version}, seed {seed}, step {step}: {found:#?}");
    }
    hostile.end();
    let found = hostile.machine.violations();
    assert!(found.is_empty(), "MQTT {version}, seed {seed}, at the end: {found:#?}");
    hostile.machine.resent()
}

#[test]
fn the_invariants_hold_when_packet_identifiers_go_round() {
    for version in ProtocolVersion::ALL {
        let resent = (0..1_500).map(|seed| play(Hostile::restored(seed, version), seed)).sum::<usize>();
        assert!(resent > 100, "MQTT {version}: {resent} resent");
    }
}

#[test]
fn the_invariants_hold_under_hostile_histories_in_5_0() {
    run(ProtocolVersion::V5);
}

#[test]
fn the_invariants_hold_under_hostile_histories_in_3_1_1() {
    run(ProtocolVersion::V3_1_1);
}

#[test]
fn the_invariants_hold_under_hostile_histories_in_3_1() {
    run(ProtocolVersion::V3_1);
}
