//! Owns the values within a transcript on their way in, field by field as `docs/transcripts.md` says.
//! It must not know entries.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::config::{
    Authentication, Backoff, Behind, Config, Credentials, Limits, Overflow, Redirection, TopicAliases,
    Watchdog, Will,
};
use crate::error::TopicError;
use crate::interface::{
    Answer, Command, Disconnect, Input, Receipt, StoreError, Subscribe, TransportEvent, Unsubscribe,
};
use crate::journal::{self, PublishKey, Record};
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::{
    JournalSeq, Priority, Secret, Server, Subscription, SubscriptionOptions, TopicFilter, TopicName,
    TransportId,
};
use crate::wire::property;

use super::super::sink::Code;
use super::super::tag;
use super::{Cursor, Read, Wrong, fail, unknown};

pub(super) fn byte(from: &mut Cursor<'_>) -> Read<u8> {
    match from.0 {
        [byte, rest @ ..] => {
            from.0 = rest;
            Ok(*byte)
        }
        [] => fail(from.0, Wrong::Truncated),
    }
}

/// An unsigned number in groups of seven bits, the lowest first.
pub(super) fn number(from: &mut Cursor<'_>) -> Read<u64> {
    let start = from.0;
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(from)?;
        let group = u64::from(byte & 0x7F);
        let shifted = group.wrapping_shl(shift);
        if shifted.wrapping_shr(shift) != group {
            return fail(start, Wrong::Number);
        }
        value |= shifted;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    fail(start, Wrong::Number)
}

/// A number that fits into a smaller type.
fn narrow<T: TryFrom<u64>>(from: &mut Cursor<'_>) -> Read<T> {
    let start = from.0;
    T::try_from(number(from)?).or_else(|_| fail(start, Wrong::Number))
}

pub(super) fn size(from: &mut Cursor<'_>) -> Read<usize> {
    narrow(from)
}

/// Four bytes, the lowest first.
pub(super) fn digest(from: &mut Cursor<'_>) -> Read<u32> {
    let Some((digest, rest)) = from.0.split_first_chunk() else { return fail(from.0, Wrong::Truncated) };
    from.0 = rest;
    Ok(u32::from_le_bytes(*digest))
}

pub(super) fn flag(from: &mut Cursor<'_>) -> Read<bool> {
    let start = from.0;
    match byte(from)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => fail(start, Wrong::Number),
    }
}

pub(super) fn instant(from: &mut Cursor<'_>) -> Read<Instant> {
    number(from).map(Instant::from_micros)
}

pub(super) fn duration(from: &mut Cursor<'_>) -> Read<Duration> {
    let start = from.0;
    let seconds = number(from)?;
    match narrow::<u32>(from)? {
        nanos @ 0..1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => fail(start, Wrong::Number),
    }
}

/// A length and that many bytes, where they stand.
fn view<'a>(from: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let length = size(from)?;
    let Some((bytes, rest)) = from.0.split_at_checked(length) else { return fail(from.0, Wrong::Truncated) };
    from.0 = rest;
    Ok(bytes)
}

pub(super) fn owned(from: &mut Cursor<'_>) -> Read<Bytes> {
    view(from).map(Bytes::copy_from_slice)
}

fn secret(from: &mut Cursor<'_>) -> Read<Secret> {
    owned(from).map(Secret::new)
}

fn text<'a>(from: &mut Cursor<'a>) -> Read<&'a str> {
    let start = from.0;
    core::str::from_utf8(view(from)?).or_else(|_| fail(start, Wrong::Text))
}

fn string(from: &mut Cursor<'_>) -> Read<String> {
    text(from).map(Into::into)
}

fn server(from: &mut Cursor<'_>) -> Read<Server> {
    text(from).map(Server::new)
}

fn topical<T>(from: &mut Cursor<'_>, new: fn(&str) -> Result<T, TopicError>) -> Read<T> {
    let start = from.0;
    new(text(from)?).or_else(|error| fail(start, Wrong::Topic(error)))
}

fn topic_filter(from: &mut Cursor<'_>) -> Read<TopicFilter> {
    topical(from, TopicFilter::new)
}

/// Properties in their wire form, as a caller may have put them together: in any packet, each with a legal value.
fn properties(from: &mut Cursor<'_>) -> Read<PropertiesBuf> {
    let start = from.0;
    let bytes = view(from)?;
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
        return fail(start, Wrong::Properties);
    }
    Ok(list)
}

pub(super) fn option<'a, T>(
    from: &mut Cursor<'a>,
    value: impl FnOnce(&mut Cursor<'a>) -> Read<T>,
) -> Read<Option<T>> {
    if flag(from)? { value(from).map(Some) } else { Ok(None) }
}

/// A count and that many values. Every value takes at least a byte, so a count that lies ends with the input.
fn list<'a, T>(from: &mut Cursor<'a>, mut value: impl FnMut(&mut Cursor<'a>) -> Read<T>) -> Read<Vec<T>> {
    let mut values = Vec::new();
    for _ in 0..size(from)? {
        values.push(value(from)?);
    }
    Ok(values)
}

fn code<T: Code>(from: &mut Cursor<'_>) -> Read<T> {
    let start = from.0;
    T::from_code(byte(from)?).map_or_else(|| fail(start, Wrong::Number), Ok)
}

fn reason(from: &mut Cursor<'_>) -> Read<ReasonCode> {
    let start = from.0;
    let code = byte(from)?;
    ReasonCode::from_u8(code).map_or_else(|| unknown(start, "reason code", code), Ok)
}

fn transport_id(from: &mut Cursor<'_>) -> Read<TransportId> {
    number(from).map(TransportId::new)
}

fn credentials(from: &mut Cursor<'_>) -> Read<Credentials> {
    Ok(Credentials { username: option(from, string)?, password: option(from, secret)? })
}

fn authentication(from: &mut Cursor<'_>) -> Read<Authentication> {
    Ok(Authentication { method: string(from)?, initial_data: option(from, secret)? })
}

fn will(from: &mut Cursor<'_>) -> Read<Will> {
    message(from).map(Will::new)
}

pub(super) fn config(from: &mut Cursor<'_>) -> Read<Config> {
    let mut config = Config {
        servers: list(from, server)?,
        version: code(from)?,
        bridge: flag(from)?,
        client_id: string(from)?,
        clean_start: code(from)?,
        session_expiry: duration(from)?,
        credentials: credentials(from)?,
        prepare: flag(from)?,
        will: option(from, will)?,
        authentication: option(from, authentication)?,
        keep_alive: duration(from)?,
        ping_timeout: duration(from)?,
        connect_timeout: duration(from)?,
        close_timeout: duration(from)?,
        backoff: backoff(from)?,
        receive_maximum: narrow(from)?,
        maximum_packet_size: narrow(from)?,
        topic_alias_maximum: narrow(from)?,
        topic_aliases: TopicAliases { maximum: narrow(from)?, automatic: flag(from)? },
        unsupported: code(from)?,
        redirection: redirection(from)?,
        fallback: option(from, code)?,
        request_problem_information: flag(from)?,
        request_response_information: flag(from)?,
        user_properties: properties(from)?,
        offline: code(from)?,
        lost_session: code(from)?,
        overflow: Overflow::Wait,
        behind: Behind::StopReading,
        watchdog: None,
        limits: limits(from)?,
        durable: false,
    };
    let start = from.0;
    let last = byte(from)?;
    config.durable = last & 1 == 1;
    match last & !1 {
        0 => {}
        tag::MORE => {
            config.limits.keyed_outcomes = size(from)?;
            config.overflow = code(from)?;
            config.behind = code(from)?;
            config.watchdog = option(from, watchdog)?;
        }
        _ => return fail(start, Wrong::Number),
    }
    Ok(config)
}

fn watchdog(from: &mut Cursor<'_>) -> Read<Watchdog> {
    Ok(Watchdog { after: duration(from)?, reconnect: flag(from)? })
}

fn redirection(from: &mut Cursor<'_>) -> Read<Redirection> {
    let start = from.0;
    let redirection = match byte(from)? {
        0 => Redirection::Ignore,
        1 => Redirection::Follow { hops: byte(from)? },
        code => return unknown(start, "redirection", code),
    };
    Ok(redirection)
}

fn backoff(from: &mut Cursor<'_>) -> Read<Backoff> {
    Ok(Backoff {
        first: duration(from)?,
        factor: narrow(from)?,
        cap: duration(from)?,
        jitter: flag(from)?,
        attempts: option(from, narrow)?,
        stable_after: duration(from)?,
    })
}

fn limits(from: &mut Cursor<'_>) -> Read<Limits> {
    Ok(Limits {
        outgoing_messages: size(from)?,
        outgoing_bytes: size(from)?,
        requests: size(from)?,
        subscriptions: size(from)?,
        incoming_bytes: size(from)?,
        in_flight: narrow(from)?,
        ..Limits::DEFAULT
    })
}

fn message(from: &mut Cursor<'_>) -> Read<Message> {
    let topic = topical(from, TopicName::new)?;
    let payload = owned(from)?;
    let qos = code(from)?;
    let retain = flag(from)?;
    let start = from.0;
    let last = byte(from)?;
    let Some(priority) = Priority::from_code(last >> 1) else { return fail(start, Wrong::Number) };
    let properties = properties(from)?;
    Ok(Message { topic, payload, qos, retain, dup: last & 1 == 1, priority, properties })
}

fn subscription(from: &mut Cursor<'_>) -> Read<Subscription> {
    Ok(Subscription {
        filter: topic_filter(from)?,
        options: SubscriptionOptions {
            qos: code(from)?,
            no_local: flag(from)?,
            retain_as_published: flag(from)?,
            retain_handling: code(from)?,
        },
    })
}

/// A record; `None` at the end of them.
pub(super) fn record(from: &mut Cursor<'_>) -> Read<Option<Record>> {
    use tag::record as tag;
    let start = from.0;
    let record = match byte(from)? {
        tag::END => return Ok(None),
        tag::RECORD => {
            let place = from.0;
            journal::decode(view(from)?).or_else(|error| fail(place, Wrong::Record(error)))?
        }
        code => return unknown(start, "record", code),
    };
    Ok(Some(record))
}

/// The input whose tag was read; `None` for a tag of none.
pub(super) fn input(from: &mut Cursor<'_>, code: u8) -> Read<Option<Input>> {
    use tag::call as tag;
    let input = match code {
        tag::TRANSPORT => transport(from)?,
        tag::SENT => Input::Sent { id: transport_id(from)?, bytes: size(from)? },
        tag::STORED => Input::Stored(Ok(JournalSeq::new(number(from)?))),
        tag::STORE_FAILED => Input::Stored(Err(StoreError(string(from)?))),
        tag::TIMEOUT => Input::Timeout,
        tag::COMMAND => Input::Command(command(from)?),
        tag::ANSWER => Input::Answer(answer(from)?),
        _ => return Ok(None),
    };
    Ok(Some(input))
}

fn transport(from: &mut Cursor<'_>) -> Read<Input> {
    use tag::transport as tag;
    let start = from.0;
    let code = byte(from)?;
    let id = transport_id(from)?;
    let event = match code {
        tag::OPENED => TransportEvent::Opened,
        tag::OPEN_FAILED => TransportEvent::OpenFailed(string(from)?),
        tag::CLOSED => TransportEvent::Closed(option(from, string)?),
        code => return unknown(start, "transport event", code),
    };
    Ok(Input::Transport { id, event })
}

fn command(from: &mut Cursor<'_>) -> Read<Command> {
    use tag::command as tag;
    let start = from.0;
    let code = byte(from)?;
    let command = match code {
        tag::PUBLISH => Command::Publish(message(from)?),
        tag::PUBLISH_KEYED => Command::PublishKeyed(key(from)?, message(from)?),
        tag::FORGET => Command::Forget(key(from)?),
        tag::SUBSCRIBE | tag::SUBSCRIBE_IDENTIFIED => Command::Subscribe(Subscribe {
            subscriptions: list(from, subscription)?,
            properties: properties(from)?,
            identifier: match code {
                tag::SUBSCRIBE_IDENTIFIED => Some(narrow(from)?),
                _ => None,
            },
        }),
        tag::UNSUBSCRIBE => Command::Unsubscribe(Unsubscribe {
            filters: list(from, topic_filter)?,
            properties: properties(from)?,
        }),
        tag::SETTLE => Command::Settle(receipt(from)?, reason(from)?),
        tag::CONNECT => Command::Connect,
        tag::RECONNECT => Command::Reconnect,
        tag::DISCONNECT => Command::Disconnect(Disconnect {
            drain: duration(from)?,
            reason: reason(from)?,
            properties: properties(from)?,
        }),
        tag::REAUTHENTICATE => Command::Reauthenticate(option(from, secret)?),
        tag::RECONFIGURE => Command::Reconfigure(Arc::new(config(from)?)),
        code => return unknown(start, "command", code),
    };
    Ok(command)
}

fn key(from: &mut Cursor<'_>) -> Read<PublishKey> {
    let start = from.0;
    PublishKey::new(view(from)?).or_else(|error| fail(start, Wrong::Key(error)))
}

fn receipt(from: &mut Cursor<'_>) -> Read<Receipt> {
    let (serial, bytes, start) = (number(from)?, size(from)?, from.0);
    let acknowledges = u32::try_from(number(from)?).or_else(|_| fail(start, Wrong::Number))?;
    Ok(Receipt { serial, bytes, acknowledges, key: None })
}

fn answer(from: &mut Cursor<'_>) -> Read<Answer> {
    use tag::answer as tag;
    let start = from.0;
    let code = byte(from)?;
    let id = transport_id(from)?;
    let answer = match code {
        tag::PREPARED | tag::PREPARED_WITH_DATA => Answer::Prepared {
            id,
            server: server(from)?,
            credentials: option(from, credentials)?,
            initial_data: match code {
                tag::PREPARED_WITH_DATA => Some(secret(from)?),
                _ => None,
            },
        },
        tag::NOT_PREPARED => Answer::NotPrepared { id, why: string(from)? },
        tag::AUTHENTICATE => Answer::Authenticate { id, data: option(from, secret)? },
        code => return unknown(start, "answer", code),
    };
    Ok(answer)
}
