//! SRV records: who is asked, what is believed, and what comes of it.
#![cfg(feature = "srv")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_machine_transport::{
    SrvError, SrvLookup, SrvOutcome, SrvOver, SrvQuestion, nameservers_in, next_framed,
};
use proptest::prelude::*;
use simple_dns::rdata::{RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};

const NAME: &str = "_mqtt._tcp.example.org";

fn servers() -> [SocketAddr; 2] {
    ["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
}

fn lookup() -> (SrvLookup, Instant) {
    (SrvLookup::new(NAME, servers(), 0xABCD_0000_0000_0001).unwrap(), Instant::now())
}

/// The answer of a name server, spoilt by `spoil`.
fn answer(
    question: &SrvQuestion,
    records: &[(u16, u16, u16, &str)],
    spoil: impl FnOnce(&mut Packet<'_>),
) -> Vec<u8> {
    let mut packet = Packet::parse(&question.message).unwrap().clone();
    packet.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    for (priority, weight, port, target) in records {
        let target = Name::new(target).unwrap();
        let srv = SRV { priority: *priority, weight: *weight, port: *port, target };
        packet.answers.push(ResourceRecord::new(Name::new(NAME).unwrap(), CLASS::IN, 60, RData::SRV(srv)));
    }
    spoil(&mut packet);
    packet.build_bytes_vec_compressed().unwrap()
}

fn outcome(
    records: &[(u16, u16, u16, &str)],
    spoil: impl FnOnce(&mut Packet<'_>),
) -> Option<Result<SrvOutcome, SrvError>> {
    let (mut lookup, now) = lookup();
    let question = lookup.poll_question(now).unwrap();
    lookup.handle_answer(&answer(&question, records, spoil));
    lookup.outcome().cloned()
}

#[test]
fn records_give_servers_in_order() {
    let found = outcome(&[(20, 0, 8883, "B.Example.org"), (10, 0, 1883, "a.example.org")], |_| {});
    let Some(Ok(SrvOutcome::Servers(servers))) = found else { panic!("{found:?}") };
    let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.example.org:1883", "b.example.org:8883"]);
}

#[test]
fn no_records_no_domain_and_no_service_are_told_apart_from_failure() {
    assert_eq!(outcome(&[], |_| {}), Some(Ok(SrvOutcome::NoRecords)));
    assert_eq!(
        outcome(&[], |packet| *packet.rcode_mut() = RCODE::NameError),
        Some(Ok(SrvOutcome::NoRecords))
    );
    assert_eq!(outcome(&[(0, 0, 0, "")], |_| {}), Some(Ok(SrvOutcome::NotOffered)));
    assert_eq!(outcome(&[(0, 0, 0, "host")], |_| {}), Some(Ok(SrvOutcome::NoRecords)), "port 0 is no port");
}

#[test]
fn what_is_no_answer_to_this_question_is_not_believed() {
    let record = &[(0, 0, 1, "evil.example")][..];
    assert_eq!(outcome(record, |packet| packet.set_id(packet.id() ^ 1)), None);
    assert_eq!(outcome(record, |packet| packet.remove_flags(PacketFlag::RESPONSE)), None);
    assert_eq!(outcome(record, |packet| packet.questions.clear()), None);
    let other =
        |packet: &mut Packet<'_>| packet.questions[0].qname = Name::new("_mqtt._tcp.example.com").unwrap();
    assert_eq!(outcome(record, other), None);
}

#[test]
fn every_name_server_is_asked_twice_before_it_is_given_up() {
    let (mut lookup, mut now) = lookup();
    let mut asked = Vec::new();
    while lookup.outcome().is_none() {
        let question = lookup.poll_question(now).unwrap();
        assert_eq!((question.over, lookup.poll_question(now)), (SrvOver::Udp, None));
        asked.push(question.to);
        let deadline = lookup.deadline().unwrap();
        lookup.handle_timeout(deadline - Duration::from_millis(1));
        assert_eq!(lookup.deadline(), Some(deadline), "early calls change nothing");
        now = deadline;
        lookup.handle_timeout(now);
    }
    let [a, b] = servers();
    assert_eq!(asked, [a, b, a, b]);
    assert_eq!(lookup.outcome(), Some(&Err(SrvError::NoAnswer)));
    assert_eq!((lookup.deadline(), lookup.poll_question(now)), (None, None));
}

#[test]
fn a_server_that_fails_or_cannot_be_reached_makes_room_for_the_next() {
    let (mut lookup, now) = lookup();
    let question = lookup.poll_question(now).unwrap();
    lookup.handle_answer(&answer(&question, &[], |packet| *packet.rcode_mut() = RCODE::Refused));
    assert_eq!(lookup.poll_question(now).unwrap().to, servers()[1]);
    for _ in 0..2 {
        lookup.handle_failed();
        let _ = lookup.poll_question(now).unwrap();
    }
    lookup.handle_failed();
    assert_eq!(lookup.outcome(), Some(&Err(SrvError::Failed(5))), "the only reason that somebody gave");
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp_from_the_same_server() {
    let (mut lookup, now) = lookup();
    let question = lookup.poll_question(now).unwrap();
    lookup.handle_answer(&answer(&question, &[], |packet| packet.set_flags(PacketFlag::TRUNCATION)));
    let again = lookup.poll_question(now).unwrap();
    assert_eq!((again.over, again.to), (SrvOver::Tcp, question.to));
    let framed = again.framed();
    assert_eq!(framed.len(), again.message.len() + 2);

    let whole = answer(&again, &[(0, 0, 1883, "a.example.org")], |_| {});
    let length = u16::try_from(whole.len()).unwrap().to_be_bytes();
    let mut input = BytesMut::new();
    for byte in length.iter().chain(&whole) {
        assert_eq!(next_framed(&mut input), None);
        input.extend_from_slice(&[*byte]);
    }
    lookup.handle_answer(&next_framed(&mut input).unwrap());
    assert!(matches!(lookup.outcome(), Some(Ok(SrvOutcome::Servers(_)))));
    assert!(input.is_empty());
}

#[test]
fn names_and_name_servers_are_checked_first() {
    assert_eq!(SrvLookup::new(NAME, [], 1).unwrap_err(), SrvError::NoNameserver);
    let long = "a".repeat(64);
    assert_eq!(SrvLookup::new(&long, servers(), 1).unwrap_err(), SrvError::BadName);
    let conf = b"# a comment\nsearch example\nnonsense\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\n\
                 nameserver 10.0.0.3\noptions timeout:1\n";
    let found: Vec<_> = nameservers_in(conf).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
    assert_eq!(nameservers_in(b"\xFF"), ["127.0.0.1:53".parse().unwrap()]);
}

proptest! {
    #[test]
    fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (mut lookup, now) = lookup();
        let question = lookup.poll_question(now).unwrap();
        lookup.handle_answer(&bytes);
        // With the right number, and as an answer that is only a little wrong.
        lookup.handle_answer(&[&question.message[..2], &[0x81, 0x80], &bytes].concat());
        let mut wrong = answer(&question, &[(1, 2, 3, "a.example.org"), (1, 1, 4, "b.example.org")], |_| {});
        *at.get_mut(&mut wrong) = byte;
        lookup.handle_answer(&wrong);
        nameservers_in(&bytes);
    }
}
