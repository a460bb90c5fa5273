//! The life of connections in virtual time: keep-alive, dead links, back-off, refusals, and what a server must not send.

mod common;

use common::*;
use mqtt_machine::packet::PacketType;
use mqtt_machine::{Backoff, EndReason, ProtocolVersion, QoS, ReasonCode, Redirection};
use mqtt_machine_testkit::broker::{BrokerConfig, Plan};
use mqtt_machine_testkit::sim::{Options, Sim};

fn reasons(sim: &Sim, client: usize) -> Vec<&EndReason> {
    sim.client(client).ended.iter().map(|(_, ended)| &ended.reason).collect()
}

// 5.0: MQTT-3.1.2-20
#[test]
fn an_idle_connection_is_kept_alive_by_pings() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").keep_alive(secs(10)));
    sim.connect_now(client);
    sim.run_for(secs(100));
    let pings = sim.broker.log().sent_by("c", PacketType::PingReq).count();
    assert!((9..=12).contains(&pings), "{pings} pings");
    assert_eq!((sim.client(client).connected.len(), sim.client(client).ended.len()), (1, 0));
    sim.assert_sound();
}

// 5.0: MQTT-3.1.2-21, MQTT-3.2.2-21
#[test]
fn the_servers_keep_alive_is_used_instead_of_our_own() {
    let mut sim = with(BrokerConfig::new().server_keep_alive(5));
    let client = sim.add(config("c").keep_alive(secs(600)));
    sim.connect_now(client);
    sim.run_for(secs(100));
    let pings = sim.broker.log().sent_by("c", PacketType::PingReq).count();
    assert!((18..=22).contains(&pings), "{pings} pings");
    sim.assert_sound();
}

#[test]
fn a_client_that_only_sends_qos_0_notices_a_dead_link() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").keep_alive(secs(10)).ping_timeout(secs(5)));
    sim.connect_now(client);
    sim.black_hole(client);
    let dead_since = sim.now;
    for _ in 0..30 {
        sim.publish(client, message("t", "x", QoS::AtMostOnce)).unwrap();
        sim.run_for(secs(1));
    }
    let (at, ended) = &sim.client(client).ended[0];
    assert_eq!(ended.reason, EndReason::PingTimeout);
    assert!(*at - dead_since <= secs(16), "noticed after {:?}", *at - dead_since);
    sim.run_for(secs(60));
    assert!(sim.client(client).machine.is_connected());
    sim.assert_sound();
}

#[test]
fn a_busy_subscriber_that_sends_nothing_still_pings_and_stays() {
    let mut sim = with(BrokerConfig::new());
    let subscriber = sim.add(config("subscriber").keep_alive(secs(10)));
    let publisher = sim.add(config("publisher"));
    subscribed(&mut sim, subscriber, "t", QoS::AtMostOnce);
    sim.connect_now(publisher);
    for _ in 0..100 {
        sim.publish(publisher, message("t", "x", QoS::AtMostOnce)).unwrap();
        sim.run_for(secs(1));
    }
    assert_eq!(sim.client(subscriber).messages.len(), 100);
    assert_eq!(sim.client(subscriber).ended.len(), 0);
    sim.assert_sound();
}

#[test]
fn a_time_jump_of_an_hour_is_a_late_timer() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").keep_alive(secs(10)));
    subscribed(&mut sim, client, "t", QoS::AtLeastOnce);
    sim.run_for(secs(60));
    sim.sleep(secs(3_600));
    sim.run_for(secs(30));
    assert!(sim.client(client).machine.is_connected());
    assert!(sim.client(client).connected.len() <= 2);
    let op = sim.publish(client, message("t", "x", QoS::ExactlyOnce)).unwrap();
    assert!(is_acknowledged(&ended(&mut sim, client, op)));
}

#[test]
fn attempts_back_off_and_never_spin() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.refuse(1_000);
    sim.connect(client);
    sim.run_for(secs(300));
    let waits: Vec<u64> = sim
        .client(client)
        .ended
        .iter()
        .map(|(at, ended)| (ended.retry_at.unwrap() - *at).as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    sim.assert_sound();
}

#[test]
fn connections_that_break_at_once_back_off_too() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.broker.plan_next(1_000, Plan::cut_after_sent(6));
    sim.connect(client);
    sim.run_for(secs(300));
    let attempts = sim.client(client).ended.len();
    assert!(attempts <= 12, "{attempts} attempts in 300 s");
}

#[test]
fn backoff_gives_up_after_its_attempts() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c").backoff(Backoff { attempts: Some(2), ..Backoff::DEFAULT }));
    sim.refuse(1_000);
    sim.connect(client);
    sim.run_for(secs(300));
    assert_eq!(sim.client(client).ended.len(), 3);
    assert_eq!(sim.client(client).ended[2].1.retry_at, None);
}

#[test]
fn bad_credentials_end_the_attempts_and_a_busy_server_does_not() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new().user("user", "right"));
        let wrong = sim.add(config("wrong").version(version).username_password("user", "wrong"));
        let right = sim.add(config("right").version(version).username_password("user", "right"));
        sim.broker.plan_for("right", Plan::refuse(ReasonCode::ServerBusy));
        sim.connect(wrong);
        sim.connect(right);
        sim.run_for(secs(60));
        assert!(sim.client(right).machine.is_connected(), "{version}");
        let ended = &sim.client(wrong).ended;
        assert_eq!((ended.len(), ended[0].1.retry_at), (1, None), "{version}");
        let reason = ReasonCode::BadUserNameOrPassword;
        assert!(matches!(&ended[0].1.reason, EndReason::Refused { reason: told, .. } if *told == reason));
    }
}

// 5.0: MQTT-3.1.4-2
#[test]
fn a_silent_server_and_one_that_closes_before_connack_are_left_and_tried_again() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.broker.plan(Plan::silence());
    sim.broker.plan(Plan::close_before_connack());
    sim.connect(client);
    sim.run_for(secs(60));
    assert!(sim.client(client).machine.is_connected());
    assert!(matches!(reasons(&sim, client)[..], [EndReason::ConnectTimeout, EndReason::Closed(_)]));
    sim.assert_sound();
}

// 5.0: MQTT-3.1.4-3
#[test]
fn a_client_that_is_taken_over_does_not_fight_back() {
    let mut sim = with(BrokerConfig::new());
    let one = sim.add(config("same"));
    let other = sim.add(config("same"));
    sim.connect_now(one);
    sim.connect_now(other);
    sim.run_for(secs(300));
    assert!(!sim.client(one).machine.is_connected());
    assert!(sim.client(other).machine.is_connected());
    let reason = ReasonCode::SessionTakenOver;
    assert!(
        matches!(reasons(&sim, one)[..], [EndReason::Disconnect { reason: told, .. }] if *told == reason)
    );
}

#[test]
fn the_will_is_published_when_the_link_is_cut() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let client = sim.add(config("c").version(version).will(message("will", "gone", QoS::AtLeastOnce)));
        sim.connect_now(client);
        sim.cut(client);
        sim.run_for(secs(1));
        assert_eq!(sim.broker.log().count("will", b"gone"), 1, "{version}");
    }
}

#[test]
fn an_unsolicited_pubrel_is_answered_and_the_connection_stays() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let client = sim.add(config("c").version(version));
        sim.connect_now(client);
        sim.broker.inject("c", &[0x62, 2, 0, 9]);
        sim.run_for(secs(30));
        let answers: Vec<_> = sim.broker.log().sent_by("c", PacketType::PubComp).collect();
        assert_eq!(answers.len(), 1, "{version}");
        if version == ProtocolVersion::V5 {
            assert_eq!(answers[0].reason, ReasonCode::PacketIdentifierNotFound);
        }
        assert_eq!((sim.client(client).connected.len(), sim.client(client).ended.len()), (1, 0), "{version}");
    }
}

#[test]
fn a_header_that_promises_256_mb_reserves_nothing_and_ends_the_connection() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config("c"));
    sim.connect_now(client);
    let before = sim.client(client).machine.memory_used();
    sim.broker.inject("c", &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    sim.run_for(millis(100));
    assert!(sim.client(client).machine.memory_used() <= before + 4_096);
    assert!(
        matches!(reasons(&sim, client)[..], [EndReason::Malformed(error)] if error.reason() == ReasonCode::PacketTooLarge)
    );
    let told = sim.broker.log().sent_by("c", PacketType::Disconnect).next().unwrap();
    assert_eq!(told.reason, ReasonCode::PacketTooLarge);
    sim.run_for(secs(30));
    assert!(sim.client(client).machine.is_connected());
}

// 5.0: MQTT-2.2.1-4
// 3.1.1: MQTT-2.3.1-4
#[test]
fn a_publish_with_packet_identifier_0_ends_the_connection_and_nothing_else() {
    for version in ProtocolVersion::ALL {
        let mut sim = with(BrokerConfig::new());
        let client = sim.add(config("c").version(version));
        sim.connect_now(client);
        let frame: &[u8] = match version {
            ProtocolVersion::V5 => &[0x32, 6, 0, 1, b't', 0, 0, 0],
            _ => &[0x32, 5, 0, 1, b't', 0, 0],
        };
        sim.broker.inject("c", frame);
        sim.run_for(secs(30));
        assert!(
            matches!(reasons(&sim, client)[..], [EndReason::Malformed(_)]),
            "{:?}",
            reasons(&sim, client)
        );
        assert!(sim.client(client).machine.is_connected(), "{version}");
        assert!(sim.client(client).messages.is_empty());
    }
}

// 5.0: MQTT-3.1.3-7
#[test]
fn an_assigned_client_identifier_is_kept_for_the_reconnect() {
    let mut sim = with(BrokerConfig::new());
    let client = sim.add(config(""));
    sim.connect_now(client);
    sim.cut(client);
    sim.run_for(secs(30));
    let ids: Vec<&str> = sim.client(client).connected.iter().map(|(_, it)| it.client_id.as_str()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].starts_with("auto-"));
    assert!(sim.client(client).connected[1].1.session_present);
    sim.assert_sound();
}

#[test]
fn a_client_that_is_sent_away_follows_and_its_session_goes_with_it() {
    for (reason, at_connack) in [
        (ReasonCode::UseAnotherServer, false),
        (ReasonCode::ServerMoved, false),
        (ReasonCode::UseAnotherServer, true),
        (ReasonCode::ServerMoved, true),
    ] {
        let mut options = Options::default();
        options.servers = 2;
        options.broker = BrokerConfig::new().server_reference("model-1");
        let mut sim = Sim::new(options, 1);
        let client = sim.add(config("c").redirection(Redirection::Follow { hops: 1 }));
        if at_connack {
            sim.broker.plan_for("c", Plan::refuse(reason));
        } else {
            sim.connect_now(client);
            assert!(sim.broker.disconnect("c", reason));
        }
        let op = sim.publish(client, message("t", "x", QoS::ExactlyOnce)).unwrap();
        if at_connack {
            sim.connect(client);
        }
        let servers = |sim: &Sim| -> Vec<String> {
            let connected = &sim.client(client).connected;
            connected.iter().map(|(_, it)| it.server.as_str().to_owned()).collect()
        };
        // At once: the first back-off alone would take a second.
        let moved = |sim: &Sim| servers(sim).last().is_some_and(|last| last == "model-1");
        assert!(sim.run_until(millis(500), moved), "{reason}: {:?}", servers(&sim));
        assert!(sim.run_until(secs(1), |sim| sim.client(client).outcomes.contains_key(&op)));
        assert_eq!(sim.count("t", b"x"), 1);
        // Only one that has moved for good is forgotten.
        sim.fail_over(1, secs(20));
        let came_back =
            sim.run_until(secs(15), |sim| servers(sim).last().is_some_and(|last| last == "model"));
        assert_eq!(came_back, reason == ReasonCode::UseAnotherServer, "{reason}");
        sim.assert_sound();
    }
}

#[test]
fn before_5_0_nobody_is_told_where_to_go() {
    let mut options = Options::default();
    options.servers = 2;
    options.broker = BrokerConfig::new().server_reference("model-1");
    let mut sim = Sim::new(options, 1);
    let client = sim.add(config("c").version(ProtocolVersion::V3_1_1));
    sim.broker.plan_for("c", Plan::refuse(ReasonCode::ServerMoved));
    sim.connect(client);
    sim.run_for(millis(100));
    assert!(matches!(
        reasons(&sim, client)[..],
        [EndReason::Refused { reason: ReasonCode::ServerUnavailable, properties }] if properties.is_empty()
    ));
    sim.assert_sound();
}
