//! Owns the topic of a PUBLISH as a packet holds it. It must not know what is published under it.

use core::fmt;

use crate::error::TopicError;
use crate::types::{TopicName, check_name};

/// The topic of a [`Publish`](super::Publish): a topic name, or empty where a topic alias stands for it.
///
/// It is the bytes of the wire, checked once, when a frame is decoded or when it is made of text, so the encoder does not look at
/// it again. Bytes and comparisons cost nothing more. Text does: [`as_str`](Self::as_str) checks UTF-8 anew, since no `unsafe`
/// stands here, and decoding would be half as fast again if it did so for everybody.
///
/// ```
/// use mqtt_machine::TopicError;
/// use mqtt_machine::packet::Topic;
///
/// assert!(Topic::new("sport/tennis")? == "sport/tennis");
/// assert_eq!(Topic::new("sport/+"), Err(TopicError::WildcardInName { at: 6 }));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic<'a>(&'a [u8]);

impl<'a> Topic<'a> {
    /// No topic name: a topic alias stands for it.
    pub const EMPTY: Self = Self(&[]);

    /// Checks `topic`, which is a topic name as [`TopicName`] describes it.
    ///
    /// # Errors
    /// The [`TopicError`] says which rule `topic` breaks.
    pub fn new(topic: &'a str) -> Result<Self, TopicError> {
        check_name(topic)?;
        Ok(Self(topic.as_bytes()))
    }

    /// Takes bytes that [`wire`](crate::wire) has already validated.
    #[inline]
    pub(crate) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The topic as text. Linear in its length: the bytes are checked again.
    pub fn as_str(self) -> &'a str {
        core::str::from_utf8(self.0).unwrap_or_default()
    }

    /// The topic's bytes, at no cost.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its length in bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True when a topic alias stands for it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> TryFrom<&'a str> for Topic<'a> {
    type Error = TopicError;

    fn try_from(topic: &'a str) -> Result<Self, TopicError> {
        Self::new(topic)
    }
}

impl<'a> From<&'a TopicName> for Topic<'a> {
    #[inline]
    fn from(topic: &'a TopicName) -> Self {
        Self(topic.as_bytes())
    }
}

impl PartialEq<str> for Topic<'_> {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for Topic<'_> {
    fn eq(&self, text: &&str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
