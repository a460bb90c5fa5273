//! Owns the decoding of CONNECT (section 3.1).
//! It must not know which versions the server is willing to speak.

use super::{Parsed, fail};
use crate::packet::{Connect, PacketType, Properties, Sender, Will};
use crate::types::{ProtocolVersion, QoS};
use crate::wire::error::{Fault, Flaw};
use crate::wire::primitives::{binary, byte, text, text_of, topic_name, two_bytes};
use crate::wire::property::{Place, properties};

/// The bit that mosquitto's bridges set in the protocol level of 3.1 and 3.1.1.
const BRIDGE: u8 = 0x80;

pub(super) fn connect(body: &[u8]) -> Parsed<'_, Connect<'_>> {
    let (rest, (version, bridge)) = protocol(body)?;
    let (rest, flags) = byte(rest)?;
    check_flags(flags, version)?;
    let (rest, keep_alive) = two_bytes(rest)?;
    let (rest, properties) = properties_at(rest, version, Place::from(PacketType::Connect, Sender::Client))?;
    let (rest, client_id) = text(rest)?;
    let (rest, will) = if flags & 0x04 != 0 {
        let (rest, will) = will(rest, flags, version)?;
        (rest, Some(will))
    } else {
        (rest, None)
    };
    let (rest, username) = if flags & 0x80 != 0 {
        let (rest, username) = text(rest)?;
        (rest, Some(username))
    } else {
        (rest, None)
    };
    let (rest, password) = if flags & 0x40 != 0 {
        let (rest, password) = binary(rest)?;
        (rest, Some(password))
    } else {
        (rest, None)
    };
    let clean_start = flags & 0x02 != 0;
    Ok((
        rest,
        Connect { version, bridge, clean_start, keep_alive, client_id, will, username, password, properties },
    ))
}

/// The protocol name and level: which version, and whether the bridge bit is set.
fn protocol(input: &[u8]) -> Parsed<'_, (ProtocolVersion, bool)> {
    let (rest, name) = binary(input)?;
    let versions: &[ProtocolVersion] = match name {
        b"MQTT" => &[ProtocolVersion::V3_1_1, ProtocolVersion::V5],
        b"MQIsdp" => &[ProtocolVersion::V3_1],
        _ => return fail(Fault::ProtocolName),
    };
    let (rest, level) = byte(rest)?;
    for &version in versions {
        if level == version.level() {
            return Ok((rest, (version, false)));
        }
        if level == version.level() | BRIDGE && version != ProtocolVersion::V5 {
            return Ok((rest, (version, true)));
        }
    }
    fail(Fault::ProtocolLevel.with(level))
}

/// The connect flags: user name, password, will retain, will QoS (2 bits), will, clean start, reserved.
fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), nom::Err<Flaw>> {
    let fault = if flags & 0x01 != 0 {
        Fault::ConnectFlags
    } else if flags & 0x04 == 0 && flags & 0x38 != 0 {
        Fault::WillFlags
    } else if flags & 0xC0 == 0x40 && version != ProtocolVersion::V5 {
        Fault::PasswordWithoutUserName
    } else {
        return Ok(());
    };
    fail(fault.with(flags))
}

fn will(input: &[u8], flags: u8, version: ProtocolVersion) -> Parsed<'_, Will<'_>> {
    let Some(qos) = QoS::from_u8(flags >> 3 & 0x03) else {
        return fail(Fault::WillQoS3);
    };
    let (rest, properties) = properties_at(input, version, Place::WILL)?;
    let (rest, topic) = topic_name(rest)?;
    if topic.is_empty() {
        return fail(Fault::TopicEmpty);
    }
    let (rest, payload) = binary(rest)?;
    Ok((
        rest,
        Will { topic: text_of(topic.as_bytes())?, payload, qos, retain: flags & 0x20 != 0, properties },
    ))
}

fn properties_at(input: &[u8], version: ProtocolVersion, place: Place) -> Parsed<'_, Properties<'_>> {
    if version != ProtocolVersion::V5 {
        return Ok((input, Properties::EMPTY));
    }
    properties(input, place).map(|(rest, (properties, _))| (rest, properties))
}
