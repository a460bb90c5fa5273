//! Owns the processes of a measurement: the null broker, a run of this program, and what is counted of one. It must not know what
//! they do.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Failure;

/// The null broker, in a process of its own.
pub struct Broker {
    process: Child,
    lines: BufReader<ChildStdout>,
    /// Where it listens.
    pub port: String,
    /// Who has signed its certificate, in PEM; for those who come over TLS.
    pub authority: String,
}

impl Broker {
    /// For clients that come this way.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(way: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program).args(["broker", way]).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut broker = Self { process, lines, port: String::new(), authority: String::new() };
        broker.port = broker.line()?;
        while !broker.authority.ends_with("-----END CERTIFICATE-----\n") {
            let line = broker.line()?;
            broker.authority += &line;
            broker.authority.push('\n');
        }
        Ok(broker)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err("the broker has ended".into());
        }
        Ok(line.trim().to_owned())
    }

    /// How many publications a connection has brought that has ended: of each one after the other.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub fn received(&mut self) -> Result<u64, Failure> {
        Ok(self.line()?.parse()?)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What this program prints when it is run with these arguments.
///
/// # Errors
/// What it says when it fails.
pub fn told(arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What one of many costs: the difference of two runs, divided, so that what a start costs cancels.
///
/// # Errors
/// Those of the runs.
pub fn per_message(
    counts: [u64; 2],
    mut one: impl FnMut(u64) -> Result<u64, Failure>,
) -> Result<f64, Failure> {
    let [short, long] = counts;
    let difference = one(long)?.saturating_sub(one(short)?);
    Ok(difference as f64 / (long - short) as f64)
}

/// The system calls of this program when it is run with these arguments, in all its threads.
///
/// # Errors
/// When strace is not there, or the program fails.
pub fn system_calls(arguments: &[&str]) -> Result<u64, Failure> {
    let out = std::env::temp_dir().join(format!("mqtt-machine-strace-{}", std::process::id()));
    let status = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&out)
        .arg(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("strace (Debian: apt-get install strace): {error}"))?;
    let text = std::fs::read_to_string(&out)?;
    let _ = std::fs::remove_file(&out);
    if !status.success() {
        return Err(format!("{} failed under strace", arguments.join(" ")).into());
    }
    let total = text.lines().find(|line| line.ends_with(" total")).ok_or("no total of system calls")?;
    Ok(total.split_whitespace().nth(3).ok_or("no count of system calls")?.parse()?)
}
