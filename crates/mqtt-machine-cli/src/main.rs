//! Owns the `mqtt-machine` command line: what can be asked for, and the exit code. It must not know MQTT.
//!
//! Exit codes: 0 when what was asked for was done, 2 for a command line that makes no sense, 3 when there was no connection,
//! 4 when not everything was delivered, granted or whole, 5 when the time that was given was over, 130 when an interrupt ended
//! it at once, 1 for everything else. The first interrupt of `pub` and `sub` lets what was accepted come to its end, the second does not.
//! `fuzz-broker` says 1 when it found something, and 2 when it could not run.

#![forbid(unsafe_code)]

mod bench;
mod broker;
mod connection;
mod decode;
mod demo;
mod failure;
mod fuzz_broker;
mod property;
mod publish;
mod replay;
mod runtime;
mod store;
mod subscribe;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;

#[derive(Parser)]
#[command(name = "mqtt-machine", version, about = "An MQTT client as a pure state machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish messages: from an argument, a file or standard input
    Pub(Box<publish::Publish>),
    /// Subscribe, and print the messages that come
    Sub(Box<subscribe::SubscribeArguments>),
    /// Measure latency and throughput between publishers and subscribers, through a broker of yours
    Bench(Box<bench::Bench>),
    /// Run the model broker on a loopback port, for trying things out: it keeps nothing and trusts everybody
    Broker(broker::BrokerArguments),
    /// Print the packets in bytes or in a capture field by field, and what is wrong with bad ones
    Decode(decode::Decode),
    /// Send five messages from a publisher to a subscriber through a broker of its own whose connections break in the middle
    Demo(demo::Demo),
    /// Do again what a transcript tells, print every step, and fail at the first output that is not as it was recorded
    Replay(replay::Options),
    /// Try a broker of your own with legal, illegal and mutated packets, and save what it does wrong as files that replay
    FuzzBroker(fuzz_broker::FuzzBroker),
    /// Look into a file of sessions, as `--store` keeps one: check, export or repair it
    Store(store::StoreArguments),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of this command and its subcommands into a folder
    Man {
        /// The folder, made if it is not there
        folder: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Pub(publish) => runtime::block_on(publish::run(*publish)),
        Command::Sub(subscribe) => runtime::block_on(subscribe::run(*subscribe)),
        Command::Bench(bench) => runtime::block_on(bench::run(*bench)),
        Command::Broker(broker) => runtime::block_on(broker::run(broker)),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Demo(demo) => other(run_demo(&demo)),
        Command::Replay(options) => other(replay::run(&options)),
        Command::FuzzBroker(fuzz_broker) => return fuzz_broker::run(&fuzz_broker),
        Command::Store(store) => store::run(&store),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "mqtt-machine", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { folder } => man(&folder).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.code()
        }
    }
}

fn other(result: Result<(), Box<dyn Error>>) -> Result<(), Failure> {
    result.map_err(|error| Failure::Other(error.to_string()))
}

fn man(folder: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}

fn run_demo(demo: &demo::Demo) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime did not start: {error}"))?;
    runtime.block_on(demo::run(demo))
}
