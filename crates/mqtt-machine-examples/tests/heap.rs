//! Owns the figures of the heap that a machine holds with given caps, and their table in `docs/embedding.md`. It must not know how
//! the machine keeps what it keeps.

use std::alloc::System;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_machine::packet::{ConnAck, Packet, Properties, Publish, Topic};
use mqtt_machine::wire::encode;
use mqtt_machine::{
    Action, Config, Event, Instant, Limits, Machine, Message, Output, ProtocolVersion, QoS, ReasonCode,
    Server, TransportEvent,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Instant = Instant::ZERO;
const PAYLOAD: usize = 64;

const fn limits(messages: usize, bytes: usize) -> Limits {
    let in_flight = if messages < u16::MAX as usize { messages as u16 } else { u16::MAX };
    let mut limits = Limits::DEFAULT;
    limits.outgoing_messages = messages;
    limits.outgoing_bytes = bytes;
    limits.incoming_bytes = bytes;
    limits.in_flight = in_flight;
    limits
}

/// A machine that is connected over a transport of its own, with its buffers.
fn connected(limits: Limits) -> (Machine, mqtt_machine::TransportId, Output, BytesMut) {
    let mut machine = Machine::new(Arc::new(Config::new(Server::new("heap")).limits(limits)), 1, NOW);
    let (mut output, mut input) = (Output::with_mark(512), BytesMut::new());
    machine.connect(NOW).unwrap();
    let Some(Action::OpenTransport { id, .. }) = machine.poll_action() else { panic!() };
    machine.handle_transport(NOW, id, TransportEvent::Opened);
    sent(&mut machine, id, &mut output);
    let connack =
        ConnAck { session_present: false, reason: ReasonCode::Success, properties: Properties::EMPTY };
    encode(&Packet::ConnAck(connack), ProtocolVersion::V5, &mut input).unwrap();
    machine.handle_input(NOW, id, &mut input);
    while machine.poll_event().is_some() {}
    (machine, id, output, input)
}

fn sent(machine: &mut Machine, id: mqtt_machine::TransportId, output: &mut Output) {
    use bytes::Buf;
    loop {
        machine.transmit(NOW, output);
        let count = output.remaining();
        if count == 0 {
            return;
        }
        output.clear();
        machine.handle_sent(NOW, id, count);
    }
}

/// Publishes until the caps say no: what is held then, in bytes, with the messages.
fn outgoing(limits: Limits) -> (usize, usize) {
    let region = Region::new(HEAP);
    let (mut machine, id, mut output, _input) = connected(limits);
    let mut count = 0;
    while machine
        .publish(NOW, Message::to("meters/7", vec![0; PAYLOAD]).unwrap().qos(QoS::AtLeastOnce))
        .is_ok()
    {
        count += 1;
    }
    sent(&mut machine, id, &mut output);
    (count, held(&region))
}

/// Takes messages from a server and gives no receipt back, until the machine does not read any more.
fn incoming(limits: Limits) -> (usize, usize) {
    // The list is the caller's own, and no part of what is measured.
    let mut kept = Vec::with_capacity(300_000);
    let region = Region::new(HEAP);
    let (mut machine, id, _output, mut input) = connected(limits);
    while machine.read_capacity() > 0 {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: Topic::new("meters/7").unwrap(),
            packet_id: None,
            properties: Properties::EMPTY,
            payload: &[0; PAYLOAD],
        };
        encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut input).unwrap();
        machine.handle_input(NOW, id, &mut input);
        while let Some(event) = machine.poll_event() {
            // As whoever keeps a message for long should.
            if let Event::Message { message, receipt } = event {
                kept.push((message.detached(), receipt));
            }
        }
    }
    let result = (kept.len(), held(&region));
    assert!(kept.len() < kept.capacity());
    result
}

fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// The row of the table with this name: messages and bytes.
fn row(name: &str) -> (usize, usize) {
    let page = include_str!("../../../docs/embedding.md");
    let start = format!("| {name} |");
    let line = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {name}"));
    let mut numbers = line.split('|').rev().filter_map(|cell| cell.trim().replace(',', "").parse().ok());
    let bytes = numbers.next().unwrap();
    (numbers.next().unwrap(), bytes)
}

fn the_heap_that_given_caps_need_is_what_the_table_says() {
    let small = limits(8, 2 << 10);
    let medium = limits(256, 64 << 10);
    let measured = [
        (
            "idle, any caps",
            (0, {
                let region = Region::new(HEAP);
                let _machine = connected(Limits::DEFAULT);
                held(&region)
            }),
        ),
        ("small, outgoing full", outgoing(small)),
        ("small, incoming full", incoming(small)),
        ("medium, outgoing full", outgoing(medium)),
        ("medium, incoming full", incoming(medium)),
        ("default, outgoing full", outgoing(Limits::DEFAULT)),
        ("default, incoming full", incoming(Limits::DEFAULT)),
    ];
    for (name, (messages, bytes)) in measured {
        println!("| {name} | {messages} | {bytes} |");
    }
    for (name, (messages, bytes)) in measured {
        let (documented, at_most) = row(name);
        assert_eq!(messages, documented, "{name}");
        assert!(
            bytes <= at_most && at_most <= bytes + bytes / 4 + 1024,
            "{name}: {bytes}, documented {at_most}"
        );
    }
}

mqtt_machine_testkit::alone!(the_heap_that_given_caps_need_is_what_the_table_says);
