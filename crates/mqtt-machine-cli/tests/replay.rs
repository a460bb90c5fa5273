//! The replay as a person runs it: what it prints, and its exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::{env, fs};

use mqtt_machine::transcript::{Recorder, Recording};
use mqtt_machine::{Config, Instant, Message, Server};

fn replay(arguments: &[&str], file: &Path) -> Output {
    let command = env!("CARGO_BIN_EXE_mqtt-machine");
    Command::new(command).arg("replay").args(arguments).arg(file).output().expect("the command starts")
}

/// A transcript of three entries in a file of its own.
fn recorded(name: &str) -> (PathBuf, Vec<u8>) {
    let config = Config::new(Server::new("broker:1883")).username_password("somebody", "secret");
    let mut recorder = Recorder::new(Arc::new(config), 1, Instant::ZERO, Some(Recording::new()));
    recorder.connect(Instant::from_micros(7)).unwrap();
    assert!(recorder.poll_action().is_some());
    let _ = recorder.publish(Instant::from_micros(9), Message::to("a/b", "hello").unwrap());
    let bytes = recorder.take_recorded().to_vec();
    let path = env::temp_dir().join(format!("mqtt-machine-{}-{name}.transcript", std::process::id()));
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn every_entry_and_its_outputs_are_printed() {
    let (path, _) = recorded("printed");
    let output = replay(&[], &path);
    fs::remove_file(&path).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    for shown in [
        "a machine of seed 1, new at 0.000000s; secrets are placeholders",
        "client_id: \"\"",
        "     0  0.000007s  Command(Connect)",
        "        -> OpenTransport { id: TransportId(1), server: Server(\"broker:1883\") }",
        "Publish(Message { topic: \"a/b\", payload: b\"hello\"",
        "accepted as 1; deadline 10.000007s",
        "3 entries, and every output is as it was recorded",
    ] {
        assert!(printed.contains(shown), "nothing shows {shown:?}:\n{printed}");
    }
    assert!(!printed.contains("somebody"));
}

#[test]
fn the_first_difference_is_told_and_can_be_renewed() {
    let (path, bytes) = recorded("difference");
    let mut changed = bytes.clone();
    // The number of events that wait behind the last entry.
    *changed.last_mut().unwrap() += 1;
    fs::write(&path, &changed).unwrap();
    for arguments in [&[][..], &["--quiet"]] {
        let output = replay(arguments, &path);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with("error: entry 2 at 0.000009s differs in the number of events:"), "{error}");
        assert_eq!(output.stdout.is_empty(), !arguments.is_empty());
    }
    assert!(replay(&["--renew"], &path).status.success());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let output = replay(&["--quiet"], &path);
    assert!(output.status.success() && output.stdout.is_empty());
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_is_no_transcript_is_an_error() {
    let output = replay(&[], Path::new(env!("CARGO_MANIFEST_PATH")));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: behind 0 bytes: this is no transcript\n");
    let output = replay(&[], Path::new("there is no such file"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no such file: "));
}
