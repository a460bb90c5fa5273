//! Owns what the caller decides before the machine runs: data only, no closures.
//! It must not know what the machine makes of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::types::{ProtocolVersion, Secret, Server};

/// Whether a connection begins with an empty session (Clean Start in 5.0, Clean Session in 3.x).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanStart {
    /// At every connection. In 3.x the server then keeps nothing between connections either.
    Always,
    /// At the first connection of this machine; its reconnects resume. In 3.x the server discards the session of a
    /// clean connection when that ends: the first reconnect finds none, the later ones do. A machine that is restored from
    /// records goes on as after a reconnect; 3.1 cannot tell it whether its session was kept, so that with records
    /// [`Never`](Self::Never) is the one to choose there.
    #[default]
    FirstOnly,
    /// Never: resume whatever session the server has for the client identifier, also one of another process that kept no
    /// records. 5.0 has a client close the connection then, which [`OwnOnly`](Self::OwnOnly) does.
    ///
    /// A new machine that finds such a session knows nothing of it: QoS 2 messages that the earlier process was told of may come
    /// again, messages come for filters that nobody here asked for, and while a QoS 2 publication of the earlier process waits for
    /// its PUBREL, a new one under the same packet identifier is refused (0x91) or, by a server that takes it for a repeat,
    /// acknowledged and dropped.
    Never,
    /// As [`Never`](Self::Never), and a session that the server has and this machine has no state of is not taken: the
    /// connection is closed `[MQTT-3.2.2-4]`, and the next attempt begins with an empty session. A machine has its state from its
    /// first connection on, or from the records that it was [restored](crate::Machine::restore) from.
    OwnOnly,
}

/// What becomes of an outgoing QoS 2 message whose fate is unknown because the server lost the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostSession {
    /// Send it again as a new message: it may arrive twice.
    #[default]
    SendAgain,
    /// Do not send it again and end it with [`Outcome::Unknown`](crate::Outcome::Unknown): it may not arrive.
    Report,
}

/// What becomes of a QoS 0 message that is published while there is no connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// It waits in the queue like the others.
    #[default]
    Queue,
    /// It ends at once with [`Outcome::Dropped`](crate::Outcome::Dropped).
    Drop,
}

/// What becomes of a publication for which [`Limits::outgoing_messages`] and [`Limits::outgoing_bytes`] leave no room.
///
/// Only what waits is ever dropped: a message that has a packet identifier is the session's, and is brought to its end. With a store the
/// end of a dropped message is kept there as that of any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// [`Refused::Full`](crate::Refused::Full). The machine cannot wait; a client's `publish` does until there is room.
    #[default]
    Wait,
    /// [`Refused::Full`](crate::Refused::Full), and a client's `publish` does not wait either.
    Refuse,
    /// The oldest of the least urgent messages that wait end as [`DropReason::Overflow`](crate::DropReason::Overflow), until there is
    /// room. When all that wait are more urgent than the new message, it ends so itself; when none waits, it is refused as
    /// under [`Wait`](Self::Wait).
    DropOldest,
    /// The new message is accepted and ends as [`DropReason::Overflow`](crate::DropReason::Overflow). Nothing is kept of it, nor of
    /// its key.
    DropNewest,
    /// The last value of each topic is kept: while there is no room, and while there is no connection, a message ends the newest one that
    /// waits under its topic as [`DropReason::Superseded`](crate::DropReason::Superseded), and goes to the end of the queue itself.
    /// When there still is no room it is refused as under [`Wait`](Self::Wait).
    LastValue,
}

/// What becomes of QoS 0 messages from the server while their consumer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Behind {
    /// They are kept like the others, and at [`Limits::incoming_bytes`] nothing more is read: the server is slowed down.
    #[default]
    StopReading,
    /// They are dropped while delivered messages whose receipts are out hold half of [`Limits::incoming_bytes`] or more;
    /// [`Event::Overrun`](crate::Event::Overrun) tells how many, once receipts come back. The other half is left to QoS 1 and 2.
    DropQoS0,
}

/// Watches a connection that is alive while acknowledgements do not come: PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watchdog {
    /// How long nothing may be acknowledged while something is owed; more than zero. While the inbound budget is used up time
    /// does not count, since the acknowledgement may lie where nobody reads.
    pub after: Duration,
    /// The connection ends then, with [`EndReason::Stalled`](crate::EndReason::Stalled), and the next one sends again what is owed.
    /// Without it [`Event::Stalled`](crate::Event::Stalled) is told once for each time that `after` has passed.
    pub reconnect: bool,
}

impl Watchdog {
    /// Tells, and connects again.
    pub const fn reconnect_after(after: Duration) -> Self {
        Self { after, reconnect: true }
    }

    /// Only tells.
    pub const fn tell_after(after: Duration) -> Self {
        Self { after, reconnect: false }
    }
}

/// The topic aliases that this client uses towards a 5.0 server, within the server's own maximum. They end with the
/// connection; a message that is sent again names its topic in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicAliases {
    /// The most that are used; each keeps two copies of a topic. Default 16.
    pub maximum: u16,
    /// They are given to the topics that were used last. Default false: only where a message has the property
    /// [`TopicAlias`](crate::packet::Property::TopicAlias), which asks for one and is left out where it cannot be used.
    pub automatic: bool,
}

impl TopicAliases {
    /// The defaults.
    pub const DEFAULT: Self = Self { maximum: 16, automatic: false };
}

impl Default for TopicAliases {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What becomes of a server's word that another server is to be used (5.0, section 4.11): CONNACK or DISCONNECT with
/// "use another server" or "server moved" and a Server Reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirection {
    /// It is told as the reason of the end and not followed; the next attempt goes to the next configured server.
    /// The default, for a server that is followed gets the credentials.
    #[default]
    Ignore,
    /// The servers of the reference are tried, in their order and at once, as often as `hops` times in a row. "Use another
    /// server" holds until an attempt there fails; "server moved" replaces the configured servers until
    /// [`Machine::reconfigure`](crate::Machine::reconfigure).
    Follow {
        /// How many references may be followed before a connection has been stable.
        hops: u8,
    },
}

/// What becomes of a publication that the server does not take as it is: above its Maximum QoS, or retained where it keeps
/// no retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// It is refused to the caller, or dropped if it was accepted before the server was known.
    #[default]
    Refuse,
    /// It is sent with the highest QoS that the server takes, and not retained. From then on it is a message of that QoS: one of
    /// QoS 0 ends with its process, and a restored machine does not tell of it.
    Downgrade,
}

/// When to try again after a connection failed or ended: exponential back-off with full jitter.
///
/// The wait before retry `n` (from 0) is drawn uniformly from zero to `first * factor^n`, at most `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first wait. Default 1 s.
    pub first: Duration,
    /// What the bound is multiplied by at each retry. Default 2.
    pub factor: u32,
    /// The most that it grows to. Default 60 s.
    pub cap: Duration,
    /// Waits are drawn from zero to the bound; without jitter they are the bound itself. Default true.
    pub jitter: bool,
    /// How many retries in a row before the machine gives up. Default none: it never does.
    pub attempts: Option<u32>,
    /// How long a connection must last for the waits to start from the first again. Default 5 s.
    pub stable_after: Duration,
}

impl Backoff {
    /// The defaults: 1 s, doubling to 60 s, full jitter, without end.
    pub const DEFAULT: Self = Self {
        first: Duration::from_secs(1),
        factor: 2,
        cap: Duration::from_secs(60),
        jitter: true,
        attempts: None,
        stable_after: Duration::from_secs(5),
    };

    /// Never tries again.
    pub const NEVER: Self = Self { attempts: Some(0), ..Self::DEFAULT };
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The will: what the server publishes when this client is gone without a DISCONNECT (section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic, payload, QoS and retain flag; its properties are the will properties of 5.0, the Will Delay among them.
    pub message: Box<Message>,
}

impl Will {
    /// A will that publishes `message`.
    pub fn new(message: Message) -> Self {
        Self { message: Box::new(message) }
    }
}

/// User name and password. `Debug` prints neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: Option<String>,
    /// The password; in 3.x only together with a user name.
    pub password: Option<Secret>,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username.is_some())
            .field("password", &self.password)
            .finish()
    }
}

/// An enhanced authentication method of 5.0 (section 4.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The name of the method.
    pub method: String,
    /// The data of the CONNECT packet, if the method begins with the client.
    pub initial_data: Option<Secret>,
}

/// The caps of memory, each a hard bound. Bytes count topic, properties and payload of a message and its entry.
///
/// Beside them stand a packet that is being read (at most [`Config::maximum_packet_size`]) and 4,096 packets without a payload
/// that wait to be written, about 100 KB: while a driver does not write, a server that goes on sending fills these, and then no
/// more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages accepted and not yet ended, waiting or in flight. Default 100,000.
    pub outgoing_messages: usize,
    /// Their bytes. A single message may be as large as this. Default 32 MiB.
    pub outgoing_bytes: usize,
    /// SUBSCRIBE and UNSUBSCRIBE requests accepted and not yet ended. Default 1,024.
    pub requests: usize,
    /// Subscriptions kept for restoring. Default 100,000.
    pub subscriptions: usize,
    /// Bytes of delivered messages whose receipts are still out, and 32 for each acknowledgement that waits for an earlier one;
    /// reading stops at the bound. Default 32 MiB.
    pub incoming_bytes: usize,
    /// Publications of QoS 1 and 2 in flight at once, within the server's Receive Maximum. Default 65,535.
    pub in_flight: u16,
    /// Outcomes of ended publications that are kept by their key for who asks again; beyond them the oldest are forgotten.
    /// Default 10,000.
    pub keyed_outcomes: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        outgoing_messages: 100_000,
        outgoing_bytes: 32 << 20,
        requests: 1_024,
        subscriptions: 100_000,
        incoming_bytes: 32 << 20,
        in_flight: u16::MAX,
        keyed_outcomes: 10_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Everything a machine is told before it runs. It can be exchanged for the next attempt with
/// [`Machine::reconfigure`](crate::Machine::reconfigure).
///
/// ```
/// use mqtt_machine::{Config, ProtocolVersion, Server};
///
/// let config = Config::new(Server::new("broker:1883")).client_id("sensor-7").version(ProtocolVersion::V3_1_1);
/// assert_eq!(config.keep_alive.as_secs(), 60);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The servers, tried in turn. At least one unless [`prepare`](Self::prepare) names it.
    pub servers: Vec<Server>,
    /// The version to speak. Default 5.0.
    pub version: ProtocolVersion,
    /// mosquitto's bridge bit, 3.1 and 3.1.1 only. Default off.
    pub bridge: bool,
    /// The client identifier. Empty (the default): the server assigns one (5.0) or the machine makes one from its seed.
    pub client_id: String,
    /// Whether sessions begin empty. Default [`CleanStart::FirstOnly`].
    pub clean_start: CleanStart,
    /// How long the server keeps the session without a connection (5.0). Default one hour.
    pub session_expiry: Duration,
    /// User name and password.
    pub credentials: Credentials,
    /// Ask [`Action::Prepare`](crate::Action::Prepare) before every attempt, for the server and the credentials. Default off.
    pub prepare: bool,
    /// The will.
    pub will: Option<Will>,
    /// Enhanced authentication (5.0).
    pub authentication: Option<Authentication>,
    /// The longest silence in either direction before a PINGREQ; zero for none; whole seconds, at most 65,535. Default 60 s.
    pub keep_alive: Duration,
    /// How long the answer to a PINGREQ may take before the server is declared dead. Default 10 s.
    pub ping_timeout: Duration,
    /// How long opening a transport and the CONNECT handshake may take together. Default 10 s.
    pub connect_timeout: Duration,
    /// How long the last DISCONNECT may take to leave. Default 2 s.
    pub close_timeout: Duration,
    /// The back-off between attempts.
    pub backoff: Backoff,
    /// Publications of QoS 1 and 2 that the server may have in flight towards this client (5.0). Default 65,535.
    pub receive_maximum: u16,
    /// The largest packet taken from the server, in bytes, in every version. Default 16 MiB.
    pub maximum_packet_size: u32,
    /// Topic aliases that the server may use towards this client (5.0); each keeps a copy of a topic. Default 0.
    pub topic_alias_maximum: u16,
    /// Topic aliases that this client uses towards the server (5.0).
    pub topic_aliases: TopicAliases,
    /// What becomes of a publication that the server does not take as it is.
    pub unsupported: Unsupported,
    /// What becomes of a server's word that another one is to be used (5.0).
    pub redirection: Redirection,
    /// The lowest version to fall back to, step by step and at once, when a server does not speak
    /// [`version`](Self::version) or closes before CONNACK. Never with
    /// [`authentication`](Self::authentication), which a lower version would leave out. Default none.
    pub fallback: Option<ProtocolVersion>,
    /// Reason strings and user properties in acknowledgements are wanted (5.0). Default true.
    pub request_problem_information: bool,
    /// Response information is wanted (5.0). Default false.
    pub request_response_information: bool,
    /// User properties of the CONNECT packet (5.0); other properties have fields of their own here.
    pub user_properties: PropertiesBuf,
    /// What becomes of QoS 0 messages without a connection.
    pub offline: Offline,
    /// What becomes of QoS 2 messages when the server lost the session.
    pub lost_session: LostSession,
    /// What becomes of publications that find no room.
    pub overflow: Overflow,
    /// What becomes of QoS 0 messages while their consumer is behind.
    pub behind: Behind,
    /// Watches for acknowledgements that do not come. Default none.
    pub watchdog: Option<Watchdog>,
    /// The caps of memory.
    pub limits: Limits,
    /// Records go to a store: [`Action::Store`](crate::Action::Store) is issued, and nothing that depends on a record
    /// leaves before [`Machine::handle_stored`](crate::Machine::handle_stored). Default off.
    pub durable: bool,
}

impl Config {
    /// The defaults, with one server.
    pub fn new(server: Server) -> Self {
        Self {
            servers: alloc::vec![server],
            version: ProtocolVersion::V5,
            bridge: false,
            client_id: String::new(),
            clean_start: CleanStart::FirstOnly,
            session_expiry: Duration::from_secs(3_600),
            credentials: Credentials::default(),
            prepare: false,
            will: None,
            authentication: None,
            keep_alive: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            backoff: Backoff::DEFAULT,
            receive_maximum: u16::MAX,
            maximum_packet_size: 16 << 20,
            topic_alias_maximum: 0,
            topic_aliases: TopicAliases::DEFAULT,
            unsupported: Unsupported::Refuse,
            redirection: Redirection::Ignore,
            fallback: None,
            request_problem_information: true,
            request_response_information: false,
            user_properties: PropertiesBuf::new(),
            offline: Offline::Queue,
            lost_session: LostSession::SendAgain,
            overflow: Overflow::Wait,
            behind: Behind::StopReading,
            watchdog: None,
            limits: Limits::DEFAULT,
            durable: false,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        /// Chainable setters; the fields say what each means.
        impl Config {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })*
        }
    };
}

setters! {
    /// The version to speak.
    version: ProtocolVersion;
    /// Whether sessions begin empty.
    clean_start: CleanStart;
    /// How long the server keeps the session without a connection.
    session_expiry: Duration;
    /// User name and password.
    credentials: Credentials;
    /// Ask before every attempt.
    prepare: bool;
    /// The longest silence before a PINGREQ.
    keep_alive: Duration;
    /// How long the answer to a PINGREQ may take.
    ping_timeout: Duration;
    /// How long opening and the handshake may take.
    connect_timeout: Duration;
    /// How long the last DISCONNECT may take to leave.
    close_timeout: Duration;
    /// The back-off between attempts.
    backoff: Backoff;
    /// Publications that the server may have in flight.
    receive_maximum: u16;
    /// The largest packet taken from the server.
    maximum_packet_size: u32;
    /// Topic aliases that the server may use.
    topic_alias_maximum: u16;
    /// Topic aliases that this client uses.
    topic_aliases: TopicAliases;
    /// What becomes of a publication that the server does not take as it is.
    unsupported: Unsupported;
    /// What becomes of a server's word that another one is to be used.
    redirection: Redirection;
    /// Response information is wanted.
    request_response_information: bool;
    /// What becomes of QoS 0 messages without a connection.
    offline: Offline;
    /// What becomes of QoS 2 messages when the server lost the session.
    lost_session: LostSession;
    /// What becomes of publications that find no room.
    overflow: Overflow;
    /// What becomes of QoS 0 messages while their consumer is behind.
    behind: Behind;
    /// The caps of memory.
    limits: Limits;
    /// Records go to a store.
    durable: bool;
}

impl Config {
    /// With this client identifier.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// With this user name and password.
    #[must_use]
    pub fn username_password(
        mut self,
        username: impl Into<String>,
        password: impl Into<bytes::Bytes>,
    ) -> Self {
        self.credentials =
            Credentials { username: Some(username.into()), password: Some(Secret::new(password.into())) };
        self
    }

    /// Falls back as far as to this version.
    #[must_use]
    pub const fn fallback_to(mut self, lowest: ProtocolVersion) -> Self {
        self.fallback = Some(lowest);
        self
    }

    /// Watched by this watchdog.
    #[must_use]
    pub const fn watchdog(mut self, watchdog: Watchdog) -> Self {
        self.watchdog = Some(watchdog);
        self
    }

    /// With this will.
    #[must_use]
    pub fn will(mut self, message: Message) -> Self {
        self.will = Some(Will::new(message));
        self
    }
}
