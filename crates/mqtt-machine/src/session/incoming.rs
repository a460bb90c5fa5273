//! Owns what is owed to the server for messages it sent: acknowledgements, in order, and the memory of QoS 2.
//! It must not know bytes, nor what a message says.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::packet::AckKind;
use crate::reason::ReasonCode;
use crate::types::{PacketId, QoS};

use super::ids::RareIdMap;

/// What is known of an incoming QoS 2 packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Delivered under this serial; its receipt is out.
    Delivered(u64),
    /// Ours: PUBREC is sent or owed, PUBREL has not come.
    Received,
}

/// A delivered message of QoS 1 or 2 whose acknowledgement is not decided or not yet its turn.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    packet_id: PacketId,
    qos: QoS,
    settled: Option<ReasonCode>,
    /// It came in a version that can refuse it.
    refusable: bool,
    /// The server waits for this acknowledgement on the present connection.
    live: bool,
}

/// An acknowledgement whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The delivery that it acknowledges.
    pub(crate) serial: u64,
    pub(crate) kind: AckKind,
    pub(crate) packet_id: PacketId,
    pub(crate) reason: ReasonCode,
    /// Whether the version that it came in can refuse it.
    pub(crate) refusable: bool,
    /// Whether it can be sent now; else the server asks again on the next connection.
    pub(crate) live: bool,
}

/// What an acknowledgement costs in [`Limits::incoming_bytes`](crate::Limits) while it waits for an earlier one.
const WAITING: usize = 32;
const _: () = assert!(size_of::<Unsettled>() <= WAITING);

#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// Serials are consecutive: the front has this one.
    first: u64,
    unsettled: VecDeque<Unsettled>,
    /// How many of them are settled, and wait for an earlier one.
    waiting: usize,
    known: RareIdMap<Known>,
    /// How many messages have ended under an identifier, where the journal knows of any.
    generations: RareIdMap<u32>,
}

impl Incoming {
    pub(crate) const fn new() -> Self {
        Self {
            first: 1,
            unsettled: VecDeque::new(),
            waiting: 0,
            known: RareIdMap::new(),
            generations: RareIdMap::new(),
        }
    }

    /// The counts that are not 0, ascending.
    pub(crate) fn generations(&self) -> impl Iterator<Item = (PacketId, u32)> {
        self.generations.iter()
    }

    /// How many messages have ended under this identifier in this session.
    pub(crate) fn generation(&self, packet_id: PacketId) -> u32 {
        self.generations.get(packet_id).unwrap_or_default()
    }

    pub(crate) fn known(&self, packet_id: PacketId) -> Option<Known> {
        self.known.get(packet_id)
    }

    /// A new message of QoS 1 or 2, in a version that can refuse it or not; returns its serial.
    #[inline]
    pub(crate) fn deliver(&mut self, packet_id: PacketId, qos: QoS, refusable: bool) -> u64 {
        let serial = self.first.saturating_add(self.unsettled.len() as u64);
        self.unsettled.push_back(Unsettled { packet_id, qos, settled: None, refusable, live: true });
        if qos == QoS::ExactlyOnce {
            self.known.insert(packet_id, Known::Delivered(serial));
        }
        serial
    }

    fn entry(&mut self, serial: u64) -> Option<&mut Unsettled> {
        let place = usize::try_from(serial.checked_sub(self.first)?).ok()?;
        self.unsettled.get_mut(place)
    }

    /// The server sent a QoS 2 message again whose receipt is still out: its acknowledgement is awaited again.
    pub(crate) fn revive(&mut self, serial: u64) -> bool {
        match self.entry(serial) {
            Some(entry) => !core::mem::replace(&mut entry.live, true),
            None => false,
        }
    }

    /// A receipt came back. Returns the acknowledgement if its turn has come; [`next_due`](Self::next_due) has those that waited for it.
    #[inline]
    pub(crate) fn settle(&mut self, serial: u64, reason: ReasonCode) -> Option<Due> {
        if serial == self.first {
            // The one in front never waits: it would have been taken out.
            return self.take_front(reason);
        }
        if let Some(entry) = self.entry(serial).filter(|entry| entry.settled.is_none()) {
            entry.settled = Some(reason);
            self.waiting = self.waiting.saturating_add(1);
        }
        None
    }

    /// Takes deliveries from the front out, up to `most`, as long as they are of QoS 1, on the present connection, and not settled. Shows
    /// the identifier of each, and returns how many they are.
    #[inline]
    pub(crate) fn take_plain(&mut self, most: usize, mut take: impl FnMut(PacketId)) -> usize {
        let mut count = 0_usize;
        for entry in self.unsettled.iter().take(most) {
            if entry.qos != QoS::AtLeastOnce || !entry.live || entry.settled.is_some() {
                break;
            }
            take(entry.packet_id);
            count = count.saturating_add(1);
        }
        self.unsettled.drain(..count);
        self.first = self.first.saturating_add(count as u64);
        self.shrink_unsettled();
        count
    }

    fn shrink_unsettled(&mut self) {
        if self.unsettled.is_empty() && self.unsettled.capacity() > 1_024 {
            self.unsettled = VecDeque::new();
        }
    }

    /// The serial of the oldest delivery that is out.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// The serials of deliveries that are out from one to before another.
    pub(crate) fn within(&self, from: u64, end: u64) -> Range<u64> {
        let last = self.first.saturating_add(self.unsettled.len() as u64);
        from.max(self.first)..end.min(last)
    }

    /// The bytes of acknowledgements that wait for an earlier one. Without them a server that goes on sending, to a consumer that
    /// settles all but one message, would find no bound.
    pub(crate) const fn waiting_bytes(&self) -> usize {
        self.waiting.saturating_mul(WAITING)
    }

    /// The next acknowledgement, in the order of arrival `[MQTT-4.6.0-2] [MQTT-4.6.0-3]`.
    #[inline]
    pub(crate) fn next_due(&mut self) -> Option<Due> {
        let reason = self.unsettled.front()?.settled?;
        self.waiting = self.waiting.saturating_sub(1);
        self.take_front(reason)
    }

    #[inline]
    fn take_front(&mut self, reason: ReasonCode) -> Option<Due> {
        let entry = self.unsettled.pop_front()?;
        let serial = self.first;
        self.first = self.first.saturating_add(1);
        self.shrink_unsettled();
        let kind = if entry.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        let Unsettled { packet_id, refusable, live, .. } = entry;
        Some(Due { serial, kind, packet_id, reason, refusable, live })
    }

    pub(crate) fn apply_received(&mut self, packet_id: PacketId, generation: u32) {
        self.known.insert(packet_id, Known::Received);
        self.count(packet_id, generation);
    }

    pub(crate) fn apply_completed(&mut self, packet_id: PacketId, generation: u32) {
        self.known.remove(packet_id);
        self.count(packet_id, generation);
    }

    fn count(&mut self, packet_id: PacketId, generation: u32) {
        if generation > 0 {
            self.generations.insert(packet_id, generation);
        }
    }

    /// The connection is gone: QoS 1 acknowledgements are worthless, QoS 2 ones wait for the server to ask again.
    pub(crate) fn connection_ended(&mut self) {
        for entry in &mut self.unsettled {
            entry.live = false;
        }
    }

    /// The server forgot the session: nothing is known of its identifiers. Receipts that are out stay valid as credit.
    pub(crate) fn session_lost(&mut self) {
        self.known.clear();
        self.generations.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Identifiers whose PUBREL is awaited, ascending: what the journal keeps.
    pub(crate) fn received(&self) -> impl Iterator<Item = PacketId> {
        self.known.iter().filter(|(_, known)| *known == Known::Received).map(|(packet_id, _)| packet_id)
    }

    /// It has been quiet: what a burst needed is given back.
    pub(crate) fn shrink(&mut self) {
        self.known.shrink();
        self.generations.shrink();
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.unsettled
            .capacity()
            .saturating_mul(size_of::<Unsettled>())
            .saturating_add(self.known.memory_used())
            .saturating_add(self.generations.memory_used())
    }
}
