//! Owns what an error of the database means to who has a file of sessions. It must not know when it happened.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mqtt_machine_client::store::StoreError;
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// The version of the tables, beside which the records have their own.
pub(crate) const SCHEMA: u32 = 1;

/// What `work` on the database gives. redb trusts the pages of a file that was closed properly, and panics at one that has been
/// overwritten since: here that is an error like others.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let damaged = |_| Err(StoreError::Corrupt("a page of the file is not what it was written as".to_owned()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

pub(crate) fn of_io(error: io::Error) -> StoreError {
    match error.kind() {
        // redb's word for a file that does not begin as its own do.
        ErrorKind::InvalidData => StoreError::Foreign(error.to_string()),
        ErrorKind::UnexpectedEof => StoreError::Corrupt(format!("the file is cut off: {error}")),
        _ => error.into(),
    }
}

pub(crate) fn of_storage(error: StorageError) -> StoreError {
    match error {
        StorageError::Io(error) => of_io(error),
        StorageError::Corrupted(what) => StoreError::Corrupt(what),
        other => StoreError::Io(other.to_string()),
    }
}

pub(crate) fn of_open(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse(error.to_string())
        }
        DatabaseError::UpgradeRequired(found) => {
            StoreError::Version { found: found.into(), supported: SCHEMA }
        }
        DatabaseError::Storage(error) => of_storage(error),
        other => StoreError::Io(other.to_string()),
    }
}

pub(crate) fn of_transaction(error: TransactionError) -> StoreError {
    match error {
        TransactionError::Storage(error) => of_storage(error),
        other => StoreError::Io(other.to_string()),
    }
}

pub(crate) fn of_table(error: TableError) -> StoreError {
    match error {
        TableError::Storage(error) => of_storage(error),
        TableError::TableDoesNotExist(table) => {
            StoreError::Foreign(format!("a database without the table {table}"))
        }
        other => StoreError::Foreign(other.to_string()),
    }
}

pub(crate) fn of_commit(error: CommitError) -> StoreError {
    match error {
        CommitError::Storage(error) => of_storage(error),
        other => StoreError::Io(other.to_string()),
    }
}
