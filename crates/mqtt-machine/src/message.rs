//! Owns the application message: what a caller publishes and what the machine delivers.
//! It must not know how it is delivered.

use alloc::string::String;
use bytes::Bytes;
use core::time::Duration;

use crate::error::{PropertyError, TopicError};
use crate::packet::{PropertiesBuf, Property, PropertyId};
use crate::types::{Priority, QoS, TopicName};

const _: () = assert!(size_of::<Message>() <= Message::ENTRY);

/// An application message, the same type in both directions: a bridge forwards what it received.
///
/// Topic, properties and payload are counted views; cloning copies nothing. A received message is a view of the
/// buffer it was read into. One that is kept longer than the next read pins that buffer, so the machine detaches
/// small messages from large buffers, and [`detached`](Self::detached) does it on request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is published.
    pub topic: TopicName,
    /// The payload, 0 to 268,435,455 bytes less the rest of its packet.
    pub payload: Bytes,
    /// With which QoS.
    pub qos: QoS,
    /// To publish: keep it for later subscribers. Received: it was kept, or as published if so subscribed.
    pub retain: bool,
    /// Received: perhaps delivered before `[MQTT-3.3.1-1]`. Not read when publishing.
    pub dup: bool,
    /// To publish: how urgent it is among those that wait for the server. Messages of one topic keep their order as long as they
    /// have one priority. Received: [`Priority::Normal`].
    pub priority: Priority,
    /// 5.0 properties of the PUBLISH packet; not sent in 3.x.
    pub properties: PropertiesBuf,
}

impl From<&Self> for Message {
    /// A clone, which copies nothing.
    fn from(message: &Self) -> Self {
        message.clone()
    }
}

impl Message {
    /// What the entry of a message counts in the caps, in bytes. The same on every target, so that limits, receipts and
    /// transcripts are.
    pub(crate) const ENTRY: usize = 104;

    /// A message of QoS 0, not retained.
    pub const fn new(topic: TopicName, payload: Bytes) -> Self {
        Self {
            topic,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            priority: Priority::Normal,
            properties: PropertiesBuf::new(),
        }
    }

    /// A message of QoS 0, not retained, from whatever becomes a topic name and a payload.
    ///
    /// # Errors
    /// The [`TopicError`] of a text that is no topic name.
    ///
    /// ```
    /// use mqtt_machine::{Message, QoS};
    ///
    /// let message = Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce).retain(true);
    /// assert_eq!(message.payload_str(), Some("21.5"));
    /// # Ok::<(), mqtt_machine::TopicError>(())
    /// ```
    pub fn to(topic: &str, payload: impl Into<Bytes>) -> Result<Self, TopicError> {
        Ok(Self::new(TopicName::new(topic)?, payload.into()))
    }

    /// With this QoS.
    #[must_use]
    pub const fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Retained or not.
    #[must_use]
    pub const fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// With this priority.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// With one more 5.0 property.
    ///
    /// # Errors
    /// As [`PropertiesBuf::push`].
    pub fn property(mut self, property: Property<'_>) -> Result<Self, PropertyError> {
        self.properties.push(property)?;
        Ok(self)
    }

    /// The payload as text, when it is UTF-8.
    pub fn payload_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.payload).ok()
    }

    /// The payload as text, with U+FFFD where it is not UTF-8.
    pub fn payload_lossy(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The 5.0 Message Expiry Interval, in whole seconds.
    pub fn expiry_interval(&self) -> Option<Duration> {
        if self.properties.is_empty() {
            return None;
        }
        match self.properties.as_properties().find(PropertyId::MessageExpiryInterval) {
            Some(Property::MessageExpiryInterval(seconds)) => Some(Duration::from_secs(seconds.into())),
            _ => None,
        }
    }

    /// The 5.0 topic alias that is asked for.
    pub(crate) fn topic_alias(&self) -> Option<u16> {
        if self.properties.is_empty() {
            return None;
        }
        match self.properties.as_properties().find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) => Some(alias),
            _ => None,
        }
    }

    /// The 5.0 Subscription Identifiers that the server put on a received message.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> {
        self.properties.as_properties().subscription_identifiers()
    }

    /// The value of the first 5.0 user property of this name.
    ///
    /// ```
    /// use mqtt_machine::{Message, packet::Property};
    ///
    /// let message = Message::to("files/one", "...")?.property(Property::UserProperty("offset", "65536"))?;
    /// assert_eq!(message.user_property("offset"), Some("65536"));
    /// assert_eq!(message.user_property("size"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn user_property(&self, name: &str) -> Option<&str> {
        self.properties.as_properties().user_property(name)
    }

    /// A copy that shares no memory with the buffer it was read from.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            topic: self.topic.detached(),
            payload: Bytes::copy_from_slice(&self.payload),
            properties: self.properties.detached(),
            ..*self
        }
    }

    /// The bytes it stands for in the caps: topic, properties, payload and a fixed sum for the entry that holds it.
    pub fn cost(&self) -> usize {
        Self::cost_of(self.topic.as_bytes().len(), self.payload.len()).saturating_add(self.properties.len())
    }

    /// The cost of one with a topic and a payload of these lengths, and without properties.
    #[inline]
    pub(crate) const fn cost_of(topic: usize, payload: usize) -> usize {
        topic.saturating_add(payload).saturating_add(Self::ENTRY)
    }
}
