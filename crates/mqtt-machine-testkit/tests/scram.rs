//! Owns the proof of enhanced authentication from end to end: a machine, SCRAM above it, and the model broker, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::PacketType;
use mqtt_machine::wire::EncodeError;
use mqtt_machine::{
    Action, Answer, Authentication, Config, EndReason, Event, Instant, Machine, Message, Outcome, Output,
    QoS, ReasonCode, Refused, Secret, Server, TransportEvent, TransportId,
};
use mqtt_machine_scram::{Client, Mechanism};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};

/// A machine beside a broker: bytes take a millisecond each way.
struct World {
    machine: Machine,
    broker: Broker,
    now: Instant,
    transport: Option<(TransportId, ConnId)>,
    conns: u64,
    output: Output,
    input: BytesMut,
    scram: Box<dyn Fn() -> Client>,
    exchange: Client,
    events: Vec<Event>,
    /// How many exchanges the server has ended to this client's satisfaction.
    verified: usize,
}

impl World {
    fn new(broker: BrokerConfig, mechanism: Mechanism, password: &'static str) -> Self {
        let mut config = Config::new(Server::new("model")).client_id("prover").prepare(true);
        config.authentication = Some(Authentication { method: mechanism.name().into(), initial_data: None });
        let scram = move || Client::new(mechanism, "user", password, "fyko+d2lbbFgONRv9qkxdawL").unwrap();
        Self {
            machine: Machine::new(Arc::new(config), 1, Instant::ZERO),
            broker: Broker::new(broker, 1),
            now: Instant::ZERO,
            transport: None,
            conns: 0,
            output: Output::new(),
            input: BytesMut::new(),
            exchange: scram(),
            scram: Box::new(scram),
            events: Vec::new(),
            verified: 0,
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Prepare { id, server, .. } => {
                    self.exchange = (self.scram)();
                    let initial_data = Some(Secret::new(self.exchange.first()));
                    let server = server.unwrap();
                    let answer = Answer::Prepared { id, server, credentials: None, initial_data };
                    self.machine.answer(self.now, answer);
                }
                Action::OpenTransport { id, .. } => {
                    self.conns += 1;
                    let conn = ConnId::new(self.conns);
                    self.transport = Some((id, conn));
                    self.broker.open(self.now, conn);
                    self.machine.handle_transport(self.now, id, TransportEvent::Opened);
                }
                Action::CloseTransport { .. } => {
                    if let Some((_, conn)) = self.transport.take() {
                        self.broker.closed(self.now, conn);
                    }
                }
                Action::Authenticate { id, finished: false, data } => {
                    let data = self.exchange.respond(data.expose()).ok().map(Secret::new);
                    self.machine.answer(self.now, Answer::Authenticate { id, data });
                }
                Action::Authenticate { id, finished: true, data } => {
                    match self.exchange.verify(data.expose()) {
                        Ok(()) => self.verified += 1,
                        Err(_) => self.machine.answer(self.now, Answer::Authenticate { id, data: None }),
                    }
                }
                action => panic!("{action:?}"),
            }
        }
    }

    /// A few round trips.
    fn run(&mut self) {
        for _ in 0..40 {
            self.act();
            if let Some((id, conn)) = self.transport {
                self.machine.transmit(self.now, &mut self.output);
                let bytes = self.output.copy_to_bytes(self.output.remaining());
                self.machine.handle_sent(self.now, id, bytes.len());
                self.broker.handle_input(self.now, conn, &bytes);
                self.input.extend_from_slice(&self.broker.poll_output(conn));
                self.machine.handle_input(self.now, id, &mut self.input);
            }
            // What is to be verified is verified before anything more is sent.
            self.act();
            while let Some(event) = self.machine.poll_event() {
                self.events.push(event);
            }
            if let Some(closed) = self.broker.poll_close()
                && let Some((id, conn)) = self.transport
                && conn == closed
            {
                self.transport = None;
                self.machine.handle_transport(self.now, id, TransportEvent::Closed(None));
            }
            self.now += Duration::from_millis(2);
        }
    }

    fn last(&self) -> &Event {
        self.events.last().unwrap()
    }

    fn received(&self, packet: PacketType) -> usize {
        self.broker.log().sent_by("prover", packet).count()
    }
}

fn broker() -> BrokerConfig {
    BrokerConfig::new().scram_user("user", "pencil")
}

#[test]
fn either_mechanism_connects_and_both_sides_are_proved() {
    for mechanism in [Mechanism::Sha256, Mechanism::Sha512] {
        let mut world = World::new(broker(), mechanism, "pencil");
        world.machine.connect(world.now).unwrap();
        world.run();
        assert!(matches!(world.last(), Event::Connected(_)), "{:?}", world.events);
        assert_eq!(world.verified, 1);
        assert!(world.machine.is_connected());
        assert_eq!(world.broker.log().violations().count(), 0);
    }
}

#[test]
fn a_wrong_password_is_refused_for_good() {
    let mut world = World::new(broker(), Mechanism::Sha256, "pencils");
    world.machine.connect(world.now).unwrap();
    world.run();
    let Event::ConnectFailed(ended) = world.last() else { panic!("{:?}", world.events) };
    assert!(matches!(ended.reason, EndReason::Refused { reason: ReasonCode::NotAuthorized, .. }));
    assert_eq!((ended.retry_at, world.verified), (None, 0));
}

#[test]
fn an_impostor_gets_nothing_that_was_waiting() {
    let mut world = World::new(broker().scram_impostor(), Mechanism::Sha256, "pencil");
    world.machine.connect(world.now).unwrap();
    let message = Message::to("secret", "plans").unwrap().qos(QoS::AtLeastOnce);
    world.machine.publish(world.now, message).unwrap();
    world.run();
    let Event::Disconnected(ended) = world.last() else { panic!("{:?}", world.events) };
    assert_eq!((&ended.reason, ended.retry_at), (&EndReason::AuthenticationFailed, None));
    assert_eq!(world.received(PacketType::Publish), 0);
    assert_eq!(world.verified, 0);
}

#[test]
fn a_server_that_asks_for_too_little_or_too_much_work_is_left() {
    for iterations in [1, 4_095, 1_000_001] {
        // The broker computes what it asks for; so much need not be asked for really.
        let config = broker().scram_iterations(iterations.min(4_095));
        let mut world = World::new(config, Mechanism::Sha256, "pencil");
        if iterations > 4_095 {
            world.scram = Box::new(|| {
                Client::new(Mechanism::Sha256, "user", "pencil", "abc").unwrap().iterations(1..=4_094)
            });
        }
        world.machine.connect(world.now).unwrap();
        world.run();
        let Event::ConnectFailed(ended) = world.last() else { panic!("{:?}", world.events) };
        assert_eq!(ended.reason, EndReason::AuthenticationFailed);
    }
}

#[test]
fn a_method_that_the_server_does_not_speak_is_refused() {
    let mut world = World::new(BrokerConfig::new(), Mechanism::Sha512, "pencil");
    world.machine.connect(world.now).unwrap();
    world.run();
    let Event::ConnectFailed(ended) = world.last() else { panic!("{:?}", world.events) };
    assert!(matches!(ended.reason, EndReason::Refused { reason: ReasonCode::BadAuthenticationMethod, .. }));
}

#[test]
fn a_client_authenticates_again_while_it_publishes() {
    let mut world = World::new(broker(), Mechanism::Sha256, "pencil");
    let first = |world: &mut World| {
        world.exchange = (world.scram)();
        Some(Secret::new(world.exchange.first()))
    };
    let data = first(&mut world);
    assert!(matches!(world.machine.reauthenticate(world.now, data), Err(Refused::NotNow(_))));
    world.machine.connect(world.now).unwrap();
    world.run();
    for round in 1..=3 {
        let data = first(&mut world);
        world.machine.reauthenticate(world.now, data.clone()).unwrap();
        assert!(matches!(world.machine.reauthenticate(world.now, data), Err(Refused::NotNow(_))));
        let message = Message::to("goes/on", "!").unwrap().qos(QoS::ExactlyOnce);
        let op = world.machine.publish(world.now, message).unwrap();
        world.run();
        let completed = world.events.iter().any(|event| {
            matches!(event, Event::Completed { op: ended, outcome: Outcome::Acknowledged(_) } if *ended == op)
        });
        assert!(completed, "{:?}", world.events);
        assert_eq!(world.verified, round + 1);
        // The proof before CONNACK came from nobody yet.
        assert_eq!(world.received(PacketType::Auth), 2 * round);
    }
    assert!(world.machine.is_connected());
    assert_eq!(world.broker.log().violations().count(), 0);
}

#[test]
fn a_client_that_cannot_prove_itself_again_is_disconnected() {
    let mut world = World::new(broker(), Mechanism::Sha256, "pencil");
    world.machine.connect(world.now).unwrap();
    world.run();
    world.exchange = Client::new(Mechanism::Sha256, "user", "wrong", "abcdef").unwrap();
    let data = Some(Secret::new(world.exchange.first()));
    world.machine.reauthenticate(world.now, data).unwrap();
    world.run();
    let Event::Disconnected(ended) = world.last() else { panic!("{:?}", world.events) };
    assert!(
        matches!(ended.reason, EndReason::Disconnect { reason: ReasonCode::NotAuthorized, .. }),
        "{ended:?}"
    );
}

#[test]
fn without_a_method_there_is_no_authenticating_again() {
    let mut world = World::new(BrokerConfig::new(), Mechanism::Sha256, "pencil");
    let config = Config::new(Server::new("model")).client_id("plain");
    world.machine = Machine::new(Arc::new(config), 1, Instant::ZERO);
    world.machine.connect(world.now).unwrap();
    world.run();
    assert!(world.machine.is_connected());
    let refused = world.machine.reauthenticate(world.now, None).unwrap_err();
    assert!(matches!(refused, Refused::Encode(EncodeError::AuthenticationMethodMissing { .. })), "{refused}");
}
