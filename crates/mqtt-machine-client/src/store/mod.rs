//! Owns what a store of sessions must do, what can go wrong with it, and when it does it. It must not know where rows are kept.
//!
//! A [`Store`] keeps the rows of one client: keys and values of bytes that the core's [`journal`] makes and
//! reads. It is small on purpose, so that it can be written over a database, flash or a remote log; `mqtt-machine-store` has
//! one in a file.
//!
//! ```
//! use mqtt_machine_client::store::MemoryStore;
//! use mqtt_machine_client::{Durability, Options};
//! use std::time::Duration;
//!
//! let options = Options::from_url("mqtt://broker.example?client_id=meter-7")?
//!     .store(MemoryStore::new())
//!     .durability(Durability::Within(Duration::from_millis(5)));
//! # Ok::<(), mqtt_machine_client::EndpointError>(())
//! ```

mod batch;
mod keeper;
mod memory;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
pub use mqtt_machine::RestoreError;
use mqtt_machine::journal::{self, Record};
pub use mqtt_machine::journal::{Change, RowError};

pub(crate) use keeper::{Keeper, News};
pub use memory::MemoryStore;

/// Where the session of one client is kept. Its calls may block: they are made on a thread of their own, one at a time, but for
/// [`load`](Self::load), which is made once, first, by whoever makes the client.
pub trait Store: Send {
    /// Every row, in any order, and when the last [`apply`](Self::apply) was.
    ///
    /// # Errors
    /// What is wrong; never an empty store in place of one that cannot be read.
    fn load(&mut self) -> Result<Kept, StoreError>;

    /// Carries all changes out in order, or none of them, whatever happens meanwhile. They are durable when it returns: a power cut
    /// takes nothing of them back. `at` is the time of the system's clock, to be kept for [`Kept::at`].
    ///
    /// # Errors
    /// Nothing was changed. It is not called again: the client ends with what has gone wrong.
    fn apply(&mut self, changes: &[Change], at: SystemTime) -> Result<(), StoreError>;
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Keys and values, in any order.
    pub rows: Vec<(Bytes, Bytes)>,
    /// When they were last changed; `None`: never, or nobody knows. Messages that wait expire by it.
    pub at: Option<SystemTime>,
}

/// When what is accepted counts as durable. Nothing of QoS 1 or 2 is sent before, and no outcome of it told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the store can: each [`apply`](Store::apply) takes all that has come while the one before was under way.
    #[default]
    Each,
    /// Within this time: a batch waits so long for more, which costs latency and spares the disk.
    Within(Duration),
    /// When the client ends. Until then nothing waits for the store, **and a crash takes the session back to where it was when this
    /// process began**: messages are lost, or delivered twice. What waits is kept across a restart that is meant.
    OnDrain,
}

/// What is wrong with a store. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room left for it.
    Full(String),
    /// It could not be read or written.
    Io(String),
    /// Another process, or another client, has it.
    InUse(String),
    /// It is no store of sessions.
    Foreign(String),
    /// It was written by another version of the library than those that this one reads.
    Version {
        /// The version that it has.
        found: u32,
        /// The highest that is read.
        supported: u32,
    },
    /// It is damaged: torn, cut off or overwritten.
    Corrupt(String),
    /// A row is not what it was when it was written.
    Row(RowError),
    /// Its rows are no session.
    Session(RestoreError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(what) => write!(f, "there is no room for the store: {what}"),
            Self::Io(what) => write!(f, "the store cannot be read or written: {what}"),
            Self::InUse(what) => write!(f, "the store is in use: {what}"),
            Self::Foreign(what) => write!(f, "this is no store of sessions: {what}"),
            Self::Version { found, supported } => {
                write!(f, "the store has version {found}, and versions 1 to {supported} are read here")
            }
            Self::Corrupt(what) => write!(f, "the store is damaged: {what}"),
            Self::Row(error) => write!(f, "the store is damaged: {error}"),
            Self::Session(error) => write!(f, "the store holds no session: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Row(error) => Some(error),
            Self::Session(error) => Some(error),
            _ => None,
        }
    }
}

/// A full disk is told apart from other errors.
impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }
}

/// The store of these options. It serves one client: the first that is made with them.
#[derive(Clone)]
pub(crate) struct Choice {
    store: Arc<Mutex<Option<Box<dyn Store>>>>,
}

impl Choice {
    pub(crate) fn new(store: impl Store + 'static) -> Self {
        Self { store: Arc::new(Mutex::new(Some(Box::new(store)))) }
    }

    /// The store, and the session in it.
    pub(crate) fn open(&self) -> Result<(Box<dyn Store>, Session), StoreError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut store = store
            .ok_or_else(|| StoreError::InUse("another client was made with the same options".to_owned()))?;
        let Kept { rows, at } = store.load()?;
        let records = journal::records(rows).map_err(StoreError::Row)?;
        // A clock that was set back says nothing.
        let away = at.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
        Ok((store, Session { records, away }))
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").finish_non_exhaustive()
    }
}

/// What a client begins with.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) records: Vec<Record>,
    pub(crate) away: Duration,
}
