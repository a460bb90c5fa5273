//! Owns what the answers to requests do: SUBACK and UNSUBACK. It must not know when requests leave.

use alloc::vec::Vec;

use crate::interface::{Codes, Event, Outcome, ProtocolViolation};
use crate::journal::Record;
use crate::packet::{PacketType, Properties, PropertiesBuf, ReasonCodes};
use crate::reason::ReasonCode;
use crate::session::{Ask, Request};
use crate::types::{PacketId, ProtocolVersion, Subscription};

use super::Machine;
use super::packets::misplaced;

/// An answer with `count` codes, which is not one for each filter.
fn miscounted(packet: PacketType, count: usize, rule: &'static str) -> ProtocolViolation {
    let what = "another number of codes than filters";
    ProtocolViolation::new(packet, "reason codes", what, rule).with(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Machine {
    pub(super) fn on_suback(
        &mut self,
        packet_id: PacketId,
        codes: ReasonCodes<'_>,
        properties: Properties<'_>,
    ) -> Result<(), ProtocolViolation> {
        let expected = match self.session.requests.find(packet_id).map(|request| &request.ask) {
            Some(Ask::Subscribe(subscriptions)) => subscriptions.len(),
            Some(Ask::Unsubscribe(_)) => {
                let what = "SUBACK for an UNSUBSCRIBE";
                return Err(misplaced(PacketType::SubAck, packet_id, what, "MQTT-3.8.4-1"));
            }
            None => return Ok(()),
        };
        if codes.len() != expected {
            return Err(miscounted(PacketType::SubAck, codes.len(), "MQTT-3.8.4-6"));
        }
        let Some(request) = self.session.end_request(packet_id) else { return Ok(()) };
        let codes: Vec<ReasonCode> = codes.iter().collect();
        self.keep_granted(&request, &codes);
        let Ask::Subscribe(subscriptions) = request.ask else { return Ok(()) };
        match request.op {
            Some(op) => {
                let codes = Codes::new(codes, PropertiesBuf::copy_from(properties));
                self.complete(op, Outcome::Subscribed(codes), self.journal.last);
            }
            None => {
                let filters = subscriptions.into_iter().map(|subscription| subscription.filter);
                let (codes, properties) =
                    (filters.zip(codes).collect(), PropertiesBuf::copy_from(properties));
                self.events.push(Event::Resubscribed { codes, properties });
                self.check_restored();
            }
        }
        Ok(())
    }

    fn keep_granted(&mut self, request: &Request, codes: &[ReasonCode]) {
        let Ask::Subscribe(subscriptions) = &request.ask else { return };
        let identifier = request.properties.as_properties().subscription_identifiers().next();
        for (subscription, code) in subscriptions.iter().zip(codes) {
            match (request.op, code.is_failure()) {
                (Some(_), false) => {
                    let subscription: Subscription = subscription.clone();
                    self.record(Record::Subscribed { subscription, identifier });
                }
                (None, true) => {
                    self.record(Record::Unsubscribed { filter: subscription.filter.clone() });
                }
                // What is made again is as it was, its identifier too, though this server may have none.
                (None, false) | (Some(_), true) => {}
            }
        }
    }

    pub(super) fn on_unsuback(
        &mut self,
        packet_id: PacketId,
        codes: ReasonCodes<'_>,
        properties: Properties<'_>,
    ) -> Result<(), ProtocolViolation> {
        let expected = match self.session.requests.find(packet_id).map(|request| &request.ask) {
            Some(Ask::Unsubscribe(filters)) => filters.len(),
            Some(Ask::Subscribe(_)) => {
                let what = "UNSUBACK for a SUBSCRIBE";
                return Err(misplaced(PacketType::UnsubAck, packet_id, what, "MQTT-3.10.4-4"));
            }
            None => return Ok(()),
        };
        // 3.x has no codes: the answer is the success.
        let codes: Vec<ReasonCode> = if self.version() == ProtocolVersion::V5 {
            codes.iter().collect()
        } else {
            alloc::vec![ReasonCode::Success; expected]
        };
        if codes.len() != expected {
            return Err(miscounted(PacketType::UnsubAck, codes.len(), "MQTT-3.11.3-1"));
        }
        let Some(request) = self.session.end_request(packet_id) else { return Ok(()) };
        let Ask::Unsubscribe(filters) = request.ask else { return Ok(()) };
        for (filter, code) in filters.into_iter().zip(&codes) {
            if !code.is_failure() {
                self.record(Record::Unsubscribed { filter });
            }
        }
        if let Some(op) = request.op {
            let codes = Codes::new(codes, PropertiesBuf::copy_from(properties));
            self.complete(op, Outcome::Unsubscribed(codes), self.journal.last);
        }
        Ok(())
    }
}
