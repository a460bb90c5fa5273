//! Owns the keys that users gave to publications, and how those that have ended did. It must not know why they end.

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

#[derive(Clone, Debug, Default)]
pub(crate) struct Keyed {
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
        self.ops.is_empty()
    }

    pub(crate) fn op_of(&self, key: &PublishKey) -> Option<OpId> {
        self.ops.get(key).copied()
    }

    pub(crate) fn known(&self, key: &PublishKey) -> Option<Known> {
        let op = self.op_of(key)?;
        Some(match self.ended.get(&op) {
            Some((_, outcome)) => Known::Ended(op, outcome.clone()),
            None => Known::Open(op),
        })
    }

    /// The key of a publication that has not ended.
    pub(crate) fn key_of(&self, op: OpId) -> Option<&PublishKey> {
        self.open.get(&op)
    }

    /// The oldest outcome, when there are `most` or more.
    pub(crate) fn too_many(&self, most: usize) -> Option<OpId> {
        let (op, _) = self.ended.first_key_value()?;
        (self.ended.len() >= most).then_some(*op)
    }

    pub(crate) fn was_told(&self, op: OpId) -> bool {
        self.told.contains(&op)
    }

    /// The command has ended, though the session still owes the publication.
    pub(crate) fn tell(&mut self, op: OpId) {
        if self.open.contains_key(&op) {
            self.told.insert(op);
        }
    }

    pub(crate) fn apply(&mut self, op: OpId, key: PublishKey, outcome: Option<Outcome>) {
        if self.ops.insert(key.clone(), op).is_none() {
            self.bytes = self.bytes.saturating_add(cost(&key));
        }
        match outcome {
            None => {
                self.open.insert(op, key);
            }
            Some(outcome) => {
                self.open.remove(&op);
                self.told.remove(&op);
                self.ended.insert(op, (key, outcome));
            }
        }
    }

    /// A publication has ended: without an outcome its key is not known any more.
    pub(crate) fn ended(&mut self, op: OpId) {
        self.told.remove(&op);
        if let Some(key) = self.open.remove(&op) {
            self.drop_key(&key);
        }
    }

    /// Nobody asks for this publication any more: it has ended, or never was.
    pub(crate) fn forget(&mut self, op: OpId) {
        match self.ended.remove(&op) {
            Some((key, _)) => self.drop_key(&key),
            None => self.ended(op),
        }
    }

    fn drop_key(&mut self, key: &PublishKey) {
        if self.ops.remove(key).is_some() {
            self.bytes = self.bytes.saturating_sub(cost(key));
        }
    }

    /// Keys of publications that are none of these: a crash kept the record of the key and not that of the message.
    pub(crate) fn stray(&self, ops: impl Iterator<Item = OpId>) -> Vec<OpId> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let ops: BTreeSet<OpId> = ops.collect();
        self.open.keys().filter(|op| !ops.contains(op)).copied().collect()
    }

    pub(crate) fn list(&self) -> Vec<(OpId, PublishKey, Option<Outcome>)> {
        let open = self.open.iter().map(|(op, key)| (*op, key.clone(), None));
        let ended = self.ended.iter().map(|(op, (key, outcome))| (*op, key.clone(), Some(outcome.clone())));
        let mut list: Vec<_> = open.chain(ended).collect();
        list.sort_by_key(|(op, ..)| *op);
        list
    }

    pub(crate) const fn memory_used(&self) -> usize {
        self.bytes
    }
}

fn cost(key: &PublishKey) -> usize {
    key.as_bytes().len().saturating_mul(2).saturating_add(ENTRY)
}
