//! Owns how a request says where its answer goes, and which request an answer belongs to: by properties in 5.0 (section
//! 4.10), by a convention of topics in 3.x. It must not know when either is sent.
//!
//! The convention, since 3.x has no properties: a request for `topic` is published to
//! `topic/@reply/<correlation>/<reply topic>`, and the answer to `<reply topic>/<correlation>`. The correlation is one level of
//! the topic.

use std::fmt;

use bytes::Bytes;
use mqtt_machine::packet::{Property, PropertyId};
use mqtt_machine::{Connected, Message, PropertyError, ProtocolVersion, TopicError, TopicFilter, TopicName};

use super::RequestError;

/// The level of a topic behind which a request of 3.x says where its answer goes.
pub const REPLY_LEVEL: &str = "@reply";

/// What tells the requests of a client from each other, and from those of an earlier life of the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Correlation {
    pub(super) nonce: u64,
    pub(super) number: u64,
}

impl Correlation {
    fn to_u128(self) -> u128 {
        (u128::from(self.nonce) << 64) | u128::from(self.number)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    const fn from_u128(value: u128) -> Self {
        Self { nonce: (value >> 64) as u64, number: value as u64 }
    }

    /// The correlation that an answer carries.
    pub(super) fn of_answer(message: &Message) -> Option<Self> {
        if let Some(Property::CorrelationData(data)) =
            message.properties.as_properties().find(PropertyId::CorrelationData)
        {
            return data.try_into().ok().map(|data| Self::from_u128(u128::from_be_bytes(data)));
        }
        let (_, level) = message.topic.as_str().rsplit_once('/')?;
        let valid = level.len() == 32 && level.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(level, 16).ok().filter(|_| valid).map(Self::from_u128)
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.to_u128())
    }
}

/// Where the answers to one requester arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    reply_topic: String,
    properties: bool,
    pub(super) filter: TopicFilter,
}

impl Place {
    /// The place of the requester `index` on this connection: below what the server has said in Response Information, or below
    /// `prefix` and the client identifier.
    pub(super) fn new(connected: &Connected, prefix: &str, index: usize) -> Result<Self, TopicError> {
        let properties = connected.capabilities.version == ProtocolVersion::V5;
        let information = match connected.properties.as_properties().find(PropertyId::ResponseInformation) {
            Some(Property::ResponseInformation(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let reply_topic = match information {
            Some(text) => format!("{}/{index}", text.trim_end_matches('/')),
            None => format!("{prefix}/{}/{index}", level_of(&connected.client_id)),
        };
        // A server may have named something that is no topic.
        TopicName::new(&reply_topic)?;
        let filter = if properties { reply_topic.clone() } else { format!("{reply_topic}/+") };
        Ok(Self { filter: TopicFilter::new(&filter)?, properties, reply_topic })
    }

    /// The request as it is published.
    pub(super) fn address(
        &self,
        request: Message,
        correlation: Correlation,
    ) -> Result<Message, RequestError> {
        if self.properties {
            let data = correlation.to_u128().to_be_bytes();
            let request = request.property(Property::ResponseTopic(&self.reply_topic))?;
            return Ok(request.property(Property::CorrelationData(&data))?);
        }
        let topic = request.topic.as_str();
        if topic.split('/').any(|level| level == REPLY_LEVEL) {
            return Err(RequestError::ReservedLevel);
        }
        let topic = TopicName::new(&format!("{topic}/{REPLY_LEVEL}/{correlation}/{}", self.reply_topic))?;
        Ok(Message { topic, ..request })
    }
}

/// `client_id` as one level of a topic.
fn level_of(client_id: &str) -> String {
    let mut level = String::with_capacity(client_id.len());
    for character in client_id.chars() {
        match character {
            '/' => level.push_str("%2F"),
            '+' => level.push_str("%2B"),
            '#' => level.push_str("%23"),
            '%' => level.push_str("%25"),
            '@' => level.push_str("%40"),
            other => level.push(other),
        }
    }
    level
}

/// Why a message cannot be answered: it has no Response Topic (5.0, section 4.10), nor does its topic name one as 3.x does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotARequest {
    /// It says nowhere where an answer would go.
    NoResponseTopic,
    /// Where it says so stands no topic name.
    ResponseTopic(TopicError),
    /// Its Correlation Data cannot be repeated.
    CorrelationData(PropertyError),
}

impl fmt::Display for NotARequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResponseTopic => f.write_str("the message has no Response Topic, so it is no request"),
            Self::ResponseTopic(error) => write!(f, "the Response Topic is no topic name: {error}"),
            Self::CorrelationData(error) => write!(f, "the Correlation Data cannot be repeated: {error}"),
        }
    }
}

impl std::error::Error for NotARequest {}

/// The answer to a request that has arrived: to its Response Topic, with its Correlation Data, with its QoS. A request of 3.x
/// says both in its topic, behind [`REPLY_LEVEL`].
///
/// ```
/// use mqtt_machine_client::{Message, response_to};
///
/// let request = Message::to("light/@reply/7f/reply/kitchen/0", "on")?;
/// let response = response_to(&request, "it is")?;
/// assert_eq!(response.topic.as_str(), "reply/kitchen/0/7f");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`NotARequest`] for a message that asks for no answer.
pub fn response_to(request: &Message, payload: impl Into<Bytes>) -> Result<Message, NotARequest> {
    let properties = request.properties.as_properties();
    if let Some(Property::ResponseTopic(topic)) = properties.find(PropertyId::ResponseTopic) {
        let mut response = Message::to(topic, payload).map_err(NotARequest::ResponseTopic)?.qos(request.qos);
        if let Some(data @ Property::CorrelationData(_)) = properties.find(PropertyId::CorrelationData) {
            response = response.property(data).map_err(NotARequest::CorrelationData)?;
        }
        return Ok(response);
    }
    let (_, place) = split(request.topic.as_str()).ok_or(NotARequest::NoResponseTopic)?;
    let (correlation, reply_topic) = place.split_once('/').ok_or(NotARequest::NoResponseTopic)?;
    let topic = format!("{reply_topic}/{correlation}");
    Ok(Message::to(&topic, payload).map_err(NotARequest::ResponseTopic)?.qos(request.qos))
}

/// The topic that a request was made for: its own, without what 3.x adds to it.
pub fn requested_topic(request: &Message) -> &str {
    let topic = request.topic.as_str();
    split(topic).map_or(topic, |(requested, _)| requested)
}

/// Filters for the requests to these topics, of every version: to be subscribed to by who answers them.
///
/// # Errors
/// The [`TopicError`] of a filter that gets too long.
pub fn request_filters(topics: &TopicFilter) -> Result<Vec<TopicFilter>, TopicError> {
    let text = topics.as_str();
    if text == "#" || text.ends_with("/#") {
        return Ok(vec![topics.clone()]);
    }
    Ok(vec![topics.clone(), TopicFilter::new(&format!("{text}/{REPLY_LEVEL}/#"))?])
}

/// What stands before and behind the level that begins the place of the answer.
fn split(topic: &str) -> Option<(&str, &str)> {
    let mark = format!("/{REPLY_LEVEL}/");
    topic.split_once(mark.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_identifier_is_one_level_without_wildcards() {
        assert_eq!(level_of("a/b+c#d%e@f"), "a%2Fb%2Bc%23d%25e%40f");
        assert!(TopicName::new(&level_of("#/+")).is_ok());
    }

    #[test]
    fn an_answer_without_a_place_or_with_a_bad_one_is_an_error() {
        let answer = |topic: &str| response_to(&Message::to(topic, "").unwrap(), "");
        assert_eq!(answer("a/b").unwrap_err(), NotARequest::NoResponseTopic);
        assert_eq!(answer("a/@reply/7").unwrap_err(), NotARequest::NoResponseTopic);
        assert_eq!(answer("a/@reply/7/r").unwrap().topic.as_str(), "r/7");
        let long = format!("a/@reply/{}/r", "7".repeat(65_000));
        assert!(answer(&long).is_ok());
    }

    #[test]
    fn an_answer_repeats_the_correlation_data_and_the_qos() {
        let request = Message::to("a", "")
            .unwrap()
            .qos(mqtt_machine::QoS::ExactlyOnce)
            .property(Property::ResponseTopic("r"))
            .unwrap();
        let bare = response_to(&request, "x").unwrap();
        assert!(bare.properties.is_empty());
        let request = request.property(Property::CorrelationData(&[0, 255])).unwrap();
        let response = response_to(&request, "x").unwrap();
        assert_eq!((response.topic.as_str(), response.qos), ("r", mqtt_machine::QoS::ExactlyOnce));
        let data = response.properties.as_properties().find(PropertyId::CorrelationData);
        assert_eq!(data, Some(Property::CorrelationData(&[0, 255])));
    }

    #[test]
    fn filters_of_requests_cover_both_ways() {
        let filters = |text: &str| -> Vec<String> {
            let filters = request_filters(&TopicFilter::new(text).unwrap()).unwrap();
            filters.iter().map(|filter| filter.as_str().to_owned()).collect()
        };
        assert_eq!(filters("a/+"), ["a/+", "a/+/@reply/#"]);
        assert_eq!(filters("a/#"), ["a/#"]);
        assert_eq!(filters("#"), ["#"]);
        let plain = Message::to("a/b", "").unwrap();
        let asking = Message::to("a/b/@reply/7/r/s", "").unwrap();
        assert_eq!([requested_topic(&plain), requested_topic(&asking)], ["a/b", "a/b"]);
    }
}
