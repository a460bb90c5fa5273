//! Owns lists of properties: reading, checking and writing them by the one table. It must not know what a property does.

mod table;

use bytes::{BufMut, BytesMut};

use table::{Allowed, KINDS, Kind, row};
pub(super) use table::{Place, Seen};

use super::error::{Fault, Flaw};
use super::primitives::{
    Parsed, binary, byte, checked_text, fail, four_bytes, topic_name, two_bytes, var_int,
};
use crate::error::{PropertyError, TopicError};
use crate::packet::{Properties, Property, PropertyId};
use crate::text::is_plain;
use crate::types::{MAX_FIELD, check_name};

/// The property length, the properties, and which ones there are, all of them valid in `place`.
#[inline]
pub(super) fn properties(input: &[u8], place: Place) -> Parsed<'_, (Properties<'_>, Seen)> {
    match input.split_first() {
        Some((0, rest)) => Ok((rest, (Properties::EMPTY, Seen::default()))),
        _ => some_properties(input, place),
    }
}

fn some_properties(input: &[u8], place: Place) -> Parsed<'_, (Properties<'_>, Seen)> {
    let (rest, length) = var_int(input)?;
    let (rest, bytes) = nom::bytes::complete::take(length)(rest)?;
    let allowed = Allowed::at(place);
    let mut seen = Seen::default();
    let mut left: &[u8] = bytes;
    while !left.is_empty() {
        (left, seen) = one_property(left, place, allowed, seen)?;
    }
    if seen.lacks_method() {
        return fail(Fault::AuthenticationMethodMissing);
    }
    Ok((rest, (Properties::from_validated(bytes), seen)))
}

/// Walks over one property and adds it to `seen`.
#[inline]
fn one_property(input: &[u8], place: Place, allowed: Allowed, seen: Seen) -> Parsed<'_, Seen> {
    let (rest, id) = byte(input)?;
    let bit = 1_u64.wrapping_shl(u32::from(id));
    let kind = match KINDS.get(usize::from(id)) {
        Some(kind) if allowed.beside(seen) & bit != 0 => *kind,
        _ => return fail(not_here(input, place)),
    };
    match property_value(rest, kind) {
        Ok((rest, ())) => Ok((rest, Seen(seen.0 | bit))),
        Err(error) => Err(error.map(|flaw| of_property(flaw, id))),
    }
}

/// Names what is wrong with a property that is not allowed here: `PropertyRepeated`, if all else is right.
#[cold]
fn not_here(input: &[u8], place: Place) -> Flaw {
    let Some(id) = input.first().copied().and_then(PropertyId::from_u8) else {
        return unknown_property(input);
    };
    let places = row(id).places;
    if places.meets(place) {
        Fault::PropertyRepeated.of(id)
    } else if places.meets(place.any_sender()) {
        Fault::PropertySender.of(id)
    } else {
        Fault::PropertyMisplaced.of(id)
    }
}

#[cold]
fn of_property(flaw: Flaw, id: u8) -> Flaw {
    PropertyId::from_u8(id).map_or(flaw, |id| flaw.of(id))
}

/// Walks over the value of a property of this kind.
#[inline]
fn property_value(input: &[u8], kind: Kind) -> Parsed<'_, ()> {
    let (rest, unfit) = match kind {
        Kind::Bit => byte(input).map(|(rest, value)| (rest, (value > 1).then_some(u32::from(value))))?,
        Kind::TwoBytes => two_bytes(input).map(|(rest, _)| (rest, None))?,
        Kind::TwoBytesNotZero => two_bytes(input).map(|(rest, value)| (rest, (value == 0).then_some(0)))?,
        Kind::Alias => match two_bytes(input)? {
            (_, 0) => return fail(Fault::TopicAliasZero),
            (rest, _) => (rest, None),
        },
        Kind::FourBytes => four_bytes(input).map(|(rest, _)| (rest, None))?,
        Kind::FourBytesNotZero => four_bytes(input).map(|(rest, value)| (rest, (value == 0).then_some(0)))?,
        Kind::VarIntNotZero => var_int(input).map(|(rest, value)| (rest, (value == 0).then_some(0)))?,
        Kind::Text => checked_text(input).map(|(rest, _)| (rest, None))?,
        Kind::Topic => (response_topic(input)?.0, None),
        Kind::Binary => binary(input).map(|(rest, _)| (rest, None))?,
        Kind::Pair => {
            let (rest, _) = checked_text(input)?;
            checked_text(rest).map(|(rest, _)| (rest, None))?
        }
    };
    match unfit {
        Some(value) => fail(Fault::PropertyValue.with(value)),
        None => Ok((rest, ())),
    }
}

fn response_topic(input: &[u8]) -> Parsed<'_, ()> {
    match topic_name(input) {
        Ok((rest, topic)) if !topic.is_empty() => Ok((rest, ())),
        Ok(_) => fail(Fault::ResponseTopic),
        Err(error) => Err(error.map(|flaw| {
            if flaw.fault == Fault::TopicWildcard { flaw.as_fault(Fault::ResponseTopic) } else { flaw }
        })),
    }
}

/// Identifiers are variable byte integers; all that exist have one byte.
fn unknown_property(input: &[u8]) -> Flaw {
    match var_int(input) {
        Err(nom::Err::Failure(flaw)) => flaw,
        Ok((_, id)) => Fault::PropertyUnknown.with(id),
        Err(_) => Fault::PropertyUnknown.into(),
    }
}

/// Why properties do not belong into a packet that is to be written.
pub(super) enum Unfit {
    Misplaced(PropertyId),
    Repeated(PropertyId),
}

/// Checks that valid properties may stand together in one of the places of `place`: a sender that may have sent all of them.
pub(super) fn fit(properties: Properties<'_>, place: Place) -> Result<Seen, Unfit> {
    let (mut seen, mut again) = (0_u64, 0_u64);
    let mut left = properties.as_bytes();
    while let Some((id, rest)) = skip_first(left) {
        left = rest;
        again |= seen & Seen::bit(id);
        seen |= Seen::bit(id);
    }
    let mut senders = place;
    while senders != Place::NONE {
        let allowed = Allowed::at(senders);
        if seen & !allowed.any == 0 && again & allowed.once == 0 {
            return Ok(Seen(seen));
        }
        senders = senders.without_first();
    }
    fit_in_order(properties, place)
}

/// The same, one after the other, so that the first that does not fit is named.
#[cold]
fn fit_in_order(properties: Properties<'_>, mut place: Place) -> Result<Seen, Unfit> {
    let mut seen = Seen::default();
    let mut left = properties.as_bytes();
    while let Some((id, rest)) = skip_first(left) {
        left = rest;
        let row = row(id);
        if !row.places.meets(place) {
            return Err(Unfit::Misplaced(id));
        }
        place = place.and(row.places);
        if seen.has(id) && !row.repeats.meets(place) {
            return Err(Unfit::Repeated(id));
        }
        seen.0 |= Seen::bit(id);
    }
    Ok(seen)
}

/// Checks the value of one property, wherever it will stand.
pub(crate) fn check(property: &Property<'_>) -> Result<(), PropertyError> {
    let id = property.id();
    let in_range = |ok: bool, value: u32| {
        if ok { Ok(()) } else { Err(PropertyError::OutOfRange { property: id, value }) }
    };
    let fits = |bytes: &[u8]| {
        if bytes.len() > MAX_FIELD {
            return Err(PropertyError::TooLong { property: id, bytes: bytes.len() });
        }
        Ok(())
    };
    let check_text = |text: &str| {
        fits(text.as_bytes())?;
        if is_plain(text.as_bytes()) {
            return Ok(());
        }
        match text.as_bytes().iter().position(|byte| *byte == 0) {
            Some(at) => Err(PropertyError::Nul { property: id, at }),
            None => Ok(()),
        }
    };
    match *property {
        Property::ResponseTopic(topic) => match check_name(topic) {
            Err(TopicError::TooLong { bytes }) => Err(PropertyError::TooLong { property: id, bytes }),
            Err(TopicError::Nul { at }) => Err(PropertyError::Nul { property: id, at }),
            Err(error) => Err(PropertyError::ResponseTopic(error)),
            Ok(()) => Ok(()),
        },
        Property::ContentType(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => check_text(text),
        Property::UserProperty(name, value) => check_text(name).and_then(|()| check_text(value)),
        Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => fits(bytes),
        Property::SubscriptionIdentifier(value) => {
            in_range((1..=super::frame::MAX_REMAINING_LENGTH).contains(&value), value)
        }
        Property::ReceiveMaximum(value) | Property::TopicAlias(value) => {
            in_range(value != 0, u32::from(value))
        }
        Property::MaximumPacketSize(value) => in_range(value != 0, value),
        Property::MaximumQoS(value) => in_range(value <= 1, u32::from(value)),
        Property::PayloadFormatIndicator(_)
        | Property::MessageExpiryInterval(_)
        | Property::SessionExpiryInterval(_)
        | Property::ServerKeepAlive(_)
        | Property::RequestProblemInformation(_)
        | Property::WillDelayInterval(_)
        | Property::RequestResponseInformation(_)
        | Property::TopicAliasMaximum(_)
        | Property::RetainAvailable(_)
        | Property::WildcardSubscriptionAvailable(_)
        | Property::SubscriptionIdentifierAvailable(_)
        | Property::SharedSubscriptionAvailable(_) => Ok(()),
    }
}

/// Writes one property that [`check`] has accepted.
pub(crate) fn put(property: &Property<'_>, out: &mut BytesMut) {
    out.put_u8(property.id() as u8);
    match *property {
        Property::PayloadFormatIndicator(value)
        | Property::RequestProblemInformation(value)
        | Property::RequestResponseInformation(value)
        | Property::RetainAvailable(value)
        | Property::WildcardSubscriptionAvailable(value)
        | Property::SubscriptionIdentifierAvailable(value)
        | Property::SharedSubscriptionAvailable(value) => out.put_u8(u8::from(value)),
        Property::MaximumQoS(value) => out.put_u8(value),
        Property::ServerKeepAlive(value)
        | Property::ReceiveMaximum(value)
        | Property::TopicAliasMaximum(value)
        | Property::TopicAlias(value) => out.put_u16(value),
        Property::MessageExpiryInterval(value)
        | Property::SessionExpiryInterval(value)
        | Property::WillDelayInterval(value)
        | Property::MaximumPacketSize(value) => out.put_u32(value),
        Property::SubscriptionIdentifier(value) => {
            let (bytes, count) = super::encode::var_int_bytes(value);
            out.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
        Property::ContentType(text)
        | Property::ResponseTopic(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => put_field(text.as_bytes(), out),
        Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => put_field(bytes, out),
        Property::UserProperty(name, value) => {
            put_field(name.as_bytes(), out);
            put_field(value.as_bytes(), out);
        }
    }
}

fn put_field(bytes: &[u8], out: &mut BytesMut) {
    // `check` refused what is longer; cutting length and bytes alike keeps the frame whole should that ever change.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

/// The first property with this identifier in a list that was validated.
pub(crate) fn find(mut list: &[u8], wanted: PropertyId) -> Option<Property<'_>> {
    while let Some((id, rest)) = skip_first(list) {
        if id == wanted {
            return split_first(list).map(|(property, _)| property);
        }
        list = rest;
    }
    None
}

/// The identifier of the first property of a list that was validated, and what follows it; its value is not read.
fn skip_first(list: &[u8]) -> Option<(PropertyId, &[u8])> {
    let (id, rest) = list.split_first()?;
    let id = PropertyId::from_u8(*id)?;
    let rest = match KINDS.get(id as usize)? {
        Kind::Bit => rest.get(1..),
        Kind::TwoBytes | Kind::TwoBytesNotZero | Kind::Alias => rest.get(2..),
        Kind::FourBytes | Kind::FourBytesNotZero => rest.get(4..),
        Kind::VarIntNotZero => var_int(rest).ok().map(|(rest, _)| rest),
        Kind::Text | Kind::Topic | Kind::Binary => binary(rest).ok().map(|(rest, _)| rest),
        Kind::Pair => binary(rest).and_then(|(rest, _)| binary(rest)).ok().map(|(rest, _)| rest),
    }?;
    Some((id, rest))
}

/// The first property of a list that was validated, and the rest of the list; `None` at its end.
pub(crate) fn split_first(input: &[u8]) -> Option<(Property<'_>, &[u8])> {
    use PropertyId as Id;
    let (id, rest) = input.split_first()?;
    let (value, rest) = match PropertyId::from_u8(*id)? {
        Id::PayloadFormatIndicator => bit(rest, Property::PayloadFormatIndicator)?,
        Id::RequestProblemInformation => bit(rest, Property::RequestProblemInformation)?,
        Id::RequestResponseInformation => bit(rest, Property::RequestResponseInformation)?,
        Id::RetainAvailable => bit(rest, Property::RetainAvailable)?,
        Id::WildcardSubscriptionAvailable => bit(rest, Property::WildcardSubscriptionAvailable)?,
        Id::SubscriptionIdentifierAvailable => bit(rest, Property::SubscriptionIdentifierAvailable)?,
        Id::SharedSubscriptionAvailable => bit(rest, Property::SharedSubscriptionAvailable)?,
        Id::MaximumQoS => rest.split_first().map(|(value, rest)| (Property::MaximumQoS(*value), rest))?,
        Id::ServerKeepAlive => short(rest, Property::ServerKeepAlive)?,
        Id::ReceiveMaximum => short(rest, Property::ReceiveMaximum)?,
        Id::TopicAliasMaximum => short(rest, Property::TopicAliasMaximum)?,
        Id::TopicAlias => short(rest, Property::TopicAlias)?,
        Id::MessageExpiryInterval => long(rest, Property::MessageExpiryInterval)?,
        Id::SessionExpiryInterval => long(rest, Property::SessionExpiryInterval)?,
        Id::WillDelayInterval => long(rest, Property::WillDelayInterval)?,
        Id::MaximumPacketSize => long(rest, Property::MaximumPacketSize)?,
        Id::SubscriptionIdentifier => {
            let (rest, value) = var_int(rest).ok()?;
            (Property::SubscriptionIdentifier(value), rest)
        }
        Id::ContentType => string(rest, Property::ContentType)?,
        Id::ResponseTopic => string(rest, Property::ResponseTopic)?,
        Id::AssignedClientIdentifier => string(rest, Property::AssignedClientIdentifier)?,
        Id::AuthenticationMethod => string(rest, Property::AuthenticationMethod)?,
        Id::ResponseInformation => string(rest, Property::ResponseInformation)?,
        Id::ServerReference => string(rest, Property::ServerReference)?,
        Id::ReasonString => string(rest, Property::ReasonString)?,
        Id::CorrelationData => data(rest, Property::CorrelationData)?,
        Id::AuthenticationData => data(rest, Property::AuthenticationData)?,
        Id::UserProperty => {
            let (rest, name) = binary(rest).ok()?;
            string(rest, |value| {
                Property::UserProperty(core::str::from_utf8(name).unwrap_or_default(), value)
            })?
        }
    };
    Some((value, rest))
}

fn bit<'a>(input: &'a [u8], property: fn(bool) -> Property<'a>) -> Option<(Property<'a>, &'a [u8])> {
    input.split_first().map(|(value, rest)| (property(*value != 0), rest))
}

fn short<'a>(input: &'a [u8], property: fn(u16) -> Property<'a>) -> Option<(Property<'a>, &'a [u8])> {
    two_bytes(input).ok().map(|(rest, value)| (property(value), rest))
}

fn long<'a>(input: &'a [u8], property: fn(u32) -> Property<'a>) -> Option<(Property<'a>, &'a [u8])> {
    four_bytes(input).ok().map(|(rest, value)| (property(value), rest))
}

fn data<'a>(input: &'a [u8], property: fn(&'a [u8]) -> Property<'a>) -> Option<(Property<'a>, &'a [u8])> {
    binary(input).ok().map(|(rest, value)| (property(value), rest))
}

fn string<'a>(
    input: &'a [u8],
    property: impl FnOnce(&'a str) -> Property<'a>,
) -> Option<(Property<'a>, &'a [u8])> {
    binary(input).ok().map(|(rest, text)| (property(core::str::from_utf8(text).unwrap_or_default()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PropertiesBuf;

    #[test]
    fn a_value_out_of_range_is_refused_when_it_is_put_into_a_list() {
        for property in [
            Property::ReceiveMaximum(0),
            Property::TopicAlias(0),
            Property::MaximumPacketSize(0),
            Property::MaximumQoS(2),
            Property::SubscriptionIdentifier(0),
            Property::SubscriptionIdentifier(268_435_456),
        ] {
            let error = PropertiesBuf::new().with(property).unwrap_err();
            assert!(matches!(error, PropertyError::OutOfRange { .. }), "{property:?}");
        }
        for (property, error) in [
            (Property::ReasonString("a\0"), PropertyError::Nul { property: PropertyId::ReasonString, at: 1 }),
            (
                Property::UserProperty("a", "\0"),
                PropertyError::Nul { property: PropertyId::UserProperty, at: 0 },
            ),
            (Property::ResponseTopic(""), PropertyError::ResponseTopic(TopicError::Empty)),
            (
                Property::ResponseTopic("a/#"),
                PropertyError::ResponseTopic(TopicError::WildcardInName { at: 2 }),
            ),
        ] {
            assert_eq!(check(&property), Err(error));
        }
        let long = [0; 65_536];
        let error = PropertyError::TooLong { property: PropertyId::CorrelationData, bytes: 65_536 };
        assert_eq!(check(&Property::CorrelationData(&long)), Err(error));
        assert_eq!(check(&Property::CorrelationData(&long[1..])), Ok(()));
    }

    #[test]
    fn a_property_is_found_behind_others() {
        let list = PropertiesBuf::new()
            .with(Property::UserProperty("a", "b"))
            .and_then(|list| list.with(Property::SubscriptionIdentifier(300)))
            .and_then(|list| list.with(Property::ContentType("text")))
            .and_then(|list| list.with(Property::TopicAlias(7)))
            .unwrap();
        assert_eq!(
            find(list.as_properties().as_bytes(), PropertyId::TopicAlias),
            Some(Property::TopicAlias(7))
        );
        assert_eq!(find(list.as_properties().as_bytes(), PropertyId::ReasonString), None);
    }
}
