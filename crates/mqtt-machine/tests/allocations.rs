//! Owns the proof that messages that pass through a connected machine allocate nothing, once its tables have their size.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

use std::alloc::System;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use mqtt_machine::packet::{Ack, AckKind, ConnAck, Packet, Properties, Publish, Topic};
use mqtt_machine::{
    Action, Config, Event, Instant, Machine, Message, Output, PacketId, ProtocolVersion, QoS, ReasonCode,
    Receipt, Server, TransportEvent, TransportId, wire,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often the heap was asked for memory.
fn asked() -> usize {
    let stats = HEAP.stats();
    stats.allocations + stats.reallocations
}

/// A connected machine, with the driver's buffers and the server's side as bytes.
struct Client {
    machine: Machine,
    transport: TransportId,
    version: ProtocolVersion,
    output: Output,
    input: BytesMut,
    bytes: BytesMut,
    message: Message,
    receipts: VecDeque<Receipt>,
    ended: usize,
    /// The oldest publication that is not acknowledged, and the next one.
    oldest: PacketId,
    next: PacketId,
}

impl Client {
    fn new(version: ProtocolVersion) -> Self {
        let config = Config::new(Server::new("broker")).client_id("steady").version(version);
        let mut machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
        machine.connect(Instant::ZERO).unwrap();
        let Some(Action::OpenTransport { id: transport, .. }) = machine.poll_action() else { panic!() };
        machine.handle_transport(Instant::ZERO, transport, TransportEvent::Opened);
        let message = Message::to("sensors/kitchen/1/tmp", vec![7; 64]).unwrap();
        let mut client = Self {
            machine,
            transport,
            version,
            output: Output::new(),
            input: BytesMut::new(),
            bytes: BytesMut::new(),
            message,
            receipts: VecDeque::new(),
            ended: 0,
            oldest: PacketId::MIN,
            next: PacketId::MIN,
        };
        client.write();
        let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
        client.hears(&Packet::ConnAck(ConnAck { session_present: false, reason, properties }));
        client.read();
        assert!(client.machine.is_connected());
        client
    }

    fn write(&mut self) {
        loop {
            self.machine.transmit(Instant::ZERO, &mut self.output);
            let count = self.output.remaining();
            if count == 0 {
                return;
            }
            self.output.advance(count);
            self.machine.handle_sent(Instant::ZERO, self.transport, count);
        }
    }

    /// Adds a packet of the server's to what is read next.
    fn hears(&mut self, packet: &Packet<'_>) {
        wire::encode(packet, self.version, &mut self.bytes).unwrap();
    }

    /// Reads 4 KiB at a time, as a driver does.
    fn read(&mut self) {
        while !self.bytes.is_empty() {
            let count = self.bytes.len().min(4_096);
            self.input.put_slice(&self.bytes[..count]);
            self.bytes.advance(count);
            self.machine.handle_input(Instant::ZERO, self.transport, &mut self.input);
            self.take();
        }
        self.bytes.clear();
        self.write();
        self.take();
    }

    fn take(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Message { receipt, .. } => self.receipts.push_back(receipt),
                Event::Completed { .. } => self.ended += 1,
                _ => {}
            }
        }
    }

    fn publish(&mut self, qos: QoS, count: usize) {
        for _ in 0..count {
            self.machine.publish(Instant::ZERO, self.message.clone().qos(qos)).unwrap();
            if qos != QoS::AtMostOnce {
                self.next = self.next.next();
            }
        }
        self.write();
        self.take();
    }

    /// The server acknowledges the oldest `count` publications to the end.
    fn acknowledge(&mut self, qos: QoS, count: usize) {
        let kinds: &[AckKind] = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => &[AckKind::PubAck],
            QoS::ExactlyOnce => &[AckKind::PubRec, AckKind::PubComp],
        };
        let first = self.oldest;
        for kind in kinds {
            self.oldest = first;
            for _ in 0..count {
                self.hears(&Packet::Ack(Ack::new(*kind, self.oldest)));
                self.oldest = self.oldest.next();
            }
            self.read();
        }
    }

    /// `count` messages arrive, are settled, and are acknowledged to the end.
    fn receive(&mut self, qos: QoS, count: usize) {
        let mut id = self.next;
        for _ in 0..count {
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            let publish = Publish {
                dup: false,
                qos,
                retain: false,
                topic: Topic::new("sensors/kitchen/1/tmp").unwrap(),
                packet_id,
                properties: Properties::EMPTY,
                payload: &[7; 64],
            };
            self.hears(&Packet::Publish(publish));
            id = id.next();
        }
        self.read();
        while let Some(receipt) = self.receipts.pop_front() {
            self.ended += 1;
            self.machine.settle(Instant::ZERO, receipt, ReasonCode::Success);
        }
        self.write();
        let mut id = self.next;
        for _ in 0..count {
            if qos == QoS::ExactlyOnce {
                self.hears(&Packet::Ack(Ack::new(AckKind::PubRel, id)));
            }
            id = id.next();
        }
        self.read();
        self.next = id;
    }
}

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Runs `round`, of `count` messages, until all packet identifiers have come round and every table has its size, and then for a while:
/// nothing of that may allocate.
fn assert_steady(what: &str, client: &mut Client, count: usize, mut round: impl FnMut(&mut Client)) {
    for _ in 0..=66_000 / count {
        round(client);
    }
    let rounds = 5_000 / count;
    client.ended = 0;
    let before = asked();
    for _ in 0..rounds {
        round(client);
    }
    assert_eq!(asked() - before, 0, "{what}: allocations for {} messages", rounds * count);
    assert_eq!(client.ended, rounds * count, "{what}: all end");
}

fn messages_that_come_and_go_in_batches_allocate_nothing() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        for qos in EVERY_QOS {
            for count in [1, 1_000] {
                let mut client = Client::new(version);
                assert_steady(&format!("publish, {version}, {qos}, {count}"), &mut client, count, |client| {
                    client.publish(qos, count);
                    client.acknowledge(qos, count);
                });
                let mut client = Client::new(version);
                assert_steady(&format!("receive, {version}, {qos}, {count}"), &mut client, count, |client| {
                    client.receive(qos, count);
                });
            }
        }
    }
}

fn a_window_that_stays_full_allocates_nothing_however_large_it_is() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for window in [1, 20_000, 65_535] {
            let mut client = Client::new(ProtocolVersion::V5);
            client.publish(qos, window);
            let count = window.min(100);
            assert_steady(&format!("{qos}, {window} in flight"), &mut client, count, |client| {
                client.acknowledge(qos, count);
                client.publish(qos, count);
            });
        }
    }
}

fn the_measure_sees_an_allocation() {
    let before = asked();
    let message = Message::to("t", vec![7; 64]).unwrap();
    assert!(asked() > before, "{message:?}");
}

mqtt_machine_testkit::alone!(
    messages_that_come_and_go_in_batches_allocate_nothing,
    a_window_that_stays_full_allocates_nothing_however_large_it_is,
    the_measure_sees_an_allocation,
);
