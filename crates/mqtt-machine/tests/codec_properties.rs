//! What holds for every packet and for any bytes: the codec loses nothing, invents nothing and never panics.

use bytes::BytesMut;
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{Packet, Sender, Topic};
use mqtt_machine::wire::{Fault, decode, encode, encode_publish_head, encoded_len, frame_header};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use mqtt_machine_testkit::generate::{
    OwnedPublish, Sent, Stream, WildPacket, publish, speaker, strategy, strategy_of,
};

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
    out
}

/// The version that a packet's bytes are to be read by.
fn version_of(packet: &Packet<'_>, version: ProtocolVersion) -> ProtocolVersion {
    if let Packet::Connect(connect) = packet { connect.version } else { version }
}

/// A PUBLISH with the version of its connection.
fn published() -> impl Strategy<Value = (ProtocolVersion, OwnedPublish)> {
    strategy_of(200, |choices| {
        let (version, sender) = speaker(choices);
        (version, publish(choices, version, sender))
    })
}

/// Bytes that are nearly a packet: a valid one with some bytes changed, cut or repeated, its length put right again or not.
fn nearly_a_packet() -> impl Strategy<Value = (ProtocolVersion, Sender, Vec<u8>)> {
    let changes = vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4);
    (strategy::<Sent>(), changes, any::<bool>()).prop_map(
        |(Sent { version, sender, packet }, changes, mend)| {
            let mut bytes = encoded(&packet.packet(), version).to_vec();
            for (index, byte, change) in changes {
                let at = index.index(bytes.len());
                match change {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte & 7),
                    2 => bytes.insert(at, byte),
                    _ if bytes.len() > 2 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            if mend && bytes.len() < 130 && bytes.len() >= 2 {
                bytes[1] = u8::try_from(bytes.len() - 2).expect("less than 128");
            }
            (version, sender, bytes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_was_encoded_decodes_to_the_same_packet(Sent { version, sender, packet: owned } in strategy::<Sent>()) {
        let packet = owned.packet();
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&packet, version, &mut out).unwrap();
        let frame = out.strip_prefix(b"before").unwrap();
        prop_assert_eq!(encoded_len(&packet, version), Ok(frame.len()));
        let header = frame_header(frame, u32::MAX).unwrap().unwrap();
        prop_assert_eq!(header.frame_len(), frame.len());
        prop_assert_eq!(header.packet_type(), Some(packet.packet_type()));
        prop_assert_eq!(decode(frame, version, sender), Ok(packet));
    }

    #[test]
    fn the_head_of_a_publish_and_its_payload_are_the_whole(
        (version, owned) in published()
    ) {
        let publish = owned.publish();
        let mut head = BytesMut::new();
        encode_publish_head(&publish, version, &mut head).unwrap();
        head.extend_from_slice(publish.payload);
        prop_assert_eq!(head, encoded(&Packet::Publish(publish), version));
    }

    #[test]
    fn a_stream_gives_the_same_packets_however_it_is_split(
        Stream { version, sender, packets } in strategy::<Stream>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| encoded(&packet.packet(), version)).collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut expected = packets.iter();
        let (mut read, mut arrived) = (0, 0);
        for cut in cuts {
            arrived = cut.max(arrived);
            while let Some(header) = frame_header(&bytes[read..arrived], u32::MAX).unwrap() {
                let Some(frame) = bytes[read..arrived].get(..header.frame_len()) else { break };
                prop_assert_eq!(decode(frame, version, sender).unwrap(), expected.next().unwrap().packet());
                read += header.frame_len();
            }
        }
        prop_assert_eq!(read, bytes.len());
        prop_assert!(expected.next().is_none());
    }

    #[test]
    fn a_packet_that_was_cut_is_never_taken_for_a_whole_one(Sent { version, sender, packet: owned } in strategy::<Sent>()) {
        let frame = encoded(&owned.packet(), version);
        for cut in 0..frame.len().min(200) {
            if let Some(header) = frame_header(&frame[..cut], u32::MAX).unwrap() {
                prop_assert_eq!(header.frame_len(), frame.len());
            }
            prop_assert_eq!(decode(&frame[..cut], version, sender).unwrap_err().fault(), Fault::Truncated);
        }
        let longer = [&frame[..], &[0]].concat();
        prop_assert_eq!(decode(&longer, version, sender).unwrap_err().fault(), Fault::TrailingBytes);
    }

    #[test]
    fn only_the_sides_that_may_send_a_packet_are_believed(Sent { version, sender, packet: owned } in strategy::<Sent>()) {
        let frame = encoded(&owned.packet(), version);
        let other = if sender == Sender::Client { Sender::Server } else { Sender::Client };
        match decode(&frame, version, other) {
            Ok(packet) => prop_assert_eq!(packet, owned.packet()),
            Err(error) => prop_assert!(
                matches!(error.fault(), Fault::PacketSender | Fault::PropertySender | Fault::ReasonCodeSender),
                "{error}"
            ),
        }
    }

    #[test]
    fn what_the_encoder_writes_some_receiver_accepts(version in select(&ProtocolVersion::ALL[..]), WildPacket(owned) in strategy::<WildPacket>()) {
        let packet = owned.packet();
        let version = version_of(&packet, version);
        let mut out = BytesMut::new();
        let written = encode(&packet, version, &mut out);
        prop_assert_eq!(encoded_len(&packet, version), written.map(|()| out.len()));
        if written.is_err() {
            prop_assert!(out.is_empty());
            return Ok(());
        }
        let read = decode(&out, version, Sender::Client).or_else(|_| decode(&out, version, Sender::Server));
        // A server before 5.0 has no DISCONNECT, a client's is its form.
        let read = read.unwrap_or_else(|error| panic!("{error}: {packet:?}"));
        prop_assert_eq!(&encoded(&read, version), &out);
        if version == ProtocolVersion::V5 && !matches!(packet, Packet::Connect(_)) {
            prop_assert_eq!(read, packet);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn bytes_that_are_accepted_are_a_packet_that_survives_encoding((version, sender, bytes) in nearly_a_packet()) {
        if let Ok(packet) = decode(&bytes, version, sender) {
            let version = version_of(&packet, version);
            let again = encoded(&packet, version);
            prop_assert!(again.len() <= bytes.len() || bytes.starts_with(&[0x20, 2]), "the shortest form is not longer");
            prop_assert_eq!(decode(&again, version, sender), Ok(packet));
        }
    }

    #[test]
    fn text_is_what_the_standard_library_takes_for_it_at_every_length_and_place(bytes in nearly_plain(), offset in 0..16_usize) {
        let text = std::str::from_utf8(&bytes).ok();
        let in_text = match text {
            None => Some(Fault::Utf8),
            Some(text) => text.contains('\0').then_some(Fault::TextNul),
        };
        let wildcard = bytes.iter().any(|byte| b"+#".contains(byte)).then_some(Fault::TopicWildcard);
        let in_topic = in_text.or(wildcard).or(bytes.is_empty().then_some(Fault::TopicEmpty));
        prop_assert_eq!(text.is_some_and(|text| Topic::new(text).is_ok()), in_topic.is_none());

        let buffer = published_at(offset, &bytes, &[]);
        match decode(&buffer[offset..], ProtocolVersion::V5, Sender::Server) {
            Ok(Packet::Publish(publish)) => {
                prop_assert_eq!(in_topic, None);
                prop_assert_eq!(Some(publish.topic.as_str()), text);
            }
            read => prop_assert_eq!(read.map_err(|error| error.fault()).err(), in_topic),
        }
        let property = [&[0x26, 0, 1, b'n'][..], &with_length(&bytes)].concat();
        let buffer = published_at(offset, b"t", &property);
        match decode(&buffer[offset..], ProtocolVersion::V5, Sender::Server) {
            Ok(Packet::Publish(publish)) => {
                prop_assert_eq!(in_text, None);
                prop_assert_eq!(publish.properties.user_properties().next(), text.map(|text| ("n", text)));
            }
            read => prop_assert_eq!(read.map_err(|error| error.fault()).err(), in_text),
        }
    }

    #[test]
    fn no_bytes_make_the_codec_panic(bytes in vec(any::<u8>(), 0..80), mend in any::<bool>()) {
        let mut bytes = bytes;
        if mend && bytes.len() >= 2 {
            bytes[1] = u8::try_from(bytes.len() - 2).expect("less than 128");
        }
        never_panics(&bytes);
    }

    #[test]
    fn no_bytes_that_are_nearly_a_packet_make_the_codec_panic((_, _, bytes) in nearly_a_packet()) {
        never_panics(&bytes);
    }
}

/// Mostly letters, so that a byte of another kind stands alone among them; text beyond ASCII, and what is no text at all.
fn nearly_plain() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => (b'a'..=b'z').prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
        1 => select(&b"\0+#\x7F\x80"[..]).prop_map(|byte| vec![byte]),
    ];
    vec(piece, 0..70).prop_map(|pieces| pieces.concat())
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("a short field").to_be_bytes(), bytes].concat()
}

fn var_int(value: usize) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(value @ 0..0x80) => vec![value],
        _ => vec![(value & 0x7F) as u8 | 0x80, u8::try_from(value >> 7).expect("below 16,384")],
    }
}

/// A QoS 0 PUBLISH of 5.0, `offset` bytes into a buffer.
fn published_at(offset: usize, topic: &[u8], properties: &[u8]) -> Vec<u8> {
    let body = [with_length(topic), var_int(properties.len()), properties.to_vec()].concat();
    [vec![0xFF; offset], vec![0x30], var_int(body.len()), body].concat()
}

fn never_panics(bytes: &[u8]) {
    for cut in 0..=bytes.len().min(8) {
        let _ = frame_header(&bytes[..cut], 1_000);
    }
    for version in ProtocolVersion::ALL {
        for sender in [Sender::Client, Sender::Server] {
            match decode(bytes, version, sender) {
                // Reads every property, too.
                Ok(packet) => drop(format!("{packet:?}")),
                Err(error) => drop(error.to_string()),
            }
        }
    }
}
