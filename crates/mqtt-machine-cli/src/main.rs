//! Owns the `mqtt-machine` command line: what can be asked for, and the exit code. It must not know MQTT.
//!
//! Exit codes: 0 when what was asked for was done, 1 when it was not, 2 for a command line that makes no sense.
//! `fuzz-broker` says 1 when it found something, and 2 when it could not run.

#![forbid(unsafe_code)]

mod demo;
mod fuzz_broker;
mod replay;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "mqtt-machine", version, about = "An MQTT client as a pure state machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send five messages from a publisher to a subscriber through a broker of its own whose connections break in the middle
    Demo(demo::Demo),
    /// Do again what a transcript tells, print every step, and fail at the first output that is not as it was recorded
    Replay(replay::Options),
    /// Try a broker of your own with legal, illegal and mutated packets, and save what it does wrong as files that replay
    FuzzBroker(fuzz_broker::FuzzBroker),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(demo) => run_demo(&demo),
        Command::Replay(options) => replay::run(&options),
        Command::FuzzBroker(fuzz_broker) => return fuzz_broker::run(&fuzz_broker),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_demo(demo: &demo::Demo) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime did not start: {error}"))?;
    runtime.block_on(demo::run(demo))
}
