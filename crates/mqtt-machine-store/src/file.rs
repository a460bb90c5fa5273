//! Owns the file: how one begins, how it is opened, and the store of each client in it. It must not know records.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use mqtt_machine_client::store::{Change, Kept, Store, StoreError};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, Table};

use crate::error::{self, SCHEMA};
use crate::rows::{self, CLIENTS, META, ROWS};

/// Memory for pages, in bytes. What is owed is read once, when a client begins, so more would do nothing.
const CACHE: usize = 1 << 20;
const SCHEMA_KEY: &str = "schema";

/// A file with the sessions of one or more clients. One process has it at a time; clones are the same file.
#[derive(Clone, Debug)]
pub struct StoreFile {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    database: Held,
    /// Clients that have a store in this process.
    taken: Mutex<BTreeSet<String>>,
}

/// The database, closed when this is dropped, whatever its pages are by then.
#[derive(Debug)]
struct Held(Option<Database>);

impl Drop for Held {
    fn drop(&mut self) {
        let database = self.0.take();
        // Who opens the file next is told.
        let _ = error::guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Shared {
    fn database(&self) -> Result<&Database, StoreError> {
        self.database.0.as_ref().ok_or_else(|| StoreError::Io("the file is closed".to_owned()))
    }

    /// Reads every page, and mends what can be.
    pub(crate) fn check_integrity(&mut self) -> Result<(), StoreError> {
        let Some(database) = &mut self.database.0 else { return Ok(()) };
        error::guarded(|| database.check_integrity().map_err(error::of_open))?;
        Ok(())
    }
}

impl StoreFile {
    /// Opens a file; makes one where there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a file that is damaged or empty, [`StoreError::Foreign`] for one that is none of ours,
    /// [`StoreError::Version`] for one of a newer library, [`StoreError::InUse`] when another process has it. The file is
    /// left as it is, but for the end of a write that a crash interrupted, which is taken back.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if !path.try_exists().map_err(error::of_io)? {
            Self::create(path)?;
        }
        Self::open_existing(path)
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::Io`] when there is none.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        // To redb an empty file is a new one; here it is one whose content is gone.
        if fs::metadata(path).map_err(error::of_io)?.len() == 0 {
            let what = "the file is empty; if nothing was ever kept in it, remove it";
            return Err(StoreError::Corrupt(what.to_owned()));
        }
        let file = Self::of(error::guarded(|| builder().open(path).map_err(error::of_open))?);
        error::guarded(|| file.check_schema())?;
        Ok(file)
    }

    /// A store over a place of your own for bytes: a device, or a simulation. An empty one is made a store.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn over(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let is_new = backend.len().map_err(|error| StoreError::Io(error.to_string()))? == 0;
        let database = error::guarded(|| builder().create_with_backend(backend).map_err(error::of_open))?;
        let file = Self::of(database);
        error::guarded(|| {
            if is_new {
                file.begin()?;
            }
            file.check_schema()
        })?;
        Ok(file)
    }

    fn of(database: Database) -> Self {
        Self { shared: Arc::new(Shared { database: Held(Some(database)), taken: Mutex::default() }) }
    }

    /// Makes a file beside its place and moves it there when it is whole: there is never a part of one.
    fn create(path: &Path) -> Result<(), StoreError> {
        let fresh = beside(path, ".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error::of_io(error)),
            _ => {}
        }
        let file = Self::of(builder().create(&fresh).map_err(error::of_open)?);
        file.begin()?;
        drop(file);
        fs::rename(&fresh, path).map_err(error::of_io)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The name is durable when its folder is; not every system can open a folder.
        if let Ok(folder) = File::open(folder.unwrap_or_else(|| Path::new("."))) {
            folder.sync_all().map_err(error::of_io)?;
        }
        Ok(())
    }

    fn begin(&self) -> Result<(), StoreError> {
        let transaction = self.shared.database()?.begin_write().map_err(error::of_transaction)?;
        {
            transaction.open_table(ROWS).map_err(error::of_table)?;
            transaction.open_table(CLIENTS).map_err(error::of_table)?;
            let mut meta = transaction.open_table(META).map_err(error::of_table)?;
            meta.insert(SCHEMA_KEY, SCHEMA).map_err(error::of_storage)?;
        }
        transaction.commit().map_err(error::of_commit)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let transaction = self.shared.database()?.begin_read().map_err(error::of_transaction)?;
        let meta = transaction.open_table(META).map_err(error::of_table)?;
        let found = meta.get(SCHEMA_KEY).map_err(error::of_storage)?.map(|found| found.value());
        match found {
            Some(found) if (1..=SCHEMA).contains(&found) => Ok(()),
            Some(found) => Err(StoreError::Version { found, supported: SCHEMA }),
            None => Err(StoreError::Foreign("a database that does not say which schema it has".to_owned())),
        }
    }

    /// The names of the clients that have kept anything in it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn clients(&self) -> Result<Vec<String>, StoreError> {
        error::guarded(|| {
            let transaction = self.shared.database()?.begin_read().map_err(error::of_transaction)?;
            let clients = transaction.open_table(CLIENTS).map_err(error::of_table)?;
            let names = clients.iter().map_err(error::of_storage)?;
            let name = |entry: Result<(redb::AccessGuard<'_, &str>, _), _>| {
                entry.map(|(name, _)| name.value().to_owned())
            };
            names.map(|entry| name(entry).map_err(error::of_storage)).collect()
        })
    }

    /// The store of one client, for [`Options::store`](mqtt_machine_client::Options::store). The name, 1 to 255 bytes, is the file's
    /// own; the client identifier is a good one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another client of this process has it; [`StoreError::Foreign`] for a name of another length.
    pub fn client(&self, name: &str) -> Result<ClientStore, StoreError> {
        let prefix = rows::prefix(name)?;
        if !self.taken().insert(name.to_owned()) {
            return Err(StoreError::InUse(format!("another client of this process is {name}")));
        }
        Ok(ClientStore { file: self.clone(), name: name.to_owned(), prefix })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// A path with something behind its file name.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(what);
    PathBuf::from(name)
}

/// The store of one client in a [`StoreFile`]. Each [`apply`](Store::apply) is one transaction and one sync.
#[derive(Debug)]
pub struct ClientStore {
    file: StoreFile,
    name: String,
    prefix: Vec<u8>,
}

impl ClientStore {
    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn read(&self) -> Result<Kept, StoreError> {
        let transaction = self.file.shared.database()?.begin_read().map_err(error::of_transaction)?;
        let table = transaction.open_table(ROWS).map_err(error::of_table)?;
        let mut kept = Kept::default();
        for row in table.range(self.prefix.as_slice()..).map_err(error::of_storage)? {
            let (key, value) = row.map_err(error::of_storage)?;
            let Some(key) = key.value().strip_prefix(self.prefix.as_slice()).map(Bytes::copy_from_slice)
            else {
                break;
            };
            kept.rows.push((key, Bytes::copy_from_slice(value.value())));
        }
        let clients = transaction.open_table(CLIENTS).map_err(error::of_table)?;
        let at = clients.get(self.name.as_str()).map_err(error::of_storage)?;
        kept.at = at.and_then(|at| rows::time(at.value()));
        Ok(kept)
    }

    fn write(&self, changes: &[Change], at: SystemTime) -> Result<(), StoreError> {
        let transaction = self.file.shared.database()?.begin_write().map_err(error::of_transaction)?;
        {
            let mut table = transaction.open_table(ROWS).map_err(error::of_table)?;
            for change in changes {
                carry_out(&mut table, &self.prefix, change).map_err(error::of_storage)?;
            }
            let mut clients = transaction.open_table(CLIENTS).map_err(error::of_table)?;
            clients.insert(self.name.as_str(), rows::micros(at)).map_err(error::of_storage)?;
        }
        transaction.commit().map_err(error::of_commit)
    }
}

impl Drop for ClientStore {
    fn drop(&mut self) {
        self.file.taken().remove(&self.name);
    }
}

impl Store for ClientStore {
    fn load(&mut self) -> Result<Kept, StoreError> {
        error::guarded(|| self.read())
    }

    fn apply(&mut self, changes: &[Change], at: SystemTime) -> Result<(), StoreError> {
        error::guarded(|| self.write(changes, at))
    }
}

fn carry_out(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    prefix: &[u8],
    change: &Change,
) -> Result<(), redb::StorageError> {
    match change {
        Change::Put { key, value } => {
            table.insert(rows::key(prefix, key).as_slice(), value.as_ref())?;
        }
        Change::Remove { key } => {
            table.remove(rows::key(prefix, key).as_slice())?;
        }
        Change::RemoveAll { first_byte } => {
            let from = rows::key(prefix, &[*first_byte]);
            match rows::behind(&from) {
                Some(to) => table.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?,
                None => table.retain_in(from.as_slice().., |_, _| false)?,
            }
        }
    }
    Ok(())
}
