//! Owns the faults that can be asked for before a connection begins.
//! It must not know how they are carried out.

use core::time::Duration;

use mqtt_machine::ReasonCode;

/// How a CONNECT is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnConnect {
    /// As the protocol and the configuration say.
    #[default]
    Accept,
    /// With a CONNACK of this reason, then the end. Before 5.0 a reason that those versions lack becomes
    /// "Server unavailable".
    Refuse(ReasonCode),
    /// The connection closes without a CONNACK.
    Close,
    /// Nothing is ever said; the connection stays open.
    Silence,
}

/// The faults of one connection. Plans are made before it opens: [`Broker::plan`](super::Broker::plan) for the next
/// connection, [`Broker::plan_for`](super::Broker::plan_for) for the next of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// How the CONNECT is answered.
    pub on_connect: OnConnect,
    /// The link is cut after this many bytes from the client, counted from the beginning of the connection.
    pub cut_after_received: Option<u64>,
    /// The link is cut after this many bytes to the client, counted from the beginning of the connection.
    pub cut_after_sent: Option<u64>,
    /// This many QoS 1 PUBLISH packets are sent twice, the second time with DUP.
    pub duplicates: u32,
    /// Every packet leaves this much later, on top of the configuration's delay.
    pub delay: Duration,
}

impl Plan {
    /// No faults.
    pub const NONE: Self = Self {
        on_connect: OnConnect::Accept,
        cut_after_received: None,
        cut_after_sent: None,
        duplicates: 0,
        delay: Duration::ZERO,
    };

    /// The CONNECT is refused with `reason`.
    pub const fn refuse(reason: ReasonCode) -> Self {
        Self { on_connect: OnConnect::Refuse(reason), ..Self::NONE }
    }

    /// The connection is closed instead of a CONNACK.
    pub const fn close_before_connack() -> Self {
        Self { on_connect: OnConnect::Close, ..Self::NONE }
    }

    /// Nothing is ever said.
    pub const fn silence() -> Self {
        Self { on_connect: OnConnect::Silence, ..Self::NONE }
    }

    /// The link is cut after this many bytes from the client.
    pub const fn cut_after_received(bytes: u64) -> Self {
        Self { cut_after_received: Some(bytes), ..Self::NONE }
    }

    /// The link is cut after this many bytes to the client.
    pub const fn cut_after_sent(bytes: u64) -> Self {
        Self { cut_after_sent: Some(bytes), ..Self::NONE }
    }

    /// This many QoS 1 PUBLISH packets are sent twice.
    pub const fn duplicate(count: u32) -> Self {
        Self { duplicates: count, ..Self::NONE }
    }

    /// Every packet leaves this much later.
    pub const fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::NONE }
    }
}
