//! Owns scripts: a configuration and a list of everything that can happen to one machine, made from choices.
//! It must not know what must hold while one runs; see [`run`].
//!
//! ```
//! use mqtt_machine_testkit::generate::Generate;
//! use mqtt_machine_testkit::script::{Script, run};
//!
//! let script = Script::from_seed(7);
//! let report = run(&script);
//! assert_eq!(run(&script), report, "the same script, the same outputs");
//! ```

mod run;

use core::time::Duration;

use mqtt_machine::packet::{AckKind, PropertiesBuf, Property, PropertyId, Sender};
use mqtt_machine::{
    Authentication, Backoff, Behind, CleanStart, Config, Limits, LostSession, Message, Offline, Overflow,
    PacketId, Priority, ProtocolVersion, QoS, ReasonCode, Secret, Server, Subscribe, Subscription,
    TopicFilter, TopicName, TransportEvent, Watchdog,
};

use crate::generate::{
    Choices, Generate, NearValid, OwnedPacket, OwnedPublish, Spot, packet, payload, properties, qos,
    subscription_options,
};

pub use run::{Report, run};

/// What happens to one machine, from its making to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What the machine is made with.
    pub setup: Setup,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// What a machine is made with; the rest of its [`Config`] is the default.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named like the fields of the configuration")]
pub struct Setup {
    pub seed: u64,
    pub version: ProtocolVersion,
    pub clean_start: CleanStart,
    pub session_expiry: Duration,
    pub keep_alive: Duration,
    pub lost_session: LostSession,
    pub offline: Offline,
    pub durable: bool,
    pub prepare: bool,
    pub authenticates: bool,
    pub has_will: bool,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub maximum_packet_size: u32,
    pub request_problem_information: bool,
    pub attempts: Option<u32>,
    pub limits: Limits,
    /// The mark of the output.
    pub mark: usize,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The caller publishes.
    Publish(Message),
    /// The caller subscribes.
    Subscribe(Subscribe),
    /// The caller unsubscribes.
    Unsubscribe(Vec<TopicFilter>),
    /// The caller gives a receipt back: the one at this place, counted round, with this code.
    Settle(usize, ReasonCode),
    /// The caller wants a connection.
    Connect,
    /// The caller wants a new connection.
    Reconnect,
    /// The caller ends it all, and drains for so long.
    Disconnect(Duration),
    /// The caller changes the configuration.
    Reconfigure(Box<Setup>),
    /// The oldest question is answered: yes or no.
    Answer(bool),
    /// The transport that is being opened opens, or the open one closes, and so on; ignored when there is none.
    Transport(TransportEvent),
    /// The same, about a transport that is long gone.
    StaleTransport(TransportEvent),
    /// The machine writes, and the transport takes so many bytes of it.
    Transmit(usize),
    /// The server answers the oldest so many packets that it got, as a server does.
    Serve(usize),
    /// The server accepts the CONNECT; whether it kept the session.
    Accept(bool),
    /// The server sends this, whether or not it may now.
    Packet(OwnedPacket),
    /// The server sends this, which breaks a rule.
    Broken(NearValid),
    /// The server sends these bytes.
    Raw(Vec<u8>),
    /// From now on what the server sends comes in pieces of this size; 0 for whole.
    Chunk(usize),
    /// So much time passes.
    Time(Duration),
    /// Time passes up to the machine's deadline.
    Deadline,
    /// Time passes up to the machine's next attempt, if it waits for one.
    Retry,
    /// The store has kept everything.
    Stored,
    /// The store fails.
    StoreFails,
}

impl Setup {
    /// Drawn from the seed, so that what earlier choices meant stays.
    fn clean_start(&self) -> CleanStart {
        match self.clean_start {
            CleanStart::Never if self.seed % 4 == 3 => CleanStart::OwnOnly,
            other => other,
        }
    }

    /// Whether the server has Subscription Identifiers; drawn in the same way.
    const fn has_identifiers(&self) -> bool {
        self.seed % 4 != 2
    }

    /// What becomes of messages that find no room; drawn in the same way.
    const fn overflow(&self) -> Overflow {
        match self.seed / 4 % 8 {
            4 => Overflow::LastValue,
            5 => Overflow::DropNewest,
            6 | 7 => Overflow::DropOldest,
            _ => Overflow::Wait,
        }
    }

    /// The configuration.
    pub fn config(&self) -> Config {
        let mut config = Config::new(Server::new("s"))
            .client_id("c")
            .version(self.version)
            .clean_start(self.clean_start())
            .session_expiry(self.session_expiry)
            .keep_alive(self.keep_alive)
            .lost_session(self.lost_session)
            .offline(self.offline)
            .durable(self.durable)
            .prepare(self.prepare)
            .receive_maximum(self.receive_maximum)
            .topic_alias_maximum(self.topic_alias_maximum)
            .maximum_packet_size(self.maximum_packet_size)
            .limits(self.limits)
            .overflow(self.overflow())
            .backoff(Backoff { attempts: self.attempts, ..Backoff::DEFAULT });
        config.behind = if self.seed % 5 == 4 { Behind::DropQoS0 } else { Behind::StopReading };
        config.watchdog = (self.seed % 7 == 6).then(|| Watchdog::reconnect_after(Duration::from_secs(30)));
        config.request_problem_information = self.request_problem_information;
        if self.authenticates {
            let initial_data = Some(Secret::new(&b"first"[..]));
            config.authentication = Some(Authentication { method: "m".into(), initial_data });
        }
        if self.has_will {
            let topic = TopicName::new("will").expect("a topic name");
            config = config.will(Message::new(topic, b"gone"[..].into()));
        }
        config
    }
}

impl Generate for Setup {
    fn generate(choices: &mut Choices<'_>) -> Self {
        let version = choices.pick(&[
            ProtocolVersion::V5,
            ProtocolVersion::V3_1_1,
            ProtocolVersion::V5,
            ProtocolVersion::V3_1,
        ]);
        let mut limits = Limits::DEFAULT;
        if choices.one_in(3) {
            limits.outgoing_messages = choices.pick(&[1, 4, 100]);
            limits.outgoing_bytes = choices.pick(&[600, 4_000, 100_000]);
            limits.requests = choices.pick(&[1, 3]);
            limits.subscriptions = choices.pick(&[1, 3, 100]);
            limits.incoming_bytes = choices.pick(&[1, 1_000, 20_000]);
            limits.in_flight = choices.pick(&[1, 2, 10]);
        }
        Self {
            seed: choices.byte().into(),
            version,
            clean_start: choices.pick(&[CleanStart::Never, CleanStart::FirstOnly, CleanStart::Always]),
            session_expiry: Duration::from_secs(choices.pick(&[3_600, 0, 1, u32::MAX.into()])),
            keep_alive: Duration::from_secs(choices.pick(&[60, 0, 1, 65_535])),
            lost_session: choices.pick(&[LostSession::SendAgain, LostSession::Report]),
            offline: choices.pick(&[Offline::Queue, Offline::Drop]),
            durable: choices.one_in(3),
            prepare: choices.one_in(6),
            authenticates: choices.one_in(8) && version == ProtocolVersion::V5,
            has_will: choices.one_in(4),
            receive_maximum: choices.pick(&[u16::MAX, 1, 3]),
            topic_alias_maximum: choices.pick(&[0, 3]),
            maximum_packet_size: choices.pick(&[16 << 20, 200, 20_000]),
            request_problem_information: !choices.one_in(4),
            attempts: choices.pick(&[None, None, Some(0), Some(2)]),
            limits,
            mark: choices.pick(&[64 << 10, 0, 1, 200]),
        }
    }
}

impl Generate for Script {
    /// Up to 120 steps, most of them such that a connection comes to something.
    fn generate(choices: &mut Choices<'_>) -> Self {
        let setup = Setup::generate(choices);
        let version = setup.version;
        let mut steps = Vec::new();
        // Most begin with a connection, and some of what follows is another.
        if !choices.one_in(8) {
            connection(choices, &mut steps);
        }
        for _ in 0..choices.size(0..=60) {
            step(choices, version, &mut steps);
        }
        steps.truncate(120);
        Self { setup, steps }
    }
}

/// All that it takes to be connected.
fn connection(choices: &mut Choices<'_>, steps: &mut Vec<Step>) {
    let session_present = choices.flag();
    steps.extend([Step::Connect, Step::Retry, Step::Answer(true), Step::Transport(TransportEvent::Opened)]);
    steps.extend([Step::Transmit(usize::MAX), Step::Accept(session_present), Step::Transmit(usize::MAX)]);
}

fn step(choices: &mut Choices<'_>, version: ProtocolVersion, steps: &mut Vec<Step>) {
    match choices.byte() {
        0..=23 => connection(choices, steps),
        24..=69 => steps.push(Step::Publish(message(choices, version))),
        70..=77 => steps.push(subscribe(choices, version)),
        78..=81 => steps.push(Step::Unsubscribe(vec![filter(choices)])),
        82..=105 => steps.push(Step::Transmit(choices.pick(&[usize::MAX, 0, 1, 5, 100]))),
        106..=131 => steps.push(Step::Serve(choices.size(1..=8))),
        132..=155 => steps.push(Step::Packet(deliver(choices, version))),
        156..=167 => steps.push(Step::Packet(answer(choices, version))),
        168..=185 => {
            // Two of them are none of an acknowledgement's.
            let code = choices.pick(&[
                ReasonCode::Success,
                ReasonCode::Success,
                ReasonCode::NotAuthorized,
                ReasonCode::GrantedQoS1,
                ReasonCode::ServerBusy,
            ]);
            steps.push(Step::Settle(choices.size(0..=7), code));
        }
        186..=197 => steps.push(Step::Stored),
        198..=203 => steps.push(Step::Transport(transport_event(choices))),
        204..=206 => steps.push(Step::StaleTransport(transport_event(choices))),
        207..=212 => steps.push(Step::Time(time(choices))),
        213..=220 => steps.push(Step::Deadline),
        221..=226 => steps.push(Step::Chunk(choices.pick(&[0, 1, 2, 7, 40]))),
        227..=232 => steps.push(Step::Packet(packet(choices, version, Sender::Server))),
        233..=236 => steps.push(Step::Broken(NearValid::of(choices, version, Sender::Server))),
        237..=239 => steps.push(Step::Raw(choices.bytes(0..=40))),
        240..=243 => steps.push(Step::Answer(choices.flag())),
        244..=246 => steps.push(Step::Reconnect),
        247..=249 => steps.push(Step::Disconnect(choices.pick(&[Duration::ZERO, Duration::from_secs(2)]))),
        250..=252 => {
            let mut setup = Setup::generate(choices);
            setup.version = choices.pick(&[version, setup.version]);
            steps.push(Step::Reconfigure(Box::new(setup)));
        }
        253 => steps.push(Step::StoreFails),
        _ => steps.push(Step::Accept(choices.flag())),
    }
}

fn transport_event(choices: &mut Choices<'_>) -> TransportEvent {
    choices.pick(&[
        TransportEvent::Closed(None),
        TransportEvent::Opened,
        TransportEvent::OpenFailed("no".into()),
        TransportEvent::Closed(Some("reset".into())),
    ])
}

/// Microseconds to days, so that timers fire early, late and much too late.
fn time(choices: &mut Choices<'_>) -> Duration {
    let unit = choices.pick(&[1, 1_000, 1_000_000, 60_000_000, 3_600_000_000]);
    Duration::from_micros(unit * (1 + u64::from(choices.byte() % 30)))
}

/// Few topics, so that aliases and orders meet; any topic once in a while.
fn topic(choices: &mut Choices<'_>) -> TopicName {
    if choices.one_in(16) {
        return TopicName::generate(choices);
    }
    TopicName::new(choices.pick(&["a", "b", "a/b"])).expect("topic names")
}

fn filter(choices: &mut Choices<'_>) -> TopicFilter {
    if choices.one_in(8) {
        return TopicFilter::generate(choices);
    }
    TopicFilter::new(choices.pick(&["a", "#", "a/+", "$share/g/a"])).expect("topic filters")
}

fn message(choices: &mut Choices<'_>, version: ProtocolVersion) -> Message {
    let mut message = Message::new(topic(choices), payload(choices).into());
    message.qos = qos(choices);
    message.retain = choices.one_in(8);
    // Some are more urgent, and some less; what earlier choices meant stays.
    message.priority = match message.payload.len() % 6 {
        4 => Priority::Low,
        5 => Priority::High,
        _ => Priority::Normal,
    };
    message.properties = properties(choices, version, Spot::Publish(Sender::Client));
    message
}

fn subscribe(choices: &mut Choices<'_>, version: ProtocolVersion) -> Step {
    let count = choices.size(1..=3);
    let one = |choices: &mut Choices<'_>| Subscription {
        filter: filter(choices),
        options: subscription_options(choices, version),
    };
    let subscriptions = (0..count).map(|_| one(choices)).collect();
    let request = Subscribe::new(subscriptions);
    let list = properties(choices, version, Spot::Subscribe);
    // Half of those that have an identifier insist on it.
    Step::Subscribe(match list.as_properties().find(PropertyId::SubscriptionIdentifier) {
        Some(Property::SubscriptionIdentifier(identifier)) if identifier % 2 == 0 => {
            let others = list.retain(|property| property.id() != PropertyId::SubscriptionIdentifier);
            request.properties(others).identifier(identifier)
        }
        _ => request.properties(list),
    })
}

/// A PUBLISH from the server with one of few identifiers.
fn deliver(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    let qos = qos(choices);
    let is_acknowledged = qos != QoS::AtMostOnce;
    OwnedPacket::Publish(OwnedPublish {
        dup: is_acknowledged && choices.one_in(3),
        qos,
        retain: choices.one_in(8),
        topic: topic(choices).as_str().to_owned(),
        packet_id: is_acknowledged.then(|| few_ids(choices)),
        properties: properties(choices, version, Spot::Publish(Sender::Server)),
        payload: payload(choices),
    })
}

/// An acknowledgement for one of few identifiers, asked for or not.
fn answer(choices: &mut Choices<'_>, version: ProtocolVersion) -> OwnedPacket {
    let kind = choices.pick(&[AckKind::PubRel, AckKind::PubAck, AckKind::PubRec, AckKind::PubComp]);
    let packet_id = few_ids(choices);
    let mut properties = PropertiesBuf::new();
    // Sometimes more than a plain success, where the version has words for it.
    let in_words = version == ProtocolVersion::V5 && choices.one_in(4);
    if in_words {
        let text = "x".repeat(choices.size(0..=300));
        let _ = properties.push(Property::ReasonString(&text));
    }
    let reason = match kind {
        AckKind::PubAck | AckKind::PubRec if in_words => {
            choices.pick(&[ReasonCode::Success, ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded])
        }
        _ => ReasonCode::Success,
    };
    OwnedPacket::Ack { kind, packet_id, reason, properties }
}

fn few_ids(choices: &mut Choices<'_>) -> PacketId {
    PacketId::new(choices.size(1..=5) as u16).unwrap_or(PacketId::MIN)
}
