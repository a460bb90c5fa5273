//! Owns what the machine wants done and what it tells. It must not know what was asked.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::journal::Record;
use crate::message::Message;
use crate::packet::{PacketType, PropertiesBuf};
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, ProtocolVersion, QoS, Secret, Server, TopicFilter, TransportId};
use crate::wire::{DecodeError, EncodeError};

use super::{Drained, Receipt, StoreError};

/// What the machine wants done. Every action is done once, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// A question, with [`Config::prepare`](crate::Config::prepare) only: to which server, with which credentials? [`Answer::Prepared`](crate::Answer::Prepared) and
    /// [`Answer::NotPrepared`](crate::Answer::NotPrepared) answer it.
    Prepare {
        /// Names the attempt; the answer repeats it.
        id: TransportId,
        /// The server whose turn it is, if the configuration lists any.
        server: Option<Server>,
        /// How many attempts failed in a row before this one.
        failed: u32,
    },
    /// Open a transport to `server` and report [`TransportEvent::Opened`](crate::TransportEvent::Opened) or [`TransportEvent::OpenFailed`](crate::TransportEvent::OpenFailed).
    OpenTransport {
        /// Names the transport.
        id: TransportId,
        /// Where to.
        server: Server,
    },
    /// Close a transport, or stop opening it. Its output has been sent or is worthless. Nothing need be reported.
    CloseTransport {
        /// Which.
        id: TransportId,
    },
    /// Keep a record; [`Machine::handle_stored`](crate::Machine::handle_stored) when it and all before it are durable.
    Store {
        /// Its place in the journal.
        seq: JournalSeq,
        /// What to keep.
        record: Record,
    },
    /// A question (5.0, section 4.12): the server's next step of the authentication exchange. [`Answer::Authenticate`](crate::Answer::Authenticate)
    /// answers it.
    Authenticate {
        /// On which transport; the answer repeats it.
        id: TransportId,
        /// Whether the server has ended the exchange, by CONNACK or AUTH: its data can be verified, and nothing is sent back.
        /// To be safe verify it before the next [`Machine::transmit`](crate::Machine::transmit).
        finished: bool,
        /// The server's authentication data.
        data: Secret,
    },
}

/// What the machine tells. Messages and completions wait, within the caps, until they are taken; of the rest the latest 64
/// or so do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A CONNACK accepted this client.
    Connected(Connected),
    /// A message arrived. Its receipt must be given back.
    Message {
        /// The message.
        message: Message,
        /// The credit to give back.
        receipt: Receipt,
    },
    /// An accepted command has ended; this is told exactly once.
    Completed {
        /// Which command.
        op: OpId,
        /// How it ended.
        outcome: Outcome,
    },
    /// An attempt ended before a CONNACK accepted this client.
    ConnectFailed(Ended),
    /// A connection ended that a CONNACK had accepted.
    Disconnected(Ended),
    /// The server does not speak the version of the last attempt: the next one speaks a lower one, which cannot do all
    /// that the configuration asks for.
    FellBack {
        /// The version of the next attempt.
        version: ProtocolVersion,
        /// What it cannot do.
        without: Vec<Feature>,
    },
    /// An AUTH of the server (5.0, section 3.15.2.2) explained itself; its data come as [`Action::Authenticate`].
    Auth {
        /// Its reason code.
        reason: ReasonCode,
        /// Its reason string and user properties.
        properties: PropertiesBuf,
    },
    /// The connection is alive, and nothing was acknowledged for as long as the [`Watchdog`](crate::Watchdog) says.
    Stalled {
        /// How long nothing was.
        waited: Duration,
        /// How many publications and requests wait for their acknowledgement.
        unacknowledged: usize,
    },
    /// The consumer has caught up after messages of QoS 0 were dropped under [`Behind::DropQoS0`](crate::Behind::DropQoS0).
    Overrun {
        /// How many were dropped since the last such event.
        messages: u64,
    },
    /// After a lost session subscriptions were made again: one event for each SUBACK, and one for what could not be asked for.
    Resubscribed {
        /// Which, and the code of each; those whose code is a failure are gone.
        codes: Vec<(TopicFilter, ReasonCode)>,
        /// The SUBACK's reason string and user properties.
        properties: PropertiesBuf,
    },
}

/// How several commands ended whose names follow each other: what [`Machine::poll_completions`](crate::Machine::poll_completions)
/// takes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completions {
    /// The first of them.
    pub first: OpId,
    /// The last, perhaps the same.
    pub last: OpId,
    /// How each of them ended: [`Outcome::Sent`], or [`Outcome::Acknowledged`] with success and nothing else.
    pub outcome: Outcome,
}

impl Completions {
    /// Their names, in order.
    pub fn ops(&self) -> impl Iterator<Item = OpId> + use<> {
        (self.first.to_u64()..=self.last.to_u64()).map(OpId::new)
    }
}

/// What a lower version of MQTT cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// How long the server keeps the session is the server's choice.
    SessionExpiry,
    /// The server is not told how many publications it may have in flight.
    ReceiveMaximum,
    /// The server does not name topics by aliases, nor does this client.
    TopicAliases,
    /// The user properties of CONNECT are left out.
    UserProperties,
    /// The properties of the will, its delay among them, are left out.
    WillProperties,
    /// Properties of messages that wait are left out.
    MessageProperties,
    /// No Local, Retain As Published, Retain Handling and Subscription Identifiers are left out, those of requests that wait too.
    SubscriptionOptions,
    /// The server gives no response information.
    ResponseInformation,
    /// The server does not say whether it had kept the session, nor which subscriptions it refuses (3.1).
    SessionPresent,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionExpiry => "session expiry",
            Self::ReceiveMaximum => "receive maximum",
            Self::TopicAliases => "topic aliases",
            Self::UserProperties => "user properties",
            Self::WillProperties => "will properties",
            Self::MessageProperties => "message properties",
            Self::SubscriptionOptions => "subscription options",
            Self::ResponseInformation => "response information",
            Self::SessionPresent => "session present",
        })
    }
}

/// The present connection's beginning.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Connected {
    /// Which transport.
    pub id: TransportId,
    /// Which server.
    pub server: Server,
    /// The server had kept the session.
    pub session_present: bool,
    /// False for the first connection of this machine.
    pub reconnected: bool,
    /// What the server allows.
    pub capabilities: Capabilities,
    /// The client identifier in use, assigned by the server or not.
    pub client_id: String,
    /// The CONNACK's 5.0 properties.
    pub properties: PropertiesBuf,
}

/// What a server allows: its CONNACK read with the defaults of 5.0, or what 3.x always allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The version in use.
    pub version: ProtocolVersion,
    /// Publications of QoS 1 and 2 that may be in flight towards the server.
    pub receive_maximum: u16,
    /// The largest packet that the server takes, in bytes.
    pub maximum_packet_size: u32,
    /// The highest QoS that it takes.
    pub maximum_qos: QoS,
    /// It keeps retained messages.
    pub retain_available: bool,
    /// It takes wildcard subscriptions.
    pub wildcard_subscriptions: bool,
    /// It takes Subscription Identifiers.
    pub subscription_identifiers: bool,
    /// It takes shared subscriptions.
    pub shared_subscriptions: bool,
    /// How many topic aliases it takes.
    pub topic_alias_maximum: u16,
    /// The keep alive in force, the server's if it named one; zero for none.
    pub keep_alive: Duration,
    /// How long it keeps the session without a connection.
    pub session_expiry: Duration,
}

/// The end of an attempt or a connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// Which transport.
    pub id: TransportId,
    /// Why.
    pub reason: EndReason,
    /// When the next attempt begins; `None`: there is none until [`Machine::connect`](crate::Machine::connect).
    pub retry_at: Option<Instant>,
}

/// Why an attempt or a connection ended, with the blame.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// The caller asked for it.
    Requested,
    /// The caller asked for a new connection.
    Reconnect,
    /// The question [`Action::Prepare`] was answered with "not now".
    NotPrepared(String),
    /// The transport could not be opened.
    OpenFailed(String),
    /// The transport closed, with what is known of why.
    Closed(Option<String>),
    /// Opening or the handshake took longer than the connect timeout.
    ConnectTimeout,
    /// The server did not answer a PINGREQ in time.
    PingTimeout,
    /// Something was owed to this client, and nothing was acknowledged for as long as its
    /// [`Watchdog`](crate::Watchdog) says, although the connection is alive.
    Stalled,
    /// The server refused the connection, by CONNACK.
    Refused {
        /// Why; the return codes of 3.x in the terms of 5.0.
        reason: ReasonCode,
        /// The CONNACK's 5.0 properties.
        properties: PropertiesBuf,
    },
    /// The server ended the connection, by DISCONNECT (5.0).
    Disconnect {
        /// Why.
        reason: ReasonCode,
        /// The DISCONNECT's 5.0 properties.
        properties: PropertiesBuf,
    },
    /// The server sent bytes that are no packet of this version.
    Malformed(DecodeError),
    /// The server sent a packet that is not legal now.
    Protocol(ProtocolViolation),
    /// The CONNECT could not be written: a field of the configuration is out of its range.
    Config(EncodeError),
    /// The configuration names no server.
    NoServer,
    /// Enhanced authentication was given up by its method.
    AuthenticationFailed,
    /// The store failed; nothing that depends on it may be sent.
    Store(StoreError),
}

impl EndReason {
    /// True when another attempt with the same configuration cannot succeed: bad credentials, a ban, a version that is
    /// not spoken, a client identifier that is not accepted or that another connection has taken over. The machine makes
    /// another attempt all the same when it was only the credentials, and [`Answer::Prepared`](crate::Answer::Prepared) gave
    /// them: the next answer may give others.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { reason, .. } => matches!(
                reason,
                ReasonCode::MalformedPacket
                    | ReasonCode::ProtocolError
                    | ReasonCode::UnsupportedProtocolVersion
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::BadUserNameOrPassword
                    | ReasonCode::NotAuthorized
                    | ReasonCode::Banned
                    | ReasonCode::BadAuthenticationMethod
                    | ReasonCode::TopicNameInvalid
                    | ReasonCode::PacketTooLarge
                    | ReasonCode::PayloadFormatInvalid
                    | ReasonCode::RetainNotSupported
                    | ReasonCode::QoSNotSupported
            ),
            Self::Disconnect { reason, .. } => {
                matches!(
                    reason,
                    ReasonCode::SessionTakenOver | ReasonCode::NotAuthorized | ReasonCode::Banned
                )
            }
            Self::Requested
            | Self::Config(_)
            | Self::NoServer
            | Self::AuthenticationFailed
            | Self::Store(_) => true,
            Self::Reconnect
            | Self::NotPrepared(_)
            | Self::OpenFailed(_)
            | Self::Closed(_)
            | Self::ConnectTimeout
            | Self::PingTimeout
            | Self::Stalled
            | Self::Malformed(_)
            | Self::Protocol(_) => false,
        }
    }
}

impl EndReason {
    /// Whether it was the user name, the password or what they allow.
    pub(crate) const fn refuses_credentials(&self) -> bool {
        matches!(
            self,
            Self::Refused { reason: ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized, .. }
                | Self::Disconnect { reason: ReasonCode::NotAuthorized, .. }
        )
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_reason =
            |f: &mut fmt::Formatter<'_>, what: &str, reason: &ReasonCode, properties: &PropertiesBuf| {
                write!(f, "{what}: {reason}")?;
                match properties.as_properties().reason_string() {
                    Some(text) => write!(f, ", \"{text}\""),
                    None => Ok(()),
                }
            };
        match self {
            Self::Requested => f.write_str("disconnected on request"),
            Self::Reconnect => f.write_str("reconnecting on request"),
            Self::NotPrepared(why) => write!(f, "the attempt was not prepared: {why}"),
            Self::OpenFailed(why) => write!(f, "the transport could not be opened: {why}"),
            Self::Closed(None) => f.write_str("the transport closed"),
            Self::Closed(Some(why)) => write!(f, "the transport closed: {why}"),
            Self::ConnectTimeout => f.write_str("no CONNACK within the connect timeout"),
            Self::PingTimeout => f.write_str("no answer to PINGREQ within the ping timeout"),
            Self::Stalled => f.write_str("no acknowledgement within the time of the watchdog"),
            Self::Refused { reason, properties } => {
                with_reason(f, "the server refused the connection", reason, properties)
            }
            Self::Disconnect { reason, properties } => {
                with_reason(f, "the server ended the connection", reason, properties)
            }
            Self::Malformed(error) => write!(f, "the server sent a malformed packet: {error}"),
            Self::Protocol(error) => write!(f, "the server broke the protocol: {error}"),
            Self::Config(error) => write!(f, "the configuration cannot be sent: {error}"),
            Self::NoServer => f.write_str("the configuration names no server"),
            Self::AuthenticationFailed => f.write_str("enhanced authentication was given up"),
            Self::Store(error) => write!(f, "the store failed: {error}"),
        }
    }
}

/// A well-formed packet that is not legal now: what, by which rule, and the code that a 5.0 server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolViolation {
    /// The packet that broke it.
    pub packet: PacketType,
    /// Its field that is to blame, in the words of the specification.
    pub field: &'static str,
    /// The number that stands there and may not; `None` where none does.
    pub value: Option<u32>,
    /// What is wrong, in words.
    pub what: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// The reason code of the DISCONNECT.
    pub reason: ReasonCode,
}

impl ProtocolViolation {
    /// One that is told as 0x82.
    pub(crate) const fn new(
        packet: PacketType,
        field: &'static str,
        what: &'static str,
        rule: &'static str,
    ) -> Self {
        Self { packet, field, value: None, what, rule, reason: ReasonCode::ProtocolError }
    }

    /// The same, and which number stands in the field.
    pub(crate) fn with(self, value: impl Into<u32>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// The same, told by another code.
    pub(crate) const fn told_as(self, reason: ReasonCode) -> Self {
        Self { reason, ..self }
    }
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}", self.packet, self.what, self.field)?;
        if let Some(value) = self.value {
            write!(f, " {value}")?;
        }
        write!(f, ") [{}]", self.rule)
    }
}

/// How an accepted command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// QoS 0: the whole packet was handed to the transport.
    Sent,
    /// QoS 1: PUBACK; QoS 2: PUBCOMP. The reason is a success.
    Acknowledged(Acknowledgement),
    /// The server refused it with PUBACK or PUBREC and a failure code.
    Refused(Acknowledgement),
    /// A SUBSCRIBE was answered: one code for each filter, in order; codes of 0x80 and above are refusals.
    Subscribed(Codes),
    /// An UNSUBSCRIBE was answered: one code for each filter; `Success` throughout in 3.x.
    Unsubscribed(Codes),
    /// A disconnect is done, and every record before it is durable.
    Disconnected(Drained),
    /// Its message expiry interval passed while it waited here.
    Expired,
    /// It was given up by a policy.
    Dropped(DropReason),
    /// The client was shut down before it was ever sent.
    NotSent,
    /// It was sent, and nobody can tell whether it arrived, or how often: the server lost the session, the client was shut down
    /// before the acknowledgement came, or the server answered a message of QoS 2 twice as one of QoS 1, each of which also
    /// ended the connection.
    Unknown,
    /// The client was shut down before it ended, and the store has it: the next client of this store brings it to its end, which
    /// is told by its key, if it has one.
    Kept,
    /// The store failed before it ended. If its record was kept it is sent by the next client of this store; that is told by its
    /// key, if it has one.
    StoreFailed,
}

/// What the last acknowledgement of a publication said: PUBACK, a PUBREC that refuses, or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The reason code; `Success` in 3.x.
    pub reason: ReasonCode,
    /// 5.0 properties: a reason string, user properties.
    pub properties: PropertiesBuf,
    /// QoS 2 in 5.0: what the PUBREC before it said, when that was more than a plain success. It is not kept across processes, and
    /// its properties only as far as they are no larger than the message's share of [`Limits`](crate::Limits).
    pub received: Option<Box<Self>>,
}

impl Acknowledgement {
    /// An acknowledgement with this content.
    pub const fn new(reason: ReasonCode, properties: PropertiesBuf) -> Self {
        Self { reason, properties, received: None }
    }

    /// Whether the server said that it knows of nobody who would get the message (0x10), at QoS 2 by its PUBREC.
    pub fn reached_nobody(&self) -> bool {
        let said = |reason| reason == ReasonCode::NoMatchingSubscribers;
        said(self.reason) || self.received.as_ref().is_some_and(|received| said(received.reason))
    }
}

/// What a SUBACK or UNSUBACK said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Codes {
    /// One for each filter.
    pub codes: Vec<ReasonCode>,
    /// 5.0 properties: a reason string, user properties.
    pub properties: PropertiesBuf,
}

impl Codes {
    /// Codes with this content.
    pub const fn new(codes: Vec<ReasonCode>, properties: PropertiesBuf) -> Self {
        Self { codes, properties }
    }
}

/// Which policy gave a command up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// [`Offline::Drop`](crate::Offline::Drop): QoS 0 without a connection.
    Offline,
    /// QoS 0 that was on its way when the connection ended.
    ConnectionLost,
    /// The server that is connected now takes no packet of this size.
    PacketTooLarge,
    /// The server that is connected now does not do something that it needs: its QoS, retained messages, its
    /// kind of subscription.
    NotSupported,
    /// [`Overflow`](crate::Overflow): there was no room for it, or another message needed its room.
    Overflow,
    /// [`Overflow::LastValue`](crate::Overflow::LastValue): a newer message of its topic was published while it waited.
    Superseded,
}
