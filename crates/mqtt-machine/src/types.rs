//! Owns the small values that the specification names: identifiers, QoS, topic names and filters.
//! It must not know how they are written on the wire.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU16;

use bytes::Bytes;

use crate::error::TopicError;
use crate::text::is_plain_name;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// MQTT 3.1 (protocol name `MQIsdp`, level 3).
    V3_1,
    /// MQTT 3.1.1 (level 4).
    V3_1_1,
    /// MQTT 5.0 (level 5).
    #[default]
    V5,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V3_1, Self::V3_1_1, Self::V5];

    /// The protocol level in the CONNECT packet.
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// The protocol name in the CONNECT packet.
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// The quality of service of a message or the most that a subscription takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: delivered once or not at all.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: delivered, perhaps more than once.
    AtLeastOnce = 1,
    /// QoS 2: delivered once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Its number: 0, 1 or 2.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_u8())
    }
}

/// How urgent a message is among those that wait here. The server is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// It leaves when nothing else waits, and is the first to go where [`Overflow`](crate::Overflow) makes room.
    Low = 0,
    /// As it comes.
    #[default]
    Normal = 1,
    /// It leaves before all others that wait.
    High = 2,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

/// A packet identifier: 1 to 65,535 `[MQTT-2.2.1-3]`. Zero cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The first identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The last identifier.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The identifier `value`; `None` for zero.
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Its number.
    pub const fn to_u16(self) -> u16 {
        self.0.get()
    }

    /// The identifier after this one: 1 comes after 65,535.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(value) => Self(value),
            None => Self::MIN,
        }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one transport for its whole life. What a dead one still says is recognised by its number and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(u64);

impl TransportId {
    /// The transport with this number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its number. Numbers count up and never come again within one machine.
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// Names one accepted command for its whole life, across reconnects and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u64);

impl OpId {
    /// The operation with this number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its number. Numbers count up in the order of acceptance and never come again within one session.
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// The position of a record in the journal. Positions count up by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalSeq(u64);

impl JournalSeq {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position with this number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// An opaque name of a server. The core compares and rotates servers; what is in the text is the driver's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server(Arc<str>);

impl Server {
    /// A server of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name, as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that must not be seen in logs: `Debug` prints its length only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// Keeps `bytes` from being printed.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// The longest UTF-8 string or binary field that MQTT can carry, in bytes.
pub const MAX_FIELD: usize = 65_535;

/// The name of a topic: 1 to 65,535 bytes of UTF-8 without U+0000 and without wildcards
/// `[MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]`.
///
/// It is a counted view of bytes: cloning copies nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Bytes);

impl TopicName {
    /// Checks `topic` and copies it.
    ///
    /// # Errors
    /// The [`TopicError`] says which rule `topic` breaks.
    pub fn new(topic: &str) -> Result<Self, TopicError> {
        check_name(topic)?;
        Ok(Self(Bytes::copy_from_slice(topic.as_bytes())))
    }

    /// Takes bytes that [`wire`](crate::wire) has already validated.
    pub(crate) const fn from_validated(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The topic as text. Linear in its length: the bytes are checked again, since no `unsafe` stands here.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The topic's bytes, at no cost.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy that shares no memory with the buffer it was read from.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

/// A topic filter: 1 to 65,535 bytes of UTF-8 without U+0000, `#` only as the whole last level and `+` only as a whole
/// level `[MQTT-4.7.1-1] [MQTT-4.7.1-2]`, a share name without wildcards `[MQTT-4.8.2-1] [MQTT-4.8.2-2]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `filter` and copies it.
    ///
    /// # Errors
    /// The [`TopicError`] says which rule `filter` breaks.
    pub fn new(filter: &str) -> Result<Self, TopicError> {
        check_filter(filter)?;
        Ok(Self(Arc::from(filter)))
    }

    /// The whole filter as it goes on the wire, `$share/...` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The share name and the filter behind it, when this is a shared subscription.
    pub fn shared(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("$share/")?.split_once('/')
    }

    /// The filter that topics are matched against: what follows the share name, or the whole.
    pub fn pattern(&self) -> &str {
        self.shared().map_or(&self.0, |(_, filter)| filter)
    }

    /// True when it holds `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.pattern().bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether messages of `topic` belong to this filter (section 4.7).
    ///
    /// A wildcard in the first level does not match a topic that begins with `$` `[MQTT-4.7.2-1]`.
    ///
    /// ```
    /// use mqtt_machine::{TopicFilter, TopicName};
    ///
    /// let filter = TopicFilter::new("sport/+/player/#")?;
    /// assert!(filter.matches(&TopicName::new("sport/tennis/player")?));
    /// assert!(!filter.matches(&TopicName::new("sport/tennis")?));
    /// # Ok::<(), mqtt_machine::TopicError>(())
    /// ```
    pub fn matches(&self, topic: &TopicName) -> bool {
        matches(self.pattern().as_bytes(), topic.as_bytes())
    }
}

fn matches(filter: &[u8], topic: &[u8]) -> bool {
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let mut levels = topic.split(|byte| *byte == b'/');
    for pattern in filter.split(|byte| *byte == b'/') {
        if pattern == b"#" {
            return true;
        }
        match levels.next() {
            Some(level) if pattern == b"+" || pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_FIELD {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    match text.find('\0') {
        Some(at) => Err(TopicError::Nul { at }),
        None => Ok(()),
    }
}

#[inline]
pub(crate) fn check_name(topic: &str) -> Result<(), TopicError> {
    if (1..=MAX_FIELD).contains(&topic.len()) && is_plain_name(topic.as_bytes()) {
        return Ok(());
    }
    check_unusual_name(topic)
}

/// A topic name that is not plain: beyond ASCII, or wrong.
#[cold]
fn check_unusual_name(topic: &str) -> Result<(), TopicError> {
    check_text(topic)?;
    match topic.find(['+', '#']) {
        Some(at) => Err(TopicError::WildcardInName { at }),
        None => Ok(()),
    }
}

pub(crate) fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_text(filter)?;
    let mut pattern = filter;
    let mut offset = 0_usize;
    if let Some(rest) = filter.strip_prefix("$share/") {
        let Some((name, shared)) = rest.split_once('/') else {
            return Err(TopicError::ShareWithoutFilter);
        };
        if name.is_empty() || name.contains(['+', '#']) {
            return Err(TopicError::ShareName);
        }
        if shared.is_empty() {
            return Err(TopicError::ShareWithoutFilter);
        }
        offset = filter.len().saturating_sub(shared.len());
        pattern = shared;
    }
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        if let Some(at) = level.find(['+', '#']) {
            let at_end = levels.peek().is_none();
            match level {
                "+" => {}
                "#" if at_end => {}
                _ => return Err(TopicError::Wildcard { at: offset.saturating_add(at) }),
            }
        }
        offset = offset.saturating_add(level.len()).saturating_add(1);
    }
    Ok(())
}

macro_rules! text_traits {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TopicError;

            fn try_from(text: String) -> Result<Self, TopicError> {
                Self::new(&text)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = TopicError;

            fn try_from(text: &String) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<&Self> for $name {
            type Error = TopicError;

            fn try_from(name: &Self) -> Result<Self, TopicError> {
                Ok(name.clone())
            }
        }
    )*};
}

text_traits! { TopicName TopicFilter }

/// What becomes of retained messages when a subscription is made (5.0, section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them at every subscribe.
    #[default]
    Send = 0,
    /// Send them only when the subscription is new.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// The options of one subscription. MQTT 3.x knows only the QoS; the rest is not sent there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The most that the server may grant.
    pub qos: QoS,
    /// Messages that this client published are not sent back to it.
    pub no_local: bool,
    /// The retain flag is forwarded as it was published.
    pub retain_as_published: bool,
    /// What becomes of retained messages.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// These options with a QoS and nothing else.
    pub const fn new(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
    }
}

/// What the entry of a subscription counts in the caps, in bytes: the same on every target.
const SUBSCRIPTION_ENTRY: usize = 24;
const _: () = assert!(size_of::<Subscription>() <= SUBSCRIPTION_ENTRY);

/// A topic filter with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which topics.
    pub filter: TopicFilter,
    /// How.
    pub options: SubscriptionOptions,
}

impl Subscription {
    /// A subscription to `filter` with at most `qos`.
    pub const fn new(filter: TopicFilter, qos: QoS) -> Self {
        Self { filter, options: SubscriptionOptions::new(qos) }
    }

    /// Its heap bytes, for the caps.
    pub(crate) fn cost(&self) -> usize {
        self.filter.as_str().len().saturating_add(SUBSCRIPTION_ENTRY)
    }
}

/// The heap bytes of several subscriptions, for the caps.
pub(crate) fn subscriptions_cost(subscriptions: &[Subscription]) -> usize {
    subscriptions.iter().fold(0, |sum, subscription| sum.saturating_add(subscription.cost()))
}

/// The heap bytes of a list of filters, for the caps.
pub(crate) fn filters_cost(filters: &[TopicFilter]) -> usize {
    filters.iter().fold(0, |sum, filter| sum.saturating_add(filter.as_str().len()).saturating_add(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    // 5.0: MQTT-4.7.2-1, MQTT-4.7.3-4
    // 3.1.1: MQTT-4.7.2-1, MQTT-4.7.3-4
    #[test]
    fn filters_match_as_section_4_7_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/B", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("#", "a/b", true),
            ("#", "/", true),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("a/#", "a/b/c", true),
            ("+/b/#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$share/group/a/+", "a/b", true),
        ] {
            let name = TopicName::new(topic).unwrap();
            assert_eq!(TopicFilter::new(filter).unwrap().matches(&name), expected, "{filter} {topic}");
        }
    }

    // 5.0: MQTT-4.7.0-1, MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-1, MQTT-4.7.3-2, MQTT-4.7.3-3, MQTT-4.8.2-1
    // 5.0: MQTT-4.8.2-2
    // 3.1.1: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1, MQTT-4.7.3-2, MQTT-4.7.3-3
    #[test]
    fn filters_and_names_that_break_a_rule_are_refused_with_the_place() {
        for (filter, error) in [
            ("", TopicError::Empty),
            ("a\0", TopicError::Nul { at: 1 }),
            ("a/#/b", TopicError::Wildcard { at: 2 }),
            ("a#", TopicError::Wildcard { at: 1 }),
            ("a/b+", TopicError::Wildcard { at: 3 }),
            ("$share/g", TopicError::ShareWithoutFilter),
            ("$share/g/", TopicError::ShareWithoutFilter),
            ("$share//a", TopicError::ShareName),
            ("$share/g+/a", TopicError::ShareName),
            ("$share/g/a+", TopicError::Wildcard { at: 10 }),
        ] {
            assert_eq!(TopicFilter::new(filter).unwrap_err(), error, "{filter}");
        }
        assert_eq!(TopicName::new("a/+").unwrap_err(), TopicError::WildcardInName { at: 2 });
        let long = "x".repeat(65_536);
        assert_eq!(TopicName::new(&long).unwrap_err(), TopicError::TooLong { bytes: 65_536 });
    }

    #[test]
    fn packet_identifiers_count_from_1_to_65535_and_round() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::MAX.next(), PacketId::MIN);
        assert_eq!(PacketId::MIN.next().to_u16(), 2);
    }
}
