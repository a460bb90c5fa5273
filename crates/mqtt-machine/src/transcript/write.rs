//! Owns the format on its way out: header, configuration, records, inputs, and what was observed.
//! It must not know where the bytes go. `docs/transcripts.md` describes field by field what stands here.
//!
//! Every struct is taken apart without `..`, so that a new field does not compile before it has a place here, in the
//! reader and in the description.

use crate::config::{
    Authentication, Backoff, Config, Credentials, Limits, Redirection, TopicAliases, Watchdog, Will,
};
use crate::interface::{
    Answer, Command, Disconnect, Input, Receipt, StoreError, Subscribe, TransportEvent, Unsubscribe,
};
use crate::journal::{self, Record};
use crate::message::Message;
use crate::time::Instant;
use crate::types::{OpId, Subscription, SubscriptionOptions, TopicFilter, TransportId};

use super::entry::{Call, Header, Observed, Origin, Said, Standing, StopReason};
use super::sink::{Code, Sink};
use super::{MAGIC, VERSION, tag};

/// All of the header; a restored machine's is followed by its records and [`tag::record::END`].
pub(super) fn header(out: &mut impl Sink, header: &Header) {
    let Header { redacted, seed, start, config: configuration, origin } = header;
    out.put(&MAGIC);
    out.byte(VERSION);
    out.flag(*redacted);
    out.number(*seed);
    out.instant(*start);
    config(out, configuration);
    match origin {
        Origin::New => out.byte(tag::NEW),
        Origin::Restored { away } => {
            out.byte(tag::RESTORED);
            out.duration(*away);
        }
    }
}

pub(super) fn config(out: &mut impl Sink, config: &Config) {
    let Config {
        servers,
        version,
        bridge,
        client_id,
        clean_start,
        session_expiry,
        credentials: Credentials { username, password },
        prepare,
        will,
        authentication,
        keep_alive,
        ping_timeout,
        connect_timeout,
        close_timeout,
        backoff,
        receive_maximum,
        maximum_packet_size,
        topic_alias_maximum,
        topic_aliases: TopicAliases { maximum, automatic },
        unsupported,
        redirection,
        fallback,
        request_problem_information,
        request_response_information,
        user_properties,
        offline,
        lost_session,
        overflow,
        behind,
        watchdog,
        limits,
        durable,
    } = config;
    out.size(servers.len());
    servers.iter().for_each(|server| out.text(server.as_str()));
    out.code(*version);
    out.flag(*bridge);
    out.text(client_id);
    out.code(*clean_start);
    out.duration(*session_expiry);
    out.option(username.as_ref(), |out, username| out.text(username));
    out.option(password.as_ref(), Sink::secret);
    out.flag(*prepare);
    out.option(will.as_ref(), |out, Will { message }| self::message(out, message));
    out.option(authentication.as_ref(), |out, Authentication { method, initial_data }| {
        out.text(method);
        out.option(initial_data.as_ref(), Sink::secret);
    });
    for duration in [keep_alive, ping_timeout, connect_timeout, close_timeout] {
        out.duration(*duration);
    }
    self::backoff(out, backoff);
    out.number((*receive_maximum).into());
    out.number((*maximum_packet_size).into());
    out.number((*topic_alias_maximum).into());
    out.number((*maximum).into());
    out.flag(*automatic);
    out.code(*unsupported);
    match redirection {
        Redirection::Ignore => out.byte(0),
        Redirection::Follow { hops } => {
            out.byte(1);
            out.byte(*hops);
        }
    }
    out.option(*fallback, Sink::code);
    out.flag(*request_problem_information);
    out.flag(*request_response_information);
    out.properties(user_properties);
    out.code(*offline);
    out.code(*lost_session);
    self::limits(out, limits);
    out.byte(u8::from(*durable) | tag::MORE);
    out.size(limits.keyed_outcomes);
    out.code(*overflow);
    out.code(*behind);
    out.option(watchdog.as_ref(), |out, Watchdog { after, reconnect }| {
        out.duration(*after);
        out.flag(*reconnect);
    });
}

fn backoff(out: &mut impl Sink, backoff: &Backoff) {
    let Backoff { first, factor, cap, jitter, attempts, stable_after } = backoff;
    out.duration(*first);
    out.number((*factor).into());
    out.duration(*cap);
    out.flag(*jitter);
    out.option(*attempts, |out, attempts| out.number(attempts.into()));
    out.duration(*stable_after);
}

fn limits(out: &mut impl Sink, limits: &Limits) {
    let Limits {
        outgoing_messages,
        outgoing_bytes,
        requests,
        subscriptions,
        incoming_bytes,
        in_flight,
        // Stands behind the rest of the configuration.
        keyed_outcomes: _,
    } = limits;
    for size in [outgoing_messages, outgoing_bytes, requests, subscriptions, incoming_bytes] {
        out.size(*size);
    }
    out.number((*in_flight).into());
}

pub(super) fn message(out: &mut impl Sink, message: &Message) {
    let Message { topic, payload, qos, retain, dup, priority, properties } = message;
    out.bytes(topic.as_bytes());
    out.bytes(payload);
    out.code(*qos);
    out.flag(*retain);
    out.byte(u8::from(*dup) | priority.code() << 1);
    out.properties(properties);
}

fn subscription(out: &mut impl Sink, subscription: &Subscription) {
    let Subscription { filter, options } = subscription;
    let SubscriptionOptions { qos, no_local, retain_as_published, retain_handling } = options;
    out.text(filter.as_str());
    out.code(*qos);
    out.flag(*no_local);
    out.flag(*retain_as_published);
    out.code(*retain_handling);
}

fn filter(out: &mut impl Sink, filter: &TopicFilter) {
    out.text(filter.as_str());
}

pub(super) fn op(out: &mut impl Sink, op: OpId) {
    out.number(op.to_u64());
}

/// A record in the bytes of the journal.
pub(super) fn record(out: &mut impl Sink, record: &Record) {
    out.byte(tag::record::RECORD);
    out.bytes(&journal::encode(record));
}

fn transport(out: &mut impl Sink, tag: u8, id: TransportId) {
    out.byte(tag);
    out.number(id.to_u64());
}

/// The tag and the fields of a call, at a time that is told as what has passed since `before`.
pub(super) fn call(out: &mut impl Sink, before: Instant, at: Instant, call: &Call) {
    match call {
        Call::Input(input) => self::input(out, before, at, input),
        Call::Bytes { id, continued, bytes, hidden } => {
            self::bytes(out, before, at, *id, (*continued, *hidden), bytes);
        }
        Call::Transmit { room } => {
            start(out, tag::call::TRANSMIT, before, at);
            out.size(*room);
        }
        Call::PollAction => out.byte(tag::call::POLL_ACTION),
        Call::PollEvent => out.byte(tag::call::POLL_EVENT),
        Call::Stop(StopReason::BufferFull) => out.put(&tag::call::STOP_BUFFER_FULL),
        Call::Stop(StopReason::Asked) => out.put(&tag::call::STOP_ASKED),
    }
}

/// The tag and the time. Time may be told to go back, so the difference has a sign, in the lowest bit.
fn start(out: &mut impl Sink, tag: u8, before: Instant, at: Instant) {
    out.byte(tag);
    let difference = at.as_micros().wrapping_sub(before.as_micros()).cast_signed();
    out.number((difference.wrapping_shl(1) ^ difference.wrapping_shr(63)).cast_unsigned());
}

pub(super) fn bytes(
    out: &mut impl Sink,
    before: Instant,
    at: Instant,
    id: TransportId,
    (continued, hidden): (bool, usize),
    bytes: &[u8],
) {
    let tag = match (continued, hidden) {
        (false, 0) => tag::call::BYTES,
        (true, 0) => tag::call::MORE_BYTES,
        (false, _) => tag::call::HIDDEN_BYTES,
        (true, _) => tag::call::MORE_HIDDEN_BYTES,
    };
    start(out, tag, before, at);
    out.number(id.to_u64());
    out.bytes(bytes);
    if hidden > 0 {
        out.size(hidden);
    }
}

pub(super) fn input(out: &mut impl Sink, before: Instant, at: Instant, input: &Input) {
    use tag::call as tag;
    let mut start = |tag: u8| start(out, tag, before, at);
    match input {
        Input::Bytes { id, bytes } => self::bytes(out, before, at, *id, (false, 0), bytes),
        Input::Transport { id, event } => {
            start(tag::TRANSPORT);
            transport_event(out, *id, event);
        }
        Input::Sent { id, bytes } => {
            start(tag::SENT);
            out.number(id.to_u64());
            out.size(*bytes);
        }
        Input::Stored(Ok(seq)) => {
            start(tag::STORED);
            out.number(seq.to_u64());
        }
        Input::Stored(Err(StoreError(why))) => {
            start(tag::STORE_FAILED);
            out.text(why);
        }
        Input::Timeout => start(tag::TIMEOUT),
        Input::Command(command) => {
            start(tag::COMMAND);
            self::command(out, command);
        }
        Input::Answer(answer) => {
            start(tag::ANSWER);
            self::answer(out, answer);
        }
    }
}

fn transport_event(out: &mut impl Sink, id: TransportId, event: &TransportEvent) {
    use tag::transport as tag;
    match event {
        TransportEvent::Opened => transport(out, tag::OPENED, id),
        TransportEvent::OpenFailed(why) => {
            transport(out, tag::OPEN_FAILED, id);
            out.text(why);
        }
        TransportEvent::Closed(why) => {
            transport(out, tag::CLOSED, id);
            out.option(why.as_ref(), |out, why| out.text(why));
        }
    }
}

fn command(out: &mut impl Sink, command: &Command) {
    use tag::command as tag;
    match command {
        Command::Publish(message) => {
            out.byte(tag::PUBLISH);
            self::message(out, message);
        }
        Command::PublishKeyed(key, message) => {
            out.byte(tag::PUBLISH_KEYED);
            out.bytes(key.as_bytes());
            self::message(out, message);
        }
        Command::Forget(key) => {
            out.byte(tag::FORGET);
            out.bytes(key.as_bytes());
        }
        Command::Subscribe(Subscribe { subscriptions, properties, identifier }) => {
            out.byte(if identifier.is_some() { tag::SUBSCRIBE_IDENTIFIED } else { tag::SUBSCRIBE });
            out.size(subscriptions.len());
            subscriptions.iter().for_each(|subscription| self::subscription(out, subscription));
            out.properties(properties);
            if let Some(identifier) = identifier {
                out.number((*identifier).into());
            }
        }
        Command::Unsubscribe(Unsubscribe { filters, properties }) => {
            out.byte(tag::UNSUBSCRIBE);
            out.size(filters.len());
            filters.iter().for_each(|filter| self::filter(out, filter));
            out.properties(properties);
        }
        Command::Settle(receipt, reason) => {
            out.byte(tag::SETTLE);
            self::receipt(out, receipt);
            out.byte(reason.to_u8());
        }
        Command::Connect => out.byte(tag::CONNECT),
        Command::Reconnect => out.byte(tag::RECONNECT),
        Command::Disconnect(Disconnect { drain, reason, properties }) => {
            out.byte(tag::DISCONNECT);
            out.duration(*drain);
            out.byte(reason.to_u8());
            out.properties(properties);
        }
        Command::Reauthenticate(data) => {
            out.byte(tag::REAUTHENTICATE);
            out.option(data.as_ref(), Sink::secret);
        }
        Command::Reconfigure(config) => {
            out.byte(tag::RECONFIGURE);
            self::config(out, config);
        }
    }
}

pub(super) fn receipt(out: &mut impl Sink, receipt: &Receipt) {
    // The key is the application's: a machine that gets the receipt back does not read it.
    let Receipt { serial, bytes, acknowledges, key: _ } = receipt;
    out.number(*serial);
    out.size(*bytes);
    out.number((*acknowledges).into());
}

fn answer(out: &mut impl Sink, answer: &Answer) {
    use tag::answer as tag;
    match answer {
        Answer::Prepared { id, server, credentials, initial_data } => {
            let tag = if initial_data.is_some() { tag::PREPARED_WITH_DATA } else { tag::PREPARED };
            transport(out, tag, *id);
            out.text(server.as_str());
            out.option(credentials.as_ref(), |out, Credentials { username, password }| {
                out.option(username.as_ref(), |out, username| out.text(username));
                out.option(password.as_ref(), Sink::secret);
            });
            if let Some(data) = initial_data {
                out.secret(data);
            }
        }
        Answer::NotPrepared { id, why } => {
            transport(out, tag::NOT_PREPARED, *id);
            out.text(why);
        }
        Answer::Authenticate { id, data } => {
            transport(out, tag::AUTHENTICATE, *id);
            out.option(data.as_ref(), Sink::secret);
        }
    }
}

/// What was observed, behind its call.
pub(super) fn observed(out: &mut impl Sink, observed: &Observed) {
    use tag::said as tag;
    let Observed { said, standing } = observed;
    match said {
        Said::Nothing => out.byte(tag::NOTHING),
        Said::Accepted(op) => {
            out.byte(tag::ACCEPTED);
            self::op(out, *op);
        }
        Said::Refused(digest) => {
            out.byte(tag::REFUSED);
            out.put(&digest.to_le_bytes());
        }
        Said::Unread(bytes) => {
            out.byte(tag::UNREAD);
            out.size(*bytes);
        }
        Said::Wrote(bytes, digest) => {
            out.byte(tag::WROTE);
            out.size(*bytes);
            out.put(&digest.to_le_bytes());
        }
        Said::Gave(digest) => {
            out.byte(tag::GAVE);
            out.put(&digest.to_le_bytes());
        }
    }
    if let Some(Standing { deadline, read_capacity, actions, events }) = standing {
        out.option(*deadline, Sink::instant);
        out.size(*read_capacity);
        out.size(*actions);
        out.size(*events);
    }
}
