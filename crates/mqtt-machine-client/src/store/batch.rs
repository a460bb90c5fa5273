//! Owns what many records change together: one change of each row, whatever it went through in between.
//! It must not know when it is applied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mqtt_machine::journal::{self, Change, Record};

/// The sum of changes that were not applied yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Kinds of rows that are emptied before the rest.
    emptied: BTreeSet<u8>,
    /// The last change of each row; `None` removes it.
    rows: BTreeMap<Bytes, Option<Bytes>>,
}

impl Batch {
    pub(crate) fn add(&mut self, record: &Record) {
        journal::changes(record, &mut |change| match change {
            Change::Put { key, value } => {
                self.rows.insert(key, Some(value));
            }
            Change::Remove { key } => {
                self.rows.insert(key, None);
            }
            Change::RemoveAll { first_byte } => {
                self.rows.retain(|key, _| key.first() != Some(&first_byte));
                self.emptied.insert(first_byte);
            }
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.emptied.is_empty()
    }

    /// The changes in an order that means the same, sorted by key, since neighbours are cheap to write together.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let emptied = std::mem::take(&mut self.emptied).into_iter();
        let emptied = emptied.map(|first_byte| Change::RemoveAll { first_byte });
        let rows = std::mem::take(&mut self.rows).into_iter().map(|(key, value)| match value {
            Some(value) => Change::Put { key, value },
            None => Change::Remove { key },
        });
        emptied.chain(rows).collect()
    }
}
