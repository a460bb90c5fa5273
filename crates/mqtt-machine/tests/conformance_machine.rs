//! Every row of `conformance/malformed.tsv` and every packet of `conformance/valid.tsv` that a server may send, through
//! the whole machine in the state that the row asks for: what is sent, what is told, whether the connection lives.

#![allow(clippy::disallowed_methods, reason = "a test may panic")]

mod bench;

use bench::Bench;
use bytes::BytesMut;
use mqtt_machine::packet::{
    AckKind, Packet, PacketType, Properties, PropertiesBuf, Property, Publish, Topic,
};
use mqtt_machine::{
    Action, Authentication, CleanStart, Config, EndReason, Event, Message, PacketId, ProtocolVersion, QoS,
    ReasonCode, Server, Subscribe, Subscription, TopicFilter, Unsubscribe,
};

const MALFORMED: &str = include_str!("conformance/malformed.tsv");
const VALID: &str = include_str!("conformance/valid.tsv");

struct Row {
    id: &'static str,
    version: ProtocolVersion,
    bytes: Vec<u8>,
    outcomes: Vec<&'static str>,
    state: &'static str,
}

fn rows(table: &'static str) -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<_> = line.split('\t').collect();
        let version = match cells[2] {
            "3.1" => ProtocolVersion::V3_1,
            "3.1.1" => ProtocolVersion::V3_1_1,
            "5.0" => ProtocolVersion::V5,
            other => panic!("{other} is no version"),
        };
        let hex = cells[3];
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        Row {
            id: cells[0],
            version,
            bytes: bytes.collect(),
            outcomes: cells[4].split('|').collect(),
            state: cells[5],
        }
    };
    table.lines().skip(1).map(row).collect()
}

impl Row {
    fn packet_type(&self) -> Option<PacketType> {
        self.bytes.first().and_then(|byte| PacketType::from_first_byte(*byte))
    }

    /// What the row says of the client's own settings.
    fn config(&self) -> Config {
        let mut config = Config::new(Server::new("broker"))
            .client_id("test")
            .version(self.version)
            .clean_start(CleanStart::Always);
        config.request_problem_information = !self.state.contains("request problem information=0");
        if let Some((_, method)) = self.state.split_once("with auth method ") {
            config.authentication = Some(Authentication { method: method.into(), initial_data: None });
        }
        if self.state.contains("topic alias maximum=10") {
            config.topic_alias_maximum = 10;
        }
        if self.state.contains("maximum packet size=20") {
            config.maximum_packet_size = 20;
        }
        for receive_maximum in 1..=2 {
            if self.state.contains(&format!("receive maximum={receive_maximum}")) {
                config.receive_maximum = receive_maximum;
            }
        }
        if self.state.contains("clean start=0") {
            config.clean_start = CleanStart::Never;
        }
        config
    }

    fn is_connecting(&self) -> bool {
        self.state.starts_with("connecting")
            || (self.state == "any" && self.packet_type() == Some(PacketType::ConnAck))
    }
}

/// A machine in the state that the row asks for, with nothing left to send or to tell.
fn in_state(row: &Row) -> Bench {
    let config = row.config();
    let authenticates = config.authentication.is_some();
    let mut bench = Bench::new(config);
    bench.machine.connect(bench.now).unwrap();
    bench.open();
    if row.state.contains("local session kept") {
        keep_a_session(&mut bench);
    }
    if row.is_connecting() {
        return bench;
    }
    let mut properties = PropertiesBuf::new();
    if authenticates {
        properties.push(Property::AuthenticationMethod("X")).unwrap();
    }
    bench.accept(false, properties.as_properties());
    bench.sent();
    for part in row.state.split("; ").skip(1) {
        enter(&mut bench, part);
    }
    bench.sent();
    while let Some(action) = bench.machine.poll_action() {
        assert!(matches!(action, Action::Authenticate { .. }), "{action:?}");
    }
    bench.events();
    bench
}

/// A first connection leaves a message in flight; the second one is being made.
fn keep_a_session(bench: &mut Bench) {
    bench.accept(false, Properties::EMPTY);
    publish(bench, QoS::AtLeastOnce);
    bench.sent();
    bench.cut();
    bench.wake();
    bench.open();
    bench.events();
}

fn publish(bench: &mut Bench, qos: QoS) {
    bench.machine.publish(bench.now, Message::to("a", "x").unwrap().qos(qos)).unwrap();
}

/// Goes one part of the row's state further.
fn enter(bench: &mut Bench, part: &str) {
    let packet_id = part.split_once("pid=").map(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u16>().unwrap()
    });
    let filters = if part.contains("2 filters") { 2 } else { 1 };
    // Identifiers count from 1: what ends before it moves the next one on.
    for used in 1..packet_id.filter(|_| !part.starts_with("in ")).unwrap_or(1) {
        publish(bench, QoS::AtLeastOnce);
        bench.sent();
        bench.ack(AckKind::PubAck, used);
    }
    if part.starts_with("out qos1") {
        publish(bench, QoS::AtLeastOnce);
    } else if part.starts_with("out qos2") {
        publish(bench, QoS::ExactlyOnce);
        bench.sent();
        if part.ends_with("awaiting pubcomp") {
            bench.ack(AckKind::PubRec, packet_id.unwrap());
        }
    } else if part.starts_with("in qos2") {
        receive(bench, QoS::ExactlyOnce, packet_id.unwrap(), true);
        if part.contains("pid=1,2") {
            receive(bench, QoS::ExactlyOnce, 2, true);
        }
    } else if part.starts_with("in qos1") {
        receive(bench, QoS::AtLeastOnce, packet_id.unwrap(), false);
    } else if part.starts_with("subscribe") {
        let filters = (0..filters)
            .map(|n| Subscription::new(TopicFilter::new(&format!("f/{n}")).unwrap(), QoS::ExactlyOnce));
        bench.machine.subscribe(bench.now, Subscribe::new(filters.collect())).unwrap();
    } else if part.starts_with("unsubscribe") {
        let filters = (0..filters).map(|n| TopicFilter::new(&format!("f/{n}")).unwrap());
        bench.machine.unsubscribe(bench.now, Unsubscribe::new(filters.collect())).unwrap();
    } else if part == "alias 5 mapped to a" {
        let properties = PropertiesBuf::new().with(Property::TopicAlias(5)).unwrap();
        let topic = Topic::new("a").unwrap();
        bench.receive(&Packet::Publish(Publish {
            properties: properties.as_properties(),
            topic,
            ..incoming(QoS::AtMostOnce, None)
        }));
    } else {
        assert!(part.starts_with("client ") || part == "alias 5 unmapped", "{part:?} is no known state");
    }
    bench.sent();
}

fn incoming(qos: QoS, packet_id: Option<PacketId>) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Topic::new("a").unwrap(),
        packet_id,
        properties: Properties::EMPTY,
        payload: b"x",
    }
}

/// A message from the server, which the application settles at once or not.
fn receive(bench: &mut Bench, qos: QoS, id: u16, settle: bool) {
    bench.receive(&Packet::Publish(incoming(qos, PacketId::new(id))));
    for event in bench.events() {
        if let Event::Message { receipt, .. } = event
            && settle
        {
            bench.machine.settle(bench.now, receipt, ReasonCode::Success);
        }
    }
    bench.sent();
}

/// What became of the connection, in the words of the table.
#[derive(Debug)]
struct Verdict {
    word: String,
    /// What was sent in answer.
    sent: Vec<String>,
    /// How many messages were told.
    messages: usize,
}

fn verdict(row: &Row) -> Verdict {
    let mut bench = in_state(row);
    let was_connected = bench.machine.is_connected();
    let mut bytes = BytesMut::from(&row.bytes[..]);
    bench.receive_bytes(&mut bytes);
    let left = bytes.len();
    let sent = bench.sent();
    // The DISCONNECT has left: the rest of the closing needs no further help.
    let mut closed = false;
    while let Some(action) = bench.machine.poll_action() {
        closed |= matches!(action, Action::CloseTransport { .. });
    }
    let events = bench.events();
    let messages = events.iter().filter(|event| matches!(event, Event::Message { .. })).count();
    let end = events.iter().find_map(|event| match event {
        Event::ConnectFailed(ended) => Some((false, &ended.reason)),
        Event::Disconnected(ended) => Some((true, &ended.reason)),
        _ => None,
    });
    assert_eq!(end.is_some(), closed, "{}: {events:?}", row.id);
    let word = match end {
        None if left > 0 => "need-more".to_owned(),
        None => "accept".to_owned(),
        Some((after_connack, reason)) => {
            assert_eq!(after_connack, was_connected, "{}", row.id);
            ending(row, reason, &sent, was_connected)
        }
    };
    Verdict { word, sent, messages }
}

/// How a connection ended: by which code, which must be the one sent where one can be sent.
fn ending(row: &Row, reason: &EndReason, sent: &[String], was_connected: bool) -> String {
    let code = match reason {
        EndReason::Malformed(error) => error.reason(),
        EndReason::Protocol(violation) => violation.reason,
        EndReason::Refused { .. } => return "connect-fails".to_owned(),
        EndReason::Disconnect { .. } => return "accept".to_owned(),
        other => panic!("{}: {other:?}", row.id),
    };
    let told: Vec<_> = sent.iter().filter(|line| line.starts_with("Disconnect")).collect();
    if row.version == ProtocolVersion::V5 && was_connected {
        assert_eq!(told, [&format!("Disconnect 0x{:02X}", code.to_u8())], "{}", row.id);
    } else {
        assert!(told.is_empty(), "{}: {sent:?}", row.id);
    }
    if row.version == ProtocolVersion::V5 { format!("0x{:02x}", code.to_u8()) } else { "close".to_owned() }
}

// 5.0: MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-1.5.5-1, MQTT-1.5.7-1, MQTT-2.1.3-1, MQTT-2.2.1-4, MQTT-2.2.2-1
// 5.0: MQTT-3.1.2-24, MQTT-3.1.2-27, MQTT-3.1.2-29, MQTT-3.2.0-1, MQTT-3.2.2-1, MQTT-3.2.2-2, MQTT-3.2.2-6
// 5.0: MQTT-3.2.2-8, MQTT-3.3.2-1, MQTT-3.3.2-2, MQTT-3.3.2-10, MQTT-3.3.2-11, MQTT-3.3.2-14, MQTT-3.3.4-4
// 5.0: MQTT-3.3.4-9, MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.8.4-6, MQTT-3.9.3-2
// 5.0: MQTT-3.11.3-1, MQTT-3.11.3-2, MQTT-3.14.0-1, MQTT-3.14.2-1, MQTT-3.15.2-1, MQTT-4.12.0-5
// 5.0: MQTT-4.12.0-6
// 3.1.1: MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-2.2.2-2, MQTT-3.2.0-1, MQTT-3.2.2-1, MQTT-3.2.2-4, MQTT-3.3.2-1
// 3.1.1: MQTT-3.3.2-2, MQTT-3.8.4-5, MQTT-3.9.3-2
#[test]
fn every_packet_that_a_server_may_not_send_ends_as_the_table_says() {
    let rows = rows(MALFORMED);
    let rows: Vec<_> = rows.iter().filter(|row| !row.state.starts_with("codec only")).collect();
    assert_eq!(rows.len(), 223);
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let verdict = verdict(row);
            let right = row.outcomes.contains(&&*verdict.word);
            (!right).then(|| format!("{}: {verdict:?} instead of {:?}", row.id, row.outcomes))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The state in which a server may send this valid packet.
fn state_of(row: &Row) -> &'static str {
    let is_success = row.bytes.get(3) == Some(&0);
    match row.packet_type() {
        Some(PacketType::ConnAck) if row.bytes.get(2) == Some(&1) => {
            "connecting; clean start=0, local session kept (must be dropped)"
        }
        Some(PacketType::ConnAck) if is_success => "connecting",
        Some(PacketType::ConnAck) => "connecting; refused",
        Some(PacketType::Publish) => "connected; client topic alias maximum=10",
        Some(PacketType::PubAck) => "connected; out qos1 pid=1 awaiting puback",
        Some(PacketType::PubRec) => "connected; out qos2 pid=1 awaiting pubrec",
        Some(PacketType::PubRel) => "connected; in qos2 pid=1 awaiting pubrel",
        Some(PacketType::PubComp) => "connected; out qos2 pid=1 awaiting pubcomp",
        Some(PacketType::Auth) if row.bytes.get(2) == Some(&0x18) => {
            "connecting with auth method SCRAM-SHA-1"
        }
        // The end of a re-authentication.
        Some(PacketType::Auth) => "connected with auth method X",
        _ => "connected",
    }
}

#[test]
fn every_packet_that_a_server_may_send_is_taken_in_its_state() {
    let mut count = 0;
    for mut row in rows(VALID) {
        if row.outcomes[0] == "c2s" {
            continue;
        }
        count += 1;
        row.state = state_of(&row);
        let verdict = verdict(&row);
        let (word, messages) = match row.packet_type() {
            Some(PacketType::ConnAck) if row.state == "connecting; refused" => ("connect-fails", 0),
            Some(PacketType::Publish) => ("accept", 1),
            _ => ("accept", 0),
        };
        assert_eq!((&*verdict.word, verdict.messages), (word, messages), "{}: {verdict:?}", row.id);
        // An identifier that the state does not know is answered too, with that code.
        let known = row.bytes.get(2..4) == Some(&[0, 1]);
        let refused = row.bytes.get(4).is_some_and(|code| *code >= 0x80);
        let answer: &[&str] = match row.packet_type() {
            Some(PacketType::PubRec) if known && refused => &[],
            Some(PacketType::PubRec) if known => &["PubRel id1"],
            Some(PacketType::PubRec) => &["PubRel id65535 0x92"],
            Some(PacketType::PubRel) if known => &["PubComp id1"],
            Some(PacketType::PubRel) => &["PubComp id65535 0x92"],
            // The session of before goes on.
            Some(PacketType::ConnAck) if row.state.contains("session kept") => &["Publish a qos1 dup id1 x"],
            _ => &[],
        };
        assert_eq!(verdict.sent, answer, "{}", row.id);
    }
    assert_eq!(count, 44);
}
