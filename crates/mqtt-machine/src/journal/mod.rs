//! Owns how a session is kept: the records whose fold it is, their bytes, and the rows that a store holds of them.
//! It must not know where they are kept, nor when they are durable.
//!
//! [`encode`] and [`decode`] are the bytes of one record: a version, what it is, its fields, a checksum. A store that kept
//! every record would grow for ever, so [`changes`] says what a record puts and removes in a table of rows, in which only what
//! is owed stays, and [`records`] turns the rows of a table back into records whose fold is the same session.
//!
//! ```
//! use std::collections::BTreeMap;
//! use mqtt_machine::journal::{self, Record};
//!
//! let mut table = BTreeMap::new();
//! journal::changes(&Record::ClientId("kitchen".into()), &mut |change| change.apply(&mut table));
//! assert_eq!(journal::records(&table)?, [Record::ClientId("kitchen".into())]);
//! # Ok::<(), journal::RowError>(())
//! ```

mod codec;
mod keys;
mod rows;

use alloc::string::String;

pub use codec::{RecordError, decode, encode};
pub use keys::{DeliveryKey, KeyError, PublishKey};
pub use rows::{Change, RowError, changes, records};

use crate::interface::Outcome;
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
    /// A session begins that the server knows nothing of: what has a packet identifier waits again, as if never sent, and
    /// nothing is known of what arrived.
    SessionBegan {
        /// Drawn for it: a part of every [`DeliveryKey`].
        identity: u64,
    },
    /// Commands are named up to here: a later process begins behind it, so that no name comes again.
    Reserved {
        /// The last of them.
        op: OpId,
    },
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
        op: OpId,
        /// As what it is known to the server.
        packet_id: PacketId,
        /// The newest command at that time. PUBREL stands behind its publication when all is sent again.
        after: OpId,
        /// Counts the PUBRECs: the order of PUBRELs `[MQTT-4.6.0-4]`.
        turn: u64,
    },
    /// A publication with a packet identifier has ended, however it did.
    Ended {
        /// Which.
        op: OpId,
        /// As what it was known to the server.
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
    /// A publication has a key of its user's. Stands before [`Queued`](Self::Queued) without an outcome, and with it before
    /// the record of its end.
    Keyed {
        /// Which.
        op: OpId,
        /// What the user calls it.
        key: PublishKey,
        /// How it ended; its 5.0 properties are not kept.
        outcome: Option<Outcome>,
    },
    /// The key of a publication that has ended, or whose message a crash did not keep, is no longer known.
    Forgotten {
        /// Which.
        op: OpId,
    },
    /// An incoming QoS 2 message is ours: it must not be delivered again until PUBREL.
    Received {
        /// As what the server knows it.
        packet_id: PacketId,
        /// How many messages had ended under this identifier before it.
        generation: u32,
    },
    /// The server may use an identifier for another message: PUBREL came for an incoming QoS 2 message, or one of QoS 1 or 2
    /// was acknowledged for good.
    Completed {
        /// Which.
        packet_id: PacketId,
        /// How many messages have ended under this identifier.
        generation: u32,
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
}
