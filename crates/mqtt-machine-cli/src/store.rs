//! Owns `store`: what is in a file of sessions, whether it is whole, and the removal of what is not. It must not know how the file is
//! built.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use mqtt_machine::Message;
use mqtt_machine::journal::{self, Record};
use mqtt_machine_store::{Findings, Store, StoreFile};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::subscribe::format::{hex, properties_of};

/// What `store` is told.
#[derive(Args)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say what each client has in a file, and whether it is a session; 4 when one is not
    Check(Place),
    /// Print everything in a file as lines of JSON, one for each client and each record; 4 when a row is no record
    Export(Place),
    /// Take out what keeps a client's part from being a session, with a copy of the file as it was beside it
    Repair(Place),
}

#[derive(Args)]
struct Place {
    /// The file; no client may have it open
    file: PathBuf,
}

/// Looks into a file, or repairs it. An error is a file that cannot be read at all, which is left as it is.
pub(crate) fn run(arguments: &StoreArguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Check(Place { file }) => check(file),
        Action::Export(Place { file }) => export(file),
        Action::Repair(Place { file }) => repair(file),
    }
}

fn unreadable(path: &Path) -> impl Fn(mqtt_machine_store::StoreError) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::Other(format!("{path}: {error}"))
}

fn check(path: &Path) -> Result<(), Failure> {
    let findings = StoreFile::check(path).map_err(unreadable(path))?;
    for one in &findings {
        println!("{}: {}", one.name, describe(one));
    }
    let damaged = findings.iter().filter(|one| one.session.is_err()).count();
    match damaged {
        0 => Ok(()),
        damaged => Err(Failure::Refused(format!("{damaged} of {} sessions are damaged", findings.len()))),
    }
}

/// A client's part, in a line.
fn describe(one: &Findings) -> String {
    let what = match &one.session {
        Err(error) => return format!("{} rows, {} bytes: {error}", one.rows, one.bytes),
        Ok(session) => session,
    };
    let sent = what.publications.iter().filter(|(_, id, _)| id.is_some()).count();
    format!(
        "{} rows, {} bytes, changed {}: {} publications are owed, {sent} of them in the window; \
         {} messages of QoS 2 have come and wait for PUBREL; {} subscriptions; {} keys",
        one.rows,
        one.bytes,
        one.at.map_or_else(|| "never".to_owned(), time),
        what.publications.len(),
        what.received.len(),
        what.subscriptions.len(),
        what.keyed.len()
    )
}

fn time(at: std::time::SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|error| error.to_string(), |at| at.to_string())
}

fn export(path: &Path) -> Result<(), Failure> {
    let failed = unreadable(path);
    let file = StoreFile::open_existing(path).map_err(&failed)?;
    let mut out = std::io::stdout().lock();
    let mut damaged = 0;
    for name in file.clients().map_err(&failed)? {
        let findings = file.inspect(&name).map_err(&failed)?;
        let session = findings.session.err().map(|error| error.to_string());
        let at = findings.at.map(time);
        writeln!(
            out,
            "{}",
            json!({ "client": name, "rows": findings.rows, "changed": at, "error": session })
        )?;
        for (key, value) in file.client(&name).and_then(|mut store| store.load()).map_err(&failed)?.rows {
            let lines = match journal::records([(&key, &value)]) {
                Ok(records) => records.iter().map(|record| fields(&name, record)).collect(),
                Err(error) => {
                    damaged += 1;
                    let (key, value) = (hex(&key), hex(&value));
                    vec![json!({ "client": name, "key": key, "value": value, "error": error.to_string() })]
                }
            };
            for line in lines {
                writeln!(out, "{line}")?;
            }
        }
    }
    match damaged {
        0 => Ok(()),
        damaged => Err(Failure::Refused(format!("{damaged} rows are damaged"))),
    }
}

/// A record as a line.
fn fields(client: &str, record: &Record) -> Value {
    let (name, more) = match record {
        Record::ClientId(id) => ("client_id", json!({ "id": id })),
        Record::SessionBegan { identity } => ("session", json!({ "identity": format!("{identity:016x}") })),
        Record::Reserved { op } => ("reserved", json!({ "op": op.to_u64() })),
        Record::Queued { op, message } => ("queued", publication(op.to_u64(), message)),
        Record::Assigned { op, packet_id } => {
            ("assigned", json!({ "op": op.to_u64(), "packet_id": packet_id.to_u16() }))
        }
        Record::Released { op, packet_id, .. } => {
            ("released", json!({ "op": op.to_u64(), "packet_id": packet_id.to_u16() }))
        }
        Record::Keyed { op, key, outcome } => {
            let outcome = outcome.as_ref().map(|outcome| format!("{outcome:?}"));
            ("keyed", json!({ "op": op.to_u64(), "key": hex(key.as_bytes()), "outcome": outcome }))
        }
        Record::Downgraded { op, qos } => ("downgraded", json!({ "op": op.to_u64(), "qos": qos.to_u8() })),
        Record::Received { packet_id, generation } => {
            ("received", json!({ "packet_id": packet_id.to_u16(), "generation": generation }))
        }
        Record::Completed { packet_id, generation } => {
            ("completed", json!({ "packet_id": packet_id.to_u16(), "generation": generation }))
        }
        Record::Subscribed { subscription, identifier } => (
            "subscribed",
            json!({
                "filter": subscription.filter.as_str(),
                "qos": subscription.options.qos.to_u8(),
                "identifier": identifier,
            }),
        ),
        // A row of a later library, or of a record that leaves none.
        other => ("other", json!({ "is": format!("{other:?}") })),
    };
    let mut line = Map::new();
    line.insert("client".to_owned(), client.into());
    line.insert("record".to_owned(), name.into());
    if let Value::Object(more) = more {
        line.extend(more);
    }
    line.into()
}

fn publication(op: u64, message: &Message) -> Value {
    let (name, payload) = match std::str::from_utf8(&message.payload) {
        Ok(text) => ("payload", text.to_owned()),
        Err(_) => ("payload_hex", hex(&message.payload)),
    };
    json!({
        "op": op,
        "topic": message.topic.as_str(),
        "qos": message.qos.to_u8(),
        "retain": message.retain,
        "properties": properties_of(message),
        name: payload,
    })
}

fn repair(path: &Path) -> Result<(), Failure> {
    let (copy, removed) = StoreFile::repair(path).map_err(unreadable(path))?;
    println!("the file as it was is {}", copy.display());
    for row in &removed {
        println!("{}: took out {}: {}", row.name, hex(&row.key), row.why);
    }
    println!("{} rows were taken out", removed.len());
    Ok(())
}
