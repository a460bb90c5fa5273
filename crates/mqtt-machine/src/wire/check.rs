//! Owns what a packet must keep to before it is written: everything that its type does not already promise.
//! It must not know how the packet is written.

use super::error::EncodeError;
use super::property::{Place, Seen, Unfit, fit};
use super::reasons;
use crate::error::TopicError;
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Properties, PropertyId, Publish,
    ReasonCodes, Sender, Subscribe, Unsubscribe,
};
use crate::reason::ReasonCode;
use crate::types::{MAX_FIELD, PacketId, ProtocolVersion, QoS, check_filter, check_name};

#[inline]
pub(super) fn publish(publish: &Publish<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    delivery(publish.qos, publish.packet_id, publish.dup)?;
    if publish.topic.is_empty() {
        alias(publish.properties, version)?;
    }
    publish_properties(publish.properties, version)
}

/// What QoS, packet identifier and DUP must be together.
#[inline]
const fn delivery(qos: QoS, packet_id: Option<PacketId>, dup: bool) -> Result<(), EncodeError> {
    match (qos, packet_id) {
        (QoS::AtMostOnce, Some(packet_id)) => Err(EncodeError::PacketIdSuperfluous { packet_id }),
        (QoS::AtMostOnce, None) if dup => Err(EncodeError::DupWithoutQoS),
        (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => Err(EncodeError::PacketIdMissing { qos }),
        _ => Ok(()),
    }
}

#[inline]
fn publish_properties(list: Properties<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if version == ProtocolVersion::V5 && !list.is_empty() {
        properties(PacketType::Publish, list, Place::of(PacketType::Publish))?;
    }
    Ok(())
}

/// What may stand for an empty topic.
#[inline(never)]
fn alias(properties: Properties<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if version == ProtocolVersion::V5 && properties.find(PropertyId::TopicAlias).is_some() {
        return Ok(());
    }
    Err(topic_error(PacketType::Publish, "topic name", TopicError::Empty))
}

fn ack(ack: &Ack<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if ack.reason == ReasonCode::Success && ack.properties.is_empty() {
        return Ok(());
    }
    let packet = ack.kind.packet_type();
    if version != ProtocolVersion::V5 {
        return no_failure(packet, ack.reason, version);
    }
    reason(packet, ack.reason, version)?;
    properties(packet, ack.properties, Place::of(packet)).map(|_| ())
}

/// The packets that come once in a while.
pub(super) fn other(packet: &Packet<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    let packet_type = packet.packet_type();
    match packet {
        Packet::Connect(packet) => connect(packet),
        Packet::ConnAck(packet) => connack(packet, version),
        Packet::Subscribe(packet) => subscribe(packet, version),
        Packet::Unsubscribe(packet) => unsubscribe(packet, version),
        Packet::SubAck(packet) => {
            reason_codes(packet_type, packet.codes, version)?;
            properties_in(packet_type, packet.properties, version).map(|_| ())
        }
        Packet::UnsubAck(packet) if version == ProtocolVersion::V5 => {
            reason_codes(packet_type, packet.codes, version)?;
            properties_in(packet_type, packet.properties, version).map(|_| ())
        }
        Packet::UnsubAck(packet) => {
            packet.codes.iter().try_for_each(|code| no_failure(packet_type, code, version))
        }
        Packet::Disconnect(packet) => disconnect(packet, version),
        Packet::Auth(packet) => auth(packet, version),
        Packet::Ack(packet) => ack(packet, version),
        Packet::Publish(_) | Packet::PingReq | Packet::PingResp => Ok(()),
    }
}

fn connect(connect: &Connect<'_>) -> Result<(), EncodeError> {
    let version = connect.version;
    text(PacketType::Connect, "client identifier", connect.client_id)?;
    properties_in(PacketType::Connect, connect.properties, version)?;
    if let Some(will) = &connect.will {
        topic_name(PacketType::Connect, "will topic", will.topic)?;
        length(PacketType::Connect, "will payload", will.payload)?;
        if version == ProtocolVersion::V5 {
            properties(PacketType::Connect, will.properties, Place::WILL)?;
        }
    }
    if let Some(username) = connect.username {
        text(PacketType::Connect, "user name", username)?;
    }
    if let Some(password) = connect.password {
        length(PacketType::Connect, "password", password)?;
        if connect.username.is_none() && version != ProtocolVersion::V5 {
            return Err(EncodeError::PasswordWithoutUserName { version });
        }
    }
    Ok(())
}

fn connack(connack: &ConnAck<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    let reason_is_known = if version == ProtocolVersion::V5 {
        reasons::codes(PacketType::ConnAck, version).has(connack.reason.to_u8())
    } else {
        connack.reason.to_connect_return_code().is_some()
    };
    if !reason_is_known {
        return Err(EncodeError::Reason { packet: PacketType::ConnAck, reason: connack.reason, version });
    }
    if connack.session_present && connack.reason != ReasonCode::Success {
        return Err(EncodeError::SessionPresentWithRefusal);
    }
    properties_in(PacketType::ConnAck, connack.properties, version).map(|_| ())
}

fn subscribe(subscribe: &Subscribe<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if subscribe.filters.is_empty() {
        return Err(EncodeError::NoFilters { packet: PacketType::Subscribe });
    }
    for filter in &subscribe.filters {
        topic_filter(PacketType::Subscribe, filter.filter)?;
        let shared = filter.filter.starts_with("$share/");
        if shared && filter.options.no_local && version == ProtocolVersion::V5 {
            return Err(EncodeError::NoLocalShared);
        }
    }
    properties_in(PacketType::Subscribe, subscribe.properties, version).map(|_| ())
}

fn unsubscribe(unsubscribe: &Unsubscribe<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if unsubscribe.filters.is_empty() {
        return Err(EncodeError::NoFilters { packet: PacketType::Unsubscribe });
    }
    for filter in &unsubscribe.filters {
        topic_filter(PacketType::Unsubscribe, filter)?;
    }
    properties_in(PacketType::Unsubscribe, unsubscribe.properties, version).map(|_| ())
}

fn disconnect(disconnect: &Disconnect<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if version != ProtocolVersion::V5 && disconnect.reason != ReasonCode::Success {
        // 0x04 included: without its code the packet would ask for the opposite.
        return Err(EncodeError::Reason {
            packet: PacketType::Disconnect,
            reason: disconnect.reason,
            version,
        });
    }
    reason(PacketType::Disconnect, disconnect.reason, version)?;
    if version != ProtocolVersion::V5 {
        return Ok(());
    }
    let place = place_beside(PacketType::Disconnect, disconnect.reason);
    properties(PacketType::Disconnect, disconnect.properties, place).map(|_| ())
}

fn auth(auth: &Auth<'_>, version: ProtocolVersion) -> Result<(), EncodeError> {
    if version != ProtocolVersion::V5 {
        return Err(EncodeError::NotInVersion { packet: PacketType::Auth, version });
    }
    reason(PacketType::Auth, auth.reason, version)?;
    let place = place_beside(PacketType::Auth, auth.reason);
    let seen = properties(PacketType::Auth, auth.properties, place)?;
    let is_bare_success = auth.reason == ReasonCode::Success && auth.properties.is_empty();
    if !seen.has(PropertyId::AuthenticationMethod) && !is_bare_success {
        return Err(EncodeError::AuthenticationMethodMissing { packet: PacketType::Auth });
    }
    Ok(())
}

/// The places of properties beside a reason code that perhaps one side only may say.
fn place_beside(packet: PacketType, reason: ReasonCode) -> Place {
    let mut place = Place::NONE;
    for sender in [Sender::Client, Sender::Server] {
        if reasons::may_say(sender, packet, reason) {
            place = place.or(Place::from(packet, sender));
        }
    }
    place
}

/// Before 5.0 a packet without a code says that all went well.
fn no_failure(packet: PacketType, reason: ReasonCode, version: ProtocolVersion) -> Result<(), EncodeError> {
    if reason.is_failure() { Err(EncodeError::Reason { packet, reason, version }) } else { Ok(()) }
}

fn reason(packet: PacketType, reason: ReasonCode, version: ProtocolVersion) -> Result<(), EncodeError> {
    if reasons::codes(packet, version).has(reason.to_u8()) {
        Ok(())
    } else {
        Err(EncodeError::Reason { packet, reason, version })
    }
}

fn reason_codes(
    packet: PacketType,
    codes: ReasonCodes<'_>,
    version: ProtocolVersion,
) -> Result<(), EncodeError> {
    if codes.is_empty() {
        return Err(EncodeError::NoReasonCodes { packet });
    }
    codes.iter().try_for_each(|code| reason(packet, code, version))
}

/// The properties of a packet, where the version has any.
fn properties_in(
    packet: PacketType,
    list: Properties<'_>,
    version: ProtocolVersion,
) -> Result<Seen, EncodeError> {
    if version == ProtocolVersion::V5 {
        properties(packet, list, Place::of(packet))
    } else {
        Ok(Seen::default())
    }
}

#[inline(never)]
fn properties(packet: PacketType, list: Properties<'_>, place: Place) -> Result<Seen, EncodeError> {
    let seen = fit(list, place).map_err(|unfit| match unfit {
        Unfit::Misplaced(property) => EncodeError::PropertyMisplaced { packet, property },
        Unfit::Repeated(property) => EncodeError::PropertyRepeated { packet, property },
    })?;
    if seen.lacks_method() {
        return Err(EncodeError::AuthenticationMethodMissing { packet });
    }
    Ok(seen)
}

fn length(packet: PacketType, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > MAX_FIELD {
        return Err(EncodeError::FieldTooLong { packet, field, bytes: bytes.len() });
    }
    Ok(())
}

fn text(packet: PacketType, field: &'static str, text: &str) -> Result<(), EncodeError> {
    length(packet, field, text.as_bytes())?;
    match text.as_bytes().iter().position(|byte| *byte == 0) {
        Some(at) => Err(EncodeError::Nul { packet, field, at }),
        None => Ok(()),
    }
}

fn topic_name(packet: PacketType, field: &'static str, topic: &str) -> Result<(), EncodeError> {
    check_name(topic).map_err(|error| topic_error(packet, field, error))
}

fn topic_filter(packet: PacketType, filter: &str) -> Result<(), EncodeError> {
    check_filter(filter).map_err(|error| topic_error(packet, "topic filter", error))
}

fn topic_error(packet: PacketType, field: &'static str, error: TopicError) -> EncodeError {
    match error {
        TopicError::TooLong { bytes } => EncodeError::FieldTooLong { packet, field, bytes },
        TopicError::Nul { at } => EncodeError::Nul { packet, field, at },
        error => EncodeError::Topic { packet, field, error },
    }
}
