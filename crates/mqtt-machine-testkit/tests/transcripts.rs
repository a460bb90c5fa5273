//! The kept transcripts of `tests/transcripts/`: today's machine gives the outputs that were recorded. Some were
//! recorded from the scenarios here, others are what somebody reported; any file that is put there is a test.
//!
//! After a change of the outputs that is wanted, `MQTT_MACHINE_RENEW=1 cargo test -p mqtt-machine-testkit --test
//! transcripts` records the scenarios again, and `mqtt-machine replay --renew FILE` puts today's outputs into any other
//! file. `mqtt-machine replay FILE` prints what is in one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::packet::{
    self, Ack, AckKind, Auth, ConnAck, Packet, Properties, PropertiesBuf, Property, PropertyId, Publish,
    ReasonCodes, Sender, SubAck,
};
use mqtt_machine::transcript::{Recorder, Recording, Replay, Transcript};
use mqtt_machine::{
    Action, Answer, Authentication, Backoff, CleanStart, Config, Disconnect, EndReason, Event, Instant,
    JournalSeq, Message, Outcome, Output, ProtocolVersion, QoS, ReasonCode, Secret, Subscribe, TopicFilter,
    TransportEvent, TransportId, wire,
};
use mqtt_machine_testkit::broker::Plan;
use mqtt_machine_testkit::sim::{Options, Sim, config};

const SECOND: Duration = Duration::from_secs(1);
const QOS2: QoS = QoS::ExactlyOnce;

/// What happens, and its transcript.
type Scenario = fn() -> Bytes;

/// Every scenario, by the name of its file.
const SCENARIOS: [(&str, Scenario); 8] = [
    ("qos-2-through-a-cut", qos_2_through_a_cut),
    ("session-lost", session_lost),
    ("refused", refused),
    ("malformed-packet", malformed_packet),
    ("enhanced-authentication", enhanced_authentication),
    ("restored-from-records", restored_from_records),
    ("server-falls-silent", server_falls_silent),
    ("slow-consumer", slow_consumer),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

#[test]
fn every_kept_transcript_replays_to_what_was_recorded() {
    if std::env::var_os("MQTT_MACHINE_RENEW").is_some() {
        for (name, scenario) in SCENARIOS {
            fs::write(folder().join(format!("{name}.transcript")), scenario()).unwrap();
        }
    }
    let mut count = 0;
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".transcript"), "{name} is no transcript");
        let transcript = Transcript::new(fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let entries = Replay::verify(&transcript).unwrap_or_else(|error| {
            panic!("{name}: {error}\nif that is wanted, see the head of this test for how to renew it")
        });
        assert!(entries > 3, "{name} has {entries} entries");
        count += 1;
    }
    assert!(count >= SCENARIOS.len());
}

#[test]
fn every_scenario_still_happens_and_replays() {
    for (name, scenario) in SCENARIOS {
        let transcript = Transcript::new(scenario()).unwrap();
        let entries = Replay::verify(&transcript).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(entries, transcript.entries().count(), "{name}");
    }
}

/// A simulation whose clients are recorded.
fn recorded() -> Sim {
    let mut options = Options::default();
    options.recording = Some(Recording::new());
    Sim::new(options, 7)
}

fn of(sim: &mut Sim, client: usize) -> Bytes {
    sim.assert_sound();
    sim.client_mut(client).machine.take_recorded()
}

fn message(payload: &'static str, qos: QoS) -> Message {
    Message::to("a/b", payload).unwrap().qos(qos)
}

fn to_all() -> Subscribe {
    Subscribe::to(TopicFilter::new("a/#").unwrap(), QOS2)
}

fn steady(client_id: &str) -> Config {
    let backoff = Backoff { jitter: false, ..Backoff::DEFAULT };
    config(client_id).backoff(backoff)
}

/// Both ways, with cuts between each pair of the four packets.
fn qos_2_through_a_cut() -> Bytes {
    let mut sim = recorded();
    let one = sim.add(steady("one").username_password("user", "password"));
    sim.connect_now(one);
    sim.subscribe(one, to_all()).unwrap();
    sim.run_for(SECOND);
    for (payload, wait) in [("1", 1), ("2", 6), ("3", 11), ("4", 16), ("5", 21)] {
        sim.publish(one, message(payload, QOS2)).unwrap();
        sim.run_for(Duration::from_millis(wait));
        sim.cut(one);
        sim.run_for(3 * SECOND);
    }
    assert_eq!(sim.client(one).payloads("a/b"), [b"1", b"2", b"3", b"4", b"5"]);
    assert!(sim.client(one).connected.last().unwrap().1.session_present && sim.client(one).resent() > 0);
    sim.disconnect(one, Disconnect::new(SECOND)).unwrap();
    sim.run_for(2 * SECOND);
    of(&mut sim, one)
}

/// The server forgets the session: what was in flight is sent again, the subscription is made again.
fn session_lost() -> Bytes {
    let mut sim = recorded();
    let one = sim.add(steady("one"));
    sim.connect_now(one);
    sim.subscribe(one, to_all()).unwrap();
    sim.run_for(SECOND);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QOS2] {
        sim.publish(one, message("lost or not", qos)).unwrap();
    }
    sim.run_for(Duration::from_millis(6));
    sim.cut(one);
    sim.broker.forget_session("one");
    sim.run_for(5 * SECOND);
    let client = sim.client(one);
    assert!(!client.connected.last().unwrap().1.session_present && client.accepted.is_empty());
    assert!(client.others.iter().any(|event| matches!(event, Event::Resubscribed { .. })));
    of(&mut sim, one)
}

/// A refusal that passes is tried again, one that does not ends the attempts.
fn refused() -> Bytes {
    let mut sim = recorded();
    let one = sim.add(steady("one").version(ProtocolVersion::V3_1_1));
    sim.broker.plan(Plan::refuse(ReasonCode::ServerUnavailable));
    sim.broker.plan(Plan::refuse(ReasonCode::NotAuthorized));
    sim.publish(one, message("never sent", QOS2)).unwrap();
    sim.connect(one);
    sim.run_for(10 * SECOND);
    assert!(sim.client(one).machine.is_idle());
    let reasons = sim.client(one).ended.iter().map(|(_, ended)| ended.reason.is_permanent());
    assert_eq!(reasons.collect::<Vec<_>>(), [false, true]);
    of(&mut sim, one)
}

/// Nothing is heard any more: PINGREQ, its timeout, and another connection.
fn server_falls_silent() -> Bytes {
    let mut sim = recorded();
    let one = sim.add(steady("one").keep_alive(5 * SECOND).version(ProtocolVersion::V3_1));
    sim.connect_now(one);
    sim.run_for(7 * SECOND);
    sim.black_hole(one);
    sim.publish(one, message("into the hole", QoS::AtLeastOnce)).unwrap();
    sim.run_for(30 * SECOND);
    let client = sim.client(one);
    assert!(client.ended.iter().any(|(_, ended)| ended.reason == EndReason::PingTimeout));
    assert!(client.connected.len() == 2 && client.accepted.is_empty());
    of(&mut sim, one)
}

/// Receipts that come late: reading stops and goes on.
fn slow_consumer() -> Bytes {
    let mut sim = recorded();
    sim.options_mut().settle = mqtt_machine_testkit::sim::Settle::After(SECOND..=3 * SECOND);
    let mut slow = steady("slow");
    slow.limits.incoming_bytes = 600;
    let slow = sim.add(slow);
    let fast = sim.add(steady("fast"));
    sim.connect_now(slow);
    sim.connect_now(fast);
    sim.subscribe(slow, to_all()).unwrap();
    sim.run_for(SECOND);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QOS2].into_iter().cycle().take(12) {
        sim.publish(fast, message("more than it can take at once", qos)).unwrap();
    }
    assert!(sim.run_until(3 * SECOND, |sim| sim.client(slow).machine.is_paused()));
    sim.run_for(60 * SECOND);
    assert_eq!(sim.client(slow).messages.len(), 12);
    of(&mut sim, slow)
}

/// A recorded machine, and a server that is written by hand.
struct Bench {
    machine: Recorder,
    now: Instant,
    id: TransportId,
}

impl Bench {
    fn new(config: Config) -> Self {
        let machine = Recorder::new(Arc::new(config), 7, Instant::ZERO, Some(Recording::new()));
        Self { machine, now: Instant::ZERO, id: TransportId::new(0) }
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(5);
        self.now
    }

    /// Connects up to CONNECT, which comes back.
    fn connect(&mut self) -> Vec<Bytes> {
        let now = self.tick();
        self.machine.connect(now).unwrap();
        while let Some(action) = self.machine.poll_action() {
            if let Action::OpenTransport { id, .. } = action {
                self.id = id;
            }
        }
        let now = self.tick();
        self.machine.handle_transport(now, self.id, TransportEvent::Opened);
        self.written()
    }

    /// The frames that leave.
    fn written(&mut self) -> Vec<Bytes> {
        let now = self.tick();
        let mut output = Output::new();
        self.machine.transmit(now, &mut output);
        let mut bytes = output.copy_to_bytes(output.remaining());
        self.machine.handle_sent(now, self.id, bytes.len());
        let mut frames = Vec::new();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            frames.push(bytes.split_to(header.frame_len()));
        }
        frames
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::new();
        for chunk in bytes.chunks(7) {
            input.extend_from_slice(chunk);
            let now = self.tick();
            self.machine.handle_input(now, self.id, &mut input);
        }
    }

    fn receive_packet(&mut self, packet: &Packet<'_>) {
        let mut bytes = BytesMut::new();
        wire::encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
        self.receive(&bytes);
    }

    fn accept(&mut self, session_present: bool, properties: Properties<'_>) {
        let connack = ConnAck { session_present, reason: ReasonCode::Success, properties };
        self.receive_packet(&Packet::ConnAck(connack));
        assert!(matches!(self.machine.poll_event(), Some(Event::Connected(_))));
    }
}

fn parse(frame: &[u8]) -> Packet<'_> {
    wire::decode(frame, ProtocolVersion::V5, Sender::Client).unwrap()
}

/// A PUBLISH whose topic is no UTF-8, behind one that is whole: told with DISCONNECT.
fn malformed_packet() -> Bytes {
    let mut bench = Bench::new(steady("one"));
    bench.connect();
    bench.accept(false, Properties::EMPTY);
    bench.receive(&[0x30, 7, 0, 1, b'a', 0, b'y', b'e', b's', 0x30, 6, 0, 2, 0xFF, 0xFE, 0, b'n']);
    assert!(matches!(bench.machine.poll_event(), Some(Event::Message { .. })));
    let frames = bench.written();
    let Packet::Disconnect(disconnect) = parse(&frames[0]) else { panic!("{frames:?}") };
    assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);
    let Some(Event::Disconnected(ended)) = bench.machine.poll_event() else { panic!("not ended") };
    assert!(matches!(ended.reason, EndReason::Malformed(_)));
    bench.now = bench.machine.poll_timeout().unwrap();
    bench.machine.handle_timeout(bench.now);
    while bench.machine.poll_action().is_some() {}
    bench.machine.take_recorded()
}

/// Two steps each, and the end of the exchange in CONNACK.
fn enhanced_authentication() -> Bytes {
    const METHOD: &str = "SCRAM-SHA-256";
    let data = |data: &str| {
        PropertiesBuf::new()
            .with(Property::AuthenticationMethod(METHOD))
            .and_then(|list| list.with(Property::AuthenticationData(data.as_bytes())))
            .unwrap()
    };
    let mut config = steady("one");
    config.authentication = Some(Authentication {
        method: METHOD.to_owned(),
        initial_data: Some(Secret::new(&b"n,,n=user,r=client"[..])),
    });
    let mut bench = Bench::new(config);
    let frames = bench.connect();
    let Packet::Connect(connect) = parse(&frames[0]) else { panic!("{frames:?}") };
    let first = connect.properties.find(PropertyId::AuthenticationData);
    assert_eq!(first, Some(Property::AuthenticationData(b"n,,n=user,r=client")));
    let (server, client) = ("r=clientserver,s=salt,i=4096", "c=biws,r=clientserver,p=proof");
    let properties = data(server);
    let reason = ReasonCode::ContinueAuthentication;
    bench.receive_packet(&Packet::Auth(Auth { reason, properties: properties.as_properties() }));
    let Some(Action::Authenticate { id, data: asked, .. }) = bench.machine.poll_action() else {
        panic!("no question")
    };
    assert_eq!(asked.expose(), server.as_bytes());
    let now = bench.tick();
    let answer = Answer::Authenticate { id, data: Some(Secret::new(client.as_bytes())) };
    bench.machine.answer(now, answer);
    let frames = bench.written();
    let Packet::Auth(auth) = parse(&frames[0]) else { panic!("{frames:?}") };
    assert_eq!(auth.properties, data(client).as_properties());
    bench.accept(false, data("v=verifier").as_properties());
    let recorded = bench.machine.take_recorded();
    for secret in ["n=user", "s=salt", "p=proof", "v=verifier"] {
        assert!(!recorded.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
    recorded
}

/// A process that died with a PUBREL owed, a message in flight and one that waits, and goes on after an hour.
fn restored_from_records() -> Bytes {
    let durable = || steady("one").durable(true).clean_start(CleanStart::Never);
    let mut sim = recorded();
    let one = sim.add(durable());
    sim.connect_now(one);
    sim.subscribe(one, to_all()).unwrap();
    sim.run_for(SECOND);
    sim.publish(one, message("1", QOS2)).unwrap();
    sim.run_for(Duration::from_millis(11));
    sim.publish(one, message("2", QoS::AtLeastOnce)).unwrap();
    sim.run_for(Duration::from_millis(2));
    sim.cut(one);
    sim.run_for(Duration::from_millis(1));
    let expiring = message("3", QOS2).property(Property::MessageExpiryInterval(60)).unwrap();
    sim.publish(one, expiring).unwrap();
    sim.run_for(Duration::from_millis(10));
    let records: Vec<_> = sim.client(one).records.iter().map(|(_, _, record)| record.clone()).collect();

    let hour = 3_600 * SECOND;
    let (config, recording) = (Arc::new(durable()), Some(Recording::new()));
    let now = Instant::ZERO + 2 * hour;
    let machine = Recorder::restore(config, 8, now, hour, records, recording).unwrap();
    let mut bench = Bench { machine, now, id: TransportId::new(0) };
    bench.connect();
    bench.accept(true, Properties::EMPTY);
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        for frame in bench.written() {
            let packet = match parse(&frame) {
                Packet::Publish(Publish { qos, packet_id: Some(id), .. }) => {
                    let kind = if qos == QOS2 { AckKind::PubRec } else { AckKind::PubAck };
                    Packet::Ack(Ack::new(kind, id))
                }
                Packet::Ack(ack) => Packet::Ack(Ack::new(AckKind::PubComp, ack.packet_id)),
                Packet::Subscribe(packet::Subscribe { packet_id, .. }) => Packet::SubAck(SubAck {
                    packet_id,
                    properties: Properties::EMPTY,
                    codes: ReasonCodes::from_bytes(&[2]).unwrap(),
                }),
                packet => panic!("{packet:?}"),
            };
            bench.receive_packet(&packet);
        }
        let mut last = None;
        while let Some(action) = bench.machine.poll_action() {
            if let Action::Store { seq, .. } = action {
                last = Some(seq);
            }
        }
        let now = bench.tick();
        bench.machine.handle_stored(now, Ok(last.unwrap_or(JournalSeq::ZERO)));
        while let Some(event) = bench.machine.poll_event() {
            if let Event::Completed { outcome, .. } = event {
                outcomes.push(outcome);
            }
        }
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(outcomes.contains(&Outcome::Expired));
    bench.machine.take_recorded()
}
