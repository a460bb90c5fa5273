//! Owns the proof that `--store` keeps what could not be delivered, and that `store` says what is in a file and what is wrong with it.
//! It must not know how the file is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use bytes::Bytes;
use mqtt_machine_store::{Change, Store, StoreFile};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use serde_json::Value;

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mqtt-machine-cli-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.join("sessions.mqtt").to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The exit code, standard output and standard error.
fn ran(arguments: &[&str]) -> (i32, String, String) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A file with a message that nobody took.
fn with_a_message(file: &str) {
    let publish = ["pub", "-p", "1", "-i", "meter-7", "--store", file, "-t", "a/b", "-q", "1", "-m", "21.5"];
    let (code, _, errors) = ran(&[&publish[..], &["--connect-deadline", "1"]].concat());
    assert_eq!(code, 4, "{errors}");
    assert!(errors.contains("1 of them are kept"), "{errors}");
}

fn put(file: &str, key: &'static [u8], value: &'static [u8]) {
    let change = Change::Put { key: Bytes::from_static(key), value: Bytes::from_static(value) };
    StoreFile::open(file).unwrap().client("meter-7").unwrap().apply(&[change], SystemTime::now()).unwrap();
}

fn set_schema(file: &str, schema: u32) {
    let database = redb::Database::open(file).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u32>::new("mqtt-machine");
    transaction.open_table(meta).unwrap().insert("schema", schema).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn what_nobody_took_is_kept_and_delivered_by_the_next_one() {
    let folder = Folder::new("kept");
    let file = folder.file();
    with_a_message(&file);
    let (code, out, _) = ran(&["store", "check", &file]);
    assert_eq!(code, 0);
    assert!(out.starts_with("meter-7: ") && out.contains(": 1 publications are owed"), "{out}");

    let (code, out, _) = ran(&["store", "export", &file]);
    assert_eq!(code, 0);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["client"], &lines[0]["error"]), (&"meter-7".into(), &Value::Null));
    let queued: Vec<_> = lines.iter().filter(|line| line["record"] == "queued").collect();
    assert_eq!(queued.len(), 1, "{out}");
    let message = queued[0];
    assert_eq!(
        (&message["topic"], &message["payload"], &message["qos"]),
        (&"a/b".into(), &"21.5".into(), &1.into())
    );

    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let url = broker.url();
    let next = ["pub", "-L", &url, "-i", "meter-7", "--store", &file, "-t", "a/b", "-q", "1", "-m", "22.0"];
    assert_eq!(ran(&next).0, 0);
    let payloads =
        broker.broker(|broker| ["21.5", "22.0"].map(|text| broker.log().count("a/b", text.as_bytes())));
    assert_eq!(payloads, [1, 1]);
    assert!(ran(&["store", "check", &file]).1.contains(": 0 publications are owed"));
}

#[test]
fn a_row_that_is_damaged_is_told_exported_as_it_is_and_taken_out() {
    let folder = Folder::new("damaged");
    let file = folder.file();
    with_a_message(&file);
    put(&file, &[1], b"torn");
    let (code, out, errors) = ran(&["store", "check", &file]);
    assert_eq!(code, 4);
    assert!(out.contains("the store is damaged") && errors.contains("1 of 1 sessions"), "{out}{errors}");
    let (code, out, _) = ran(&["store", "export", &file]);
    assert_eq!(code, 4);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["value"] == "746f726e" && line["error"].is_string()), "{out}");
    assert!(lines.iter().any(|line| line["payload"] == "21.5"), "the whole ones are there: {out}");
    let (code, out, _) = ran(&["store", "repair", &file]);
    assert_eq!(code, 0);
    assert!(out.contains("meter-7: took out 01") && out.contains("1 rows were taken out"), "{out}");
    assert_eq!(ran(&["store", "check", &file]).0, 0);
    assert_eq!(ran(&["store", "check", &format!("{file}.before-repair")]).0, 4, "the copy is as it was");
    let (code, _, errors) = ran(&["store", "repair", &file]);
    assert_eq!(code, 1);
    assert!(errors.contains("is there already"), "{errors}");
}

/// What each of the commands says of a file that cannot be read: 1, the reason, and nothing on standard output. The file stays.
fn refused(file: &str, why: &str) {
    let before = fs::read(file).ok();
    for action in ["check", "export", "repair"] {
        let (code, out, errors) = ran(&["store", action, file]);
        assert_eq!((code, out.as_str()), (1, ""), "{action}: {errors}");
        assert!(errors.contains(why), "{action}: {errors}");
        let _ = fs::remove_file(format!("{file}.before-repair"));
    }
    assert!(fs::read(file).ok() == before, "the file has changed");
}

#[test]
fn files_that_are_missing_empty_foreign_older_or_newer_are_refused() {
    let folder = Folder::new("refused");
    let file = folder.file();
    refused(&file, "No such file");
    fs::write(&file, "").unwrap();
    refused(&file, "is empty");
    fs::write(&file, "{\"a\": 1}\n".repeat(1_000)).unwrap();
    refused(&file, "no store of sessions");
    let (code, _, errors) = ran(&["pub", "-i", "x", "--store", &file, "-t", "a", "-m", "b"]);
    assert!(code == 1 && errors.contains("no store of sessions"), "{errors}");

    fs::remove_file(&file).unwrap();
    with_a_message(&file);
    for schema in [0, 2] {
        set_schema(&file, schema);
        let (code, _, errors) = ran(&["store", "check", &file]);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(&format!("has version {schema}, and versions 1 to 1 are read")), "{errors}");
    }
    let _open = StoreFile::open(folder.0.join("open.mqtt")).unwrap();
    let (code, _, errors) = ran(&["store", "check", folder.0.join("open.mqtt").to_str().unwrap()]);
    assert!(code == 1 && errors.contains("in use"), "{errors}");
}

#[test]
fn a_file_that_is_cut_off_or_torn_is_refused_or_has_everything() {
    let folder = Folder::new("torn");
    let file = folder.file();
    with_a_message(&file);
    // A process may end before its store is closed; who opens the file next sees to that.
    assert_eq!(ran(&["store", "check", &file]).0, 0);
    let whole = fs::read(&file).unwrap();
    let torn = |part: usize, bytes: &[u8]| {
        let path = folder.0.join(format!("torn-{part}"));
        fs::write(&path, bytes).unwrap();
        path
    };
    let look = |path: &Path| {
        let (code, out, errors) = ran(&["store", "check", path.to_str().unwrap()]);
        match code {
            0 => assert!(out.contains(": 1 publications are owed"), "{out}"),
            1 => assert!(errors.contains("store"), "{errors}"),
            4 => assert!(out.contains("damaged"), "{out}"),
            other => panic!("{other}: {errors}"),
        }
        code
    };
    let mut codes = Vec::new();
    for part in 1..12 {
        codes.push(look(&torn(part, &whole[..whole.len() * part / 12])));
        // A run of zeroes where a page was not written.
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 12;
        let end = (at + 4_096).min(bytes.len());
        bytes[at..end].fill(0);
        codes.push(look(&torn(100 + part, &bytes)));
    }
    assert!(codes.contains(&1), "nothing was found: {codes:?}");
}
