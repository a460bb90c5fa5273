//! mqtt-machine beside its peers, in one run: decoders, and clients end to end over loopback against a null broker, with a raw
//! socket as the limit. Every client is a process of its own, so that what it uses is its own.
//!
//! ```sh
//! cargo run --release -p mqtt-machine-bench-peers                # everything, as the tables of docs/performance.md
//! cargo run --release -p mqtt-machine-bench-peers -- try         # runs everything for a moment
//! cargo run --release -p mqtt-machine-bench-peers -- decoders    # the decoders alone
//! cargo run --release -p mqtt-machine-bench-peers -- machines    # whole machines, without a socket
//! cargo run --release -p mqtt-machine-bench-peers -- fleet       # many clients of mqtt-machine-tokio in one process, beside one
//! cargo run --release -p mqtt-machine-bench-peers -- sizes       # the smallest programs: how big, and how long to compile
//! cargo run --release -p mqtt-machine-bench-peers -- publish-1   # one case; a client's name does too
//! cargo run --release -p mqtt-machine-bench-peers -- latency     # round trips, one after another
//! cargo run --release -p mqtt-machine-bench-peers -- layers      # TLS and WebSocket, beside rustls and tungstenite
//! cargo run --release -p mqtt-machine-bench-peers -- mosquitto   # every client with mosquitto
//! cargo run --release -p mqtt-machine-bench-peers -- idle        # the memory of idle clients of mqtt-machine-tokio
//! ```

mod broker;
mod clients;
mod codecs;
mod fleet;
mod idle;
mod latency;
mod layers;
mod machines;
mod mosquitto;
mod process;
mod report;
mod sizes;

use std::process::ExitCode;

use mqtt_machine_benches::Failure;

/// The topic of every message.
const TOPIC: &str = "sensors/kitchen/1/tmp";
/// The payload of every message.
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn client(name: &str, case: &str, port: &str, count: &str) -> Result<(), Failure> {
    let (_, run, _) =
        clients::CLIENTS.iter().find(|(known, ..)| *known == name).ok_or("there is no such client")?;
    let case = clients::Case::named(case).ok_or("there is no such case")?;
    run(clients::Job { case, port: port.parse()?, count: count.parse()? })?.print();
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["broker", way] => broker::serve(way),
        ["client", name, case, port, count] => client(name, case, port, count),
        ["idle-broker", way] => idle::serve(way),
        ["idle-clients", way, port, count, rest, authority] => idle::rest(way, port, count, rest, authority),
        ["round-trips", name, side, port, count] => latency::run(name, side, port, count),
        ["layer-client", side, way, case, port, count, authority] => {
            layers::run_client(side, way, case, port, count, authority)
        }
        ["layer-alone", layer, side, direction, size, count] => {
            layers::run_alone(layer, side, direction, size, count)
        }
        ["fleet-clients", side, case, clients, burst, port, count] => {
            fleet::run(side, case, clients, burst, port, count)
        }
        ["machine", name, case, count] => machines::run(name, case, count),
        ["fleet"] => fleet::table(),
        ["idle"] => idle::table(),
        ["layers"] => layers::table(),
        ["machines"] => machines::table(),
        ["sizes"] => sizes::table(),
        ["mosquitto"] => mosquitto::table(),
        ["latency"] => latency::table(),
        ["decode", codec, case, count] => {
            count.parse().map_err(Failure::from).and_then(|count| codecs::run(codec, case, count))
        }
        ["try"] => report::try_all()
            .and_then(|()| machines::try_all())
            .and_then(|()| latency::try_all())
            .and_then(|()| layers::try_all())
            .and_then(|()| mosquitto::try_all())
            .and_then(|()| idle::try_all())
            .and_then(|()| fleet::try_all())
            .and_then(|()| sizes::try_all()),
        ["decoders"] => report::decoders(),
        [] => report::decoders()
            .and_then(|()| machines::table())
            .and_then(|()| report::clients(""))
            .and_then(|()| latency::table())
            .and_then(|()| layers::table())
            .and_then(|()| mosquitto::table())
            .and_then(|()| idle::table())
            .and_then(|()| fleet::table())
            .and_then(|()| sizes::table()),
        [filter] => report::clients(filter),
        _ => {
            let tables = "decoders | fleet | idle | latency | layers | machines | mosquitto | sizes";
            Err(format!("usage: mqtt-machine-bench-peers [try | {tables} | PART_OF_A_NAME]").into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
