//! Owns a machine and the far end of its transport, written by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "every test crate uses a part; a test may panic"
)]

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{Ack, AckKind, ConnAck, Packet, Properties, Sender};
use mqtt_machine::{
    Action, Config, Event, Instant, Machine, Outcome, Output, PacketId, ProtocolVersion, ReasonCode,
    TransportEvent, TransportId, wire,
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
        let mut bench = Self::new(config);
        bench.machine.connect(bench.now).unwrap();
        bench.open();
        bench.accept(session_present, properties);
        bench
    }

    pub fn connected(config: Config) -> Self {
        Self::connected_with(config, false, Properties::EMPTY)
    }

    pub fn open(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                self.transport = Some(id);
                self.output.clear();
                self.machine.handle_transport(self.now, id, TransportEvent::Opened);
            }
        }
        assert!(matches!(self.sent().as_slice(), [line] if line.starts_with("Connect")));
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

    /// What the machine sends now, one short line for each packet.
    pub fn sent(&mut self) -> Vec<String> {
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
        let mut lines = Vec::new();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            let frame = bytes.split_to(header.frame_len());
            lines.push(line(&wire::decode(&frame, self.version, Sender::Client).unwrap()));
        }
        assert!(bytes.is_empty(), "whole packets only");
        lines
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

    /// Time jumps to the next deadline.
    pub fn wake(&mut self) {
        self.now = self.machine.poll_timeout().unwrap().max(self.now);
        self.machine.handle_timeout(self.now);
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
