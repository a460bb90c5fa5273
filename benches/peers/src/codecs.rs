//! Owns the decoders of the peers, each as its own documentation says that it is used. It must not know how it is measured.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_machine::packet::Sender;
use mqtt_machine::{ProtocolVersion, wire};
use mqtt_machine_benches::{Case, cases};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use ntex_codec::Decoder as _;

use crate::Failure;

/// Frames that are read before the next are put into a buffer, where a decoder takes its input from one.
const BATCH: usize = 1_000;
const MAXIMUM: usize = 1 << 20;

/// Decodes the frame of a case so many times, or tells that this is not decoded at all.
type Decode = fn(&Case, usize) -> Option<()>;

/// The decoders by name, and whether each takes its input out of a buffer, whose filling is no part of its cost.
pub const CODECS: &[(&str, Decode, bool)] = &[
    ("mqtt-machine", ours, false),
    ("mqttrs", mqttrs, false),
    ("mqttbytes", mqttbytes, true),
    ("rumqttc", rumqttc, true),
    ("ntex-mqtt", ntex, true),
    ("mqtt-protocol-core", protocol_core, false),
    ("flowsdk", flowsdk, false),
];

/// In the place of a decoder: the filling of a buffer alone.
pub const FILLING: &str = "filling";

/// Runs the decoder of this name.
///
/// # Errors
/// When there is no such decoder or case, or the decoder does not decode it.
pub fn run(codec: &str, case: &str, count: usize) -> Result<(), Failure> {
    let known = CODECS.iter().find(|(name, ..)| *name == codec).map(|(_, decode, _)| *decode);
    let decode =
        known.or((codec == FILLING).then_some(filling as Decode)).ok_or("there is no such decoder")?;
    let case = cases().into_iter().find(|known| known.name == case).ok_or("there is no such case")?;
    Ok(decode(&case, count).ok_or("this is not decoded")?)
}

const fn is_v5(case: &Case) -> bool {
    matches!(case.version, ProtocolVersion::V5)
}

fn ours(case: &Case, count: usize) -> Option<()> {
    for _ in 0..count {
        black_box(wire::decode(black_box(&case.frame), case.version, Sender::Server).ok()?);
    }
    Some(())
}

fn mqttrs(case: &Case, count: usize) -> Option<()> {
    if is_v5(case) {
        return None;
    }
    for _ in 0..count {
        black_box(mqttrs::decode_slice(black_box(&case.frame)).ok()??);
    }
    Some(())
}

/// For those that take their frames out of a buffer.
fn from_buffer(case: &Case, count: usize, mut read: impl FnMut(&mut BytesMut) -> Option<()>) -> Option<()> {
    let mut buffer = BytesMut::new();
    for done in 0..count {
        if done % BATCH == 0 {
            buffer.extend_from_slice(&case.frame.repeat(BATCH));
        }
        read(&mut buffer)?;
    }
    Some(())
}

fn filling(case: &Case, count: usize) -> Option<()> {
    from_buffer(case, count, |buffer| {
        buffer.advance(case.frame.len());
        Some(())
    })
}

fn mqttbytes(case: &Case, count: usize) -> Option<()> {
    if is_v5(case) {
        from_buffer(case, count, |buffer| {
            black_box(mqttbytes::v5::read(buffer, MAXIMUM).ok()?);
            Some(())
        })
    } else {
        from_buffer(case, count, |buffer| {
            black_box(mqttbytes::v4::read(buffer, MAXIMUM).ok()?);
            Some(())
        })
    }
}

fn rumqttc(case: &Case, count: usize) -> Option<()> {
    if is_v5(case) {
        let maximum = Some(MAXIMUM as u32);
        from_buffer(case, count, |buffer| {
            black_box(rumqttc::v5::mqttbytes::v5::Packet::read(buffer, maximum).ok()?);
            Some(())
        })
    } else {
        from_buffer(case, count, |buffer| {
            black_box(rumqttc::Packet::read(buffer, MAXIMUM).ok()?);
            Some(())
        })
    }
}

fn ntex(case: &Case, count: usize) -> Option<()> {
    let mut buffer = ntex::util::BytesMut::new();
    let (v3, v5) = (ntex_mqtt::v3::codec::Codec::new(), ntex_mqtt::v5::codec::Codec::new());
    for done in 0..count {
        if done % BATCH == 0 {
            buffer.extend_from_slice(&case.frame.repeat(BATCH));
        }
        if is_v5(case) {
            black_box(v5.decode(&mut buffer).ok()??);
        } else {
            black_box(v3.decode(&mut buffer).ok()??);
        }
    }
    Some(())
}

/// Its parsers take what stands behind the fixed header; that of PUBLISH wants it counted.
fn protocol_core(case: &Case, count: usize) -> Option<()> {
    let (head, _) = crate::broker::frame(&case.frame)?;
    let flags = case.frame.first()? & 0x0f;
    for _ in 0..count {
        let body = black_box(case.frame.get(head..)?);
        match (case.frame.first()? >> 4, is_v5(case)) {
            (2, true) => drop(black_box(v5_0::Connack::parse(body).ok()?)),
            (3, true) => drop(black_box(v5_0::Publish::parse(flags, Arc::from(body)).ok()?)),
            (3, false) => drop(black_box(v3_1_1::Publish::parse(flags, Arc::from(body)).ok()?)),
            (4, true) => drop(black_box(v5_0::Puback::parse(body).ok()?)),
            (4, false) => drop(black_box(v3_1_1::Puback::parse(body).ok()?)),
            (9, true) => drop(black_box(v5_0::Suback::parse(body).ok()?)),
            (9, false) => drop(black_box(v3_1_1::Suback::parse(body).ok()?)),
            _ => return None,
        }
    }
    Some(())
}

fn flowsdk(case: &Case, count: usize) -> Option<()> {
    use flowsdk::mqtt_serde::control_packet::MqttPacket;
    use flowsdk::mqtt_serde::parser::ParseOk;

    let version = if is_v5(case) { 5 } else { 4 };
    for _ in 0..count {
        let packet = MqttPacket::from_bytes_with_version(black_box(&case.frame), version).ok()?;
        if !matches!(black_box(packet), ParseOk::Packet(..)) {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_decoder_takes_every_case_and_every_other_at_least_one() {
        for (name, decode, _) in CODECS {
            let taken = cases().iter().filter(|case| decode(case, BATCH + 1).is_some()).count();
            println!("{name}: {taken}");
            assert!(taken > 0, "{name}");
            assert!(*name != "mqtt-machine" || taken == cases().len());
        }
    }
}
