//! Owns the beginning and the end of a connection: CONNECT, its answer, take-over, and what becomes of session and will.
//! It must not know subscriptions or how messages flow.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mqtt_machine::packet::{ConnAck, Connect, Packet, Properties, PropertiesBuf, Property, PropertyId};
use mqtt_machine::wire::{DecodeError, Fault};
use mqtt_machine::{ProtocolVersion, QoS, ReasonCode, TopicName};
use mqtt_machine_scram::Mechanism;

use super::connection::{Connection, Running, State};
use super::publish::forwarded;
use super::script::{OnConnect, Plan};
use super::session::{Published, Session, Will};
use super::{Broker, ConnId, Failure};

/// The session expiry interval that stands for ever.
const NEVER: u32 = u32::MAX;

/// A session expiry interval as a duration; `None`: for ever.
pub(super) fn expiry_duration(seconds: u32) -> Option<Duration> {
    (seconds != NEVER).then(|| Duration::from_secs(seconds.into()))
}

fn number(properties: Properties<'_>, id: PropertyId) -> Option<u32> {
    match properties.find(id)? {
        Property::SessionExpiryInterval(value)
        | Property::WillDelayInterval(value)
        | Property::MessageExpiryInterval(value)
        | Property::MaximumPacketSize(value) => Some(value),
        Property::ReceiveMaximum(value) | Property::TopicAliasMaximum(value) => Some(value.into()),
        _ => None,
    }
}

impl Broker {
    pub(super) fn handle_connect(&mut self, conn: ConnId, connect: &Connect<'_>) -> Result<(), Failure> {
        let plan = self.plan_of(conn, connect.client_id);
        match plan.on_connect {
            OnConnect::Accept => {}
            OnConnect::Close => {
                self.cut(conn);
                return Ok(());
            }
            OnConnect::Silence => {
                if let Some(connection) = self.conns.get_mut(&conn) {
                    connection.state = State::Silent;
                    connection.input.clear();
                }
                return Ok(());
            }
            OnConnect::Refuse(reason) => {
                self.refuse(conn, connect.version, reason);
                return Ok(());
            }
        }
        if let Err(Failure { reason, what }) = self.check_connect(connect) {
            // To speak another version breaks no rule.
            if reason != ReasonCode::UnsupportedProtocolVersion {
                self.violation(conn, reason, what);
            }
            self.refuse(conn, connect.version, reason);
            return Ok(());
        }
        match self.mechanism_of(connect.properties) {
            Some(mechanism) => self.challenge(conn, mechanism, connect),
            None => self.accept_connect(conn, connect, None),
        }
        Ok(())
    }

    /// Accepts a CONNECT, with what ends its authentication.
    pub(super) fn accept_connect(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        proved: Option<(Mechanism, &[u8])>,
    ) {
        let client_id: Arc<str> = if connect.client_id.is_empty() {
            Arc::from(format!("auto-{:016x}", self.random.next_u64()))
        } else {
            Arc::from(connect.client_id)
        };
        self.take_over(&client_id);
        let session_present = self.begin_session(conn, &client_id, connect);
        let mut properties = self.connack_properties(connect, &client_id);
        if let Some((mechanism, data)) = proved {
            let _ = properties.push(Property::AuthenticationMethod(mechanism.name()));
            let _ = properties.push(Property::AuthenticationData(data));
        }
        if let Some(connection) = self.conns.get_mut(&conn) {
            let imposed = self.config.server_keep_alive.filter(|_| connect.version == ProtocolVersion::V5);
            let keep_alive = u64::from(imposed.unwrap_or(connect.keep_alive));
            connection.state = State::Running(Box::new(Running {
                client_id: Arc::clone(&client_id),
                version: connect.version,
                patience: (keep_alive > 0).then(|| Duration::from_millis(keep_alive * 1_500)),
                last_received: self.now,
                receive_maximum: number(connect.properties, PropertyId::ReceiveMaximum).unwrap_or(65_535)
                    as usize,
                maximum_packet_size: number(connect.properties, PropertyId::MaximumPacketSize)
                    .unwrap_or(u32::MAX) as usize,
                expiry_was_zero: number(connect.properties, PropertyId::SessionExpiryInterval).unwrap_or(0)
                    == 0,
                topic_alias_maximum: number(connect.properties, PropertyId::TopicAliasMaximum).unwrap_or(0)
                    as u16,
                aliases_in: BTreeMap::new(),
                aliases_out: BTreeMap::new(),
                unanswered: BTreeSet::new(),
                mechanism: proved.map(|(mechanism, _)| mechanism),
                exchange: None,
            }));
        }
        let connack =
            ConnAck { session_present, reason: ReasonCode::Success, properties: properties.as_properties() };
        self.send(conn, &Packet::ConnAck(connack));
        self.pump(&client_id);
    }

    /// The plan of the connection, or the one that waits for this client.
    fn plan_of(&mut self, conn: ConnId, client_id: &str) -> Plan {
        let Some(connection) = self.conns.get_mut(&conn) else { return Plan::NONE };
        if connection.plan == Plan::NONE
            && let Some(plan) =
                self.plans_for.get_mut(client_id).and_then(std::collections::VecDeque::pop_front)
        {
            connection.plan = plan;
        }
        connection.plan
    }

    fn check_connect(&self, connect: &Connect<'_>) -> Result<(), Failure> {
        let refusal = |reason, what: &str| Err(Failure::new(reason, what));
        if !self.config.versions.contains(&connect.version) {
            return refusal(ReasonCode::UnsupportedProtocolVersion, "a version that is not spoken here");
        }
        let method = connect.properties.find(PropertyId::AuthenticationMethod);
        if method.is_some() && self.mechanism_of(connect.properties).is_none() {
            return refusal(ReasonCode::BadAuthenticationMethod, "a method that is not spoken here");
        }
        if method.is_none() && !self.config.users.is_empty() {
            let expected = connect.username.and_then(|name| self.config.users.get(name));
            if expected.is_none() || expected.map(Vec::as_slice) != connect.password {
                return refusal(ReasonCode::BadUserNameOrPassword, "user name or password not accepted");
            }
        }
        let too_long = connect.version == ProtocolVersion::V3_1 && connect.client_id.chars().count() > 23;
        let anonymous = connect.client_id.is_empty()
            && match connect.version {
                ProtocolVersion::V3_1 => true,
                ProtocolVersion::V3_1_1 => !connect.clean_start,
                _ => false,
            };
        if too_long || anonymous {
            return refusal(ReasonCode::ClientIdentifierNotValid, "client identifier not accepted");
        }
        if let Some(will) = &connect.will {
            if will.qos > self.config.maximum_qos {
                return refusal(ReasonCode::QoSNotSupported, "will QoS above the maximum [MQTT-3.2.2-12]");
            }
            if will.retain && !self.config.retain_available {
                return refusal(ReasonCode::RetainNotSupported, "retained will [MQTT-3.2.2-13]");
            }
        }
        let known = self.sessions.contains_key(connect.client_id);
        if !known && self.sessions.len() >= self.config.max_sessions {
            return refusal(ReasonCode::QuotaExceeded, "no room for another session");
        }
        Ok(())
    }

    /// Answers a CONNECT with a refusal and ends the connection.
    pub(super) fn refuse(&mut self, conn: ConnId, version: ProtocolVersion, reason: ReasonCode) {
        let reason = match version {
            ProtocolVersion::V5 => reason,
            _ if reason.to_connect_return_code().is_some() => reason,
            _ => ReasonCode::ServerUnavailable,
        };
        let away = self.away(reason);
        // A version without properties has no reason to go away either.
        let properties =
            if version == ProtocolVersion::V5 { away.as_properties() } else { Properties::EMPTY };
        let connack = ConnAck { session_present: false, reason, properties };
        self.send_as(conn, version, &Packet::ConnAck(connack));
        self.shut(conn);
    }

    /// Where a client is to go that is told this reason.
    pub(super) fn away(&self, reason: ReasonCode) -> PropertiesBuf {
        let mut properties = PropertiesBuf::new();
        if matches!(reason, ReasonCode::UseAnotherServer | ReasonCode::ServerMoved)
            && let Some(reference) = &self.config.server_reference
        {
            // A text that is none is left out.
            let _ = properties.push(Property::ServerReference(reference));
        }
        properties
    }

    /// Says what is wrong with a CONNECT of an unknown version, in the form of the nearest one, or that it is malformed
    /// in 5.0 `[MQTT-3.1.2-2]`.
    pub(super) fn answer_malformed_connect(&mut self, conn: ConnId, frame: &[u8], error: DecodeError) {
        // The level stands behind the length and the six bytes of the protocol name "MQTT".
        let header = 1 + frame.iter().skip(1).take(4).take_while(|byte| **byte >= 0x80).count() + 1;
        let level = frame.get(header + 6).copied().unwrap_or(0);
        let version = if level >= 5 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
        if matches!(error.fault(), Fault::ProtocolLevel) || version == ProtocolVersion::V5 {
            self.refuse(conn, version, error.reason());
        }
    }

    fn take_over(&mut self, client_id: &Arc<str>) {
        if let Some(old) = self.sessions.get(client_id).and_then(|session| session.conn) {
            self.send_disconnect(old, ReasonCode::SessionTakenOver);
            self.shut(old);
        }
    }

    /// Resumes the client's session or makes a new one; true when it is resumed.
    fn begin_session(&mut self, conn: ConnId, client_id: &Arc<str>, connect: &Connect<'_>) -> bool {
        if connect.clean_start {
            self.end_session(client_id);
        }
        let session_present = self.sessions.contains_key(client_id);
        let expiry = match connect.version {
            ProtocolVersion::V5 => self
                .granted_expiry(number(connect.properties, PropertyId::SessionExpiryInterval).unwrap_or(0)),
            _ if connect.clean_start => 0,
            _ => NEVER,
        };
        let will = connect.will.as_ref().and_then(|will| self.will_of(client_id, will));
        let session = self.sessions.entry(Arc::clone(client_id)).or_insert_with(Session::new);
        session.resume();
        session.conn = Some(conn);
        session.expiry = expiry_duration(expiry);
        session.ends_at = None;
        session.will = will;
        session.will_at = None;
        session_present
    }

    fn will_of(&self, client_id: &Arc<str>, will: &mqtt_machine::packet::Will<'_>) -> Option<Will> {
        let message = Published {
            client_id: Arc::clone(client_id),
            topic: TopicName::new(will.topic).ok()?,
            payload: bytes::Bytes::copy_from_slice(will.payload),
            qos: will.qos,
            retain: will.retain,
            properties: forwarded(will.properties),
            expires_at: None,
        };
        let seconds = |id| number(will.properties, id).map(|seconds| Duration::from_secs(seconds.into()));
        Some(Will {
            message: Arc::new(message),
            delay: seconds(PropertyId::WillDelayInterval).unwrap_or(Duration::ZERO),
            expiry: seconds(PropertyId::MessageExpiryInterval),
        })
    }

    pub(super) fn granted_expiry(&self, asked: u32) -> u32 {
        self.config.session_expiry_maximum.map_or(asked, |most| asked.min(most))
    }

    fn connack_properties(&self, connect: &Connect<'_>, client_id: &str) -> PropertiesBuf {
        let mut properties = PropertiesBuf::new();
        if connect.version != ProtocolVersion::V5 {
            return properties;
        }
        let config = &self.config;
        let asked = number(connect.properties, PropertyId::SessionExpiryInterval).unwrap_or(0);
        let granted = self.granted_expiry(asked);
        // Never to who does not ask `[MQTT-3.1.2-28]`.
        let asks = connect.properties.find(PropertyId::RequestResponseInformation);
        let asks = asks == Some(Property::RequestResponseInformation(true));
        let information = config.response_information.as_ref().filter(|_| asks);
        let information = information.map(|prefix| format!("{prefix}/{client_id}"));
        let list = [
            (granted != asked).then_some(Property::SessionExpiryInterval(granted)),
            (config.receive_maximum != u16::MAX).then_some(Property::ReceiveMaximum(config.receive_maximum)),
            (config.maximum_qos != QoS::ExactlyOnce)
                .then_some(Property::MaximumQoS(config.maximum_qos.to_u8())),
            (!config.retain_available).then_some(Property::RetainAvailable(false)),
            (config.maximum_packet_size < 268_435_460)
                .then_some(Property::MaximumPacketSize(config.maximum_packet_size)),
            connect.client_id.is_empty().then_some(Property::AssignedClientIdentifier(client_id)),
            information.as_deref().map(Property::ResponseInformation),
            (config.topic_alias_maximum > 0)
                .then_some(Property::TopicAliasMaximum(config.topic_alias_maximum)),
            (!config.wildcard_subscriptions).then_some(Property::WildcardSubscriptionAvailable(false)),
            (!config.subscription_identifiers).then_some(Property::SubscriptionIdentifierAvailable(false)),
            (!config.shared_subscriptions).then_some(Property::SharedSubscriptionAvailable(false)),
            config.server_keep_alive.map(Property::ServerKeepAlive),
        ];
        for property in list.into_iter().flatten() {
            // A value of the configuration that the property does not allow (a Receive Maximum of 0) is left out.
            let _ = properties.push(property);
        }
        properties
    }

    /// The client of this connection is gone: its session waits or ends, its will is due.
    pub(super) fn detach(&mut self, conn: ConnId) {
        let Some(client_id) = self.client_of(conn) else { return };
        let Some(session) = self.sessions.get_mut(&client_id).filter(|session| session.conn == Some(conn))
        else {
            return;
        };
        session.conn = None;
        session.ends_at = session.expiry.map(|expiry| self.now + expiry);
        session.will_at = session.will.as_ref().map(|will| self.now + will.delay);
        // QoS 0 is not kept for who is not there.
        session.queue.retain(|delivery| delivery.qos != QoS::AtMostOnce);
        self.end_sessions();
    }

    /// Publishes the wills and ends the sessions that are due.
    pub(super) fn end_sessions(&mut self) {
        let now = self.now;
        let due = |at: Option<mqtt_machine::Instant>| at.is_some_and(|at| at <= now);
        let waiting: Vec<Arc<str>> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.conn.is_none() && (due(session.will_at) || due(session.ends_at)))
            .map(|(client_id, _)| Arc::clone(client_id))
            .collect();
        for client_id in waiting {
            let Some(session) = self.sessions.get_mut(&client_id) else { continue };
            if due(session.ends_at) {
                self.end_session(&client_id);
            } else {
                session.will_at = None;
                let will = session.will.take();
                self.publish_will(will);
            }
        }
    }

    /// Ends a session, with its will if that is still owed `[MQTT-3.1.3-9]`.
    fn end_session(&mut self, client_id: &str) {
        if let Some(session) = self.sessions.remove(client_id) {
            self.publish_will(session.will);
        }
    }

    fn publish_will(&mut self, will: Option<Will>) {
        let Some(Will { message, expiry, .. }) = will else { return };
        let Ok(mut message) = Arc::try_unwrap(message) else { return };
        message.expires_at = expiry.map(|expiry| self.now + expiry);
        self.accept(message);
    }

    /// Whether the connection is one of 5.0, and may hear reason codes.
    pub(super) fn speaks_v5(&self, conn: ConnId) -> bool {
        self.conns
            .get(&conn)
            .and_then(Connection::running)
            .is_some_and(|it| it.version == ProtocolVersion::V5)
    }
}
