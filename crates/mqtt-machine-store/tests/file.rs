//! What a file of sessions is when it is whole, and what is said of it when it is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mqtt_machine::journal::{self, Record};
use mqtt_machine::{Message, OpId, PacketId, QoS};
use mqtt_machine_store::{Change, Findings, Store, StoreError, StoreFile};

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mqtt-machine-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions.mqtt")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn queued(op: u64) -> Record {
    let message = Message::to("a/b", vec![7; 300]).unwrap().qos(QoS::AtLeastOnce);
    Record::Queued { op: OpId::new(op), message }
}

fn keep(file: &StoreFile, name: &str, records: &[Record]) {
    let mut changes = Vec::new();
    records.iter().for_each(|record| journal::changes(record, &mut |change| changes.push(change)));
    file.client(name).unwrap().apply(&changes, SystemTime::now()).unwrap();
}

fn kept(file: &StoreFile, name: &str) -> Vec<Record> {
    journal::records(file.client(name).unwrap().load().unwrap().rows).unwrap()
}

fn with_a_message(path: &Path) {
    let file = StoreFile::open(path).unwrap();
    keep(&file, "one", &(1..=20).map(queued).collect::<Vec<_>>());
}

#[test]
fn several_clients_share_a_file_and_none_sees_or_changes_anothers() {
    let folder = Folder::new("share");
    let file = StoreFile::open(folder.file()).unwrap();
    keep(&file, "one", &[queued(1), queued(2)]);
    keep(&file, "on", &[queued(7), Record::ClientId("on".into())]);
    keep(&file, "one", &[Record::Discarded { op: OpId::new(1) }, Record::SessionBegan { identity: 3 }]);
    let all = Change::RemoveAll { first_byte: 3 };
    file.client("third").unwrap().apply(&[all], SystemTime::now()).unwrap();
    drop(file);
    let file = StoreFile::open(folder.file()).unwrap();
    assert_eq!(file.clients().unwrap(), ["on", "one", "third"]);
    assert_eq!(kept(&file, "one"), [Record::SessionBegan { identity: 3 }, queued(2)]);
    assert_eq!(kept(&file, "on"), [Record::ClientId("on".into()), queued(7)]);
    let first = file.client("one").unwrap();
    assert!(matches!(file.client("one"), Err(StoreError::InUse(_))));
    drop(first);
    let at = file.client("one").unwrap().load().unwrap().at.unwrap();
    assert!(SystemTime::now().duration_since(at).unwrap() < Duration::from_secs(60));
}

#[test]
fn a_file_that_is_open_elsewhere_is_in_use() {
    let folder = Folder::new("open");
    let _file = StoreFile::open(folder.file()).unwrap();
    assert!(matches!(StoreFile::open(folder.file()), Err(StoreError::InUse(_))));
}

#[test]
fn files_that_are_none_of_ours_are_errors_and_stay_as_they_are() {
    let folder = Folder::new("foreign");
    let path = folder.file();
    assert!(matches!(StoreFile::open_existing(&path), Err(StoreError::Io(_))));
    fs::write(&path, "").unwrap();
    assert!(matches!(StoreFile::open(&path), Err(StoreError::Corrupt(_))));
    let text = "{\"a\": 1}\n".repeat(1_000);
    fs::write(&path, &text).unwrap();
    assert!(matches!(StoreFile::open(&path), Err(StoreError::Foreign(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::remove_file(&path).unwrap();
    // A database of somebody else's.
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(StoreFile::open(&path), Err(StoreError::Foreign(_))));
}

#[test]
fn a_file_of_a_newer_schema_is_named_with_its_version() {
    let folder = Folder::new("newer");
    let path = folder.file();
    with_a_message(&path);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u32>::new("mqtt-machine");
    transaction.open_table(meta).unwrap().insert("schema", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = StoreFile::open(&path).unwrap_err();
    assert_eq!(error, StoreError::Version { found: 2, supported: 1 });
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_an_error_or_has_everything() {
    let folder = Folder::new("cut");
    let path = folder.file();
    with_a_message(&path);
    let whole = fs::read(&path).unwrap();
    let torn = folder.0.join("torn");
    for part in 1..40 {
        let length = whole.len() * part / 40;
        fs::write(&torn, &whole[..length]).unwrap();
        match StoreFile::open(&torn).and_then(|file| file.inspect("one")) {
            Ok(findings) => assert_eq!(findings.records.len(), 20, "cut to {length} bytes"),
            Err(error) => assert!(
                matches!(error, StoreError::Corrupt(_) | StoreError::Foreign(_) | StoreError::Io(_)),
                "{error:?}"
            ),
        }
    }
}

#[test]
fn a_page_that_was_overwritten_anywhere_is_an_error_or_harmless_and_never_a_panic() {
    let folder = Folder::new("pages");
    let path = folder.file();
    with_a_message(&path);
    let whole = fs::read(&path).unwrap();
    let torn = folder.0.join("torn");
    let mut refused = 0;
    for (at, length, byte) in (0..whole.len()).step_by(1_024).flat_map(|at| [(at, 512, 0), (at, 4_096, 0xA5)])
    {
        let mut bytes = whole.clone();
        let end = (at + length).min(bytes.len());
        bytes[at..end].fill(byte);
        fs::write(&torn, &bytes).unwrap();
        let found = StoreFile::open(&torn).and_then(|file| {
            let found = file.inspect("one")?;
            // What can be read can be written, or says why not.
            keep_or_say(&file)?;
            Ok(found)
        });
        match found {
            Ok(Findings { session: Ok(_), records, .. }) => {
                assert_eq!(records.len(), 20, "{length} bytes at {at}");
            }
            Ok(_) => refused += 1,
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(
                        error,
                        StoreError::Corrupt(_)
                            | StoreError::Foreign(_)
                            | StoreError::Io(_)
                            | StoreError::Version { .. }
                    ),
                    "{length} bytes at {at}: {error:?}"
                );
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

fn keep_or_say(file: &StoreFile) -> Result<(), StoreError> {
    let mut changes = Vec::new();
    journal::changes(&queued(99), &mut |change| changes.push(change));
    file.client("one")?.apply(&changes, SystemTime::now())
}

#[test]
fn a_byte_that_has_changed_in_a_record_is_seen_and_a_repair_takes_only_that_row() {
    let folder = Folder::new("flip");
    let path = folder.file();
    with_a_message(&path);
    let mut bytes = fs::read(&path).unwrap();
    // The payload of one message, which no checksum of the database is looked at for in passing.
    let run = bytes.windows(300).rposition(|window| window.iter().all(|byte| *byte == 7)).unwrap();
    bytes[run + 150] = 8;
    fs::write(&path, &bytes).unwrap();
    let findings = StoreFile::check(&path);
    let seen = match &findings {
        Ok(findings) => findings.iter().any(|one| matches!(one.session, Err(StoreError::Row(_)))),
        Err(error) => matches!(error, StoreError::Corrupt(_)),
    };
    assert!(seen, "{findings:?}");
}

#[test]
fn a_repair_takes_out_what_is_no_record_and_what_does_not_follow_and_keeps_a_copy() {
    let folder = Folder::new("repair");
    let path = folder.file();
    with_a_message(&path);
    let file = StoreFile::open(&path).unwrap();
    let key = Bytes::from_static(&[1]);
    let torn = Change::Put { key, value: Bytes::from_static(b"torn") };
    file.client("one").unwrap().apply(&[torn], SystemTime::now()).unwrap();
    let stray = Record::Assigned { op: OpId::new(99), packet_id: PacketId::new(1).unwrap() };
    keep(&file, "one", &[stray]);
    keep(&file, "two", &[queued(1)]);
    drop(file);
    let findings = StoreFile::check(&path).unwrap();
    assert!(findings[0].session.is_err() && findings[1].session.is_ok());
    let (copy, removed) = StoreFile::repair(&path).unwrap();
    let names: Vec<_> = removed.iter().map(|row| (row.name.as_str(), row.key[0])).collect();
    assert_eq!(names, [("one", 1), ("one", 4)]);
    let findings = StoreFile::check(&path).unwrap();
    assert_eq!(findings[0].session.as_ref().unwrap().publications.len(), 20);
    assert!(StoreFile::check(&copy).unwrap()[0].session.is_err(), "the copy is as it was");
    assert!(matches!(StoreFile::repair(&path), Err(StoreError::InUse(_))), "a copy is not overwritten");
}
