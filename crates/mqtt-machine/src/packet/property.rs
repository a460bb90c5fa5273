//! Owns the properties of MQTT 5.0: their names, and lists of them.
//! It must not know which packet they travel in; the one table of that stands in [`wire`](crate::wire).

use core::fmt;

use bytes::{Bytes, BytesMut};

use crate::error::PropertyError;
use crate::wire::property as codec;

macro_rules! property_ids {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        /// The identifier of a property (5.0, section 2.2.2.2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $($(#[$doc])* $name = $value,)*
        }

        impl PropertyId {
            /// Every identifier, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The property with this identifier.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name, as in the specification but without spaces.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

property_ids! {
    /// Whether the payload is text.
    PayloadFormatIndicator = 0x01;
    /// The life of a message, in seconds.
    MessageExpiryInterval = 0x02;
    /// What the payload is.
    ContentType = 0x03;
    /// Where the answer goes.
    ResponseTopic = 0x08;
    /// What the answer repeats.
    CorrelationData = 0x09;
    /// Which subscription a message belongs to.
    SubscriptionIdentifier = 0x0B;
    /// How long the session outlives its connection, in seconds.
    SessionExpiryInterval = 0x11;
    /// The client identifier that the server chose.
    AssignedClientIdentifier = 0x12;
    /// The keep alive that the server wants, in seconds.
    ServerKeepAlive = 0x13;
    /// The name of the authentication method.
    AuthenticationMethod = 0x15;
    /// What the authentication method says.
    AuthenticationData = 0x16;
    /// Whether reason strings and user properties are wanted in acknowledgements.
    RequestProblemInformation = 0x17;
    /// How long the will waits, in seconds.
    WillDelayInterval = 0x18;
    /// Whether response information is wanted.
    RequestResponseInformation = 0x19;
    /// What response topics are made from.
    ResponseInformation = 0x1A;
    /// Another server to use.
    ServerReference = 0x1C;
    /// A text for people.
    ReasonString = 0x1F;
    /// How many unacknowledged publications the sender of this property takes.
    ReceiveMaximum = 0x21;
    /// How many topic aliases the sender of this property takes.
    TopicAliasMaximum = 0x22;
    /// A number that stands for a topic.
    TopicAlias = 0x23;
    /// The highest QoS that the server does.
    MaximumQoS = 0x24;
    /// Whether the server keeps retained messages.
    RetainAvailable = 0x25;
    /// A name and a value of the user's.
    UserProperty = 0x26;
    /// The largest packet that the sender of this property takes, in bytes.
    MaximumPacketSize = 0x27;
    /// Whether the server does wildcard subscriptions.
    WildcardSubscriptionAvailable = 0x28;
    /// Whether the server does Subscription Identifiers.
    SubscriptionIdentifierAvailable = 0x29;
    /// Whether the server does shared subscriptions.
    SharedSubscriptionAvailable = 0x2A;
}

/// One property with its value, borrowed from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the identifier that PropertyId documents")]
pub enum Property<'a> {
    /// 1: the payload is UTF-8 text; 0: bytes.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    /// 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    /// Not 0.
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    /// Not 0: what has it is refused with Topic Alias invalid.
    TopicAlias(u16),
    /// 0 or 1.
    MaximumQoS(u8),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    /// Not 0.
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl Property<'_> {
    /// Its identifier.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQoS(_) => PropertyId::MaximumQoS,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }
}

/// A list of valid properties in their wire form, without the length in front: read lazily, copied never.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self(&[]);

    /// Takes bytes that [`wire`](crate::wire) has already validated.
    pub(crate) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The wire form.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The length of the wire form in bytes.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The properties, in the order of the wire.
    pub const fn iter(self) -> PropertiesIter<'a> {
        PropertiesIter(self.0)
    }

    /// The first property with this identifier.
    pub fn find(self, id: PropertyId) -> Option<Property<'a>> {
        codec::find(self.0, id)
    }

    /// The reason string, if there is one.
    pub fn reason_string(self) -> Option<&'a str> {
        match self.find(PropertyId::ReasonString) {
            Some(Property::ReasonString(text)) => Some(text),
            _ => None,
        }
    }

    /// The Subscription Identifiers: one at most in SUBSCRIBE, any number in a PUBLISH of the server.
    pub fn subscription_identifiers(self) -> impl Iterator<Item = u32> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    /// The user properties, in order.
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The value of the first user property of this name.
    pub fn user_property(self, name: &str) -> Option<&'a str> {
        self.user_properties().find_map(|(known, value)| (known == name).then_some(value))
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertiesIter<'a>;

    fn into_iter(self) -> PropertiesIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Walks [`Properties`].
#[derive(Clone, Debug)]
pub struct PropertiesIter<'a>(&'a [u8]);

impl<'a> Iterator for PropertiesIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let (property, rest) = codec::split_first(self.0)?;
        self.0 = rest;
        Some(property)
    }
}

/// A list of properties that owns its bytes; cloning copies nothing.
// Nearly every list is empty, and `None` then, which costs nothing to clone and to drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PropertiesBuf(Option<Bytes>);

impl PropertiesBuf {
    /// An empty list.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Takes bytes that [`wire`](crate::wire) has already validated.
    #[inline]
    pub(crate) fn from_validated(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::new() } else { Self(Some(bytes)) }
    }

    /// A copy of `properties`.
    pub fn copy_from(properties: Properties<'_>) -> Self {
        Self::from_validated(Bytes::copy_from_slice(properties.0))
    }

    /// Adds a property at the end.
    ///
    /// # Errors
    /// A [`PropertyError`] for a value that its identifier does not allow (text with U+0000 or over 65,535 bytes, a
    /// Receive Maximum of 0, ...) and for a second occurrence of a property that may stand only once. Subscription
    /// Identifiers may repeat here; whether the packet allows that is checked when it is encoded.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), PropertyError> {
        codec::check(&property)?;
        let id = property.id();
        if !matches!(id, PropertyId::UserProperty | PropertyId::SubscriptionIdentifier)
            && self.as_properties().find(id).is_some()
        {
            return Err(PropertyError::Repeated { property: id });
        }
        let mut bytes = match self.0.take().unwrap_or_default().try_into_mut() {
            Ok(bytes) => bytes,
            Err(shared) => BytesMut::from(shared.as_ref()),
        };
        codec::put(&property, &mut bytes);
        self.0 = Some(bytes.freeze());
        Ok(())
    }

    /// The same list with `property` added at the end.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn with(mut self, property: Property<'_>) -> Result<Self, PropertyError> {
        self.push(property)?;
        Ok(self)
    }

    /// The same list without the properties that `keep` does not hold for. Nothing is copied where all stay or all go.
    #[must_use]
    pub fn retain(self, mut keep: impl FnMut(&Property<'_>) -> bool) -> Self {
        let mut kept = BytesMut::new();
        let mut all = true;
        for property in self.as_properties() {
            if keep(&property) {
                codec::put(&property, &mut kept);
            } else {
                all = false;
            }
        }
        match (all, kept.is_empty()) {
            (true, _) => self,
            (false, true) => Self::new(),
            (false, false) => Self(Some(kept.freeze())),
        }
    }

    /// A view of the list.
    #[inline]
    pub fn as_properties(&self) -> Properties<'_> {
        Properties(self.0.as_deref().unwrap_or_default())
    }

    /// The length of the wire form in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_properties().len()
    }

    /// True when there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A copy that shares no memory with the buffer it was read from.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self::copy_from(self.as_properties())
    }
}

impl fmt::Debug for PropertiesBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_properties().fmt(f)
    }
}
