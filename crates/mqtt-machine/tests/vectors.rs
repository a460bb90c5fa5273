//! The packet vectors of `conformance/`: what must decode and encode again to the same bytes, and what must not decode.

use bytes::BytesMut;
use mqtt_machine::packet::{ConnAck, Packet, Properties, Sender};
use mqtt_machine::wire::{DecodeError, decode, encode, encoded_len, frame_header};
use mqtt_machine::{ProtocolVersion, ReasonCode};

const VALID: &str = include_str!("conformance/valid.tsv");
const MALFORMED: &str = include_str!("conformance/malformed.tsv");

struct Row {
    id: &'static str,
    version: ProtocolVersion,
    bytes: Vec<u8>,
    /// The direction of a valid packet, the outcome of a malformed one.
    fifth: &'static str,
    /// The way to encode again, or the state.
    sixth: &'static str,
}

impl Row {
    fn outcomes(&self) -> Vec<&'static str> {
        self.fifth.split('|').collect()
    }

    fn sender(&self) -> Sender {
        if self.sixth.starts_with("codec only") { Sender::Client } else { Sender::Server }
    }
}

fn rows(table: &'static str) -> Vec<Row> {
    table
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            let version = match cells[2] {
                "3.1" => ProtocolVersion::V3_1,
                "3.1.1" => ProtocolVersion::V3_1_1,
                "5.0" => ProtocolVersion::V5,
                other => panic!("{other} is no version"),
            };
            Row { id: cells[0], version, bytes: hex(cells[3]), fifth: cells[4], sixth: cells[5] }
        })
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What the codec alone makes of bytes, in the words of the table.
fn outcome(row: &Row) -> &'static str {
    let header = match frame_header(&row.bytes, u32::MAX) {
        Ok(None) => return "need-more",
        Ok(Some(header)) => header,
        Err(error) => return word(row, error),
    };
    match row.bytes.get(..header.frame_len()) {
        None => "need-more",
        Some(frame) => match decode(frame, row.version, row.sender()) {
            Ok(_) => "accept",
            Err(error) => word(row, error),
        },
    }
}

fn word(row: &Row, error: DecodeError) -> &'static str {
    match (row.version, error.reason()) {
        (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, _) => "close",
        (_, ReasonCode::MalformedPacket) => "0x81",
        (_, ReasonCode::ProtocolError) => "0x82",
        (_, ReasonCode::TopicNameInvalid) => "0x90",
        (_, ReasonCode::TopicAliasInvalid) => "0x94",
        (_, ReasonCode::PacketTooLarge) => "0x95",
        (_, other) => panic!("{}: {error} has an unexpected reason, {other}", row.id),
    }
}

#[test]
fn every_valid_packet_decodes_and_encodes_again_to_the_same_bytes() {
    let rows = rows(VALID);
    assert_eq!(rows.len(), 64);
    for row in rows {
        let senders: &[Sender] = match row.fifth {
            "c2s" => &[Sender::Client],
            "s2c" => &[Sender::Server],
            "both" => &[Sender::Client, Sender::Server],
            other => panic!("{other} is no direction"),
        };
        assert!(matches!(row.sixth, "single" | "short" | "multi"));
        for sender in senders {
            let header = frame_header(&row.bytes, u32::MAX).unwrap().unwrap();
            assert_eq!(header.frame_len(), row.bytes.len(), "{}", row.id);
            let packet = decode(&row.bytes, row.version, *sender)
                .unwrap_or_else(|error| panic!("{}: {error}", row.id));
            assert_eq!(header.packet_type(), Some(packet.packet_type()), "{}", row.id);
            assert_eq!(encoded_len(&packet, row.version), Ok(row.bytes.len()), "{}", row.id);
            let mut out = BytesMut::new();
            encode(&packet, row.version, &mut out).unwrap_or_else(|error| panic!("{}: {error}", row.id));
            // Properties keep the order of the wire, so this holds for several of them too.
            assert_eq!(out, row.bytes, "{}", row.id);
        }
    }
}

#[test]
fn what_the_codec_alone_can_tell_has_exactly_the_outcome_of_the_table() {
    let rows = rows(MALFORMED);
    assert_eq!(rows.len(), 236);
    let mut count = 0;
    for row in rows.iter().filter(|row| row.sixth == "any" || row.sixth.starts_with("codec only")) {
        count += 1;
        let got = outcome(row);
        assert!(row.outcomes().contains(&got), "{}: {got} instead of {}", row.id, row.fifth);
    }
    assert_eq!(count, 135);
}

#[test]
fn where_the_state_matters_the_codec_never_refuses_what_the_table_accepts_nor_with_another_code() {
    let (mut verdicts, mut left_to_the_state) = (0, Vec::new());
    let rows = rows(MALFORMED);
    for row in rows.iter().filter(|row| row.sixth != "any" && !row.sixth.starts_with("codec only")) {
        let got = outcome(row);
        assert_ne!(got, "need-more", "{}", row.id);
        if row.outcomes().contains(&got) {
            verdicts += 1;
        } else {
            assert_eq!(got, "accept", "{}: {got} instead of {}", row.id, row.fifth);
            left_to_the_state.push(row.id);
        }
    }
    assert_eq!(left_to_the_state, LEFT_TO_THE_STATE);
    assert_eq!(verdicts, 78);
}

/// Rows that are well formed and illegal only because of what came before them.
const LEFT_TO_THE_STATE: &[&str] = &[
    "M077", "M079", "M097", "M147", "M149", "M155", "M156", "M157", "M158", "M159", "M160", "M267", "M269",
    "M270", "M279", "M282", "M283", "M315", "M330", "M357", "M358", "M370", "M409",
];

#[test]
fn a_refusal_in_the_form_of_3_1_1_is_read_by_a_client_of_5_0() {
    for (code, reason) in [
        (1, ReasonCode::UnsupportedProtocolVersion),
        (2, ReasonCode::ClientIdentifierNotValid),
        (3, ReasonCode::ServerUnavailable),
        (4, ReasonCode::BadUserNameOrPassword),
        (5, ReasonCode::NotAuthorized),
    ] {
        let frame = [0x20, 2, 0, code];
        let packet = decode(&frame, ProtocolVersion::V5, Sender::Server).unwrap();
        let expected = ConnAck { session_present: false, reason, properties: Properties::EMPTY };
        assert_eq!(packet, Packet::ConnAck(expected));
    }
    for body in [[0, 0], [0, 6], [1, 1], [0, 0x84]] {
        let frame = [0x20, 2, body[0], body[1]];
        let error = decode(&frame, ProtocolVersion::V5, Sender::Server).unwrap_err();
        assert_eq!(error.reason(), ReasonCode::MalformedPacket, "{body:?}");
    }
}

#[test]
fn a_packet_above_the_maximum_is_refused_by_its_fixed_header() {
    for (id, fits) in [("M278", true), ("M279", false)] {
        let row = rows(MALFORMED).into_iter().find(|row| row.id == id).unwrap();
        let header = frame_header(&row.bytes[..2], 20).map_err(|error| error.reason());
        assert_eq!(
            header.map(|header| header.is_some()),
            if fits { Ok(true) } else { Err(ReasonCode::PacketTooLarge) }
        );
    }
}
