//! Owns how a message becomes the PUBLISH of this connection: what the server takes, its aliases, the time that is left.
//! It must not know why the message is sent, nor what becomes of it.

use core::time::Duration;

use bytes::Buf;

use crate::interface::DropReason;
use crate::message::Message;
use crate::output::Output;
use crate::packet::{self, Packet, PropertiesBuf, Property, Topic};
use crate::types::{PacketId, ProtocolVersion};
use crate::wire::{self, Delivery};

use super::Connection;
use super::aliases::Naming;

/// Which publication goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// `None` at QoS 0.
    pub(crate) packet_id: Option<PacketId>,
    /// It was sent before, on this or an earlier connection.
    pub(crate) dup: bool,
    /// How long it has waited with us.
    pub(crate) waited: Duration,
}

impl Connection {
    /// Writes a PUBLISH, if the server takes it. A topic alias counts from here on.
    ///
    /// # Errors
    /// Why the server cannot take it: nothing is written.
    pub(crate) fn write_publish(
        &mut self,
        message: &Message,
        sending: Sending,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let capabilities = &self.capabilities;
        let retain = message.retain && (capabilities.retain_available || !self.downgrades);
        if message.qos > capabilities.maximum_qos || (retain && !capabilities.retain_available) {
            return Err(DropReason::NotSupported);
        }
        let wanted = message.topic_alias();
        let mut naming = self.outgoing_aliases.naming(&message.topic, wanted);
        // An alias takes three bytes beside the topic that it comes with.
        if matches!(naming, Naming::Introduces(_)) && !self.has_room_for(message, 3) {
            naming = Naming::Topic;
        }
        let changes = naming != Naming::Topic || wanted.is_some() || has_aged(message, sending.waited);
        let changed = changes.then(|| rewritten(message, naming.alias(), sending.waited));
        let properties = changed.as_ref().unwrap_or(&message.properties);
        self.write(message, retain, sending, naming, properties, out)?;
        self.outgoing_aliases.used(&message.topic, naming);
        Ok(())
    }

    /// Writes a message without properties for the first time. When it was accepted, on this connection, it was found that the server
    /// takes it: its QoS, its retain flag and its size. Returns how many bytes it has.
    ///
    /// # Errors
    /// As [`write_publish`](Self::write_publish).
    #[inline(always)]
    pub(crate) fn write_plain(
        &mut self,
        message: &Message,
        delivery: Delivery,
        out: &mut Output,
    ) -> Result<u64, DropReason> {
        let mut bytes = 0;
        if self.outgoing_aliases.is_unused() {
            bytes = put_plain(message, delivery, self.version, out);
        }
        if bytes == 0 {
            bytes = self.write_first(message, delivery, out)?;
        }
        let bytes = bytes as u64;
        self.written = self.written.saturating_add(bytes);
        Ok(bytes)
    }

    #[inline(never)]
    fn write_first(
        &mut self,
        message: &Message,
        delivery: Delivery,
        out: &mut Output,
    ) -> Result<usize, DropReason> {
        let before = out.remaining();
        let sending = Sending { packet_id: delivery.packet_id(), dup: false, waited: Duration::ZERO };
        self.write_publish(message, sending, out)?;
        Ok(out.remaining().saturating_sub(before))
    }

    /// Notes how far the output has got.
    #[inline]
    pub(crate) fn wrote(&mut self, before: usize, out: &Output) {
        let bytes = out.remaining().saturating_sub(before) as u64;
        self.written = self.written.saturating_add(bytes);
    }

    /// Whether the message, its properties grown by `more` bytes, surely fits the server's Maximum Packet Size.
    fn has_room_for(&self, message: &Message, more: usize) -> bool {
        let most = message
            .topic
            .as_bytes()
            .len()
            .saturating_add(message.properties.len())
            .saturating_add(message.payload.len());
        most.saturating_add(wire::AROUND_PUBLISH).saturating_add(more) <= self.maximum_packet_size()
    }

    #[inline]
    fn write(
        &self,
        message: &Message,
        retain: bool,
        sending: Sending,
        naming: Naming,
        properties: &PropertiesBuf,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let by_alias = matches!(naming, Naming::Alias(_));
        if !self.has_room_for(message, 0) {
            let publish = publication(message, retain, sending, by_alias, properties);
            let exact = wire::encoded_len(&Packet::Publish(publish), self.version);
            if exact.map_or(true, |bytes| bytes > self.maximum_packet_size()) {
                return Err(DropReason::PacketTooLarge);
            }
        }
        self.put(message, retain, sending, by_alias, properties, out)
    }

    /// Writes a PUBLISH that the server takes.
    #[inline]
    fn put(
        &self,
        message: &Message,
        retain: bool,
        sending: Sending,
        by_alias: bool,
        properties: &PropertiesBuf,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let publish = publication(message, retain, sending, by_alias, properties);
        wire::encode_publish_head(&publish, self.version, out.tail())
            .map_err(|_| DropReason::NotSupported)?;
        out.append(&message.payload);
        Ok(())
    }
}

/// Writes the first PUBLISH of a message without properties, under its topic name. Returns how many bytes it has: 0, with nothing written,
/// when it is not short.
#[inline(always)]
fn put_plain(message: &Message, delivery: Delivery, version: ProtocolVersion, out: &mut Output) -> usize {
    let Message { topic, payload, retain, .. } = message;
    let head = wire::encode_plain_head(topic.into(), payload.len(), (delivery, *retain), version, out.tail());
    if head == 0 {
        return 0;
    }
    out.append(payload);
    head.wrapping_add(payload.len())
}

/// The PUBLISH of a message.
#[inline]
fn publication<'a>(
    message: &'a Message,
    retain: bool,
    sending: Sending,
    by_alias: bool,
    properties: &'a PropertiesBuf,
) -> packet::Publish<'a> {
    packet::Publish {
        dup: sending.dup,
        qos: message.qos,
        retain,
        topic: if by_alias { Topic::EMPTY } else { Topic::from(&message.topic) },
        packet_id: sending.packet_id,
        properties: properties.as_properties(),
        payload: &message.payload,
    }
}

/// Whether the Message Expiry Interval is another by now.
fn has_aged(message: &Message, waited: Duration) -> bool {
    waited.as_secs() > 0 && message.expiry_interval().is_some()
}

/// The properties with this alias and what is left of the expiry interval `[MQTT-3.3.2-6]`.
fn rewritten(message: &Message, alias: Option<u16>, waited: Duration) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    let waited = u32::try_from(waited.as_secs()).unwrap_or(u32::MAX);
    let others = message.properties.as_properties().iter().filter_map(|property| match property {
        Property::TopicAlias(_) => None,
        Property::MessageExpiryInterval(interval) => {
            Some(Property::MessageExpiryInterval(interval.saturating_sub(waited)))
        }
        other => Some(other),
    });
    for property in others.chain(alias.map(Property::TopicAlias)) {
        // Each was valid before, and stands as often as before.
        let _ = list.push(property);
    }
    list
}
