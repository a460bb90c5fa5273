//! Owns the count of instructions of a process. It must not know what the process does.

use std::process::Command;

/// Why something could not be measured.
pub type Failure = Box<dyn std::error::Error>;

/// The instructions that this program, run with these arguments, spends in user mode, by valgrind's callgrind.
///
/// # Errors
/// When valgrind is not there, or the program fails.
pub fn instructions(arguments: &[&str]) -> Result<u64, Failure> {
    let out = std::env::temp_dir().join(format!("mqtt-machine-callgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output()
        .map_err(|error| format!("valgrind (Debian: apt-get install valgrind): {error}"))?;
    let _ = std::fs::remove_file(&out);
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {text}", arguments.join(" ")).into());
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).ok_or("no count")?;
    Ok(collected.1.trim().parse()?)
}
