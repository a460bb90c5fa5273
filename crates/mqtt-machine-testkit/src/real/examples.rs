//! Owns running the examples of a crate from its tests. It must not know what they do.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an example may run.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command that runs an example of the crate whose test asks. `cargo test` has built it.
///
/// # Panics
/// When it is not there or older than its source, as after `cargo test --test NAME`, which builds no examples.
pub fn example(name: &str) -> Command {
    example_of(name, name)
}

/// As [`example`], of a program that has another name than its source, `examples/SOURCE.rs`.
///
/// # Panics
/// As [`example`].
pub fn example_of(source: &str, name: &str) -> Command {
    // Tests stand in `deps` beside `examples`.
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test");
    let source = Path::new(&manifest).join("examples").join(source).with_extension("rs");
    let time = |file: &Path| file.metadata().and_then(|metadata| metadata.modified()).ok();
    let fresh = time(&program).is_some_and(|built| time(&source).is_some_and(|written| written <= built));
    assert!(fresh, "{} is not built: cargo build --examples", program.display());
    Command::new(program)
}

/// Waits for the end of a program, at most a minute.
///
/// # Panics
/// When it does not end by then; it is ended in any way.
pub fn end(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        sleep(Duration::from_millis(5));
    }
}

/// What a program prints that needs no input, until it ends well. It prints little: less than the system keeps for it.
///
/// # Panics
/// When it ends badly, or not within a minute.
pub fn output(command: &mut Command) -> String {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let status = end(&mut child);
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(status.success(), "{command:?} ended with {status}: {text}");
    text
}
