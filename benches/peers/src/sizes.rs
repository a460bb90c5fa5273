//! Owns how big the smallest program of a client over plain TCP is, and how long it takes to compile. It must not know what the
//! programs do, but that each says so when it has done it.
//!
//! Each program is a package of its own below `benches/sizes` and is built alone, so that it has the features that it asks for and no
//! others; from nothing, in a directory of its own that is removed afterwards, with the release profile of `benches` and stripped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Failure;
use crate::process::Broker;

/// The programs, by what they are in the table.
const PROGRAMS: &[(&str, &str)] = &[
    ("a socket alone", "socket"),
    ("mqtt-machine, driven by hand", "core"),
    ("mqtt-machine-blocking", "blocking"),
    ("mqtt-machine-tokio", "tokio"),
    ("ntex-mqtt", "ntex-mqtt"),
    ("rumqttc", "rumqttc"),
    ("rumqttc-next", "rumqttc-next"),
    ("mqtt5", "mqtt5"),
];
/// What each of them prints in the end.
const DONE: &str = "published and received\n";
/// What a build and a run may take, in seconds.
const PATIENCE: [&str; 2] = ["900", "10"];

/// A directory that ends with this.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("mqtt-machine-{name}-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a build has taken.
struct Build {
    packages: usize,
    wall: Duration,
    processor: Duration,
}

/// The processor time of all processes that this one has started and that have ended.
fn processor() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    Ok(Duration::from_micros(micros.try_into()?))
}

fn benches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program for a while at most.
fn run(seconds: &str, command: &mut Command) -> Result<Output, Failure> {
    let mut bounded = Command::new("timeout");
    bounded.arg(seconds).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            bounded.env(name, value);
        }
    }
    let output = bounded.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{:?}, {}: {said}", command.get_program(), output.status).into())
}

/// Builds one package of the workspace of this manifest.
fn build(manifest: &Path, package: &str, target: &Path) -> Result<Build, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let (begin, before) = (Instant::now(), processor()?);
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "-p", package, "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(target);
    command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env("CARGO_INCREMENTAL", "0");
    let output = run(PATIENCE[0], &mut command)?;
    let (wall, processor) = (begin.elapsed(), processor()? - before);
    let said = String::from_utf8_lossy(&output.stderr);
    let packages = said.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count();
    Ok(Build { packages, wall, processor })
}

/// The program of a package that was built, once it has proved that it works; its size in bytes.
fn prove(broker: &mut Broker, package: &str, target: &Path) -> Result<u64, Failure> {
    let program = target.join("release").join(package);
    let said = run(PATIENCE[1], Command::new(&program).arg(&broker.port))?;
    if said.stdout != DONE.as_bytes() || broker.received()? != 1 {
        return Err("it has not done what it is for".into());
    }
    Ok(std::fs::metadata(&program)?.len())
}

/// The table.
///
/// # Errors
/// When a program cannot be built, or does not work.
pub fn table() -> Result<(), Failure> {
    println!(
        "\n| smallest program over TCP | KiB | more than a socket | packages | to compile, CPU s | elapsed, s |"
    );
    println!("|---|{}", "---:|".repeat(5));
    let mut broker = Broker::start("mqtt")?;
    let manifest = benches().join("Cargo.toml");
    let mut least = None;
    for (name, package) in PROGRAMS {
        let target = Temporary::new(&format!("size-{package}"))?;
        let package = format!("mqtt-machine-bench-size-{package}");
        let built = build(&manifest, &package, &target.0)?;
        let bytes = prove(&mut broker, &package, &target.0).map_err(|error| format!("{name}: {error}"))?;
        let more = bytes.saturating_sub(*least.get_or_insert(bytes));
        row(name, &format!("{} | {}", kib(bytes), kib(more)), &built);
    }
    // In the workspace that it is a member of, where `-p` gives it its own features.
    let target = Temporary::new("size-library")?;
    let built = build(&benches().join("../Cargo.toml"), "mqtt-machine", &target.0)?;
    row("mqtt-machine, the library alone", "– | –", &built);
    Ok(())
}

const fn kib(bytes: u64) -> u64 {
    (bytes + 512) / 1024
}

fn row(name: &str, sizes: &str, built: &Build) {
    let Build { packages, wall, processor } = built;
    println!(
        "| {name} | {sizes} | {packages} | {:.1} | {:.1} |",
        processor.as_secs_f64(),
        wall.as_secs_f64()
    );
}

/// That every program is built and works. What is built stays, so that only the first time takes minutes.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    let mut broker = Broker::start("mqtt")?;
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).ok_or("this program is in no target directory")?;
    for (name, package) in PROGRAMS {
        let package = format!("mqtt-machine-bench-size-{package}");
        build(&benches().join("Cargo.toml"), &package, target)
            .and_then(|_| prove(&mut broker, &package, target))
            .map_err(|error| format!("{name}: {error}"))?;
    }
    println!("{} smallest programs work", PROGRAMS.len());
    Ok(())
}
