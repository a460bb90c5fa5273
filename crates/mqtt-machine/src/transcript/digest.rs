//! Owns what a digest of a refusal, an action or an event covers: every field that a program can act on, and no text
//! that is there for people only. It must not know what a digest is compared with.

use crate::interface::{
    Acknowledgement, Action, Capabilities, Codes, Connected, Drained, DropReason, EndReason, Ended, Event,
    Outcome, ProtocolViolation, Refused, StoreError,
};
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::wire::{DecodeError, EncodeError};

use super::sink::{Digest, Sink};
use super::write;

/// The digest of bytes that stand in several parts.
pub(super) fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (usize, u32) {
    let (mut digest, mut length) = (Digest::new(), 0_usize);
    for part in parts {
        digest.put(part);
        length = length.saturating_add(part.len());
    }
    (length, digest.finish())
}

pub(super) fn of_refused(refused: &Refused) -> u32 {
    Digest::of(|out| match refused {
        Refused::Full => out.byte(0),
        Refused::TooLarge { packet, bytes, limit, bound: _ } => {
            out.byte(1);
            out.byte(*packet as u8);
            out.size(*bytes);
            out.size(*limit);
        }
        Refused::NotSupported(what) => {
            out.byte(2);
            out.text(what.rule());
        }
        Refused::Encode(error) => {
            out.byte(3);
            encode_error(out, error);
        }
        Refused::Misuse(what) => {
            out.byte(4);
            out.text(what.rule());
        }
        Refused::Disconnecting => out.byte(5),
        Refused::StoreFailed => out.byte(6),
        Refused::NotNow(_) => out.byte(7),
        Refused::Property { .. } => out.byte(8),
    })
}

fn encode_error(out: &mut Digest, error: &EncodeError) {
    out.byte(error.packet() as u8);
    out.text(error.field());
}

pub(super) fn of_action(action: &Action) -> u32 {
    Digest::of(|out| match action {
        Action::Prepare { id, server, failed } => {
            out.byte(0);
            out.number(id.to_u64());
            out.option(server.as_ref(), |out, server| out.text(server.as_str()));
            out.number((*failed).into());
        }
        Action::OpenTransport { id, server } => {
            out.byte(1);
            out.number(id.to_u64());
            out.text(server.as_str());
        }
        Action::CloseTransport { id } => {
            out.byte(2);
            out.number(id.to_u64());
        }
        Action::Store { seq, record } => {
            out.byte(3);
            out.number(seq.to_u64());
            write::record(out, record);
        }
        Action::Authenticate { id, finished, data } => {
            out.byte(4);
            out.number(id.to_u64());
            out.flag(*finished);
            out.secret(data);
        }
    })
}

pub(super) fn of_event(event: &Event) -> u32 {
    Digest::of(|out| match event {
        Event::Connected(connected) => {
            out.byte(0);
            self::connected(out, connected);
        }
        Event::Message { message, receipt } => {
            out.byte(1);
            write::message(out, message);
            write::receipt(out, receipt);
        }
        Event::Completed { op, outcome } => {
            out.byte(2);
            write::op(out, *op);
            self::outcome(out, outcome);
        }
        Event::ConnectFailed(ended) => {
            out.byte(3);
            self::ended(out, ended);
        }
        Event::Disconnected(ended) => {
            out.byte(4);
            self::ended(out, ended);
        }
        Event::Resubscribed { codes, properties } => {
            out.byte(5);
            for (filter, code) in codes {
                out.text(filter.as_str());
                out.byte(code.to_u8());
            }
            out.properties(properties);
        }
        Event::FellBack { version, without } => {
            out.byte(6);
            out.code(*version);
            out.size(without.len());
        }
        Event::Auth { reason, properties } => said(out, 7, *reason, properties),
        Event::Stalled { waited, unacknowledged } => {
            out.byte(8);
            out.duration(*waited);
            out.size(*unacknowledged);
        }
        Event::Overrun { messages } => {
            out.byte(9);
            out.number(*messages);
        }
    })
}

fn connected(out: &mut Digest, connected: &Connected) {
    let Connected { id, server, session_present, reconnected, capabilities, client_id, properties } =
        connected;
    out.number(id.to_u64());
    out.text(server.as_str());
    out.flag(*session_present);
    out.flag(*reconnected);
    self::capabilities(out, capabilities);
    out.text(client_id);
    out.properties(properties);
}

fn capabilities(out: &mut Digest, capabilities: &Capabilities) {
    let Capabilities {
        version,
        receive_maximum,
        maximum_packet_size,
        maximum_qos,
        retain_available,
        wildcard_subscriptions,
        subscription_identifiers,
        shared_subscriptions,
        topic_alias_maximum,
        keep_alive,
        session_expiry,
    } = capabilities;
    out.code(*version);
    out.number((*receive_maximum).into());
    out.number((*maximum_packet_size).into());
    out.code(*maximum_qos);
    for flag in [retain_available, wildcard_subscriptions, subscription_identifiers, shared_subscriptions] {
        out.flag(*flag);
    }
    out.number((*topic_alias_maximum).into());
    out.duration(*keep_alive);
    out.duration(*session_expiry);
}

fn said(out: &mut Digest, number: u8, reason: ReasonCode, properties: &PropertiesBuf) {
    out.byte(number);
    out.byte(reason.to_u8());
    out.properties(properties);
}

fn acknowledged(out: &mut Digest, number: u8, acknowledgement: &Acknowledgement) {
    let Acknowledgement { reason, properties, received } = acknowledgement;
    said(out, number, *reason, properties);
    // A plain PUBREC adds nothing.
    if let Some(received) = received {
        said(out, 1, received.reason, &received.properties);
    }
}

fn codes(out: &mut Digest, number: u8, codes: &Codes) {
    let Codes { codes, properties } = codes;
    out.byte(number);
    codes.iter().for_each(|code| out.byte(code.to_u8()));
    out.properties(properties);
}

fn outcome(out: &mut Digest, outcome: &Outcome) {
    match outcome {
        Outcome::Sent => out.byte(0),
        Outcome::Acknowledged(acknowledgement) => acknowledged(out, 1, acknowledgement),
        Outcome::Refused(acknowledgement) => acknowledged(out, 2, acknowledgement),
        Outcome::Subscribed(codes) => self::codes(out, 3, codes),
        Outcome::Unsubscribed(codes) => self::codes(out, 4, codes),
        Outcome::Disconnected(Drained { delivered, undelivered, kept }) => {
            out.byte(5);
            [delivered, undelivered, kept].into_iter().for_each(|count| out.size(*count));
        }
        Outcome::Expired => out.byte(6),
        Outcome::Dropped(reason) => {
            out.byte(7);
            out.byte(match reason {
                DropReason::Offline => 0,
                DropReason::ConnectionLost => 1,
                DropReason::PacketTooLarge => 2,
                DropReason::NotSupported => 3,
                DropReason::Overflow => 4,
                DropReason::Superseded => 5,
            });
        }
        Outcome::NotSent => out.byte(8),
        Outcome::Unknown => out.byte(9),
        Outcome::StoreFailed => out.byte(10),
        Outcome::Kept => out.byte(11),
    }
}

fn ended(out: &mut Digest, ended: &Ended) {
    let Ended { id, reason, retry_at } = ended;
    out.number(id.to_u64());
    out.option(*retry_at, Sink::instant);
    match reason {
        EndReason::Requested => out.byte(0),
        EndReason::Reconnect => out.byte(1),
        EndReason::NotPrepared(why) => {
            out.byte(2);
            out.text(why);
        }
        EndReason::OpenFailed(why) => {
            out.byte(3);
            out.text(why);
        }
        EndReason::Closed(why) => {
            out.byte(4);
            out.option(why.as_ref(), |out, why| out.text(why));
        }
        EndReason::ConnectTimeout => out.byte(5),
        EndReason::PingTimeout => out.byte(6),
        EndReason::Refused { reason, properties } => said(out, 7, *reason, properties),
        EndReason::Disconnect { reason, properties } => said(out, 8, *reason, properties),
        EndReason::Malformed(error) => {
            out.byte(9);
            decode_error(out, error);
        }
        EndReason::Protocol(ProtocolViolation { rule, reason, .. }) => {
            out.byte(10);
            out.text(rule);
            out.byte(reason.to_u8());
        }
        EndReason::Config(error) => {
            out.byte(11);
            encode_error(out, error);
        }
        EndReason::NoServer => out.byte(12),
        EndReason::AuthenticationFailed => out.byte(13),
        EndReason::Store(StoreError(why)) => {
            out.byte(14);
            out.text(why);
        }
        EndReason::Stalled => out.byte(15),
    }
}

fn decode_error(out: &mut Digest, error: &DecodeError) {
    out.option(error.packet(), |out, packet| out.byte(packet as u8));
    out.text(error.rule());
    out.byte(error.reason().to_u8());
}
