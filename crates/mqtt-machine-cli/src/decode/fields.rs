//! Owns the fields of a packet as text. It must not know where the packet came from.

use mqtt_machine::packet::{Packet, Properties, Property, Will};

/// How much of a payload or of bad bytes is shown.
const SHOWN: usize = 64;

type Fields = Vec<(&'static str, String)>;

/// The fields of a packet, in the order of the specification.
pub(crate) fn of(packet: &Packet<'_>, show_secrets: bool) -> Fields {
    let mut fields = Fields::new();
    match packet {
        Packet::Connect(connect) => {
            fields.push(("protocol version", connect.version.to_string()));
            if connect.bridge {
                fields.push(("bridge", "yes".to_owned()));
            }
            fields.push(("clean start", yes(connect.clean_start)));
            fields.push(("keep alive", format!("{} s", connect.keep_alive)));
            properties(&mut fields, connect.properties, show_secrets);
            fields.push(("client identifier", quoted(connect.client_id)));
            if let Some(will) = &connect.will {
                self::will(&mut fields, will, show_secrets);
            }
            if let Some(username) = connect.username {
                fields.push(("user name", quoted(username)));
            }
            if let Some(password) = connect.password {
                fields.push(("password", secret(password, show_secrets)));
            }
        }
        Packet::ConnAck(connack) => {
            fields.push(("session present", yes(connack.session_present)));
            fields.push(("reason", connack.reason.to_string()));
            properties(&mut fields, connack.properties, show_secrets);
        }
        Packet::Publish(publish) => {
            fields.push(("topic", quoted(publish.topic.as_str())));
            fields.push(("QoS", publish.qos.to_u8().to_string()));
            fields.push(("retain", yes(publish.retain)));
            fields.push(("DUP", yes(publish.dup)));
            if let Some(id) = publish.packet_id {
                fields.push(("packet identifier", id.to_u16().to_string()));
            }
            properties(&mut fields, publish.properties, show_secrets);
            fields.push(("payload", payload(publish.payload)));
        }
        Packet::Ack(ack) => {
            fields.push(("packet identifier", ack.packet_id.to_u16().to_string()));
            fields.push(("reason", ack.reason.to_string()));
            properties(&mut fields, ack.properties, show_secrets);
        }
        Packet::Subscribe(subscribe) => {
            fields.push(("packet identifier", subscribe.packet_id.to_u16().to_string()));
            properties(&mut fields, subscribe.properties, show_secrets);
            for filter in &subscribe.filters {
                let options = filter.options;
                let flags = [
                    (options.no_local, ", no local"),
                    (options.retain_as_published, ", retain as published"),
                ];
                let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
                let handling = options.retain_handling as u8;
                fields.push((
                    "topic filter",
                    format!(
                        "{} QoS {}, retain handling {handling}{flags}",
                        quoted(filter.filter),
                        options.qos.to_u8()
                    ),
                ));
            }
        }
        Packet::SubAck(suback) => {
            fields.push(("packet identifier", suback.packet_id.to_u16().to_string()));
            properties(&mut fields, suback.properties, show_secrets);
            fields.extend(suback.codes.iter().map(|reason| ("reason", reason.to_string())));
        }
        Packet::Unsubscribe(unsubscribe) => {
            fields.push(("packet identifier", unsubscribe.packet_id.to_u16().to_string()));
            properties(&mut fields, unsubscribe.properties, show_secrets);
            fields.extend(unsubscribe.filters.iter().map(|filter| ("topic filter", quoted(filter))));
        }
        Packet::UnsubAck(unsuback) => {
            fields.push(("packet identifier", unsuback.packet_id.to_u16().to_string()));
            properties(&mut fields, unsuback.properties, show_secrets);
            fields.extend(unsuback.codes.iter().map(|reason| ("reason", reason.to_string())));
        }
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) => {
            fields.push(("reason", disconnect.reason.to_string()));
            properties(&mut fields, disconnect.properties, show_secrets);
        }
        Packet::Auth(auth) => {
            fields.push(("reason", auth.reason.to_string()));
            properties(&mut fields, auth.properties, show_secrets);
        }
    }
    fields
}

fn will(fields: &mut Fields, will: &Will<'_>, show_secrets: bool) {
    fields.push(("will topic", quoted(will.topic)));
    fields.push(("will QoS", will.qos.to_u8().to_string()));
    fields.push(("will retain", yes(will.retain)));
    properties(fields, will.properties, show_secrets);
    fields.push(("will payload", payload(will.payload)));
}

fn properties(fields: &mut Fields, properties: Properties<'_>, show_secrets: bool) {
    for property in properties {
        let value = match property {
            Property::UserProperty(name, value) => format!("{} = {}", quoted(name), quoted(value)),
            Property::AuthenticationData(data) => secret(data, show_secrets),
            Property::CorrelationData(data) => payload(data),
            Property::ContentType(text)
            | Property::ResponseTopic(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => quoted(text),
            Property::PayloadFormatIndicator(set)
            | Property::RequestProblemInformation(set)
            | Property::RequestResponseInformation(set)
            | Property::RetainAvailable(set)
            | Property::WildcardSubscriptionAvailable(set)
            | Property::SubscriptionIdentifierAvailable(set)
            | Property::SharedSubscriptionAvailable(set) => u8::from(set).to_string(),
            Property::MessageExpiryInterval(seconds)
            | Property::SessionExpiryInterval(seconds)
            | Property::WillDelayInterval(seconds) => format!("{seconds} s"),
            Property::ServerKeepAlive(seconds) => format!("{seconds} s"),
            Property::SubscriptionIdentifier(value) | Property::MaximumPacketSize(value) => value.to_string(),
            Property::ReceiveMaximum(value)
            | Property::TopicAliasMaximum(value)
            | Property::TopicAlias(value) => value.to_string(),
            Property::MaximumQoS(qos) => qos.to_string(),
        };
        fields.push((property.id().name(), value));
    }
}

fn yes(set: bool) -> String {
    (if set { "yes" } else { "no" }).to_owned()
}

/// Text, with what a terminal would obey escaped.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn secret(bytes: &[u8], show: bool) -> String {
    if show { payload(bytes) } else { format!("({} bytes)", bytes.len()) }
}

/// A payload: as text where it is some.
fn payload(bytes: &[u8]) -> String {
    let length = bytes.len();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => {
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if shown.len() < text.len() { " ..." } else { "" };
            format!("{}{more} ({length} bytes)", quoted(&shown))
        }
        Ok(_) => "empty".to_owned(),
        Err(_) => format!("{} ({length} bytes)", hex(bytes)),
    }
}

/// The first bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    format!("{}{}", shown.join(" "), if bytes.len() > SHOWN { " ..." } else { "" })
}
