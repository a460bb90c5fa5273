//! Owns a store that is only memory. It must not know sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::{Change, Kept, Store, StoreError};

/// A store in memory, for tests and as an example: it outlives a client, not the process. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Bytes, Bytes>,
    at: Option<SystemTime>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).rows.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Kept, StoreError> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = table.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Kept { rows, at: table.at })
    }

    fn apply(&mut self, changes: &[Change], at: SystemTime) -> Result<(), StoreError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            change.clone().apply(&mut table.rows);
        }
        table.at = Some(at);
        Ok(())
    }
}
