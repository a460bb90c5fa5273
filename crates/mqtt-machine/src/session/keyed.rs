//! Owns the keys that users gave to publications, and how those that have ended did. It must not know why they end.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::interface::Outcome;
use crate::journal::PublishKey;
use crate::types::OpId;

/// What an entry costs beside its key, about.
const ENTRY: usize = 128;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Open(OpId),
    Ended(OpId, Outcome),
}

/// None where no publication has had a key, as in most clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyed(Option<Box<Tables>>);

#[derive(Clone, Debug, Default)]
struct Tables {
    ops: BTreeMap<PublishKey, OpId>,
    open: BTreeMap<OpId, PublishKey>,
    ended: BTreeMap<OpId, (PublishKey, Outcome)>,
    /// Open ones whose command has ended, though the session still owes them.
    told: BTreeSet<OpId>,
    bytes: usize,
}

impl Keyed {
    /// Whether no key is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|tables| tables.ops.is_empty())
    }

    pub(crate) fn op_of(&self, key: &PublishKey) -> Option<OpId> {
        self.0.as_ref()?.ops.get(key).copied()
    }

    pub(crate) fn known(&self, key: &PublishKey) -> Option<Known> {
        let tables = self.0.as_ref()?;
        let op = tables.ops.get(key).copied()?;
        Some(match tables.ended.get(&op) {
            Some((_, outcome)) => Known::Ended(op, outcome.clone()),
            None => Known::Open(op),
        })
    }

    /// The key of a publication that has not ended.
    pub(crate) fn key_of(&self, op: OpId) -> Option<&PublishKey> {
        self.0.as_ref()?.open.get(&op)
    }

    /// The oldest outcome, when there are `most` or more.
    pub(crate) fn too_many(&self, most: usize) -> Option<OpId> {
        let ended = &self.0.as_ref()?.ended;
        let (op, _) = ended.first_key_value()?;
        (ended.len() >= most).then_some(*op)
    }

    pub(crate) fn was_told(&self, op: OpId) -> bool {
        self.0.as_ref().is_some_and(|tables| tables.told.contains(&op))
    }

    /// The command has ended, though the session still owes the publication.
    pub(crate) fn tell(&mut self, op: OpId) {
        if let Some(tables) = &mut self.0
            && tables.open.contains_key(&op)
        {
            tables.told.insert(op);
        }
    }

    pub(crate) fn apply(&mut self, op: OpId, key: PublishKey, outcome: Option<Outcome>) {
        let tables = self.0.get_or_insert_default();
        if tables.ops.insert(key.clone(), op).is_none() {
            tables.bytes = tables.bytes.saturating_add(cost(&key));
        }
        match outcome {
            None => {
                tables.open.insert(op, key);
            }
            Some(outcome) => {
                tables.open.remove(&op);
                tables.told.remove(&op);
                tables.ended.insert(op, (key, outcome));
            }
        }
    }

    /// A publication has ended: without an outcome its key is not known any more.
    pub(crate) fn ended(&mut self, op: OpId) {
        let Some(tables) = &mut self.0 else { return };
        tables.told.remove(&op);
        if let Some(key) = tables.open.remove(&op) {
            tables.drop_key(&key);
        }
    }

    /// Nobody asks for this publication any more: it has ended, or never was.
    pub(crate) fn forget(&mut self, op: OpId) {
        let Some(tables) = &mut self.0 else { return };
        match tables.ended.remove(&op) {
            Some((key, _)) => tables.drop_key(&key),
            None => self.ended(op),
        }
    }

    /// Keys of publications that are none of these: a crash kept the record of the key and not that of the message.
    pub(crate) fn stray(&self, ops: impl Iterator<Item = OpId>) -> Vec<OpId> {
        let Some(tables) = self.0.as_ref().filter(|tables| !tables.open.is_empty()) else {
            return Vec::new();
        };
        let ops: BTreeSet<OpId> = ops.collect();
        tables.open.keys().filter(|op| !ops.contains(op)).copied().collect()
    }

    pub(crate) fn list(&self) -> Vec<(OpId, PublishKey, Option<Outcome>)> {
        let Some(tables) = &self.0 else { return Vec::new() };
        let open = tables.open.iter().map(|(op, key)| (*op, key.clone(), None));
        let ended = tables.ended.iter().map(|(op, (key, outcome))| (*op, key.clone(), Some(outcome.clone())));
        let mut list: Vec<_> = open.chain(ended).collect();
        list.sort_by_key(|(op, ..)| *op);
        list
    }

    pub(crate) fn memory_used(&self) -> usize {
        self.0.as_ref().map_or(0, |tables| tables.bytes.saturating_add(size_of::<Tables>()))
    }
}

impl Tables {
    fn drop_key(&mut self, key: &PublishKey) {
        if self.ops.remove(key).is_some() {
            self.bytes = self.bytes.saturating_sub(cost(key));
        }
    }
}

fn cost(key: &PublishKey) -> usize {
    key.as_bytes().len().saturating_mul(2).saturating_add(ENTRY)
}
