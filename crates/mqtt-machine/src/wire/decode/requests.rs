//! Owns the decoding of SUBSCRIBE and UNSUBSCRIBE (sections 3.8 and 3.10).
//! It must not know whether a server grants what they ask for.

use alloc::vec::Vec;

use super::{Parsed, fail, properties_of};
use crate::error::TopicError;
use crate::packet::{PacketType, Sender, Subscribe, SubscribeFilter, Unsubscribe};
use crate::types::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions, check_filter};
use crate::wire::error::{Fault, Flaw};
use crate::wire::primitives::{byte, packet_id, text};

pub(super) fn subscribe(body: &[u8], version: ProtocolVersion) -> Parsed<'_, Subscribe<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (mut rest, properties) = properties_of(rest, PacketType::Subscribe, version, Sender::Client)?;
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let (after, filter) = topic_filter(rest)?;
        let (after, options) = byte(after)?;
        let Some(options) = subscription_options(options, version) else {
            return fail(Fault::SubscriptionOptions.with(options));
        };
        if options.no_local && filter.starts_with("$share/") {
            return fail(Fault::NoLocalShared);
        }
        filters.push(SubscribeFilter { filter, options });
        rest = after;
    }
    if filters.is_empty() {
        return fail(Fault::NoFilters);
    }
    Ok((rest, Subscribe { packet_id, properties, filters }))
}

pub(super) fn unsubscribe(body: &[u8], version: ProtocolVersion) -> Parsed<'_, Unsubscribe<'_>> {
    let (rest, packet_id) = packet_id(body)?;
    let (mut rest, properties) = properties_of(rest, PacketType::Unsubscribe, version, Sender::Client)?;
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let (after, filter) = topic_filter(rest)?;
        filters.push(filter);
        rest = after;
    }
    if filters.is_empty() {
        return fail(Fault::NoFilters);
    }
    Ok((rest, Unsubscribe { packet_id, properties, filters }))
}

fn topic_filter(input: &[u8]) -> Parsed<'_, &str> {
    let (rest, filter) = text(input)?;
    match check_filter(filter) {
        Ok(()) => Ok((rest, filter)),
        Err(error) => fail(flaw_of(filter, error)),
    }
}

/// Names the character of a filter that breaks a rule, where it is one.
#[cold]
fn flaw_of(filter: &str, error: TopicError) -> Flaw {
    match error {
        TopicError::Wildcard { at } => {
            filter.as_bytes().get(at).map_or(Fault::TopicFilter.into(), |byte| Fault::TopicFilter.with(*byte))
        }
        _ => Fault::TopicFilter.into(),
    }
}

/// The options byte; `None` for reserved bits and values. Before 5.0 it holds the QoS only.
fn subscription_options(byte: u8, version: ProtocolVersion) -> Option<SubscriptionOptions> {
    let known = if version == ProtocolVersion::V5 { 0x3F } else { 0x03 };
    if byte & !known != 0 {
        return None;
    }
    let retain_handling = match byte >> 4 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return None,
    };
    Some(SubscriptionOptions {
        qos: QoS::from_u8(byte & 0x03)?,
        no_local: byte & 0x04 != 0,
        retain_as_published: byte & 0x08 != 0,
        retain_handling,
    })
}
