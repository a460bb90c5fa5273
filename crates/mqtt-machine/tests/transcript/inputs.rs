//! Owns the strategies for inputs, configurations and calls: every variant, every field. It must not know the format
//! beyond one entry, the only way to a receipt of one's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt_machine::journal::{PublishKey, Record};
use mqtt_machine::packet::{PropertiesBuf, Property, Sender};
use mqtt_machine::transcript::{Call, Recorder, Recording, Transcript};
use mqtt_machine::{
    Answer, Authentication, Backoff, Behind, CleanStart, Command, Config, Credentials, Disconnect, Input,
    Instant, JournalSeq, Limits, LostSession, Message, Offline, OpId, Outcome, Overflow, PacketId, Priority,
    ProtocolVersion, QoS, ReasonCode, Receipt, Redirection, RetainHandling, Secret, Server, StoreError,
    Subscribe, Subscription, SubscriptionOptions, TopicAliases, TopicFilter, TopicName, TransportEvent,
    TransportId, Unsubscribe, Unsupported, Watchdog, Will, wire,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use mqtt_machine_testkit::generate::{
    OwnedPacket, packet as any_packet, strategy, strategy_of, text as any_text,
};

/// One step of a script.
#[derive(Debug)]
pub(crate) enum Step {
    Input(Instant, Input),
    /// Bytes behind those that were left.
    More(Instant, TransportId, Bytes),
    Transmit(Instant, usize),
    PollAction,
    PollEvent,
    /// Gives the oldest receipt back.
    Settle(Instant),
}

impl Clone for Step {
    fn clone(&self) -> Self {
        match self {
            Self::Input(at, input) => Self::Input(*at, copy(input)),
            Self::More(at, id, bytes) => Self::More(*at, *id, bytes.clone()),
            Self::Transmit(at, room) => Self::Transmit(*at, *room),
            Self::PollAction => Self::PollAction,
            Self::PollEvent => Self::PollEvent,
            Self::Settle(at) => Self::Settle(*at),
        }
    }
}

fn copy(input: &Input) -> Input {
    match input {
        Input::Transport { id, event } => Input::Transport { id: *id, event: event.clone() },
        Input::Bytes { id, bytes } => Input::Bytes { id: *id, bytes: bytes.clone() },
        Input::Sent { id, bytes } => Input::Sent { id: *id, bytes: *bytes },
        Input::Stored(result) => Input::Stored(result.clone()),
        Input::Timeout => Input::Timeout,
        Input::Command(command) => Input::Command(command.clone()),
        Input::Answer(answer) => Input::Answer(answer.clone()),
        input => panic!("a new kind of input: {input:?}"),
    }
}

/// Scripts that connect a machine and then do anything with it, in any order. Time may go back.
pub(crate) fn script() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        4 => select(&ProtocolVersion::ALL[..])
            .prop_flat_map(|version| packet(version).prop_map(move |packet| {
                let mut bytes = BytesMut::new();
                wire::encode(&packet.packet(), version, &mut bytes).expect("a valid packet");
                bytes.freeze()
            })),
        2 => select(vec![&[0x20, 2, 0, 0][..], &[0x20, 3, 0, 0, 0], &[0x20, 3, 1, 0, 0], &[0x40, 2, 0, 1]])
            .prop_map(Bytes::from_static),
        1 => vec(any::<u8>(), 0..20).prop_map(Bytes::from),
    ];
    let cut = (bytes, any::<bool>(), 0_usize..8)
        .prop_map(|(bytes, cut, at)| if cut { bytes.slice(..at.min(bytes.len())) } else { bytes });
    let at = || prop_oneof![0_u64..20_000_000, Just(0), any::<u64>()].prop_map(Instant::from_micros);
    let step = prop_oneof![
        6 => (at(), input()).prop_map(|(at, input)| Step::Input(at, input)),
        4 => (at(), transport_id(), cut).prop_map(|(at, id, bytes)| Step::More(at, id, bytes)),
        4 => (at(), prop_oneof![0_usize..200, Just(65_536)]).prop_map(|(at, room)| Step::Transmit(at, room)),
        3 => Just(()).prop_map(|()| Step::PollAction),
        3 => Just(()).prop_map(|()| Step::PollEvent),
        1 => at().prop_map(Step::Settle),
    ];
    (vec(step, 0..60), any::<bool>()).prop_map(|(mut steps, connect)| {
        if connect {
            let id = TransportId::new(1);
            let opened = Input::Transport { id, event: TransportEvent::Opened };
            let start = [
                Step::Input(Instant::ZERO, Input::Command(Command::Connect)),
                Step::PollAction,
                Step::Input(Instant::ZERO, opened),
                Step::Transmit(Instant::ZERO, 65_536),
                Step::More(Instant::ZERO, id, Bytes::from_static(&[0x20, 3, 0, 0, 0])),
            ];
            steps.splice(0..0, start);
        }
        steps
    })
}

/// An input of any kind with any content, its transport among the first few.
pub(crate) fn input() -> BoxedStrategy<Input> {
    let transport_event = prop_oneof![
        Just(TransportEvent::Opened),
        text().prop_map(TransportEvent::OpenFailed),
        option::of(text()).prop_map(TransportEvent::Closed),
    ];
    prop_oneof![
        2 => (transport_id(), transport_event).prop_map(|(id, event)| Input::Transport { id, event }),
        1 => (transport_id(), blob()).prop_map(|(id, bytes)| {
            Input::Bytes { id, bytes: BytesMut::from(&bytes[..]) }
        }),
        1 => (transport_id(), any::<usize>()).prop_map(|(id, bytes)| Input::Sent { id, bytes }),
        1 => any::<u64>().prop_map(|seq| Input::Stored(Ok(JournalSeq::new(seq)))),
        1 => text().prop_map(|why| Input::Stored(Err(StoreError(why)))),
        2 => Just(()).prop_map(|()| Input::Timeout),
        8 => command().prop_map(Input::Command),
        2 => answer().prop_map(Input::Answer),
    ]
    .boxed()
}

fn command() -> impl Strategy<Value = Command> {
    let list = || properties();
    prop_oneof![
        6 => message().prop_map(Command::Publish),
        2 => (vec(subscription(), 0..3), list(), any::<Option<u32>>()).prop_map(
            |(subscriptions, properties, identifier)| {
                let mut subscribe = Subscribe::new(subscriptions).properties(properties);
                subscribe.identifier = identifier;
                Command::Subscribe(subscribe)
            },
        ),
        2 => (publish_key(), message()).prop_map(|(key, message)| Command::PublishKeyed(key, message)),
        1 => publish_key().prop_map(Command::Forget),
        1 => (vec(topic_filter(), 0..3), list()).prop_map(|(filters, properties)| {
            Command::Unsubscribe(Unsubscribe::new(filters).properties(properties))
        }),
        1 => (receipt(), reason()).prop_map(|(receipt, reason)| Command::Settle(receipt, reason)),
        2 => Just(Command::Connect),
        1 => Just(Command::Reconnect),
        1 => (duration(), reason(), list()).prop_map(|(drain, reason, properties)| {
            Command::Disconnect(Disconnect::new(drain).reason(reason).properties(properties))
        }),
        1 => option::of(secret()).prop_map(Command::Reauthenticate),
        1 => config().prop_map(|config| Command::Reconfigure(Arc::new(config))),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (transport_id(), text(), option::of(credentials()), option::of(secret())).prop_map(
            |(id, server, credentials, initial_data)| {
                Answer::Prepared { id, server: Server::new(server), credentials, initial_data }
            }
        ),
        (transport_id(), text()).prop_map(|(id, why)| Answer::NotPrepared { id, why }),
        (transport_id(), option::of(secret())).prop_map(|(id, data)| Answer::Authenticate { id, data }),
    ]
}

/// A receipt of any content: read from an entry that was written by hand.
fn receipt() -> impl Strategy<Value = Receipt> {
    (0_u8..128, 0_u8..128, 0_u8..4).prop_map(|(serial, bytes, acknowledges)| {
        let mut recorder =
            Recorder::new(Arc::new(Config::new(Server::new("s"))), 0, Instant::ZERO, Some(Recording::new()));
        let mut transcript = BytesMut::from(&recorder.take_recorded()[..]);
        transcript.extend_from_slice(&[8, 0, 4, serial, bytes, acknowledges, 0]);
        let transcript = Transcript::new(transcript).expect("a header");
        match transcript.entries().next().expect("an entry").expect("one that can be read").call {
            Call::Input(Input::Command(Command::Settle(receipt, ReasonCode::Success))) => receipt,
            call => panic!("{call}"),
        }
    })
}

/// A configuration in which every field may have any value.
pub(crate) fn config() -> impl Strategy<Value = Config> {
    let who = (vec(text(), 0..3), version(), any::<bool>(), text(), credentials());
    let session = (
        select(&[CleanStart::Always, CleanStart::FirstOnly, CleanStart::Never][..]),
        duration(),
        any::<bool>(),
        option::of(message()),
        option::of((text(), option::of(secret()))),
    );
    let times = (duration(), duration(), duration(), duration(), backoff());
    let caps = (any::<u16>(), any::<u32>(), 0_u16..20, any::<[bool; 2]>(), properties());
    let policies = (any::<bool>(), any::<bool>(), limits(), any::<bool>(), overflow(), any::<bool>());
    let others =
        (watchdog(), any::<(u16, bool)>(), any::<bool>(), option::of(any::<u8>()), option::of(version()));
    (who, session, times, caps, policies, others).prop_map(|(who, session, times, caps, policies, others)| {
        let mut config = Config::new(Server::new(""));
        config.servers = who.0.into_iter().map(Server::new).collect();
        config.version = who.1;
        config.bridge = who.2;
        config.client_id = who.3;
        config.credentials = who.4;
        config.clean_start = session.0;
        config.session_expiry = session.1;
        config.prepare = session.2;
        config.will = session.3.map(Will::new);
        config.authentication =
            session.4.map(|(method, initial_data)| Authentication { method, initial_data });
        (config.keep_alive, config.ping_timeout, config.connect_timeout, config.close_timeout) =
            (times.0, times.1, times.2, times.3);
        config.backoff = times.4;
        (config.receive_maximum, config.maximum_packet_size, config.topic_alias_maximum) =
            (caps.0, caps.1, caps.2);
        [config.request_problem_information, config.request_response_information] = caps.3;
        config.user_properties = caps.4;
        config.offline = if policies.0 { Offline::Queue } else { Offline::Drop };
        config.lost_session = if policies.1 { LostSession::SendAgain } else { LostSession::Report };
        config.limits = policies.2;
        config.durable = policies.3;
        config.overflow = policies.4;
        config.behind = if policies.5 { Behind::StopReading } else { Behind::DropQoS0 };
        config.watchdog = others.0;
        config.topic_aliases = TopicAliases { maximum: others.1.0, automatic: others.1.1 };
        config.unsupported = if others.2 { Unsupported::Refuse } else { Unsupported::Downgrade };
        config.redirection = others.3.map_or(Redirection::Ignore, |hops| Redirection::Follow { hops });
        config.fallback = others.4;
        config
    })
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(&ProtocolVersion::ALL[..])
}

fn overflow() -> impl Strategy<Value = Overflow> {
    use Overflow::{DropNewest, DropOldest, LastValue, Refuse, Wait};
    select(&[Wait, Refuse, DropOldest, DropNewest, LastValue][..])
}

fn watchdog() -> impl Strategy<Value = Option<Watchdog>> {
    option::of((duration(), any::<bool>()).prop_map(|(after, reconnect)| Watchdog { after, reconnect }))
}

fn backoff() -> impl Strategy<Value = Backoff> {
    (duration(), any::<u32>(), duration(), any::<bool>(), option::of(any::<u32>()), duration()).prop_map(
        |(first, factor, cap, jitter, attempts, stable_after)| Backoff {
            first,
            factor,
            cap,
            jitter,
            attempts,
            stable_after,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    let size = || prop_oneof![Just(1_usize << 20), 0_usize..10, any::<usize>()];
    (size(), size(), size(), size(), size(), any::<u16>(), size()).prop_map(
        |(
            outgoing_messages,
            outgoing_bytes,
            requests,
            subscriptions,
            incoming_bytes,
            in_flight,
            keyed_outcomes,
        )| Limits {
            outgoing_messages,
            outgoing_bytes,
            requests,
            subscriptions,
            incoming_bytes,
            in_flight,
            keyed_outcomes,
        },
    )
}

/// A record of any kind with any content.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        text().prop_map(Record::ClientId),
        (op(), message()).prop_map(|(op, message)| Record::Queued {
            op,
            // DUP is not kept: a message that may have been sent says so by its packet identifier.
            message: Message { dup: false, ..message }
        }),
        (op(), packet_id()).prop_map(|(op, packet_id)| Record::Assigned { op, packet_id }),
        (op(), packet_id(), op(), 1_u64..9).prop_map(|(op, packet_id, after, turn)| Record::Released {
            op,
            packet_id,
            after,
            turn
        }),
        (op(), packet_id()).prop_map(|(op, packet_id)| Record::Ended { op, packet_id }),
        (op(), publish_key(), any::<bool>()).prop_map(|(op, key, ended)| Record::Keyed {
            op,
            key,
            outcome: ended.then_some(Outcome::Expired)
        }),
        op().prop_map(|op| Record::Forgotten { op }),
        op().prop_map(|op| Record::Reserved { op }),
        op().prop_map(|op| Record::Discarded { op }),
        (packet_id(), any::<u32>())
            .prop_map(|(packet_id, generation)| Record::Received { packet_id, generation }),
        (packet_id(), any::<u32>())
            .prop_map(|(packet_id, generation)| Record::Completed { packet_id, generation }),
        (subscription(), option::of(1_u32..1_000))
            .prop_map(|(subscription, identifier)| Record::Subscribed { subscription, identifier }),
        topic_filter().prop_map(|filter| Record::Unsubscribed { filter }),
        any::<u64>().prop_map(|identity| Record::SessionBegan { identity }),
    ]
}

fn publish_key() -> impl Strategy<Value = PublishKey> {
    vec(any::<u8>(), 1..20).prop_map(|bytes| PublishKey::new(bytes).expect("a key"))
}

fn message() -> impl Strategy<Value = Message> {
    (strategy::<TopicName>(), blob(), qos(), any::<[bool; 2]>(), properties(), select(&Priority::ALL[..]))
        .prop_map(|(topic, payload, qos, [retain, dup], properties, priority)| {
            let mut message = Message::new(topic, payload.into()).priority(priority);
            (message.qos, message.retain, message.dup, message.properties) = (qos, retain, dup, properties);
            message
        })
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let handling = select(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][..]);
    (topic_filter(), qos(), any::<[bool; 2]>(), handling).prop_map(
        |(filter, qos, [no_local, retain_as_published], retain_handling)| Subscription {
            filter,
            options: SubscriptionOptions { qos, no_local, retain_as_published, retain_handling },
        },
    )
}

fn properties() -> impl Strategy<Value = PropertiesBuf> {
    let few = (option::of(any::<u32>()), option::of((text(), text())), option::of(blob()));
    prop_oneof![
        3 => Just(PropertiesBuf::new()),
        1 => few.prop_map(|(seconds, pair, data)| {
            let mut list = PropertiesBuf::new();
            if let Some(seconds) = seconds {
                list.push(Property::MessageExpiryInterval(seconds)).expect("any number");
            }
            if let Some((name, value)) = pair {
                list.push(Property::UserProperty(&name, &value)).expect("any text");
            }
            if let Some(data) = data {
                list.push(Property::CorrelationData(&data)).expect("any bytes");
            }
            list
        }),
    ]
}

fn credentials() -> impl Strategy<Value = Credentials> {
    (option::of(text()), option::of(secret()))
        .prop_map(|(username, password)| Credentials { username, password })
}

fn secret() -> impl Strategy<Value = Secret> {
    blob().prop_map(Secret::new)
}

/// Text without U+0000, of any script.
fn text() -> impl Strategy<Value = String> {
    strategy_of(30, any_text)
}

/// What a server may send in `version`.
fn packet(version: ProtocolVersion) -> impl Strategy<Value = OwnedPacket> {
    strategy_of(100, move |choices| any_packet(choices, version, Sender::Server))
}

fn topic_filter() -> impl Strategy<Value = TopicFilter> {
    strategy()
}

fn transport_id() -> impl Strategy<Value = TransportId> {
    prop_oneof![8 => 1_u64..3, 1 => any::<u64>()].prop_map(TransportId::new)
}

fn op() -> impl Strategy<Value = OpId> {
    any::<u64>().prop_map(OpId::new)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("never 0", PacketId::new)
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    select(ReasonCode::ALL.to_vec())
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..100_000).prop_map(Duration::from_millis),
        (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..24)
}
