//! Owns what the server says: which packets end the connection, and what each of the others settles.
//! It must not know what the machine makes of them.

use mqtt_machine::packet::{Ack, AckKind, Auth, ConnAck, Packet, ReasonCodes, Sender, SubAck, UnsubAck};
use mqtt_machine::{Behind, CleanStart, PacketId, ProtocolVersion, ReasonCode, TransportId, wire};

use super::super::incoming::Terms;
use super::super::wire_rules::{Stage, Wire};
use super::{Model, Request, Wanted};

impl Model {
    /// The machine took these bytes. What is behind a packet that ends the connection does not count.
    pub(in crate::invariants) fn received(&mut self, id: TransportId, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let Some(wire) = self.wire.as_ref().filter(|it| it.id == id && it.stage != Stage::Closing) else {
                return;
            };
            let version = wire.version;
            let frame = match Wire::header(rest, self.config.maximum_packet_size) {
                Ok(Some(header)) => header.frame_len(),
                Ok(None) => return,
                Err(()) => return self.broken(),
            };
            let (frame, behind) = rest.split_at(frame);
            rest = behind;
            match wire::decode(frame, version, Sender::Server) {
                Ok(packet) if self.takes(&packet) => {}
                _ => return self.broken(),
            }
        }
    }

    /// The peer broke a rule, or said that it is over: the connection is.
    fn broken(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.stage = Stage::Closing;
        }
    }

    /// Takes a packet from the server; false when the connection must end.
    fn takes(&mut self, packet: &Packet<'_>) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        if !self.config.request_problem_information && says_why(packet) {
            return false;
        }
        match (wire.stage, packet) {
            (Stage::Established, Packet::Publish(publish)) => {
                let terms = Terms {
                    version: wire.version,
                    receive_maximum: usize::from(self.config.receive_maximum.max(1)),
                    alias_maximum: self.config.topic_alias_maximum,
                    drops_qos_0: self.config.behind == Behind::DropQoS0
                        && self.incoming.budget() >= self.config.limits.incoming_bytes / 2,
                };
                self.incoming.publish(publish, terms)
            }
            (Stage::Established, Packet::Ack(ack)) if ack.kind == AckKind::PubRel => {
                self.incoming.released(ack.packet_id, wire.version);
                true
            }
            (Stage::Established, Packet::Ack(ack)) => self.outgoing.acknowledge(ack, self.findings.now),
            (Stage::Established, Packet::SubAck(suback)) => {
                self.answered(suback.packet_id, true, suback.codes)
            }
            (Stage::Established, Packet::UnsubAck(unsuback)) => {
                self.answered(unsuback.packet_id, false, unsuback.codes)
            }
            (Stage::Established, Packet::PingResp) => true,
            (Stage::Greeted, Packet::ConnAck(connack)) => self.connack(connack),
            (Stage::Greeted | Stage::Established, Packet::Auth(auth)) => {
                wire.may_authenticate(auth.properties)
            }
            _ => false,
        }
    }

    fn connack(&mut self, connack: &ConnAck<'_>) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        let strict = self.config.clean_start == CleanStart::OwnOnly;
        if (strict && connack.session_present && !self.has_session) || !wire.answered(connack) {
            return false;
        }
        self.has_session = true;
        // 3.1 cannot tell: a session that was asked for is taken to be kept, unless the server discarded it.
        let silent = wire.version == ProtocolVersion::V3_1 && !wire.clean_start && !self.discarded;
        self.discarded = wire.clean_start && wire.version != ProtocolVersion::V5;
        if !connack.session_present && !silent {
            self.outgoing.session_lost(self.config.lost_session);
            self.incoming.session_lost();
        }
        if let Some(wire) = &self.wire {
            self.outgoing.judge(|message, lowered| wire.takes(message, lowered));
        }
        true
    }

    fn answered(&mut self, packet_id: PacketId, subscribe: bool, codes: ReasonCodes<'_>) -> bool {
        let Some((request, _)) = self.requests.get(&packet_id) else { return true };
        let request = *request;
        let v5 = self.wire.as_ref().is_some_and(|wire| wire.version == ProtocolVersion::V5);
        let mut codes: Vec<ReasonCode> = codes.iter().collect();
        let expected = match request {
            Request::Subscribe(count) if subscribe => count,
            Request::Unsubscribe(count) if !subscribe => {
                if !v5 {
                    codes = vec![ReasonCode::Success; count];
                }
                count
            }
            _ => return false,
        };
        if codes.len() != expected {
            return false;
        }
        if let Some((_, wanted)) = self.requests.remove(&packet_id) {
            self.grants(wanted, &codes);
        }
        self.answers.push((request, codes));
        true
    }
}

impl Model {
    /// What is granted to a command is kept with its identifier; what is made again stays as it was.
    fn grants(&mut self, wanted: Wanted, codes: &[ReasonCode]) {
        for (filter, code) in wanted.filters.into_iter().zip(codes) {
            if code.is_failure() || wanted.asked.is_empty() {
                continue;
            }
            let identifiers = self.granted.entry(filter).or_default();
            if !wanted.again {
                identifiers.clear();
            }
            identifiers.extend(&wanted.asked);
        }
    }
}

/// Whether a packet that must not, when the client did not ask for it, says why in words.
fn says_why(packet: &Packet<'_>) -> bool {
    let (Packet::Ack(Ack { properties, .. })
    | Packet::SubAck(SubAck { properties, .. })
    | Packet::UnsubAck(UnsubAck { properties, .. })
    | Packet::Auth(Auth { properties, .. })) = packet
    else {
        return false;
    };
    properties.reason_string().is_some() || properties.user_properties().next().is_some()
}
