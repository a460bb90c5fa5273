//! Owns the way out: which packet is next, and its commit into the caller's output. It must not know why it is owed.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Buf;

use crate::connection::{Connection, Control, Identity, Sending, write_connect};
use crate::interface::{DropReason, EndReason, Event, Outcome};
use crate::journal::Record;
use crate::message::Message;
use crate::output::Output;
use crate::packet::{self, Ack, AckKind, Packet, PropertiesBuf, Property, PropertyId};
use crate::reason::ReasonCode;
use crate::session::{Ask, Entry, Next, Owed, Request, Stage};
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, QoS, Subscription, TopicFilter, TransportId};
use crate::wire::{self, Delivery};

use super::commands::filters_of;
use super::events::Plainly;
use super::packets::client_id_of;
use super::{Machine, Resubscribe, State};

/// Restored subscriptions go in requests of about this many bytes.
const RESUBSCRIBE_CHUNK: usize = 8 << 10;

impl Machine {
    pub(super) fn sent(&mut self, id: TransportId, bytes: usize) {
        let State::Live(connection) = &mut self.state else { return };
        if connection.id != id {
            return;
        }
        connection.handed = connection.handed.saturating_add(bytes as u64).min(connection.written);
        let handed = connection.handed;
        let mut count = 0_usize;
        // Those whose names follow each other are told as one.
        let mut run: Option<(OpId, OpId)> = None;
        for (_, op) in connection.unsent.iter().take_while(|(end, _)| *end <= handed) {
            count = count.saturating_add(1);
            match &mut run {
                Some((_, last)) if last.to_u64().checked_add(1) == Some(op.to_u64()) => *last = *op,
                _ => {
                    if let Some((first, last)) = run.replace((*op, *op)) {
                        self.events.complete_run(first, last, Plainly::Sent);
                    }
                }
            }
        }
        let Some((first, last)) = run else { return };
        self.events.complete_run(first, last, Plainly::Sent);
        connection.unsent.drain(..count);
        self.counters.sent = self.counters.sent.saturating_add(count as u64);
        if let Some(drain) = &mut self.drain {
            drain.report.delivered = drain.report.delivered.saturating_add(count);
        }
    }

    pub(super) fn write_output(&mut self, now: Instant, out: &mut Output) {
        let before = out.remaining();
        while !out.is_full() && self.write_next(now, out) {}
        if out.remaining() > before
            && let State::Live(connection) = &mut self.state
        {
            connection.keep_alive.sent(now);
            let bytes = out.remaining().saturating_sub(before) as u64;
            self.counters.bytes_out = self.counters.bytes_out.saturating_add(bytes);
        }
    }

    /// Writes one packet, or takes one step that makes way for one. False when there is nothing to do.
    fn write_next(&mut self, now: Instant, out: &mut Output) -> bool {
        let State::Live(connection) = &mut self.state else { return false };
        let durable = self.journal.durable;
        if let Err(error) = connection.write_acks(durable, out) {
            self.end(now, EndReason::Config(error));
            return false;
        }
        if out.is_full() {
            return true;
        }
        if let Some(control) = connection.next_control(durable) {
            return self.write_control(now, control, out);
        }
        let State::Live(connection) = &self.state else { return false };
        if !connection.is_established() {
            return false;
        }
        let may_ask = self.journal.began <= self.journal.durable;
        if may_ask && self.session.requests.waiting().is_none_or(|request| request.op.is_some()) {
            self.restore_subscriptions();
        }
        if may_ask && self.session.requests.waiting().is_some() {
            return self.write_request(now, out);
        }
        if let Some(slot) = self.session.outgoing.first_ready() {
            return self.write_owed(now, slot, out);
        }
        match self.session.outgoing.next_waiting() {
            Some(Next::Passing) => self.write_passing(now, out),
            Some(Next::Slot(slot)) => self.write_waiting(now, slot, out),
            None => false,
        }
    }

    fn write_control(&mut self, now: Instant, control: Control, out: &mut Output) -> bool {
        let config = &self.config;
        let State::Live(connection) = &mut self.state else { return false };
        let before = out.remaining();
        let version = connection.version;
        let result = match control {
            Control::Connect(presented) => {
                let client_id = client_id_of(config, &self.session.client_id);
                let identity = Identity { client_id: &client_id, clean_start: connection.clean_start };
                write_connect(config, &presented, identity, out.tail())
            }
            Control::Ack { kind, packet_id, reason } => {
                let ack = Ack { reason, ..Ack::new(kind, packet_id) };
                wire::encode(&Packet::Ack(ack), version, out.tail())
            }
            Control::PingReq => wire::encode(&Packet::PingReq, version, out.tail()),
            Control::Disconnect { reason, properties } => {
                let properties = fitting(connection, reason, *properties);
                let disconnect = packet::Disconnect { reason, properties: properties.as_properties() };
                wire::encode(&Packet::Disconnect(disconnect), version, out.tail())
            }
            Control::Auth { reason, data } => {
                let method = connection.authentication.as_deref().unwrap_or_default();
                let mut properties = PropertiesBuf::new();
                let pushed =
                    properties.push(Property::AuthenticationMethod(method)).and_then(|()| match &data {
                        Some(data) => properties.push(Property::AuthenticationData(data.expose())),
                        None => Ok(()),
                    });
                if pushed.is_err() {
                    self.end(now, EndReason::AuthenticationFailed);
                    return false;
                }
                let auth = packet::Auth { reason, properties: properties.as_properties() };
                wire::encode(&Packet::Auth(auth), version, out.tail())
            }
        };
        match result {
            Ok(()) => {
                connection.wrote(before, out);
                true
            }
            Err(error) => {
                self.end(now, EndReason::Config(error));
                false
            }
        }
    }

    /// Puts the next subscriptions that the server lost before everything that the caller asked for since.
    fn restore_subscriptions(&mut self) {
        let Resubscribe::After(cursor) = &self.resubscribe else { return };
        let cursor = cursor.clone();
        let identified = self.capabilities().is_some_and(|it| it.subscription_identifiers);
        let (subscriptions, identifier) =
            self.session.subscriptions_after(cursor.as_deref(), RESUBSCRIBE_CHUNK, identified);
        let Some(last) = subscriptions.last() else {
            self.resubscribe = Resubscribe::Written;
            self.check_restored();
            return;
        };
        self.resubscribe = Resubscribe::After(Some(Box::new(last.filter.clone())));
        let mut properties = PropertiesBuf::new();
        if let Some(identifier) = identifier {
            // It was granted with this identifier, so it is one.
            let _ = properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let ask = Ask::Subscribe(subscriptions);
        self.session.requests.push_next(Request::new(None, ask, properties));
    }

    /// Notes when every subscription that the server lost has been made again.
    pub(super) fn check_restored(&mut self) {
        if matches!(self.resubscribe, Resubscribe::Written) && !self.session.requests.is_restoring() {
            self.resubscribe = Resubscribe::Done;
        }
    }

    fn write_request(&mut self, now: Instant, out: &mut Output) -> bool {
        self.owes(now);
        let Some(packet_id) = self.session.free_id() else { return false };
        let State::Live(connection) = &mut self.state else { return false };
        let Some(request) = self.session.requests.waiting() else { return false };
        if let Ask::Subscribe(subscriptions) = &request.ask
            && subscriptions.iter().any(|it| connection.capabilities.lacks(&it.filter).is_some())
        {
            self.give_up_unsupported();
            return true;
        }
        // What is insisted on was refused where that could be known.
        let identified = connection.capabilities.subscription_identifiers;
        let properties = request.properties.clone();
        let properties =
            properties.retain(|property| identified || property.id() != PropertyId::SubscriptionIdentifier);
        let properties = properties.as_properties();
        let packet = match &request.ask {
            Ask::Subscribe(subscriptions) => {
                let filters = filters_of(subscriptions);
                Packet::Subscribe(packet::Subscribe { packet_id, properties, filters })
            }
            Ask::Unsubscribe(filters) => {
                let filters: Vec<&str> = filters.iter().map(TopicFilter::as_str).collect();
                Packet::Unsubscribe(packet::Unsubscribe { packet_id, properties, filters })
            }
        };
        let fits = wire::encoded_len(&packet, connection.version)
            .is_ok_and(|bytes| bytes <= connection.maximum_packet_size());
        let before = out.remaining();
        if fits && wire::encode(&packet, connection.version, out.tail()).is_ok() {
            connection.wrote(before, out);
            self.session.assign_request(packet_id);
        } else if let Some(Request { op, ask, .. }) = self.session.requests.discard_waiting() {
            match (op, ask) {
                (Some(op), _) => {
                    self.complete(op, Outcome::Dropped(DropReason::PacketTooLarge), JournalSeq::ZERO);
                }
                (None, Ask::Subscribe(lost)) => {
                    let code = ReasonCode::PacketTooLarge;
                    let codes = lost.into_iter().map(|subscription| (subscription.filter, code)).collect();
                    self.events.push(Event::Resubscribed { codes, properties: PropertiesBuf::new() });
                    self.check_restored();
                }
                (None, Ask::Unsubscribe(_)) => {}
            }
        }
        true
    }

    /// The next request is for a kind of subscription that this server does not do: it would end the connection for it (5.0, section
    /// 3.8.3.1). One of the caller's ends, one of the machine's goes on with the rest.
    fn give_up_unsupported(&mut self) {
        let Some(Request { op, ask: Ask::Subscribe(subscriptions), properties, .. }) =
            self.session.requests.discard_waiting()
        else {
            return;
        };
        if let Some(op) = op {
            return self.complete(op, Outcome::Dropped(DropReason::NotSupported), JournalSeq::ZERO);
        }
        let capabilities = self.capabilities().copied();
        let lacks = |filter: &TopicFilter| capabilities.as_ref().and_then(|it| it.lacks(filter));
        let lost = subscriptions.iter().filter_map(|it| Some((it.filter.clone(), lacks(&it.filter)?)));
        let codes = lost.collect();
        self.events.push(Event::Resubscribed { codes, properties: PropertiesBuf::new() });
        let rest: Vec<Subscription> =
            subscriptions.into_iter().filter(|it| lacks(&it.filter).is_none()).collect();
        if !rest.is_empty() {
            let ask = Ask::Subscribe(rest);
            self.session.requests.push_next(Request::new(None, ask, properties));
        }
        self.check_restored();
    }

    /// Writes what has a packet identifier: a PUBLISH within the quota, or a PUBREL.
    fn write_owed(&mut self, now: Instant, slot: u32, out: &mut Output) -> bool {
        let durable = self.journal.durable;
        let in_flight = self.session.outgoing.count(Stage::InFlight);
        let window = self.window();
        self.owes(now);
        let State::Live(connection) = &mut self.state else { return false };
        let Some(entry) = self.session.outgoing.get_mut(slot) else { return false };
        if entry.gate > durable {
            return false;
        }
        let before = out.remaining();
        let result = match &entry.owed {
            // What has left is never given up `[MQTT-4.3.3-7]`; what had an identifier and did not leave waits like the rest.
            Owed::Publish(packet_id, message) if !entry.sent && is_expired(message, entry, now) => {
                Err((*packet_id, Outcome::Expired))
            }
            Owed::Publish(_, _) if in_flight >= window => return false,
            Owed::Publish(packet_id, message) => {
                let (packet_id, dup) = (*packet_id, entry.sent);
                let sending =
                    Sending { packet_id: Some(packet_id), dup, waited: waited(message, entry, now) };
                let written = connection.write_publish(message, sending, out);
                if written.is_ok() {
                    entry.sent = true;
                    entry.written_at = now;
                    self.counters.resent = self.counters.resent.saturating_add(u64::from(dup));
                }
                written.map(|()| Stage::InFlight).map_err(|reason| (packet_id, Outcome::Dropped(reason)))
            }
            Owed::Release(packet_id, _) => {
                let ack = Packet::Ack(Ack::new(AckKind::PubRel, *packet_id));
                let unsupported = Outcome::Dropped(DropReason::NotSupported);
                wire::encode(&ack, connection.version, out.tail())
                    .map(|()| Stage::Resumed)
                    .map_err(|_| (*packet_id, unsupported))
            }
            Owed::Waiting(_) => return false,
        };
        match result {
            Ok(stage) => {
                connection.wrote(before, out);
                self.session.outgoing.advance(slot, stage);
            }
            Err((packet_id, outcome)) => {
                let (op, ended) = (entry.op, entry.ended);
                self.conclude(op, Record::Ended { op, packet_id }, outcome, ended);
            }
        }
        true
    }

    /// Takes the first waiting publication on: QoS 0 is written, the others enter the window.
    fn write_waiting(&mut self, now: Instant, slot: u32, out: &mut Output) -> bool {
        let Some(entry) = self.session.outgoing.get(slot) else { return false };
        let Owed::Waiting(message) = &entry.owed else { return false };
        if message.qos != QoS::AtMostOnce {
            // What enters the window while nothing else is ready is the next to be written.
            return self.enter_window(now, slot)
                && (self.session.outgoing.first_ready() != Some(slot) || self.write_owed(now, slot, out));
        }
        if entry.gate > self.journal.durable {
            return false;
        }
        if is_expired(message, entry, now) {
            self.discard(slot, Outcome::Expired);
            return true;
        }
        let State::Live(connection) = &mut self.state else { return false };
        let before = out.remaining();
        let sending = Sending { packet_id: None, dup: false, waited: waited(message, entry, now) };
        match connection.write_publish(message, sending, out) {
            Ok(()) => {
                connection.wrote(before, out);
                // One whose command a disconnect has ended may have been lowered to QoS 0 since.
                if !entry.ended {
                    connection.unsent.push_back((connection.written, entry.op));
                }
                self.session.outgoing.remove(slot);
            }
            Err(reason) => self.discard(slot, Outcome::Dropped(reason)),
        }
        true
    }

    /// Writes those that pass, one after another: nothing else can become next meanwhile. False when the window is full.
    fn write_passing(&mut self, now: Instant, out: &mut Output) -> bool {
        let window = self.window();
        loop {
            let Some((op, message)) = self.session.outgoing.first_passing().filter(|_| !out.is_full()) else {
                return true;
            };
            if message.qos == QoS::AtMostOnce {
                self.write_passing_qos_0(out);
                continue;
            }
            if self.session.outgoing.count(Stage::InFlight) >= window {
                return false;
            }
            let Some(packet_id) = self.session.free_id() else { return false };
            let State::Live(connection) = &mut self.state else { return false };
            match connection.write_plain(message, Delivery::new(message.qos, packet_id), out) {
                Ok(_) => {
                    self.owes(now);
                    self.session.passes(packet_id, now);
                }
                Err(reason) => {
                    let cost = message.cost();
                    self.session.outgoing.passed(1, cost);
                    self.end_publication(op, Outcome::Dropped(reason), JournalSeq::ZERO);
                }
            }
        }
    }

    /// Writes those of QoS 0 that pass before the first of another QoS.
    fn write_passing_qos_0(&mut self, out: &mut Output) {
        let State::Live(connection) = &mut self.state else { return };
        let (mut count, mut cost) = (0_usize, 0_usize);
        let mut failed = None;
        for (op, message) in self.session.outgoing.passing() {
            if message.qos != QoS::AtMostOnce || out.is_full() {
                break;
            }
            (count, cost) = (count.saturating_add(1), cost.saturating_add(message.cost()));
            match connection.write_plain(message, Delivery::AtMostOnce, out) {
                Ok(_) => connection.unsent.push_back((connection.written, op)),
                Err(reason) => {
                    failed = Some((op, reason));
                    break;
                }
            }
        }
        self.session.outgoing.passed(count, cost);
        if let Some((op, reason)) = failed {
            self.end_publication(op, Outcome::Dropped(reason), JournalSeq::ZERO);
        }
    }

    /// Publications that may be in flight at once.
    pub(super) fn window(&self) -> usize {
        let server = self.capabilities().map_or(0, |capabilities| capabilities.receive_maximum);
        usize::from(server.min(self.config().limits.in_flight.max(1)))
    }

    /// With a store: everything that fits enters the window now, so that its records share a sync.
    pub(super) fn fill_window(&mut self, now: Instant) {
        while self.is_connected()
            && let Some(Next::Slot(slot)) = self.session.outgoing.next_waiting()
            && self.session.outgoing.get(slot).is_some_and(
                |entry| !matches!(&entry.owed, Owed::Waiting(message) if message.qos == QoS::AtMostOnce),
            )
            && self.enter_window(now, slot)
        {}
    }

    fn enter_window(&mut self, now: Instant, slot: u32) -> bool {
        let outgoing = &self.session.outgoing;
        let used = outgoing.count(Stage::InFlight).saturating_add(outgoing.count(Stage::Ready));
        let Some(entry) = outgoing.get(slot) else { return false };
        let Owed::Waiting(message) = &entry.owed else { return false };
        if is_expired(message, entry, now) {
            self.discard(slot, Outcome::Expired);
            return true;
        }
        let op = entry.op;
        if let Some(highest) = self.highest_qos()
            && message.qos > highest
        {
            self.session.outgoing.point_at(slot);
            let gate = self.record(Record::Downgraded { op, qos: highest });
            if let Some(entry) = self.session.outgoing.get_mut(slot) {
                entry.gate = gate;
            }
            return true;
        }
        if used >= self.window() {
            return false;
        }
        let Some(packet_id) = self.session.free_id() else { return false };
        if !self.keeps_records() {
            self.session.assign(slot, packet_id);
            return true;
        }
        self.session.outgoing.point_at(slot);
        let gate = self.record(Record::Assigned { op, packet_id });
        if let Some(entry) = self.session.outgoing.get_mut(slot) {
            entry.gate = gate;
        }
        true
    }

    /// Gives a waiting publication up.
    pub(super) fn discard(&mut self, slot: u32, outcome: Outcome) {
        let Some(entry) = self.session.outgoing.get(slot) else { return };
        let (op, ended) = (entry.op, entry.ended);
        let journaled = !matches!(&entry.owed, Owed::Waiting(message) if message.qos == QoS::AtMostOnce);
        if journaled {
            self.session.outgoing.point_at(slot);
            return self.conclude(op, Record::Discarded { op }, outcome, ended);
        }
        self.session.outgoing.remove(slot);
        if !ended {
            self.end_publication(op, outcome, JournalSeq::ZERO);
        }
    }
}

/// How long a message has waited, if it has properties: without any there is no expiry that it counts for.
fn waited(message: &Message, entry: &Entry, now: Instant) -> Duration {
    if message.properties.is_empty() { Duration::ZERO } else { entry.waited(now) }
}

/// Whether a message has waited longer than its Message Expiry Interval.
fn is_expired(message: &Message, entry: &Entry, now: Instant) -> bool {
    message.expiry_interval().is_some_and(|interval| entry.waited(now) >= interval)
}

/// The properties that a DISCONNECT carries to this server: what only explains is left out when the packet would be larger
/// than the server takes `[MQTT-3.14.2-3] [MQTT-3.14.2-4]`.
fn fitting(connection: &Connection, reason: ReasonCode, properties: PropertiesBuf) -> PropertiesBuf {
    let packet = Packet::Disconnect(packet::Disconnect { reason, properties: properties.as_properties() });
    let length = wire::encoded_len(&packet, connection.version);
    if length.is_ok_and(|bytes| bytes <= connection.maximum_packet_size()) {
        return properties;
    }
    let mut kept = PropertiesBuf::new();
    if let Some(expiry) = properties.as_properties().find(PropertyId::SessionExpiryInterval) {
        // It was in a list before, so it is one that a list takes.
        let _ = kept.push(expiry);
    }
    kept
}
