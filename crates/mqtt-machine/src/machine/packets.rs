//! Owns what each packet from the server does. It must not know bytes, nor when its answers leave.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use bytes::Bytes;

use crate::config::{CleanStart, Config};
use crate::connection::{Control, Phase, text_of};
use crate::interface::{
    Acknowledgement, Action, Connected, EndReason, Event, Outcome, ProtocolViolation, Receipt,
};
use crate::journal::{DeliveryKey, Record};
use crate::message::Message;
use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Packet, PacketType, Properties, PropertiesBuf, Property, PropertyId,
};
use crate::reason::ReasonCode;
use crate::session::{Due, Known, Owed, Stage};
use crate::time::Instant;
use crate::types::{JournalSeq, PacketId, Priority, ProtocolVersion, QoS, Secret, TopicName};
use crate::wire::reasons;

use super::inbound::{Layout, PublishHead};
use super::{Machine, Resubscribe, State};

/// The authentication data; none is the same as an empty one.
fn data_of(properties: Properties<'_>) -> Secret {
    match properties.find(PropertyId::AuthenticationData) {
        Some(Property::AuthenticationData(data)) => Secret::new(Bytes::copy_from_slice(data)),
        _ => Secret::default(),
    }
}

/// By which property a packet other than PUBLISH, CONNACK and DISCONNECT, which always may, says why in words.
fn problem_information(packet: &Packet<'_>) -> Option<PropertyId> {
    let properties = match packet {
        Packet::Ack(ack) => ack.properties,
        Packet::SubAck(suback) => suback.properties,
        Packet::UnsubAck(unsuback) => unsuback.properties,
        Packet::Auth(auth) => auth.properties,
        _ => return None,
    };
    [PropertyId::ReasonString, PropertyId::UserProperty].into_iter().find(|id| properties.find(*id).is_some())
}

/// A packet that does not belong here now.
fn untimely(packet: &Packet<'_>, what: &'static str, rule: &'static str) -> ProtocolViolation {
    let packet = packet.packet_type();
    ProtocolViolation::new(packet, "packet type", what, rule).with(packet as u8)
}

/// A packet about an identifier that stands for something else, or for one too many.
pub(super) fn misplaced(
    packet: PacketType,
    packet_id: PacketId,
    what: &'static str,
    rule: &'static str,
) -> ProtocolViolation {
    ProtocolViolation::new(packet, "packet identifier", what, rule).with(packet_id.to_u16())
}

fn other_method(packet: PacketType) -> ProtocolViolation {
    let what = "another authentication method than the client named";
    ProtocolViolation::new(packet, PropertyId::AuthenticationMethod.name(), what, "MQTT-4.12.0-5")
}

fn session_present(what: &'static str, rule: &'static str) -> EndReason {
    let violation = ProtocolViolation::new(PacketType::ConnAck, "session present", what, rule);
    EndReason::Protocol(violation.with(1_u8))
}

impl Machine {
    /// A packet other than PUBLISH.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &Packet<'_>) -> Result<(), EndReason> {
        let State::Live(connection) = &self.state else { return Ok(()) };
        let handshake = matches!(connection.phase, Phase::Handshake { .. });
        if connection.written == 0 {
            let what = "a packet before CONNECT was sent";
            return Err(EndReason::Protocol(untimely(packet, what, "MQTT-3.2.0-1")));
        }
        if !self.config.request_problem_information
            && let Some(property) = problem_information(packet)
        {
            let what = "a reason string or user property that was not asked for";
            let violation =
                ProtocolViolation::new(packet.packet_type(), property.name(), what, "MQTT-3.1.2-29");
            return Err(EndReason::Protocol(violation));
        }
        match packet {
            Packet::ConnAck(connack) if handshake => return self.on_connack(now, connack),
            Packet::Auth(auth) => return self.on_auth(auth).map_err(EndReason::Protocol),
            _ if handshake => {
                return Err(EndReason::Protocol(untimely(packet, "a packet before CONNACK", "MQTT-3.2.0-1")));
            }
            Packet::ConnAck(_) => {
                return Err(EndReason::Protocol(untimely(packet, "a second CONNACK", "MQTT-3.2.0-2")));
            }
            Packet::Disconnect(disconnect) => {
                return Err(EndReason::Disconnect {
                    reason: disconnect.reason,
                    properties: PropertiesBuf::copy_from(disconnect.properties),
                });
            }
            Packet::Ack(ack) => self.on_ack(now, ack),
            Packet::SubAck(suback) => {
                self.advanced(now);
                self.on_suback(suback.packet_id, suback.codes, suback.properties)
            }
            Packet::UnsubAck(unsuback) => {
                self.advanced(now);
                self.on_unsuback(unsuback.packet_id, unsuback.codes, unsuback.properties)
            }
            Packet::PingResp => Ok(()),
            Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => Err(untimely(packet, "a packet that only a client sends", "MQTT-4.13.1-1")),
        }
        .map_err(EndReason::Protocol)
    }

    fn on_connack(&mut self, now: Instant, connack: &ConnAck<'_>) -> Result<(), EndReason> {
        if connack.reason != ReasonCode::Success {
            return Err(EndReason::Refused {
                reason: connack.reason,
                properties: PropertiesBuf::copy_from(connack.properties),
            });
        }
        let State::Live(connection) = &mut self.state else { return Ok(()) };
        if connack.session_present && connection.clean_start {
            let rule =
                if connection.version == ProtocolVersion::V5 { "MQTT-3.2.2-2" } else { "MQTT-3.2.2-1" };
            return Err(session_present("a session after a clean start", rule));
        }
        let knows = self.ever_connected || self.config.clean_start != CleanStart::OwnOnly;
        if connack.session_present && !knows {
            self.foreign_session = true;
            return Err(session_present("a session that this client has no state of", "MQTT-3.2.2-4"));
        }
        let method = text_of(connack.properties.find(PropertyId::AuthenticationMethod));
        if method != connection.authentication.as_deref() {
            return Err(EndReason::Protocol(other_method(PacketType::ConnAck)));
        }
        connection.establish(now, &self.config, connack);
        self.counters.connections = self.counters.connections.saturating_add(1);
        self.route.accepted();
        self.foreign_session = false;
        let (id, server, capabilities) = (connection.id, connection.server.clone(), connection.capabilities);
        let familiar = connection.familiar;
        // 3.1 cannot tell: there a session that was asked for is taken to be kept, unless the connection before was a clean
        // one, and subscriptions are made again.
        let silent = connection.version == ProtocolVersion::V3_1;
        let kept = silent && !connection.clean_start && !self.discarded;
        let resumed = connack.session_present || kept;
        self.discarded = connection.clean_start && connection.version != ProtocolVersion::V5;
        let reconnected = core::mem::replace(&mut self.ever_connected, true);
        // One that the client did not ask for, by an empty identifier, is not one to take.
        let named = !client_id_of(&self.config, &self.session.client_id).is_empty();
        if let Some(assigned) = text_of(connack.properties.find(PropertyId::AssignedClientIdentifier))
            && !named
        {
            self.record(Record::ClientId(assigned.to_string()));
        }
        if !resumed {
            self.session_lost();
        }
        let restored = matches!(self.resubscribe, Resubscribe::Done);
        self.home = Some(server.clone());
        if !(connack.session_present && restored && familiar) && self.session.subscription_count() > 0 {
            self.resubscribe = Resubscribe::After(None);
        }
        if method.is_some() {
            let data = data_of(connack.properties);
            self.actions.push_back(Action::Authenticate { id, finished: true, data });
        }
        let client_id = match &self.session.client_id {
            known if known.is_empty() => self.config.client_id.clone(),
            known => known.clone(),
        };
        self.events.push(Event::Connected(Connected {
            id,
            server,
            session_present: connack.session_present,
            reconnected,
            capabilities,
            client_id,
            properties: PropertiesBuf::copy_from(connack.properties),
        }));
        Ok(())
    }

    /// The server has no session: what was in flight starts over or is given up, by the policy.
    pub(super) fn session_lost(&mut self) {
        let began = matches!(&self.state, State::Live(connection) if connection.began_session);
        let is_fresh = began || !self.journal.enabled;
        if is_fresh && !self.session.has_connection_state() {
            return;
        }
        for slot in self.session.given_up(self.config.lost_session) {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            let (op, told) = (entry.op, entry.ended);
            if let Some(packet_id) = entry.owed.packet_id() {
                self.conclude(op, Record::Ended { op, packet_id }, Outcome::Unknown, told);
            }
        }
        self.begin_session();
    }

    /// A session of its own name begins: no key of a delivery is one of before.
    pub(super) fn begin_session(&mut self) {
        let before = self.session.identity;
        // The same seed in another client, or in this one after a restart, gives other names.
        let who = self
            .config
            .client_id
            .bytes()
            .fold(before.rotate_left(17), |sum, byte| sum.rotate_left(8) ^ u64::from(byte));
        let identity = (self.identities.next() ^ who).max(1);
        self.journal.began = self.record(Record::SessionBegan { identity });
        if let State::Live(connection) = &mut self.state {
            connection.began_session = true;
        }
    }

    /// What the journal says of an identifier of the server's when its message has ended.
    fn next_generation(&self, packet_id: PacketId) -> u32 {
        // Without a store each arrival has a name of its own, and nothing need be counted.
        let counts = u32::from(self.journal.enabled);
        self.session.incoming.generation(packet_id).saturating_add(counts)
    }

    fn on_auth(&mut self, auth: &Auth<'_>) -> Result<(), ProtocolViolation> {
        let State::Live(connection) = &mut self.state else { return Ok(()) };
        let Some(method) = &connection.authentication else {
            let what = "AUTH although the client named no authentication method";
            return Err(ProtocolViolation::new(PacketType::Auth, "packet type", what, "MQTT-4.12.0-6"));
        };
        if text_of(auth.properties.find(PropertyId::AuthenticationMethod)) != Some(&**method) {
            return Err(other_method(PacketType::Auth));
        }
        if !connection.is_established() && auth.reason != ReasonCode::ContinueAuthentication {
            let what = "AUTH before CONNACK that does not go on";
            let violation = ProtocolViolation::new(PacketType::Auth, "reason code", what, "MQTT-4.12.0-2");
            return Err(violation.with(auth.reason.to_u8()));
        }
        let data = data_of(auth.properties);
        let finished = auth.reason == ReasonCode::Success;
        if finished {
            connection.reauthenticating = false;
        }
        self.actions.push_back(Action::Authenticate { id: connection.id, finished, data });
        let explains = |id| matches!(id, PropertyId::ReasonString | PropertyId::UserProperty);
        let properties = PropertiesBuf::copy_from(auth.properties).retain(|property| explains(property.id()));
        if !properties.is_empty() {
            self.events.push(Event::Auth { reason: auth.reason, properties });
            self.forget_old_news();
        }
        Ok(())
    }

    pub(super) fn on_publish(
        &mut self,
        frame: Bytes,
        layout: &Layout,
        head: PublishHead,
    ) -> Result<(), ProtocolViolation> {
        let alias_maximum = self.config.topic_alias_maximum;
        let State::Live(connection) = &mut self.state else { return Ok(()) };
        if !connection.is_established() {
            let what = "PUBLISH before CONNACK";
            return Err(ProtocolViolation::new(PacketType::Publish, "packet type", what, "MQTT-3.2.0-1"));
        }
        let topic = layout.topic(&frame);
        let properties = layout.properties(&frame);
        let mut topic = (!topic.is_empty()).then(|| TopicName::from_validated(topic));
        if !properties.is_empty()
            && let Some(Property::TopicAlias(alias)) = properties.as_properties().find(PropertyId::TopicAlias)
        {
            topic = Some(connection.resolve_alias(alias, topic, alias_maximum)?);
        }
        let Some(topic) = topic else {
            let (what, rule) = ("PUBLISH without a topic", "5.0 section 3.3.2.1");
            return Err(ProtocolViolation::new(PacketType::Publish, "topic name", what, rule));
        };
        let PublishHead { dup, qos, retain, packet_id } = head;
        let serial = match packet_id {
            Some(packet_id) => self.admit(packet_id, qos)?,
            None => (!self.drops_qos_0()).then_some(0),
        };
        if let Some(serial) = serial {
            let (payload, priority) = (layout.payload(frame), Priority::Normal);
            let message = Message { topic, payload, qos, retain, dup, priority, properties };
            let bytes = message.cost();
            let key = self.deliver(bytes, packet_id, serial);
            let receipt = Receipt { serial, bytes, acknowledges: key.is_some().into(), key };
            self.events.push(Event::Message { message, receipt });
        }
        Ok(())
    }

    /// A message of QoS 1 or 2 has come under this identifier: the serial of its delivery, or `None` when it was delivered before.
    ///
    /// # Errors
    /// When it is one too many. Then nothing has changed.
    #[inline(always)]
    pub(super) fn admit(&mut self, packet_id: PacketId, qos: QoS) -> Result<Option<u64>, ProtocolViolation> {
        let maximum = self.config.receive_maximum.max(1);
        let State::Live(connection) = &mut self.state else { return Ok(None) };
        let is_new = connection.unacknowledged.insert(packet_id, ());
        let refusable = connection.version == ProtocolVersion::V5;
        if refusable && is_new && connection.unacknowledged.len() > usize::from(maximum) {
            connection.unacknowledged.remove(packet_id);
            let what = "more unacknowledged publications than the client's Receive Maximum";
            return Err(misplaced(PacketType::Publish, packet_id, what, "MQTT-3.3.4-7")
                .told_as(ReasonCode::ReceiveMaximumExceeded));
        }
        if qos == QoS::ExactlyOnce && self.is_duplicate(packet_id) {
            self.counters.duplicates = self.counters.duplicates.saturating_add(1);
            return Ok(None);
        }
        if qos == QoS::AtLeastOnce && is_new {
            self.end_abandoned(packet_id);
        }
        Ok(Some(self.session.incoming.deliver(packet_id, qos, refusable)))
    }

    /// A message of this cost is told to the caller: its name, if it has a packet identifier.
    #[inline(always)]
    pub(super) fn deliver(
        &mut self,
        cost: usize,
        packet_id: Option<PacketId>,
        serial: u64,
    ) -> Option<DeliveryKey> {
        self.counters.received = self.counters.received.saturating_add(1);
        self.incoming_bytes = self.incoming_bytes.saturating_add(cost);
        packet_id.map(|packet_id| {
            let identity = self.session.identity;
            let generation = if self.journal.enabled {
                self.session.incoming.generation(packet_id).into()
            } else {
                serial
            };
            DeliveryKey { identity, packet_id, generation }
        })
    }

    /// A QoS 1 message comes under an identifier whose QoS 2 message has not ended, and which this connection does not use: the
    /// server has lost the session that it was of without our being told. The new message is not to have its name. A crash
    /// before the record is durable changes nothing: the same arrival does the same again.
    fn end_abandoned(&mut self, packet_id: PacketId) {
        if self.session.incoming.known(packet_id).is_some() {
            let generation = self.next_generation(packet_id);
            self.record(Record::Completed { packet_id, generation });
        }
    }

    /// Whether a QoS 2 message was delivered before `[MQTT-4.3.3-10]`; if so, it is acknowledged as far as it is settled.
    fn is_duplicate(&mut self, packet_id: PacketId) -> bool {
        match self.session.incoming.known(packet_id) {
            None => false,
            Some(Known::Received) => {
                self.queue_ack(AckKind::PubRec, packet_id, ReasonCode::Success, self.journal.last);
                true
            }
            Some(Known::Delivered(serial)) => {
                self.session.incoming.revive(serial);
                true
            }
        }
    }

    fn queue_ack(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode, gate: JournalSeq) {
        let State::Live(connection) = &mut self.state else { return };
        if connection.is_closing() {
            return;
        }
        let ended = match kind {
            // A server that uses one identifier for both still waits for the end of the other.
            AckKind::PubAck => self.session.incoming.known(packet_id).is_none(),
            AckKind::PubComp => true,
            AckKind::PubRec => reason.is_failure(),
            AckKind::PubRel => false,
        };
        if ended {
            connection.unacknowledged.remove(packet_id);
        }
        let gate = if self.journal.enabled { gate } else { JournalSeq::ZERO };
        connection.queue(gate, Control::Ack { kind, packet_id, reason });
    }

    /// A receipt came back of so many deliveries from this one on: queues every acknowledgement whose turn has come.
    pub(super) fn settle_deliveries(&mut self, serial: u64, count: u32, reason: ReasonCode) {
        let end = serial.saturating_add(count.into());
        if count > 1 && serial == self.session.incoming.first() {
            self.settle_plain_deliveries(count, reason);
            self.queue_due();
        }
        for serial in self.session.incoming.within(serial, end) {
            let mut next = self.session.incoming.settle(serial, reason);
            while let Some(due) = next {
                self.queue_acknowledgement(due);
                next = self.session.incoming.next_due();
            }
        }
    }

    /// Acknowledges the oldest deliveries, up to so many, that are as most are: of QoS 1 and of this connection, with no record to make.
    fn settle_plain_deliveries(&mut self, most: u32, reason: ReasonCode) {
        let State::Live(connection) = &mut self.state else { return };
        let incoming = &mut self.session.incoming;
        if self.journal.enabled || connection.is_closing() || !incoming.is_empty() {
            return;
        }
        let reason = connection.acknowledgement(reason);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        incoming.take_plain(most, |packet_id| connection.queue_puback(packet_id, reason));
    }

    /// Queues the acknowledgements that waited for an earlier one.
    #[inline(never)]
    fn queue_due(&mut self) {
        while let Some(due) = self.session.incoming.next_due() {
            self.queue_acknowledgement(due);
        }
    }

    #[inline(always)]
    fn queue_acknowledgement(&mut self, due: Due) {
        if due.kind == AckKind::PubAck
            && due.live
            && !self.journal.enabled
            && self.session.incoming.known(due.packet_id).is_none()
            && let State::Live(connection) = &mut self.state
            && !connection.is_closing()
        {
            connection.queue_puback(due.packet_id, connection.acknowledgement(due.reason));
        } else {
            self.queue_unusual_acknowledgement(due);
        }
    }

    /// One of QoS 2 or that shares its identifier with one, of a connection that is gone, or of which a record is made.
    fn queue_unusual_acknowledgement(&mut self, due: Due) {
        // 3.x has no way to refuse a message. Without a connection a refusal is for the next one to tell: the server sends
        // the message again, and it is a new one then.
        let refuses = match &self.state {
            State::Live(connection) => connection.version == ProtocolVersion::V5,
            _ => due.refusable,
        };
        let reason = if refuses { reasons::of_acknowledgement(due.reason) } else { ReasonCode::Success };
        let packet_id = due.packet_id;
        // After a lost session the identifier may belong to another message by now.
        let own = match due.kind {
            AckKind::PubRec => self.session.incoming.known(packet_id) == Some(Known::Delivered(due.serial)),
            // A server that uses one identifier for both is not helped to lose the other message.
            _ => due.live && self.journal.enabled && self.session.incoming.known(packet_id).is_none(),
        };
        let gate = if !own {
            JournalSeq::ZERO
        } else if due.kind == AckKind::PubRec && !reason.is_failure() {
            let generation = self.session.incoming.generation(packet_id);
            self.record(Record::Received { packet_id, generation })
        } else {
            // The server may use the identifier for another message as soon as it knows; one that does not know sends
            // the same message again.
            let known = self.session.incoming.generation(packet_id);
            let generation = if due.live { self.next_generation(packet_id) } else { known };
            self.record(Record::Completed { packet_id, generation })
        };
        if due.live {
            self.queue_ack(due.kind, due.packet_id, reason, gate);
        }
    }

    /// An acknowledgement that says no more than what it is, where no record is made of it. False, with nothing changed, unless a
    /// publication of this connection waits for it.
    #[inline]
    pub(super) fn on_plain_ack(&mut self, now: Instant, kind: AckKind, packet_id: PacketId) -> bool {
        match kind {
            AckKind::PubAck | AckKind::PubComp => {
                let Some(ended) = self.session.end_written(packet_id, kind) else { return false };
                if let Some(written_at) = ended.written_at {
                    self.round_trip.measure(written_at, now);
                }
                self.acknowledged_plainly(ended.op, ended.told);
            }
            AckKind::PubRec => {
                if !self.session.release_written(packet_id) {
                    return false;
                }
                let State::Live(connection) = &mut self.state else { return true };
                let (kind, reason) = (AckKind::PubRel, ReasonCode::Success);
                connection.queue(JournalSeq::ZERO, Control::Ack { kind, packet_id, reason });
            }
            AckKind::PubRel => return false,
        }
        true
    }

    fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) -> Result<(), ProtocolViolation> {
        if ack.kind != AckKind::PubRel {
            self.advanced(now);
        }
        match ack.kind {
            AckKind::PubAck => self.on_puback(now, ack),
            AckKind::PubRec => self.on_pubrec(ack),
            AckKind::PubRel => {
                self.on_pubrel(ack.packet_id);
                Ok(())
            }
            AckKind::PubComp => self.on_pubcomp(now, ack),
        }
    }

    #[inline]
    fn on_puback(&mut self, now: Instant, ack: &Ack<'_>) -> Result<(), ProtocolViolation> {
        let Some(slot) = self.in_flight(ack.packet_id) else { return Ok(()) };
        let Some(entry) = self.session.outgoing.get(slot) else { return Ok(()) };
        match &entry.owed {
            Owed::Publish(_, message) if message.qos == QoS::AtLeastOnce => {
                if entry.is_in_flight() {
                    self.round_trip.measure(entry.written_at, now);
                }
                self.acknowledged(slot, ack, ack.reason.is_failure());
                Ok(())
            }
            _ => {
                self.misanswered(slot, ack.packet_id);
                Err(misplaced(
                    PacketType::PubAck,
                    ack.packet_id,
                    "PUBACK for a message of QoS 2",
                    "MQTT-4.3.3-4",
                ))
            }
        }
    }

    /// The server has answered a message of QoS 2 as one of QoS 1. It is unacknowledged and is sent again `[MQTT-4.4.0-1]`; a server
    /// that then says the same does so to all of QoS 2, and would for ever: the message ends.
    fn misanswered(&mut self, slot: u32, packet_id: PacketId) {
        let Some(entry) = self.session.outgoing.get_mut(slot) else { return };
        let again = core::mem::replace(&mut entry.misanswered, true);
        if !again || matches!(entry.owed, Owed::Release(..)) {
            return;
        }
        let (op, ended) = (entry.op, entry.ended);
        self.conclude(op, Record::Ended { op, packet_id }, Outcome::Unknown, ended);
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>) -> Result<(), ProtocolViolation> {
        let packet_id = ack.packet_id;
        let Some(slot) = self.in_flight(packet_id) else {
            // Whatever the server still holds under this identifier, it may let go (5.0, section 3.6.2.1).
            if self.session.publication(packet_id).is_none() {
                let reason = self.unless_3x(ReasonCode::PacketIdentifierNotFound);
                self.queue_ack(AckKind::PubRel, packet_id, reason, JournalSeq::ZERO);
            }
            return Ok(());
        };
        let Some(entry) = self.session.outgoing.get(slot) else { return Ok(()) };
        let op = entry.op;
        match &entry.owed {
            Owed::Publish(_, message) if message.qos == QoS::ExactlyOnce => {
                if ack.reason.is_failure() {
                    self.acknowledged(slot, ack, true);
                } else {
                    let room = message.cost();
                    let gate = if self.keeps_records() {
                        let record = self.session.released(op, packet_id);
                        self.record(record)
                    } else {
                        self.session.release(slot);
                        JournalSeq::ZERO
                    };
                    self.session.outgoing.taken(slot, ack.reason, ack.properties, room);
                    if let Some(entry) = self.session.outgoing.get_mut(slot) {
                        entry.gate = gate;
                    }
                    self.queue_ack(AckKind::PubRel, packet_id, ReasonCode::Success, gate);
                }
                Ok(())
            }
            Owed::Release(..) => {
                self.queue_ack(AckKind::PubRel, packet_id, ReasonCode::Success, self.journal.last);
                Ok(())
            }
            _ => {
                Err(misplaced(PacketType::PubRec, packet_id, "PUBREC for a message of QoS 1", "MQTT-4.3.2-2"))
            }
        }
    }

    fn on_pubrel(&mut self, packet_id: PacketId) {
        match self.session.incoming.known(packet_id) {
            Some(Known::Received) => {
                let generation = self.next_generation(packet_id);
                let gate = self.record(Record::Completed { packet_id, generation });
                self.queue_ack(AckKind::PubComp, packet_id, ReasonCode::Success, gate);
            }
            // Nothing is known of it: the server is told so, and nothing else happens.
            Some(Known::Delivered(_)) | None => {
                let reason = self.unless_3x(ReasonCode::PacketIdentifierNotFound);
                let State::Live(connection) = &mut self.state else { return };
                connection
                    .queue(JournalSeq::ZERO, Control::Ack { kind: AckKind::PubComp, packet_id, reason });
            }
        }
    }

    fn on_pubcomp(&mut self, now: Instant, ack: &Ack<'_>) -> Result<(), ProtocolViolation> {
        let Some(slot) = self.in_flight(ack.packet_id) else { return Ok(()) };
        let Some(entry) = self.session.outgoing.get(slot) else { return Ok(()) };
        match &entry.owed {
            Owed::Release(..) => {
                if entry.is_in_flight() {
                    self.round_trip.measure(entry.written_at, now);
                }
                self.acknowledged(slot, ack, false);
                Ok(())
            }
            _ => Err(misplaced(PacketType::PubComp, ack.packet_id, "PUBCOMP before PUBREC", "MQTT-4.3.3-5")),
        }
    }

    fn unless_3x(&self, reason: ReasonCode) -> ReasonCode {
        if self.version() == ProtocolVersion::V5 { reason } else { ReasonCode::Success }
    }

    /// The publication that was written on this connection under this identifier. An acknowledgement of anything else
    /// is ignored: a server that repeats itself is no reason to reconnect.
    #[inline]
    fn in_flight(&self, packet_id: PacketId) -> Option<u32> {
        let slot = self.session.publication(packet_id)?;
        match self.session.outgoing.stage(slot)? {
            Stage::InFlight | Stage::Resumed => Some(slot),
            Stage::Waiting | Stage::Ready => None,
        }
    }

    /// The last acknowledgement of a publication has come.
    fn acknowledged(&mut self, slot: u32, ack: &Ack<'_>, refused: bool) {
        let Some(entry) = self.session.outgoing.get(slot) else { return };
        let (op, ended) = (entry.op, entry.ended);
        let taken = match &entry.owed {
            Owed::Release(_, taken) if !taken.is_plain() => Some(taken.clone()),
            _ => None,
        };
        // A server that has completed it already answers the PUBREL of a resume with "not found": it has the message.
        let reason = if refused || !ack.reason.is_failure() { ack.reason } else { ReasonCode::Success };
        let mut acknowledgement = Acknowledgement::new(reason, PropertiesBuf::copy_from(ack.properties));
        acknowledgement.received =
            taken.map(|taken| Box::new(Acknowledgement::new(taken.reason, taken.properties)));
        let outcome =
            if refused { Outcome::Refused(acknowledgement) } else { Outcome::Acknowledged(acknowledgement) };
        self.conclude(op, Record::Ended { op, packet_id: ack.packet_id }, outcome, ended);
    }
}

/// The client identifier to put into CONNECT.
pub(super) fn client_id_of(config: &Config, session: &str) -> String {
    if config.client_id.is_empty() { session.to_string() } else { config.client_id.clone() }
}
