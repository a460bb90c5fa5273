//! A server that sends its client away, in every way that it can, under every policy (5.0, section 4.11).

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::time::Duration;

use bench::{Bench, reference};
use mqtt_machine::packet::{Disconnect, Packet, PropertiesBuf, Property};
use mqtt_machine::{Backoff, Config, EndReason, Ended, Event, ReasonCode, Redirection, Server};

use ReasonCode::{ServerMoved, UseAnotherServer};

/// Two servers, and waits of exactly 1, 2, 4 ... s.
fn config() -> Config {
    let mut config = Config::new(Server::new("one")).client_id("test");
    config.servers.push(Server::new("two"));
    config.backoff(Backoff { jitter: false, ..Backoff::DEFAULT })
}

/// How a server sends a client away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    ConnAck,
    Disconnect,
}

/// Connects, and is sent away from there.
fn sent_away(config: Config, by: By, reason: ReasonCode, properties: &PropertiesBuf) -> (Bench, Ended) {
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    assert_eq!(bench.opened(), "one");
    let ended = away(&mut bench, by, reason, properties);
    (bench, ended)
}

fn away(bench: &mut Bench, by: By, reason: ReasonCode, properties: &PropertiesBuf) -> Ended {
    match by {
        By::ConnAck => bench.refuse(reason, properties),
        By::Disconnect => {
            bench.accept_after_events(false);
            let properties = properties.as_properties();
            bench.receive(&Packet::Disconnect(Disconnect { reason, properties }));
        }
    }
    let events = bench.events();
    match (by, events.as_slice()) {
        (By::ConnAck, [Event::ConnectFailed(ended)]) | (By::Disconnect, [Event::Disconnected(ended)]) => {
            ended.clone()
        }
        _ => panic!("{events:?}"),
    }
}

const WAYS: [(By, ReasonCode); 4] = [
    (By::ConnAck, UseAnotherServer),
    (By::ConnAck, ServerMoved),
    (By::Disconnect, UseAnotherServer),
    (By::Disconnect, ServerMoved),
];

#[test]
fn a_reference_that_is_not_to_be_followed_is_told_and_the_next_configured_server_has_its_turn() {
    for (by, reason) in WAYS {
        let (mut bench, ended) = sent_away(config(), by, reason, &reference("else"));
        let said = match ended.reason {
            EndReason::Refused { reason, properties } | EndReason::Disconnect { reason, properties } => {
                (reason, properties)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(said, (reason, reference("else")), "{by:?}");
        assert_eq!(ended.retry_at, Some(bench.now + Duration::from_secs(1)), "{by:?} {reason}");
        assert_eq!(bench.opened(), "two", "{by:?} {reason}");
    }
}

#[test]
fn a_reference_is_followed_at_once_by_request_however_it_came() {
    for (by, reason) in WAYS {
        let following = config().redirection(Redirection::Follow { hops: 1 });
        let (mut bench, ended) = sent_away(following, by, reason, &reference("else"));
        assert_eq!(ended.retry_at, Some(bench.now), "{by:?} {reason}");
        let before = bench.now;
        assert_eq!((bench.opened().as_str(), bench.now), ("else", before), "{by:?} {reason}");
        bench.accept_after_events(false);
        bench.cut();
        assert_eq!(bench.opened(), "else", "a connection that ends is made again where it was");
        // When that fails, what had moved for good has no other place.
        bench.cut();
        let came = bench.opened();
        assert_eq!(came == "else", reason == ServerMoved, "{by:?} {reason}: {came}");
    }
}

#[test]
fn of_several_servers_that_have_moved_each_has_its_turn() {
    let following = config().redirection(Redirection::Follow { hops: 1 });
    let (mut bench, _) = sent_away(following, By::ConnAck, ServerMoved, &reference("a b c"));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(bench.opened());
        bench.cut();
    }
    assert_eq!(seen, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn without_a_reference_the_list_of_servers_rotates() {
    for (by, reason) in WAYS {
        let following = config().redirection(Redirection::Follow { hops: 9 });
        let (mut bench, _) = sent_away(following, by, reason, &PropertiesBuf::new());
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(bench.opened());
            bench.cut();
        }
        assert_eq!(seen, ["two", "one", "two", "one"], "{by:?} {reason}");
    }
}

#[test]
fn a_reference_beside_another_reason_leads_nowhere() {
    let list = PropertiesBuf::new().with(Property::ServerReference("else")).unwrap();
    for reason in [ReasonCode::ServerBusy, ReasonCode::ServerUnavailable, ReasonCode::QuotaExceeded] {
        let following = config().redirection(Redirection::Follow { hops: 9 });
        let (mut bench, _) = sent_away(following, By::ConnAck, reason, &list);
        assert_eq!(bench.opened(), "two", "{reason}");
    }
}

#[test]
fn two_servers_that_send_a_client_to_each_other_are_left_after_so_many_hops() {
    for (by, reason) in WAYS {
        let following = config().redirection(Redirection::Follow { hops: 3 });
        let (mut bench, _) = sent_away(following, by, reason, &reference("a"));
        let mut at_once = 1;
        for next in ["b", "a", "b", "a"] {
            let before = bench.now;
            bench.opened();
            if bench.now > before {
                break;
            }
            at_once += 1;
            away(&mut bench, by, reason, &reference(next));
        }
        assert_eq!(at_once, 4, "{by:?} {reason}: the first and as many as are allowed");
    }
}
