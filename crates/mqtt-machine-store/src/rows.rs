//! Owns how the rows of several clients stand in one table: behind the length of a name, and the name.
//! It must not know what is in a row.

use std::time::{Duration, SystemTime};

use mqtt_machine_client::store::StoreError;
use redb::TableDefinition;

/// The rows of all clients.
pub(crate) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("mqtt-machine rows");
/// The clients by name, with the time of their last change in microseconds since 1970.
pub(crate) const CLIENTS: TableDefinition<'_, &str, u64> = TableDefinition::new("mqtt-machine clients");
/// What the file is: its schema.
pub(crate) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("mqtt-machine");

/// What stands before every row of a client.
pub(crate) fn prefix(name: &str) -> Result<Vec<u8>, StoreError> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| {
        StoreError::Foreign(format!("the name of a client has 1 to 255 bytes, not {}", name.len()))
    })?;
    Ok([&[length], name.as_bytes()].concat())
}

pub(crate) fn key(prefix: &[u8], row: &[u8]) -> Vec<u8> {
    [prefix, row].concat()
}

/// The first key behind all that begin with `prefix`; `None`: there is none.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        match last.checked_add(1) {
            Some(next) => {
                *last = next;
                return Some(end);
            }
            None => drop(end.pop()),
        }
    }
    None
}

pub(crate) fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn time(micros: u64) -> Option<SystemTime> {
    (micros > 0).then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_of_one_client_is_in_the_range_of_another() {
        let names = ["a", "b", "aa", "\u{7f}", "ab"];
        for one in names {
            let (from, to) = (prefix(one).unwrap(), behind(&prefix(one).unwrap()).unwrap());
            for other in names {
                for row in [&[][..], &[0], &[255, 255]] {
                    let key = key(&prefix(other).unwrap(), row);
                    assert_eq!(key >= from && key < to, one == other, "{one} {other} {row:?}");
                }
            }
        }
        assert_eq!(behind(&[255, 255]), None);
        assert_eq!(behind(&[1, 255]), Some(vec![2]));
        assert!(prefix("").is_err() && prefix(&"x".repeat(256)).is_err());
    }
}
