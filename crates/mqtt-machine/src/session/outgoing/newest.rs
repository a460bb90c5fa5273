//! Owns the newest message that waits under each topic, where that is asked for. It must not know why.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Entry, Outgoing, Owed};
use crate::types::TopicName;

/// What a topic in the index of the newest costs beside its text, about.
const INDEXED: usize = 64;

impl Outgoing {
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
        let slots = self.waiting_slots().filter(|slot| Some(*slot) != but);
        slots.filter(under).max_by_key(|slot| self.get(*slot).map(|entry| entry.op))
    }

    /// Keeps an index of the newest entry of each topic, or none.
    pub(crate) fn index_topics(&mut self, wanted: bool) {
        if wanted == self.newest.is_some() {
            return;
        }
        self.newest = wanted.then(BTreeMap::new);
        let waiting: Vec<u32> = if wanted { self.waiting_slots().collect() } else { Vec::new() };
        waiting.into_iter().for_each(|slot| self.index(slot, true));
    }

    /// The entry waits now, or does not any more.
    pub(super) fn index(&mut self, slot: u32, waits: bool) {
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

    /// Bytes of the index.
    pub(super) fn index_memory(&self) -> usize {
        self.newest.as_ref().map_or(0, |newest| newest.len().saturating_mul(INDEXED))
    }
}
