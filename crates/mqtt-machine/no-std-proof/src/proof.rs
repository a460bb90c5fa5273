//! Owns what the program without `std` does with the core. It must not know how memory is had.

use alloc::vec;

use bytes::BytesMut;
use mqtt_machine::packet::{Connect, Packet, Properties, PropertiesBuf, Property, Publish, Sender, Topic};
use mqtt_machine::wire::{decode, encode, frame_header};
use mqtt_machine::{PacketId, ProtocolVersion, QoS};

/// Runs every step; the error is the number of the step that failed.
pub(crate) fn run() -> Result<(), u8> {
    for version in ProtocolVersion::ALL {
        connect(version).ok_or(1)?;
        publish(version).ok_or(2)?;
    }
    refuse().ok_or(3)
}

fn connect(version: ProtocolVersion) -> Option<()> {
    let mut connect = Connect::new(version, "proof");
    connect.username = Some("user");
    connect.password = Some(b"password");
    there_and_back(&Packet::Connect(connect), version)
}

fn publish(version: ProtocolVersion) -> Option<()> {
    let properties = PropertiesBuf::new().with(Property::UserProperty("name", "value")).ok()?;
    let payload = vec![0x5A; 100_000];
    let publish = Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: Topic::new("a/topic").ok()?,
        packet_id: Some(PacketId::MAX),
        properties: if version == ProtocolVersion::V5 {
            properties.as_properties()
        } else {
            Properties::EMPTY
        },
        payload: &payload,
    };
    there_and_back(&Packet::Publish(publish), version)
}

/// Encodes a packet and decodes it again.
fn there_and_back(packet: &Packet<'_>, version: ProtocolVersion) -> Option<()> {
    let mut frame = BytesMut::new();
    encode(packet, version, &mut frame).ok()?;
    let header = frame_header(&frame, u32::MAX).ok()??;
    let decoded = decode(&frame, version, Sender::Client).ok()?;
    (header.frame_len() == frame.len() && decoded == *packet).then_some(())
}

/// A malformed packet is an error and no panic.
fn refuse() -> Option<()> {
    let error = decode(&[0x10, 0x02, 0xFF, 0xFF], ProtocolVersion::V5, Sender::Client).err()?;
    (!alloc::format!("{error}").is_empty()).then_some(())
}
