//! The numbered statements about bytes: what a client writes, and what it refuses to read.
//! Each test names those that it holds.

use bytes::BytesMut;
use mqtt_machine::packet::{
    Ack, AckKind, Auth, Connect, Disconnect, Packet, Properties, PropertiesBuf, Property, Publish, Sender,
    Subscribe, SubscribeFilter, Topic, Unsubscribe, Will,
};
use mqtt_machine::wire::{EncodeError, Fault, decode, encode, frame_header};
use mqtt_machine::{
    PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions, TopicFilter, TopicName,
};

use ProtocolVersion::{V3_1_1, V5};

const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn written(packet: &Packet<'_>, version: ProtocolVersion) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).map(|()| out)
}

/// What a client makes of bytes from its server.
fn fault(bytes: &[u8], version: ProtocolVersion) -> Option<Fault> {
    decode(bytes, version, Sender::Server).err().map(|error| error.fault())
}

fn frame(first_byte: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first_byte, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A QoS 0 PUBLISH from the server with this topic.
fn publish_bytes(topic: &[u8], version: ProtocolVersion) -> Vec<u8> {
    let properties: &[u8] = if version == V5 { &[0] } else { &[] };
    frame(0x30, &[&field(topic), properties, b"x"])
}

fn publish(topic: &str) -> Publish<'_> {
    let properties = Properties::EMPTY;
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Topic::new(topic).unwrap(),
        packet_id: None,
        properties,
        payload: b"x",
    }
}

fn subscribe<'a>(filters: &[&'a str]) -> Packet<'a> {
    let options = SubscriptionOptions::default();
    let filters = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    Packet::Subscribe(Subscribe { packet_id: PacketId::MIN, properties: Properties::EMPTY, filters })
}

fn unsubscribe<'a>(filters: &[&'a str]) -> Packet<'a> {
    let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);
    Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: filters.to_vec() })
}

/// A property of text and its identifier, where a PUBLISH or a DISCONNECT from the server may carry it.
fn text_properties(text: &[u8]) -> Vec<Vec<u8>> {
    let property = |id: u8| [&[id][..], &field(text)].concat();
    let publish = |list: &[u8]| frame(0x30, &[b"\0\x01a", &[u8::try_from(list.len()).unwrap()], list]);
    let disconnect = |list: &[u8]| frame(0xE0, &[&[0x80, u8::try_from(list.len()).unwrap()], list]);
    vec![
        publish(&property(0x03)),
        publish(&property(0x08)),
        disconnect(&property(0x1C)),
        disconnect(&property(0x1F)),
    ]
}

// 5.0: MQTT-1.5.4-1, MQTT-3.3.2-1, MQTT-3.3.2-13, MQTT-3.3.2-19
// 3.1.1: MQTT-1.5.3-1, MQTT-3.3.2-1
#[test]
fn text_that_is_no_utf_8_or_encodes_a_surrogate_is_refused() {
    for text in
        [&b"\xED\xA0\x80"[..], b"\xED\xBF\xBF", b"\xC3\x28", b"\xC0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"]
    {
        for version in BOTH {
            assert_eq!(fault(&publish_bytes(text, version), version), Some(Fault::Utf8), "{text:x?}");
        }
        for bytes in text_properties(text) {
            assert_eq!(fault(&bytes, V5), Some(Fault::Utf8), "{bytes:x?}");
        }
    }
    for bytes in text_properties(b"a") {
        assert_eq!(fault(&bytes, V5), None);
    }
}

// 5.0: MQTT-1.5.4-2, MQTT-3.1.3-4, MQTT-3.1.3-11, MQTT-3.1.3-12, MQTT-3.8.3-1, MQTT-3.10.3-1, MQTT-4.7.3-2
// 3.1.1: MQTT-1.5.3-2, MQTT-3.1.3-4, MQTT-3.1.3-10, MQTT-3.1.3-11, MQTT-3.8.3-1, MQTT-3.10.3-1, MQTT-4.7.3-2
#[test]
fn text_never_holds_nul_in_either_direction() {
    for version in BOTH {
        assert_eq!(fault(&publish_bytes(b"a\0b", version), version), Some(Fault::TextNul));
        let topic = "w\0";
        let qos = QoS::AtMostOnce;
        let will = Will { topic, payload: b"", qos, retain: false, properties: Properties::EMPTY };
        for connect in [
            Connect::new(version, "c\0"),
            Connect { will: Some(will), ..Connect::new(version, "c") },
            Connect { username: Some("\0"), ..Connect::new(version, "c") },
        ] {
            let refused = written(&Packet::Connect(connect), version);
            assert!(matches!(refused, Err(EncodeError::Nul { .. })), "{refused:?}");
        }
        for packet in [subscribe(&["f", "f\0"]), unsubscribe(&["f", "f\0"])] {
            assert!(matches!(written(&packet, version), Err(EncodeError::Nul { .. })), "{packet:?}");
        }
    }
    for bytes in text_properties(b"\0") {
        assert_eq!(fault(&bytes, V5), Some(Fault::TextNul), "{bytes:x?}");
    }
    assert!(Topic::new("a\0").is_err());
    assert!(TopicName::new("a\0").is_err());
    assert!(TopicFilter::new("a\0").is_err());
}

// 5.0: MQTT-1.5.4-3
// 3.1.1: MQTT-1.5.3-3
#[test]
fn a_byte_order_mark_is_an_ordinary_character_in_both_directions() {
    for version in BOTH {
        for topic in ["\u{FEFF}a", "a\u{FEFF}b", "\u{FEFF}"] {
            let bytes = written(&Packet::Publish(publish(topic)), version).unwrap();
            assert_eq!(bytes, publish_bytes(topic.as_bytes(), version));
            let Ok(Packet::Publish(read)) = decode(&bytes, version, Sender::Server) else {
                panic!("{topic:?}")
            };
            assert_eq!(read.topic.as_bytes(), topic.as_bytes());
        }
    }
}

// 5.0: MQTT-1.5.5-1
#[test]
fn variable_byte_integers_have_their_shortest_form_in_both_directions() {
    for (remaining, length) in
        [(127, &[0x7F][..]), (128, &[0x80, 0x01]), (16_383, &[0xFF, 0x7F]), (16_384, &[0x80, 0x80, 0x01])]
    {
        // The topic with its length and the empty properties are four bytes.
        let payload = vec![0; remaining - 4];
        let bytes = written(&Packet::Publish(Publish { payload: &payload, ..publish("t") }), V5).unwrap();
        assert_eq!(&bytes[1..=length.len()], length);
        assert_eq!(bytes.len(), 1 + length.len() + remaining);
    }
    for padded in [
        &[0xD0, 0x80, 0x00][..],
        &[0x40, 0x82, 0x80, 0x00, 0, 1],
        // The property length, a property's identifier, a value.
        &[0x30, 6, 0, 1, b'a', 0x80, 0x00, b'x'],
        &[0x30, 8, 0, 1, b'a', 3, 0x81, 0x00, 1, b'x'],
        &[0x30, 8, 0, 1, b'a', 3, 0x0B, 0x81, 0x00, b'x'],
    ] {
        let length = frame_header(padded, u32::MAX);
        let found = length.err().map(|error| error.fault()).or_else(|| fault(padded, V5));
        assert_eq!(found, Some(Fault::VarIntNotMinimal), "{padded:x?}");
    }
}

// 5.0: MQTT-1.5.7-1
#[test]
fn both_halves_of_a_user_property_are_text() {
    let pair = |name: &[u8], value: &[u8]| {
        let list = [&[0x26][..], &field(name), &field(value)].concat();
        frame(0x30, &[b"\0\x01a", &[u8::try_from(list.len()).unwrap()], &list])
    };
    assert_eq!(fault(&pair(b"n", b"v"), V5), None);
    for (name, value) in [(&b"\xFF"[..], &b"v"[..]), (b"n", b"\xFF")] {
        assert_eq!(fault(&pair(name, value), V5), Some(Fault::Utf8));
    }
    for (name, value) in [(&b"\0"[..], &b"v"[..]), (b"n", b"\0")] {
        assert_eq!(fault(&pair(name, value), V5), Some(Fault::TextNul));
    }
    for (name, value) in [("\0", "v"), ("n", "\0")] {
        assert!(PropertiesBuf::new().with(Property::UserProperty(name, value)).is_err());
    }
}

/// Every packet that a server may send but PUBLISH, in its shortest form.
fn from_server(version: ProtocolVersion) -> Vec<Vec<u8>> {
    let mut frames = vec![
        vec![0x40, 2, 0, 1],
        vec![0x50, 2, 0, 1],
        vec![0x62, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        vec![0xD0, 0],
    ];
    if version == V5 {
        frames.push(vec![0x20, 3, 0, 0, 0]);
        frames.push(vec![0x90, 4, 0, 1, 0, 0]);
        frames.push(vec![0xB0, 4, 0, 1, 0, 0]);
        frames.push(vec![0xE0, 0]);
        frames.push(vec![0xF0, 6, 0x18, 4, 0x15, 0, 1, b'X']);
    } else {
        frames.push(vec![0x20, 2, 0, 0]);
        frames.push(vec![0x90, 3, 0, 1, 0]);
        frames.push(vec![0xB0, 2, 0, 1]);
    }
    frames
}

// 5.0: MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1
// 3.1.1: MQTT-2.2.2-1, MQTT-2.2.2-2, MQTT-3.6.1-1
#[test]
fn reserved_flags_of_the_fixed_header_are_checked() {
    for version in BOTH {
        for bytes in from_server(version) {
            for flags in 0..16 {
                let mut changed = bytes.clone();
                changed[0] = bytes[0] & 0xF0 | flags;
                let expected = (changed != bytes).then_some(Fault::Flags);
                assert_eq!(fault(&changed, version), expected, "{version} {changed:x?}");
            }
        }
    }
    for bytes in [[0x00, 0], [0x0F, 0]] {
        assert_eq!(fault(&bytes, V5), Some(Fault::PacketTypeZero));
    }
}

// 5.0: MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1
// 3.1.1: MQTT-2.2.2-1, MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1, MQTT-3.14.1-1
#[test]
fn reserved_flags_of_the_fixed_header_are_written() {
    let ack = |kind| Packet::Ack(Ack::new(kind, PacketId::MIN));
    let properties = PropertiesBuf::new().with(Property::AuthenticationMethod("X")).unwrap();
    let auth = Packet::Auth(Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: properties.as_properties(),
    });
    let goodbye = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    for version in BOTH {
        for (packet, first_byte) in [
            (Packet::Connect(Connect::new(version, "c")), 0x10),
            (ack(AckKind::PubAck), 0x40),
            (ack(AckKind::PubRec), 0x50),
            (ack(AckKind::PubRel), 0x62),
            (ack(AckKind::PubComp), 0x70),
            (subscribe(&["f"]), 0x82),
            (unsubscribe(&["f"]), 0xA2),
            (Packet::PingReq, 0xC0),
            (Packet::Disconnect(goodbye.clone()), 0xE0),
        ] {
            assert_eq!(written(&packet, version).unwrap()[0], first_byte, "{packet:?}");
        }
    }
    assert_eq!(written(&auth, V5).unwrap()[0], 0xF0);
}

// 5.0: MQTT-2.2.1-2, MQTT-4.3.1-1
// 3.1.1: MQTT-2.3.1-5, MQTT-4.3.1-1
#[test]
fn a_publish_of_qos_0_has_neither_an_identifier_nor_dup() {
    assert_eq!(written(&Packet::Publish(publish("a")), V3_1_1).unwrap(), &b"\x30\x04\0\x01ax"[..]);
    assert_eq!(written(&Packet::Publish(publish("a")), V5).unwrap(), &b"\x30\x05\0\x01a\0x"[..]);
    for version in BOTH {
        let numbered = Publish { packet_id: Some(PacketId::MIN), ..publish("a") };
        assert_eq!(
            written(&Packet::Publish(numbered), version),
            Err(EncodeError::PacketIdSuperfluous { packet_id: PacketId::MIN })
        );
        let again = Publish { dup: true, ..publish("a") };
        assert_eq!(written(&Packet::Publish(again), version), Err(EncodeError::DupWithoutQoS));
        let bytes = publish_bytes(b"a", version);
        let Ok(Packet::Publish(read)) = decode(&bytes, version, Sender::Server) else { panic!("{version}") };
        assert_eq!((read.packet_id, read.payload), (None, &b"x"[..]));
    }
}

// 5.0: MQTT-2.2.1-4
// 3.1.1: MQTT-2.3.1-1, MQTT-2.3.1-4
#[test]
fn an_identifier_of_zero_is_refused_and_cannot_be_written() {
    for version in BOTH {
        for qos in [0x32, 0x34] {
            let properties: &[u8] = if version == V5 { &[0] } else { &[] };
            let with = |id: u8| frame(qos, &[b"\0\x01a\0", &[id], properties, b"x"]);
            assert_eq!(fault(&with(0), version), Some(Fault::PacketIdZero));
            assert_eq!(fault(&with(1), version), None);
        }
        for mut bytes in from_server(version) {
            if matches!(bytes[0] >> 4, 4..=11) {
                bytes[3] = 0;
                assert_eq!(fault(&bytes, version), Some(Fault::PacketIdZero), "{bytes:x?}");
            }
        }
        let numberless = Publish { qos: QoS::AtLeastOnce, ..publish("a") };
        assert_eq!(
            written(&Packet::Publish(numberless), version),
            Err(EncodeError::PacketIdMissing { qos: QoS::AtLeastOnce })
        );
    }
    assert_eq!(PacketId::new(0), None);
}

// 5.0: MQTT-2.2.2-1
#[test]
fn an_empty_property_section_is_a_zero_and_its_absence_is_refused() {
    let empty =
        |packet: &Packet<'_>, at: usize| assert_eq!(written(packet, V5).unwrap()[at], 0, "{packet:?}");
    empty(&Packet::Connect(Connect::new(V5, "c")), 12);
    empty(&Packet::Publish(publish("a")), 5);
    empty(&subscribe(&["f"]), 4);
    empty(&unsubscribe(&["f"]), 4);
    for bytes in [&b"\x30\x03\0\x01a"[..], b"\x20\x02\0\0", b"\x90\x02\0\x01", b"\xB0\x02\0\x01"] {
        assert_eq!(fault(bytes, V5), Some(Fault::Truncated), "{bytes:x?}");
    }
}

/// Reads a CONNECT by the letter of its section: flags first, then the fields that they announce.
fn read_connect(bytes: &[u8], version: ProtocolVersion) -> (u8, Vec<Vec<u8>>) {
    let name: &[u8] = if version == ProtocolVersion::V3_1 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    let rest = bytes[2..].strip_prefix(name).expect("the protocol name comes first");
    assert_eq!(rest[0], version.level());
    let flags = rest[1];
    assert_eq!(rest[2..4], [0, 60]);
    let (mut rest, mut fields) = (&rest[4..], Vec::new());
    let skip_properties = |rest: &mut &[u8]| {
        if version == V5 {
            assert_eq!(rest[0], 0);
            *rest = &rest[1..];
        }
    };
    skip_properties(&mut rest);
    while !rest.is_empty() {
        if fields.len() == 1 && flags & 0x04 != 0 {
            skip_properties(&mut rest);
        }
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        fields.push(rest[2..2 + length].to_vec());
        rest = &rest[2 + length..];
    }
    (flags, fields)
}

// 5.0: MQTT-3.1.2-1, MQTT-3.1.2-3, MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-12, MQTT-3.1.2-13, MQTT-3.1.2-16
// 5.0: MQTT-3.1.2-17, MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.3-1, MQTT-3.1.3-3
// 3.1.1: MQTT-3.1.2-1, MQTT-3.1.2-3, MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-14, MQTT-3.1.2-15
// 3.1.1: MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.2-20, MQTT-3.1.2-21, MQTT-3.1.2-22, MQTT-3.1.3-1, MQTT-3.1.3-3
#[test]
fn the_flags_of_connect_announce_exactly_the_fields_that_follow_in_their_order() {
    let wills = QOS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]).map(Some);
    for will in wills.chain([None]) {
        for (username, password) in
            [(None, None), (Some("u"), None), (Some("u"), Some(&b"p"[..])), (None, Some(&b"p"[..]))]
        {
            for version in ProtocolVersion::ALL {
                let properties = Properties::EMPTY;
                let topic = "w";
                let sent =
                    will.map(|(qos, retain)| Will { topic, payload: b"gone", qos, retain, properties });
                let connect = Connect { will: sent, username, password, ..Connect::new(version, "c") };
                let bytes = match written(&Packet::Connect(connect), version) {
                    Err(error) => {
                        assert_eq!(error, EncodeError::PasswordWithoutUserName { version });
                        assert!(version != V5 && username.is_none() && password.is_some());
                        continue;
                    }
                    Ok(bytes) => bytes,
                };
                assert!(version == V5 || username.is_some() || password.is_none());
                let (flags, fields) = read_connect(&bytes, version);
                let mut expected = vec![b"c".to_vec()];
                let mut expected_flags = 0x02;
                if let Some((qos, retain)) = will {
                    expected_flags |= 0x04 | qos.to_u8() << 3 | u8::from(retain) << 5;
                    expected.extend([b"w".to_vec(), b"gone".to_vec()]);
                }
                if username.is_some() {
                    expected_flags |= 0x80;
                    expected.push(b"u".to_vec());
                }
                if password.is_some() {
                    expected_flags |= 0x40;
                    expected.push(b"p".to_vec());
                }
                assert_eq!((flags, fields), (expected_flags, expected), "{version}");
            }
        }
    }
}

// 5.0: MQTT-3.3.2-2, MQTT-3.3.2-14, MQTT-4.7.0-1
// 3.1.1: MQTT-3.3.2-2, MQTT-4.7.1-1
#[test]
fn topic_names_have_no_wildcards_in_either_direction() {
    for topic in ["#", "+", "a/#", "a/+/b", "a+b", "x#", "/+", "+/"] {
        for version in BOTH {
            assert_eq!(fault(&publish_bytes(topic.as_bytes(), version), version), Some(Fault::TopicWildcard));
        }
        assert!(TopicName::new(topic).is_err());
        assert!(Topic::new(topic).is_err());
        assert!(PropertiesBuf::new().with(Property::ResponseTopic(topic)).is_err());
        let list = [&[0x08][..], &field(topic.as_bytes())].concat();
        let bytes = frame(0x30, &[b"\0\x01a", &[u8::try_from(list.len()).unwrap()], &list]);
        assert_eq!(fault(&bytes, V5), Some(Fault::ResponseTopic));
    }
}

// 5.0: MQTT-3.3.2-1
// 3.1.1: MQTT-3.3.2-1
#[test]
fn the_topic_name_is_the_first_field_of_a_publish() {
    for version in BOTH {
        let numbered = Publish { qos: QoS::AtLeastOnce, packet_id: PacketId::new(0x6162), ..publish("top") };
        let bytes = written(&Packet::Publish(numbered), version).unwrap();
        assert_eq!(&bytes[2..9], b"\0\x03topab");
        assert_eq!(fault(&[0x30, 0], version), Some(Fault::Truncated));
        assert_eq!(fault(&[0x30, 2, 0, 1], version), Some(Fault::Truncated));
    }
}

// 5.0: MQTT-4.7.3-1, MQTT-4.7.3-3
// 3.1.1: MQTT-4.7.3-1, MQTT-4.7.3-3
#[test]
fn names_and_filters_have_1_to_65535_bytes() {
    let (longest, long) = ("x".repeat(65_535), "x".repeat(65_536));
    assert!(TopicName::new(&longest).is_ok() && TopicFilter::new(&longest).is_ok());
    assert!(TopicName::new(&long).is_err() && TopicFilter::new(&long).is_err());
    assert!(TopicName::new("").is_err() && TopicFilter::new("").is_err());
    for version in BOTH {
        assert_eq!(fault(&publish_bytes(b"", version), version), Some(Fault::TopicEmpty));
        for (text, is_fit) in [("", false), (&*longest, true), (&*long, false)] {
            for packet in [subscribe(&[text]), unsubscribe(&[text])] {
                assert_eq!(written(&packet, version).is_ok(), is_fit, "{} bytes", text.len());
            }
            assert_eq!(Topic::new(text).is_ok(), is_fit, "{} bytes", text.len());
        }
        assert!(written(&Packet::Publish(publish(&longest)), version).is_ok());
        let nameless = Publish { topic: Topic::EMPTY, ..publish("t") };
        assert!(written(&Packet::Publish(nameless), version).is_err());
    }
    // An alias may stand for the name.
    assert_eq!(fault(&[0x30, 7, 0, 0, 3, 0x23, 0, 1, b'x'], V5), None);
}

// 5.0: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.8.2-1, MQTT-4.8.2-2
// 3.1.1: MQTT-4.7.1-2, MQTT-4.7.1-3
#[test]
fn wildcards_and_share_names_that_break_their_rule_are_not_written() {
    for version in BOTH {
        for filter in
            ["#", "a/#", "/#", "+", "+/a", "a/+/b", "+/+/#", "/+", "a//#", "$share/g/a", "$share/g/#"]
        {
            assert!(TopicFilter::new(filter).is_ok(), "{filter}");
            assert!(written(&subscribe(&[filter]), version).is_ok(), "{filter}");
        }
        for filter in ["a#", "#/a", "a/#/b", "##", "a+", "+a", "a/b+", "a/+b/c", "++"] {
            assert!(TopicFilter::new(filter).is_err(), "{filter}");
            for packet in [subscribe(&[filter]), unsubscribe(&[filter])] {
                assert!(matches!(written(&packet, version), Err(EncodeError::Topic { .. })), "{filter}");
            }
        }
    }
    for filter in ["$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/#/a", "$share/g#/a", "$share/"]
    {
        assert!(TopicFilter::new(filter).is_err(), "{filter}");
        assert!(written(&subscribe(&[filter]), V5).is_err(), "{filter}");
    }
}

// 5.0: MQTT-3.8.3-2, MQTT-3.10.3-2
// 3.1.1: MQTT-3.8.3-3, MQTT-3.10.3-2
#[test]
fn a_request_without_filters_is_not_written() {
    for version in BOTH {
        for packet in [subscribe(&[]), unsubscribe(&[])] {
            assert!(matches!(written(&packet, version), Err(EncodeError::NoFilters { .. })));
        }
    }
}

// 5.0: MQTT-3.8.3-5
// 3.1.1: MQTT-3.8.3-4
#[test]
fn reserved_bits_of_subscription_options_are_zero() {
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    for (qos, retain_handling) in QOS.into_iter().flat_map(|qos| handling.map(|handling| (qos, handling))) {
        for (no_local, retain_as_published) in [(false, false), (true, false), (false, true), (true, true)] {
            let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
            let filters = vec![SubscribeFilter { filter: "f", options }];
            let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);
            let packet = Packet::Subscribe(Subscribe { packet_id, properties, filters });
            let byte = |version| *written(&packet, version).unwrap().last().unwrap();
            assert_eq!(byte(V3_1_1), qos.to_u8());
            let expected = qos.to_u8()
                | u8::from(no_local) << 2
                | u8::from(retain_as_published) << 3
                | (retain_handling as u8) << 4;
            assert_eq!(byte(V5), expected);
        }
    }
}

// 5.0: MQTT-3.3.1-2, MQTT-3.3.1-4, MQTT-3.3.2-8
// 3.1.1: MQTT-3.3.1-2, MQTT-3.3.1-4
#[test]
fn flags_and_aliases_that_no_publish_may_have_are_refused() {
    for version in BOTH {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let of = |flags: u8| frame(0x30 | flags, &[b"\0\x01a\0\x01", properties]);
        assert_eq!(fault(&of(0x06), version), Some(Fault::QoS3));
        assert_eq!(fault(&of(0x0E), version), Some(Fault::QoS3));
        assert_eq!(fault(&of(0x08), version), Some(Fault::DupWithoutQoS));
        assert_eq!(fault(&of(0x0A), version), None);
    }
    assert_eq!(fault(&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], V5), Some(Fault::TopicAliasZero));
    assert!(PropertiesBuf::new().with(Property::TopicAlias(0)).is_err());
}

// 5.0: MQTT-3.2.2-1, MQTT-3.2.2-6
// 3.1.1: MQTT-3.2.2-4
#[test]
fn a_connack_with_reserved_flags_or_a_session_beside_a_refusal_is_refused() {
    for bit in 1..8 {
        assert_eq!(fault(&[0x20, 3, 1 << bit, 0, 0], V5), Some(Fault::ConnAckFlags));
        assert_eq!(fault(&[0x20, 2, 1 << bit, 0], V3_1_1), Some(Fault::ConnAckFlags));
    }
    assert_eq!(fault(&[0x20, 3, 1, 0x87, 0], V5), Some(Fault::SessionPresentWithRefusal));
    for code in 1..=5 {
        assert_eq!(fault(&[0x20, 2, 1, code], V3_1_1), Some(Fault::SessionPresentWithRefusal));
    }
}

// 5.0: MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.14.2-1, MQTT-3.15.2-1
#[test]
fn a_reason_code_of_another_packet_is_not_written() {
    let properties = Properties::EMPTY;
    let with_method = PropertiesBuf::new().with(Property::AuthenticationMethod("X")).unwrap();
    for reason in ReasonCode::ALL.iter().copied() {
        let ack = |kind| Packet::Ack(Ack { reason, ..Ack::new(kind, PacketId::MIN) });
        let first = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99].contains(&reason.to_u8());
        let second = [0x00, 0x92].contains(&reason.to_u8());
        for (kind, is_fit) in [
            (AckKind::PubAck, first),
            (AckKind::PubRec, first),
            (AckKind::PubRel, second),
            (AckKind::PubComp, second),
        ] {
            assert_eq!(written(&ack(kind), V5).is_ok(), is_fit, "{kind:?} {reason}");
        }
        let auth = Packet::Auth(Auth { reason, properties: with_method.as_properties() });
        assert_eq!(written(&auth, V5).is_ok(), [0x00, 0x18, 0x19].contains(&reason.to_u8()), "{reason}");
    }
    for reason in
        [ReasonCode::GrantedQoS1, ReasonCode::BadUserNameOrPassword, ReasonCode::PacketIdentifierInUse]
    {
        let disconnect = Packet::Disconnect(Disconnect { reason, properties });
        assert!(matches!(written(&disconnect, V5), Err(EncodeError::Reason { .. })), "{reason}");
    }
}

// 5.0: MQTT-3.1.3-10, MQTT-3.3.2-18
#[test]
fn user_properties_keep_their_order() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1")];
    let mut list = PropertiesBuf::new();
    for (name, value) in pairs {
        list.push(Property::UserProperty(name, value)).unwrap();
    }
    let properties = list.as_properties();
    let bytes = written(&Packet::Publish(Publish { properties, ..publish("a") }), V5).unwrap();
    let Ok(Packet::Publish(read)) = decode(&bytes, V5, Sender::Server) else { panic!("{bytes:x?}") };
    assert_eq!(read.properties.user_properties().collect::<Vec<_>>(), pairs);
    let will = Will { topic: "w", payload: b"", qos: QoS::AtMostOnce, retain: false, properties };
    let connect = Connect { will: Some(will), ..Connect::new(V5, "c") };
    let bytes = written(&Packet::Connect(connect), V5).unwrap();
    let Ok(Packet::Connect(read)) = decode(&bytes, V5, Sender::Client) else { panic!("{bytes:x?}") };
    assert_eq!(read.will.unwrap().properties.user_properties().collect::<Vec<_>>(), pairs);
}

// 5.0: MQTT-3.9.3-2, MQTT-3.11.3-2, MQTT-3.8.4-7
// 3.1.1: MQTT-3.9.3-2
#[test]
fn a_code_that_suback_or_unsuback_does_not_have_is_refused() {
    for code in 0..=255 {
        let is_granted = code <= 2 || code == 0x80;
        assert_eq!(fault(&[0x90, 3, 0, 1, code], V3_1_1).is_none(), is_granted, "{code:02x}");
        let suback = [0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2].contains(&code);
        assert_eq!(fault(&[0x90, 4, 0, 1, 0, code], V5).is_none(), suback, "{code:02x}");
        let unsuback = [0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91].contains(&code);
        assert_eq!(fault(&[0xB0, 4, 0, 1, 0, code], V5).is_none(), unsuback, "{code:02x}");
    }
}
