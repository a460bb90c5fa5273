//! Owns the measure of the heap that a client holds when one side does not keep up: a server that sends to streams that nobody reads, and
//! publishers that go on while the server is away. It must not open a socket.

use std::alloc::System;
use std::task::Waker;

use bytes::Buf;
use mqtt_machine_client::{
    Client, Driver, Message, Options, Overflow, QoS, StreamLimit, Subscription, Task, WhenFull,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1 << 10;

/// How many bytes are allocated.
fn allocated() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// A client whose server is what the test says that it is.
struct Flooded {
    client: Client,
    driver: Driver,
    reachable: bool,
    connected: bool,
    /// What is left of the packet that the server is sending.
    left: usize,
}

impl Flooded {
    fn new(reachable: bool, outgoing_bytes: usize, incoming_bytes: usize, overflow: Overflow) -> Self {
        let options = Options::from_url("mqtt://host?client_id=slow").unwrap().configure(|config| {
            let mut config = config.overflow(overflow);
            config.limits.incoming_bytes = incoming_bytes;
            config.limits.outgoing_bytes = outgoing_bytes;
            config
        });
        let (client, driver) = Client::new(options).unwrap();
        Self { client, driver, reachable, connected: false, left: 0 }
    }

    /// The client takes a turn, and the server takes what it wrote and sends copies of `packet`; how many bytes the client took.
    fn turn(&mut self, packet: &[u8]) -> usize {
        let turn = self.driver.turn(Waker::noop());
        while let Some(task) = self.driver.next_task() {
            match task {
                Task::Open { id, .. } if !self.reachable => {
                    self.driver.open_failed(id, std::io::Error::other("nobody is there"));
                }
                Task::Open { id, server } => {
                    let layers = self.driver.layers(&server).unwrap();
                    self.driver.opened(id, layers);
                }
                _ => {}
            }
        }
        let written = self.driver.output().remaining();
        self.driver.wrote(written);
        if written > 0 && !self.connected {
            // CONNACK; and SUBACK for the only SUBSCRIBE there will be.
            self.connected = true;
            self.driver.input().extend_from_slice(&[0x20, 3, 0, 0, 0]);
            return 0;
        }
        let mut room = turn.read_capacity.min(64 * KIB);
        let input = self.driver.input();
        let before = input.len();
        while room > 0 && !packet.is_empty() {
            let rest = &packet[self.left..];
            let taken = rest.len().min(room);
            input.extend_from_slice(&rest[..taken]);
            self.left = (self.left + taken) % packet.len();
            room -= taken;
        }
        input.len() - before
    }

    /// Streams that all get what is sent on `a/b`.
    fn subscribed(&mut self, filters: &[&str]) -> Vec<Subscription> {
        let mut streams = Vec::new();
        for (number, filter) in filters.iter().enumerate() {
            let mut asked = std::pin::pin!(self.client.subscribe(*filter, QoS::AtLeastOnce));
            let mut context = std::task::Context::from_waker(Waker::noop());
            let stream = loop {
                if let std::task::Poll::Ready(stream) = asked.as_mut().poll(&mut context) {
                    break stream.unwrap();
                }
                self.turn(&[]);
                if self.connected && self.driver.input().is_empty() && self.client.is_connected() {
                    let packet_id = u8::try_from(number + 1).unwrap();
                    self.driver.input().extend_from_slice(&[0x90, 4, 0, packet_id, 0, 1]);
                }
            };
            streams.push(stream);
        }
        streams
    }
}

/// A PUBLISH of 5.0 on `a/b`, under packet identifier 1 at QoS 1.
fn publish(qos: QoS, payload: usize) -> Vec<u8> {
    let mut body = vec![0, 3, b'a', b'/', b'b'];
    if qos != QoS::AtMostOnce {
        body.extend([0, 1]);
    }
    body.push(0);
    body.resize(body.len() + payload, 7);
    let header = 0x30 | qos.to_u8() << 1;
    let mut frame = match u8::try_from(body.len()) {
        Ok(length @ 0..128) => vec![header, length],
        _ => vec![header, (body.len() % 128) as u8 | 0x80, u8::try_from(body.len() / 128).unwrap()],
    };
    frame.extend(body);
    frame
}

/// The heap above what was held before the client.
#[derive(Debug)]
struct Held {
    /// At its highest.
    highest: usize,
    /// After a tenth of the time.
    early: usize,
    /// In the end.
    rest: usize,
    /// What the client says of the end.
    told: usize,
    /// Bytes that the client took.
    taken: usize,
    dropped: u64,
}

fn flood(incoming_bytes: usize, qos: QoS, payload: usize, limit: Option<StreamLimit>) -> Held {
    let packet = publish(qos, payload);
    let before = allocated();
    let mut flooded = Flooded::new(true, 64 * KIB, incoming_bytes, Overflow::Wait);
    let mut streams = flooded.subscribed(&["a/#", "a/+"]);
    if let Some(limit) = limit {
        for stream in &mut streams {
            stream.limit(limit);
        }
    }
    let (mut highest, mut early, mut taken) = (0, 0, 0);
    // Readers who are not known to be slow are waited for, for 5 ms.
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_millis(20) {
        taken += flooded.turn(&packet);
    }
    for turn in 0..2_000 {
        taken += flooded.turn(&packet);
        let heap = allocated() - before;
        highest = highest.max(heap);
        if turn == 200 {
            early = heap;
        }
    }
    assert!(flooded.client.is_connected());
    let dropped = streams.iter().map(Subscription::dropped).sum();
    let rest = allocated() - before;
    Held { highest, early, rest, told: flooded.client.memory_used(), taken, dropped }
}

fn a_flood_to_streams_that_nobody_reads_holds_no_more_than_the_cap_and_then_is_not_read() {
    for cap in [64 * KIB, 1_024 * KIB] {
        for (qos, payload) in [(QoS::AtMostOnce, 0), (QoS::AtMostOnce, 10_000), (QoS::AtLeastOnce, 100)] {
            let held = flood(cap, qos, payload, None);
            println!("cap {cap}, QoS {qos}, payload {payload}: {held:?}");
            // Each message costs more than its bytes on the wire, but for what is of the last read.
            assert!(held.taken > 2_000 && held.taken <= cap + 128 * KIB, "{held:?}");
            assert!(held.highest <= 6 * cap + 256 * KIB, "{held:?}");
            // The rest is what was read and is not taken yet, and what streams share of a message: its receipt, and the counts of its parts.
            assert!(held.rest <= held.told + held.told / 2 + 256 * KIB, "{held:?}");
            assert!(held.rest <= held.early, "it is not flat: {held:?}");
            assert_eq!(held.dropped, 0);
        }
    }
}

fn a_flood_to_streams_with_a_limit_holds_what_the_limits_say_and_the_acknowledgements_that_wait() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::LastValue, WhenFull::Reject] {
        let limit = StreamLimit::messages(10).when_full(when_full);
        let held = flood(1_024 * KIB, QoS::AtLeastOnce, 1_000, Some(limit));
        println!("{when_full:?}: {held:?}");
        // Acknowledgements leave in the order of arrival: those of what goes wait for those of the first ten, which nobody reads.
        let waits = matches!(when_full, WhenFull::DropNewest | WhenFull::Reject);
        let bound = 1_024 * KIB / 32 * publish(QoS::AtLeastOnce, 1_000).len() + 128 * KIB;
        assert_eq!(held.taken < bound, waits, "{held:?}");
        assert!(held.taken > 30_000_000 && held.dropped > 60_000, "{held:?}");
        // What is read is in pieces of 64 KiB here.
        assert!(held.highest <= 512 * KIB, "{held:?}");
        assert!(held.rest.abs_diff(held.early) <= 128 * KIB, "it is not flat: {held:?}");
    }
}

fn publishers_that_never_stop_while_the_server_is_away_hold_no_more_than_the_cap() {
    let cap = 256 * KIB;
    for overflow in [Overflow::Refuse, Overflow::DropOldest, Overflow::DropNewest, Overflow::LastValue] {
        for keeps_deliveries in [false, true] {
            let before = allocated();
            let mut away = Flooded::new(false, cap, 64 * KIB, overflow);
            let mut deliveries = std::collections::VecDeque::with_capacity(2_000);
            let (mut early, mut highest, mut refused) = (0, 0, 0);
            for number in 0..100_000_u32 {
                let topic = format!("meters/{}", number % 700);
                let qos = if number % 3 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                match away.client.try_publish(Message::to(&topic, vec![7; 100]).unwrap().qos(qos)) {
                    Ok(delivery) if keeps_deliveries => {
                        // As many as can be open.
                        if deliveries.len() == 2_000 {
                            deliveries.pop_front();
                        }
                        deliveries.push_back(delivery);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.is_full(), "{error}");
                        refused += 1;
                    }
                }
                if number % 50 == 0 {
                    away.turn(&[]);
                }
                highest = highest.max(allocated() - before);
                if number == 10_000 {
                    early = highest;
                }
            }
            let told = away.client.memory_used();
            println!(
                "{overflow:?}, deliveries kept: {keeps_deliveries}: {early}, then {highest}, told {told}, refused {refused}"
            );
            assert_eq!(refused > 90_000, overflow == Overflow::Refuse, "{refused}");
            // The cap is of topics, properties and payloads; each message has an entry besides, and a delivery that is kept is its owner's.
            assert!(told <= 3 * cap, "{overflow:?}: {told}");
            assert!(highest <= 3 * cap + deliveries.len() * 160, "{overflow:?}: {highest}");
            assert!(highest <= early + early / 20, "it is not flat: {overflow:?}: {highest}");
        }
    }
}

mqtt_machine_testkit::alone!(
    a_flood_to_streams_that_nobody_reads_holds_no_more_than_the_cap_and_then_is_not_read,
    a_flood_to_streams_with_a_limit_holds_what_the_limits_say_and_the_acknowledgements_that_wait,
    publishers_that_never_stop_while_the_server_is_away_hold_no_more_than_the_cap,
);
