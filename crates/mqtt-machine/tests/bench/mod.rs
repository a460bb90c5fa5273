//! Owns a machine and the far end of its transport, written by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "every test crate uses a part; a test may panic"
)]

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, Publish, ReasonCodes, Sender, SubAck,
    Topic,
};
use mqtt_machine::{
    Action, Authentication, Config, EndReason, Event, Instant, Machine, Message, Outcome, Output, PacketId,
    ProtocolVersion, QoS, ReasonCode, Receipt, Secret, Server, TransportEvent, TransportId, wire,
};

/// A machine and the far end of its present transport, written by hand.
pub struct Bench {
    pub machine: Machine,
    pub now: Instant,
    pub transport: Option<TransportId>,
    pub output: Output,
    pub version: ProtocolVersion,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let version = config.version;
        let machine = Machine::new(Arc::new(config), 7, Instant::ZERO);
        Self { machine, now: Instant::ZERO, transport: None, output: Output::new(), version }
    }

    /// Connects, and answers CONNECT with this CONNACK.
    pub fn connected_with(config: Config, session_present: bool, properties: Properties<'_>) -> Self {
        let mut bench = Self::connecting(config);
        bench.accept(session_present, properties);
        bench
    }

    /// Connects, and sends CONNECT.
    pub fn connecting(config: Config) -> Self {
        let mut bench = Self::new(config);
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench
    }

    pub fn connected(config: Config) -> Self {
        Self::connected_with(config, false, Properties::EMPTY)
    }

    pub fn open(&mut self) {
        self.open_as("Connect");
    }

    /// Opens the transport that is asked for; the CONNECT that is sent begins with these words.
    pub fn open_as(&mut self, connect: &str) {
        while let Some(action) = self.machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                self.transport = Some(id);
                self.output.clear();
                self.machine.handle_transport(self.now, id, TransportEvent::Opened);
            } else if let Action::Store { seq, .. } = action {
                // CONNECT waits for the records before it.
                self.machine.handle_stored(self.now, Ok(seq));
            }
        }
        let sent = self.sent();
        assert!(matches!(sent.as_slice(), [line] if line.starts_with(connect)), "{sent:?}");
    }

    pub fn accept(&mut self, session_present: bool, properties: Properties<'_>) {
        self.receive(&Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::Success, properties }));
        assert!(matches!(self.machine.poll_event(), Some(Event::Connected(_))));
    }

    /// Takes the events so far, answers CONNECT, and takes what that tells.
    pub fn accept_after_events(&mut self, session_present: bool) {
        self.events();
        self.accept(session_present, Properties::EMPTY);
    }

    pub fn receive(&mut self, packet: &Packet<'_>) {
        let mut bytes = BytesMut::new();
        wire::encode(packet, self.version, &mut bytes).unwrap();
        self.receive_bytes(&mut bytes);
    }

    pub fn receive_bytes(&mut self, bytes: &mut BytesMut) {
        self.machine.handle_input(self.now, self.transport.unwrap(), bytes);
    }

    pub fn ack(&mut self, kind: AckKind, id: u16) {
        self.receive(&Packet::Ack(Ack::new(kind, PacketId::new(id).unwrap())));
    }

    /// An acknowledgement with this reason and these properties.
    pub fn ack_with(&mut self, kind: AckKind, id: u16, reason: ReasonCode, properties: &PropertiesBuf) {
        let properties = properties.as_properties();
        self.receive(&Packet::Ack(Ack { kind, packet_id: PacketId::new(id).unwrap(), reason, properties }));
    }

    /// Answers a SUBSCRIBE with these reason codes.
    pub fn suback(&mut self, id: u16, codes: &[u8]) {
        self.suback_with(id, codes, Properties::EMPTY);
    }

    pub fn suback_with(&mut self, id: u16, codes: &[u8], properties: Properties<'_>) {
        let codes = ReasonCodes::from_bytes(codes).unwrap();
        let packet_id = PacketId::new(id).unwrap();
        self.receive(&Packet::SubAck(SubAck { packet_id, properties, codes }));
    }

    /// The bytes that the machine sends now.
    pub fn sent_bytes(&mut self) -> BytesMut {
        self.machine.transmit(self.now, &mut self.output);
        let mut bytes = BytesMut::new();
        while self.output.has_remaining() {
            let chunk = self.output.chunk().to_vec();
            bytes.extend_from_slice(&chunk);
            self.output.advance(chunk.len());
        }
        if let Some(id) = self.transport {
            self.machine.handle_sent(self.now, id, bytes.len());
        }
        bytes
    }

    /// What the machine sends now, packet by packet.
    pub fn each_sent(&mut self, mut see: impl FnMut(&Packet<'_>)) {
        let mut bytes = self.sent_bytes();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            see(&wire::decode(&frame, self.version, Sender::Client).unwrap());
        }
        assert!(bytes.is_empty(), "whole packets only");
    }

    /// What the machine sends now, one short line for each packet.
    pub fn sent(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.each_sent(|packet| lines.push(line(packet)));
        lines
    }

    /// The topics and properties of the publications that the machine sends now.
    pub fn publications(&mut self) -> Vec<(String, PropertiesBuf)> {
        let mut list = Vec::new();
        self.each_sent(|packet| {
            if let Packet::Publish(publish) = packet {
                list.push((publish.topic.to_string(), PropertiesBuf::copy_from(publish.properties)));
            }
        });
        list
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    pub fn outcomes(&mut self) -> Vec<(u64, Outcome)> {
        let outcome = |event| match event {
            Event::Completed { op, outcome } => Some((op.to_u64(), outcome)),
            _ => None,
        };
        self.events().into_iter().filter_map(outcome).collect()
    }

    pub fn cut(&mut self) {
        self.machine.handle_transport(self.now, self.transport.unwrap(), TransportEvent::Closed(None));
    }

    /// Whether the machine has asked for its transport to be closed.
    pub fn is_closed(&mut self) -> bool {
        std::iter::from_fn(|| self.machine.poll_action())
            .any(|action| matches!(action, Action::CloseTransport { .. }))
    }

    /// How the connection or the attempt ended.
    pub fn end(&mut self) -> EndReason {
        let ended = self.events().into_iter().find_map(|event| match event {
            Event::ConnectFailed(ended) | Event::Disconnected(ended) => Some(ended.reason),
            _ => None,
        });
        ended.expect("it has ended")
    }

    /// What was sent in answer to a violation, which also closed the connection.
    pub fn told(&mut self) -> Vec<String> {
        let sent = self.sent();
        assert!(self.is_closed());
        assert!(matches!(self.end(), EndReason::Malformed(_) | EndReason::Protocol(_)));
        sent
    }

    /// The receipts of the messages that have been told.
    pub fn receipts(&mut self) -> Vec<Receipt> {
        let receipt = |event| match event {
            Event::Message { receipt, .. } => Some(receipt),
            _ => None,
        };
        self.events().into_iter().filter_map(receipt).collect()
    }

    /// Gives every receipt back with this reason.
    pub fn settle_all(&mut self, reason: ReasonCode) {
        for receipt in self.receipts() {
            self.machine.settle(self.now, receipt, reason);
        }
    }

    /// Time jumps to the next deadline.
    pub fn wake(&mut self) {
        self.now = self.machine.poll_timeout().unwrap().max(self.now);
        self.machine.handle_timeout(self.now);
    }

    /// Carries out what the machine wants until a CONNECT has left: where to. The far end speaks its version.
    pub fn opened(&mut self) -> String {
        loop {
            match self.machine.poll_action() {
                Some(Action::OpenTransport { id, server }) => {
                    self.transport = Some(id);
                    self.output.clear();
                    self.machine.handle_transport(self.now, id, TransportEvent::Opened);
                    self.store();
                    let bytes = self.sent_bytes();
                    let connect = wire::decode(&bytes, ProtocolVersion::V5, Sender::Client);
                    let Ok(Packet::Connect(connect)) = connect else { panic!("{bytes:?}") };
                    self.version = connect.version;
                    return server.as_str().to_owned();
                }
                Some(Action::Store { seq, .. }) => self.machine.handle_stored(self.now, Ok(seq)),
                Some(_) => {}
                None => {
                    self.now = self.machine.poll_timeout().expect("another attempt").max(self.now);
                    self.machine.handle_timeout(self.now);
                }
            }
        }
    }

    /// Every record is durable: CONNECT waits for those before it.
    fn store(&mut self) {
        while let Some(Action::Store { seq, .. }) = self.machine.poll_action() {
            self.machine.handle_stored(self.now, Ok(seq));
        }
    }

    /// Answers CONNECT with a refusal.
    pub fn refuse(&mut self, reason: ReasonCode, properties: &PropertiesBuf) {
        let properties = properties.as_properties();
        self.receive(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
    }

    pub fn reconnect(&mut self, session_present: bool) {
        self.cut();
        self.wake();
        self.open();
        self.events();
        let properties = Properties::EMPTY;
        self.receive(&Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::Success, properties }));
        assert!(self.machine.is_connected());
    }
}

/// The properties as a list.
pub fn list<const N: usize>(properties: [Property<'_>; N]) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for property in properties {
        list.push(property).unwrap();
    }
    list
}

/// Where else to go.
pub fn reference(servers: &str) -> PropertiesBuf {
    list([Property::ServerReference(servers)])
}

/// A message from the server to `in`; an identifier of 0 is none.
pub fn incoming(qos: QoS, id: u16) -> Packet<'static> {
    let (topic, packet_id, properties) = (Topic::new("in").unwrap(), PacketId::new(id), Properties::EMPTY);
    Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" })
}

/// One short line for a packet.
pub fn line(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(publish) => format!(
            "Publish {} qos{}{}{} {}",
            publish.topic,
            publish.qos,
            if publish.dup { " dup" } else { "" },
            publish.packet_id.map_or(String::new(), |id| format!(" id{id}")),
            String::from_utf8_lossy(publish.payload),
        ),
        Packet::Ack(ack) => match ack.reason {
            ReasonCode::Success => format!("{:?} id{}", ack.kind, ack.packet_id),
            reason => format!("{:?} id{} 0x{:02X}", ack.kind, ack.packet_id, reason.to_u8()),
        },
        Packet::Subscribe(subscribe) => {
            let filters: Vec<&str> = subscribe.filters.iter().map(|filter| filter.filter).collect();
            format!("Subscribe id{} {}", subscribe.packet_id, filters.join(","))
        }
        Packet::Unsubscribe(unsubscribe) => {
            format!("Unsubscribe id{} {}", unsubscribe.packet_id, unsubscribe.filters.join(","))
        }
        Packet::Disconnect(disconnect) => format!("Disconnect 0x{:02X}", disconnect.reason.to_u8()),
        Packet::Connect(connect) => format!("Connect clean={} id={}", connect.clean_start, connect.client_id),
        other => format!("{}", other.packet_type()),
    }
}

/// A client named `test` that speaks this version.
pub fn config(version: ProtocolVersion) -> Config {
    Config::new(Server::new("broker")).client_id("test").version(version)
}

/// One that names the authentication method X (5.0).
pub fn authenticating() -> Config {
    let mut config = config(ProtocolVersion::V5);
    let initial_data = Some(Secret::new(&b"first"[..]));
    config.authentication = Some(Authentication { method: "X".to_owned(), initial_data });
    config
}

/// Connected to a server that says this in its CONNACK.
pub fn connected<const N: usize>(config: Config, properties: [Property<'_>; N]) -> Bench {
    Bench::connected_with(config, false, list(properties).as_properties())
}

/// A small message.
pub fn message(qos: QoS) -> Message {
    Message::to("a/b", "x").unwrap().qos(qos)
}
