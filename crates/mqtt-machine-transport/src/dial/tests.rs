use std::io::ErrorKind;

use super::*;
use crate::endpoint::Endpoint;
use crate::route::RouteOptions;

fn dial(url: &str, options: &RouteOptions) -> Dial {
    Dial::new(Arc::new(Route::new(Endpoint::parse(url).unwrap(), options).unwrap()), &[], 7)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The next step, which begins to connect to an address.
fn attempt(dial: &mut Dial, now: Instant) -> (Attempt, SocketAddr) {
    match dial.poll_step(now) {
        Some(DialStep::Connect(attempt, Target::Tcp(address))) => (attempt, address),
        step => panic!("no attempt: {step:?}"),
    }
}

fn resolve(dial: &mut Dial, now: Instant, addresses: &[&str]) -> String {
    let Some(DialStep::Resolve(name)) = dial.poll_step(now) else { panic!("no lookup") };
    assert_eq!(dial.poll_step(now), None, "the lookup is under way");
    dial.handle_resolved(Ok(addresses.iter().map(|text| address(text)).collect()));
    name.to_string()
}

#[test]
fn a_name_is_looked_up_and_its_addresses_are_tried_beside_each_other() {
    let now = Instant::now();
    let mut dial = dial("mqtt://broker.example", &RouteOptions::new());
    assert_eq!(resolve(&mut dial, now, &["[::1]:1883", "127.0.0.1:1883"]), "broker.example:1883");
    let (first, to) = attempt(&mut dial, now);
    assert_eq!(to, address("[::1]:1883"));
    assert_eq!((dial.poll_step(now), dial.failure()), (None, None));
    let later = dial.deadline().unwrap();
    let (second, to) = attempt(&mut dial, later);
    assert_eq!(to, address("127.0.0.1:1883"));
    // The first may still win.
    dial.handle_failed(second, &ErrorKind::ConnectionRefused.into());
    assert_eq!((dial.poll_step(later), dial.failure()), (None, None));
    assert!(dial.handle_connected(first).unwrap().is_plain());
}

#[test]
fn the_last_failure_is_told_when_nothing_is_left() {
    let now = Instant::now();
    let mut refused = dial("mqtt://127.0.0.1:5", &RouteOptions::new());
    let (only, _) = attempt(&mut refused, now);
    refused.handle_failed(only, &ErrorKind::ConnectionRefused.into());
    assert_eq!(refused.poll_step(now), None);
    let failure = refused.failure().unwrap();
    assert!(
        matches!(&failure, DialError::Connect { to, kind: ErrorKind::ConnectionRefused, .. } if to == "127.0.0.1:5")
    );
    assert!(failure.to_string().starts_with("127.0.0.1:5: "), "{failure}");

    let mut unknown = dial("mqtt://nowhere.invalid", &RouteOptions::new());
    assert!(matches!(unknown.poll_step(now), Some(DialStep::Resolve(_))));
    unknown.handle_resolved(Err(io::Error::other("no such name")));
    assert_eq!(unknown.poll_step(now), None);
    assert!(matches!(unknown.failure(), Some(DialError::Resolve { name, .. }) if name == "nowhere.invalid"));

    let mut empty = dial("mqtt://empty.invalid", &RouteOptions::new());
    resolve(&mut empty, now, &[]);
    assert_eq!(empty.poll_step(now), None);
    assert_eq!(empty.failure().unwrap().to_string(), "empty.invalid has no address");
}

#[test]
fn a_unix_socket_is_one_attempt_without_layers() {
    let now = Instant::now();
    let mut dial = dial("unix:///run/mosquitto.sock", &RouteOptions::new());
    let Some(DialStep::Connect(only, target)) = dial.poll_step(now) else { panic!("no attempt") };
    assert_eq!(target, Target::Unix("/run/mosquitto.sock".to_owned()));
    assert_eq!(dial.poll_step(now), None);
    dial.handle_failed(only, &ErrorKind::NotFound.into());
    assert_eq!(dial.poll_step(now), None);
    assert!(matches!(dial.failure(), Some(DialError::Connect { kind: ErrorKind::NotFound, .. })));
}

#[test]
fn an_attempt_that_is_not_there_changes_nothing() {
    let now = Instant::now();
    let mut dial = dial("mqtt://127.0.0.1", &RouteOptions::new());
    let (only, _) = attempt(&mut dial, now);
    dial.handle_failed(Attempt(77), &ErrorKind::NotFound.into());
    dial.handle_resolved(Ok(vec![address("127.0.0.1:9")]));
    dial.handle_answer(b"?");
    dial.handle_unasked();
    assert_eq!((dial.poll_step(now), dial.failure()), (None, None));
    assert!(dial.handle_connected(only).is_ok());
}

#[cfg(feature = "proxy")]
#[test]
fn a_proxy_is_dialled_in_place_of_the_server() {
    let now = Instant::now();
    let through = |url: &str| RouteOptions::new().proxy(crate::Proxy::parse(url).unwrap());

    // This one resolves by itself.
    let mut remote = dial("mqtt://broker.example", &through("socks5h://proxy.example"));
    assert_eq!(resolve(&mut remote, now, &["10.0.0.9:1080"]), "proxy.example:1080");
    let (first, to) = attempt(&mut remote, now);
    assert_eq!(to, address("10.0.0.9:1080"));
    assert!(!remote.handle_connected(first).unwrap().is_plain());

    // This one wants addresses: one dialling for each, in turn.
    let mut local = dial("mqtt://broker.example", &through("socks5://127.0.0.1:1080"));
    assert_eq!(resolve(&mut local, now, &["10.0.0.1:1883", "10.0.0.2:1883"]), "broker.example:1883");
    let (first, to) = attempt(&mut local, now);
    assert_eq!(to, address("127.0.0.1:1080"));
    dial_fails(&mut local, first);
    let (second, _) = attempt(&mut local, now);
    dial_fails(&mut local, second);
    assert_eq!(local.poll_step(now), None);
    assert!(local.failure().is_some());
}

#[cfg(feature = "proxy")]
fn dial_fails(dial: &mut Dial, attempt: Attempt) {
    dial.handle_failed(attempt, &ErrorKind::ConnectionRefused.into());
}

#[cfg(feature = "srv")]
mod service {
    use super::*;
    use simple_dns::rdata::{A, RData, SRV};
    use simple_dns::{CLASS, Name, Packet, ResourceRecord};

    /// The answer to `question`: these servers, of falling priority.
    fn answer(question: &SrvQuestion, servers: &[(&str, u16)]) -> Vec<u8> {
        let mut packet = Packet::parse(&question.message).unwrap().into_reply();
        for (priority, (name, port)) in (0..).zip(servers) {
            let target = Name::new(name).unwrap();
            let record = RData::SRV(SRV { priority, weight: 0, port: *port, target });
            let owner = Name::new("_mqtt._tcp.example.org").unwrap();
            packet.answers.push(ResourceRecord::new(owner, CLASS::IN, 60, record));
        }
        let other = RData::A(A { address: 1 });
        packet.additional_records.push(ResourceRecord::new(Name::new("x").unwrap(), CLASS::IN, 60, other));
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn the_servers_of_the_records_are_tried_in_turn_and_a_silent_one_holds_nobody_up() {
        let now = Instant::now();
        let mut dial = dial("mqtt+srv://example.org?nameserver=127.0.0.1:5353", &RouteOptions::new());
        let Some(DialStep::Ask(question)) = dial.poll_step(now) else { panic!("no question") };
        assert_eq!(question.to, address("127.0.0.1:5353"));
        assert!(dial.deadline().is_some());
        dial.handle_answer(&answer(&question, &[("one.example.org", 1001), ("two.example.org", 1002)]));
        assert_eq!(resolve(&mut dial, now, &["10.0.0.1:1001"]), "one.example.org:1001");
        let (_silent, to) = attempt(&mut dial, now);
        assert_eq!(to, address("10.0.0.1:1001"));
        assert_eq!(dial.poll_step(now), None);
        let later = dial.deadline().unwrap();
        assert_eq!(later, now + SERVER_DELAY);
        assert_eq!(resolve(&mut dial, later, &["10.0.0.2:1002"]), "two.example.org:1002");
        let (second, _) = attempt(&mut dial, later);
        assert!(dial.handle_connected(second).unwrap().is_plain());
    }

    #[test]
    fn a_name_server_that_cannot_be_asked_is_asked_again_and_then_told() {
        let now = Instant::now();
        let mut dial = dial("mqtt+srv://example.org?nameserver=127.0.0.1", &RouteOptions::new());
        let mut asked = 0;
        while let Some(DialStep::Ask(_)) = dial.poll_step(now) {
            asked += 1;
            dial.handle_unasked();
        }
        assert_eq!(asked, 2);
        assert_eq!(dial.failure().unwrap().to_string(), "_mqtt._tcp.example.org: no name server answered");
    }

    #[test]
    fn a_domain_without_records_is_the_server_itself() {
        let now = Instant::now();
        let mut dial = dial("mqtt+srv://example.org?nameserver=127.0.0.1", &RouteOptions::new());
        let Some(DialStep::Ask(question)) = dial.poll_step(now) else { panic!("no question") };
        dial.handle_answer(&answer(&question, &[]));
        assert_eq!(resolve(&mut dial, now, &["10.0.0.1:1883"]), "example.org:1883");
    }
}
