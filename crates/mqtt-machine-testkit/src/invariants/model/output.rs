//! Owns what the machine does: packets that it writes, actions that it asks for, and what it tells.
//! It must not know what was asked of it, nor what the server says.

use std::collections::BTreeSet;

use bytes::BytesMut;
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{Ack, AckKind, Packet, Publish, Subscribe};
use mqtt_machine::{
    Action, DropReason, Event, OpId, Outcome, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter,
    TransportId,
};

use super::super::Invariant;
use super::super::journal::Step;
use super::super::wire_rules::{Stage, Wire, is_receivers};
use super::{Asked, Model, Request, Wanted};

impl Model {
    /// The machine put these bytes into its output.
    pub(in crate::invariants) fn transmitted(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && self.wire.is_none() {
            return self.findings.report(Invariant::Wire, "bytes were written without a transport");
        }
        let frames = Wire::frames(&mut BytesMut::from(bytes), &mut self.findings);
        for frame in &frames {
            let Some(wire) = &mut self.wire else { return };
            let Some(packet) = wire.decode(frame, &mut self.findings) else { return };
            wire.sees(&packet, frame.len(), &mut self.findings);
            self.writes(&packet);
        }
    }

    fn writes(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => {
                let window = self.window();
                if let Some(packet_id) = publish.packet_id {
                    self.free_of_requests(packet_id);
                    self.journal.leaves(Step::Assigned, packet_id, &mut self.findings);
                }
                let Some(wire) = &self.wire else { return };
                let end = wire.written;
                let publish = Publish { topic: wire.topic_of(publish), ..publish.clone() };
                self.outgoing.publish(&publish, window, end, &mut self.findings);
            }
            Packet::Ack(ack) => self.acknowledges(ack),
            Packet::Subscribe(subscribe) => {
                let filters: Vec<&str> = subscribe.filters.iter().map(|it| it.filter).collect();
                let wanted = self.subscribes(subscribe, &filters);
                self.requests_under(subscribe.packet_id, Request::Subscribe(filters.len()), wanted);
                self.asks(&filters, true);
            }
            Packet::Unsubscribe(unsubscribe) => {
                let request = Request::Unsubscribe(unsubscribe.filters.len());
                self.requests_under(unsubscribe.packet_id, request, Wanted::default());
                self.asks(&unsubscribe.filters, false);
            }
            _ => {}
        }
    }

    fn window(&self) -> usize {
        let own = usize::from(self.config.limits.in_flight.max(1));
        self.wire.as_ref().map_or(0, |wire| wire.receive_maximum.min(own))
    }

    fn acknowledges(&mut self, ack: &Ack<'_>) {
        if !ack.reason.is_failure() {
            let known = ack.reason == ReasonCode::Success;
            let step = match ack.kind {
                AckKind::PubRec => Some(Step::Received),
                AckKind::PubRel if self.outgoing.is_released(ack.packet_id) => Some(Step::Released),
                // In 3.x this also answers a PUBREL that nothing is known of.
                AckKind::PubComp if known && self.is_v5() => Some(Step::Completed),
                _ => None,
            };
            if let Some(step) = step {
                self.journal.leaves(step, ack.packet_id, &mut self.findings);
            }
        }
        if ack.kind == AckKind::PubAck && self.journal.keeps() {
            self.findings.ensure(!self.incoming.is_abandoned(ack.packet_id), Invariant::Durable, || {
                format!("PUBACK of {} left, and no record says that its QoS 2 message ended", ack.packet_id)
            });
        }
        if is_receivers(ack.kind) {
            self.incoming.acknowledged(ack.kind, ack.packet_id, ack.reason, &mut self.findings);
        } else {
            self.outgoing.pubrel(ack.packet_id, &mut self.findings);
        }
    }

    fn is_v5(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.version == ProtocolVersion::V5)
    }

    fn free_of_requests(&mut self, packet_id: PacketId) {
        let free = !self.requests.contains_key(&packet_id);
        self.findings.ensure(free, Invariant::Identifiers, || {
            format!("a PUBLISH uses {packet_id}, the identifier of a request in flight")
        });
    }

    /// Open commands that have not left on this connection.
    fn not_left(&self) -> impl Iterator<Item = (OpId, &Asked)> {
        let open = self.open.iter().map(|(op, asked)| (*op, asked));
        open.filter(|(op, _)| Some(*op) > self.over && !self.left.contains(op))
    }

    /// Finds who may want a SUBSCRIBE: it carries the identifier of a command, or the one that its filters were granted with;
    /// none where the server has none.
    fn subscribes(&mut self, subscribe: &Subscribe<'_>, filters: &[&str]) -> Wanted {
        let carried = subscribe.properties.subscription_identifiers().next();
        let available = self.wire.as_ref().is_some_and(|wire| wire.has_identifiers);
        let fits = |identifier: &Option<u32>| carried == identifier.filter(|_| available);
        let asked = self.not_left().filter_map(|(_, asked)| match asked {
            Asked::Subscribe(asked, identifier, _) if is_same(asked, filters) && fits(identifier) => {
                Some(*identifier)
            }
            _ => None,
        });
        let asked: BTreeSet<Option<u32>> = asked.collect();
        let granted = |filter: &&str| {
            let identifiers = self.granted.iter().find(|(granted, _)| granted.as_str() == *filter);
            identifiers.is_some_and(|(_, identifiers)| identifiers.iter().any(fits))
        };
        let again = filters.iter().all(granted);
        self.findings.ensure(again || !asked.is_empty(), Invariant::SubscriptionIdentifiers, || {
            format!("a SUBSCRIBE to {filters:?} carries {carried:?} (the server has them: {available}), which nobody asked for")
        });
        let filters = filters.iter().filter_map(|filter| TopicFilter::new(filter).ok()).collect();
        Wanted { filters, asked, again }
    }

    fn requests_under(&mut self, packet_id: PacketId, request: Request, wanted: Wanted) {
        let taken =
            self.outgoing.uses(packet_id, self.findings.now) || self.requests.contains_key(&packet_id);
        self.findings.ensure(!taken, Invariant::Identifiers, || {
            format!("a request uses packet identifier {packet_id}, which is in flight")
        });
        self.requests.insert(packet_id, (request, wanted));
    }

    /// The oldest command that asks for this, and did not leave on this connection, does.
    fn asks(&mut self, filters: &[&str], subscribe: bool) {
        let op = self.not_left().find(|(_, asked)| match asked {
            // It may be the machine's own request, too.
            Asked::Subscribe(asked, ..) if asked.iter().any(|filter| self.granted.contains_key(filter)) => {
                false
            }
            Asked::Subscribe(asked, ..) => subscribe && is_same(asked, filters),
            Asked::Unsubscribe(asked, _) => !subscribe && is_same(asked, filters),
            _ => false,
        });
        if let Some((op, _)) = op {
            self.left.insert(op);
            self.sent.insert(op);
        }
    }

    /// The output has room and the machine wrote all that it wanted: nothing that could be written is left.
    pub(in crate::invariants) fn wrote_all(&mut self) {
        let established = self.wire.as_ref().is_some_and(|wire| wire.stage == Stage::Established);
        if !established || !self.journal.is_settled() {
            return;
        }
        let ready = self.outgoing.ready(self.window(), self.findings.now);
        self.findings.ensure(ready.is_none(), Invariant::Progress, || {
            format!("{ready:?} may be written, there is room, and it is not")
        });
        let owes = self.incoming.owes();
        self.findings.ensure(!owes, Invariant::Progress, || {
            "an acknowledgement is due, there is room, and it is not written".into()
        });
    }

    pub(in crate::invariants) fn action(&mut self, action: &Action) {
        match action {
            Action::Prepare { id, .. } => self.attempts(*id, true),
            Action::OpenTransport { id, .. } => self.attempts(*id, false),
            Action::CloseTransport { id } => self.closed(*id),
            Action::Store { seq, record } => {
                match record {
                    Record::Assigned { op, packet_id } => {
                        self.outgoing.is_next(*op, &mut self.findings);
                        self.outgoing.assigned(*op, *packet_id);
                    }
                    Record::Downgraded { op, qos } => self.outgoing.lowered(*op, *qos),
                    _ => {}
                }
                self.journal.stored(*seq, record, &mut self.findings);
                if let Record::Completed { packet_id, .. } = record
                    && self.incoming.recorded_end(*packet_id)
                {
                    self.journal.starts_over(*packet_id);
                }
            }
            _ => {}
        }
    }

    fn attempts(&mut self, id: TransportId, asks: bool) {
        if !asks {
            let busy = self.asked_for.is_some_and(|open| open != id);
            self.findings.ensure(!busy, Invariant::Identifiers, || {
                format!("{id:?} is opened while {:?} is not closed", self.asked_for)
            });
            self.asked_for = Some(id);
        }
        if id.to_u64() == self.attempt {
            // Prepared before.
            self.findings.ensure(!asks, Invariant::Identifiers, || format!("{id:?} names two attempts"));
            return;
        }
        self.findings.ensure(id.to_u64() > self.attempt, Invariant::Identifiers, || {
            format!("{id:?} names an attempt and the last was number {}", self.attempt)
        });
        self.attempt = id.to_u64();
        if let Some(config) = self.next.take() {
            self.config = config;
            self.outgoing.may_lower(self.lowers());
        }
    }

    pub(in crate::invariants) fn event(&mut self, event: &Event) {
        match event {
            Event::Message { message, receipt } => {
                self.incoming.told(message, receipt, &mut self.findings);
            }
            Event::Completed { op, outcome } => self.completed(*op, outcome),
            _ => {}
        }
    }

    /// Every event was taken.
    pub(in crate::invariants) fn told_everything(&mut self) {
        self.incoming.all_told(&mut self.findings);
        let untold = self.outgoing.expected.iter().next();
        let holds = untold.is_none() || !self.journal.is_settled();
        self.findings
            .ensure(holds, Invariant::EndsOnce, || format!("{untold:?} is how it ended, and is not told"));
    }

    fn completed(&mut self, op: OpId, outcome: &Outcome) {
        let Some(asked) = self.open.remove(&op) else {
            return self.findings.report(
                Invariant::EndsOnce,
                format!("{op:?} ended and was not accepted, or ended twice: {outcome:?}"),
            );
        };
        let left = self.sent.remove(&op);
        let wrong = |what: &str| format!("{op:?} ended as {outcome:?}, {what}");
        match (&asked, outcome) {
            (Asked::Publish(QoS::AtMostOnce), Outcome::Dropped(DropReason::Offline)) => {
                let held = self.outgoing.expected.remove(&op).is_some();
                self.findings.ensure(!held, Invariant::Outcome, || wrong("and was queued"));
            }
            (Asked::Publish(qos), _) => {
                if *qos != QoS::AtMostOnce {
                    self.journal.tells(op, &mut self.findings);
                }
                self.outgoing.completed(op, outcome, &mut self.findings);
            }
            (Asked::Subscribe(filters, ..), Outcome::Subscribed(codes)) => {
                for (filter, code) in filters.iter().zip(&codes.codes) {
                    if !code.is_failure() {
                        self.journal.grants(filter, &mut self.findings);
                    }
                }
                self.answer(Request::Subscribe(filters.len()), &codes.codes, wrong("which no SUBACK says"));
            }
            (Asked::Unsubscribe(..), Outcome::Unsubscribed(codes)) => {
                let request = Request::Unsubscribe(codes.codes.len());
                self.answer(request, &codes.codes, wrong("which no UNSUBACK says"));
            }
            (Asked::Subscribe(..) | Asked::Unsubscribe(..), Outcome::NotSent) => {
                self.findings.ensure(!left, Invariant::Outcome, || wrong("and has left"));
            }
            (
                Asked::Subscribe(..) | Asked::Unsubscribe(..),
                Outcome::Unknown | Outcome::StoreFailed | Outcome::Dropped(_),
            )
            | (Asked::Disconnect, Outcome::Disconnected { .. }) => {}
            _ => self.findings.report(Invariant::Outcome, wrong("which is no end of such a command")),
        }
    }

    fn answer(&mut self, request: Request, codes: &[ReasonCode], wrong: String) {
        let said = self.answers.iter().position(|(of, said)| *of == request && said == codes);
        match said {
            Some(place) => {
                self.answers.swap_remove(place);
            }
            None => self.findings.report(Invariant::Outcome, wrong),
        }
    }
}

fn is_same(asked: &[TopicFilter], filters: &[&str]) -> bool {
    asked.iter().map(TopicFilter::as_str).eq(filters.iter().copied())
}
