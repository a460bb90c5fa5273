//! Owns the publications that are owed to the server: waiting, to be written, in flight, in that order of life.
//! It must not know bytes, nor why one moves on.

mod newest;
mod passing;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::message::Message;
use crate::packet::{AckKind, Properties, PropertiesBuf};
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, PacketId, Priority, QoS, TopicName};

/// What PUBREC said of a message that it took. It is no part of the durable session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) reason: ReasonCode,
    /// Only as long as they are no larger than the message was, so that a server cannot make the session grow.
    pub(crate) properties: PropertiesBuf,
}

impl Taken {
    /// By a plain PUBREC.
    const PLAINLY: Self = Self { reason: ReasonCode::Success, properties: PropertiesBuf::new() };

    pub(crate) fn is_plain(&self) -> bool {
        self.reason == ReasonCode::Success && self.properties.is_empty()
    }
}

/// What is owed for one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// Its PUBLISH, without a packet identifier yet.
    Waiting(Message),
    /// Its PUBLISH, under this identifier, until PUBACK or PUBREC.
    Publish(PacketId, Message),
    /// Its PUBREL, under this identifier, until PUBCOMP. The message itself is the server's now.
    Release(PacketId, Taken),
}

impl Owed {
    pub(crate) const fn packet_id(&self) -> Option<PacketId> {
        match self {
            Self::Waiting(_) => None,
            Self::Publish(id, _) | Self::Release(id, _) => Some(*id),
        }
    }

    /// A message that nothing is owed for once it is written.
    pub(crate) fn is_qos_0(&self) -> bool {
        matches!(self, Self::Waiting(message) if message.qos == QoS::AtMostOnce)
    }

    fn cost(&self) -> usize {
        match self {
            Self::Waiting(message) | Self::Publish(_, message) => message.cost(),
            Self::Release(_, taken) => taken.properties.len(),
        }
    }
}

/// Where a publication stands on the present connection. Each stage is a list in order; the waiting ones are one for each priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Accepted; no packet identifier.
    Waiting,
    /// In the window, to be written on this connection for the first time.
    Ready,
    /// Its PUBLISH was written on this connection: these count against the server's Receive Maximum.
    InFlight,
    /// Only its PUBREL was written on this connection: its PUBLISH went out on an earlier one.
    Resumed,
}

/// The publication that goes first of those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The oldest of those that [pass](Outgoing::pass).
    Passing,
    /// The one in this slot.
    Slot(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) op: OpId,
    pub(crate) owed: Owed,
    /// Orders what is resent: the command's number at acceptance, and at PUBREC the newest one's, with the count of PUBRECs.
    pub(crate) order: (u64, u64),
    /// When it was accepted, or restored.
    pub(crate) accepted_at: Instant,
    /// How long it had waited before it was restored.
    pub(crate) away: Duration,
    /// The record that must be durable before anything is written.
    pub(crate) gate: JournalSeq,
    /// When its PUBLISH was written on the present connection.
    pub(crate) written_at: Instant,
    priority: Priority,
    /// Its PUBLISH was written on any connection: the next one is a DUP.
    pub(crate) sent: bool,
    /// Its command has ended although the session still owes it.
    pub(crate) ended: bool,
    /// The server has answered it as if it were of QoS 1.
    pub(crate) misanswered: bool,
    stage: Stage,
    previous: u32,
    next: u32,
}

impl Entry {
    /// Whether its PUBLISH was written on the present connection.
    pub(crate) const fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::InFlight)
    }

    /// How long it has been with us.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        self.away.saturating_add(now - self.accepted_at)
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

/// Slots in an order, threaded through their entries.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };

    const fn first(&self) -> Option<u32> {
        if self.first == NONE { None } else { Some(self.first) }
    }
}

impl Default for List {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A publication that has ended, as far as that is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) op: OpId,
    /// Its command had ended before.
    pub(crate) told: bool,
    /// When its PUBLISH was written, if that was on the present connection.
    pub(crate) written_at: Option<Instant>,
}

/// A slab of entries: every move costs the same however many there are. What waits and what is ready is threaded by lists; what was
/// written is found by its packet identifier, and is put in order when its connection ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    waiting: Waiting,
    ready: List,
    in_flight: usize,
    resumed: usize,
    /// How many entries of commands that have ended there are.
    told: usize,
    /// Messages of normal priority without properties that are written when their turn comes, without another look at them. They go
    /// before the others of their priority that wait.
    passing: VecDeque<(OpId, Message)>,
    bytes: usize,
    /// The one that came last.
    pushed: Option<u32>,
    /// Where the entry is that the next record speaks of, perhaps.
    hint: Option<u32>,
    /// The newest entry that waits under each topic and how many do, where that was asked for.
    newest: Option<BTreeMap<TopicName, (u32, usize)>>,
}

/// One list for each [`Priority`].
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    high: List,
    normal: List,
    low: List,
}

impl Waiting {
    const fn of(&self, priority: Priority) -> &List {
        match priority {
            Priority::High => &self.high,
            Priority::Normal => &self.normal,
            Priority::Low => &self.low,
        }
    }
}

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        self.entries().saturating_add(self.passing.len())
    }

    /// How many have a slot.
    const fn entries(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Topic, properties and payload bytes of all entries.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn count(&self, stage: Stage) -> usize {
        match stage {
            Stage::Waiting => {
                let Waiting { high, normal, low } = &self.waiting;
                let entries = high.len.saturating_add(normal.len).saturating_add(low.len);
                entries.saturating_add(self.passing.len())
            }
            Stage::Ready => self.ready.len,
            Stage::InFlight => self.in_flight,
            Stage::Resumed => self.resumed,
        }
    }

    /// The first of those that are to be written on this connection.
    pub(crate) const fn first_ready(&self) -> Option<u32> {
        self.ready.first()
    }

    /// The most urgent and oldest entry that waits. Those that [pass](Self::pass) are none.
    fn first_waiting(&self) -> Option<u32> {
        let Waiting { high, normal, low } = &self.waiting;
        high.first().or(normal.first()).or(low.first())
    }

    /// Which publication of those that wait goes first.
    pub(crate) fn next_waiting(&self) -> Option<Next> {
        if self.waiting.high.first == NONE && !self.passing.is_empty() {
            return Some(Next::Passing);
        }
        self.first_waiting().map(Next::Slot)
    }

    /// The entry that came last, if it is still there.
    pub(crate) const fn pushed(&self) -> Option<u32> {
        self.pushed
    }

    /// The next record speaks of the entry in this slot: it need not be looked for.
    pub(crate) const fn point_at(&mut self, slot: u32) {
        self.hint = Some(slot);
    }

    /// The waiting entry of this name.
    pub(crate) fn find_waiting(&self, op: OpId) -> Option<u32> {
        let is_it = |slot: &u32| {
            self.get(*slot).is_some_and(|entry| entry.op == op && matches!(entry.stage, Stage::Waiting))
        };
        let Waiting { high, normal, low } = &self.waiting;
        let near = [self.hint, high.first(), normal.first(), low.first()];
        near.into_iter().flatten().find(is_it).or_else(|| self.waiting_slots().find(is_it))
    }

    /// The waiting entries that are no more urgent than this, the least urgent and oldest first.
    pub(crate) fn expendable(&self, priority: Priority) -> impl Iterator<Item = u32> {
        Priority::ALL
            .into_iter()
            .rev()
            .take_while(move |it| *it <= priority)
            .flat_map(|priority| self.along(*self.waiting.of(priority)))
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The message of an entry that still has it.
    pub(crate) fn message(&self, slot: u32) -> Option<&Message> {
        match &self.get(slot)?.owed {
            Owed::Waiting(message) | Owed::Publish(_, message) => Some(message),
            Owed::Release(..) => None,
        }
    }

    /// The commands of all entries.
    pub(crate) fn ops(&self) -> impl Iterator<Item = OpId> {
        self.slots.iter().flatten().map(|entry| entry.op)
    }

    /// Whether `is` holds for a message that is kept.
    pub(crate) fn any_message(&self, is: impl Fn(&Message) -> bool) -> bool {
        self.passing.iter().any(|(_, message)| is(message))
            || self.slots.iter().flatten().any(|entry| match &entry.owed {
                Owed::Waiting(message) | Owed::Publish(_, message) => is(message),
                Owed::Release(..) => false,
            })
    }

    /// A waiting publication gets a lower QoS.
    pub(crate) fn downgrade(&mut self, slot: u32, qos: QoS) {
        if let Some(Entry { owed: Owed::Waiting(message), .. }) = self.get_mut(slot) {
            message.qos = message.qos.min(qos);
        }
    }

    /// A new entry at the end of the waiting ones.
    pub(crate) fn push(&mut self, op: OpId, message: Message) -> u32 {
        let slot = self.insert(op, Owed::Waiting(message), (op.to_u64(), 0), Stage::Waiting);
        self.pushed = Some(slot);
        self.index(slot, true);
        slot
    }

    /// A new entry that owes a PUBREL.
    pub(crate) fn push_released(&mut self, op: OpId, packet_id: PacketId, order: (u64, u64)) -> u32 {
        self.insert(op, Owed::Release(packet_id, Taken::PLAINLY), order, Stage::Ready)
    }

    fn free_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            self.slots.push(None);
            slot
        })
    }

    fn insert(&mut self, op: OpId, owed: Owed, order: (u64, u64), stage: Stage) -> u32 {
        self.bytes = self.bytes.saturating_add(owed.cost());
        let priority = match &owed {
            Owed::Waiting(message) | Owed::Publish(_, message) => message.priority,
            Owed::Release(..) => Priority::Normal,
        };
        let slot = self.free_slot();
        if let Some(place) = self.slots.get_mut(slot as usize) {
            // An entry is large, so it is made where it stays.
            *place = Some(Entry {
                op,
                owed,
                order,
                accepted_at: Instant::ZERO,
                away: Duration::ZERO,
                gate: JournalSeq::ZERO,
                written_at: Instant::ZERO,
                priority,
                sent: false,
                ended: false,
                misanswered: false,
                stage,
                previous: NONE,
                next: NONE,
            });
        }
        self.link(slot, stage);
        slot
    }

    /// The list that an entry of this stage and priority stands in, if it does in any, with how many there are.
    const fn list(&mut self, stage: Stage, priority: Priority) -> Result<&mut List, &mut usize> {
        match (stage, priority) {
            (Stage::Waiting, Priority::Normal) => Ok(&mut self.waiting.normal),
            (Stage::Waiting, Priority::High) => Ok(&mut self.waiting.high),
            (Stage::Waiting, Priority::Low) => Ok(&mut self.waiting.low),
            (Stage::Ready, _) => Ok(&mut self.ready),
            (Stage::InFlight, _) => Err(&mut self.in_flight),
            (Stage::Resumed, _) => Err(&mut self.resumed),
        }
    }

    /// Puts an entry that stands in no list at the end of a stage.
    fn link(&mut self, slot: u32, stage: Stage) {
        let Some(entry) = self.get_mut(slot) else { return };
        entry.stage = stage;
        let priority = entry.priority;
        let last = match self.list(stage, priority) {
            Ok(list) => {
                list.len = list.len.saturating_add(1);
                if list.first == NONE {
                    list.first = slot;
                }
                core::mem::replace(&mut list.last, slot)
            }
            Err(count) => {
                *count = count.saturating_add(1);
                return;
            }
        };
        if let Some(entry) = self.get_mut(slot) {
            (entry.previous, entry.next) = (last, NONE);
        }
        if let Some(before) = self.get_mut(last) {
            before.next = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        let (stage, priority, previous, next) = (entry.stage, entry.priority, entry.previous, entry.next);
        match self.list(stage, priority) {
            Ok(list) => {
                list.len = list.len.saturating_sub(1);
                if list.first == slot {
                    list.first = next;
                }
                if list.last == slot {
                    list.last = previous;
                }
            }
            Err(count) => {
                *count = count.saturating_sub(1);
                return;
            }
        }
        if let Some(before) = self.get_mut(previous) {
            before.next = next;
        }
        if let Some(after) = self.get_mut(next) {
            after.previous = previous;
        }
    }

    /// How many entries have been [told](Self::tell).
    pub(crate) const fn told(&self) -> usize {
        self.told
    }

    /// The command of this entry has ended, though the session still owes it. Returns whether that was so before.
    pub(crate) fn tell(&mut self, slot: u32) -> bool {
        let Some(entry) = self.get_mut(slot) else { return true };
        let before = core::mem::replace(&mut entry.ended, true);
        self.told = self.told.saturating_add(usize::from(!before));
        before
    }

    pub(crate) fn stage(&self, slot: u32) -> Option<Stage> {
        self.get(slot).map(|entry| entry.stage)
    }

    /// Puts an entry at the end of another stage.
    pub(crate) fn advance(&mut self, slot: u32, stage: Stage) {
        self.unlink(slot);
        self.link(slot, stage);
    }

    /// Gives a waiting entry its packet identifier: it is ready.
    pub(crate) fn assign(&mut self, slot: u32, packet_id: PacketId) {
        self.index(slot, false);
        if let Some(entry) = self.get_mut(slot) {
            let owed = core::mem::replace(&mut entry.owed, Owed::Release(packet_id, Taken::PLAINLY));
            if let Owed::Waiting(message) = owed {
                entry.owed = Owed::Publish(packet_id, message);
            }
        }
        self.advance(slot, Stage::Ready);
    }

    /// PUBREC: the payload goes, PUBREL is owed and ordered by now `[MQTT-4.6.0-4]`.
    pub(crate) fn release(&mut self, slot: u32, order: (u64, u64)) {
        let Some(entry) = self.get_mut(slot) else { return };
        if let Owed::Publish(packet_id, message) = &entry.owed {
            let (packet_id, cost) = (*packet_id, message.cost());
            entry.owed = Owed::Release(packet_id, Taken::PLAINLY);
            entry.order = order;
            self.bytes = self.bytes.saturating_sub(cost);
        }
    }

    /// What the PUBREC said that took the message, whose cost was `room`.
    pub(crate) fn taken(&mut self, slot: u32, reason: ReasonCode, said: Properties<'_>, room: usize) {
        if let Some(Entry { owed: Owed::Release(_, taken), .. }) = self.get_mut(slot) {
            taken.reason = reason;
            if said.len() <= room {
                taken.properties = PropertiesBuf::copy_from(said);
                self.bytes = self.bytes.saturating_add(said.len());
            }
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if self.newest.is_some() {
            self.index(slot, false);
        }
        if self.pushed == Some(slot) {
            self.pushed = None;
        }
        let Some(Some(Entry { stage, owed, ended, .. })) = self.slots.get(slot as usize) else { return };
        self.bytes = self.bytes.saturating_sub(owed.cost());
        self.told = self.told.saturating_sub(usize::from(*ended));
        match stage {
            Stage::InFlight => self.in_flight = self.in_flight.saturating_sub(1),
            _ => self.unlink(slot),
        }
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = None;
        }
        self.freed(slot);
    }

    /// Takes out what an acknowledgement of this kind ends, if it was written on this connection and nothing more is to be said of it.
    #[inline]
    pub(crate) fn end_written(&mut self, slot: u32, kind: AckKind) -> Option<Ended> {
        let place = self.slots.get_mut(slot as usize)?;
        let entry = place.as_ref()?;
        let ends = match &entry.owed {
            Owed::Publish(_, message) => kind == AckKind::PubAck && message.qos == QoS::AtLeastOnce,
            Owed::Release(_, taken) => kind == AckKind::PubComp && taken.is_plain(),
            Owed::Waiting(_) => false,
        };
        let (count, written_at) = match entry.stage {
            Stage::InFlight if ends => (&mut self.in_flight, Some(entry.written_at)),
            Stage::Resumed if ends => (&mut self.resumed, None),
            _ => return None,
        };
        *count = count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.owed.cost());
        self.told = self.told.saturating_sub(usize::from(entry.ended));
        let ended = Ended { op: entry.op, told: entry.ended, written_at };
        if self.pushed == Some(slot) {
            self.pushed = None;
        }
        *place = None;
        self.freed(slot);
        Some(ended)
    }

    /// Nothing is in this slot any more.
    #[inline]
    fn freed(&mut self, slot: u32) {
        if self.entries() > 1 {
            self.free.push(slot);
            return;
        }
        self.emptied();
    }

    /// Nothing is left: an idle session holds no memory of its busiest day.
    #[cold]
    #[inline(never)]
    fn emptied(&mut self) {
        self.slots.clear();
        self.free.clear();
        if self.slots.capacity() > 1_024 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// It has been quiet: where nothing is, nothing is held.
    pub(crate) fn shrink(&mut self) {
        if self.passing.is_empty() {
            self.passing = VecDeque::new();
        }
        if self.entries() == 0 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The entries that wait, the most urgent first, in order.
    pub(crate) fn waiting_slots(&self) -> impl Iterator<Item = u32> {
        let Waiting { high, normal, low } = self.waiting;
        [high, normal, low].into_iter().flat_map(|list| self.along(list))
    }

    /// The messages that wait, in the order in which they are sent.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (OpId, &Message)> {
        let Waiting { high, normal, low } = self.waiting;
        let under = |slot| {
            let entry = self.get(slot)?;
            Some((entry.op, self.message(slot)?))
        };
        let passing = self.passing.iter().map(|(op, message)| (*op, message));
        let later = [normal, low].into_iter().flat_map(|list| self.along(list)).filter_map(under);
        self.along(high).filter_map(under).chain(passing).chain(later)
    }

    /// The entries that are to be written on this connection, in order.
    pub(crate) fn ready_slots(&self) -> impl Iterator<Item = u32> {
        self.along(self.ready)
    }

    /// The slots of a list, in order.
    fn along(&self, list: List) -> impl Iterator<Item = u32> {
        let mut next = list.first;
        core::iter::from_fn(move || {
            let slot = next;
            next = self.get(slot)?.next;
            Some(slot)
        })
    }

    /// Everything with a packet identifier, in the order in which it is resent.
    pub(crate) fn owed_slots(&self) -> Vec<u32> {
        let owed = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.stage != Stage::Waiting);
        let numbered = (0_u32..).zip(&self.slots);
        let mut slots: Vec<u32> = numbered.filter(|(_, entry)| owed(entry)).map(|(slot, _)| slot).collect();
        slots.sort_by_key(|slot| self.get(*slot).map(|entry| entry.order));
        slots
    }

    /// The connection is gone: all that is owed is ready to be written on the next one, in its original order
    /// `[MQTT-4.4.0-1] [MQTT-4.6.0-1]`.
    pub(crate) fn connection_ended(&mut self) {
        self.hold_passing();
        for slot in self.owed_slots() {
            self.advance(slot, Stage::Ready);
        }
    }

    /// Back to the front of the waiting ones, as if never sent.
    pub(crate) fn unassign(&mut self, slots: &[u32]) {
        let waiting: Vec<u32> = self.waiting_slots().collect();
        for slot in slots {
            if let Some(entry) = self.get_mut(*slot) {
                let owed = core::mem::replace(&mut entry.owed, Owed::Release(PacketId::MIN, Taken::PLAINLY));
                entry.owed = match owed {
                    Owed::Publish(_, message) | Owed::Waiting(message) => Owed::Waiting(message),
                    Owed::Release(packet_id, taken) => Owed::Release(packet_id, taken),
                };
                entry.sent = false;
            }
            self.advance(*slot, Stage::Waiting);
            self.index(*slot, true);
        }
        for slot in waiting {
            self.advance(slot, Stage::Waiting);
        }
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.slots
            .capacity()
            .saturating_mul(size_of::<Option<Entry>>())
            .saturating_add(self.free.capacity().saturating_mul(size_of::<u32>()))
            .saturating_add(self.passing.capacity().saturating_mul(size_of::<(OpId, Message)>()))
            .saturating_add(self.bytes)
            .saturating_add(self.index_memory())
    }
}
