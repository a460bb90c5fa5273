//! Owns 5.0 properties as arguments: `PACKET:NAME=VALUE`. It must not know where they are put.

use std::str::FromStr;

use mqtt_machine::packet::Property;

/// The packet that a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Will,
}

impl FromStr for Packet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "connect" => Self::Connect,
            "publish" => Self::Publish,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "disconnect" => Self::Disconnect,
            "will" => Self::Will,
            _ => {
                return Err(format!(
                    "{text:?} is none of connect, publish, subscribe, unsubscribe, disconnect, will"
                ));
            }
        })
    }
}

/// A property with its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PropertyArgument {
    pub(crate) packet: Packet,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(String),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    WillDelayInterval(u32),
    ReasonString(String),
    TopicAlias(u16),
    UserProperty(String, String),
}

impl PropertyArgument {
    pub(crate) fn as_property(&self) -> Property<'_> {
        match &self.value {
            Value::PayloadFormatIndicator(text) => Property::PayloadFormatIndicator(*text),
            Value::MessageExpiryInterval(seconds) => Property::MessageExpiryInterval(*seconds),
            Value::ContentType(text) => Property::ContentType(text),
            Value::ResponseTopic(topic) => Property::ResponseTopic(topic),
            Value::CorrelationData(text) => Property::CorrelationData(text.as_bytes()),
            Value::SubscriptionIdentifier(value) => Property::SubscriptionIdentifier(*value),
            Value::SessionExpiryInterval(seconds) => Property::SessionExpiryInterval(*seconds),
            Value::WillDelayInterval(seconds) => Property::WillDelayInterval(*seconds),
            Value::ReasonString(text) => Property::ReasonString(text),
            Value::TopicAlias(alias) => Property::TopicAlias(*alias),
            Value::UserProperty(name, value) => Property::UserProperty(name, value),
        }
    }
}

impl FromStr for PropertyArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (packet, rest) = text.split_once(':').ok_or("written as PACKET:NAME=VALUE")?;
        let (name, value) = rest.split_once('=').ok_or("written as PACKET:NAME=VALUE")?;
        let owned = || value.to_owned();
        let value = match name {
            "payload-format-indicator" => match value {
                "0" => Value::PayloadFormatIndicator(false),
                "1" => Value::PayloadFormatIndicator(true),
                _ => return Err("payload-format-indicator is 0 or 1".to_owned()),
            },
            "message-expiry-interval" => Value::MessageExpiryInterval(number(name, value)?),
            "content-type" => Value::ContentType(owned()),
            "response-topic" => Value::ResponseTopic(owned()),
            "correlation-data" => Value::CorrelationData(owned()),
            "subscription-identifier" => Value::SubscriptionIdentifier(number(name, value)?),
            "session-expiry-interval" => Value::SessionExpiryInterval(number(name, value)?),
            "will-delay-interval" => Value::WillDelayInterval(number(name, value)?),
            "reason-string" => Value::ReasonString(owned()),
            "topic-alias" => Value::TopicAlias(number(name, value)?),
            "user-property" => {
                let (name, value) =
                    value.split_once('=').ok_or("a user property is PACKET:user-property=NAME=VALUE")?;
                Value::UserProperty(name.to_owned(), value.to_owned())
            }
            _ => return Err(format!("unknown property {name:?}")),
        };
        Ok(Self { packet: packet.parse()?, value })
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} is a number, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_read_with_its_packet() {
        let read = |text: &str| text.parse::<PropertyArgument>();
        let user = read("publish:user-property=a=b=c").unwrap();
        assert_eq!((user.packet, user.as_property()), (Packet::Publish, Property::UserProperty("a", "b=c")));
        let expiry = read("will:message-expiry-interval=7").unwrap();
        assert_eq!((expiry.packet, expiry.as_property()), (Packet::Will, Property::MessageExpiryInterval(7)));
        for wrong in [
            "",
            "publish",
            "publish:x",
            "puback:x=1",
            "publish:topic-alias=x",
            "publish:user-property=a",
            "publish:nothing=1",
        ] {
            read(wrong).unwrap_err();
        }
    }
}
