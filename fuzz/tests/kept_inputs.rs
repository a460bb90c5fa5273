//! Every kept input still passes its target, without a fuzzer; and the vectors of the conformance tables pass all targets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mqtt_machine_fuzz::{TARGETS, Target};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The names in a folder, without what comes after a dot.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    entries
        .map(|entry| {
            let path = entry.expect("an entry of a folder").path();
            path.file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_the_other_way_round() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}

#[test]
fn every_kept_input_passes_its_target() {
    for Target { name, body } in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(root().join("corpus").join(name)).expect("a corpus") {
            let path = entry.expect("an entry of a folder").path();
            println!("{name}: {}", path.display());
            body(&fs::read(&path).expect("a kept input"));
            count += 1;
        }
        assert!(count >= 5, "{name} keeps {count} inputs");
    }
}

#[test]
fn every_vector_passes_every_target() {
    let mut count = 0;
    for table in ["valid.tsv", "malformed.tsv"] {
        let path = root().join("../crates/mqtt-machine/tests/conformance").join(table);
        let text = fs::read_to_string(&path).expect("a table of vectors");
        for line in text.lines().skip(1) {
            let hex = line.split('\t').nth(3).expect("a column of bytes");
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"))
                .collect();
            for Target { body, .. } in TARGETS {
                body(&bytes);
                // As a stream after a choice of the version.
                for choice in 0..3 {
                    body(&[&[choice], &bytes[..]].concat());
                }
            }
            count += 1;
        }
    }
    assert_eq!(count, 300);
}
