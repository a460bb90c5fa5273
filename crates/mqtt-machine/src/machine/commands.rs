//! Owns what a caller may ask for, and when it is refused. It must not know how it is then sent.

use alloc::boxed::Box;
use core::time::Duration;

use crate::config::{Offline, Overflow, Unsupported};
use crate::connection::Control;
use crate::interface::{
    DropReason, KeyedPublication, Misuse, NotSupported, Outcome, Receipt, Refused, SizeBound, Subscribe,
    Unsubscribe,
};
use crate::journal::{PublishKey, Record};
use crate::message::Message;
use crate::packet::{Packet, PacketType, Property, PropertyId, SubscribeFilter};
use crate::reason::ReasonCode;
use crate::session::{Ask, KnownKey, Request};
use crate::time::Instant;
use crate::types::{JournalSeq, MAX_FIELD, OpId, PacketId, ProtocolVersion, QoS, Secret, TopicFilter};
use crate::wire::EncodeError;
use crate::{packet, wire};

use super::overflow::Room;
use super::{Machine, State};

impl Machine {
    pub(super) const fn accepting(&self) -> Result<(), Refused> {
        if self.drain.is_some() {
            return Err(Refused::Disconnecting);
        }
        if self.journal.failed {
            return Err(Refused::StoreFailed);
        }
        Ok(())
    }

    pub(super) fn accept_keyed(
        &mut self,
        now: Instant,
        key: PublishKey,
        message: Message,
    ) -> Result<KeyedPublication, Refused> {
        match self.session.keyed.known(&key) {
            Some(KnownKey::Ended(op, outcome)) => Ok(KeyedPublication::Ended(op, outcome)),
            // A disconnect told that its fate is not known, and nothing more is told under its name.
            Some(KnownKey::Open(op)) if self.session.keyed.was_told(op) => {
                let outcome = if self.journal.enabled { Outcome::Kept } else { Outcome::Unknown };
                Ok(KeyedPublication::Ended(op, outcome))
            }
            Some(KnownKey::Open(op)) => Ok(KeyedPublication::Open(op)),
            None if message.qos == QoS::AtMostOnce => Err(Refused::Misuse(Misuse::KeyWithoutQoS)),
            None => self.accept_publish(now, message, Some(key)).map(KeyedPublication::Accepted),
        }
    }

    #[inline(never)]
    pub(super) fn accept_publish(
        &mut self,
        now: Instant,
        mut message: Message,
        key: Option<PublishKey>,
    ) -> Result<OpId, Refused> {
        self.accepting()?;
        message.dup = false;
        if let Some(highest) = self.highest_qos() {
            message.qos = message.qos.min(highest);
        }
        self.check_publish(&message)?;
        let limits = &self.config.limits;
        let cost = message.cost();
        if cost > limits.outgoing_bytes {
            return Err(Refused::TooLarge {
                packet: PacketType::Publish,
                bytes: cost,
                limit: limits.outgoing_bytes,
                bound: SizeBound::OutgoingBytes,
            });
        }
        let offline = message.qos == QoS::AtMostOnce
            && self.config.offline == Offline::Drop
            && !self.is_connected()
            && self.completions() < limits.outgoing_messages;
        self.session.outgoing.index_topics(self.config.overflow == Overflow::LastValue);
        let room = if offline { Room::ForOthers } else { self.room_for(&message).ok_or(Refused::Full)? };
        self.counters.accepted = self.counters.accepted.saturating_add(1);
        let taken = self.make_room(&message, room);
        let op = self.session.next_op();
        let mut gate = JournalSeq::ZERO;
        if message.qos != QoS::AtMostOnce
            && let Some(reserved) = self.session.reserve(op)
        {
            self.record(reserved);
        }
        if !taken {
            let why = if offline { DropReason::Offline } else { DropReason::Overflow };
            self.end_publication(op, Outcome::Dropped(why), gate);
            return Ok(op);
        }
        if !message.properties.is_empty() {
            self.expires(now, &message, Duration::ZERO);
        }
        if message.qos == QoS::AtMostOnce {
            self.session.outgoing.push(op, message);
        } else {
            if let Some(key) = key {
                self.record(Record::Keyed { op, key, outcome: None });
            }
            if self.keeps_records() {
                gate = self.record(Record::Queued { op, message });
            } else {
                self.session.outgoing.push(op, message);
            }
        }
        let slot = self.session.outgoing.pushed();
        if let Some(entry) = slot.and_then(|slot| self.session.outgoing.get_mut(slot)) {
            entry.accepted_at = now;
            entry.gate = gate;
        }
        if self.journal.enabled {
            self.fill_window(now);
        }
        Ok(op)
    }

    /// Accepts a message that [may pass](Self::may_pass).
    #[inline]
    pub(super) fn pass(&mut self, mut message: Message) -> OpId {
        message.dup = false;
        self.counters.accepted = self.counters.accepted.saturating_add(1);
        let op = self.session.next_op();
        self.session.outgoing.pass(op, message);
        op
    }

    /// What can be known of a message now: its properties, and what the connected server does.
    fn check_publish(&self, message: &Message) -> Result<(), Refused> {
        let capabilities = self.capabilities();
        if let Some(capabilities) = capabilities {
            if message.qos > capabilities.maximum_qos {
                let (qos, maximum) = (message.qos, capabilities.maximum_qos);
                return Err(Refused::NotSupported(NotSupported::QoS { qos, maximum }));
            }
            let downgrades = self.config.unsupported == Unsupported::Downgrade;
            if message.retain && !capabilities.retain_available && !downgrades {
                return Err(Refused::NotSupported(NotSupported::Retain));
            }
        }
        let limit = capabilities.map_or(usize::MAX, |capabilities| capabilities.maximum_packet_size as usize);
        if message.properties.is_empty() && longest(message) < limit.min(wire::MAX_REMAINING_LENGTH as usize)
        {
            return Ok(());
        }
        for property in message.properties.as_properties() {
            match (property, capabilities) {
                (Property::TopicAlias(alias), Some(known)) if alias > known.topic_alias_maximum => {
                    let maximum = known.topic_alias_maximum;
                    return Err(Refused::NotSupported(NotSupported::TopicAlias { alias, maximum }));
                }
                (Property::SubscriptionIdentifier(identifier), _) => {
                    return Err(Refused::Misuse(Misuse::SubscriptionIdentifier { identifier }));
                }
                _ => {}
            }
        }
        let packet_id = (message.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        let packet = Packet::Publish(packet::Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: (&message.topic).into(),
            packet_id,
            properties: message.properties.as_properties(),
            payload: &message.payload,
        });
        let bytes = wire::encoded_len(&packet, self.version())?;
        if bytes > limit {
            let (packet, bound) = (PacketType::Publish, SizeBound::MaximumPacketSize);
            return Err(Refused::TooLarge { packet, bytes, limit, bound });
        }
        Ok(())
    }

    /// The version of the present connection, or of the next.
    pub(super) fn version(&self) -> ProtocolVersion {
        self.capabilities().map_or_else(
            || self.next_config.as_ref().unwrap_or(&self.config).version,
            |capabilities| capabilities.version,
        )
    }

    pub(super) fn accept_subscribe(&mut self, subscribe: Subscribe) -> Result<OpId, Refused> {
        self.accepting()?;
        let Subscribe { subscriptions, mut properties, identifier } = subscribe;
        if let Some(insisted) = properties.as_properties().subscription_identifiers().next() {
            self.check_identifier(insisted)?;
        }
        if let Some(identifier) = identifier {
            properties
                .push(Property::SubscriptionIdentifier(identifier))
                .map_err(|error| Refused::Property { packet: PacketType::Subscribe, error })?;
        }
        for subscription in &subscriptions {
            self.check_filter(&subscription.filter)?;
            if subscription.options.no_local && subscription.filter.shared().is_some() {
                let filter = subscription.filter.clone();
                return Err(Refused::Misuse(Misuse::NoLocalShared { filter }));
            }
        }
        let packet = Packet::Subscribe(packet::Subscribe {
            packet_id: PacketId::MIN,
            properties: properties.as_properties(),
            filters: filters_of(&subscriptions),
        });
        let count = subscriptions.len();
        self.check_request(&packet)?;
        if self.session.subscription_count().saturating_add(count) > self.config.limits.subscriptions {
            return Err(Refused::Full);
        }
        Ok(self.push_request(Ask::Subscribe(subscriptions), properties))
    }

    pub(super) fn accept_unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<OpId, Refused> {
        self.accepting()?;
        let packet = Packet::Unsubscribe(packet::Unsubscribe {
            packet_id: PacketId::MIN,
            properties: unsubscribe.properties.as_properties(),
            filters: unsubscribe.filters.iter().map(TopicFilter::as_str).collect(),
        });
        self.check_request(&packet)?;
        Ok(self.push_request(Ask::Unsubscribe(unsubscribe.filters), unsubscribe.properties))
    }

    fn check_filter(&self, filter: &TopicFilter) -> Result<(), Refused> {
        let Some(lacking) = self.capabilities().and_then(|capabilities| capabilities.lacks(filter)) else {
            return Ok(());
        };
        let filter = filter.clone();
        Err(Refused::NotSupported(if lacking == ReasonCode::SharedSubscriptionsNotSupported {
            NotSupported::SharedSubscription { filter }
        } else {
            NotSupported::WildcardSubscription { filter }
        }))
    }

    /// Whether an identifier that is insisted on can be sent; 3.x knows none and asks for none.
    fn check_identifier(&self, identifier: u32) -> Result<(), Refused> {
        match self.capabilities() {
            Some(it) if it.version == ProtocolVersion::V5 && !it.subscription_identifiers => {
                Err(Refused::NotSupported(NotSupported::SubscriptionIdentifier { identifier }))
            }
            _ => Ok(()),
        }
    }

    fn check_request(&self, packet: &Packet<'_>) -> Result<(), Refused> {
        let bytes = wire::encoded_len(packet, self.version())?;
        let maximum =
            self.capabilities().map_or(usize::MAX, |capabilities| capabilities.maximum_packet_size as usize);
        let ours = self.config.limits.outgoing_bytes;
        let (limit, bound) = if maximum <= ours {
            (maximum, SizeBound::MaximumPacketSize)
        } else {
            (ours, SizeBound::OutgoingBytes)
        };
        if bytes > limit {
            return Err(Refused::TooLarge { packet: packet.packet_type(), bytes, limit, bound });
        }
        let waiting = self.session.requests.bytes().saturating_add(bytes);
        if self.session.requests.len() >= self.config.limits.requests || waiting > ours {
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn push_request(&mut self, ask: Ask, properties: packet::PropertiesBuf) -> OpId {
        let op = self.session.next_op();
        self.session.requests.push(Request::new(Some(op), ask, properties));
        op
    }

    /// Whether [`reauthenticate`](Self::reauthenticate) would begin now.
    ///
    /// # Errors
    /// Why it would not `[MQTT-4.12.1-1]`.
    pub fn may_reauthenticate(&self) -> Result<(), Refused> {
        self.accepting()?;
        match &self.state {
            State::Live(connection) if connection.is_established() => match connection.authentication {
                None => Err(EncodeError::AuthenticationMethodMissing { packet: PacketType::Auth }.into()),
                Some(_) if connection.reauthenticating => {
                    Err(Refused::NotNow("the client is authenticating again already"))
                }
                Some(_) => Ok(()),
            },
            _ => Err(Refused::NotNow("there is no connection to authenticate again")),
        }
    }

    pub(super) fn begin_reauthentication(&mut self, data: Option<Secret>) -> Result<(), Refused> {
        self.may_reauthenticate()?;
        let bytes = data.as_ref().map_or(0, |data| data.expose().len());
        if bytes > MAX_FIELD {
            let field = PropertyId::AuthenticationData.name();
            return Err(EncodeError::FieldTooLong { packet: PacketType::Auth, field, bytes }.into());
        }
        if let State::Live(connection) = &mut self.state {
            connection.reauthenticating = true;
            let reason = ReasonCode::ReAuthenticate;
            connection.queue(JournalSeq::ZERO, Control::Auth { reason, data: data.map(Box::new) });
        }
        Ok(())
    }

    /// What follows from a receipt beside the room that it gives back, which was used up before when the machine was `paused`.
    #[inline(never)]
    pub(super) fn take_receipt(&mut self, now: Instant, receipt: &Receipt, reason: ReasonCode, paused: bool) {
        self.way.close();
        if receipt.acknowledges() {
            self.settle_deliveries(receipt.serial, receipt.acknowledges, reason);
        }
        if paused && !self.is_paused() {
            self.reading_resumed(now);
        }
        if self.overrun > 0 {
            self.tell_overrun();
        }
    }
}

/// No less than the bytes of the PUBLISH of this message.
fn longest(message: &Message) -> usize {
    message
        .topic
        .as_bytes()
        .len()
        .saturating_add(message.properties.len())
        .saturating_add(message.payload.len())
        .saturating_add(wire::AROUND_PUBLISH)
}

/// The filters of a SUBSCRIBE packet.
pub(super) fn filters_of(
    subscriptions: &[crate::types::Subscription],
) -> alloc::vec::Vec<SubscribeFilter<'_>> {
    subscriptions
        .iter()
        .map(|subscription| SubscribeFilter {
            filter: subscription.filter.as_str(),
            options: subscription.options,
        })
        .collect()
}
