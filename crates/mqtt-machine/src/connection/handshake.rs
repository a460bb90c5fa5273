//! Owns the CONNECT packet: how a configuration becomes one. It must not know what the server makes of it.

use bytes::BytesMut;

use crate::config::{Config, Credentials};
use crate::packet::{Connect, Packet, PropertiesBuf, Property, Will};
use crate::types::{ProtocolVersion, Secret};
use crate::wire::{self, EncodeError};

use super::{seconds_u16, seconds_u32};

/// Who connects, and how the session begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
}

/// What the client shows of itself: the configuration's, or what [`Answer::Prepared`](crate::Answer::Prepared) said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presented {
    pub(crate) credentials: Credentials,
    /// The Authentication Data.
    pub(crate) initial_data: Option<Secret>,
}

impl Presented {
    pub(crate) fn of(config: &Config) -> Self {
        let initial_data = config.authentication.as_ref().and_then(|method| method.initial_data.clone());
        Self { credentials: config.credentials.clone(), initial_data }
    }
}

/// The properties of CONNECT; values at their defaults are not sent.
fn properties(config: &Config, initial_data: Option<&Secret>) -> PropertiesBuf {
    let mut list = config.user_properties.clone();
    if config.version != ProtocolVersion::V5 {
        return list;
    }
    let mut add = |wanted: bool, property: Property<'_>| {
        if wanted {
            // A property that the caller already put among the user properties stays as it is; encoding says more.
            let _ = list.push(property);
        }
    };
    let expiry = seconds_u32(config.session_expiry);
    add(expiry != 0, Property::SessionExpiryInterval(expiry));
    add(config.receive_maximum != u16::MAX, Property::ReceiveMaximum(config.receive_maximum.max(1)));
    add(true, Property::MaximumPacketSize(config.maximum_packet_size.max(1)));
    add(config.topic_alias_maximum != 0, Property::TopicAliasMaximum(config.topic_alias_maximum));
    add(!config.request_problem_information, Property::RequestProblemInformation(false));
    add(config.request_response_information, Property::RequestResponseInformation(true));
    if let Some(authentication) = &config.authentication {
        add(true, Property::AuthenticationMethod(&authentication.method));
        if let Some(data) = initial_data {
            add(true, Property::AuthenticationData(data.expose()));
        }
    }
    list
}

/// Writes CONNECT.
///
/// # Errors
/// The [`EncodeError`] names the field of the configuration that cannot be sent.
pub(crate) fn write_connect(
    config: &Config,
    presented: &Presented,
    identity: Identity<'_>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    check_client_id(config, identity)?;
    with_connect(config, presented, identity, |packet| wire::encode(packet, config.version, out))
}

/// The length of CONNECT, to check a configuration before it is used.
///
/// # Errors
/// As [`write_connect`].
pub(crate) fn connect_packet_length(
    config: &Config,
    presented: &Presented,
    identity: Identity<'_>,
) -> Result<usize, EncodeError> {
    check_client_id(config, identity)?;
    with_connect(config, presented, identity, |packet| wire::encoded_len(packet, config.version))
}

/// 3.1 allows 23 characters; later versions leave the length to the server.
fn check_client_id(config: &Config, identity: Identity<'_>) -> Result<(), EncodeError> {
    let characters = identity.client_id.chars().count();
    if config.version == ProtocolVersion::V3_1 && characters > 23 {
        return Err(EncodeError::ClientIdentifierTooLong { characters });
    }
    Ok(())
}

fn with_connect<T>(
    config: &Config,
    presented: &Presented,
    identity: Identity<'_>,
    then: impl FnOnce(&Packet<'_>) -> T,
) -> T {
    let properties = properties(config, presented.initial_data.as_ref());
    let will = config.will.as_ref().map(|will| Will {
        topic: will.message.topic.as_str(),
        payload: &will.message.payload,
        qos: will.message.qos,
        retain: will.message.retain,
        properties: will.message.properties.as_properties(),
    });
    then(&Packet::Connect(Connect {
        version: config.version,
        bridge: config.bridge && config.version != ProtocolVersion::V5,
        clean_start: identity.clean_start,
        keep_alive: seconds_u16(config.keep_alive),
        client_id: identity.client_id,
        will,
        username: presented.credentials.username.as_deref(),
        password: presented.credentials.password.as_ref().map(Secret::expose),
        properties: properties.as_properties(),
    }))
}
