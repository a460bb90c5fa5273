//! Owns what holds for the codec and any bytes. It must not know a connection.

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{Packet, Sender};
use mqtt_machine::wire::{DecodeError, decode, encode, encoded_len, frame_header};
use mqtt_machine_testkit::generate::{Any, NearValid};

/// Any bytes, as one frame of each version from each side: an answer, never a panic, and errors that print.
pub(crate) fn decode_any(data: &[u8]) {
    for version in ProtocolVersion::ALL {
        for sender in [Sender::Client, Sender::Server] {
            match decode(data, version, sender) {
                // Reads every property and every code, too.
                Ok(packet) => drop(format!("{packet:?}")),
                Err(error) => drop(error.to_string()),
            }
        }
    }
}

/// Whatever decodes is written again as the same packet, in its shortest form, which is stable.
pub(crate) fn roundtrip(data: &[u8]) {
    for version in ProtocolVersion::ALL {
        for sender in [Sender::Client, Sender::Server] {
            let Ok(packet) = decode(data, version, sender) else { continue };
            let speaks = if let Packet::Connect(connect) = &packet { connect.version } else { version };
            let mut out = BytesMut::new();
            // A refusal in the form of 3.x is read by a 5.0 client; 5.0 itself writes it longer.
            encode(&packet, speaks, &mut out).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
            assert_eq!(encoded_len(&packet, speaks), Ok(out.len()));
            assert!(out.len() <= data.len() || is_old_refusal(data, version), "the shortest form is longer");
            let again = decode(&out, speaks, sender);
            assert_eq!(again.as_ref(), Ok(&packet));
            let mut twice = BytesMut::new();
            encode(&packet, speaks, &mut twice).expect("it was written before");
            assert_eq!(out, twice);
        }
    }
}

fn is_old_refusal(data: &[u8], version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V5 && data.len() == 4 && data[0] >> 4 == 2
}

/// A packet that breaks one rule is refused, with the blame on that rule's field; the same packet without the mistake is not.
pub(crate) fn near_valid(data: &[u8]) {
    let Ok(Any(case)) = Any::<NearValid>::arbitrary(&mut Unstructured::new(data)) else { return };
    let NearValid { version, sender, bytes, sibling, rule } = &case;
    assert!(decode(sibling, *version, *sender).is_ok(), "{case:?}");
    let error = decode(bytes, *version, *sender).expect_err(rule.name);
    assert_eq!(error.fault().field(), rule.field, "{case:?}");
}

/// A stream gives the same packets, and ends in the same error, whether it comes whole or byte by byte.
pub(crate) fn stream(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let version = crate::version(choice);
    let sender = if choice & 0x80 == 0 { Sender::Server } else { Sender::Client };
    let limit = if choice & 0x40 == 0 { u32::MAX } else { 64 };
    let whole = packets(data, data.len().max(1), version, sender, limit);
    for step in [1, 2, 7] {
        assert_eq!(packets(data, step, version, sender, limit), whole);
    }
}

/// What a reader makes of `data` that arrives `step` bytes at a time: the packets as text, and the error that ends them.
fn packets(
    data: &[u8],
    step: usize,
    version: ProtocolVersion,
    sender: Sender,
    limit: u32,
) -> (Vec<String>, Option<DecodeError>) {
    let mut seen = Vec::new();
    let mut start = 0;
    let mut end = 0;
    while end < data.len() {
        end = data.len().min(end + step);
        loop {
            let header = match frame_header(&data[start..end], limit) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            };
            let Some(frame) = data[start..end].get(..header.frame_len()) else { break };
            match decode(frame, version, sender) {
                Ok(packet) => seen.push(format!("{packet:?}")),
                Err(error) => return (seen, Some(error)),
            }
            start += header.frame_len();
        }
    }
    (seen, None)
}
