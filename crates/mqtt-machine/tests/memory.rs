//! Owns the measure of the heap that a machine holds when one side does not keep up: a broker that is away while publishers go on, and a
//! peer that sends to a consumer that never reads. In virtual time.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_machine::packet::Property;
use mqtt_machine::{
    Action, Config, Event, Instant, Limits, Machine, Message, Offline, Output, QoS, Refused, Server,
    TransportEvent,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1 << 10;
const HOUR: Duration = Duration::from_secs(3_600);

/// How many bytes are allocated.
fn allocated() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    heap: usize,
    told: usize,
}

/// A machine whose broker is away for 24 hours, while ten messages a second are published: of every QoS, of many sizes, one in four
/// with an expiry. What is held at the end of each hour.
fn away(limits: Limits, offline: Offline) -> Vec<Seen> {
    let before = allocated();
    let config = Config::new(Server::new("away")).client_id("meter").limits(limits).offline(offline);
    let mut machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
    let (mut now, mut turn) = (Instant::ZERO, 0_u64);
    let mut seen = Vec::with_capacity(24);
    machine.connect(now).unwrap();
    let (mut accepted, mut full, mut attempts) = (0_u64, 0_u64, 0_u64);
    while seen.len() < 24 {
        let due = Instant::from_micros(turn * 100_000);
        now = machine.poll_timeout().map_or(due, |timeout| timeout.min(due)).max(now);
        machine.handle_timeout(now);
        while let Some(action) = machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                attempts += 1;
                machine.handle_transport(now, id, TransportEvent::OpenFailed("nobody is there".into()));
            }
        }
        while machine.poll_event().is_some() {}
        if now < due {
            continue;
        }
        turn += 1;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][(turn % 3) as usize];
        let mut message = Message::to("meters/7/power", vec![7; (turn % 50) as usize * 20]).unwrap().qos(qos);
        if turn % 4 == 0 {
            message = message.property(Property::MessageExpiryInterval(600)).unwrap();
        }
        match machine.publish(now, message) {
            Ok(_) => accepted += 1,
            Err(Refused::Full) => full += 1,
            Err(other) => panic!("{other:?}"),
        }
        let hour = seen.len() as u32 + 1;
        if now >= Instant::ZERO + HOUR * hour {
            let heap = allocated() - before - seen.capacity() * size_of::<Seen>();
            seen.push(Seen { heap, told: machine.memory_used() });
        }
    }
    assert!(accepted > 100 && full > 10_000 && attempts > 1_000, "{accepted} {full} {attempts}");
    seen
}

fn a_day_without_the_broker_holds_no_more_than_the_cap_and_the_last_hour_as_much_as_the_second() {
    for cap in [64 * KIB, 1_024 * KIB] {
        for offline in [Offline::Queue, Offline::Drop] {
            let limits = Limits { outgoing_bytes: cap, ..Limits::DEFAULT };
            let seen = away(limits, offline);
            let highest = seen.iter().map(|seen| seen.heap).max().unwrap();
            println!("cap {cap}, {offline:?}: {:?} ... {:?}", seen[0], seen[23]);
            assert!(highest <= cap + cap / 2 + 16 * KIB, "{highest} of {cap}: {seen:?}");
            let told = seen.iter().map(|seen| seen.told).max().unwrap();
            assert!(highest <= told && told <= cap + cap / 2 + 16 * KIB, "{told} of {cap}: {seen:?}");
            let later = &seen[1..];
            let lowest = later.iter().map(|seen| seen.heap).min().unwrap();
            let most = later.iter().map(|seen| seen.heap).max().unwrap();
            assert!(most - lowest < cap / 8 + 4 * KIB, "it is not flat: {seen:?}");
        }
    }
}

/// A PUBLISH of QoS 0.
fn publish(payload: usize) -> Vec<u8> {
    let body = [&[0, 3][..], b"a/b", &[0], &vec![7; payload]].concat();
    let length = body.len();
    let mut frame = vec![0x30];
    let mut rest = length;
    loop {
        let more = rest / 128;
        frame.push((rest % 128) as u8 | if more > 0 { 0x80 } else { 0 });
        rest = more;
        if rest == 0 {
            break;
        }
    }
    [frame, body].concat()
}

/// What became of a flood.
#[derive(Debug)]
struct Flood {
    /// The most that was held, while it was read.
    highest: Seen,
    /// What is held for the rest of the hour.
    rest: Seen,
    messages: usize,
}

/// A machine whose peer sends as fast as it can, and whose consumer holds everything and gives nothing back.
fn flood(incoming_bytes: usize, payload: usize) -> Flood {
    let limits = Limits { incoming_bytes, ..Limits::DEFAULT };
    let config = Config::new(Server::new("flood")).client_id("slow").limits(limits);
    let frame = publish(payload);
    let mut held = Vec::with_capacity(100_000);
    let before = allocated();
    let mut machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
    let (mut now, mut output) = (Instant::ZERO, Output::new());
    machine.connect(now).unwrap();
    let mut link = None;
    while let Some(action) = machine.poll_action() {
        if let Action::OpenTransport { id, .. } = action {
            link = Some(id);
        }
    }
    let link = link.unwrap();
    machine.handle_transport(now, link, TransportEvent::Opened);
    machine.transmit(now, &mut output);
    let mut input = BytesMut::from(&[0x20, 3, 0, 0, 0][..]);
    let (mut highest, mut left) = (Seen { heap: 0, told: 0 }, &frame[..]);
    let look = |machine: &Machine| Seen { heap: allocated() - before, told: machine.memory_used() };
    // An hour, in which a driver comes by every 10 ms.
    for _ in 0..360_000 {
        now += Duration::from_millis(10);
        machine.handle_timeout(now);
        let room = machine.read_capacity().saturating_sub(input.len());
        input.reserve(room);
        for _ in 0..room {
            input.extend_from_slice(&left[..1]);
            left = if left.len() > 1 { &left[1..] } else { &frame };
        }
        machine.handle_input(now, link, &mut input);
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Message { message, receipt, .. } => {
                    // A message that stays is detached from what was read, as streams do.
                    held.push((message.detached(), receipt));
                }
                Event::Connected(_) => {}
                other => panic!("{other:?}"),
            }
        }
        machine.transmit(now, &mut output);
        let sent = bytes::Buf::remaining(&output);
        bytes::Buf::advance(&mut output, sent);
        machine.handle_sent(now, link, sent);
        let seen = look(&machine);
        highest = Seen { heap: highest.heap.max(seen.heap), told: highest.told.max(seen.told) };
        if input.is_empty() {
            // As drivers do.
            input = BytesMut::new();
        }
    }
    assert_eq!(machine.read_capacity(), 0, "it still reads");
    Flood { highest, rest: look(&machine), messages: held.len() }
}

fn a_flood_to_a_consumer_that_never_reads_holds_no_more_than_the_cap() {
    for cap in [64 * KIB, 1_024 * KIB] {
        for payload in [0, 100, 10_000] {
            let flood = flood(cap, payload);
            println!("cap {cap}, payload {payload}: {flood:?}");
            assert!(flood.messages > 1, "{flood:?}");
            // While small messages are told, the queue of events is larger than they are; it is given back.
            assert!(flood.highest.heap <= 4 * cap + 128 * KIB, "{cap}, {payload}: {flood:?}");
            assert!(flood.rest.heap <= cap + cap / 2 + 128 * KIB, "{cap}, {payload}: {flood:?}");
        }
    }
}

fn a_machine_that_is_connected_and_idle_holds_less_than_a_kibibyte_and_tells_it() {
    let config = Arc::new(Config::new(Server::new("quiet")).client_id("idle"));
    let before = allocated();
    let mut machine = Machine::new(config, 1, Instant::ZERO);
    machine.connect(Instant::ZERO).unwrap();
    let Some(Action::OpenTransport { id, .. }) = machine.poll_action() else { panic!("it opens nothing") };
    machine.handle_transport(Instant::ZERO, id, TransportEvent::Opened);
    let mut now = Instant::ZERO;
    for answer in [&[0x20, 3, 0, 0, 0][..], &[0xd0, 0], &[0xd0, 0], &[0xd0, 0]] {
        let mut output = Output::new();
        machine.transmit(now, &mut output);
        let sent = bytes::Buf::remaining(&output);
        assert!(sent > 0, "it says nothing");
        machine.handle_sent(now, id, sent);
        machine.handle_input(now, id, &mut BytesMut::from(answer));
        while machine.poll_event().is_some() {}
        now = machine.poll_timeout().unwrap();
        machine.handle_timeout(now);
    }
    assert!(machine.is_connected());
    let (heap, told) = (allocated() - before, machine.memory_used());
    println!("idle: {heap} bytes, told {told}");
    assert!(heap <= KIB && told.abs_diff(heap) <= 64, "{heap}, told {told}");
}

mqtt_machine_testkit::alone!(
    a_day_without_the_broker_holds_no_more_than_the_cap_and_the_last_hour_as_much_as_the_second,
    a_flood_to_a_consumer_that_never_reads_holds_no_more_than_the_cap,
    a_machine_that_is_connected_and_idle_holds_less_than_a_kibibyte_and_tells_it,
);
