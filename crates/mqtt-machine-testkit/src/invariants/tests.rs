//! Owns the proof that every invariant of a machine can be broken and is then seen: each test plays a machine that does
//! wrong. It must not use a machine.

use core::time::Duration;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Connect, Packet, Properties, PropertiesBuf, Property, Publish, ReasonCodes,
    SubAck, Subscribe, SubscribeFilter, Topic, Unsubscribe,
};
use mqtt_machine::{
    Acknowledgement, Action, Config, Event, Instant, JournalSeq, Machine, Message, OpId, Outcome, PacketId,
    ProtocolVersion, QoS, ReasonCode, Server, Subscription, SubscriptionOptions, TopicFilter, TransportEvent,
    TransportId, wire,
};

use super::model::{Asked, Model, Vitals};
use super::{Invariant, MEMORY_SLACK, Violation};

const ONE: TransportId = TransportId::new(1);
const V5: ProtocolVersion = ProtocolVersion::V5;

/// A machine played by hand: what it would show, and its model.
struct Played {
    model: Model,
    vitals: Vitals,
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn message(qos: QoS) -> Message {
    Message::to("t", "x").unwrap().qos(qos)
}

fn topic(text: &str) -> Topic<'_> {
    Topic::new(text).unwrap()
}

fn publish(packet_id: u16, dup: bool, payload: &[u8]) -> Packet<'_> {
    let (qos, packet_id) = match packet_id {
        0 => (QoS::AtMostOnce, None),
        number if number >= 100 => (QoS::ExactlyOnce, Some(id(number))),
        number => (QoS::AtLeastOnce, Some(id(number))),
    };
    let properties = Properties::EMPTY;
    Packet::Publish(Publish { dup, qos, retain: false, topic: topic("t"), packet_id, properties, payload })
}

fn ack(kind: AckKind, number: u16) -> Packet<'static> {
    Packet::Ack(Ack::new(kind, id(number)))
}

fn acknowledged() -> Outcome {
    Outcome::Acknowledged(Acknowledgement::new(ReasonCode::Success, PropertiesBuf::new()))
}

fn encoded(packet: &Packet<'_>) -> BytesMut {
    let mut bytes = BytesMut::new();
    wire::encode(packet, V5, &mut bytes).unwrap();
    bytes
}

impl Played {
    fn new(config: Config) -> Self {
        let vitals = Vitals {
            memory_used: 0,
            deadline: Some(Instant::from_micros(u64::MAX)),
            read_capacity: 1,
            is_paused: false,
            is_connected: false,
            is_idle: false,
            has_actions: false,
        };
        Self { model: Model::new(Arc::new(config)), vitals }
    }

    /// It is connected to a server with these CONNACK properties.
    fn connected_with(config: Config, properties: Properties<'_>) -> Self {
        let mut played = Self::new(config);
        played.model.action(&Action::OpenTransport { id: ONE, server: Server::new("s") });
        played.connect(ONE, false, properties);
        played
    }

    fn connect(&mut self, transport: TransportId, session_present: bool, properties: Properties<'_>) {
        self.model.opened(transport);
        self.sends(&Packet::Connect(Connect { clean_start: false, ..Connect::new(V5, "c") }));
        let reason = ReasonCode::Success;
        let connack = Packet::ConnAck(ConnAck { session_present, reason, properties });
        self.model.received(transport, &encoded(&connack));
        self.vitals.is_connected = true;
    }

    fn connected() -> Self {
        Self::connected_with(config(), Properties::EMPTY)
    }

    /// The connection is lost, and another one resumes the session.
    fn reconnected(&mut self) {
        self.model.closed(ONE);
        let two = TransportId::new(2);
        self.model.action(&Action::OpenTransport { id: two, server: Server::new("s") });
        self.connect(two, true, Properties::EMPTY);
    }

    fn sends(&mut self, packet: &Packet<'_>) {
        self.model.transmitted(&encoded(packet));
    }

    fn receives(&mut self, packet: &Packet<'_>) {
        self.model.received(ONE, &encoded(packet));
    }

    fn accepts(&mut self, op: u64, qos: QoS, payload: &'static str) -> OpId {
        let mut message = message(qos);
        message.payload = Bytes::from_static(payload.as_bytes());
        self.model.published(OpId::new(op), message, true);
        OpId::new(op)
    }

    fn ends(&mut self, op: OpId, outcome: Outcome) {
        self.model.event(&Event::Completed { op, outcome });
    }

    fn shows(&mut self) {
        self.vitals.memory_used = self.vitals.memory_used.max(self.held());
        self.model.vitals(&self.vitals);
    }

    fn held(&self) -> usize {
        self.model.outgoing.bytes + self.model.incoming.credit
    }

    fn found(&self) -> Vec<Invariant> {
        self.model.findings.list.iter().map(|violation| violation.invariant).collect()
    }

    #[track_caller]
    fn assert_found(&self, invariant: Invariant) {
        assert_eq!(self.found().first(), Some(&invariant), "{:#?}", self.model.findings.list);
    }
}

fn config() -> Config {
    Config::new(Server::new("s")).client_id("c")
}

/// A real message with its receipt, as a machine tells it: receipts cannot be made by hand.
fn told(qos: QoS) -> Event {
    let mut machine = Machine::new(Arc::new(config()), 1, Instant::ZERO);
    machine.connect(Instant::ZERO).unwrap();
    machine.handle_transport(Instant::ZERO, ONE, TransportEvent::Opened);
    machine.transmit(Instant::ZERO, &mut mqtt_machine::Output::new());
    let connack =
        ConnAck { session_present: false, reason: ReasonCode::Success, properties: Properties::EMPTY };
    let number = [0, 7, 107][usize::from(qos.to_u8())];
    for packet in [Packet::ConnAck(connack), publish(number, false, b"x")] {
        machine.handle_input(Instant::ZERO, ONE, &mut encoded(&packet));
    }
    let events = core::iter::from_fn(|| machine.poll_event());
    events.filter(|event| matches!(event, Event::Message { .. })).last().unwrap()
}

#[test]
fn a_machine_that_does_right_is_left_alone() {
    let mut played = Played::connected();
    let op = played.accepts(1, QoS::ExactlyOnce, "x");
    played.sends(&publish(101, false, b"x"));
    played.reconnected();
    played.sends(&publish(101, true, b"x"));
    played.model.received(TransportId::new(2), &encoded(&ack(AckKind::PubRec, 101)));
    played.sends(&ack(AckKind::PubRel, 101));
    played.model.received(TransportId::new(2), &encoded(&ack(AckKind::PubComp, 101)));
    played.ends(op, acknowledged());
    played.shows();
    played.model.told_everything();
    played.model.finished();
    assert_eq!(played.found(), []);
}

#[test]
fn memory_that_is_not_told_or_not_held_or_above_the_caps_is_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.vitals(&Vitals { memory_used: 1, ..played.vitals });
    played.assert_found(Invariant::Memory);

    let mut played = Played::connected();
    played.model.vitals(&Vitals { memory_used: 2 * MEMORY_SLACK, ..played.vitals });
    played.assert_found(Invariant::Memory);

    let mut config = config();
    config.limits.outgoing_messages = 1;
    let mut played = Played::connected_with(config, Properties::EMPTY);
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.found_full(&message(QoS::AtLeastOnce));
    assert_eq!(played.found(), []);
    played.accepts(2, QoS::AtLeastOnce, "y");
    played.assert_found(Invariant::Memory);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.found_full(&message(QoS::AtLeastOnce));
    played.assert_found(Invariant::Memory);
}

#[test]
fn names_that_name_two_things_are_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.accepts(1, QoS::AtLeastOnce, "y");
    played.assert_found(Invariant::Identifiers);

    let mut played = Played::connected();
    played.model.action(&Action::OpenTransport { id: TransportId::new(2), server: Server::new("s") });
    played.assert_found(Invariant::Identifiers);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.sends(&publish(1, false, b"x"));
    let asked = Asked::Subscribe(vec![TopicFilter::new("t").unwrap()], None, 0);
    played.model.accepted(OpId::new(9), asked);
    let filters = vec![SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    let properties = Properties::EMPTY;
    played.sends(&Packet::Subscribe(Subscribe { packet_id: id(1), properties, filters }));
    played.assert_found(Invariant::Identifiers);

    let mut played = Played::new(config().durable(true));
    let record = Record::ClientId("c".into());
    played.model.action(&Action::Store { seq: JournalSeq::new(2), record });
    played.assert_found(Invariant::Identifiers);
}

#[test]
fn a_command_that_ends_twice_or_never_is_seen() {
    let mut played = Played::connected();
    played.ends(OpId::new(9), Outcome::Sent);
    played.assert_found(Invariant::EndsOnce);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.finished();
    played.assert_found(Invariant::EndsOnce);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.sends(&publish(1, false, b"x"));
    played.receives(&ack(AckKind::PubAck, 1));
    played.model.told_everything();
    played.assert_found(Invariant::EndsOnce);
}

#[test]
fn an_outcome_that_nothing_supports_is_seen() {
    let mut played = Played::connected();
    let op = played.accepts(1, QoS::AtLeastOnce, "x");
    played.sends(&publish(1, false, b"x"));
    played.ends(op, acknowledged());
    played.assert_found(Invariant::Outcome);

    let mut played = Played::connected();
    let op = played.accepts(1, QoS::AtMostOnce, "x");
    played.sends(&publish(0, false, b"x"));
    played.ends(op, Outcome::Sent);
    played.assert_found(Invariant::Outcome);

    let mut played = Played::connected();
    let filters = vec![TopicFilter::new("t").unwrap()];
    played.model.accepted(OpId::new(1), Asked::Subscribe(filters.clone(), None, 0));
    played.ends(OpId::new(1), acknowledged());
    played.assert_found(Invariant::Outcome);

    let mut played = Played::connected();
    played.model.accepted(OpId::new(1), Asked::Unsubscribe(filters, 0));
    let properties = Properties::EMPTY;
    played.sends(&Packet::Unsubscribe(Unsubscribe { packet_id: id(1), properties, filters: vec!["t"] }));
    played.ends(OpId::new(1), Outcome::NotSent);
    played.assert_found(Invariant::Outcome);
}

#[test]
fn an_identifier_that_nobody_asked_for_or_that_is_forgotten_is_seen() {
    let filters = vec![TopicFilter::new("t").unwrap()];
    let identified = |number| PropertiesBuf::new().with(Property::SubscriptionIdentifier(number)).unwrap();
    let subscribe = |played: &mut Played, properties: &PropertiesBuf| {
        let filter = SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) };
        let properties = properties.as_properties();
        played.sends(&Packet::Subscribe(Subscribe { packet_id: id(1), properties, filters: vec![filter] }));
    };
    let asked = |played: &mut Played, identifier| {
        played.model.accepted(OpId::new(1), Asked::Subscribe(filters.clone(), identifier, 0));
    };
    let kept = |played: &mut Played, identifier| {
        let mut session = Machine::new(Arc::new(config()), 1, Instant::ZERO).session();
        let subscription = Subscription::new(filters[0].clone(), QoS::AtMostOnce);
        session.subscriptions.push((subscription, identifier));
        played.model.session(&session);
    };
    let granted = |played: &mut Played| {
        let codes = ReasonCodes::from_bytes(&[0]).unwrap();
        played.receives(&Packet::SubAck(SubAck { packet_id: id(1), properties: Properties::EMPTY, codes }));
    };
    for (wanted, carried) in
        [(Some(7), PropertiesBuf::new()), (Some(7), identified(8)), (None, identified(7))]
    {
        let mut played = Played::connected();
        asked(&mut played, wanted);
        subscribe(&mut played, &carried);
        played.assert_found(Invariant::SubscriptionIdentifiers);
    }
    // A server without identifiers gets none, and what is kept has one all the same.
    let without = PropertiesBuf::new().with(Property::SubscriptionIdentifierAvailable(false)).unwrap();
    for (carried, keeps, sound) in [
        (PropertiesBuf::new(), Some(7), true),
        (PropertiesBuf::new(), None, false),
        (identified(7), Some(7), false),
    ] {
        let mut played = Played::connected_with(config(), without.as_properties());
        asked(&mut played, Some(7));
        subscribe(&mut played, &carried);
        granted(&mut played);
        kept(&mut played, keeps);
        if sound {
            assert_eq!(played.model.findings.list, []);
        } else {
            played.assert_found(Invariant::SubscriptionIdentifiers);
        }
    }
    // Made again without it.
    let mut played = Played::connected();
    asked(&mut played, Some(7));
    subscribe(&mut played, &identified(7));
    granted(&mut played);
    played.reconnected();
    subscribe(&mut played, &PropertiesBuf::new());
    played.assert_found(Invariant::SubscriptionIdentifiers);
}

#[test]
fn a_session_that_forgets_or_keeps_what_it_must_not_is_seen() {
    let nothing = Machine::new(Arc::new(config()), 1, Instant::ZERO).session();
    let mut played = Played::connected();
    let op = played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.session(&nothing);
    played.assert_found(Invariant::Session);

    let mut played = Played::connected();
    let mut more = nothing;
    more.publications.push((op, Some(id(1)), None));
    played.model.session(&more);
    played.assert_found(Invariant::Session);
}

#[test]
fn what_leaves_or_is_told_before_it_is_durable_is_seen() {
    let queued = |op| Record::Queued { op, message: message(QoS::AtLeastOnce) };
    let store = |played: &mut Played, seq, record| {
        played.model.action(&Action::Store { seq: JournalSeq::new(seq), record });
    };
    let mut played = Played::connected_with(config().durable(true), Properties::EMPTY);
    let op = played.accepts(1, QoS::AtLeastOnce, "x");
    store(&mut played, 1, queued(op));
    store(&mut played, 2, Record::Assigned { op, packet_id: id(1) });
    played.model.stored(JournalSeq::new(1));
    played.sends(&publish(1, false, b"x"));
    played.assert_found(Invariant::Durable);

    let mut played = Played::connected_with(config().durable(true), Properties::EMPTY);
    let op = played.accepts(1, QoS::AtLeastOnce, "x");
    store(&mut played, 1, queued(op));
    store(&mut played, 2, Record::Assigned { op, packet_id: id(1) });
    played.model.stored(JournalSeq::new(2));
    played.sends(&publish(1, false, b"x"));
    played.receives(&ack(AckKind::PubAck, 1));
    store(&mut played, 3, Record::Ended { op, packet_id: id(1) });
    played.ends(op, acknowledged());
    played.assert_found(Invariant::Durable);
}

#[test]
fn a_message_sent_after_its_pubrec_and_a_pubrel_before_it_are_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::ExactlyOnce, "x");
    played.sends(&publish(101, false, b"x"));
    played.sends(&ack(AckKind::PubRel, 101));
    played.assert_found(Invariant::Release);

    let mut played = Played::connected();
    played.accepts(1, QoS::ExactlyOnce, "x");
    played.sends(&publish(101, false, b"x"));
    played.receives(&ack(AckKind::PubRec, 101));
    played.reconnected();
    played.sends(&publish(101, true, b"x"));
    played.assert_found(Invariant::Release);
}

#[test]
fn messages_that_overtake_each_other_are_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.accepts(2, QoS::AtLeastOnce, "y");
    played.sends(&publish(1, false, b"y"));
    played.sends(&publish(2, false, b"x"));
    played.assert_found(Invariant::Order);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.accepts(2, QoS::AtLeastOnce, "y");
    played.sends(&publish(1, false, b"x"));
    played.sends(&publish(2, false, b"y"));
    played.reconnected();
    played.sends(&publish(2, true, b"y"));
    played.sends(&publish(1, true, b"x"));
    played.assert_found(Invariant::Order);
}

#[test]
fn a_dup_too_many_and_a_dup_too_few_are_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.sends(&publish(1, true, b"x"));
    played.assert_found(Invariant::Dup);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.sends(&publish(1, false, b"x"));
    played.reconnected();
    played.sends(&publish(1, false, b"x"));
    played.assert_found(Invariant::Dup);
}

#[test]
fn more_in_flight_than_allowed_is_seen() {
    let properties = PropertiesBuf::new().with(Property::ReceiveMaximum(1)).unwrap();
    let mut played = Played::connected_with(config(), properties.as_properties());
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.accepts(2, QoS::AtLeastOnce, "y");
    played.sends(&publish(1, false, b"x"));
    played.sends(&publish(2, false, b"y"));
    played.assert_found(Invariant::InFlight);
}

#[test]
fn an_alias_that_the_server_does_not_know_and_one_that_resolves_wrongly_are_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    let properties = PropertiesBuf::new().with(Property::TopicAlias(1)).unwrap();
    let Packet::Publish(mut packet) = publish(1, false, b"x") else { return };
    packet.topic = Topic::EMPTY;
    packet.properties = properties.as_properties();
    played.sends(&Packet::Publish(packet.clone()));
    played.assert_found(Invariant::Aliases);

    let mut config = config();
    config.topic_alias_maximum = 1;
    let mut played = Played::connected_with(config, Properties::EMPTY);
    packet.topic = topic("another");
    played.receives(&Packet::Publish(packet));
    played.model.event(&told(QoS::AtLeastOnce));
    played.assert_found(Invariant::Aliases);
}

#[test]
fn a_message_told_twice_or_never_or_changed_is_seen() {
    let mut played = Played::connected();
    played.receives(&publish(107, false, b"x"));
    played.receives(&publish(107, true, b"x"));
    played.model.event(&told(QoS::ExactlyOnce));
    assert_eq!(played.found(), []);
    played.model.event(&told(QoS::ExactlyOnce));
    played.assert_found(Invariant::Delivery);

    let mut played = Played::connected();
    played.receives(&publish(7, false, b"x"));
    played.model.told_everything();
    played.assert_found(Invariant::Delivery);

    let mut played = Played::connected();
    played.receives(&publish(7, false, b"y"));
    played.model.event(&told(QoS::AtLeastOnce));
    played.assert_found(Invariant::Delivery);
}

#[test]
fn an_acknowledgement_that_is_not_due_is_seen() {
    let mut played = Played::connected();
    played.receives(&publish(7, false, b"x"));
    played.sends(&ack(AckKind::PubAck, 7));
    played.assert_found(Invariant::Acknowledgement);
}

#[test]
fn credit_that_is_lost_or_made_is_seen() {
    let mut config = config();
    config.limits.incoming_bytes = 1;
    let mut played = Played::connected_with(config, Properties::EMPTY);
    played.receives(&publish(7, false, b"x"));
    played.shows();
    played.assert_found(Invariant::Credit);

    let mut played = Played::connected();
    played.vitals.is_paused = true;
    played.shows();
    played.assert_found(Invariant::Credit);
}

#[test]
fn a_server_that_breaks_a_rule_and_stays_connected_is_seen() {
    let mut played = Played::connected();
    played.accepts(1, QoS::ExactlyOnce, "x");
    played.sends(&publish(101, false, b"x"));
    played.receives(&ack(AckKind::PubAck, 101));
    played.shows();
    played.assert_found(Invariant::Peer);
}

#[test]
fn what_is_no_packet_or_has_no_place_on_the_wire_is_seen() {
    let mut played = Played::connected();
    played.model.transmitted(&[0x30, 9, 0]);
    played.assert_found(Invariant::Wire);

    let mut played = Played::connected();
    played.sends(&publish(0, false, b"nobody asked for this"));
    played.assert_found(Invariant::Wire);

    let mut played = Played::new(config());
    played.model.action(&Action::OpenTransport { id: ONE, server: Server::new("s") });
    played.model.opened(ONE);
    played.sends(&Packet::PingReq);
    played.assert_found(Invariant::Wire);
}

#[test]
fn a_deadline_in_the_past_is_seen() {
    let mut played = Played::connected();
    let now = Instant::ZERO + Duration::from_secs(9);
    played.model.timed_out(now, Some(now));
    assert_eq!(played.found(), []);
    played.model.timed_out(now, Some(Instant::ZERO));
    played.assert_found(Invariant::Deadline);
}

#[test]
fn standing_still_and_spinning_are_seen() {
    let mut played = Played::connected();
    played.vitals.deadline = None;
    played.vitals.read_capacity = 0;
    played.model.handed(ONE, usize::MAX >> 1);
    played.shows();
    played.assert_found(Invariant::Progress);

    let mut played = Played::connected();
    played.accepts(1, QoS::AtLeastOnce, "x");
    played.model.wrote_all();
    played.assert_found(Invariant::Progress);

    let mut played = Played::connected();
    for _ in 0..=1_000 {
        played.model.timed_out(Instant::ZERO, Some(Instant::ZERO));
    }
    played.assert_found(Invariant::Progress);
}

#[test]
fn a_session_that_is_not_the_fold_of_its_records_is_seen() {
    let seq = JournalSeq::new(1);
    let mut checked = super::Checked::new(Arc::new(config().durable(true)), 1, Instant::ZERO);
    checked.compare();
    checked.assert_sound();
    checked.invent(&Action::Store { seq, record: Record::ClientId("nobody".into()) });
    checked.compare();
    let found: Vec<Invariant> = checked.violations().iter().map(|it: &Violation| it.invariant).collect();
    assert_eq!(found, [Invariant::Fold]);
}
