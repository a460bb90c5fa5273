//! What the machine asks, what it makes of the answers, and the one door through which everything may come.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::Bench;
use bytes::{Buf, BytesMut};
use mqtt_machine::packet::{self, Auth, ConnAck, Packet, Properties, PropertiesBuf, Property, Sender};
use mqtt_machine::{
    Action, Answer, Authentication, Backoff, Command, Config, Credentials, Disconnect, EndReason, Event,
    Input, Instant, Machine, Message, Outcome, Output, QoS, ReasonCode, Refused, Reply, Secret, Server,
    Subscribe, TopicFilter, TransportEvent, TransportId, Unsubscribe, wire, wire::EncodeError,
};

fn config() -> Config {
    Config::new(Server::new("first")).client_id("test").backoff(Backoff { jitter: false, ..Backoff::DEFAULT })
}

/// The CONNECT that the machine sends, as text with its credentials.
fn connect_packet(machine: &mut Machine, now: Instant) -> (Option<String>, Option<Vec<u8>>) {
    let mut output = Output::new();
    machine.transmit(now, &mut output);
    let bytes = output.copy_to_bytes(output.remaining());
    let packet = wire::decode(&bytes, mqtt_machine::ProtocolVersion::V5, Sender::Client).unwrap();
    let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
    (connect.username.map(str::to_owned), connect.password.map(<[u8]>::to_vec))
}

#[test]
fn every_attempt_asks_first_where_to_and_with_which_credentials() {
    let mut machine = Machine::new(Arc::new(config().prepare(true)), 1, Instant::ZERO);
    let mut now = Instant::ZERO;
    machine.connect(now).unwrap();
    let Some(Action::Prepare { id, server, failed: 0 }) = machine.poll_action() else { panic!() };
    assert_eq!(server, Some(Server::new("first")));
    assert!(machine.poll_action().is_none(), "nothing is opened before the answer");

    machine.answer(now, Answer::NotPrepared { id, why: "no token".into() });
    let Some(Event::ConnectFailed(ended)) = machine.poll_event() else { panic!() };
    assert_eq!(ended.reason, EndReason::NotPrepared("no token".into()));
    // Nothing was opened, so whether something is closed does not matter; the next attempt asks again.
    while machine.poll_action().is_some() {}
    now = ended.retry_at.unwrap();
    machine.handle_timeout(now);
    let Some(Action::Prepare { id: second, failed: 1, .. }) = machine.poll_action() else { panic!() };
    assert_ne!(id, second);

    let credentials = Credentials { username: Some("me".into()), password: Some(Secret::new(&b"token"[..])) };
    let answer = |id| Answer::Prepared {
        id,
        server: Server::new("elsewhere"),
        credentials: Some(credentials.clone()),
        initial_data: None,
    };
    machine.answer(now, answer(id));
    assert!(machine.poll_action().is_none(), "an answer to an earlier question is ignored");
    machine.answer(now, answer(second));
    let Some(Action::OpenTransport { id, server }) = machine.poll_action() else { panic!() };
    assert_eq!((id, server), (second, Server::new("elsewhere")));
    machine.handle_transport(now, id, TransportEvent::Opened);
    assert_eq!(connect_packet(&mut machine, now), (Some("me".into()), Some(b"token".to_vec())));
}

#[test]
fn credentials_of_an_answer_may_be_refused_and_asked_for_again_and_configured_ones_are_refused_for_good() {
    let own = || Credentials { username: Some("me".into()), password: Some(Secret::new(&b"old"[..])) };
    for (credentials, refusal, passes) in [
        (Some(own()), ReasonCode::BadUserNameOrPassword, true),
        (Some(own()), ReasonCode::NotAuthorized, true),
        (Some(own()), ReasonCode::Banned, false),
        (None, ReasonCode::BadUserNameOrPassword, false),
        (None, ReasonCode::NotAuthorized, false),
    ] {
        let mut bench = Bench::new(config().prepare(true));
        bench.machine.connect(bench.now).unwrap();
        let Some(Action::Prepare { id, .. }) = bench.machine.poll_action() else { panic!() };
        let server = Server::new("first");
        let answer = Answer::Prepared { id, server: server.clone(), credentials, initial_data: None };
        bench.machine.answer(bench.now, answer);
        bench.open();
        let refused = ConnAck { session_present: false, reason: refusal, properties: Properties::EMPTY };
        bench.receive(&Packet::ConnAck(refused.clone()));
        let Some(Event::ConnectFailed(ended)) = bench.machine.poll_event() else { panic!() };
        assert_eq!(ended.retry_at.is_some(), passes, "{refusal}");
        if !passes {
            continue;
        }
        // What the answer to the last question gave is no word about this one: configured credentials are refused for good.
        bench.now = ended.retry_at.unwrap();
        bench.machine.handle_timeout(bench.now);
        while bench.machine.poll_action().is_some_and(|action| !matches!(action, Action::Prepare { .. })) {}
        let id = TransportId::new(2);
        assert!(bench.machine.is_preparing(id));
        bench
            .machine
            .answer(bench.now, Answer::Prepared { id, server, credentials: None, initial_data: None });
        assert!(!bench.machine.is_preparing(id));
        bench.open();
        bench.receive(&Packet::ConnAck(refused));
        let Some(Event::ConnectFailed(ended)) = bench.machine.poll_event() else { panic!() };
        assert_eq!(ended.retry_at, None);
    }
}

#[test]
fn a_connection_whose_credentials_were_an_answer_may_be_ended_for_want_of_authorization() {
    let mut bench = Bench::new(config().prepare(true));
    bench.machine.connect(bench.now).unwrap();
    let Some(Action::Prepare { id, .. }) = bench.machine.poll_action() else { panic!() };
    let (server, credentials) = (Server::new("first"), Some(Credentials::default()));
    bench.machine.answer(bench.now, Answer::Prepared { id, server, credentials, initial_data: None });
    bench.open();
    bench.accept(false, Properties::EMPTY);
    let packet = packet::Disconnect { reason: ReasonCode::NotAuthorized, properties: Properties::EMPTY };
    bench.receive(&Packet::Disconnect(packet));
    let Some(Event::Disconnected(ended)) = bench.machine.poll_event() else { panic!() };
    assert!(ended.reason.is_permanent() && ended.retry_at.is_some(), "an expired token is renewed");
}

#[test]
fn a_question_that_is_never_answered_ends_with_the_connect_timeout() {
    let config = config().prepare(true).connect_timeout(Duration::from_secs(3));
    let mut machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
    machine.connect(Instant::ZERO).unwrap();
    assert_eq!(machine.poll_timeout(), Some(Instant::from_micros(3_000_000)));
    machine.handle_timeout(Instant::from_micros(3_000_000));
    let Some(Event::ConnectFailed(ended)) = machine.poll_event() else { panic!() };
    assert_eq!(ended.reason, EndReason::ConnectTimeout);
}

#[test]
fn without_a_server_and_without_a_question_there_is_nowhere_to_go() {
    let mut config = config();
    config.servers.clear();
    let mut machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
    machine.connect(Instant::ZERO).unwrap();
    let Some(Event::ConnectFailed(ended)) = machine.poll_event() else { panic!() };
    assert_eq!((ended.reason, ended.retry_at), (EndReason::NoServer, None));
    assert!(machine.is_idle());
}

fn authenticating() -> Bench {
    let mut config = config();
    config.authentication =
        Some(Authentication { method: "X".into(), initial_data: Some(Secret::new(&b"hello"[..])) });
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    bench
}

fn properties(data: &[u8]) -> PropertiesBuf {
    let list = PropertiesBuf::new().with(Property::AuthenticationMethod("X")).unwrap();
    list.with(Property::AuthenticationData(data)).unwrap()
}

fn challenge(bench: &mut Bench, data: &[u8]) {
    let properties = properties(data);
    let reason = ReasonCode::ContinueAuthentication;
    bench.receive(&Packet::Auth(Auth { reason, properties: properties.as_properties() }));
}

#[test]
fn a_challenge_is_a_question_and_its_answer_the_next_step() {
    let mut bench = authenticating();
    challenge(&mut bench, b"challenge");
    let Some(Action::Authenticate { id, finished: false, data }) = bench.machine.poll_action() else {
        panic!()
    };
    assert_eq!(data.expose(), b"challenge");
    let answer = |data: &'static [u8]| Answer::Authenticate { id, data: Some(Secret::new(data)) };
    bench.machine.answer(bench.now, answer(b"response"));
    bench.machine.transmit(bench.now, &mut bench.output);
    let bytes = bench.output.copy_to_bytes(bench.output.remaining());
    let Ok(Packet::Auth(auth)) = wire::decode(&bytes, bench.version, Sender::Client) else { panic!() };
    assert_eq!(auth.reason, ReasonCode::ContinueAuthentication);
    assert_eq!(auth.properties, properties(b"response").as_properties());
    let method = PropertiesBuf::new().with(Property::AuthenticationMethod("X")).unwrap();
    bench.accept(false, method.as_properties());
    assert!(bench.machine.is_connected());
}

#[test]
fn authentication_that_is_given_up_ends_the_attempts() {
    let mut bench = authenticating();
    challenge(&mut bench, b"challenge");
    let Some(Action::Authenticate { id, .. }) = bench.machine.poll_action() else { panic!() };
    bench.machine.answer(bench.now, Answer::Authenticate { id, data: None });
    let events = bench.events();
    let [Event::ConnectFailed(ended)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&ended.reason, ended.retry_at), (&EndReason::AuthenticationFailed, None));
    assert!(bench.machine.is_idle());
    // An answer that comes too late changes nothing.
    bench.machine.answer(bench.now, Answer::Authenticate { id, data: Some(Secret::default()) });
    assert!(bench.machine.is_idle());
}

// 5.0: MQTT-4.12.0-5
#[test]
fn a_challenge_of_another_method_breaks_the_protocol() {
    let mut bench = authenticating();
    let other = PropertiesBuf::new().with(Property::AuthenticationMethod("Y")).unwrap();
    let reason = ReasonCode::ContinueAuthentication;
    bench.receive(&Packet::Auth(Auth { reason, properties: other.as_properties() }));
    let events = bench.events();
    let [Event::ConnectFailed(ended)] = events.as_slice() else { panic!("{events:?}") };
    assert!(matches!(&ended.reason, EndReason::Protocol(violation) if violation.rule == "MQTT-4.12.0-5"));
}

/// A client that named the method X, accepted.
fn authenticated() -> Bench {
    let mut bench = authenticating();
    let method = PropertiesBuf::new().with(Property::AuthenticationMethod("X")).unwrap();
    bench.accept(false, method.as_properties());
    let last = bench.machine.poll_action();
    assert!(matches!(last, Some(Action::Authenticate { finished: true, .. })), "{last:?}");
    bench
}

// 5.0: MQTT-4.12.1-1
#[test]
fn authenticating_again_begins_with_the_method_of_connect() {
    let mut bench = authenticated();
    bench.machine.reauthenticate(bench.now, Some(Secret::new(&b"again"[..]))).unwrap();
    bench.machine.transmit(bench.now, &mut bench.output);
    let bytes = bench.output.copy_to_bytes(bench.output.remaining());
    let Ok(Packet::Auth(auth)) = wire::decode(&bytes, bench.version, Sender::Client) else { panic!() };
    assert_eq!(auth.reason, ReasonCode::ReAuthenticate);
    assert_eq!(auth.properties, properties(b"again").as_properties());
}

// 5.0: MQTT-4.12.1-2
#[test]
fn authenticating_again_in_vain_disconnects_and_closes() {
    let mut bench = authenticated();
    bench.machine.reauthenticate(bench.now, None).unwrap();
    bench.machine.transmit(bench.now, &mut bench.output);
    bench.output.clear();
    challenge(&mut bench, b"challenge");
    let Some(Action::Authenticate { id, .. }) = bench.machine.poll_action() else { panic!() };
    bench.machine.answer(bench.now, Answer::Authenticate { id, data: None });
    assert_eq!(bench.sent(), ["Disconnect 0x80"]);
    // The close timeout at the latest.
    bench.wake();
    assert_eq!(bench.machine.poll_action(), Some(Action::CloseTransport { id }));
    let events = bench.events();
    assert!(
        matches!(events.as_slice(), [Event::Disconnected(ended)] if ended.reason == EndReason::AuthenticationFailed)
    );
}

#[test]
fn authenticating_again_with_more_data_than_a_field_holds_is_refused() {
    let mut bench = authenticated();
    let data = |bytes: usize| Some(Secret::new(vec![7; bytes]));
    let refused = bench.machine.reauthenticate(bench.now, data(65_536)).unwrap_err();
    assert!(matches!(refused, Refused::Encode(EncodeError::FieldTooLong { bytes: 65_536, .. })), "{refused}");
    bench.machine.reauthenticate(bench.now, data(65_535)).unwrap();
    assert_eq!(bench.sent(), ["AUTH"]);
}

#[test]
fn a_reconnect_and_a_new_configuration_begin_with_the_next_attempt() {
    let mut bench = Bench::connected(config());
    let now = bench.now;
    let mut changed = config().client_id("renamed");
    changed.servers = vec![Server::new("second")];
    bench.machine.reconfigure(now, Arc::new(changed));
    bench.machine.reconnect(now).unwrap();
    assert_eq!(bench.sent(), ["Disconnect 0x00"]);
    let events = bench.events();
    let [Event::Disconnected(ended)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&ended.reason, ended.retry_at), (&EndReason::Reconnect, Some(now)));
    bench.machine.handle_timeout(now);
    let actions: Vec<Action> = std::iter::from_fn(|| bench.machine.poll_action()).collect();
    let [Action::CloseTransport { .. }, Action::OpenTransport { id, server }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(server, &Server::new("second"));
    bench.transport = Some(*id);
    bench.machine.handle_transport(now, *id, TransportEvent::Opened);
    assert_eq!(bench.sent(), ["Connect clean=false id=renamed"]);
}

#[test]
fn a_reconnect_ends_a_wait_and_an_attempt_and_is_refused_without_either() {
    let mut machine = Machine::new(Arc::new(config()), 1, Instant::ZERO);
    let now = Instant::ZERO;
    assert!(matches!(machine.reconnect(now), Err(Refused::NotNow(_))));
    machine.connect(now).unwrap();
    let Some(Action::OpenTransport { id: first, .. }) = machine.poll_action() else { panic!() };
    machine.reconnect(now).unwrap();
    assert!(matches!(machine.poll_event(), Some(Event::ConnectFailed(_))));
    machine.handle_timeout(now);
    assert_eq!(machine.poll_action(), Some(Action::CloseTransport { id: first }));
    let Some(Action::OpenTransport { id, .. }) = machine.poll_action() else { panic!() };
    machine.handle_transport(now, first, TransportEvent::Opened);
    machine.handle_transport(now, id, TransportEvent::OpenFailed("refused".into()));
    let Some(Event::ConnectFailed(ended)) = machine.poll_event() else { panic!() };
    assert!(ended.retry_at > Some(now));
    machine.reconnect(now).unwrap();
    assert!(matches!(machine.poll_action(), Some(Action::OpenTransport { .. })));
}

#[test]
fn the_one_door_does_what_the_methods_do() {
    let mut by_door = Machine::new(Arc::new(config()), 1, Instant::ZERO);
    let mut by_name = by_door.clone();
    let now = Instant::ZERO;
    let message = || Message::to("a", "x").unwrap().qos(QoS::AtLeastOnce);
    let filter = || TopicFilter::new("a").unwrap();
    let subscribe = || Subscribe::to(filter(), QoS::AtMostOnce);
    let unsubscribe = || Unsubscribe::new(vec![filter()]);

    let Reply::Done = by_door.handle(now, Input::Command(Command::Connect)) else { panic!() };
    by_name.connect(now).unwrap();
    let Reply::Refused(refused) = by_door.handle(now, Input::Command(Command::Connect)) else { panic!() };
    assert_eq!(by_name.connect(now), Err(refused));
    for (command, op) in [
        (Command::Publish(message()), by_name.publish(now, message())),
        (Command::Subscribe(subscribe()), by_name.subscribe(now, subscribe())),
        (Command::Unsubscribe(unsubscribe()), by_name.unsubscribe(now, unsubscribe())),
    ] {
        let Reply::Accepted(accepted) = by_door.handle(now, Input::Command(command)) else { panic!() };
        assert_eq!(Ok(accepted), op);
    }
    let Some(Action::OpenTransport { id, .. }) = by_door.poll_action() else { panic!() };
    let _ = by_name.poll_action();
    let event = TransportEvent::Opened;
    by_door.handle(now, Input::Transport { id, event: event.clone() });
    by_name.handle_transport(now, id, event);
    let sent = |machine: &mut Machine| {
        let mut output = Output::new();
        machine.transmit(now, &mut output);
        output.copy_to_bytes(output.remaining())
    };
    let written = sent(&mut by_door);
    assert_eq!(written, sent(&mut by_name));
    by_door.handle(now, Input::Sent { id, bytes: written.len() });
    by_name.handle_sent(now, id, written.len());
    let mut bytes = BytesMut::new();
    let (session_present, reason, properties) = (false, ReasonCode::Success, Properties::EMPTY);
    let connack = Packet::ConnAck(ConnAck { session_present, reason, properties });
    wire::encode(&connack, mqtt_machine::ProtocolVersion::V5, &mut bytes).unwrap();
    bytes.extend_from_slice(&[0x30, 100, 0]);
    let Reply::Unread(rest) = by_door.handle(now, Input::Bytes { id, bytes: bytes.clone() }) else {
        panic!()
    };
    by_name.handle_input(now, id, &mut bytes);
    assert_eq!(rest, bytes);
    assert_eq!(sent(&mut by_door), sent(&mut by_name));
    let later = now + Duration::from_secs(60);
    by_door.handle(later, Input::Timeout);
    by_name.handle_timeout(later);
    assert_eq!(by_door.poll_timeout(), by_name.poll_timeout());
    let disconnect = || Disconnect::new(Duration::ZERO);
    let command = Input::Command(Command::Disconnect(disconnect()));
    let Reply::Accepted(op) = by_door.handle(later, command) else { panic!() };
    assert_eq!(by_name.disconnect(later, disconnect()), Ok(op));
    let events = |machine: &mut Machine| std::iter::from_fn(|| machine.poll_event()).collect::<Vec<_>>();
    let told = events(&mut by_door);
    assert_eq!(told, events(&mut by_name));
    assert!(told.iter().all(|event| !matches!(event, Event::Completed { outcome: Outcome::Sent, .. })));
    assert_eq!(by_door.session(), by_name.session());
}

#[test]
fn after_a_disconnect_began_no_command_is_accepted() {
    let mut bench = Bench::connected(config());
    let now = bench.now;
    bench.machine.publish(now, Message::to("a", "x").unwrap().qos(QoS::AtLeastOnce)).unwrap();
    bench.sent();
    bench.machine.disconnect(now, Disconnect::new(Duration::from_secs(5))).unwrap();
    assert_eq!(bench.machine.publish(now, Message::to("a", "x").unwrap()), Err(Refused::Disconnecting));
    assert_eq!(bench.machine.disconnect(now, Disconnect::new(Duration::ZERO)), Err(Refused::Disconnecting));
    assert_eq!(bench.machine.connect(now), Err(Refused::Disconnecting));
}

#[test]
fn a_caller_that_takes_no_events_does_not_make_the_machine_grow() {
    let mut machine = Machine::new(Arc::new(config()), 1, Instant::ZERO);
    let mut now = Instant::ZERO;
    let op = machine.publish(now, Message::to("a", "x").unwrap()).unwrap();
    machine.connect(now).unwrap();
    for _ in 0..5_000 {
        while let Some(action) = machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                machine.handle_transport(now, id, TransportEvent::OpenFailed("refused".into()));
            }
        }
        now = machine.poll_timeout().unwrap();
        machine.handle_timeout(now);
    }
    assert!(machine.memory_used() < 100_000, "{} bytes", machine.memory_used());
    let ended = machine.disconnect(now, Disconnect::new(Duration::ZERO)).unwrap();
    let events: Vec<Event> = std::iter::from_fn(|| machine.poll_event()).collect();
    assert!((60..80).contains(&events.len()), "{} events", events.len());
    // What ends a command is never forgotten.
    for wanted in [op, ended] {
        assert!(events.iter().any(|event| matches!(event, Event::Completed { op, .. } if *op == wanted)));
    }
}
