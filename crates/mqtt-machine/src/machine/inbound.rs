//! Owns the way in: from bytes to one packet after another, until a bound. It must not know what a packet does.

use bytes::{Buf, Bytes, BytesMut};

use crate::config::Behind;
use crate::connection::{CONTROL_LIMIT, Connection, KeepAliveDue};
use crate::interface::EndReason;
use crate::message::Message;
use crate::packet::{PacketType, PropertiesBuf, Publish, Sender};
use crate::time::Instant;
use crate::types::{ProtocolVersion, TransportId};
use crate::wire::{self, DecodeError, FrameHeader};

use super::events::Arrival;
use super::{Machine, State};

/// The bytes of an acknowledgement that is a packet identifier and nothing else.
const BARE_ACK: usize = 4;

/// Where the parts of a PUBLISH stand in its frame.
pub(super) struct Layout {
    topic: (usize, usize),
    properties: (usize, usize),
    payload: usize,
}

impl Layout {
    fn of(frame: usize, header: usize, publish: &Publish<'_>) -> Self {
        let topic = header.saturating_add(2);
        let payload = frame.saturating_sub(publish.payload.len());
        Self {
            topic: (topic, topic.saturating_add(publish.topic.len())),
            properties: (payload.saturating_sub(publish.properties.len()), payload),
            payload,
        }
    }

    pub(super) fn topic(&self, frame: &Bytes) -> Bytes {
        part(frame, self.topic)
    }

    pub(super) fn properties(&self, frame: &Bytes) -> PropertiesBuf {
        if self.properties.0 == self.properties.1 {
            return PropertiesBuf::new();
        }
        PropertiesBuf::from_validated(part(frame, self.properties))
    }

    pub(super) fn payload(&self, mut frame: Bytes) -> Bytes {
        frame.advance(self.payload.min(frame.len()));
        frame
    }
}

/// A counted view of a part; empty when the part is not within.
pub(super) fn part(frame: &Bytes, (start, end): (usize, usize)) -> Bytes {
    if start > end || end > frame.len() {
        return Bytes::new();
    }
    #[expect(clippy::disallowed_methods, reason = "the range was checked above")]
    frame.slice(start..end)
}

/// The first `count` bytes of the input; all of it when there are fewer.
#[inline(always)]
fn take(input: &mut BytesMut, count: usize) -> Bytes {
    let count = count.min(input.len());
    #[expect(clippy::disallowed_methods, reason = "the count was bounded above")]
    input.split_to(count).freeze()
}

/// A number of bytes, of which a connection remembers no more.
fn counted(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Machine {
    /// Whether another frame may be taken.
    pub(super) fn takes_input(&self, connection: &Connection) -> bool {
        !connection.is_closing() && !self.is_paused() && connection.queued() < CONTROL_LIMIT
    }

    pub(super) fn take_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) {
        self.events.detach();
        if let State::Live(connection) = &mut self.state
            && connection.id == id
        {
            // What was left the last time is shown again: only what is new is a sign of life.
            if counted(input.len()) > connection.left {
                connection.keep_alive.received(now);
            }
            let before = input.len();
            self.take_frames(now, input);
            let taken = before.saturating_sub(input.len()) as u64;
            self.counters.bytes_in = self.counters.bytes_in.saturating_add(taken);
            if let State::Live(connection) = &mut self.state {
                connection.left = counted(input.len());
            }
        } else {
            input.clear();
        }
    }

    fn take_frames(&mut self, now: Instant, input: &mut BytesMut) {
        // How many bytes at the front are done with: to let go of them costs more than to read an acknowledgement.
        let mut done = 0_usize;
        if let State::Live(connection) = &mut self.state {
            connection.lacking = 0;
        }
        loop {
            let paused = self.is_paused();
            let State::Live(connection) = &mut self.state else {
                input.clear();
                return;
            };
            if connection.is_closing() {
                input.clear();
                return;
            }
            if paused || connection.queued() >= CONTROL_LIMIT {
                break;
            }
            let rest = input.get(done..).unwrap_or_default();
            let header = match wire::frame_header(rest, self.config.maximum_packet_size) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return self.malformed(now, error, input),
            };
            let (version, length) = (connection.version, header.frame_len());
            let Some(frame) = rest.get(..length) else {
                connection.lacking = counted(length.saturating_sub(rest.len()));
                break;
            };
            if length == BARE_ACK {
                let taken = self.take_plain_acks(now, rest);
                if taken > 0 {
                    done = done.saturating_add(taken);
                    continue;
                }
            }
            let result = if header.packet_type() == Some(PacketType::Publish) {
                input.advance(core::mem::take(&mut done));
                if self.take_plain_publications(version, input) {
                    continue;
                }
                self.take_publish(version, input, header)
            } else {
                done = done.saturating_add(length);
                self.take_other(now, version, frame)
            };
            if let Err(end) = result {
                self.fail(now, end);
            }
        }
        input.advance(done);
    }

    /// Takes the acknowledgements at the front of the input that are as most are: of publications that wait for them, with no more to
    /// say of them than that, and no record to make. Returns how many bytes they were; what is left is not looked at.
    ///
    /// It is most of what a publisher is told, so that nothing is asked twice that they cannot change: nothing of them is delivered,
    /// and none of them ends the connection.
    #[inline(never)]
    fn take_plain_acks(&mut self, now: Instant, input: &[u8]) -> usize {
        if self.keeps_records() || !self.session.keyed.is_empty() {
            return 0;
        }
        let mut rest = input;
        while let Some((frame, behind)) = rest.split_at_checked(BARE_ACK)
            && let Some(ack) = wire::bare_ack(frame)
            && matches!(&self.state, State::Live(connection) if connection.queued() < CONTROL_LIMIT)
            && self.on_plain_ack(now, ack.kind, ack.packet_id)
        {
            rest = behind;
        }
        let taken = input.len().saturating_sub(rest.len());
        if taken > 0 {
            self.advanced(now);
        }
        taken
    }

    /// Takes the publications at the front of the input that are as most are: whole, legal, under a topic name and without properties.
    /// False when the first is not; what is left is not looked at, and nothing of it has changed.
    #[inline(never)]
    fn take_plain_publications(&mut self, version: ProtocolVersion, input: &mut BytesMut) -> bool {
        if !self.is_connected() || self.config.behind == Behind::DropQoS0 {
            return false;
        }
        let most = self.config.maximum_packet_size;
        // How many bytes at the front are done with, and how many messages are told of them.
        let (mut done, mut count) = (0_usize, 0_usize);
        while !self.is_paused()
            && let Some(rest) = input.get(done..)
            && let Ok(Some(header)) = wire::frame_header(rest, most)
            && header.packet_type() == Some(PacketType::Publish)
            && let Some(frame) = rest.get(..header.frame_len())
            && let Ok(publish) = wire::decode_publish(frame, header, version)
            && publish.properties.is_empty()
            && !publish.topic.is_empty()
        {
            let Publish { dup, qos, retain, packet_id, .. } = publish;
            let (topic, payload) = (publish.topic.len(), publish.payload.len());
            let serial = match packet_id.map(|packet_id| self.admit(packet_id, qos)) {
                None => Some(0),
                Some(Ok(serial)) => serial,
                Some(Err(_)) => break,
            };
            let start = done.saturating_add(header.header_len).saturating_add(2);
            done = done.saturating_add(header.frame_len());
            let Some(serial) = serial else { continue };
            count = count.saturating_add(1);
            let key = self.deliver(Message::cost_of(topic, payload), packet_id, serial);
            let topic = (start, topic);
            self.events.arrives(Arrival { topic, payload, end: done, qos, retain, dup, key, serial });
        }
        if done > 0 {
            self.events.arrived(count, take(input, done));
        }
        done > 0
    }

    /// The PUBLISH of this fixed header stands at the front of the input.
    #[inline(never)]
    fn take_publish(
        &mut self,
        version: ProtocolVersion,
        input: &mut BytesMut,
        header: FrameHeader,
    ) -> Result<(), EndReason> {
        let length = header.frame_len();
        let frame = input.get(..length).unwrap_or_default();
        let publish = wire::decode_publish(frame, header, version).map_err(EndReason::Malformed)?;
        let layout = Layout::of(length, header.header_len, &publish);
        let head = PublishHead {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
        };
        self.on_publish(take(input, length), &layout, head).map_err(EndReason::Protocol)
    }

    /// Any other packet.
    #[inline(never)]
    fn take_other(&mut self, now: Instant, version: ProtocolVersion, frame: &[u8]) -> Result<(), EndReason> {
        let packet = wire::decode(frame, version, Sender::Server).map_err(EndReason::Malformed)?;
        self.on_packet(now, &packet)
    }

    fn malformed(&mut self, now: Instant, error: DecodeError, input: &mut BytesMut) {
        input.clear();
        self.fail(now, EndReason::Malformed(error));
    }

    /// The peer broke a rule: a 5.0 server is told which, then the connection ends.
    pub(super) fn fail(&mut self, now: Instant, reason: EndReason) {
        let code = match &reason {
            EndReason::Malformed(error) => Some(error.reason()),
            EndReason::Protocol(violation) => Some(violation.reason),
            _ => None,
        };
        self.close(now, reason, code, PropertiesBuf::new());
    }

    /// Reading goes on after the inbound budget was used up.
    pub(super) fn reading_resumed(&mut self, now: Instant) {
        if let State::Live(connection) = &mut self.state {
            connection.keep_alive.resumed(now);
            connection.advanced_at = now;
        }
    }

    pub(super) fn keep_alive(&mut self, now: Instant) {
        let paused = self.is_paused();
        let State::Live(connection) = &mut self.state else { return };
        match connection.keep_alive.poll(now, paused) {
            KeepAliveDue::Nothing => {}
            KeepAliveDue::Ping => connection.queue_ping(),
            // A dead server reads no DISCONNECT, and a client has no reason code for it.
            KeepAliveDue::Dead => self.end(now, EndReason::PingTimeout),
        }
    }
}

/// The fixed parts of a PUBLISH.
#[derive(Clone, Copy)]
pub(super) struct PublishHead {
    pub(super) dup: bool,
    pub(super) qos: crate::types::QoS,
    pub(super) retain: bool,
    pub(super) packet_id: Option<crate::types::PacketId>,
}
