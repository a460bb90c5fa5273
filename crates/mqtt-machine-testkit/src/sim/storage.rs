//! Owns where the records of a simulated client are kept, and what a power cut leaves of them. It must not know who reads them.

use core::fmt;
use std::collections::BTreeMap;

use bytes::Bytes;
use mqtt_machine::journal::{self, Record};

use crate::random::Random;

/// A store under the simulator. Records come in batches; a batch is durable when [`apply`](Self::apply) has returned.
pub trait Storage: fmt::Debug {
    /// Keeps a batch.
    ///
    /// # Errors
    /// What went wrong, which nothing may in a simulation.
    fn apply(&mut self, records: &[Record]) -> Result<(), String>;

    /// The power is cut while this batch is being kept: whatever was not durable is lost or torn, as chance has it.
    fn cut(&mut self, records: &[Record], random: &mut Random);

    /// What is there after the power came back.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn rows(&mut self) -> Result<BTreeMap<Bytes, Bytes>, String>;
}

/// The rows of these records, on top of others.
pub fn fold(table: &mut BTreeMap<Bytes, Bytes>, records: &[Record]) {
    for record in records {
        journal::changes(record, &mut |change| change.apply(table));
    }
}

/// A store that is a table in memory: a cut leaves all of a batch or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct InMemory {
    table: BTreeMap<Bytes, Bytes>,
}

impl Storage for InMemory {
    fn apply(&mut self, records: &[Record]) -> Result<(), String> {
        fold(&mut self.table, records);
        Ok(())
    }

    fn cut(&mut self, records: &[Record], random: &mut Random) {
        if random.one_in(2) {
            fold(&mut self.table, records);
        }
    }

    fn rows(&mut self) -> Result<BTreeMap<Bytes, Bytes>, String> {
        Ok(self.table.clone())
    }
}
