//! Owns the comparison with another decoder: where both accept a packet, both read the same.
//! It must not judge what only one accepts: the other one checks less.

use bytes::BytesMut;
use mqtt_machine::packet::{AckKind, Packet, Property, PropertyId, Publish, Sender};
use mqtt_machine::{ProtocolVersion, QoS, wire};
use mqttbytes::{v4, v5};

/// One frame, read as 3.1.1 and as 5.0 by this codec and by mqttbytes.
pub(crate) fn compare(data: &[u8]) {
    for sender in [Sender::Client, Sender::Server] {
        // Only what this codec accepts is shown to the other one: it panics on some of the rest.
        if let Ok(packet) = wire::decode(data, ProtocolVersion::V3_1_1, sender)
            && speaks(&packet, ProtocolVersion::V3_1_1)
            && let Ok(other) = v4::read(&mut BytesMut::from(data), usize::MAX)
            && let (Some(ours), Some(theirs)) = (ours(&packet), theirs_v4(&other))
        {
            assert_eq!(ours, theirs);
        }
        if let Ok(packet) = wire::decode(data, ProtocolVersion::V5, sender)
            && speaks(&packet, ProtocolVersion::V5)
            && !loses_its_place(&packet)
            && let Ok(other) = v5::read(&mut BytesMut::from(data), usize::MAX)
            && let (Some(ours), Some(theirs)) = (ours(&packet), theirs_v5(&other))
        {
            assert_eq!(ours, theirs);
        }
    }
}

/// A CONNECT says itself which version it is of.
fn speaks(packet: &Packet<'_>, version: ProtocolVersion) -> bool {
    if let Packet::Connect(connect) = packet { connect.version == version && !connect.bridge } else { true }
}

/// mqttbytes 0.6.0 counts a Subscription Identifier of a PUBLISH one byte too long, and takes properties that follow for
/// payload.
fn loses_its_place(packet: &Packet<'_>) -> bool {
    matches!(packet, Packet::Publish(publish)
        if publish.properties.find(PropertyId::SubscriptionIdentifier).is_some())
}

/// What is compared of a packet.
#[derive(Debug, PartialEq)]
enum Summary {
    Publish {
        dup: bool,
        qos: u8,
        retain: bool,
        topic: String,
        packet_id: u16,
        payload: Vec<u8>,
        rest: Rest,
    },
    Ack(&'static str, u16),
    ConnAck {
        session_present: bool,
    },
    Connect {
        client_id: String,
        keep_alive: u16,
        clean_start: bool,
        will: Option<(String, Vec<u8>, u8, bool)>,
    },
    Subscribe {
        packet_id: u16,
        filters: Vec<(String, u8)>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Codes {
        packet_id: u16,
        count: usize,
    },
}

/// The properties of a PUBLISH.
#[derive(Debug, Default, PartialEq)]
struct Rest {
    expiry: Option<u32>,
    alias: Option<u16>,
    response_topic: Option<String>,
    correlation: Option<Vec<u8>>,
    user: Vec<(String, String)>,
    content_type: Option<String>,
}

fn ours(packet: &Packet<'_>) -> Option<Summary> {
    Some(match packet {
        Packet::Publish(publish) => our_publish(publish),
        Packet::Ack(ack) => {
            let kind = match ack.kind {
                AckKind::PubAck => "PUBACK",
                AckKind::PubRec => "PUBREC",
                AckKind::PubRel => "PUBREL",
                AckKind::PubComp => "PUBCOMP",
            };
            Summary::Ack(kind, ack.packet_id.to_u16())
        }
        Packet::ConnAck(connack) => Summary::ConnAck { session_present: connack.session_present },
        Packet::Connect(connect) => Summary::Connect {
            client_id: connect.client_id.to_owned(),
            keep_alive: connect.keep_alive,
            clean_start: connect.clean_start,
            will: connect
                .will
                .as_ref()
                .map(|will| (will.topic.to_owned(), will.payload.to_vec(), will.qos.to_u8(), will.retain)),
        },
        Packet::Subscribe(subscribe) => Summary::Subscribe {
            packet_id: subscribe.packet_id.to_u16(),
            filters: subscribe
                .filters
                .iter()
                .map(|filter| (filter.filter.to_owned(), filter.options.qos.to_u8()))
                .collect(),
        },
        Packet::Unsubscribe(unsubscribe) => Summary::Unsubscribe {
            packet_id: unsubscribe.packet_id.to_u16(),
            filters: unsubscribe.filters.iter().map(|&filter| filter.to_owned()).collect(),
        },
        Packet::SubAck(suback) => {
            Summary::Codes { packet_id: suback.packet_id.to_u16(), count: suback.codes.len() }
        }
        _ => return None,
    })
}

fn our_publish(publish: &Publish<'_>) -> Summary {
    let mut rest = Rest::default();
    for property in publish.properties {
        match property {
            Property::MessageExpiryInterval(seconds) => rest.expiry = Some(seconds),
            Property::TopicAlias(alias) => rest.alias = Some(alias),
            Property::ResponseTopic(topic) => rest.response_topic = Some(topic.to_owned()),
            Property::CorrelationData(data) => rest.correlation = Some(data.to_vec()),
            Property::UserProperty(name, value) => rest.user.push((name.to_owned(), value.to_owned())),
            Property::ContentType(text) => rest.content_type = Some(text.to_owned()),
            _ => {}
        }
    }
    Summary::Publish {
        dup: publish.dup,
        qos: publish.qos.to_u8(),
        retain: publish.retain,
        topic: publish.topic.to_string(),
        packet_id: publish.packet_id.map_or(0, |id| id.to_u16()),
        payload: publish.payload.to_vec(),
        rest,
    }
}

const fn qos(qos: mqttbytes::QoS) -> u8 {
    match qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce.to_u8(),
        mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce.to_u8(),
        mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce.to_u8(),
    }
}

/// The two modules of mqttbytes name their fields alike.
macro_rules! theirs {
    ($packet:expr, $module:ident, $filters:ident, $publish:expr) => {{
        use $module::Packet;
        Some(match $packet {
            Packet::Publish(publish) => Summary::Publish {
                dup: publish.dup,
                qos: qos(publish.qos),
                retain: publish.retain,
                topic: publish.topic.clone(),
                packet_id: publish.pkid,
                payload: publish.payload.to_vec(),
                rest: $publish(publish),
            },
            Packet::PubAck(ack) => Summary::Ack("PUBACK", ack.pkid),
            Packet::PubRec(ack) => Summary::Ack("PUBREC", ack.pkid),
            Packet::PubRel(ack) => Summary::Ack("PUBREL", ack.pkid),
            Packet::PubComp(ack) => Summary::Ack("PUBCOMP", ack.pkid),
            Packet::ConnAck(connack) => Summary::ConnAck { session_present: connack.session_present },
            Packet::Connect(connect) => Summary::Connect {
                client_id: connect.client_id.clone(),
                keep_alive: connect.keep_alive,
                clean_start: connect.clean_session,
                will: connect
                    .last_will
                    .as_ref()
                    .map(|will| (will.topic.clone(), will.message.to_vec(), qos(will.qos), will.retain)),
            },
            Packet::Subscribe(subscribe) => Summary::Subscribe {
                packet_id: subscribe.pkid,
                filters: subscribe
                    .filters
                    .iter()
                    .map(|filter| (filter.path.clone(), qos(filter.qos)))
                    .collect(),
            },
            Packet::Unsubscribe(unsubscribe) => {
                let (packet_id, filters) = (unsubscribe.pkid, &unsubscribe.$filters);
                Summary::Unsubscribe { packet_id, filters: filters.clone() }
            }
            Packet::SubAck(suback) => {
                Summary::Codes { packet_id: suback.pkid, count: suback.return_codes.len() }
            }
            _ => return None,
        })
    }};
}

fn theirs_v4(packet: &v4::Packet) -> Option<Summary> {
    theirs!(packet, v4, topics, |_: &v4::Publish| Rest::default())
}

fn theirs_v5(packet: &v5::Packet) -> Option<Summary> {
    theirs!(packet, v5, filters, |publish: &v5::Publish| {
        publish.properties.as_ref().map_or_else(Rest::default, |properties| Rest {
            expiry: properties.message_expiry_interval,
            alias: properties.topic_alias,
            response_topic: properties.response_topic.clone(),
            correlation: properties.correlation_data.as_ref().map(|data| data.to_vec()),
            user: properties.user_properties.clone(),
            content_type: properties.content_type.clone(),
        })
    })
}
