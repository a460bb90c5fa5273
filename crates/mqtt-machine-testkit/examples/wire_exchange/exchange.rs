//! Owns one conversation: what was written by whom, and what another decoder must find in it.
//! It must not know which packets make a good conversation.

use std::collections::BTreeSet;

use bytes::BytesMut;
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{Packet, PacketType, Properties, Property, PropertyId, Sender};
use mqtt_machine::wire;

/// What one side hands to its transport at once.
pub(crate) struct Write {
    pub(crate) sender: Sender,
    pub(crate) bytes: BytesMut,
    /// The numbers of the packet types, with commas between them.
    pub(crate) types: String,
    /// The remaining lengths, likewise.
    pub(crate) lengths: String,
    /// How many properties stand in all of its packets.
    pub(crate) properties: usize,
    /// A property that holds bytes has a zero among them.
    pub(crate) binary: bool,
}

/// A conversation of one version.
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) version: ProtocolVersion,
    pub(crate) writes: Vec<Write>,
    pub(crate) packets: usize,
    pub(crate) seen_types: BTreeSet<PacketType>,
    pub(crate) seen_properties: BTreeSet<PropertyId>,
}

fn properties_of<'a>(packet: &Packet<'a>) -> Vec<Properties<'a>> {
    match packet {
        Packet::Connect(p) => p.will.iter().map(|will| will.properties).chain([p.properties]).collect(),
        Packet::ConnAck(p) => vec![p.properties],
        Packet::Publish(p) => vec![p.properties],
        Packet::Ack(p) => vec![p.properties],
        Packet::Subscribe(p) => vec![p.properties],
        Packet::SubAck(p) => vec![p.properties],
        Packet::Unsubscribe(p) => vec![p.properties],
        Packet::UnsubAck(p) => vec![p.properties],
        Packet::Disconnect(p) => vec![p.properties],
        Packet::Auth(p) => vec![p.properties],
        Packet::PingReq | Packet::PingResp => Vec::new(),
    }
}

fn has_zero(property: &Property<'_>) -> bool {
    match property {
        Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => bytes.contains(&0),
        _ => false,
    }
}

impl Exchange {
    pub(crate) fn new(name: impl Into<String>, version: ProtocolVersion) -> Self {
        Self {
            name: name.into(),
            version,
            writes: Vec::new(),
            packets: 0,
            seen_types: BTreeSet::new(),
            seen_properties: BTreeSet::new(),
        }
    }

    /// Whether `packet` is one that `sender` may send in this version, by our own codec.
    pub(crate) fn allows(&self, sender: Sender, packet: &Packet<'_>) -> bool {
        let mut bytes = BytesMut::new();
        wire::encode(packet, self.version, &mut bytes).is_ok()
            && wire::decode(&bytes, self.version, sender).is_ok()
    }

    /// Writes a packet, which must be allowed.
    pub(crate) fn say(&mut self, sender: Sender, packet: &Packet<'_>) {
        self.say_at_once(sender, core::slice::from_ref(packet));
    }

    /// Writes a packet if it is allowed.
    pub(crate) fn try_say(&mut self, sender: Sender, packet: &Packet<'_>) {
        if self.allows(sender, packet) {
            self.say(sender, packet);
        }
    }

    /// Writes several packets as one.
    pub(crate) fn say_at_once(&mut self, sender: Sender, packets: &[Packet<'_>]) {
        let mut bytes = BytesMut::new();
        let (mut types, mut lengths, mut properties, mut binary) = (Vec::new(), Vec::new(), 0, false);
        for packet in packets {
            let start = bytes.len();
            wire::encode(packet, self.version, &mut bytes)
                .unwrap_or_else(|error| panic!("{}: {packet:?}: {error}", self.name));
            let frame = &bytes[start..];
            let header = wire::frame_header(frame, u32::MAX).ok().flatten().expect("a whole frame");
            let decoded = wire::decode(frame, self.version, sender)
                .unwrap_or_else(|error| panic!("{}: {packet:?}: {error}", self.name));
            types.push((decoded.packet_type() as u8).to_string());
            lengths.push((frame.len() - header.header_len).to_string());
            for list in properties_of(&decoded) {
                properties += list.iter().count();
                binary |= list.iter().any(|property| has_zero(&property));
                self.seen_properties.extend(list.iter().map(|property| property.id()));
            }
            self.seen_types.insert(decoded.packet_type());
            self.packets += 1;
        }
        let (types, lengths) = (types.join(","), lengths.join(","));
        self.writes.push(Write { sender, bytes, types, lengths, properties, binary });
    }
}
