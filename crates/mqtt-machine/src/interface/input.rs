//! Owns what goes into the machine, and what it says to that at once. It must not know what is told later.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::BytesMut;

use super::Outcome;
use crate::config::{Config, Credentials};
use crate::journal::{DeliveryKey, PublishKey};
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::types::{
    JournalSeq, OpId, QoS, RetainHandling, Secret, Server, Subscription, SubscriptionOptions, TopicFilter,
    TransportId,
};

use super::Refused;

/// Everything that can happen to a machine. A list of `(Instant, Input)` is its whole history.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// Something happened to a transport.
    Transport {
        /// Which.
        id: TransportId,
        /// What.
        event: TransportEvent,
    },
    /// Bytes were read. What is not taken comes back as [`Reply::Unread`].
    Bytes {
        /// From which transport.
        id: TransportId,
        /// All bytes not taken yet, oldest first.
        bytes: BytesMut,
    },
    /// Bytes of the output were handed to the transport.
    Sent {
        /// To which transport.
        id: TransportId,
        /// How many, not counted before.
        bytes: usize,
    },
    /// Records up to here are durable, or the store failed.
    Stored(Result<JournalSeq, StoreError>),
    /// Time has passed.
    Timeout,
    /// The caller wants something.
    Command(Command),
    /// The answer to a question of the machine's.
    Answer(Answer),
}

/// What the machine says to an [`Input`] at once.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing.
    Done,
    /// The command is accepted; [`Event::Completed`](crate::Event::Completed) ends it.
    Accepted(OpId),
    /// The publication of this key was accepted before and has ended so.
    Ended(OpId, Outcome),
    /// The command is refused; nothing has changed.
    Refused(Refused),
    /// These bytes were not taken: the rest of a frame, or more than may be read now.
    Unread(BytesMut),
}

/// What happened to a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportEvent {
    /// It is open: bytes flow.
    Opened,
    /// It could not be opened; the text is for people.
    OpenFailed(String),
    /// It is gone; the text says why, if that is known.
    Closed(Option<String>),
}

/// What a caller can ask for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// See [`Machine::publish`](crate::Machine::publish).
    Publish(Message),
    /// See [`Machine::publish_keyed`](crate::Machine::publish_keyed).
    PublishKeyed(PublishKey, Message),
    /// See [`Machine::forget`](crate::Machine::forget).
    Forget(PublishKey),
    /// See [`Machine::subscribe`](crate::Machine::subscribe).
    Subscribe(Subscribe),
    /// See [`Machine::unsubscribe`](crate::Machine::unsubscribe).
    Unsubscribe(Unsubscribe),
    /// See [`Machine::settle`](crate::Machine::settle).
    Settle(Receipt, ReasonCode),
    /// See [`Machine::connect`](crate::Machine::connect).
    Connect,
    /// See [`Machine::reconnect`](crate::Machine::reconnect).
    Reconnect,
    /// See [`Machine::disconnect`](crate::Machine::disconnect).
    Disconnect(Disconnect),
    /// See [`Machine::reauthenticate`](crate::Machine::reauthenticate).
    Reauthenticate(Option<Secret>),
    /// See [`Machine::reconfigure`](crate::Machine::reconfigure).
    Reconfigure(Arc<Config>),
}

/// A request to subscribe to at least one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscribe {
    /// Which filters, with their options.
    pub subscriptions: Vec<Subscription>,
    /// 5.0 properties: a Subscription Identifier that is insisted on, user properties. The request is refused where the server
    /// is known to have no identifiers.
    pub properties: PropertiesBuf,
    /// A Subscription Identifier, 1 to 268,435,455, for as long as the server has them (5.0, section 3.8.2.1.2): the subscriptions
    /// are also made, and made again, where it has none, without one.
    pub identifier: Option<u32>,
}

impl Subscribe {
    /// A request for these subscriptions.
    pub const fn new(subscriptions: Vec<Subscription>) -> Self {
        Self { subscriptions, properties: PropertiesBuf::new(), identifier: None }
    }

    /// A request for one filter.
    pub fn to(filter: TopicFilter, qos: QoS) -> Self {
        Self::new(alloc::vec![Subscription::new(filter, qos)])
    }

    /// A request for all of these filters, in one packet. Without any it is refused.
    pub fn to_all(filters: impl IntoIterator<Item = TopicFilter>, qos: QoS) -> Self {
        Self::new(filters.into_iter().map(|filter| Subscription::new(filter, qos)).collect())
    }

    /// With these 5.0 properties.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuf) -> Self {
        self.properties = properties;
        self
    }

    /// And for one more filter.
    #[must_use]
    pub fn and(mut self, filter: TopicFilter, qos: QoS) -> Self {
        self.subscriptions.push(Subscription::new(filter, qos));
        self
    }

    /// Without messages that this client published itself (5.0), for all filters so far. Not for shared subscriptions
    /// `[MQTT-3.8.3-4]`.
    #[must_use]
    pub fn no_local(self) -> Self {
        self.options(|options| options.no_local = true)
    }

    /// With the retain flag as it was published (5.0), for all filters so far.
    #[must_use]
    pub fn retain_as_published(self) -> Self {
        self.options(|options| options.retain_as_published = true)
    }

    /// With retained messages or without (5.0), for all filters so far.
    #[must_use]
    pub fn retain_handling(self, handling: RetainHandling) -> Self {
        self.options(|options| options.retain_handling = handling)
    }

    fn options(mut self, set: impl Fn(&mut SubscriptionOptions)) -> Self {
        self.subscriptions.iter_mut().for_each(|subscription| set(&mut subscription.options));
        self
    }

    /// With this Subscription Identifier where the server has them.
    #[must_use]
    pub const fn identifier(mut self, identifier: u32) -> Self {
        self.identifier = Some(identifier);
        self
    }
}

/// A request to unsubscribe from at least one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsubscribe {
    /// Which filters.
    pub filters: Vec<TopicFilter>,
    /// 5.0 user properties.
    pub properties: PropertiesBuf,
}

impl Unsubscribe {
    /// A request for these filters.
    pub const fn new(filters: Vec<TopicFilter>) -> Self {
        Self { filters, properties: PropertiesBuf::new() }
    }

    /// With these 5.0 properties.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuf) -> Self {
        self.properties = properties;
        self
    }
}

/// A request to end: first what was accepted is brought to its end, for at most `drain`, then DISCONNECT is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnect {
    /// How long what was accepted may take to end. Zero: at once.
    pub drain: Duration,
    /// The reason code of the DISCONNECT packet (5.0): `Success`, or `DisconnectWithWill`, or a failure.
    pub reason: ReasonCode,
    /// 5.0 properties: Session Expiry Interval, reason string, user properties.
    pub properties: PropertiesBuf,
}

impl Disconnect {
    /// A normal disconnection that drains for at most `drain`.
    pub const fn new(drain: Duration) -> Self {
        Self { drain, reason: ReasonCode::Success, properties: PropertiesBuf::new() }
    }

    /// With this reason code.
    #[must_use]
    pub const fn reason(mut self, reason: ReasonCode) -> Self {
        self.reason = reason;
        self
    }

    /// With these 5.0 properties.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuf) -> Self {
        self.properties = properties;
        self
    }
}

/// Credit for one delivered message. Giving it back with [`Machine::settle`](crate::Machine::settle) acknowledges
/// the message (QoS 1 and 2) and returns its bytes to the inbound budget (every QoS). One that is dropped holds its
/// bytes until the machine ends.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "a receipt that is not settled is never acknowledged and holds its bytes"]
pub struct Receipt {
    /// The number of the delivery, or of the first of those that follow each other; 0 when it acknowledges nothing.
    pub(crate) serial: u64,
    pub(crate) bytes: usize,
    /// How many deliveries it acknowledges.
    pub(crate) acknowledges: u32,
    pub(crate) key: Option<DeliveryKey>,
}

impl Receipt {
    /// Names the message of QoS 1 or 2; `None` for QoS 0, and for several that were [merged](Self::merge).
    pub const fn key(&self) -> Option<DeliveryKey> {
        self.key
    }

    /// How many bytes of the inbound budget it holds.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds another receipt to this one, so that both are given back at once, with one reason code. That costs much less than one by one.
    ///
    /// # Errors
    /// `other`, when the messages that the two acknowledge do not follow each other: those of this one are to have arrived before,
    /// with none of QoS 1 or 2 between them. Receipts of QoS 0 can always be added.
    ///
    /// ```
    /// # use mqtt_machine::{Instant, Machine, Receipt, ReasonCode};
    /// # fn settle(now: Instant, machine: &mut Machine, receipts: Vec<Receipt>) {
    /// let mut together: Option<Receipt> = None;
    /// for receipt in receipts {
    ///     let Some(before) = &mut together else {
    ///         together = Some(receipt);
    ///         continue;
    ///     };
    ///     if let Err(receipt) = before.merge(receipt) {
    ///         let before = std::mem::replace(before, receipt);
    ///         machine.settle(now, before, ReasonCode::Success);
    ///     }
    /// }
    /// if let Some(last) = together {
    ///     machine.settle(now, last, ReasonCode::Success);
    /// }
    /// # }
    /// ```
    #[inline]
    pub const fn merge(&mut self, other: Self) -> Result<(), Self> {
        if other.acknowledges > 0 {
            let (Some(acknowledges), Some(next)) = (
                self.acknowledges.checked_add(other.acknowledges),
                self.serial.checked_add(self.acknowledges as u64),
            ) else {
                return Err(other);
            };
            if self.acknowledges == 0 {
                self.serial = other.serial;
            } else if other.serial != next {
                return Err(other);
            }
            self.acknowledges = acknowledges;
            self.key = None;
        }
        self.bytes = self.bytes.saturating_add(other.bytes);
        Ok(())
    }

    /// True for a message of QoS 1 or 2: settling it sends an acknowledgement.
    pub const fn acknowledges(&self) -> bool {
        self.acknowledges > 0
    }
}

// A receipt is credit and therefore not `Clone` for callers; a transcript writes it as its number.
impl Clone for Receipt {
    fn clone(&self) -> Self {
        Self { serial: self.serial, bytes: self.bytes, acknowledges: self.acknowledges, key: self.key }
    }
}

/// An answer to a question of the machine's. One for another attempt than the present is ignored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Action::Prepare`](crate::Action::Prepare).
    Prepared {
        /// The attempt that was asked about.
        id: TransportId,
        /// Where to connect.
        server: Server,
        /// With which user name and password; `None`: those of the configuration. When the server refuses the ones given here, that
        /// passes: the next attempt asks again.
        credentials: Option<Credentials>,
        /// With which Authentication Data in CONNECT; `None`: that of the configuration's
        /// [`Authentication`](crate::Authentication), without which it is not sent.
        initial_data: Option<Secret>,
    },
    /// To [`Action::Prepare`](crate::Action::Prepare): not now. The attempt has failed; the next one follows the back-off.
    NotPrepared {
        /// The attempt that was asked about.
        id: TransportId,
        /// Why, for people.
        why: String,
    },
    /// To [`Action::Authenticate`](crate::Action::Authenticate): the client's next step. When the server has finished, only
    /// giving up needs an answer.
    Authenticate {
        /// The transport that was asked about.
        id: TransportId,
        /// The client's data; `None` gives the exchange up and closes the connection.
        data: Option<Secret>,
    },
}

/// What became of [`Machine::publish_keyed`](crate::Machine::publish_keyed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedPublication {
    /// It is accepted now.
    Accepted(OpId),
    /// It was accepted before under this key, perhaps by a process before, and has not ended.
    Open(OpId),
    /// It was accepted before under this key, and has ended so. 5.0 properties of the outcome are not kept.
    Ended(OpId, Outcome),
}

/// The store could not keep a record; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StoreError {}
