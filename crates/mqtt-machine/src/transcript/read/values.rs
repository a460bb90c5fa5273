//! Owns the values within a transcript on their way in, field by field as `docs/transcripts.md` says.
//! It must not know entries.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use nom::number::complete::be_u8;

use crate::config::{Authentication, Backoff, Config, Credentials, Limits, Redirection, TopicAliases, Will};
use crate::error::TopicError;
use crate::interface::{
    Answer, Command, Disconnect, Input, Receipt, StoreError, Subscribe, TransportEvent, Unsubscribe,
};
use crate::journal::Record;
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::{
    JournalSeq, OpId, PacketId, Secret, Server, Subscription, SubscriptionOptions, TopicFilter, TopicName,
    TransportId,
};
use crate::wire::property;

use super::super::sink::Code;
use super::super::tag;
use super::{Cursor, Parsed, Wrong, fail, view};

/// An unsigned number in groups of seven bits, the lowest first.
pub(super) fn number(input: &[u8]) -> Parsed<'_, u64> {
    let mut value = 0_u64;
    let mut rest = input;
    for shift in (0..64).step_by(7) {
        let (next, byte) = be_u8(rest)?;
        rest = next;
        let group = u64::from(byte & 0x7F);
        let shifted = group.wrapping_shl(shift);
        if shifted.wrapping_shr(shift) != group {
            return fail(input, Wrong::Number);
        }
        value |= shifted;
        if byte < 0x80 {
            return Ok((rest, value));
        }
    }
    fail(input, Wrong::Number)
}

/// A number that fits into a smaller type.
fn narrow<T: TryFrom<u64>>(input: &[u8]) -> Parsed<'_, T> {
    let (rest, value) = number(input)?;
    match T::try_from(value) {
        Ok(value) => Ok((rest, value)),
        Err(_) => fail(input, Wrong::Number),
    }
}

pub(super) fn size(input: &[u8]) -> Parsed<'_, usize> {
    narrow(input)
}

pub(super) fn flag(input: &[u8]) -> Parsed<'_, bool> {
    match be_u8(input)? {
        (rest, 0) => Ok((rest, false)),
        (rest, 1) => Ok((rest, true)),
        _ => fail(input, Wrong::Number),
    }
}

pub(super) fn instant(input: &[u8]) -> Parsed<'_, Instant> {
    number(input).map(|(rest, micros)| (rest, Instant::from_micros(micros)))
}

pub(super) fn duration(input: &[u8]) -> Parsed<'_, Duration> {
    let mut cursor = Cursor(input);
    let seconds = cursor.read(number)?;
    match cursor.read(narrow::<u32>)? {
        nanos @ 0..1_000_000_000 => cursor.done(Duration::new(seconds, nanos)),
        _ => fail(input, Wrong::Number),
    }
}

pub(super) fn owned(input: &[u8]) -> Parsed<'_, Bytes> {
    view(input).map(|(rest, bytes)| (rest, Bytes::copy_from_slice(bytes)))
}

fn secret(input: &[u8]) -> Parsed<'_, Secret> {
    owned(input).map(|(rest, bytes)| (rest, Secret::new(bytes)))
}

fn text(input: &[u8]) -> Parsed<'_, &str> {
    let (rest, bytes) = view(input)?;
    match core::str::from_utf8(bytes) {
        Ok(text) => Ok((rest, text)),
        Err(_) => fail(input, Wrong::Text),
    }
}

fn string(input: &[u8]) -> Parsed<'_, String> {
    text(input).map(|(rest, text)| (rest, text.into()))
}

fn server(input: &[u8]) -> Parsed<'_, Server> {
    text(input).map(|(rest, text)| (rest, Server::new(text)))
}

fn topical<T>(input: &[u8], new: fn(&str) -> Result<T, TopicError>) -> Parsed<'_, T> {
    let (rest, text) = text(input)?;
    match new(text) {
        Ok(value) => Ok((rest, value)),
        Err(error) => fail(input, Wrong::Topic(error)),
    }
}

fn topic_filter(input: &[u8]) -> Parsed<'_, TopicFilter> {
    topical(input, TopicFilter::new)
}

/// Properties in their wire form, as a caller may have put them together: in any packet, each with a legal value.
fn properties(input: &[u8]) -> Parsed<'_, PropertiesBuf> {
    let (rest, bytes) = view(input)?;
    let mut list = PropertiesBuf::new();
    let mut left = bytes;
    while let Some((property, behind)) = property::split_first(left) {
        if list.push(property).is_err() {
            break;
        }
        left = behind;
    }
    // What was built again says whether all of it was understood, to the last bit.
    if list.as_properties().as_bytes() != bytes {
        return fail(input, Wrong::Properties);
    }
    Ok((rest, list))
}

pub(super) fn option<'a, T>(
    input: &'a [u8],
    parser: impl FnMut(&'a [u8]) -> Parsed<'a, T>,
) -> Parsed<'a, Option<T>> {
    let mut cursor = Cursor(input);
    let value = if cursor.read(flag)? { Some(cursor.read(parser)?) } else { None };
    cursor.done(value)
}

/// A count and that many values. Every value takes at least a byte, so a count that lies ends with the input.
fn list<'a, T>(input: &'a [u8], mut parser: impl FnMut(&'a [u8]) -> Parsed<'a, T>) -> Parsed<'a, Vec<T>> {
    let mut cursor = Cursor(input);
    let mut values = Vec::new();
    for _ in 0..cursor.read(size)? {
        values.push(cursor.read(&mut parser)?);
    }
    cursor.done(values)
}

fn code<T: Code>(input: &[u8]) -> Parsed<'_, T> {
    let (rest, byte) = be_u8(input)?;
    match T::from_code(byte) {
        Some(value) => Ok((rest, value)),
        None => fail(input, Wrong::Number),
    }
}

fn reason(input: &[u8]) -> Parsed<'_, ReasonCode> {
    let (rest, byte) = be_u8(input)?;
    match ReasonCode::from_u8(byte) {
        Some(value) => Ok((rest, value)),
        None => fail(input, Wrong::Unknown { what: "reason code", code: byte }),
    }
}

fn op(input: &[u8]) -> Parsed<'_, OpId> {
    number(input).map(|(rest, value)| (rest, OpId::new(value)))
}

fn transport_id(input: &[u8]) -> Parsed<'_, TransportId> {
    number(input).map(|(rest, value)| (rest, TransportId::new(value)))
}

fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, value) = narrow(input)?;
    match PacketId::new(value) {
        Some(value) => Ok((rest, value)),
        None => fail(input, Wrong::Number),
    }
}

fn credentials(input: &[u8]) -> Parsed<'_, Credentials> {
    let mut cursor = Cursor(input);
    let username = cursor.read(|input| option(input, string))?;
    let password = cursor.read(|input| option(input, secret))?;
    cursor.done(Credentials { username, password })
}

fn authentication(input: &[u8]) -> Parsed<'_, Authentication> {
    let mut cursor = Cursor(input);
    let method = cursor.read(string)?;
    let initial_data = cursor.read(|input| option(input, secret))?;
    cursor.done(Authentication { method, initial_data })
}

fn will(input: &[u8]) -> Parsed<'_, Will> {
    message(input).map(|(rest, message)| (rest, Will { message }))
}

pub(super) fn config(input: &[u8]) -> Parsed<'_, Config> {
    let mut cursor = Cursor(input);
    let config = Config {
        servers: cursor.read(|input| list(input, server))?,
        version: cursor.read(code)?,
        bridge: cursor.read(flag)?,
        client_id: cursor.read(string)?,
        clean_start: cursor.read(code)?,
        session_expiry: cursor.read(duration)?,
        credentials: cursor.read(credentials)?,
        prepare: cursor.read(flag)?,
        will: cursor.read(|input| option(input, will))?,
        authentication: cursor.read(|input| option(input, authentication))?,
        keep_alive: cursor.read(duration)?,
        ping_timeout: cursor.read(duration)?,
        connect_timeout: cursor.read(duration)?,
        close_timeout: cursor.read(duration)?,
        backoff: cursor.read(backoff)?,
        receive_maximum: cursor.read(narrow)?,
        maximum_packet_size: cursor.read(narrow)?,
        topic_alias_maximum: cursor.read(narrow)?,
        topic_aliases: TopicAliases { maximum: cursor.read(narrow)?, automatic: cursor.read(flag)? },
        unsupported: cursor.read(code)?,
        redirection: cursor.read(redirection)?,
        fallback: cursor.read(|input| option(input, code))?,
        request_problem_information: cursor.read(flag)?,
        request_response_information: cursor.read(flag)?,
        user_properties: cursor.read(properties)?,
        offline: cursor.read(code)?,
        lost_session: cursor.read(code)?,
        limits: cursor.read(limits)?,
        durable: cursor.read(flag)?,
    };
    cursor.done(config)
}

fn redirection(input: &[u8]) -> Parsed<'_, Redirection> {
    let mut cursor = Cursor(input);
    let redirection = match cursor.read(be_u8)? {
        0 => Redirection::Ignore,
        1 => Redirection::Follow { hops: cursor.read(be_u8)? },
        code => return fail(input, Wrong::Unknown { what: "redirection", code }),
    };
    cursor.done(redirection)
}

fn backoff(input: &[u8]) -> Parsed<'_, Backoff> {
    let mut cursor = Cursor(input);
    let backoff = Backoff {
        first: cursor.read(duration)?,
        factor: cursor.read(narrow)?,
        cap: cursor.read(duration)?,
        jitter: cursor.read(flag)?,
        attempts: cursor.read(|input| option(input, narrow))?,
        stable_after: cursor.read(duration)?,
    };
    cursor.done(backoff)
}

fn limits(input: &[u8]) -> Parsed<'_, Limits> {
    let mut cursor = Cursor(input);
    let limits = Limits {
        outgoing_messages: cursor.read(size)?,
        outgoing_bytes: cursor.read(size)?,
        requests: cursor.read(size)?,
        subscriptions: cursor.read(size)?,
        incoming_bytes: cursor.read(size)?,
        in_flight: cursor.read(narrow)?,
    };
    cursor.done(limits)
}

fn message(input: &[u8]) -> Parsed<'_, Message> {
    let mut cursor = Cursor(input);
    let message = Message {
        topic: cursor.read(|input| topical(input, TopicName::new))?,
        payload: cursor.read(owned)?,
        qos: cursor.read(code)?,
        retain: cursor.read(flag)?,
        dup: cursor.read(flag)?,
        properties: cursor.read(properties)?,
    };
    cursor.done(message)
}

fn subscription(input: &[u8]) -> Parsed<'_, Subscription> {
    let mut cursor = Cursor(input);
    let subscription = Subscription {
        filter: cursor.read(topic_filter)?,
        options: SubscriptionOptions {
            qos: cursor.read(code)?,
            no_local: cursor.read(flag)?,
            retain_as_published: cursor.read(flag)?,
            retain_handling: cursor.read(code)?,
        },
    };
    cursor.done(subscription)
}

/// A record; `None` at the end of them.
pub(super) fn record(input: &[u8]) -> Parsed<'_, Option<Record>> {
    use tag::record as tag;
    let mut cursor = Cursor(input);
    let record = match cursor.read(be_u8)? {
        tag::END => return cursor.done(None),
        tag::CLIENT_ID => Record::ClientId(cursor.read(string)?),
        tag::QUEUED => Record::Queued { op: cursor.read(op)?, message: cursor.read(message)? },
        tag::ASSIGNED => Record::Assigned { op: cursor.read(op)?, packet_id: cursor.read(packet_id)? },
        tag::RELEASED => Record::Released { packet_id: cursor.read(packet_id)? },
        tag::ENDED => Record::Ended { packet_id: cursor.read(packet_id)? },
        tag::DISCARDED => Record::Discarded { op: cursor.read(op)? },
        tag::DOWNGRADED => Record::Downgraded { op: cursor.read(op)?, qos: cursor.read(code)? },
        tag::RECEIVED => Record::Received { packet_id: cursor.read(packet_id)? },
        tag::COMPLETED => Record::Completed { packet_id: cursor.read(packet_id)? },
        tag::SUBSCRIBED => Record::Subscribed {
            subscription: cursor.read(subscription)?,
            identifier: cursor.read(|input| option(input, narrow))?,
        },
        tag::UNSUBSCRIBED => Record::Unsubscribed { filter: cursor.read(topic_filter)? },
        tag::SESSION_LOST => Record::SessionLost { policy: cursor.read(code)? },
        code => return fail(input, Wrong::Unknown { what: "record", code }),
    };
    cursor.done(Some(record))
}

/// The input whose tag was read; `None` for a tag of none.
pub(super) fn input(input: &[u8], code: u8) -> Parsed<'_, Option<Input>> {
    use tag::call as tag;
    let mut cursor = Cursor(input);
    let input = match code {
        tag::TRANSPORT => cursor.read(transport)?,
        tag::SENT => Input::Sent { id: cursor.read(transport_id)?, bytes: cursor.read(size)? },
        tag::STORED => Input::Stored(Ok(JournalSeq::new(cursor.read(number)?))),
        tag::STORE_FAILED => Input::Stored(Err(StoreError(cursor.read(string)?))),
        tag::TIMEOUT => Input::Timeout,
        tag::COMMAND => Input::Command(cursor.read(command)?),
        tag::ANSWER => Input::Answer(cursor.read(answer)?),
        _ => return cursor.done(None),
    };
    cursor.done(Some(input))
}

fn transport(input: &[u8]) -> Parsed<'_, Input> {
    use tag::transport as tag;
    let mut cursor = Cursor(input);
    let code = cursor.read(be_u8)?;
    let id = cursor.read(transport_id)?;
    let event = match code {
        tag::OPENED => TransportEvent::Opened,
        tag::OPEN_FAILED => TransportEvent::OpenFailed(cursor.read(string)?),
        tag::CLOSED => TransportEvent::Closed(cursor.read(|input| option(input, string))?),
        code => return fail(input, Wrong::Unknown { what: "transport event", code }),
    };
    cursor.done(Input::Transport { id, event })
}

fn command(input: &[u8]) -> Parsed<'_, Command> {
    use tag::command as tag;
    let mut cursor = Cursor(input);
    let command = match cursor.read(be_u8)? {
        tag::PUBLISH => Command::Publish(cursor.read(message)?),
        tag::SUBSCRIBE => Command::Subscribe(Subscribe {
            subscriptions: cursor.read(|input| list(input, subscription))?,
            properties: cursor.read(properties)?,
        }),
        tag::UNSUBSCRIBE => Command::Unsubscribe(Unsubscribe {
            filters: cursor.read(|input| list(input, topic_filter))?,
            properties: cursor.read(properties)?,
        }),
        tag::SETTLE => Command::Settle(cursor.read(receipt)?, cursor.read(reason)?),
        tag::CONNECT => Command::Connect,
        tag::RECONNECT => Command::Reconnect,
        tag::DISCONNECT => Command::Disconnect(Disconnect {
            drain: cursor.read(duration)?,
            reason: cursor.read(reason)?,
            properties: cursor.read(properties)?,
        }),
        tag::REAUTHENTICATE => Command::Reauthenticate(cursor.read(|input| option(input, secret))?),
        tag::RECONFIGURE => Command::Reconfigure(Arc::new(cursor.read(config)?)),
        code => return fail(input, Wrong::Unknown { what: "command", code }),
    };
    cursor.done(command)
}

fn receipt(input: &[u8]) -> Parsed<'_, Receipt> {
    let mut cursor = Cursor(input);
    let receipt =
        Receipt { serial: cursor.read(number)?, bytes: cursor.read(size)?, acknowledges: cursor.read(flag)? };
    cursor.done(receipt)
}

fn answer(input: &[u8]) -> Parsed<'_, Answer> {
    use tag::answer as tag;
    let mut cursor = Cursor(input);
    let code = cursor.read(be_u8)?;
    let id = cursor.read(transport_id)?;
    let answer = match code {
        tag::PREPARED | tag::PREPARED_WITH_DATA => Answer::Prepared {
            id,
            server: cursor.read(server)?,
            credentials: cursor.read(|input| option(input, credentials))?,
            initial_data: match code {
                tag::PREPARED_WITH_DATA => Some(cursor.read(secret)?),
                _ => None,
            },
        },
        tag::NOT_PREPARED => Answer::NotPrepared { id, why: cursor.read(string)? },
        tag::AUTHENTICATE => Answer::Authenticate { id, data: cursor.read(|input| option(input, secret))? },
        code => return fail(input, Wrong::Unknown { what: "answer", code }),
    };
    cursor.done(answer)
}
