//! Owns what holds for the bytes of records, and for the rows of a store, whatever they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arbitrary::{Arbitrary, Unstructured};
use bytes::{BufMut, Bytes, BytesMut};
use mqtt_machine::journal::{self, Change, PublishKey, Record};
use mqtt_machine::{
    Config, Instant, Machine, Message, OpId, PacketId, QoS, Server, SessionSnapshot, Subscription,
    TopicFilter,
};
use mqtt_machine_store::{Store, StoreFile};
use redb::backends::InMemoryBackend;

/// The version of records.
const VERSION: u8 = 1;
/// Rows of one input, so that one is over soon.
const ROWS: usize = 64;

/// The CRC-32C of these bytes, bit by bit: another one than that of the library.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// A fuzzer does not find checksums.
fn sealed(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(VERSION);
    out.put_slice(body);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out.freeze()
}

/// Any bytes are a record or an error, and what is a record is written again as the same bytes, and makes rows that are records.
pub(crate) fn record(data: &[u8]) {
    for bytes in [Bytes::copy_from_slice(data), sealed(data)] {
        let Ok(record) = journal::decode(&bytes) else { continue };
        let again = journal::encode(&record);
        assert_eq!(journal::decode(&again), Ok(record.clone()), "{record:?}");
        assert!(again.len() <= bytes.len(), "{record:?}: {} bytes became {}", bytes.len(), again.len());
        let mut table = BTreeMap::new();
        journal::changes(&record, &mut |change| change.apply(&mut table));
        journal::records(&table).unwrap_or_else(|error| panic!("{record:?}: {error}"));
        // A byte that changed is seen.
        if let Some(mut torn) = Some(again.to_vec()).filter(|_| !data.is_empty()) {
            let at = usize::from(data[0]) % torn.len();
            torn[at] ^= 1;
            assert!(journal::decode(&torn).is_err(), "{record:?} with byte {at} changed");
        }
    }
}

/// One row, or what makes some.
#[derive(Arbitrary, Debug)]
enum Row {
    /// As it comes.
    Raw {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// With the right checksum.
    Sealed {
        key: Vec<u8>,
        body: Vec<u8>,
    },
    Record(Made),
    /// The value of one row under the key of another.
    Moved {
        from: u8,
        to: u8,
    },
    Removed(u8),
}

/// A record of few different names, so that records meet.
#[derive(Arbitrary, Debug)]
enum Made {
    ClientId(u8),
    Began(u64),
    Reserved(u8),
    Queued { op: u8, qos: bool, payload: u8 },
    Assigned { op: u8, id: u8 },
    Released { op: u8, id: u8, after: u8, turn: u8 },
    Ended { op: u8, id: u8 },
    Discarded(u8),
    Downgraded { op: u8, qos: u8 },
    Keyed { op: u8, key: u8 },
    Forgotten(u8),
    Received { id: u8, generation: u8 },
    Completed { id: u8, generation: u8 },
    Subscribed { filter: u8, identifier: Option<u8> },
    Unsubscribed(u8),
}

impl Made {
    fn record(&self) -> Option<Record> {
        let op = |op: &u8| OpId::new(u64::from(op % 16));
        let id = |id: &u8| PacketId::new(u16::from(id % 16));
        let filter = |name: &u8| TopicFilter::new(format!("f/{}", name % 4).as_str()).ok();
        Some(match self {
            Self::ClientId(name) => Record::ClientId(format!("client-{name}")),
            Self::Began(identity) => Record::SessionBegan { identity: *identity },
            Self::Reserved(last) => Record::Reserved { op: op(last) },
            Self::Queued { op: of, qos, payload } => {
                let qos = if *qos { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                let message = Message::to("a/b", vec![*payload; usize::from(*payload)]).ok()?.qos(qos);
                Record::Queued { op: op(of), message }
            }
            Self::Assigned { op: of, id: as_id } => Record::Assigned { op: op(of), packet_id: id(as_id)? },
            Self::Released { op: of, id: as_id, after, turn } => Record::Released {
                op: op(of),
                packet_id: id(as_id)?,
                after: op(after),
                turn: u64::from(*turn),
            },
            Self::Ended { op: of, id: as_id } => Record::Ended { op: op(of), packet_id: id(as_id)? },
            Self::Discarded(of) => Record::Discarded { op: op(of) },
            Self::Downgraded { op: of, qos } => {
                Record::Downgraded { op: op(of), qos: QoS::from_u8(qos % 3)? }
            }
            Self::Keyed { op: of, key } => {
                Record::Keyed { op: op(of), key: PublishKey::new([*key]).ok()?, outcome: None }
            }
            Self::Forgotten(of) => Record::Forgotten { op: op(of) },
            Self::Received { id: of, generation } => {
                Record::Received { packet_id: id(of)?, generation: u32::from(*generation) }
            }
            Self::Completed { id: of, generation } => {
                Record::Completed { packet_id: id(of)?, generation: u32::from(*generation) }
            }
            Self::Subscribed { filter: name, identifier } => Record::Subscribed {
                subscription: Subscription::new(filter(name)?, QoS::AtLeastOnce),
                identifier: identifier.map(u32::from),
            },
            Self::Unsubscribed(name) => Record::Unsubscribed { filter: filter(name)? },
        })
    }
}

type Table = BTreeMap<Bytes, Bytes>;

fn rows(data: &[u8]) -> Table {
    let mut choices = Unstructured::new(data);
    let mut table = Table::new();
    let nth = |table: &Table, at: u8| table.keys().nth(usize::from(at) % table.len().max(1)).cloned();
    for _ in 0..ROWS {
        if choices.is_empty() {
            break;
        }
        let Ok(row) = Row::arbitrary(&mut choices) else { break };
        match row {
            Row::Raw { key, value } => drop(table.insert(key.into(), value.into())),
            Row::Sealed { key, body } => drop(table.insert(key.into(), sealed(&body))),
            Row::Record(made) => {
                let Some(record) = made.record() else { continue };
                journal::changes(&record, &mut |change| change.apply(&mut table));
            }
            Row::Moved { from, to } => {
                let (Some(from), Some(to)) = (nth(&table, from), nth(&table, to)) else { continue };
                if let Some(value) = table.remove(&from) {
                    table.insert(to, value);
                }
            }
            Row::Removed(at) => {
                if let Some(key) = nth(&table, at) {
                    table.remove(&key);
                }
            }
        }
    }
    table
}

fn restore(records: Vec<Record>) -> Option<SessionSnapshot> {
    let config = Arc::new(Config::new(Server::new("-")).durable(true));
    let machine = Machine::restore(config, 0, Instant::ZERO, Duration::ZERO, records).ok()?;
    Some(machine.session())
}

/// Any rows are a session or an error; a session has rows of its own that are the same one; and what a repair leaves is a session.
pub(crate) fn store(data: &[u8]) {
    let table = rows(data);
    let whole = journal::records(&table).ok().and_then(|records| {
        let session = restore(records.clone())?;
        let mut again = Table::new();
        for record in &records {
            journal::changes(record, &mut |change| change.apply(&mut again));
        }
        let records = journal::records(&again).expect("rows of records are records");
        assert_eq!(restore(records).as_ref(), Some(&session), "{table:?}");
        Some(session)
    });

    let file = StoreFile::over(InMemoryBackend::new()).expect("an empty store");
    let changes: Vec<Change> =
        table.iter().map(|(key, value)| Change::Put { key: key.clone(), value: value.clone() }).collect();
    file.client("one").expect("a store").apply(&changes, SystemTime::UNIX_EPOCH).expect("it is written");
    let found = file.inspect("one").expect("it is read");
    assert_eq!((found.rows, found.session.ok()), (table.len(), whole.clone()));
    let removed = file.repair_client("one").expect("it is repaired");
    assert_eq!(removed.is_empty(), whole.is_some(), "{removed:?} of {table:?}");
    let found = file.inspect("one").expect("it is read");
    assert!(found.session.is_ok(), "{found:?} after {removed:?} of {table:?}");
    assert_eq!(found.rows + removed.len(), table.len());
}
