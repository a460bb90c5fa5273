//! Owns the decoder: one whole frame becomes a borrowed packet, or an error that names the broken rule.
//! It must not know what came before on the connection.

mod connect;
mod requests;

use core::cmp::Ordering;

use super::encode::RawPublish;
use super::error::{DecodeError, Fault, Flaw};
use super::frame::long_length;
use super::primitives::{Parsed, byte, fail, packet_id, text_of, topic_name, var_int};
use super::property::{Place, properties};
use super::reasons;
use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Disconnect, Packet, PacketType, Properties, PropertyId, Publish,
    ReasonCodes, Sender, SubAck, UnsubAck,
};
use crate::reason::ReasonCode;
use crate::types::{PacketId, ProtocolVersion, QoS};

/// Decodes exactly one whole frame, its fixed header included, as `sender` may have sent it.
///
/// `version` is the one that the connection speaks; a CONNECT is read by the version that it carries. To a 5.0 CONNECT a
/// server that does not know 5.0 answers with a CONNACK in the form of 3.x: it is read as the refusal that it is.
///
/// 3.1 left bits undefined that later versions check, so DUP is tolerated in its PUBREL, SUBSCRIBE and UNSUBSCRIBE, and the
/// first byte of its CONNACK is not looked at. Its text is held to today's rules.
///
/// Takes time linear in the length of the frame without the payload of a PUBLISH, and allocates only for SUBSCRIBE and
/// UNSUBSCRIBE.
///
/// # Errors
/// A [`DecodeError`] for whatever is malformed, does not belong to the version, or is not the sender's to send. Bytes that
/// are cut short or left over are errors too: [`frame_header`](super::frame_header) tells where a frame ends.
#[inline]
pub fn decode<'a>(
    frame: &'a [u8],
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Packet<'a>, DecodeError> {
    let Some((&first_byte, rest)) = frame.split_first() else {
        return Err(DecodeError::new(None, Fault::Truncated));
    };
    let Some(packet_type) = PacketType::from_first_byte(first_byte) else {
        return Err(DecodeError::new(None, Fault::PacketTypeZero));
    };
    let flags = first_byte & 0x0F;
    let parsed = match (body(rest), packet_type) {
        (Ok(body), PacketType::Publish) => match publish(body, flags, version, sender) {
            Ok(publish) => return Ok(Packet::Publish(publish)),
            Err(error) => Err(error),
        },
        (Ok(body), PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp) => {
            match ack(body, packet_type, flags, version, sender) {
                Ok(ack) => return Ok(Packet::Ack(ack)),
                Err(error) => Err(error),
            }
        }
        (Ok(body), _) => other(body, packet_type, flags, version, sender),
        (Err(flaw), _) => fail(flaw),
    };
    match parsed {
        Ok(([], packet)) => Ok(packet),
        Ok(_) => Err(broken(packet_type, Fault::TrailingBytes.into(), rest)),
        Err(nom::Err::Error(flaw) | nom::Err::Failure(flaw)) => Err(broken(packet_type, flaw, rest)),
        Err(nom::Err::Incomplete(_)) => Err(broken(packet_type, Fault::Truncated.into(), rest)),
    }
}

/// An error of a packet of this type. A length that does not fit is the remaining length, in front of `rest`.
#[cold]
fn broken(packet_type: PacketType, flaw: Flaw, rest: &[u8]) -> DecodeError {
    let flaw = match flaw.fault {
        Fault::Truncated | Fault::TrailingBytes => match var_int(rest) {
            Ok((_, remaining)) => flaw.or_value(remaining),
            Err(_) => flaw,
        },
        _ => flaw,
    };
    DecodeError::new(Some(packet_type), flaw)
}

/// What the remaining length in front of `rest` counts, which must be all that follows it.
#[inline]
fn body(rest: &[u8]) -> Result<&[u8], Flaw> {
    let (length, body) = match rest.split_first() {
        Some((&byte, body)) if byte < 0x80 => (usize::from(byte), body),
        _ => match long_length(rest)? {
            Some((length, count)) => (length as usize, rest.get(count as usize..).unwrap_or_default()),
            None => return Err(Fault::Truncated.into()),
        },
    };
    match body.len().cmp(&length) {
        Ordering::Equal => Ok(body),
        Ordering::Less => Err(Fault::Truncated.into()),
        Ordering::Greater => Err(Fault::TrailingBytes.into()),
    }
}

/// Decodes one whole frame of the server's that is a PUBLISH, as [`decode`], for a reader who keeps the frame: the topic stays
/// bytes, since text of it would cost another look at them.
///
/// # Errors
/// As [`decode`].
#[inline]
pub(crate) fn decode_publish(frame: &[u8], version: ProtocolVersion) -> Result<RawPublish<'_>, DecodeError> {
    let Some((&first_byte, rest)) = frame.split_first() else {
        return Err(DecodeError::new(None, Fault::Truncated));
    };
    let parsed = match body(rest) {
        Ok(body) => raw_publish(body, first_byte & 0x0F, version, Sender::Server),
        Err(flaw) => fail(flaw),
    };
    match parsed {
        Ok((_, publish)) => Ok(publish),
        Err(nom::Err::Error(flaw) | nom::Err::Failure(flaw)) => Err(broken(PacketType::Publish, flaw, rest)),
        Err(nom::Err::Incomplete(_)) => Err(broken(PacketType::Publish, Fault::Truncated.into(), rest)),
    }
}

/// PUBLISH (section 3.3).
#[inline]
fn publish(
    body: &[u8],
    flags: u8,
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Publish<'_>, nom::Err<Flaw>> {
    let (payload, raw) = raw_publish(body, flags, version, sender)?;
    let topic = text_of(raw.topic)?;
    let RawPublish { dup, qos, retain, packet_id, properties, .. } = raw;
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload })
}

/// PUBLISH with its topic as bytes, and the payload: all that the other fields leave.
#[inline]
fn raw_publish(
    body: &[u8],
    flags: u8,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, RawPublish<'_>> {
    let dup = flags & 0x08 != 0;
    let Some(qos) = QoS::from_u8(flags >> 1 & 0x03) else {
        return fail(Fault::QoS3);
    };
    let (rest, topic) = topic_name(body)?;
    let (rest, packet_id) = if qos == QoS::AtMostOnce {
        if dup {
            return fail(Fault::DupWithoutQoS);
        }
        (rest, None)
    } else {
        let (rest, id) = packet_id(rest)?;
        (rest, Some(id))
    };
    let (payload, properties, has_alias) = if version == ProtocolVersion::V5 {
        let (rest, (properties, seen)) = properties(rest, Place::from(PacketType::Publish, sender))?;
        (rest, properties, seen.has(PropertyId::TopicAlias))
    } else {
        (rest, Properties::EMPTY, false)
    };
    if topic.is_empty() && !has_alias {
        return fail(Fault::TopicEmpty);
    }
    let retain = flags & 0x01 != 0;
    let raw = RawPublish { dup, qos, retain, topic, packet_id, properties, payload: payload.len() };
    Ok((payload, raw))
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).
#[inline]
fn ack(
    body: &[u8],
    packet_type: PacketType,
    flags: u8,
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Ack<'_>, nom::Err<Flaw>> {
    let (kind, expected) = match packet_type {
        PacketType::PubRec => (AckKind::PubRec, 0),
        PacketType::PubRel => (AckKind::PubRel, 2),
        PacketType::PubComp => (AckKind::PubComp, 0),
        _ => (AckKind::PubAck, 0),
    };
    if flags != expected && !is_old_dup(flags, expected, version) {
        return fail(Fault::Flags.with(flags));
    }
    let (rest, packet_id) = packet_id(body)?;
    if rest.is_empty() {
        Ok(Ack::new(kind, packet_id))
    } else {
        long_ack(rest, kind, packet_id, version, sender)
    }
}

/// What follows the packet identifier: in 5.0 a code, and properties unless there are none.
#[inline(never)]
fn long_ack(
    input: &[u8],
    kind: AckKind,
    packet_id: PacketId,
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Ack<'_>, nom::Err<Flaw>> {
    if version != ProtocolVersion::V5 {
        return fail(Fault::TrailingBytes);
    }
    let (rest, reason) = reason_code(input, kind.packet_type(), version, sender)?;
    match last_properties(rest, Place::from(kind.packet_type(), sender))? {
        ([], properties) => Ok(Ack { kind, packet_id, reason, properties }),
        _ => fail(Fault::TrailingBytes),
    }
}

/// 3.1 set DUP on what it sent again: PUBREL, SUBSCRIBE and UNSUBSCRIBE, the packets with flags of 2.
#[inline]
fn is_old_dup(flags: u8, expected: u8, version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V3_1 && expected == 2 && flags == 10
}

/// Properties that the end of the packet may replace.
fn last_properties(input: &[u8], place: Place) -> Parsed<'_, Properties<'_>> {
    if input.is_empty() {
        return Ok((input, Properties::EMPTY));
    }
    properties(input, place).map(|(rest, (properties, _))| (rest, properties))
}

/// Properties, where the version has them.
fn properties_of(
    input: &[u8],
    packet: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, Properties<'_>> {
    if version != ProtocolVersion::V5 {
        return Ok((input, Properties::EMPTY));
    }
    properties(input, Place::from(packet, sender)).map(|(rest, (properties, _))| (rest, properties))
}

/// A reason code of this packet that `sender` may say.
fn reason_code(
    input: &[u8],
    packet: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, ReasonCode> {
    let (rest, code) = byte(input)?;
    match ReasonCode::from_u8(code) {
        Some(reason) if reasons::codes(packet, version).has(code) => {
            if reasons::may_say(sender, packet, reason) {
                Ok((rest, reason))
            } else {
                fail(Fault::ReasonCodeSender.with(code))
            }
        }
        _ => fail(Fault::ReasonCodeUnknown.with(code)),
    }
}

/// The packets that come once in a while, kept out of the hot path.
#[inline(never)]
fn other(
    body: &[u8],
    packet_type: PacketType,
    flags: u8,
    version: ProtocolVersion,
    sender: Sender,
) -> Parsed<'_, Packet<'_>> {
    let expected = match packet_type {
        PacketType::Subscribe | PacketType::Unsubscribe => 2,
        _ => 0,
    };
    if packet_type == PacketType::Auth && version != ProtocolVersion::V5 {
        return fail(Fault::PacketTypeNotInVersion);
    }
    if flags != expected && !is_old_dup(flags, expected, version) {
        return fail(Fault::Flags.with(flags));
    }
    if !may_send(sender, packet_type, version) {
        return fail(Fault::PacketSender.with(packet_type as u8));
    }
    match packet_type {
        PacketType::Connect => connect::connect(body),
        PacketType::ConnAck => connack(body, version),
        PacketType::Subscribe => requests::subscribe(body, version),
        PacketType::SubAck => suback(body, version),
        PacketType::Unsubscribe => requests::unsubscribe(body, version),
        PacketType::UnsubAck => unsuback(body, version),
        PacketType::PingReq => Ok((body, Packet::PingReq)),
        PacketType::PingResp => Ok((body, Packet::PingResp)),
        PacketType::Disconnect => disconnect(body, version, sender),
        PacketType::Auth => auth(body, sender),
        // Decoded before we came here.
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp => fail(Fault::Flags.with(flags)),
    }
}

/// Who may send what (section 2.1.2).
const fn may_send(sender: Sender, packet_type: PacketType, version: ProtocolVersion) -> bool {
    match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            matches!(sender, Sender::Client)
        }
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            matches!(sender, Sender::Server)
        }
        PacketType::Disconnect => matches!((sender, version), (Sender::Client, _) | (_, ProtocolVersion::V5)),
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Auth => true,
    }
}

/// CONNACK (section 3.2).
fn connack(body: &[u8], version: ProtocolVersion) -> Parsed<'_, Packet<'_>> {
    if version != ProtocolVersion::V5 {
        return connack_3_x(body, version == ProtocolVersion::V3_1);
    }
    if matches!(body, [0, 1..=5]) {
        return connack_3_x(body, false);
    }
    let (rest, flags) = byte(body)?;
    let (rest, reason) = reason_code(rest, PacketType::ConnAck, version, Sender::Server)?;
    let (rest, properties) = properties_of(rest, PacketType::ConnAck, version, Sender::Server)?;
    accept_connack(rest, flags, reason, properties)
}

fn connack_3_x(body: &[u8], flags_are_undefined: bool) -> Parsed<'_, Packet<'_>> {
    let (rest, flags) = byte(body)?;
    let (rest, code) = byte(rest)?;
    let Some(reason) = ReasonCode::from_connect_return_code(code) else {
        return fail(Fault::ReasonCodeUnknown.with(code));
    };
    accept_connack(rest, if flags_are_undefined { 0 } else { flags }, reason, Properties::EMPTY)
}

fn accept_connack<'a>(
    rest: &'a [u8],
    flags: u8,
    reason: ReasonCode,
    properties: Properties<'a>,
) -> Parsed<'a, Packet<'a>> {
    if flags > 1 {
        return fail(Fault::ConnAckFlags.with(flags));
    }
    let session_present = flags == 1;
    if session_present && reason != ReasonCode::Success {
        return fail(Fault::SessionPresentWithRefusal);
    }
    Ok((rest, Packet::ConnAck(ConnAck { session_present, reason, properties })))
}

/// SUBACK (section 3.9). 3.1 has no failure code; servers of that time that use 0x80 mean what 3.1.1 says.
fn suback(body: &[u8], version: ProtocolVersion) -> Parsed<'_, Packet<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (rest, properties) = properties_of(rest, PacketType::SubAck, version, Sender::Server)?;
    let (rest, codes) = reason_codes(rest, PacketType::SubAck, version)?;
    Ok((rest, Packet::SubAck(SubAck { packet_id, properties, codes })))
}

/// UNSUBACK (section 3.11).
fn unsuback(body: &[u8], version: ProtocolVersion) -> Parsed<'_, Packet<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (rest, properties) = properties_of(rest, PacketType::UnsubAck, version, Sender::Server)?;
    let (rest, codes) = if version == ProtocolVersion::V5 {
        reason_codes(rest, PacketType::UnsubAck, version)?
    } else {
        (rest, ReasonCodes::EMPTY)
    };
    Ok((rest, Packet::UnsubAck(UnsubAck { packet_id, properties, codes })))
}

/// One reason code at least, up to the end of the packet.
fn reason_codes(input: &[u8], packet: PacketType, version: ProtocolVersion) -> Parsed<'_, ReasonCodes<'_>> {
    if input.is_empty() {
        return fail(Fault::NoReasonCodes);
    }
    let known = reasons::codes(packet, version);
    if let Some(unknown) = input.iter().find(|code| !known.has(**code)) {
        return fail(Fault::ReasonCodeUnknown.with(*unknown));
    }
    match ReasonCodes::from_bytes(input) {
        Some(codes) => Ok((&[], codes)),
        None => fail(Fault::ReasonCodeUnknown),
    }
}

/// DISCONNECT (section 3.14).
fn disconnect(body: &[u8], version: ProtocolVersion, sender: Sender) -> Parsed<'_, Packet<'_>> {
    if body.is_empty() || version != ProtocolVersion::V5 {
        let reason = ReasonCode::Success;
        return Ok((body, Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY })));
    }
    let (rest, reason) = reason_code(body, PacketType::Disconnect, version, sender)?;
    let (rest, properties) = last_properties(rest, Place::from(PacketType::Disconnect, sender))?;
    Ok((rest, Packet::Disconnect(Disconnect { reason, properties })))
}

/// AUTH (section 3.15). Only Success without properties may leave them out, and with them the method.
fn auth(body: &[u8], sender: Sender) -> Parsed<'_, Packet<'_>> {
    if body.is_empty() {
        if !reasons::may_say(sender, PacketType::Auth, ReasonCode::Success) {
            return fail(Fault::ReasonCodeSender);
        }
        return Ok((body, Packet::Auth(Auth { reason: ReasonCode::Success, properties: Properties::EMPTY })));
    }
    let (rest, reason) = reason_code(body, PacketType::Auth, ProtocolVersion::V5, sender)?;
    let (rest, (properties, seen)) = properties(rest, Place::from(PacketType::Auth, sender))?;
    let is_bare_success = reason == ReasonCode::Success && properties.is_empty();
    if !is_bare_success && !seen.has(PropertyId::AuthenticationMethod) {
        return fail(Fault::AuthenticationMethodMissing);
    }
    Ok((rest, Packet::Auth(Auth { reason, properties })))
}

/// An acknowledgement that is a packet identifier and nothing else: nearly every one, and the same in all versions.
#[inline]
pub(crate) fn bare_ack(frame: &[u8]) -> Option<Ack<'_>> {
    let &[first_byte, 2, high, low] = frame else { return None };
    let kind = match first_byte {
        0x40 => AckKind::PubAck,
        0x50 => AckKind::PubRec,
        0x62 => AckKind::PubRel,
        0x70 => AckKind::PubComp,
        _ => return None,
    };
    PacketId::new(u16::from_be_bytes([high, low])).map(|packet_id| Ack::new(kind, packet_id))
}
