//! Owns the short way of a publication: from the call into the output. It must not know more than when that is the way of all.

use core::borrow::Borrow;

use crate::config::{Limits, Overflow};
use crate::interface::{Outcome, Refused};
use crate::message::Message;
use crate::output::Output;
use crate::session::Stage;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, PacketId, Priority, QoS};
use crate::wire::{self, Delivery};

use super::{Machine, Resubscribe, State};

/// Which messages go the short way, as long as nothing else happens to the machine.
///
/// What decides about that is some thirty conditions that are the same for one message after another, so they are asked once and
/// what came of it is kept. Every call that may change one of them [closes](Self::close) the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The bytes of topic and payload are fewer: 0 when the way is closed to all.
    shorter_than: usize,
    highest: QoS,
    retain: bool,
    /// How many more messages of QoS 1 and 2 are taken, and bytes of theirs.
    messages: usize,
    bytes: usize,
}

impl Way {
    pub(super) const CLOSED: Self =
        Self { shorter_than: 0, highest: QoS::AtMostOnce, retain: false, messages: 0, bytes: 0 };

    /// Something has happened, so that the conditions are to be asked anew.
    #[inline]
    pub(super) const fn close(&mut self) {
        self.shorter_than = 0;
    }

    #[inline(always)]
    fn takes(&self, message: &Message) -> bool {
        // A topic and a payload are in memory at once, so their lengths can be added.
        message.topic.as_bytes().len().wrapping_add(message.payload.len()) < self.shorter_than
            && message.qos <= self.highest
            && (self.retain || !message.retain)
            && message.properties.is_empty()
            && message.priority == Priority::Normal
    }

    /// A message of QoS 1 or 2 went this way.
    #[inline]
    fn kept(&mut self, message: &Message) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.cost());
        self.shorter_than = if self.messages == 0 { 0 } else { self.shorter_than.min(self.bytes) };
    }
}

impl Machine {
    #[inline(always)]
    pub(super) fn take_into(
        &mut self,
        now: Instant,
        message: impl Borrow<Message> + Into<Message>,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        if !self.goes_at_once(message.borrow(), out) {
            return self.take_and_transmit(now, message.into(), out);
        }
        let (op, packet_id) = self.write_now(now, message.borrow(), out);
        if let Some(packet_id) = packet_id {
            self.keep_written(now, op, packet_id, message.into());
        }
        Ok(op)
    }

    /// Whether this message goes the short way.
    #[inline(always)]
    pub(super) fn goes_at_once(&mut self, message: &Message, out: &Output) -> bool {
        !out.is_full() && (self.way.takes(message) || self.finds_way(message))
    }

    #[inline(never)]
    fn take_and_transmit(
        &mut self,
        now: Instant,
        message: Message,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        let op = self.publish(now, message)?;
        self.transmit(now, out);
        Ok(op)
    }

    /// Asks whether there is a short way now, and whether this message may go it.
    #[inline(never)]
    fn finds_way(&mut self, message: &Message) -> bool {
        if !message.properties.is_empty() || message.priority != Priority::Normal {
            return false;
        }
        self.way = self.way();
        self.way.takes(message)
    }

    /// The short way, which is there while [`transmit`](Self::transmit) would find nothing to write: for messages that the server takes,
    /// for which there is room, and at QoS 1 and 2 a place in the window.
    fn way(&self) -> Way {
        let way = self.passage();
        let State::Live(connection) = &self.state else { return Way::CLOSED };
        let outgoing = &self.session.outgoing;
        let is_idle = connection.queued() == 0
            && outgoing.is_nothing_ahead()
            && self.session.requests.waiting().is_none()
            && !matches!(self.resubscribe, Resubscribe::After(_));
        if !is_idle {
            return Way::CLOSED;
        }
        let window = self.window().saturating_sub(outgoing.count(Stage::InFlight));
        let messages = way.messages.min(window).min(self.session.free_ids());
        Way { messages, highest: if messages == 0 { QoS::AtMostOnce } else { way.highest }, ..way }
    }

    /// Which messages are like most: the server takes them, there is room, and they need not be looked at again before they are written.
    pub(super) fn passage(&self) -> Way {
        let State::Live(connection) = &self.state else { return Way::CLOSED };
        let outgoing = &self.session.outgoing;
        let may_pass = connection.is_established()
            && self.accepting().is_ok()
            && matches!(self.config.overflow, Overflow::Wait | Overflow::Refuse)
            && outgoing.may_pass();
        let Limits { outgoing_messages, outgoing_bytes, .. } = self.config.limits;
        let count = outgoing.len().saturating_add(self.completions());
        let messages = outgoing_messages.saturating_sub(count);
        if !may_pass || messages == 0 {
            return Way::CLOSED;
        }
        let capabilities = &connection.capabilities;
        let longest = connection.maximum_packet_size().min(wire::MAX_REMAINING_LENGTH as usize);
        let most = outgoing_bytes.saturating_add(1);
        let bytes = most.saturating_sub(outgoing.bytes()).saturating_sub(Message::ENTRY);
        Way {
            shorter_than: longest.saturating_sub(wire::AROUND_PUBLISH).min(bytes),
            highest: if self.journal.enabled { QoS::AtMostOnce } else { capabilities.maximum_qos },
            retain: capabilities.retain_available,
            messages,
            bytes,
        }
    }

    /// Whether a message is like most, so that it [passes](Self::pass).
    #[inline]
    pub(super) fn may_pass(&self, message: &Message) -> bool {
        self.passage().takes(message)
    }

    /// Accepts a message that goes the short way, and writes it. At QoS 1 and 2 its packet identifier comes back, under which it is to be
    /// kept.
    #[inline]
    fn write_now(&mut self, now: Instant, message: &Message, out: &mut Output) -> (OpId, Option<PacketId>) {
        debug_assert!(self.way().takes(message), "something has changed, and the way was not closed");
        let op = self.session.next_op();
        self.counters.accepted = self.counters.accepted.saturating_add(1);
        let delivery = match message.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            // The way is open for it only while there is one that is free.
            qos => Delivery::new(qos, self.session.free_id().unwrap_or(PacketId::MIN)),
        };
        let State::Live(connection) = &mut self.state else { return (op, None) };
        let bytes = match connection.write_plain(message, delivery, out) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.end_publication(op, Outcome::Dropped(reason), JournalSeq::ZERO);
                return (op, None);
            }
        };
        connection.keep_alive.sent(now);
        self.counters.bytes_out = self.counters.bytes_out.saturating_add(bytes);
        let packet_id = delivery.packet_id();
        if packet_id.is_none() {
            connection.unsent.push_back((connection.written, op));
        }
        (op, packet_id)
    }

    /// Keeps a message that was written until it is acknowledged.
    #[inline(always)]
    fn keep_written(&mut self, now: Instant, op: OpId, packet_id: PacketId, mut message: Message) {
        self.owes(now);
        self.way.kept(&message);
        message.dup = false;
        self.session.push_written(op, packet_id, message, now);
    }
}
