//! Owns what the model broker is told before it runs.
//! It must not know what the broker makes of it.

use core::time::Duration;
use std::collections::BTreeMap;

use mqtt_machine::{ProtocolVersion, QoS, TopicFilter};

/// How the model broker behaves. Every cap is a hard bound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// The versions that it speaks. Default all.
    pub versions: Vec<ProtocolVersion>,
    /// User names with their passwords; empty (the default) lets everybody in.
    pub users: BTreeMap<String, Vec<u8>>,
    /// User names with their passwords for SCRAM-SHA-256 and SCRAM-SHA-512 (5.0); empty (the default): neither is spoken.
    /// Who proves a password here needs none of [`users`](Self::users).
    pub scram_users: BTreeMap<String, String>,
    /// Iterations that SCRAM asks for. Default 4,096.
    pub scram_iterations: u32,
    /// The broker signs its last SCRAM message with another key, as one does that does not know the password. Default false.
    pub scram_impostor: bool,
    /// Topics that nobody may publish or subscribe to.
    pub denied: Vec<TopicFilter>,
    /// The keep alive that it imposes (5.0), in seconds.
    pub server_keep_alive: Option<u16>,
    /// The longest session expiry that it grants (5.0), in seconds.
    pub session_expiry_maximum: Option<u32>,
    /// Publications of QoS 1 and 2 that a client may have in flight (5.0). Default 65,535.
    pub receive_maximum: u16,
    /// The largest packet that it takes, in bytes, in every version. Default 268,435,460, the most that MQTT has.
    pub maximum_packet_size: u32,
    /// Topic aliases that a client may use (5.0). Default 16.
    pub topic_alias_maximum: u16,
    /// Use topic aliases towards clients that allow them (5.0). Default true.
    pub topic_aliases: bool,
    /// The highest QoS that it takes and grants. Default 2.
    pub maximum_qos: QoS,
    /// Keeps retained messages. Default true.
    pub retain_available: bool,
    /// Takes wildcard subscriptions. Default true.
    pub wildcard_subscriptions: bool,
    /// Takes Subscription Identifiers. Default true.
    pub subscription_identifiers: bool,
    /// Takes shared subscriptions. Default true.
    pub shared_subscriptions: bool,
    /// Sends a message once for each of a client's subscriptions that it belongs to, each copy with the QoS and the identifier
    /// of its own, and not once for all of them; both are allowed (section 3.3.4). Default false.
    pub copies: bool,
    /// What Response Information begins with (5.0): `<this>/<client identifier>` is told to who asks. Default none.
    pub response_information: Option<String>,
    /// The Server Reference of every CONNACK and DISCONNECT that sends a client away (5.0: 0x9C, 0x9D). Default none.
    pub server_reference: Option<String>,
    /// How long a connection may take to its CONNECT. Default 10 s.
    pub connect_timeout: Duration,
    /// Every packet leaves this much later than it was made. Default zero.
    pub delay: Duration,
    /// Connections at once; the next is closed. Default 256.
    pub max_connections: usize,
    /// Sessions kept, with and without a connection. Default 4,096.
    pub max_sessions: usize,
    /// Messages that wait for one client; the next is dropped and logged. Default 100,000.
    pub max_queued: usize,
    /// Bytes of output that wait for one client before its messages stay in the session. Default 1 MiB.
    pub max_output: usize,
    /// Retained messages. Default 10,000.
    pub max_retained: usize,
    /// Entries that each list of the log keeps, the newest. Default 200,000.
    pub log_entries: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            versions: ProtocolVersion::ALL.to_vec(),
            users: BTreeMap::new(),
            scram_users: BTreeMap::new(),
            scram_iterations: 4_096,
            scram_impostor: false,
            denied: Vec::new(),
            server_keep_alive: None,
            session_expiry_maximum: None,
            receive_maximum: u16::MAX,
            maximum_packet_size: 268_435_460,
            topic_alias_maximum: 16,
            topic_aliases: true,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            copies: false,
            response_information: None,
            server_reference: None,
            connect_timeout: Duration::from_secs(10),
            delay: Duration::ZERO,
            max_connections: 256,
            max_sessions: 4_096,
            max_queued: 100_000,
            max_output: 1 << 20,
            max_retained: 10_000,
            log_entries: 200_000,
        }
    }
}

impl BrokerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more user. The first one ends free entry.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Vec<u8>>) -> Self {
        self.users.insert(name.into(), password.into());
        self
    }

    /// With one more user of SCRAM. The first one makes the broker speak it.
    #[must_use]
    pub fn scram_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.scram_users.insert(name.into(), password.into());
        self
    }

    /// With this many iterations asked for by SCRAM.
    #[must_use]
    pub const fn scram_iterations(mut self, iterations: u32) -> Self {
        self.scram_iterations = iterations;
        self
    }

    /// As one that does not know the passwords, and pretends to.
    #[must_use]
    pub const fn scram_impostor(mut self) -> Self {
        self.scram_impostor = true;
        self
    }

    /// With one more filter of topics that nobody may use.
    #[must_use]
    pub fn deny(mut self, filter: TopicFilter) -> Self {
        self.denied.push(filter);
        self
    }

    /// With these versions only.
    #[must_use]
    pub fn versions(mut self, versions: &[ProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// With this Receive Maximum.
    #[must_use]
    pub const fn receive_maximum(mut self, receive_maximum: u16) -> Self {
        self.receive_maximum = receive_maximum;
        self
    }

    /// With this Maximum Packet Size.
    #[must_use]
    pub const fn maximum_packet_size(mut self, bytes: u32) -> Self {
        self.maximum_packet_size = bytes;
        self
    }

    /// With this highest QoS.
    #[must_use]
    pub const fn maximum_qos(mut self, qos: QoS) -> Self {
        self.maximum_qos = qos;
        self
    }

    /// With this Server Reference for those whom it sends away.
    #[must_use]
    pub fn server_reference(mut self, reference: impl Into<String>) -> Self {
        self.server_reference = Some(reference.into());
        self
    }

    /// With one copy of a message for each subscription that it belongs to.
    #[must_use]
    pub const fn copies(mut self) -> Self {
        self.copies = true;
        self
    }

    /// Without Subscription Identifiers.
    #[must_use]
    pub const fn no_subscription_identifiers(mut self) -> Self {
        self.subscription_identifiers = false;
        self
    }

    /// With Response Information that begins with this.
    #[must_use]
    pub fn response_information(mut self, prefix: impl Into<String>) -> Self {
        self.response_information = Some(prefix.into());
        self
    }

    /// With this keep alive imposed, in seconds.
    #[must_use]
    pub const fn server_keep_alive(mut self, seconds: u16) -> Self {
        self.server_keep_alive = Some(seconds);
        self
    }

    /// With every packet leaving this much later.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With this bound on the messages that wait for one client.
    #[must_use]
    pub const fn max_queued(mut self, messages: usize) -> Self {
        self.max_queued = messages;
        self
    }
}
