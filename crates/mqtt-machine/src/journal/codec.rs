//! Owns the bytes of a record: version, kind, fields, checksum. It must not know which rows they stand in.
//!
//! Integers are big-endian and numbers of commands are in groups of seven bits. A kind or a version that was given is never given
//! again; a reader knows every version before its own.

use alloc::string::String;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use super::{PublishKey, Record};
use crate::interface::{Acknowledgement, DropReason, Outcome};
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::types::{
    OpId, PacketId, Priority, QoS, RetainHandling, Subscription, SubscriptionOptions, TopicFilter, TopicName,
};
use crate::wire::property;

/// The version of everything that is written.
const VERSION: u8 = 1;
/// Version, kind and checksum.
const FRAME: usize = 6;

mod kind {
    pub(super) const CLIENT_ID: u8 = 1;
    pub(super) const SESSION_BEGAN: u8 = 2;
    pub(super) const QUEUED: u8 = 3;
    pub(super) const ASSIGNED: u8 = 4;
    pub(super) const RELEASED: u8 = 5;
    pub(super) const ENDED: u8 = 6;
    pub(super) const DISCARDED: u8 = 7;
    pub(super) const DOWNGRADED: u8 = 8;
    pub(super) const KEYED: u8 = 9;
    pub(super) const FORGOTTEN: u8 = 10;
    pub(super) const RECEIVED: u8 = 11;
    pub(super) const COMPLETED: u8 = 12;
    pub(super) const SUBSCRIBED: u8 = 13;
    pub(super) const UNSUBSCRIBED: u8 = 14;
    pub(super) const RESERVED: u8 = 15;
}

mod outcome {
    pub(super) const ACKNOWLEDGED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const EXPIRED: u8 = 3;
    pub(super) const DROPPED: u8 = 4;
    pub(super) const NOT_SENT: u8 = 5;
    pub(super) const UNKNOWN: u8 = 6;
    pub(super) const SENT: u8 = 7;
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// There are fewer bytes than any record has.
    Truncated,
    /// It was written by a newer version of this library, or is none of its records.
    Version(u8),
    /// The checksum is not that of the bytes before it: they were changed, or torn.
    Checksum,
    /// A kind of record that this version does not have.
    Kind(u8),
    /// This field is not what it must be.
    Field(&'static str),
    /// So many bytes stand behind the last field.
    Trailing(usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the record is cut off"),
            Self::Version(version) => {
                write!(f, "the record has version {version}, and this library reads 1 to {VERSION}")
            }
            Self::Checksum => f.write_str("the record's checksum is not that of its bytes"),
            Self::Kind(kind) => write!(f, "there is no record of kind {kind}"),
            Self::Field(field) => write!(f, "the record's {field} is not valid"),
            Self::Trailing(bytes) => write!(f, "{bytes} bytes follow the record's last field"),
        }
    }
}

impl core::error::Error for RecordError {}

/// CRC32C (Castagnoli), reflected, a byte at a time.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler, which would say so"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { (rest >> 1) ^ 0x82F6_3B78 } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

const TABLE: [u32; 256] = table();

/// The CRC32C of these bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let place = usize::from(crc as u8 ^ byte);
        (crc >> 8) ^ TABLE.get(place).copied().unwrap_or_default()
    })
}

/// The bytes of a record.
pub fn encode(record: &Record) -> Bytes {
    let payload = match record {
        Record::Queued { message, .. } => message.cost(),
        _ => 0,
    };
    let mut out = BytesMut::with_capacity(payload.saturating_add(32));
    out.put_u8(VERSION);
    fields(record, &mut out);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out.freeze()
}

fn fields(record: &Record, out: &mut BytesMut) {
    match record {
        Record::ClientId(client_id) => {
            out.put_u8(kind::CLIENT_ID);
            out.put_slice(client_id.as_bytes());
        }
        Record::SessionBegan { identity } => {
            out.put_u8(kind::SESSION_BEGAN);
            out.put_u64(*identity);
        }
        Record::Queued { op, message } => {
            out.put_u8(kind::QUEUED);
            put_op(out, *op);
            put_message(out, message);
        }
        Record::Assigned { op, packet_id } => put_owed(out, kind::ASSIGNED, *op, *packet_id),
        Record::Released { op, packet_id, after, turn } => {
            put_owed(out, kind::RELEASED, *op, *packet_id);
            put_op(out, *after);
            put_number(out, *turn);
        }
        Record::Ended { op, packet_id } => put_owed(out, kind::ENDED, *op, *packet_id),
        Record::Reserved { op } => {
            out.put_u8(kind::RESERVED);
            put_op(out, *op);
        }
        Record::Discarded { op } => {
            out.put_u8(kind::DISCARDED);
            put_op(out, *op);
        }
        Record::Downgraded { op, qos } => {
            out.put_u8(kind::DOWNGRADED);
            put_op(out, *op);
            out.put_u8(qos.to_u8());
        }
        Record::Keyed { op, key, outcome } => {
            out.put_u8(kind::KEYED);
            put_op(out, *op);
            put_bytes(out, key.as_bytes());
            put_outcome(out, outcome.as_ref());
        }
        Record::Forgotten { op } => {
            out.put_u8(kind::FORGOTTEN);
            put_op(out, *op);
        }
        Record::Received { packet_id, generation } => {
            put_incoming(out, kind::RECEIVED, *packet_id, *generation);
        }
        Record::Completed { packet_id, generation } => {
            put_incoming(out, kind::COMPLETED, *packet_id, *generation);
        }
        Record::Subscribed { subscription: Subscription { filter, options }, identifier } => {
            out.put_u8(kind::SUBSCRIBED);
            out.put_u8(options_byte(*options));
            out.put_u8(u8::from(identifier.is_some()));
            identifier.iter().for_each(|identifier| out.put_u32(*identifier));
            out.put_slice(filter.as_str().as_bytes());
        }
        Record::Unsubscribed { filter } => {
            out.put_u8(kind::UNSUBSCRIBED);
            out.put_slice(filter.as_str().as_bytes());
        }
    }
}

fn put_number(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_op(out: &mut BytesMut, op: OpId) {
    put_number(out, op.to_u64());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.put_slice(bytes);
}

fn put_owed(out: &mut BytesMut, kind: u8, op: OpId, packet_id: PacketId) {
    out.put_u8(kind);
    put_op(out, op);
    out.put_u16(packet_id.to_u16());
}

fn put_incoming(out: &mut BytesMut, kind: u8, packet_id: PacketId, generation: u32) {
    out.put_u8(kind);
    out.put_u16(packet_id.to_u16());
    out.put_u32(generation);
}

fn put_message(out: &mut BytesMut, message: &Message) {
    let Message { topic, payload, qos, retain, dup: _, priority, properties } = message;
    let urgency = match priority {
        Priority::Normal => 0,
        Priority::High => 1,
        Priority::Low => 2,
    };
    out.put_u8(qos.to_u8() | u8::from(*retain) << 2 | urgency << 3);
    put_bytes(out, topic.as_bytes());
    put_bytes(out, properties.as_properties().as_bytes());
    out.put_slice(payload);
}

fn put_outcome(out: &mut BytesMut, outcome: Option<&Outcome>) {
    let (code, detail) = match outcome {
        None => (0, None),
        Some(Outcome::Acknowledged(ack)) => (outcome::ACKNOWLEDGED, Some(ack.reason.to_u8())),
        Some(Outcome::Refused(ack)) => (outcome::REFUSED, Some(ack.reason.to_u8())),
        Some(Outcome::Expired) => (outcome::EXPIRED, None),
        Some(Outcome::Dropped(why)) => (
            outcome::DROPPED,
            Some(match why {
                DropReason::Offline => 1,
                DropReason::ConnectionLost => 2,
                DropReason::PacketTooLarge => 3,
                DropReason::NotSupported => 4,
                DropReason::Overflow => 5,
                DropReason::Superseded => 6,
            }),
        ),
        Some(Outcome::NotSent) => (outcome::NOT_SENT, None),
        Some(Outcome::Sent) => (outcome::SENT, None),
        // Nothing else ends a publication.
        Some(
            Outcome::Unknown
            | Outcome::StoreFailed
            | Outcome::Kept
            | Outcome::Subscribed(_)
            | Outcome::Unsubscribed(_)
            | Outcome::Disconnected(_),
        ) => (outcome::UNKNOWN, None),
    };
    out.put_u8(code);
    detail.iter().for_each(|detail| out.put_u8(*detail));
}

/// As the byte of a SUBSCRIBE.
const fn options_byte(options: SubscriptionOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::Send => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    options.qos.to_u8()
        | (options.no_local as u8) << 2
        | (options.retain_as_published as u8) << 3
        | handling << 4
}

/// A record from its bytes, whatever they are.
///
/// # Errors
/// What is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let Some((&version, _)) = bytes.split_first() else { return Err(RecordError::Truncated) };
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    if bytes.len() < FRAME {
        return Err(RecordError::Truncated);
    }
    let Some((body, crc)) = bytes.split_last_chunk() else { return Err(RecordError::Truncated) };
    if crc32c(body) != u32::from_be_bytes(*crc) {
        return Err(RecordError::Checksum);
    }
    let Some([_, kind, fields @ ..]) = Some(body) else { return Err(RecordError::Truncated) };
    let (rest, record) = match record(*kind, fields) {
        Ok(parsed) => parsed,
        Err(nom::Err::Error(error) | nom::Err::Failure(error)) => return Err(error),
        Err(nom::Err::Incomplete(_)) => return Err(RecordError::Truncated),
    };
    if rest.is_empty() { Ok(record) } else { Err(RecordError::Trailing(rest.len())) }
}

type Parsed<'a, T> = nom::IResult<&'a [u8], T, RecordError>;

impl nom::error::ParseError<&[u8]> for RecordError {
    fn from_error_kind(_: &[u8], _: nom::error::ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

const fn wrong<T>(field: &'static str) -> Result<T, nom::Err<RecordError>> {
    Err(nom::Err::Failure(RecordError::Field(field)))
}

fn record(kind: u8, input: &[u8]) -> Parsed<'_, Record> {
    match kind {
        kind::CLIENT_ID => {
            let (rest, client_id) = text(input, "client identifier")?;
            Ok((rest, Record::ClientId(String::from(client_id))))
        }
        kind::SESSION_BEGAN => {
            be_u64(input).map(|(rest, identity)| (rest, Record::SessionBegan { identity }))
        }
        kind::QUEUED => {
            let (rest, op) = op(input)?;
            let (rest, message) = message(rest)?;
            Ok((rest, Record::Queued { op, message }))
        }
        kind::ASSIGNED => {
            owed(input).map(|(rest, (op, packet_id))| (rest, Record::Assigned { op, packet_id }))
        }
        kind::RELEASED => {
            let (rest, (op, packet_id)) = owed(input)?;
            let (rest, after) = self::op(rest)?;
            let (rest, turn) = number(rest)?;
            Ok((rest, Record::Released { op, packet_id, after, turn }))
        }
        kind::ENDED => owed(input).map(|(rest, (op, packet_id))| (rest, Record::Ended { op, packet_id })),
        kind::RESERVED => op(input).map(|(rest, op)| (rest, Record::Reserved { op })),
        kind::DISCARDED => op(input).map(|(rest, op)| (rest, Record::Discarded { op })),
        kind::FORGOTTEN => op(input).map(|(rest, op)| (rest, Record::Forgotten { op })),
        kind::DOWNGRADED => {
            let (rest, op) = op(input)?;
            let (rest, qos) = be_u8(rest)?;
            let Some(qos) = QoS::from_u8(qos) else { return wrong("QoS") };
            Ok((rest, Record::Downgraded { op, qos }))
        }
        kind::KEYED => keyed(input),
        kind::RECEIVED => incoming(input)
            .map(|(rest, (packet_id, generation))| (rest, Record::Received { packet_id, generation })),
        kind::COMPLETED => incoming(input)
            .map(|(rest, (packet_id, generation))| (rest, Record::Completed { packet_id, generation })),
        kind::SUBSCRIBED => subscribed(input),
        kind::UNSUBSCRIBED => filter(input).map(|(rest, filter)| (rest, Record::Unsubscribed { filter })),
        unknown => Err(nom::Err::Failure(RecordError::Kind(unknown))),
    }
}

fn number(mut input: &[u8]) -> Parsed<'_, u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (rest, byte) = be_u8(input)?;
        input = rest;
        let group = u64::from(byte & 0x7F);
        let shifted = group.wrapping_shl(shift);
        if shifted.wrapping_shr(shift) != group {
            return wrong("number");
        }
        value |= shifted;
        if byte < 0x80 {
            // One spelling for each number.
            return if byte == 0 && shift > 0 { wrong("number") } else { Ok((input, value)) };
        }
    }
    wrong("number")
}

fn op(input: &[u8]) -> Parsed<'_, OpId> {
    number(input).map(|(rest, op)| (rest, OpId::new(op)))
}

fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, packet_id) = be_u16(input)?;
    PacketId::new(packet_id).map_or_else(|| wrong("packet identifier"), |packet_id| Ok((rest, packet_id)))
}

fn owed(input: &[u8]) -> Parsed<'_, (OpId, PacketId)> {
    let (rest, op) = op(input)?;
    packet_id(rest).map(|(rest, packet_id)| (rest, (op, packet_id)))
}

fn incoming(input: &[u8]) -> Parsed<'_, (PacketId, u32)> {
    let (rest, packet_id) = packet_id(input)?;
    be_u32(rest).map(|(rest, generation)| (rest, (packet_id, generation)))
}

fn view(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, length) = number(input)?;
    let Ok(length) = usize::try_from(length) else { return wrong("length") };
    take(length)(rest)
}

/// The rest, as text.
fn text<'a>(input: &'a [u8], field: &'static str) -> Parsed<'a, &'a str> {
    core::str::from_utf8(input).map_or_else(|_| wrong(field), |text| Ok((&[][..], text)))
}

fn filter(input: &[u8]) -> Parsed<'_, TopicFilter> {
    let (rest, text) = text(input, "topic filter")?;
    TopicFilter::new(text).map_or_else(|_| wrong("topic filter"), |filter| Ok((rest, filter)))
}

fn properties(bytes: &[u8]) -> Result<PropertiesBuf, nom::Err<RecordError>> {
    let mut list = PropertiesBuf::new();
    let mut left = bytes;
    while let Some((property, behind)) = property::split_first(left) {
        if list.push(property).is_err() {
            break;
        }
        left = behind;
    }
    // What was built again says whether all of it was understood, to the last bit.
    if list.as_properties().as_bytes() == bytes { Ok(list) } else { wrong("properties") }
}

/// A message, whose payload is the rest.
fn message(input: &[u8]) -> Parsed<'_, Message> {
    let (rest, flags) = be_u8(input)?;
    let priority = match flags >> 3 {
        0 => Priority::Normal,
        1 => Priority::High,
        2 => Priority::Low,
        _ => return wrong("flags"),
    };
    let Some(qos) = QoS::from_u8(flags & 3) else { return wrong("flags") };
    let (rest, topic) = view(rest)?;
    let topic = core::str::from_utf8(topic).ok().and_then(|topic| TopicName::new(topic).ok());
    let Some(topic) = topic else { return wrong("topic name") };
    let (payload, properties) = view(rest)?;
    let properties = self::properties(properties)?;
    let message = Message::new(topic, Bytes::copy_from_slice(payload)).qos(qos).retain(flags & 4 != 0);
    Ok((&[], Message { properties, priority, ..message }))
}

fn keyed(input: &[u8]) -> Parsed<'_, Record> {
    let (rest, op) = op(input)?;
    let (rest, key) = view(rest)?;
    let Ok(key) = PublishKey::new(key) else { return wrong("key") };
    let (rest, outcome) = ending(rest)?;
    Ok((rest, Record::Keyed { op, key, outcome }))
}

fn ending(input: &[u8]) -> Parsed<'_, Option<Outcome>> {
    let (rest, code) = be_u8(input)?;
    let outcome = match code {
        0 => None,
        outcome::ACKNOWLEDGED | outcome::REFUSED => {
            let (rest, reason) = be_u8(rest)?;
            let Some(reason) = ReasonCode::from_u8(reason) else { return wrong("reason code") };
            let ack = Acknowledgement::new(reason, PropertiesBuf::new());
            let acknowledged = code == outcome::ACKNOWLEDGED;
            let outcome = if acknowledged { Outcome::Acknowledged(ack) } else { Outcome::Refused(ack) };
            return Ok((rest, Some(outcome)));
        }
        outcome::DROPPED => {
            let (rest, why) = be_u8(rest)?;
            let why = match why {
                1 => DropReason::Offline,
                2 => DropReason::ConnectionLost,
                3 => DropReason::PacketTooLarge,
                4 => DropReason::NotSupported,
                5 => DropReason::Overflow,
                6 => DropReason::Superseded,
                _ => return wrong("reason of a drop"),
            };
            return Ok((rest, Some(Outcome::Dropped(why))));
        }
        outcome::EXPIRED => Some(Outcome::Expired),
        outcome::NOT_SENT => Some(Outcome::NotSent),
        outcome::UNKNOWN => Some(Outcome::Unknown),
        outcome::SENT => Some(Outcome::Sent),
        _ => return wrong("outcome"),
    };
    Ok((rest, outcome))
}

fn subscribed(input: &[u8]) -> Parsed<'_, Record> {
    let (rest, byte) = be_u8(input)?;
    let qos = QoS::from_u8(byte & 3);
    let handling = match byte >> 4 {
        0 => Some(RetainHandling::Send),
        1 => Some(RetainHandling::SendIfNew),
        2 => Some(RetainHandling::DoNotSend),
        _ => None,
    };
    let (Some(qos), Some(retain_handling)) = (qos, handling) else { return wrong("options") };
    let (no_local, retain_as_published) = (byte & 4 != 0, byte & 8 != 0);
    let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
    let (rest, has) = be_u8(rest)?;
    let (rest, identifier) = match has {
        0 => (rest, None),
        1 => be_u32(rest).map(|(rest, identifier)| (rest, Some(identifier)))?,
        _ => return wrong("identifier"),
    };
    let (rest, filter) = filter(rest)?;
    let subscription = Subscription { filter, options };
    Ok((rest, Record::Subscribed { subscription, identifier }))
}
