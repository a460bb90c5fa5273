//! Owns the packets of the codec benchmarks.

use bytes::BytesMut;
use mqtt_machine::packet::{
    Ack, AckKind, ConnAck, Packet, Properties, PropertiesBuf, Property, Publish, ReasonCodes, Sender, SubAck,
    Topic,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, wire};

/// One frame with what is needed to decode it; the packet to encode is what it decodes to.
#[derive(Debug)]
pub struct Case {
    /// The packet and what is special about it.
    pub name: String,
    /// The version it is written in.
    pub version: ProtocolVersion,
    /// The frame.
    pub frame: Vec<u8>,
}

impl Case {
    fn new(name: &str, version: ProtocolVersion, packet: &Packet<'_>) -> Self {
        let mut frame = BytesMut::new();
        wire::encode(packet, version, &mut frame).expect("a packet that can be written");
        Self { name: format!("{name}, {version}"), version, frame: frame.to_vec() }
    }

    /// The packet.
    ///
    /// # Panics
    /// Never: the frame was made by the encoder.
    pub fn packet(&self) -> Packet<'_> {
        wire::decode(&self.frame, self.version, Sender::Server).expect("a frame of the encoder's")
    }
}

fn publish(payload: &[u8], properties: &PropertiesBuf, version: ProtocolVersion, name: &str) -> Case {
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("sensors/kitchen/1/tmp").expect("a topic name"),
        packet_id: PacketId::new(7),
        properties: properties.as_properties(),
        payload,
    });
    Case::new(name, version, &packet)
}

fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut buf = PropertiesBuf::new();
    for property in list {
        buf.push(*property).expect("a valid property");
    }
    buf
}

/// Every case, for the versions that differ.
///
/// # Panics
/// Never: all packets are valid.
pub fn cases() -> Vec<Case> {
    let none = PropertiesBuf::new();
    let some = properties(&[
        Property::TopicAlias(3),
        Property::ContentType("application/json"),
        Property::UserProperty("origin", "kitchen"),
        Property::UserProperty("trace", "4bf92f3577b34da6"),
    ]);
    let many = properties(&[
        Property::SessionExpiryInterval(3_600),
        Property::ReceiveMaximum(100),
        Property::MaximumQoS(1),
        Property::RetainAvailable(true),
        Property::MaximumPacketSize(1 << 20),
        Property::AssignedClientIdentifier("auto-5f2c8e"),
        Property::TopicAliasMaximum(10),
        Property::ReasonString("welcome"),
        Property::UserProperty("region", "eu"),
        Property::WildcardSubscriptionAvailable(true),
        Property::SharedSubscriptionAvailable(true),
        Property::ServerKeepAlive(30),
    ]);
    let packet_id = PacketId::MIN;
    let mut list = Vec::new();
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        list.push(publish(&[0; 16], &none, version, "PUBLISH of 16 B at QoS 1"));
        list.push(publish(&[0; 4_096], &none, version, "PUBLISH of 4 KiB at QoS 1"));
        list.push(Case::new("PUBACK", version, &Packet::Ack(Ack::new(AckKind::PubAck, packet_id))));
        let codes = ReasonCodes::from_bytes(&[0, 1, 2]).expect("granted codes");
        let suback = SubAck { packet_id, properties: Properties::EMPTY, codes };
        list.push(Case::new("SUBACK of 3 filters", version, &Packet::SubAck(suback)));
    }
    list.push(publish(
        &[0; 16],
        &some,
        ProtocolVersion::V5,
        "PUBLISH with alias, content type, 2 user properties",
    ));
    let (session_present, reason) = (false, ReasonCode::Success);
    let connack = ConnAck { session_present, reason, properties: many.as_properties() };
    list.push(Case::new("CONNACK with 12 properties", ProtocolVersion::V5, &Packet::ConnAck(connack)));
    list
}
