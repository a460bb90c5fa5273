//! Owns how a session is kept: the records whose fold it is.
//! It must not know where they are kept, nor when they are durable.

use alloc::string::String;

use crate::config::LostSession;
use crate::message::Message;
use crate::types::{OpId, PacketId, QoS, Subscription, TopicFilter};

/// One change of a session. A session is the fold of its records: nothing else changes it.
///
/// No record repeats a payload: the state of a message advances by its operation or packet identifier.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// The client identifier in use, chosen by the server or made here.
    ClientId(String),
    /// A publication of QoS 1 or 2 was accepted and waits.
    Queued {
        /// Its name for life.
        op: OpId,
        /// What to publish.
        message: Message,
    },
    /// A waiting publication enters the window with this packet identifier.
    Assigned {
        /// Which.
        op: OpId,
        /// As what it is known to the server.
        packet_id: PacketId,
    },
    /// PUBREC came: the message is the server's, its payload is no longer kept, PUBREL is owed.
    Released {
        /// Which.
        packet_id: PacketId,
    },
    /// A publication in flight has ended, however it did.
    Ended {
        /// Which.
        packet_id: PacketId,
    },
    /// A waiting publication was given up.
    Discarded {
        /// Which.
        op: OpId,
    },
    /// A waiting publication is sent with a lower QoS than was asked for: the server takes no higher one. At QoS 0 the
    /// session no longer owes it.
    Downgraded {
        /// Which.
        op: OpId,
        /// The QoS from now on.
        qos: QoS,
    },
    /// An incoming QoS 2 message is ours: it must not be delivered again until PUBREL.
    Received {
        /// As what the server knows it.
        packet_id: PacketId,
    },
    /// PUBREL came for an incoming QoS 2 message.
    Completed {
        /// As what the server knew it.
        packet_id: PacketId,
    },
    /// The server granted a subscription.
    Subscribed {
        /// Which.
        subscription: Subscription,
        /// The Subscription Identifier it was made with (5.0).
        identifier: Option<u32>,
    },
    /// A subscription is gone.
    Unsubscribed {
        /// Which.
        filter: TopicFilter,
    },
    /// The server has no session: everything in flight is as if never sent, or given up, by the policy.
    SessionLost {
        /// What becomes of QoS 2 messages in flight.
        policy: LostSession,
    },
}
