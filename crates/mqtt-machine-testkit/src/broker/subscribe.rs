//! Owns SUBSCRIBE and UNSUBSCRIBE: what is granted, and which retained messages follow.
//! It must not know how messages are sent.

use std::sync::Arc;

use mqtt_machine::packet::{
    Packet, Properties, ReasonCodes, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe,
};
use mqtt_machine::{PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, TopicFilter, TopicName};

use super::connection::Connection;
use super::session::{Delivery, Published, Subscribed};
use super::{Broker, ConnId, Failure};

impl Broker {
    pub(super) fn handle_subscribe(
        &mut self,
        conn: ConnId,
        client_id: &Arc<str>,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Failure> {
        let identifier = subscribe.properties.subscription_identifiers().next();
        if identifier.is_some() && !self.config.subscription_identifiers {
            return Err(Failure::new(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "Subscription Identifier [5.0 section 3.2.2.3.12]",
            ));
        }
        let in_use = self.is_in_use(conn, client_id, subscribe.packet_id);
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut retained = Vec::new();
        for filter in &subscribe.filters {
            let code = if in_use {
                ReasonCode::PacketIdentifierInUse
            } else {
                self.subscribe_one(client_id, filter, identifier, &mut retained)
            };
            codes.push(code.to_u8());
        }
        if !self.speaks_v5(conn) {
            // Every refusal is 0x80 before 5.0.
            codes.iter_mut().filter(|code| **code > 0x80).for_each(|code| *code = 0x80);
        }
        let Some(codes) = ReasonCodes::from_bytes(&codes) else { return Ok(()) };
        let suback = SubAck { packet_id: subscribe.packet_id, properties: Properties::EMPTY, codes };
        self.send(conn, &Packet::SubAck(suback));
        for delivery in retained {
            self.enqueue(client_id, delivery);
        }
        Ok(())
    }

    /// Makes one subscription; the code that answers it.
    fn subscribe_one(
        &mut self,
        client_id: &str,
        asked: &SubscribeFilter<'_>,
        identifier: Option<u32>,
        retained: &mut Vec<Delivery>,
    ) -> ReasonCode {
        let Ok(filter) = TopicFilter::new(asked.filter) else { return ReasonCode::TopicFilterInvalid };
        let shared = filter.shared().is_some();
        let denied = self.config.denied.iter().any(|denied| {
            denied.pattern() == filter.pattern()
                || TopicName::new(filter.pattern()).is_ok_and(|topic| denied.matches(&topic))
        });
        if denied {
            return ReasonCode::NotAuthorized;
        }
        if shared && !self.config.shared_subscriptions {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        if filter.has_wildcard() && !self.config.wildcard_subscriptions {
            return ReasonCode::WildcardSubscriptionsNotSupported;
        }
        let mut options = asked.options;
        options.qos = options.qos.min(self.config.maximum_qos);
        let subscribed = Subscribed { filter, options, identifier };
        let Some(session) = self.sessions.get_mut(client_id) else { return ReasonCode::UnspecifiedError };
        let old = session.subscriptions.insert(Arc::from(asked.filter), subscribed.clone());
        let wanted = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => old.is_none(),
            RetainHandling::DoNotSend => false,
        };
        if wanted && !shared {
            let now = self.now;
            let alive = |message: &&Arc<Published>| message.expires_at.is_none_or(|at| at > now);
            let matching = self.retained.values().filter(|message| subscribed.filter.matches(&message.topic));
            retained.extend(matching.filter(alive).map(|message| Delivery {
                message: Arc::clone(message),
                qos: message.qos.min(options.qos),
                retain: true,
                identifiers: identifier.into_iter().collect(),
            }));
        }
        match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        conn: ConnId,
        client_id: &Arc<str>,
        unsubscribe: &Unsubscribe<'_>,
    ) {
        let in_use = self.is_in_use(conn, client_id, unsubscribe.packet_id);
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let code = if in_use {
                ReasonCode::PacketIdentifierInUse
            } else if session.subscriptions.remove(*filter).is_some() {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            };
            codes.push(code.to_u8());
        }
        let version = self.conns.get(&conn).and_then(Connection::running).map(|running| running.version);
        let codes = match version {
            Some(ProtocolVersion::V5) => ReasonCodes::from_bytes(&codes).unwrap_or(ReasonCodes::EMPTY),
            _ => ReasonCodes::EMPTY,
        };
        let unsuback = UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::EMPTY, codes };
        self.send(conn, &Packet::UnsubAck(unsuback));
    }

    /// Whether a request carries an identifier that one of the client's publications holds; it is written down.
    fn is_in_use(&mut self, conn: ConnId, client_id: &str, packet_id: PacketId) -> bool {
        let held = self.sessions.get(client_id).is_some_and(|session| session.incoming.contains(&packet_id));
        let waits = self
            .conns
            .get(&conn)
            .and_then(Connection::running)
            .is_some_and(|running| running.unanswered.contains(&packet_id));
        if held || waits {
            let what = format!(
                "a request with packet identifier {packet_id}, which a publication holds [MQTT-2.2.1-3]"
            );
            self.violation(conn, ReasonCode::PacketIdentifierInUse, what);
        }
        held || waits
    }
}
