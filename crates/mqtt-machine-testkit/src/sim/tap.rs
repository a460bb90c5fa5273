//! Owns what can be seen on the wire between one client and the broker, and the rules that hold there for the client:
//! identifiers, DUP, order, quota.
//! It must not know the inside of either side.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use mqtt_machine::packet::{AckKind, Packet, Property, PropertyId, Publish, Sender};
use mqtt_machine::{PacketId, ProtocolVersion, wire};

/// A publication of the client's that has not ended.
#[derive(Debug)]
struct Known {
    /// The order of the first sending.
    serial: u64,
    payload: Bytes,
    released: bool,
}

/// Watches one client over all its connections.
#[derive(Debug)]
pub(super) struct Tap {
    version: ProtocolVersion,
    up: BytesMut,
    down: BytesMut,
    known: BTreeMap<PacketId, Known>,
    requests: BTreeSet<PacketId>,
    /// Publications sent on this connection and not answered.
    in_flight: BTreeSet<PacketId>,
    receive_maximum: usize,
    next_serial: u64,
    /// The serial of the last PUBLISH of QoS 1 or 2 on this connection.
    last_serial: Option<u64>,
    /// The most in flight at once so far.
    pub(super) most_in_flight: usize,
    /// How many PUBLISH packets had DUP.
    pub(super) resent: usize,
    pub(super) complaints: Vec<String>,
}

impl Tap {
    pub(super) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            up: BytesMut::new(),
            down: BytesMut::new(),
            known: BTreeMap::new(),
            requests: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            receive_maximum: usize::from(u16::MAX),
            next_serial: 0,
            last_serial: None,
            most_in_flight: 0,
            resent: 0,
            complaints: Vec::new(),
        }
    }

    pub(super) fn opened(&mut self) {
        self.up.clear();
        self.down.clear();
        self.requests.clear();
        self.in_flight.clear();
        self.last_serial = None;
        self.receive_maximum = usize::from(u16::MAX);
    }

    /// What the client put into its output.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut self.up) {
            match wire::decode(&frame, self.version, Sender::Client) {
                Ok(packet) => self.see_sent(&packet),
                Err(error) => self.complaints.push(format!("the client sent what is no packet: {error}")),
            }
        }
    }

    /// What the client was given to read. What is no packet is not the client's fault, and not seen.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.down.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut self.down) {
            if let Ok(packet) = wire::decode(&frame, self.version, Sender::Server) {
                self.see_received(&packet);
            }
        }
    }

    fn see_sent(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    self.see_publish(packet_id, publish);
                }
            }
            Packet::Ack(ack)
                if ack.kind == AckKind::PubRel
                    && self.known.get(&ack.packet_id).is_some_and(|known| !known.released) =>
            {
                self.complaints.push(format!("PUBREL of {} before its PUBREC", ack.packet_id));
            }
            Packet::Subscribe(subscribe) => self.see_request(subscribe.packet_id),
            Packet::Unsubscribe(unsubscribe) => self.see_request(unsubscribe.packet_id),
            _ => {}
        }
    }

    fn see_request(&mut self, packet_id: PacketId) {
        if self.known.contains_key(&packet_id) || !self.requests.insert(packet_id) {
            self.complaints.push(format!("a request uses packet identifier {packet_id}, which is in flight"));
        }
    }

    fn see_publish(&mut self, packet_id: PacketId, publish: &Publish<'_>) {
        let mut complaint = None;
        if publish.dup {
            self.resent += 1;
        }
        let serial = match self.known.get(&packet_id) {
            None if publish.dup => {
                complaint = Some("has DUP and was never sent before");
                self.next_serial
            }
            None => self.next_serial,
            Some(known) => {
                if known.released {
                    complaint = Some("was sent again after its PUBREC");
                } else if !publish.dup {
                    complaint = Some("was sent again without DUP");
                } else if known.payload != publish.payload {
                    complaint = Some("is another message under an identifier in flight");
                } else if self.in_flight.contains(&packet_id) {
                    complaint = Some("was sent twice on one connection");
                }
                known.serial
            }
        };
        if self.requests.contains(&packet_id) {
            complaint = Some("uses the identifier of a request");
        }
        if self.last_serial.is_some_and(|last| last >= serial) {
            complaint = Some("is out of the original order");
        }
        if serial == self.next_serial {
            self.next_serial += 1;
            let payload = Bytes::copy_from_slice(publish.payload);
            self.known.insert(packet_id, Known { serial, payload, released: false });
        }
        self.last_serial = Some(serial);
        self.in_flight.insert(packet_id);
        self.most_in_flight = self.most_in_flight.max(self.in_flight.len());
        if self.in_flight.len() > self.receive_maximum {
            complaint = Some("exceeds the Receive Maximum");
        }
        if let Some(what) = complaint {
            self.complaints.push(format!("PUBLISH {packet_id} (QoS {}) {what}", publish.qos));
        }
    }

    fn see_received(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                // 3.1 has no flag: what the client makes of it there is not seen here.
                if !connack.session_present
                    && !connack.reason.is_failure()
                    && self.version != ProtocolVersion::V3_1
                {
                    self.known.clear();
                }
                if let Some(Property::ReceiveMaximum(most)) =
                    connack.properties.find(PropertyId::ReceiveMaximum)
                {
                    self.receive_maximum = usize::from(most);
                }
            }
            Packet::Ack(ack) => match ack.kind {
                AckKind::PubRec if !ack.reason.is_failure() => {
                    if let Some(known) = self.known.get_mut(&ack.packet_id) {
                        known.released = true;
                    }
                }
                AckKind::PubRel => {}
                AckKind::PubAck | AckKind::PubRec | AckKind::PubComp => {
                    self.known.remove(&ack.packet_id);
                    self.in_flight.remove(&ack.packet_id);
                }
            },
            Packet::SubAck(suback) => {
                self.requests.remove(&suback.packet_id);
            }
            Packet::UnsubAck(unsuback) => {
                self.requests.remove(&unsuback.packet_id);
            }
            _ => {}
        }
    }
}

fn next_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let header = wire::frame_header(buffer, u32::MAX).ok().flatten()?;
    (buffer.len() >= header.frame_len()).then(|| buffer.split_to(header.frame_len()))
}

#[cfg(test)]
mod tests {
    use mqtt_machine::QoS;

    use super::*;

    fn publish(tap: &mut Tap, id: u16, dup: bool) {
        let packet = Packet::Publish(Publish {
            dup,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id: PacketId::new(id),
            properties: mqtt_machine::packet::Properties::EMPTY,
            payload: b"p",
        });
        let mut bytes = BytesMut::new();
        wire::encode(&packet, tap.version, &mut bytes).unwrap();
        tap.sent(&bytes);
    }

    #[test]
    fn a_resend_without_dup_and_a_dup_without_a_send_are_seen() {
        let mut tap = Tap::new(ProtocolVersion::V5);
        publish(&mut tap, 1, true);
        assert_eq!(tap.complaints.len(), 1);
        publish(&mut tap, 2, false);
        tap.opened();
        publish(&mut tap, 2, false);
        assert_eq!(tap.complaints.len(), 2);
    }

    #[test]
    fn resends_out_of_order_are_seen() {
        let mut tap = Tap::new(ProtocolVersion::V5);
        publish(&mut tap, 1, false);
        publish(&mut tap, 2, false);
        tap.opened();
        publish(&mut tap, 2, true);
        publish(&mut tap, 1, true);
        assert_eq!(tap.complaints.len(), 1);
    }
}
