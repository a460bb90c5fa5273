//! Owns the look into a file from outside: what is in it, what is wrong with it, and the removal of what is.
//! It must not know how it is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mqtt_machine::journal::{self, Record, RecordError};
use mqtt_machine::{Config, Instant, Machine, Server, SessionSnapshot};
use mqtt_machine_client::store::{Change, Kept, RestoreError, Store, StoreError};

use crate::error;
use crate::file::{self, StoreFile};

/// What is in one client's part of a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Findings {
    /// The client's name in the file.
    pub name: String,
    /// How many rows it has.
    pub rows: usize,
    /// Their bytes, keys included.
    pub bytes: usize,
    /// When it last changed anything.
    pub at: Option<SystemTime>,
    /// The records, in an order in which they follow from each other.
    pub records: Vec<Record>,
    /// The session, or what is wrong.
    pub session: Result<SessionSnapshot, StoreError>,
}

/// A row that a repair took out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// Of which client.
    pub name: String,
    /// The row's key.
    pub key: Bytes,
    /// What it held.
    pub value: Bytes,
    /// What was wrong with it.
    pub why: StoreError,
}

/// The session of these records, by the rules of the machine itself.
fn session(records: Vec<Record>) -> Result<SessionSnapshot, RestoreError> {
    let config = Config::new(Server::new("-")).durable(true).into();
    let machine = Machine::restore(config, 0, Instant::ZERO, Duration::ZERO, records)?;
    Ok(machine.session())
}

impl StoreFile {
    /// What one client has in the file, and whether it is a session.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn inspect(&self, name: &str) -> Result<Findings, StoreError> {
        let Kept { rows, at } = self.client(name)?.load()?;
        let bytes = rows.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
        let count = rows.len();
        let (records, session) = match journal::records(rows) {
            Ok(records) => (records.clone(), session(records).map_err(StoreError::Session)),
            Err(error) => (Vec::new(), Err(StoreError::Row(error))),
        };
        Ok(Findings { name: name.to_owned(), rows: count, bytes, at, records, session })
    }

    /// Takes the rows out that keep a client's part from being a session: rows that are no records, then records that do not follow
    /// from the rest.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn repair_client(&self, name: &str) -> Result<Vec<Removed>, StoreError> {
        let mut store = self.client(name)?;
        let Kept { mut rows, at } = store.load()?;
        let mut removed = Vec::new();
        while let Some((key, why)) = first_wrong(&rows) {
            let Some(place) = rows.iter().position(|(known, _)| *known == key) else { break };
            let (key, value) = rows.swap_remove(place);
            removed.push(Removed { name: name.to_owned(), key, value, why });
        }
        let changes: Vec<Change> =
            removed.iter().map(|row| Change::Remove { key: row.key.clone() }).collect();
        if !changes.is_empty() {
            store.apply(&changes, at.unwrap_or(SystemTime::UNIX_EPOCH))?;
        }
        Ok(removed)
    }

    /// Repairs a file: its pages, as far as its checksums allow, then what each client has. The file as it was is kept beside it,
    /// under the path that comes back.
    ///
    /// # Errors
    /// The file cannot be read at all, or copied; then nothing was changed in it.
    pub fn repair(path: impl AsRef<Path>) -> Result<(PathBuf, Vec<Removed>), StoreError> {
        let path = path.as_ref();
        let copy = file::beside(path, ".before-repair");
        if copy.try_exists().map_err(error::of_io)? {
            let what = format!("{} is there already; move it away first", copy.display());
            return Err(StoreError::InUse(what));
        }
        fs::copy(path, &copy).map_err(error::of_io)?;
        let mut file = Self::open_existing(path)?;
        if let Some(shared) = std::sync::Arc::get_mut(&mut file.shared) {
            shared.check_integrity()?;
        }
        let mut removed = Vec::new();
        for name in file.clients()? {
            removed.extend(file.repair_client(&name)?);
        }
        Ok((copy, removed))
    }

    /// Looks through all pages of a file for damage, then at every client.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn check(path: impl AsRef<Path>) -> Result<Vec<Findings>, StoreError> {
        let file = Self::open_existing(path)?;
        file.clients()?.iter().map(|name| file.inspect(name)).collect()
    }
}

/// The first row that keeps these from being a session.
fn first_wrong(rows: &[(Bytes, Bytes)]) -> Option<(Bytes, StoreError)> {
    let mut records = Vec::new();
    for (key, value) in rows {
        match journal::records([(key, value)]) {
            Ok(one) => records.extend(one.into_iter().map(|record| (key.clone(), record))),
            Err(error) => return Some((key.clone(), StoreError::Row(error))),
        }
    }
    let sorted = journal::records(rows.iter().map(|(key, value)| (key, value))).ok()?;
    let error = session(sorted.clone()).err()?;
    let wrong = sorted.get(error.index)?;
    let (key, _) = records.into_iter().find(|(_, record)| record == wrong)?;
    Some((key, StoreError::Session(error)))
}

/// Whether a value is a record, for those who look at rows one by one.
impl Removed {
    /// What the row's bytes are, if they are a record.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn record(&self) -> Result<Record, RecordError> {
        journal::decode(&self.value)
    }
}
