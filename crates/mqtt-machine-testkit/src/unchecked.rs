//! Owns an encoder that checks nothing: a packet laid out field by field, each of which can be bent before it is written.
//! It must not know which packets are legal.
//!
//! [`Frame::of`] lays out any packet of the core's model; untouched, it is written as the core's encoder writes it. Every
//! length is counted when the frame is written, unless it was replaced by one that lies.
//!
//! ```
//! use mqtt_machine::packet::{Ack, AckKind, Packet};
//! use mqtt_machine::{PacketId, ProtocolVersion};
//! use mqtt_machine_testkit::unchecked::{Form, Frame, Length, Part};
//!
//! let packet = Packet::Ack(Ack::new(AckKind::PubRel, PacketId::MAX));
//! let mut frame = Frame::of(&packet, ProtocolVersion::V5, Form::Shortest);
//! assert_eq!(frame.to_bytes(), [0x62, 2, 0xFF, 0xFF]);
//! frame.set_flags(0);
//! frame.set(Part::PacketId, vec![0, 0]);
//! frame.remaining = Length::Raw(vec![0x82, 0x00]);
//! assert_eq!(frame.to_bytes(), [0x60, 0x82, 0x00, 0, 0]);
//! ```

use mqtt_machine::packet::{
    AckKind, Connect, Packet, PacketType, Properties, PropertiesBuf, Publish, Subscribe,
};
use mqtt_machine::{ProtocolVersion, QoS, ReasonCode};

/// A packet as its fields in the order of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type and flags.
    pub first_byte: u8,
    /// The remaining length.
    pub remaining: Length,
    /// What follows the fixed header.
    pub fields: Vec<Field>,
}

/// One field with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it is.
    pub part: Part,
    /// What it says.
    pub value: Value,
}

/// The names of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named like the fields of the packets")]
pub enum Part {
    ProtocolName,
    ProtocolLevel,
    ConnectFlags,
    KeepAlive,
    Properties,
    ClientId,
    WillProperties,
    WillTopic,
    WillPayload,
    UserName,
    Password,
    ConnAckFlags,
    ReasonCode,
    Topic,
    PacketId,
    TopicFilter,
    SubscriptionOptions,
    Payload,
    /// Anything that a packet does not have.
    Extra,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// These bytes and nothing else.
    Raw(Vec<u8>),
    /// Text or binary data behind its length of two bytes.
    Prefixed {
        /// What the length says; `None` counts.
        length: Option<u16>,
        /// The data.
        bytes: Vec<u8>,
    },
    /// Properties behind their length.
    Properties {
        /// What the length says.
        length: Length,
        /// Each property as its identifier and its value.
        list: Vec<Vec<u8>>,
    },
}

/// A variable byte integer that says how much follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// The truth, in the shortest form.
    #[default]
    Counted,
    /// The truth, padded with zero groups to so many bytes `[MQTT-1.5.5-1]`.
    Padded(usize),
    /// This number, in the shortest form.
    Value(u32),
    /// These bytes, whether or not they are a number.
    Raw(Vec<u8>),
}

impl Length {
    fn write(&self, counted: usize, out: &mut Vec<u8>) {
        match self {
            Self::Counted => out.extend(var_int(counted as u32, 1)),
            Self::Padded(width) => out.extend(var_int(counted as u32, *width)),
            Self::Value(value) => out.extend(var_int(*value, 1)),
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// A variable byte integer of at least `width` bytes; more than its value needs are padding.
pub fn var_int(mut value: u32, width: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let group = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 && bytes.len() + 1 >= width {
            bytes.push(group);
            return bytes;
        }
        bytes.push(group | 0x80);
    }
}

impl Value {
    /// Text or binary data with its true length.
    pub fn prefixed(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Prefixed { length: None, bytes: bytes.into() }
    }

    /// A list of properties with its true length.
    pub fn properties(properties: Properties<'_>) -> Self {
        let list = properties.iter().filter_map(|property| PropertiesBuf::new().with(property).ok());
        Self::Properties {
            length: Length::Counted,
            list: list.map(|one| one.as_properties().as_bytes().to_vec()).collect(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Prefixed { length, bytes } => {
                out.extend(length.unwrap_or(bytes.len() as u16).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Properties { length, list } => {
                length.write(list.iter().map(Vec::len).sum(), out);
                list.iter().for_each(|property| out.extend_from_slice(property));
            }
        }
    }
}

/// Which of the forms that 5.0 allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Reason codes and properties that may be left out are.
    #[default]
    Shortest,
    /// They are all written.
    Full,
}

impl Frame {
    /// The layout of `packet` in `version`; a CONNECT is laid out for the version that it carries.
    pub fn of(packet: &Packet<'_>, version: ProtocolVersion, form: Form) -> Self {
        let mut frame = Self {
            first_byte: (packet.packet_type() as u8) << 4,
            remaining: Length::Counted,
            fields: Vec::new(),
        };
        let is_v5 = version == ProtocolVersion::V5;
        match packet {
            Packet::Connect(connect) => frame.connect(connect),
            Packet::ConnAck(connack) => {
                let present = connack.session_present && version != ProtocolVersion::V3_1;
                let code = match connack.reason.to_connect_return_code() {
                    Some(code) if !is_v5 => code,
                    _ => connack.reason.to_u8(),
                };
                frame.raw(Part::ConnAckFlags, vec![u8::from(present)]);
                frame.raw(Part::ReasonCode, vec![code]);
                frame.properties(Part::Properties, connack.properties, version);
            }
            Packet::Publish(publish) => frame.publish(publish, version),
            Packet::Ack(ack) => {
                frame.first_byte |= if ack.kind == AckKind::PubRel { 2 } else { 0 };
                frame.packet_id(ack.packet_id.to_u16());
                frame.ending(ack.reason, ack.properties, version, form);
            }
            Packet::Subscribe(subscribe) => frame.subscribe(subscribe, version),
            Packet::SubAck(suback) => {
                frame.packet_id(suback.packet_id.to_u16());
                frame.properties(Part::Properties, suback.properties, version);
                suback.codes.iter().for_each(|code| frame.raw(Part::ReasonCode, vec![code.to_u8()]));
            }
            Packet::Unsubscribe(unsubscribe) => {
                frame.first_byte |= 2;
                frame.packet_id(unsubscribe.packet_id.to_u16());
                frame.properties(Part::Properties, unsubscribe.properties, version);
                unsubscribe.filters.iter().for_each(|filter| frame.prefixed(Part::TopicFilter, *filter));
            }
            Packet::UnsubAck(unsuback) => {
                frame.packet_id(unsuback.packet_id.to_u16());
                frame.properties(Part::Properties, unsuback.properties, version);
                let codes = unsuback.codes.iter().filter(|_| is_v5);
                codes.for_each(|code| frame.raw(Part::ReasonCode, vec![code.to_u8()]));
            }
            Packet::PingReq | Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                frame.ending(disconnect.reason, disconnect.properties, version, form);
            }
            Packet::Auth(auth) => {
                let is_bare = auth.reason == ReasonCode::Success && auth.properties.is_empty();
                if !is_bare || form == Form::Full {
                    frame.raw(Part::ReasonCode, vec![auth.reason.to_u8()]);
                    frame.properties(Part::Properties, auth.properties, version);
                }
            }
        }
        frame
    }

    fn raw(&mut self, part: Part, bytes: Vec<u8>) {
        self.fields.push(Field { part, value: Value::Raw(bytes) });
    }

    fn prefixed(&mut self, part: Part, bytes: impl Into<Vec<u8>>) {
        self.fields.push(Field { part, value: Value::prefixed(bytes) });
    }

    fn packet_id(&mut self, id: u16) {
        self.raw(Part::PacketId, id.to_be_bytes().to_vec());
    }

    fn properties(&mut self, part: Part, properties: Properties<'_>, version: ProtocolVersion) {
        if version == ProtocolVersion::V5 {
            self.fields.push(Field { part, value: Value::properties(properties) });
        }
    }

    /// A reason code and properties at the end of a packet.
    fn ending(
        &mut self,
        reason: ReasonCode,
        properties: Properties<'_>,
        version: ProtocolVersion,
        form: Form,
    ) {
        let is_full = form == Form::Full || !properties.is_empty();
        if version == ProtocolVersion::V5 && (is_full || reason != ReasonCode::Success) {
            self.raw(Part::ReasonCode, vec![reason.to_u8()]);
            if is_full {
                self.properties(Part::Properties, properties, version);
            }
        }
    }

    fn connect(&mut self, connect: &Connect<'_>) {
        let version = connect.version;
        let bridge = u8::from(connect.bridge && version != ProtocolVersion::V5) << 7;
        let mut flags = u8::from(connect.clean_start) << 1;
        if let Some(will) = &connect.will {
            flags |= 0x04 | will.qos.to_u8() << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(connect.password.is_some()) << 6 | u8::from(connect.username.is_some()) << 7;
        self.prefixed(Part::ProtocolName, version.protocol_name());
        self.raw(Part::ProtocolLevel, vec![version.level() | bridge]);
        self.raw(Part::ConnectFlags, vec![flags]);
        self.raw(Part::KeepAlive, connect.keep_alive.to_be_bytes().to_vec());
        self.properties(Part::Properties, connect.properties, version);
        self.prefixed(Part::ClientId, connect.client_id);
        if let Some(will) = &connect.will {
            self.properties(Part::WillProperties, will.properties, version);
            self.prefixed(Part::WillTopic, will.topic);
            self.prefixed(Part::WillPayload, will.payload);
        }
        connect.username.into_iter().for_each(|name| self.prefixed(Part::UserName, name));
        connect.password.into_iter().for_each(|password| self.prefixed(Part::Password, password));
    }

    fn publish(&mut self, publish: &Publish<'_>, version: ProtocolVersion) {
        self.first_byte |= u8::from(publish.dup) << 3 | publish.qos.to_u8() << 1 | u8::from(publish.retain);
        self.prefixed(Part::Topic, publish.topic.as_bytes());
        if let Some(id) = publish.packet_id.filter(|_| publish.qos != QoS::AtMostOnce) {
            self.packet_id(id.to_u16());
        }
        self.properties(Part::Properties, publish.properties, version);
        self.raw(Part::Payload, publish.payload.to_vec());
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>, version: ProtocolVersion) {
        self.first_byte |= 2;
        self.packet_id(subscribe.packet_id.to_u16());
        self.properties(Part::Properties, subscribe.properties, version);
        for filter in &subscribe.filters {
            let options = filter.options;
            let mut byte = options.qos.to_u8();
            if version == ProtocolVersion::V5 {
                byte |= u8::from(options.no_local) << 2
                    | u8::from(options.retain_as_published) << 3
                    | (options.retain_handling as u8) << 4;
            }
            self.prefixed(Part::TopicFilter, filter.filter);
            self.raw(Part::SubscriptionOptions, vec![byte]);
        }
    }

    /// Its type; `None` for 0.
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_first_byte(self.first_byte)
    }

    /// Replaces the four flag bits.
    pub const fn set_flags(&mut self, flags: u8) {
        self.first_byte = self.first_byte & 0xF0 | flags & 0x0F;
    }

    /// What the first field of this name says.
    pub fn value_mut(&mut self, part: Part) -> Option<&mut Value> {
        self.fields.iter_mut().find(|field| field.part == part).map(|field| &mut field.value)
    }

    /// Replaces the first field of this name, its length included, by these bytes; false when there is none.
    pub fn set(&mut self, part: Part, bytes: Vec<u8>) -> bool {
        match self.value_mut(part) {
            Some(value) => {
                *value = Value::Raw(bytes);
                true
            }
            None => false,
        }
    }

    /// The properties of this name: what their length says, and the list.
    pub fn properties_mut(&mut self, part: Part) -> Option<(&mut Length, &mut Vec<Vec<u8>>)> {
        match self.value_mut(part) {
            Some(Value::Properties { length, list }) => Some((length, list)),
            _ => None,
        }
    }

    /// Takes all fields of this name out.
    pub fn remove(&mut self, part: Part) {
        self.fields.retain(|field| field.part != part);
    }

    /// What follows the fixed header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.fields.iter().for_each(|field| field.value.write(&mut body));
        body
    }

    /// The packet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut bytes = vec![self.first_byte];
        self.remaining.write(body.len(), &mut bytes);
        bytes.extend(body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Generate, OwnedPacket, Sent, encoded};
    use mqtt_machine::wire;

    #[test]
    fn an_untouched_frame_is_what_the_core_writes() {
        for seed in 0..5_000 {
            let Sent { version, packet, .. } = Sent::from_seed(seed);
            let frame = Frame::of(&packet.packet(), version, Form::Shortest);
            assert_eq!(frame.to_bytes(), encoded(&packet.packet(), version), "{packet:?}");
        }
    }

    #[test]
    fn the_full_form_is_read_as_the_same_packet() {
        let mut longer = 0;
        for seed in 0..5_000 {
            let Sent { version, sender, packet } = Sent::from_seed(seed);
            let bytes = Frame::of(&packet.packet(), version, Form::Full).to_bytes();
            let read = wire::decode(&bytes, version, sender);
            assert_eq!(read, Ok(packet.packet()));
            assert_eq!(read.as_ref().map(OwnedPacket::from_packet), Ok(packet.clone()));
            longer += usize::from(bytes.len() > encoded(&packet.packet(), version).len());
        }
        assert!(longer > 100, "{longer}");
    }

    #[test]
    fn lengths_are_padded_and_can_lie() {
        assert_eq!(var_int(0, 1), [0]);
        assert_eq!(var_int(5, 3), [0x85, 0x80, 0]);
        assert_eq!(var_int(268_435_455, 1), [0xFF, 0xFF, 0xFF, 0x7F]);
        let mut frame = Frame::of(&Packet::PingReq, ProtocolVersion::V5, Form::Shortest);
        frame
            .fields
            .push(Field { part: Part::Extra, value: Value::Prefixed { length: Some(7), bytes: vec![1] } });
        assert_eq!(frame.to_bytes(), [0xC0, 3, 0, 7, 1]);
        frame.remaining = Length::Value(200);
        assert_eq!(frame.to_bytes(), [0xC0, 0xC8, 1, 0, 7, 1]);
    }
}
