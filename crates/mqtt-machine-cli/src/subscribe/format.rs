//! Owns how a received message is printed: format strings as mosquitto_sub has them, JSON and hexadecimal. It must not know
//! where it is printed to.

use std::fmt::Write as _;

use jiff::ZonedDateTime;
use mqtt_machine::packet::{Property, PropertyId};
use mqtt_machine_tokio::Message;
use serde_json::{Map, Value, json};

/// A format string, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    Field(char),
    /// Of strftime.
    Time(String),
}

/// The fields, as `--help` tells them.
pub(crate) const FIELDS: &str = "Fields of a format:
  %t topic  %p payload  %x payload in hexadecimal  %X the same in capitals  %l its length in bytes
  %q QoS  %r retain (0 or 1)  %d DUP (0 or 1)
  %A topic alias  %C content type  %D correlation data  %E message expiry interval  %F payload format
  %P user properties  %R response topic  %S subscription identifiers
  %I time as ISO 8601  %U seconds since 1970  %@Y and the like: the field of strftime
  %j the message as JSON, payload as text  %J as JSON, payload as JSON where it is some
  %% a percent sign; \\n \\t \\r \\0 \\e \\\\ as usual";

impl Format {
    /// Reads a format string.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut literal = Vec::new();
        let mut characters = text.chars();
        let flush = |literal: &mut Vec<u8>, tokens: &mut Vec<Token>| {
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(literal)));
            }
        };
        while let Some(character) = characters.next() {
            match character {
                '%' => match characters.next() {
                    Some('%') => literal.push(b'%'),
                    Some('@') => {
                        let field = characters.next().ok_or("a format ends in %@")?;
                        flush(&mut literal, &mut tokens);
                        tokens.push(Token::Time(format!("%{field}")));
                    }
                    Some(field) if "tpxXlqrdACDEFPRSIUjJ".contains(field) => {
                        flush(&mut literal, &mut tokens);
                        tokens.push(Token::Field(field));
                    }
                    Some(other) => return Err(format!("there is no field %{other}\n{FIELDS}")),
                    None => return Err("a format ends in %".to_owned()),
                },
                '\\' => literal.push(match characters.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    Some('a') => 7,
                    Some('e') => 0x1B,
                    Some('\\') => b'\\',
                    other => return Err(format!("there is no escape \\{}", other.unwrap_or(' '))),
                }),
                character => literal.extend(character.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        flush(&mut literal, &mut tokens);
        Ok(Self(tokens))
    }

    /// The topic and the payload.
    pub(crate) fn verbose() -> Self {
        Self(vec![Token::Field('t'), Token::Literal(b" ".to_vec()), Token::Field('p')])
    }

    /// The payload alone.
    pub(crate) fn payload() -> Self {
        Self(vec![Token::Field('p')])
    }

    /// One JSON object.
    pub(crate) fn json() -> Self {
        Self(vec![Token::Field('J')])
    }

    /// The topic and the payload in hexadecimal.
    pub(crate) fn hex() -> Self {
        Self(vec![Token::Field('t'), Token::Literal(b" ".to_vec()), Token::Field('x')])
    }

    /// The message in this format.
    pub(crate) fn apply(&self, message: &Message, now: &ZonedDateTime) -> Vec<u8> {
        let mut out = Vec::new();
        for token in &self.0 {
            match token {
                Token::Literal(bytes) => out.extend_from_slice(bytes),
                Token::Field('p') => out.extend_from_slice(&message.payload),
                Token::Field(field) => out.extend_from_slice(text_of(*field, message, now).as_bytes()),
                // What strftime does not know is printed as it stands.
                Token::Time(format) => {
                    let time = jiff::fmt::strtime::format(format, now).unwrap_or_else(|_| format.clone());
                    out.extend_from_slice(time.as_bytes());
                }
            }
        }
        out
    }
}

fn text_of(field: char, message: &Message, now: &ZonedDateTime) -> String {
    let bit = |bit: bool| u8::from(bit).to_string();
    match field {
        't' => message.topic.to_string(),
        'x' => hex(&message.payload),
        'X' => hex(&message.payload).to_uppercase(),
        'l' => message.payload.len().to_string(),
        'q' => message.qos.to_u8().to_string(),
        'r' => bit(message.retain),
        'd' => bit(message.dup),
        'A' => property(message, PropertyId::TopicAlias),
        'C' => property(message, PropertyId::ContentType),
        'D' => property(message, PropertyId::CorrelationData),
        'E' => property(message, PropertyId::MessageExpiryInterval),
        'F' => property(message, PropertyId::PayloadFormatIndicator),
        'R' => property(message, PropertyId::ResponseTopic),
        'P' => {
            let pairs = message.properties.as_properties();
            pairs
                .user_properties()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect::<Vec<_>>()
                .join(" ")
        }
        'S' => message.subscription_identifiers().map(|id| id.to_string()).collect::<Vec<_>>().join(" "),
        'I' => now.strftime("%Y-%m-%dT%H:%M:%S%z").to_string(),
        'U' => {
            let since = now.timestamp();
            format!("{}.{:09}", since.as_second(), since.subsec_nanosecond())
        }
        'j' => json_of(message, now, Value::from(message.payload_lossy())).to_string(),
        'J' => {
            let payload = serde_json::from_slice(&message.payload);
            json_of(message, now, payload.unwrap_or_else(|_| Value::from(message.payload_lossy())))
                .to_string()
        }
        _ => String::new(),
    }
}

fn property(message: &Message, id: PropertyId) -> String {
    match message.properties.as_properties().find(id) {
        Some(Property::TopicAlias(alias)) => alias.to_string(),
        Some(Property::MessageExpiryInterval(seconds)) => seconds.to_string(),
        Some(Property::PayloadFormatIndicator(text)) => u8::from(text).to_string(),
        Some(Property::ContentType(text) | Property::ResponseTopic(text)) => text.to_owned(),
        Some(Property::CorrelationData(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// The properties of a message as JSON, in mosquitto_sub's words.
pub(crate) fn properties_of(message: &Message) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut users = Map::new();
    for property in message.properties.as_properties() {
        let name = property.id().name();
        let value = match property {
            Property::UserProperty(name, value) => {
                users.insert(name.to_owned(), value.into());
                continue;
            }
            Property::PayloadFormatIndicator(text) => json!(u8::from(text)),
            Property::MessageExpiryInterval(number) | Property::SubscriptionIdentifier(number) => {
                json!(number)
            }
            Property::TopicAlias(alias) => json!(alias),
            Property::ContentType(text) | Property::ResponseTopic(text) => json!(text),
            Property::CorrelationData(bytes) => json!(hex(bytes)),
            _ => continue,
        };
        properties.insert(name.to_owned(), value);
    }
    if !users.is_empty() {
        properties.insert("UserProperties".into(), users.into());
    }
    properties
}

/// The message as JSON, in mosquitto_sub's words.
fn json_of(message: &Message, now: &ZonedDateTime, payload: Value) -> Value {
    let mut object = Map::new();
    object.insert("tst".into(), now.strftime("%Y-%m-%dT%H:%M:%S%.6f%z").to_string().into());
    object.insert("topic".into(), message.topic.as_str().into());
    object.insert("qos".into(), message.qos.to_u8().into());
    object.insert("retain".into(), u8::from(message.retain).into());
    object.insert("payloadlen".into(), message.payload.len().into());
    let properties = properties_of(message);
    if !properties.is_empty() {
        object.insert("properties".into(), properties.into());
    }
    object.insert("payload".into(), payload);
    object.into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use mqtt_machine_tokio::QoS;

    use super::*;

    fn message() -> Message {
        let message = Message::to("a/b", "{\"x\":1}").unwrap().qos(QoS::AtLeastOnce).retain(true);
        let message = message.property(Property::ContentType("json")).unwrap();
        message.property(Property::UserProperty("room", "kitchen")).unwrap()
    }

    fn print(format: &str) -> String {
        let now = Timestamp::from_second(1_767_323_045).unwrap().to_zoned_datetime(TimeZone::UTC);
        String::from_utf8(Format::parse(format).unwrap().apply(&message(), &now)).unwrap()
    }

    #[test]
    fn every_field_prints_what_it_says() {
        assert_eq!(print("%t|%p|%x|%l|%q|%r|%d\\n"), "a/b|{\"x\":1}|7b2278223a317d|7|1|1|0\n");
        assert_eq!(print("%C %P %X %% [%R%D%E%F%A%S]"), "json room:kitchen 7B2278223A317D % []");
        assert_eq!(print("%@Y-%@m-%@d %I %U"), "2026-01-02 2026-01-02T03:04:05+0000 1767323045.000000000");
    }

    #[test]
    fn json_is_json() {
        let with_text: Value = serde_json::from_str(&print("%j")).unwrap();
        assert_eq!(with_text["payload"], "{\"x\":1}");
        let with_json: Value = serde_json::from_str(&print("%J")).unwrap();
        assert_eq!((&with_json["payload"]["x"], &with_json["topic"]), (&json!(1), &json!("a/b")));
        assert_eq!(with_json["properties"]["UserProperties"]["room"], "kitchen");
        assert_eq!(with_json["properties"]["ContentType"], "json");
    }

    #[test]
    fn a_format_that_is_none_is_refused() {
        for wrong in ["%", "%@", "%z", "\\x"] {
            Format::parse(wrong).unwrap_err();
        }
    }
}
