//! Each rule of the codec on its own: bytes that break it, and packets that the encoder refuses. The vectors show what a
//! client receives; here stands what they leave out, above all what a client sends.

use bytes::BytesMut;
use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Properties, PropertiesBuf,
    Property, PropertyId, Publish, ReasonCodes, Sender, SubAck, Subscribe, SubscribeFilter, Topic, UnsubAck,
    Unsubscribe, Will,
};
use mqtt_machine::wire::{EncodeError, Fault, decode, encode, frame_header};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions, TopicError};

use ProtocolVersion::{V3_1, V3_1_1, V5};
use Sender::{Client, Server};

/// A frame with a body of less than 128 bytes.
fn frame(first_byte: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u8::try_from(body.len()).unwrap();
    assert!(length < 128);
    [&[first_byte, length][..], &body].concat()
}

fn fault(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Option<Fault> {
    decode(bytes, version, sender).err().map(|error| error.fault())
}

/// A CONNECT of 5.0 with these flags, and what follows the client identifier.
fn connect_5(flags: u8, properties: &[u8], behind: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    frame(0x10, &[b"\0\x04MQTT\x05", &[flags, 0, 60, length], properties, b"\0\x01c", behind])
}

fn connect_4(flags: u8, behind: &[u8]) -> Vec<u8> {
    frame(0x10, &[b"\0\x04MQTT\x04", &[flags, 0, 60], b"\0\x01c", behind])
}

/// A QoS 0 PUBLISH of 5.0 with these properties.
fn publish_5(properties: &[u8]) -> Vec<u8> {
    frame(0x30, &[b"\0\x01a", &[u8::try_from(properties.len()).unwrap()], properties])
}

// 5.0: MQTT-1.5.5-1, MQTT-3.2.2-1, MQTT-3.2.2-6, MQTT-3.3.1-4, MQTT-3.3.2-8, MQTT-3.14.2-2
// 3.1.1: MQTT-2.2.2-2, MQTT-3.3.1-2, MQTT-4.7.3-1
#[test]
fn every_fault_is_found_where_its_rule_is_broken() {
    let rows: Vec<(Fault, ProtocolVersion, Sender, Vec<u8>)> = vec![
        (Fault::PacketTypeZero, V5, Server, vec![0x00, 0]),
        (Fault::PacketTypeNotInVersion, V3_1_1, Server, vec![0xF0, 0]),
        (Fault::PacketTypeNotInVersion, V3_1, Client, vec![0xF0, 0]),
        (Fault::PacketSender, V5, Client, vec![0xD0, 0]),
        (Fault::PacketSender, V5, Server, vec![0xC0, 0]),
        (Fault::PacketSender, V3_1_1, Server, vec![0xE0, 0]),
        (Fault::PacketSender, V5, Server, connect_5(0x02, &[], &[])),
        (Fault::Flags, V5, Client, frame(0x80, &[&[0, 1, 0], b"\0\x01a\0"])),
        (Fault::Flags, V3_1_1, Client, frame(0x8A, &[&[0, 1], b"\0\x01a\0"])),
        (Fault::Flags, V3_1, Client, frame(0x88, &[&[0, 1], b"\0\x01a\0"])),
        (Fault::Flags, V3_1_1, Client, frame(0xAA, &[&[0, 1], b"\0\x01a"])),
        (Fault::Flags, V3_1_1, Server, vec![0x6A, 2, 0, 1]),
        (Fault::Flags, V3_1, Server, vec![0x48, 2, 0, 1]),
        (Fault::VarIntTooLong, V5, Server, vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        (Fault::VarIntNotMinimal, V5, Server, vec![0x40, 0x82, 0x00, 0, 1]),
        (Fault::Truncated, V5, Server, vec![0x40, 2, 0]),
        (Fault::TrailingBytes, V5, Server, vec![0x40, 2, 0, 1, 0]),
        (Fault::TrailingBytes, V3_1_1, Client, vec![0xE0, 1, 0]),
        (Fault::TrailingBytes, V5, Client, vec![0xC0, 1, 0]),
        (Fault::Utf8, V5, Client, connect_5(0x82, &[], b"\0\x01\xFF")),
        (Fault::TextNul, V5, Client, connect_5(0x82, &[], b"\0\x01\0")),
        (Fault::PacketIdZero, V5, Client, frame(0x82, &[&[0, 0, 0], b"\0\x01a\0"])),
        (Fault::PacketIdZero, V3_1_1, Client, frame(0xA2, &[&[0, 0], b"\0\x01a"])),
        (Fault::TopicWildcard, V5, Client, connect_5(0x06, &[], b"\0\0\x01#\0\0")),
        (Fault::TopicEmpty, V5, Client, connect_5(0x06, &[], b"\0\0\0\0\0")),
        (Fault::TopicEmpty, V3_1_1, Server, vec![0x30, 2, 0, 0]),
        (Fault::QoS3, V5, Server, frame(0x36, &[b"\0\x01a\0\x01\0"])),
        (Fault::DupWithoutQoS, V3_1_1, Server, frame(0x38, &[b"\0\x01a"])),
        (Fault::PropertyUnknown, V5, Server, publish_5(&[0x05, 0])),
        (Fault::PropertyMisplaced, V5, Server, publish_5(&[0x18, 0, 0, 0, 1])),
        (Fault::PropertySender, V5, Client, publish_5(&[0x0B, 1])),
        (Fault::PropertySender, V5, Server, vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
        (Fault::PropertySender, V5, Client, frame(0xE0, &[&[0x98, 4, 0x1C], b"\0\x01x"])),
        (Fault::PropertyRepeated, V5, Client, frame(0x82, &[&[0, 1, 4, 0x0B, 1, 0x0B, 2], b"\0\x01a\0"])),
        (Fault::PropertyValue, V5, Server, publish_5(&[0x0B, 0])),
        (Fault::PropertyValue, V5, Client, publish_5(&[0x01, 2])),
        (Fault::PropertyValue, V5, Client, connect_5(0x02, &[0x27, 0, 0, 0, 0], &[])),
        (Fault::PropertyValue, V5, Client, connect_5(0x02, &[0x21, 0, 0], &[])),
        (Fault::TopicAliasZero, V5, Server, publish_5(&[0x23, 0, 0])),
        (Fault::ResponseTopic, V5, Client, publish_5(b"\x08\0\x01+")),
        (Fault::ResponseTopic, V5, Client, publish_5(b"\x08\0\0")),
        (Fault::AuthenticationMethodMissing, V5, Client, connect_5(0x02, b"\x16\0\x01x", &[])),
        (Fault::AuthenticationMethodMissing, V5, Server, vec![0xF0, 2, 0x18, 0]),
        (Fault::ReasonCodeUnknown, V3_1_1, Server, vec![0x20, 2, 0, 6]),
        (Fault::ReasonCodeSender, V5, Server, vec![0xF0, 6, 0x19, 4, 0x15, 0, 1, b'x']),
        (Fault::ReasonCodeSender, V5, Client, vec![0xF0, 0]),
        (Fault::NoReasonCodes, V5, Server, vec![0x90, 3, 0, 1, 0]),
        (Fault::ConnAckFlags, V5, Server, vec![0x20, 3, 2, 0, 0]),
        (Fault::SessionPresentWithRefusal, V5, Server, vec![0x20, 3, 1, 0x87, 0]),
        (Fault::ProtocolName, V5, Client, frame(0x10, &[b"\0\x04MQTP\x05\x02\0\0\0\0\0"])),
        (Fault::ProtocolLevel, V5, Client, frame(0x10, &[b"\0\x04MQTT\x06\x02\0\0\0\0\0"])),
        (Fault::ProtocolLevel, V5, Client, frame(0x10, &[b"\0\x04MQTT\x85\x02\0\0\0\0\0"])),
        (Fault::ProtocolLevel, V5, Client, frame(0x10, &[b"\0\x06MQIsdp\x04\x02\0\0\0\0"])),
        (Fault::ConnectFlags, V5, Client, connect_5(0x03, &[], &[])),
        (Fault::WillFlags, V3_1_1, Client, connect_4(0x0A, &[])),
        (Fault::WillFlags, V5, Client, connect_5(0x22, &[], &[])),
        (Fault::WillQoS3, V5, Client, connect_5(0x1E, &[], b"\0\0\x01w\0\0")),
        (Fault::PasswordWithoutUserName, V3_1_1, Client, connect_4(0x42, b"\0\x01p")),
        (Fault::TopicFilter, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x02a#\0"])),
        (Fault::TopicFilter, V5, Client, frame(0xA2, &[&[0, 1, 0], b"\0\0"])),
        (Fault::SubscriptionOptions, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x01a\x40"])),
        (Fault::SubscriptionOptions, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x01a\x80"])),
        (Fault::SubscriptionOptions, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x01a\x30"])),
        (Fault::SubscriptionOptions, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x01a\x03"])),
        (Fault::SubscriptionOptions, V3_1_1, Client, frame(0x82, &[&[0, 1], b"\0\x01a\x04"])),
        (Fault::NoLocalShared, V5, Client, frame(0x82, &[&[0, 1, 0], b"\0\x0A$share/g/a\x04"])),
        (Fault::NoFilters, V5, Client, vec![0x82, 3, 0, 1, 0]),
        (Fault::NoFilters, V3_1_1, Client, vec![0xA2, 2, 0, 1]),
    ];
    for (expected, version, sender, bytes) in &rows {
        assert_eq!(fault(bytes, *version, *sender), Some(*expected), "{version} {sender:?} {bytes:x?}");
    }
    for known in Fault::ALL {
        // The one that needs a maximum is found by the fixed header alone.
        let found = rows.iter().any(|row| row.0 == *known) || *known == Fault::PacketTooLarge;
        assert!(found, "{known:?} has no row");
    }
    assert_eq!(frame_header(&[0x30, 100], 50).unwrap_err().fault(), Fault::PacketTooLarge);
}

#[test]
fn what_3_1_and_bridges_do_differently_is_read() {
    for bytes in [
        frame(0x8A, &[&[0, 1], b"\0\x01a\0"]),
        frame(0xAA, &[&[0, 1], b"\0\x01a"]),
        vec![0x6A, 2, 0, 1],
        frame(0x10, &[b"\0\x06MQIsdp\x83\x02\0\0\0\0"]),
        frame(0x10, &[b"\0\x04MQTT\x84\x02\0\0\0\0"]),
    ] {
        assert_eq!(fault(&bytes, V3_1, Client), None, "{bytes:x?}");
    }
    let Ok(Packet::Connect(connect)) =
        decode(&[16, 14, 0, 6, 77, 81, 73, 115, 100, 112, 0x83, 2, 0, 0, 0, 0], V5, Client)
    else {
        panic!("a bridge's CONNECT is read");
    };
    assert_eq!((connect.version, connect.bridge), (V3_1, true));
    let Ok(Packet::ConnAck(connack)) = decode(&[0x20, 2, 0xFF, 0], V3_1, Server) else {
        panic!("the first byte of a CONNACK is undefined in 3.1");
    };
    assert!(!connack.session_present);
}

/// The codes of section 2.4 and of each packet's own section, by packet and by who may say them.
// 5.0: MQTT-3.2.2-8, MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.8.4-7, MQTT-3.9.3-2
// 5.0: MQTT-3.11.3-2, MQTT-3.14.2-1, MQTT-3.15.2-1
// 3.1.1: MQTT-3.9.3-2
#[test]
fn each_packet_has_its_reason_codes_and_no_others() {
    let connack: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
        0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let puback: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let suback: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let unsuback: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    let from_server: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
        0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let from_client: &[u8] =
        &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    for (first_byte, before, behind, version, sender, codes) in [
        (0x20, &[0][..], &[0][..], V5, Server, connack),
        (0x20, &[0], &[], V3_1_1, Server, &[0, 1, 2, 3, 4, 5]),
        (0x40, &[0, 1], &[], V5, Client, puback),
        (0x50, &[0, 1], &[], V5, Server, puback),
        (0x62, &[0, 1], &[], V5, Server, &[0x00, 0x92]),
        (0x70, &[0, 1], &[], V5, Client, &[0x00, 0x92]),
        (0x90, &[0, 1, 0], &[], V5, Server, suback),
        (0x90, &[0, 1], &[], V3_1_1, Server, &[0x00, 0x01, 0x02, 0x80]),
        (0xB0, &[0, 1, 0], &[], V5, Server, unsuback),
        (0xE0, &[], &[], V5, Server, from_server),
        (0xE0, &[], &[], V5, Client, from_client),
        (0xF0, &[], &[4, 0x15, 0, 1, b'x'], V5, Server, &[0x00, 0x18]),
        (0xF0, &[], &[4, 0x15, 0, 1, b'x'], V5, Client, &[0x18, 0x19]),
    ] {
        for code in 0..=255 {
            let bytes = frame(first_byte, &[before, &[code], behind]);
            let accepted = decode(&bytes, version, sender).is_ok();
            assert_eq!(accepted, codes.contains(&code), "{first_byte:02x} {version} {sender:?} {code:02x}");
        }
    }
}

#[test]
fn a_property_that_may_stand_once_is_refused_twice() {
    // Where each may stand, as the rest of a packet; each packet is legal with one.
    let one = |property| PropertiesBuf::new().with(property).unwrap();
    for (property, twice_is_legal) in [
        (one(Property::PayloadFormatIndicator(true)), false),
        (one(Property::MessageExpiryInterval(1)), false),
        (one(Property::ContentType("c")), false),
        (one(Property::ResponseTopic("r")), false),
        (one(Property::CorrelationData(b"d")), false),
        (one(Property::TopicAlias(1)), false),
        (one(Property::SubscriptionIdentifier(7)), true),
        (one(Property::UserProperty("n", "v")), true),
    ] {
        let bytes = property.as_properties().as_bytes();
        assert_eq!(fault(&publish_5(bytes), V5, Server), None);
        let twice = publish_5(&[bytes, bytes].concat());
        assert_eq!(fault(&twice, V5, Server), (!twice_is_legal).then_some(Fault::PropertyRepeated));
    }
    for bytes in [
        &[0x11, 0, 0, 0, 1][..],
        &[0x17, 1],
        &[0x19, 1],
        &[0x21, 0, 1],
        &[0x22, 0, 1],
        &[0x27, 0, 0, 0, 1],
        b"\x15\0\x01m",
    ] {
        assert_eq!(fault(&connect_5(0x02, bytes, &[]), V5, Client), None);
        let twice = connect_5(0x02, &[bytes, bytes].concat(), &[]);
        assert_eq!(fault(&twice, V5, Client), Some(Fault::PropertyRepeated));
    }
}

fn refusal(packet: &Packet<'_>, version: ProtocolVersion) -> EncodeError {
    let mut out = BytesMut::new();
    let error = encode(packet, version, &mut out).expect_err("refused");
    assert!(out.is_empty());
    assert_eq!(error.packet(), packet.packet_type());
    assert!(!error.field().is_empty());
    assert!(error.to_string().starts_with(packet.packet_type().name()), "{error}");
    error
}

fn publish<'a>(topic: &'a str, properties: Properties<'a>) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Topic::new(topic).unwrap_or_default(),
        packet_id: None,
        properties,
        payload: b"",
    }
}

// 5.0: MQTT-2.2.1-2, MQTT-3.3.1-2, MQTT-3.3.2-2, MQTT-4.3.1-1, MQTT-4.7.3-1, MQTT-4.7.3-2, MQTT-4.7.3-3
// 3.1.1: MQTT-2.3.1-5, MQTT-3.3.1-2, MQTT-3.3.2-2, MQTT-4.3.1-1, MQTT-4.7.3-1, MQTT-4.7.3-2, MQTT-4.7.3-3
#[test]
fn a_publish_that_no_receiver_could_accept_is_not_written() {
    let none = Properties::EMPTY;
    let id = Some(PacketId::MIN);
    let long = "x".repeat(65_536);
    let packet = PacketType::Publish;
    let field = "topic name";
    for (publish, expected) in [
        (Publish { dup: true, ..publish("a", none) }, EncodeError::DupWithoutQoS),
        (
            Publish { packet_id: id, ..publish("a", none) },
            EncodeError::PacketIdSuperfluous { packet_id: PacketId::MIN },
        ),
        (
            Publish { qos: QoS::AtLeastOnce, ..publish("a", none) },
            EncodeError::PacketIdMissing { qos: QoS::AtLeastOnce },
        ),
        (publish("", none), EncodeError::Topic { packet, field, error: TopicError::Empty }),
    ] {
        for version in ProtocolVersion::ALL {
            assert_eq!(refusal(&Packet::Publish(publish.clone()), version), expected);
        }
    }
    for (topic, expected) in [
        ("", TopicError::Empty),
        ("a/#", TopicError::WildcardInName { at: 2 }),
        ("a\0", TopicError::Nul { at: 1 }),
        (&long, TopicError::TooLong { bytes: 65_536 }),
    ] {
        assert_eq!(Topic::new(topic), Err(expected));
    }
    let property = PropertyId::ReasonString;
    let list = PropertiesBuf::new().with(Property::ReasonString("x")).unwrap();
    let misplaced = Packet::Publish(publish("a", list.as_properties()));
    assert_eq!(refusal(&misplaced, V5), EncodeError::PropertyMisplaced { packet, property });
    assert_eq!(encode(&misplaced, V3_1_1, &mut BytesMut::new()), Ok(()));
    let alias = PropertiesBuf::new().with(Property::TopicAlias(1)).unwrap();
    let aliased = Packet::Publish(publish("", alias.as_properties()));
    assert_eq!(encode(&aliased, V5, &mut BytesMut::new()), Ok(()));
    assert!(matches!(refusal(&aliased, V3_1_1), EncodeError::Topic { error: TopicError::Empty, .. }));
}

// 5.0: MQTT-3.5.2-1, MQTT-3.14.2-1
#[test]
fn a_reason_that_the_version_cannot_say_is_never_left_out() {
    let properties = Properties::EMPTY;
    let reason = ReasonCode::QuotaExceeded;
    let ack = |reason| Packet::Ack(Ack { reason, ..Ack::new(AckKind::PubRec, PacketId::MIN) });
    let disconnect = |reason| Packet::Disconnect(Disconnect { reason, properties });
    let connack = |reason, session_present| Packet::ConnAck(ConnAck { session_present, reason, properties });
    let suback = |codes| {
        let codes = ReasonCodes::from_bytes(codes).unwrap();
        Packet::SubAck(SubAck { packet_id: PacketId::MIN, properties, codes })
    };
    let unsuback = |codes| {
        let codes = ReasonCodes::from_bytes(codes).unwrap();
        Packet::UnsubAck(UnsubAck { packet_id: PacketId::MIN, properties, codes })
    };
    for (packet, version) in [
        (ack(reason), V3_1_1),
        (ack(ReasonCode::GrantedQoS1), V5),
        (disconnect(reason), V3_1_1),
        (disconnect(ReasonCode::DisconnectWithWill), V3_1_1),
        (disconnect(ReasonCode::GrantedQoS1), V5),
        (connack(ReasonCode::QuotaExceeded, false), V3_1_1),
        (connack(ReasonCode::SessionTakenOver, false), V5),
        (suback(&[0x87]), V3_1_1),
        (suback(&[0x11]), V5),
        (unsuback(&[0x80]), V3_1_1),
        (unsuback(&[0x01]), V5),
    ] {
        assert!(matches!(refusal(&packet, version), EncodeError::Reason { .. }), "{packet:?}");
    }
    for packet in [ack(ReasonCode::NoMatchingSubscribers), unsuback(&[0x11]), disconnect(ReasonCode::Success)]
    {
        assert_eq!(encode(&packet, V3_1_1, &mut BytesMut::new()), Ok(()));
    }
    assert!(matches!(refusal(&suback(&[]), V5), EncodeError::NoReasonCodes { .. }));
    assert!(matches!(refusal(&unsuback(&[]), V5), EncodeError::NoReasonCodes { .. }));
    let refused = connack(ReasonCode::NotAuthorized, true);
    assert_eq!(refusal(&refused, V5), EncodeError::SessionPresentWithRefusal);
}

// 5.0: MQTT-3.8.3-2, MQTT-3.8.3-4
#[test]
fn a_request_that_no_server_could_accept_is_not_written() {
    let packet_id = PacketId::MIN;
    let properties = Properties::EMPTY;
    let unsubscribe = |filters| Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters });
    let subscribe = |filters| Packet::Subscribe(Subscribe { packet_id, properties, filters });
    let shared = SubscribeFilter {
        filter: "$share/g/a",
        options: SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(QoS::AtMostOnce) },
    };
    assert!(matches!(refusal(&subscribe(vec![]), V5), EncodeError::NoFilters { .. }));
    assert!(matches!(refusal(&unsubscribe(vec![]), V3_1), EncodeError::NoFilters { .. }));
    assert!(matches!(refusal(&unsubscribe(vec!["a+"]), V5), EncodeError::Topic { .. }));
    assert_eq!(refusal(&subscribe(vec![shared]), V5), EncodeError::NoLocalShared);
    assert_eq!(encode(&subscribe(vec![shared]), V3_1_1, &mut BytesMut::new()), Ok(()));
    let twice = PropertiesBuf::new()
        .with(Property::SubscriptionIdentifier(1))
        .and_then(|list| list.with(Property::SubscriptionIdentifier(2)))
        .unwrap();
    let filters = vec![SubscribeFilter { filter: "a", options: SubscriptionOptions::default() }];
    let repeated = Packet::Subscribe(Subscribe { packet_id, properties: twice.as_properties(), filters });
    assert!(matches!(refusal(&repeated, V5), EncodeError::PropertyRepeated { .. }));
}

// 5.0: MQTT-3.1.3-12
// 3.1.1: MQTT-3.1.2-22
#[test]
fn a_connect_that_no_server_could_accept_is_not_written() {
    let long = vec![0; 65_536];
    let plain = |version| Connect::new(version, "c");
    let will =
        Will { topic: "w", payload: b"", qos: QoS::AtMostOnce, retain: false, properties: Properties::EMPTY };
    let nul = Connect { username: Some("\0"), ..plain(V5) };
    assert!(matches!(refusal(&Packet::Connect(nul), V5), EncodeError::Nul { field: "user name", .. }));
    let bare = Connect { password: Some(b"p"), ..plain(V3_1_1) };
    let expected = EncodeError::PasswordWithoutUserName { version: V3_1_1 };
    assert_eq!(refusal(&Packet::Connect(bare), V5), expected);
    let long_will = Connect { will: Some(Will { payload: &long, ..will.clone() }), ..plain(V5) };
    assert!(matches!(
        refusal(&Packet::Connect(long_will), V5),
        EncodeError::FieldTooLong { field: "will payload", bytes: 65_536, .. }
    ));
    let alias = PropertiesBuf::new().with(Property::TopicAlias(1)).unwrap();
    let strange_will = Will { properties: alias.as_properties(), ..will.clone() };
    let strange_will = Packet::Connect(Connect { will: Some(strange_will), ..plain(V5) });
    assert!(matches!(refusal(&strange_will, V5), EncodeError::PropertyMisplaced { .. }));
    let wild_will = Connect { will: Some(Will { topic: "w/+", ..will }), ..plain(V3_1) };
    assert!(matches!(
        refusal(&Packet::Connect(wild_will), V5),
        EncodeError::Topic { field: "will topic", error: TopicError::WildcardInName { at: 2 }, .. }
    ));
    let data = PropertiesBuf::new().with(Property::AuthenticationData(b"x")).unwrap();
    let no_method = Connect { properties: data.as_properties(), ..plain(V5) };
    assert!(matches!(
        refusal(&Packet::Connect(no_method), V5),
        EncodeError::AuthenticationMethodMissing { .. }
    ));
}

#[test]
fn an_auth_or_disconnect_that_nobody_could_send_is_not_written() {
    let packet = PacketType::Auth;
    let auth = |reason| Packet::Auth(Auth { reason, properties: Properties::EMPTY });
    assert_eq!(
        refusal(&auth(ReasonCode::Success), V3_1_1),
        EncodeError::NotInVersion { packet, version: V3_1_1 }
    );
    assert_eq!(
        refusal(&auth(ReasonCode::ContinueAuthentication), V5),
        EncodeError::AuthenticationMethodMissing { packet }
    );
    // Only a client sends Session Expiry Interval, and only a server that it is shutting down or a Server Reference.
    let expiry = PropertiesBuf::new().with(Property::SessionExpiryInterval(0)).unwrap();
    let both = expiry.clone().with(Property::ServerReference("x")).unwrap();
    for (reason, properties) in [(ReasonCode::ServerShuttingDown, &expiry), (ReasonCode::Success, &both)] {
        let packet = Packet::Disconnect(Disconnect { reason, properties: properties.as_properties() });
        assert!(matches!(refusal(&packet, V5), EncodeError::PropertyMisplaced { .. }), "{packet:?}");
    }
}
