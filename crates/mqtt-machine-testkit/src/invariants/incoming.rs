//! Owns what is owed to the server and to the application for messages that arrive: one delivery each, one
//! acknowledgement each, and the credit that receipts carry.
//! It must not know what the client sends of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use mqtt_machine::packet::{AckKind, Properties, Property, PropertyId, Publish};
use mqtt_machine::{Message, PacketId, ProtocolVersion, QoS, ReasonCode, Receipt};

use super::{Findings, Invariant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Told under this serial; its PUBREC is not due.
    Told(u64),
    /// Its PUBREC is due or sent, its PUBREL has not come.
    Ours,
}

#[derive(Clone, Debug)]
struct Unsettled {
    packet_id: PacketId,
    qos: QoS,
    reason: Option<ReasonCode>,
    /// It came in 5.0.
    v5: bool,
    /// The server waits for it on the present connection.
    awaited: bool,
}

/// A message that must be the next to be told.
#[derive(Clone, Debug)]
struct Expected {
    topic: Vec<u8>,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    dup: bool,
    properties: usize,
    serial: Option<u64>,
}

impl Expected {
    /// What it costs by the documentation of [`Message::cost`].
    fn cost(&self) -> usize {
        self.topic.len() + self.properties + self.payload.len() + size_of::<Message>()
    }

    fn is(&self, message: &Message) -> bool {
        self.topic == message.topic.as_bytes()
            && self.payload == message.payload
            && self.qos == message.qos
            && self.retain == message.retain
            && self.dup == message.dup
            && self.properties == message.properties.len()
    }
}

/// What the connection allows an arriving message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) version: ProtocolVersion,
    pub(super) receive_maximum: usize,
    pub(super) alias_maximum: u16,
    /// The consumer is behind, and messages of QoS 0 are dropped.
    pub(super) drops_qos_0: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Incoming {
    known: BTreeMap<PacketId, Known>,
    first: u64,
    unsettled: VecDeque<Unsettled>,
    expected: VecDeque<Expected>,
    receipts: HashMap<Receipt, u64>,
    /// Bytes of messages whose receipts have not come back, told or not.
    pub(super) credit: usize,
    /// Acknowledgements that are due on this connection, in order.
    due: VecDeque<(AckKind, PacketId, ReasonCode)>,
    aliases: BTreeMap<u16, Vec<u8>>,
    unacknowledged: BTreeSet<PacketId>,
    /// Identifiers whose QoS 2 message ended because the server uses them anew: the journal is to be told of each.
    abandoned: BTreeSet<PacketId>,
    /// The most that was held at once.
    pub(super) most: usize,
}

impl Incoming {
    /// Identifiers whose PUBREL is awaited, ascending.
    pub(super) fn received(&self) -> impl Iterator<Item = PacketId> {
        self.known.iter().filter(|(_, known)| **known == Known::Ours).map(|(packet_id, _)| *packet_id)
    }

    pub(super) fn restore_received(&mut self, packet_id: PacketId) {
        self.known.insert(packet_id, Known::Ours);
    }

    pub(super) fn restore_completed(&mut self, packet_id: PacketId) {
        self.known.remove(&packet_id);
    }

    /// How much is held, in entries.
    pub(super) fn held(&self) -> usize {
        self.unsettled.len() + self.expected.len() + self.known.len() + self.due.len()
    }

    /// A PUBLISH was taken. False when it breaks a rule: the connection must end.
    pub(super) fn publish(&mut self, publish: &Publish<'_>, terms: Terms) -> bool {
        let Some(topic) = self.topic(publish, terms) else { return false };
        let mut serial = None;
        if let Some(packet_id) = publish.packet_id {
            let awaited = self.unacknowledged.contains(&packet_id);
            if terms.version == ProtocolVersion::V5
                && !awaited
                && self.unacknowledged.len() >= terms.receive_maximum
            {
                return false;
            }
            self.unacknowledged.insert(packet_id);
            if publish.qos == QoS::ExactlyOnce {
                match self.known.get(&packet_id) {
                    Some(Known::Ours) => {
                        self.owe(AckKind::PubRec, packet_id, ReasonCode::Success);
                        return true;
                    }
                    Some(Known::Told(serial)) => {
                        let place = serial.saturating_sub(self.first) as usize;
                        if let Some(entry) = self.unsettled.get_mut(place) {
                            entry.awaited = true;
                        }
                        return true;
                    }
                    None => {}
                }
            }
            // A server that uses the identifier anew has forgotten what it was of.
            if publish.qos == QoS::AtLeastOnce && !awaited && self.known.remove(&packet_id).is_some() {
                self.abandoned.insert(packet_id);
            }
            let next = self.first + self.unsettled.len() as u64;
            serial = Some(next);
            let v5 = terms.version == ProtocolVersion::V5;
            let entry = Unsettled { packet_id, qos: publish.qos, reason: None, v5, awaited: true };
            self.unsettled.push_back(entry);
            if publish.qos == QoS::ExactlyOnce {
                self.known.insert(packet_id, Known::Told(next));
            }
        }
        if serial.is_none() && terms.drops_qos_0 {
            return true;
        }
        let expected = Expected {
            topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties.len(),
            serial,
        };
        self.credit += expected.cost();
        self.expected.push_back(expected);
        self.most = self.most.max(self.held());
        true
    }

    /// The journal is told that a message under this identifier has ended. True when that is of one that the server abandoned.
    pub(super) fn recorded_end(&mut self, packet_id: PacketId) -> bool {
        self.abandoned.remove(&packet_id)
    }

    /// Whether the journal is yet to be told of a message that the server abandoned.
    pub(super) fn is_abandoned(&self, packet_id: PacketId) -> bool {
        self.abandoned.contains(&packet_id)
    }

    /// Bytes of the topics that aliases of the server stand for.
    pub(super) fn alias_bytes(&self) -> usize {
        self.aliases.values().map(Vec::len).sum()
    }

    /// The topic of a PUBLISH, alias or not; `None` when there is none.
    fn topic(&mut self, publish: &Publish<'_>, terms: Terms) -> Option<Vec<u8>> {
        let alias = alias_of(publish.properties);
        let topic = publish.topic.as_bytes();
        match alias {
            None => (!topic.is_empty()).then(|| topic.to_vec()),
            Some(alias) if alias == 0 || alias > terms.alias_maximum => None,
            Some(alias) if topic.is_empty() => self.aliases.get(&alias).cloned(),
            Some(alias) => {
                self.aliases.insert(alias, topic.to_vec());
                Some(topic.to_vec())
            }
        }
    }

    /// A message was told to the application.
    pub(super) fn told(&mut self, message: &Message, receipt: &Receipt, findings: &mut Findings) {
        let name =
            || format!("{:?} QoS {} on {}", message.payload_lossy(), message.qos, message.topic.as_str());
        let Some(expected) = self.expected.pop_front() else {
            return findings.report(Invariant::Delivery, format!("{} is told and never came", name()));
        };
        if expected.payload == message.payload && expected.topic != message.topic.as_bytes() {
            findings.report(Invariant::Aliases, format!("{} came on another topic", name()));
        } else {
            findings.ensure(expected.is(message), Invariant::Delivery, || {
                format!("{} is told instead of {:?}", name(), String::from_utf8_lossy(&expected.payload))
            });
        }
        findings.ensure(receipt.bytes() == expected.cost(), Invariant::Credit, || {
            format!("the receipt of {} holds {} bytes, not {}", name(), receipt.bytes(), expected.cost())
        });
        findings.ensure(
            receipt.acknowledges() == expected.serial.is_some(),
            Invariant::Acknowledgement,
            || format!("the receipt of {} says that it acknowledges: {}", name(), receipt.acknowledges()),
        );
        if let Some(serial) = expected.serial {
            let before = self.receipts.insert(receipt.clone(), serial);
            findings.ensure(before.is_none(), Invariant::Identifiers, || {
                format!("the receipt of {} is one that is out", name())
            });
        }
    }

    /// Everything that came must have been told by now.
    pub(super) fn all_told(&self, findings: &mut Findings) {
        findings.ensure(self.expected.is_empty(), Invariant::Delivery, || {
            format!("{} messages that came are not told", self.expected.len())
        });
    }

    /// What is held of the inbound budget: an acknowledgement that waits for an earlier one costs 32 bytes.
    pub(super) fn budget(&self) -> usize {
        self.credit + 32 * self.unsettled.iter().filter(|entry| entry.reason.is_some()).count()
    }

    /// A receipt came back. `v5` tells whether the present connection is one of 5.0, if there is any, `open` whether it still
    /// writes.
    pub(super) fn settle(&mut self, receipt: &Receipt, reason: ReasonCode, v5: Option<bool>, open: bool) {
        self.credit = self.credit.saturating_sub(receipt.bytes());
        if let Some(serial) = self.receipts.get(receipt)
            && let Some(place) = serial.checked_sub(self.first)
            && let Some(entry) = self.unsettled.get_mut(place as usize)
        {
            entry.reason.get_or_insert(reason);
        }
        if !receipt.acknowledges() {
            return;
        }
        while let Some(reason) = self.unsettled.front().and_then(|entry| entry.reason) {
            let Some(entry) = self.unsettled.pop_front() else { return };
            let serial = self.first;
            self.first += 1;
            self.receipts.retain(|_, known| *known != serial);
            let reason = if v5.unwrap_or(entry.v5) { sayable(reason) } else { ReasonCode::Success };
            let exactly_once = entry.qos == QoS::ExactlyOnce;
            if exactly_once && self.known.get(&entry.packet_id) == Some(&Known::Told(serial)) {
                if reason.is_failure() {
                    self.known.remove(&entry.packet_id);
                } else {
                    self.known.insert(entry.packet_id, Known::Ours);
                }
            }
            if entry.awaited && open {
                let kind = if exactly_once { AckKind::PubRec } else { AckKind::PubAck };
                self.owe(kind, entry.packet_id, reason);
            }
        }
    }

    fn owe(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode) {
        let ended = match kind {
            AckKind::PubRec => reason.is_failure(),
            // The identifier may be one of QoS 2 as well.
            AckKind::PubAck => !self.known.contains_key(&packet_id),
            _ => true,
        };
        if ended {
            self.unacknowledged.remove(&packet_id);
        }
        self.due.push_back((kind, packet_id, reason));
    }

    /// PUBREL came.
    pub(super) fn released(&mut self, packet_id: PacketId, version: ProtocolVersion) {
        if self.known.get(&packet_id) == Some(&Known::Ours) {
            self.known.remove(&packet_id);
            self.owe(AckKind::PubComp, packet_id, ReasonCode::Success);
        } else {
            let unknown = match version {
                ProtocolVersion::V5 => ReasonCode::PacketIdentifierNotFound,
                _ => ReasonCode::Success,
            };
            self.due.push_back((AckKind::PubComp, packet_id, unknown));
        }
    }

    /// PUBACK, PUBREC or PUBCOMP left.
    pub(super) fn acknowledged(
        &mut self,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        findings: &mut Findings,
    ) {
        let due = self.due.pop_front();
        findings.ensure(due == Some((kind, packet_id, reason)), Invariant::Acknowledgement, || {
            format!("{kind:?} of {packet_id} ({reason:?}) left, and due is {due:?}")
        });
    }

    /// Whether an acknowledgement waits to be written.
    pub(super) fn owes(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn connection_ended(&mut self) {
        for entry in &mut self.unsettled {
            entry.awaited = false;
        }
        self.due.clear();
        self.aliases.clear();
        self.unacknowledged.clear();
    }

    pub(super) fn session_lost(&mut self) {
        self.known.clear();
    }
}

/// What PUBACK and PUBREC say of a reason that the application gave (5.0, sections 3.4.2.1 and 3.5.2.1).
const fn sayable(reason: ReasonCode) -> ReasonCode {
    match reason.to_u8() {
        0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99 => reason,
        0x00..0x80 => ReasonCode::Success,
        _ => ReasonCode::UnspecifiedError,
    }
}

pub(super) fn alias_of(properties: Properties<'_>) -> Option<u16> {
    match properties.find(PropertyId::TopicAlias) {
        Some(Property::TopicAlias(alias)) => Some(alias),
        _ => None,
    }
}
