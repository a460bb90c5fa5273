//! Owns the table of rows in which a session is kept: what each record puts and removes, and the way back to records.
//! It must not know where the table is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::Record;
use super::codec::{self, RecordError};
use crate::types::{OpId, PacketId, QoS, TopicFilter};

/// The first byte of a row's key says what stands in it. One that was given is never given again.
mod table {
    pub(super) const CLIENT_ID: u8 = 1;
    pub(super) const SESSION: u8 = 2;
    /// Messages that wait or may be sent again, by operation.
    pub(super) const MESSAGE: u8 = 3;
    /// Packet identifiers and what is owed under them, by operation.
    pub(super) const OWED: u8 = 4;
    /// A lowered QoS, by operation.
    pub(super) const QOS: u8 = 5;
    /// What is known of the server's packet identifiers.
    pub(super) const INCOMING: u8 = 6;
    pub(super) const SUBSCRIPTION: u8 = 7;
    /// Keys of users and outcomes, by operation.
    pub(super) const KEYED: u8 = 8;
    pub(super) const RESERVED: u8 = 9;
}

/// A change of one row, or of all rows of a kind. Changes of one [`Record`] belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row with this key has this value from now on.
    Put {
        /// 1 to 65,536 bytes.
        key: Bytes,
        /// At most the bytes of a message and 64 more.
        value: Bytes,
    },
    /// There is no row with this key any more; there may have been none.
    Remove {
        /// Which.
        key: Bytes,
    },
    /// There is no row any more whose key begins with this byte.
    RemoveAll {
        /// The byte.
        first_byte: u8,
    },
}

impl Change {
    /// Carries it out in a table in memory.
    pub fn apply(self, table: &mut BTreeMap<Bytes, Bytes>) {
        match self {
            Self::Put { key, value } => {
                table.insert(key, value);
            }
            Self::Remove { key } => {
                table.remove(&key);
            }
            Self::RemoveAll { first_byte } => table.retain(|key, _| key.first() != Some(&first_byte)),
        }
    }

    /// The bytes that it brings.
    pub fn len(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len().saturating_add(value.len()),
            Self::Remove { key } => key.len(),
            Self::RemoveAll { .. } => 1,
        }
    }

    /// No change is without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why rows are no session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The value of this row is no record.
    Record {
        /// The row.
        key: Bytes,
        /// What is wrong with its value.
        error: RecordError,
    },
    /// The record in this row belongs into another one, or into none.
    Misplaced {
        /// The row.
        key: Bytes,
    },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Record { key, .. } | Self::Misplaced { key }) = self;
        f.write_str("row ")?;
        key.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        match self {
            Self::Record { error, .. } => write!(f, ": {error}"),
            Self::Misplaced { .. } => f.write_str(": its record does not belong there"),
        }
    }
}

impl core::error::Error for RowError {}

fn by_op(table: u8, op: OpId) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(table);
    key.put_u64(op.to_u64());
    key.freeze()
}

fn by_id(packet_id: PacketId) -> Bytes {
    let [high, low] = packet_id.to_u16().to_be_bytes();
    Bytes::copy_from_slice(&[table::INCOMING, high, low])
}

fn by_filter(filter: &TopicFilter) -> Bytes {
    let filter = filter.as_str().as_bytes();
    let mut key = BytesMut::with_capacity(filter.len().saturating_add(1));
    key.put_u8(table::SUBSCRIPTION);
    key.put_slice(filter);
    key.freeze()
}

/// The row that a record stands in, if it stands in one.
fn place(record: &Record) -> Option<Bytes> {
    Some(match record {
        Record::ClientId(_) => Bytes::from_static(&[table::CLIENT_ID]),
        Record::SessionBegan { .. } => Bytes::from_static(&[table::SESSION]),
        Record::Reserved { .. } => Bytes::from_static(&[table::RESERVED]),
        Record::Queued { op, .. } => by_op(table::MESSAGE, *op),
        Record::Assigned { op, .. } | Record::Released { op, .. } => by_op(table::OWED, *op),
        // At QoS 0 nothing is owed.
        Record::Downgraded { qos: QoS::AtMostOnce, .. } => return None,
        Record::Downgraded { op, .. } => by_op(table::QOS, *op),
        Record::Keyed { op, .. } => by_op(table::KEYED, *op),
        Record::Received { packet_id, .. } | Record::Completed { packet_id, .. } => by_id(*packet_id),
        Record::Subscribed { subscription, .. } => by_filter(&subscription.filter),
        Record::Ended { .. }
        | Record::Discarded { .. }
        | Record::Forgotten { .. }
        | Record::Unsubscribed { .. } => return None,
    })
}

/// What a record changes in the table, given to `change` in order. A store that carries out the changes of all records, in order,
/// holds what is owed and no more.
pub fn changes(record: &Record, change: &mut impl FnMut(Change)) {
    match record {
        Record::SessionBegan { .. } => {
            change(Change::RemoveAll { first_byte: table::OWED });
            change(Change::RemoveAll { first_byte: table::INCOMING });
        }
        Record::Released { op, .. } => {
            change(Change::Remove { key: by_op(table::MESSAGE, *op) });
        }
        Record::Ended { op, .. } => {
            for table in [table::MESSAGE, table::OWED, table::QOS] {
                change(Change::Remove { key: by_op(table, *op) });
            }
        }
        Record::Discarded { op } => {
            for table in [table::MESSAGE, table::QOS] {
                change(Change::Remove { key: by_op(table, *op) });
            }
        }
        Record::Downgraded { op, qos: QoS::AtMostOnce } => {
            for table in [table::MESSAGE, table::QOS, table::KEYED] {
                change(Change::Remove { key: by_op(table, *op) });
            }
        }
        Record::Forgotten { op } => change(Change::Remove { key: by_op(table::KEYED, *op) }),
        Record::Unsubscribed { filter } => change(Change::Remove { key: by_filter(filter) }),
        _ => {}
    }
    if let Some(key) = place(record) {
        change(Change::Put { key, value: codec::encode(record) });
    }
}

/// Where a record stands among those that a table is read as: what others refer to comes first.
const fn rank(record: &Record) -> (u8, u64, u64) {
    match record {
        Record::SessionBegan { .. } => (0, 0, 0),
        Record::ClientId(_) => (1, 0, 0),
        Record::Keyed { op, outcome: None, .. } => (2, op.to_u64(), 0),
        Record::Queued { op, .. } => (3, op.to_u64(), 0),
        Record::Downgraded { op, .. } => (4, op.to_u64(), 0),
        Record::Assigned { op, .. } => (5, op.to_u64(), 0),
        Record::Released { after, turn, .. } => (6, after.to_u64(), *turn),
        Record::Keyed { op, .. } => (7, op.to_u64(), 0),
        Record::Received { packet_id, .. } | Record::Completed { packet_id, .. } => {
            (8, packet_id.to_u16() as u64, 0)
        }
        _ => (9, 0, 0),
    }
}

/// The records whose fold is the session of a table, from its rows in any order: for
/// [`Machine::restore`](crate::Machine::restore), which says whether they follow from each other.
///
/// # Errors
/// The first row that is not one.
pub fn records<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    rows: impl IntoIterator<Item = (K, V)>,
) -> Result<Vec<Record>, RowError> {
    let mut records = Vec::new();
    for (key, value) in rows {
        let key = || Bytes::copy_from_slice(key.as_ref());
        let record = codec::decode(value.as_ref()).map_err(|error| RowError::Record { key: key(), error })?;
        if place(&record) != Some(key()) {
            return Err(RowError::Misplaced { key: key() });
        }
        records.push(record);
    }
    records.sort_by_key(rank);
    Ok(records)
}
