//! Subscriptions that are made again for a server that lost them, and requests that a disconnect ends.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, config, list};
use mqtt_machine::packet::{Packet, Properties, Property, ReasonCodes, SubAck};
use mqtt_machine::{
    CleanStart, Disconnect, Event, Outcome, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe,
    TopicFilter,
};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

/// Connected, and granted these subscriptions.
fn subscribed(filters: &[&str]) -> Bench {
    let mut bench = Bench::connected(config(ProtocolVersion::V5).clean_start(CleanStart::Never));
    for (filter, id) in filters.iter().zip(1..) {
        bench.machine.subscribe(bench.now, Subscribe::to(self::filter(filter), QoS::AtLeastOnce)).unwrap();
        assert_eq!(bench.sent(), [format!("Subscribe id{id} {filter}")]);
        granted(&mut bench, id, 1);
    }
    assert_eq!(bench.outcomes().len(), filters.len());
    bench
}

fn granted(bench: &mut Bench, id: u16, count: usize) {
    let codes = vec![1; count];
    bench.receive(&Packet::SubAck(SubAck {
        packet_id: PacketId::new(id).unwrap(),
        properties: Properties::EMPTY,
        codes: ReasonCodes::from_bytes(&codes).unwrap(),
    }));
}

#[test]
fn subscriptions_that_are_too_large_for_the_server_that_lost_them_are_told_as_lost() {
    let long = "a/very/long/filter/that/no/small/server/takes";
    let mut bench = subscribed(&[long]);
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
    bench.accept(false, list([Property::MaximumPacketSize(30)]).as_properties());
    assert_eq!(bench.sent(), [""; 0]);
    let lost = vec![(filter(long), ReasonCode::PacketTooLarge)];
    assert_eq!(bench.events(), [Event::Resubscribed(lost)]);
    // Where it fits again, it is made again.
    bench.reconnect(false);
    assert_eq!(bench.sent(), [format!("Subscribe id2 {long}")]);
}

#[test]
fn under_another_client_identifier_subscriptions_are_made_again() {
    let mut bench = subscribed(&["x", "y"]);
    let other = config(ProtocolVersion::V5).clean_start(CleanStart::Never).client_id("other");
    bench.machine.reconfigure(bench.now, Arc::new(other));
    // The server has a session of that name, which is not ours.
    bench.reconnect(true);
    assert_eq!(bench.sent(), ["Subscribe id3 x,y"]);
    granted(&mut bench, 3, 2);
    bench.reconnect(true);
    assert_eq!(bench.sent(), [""; 0], "and once is enough");
}

#[test]
fn a_disconnect_ends_requests_in_flight_and_gives_up_those_of_its_own() {
    let mut bench = subscribed(&["x"]);
    bench.reconnect(false);
    assert_eq!(bench.sent(), ["Subscribe id2 x"]);
    let request = Subscribe::to(filter("y"), QoS::AtMostOnce);
    let op = bench.machine.subscribe(bench.now, request).unwrap().to_u64();
    assert_eq!(bench.sent(), ["Subscribe id3 y"]);
    bench.events();
    let leave = bench.machine.disconnect(bench.now, Disconnect::new(Duration::ZERO)).unwrap().to_u64();
    assert_eq!(bench.sent(), ["Disconnect 0x00"]);
    let ended = bench.outcomes();
    assert_eq!(ended, [(op, Outcome::Unknown), (leave, Outcome::Disconnected { undelivered: 0 })]);
    // Their identifiers are free, and what was granted once is made again.
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench.accept(false, Properties::EMPTY);
    assert_eq!(bench.sent(), ["Subscribe id4 x"]);
    assert_eq!(bench.machine.session().subscriptions.len(), 1);
}
