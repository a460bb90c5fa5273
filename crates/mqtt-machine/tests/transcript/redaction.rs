//! A redacted recording holds no secret, and nobody but its reader misses any.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::packet::{Auth, ConnAck, Packet, PropertiesBuf, Property, PropertyId, Publish, Sender};
use mqtt_machine::transcript::{Recorder, Recording, Replay, Transcript};
use mqtt_machine::{
    Action, Answer, Authentication, Backoff, Config, Credentials, Event, Input, Instant, Message, Output,
    ProtocolVersion, QoS, ReasonCode, Reply, Secret, Server, TransportEvent, TransportId, wire,
};

const METHOD: &str = "SCRAM-SHA-256";
/// Every secret of the test, each different from the others and from anything else in it.
const SECRETS: [&str; 15] = [
    "user-of-config",
    "password-of-config",
    "client-first",
    "server-first",
    "client-final",
    "server-final",
    "user-of-answer",
    "password-of-answer",
    "first-of-answer",
    "first-again",
    "user-after",
    "password-after",
    "first-after",
    "server-refuses",
    "late-step",
];

fn login(username: &str, password: &str) -> Credentials {
    let password = Secret::new(Bytes::copy_from_slice(password.as_bytes()));
    Credentials { username: Some(username.into()), password: Some(password) }
}

fn configuration(username: &str, password: &str, first: &'static str) -> Config {
    let mut config = Config::new(Server::new("s")).client_id("c").prepare(true);
    config.credentials = login(username, password);
    config.authentication = Some(Authentication {
        method: METHOD.into(),
        initial_data: Some(Secret::new(Bytes::from_static(first.as_bytes()))),
    });
    config.backoff = Backoff { jitter: false, ..Backoff::DEFAULT };
    config
}

fn step(data: &str) -> PropertiesBuf {
    PropertiesBuf::new()
        .with(Property::AuthenticationMethod(METHOD))
        .and_then(|list| list.with(Property::AuthenticationData(data.as_bytes())))
        .unwrap()
}

fn data(properties: mqtt_machine::packet::Properties<'_>) -> Option<&[u8]> {
    match properties.find(PropertyId::AuthenticationData)? {
        Property::AuthenticationData(data) => Some(data),
        _ => None,
    }
}

/// A recorded machine, its driver, and a server that looks at every secret that it gets.
struct World {
    recorder: Recorder,
    now: Instant,
    id: TransportId,
    output: Output,
    input: BytesMut,
    /// The most that is read at once.
    chunk: usize,
}

impl World {
    fn new(recording: Recording, chunk: usize, mark: usize) -> Self {
        let config = configuration("user-of-config", "password-of-config", "client-first");
        let recorder = Recorder::new(Arc::new(config), 1, Instant::ZERO, Some(recording));
        let id = TransportId::new(0);
        let (output, input) = (Output::with_mark(mark), BytesMut::new());
        Self { recorder, now: Instant::ZERO, id, output, input, chunk }
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    /// Opens the next transport, with the credentials of an answer or of the configuration.
    fn open(&mut self, credentials: Option<Credentials>) {
        let now = self.tick();
        let Some(Action::Prepare { id, server: Some(server), .. }) = self.recorder.poll_action() else {
            panic!("no question")
        };
        let initial_data = credentials.as_ref().map(|_| Secret::new(&b"first-of-answer"[..]));
        let answer = Answer::Prepared { id, server: server.clone(), credentials, initial_data };
        self.recorder.handle(now, Input::Answer(answer));
        // One more is ignored, and so are its secrets.
        let credentials = Some(login("password-after", "user-after"));
        let initial_data = Some(Secret::new(&b"first-after"[..]));
        self.recorder.answer(now, Answer::Prepared { id, server, credentials, initial_data });
        assert!(matches!(self.recorder.poll_action(), Some(Action::OpenTransport { .. })));
        self.id = id;
        self.output.clear();
        self.input.clear();
        self.recorder.handle_transport(now, id, TransportEvent::Opened);
    }

    /// The packets that leave, each in as many turns as the mark makes of it.
    fn written(&mut self) -> Vec<Bytes> {
        let now = self.tick();
        let mut bytes = BytesMut::new();
        loop {
            self.recorder.transmit(now, &mut self.output);
            let length = self.output.remaining();
            if length == 0 {
                break;
            }
            bytes.extend_from_slice(&self.output.copy_to_bytes(length));
            self.recorder.handle_sent(now, self.id, length);
        }
        let mut frames = Vec::new();
        while let Some(header) = wire::frame_header(&bytes, u32::MAX).unwrap() {
            frames.push(bytes.split_to(header.frame_len()).freeze());
        }
        assert!(bytes.is_empty());
        frames
    }

    fn assert_connect(&mut self, username: &str, password: &str, first: &str) {
        let frames = self.written();
        let packet = wire::decode(&frames[0], ProtocolVersion::V5, Sender::Client).unwrap();
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        assert_eq!((connect.username, connect.password), (Some(username), Some(password.as_bytes())));
        assert_eq!(data(connect.properties), Some(first.as_bytes()));
        assert_eq!(connect.client_id, "c");
    }

    /// Lets packets come in chunks, what is left of one before the next.
    fn receive(&mut self, packets: &[Packet<'_>]) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            wire::encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
        }
        while !bytes.is_empty() {
            let now = self.tick();
            let chunk = bytes.split_to(self.chunk.min(bytes.len()));
            self.input.extend_from_slice(&chunk);
            let before = self.input.clone();
            // Both spellings of the door.
            if self.now.as_micros().is_multiple_of(2_000) {
                self.recorder.handle_input(now, self.id, &mut self.input);
            } else {
                let bytes = std::mem::take(&mut self.input);
                match self.recorder.handle(now, Input::Bytes { id: self.id, bytes }) {
                    Reply::Unread(bytes) => self.input = bytes,
                    reply => assert!(matches!(reply, Reply::Done)),
                }
            }
            assert!(before.ends_with(&self.input), "the caller's bytes are the caller's");
        }
    }

    /// The server's step, and the client's.
    fn exchange(&mut self, server: &str, client: &'static str) {
        let properties = step(server);
        let auth =
            Auth { reason: ReasonCode::ContinueAuthentication, properties: properties.as_properties() };
        self.receive(&[Packet::Auth(auth)]);
        let action = self.recorder.poll_action();
        let Some(Action::Authenticate { id, finished: false, data: asked }) = action else {
            panic!("{action:?}")
        };
        assert_eq!(asked.expose(), server.as_bytes());
        let answer = Answer::Authenticate { id, data: Some(Secret::new(client.as_bytes())) };
        let now = self.tick();
        self.recorder.answer(now, answer);
        let frames = self.written();
        let packet = wire::decode(&frames[0], ProtocolVersion::V5, Sender::Client).unwrap();
        let Packet::Auth(auth) = packet else { panic!("{packet:?}") };
        assert_eq!(data(auth.properties), Some(client.as_bytes()));
    }

    fn connack(&mut self, reason: ReasonCode, server: &str) -> Option<Event> {
        let properties = step(server);
        let connack = ConnAck { session_present: false, reason, properties: properties.as_properties() };
        self.receive(&[Packet::ConnAck(connack)]);
        let asked = self.recorder.poll_action();
        if reason == ReasonCode::Success {
            let Some(Action::Authenticate { finished: true, data, .. }) = asked else { panic!("{asked:?}") };
            assert_eq!(data.expose(), server.as_bytes());
        }
        self.recorder.poll_event()
    }
}

/// Three connections: one by the configuration, one by an answer, one by another configuration that is refused.
fn run(recording: Recording, chunk: usize, mark: usize) -> Bytes {
    let mut world = World::new(recording, chunk, mark);
    world.recorder.connect(Instant::ZERO).unwrap();
    world.open(None);
    world.assert_connect("user-of-config", "password-of-config", "client-first");
    world.exchange("server-first", "client-final");
    let Some(Event::Connected(connected)) = world.connack(ReasonCode::Success, "server-final") else {
        panic!("not connected")
    };
    assert_eq!(data(connected.properties.as_properties()), Some(&b"server-final"[..]));

    // A step in the middle of a connection, behind a payload that is chained and before one.
    let now = world.tick();
    let large = |topic| Message::to(topic, vec![b'.'; 5_000]).unwrap().qos(QoS::AtLeastOnce);
    world.recorder.publish(now, large("before")).unwrap();
    world.recorder.transmit(now, &mut Output::new());
    let id = world.id;
    world.recorder.answer(now, Answer::Authenticate { id, data: Some(Secret::new(&b"late-step"[..])) });
    world.recorder.publish(now, large("behind")).unwrap();
    let mut output = Output::with_mark(1 << 20);
    output_of(&mut world, &mut output);
    // Authenticating again, and once more, which is refused.
    let again = || Some(Secret::new(&b"first-again"[..]));
    world.recorder.reauthenticate(now, again()).unwrap();
    assert!(world.recorder.reauthenticate(now, again()).is_err());
    let frames = world.written();
    let auth = wire::decode(frames.last().unwrap(), ProtocolVersion::V5, Sender::Client).unwrap();
    let Packet::Auth(auth) = auth else { panic!("{auth:?}") };
    assert_eq!(auth.reason, ReasonCode::ReAuthenticate);
    assert_eq!(data(auth.properties), Some(&b"first-again"[..]));
    let other = TransportId::new(77);
    let stale = Answer::Authenticate { id: other, data: Some(Secret::new(&b"client-first"[..])) };
    world.recorder.answer(now, stale);

    // Two steps at once and a message behind them; only what the machine handed over comes back.
    let properties = [step("server-first"), step("server-final")];
    let auths = properties.each_ref().map(|properties| {
        let reason = ReasonCode::ContinueAuthentication;
        Packet::Auth(Auth { reason, properties: properties.as_properties() })
    });
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: mqtt_machine::packet::Topic::new("t").unwrap(),
        packet_id: None,
        properties: mqtt_machine::packet::Properties::EMPTY,
        payload: b"in the open",
    });
    world.receive(&[auths[0].clone(), auths[1].clone(), publish]);
    for expected in ["server-first", "server-final"] {
        let Some(Action::Authenticate { data, .. }) = world.recorder.poll_action() else { panic!("no step") };
        assert_eq!(data.expose(), expected.as_bytes());
    }
    assert!(matches!(world.recorder.poll_event(), Some(Event::Message { .. })));

    let now = world.tick();
    let after = configuration("user-after", "password-after", "first-after");
    world.recorder.reconfigure(now, Arc::new(after.clone()));
    world.recorder.reconfigure(now, Arc::new(after));
    reopen(&mut world, Some(login("user-of-answer", "password-of-answer")));
    world.assert_connect("user-of-answer", "password-of-answer", "first-of-answer");
    reopen(&mut world, None);
    world.assert_connect("user-after", "password-after", "first-after");
    let event = world.connack(ReasonCode::NotAuthorized, "server-refuses");
    let Some(Event::ConnectFailed(ended)) = event else { panic!("{event:?}") };
    let mqtt_machine::EndReason::Refused { properties, .. } = ended.reason else { panic!("{ended:?}") };
    assert_eq!(data(properties.as_properties()), Some(&b"server-refuses"[..]));
    world.recorder.take_recorded()
}

/// The link breaks, and the next one opens.
fn reopen(world: &mut World, credentials: Option<Credentials>) {
    let now = world.tick();
    world.recorder.handle_transport(now, world.id, TransportEvent::Closed(None));
    assert!(world.recorder.poll_event().is_some());
    world.now = world.recorder.poll_timeout().unwrap();
    world.recorder.handle_timeout(world.now);
    world.open(credentials);
}

/// An AUTH that shares its chunk with packets around it is found there.
fn output_of(world: &mut World, output: &mut Output) {
    let now = world.tick();
    world.recorder.transmit(now, output);
    let length = output.remaining();
    let bytes = output.copy_to_bytes(length);
    world.recorder.handle_sent(now, world.id, length);
    let header = wire::frame_header(&bytes, u32::MAX).unwrap().unwrap();
    let packet = wire::decode(&bytes[..header.frame_len()], ProtocolVersion::V5, Sender::Client).unwrap();
    let Packet::Auth(auth) = packet else { panic!("{packet:?}") };
    assert_eq!(data(auth.properties), Some(&b"late-step"[..]));
    assert!(length > 5_000);
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
}

#[test]
fn no_secret_is_in_a_redacted_recording_and_all_of_them_reach_their_reader() {
    for chunk in [1, 2, 3, 7, 16, 40, usize::MAX] {
        for mark in [1, 20, 65_536] {
            let bytes = run(Recording::new(), chunk, mark);
            for secret in SECRETS {
                assert!(!holds(&bytes, secret), "{secret} in chunks of {chunk}");
                // Not even a part of one that came in parts.
                assert!(!holds(&bytes, &secret[..4]), "{secret} in chunks of {chunk}");
            }
            assert!(chunk < usize::MAX || holds(&bytes, "in the open"));
            let transcript = Transcript::new(bytes).unwrap();
            assert!(transcript.header().redacted);
            let verified = Replay::verify(&transcript);
            assert_eq!(verified, Ok(transcript.entries().count()), "in chunks of {chunk}");
        }
    }
}

#[test]
fn a_recording_that_is_asked_to_include_secrets_has_them() {
    let bytes = run(Recording::new().including_secrets(), usize::MAX, 65_536);
    for secret in SECRETS {
        assert!(holds(&bytes, secret), "{secret}");
    }
    let transcript = Transcript::new(bytes).unwrap();
    assert!(!transcript.header().redacted);
    assert_eq!(Replay::verify(&transcript), Ok(transcript.entries().count()));
}

#[test]
fn secrets_stay_where_they_belong_behind_the_end_of_a_recording() {
    for limit in [0, 300, 500, 1_000] {
        let bytes = run(Recording::new().buffer(limit), usize::MAX, 65_536);
        assert!(bytes.len() <= limit + 2);
    }
}

#[test]
fn a_user_name_that_cannot_be_sent_is_refused_all_the_same() {
    for secret in ["a\0b", "m\u{FC}ller"] {
        let config = Config::new(Server::new("s")).username_password(secret, "p");
        let config = Arc::new(config);
        let mut plain = Recorder::new(config.clone(), 1, Instant::ZERO, None);
        let mut recorded = Recorder::new(config, 1, Instant::ZERO, Some(Recording::new()));
        assert_eq!(recorded.connect(Instant::ZERO), plain.connect(Instant::ZERO));
    }
}

#[test]
fn a_packet_that_comes_in_parts_is_a_sign_of_life_whether_or_not_it_is_recorded() {
    // AUTH packets whose ends do not come; the last is larger than what a recording makes up.
    for (size, part) in [(90, 7), (250_000, 20_011), (700_000, 90_001)] {
        // Past that, the machine does not learn of it.
        let known = (256 << 10) / part;
        let config = Config::new(Server::new("s")).client_id("c").keep_alive(Duration::from_secs(10));
        let config = Arc::new(config);
        let recorders = [Some(Recording::new()), None]
            .map(|recording| Recorder::new(Arc::clone(&config), 1, Instant::ZERO, recording));
        let mut seen = recorders.map(|mut recorder| {
            let (id, mut now, mut seen) = (TransportId::new(1), Instant::ZERO, Vec::new());
            recorder.connect(now).unwrap();
            let _ = recorder.poll_action();
            recorder.handle_transport(now, id, TransportEvent::Opened);
            recorder.transmit(now, &mut Output::new());
            let mut input = BytesMut::from(&[0x20, 3, 0, 0, 0][..]);
            recorder.handle_input(now, id, &mut input);
            let mut frame = BytesMut::from(&[0xF0][..]);
            let mut rest = size;
            while rest > 0 {
                frame.extend_from_slice(&[(rest & 0x7F) as u8 | if rest < 0x80 { 0 } else { 0x80 }]);
                rest >>= 7;
            }
            // All but the last byte.
            frame.extend((0..size - 1).map(|at| at as u8));
            let mut came = BytesMut::new();
            while !frame.is_empty() {
                if seen.len() < known {
                    // The answer to a ping is waited for until something comes.
                    now += Duration::from_secs(10);
                    recorder.handle_timeout(now);
                    recorder.transmit(now, &mut Output::new());
                }
                let part = frame.split_to(part.min(frame.len()));
                came.extend_from_slice(&part);
                input.extend_from_slice(&part);
                recorder.handle_input(now, id, &mut input);
                assert_eq!(input, came);
                seen.push((recorder.poll_timeout(), recorder.poll_event().is_some()));
            }
            (seen, recorder.take_recorded())
        });
        let [(recorded, tape), (plain, _)] = &mut seen;
        let known = known.min(plain.len());
        assert_eq!(recorded[..known], plain[..known], "{size}");
        assert!(plain[..known].windows(2).all(|pair| pair[0].0 < pair[1].0), "{size}");
        assert!(tape.len() < 5_000, "{}", tape.len());
        let transcript = Transcript::new(tape.clone()).unwrap();
        assert_eq!(Replay::verify(&transcript).unwrap(), transcript.entries().count());
    }
}
