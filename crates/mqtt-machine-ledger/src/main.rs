//! Owns `docs/conformance.md`: which test holds which normative statement of MQTT. It must not know what a test does.
//!
//! A test names the statements that it holds in a comment directly above its attributes:
//!
//! ```text
//! // 5.0: MQTT-3.3.1-2, MQTT-3.3.1-4
//! // 3.1.1: MQTT-3.3.1-2
//! #[test]
//! ```
//!
//! So does a scenario of the testkit's suite for adapters, which has no attribute: every adapter runs it as a test.
//!
//! Without an argument the ledger is written; with `--check` nothing is, and it fails when a statement that binds a client
//! has no test, when a test names what is no statement, or when the file is not what would be written.

mod annotations;
mod ledger;
mod not_held;
mod statements;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annotations::Annotated;
use ledger::Ledger;

/// The file that is written, from the root of the repository.
const LEDGER: &str = "docs/conformance.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => {
            eprintln!("usage: mqtt-machine-ledger [--check]");
            return ExitCode::from(2);
        }
    };
    match run(&root(), check) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(complaints) => {
            for complaint in &complaints {
                eprintln!("{complaint}");
            }
            eprintln!("{} complaints", complaints.len());
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository that this program was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

fn run(root: &Path, check: bool) -> Result<String, Vec<String>> {
    let tests = scan(root)?;
    let ledger = Ledger::new(statements::all(root)?, &tests, not_held::NOT_HELD);
    let complaints = ledger.complaints();
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let (path, text) = (root.join(LEDGER), ledger.render());
    if check {
        if fs::read_to_string(&path).unwrap_or_default() != text {
            return Err(vec![format!("{LEDGER} is stale: run .ci/ledger and commit what it writes")]);
        }
    } else {
        fs::write(&path, text).map_err(|error| vec![format!("{LEDGER}: {error}")])?;
    }
    Ok(ledger.summary())
}

/// Every annotated test in the sources and tests of every crate.
fn scan(root: &Path) -> Result<Vec<Annotated>, Vec<String>> {
    let mut files = Vec::new();
    let crates = root.join("crates");
    for entry in sorted(&crates).map_err(|error| vec![format!("{}: {error}", crates.display())])? {
        for part in ["src", "tests"] {
            collect(&entry.join(part), &mut files);
        }
    }
    let (mut tests, mut complaints) = (Vec::new(), Vec::new());
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        match fs::read_to_string(&path) {
            Ok(text) => annotations::scan(&name, &text, &mut tests, &mut complaints),
            Err(error) => complaints.push(format!("{name}: {error}")),
        }
    }
    if complaints.is_empty() { Ok(tests) } else { Err(complaints) }
}

/// The Rust files below `folder`, in an order that is the same everywhere. A folder that is not there has none.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in sorted(folder).unwrap_or_default() {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn sorted(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    Ok(entries)
}
