//! Owns the `mqtt-machine` command line: what can be asked for, and the exit code. It must not know MQTT.
//!
//! Exit codes: 0 when what was asked for was done, 1 when it was not, 2 for a command line that makes no sense.

#![forbid(unsafe_code)]

mod demo;

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
}

fn main() -> ExitCode {
    let Command::Demo(demo) = Arguments::parse().command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo::run(&demo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
