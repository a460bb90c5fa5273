//! Owns the publications that are owed to the server: waiting, to be written, in flight, in that order of life.
//! It must not know bytes, nor why one moves on.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::message::Message;
use crate::packet::{Properties, PropertiesBuf};
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
        *self == Self::PLAINLY
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
    previous: Option<u32>,
    next: Option<u32>,
}

impl Entry {
    /// How long it has been with us.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        self.away.saturating_add(now - self.accepted_at)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<u32>,
    last: Option<u32>,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { first: None, last: None, len: 0 };
}

/// A slab of entries threaded by lists: every move costs the same however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    waiting: Waiting,
    ready: List,
    in_flight: List,
    resumed: List,
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

/// What a topic in the index of the newest costs beside its text, about.
const INDEXED: usize = 64;

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
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
                high.len.saturating_add(normal.len).saturating_add(low.len)
            }
            Stage::Ready => self.ready.len,
            Stage::InFlight => self.in_flight.len,
            Stage::Resumed => self.resumed.len,
        }
    }

    pub(crate) fn first(&self, stage: Stage) -> Option<u32> {
        match stage {
            Stage::Waiting => {
                let Waiting { high, normal, low } = &self.waiting;
                high.first.or(normal.first).or(low.first)
            }
            Stage::Ready => self.ready.first,
            Stage::InFlight => self.in_flight.first,
            Stage::Resumed => self.resumed.first,
        }
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
        let near = [self.hint, self.waiting.high.first, self.waiting.normal.first, self.waiting.low.first];
        near.into_iter().flatten().find(is_it).or_else(|| self.slots(Stage::Waiting).find(is_it))
    }

    /// The waiting entries that are no more urgent than this, the least urgent and oldest first.
    pub(crate) fn expendable(&self, priority: Priority) -> impl Iterator<Item = u32> {
        Priority::ALL
            .into_iter()
            .rev()
            .take_while(move |it| *it <= priority)
            .flat_map(|priority| self.along(self.waiting.of(priority).first))
    }

    /// The newest entry that waits under this topic.
    pub(crate) fn newest_of(&self, topic: &TopicName) -> Option<u32> {
        if let Some(newest) = &self.newest {
            return newest.get(topic).map(|(slot, _)| *slot);
        }
        self.find_newest(topic, None)
    }

    /// The newest entry that waits under this topic, but for one, by looking at all.
    fn find_newest(&self, topic: &TopicName, but: Option<u32>) -> Option<u32> {
        let under = |slot: &u32| self.message(*slot).is_some_and(|message| message.topic == *topic);
        let slots = self.slots(Stage::Waiting).filter(|slot| Some(*slot) != but);
        slots.filter(under).max_by_key(|slot| self.get(*slot).map(|entry| entry.op))
    }

    /// Keeps an index of the newest entry of each topic, or none.
    pub(crate) fn index_topics(&mut self, wanted: bool) {
        if wanted == self.newest.is_some() {
            return;
        }
        self.newest = wanted.then(BTreeMap::new);
        let waiting: Vec<u32> = if wanted { self.slots(Stage::Waiting).collect() } else { Vec::new() };
        waiting.into_iter().for_each(|slot| self.index(slot, true));
    }

    /// The entry waits now, or does not any more.
    fn index(&mut self, slot: u32, waits: bool) {
        if self.newest.is_none() {
            return;
        }
        let Some(Entry { op, owed: Owed::Waiting(message), .. }) = self.get(slot) else { return };
        let (op, topic) = (*op, message.topic.clone());
        let known = self.newest.as_ref().and_then(|newest| newest.get(&topic).copied());
        let next = match (known, waits) {
            (None, true) => Some((slot, 1)),
            // Those that are put back are older than those that wait.
            (Some((newest, count)), true) => {
                let is_newer = self.get(newest).is_none_or(|newest| newest.op < op);
                Some((if is_newer { slot } else { newest }, count.saturating_add(1)))
            }
            (Some((newest, count)), false) if count > 1 => {
                let left = if newest == slot { self.find_newest(&topic, Some(slot)) } else { Some(newest) };
                left.map(|newest| (newest, count.saturating_sub(1)))
            }
            (_, false) => None,
        };
        let Some(newest) = &mut self.newest else { return };
        // The key pins no more than the message does that it leads to.
        newest.remove(&topic);
        if let Some(next) = next {
            newest.insert(topic, next);
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The lists of a stage, the most urgent first.
    const fn lists(&self, stage: Stage) -> [List; 3] {
        match stage {
            Stage::Waiting => [self.waiting.high, self.waiting.normal, self.waiting.low],
            Stage::Ready => [self.ready, List::EMPTY, List::EMPTY],
            Stage::InFlight => [self.in_flight, List::EMPTY, List::EMPTY],
            Stage::Resumed => [self.resumed, List::EMPTY, List::EMPTY],
        }
    }

    /// The message of an entry that still has it.
    pub(crate) fn message(&self, slot: u32) -> Option<&Message> {
        match &self.get(slot)?.owed {
            Owed::Waiting(message) | Owed::Publish(_, message) => Some(message),
            Owed::Release(..) => None,
        }
    }

    const fn list_mut(&mut self, stage: Stage, priority: Priority) -> &mut List {
        match (stage, priority) {
            (Stage::Waiting, Priority::High) => &mut self.waiting.high,
            (Stage::Waiting, Priority::Normal) => &mut self.waiting.normal,
            (Stage::Waiting, Priority::Low) => &mut self.waiting.low,
            (Stage::Ready, _) => &mut self.ready,
            (Stage::InFlight, _) => &mut self.in_flight,
            (Stage::Resumed, _) => &mut self.resumed,
        }
    }

    /// The commands of all entries.
    pub(crate) fn ops(&self) -> impl Iterator<Item = OpId> {
        self.slots.iter().flatten().map(|entry| entry.op)
    }

    /// Whether `is` holds for a message that is kept.
    pub(crate) fn any_message(&self, is: impl Fn(&Message) -> bool) -> bool {
        self.slots.iter().flatten().any(|entry| match &entry.owed {
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

    fn insert(&mut self, op: OpId, owed: Owed, order: (u64, u64), stage: Stage) -> u32 {
        self.bytes = self.bytes.saturating_add(owed.cost());
        let priority = match &owed {
            Owed::Waiting(message) | Owed::Publish(_, message) => message.priority,
            Owed::Release(..) => Priority::Normal,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            self.slots.push(None);
            slot
        });
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
                previous: None,
                next: None,
            });
        }
        self.link(slot, stage);
        slot
    }

    fn link(&mut self, slot: u32, stage: Stage) {
        let Some(priority) = self.get(slot).map(|entry| entry.priority) else { return };
        let last = self.list_mut(stage, priority).last;
        if let Some(entry) = self.get_mut(slot) {
            entry.stage = stage;
            entry.previous = last;
            entry.next = None;
        }
        match last.and_then(|last| self.get_mut(last)) {
            Some(before) => before.next = Some(slot),
            None => self.list_mut(stage, priority).first = Some(slot),
        }
        let list = self.list_mut(stage, priority);
        list.last = Some(slot);
        list.len = list.len.saturating_add(1);
    }

    fn unlink(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        let (stage, priority, previous, next) = (entry.stage, entry.priority, entry.previous, entry.next);
        match previous.and_then(|previous| self.get_mut(previous)) {
            Some(before) => before.next = next,
            None => self.list_mut(stage, priority).first = next,
        }
        match next.and_then(|next| self.get_mut(next)) {
            Some(after) => after.previous = previous,
            None => self.list_mut(stage, priority).last = previous,
        }
        let list = self.list_mut(stage, priority);
        list.len = list.len.saturating_sub(1);
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
        self.index(slot, false);
        self.pushed.take_if(|pushed| *pushed == slot);
        self.unlink(slot);
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let Some(entry) = place else { return };
        self.bytes = self.bytes.saturating_sub(entry.owed.cost());
        *place = None;
        if self.len() > 1 {
            self.free.push(slot);
            return;
        }
        // Nothing is left: an idle session holds no memory of its busiest day.
        self.slots.clear();
        self.free.clear();
        if self.slots.capacity() > 1_024 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The slots of a stage, in order.
    pub(crate) fn slots(&self, stage: Stage) -> impl Iterator<Item = u32> {
        self.lists(stage).into_iter().flat_map(|list| self.along(list.first))
    }

    /// From this slot to the end of its list.
    fn along(&self, first: Option<u32>) -> impl Iterator<Item = u32> {
        let mut next = first;
        core::iter::from_fn(move || {
            let slot = next?;
            next = self.get(slot)?.next;
            Some(slot)
        })
    }

    /// Everything with a packet identifier, in the order in which it is resent.
    pub(crate) fn owed_slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = [Stage::InFlight, Stage::Resumed, Stage::Ready]
            .into_iter()
            .flat_map(|stage| self.slots(stage))
            .collect();
        slots.sort_by_key(|slot| self.get(*slot).map(|entry| entry.order));
        slots
    }

    /// The connection is gone: all that is owed is ready to be written on the next one, in its original order
    /// `[MQTT-4.4.0-1] [MQTT-4.6.0-1]`.
    pub(crate) fn connection_ended(&mut self) {
        for slot in self.owed_slots() {
            self.advance(slot, Stage::Ready);
        }
    }

    /// Back to the front of the waiting ones, as if never sent.
    pub(crate) fn unassign(&mut self, slots: &[u32]) {
        let waiting: Vec<u32> = self.slots(Stage::Waiting).collect();
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
            .saturating_add(self.bytes)
            .saturating_add(self.newest.as_ref().map_or(0, |newest| newest.len().saturating_mul(INDEXED)))
    }
}
