//! One scenario for each fault of the simulation, in virtual time: processes that crash, sleep and have twins, servers
//! that fail over, sessions from a backup, links that straggle, clocks that jump.

mod common;

use common::*;
use mqtt_machine::journal::Record;
use mqtt_machine::{EndReason, OpId, Outcome, ProtocolVersion, QoS, ReasonCode};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::sim::{Options, Settle, Sim, server};

fn texts(sim: &Sim, client: usize, topic: &str) -> Vec<String> {
    sim.client(client).payloads(topic).iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn queued(sim: &Sim, client: usize) -> Vec<OpId> {
    let records = sim.client(client).records.iter();
    let queued = |record: &Record| if let Record::Queued { op, .. } = record { Some(*op) } else { None };
    records.filter_map(|(.., record)| queued(record)).collect()
}

#[test]
fn a_crash_of_the_publisher_at_any_moment_loses_and_doubles_nothing_that_was_durable() {
    let mut vanished = 0;
    for version in ProtocolVersion::ALL {
        for moment in 0..60 {
            let mut options = Options::default();
            options.store = millis(0)..=millis(9);
            let mut sim = Sim::new(options, moment);
            let subscriber = sim.add(config("subscriber").version(version));
            let publisher = sim.add(config("publisher").version(version).durable(true));
            subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
            sim.connect_now(publisher);
            let ops = ["a", "b", "c"].map(|text| {
                sim.run_for(millis(7));
                sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap()
            });
            sim.run_for(millis(moment));
            sim.crash(publisher, secs(3));
            let durable = queued(&sim, publisher);
            all_ended(&mut sim, publisher);
            sim.run_until(secs(60), |sim| {
                sim.client(publisher).is_running() && sim.owed_to("subscriber") == 0
            });
            sim.run_for(secs(10));
            let texts = texts(&sim, subscriber, "t");
            assert_eq!(texts, ["a", "b", "c"][..durable.len()], "{version}, {moment} ms");
            for op in &ops[durable.len()..] {
                assert!(sim.client(publisher).vanished.contains(&(0, *op)));
            }
            vanished += 3 - durable.len();
            sim.assert_sound();
        }
    }
    assert!(vanished > 0, "no crash came early enough to take a message");
}

#[test]
fn a_crash_of_the_subscriber_at_any_moment_delivers_again_only_what_was_not_durable() {
    for version in ProtocolVersion::ALL {
        for moment in 0..60 {
            let mut options = Options::default();
            options.store = millis(0)..=millis(9);
            options.settle = Settle::After(millis(0)..=millis(9));
            let mut sim = Sim::new(options, moment);
            let subscriber = sim.add(config("subscriber").version(version).durable(true));
            let publisher = sim.add(config("publisher").version(version));
            subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
            sim.connect_now(publisher);
            for text in ["a", "b", "c"] {
                sim.publish(publisher, message("t", text, QoS::ExactlyOnce)).unwrap();
            }
            sim.run_for(millis(moment));
            sim.crash(subscriber, secs(3));
            all_ended(&mut sim, publisher);
            let done = sim.run_until(secs(60), |sim| {
                sim.client(subscriber).is_running() && sim.owed_to("subscriber") == 0
            });
            assert!(done, "{version}, {moment} ms: {:?}", sim.complaints());
            assert_eq!(texts(&sim, subscriber, "t"), ["a", "b", "c"], "{version}, {moment} ms");
            assert_eq!(sim.client(subscriber).lives, 1);
            sim.assert_sound();
        }
    }
}

#[test]
fn a_new_machine_that_takes_an_earlier_session_without_its_records_meets_what_is_left_in_it() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber"));
    let earlier = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
    sim.connect_now(earlier);
    sim.publish(earlier, message("t", "earlier", QoS::ExactlyOnce)).unwrap();
    sim.run_for(millis(7));
    // The server has the message and waits for its PUBREL.
    sim.black_hole(earlier);
    let new = sim.add(config("publisher"));
    sim.connect_now(new);
    let op = sim.publish(new, message("t", "new", QoS::ExactlyOnce)).unwrap();
    let Outcome::Refused(refusal) = ended(&mut sim, new, op) else { panic!("a strict server refuses it") };
    assert_eq!(refusal.reason, ReasonCode::PacketIdentifierInUse);
    sim.run_for(secs(5));
    assert_eq!(texts(&sim, subscriber, "t"), ["earlier"]);
}

#[test]
fn a_process_suspended_beyond_its_keep_alive_resumes_its_session() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber").keep_alive(secs(20)));
    let publisher = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
    sim.connect_now(publisher);
    sim.suspend(subscriber, secs(300));
    let op = sim.publish(publisher, message("t", "x", QoS::ExactlyOnce)).unwrap();
    assert!(is_acknowledged(&ended(&mut sim, publisher, op)));
    sim.run_for(secs(200));
    assert_eq!(sim.client(subscriber).messages.len(), 0);
    assert_eq!(sim.broker.conn_of("subscriber"), None, "the broker has given it up");
    sim.run_for(secs(200));
    assert_eq!(texts(&sim, subscriber, "t"), ["x"]);
    assert_eq!(sim.client(subscriber).connected.len(), 2);
    sim.assert_sound();
}

#[test]
fn a_clock_that_jumps_by_hours_is_a_late_timer_and_loses_nothing() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").keep_alive(secs(20)).session_expiry(secs(u64::from(u32::MAX))));
    subscribed(&mut sim, client, "t", QoS::ExactlyOnce);
    let op = sim.publish(client, message("t", "x", QoS::ExactlyOnce)).unwrap();
    sim.run_for(millis(3));
    sim.sleep(secs(5 * 3_600));
    assert!(is_acknowledged(&ended(&mut sim, client, op)));
    sim.run_for(secs(60));
    assert_eq!(texts(&sim, client, "t"), ["x"]);
    assert!(sim.client(client).connected.len() <= 2);
    sim.assert_sound();
}

#[test]
fn clients_fail_over_to_another_door_of_the_same_broker_and_keep_their_session() {
    let mut options = Options::default();
    options.servers = 2;
    let mut sim = Sim::new(options, 1);
    let mut both = config("c");
    both.servers = vec![server(0), server(1)];
    let client = sim.add(both);
    subscribed(&mut sim, client, "t", QoS::ExactlyOnce);
    sim.fail_over(0, secs(1_000));
    let op = sim.publish(client, message("t", "x", QoS::ExactlyOnce)).unwrap();
    assert!(is_acknowledged(&ended(&mut sim, client, op)));
    let last = &sim.client(client).connected.last().unwrap().1;
    assert_eq!((last.server.clone(), last.session_present), (server(1), true));
    sim.run_for(secs(5));
    assert_eq!(texts(&sim, client, "t"), ["x"]);
    sim.assert_sound();
}

#[test]
fn clients_that_fail_over_to_a_broker_of_its_own_subscribe_again_and_lose_no_accepted_message() {
    for prepare in [false, true] {
        let mut options = Options::default();
        options.servers = 2;
        options.shared = false;
        let mut sim = Sim::new(options, 1);
        let mut both = config("c").prepare(prepare);
        both.servers = vec![server(0), server(1)];
        let client = sim.add(both);
        subscribed(&mut sim, client, "t", QoS::AtLeastOnce);
        sim.fail_over(0, secs(1_000));
        let op = sim.publish(client, message("t", "x", QoS::AtLeastOnce)).unwrap();
        assert!(is_acknowledged(&ended(&mut sim, client, op)));
        assert!(!sim.client(client).connected.last().unwrap().1.session_present);
        assert_eq!((sim.broker.log().count("t", b"x"), sim.others[0].log().count("t", b"x")), (0, 1));
        sim.run_for(secs(5));
        assert_eq!(texts(&sim, client, "t"), ["x"], "the subscription came back before the message");
        sim.assert_sound();
    }
}

#[test]
fn a_publish_that_arrives_after_its_clients_next_connection_is_not_accepted_twice() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber"));
    let publisher = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
    sim.connect_now(publisher);
    let op = sim.publish(publisher, message("t", "x", QoS::ExactlyOnce)).unwrap();
    sim.run_for(millis(1));
    sim.strand(publisher, secs(30));
    assert!(is_acknowledged(&ended(&mut sim, publisher, op)));
    sim.run_for(secs(60));
    assert_eq!(sim.client(publisher).resent(), 1);
    assert_eq!((sim.count("t", b"x"), texts(&sim, subscriber, "t").len()), (1, 1));
    sim.assert_sound();
}

#[test]
fn two_clients_under_one_identifier_end_every_command_and_never_spin() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let one = sim.add(config("same").version(version));
        let other = sim.add(config("same").version(version));
        sim.connect(one);
        sim.connect(other);
        for number in 0..10 {
            for client in [one, other] {
                sim.publish(client, message("t", &format!("{client} {number}"), QoS::ExactlyOnce)).unwrap();
            }
            sim.run_for(secs(1));
        }
        sim.run_for(secs(60));
        for client in [one, other] {
            let attempts = sim.client(client).ended.len();
            assert!(attempts < 60, "{version}: {attempts} attempts in 70 s");
            let end = sim.disconnect(client, mqtt_machine::Disconnect::new(secs(1))).unwrap();
            assert!(matches!(ended(&mut sim, client, end), Outcome::Disconnected { .. }));
            assert!(sim.client(client).accepted.is_empty());
        }
        let taken = |client: usize| {
            sim.client(client).ended.iter().any(|(_, ended)| {
                matches!(ended.reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. })
            })
        };
        assert_eq!(taken(one) || taken(other), version == ProtocolVersion::V5);
        assert_eq!(sim.violations(), []);
    }
}

#[test]
fn a_session_from_an_old_backup_breaks_no_rule_of_the_client() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let subscriber = sim.add(config("subscriber").version(version));
        let publisher = sim.add(config("publisher").version(version));
        subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
        sim.connect_now(publisher);
        sim.publish(publisher, message("t", "a", QoS::ExactlyOnce)).unwrap();
        sim.run_for(millis(12));
        let copies = ["publisher", "subscriber"].map(|name| sim.broker.copy_session(name).unwrap());
        all_ended(&mut sim, publisher);
        sim.run_for(secs(1));
        assert_eq!(texts(&sim, subscriber, "t"), ["a"]);
        for copy in copies {
            sim.broker.resurrect_session(copy);
        }
        sim.run_for(secs(30));
        let op = sim.publish(publisher, message("t", "b", QoS::AtLeastOnce)).unwrap();
        assert!(is_acknowledged(&ended(&mut sim, publisher, op)), "{version}");
        sim.run_for(secs(5));
        assert_eq!(texts(&sim, subscriber, "t").last().map(String::as_str), Some("b"), "{version}");
        assert_eq!(sim.violations(), []);
    }
}

#[test]
fn bytes_under_the_name_of_a_closed_transport_change_nothing() {
    let mut options = Options::default();
    options.late_input = true;
    let mut sim = Sim::new(options, 1);
    let subscriber = sim.add(config("subscriber"));
    let publisher = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::ExactlyOnce);
    sim.connect_now(publisher);
    sim.publish(publisher, message("t", "x", QoS::ExactlyOnce)).unwrap();
    sim.run_for(millis(7));
    sim.reconnect(subscriber).unwrap();
    all_ended(&mut sim, publisher);
    sim.run_for(secs(10));
    assert_eq!(texts(&sim, subscriber, "t"), ["x"]);
    assert_eq!(sim.client(subscriber).connected.len(), 2);
    sim.assert_sound();
}

#[test]
fn what_happens_is_written_down_when_it_is_wanted() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.keep_trace();
    sim.connect_now(client);
    let op = sim.publish(client, message("t", "x", QoS::AtLeastOnce)).unwrap();
    ended(&mut sim, client, op);
    let lines = sim.trace().join("\n");
    for part in [
        "c: connect",
        "c -> CONNECT",
        "c <- CONNACK Success",
        "c -> PUBLISH 1 \"x\" QoS 1 on t",
        "c <- PUBACK 1",
    ] {
        assert!(lines.contains(part), "{part} is missing in\n{lines}");
    }
}
