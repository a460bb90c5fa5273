//! Owns messages on their way: taken from a client, kept when retained, routed to subscribers, sent and acknowledged.
//! It must not know how connections begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mqtt_machine::packet::{
    Ack, AckKind, Packet, Properties, PropertiesBuf, Property, PropertyId, Publish, Topic,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, TopicName, wire};

use super::connection::{Connection, Running};
use super::log::{Accepted, Dropped};
use super::session::{Delivery, Effect, Published, Stage, Subscribed};
use super::{Broker, ConnId, Failure};

/// The properties that a broker forwards unchanged `[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-20]`.
pub(super) fn forwarded(properties: Properties<'_>) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for property in properties {
        if matches!(
            property.id(),
            PropertyId::PayloadFormatIndicator
                | PropertyId::ContentType
                | PropertyId::ResponseTopic
                | PropertyId::CorrelationData
                | PropertyId::UserProperty
        ) {
            // It was valid where it came from.
            let _ = list.push(property);
        }
    }
    list
}

/// Who holds a shared subscription.
struct Member {
    client_id: Arc<str>,
    subscribed: Subscribed,
    connected: bool,
}

/// What the broker does with a PUBLISH.
enum Verdict {
    /// It is new.
    Accept,
    /// It is acknowledged with this code and goes nowhere.
    Answer(ReasonCode),
}

impl Broker {
    pub(super) fn handle_publish(
        &mut self,
        conn: ConnId,
        client_id: &Arc<str>,
        publish: &Publish<'_>,
    ) -> Result<(), Failure> {
        let topic = self.resolve_topic(conn, publish)?;
        if publish.qos > self.config.maximum_qos {
            return Err(Failure::new(ReasonCode::QoSNotSupported, "QoS above the maximum [MQTT-3.2.2-11]"));
        }
        if publish.retain && !self.config.retain_available {
            return Err(Failure::new(ReasonCode::RetainNotSupported, "retained message [MQTT-3.2.2-14]"));
        }
        if let Some(packet_id) = publish.packet_id {
            self.take_quota(conn, packet_id)?;
        }
        let reason = match self.judge(conn, client_id, publish, &topic) {
            Verdict::Answer(reason) => reason,
            Verdict::Accept => {
                let expires_at = match publish.properties.find(PropertyId::MessageExpiryInterval) {
                    Some(Property::MessageExpiryInterval(seconds)) => {
                        Some(self.now + core::time::Duration::from_secs(seconds.into()))
                    }
                    _ => None,
                };
                if publish.qos == QoS::ExactlyOnce
                    && let (Some(session), Some(packet_id)) =
                        (self.sessions.get_mut(client_id), publish.packet_id)
                {
                    session.incoming.insert(packet_id);
                }
                let found = self.accept(Published {
                    client_id: Arc::clone(client_id),
                    topic,
                    payload: Bytes::copy_from_slice(publish.payload),
                    qos: publish.qos,
                    retain: publish.retain,
                    properties: forwarded(publish.properties),
                    expires_at,
                });
                if found { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
            }
        };
        self.answer_publish(conn, publish, reason);
        Ok(())
    }

    /// Whether the message is accepted: not one that was already, not denied.
    fn judge(&mut self, conn: ConnId, client_id: &str, publish: &Publish<'_>, topic: &TopicName) -> Verdict {
        let known = publish.packet_id.is_some_and(|packet_id| {
            self.sessions.get(client_id).is_some_and(|session| session.incoming.contains(&packet_id))
        });
        if known && publish.qos == QoS::ExactlyOnce && publish.dup {
            return Verdict::Answer(ReasonCode::Success);
        }
        if known {
            let what = "PUBLISH with a packet identifier that a QoS 2 message holds [MQTT-2.2.1-3]";
            self.violation(conn, ReasonCode::PacketIdentifierInUse, what);
            return Verdict::Answer(ReasonCode::PacketIdentifierInUse);
        }
        if self.config.denied.iter().any(|filter| filter.matches(topic)) {
            return Verdict::Answer(ReasonCode::NotAuthorized);
        }
        Verdict::Accept
    }

    /// PUBACK or PUBREC, or nothing.
    fn answer_publish(&mut self, conn: ConnId, publish: &Publish<'_>, reason: ReasonCode) {
        let Some(packet_id) = publish.packet_id else { return };
        let kind = match publish.qos {
            QoS::ExactlyOnce => AckKind::PubRec,
            _ => AckKind::PubAck,
        };
        self.send_ack(conn, kind, packet_id, reason);
        if kind == AckKind::PubAck || reason.is_failure() {
            self.answered(conn, packet_id);
        }
    }

    /// The quota of `packet_id` comes back to the client when what was sent last has left.
    fn answered(&mut self, conn: ConnId, packet_id: PacketId) {
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.outbox.answers(packet_id);
        }
    }

    /// The client's publications that wait for us are within our Receive Maximum `[MQTT-3.3.4-7]`.
    fn take_quota(&mut self, conn: ConnId, packet_id: PacketId) -> Result<(), Failure> {
        let most = usize::from(self.config.receive_maximum);
        let Some(running) = self.conns.get_mut(&conn).and_then(Connection::running_mut) else {
            return Ok(());
        };
        let again = !running.unanswered.insert(packet_id);
        let many = running.unanswered.len();
        let version = running.version;
        if many > most && version == ProtocolVersion::V5 {
            return Err(Failure::new(
                ReasonCode::ReceiveMaximumExceeded,
                format!("{many} unacknowledged publications, {most} are allowed [MQTT-3.3.4-9]"),
            ));
        }
        if again && version != ProtocolVersion::V3_1 {
            let what = "PUBLISH with an identifier that waits on this very connection [MQTT-4.4.0-1]";
            self.violation(conn, ReasonCode::PacketIdentifierInUse, what);
        }
        Ok(())
    }

    fn resolve_topic(&mut self, conn: ConnId, publish: &Publish<'_>) -> Result<TopicName, Failure> {
        let alias = match publish.properties.find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) => Some(alias),
            _ => None,
        };
        let most = self.config.topic_alias_maximum;
        let running = self.conns.get_mut(&conn).and_then(Connection::running_mut);
        let named = TopicName::new(publish.topic.as_str());
        match (alias, running, named) {
            (Some(alias), _, _) if alias == 0 || alias > most => Err(Failure::new(
                ReasonCode::TopicAliasInvalid,
                format!("topic alias {alias}, 1 to {most} are allowed [MQTT-3.3.2-8] [MQTT-3.3.2-9]"),
            )),
            (Some(alias), Some(running), Ok(topic)) => {
                running.aliases_in.insert(alias, topic.clone());
                Ok(topic)
            }
            (Some(alias), Some(running), Err(_)) => {
                running.aliases_in.get(&alias).cloned().ok_or_else(|| {
                    Failure::new(
                        ReasonCode::ProtocolError,
                        format!("topic alias {alias} is not known [5.0 section 3.3.2.3.4]"),
                    )
                })
            }
            (_, _, named) => {
                named.map_err(|error| Failure::new(ReasonCode::TopicNameInvalid, error.to_string()))
            }
        }
    }

    /// Takes a message: logs it, keeps it if retained, routes it. False when nobody is subscribed.
    pub(super) fn accept(&mut self, message: Published) -> bool {
        self.log.accept(Accepted {
            at: self.now,
            client_id: Arc::clone(&message.client_id),
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            retain: message.retain,
        });
        let message = Arc::new(message);
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain
            && (self.retained.len() < self.config.max_retained || self.retained.contains_key(&message.topic))
        {
            self.retained.insert(message.topic.clone(), Arc::clone(&message));
        }
        let deliveries = self.route(&message);
        let found = !deliveries.is_empty();
        for (client_id, delivery) in deliveries {
            self.enqueue(&client_id, delivery);
        }
        found
    }

    /// Who gets a message: overlapping subscriptions give one copy with the highest QoS and all identifiers, or a copy for each,
    /// as configured. Of a shared subscription one member gets it.
    fn route(&mut self, message: &Arc<Published>) -> Vec<(Arc<str>, Delivery)> {
        let copies = self.config.copies;
        let mut deliveries = Vec::new();
        let mut shared: BTreeMap<Arc<str>, Vec<Member>> = BTreeMap::new();
        for (client_id, session) in &self.sessions {
            let mut own: Option<Delivery> = None;
            for (name, subscribed) in &session.subscriptions {
                let local = subscribed.options.no_local && *client_id == message.client_id;
                if local || !subscribed.filter.matches(&message.topic) {
                    continue;
                }
                if subscribed.filter.shared().is_some() {
                    let connected = session.conn.is_some();
                    let member = Member {
                        client_id: Arc::clone(client_id),
                        subscribed: subscribed.clone(),
                        connected,
                    };
                    shared.entry(Arc::clone(name)).or_default().push(member);
                } else {
                    merge(&mut own, message, subscribed);
                    if copies {
                        deliveries.extend(own.take().map(|delivery| (Arc::clone(client_id), delivery)));
                    }
                }
            }
            deliveries.extend(own.map(|delivery| (Arc::clone(client_id), delivery)));
        }
        for (name, mut members) in shared {
            if members.iter().any(|member| member.connected) {
                members.retain(|member| member.connected);
            }
            let turn = self.shares.entry(name).or_default();
            *turn = turn.wrapping_add(1);
            let Member { client_id, subscribed, .. } = members.swap_remove(*turn % members.len());
            let mut delivery = None;
            merge(&mut delivery, message, &subscribed);
            deliveries.extend(delivery.map(|delivery| (client_id, delivery)));
        }
        deliveries
    }

    /// Puts a message into a client's queue and sends what can be sent.
    pub(super) fn enqueue(&mut self, client_id: &Arc<str>, delivery: Delivery) {
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        if session.conn.is_none() && delivery.qos == QoS::AtMostOnce {
            return;
        }
        if session.queue.len() >= self.config.max_queued {
            let topic = delivery.message.topic.clone();
            self.log.drop(Dropped { at: self.now, client_id: Arc::clone(client_id), topic });
            return;
        }
        session.queue.push_back(delivery);
        self.pump(client_id);
    }

    pub(super) fn pump_conn(&mut self, conn: ConnId) {
        if let Some(client_id) = self.client_of(conn) {
            self.pump(&client_id);
        }
    }

    /// Sends what the client is owed, in order, within its Receive Maximum and the bound of the output: first what was in
    /// flight on an earlier connection, then what waits.
    pub(super) fn pump(&mut self, client_id: &Arc<str>) {
        loop {
            let Some(session) = self.sessions.get_mut(client_id) else { return };
            let Some(conn) = session.conn else { return };
            let Some(connection) = self.conns.get(&conn) else { return };
            let Some(running) = connection.running() else { return };
            if connection.outbox.len() >= self.config.max_output {
                return;
            }
            let window_open = session.sent < running.receive_maximum;
            if session.sent < session.in_flight.len() {
                if !window_open {
                    return;
                }
                self.send_in_flight(conn, client_id);
                continue;
            }
            let Some(next) = session.queue.front() else { return };
            if next.qos != QoS::AtMostOnce && !(window_open && session.has_free_id()) {
                return;
            }
            let Some(delivery) = session.queue.pop_front() else { return };
            if delivery.message.expires_at.is_some_and(|at| at <= self.now) {
                continue;
            }
            if delivery.qos == QoS::AtMostOnce {
                self.send_publish(conn, client_id, &delivery, None, false);
            } else {
                session.assign(delivery);
            }
        }
    }

    /// Sends the next message in flight that was not sent on this connection.
    fn send_in_flight(&mut self, conn: ConnId, client_id: &Arc<str>) {
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        let at = session.sent;
        let Some(entry) = session.in_flight.get_mut(at) else { return };
        let dup = core::mem::replace(&mut entry.sent_before, true);
        let packet_id = entry.packet_id;
        session.sent += 1;
        let Stage::Published(delivery) = entry.stage.clone() else {
            self.send_ack(conn, AckKind::PubRel, packet_id, ReasonCode::Success);
            return;
        };
        if !self.send_publish(conn, client_id, &delivery, Some(packet_id), dup) {
            if let Some(session) = self.sessions.get_mut(client_id) {
                session.forget(at);
            }
            return;
        }
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if delivery.qos == QoS::AtLeastOnce && connection.plan.duplicates > 0 {
            connection.plan.duplicates -= 1;
            if let Some(entry) =
                self.sessions.get_mut(client_id).and_then(|session| session.in_flight.get_mut(at))
            {
                entry.acks_due += 1;
            }
            self.send_publish(conn, client_id, &delivery, Some(packet_id), true);
        }
    }

    /// Sends a PUBLISH; false when the client takes none of its size.
    fn send_publish(
        &mut self,
        conn: ConnId,
        client_id: &Arc<str>,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        dup: bool,
    ) -> bool {
        let Some(running) = self.conns.get(&conn).and_then(Connection::running) else { return true };
        let message = &delivery.message;
        let (alias, topic) = self.alias_for(running, &message.topic);
        let properties = self.properties_for(running, delivery, alias);
        let publish = Packet::Publish(Publish {
            dup,
            qos: delivery.qos,
            retain: delivery.retain,
            topic,
            packet_id,
            properties: properties.as_properties(),
            payload: &message.payload,
        });
        let fits =
            wire::encoded_len(&publish, running.version).is_ok_and(|len| len <= running.maximum_packet_size);
        if !fits {
            let topic = message.topic.clone();
            self.log.drop(Dropped { at: self.now, client_id: Arc::clone(client_id), topic });
            return false;
        }
        self.send(conn, &publish);
        if let (Some(alias), Some(running)) =
            (alias, self.conns.get_mut(&conn).and_then(Connection::running_mut))
        {
            running.aliases_out.insert(message.topic.clone(), alias);
        }
        true
    }

    /// The alias to send, if the client allows one, and the topic name that goes with it.
    fn alias_for<'a>(&self, running: &Running, topic: &'a TopicName) -> (Option<u16>, Topic<'a>) {
        if !self.config.topic_aliases || running.topic_alias_maximum == 0 {
            return (None, topic.into());
        }
        match running.aliases_out.get(topic) {
            Some(alias) => (Some(*alias), Topic::EMPTY),
            None => {
                let next = u16::try_from(running.aliases_out.len() + 1).ok();
                (next.filter(|next| *next <= running.topic_alias_maximum), topic.into())
            }
        }
    }

    fn properties_for(&self, running: &Running, delivery: &Delivery, alias: Option<u16>) -> PropertiesBuf {
        if running.version != ProtocolVersion::V5 {
            return PropertiesBuf::new();
        }
        let message = &delivery.message;
        let mut properties = message.properties.clone();
        let left = message.expires_at.map(|at| {
            let seconds = at.saturating_duration_since(self.now).as_secs();
            Property::MessageExpiryInterval(u32::try_from(seconds).unwrap_or(u32::MAX))
        });
        let identifiers = delivery.identifiers.iter().map(|id| Property::SubscriptionIdentifier(*id));
        for property in left.into_iter().chain(alias.map(Property::TopicAlias)).chain(identifiers) {
            // None of them repeats and all were valid where they came from.
            let _ = properties.push(property);
        }
        properties
    }

    /// Sends an acknowledgement; its reason is left out before 5.0.
    fn send_ack(&mut self, conn: ConnId, kind: AckKind, packet_id: PacketId, reason: ReasonCode) {
        let reason = if self.speaks_v5(conn) { reason } else { ReasonCode::Success };
        self.send(conn, &Packet::Ack(Ack { reason, ..Ack::new(kind, packet_id) }));
    }

    pub(super) fn handle_ack(
        &mut self,
        conn: ConnId,
        client_id: &Arc<str>,
        ack: &Ack<'_>,
    ) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(client_id) else { return Ok(()) };
        if ack.kind == AckKind::PubRel {
            let known = session.incoming.remove(&ack.packet_id);
            let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
            self.send_ack(conn, AckKind::PubComp, ack.packet_id, reason);
            self.answered(conn, ack.packet_id);
            return Ok(());
        }
        match session.acknowledge(ack) {
            Effect::Done => {}
            Effect::Release => self.send_ack(conn, AckKind::PubRel, ack.packet_id, ReasonCode::Success),
            Effect::Unknown => {
                let what = format!("{} of {}, which waits for none", ack.kind.packet_type(), ack.packet_id);
                self.violation(conn, ReasonCode::PacketIdentifierNotFound, what);
                if ack.kind == AckKind::PubRec {
                    let reason = ReasonCode::PacketIdentifierNotFound;
                    self.send_ack(conn, AckKind::PubRel, ack.packet_id, reason);
                }
            }
        }
        self.pump(client_id);
        Ok(())
    }
}

/// Adds what one more matching subscription asks for.
fn merge(delivery: &mut Option<Delivery>, message: &Arc<Published>, subscribed: &Subscribed) {
    let qos = message.qos.min(subscribed.options.qos);
    let retain = message.retain && subscribed.options.retain_as_published;
    match delivery {
        None => {
            *delivery = Some(Delivery {
                message: Arc::clone(message),
                qos,
                retain,
                identifiers: subscribed.identifier.into_iter().collect(),
            });
        }
        Some(delivery) => {
            delivery.qos = delivery.qos.max(qos);
            delivery.retain |= retain;
            delivery.identifiers.extend(subscribed.identifier);
        }
    }
}
