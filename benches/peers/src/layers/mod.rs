//! Owns what the layers cost: TLS beside rustls, WebSocket beside tungstenite, alone in memory and below a client over a socket.
//! It must not know how they work.

mod alone;
mod messages;
mod socket;

pub use messages::Messages;
use std::time::Duration;

use mqtt_machine_benches::instructions;

pub use self::alone::run as run_alone;
use self::alone::{LAYERS, SIZES};
pub use self::socket::run as run_client;
use self::socket::{CASES, Cost, SIDES, WAYS};
use crate::Failure;
use crate::clients::Used;
use crate::process::{Broker, per_message, told};

/// Chunks of the two runs whose difference is counted.
const COUNTED: [u64; 2] = [500, 2_500];

/// Bytes of the two runs whose difference is timed, and how often: the fastest counts.
const TIMED: [u64; 2] = [50 << 20, 150 << 20];
const RUNS: usize = 9;

/// What a layer spends on one chunk, without what the other side of it spends: instructions, and nanoseconds.
fn alone(layer: &str, side: &str, direction: &str, size: usize) -> Result<[f64; 2], Failure> {
    let text = size.to_string();
    let cost = |side| {
        let counted = per_message(COUNTED, |count| {
            instructions(&["layer-alone", layer, side, direction, &text, &count.to_string()])
        })?;
        let timed = per_message(TIMED.map(|bytes| bytes / size as u64), |count| {
            let count = count.to_string();
            let mut fastest = Duration::MAX;
            for _ in 0..RUNS {
                let told = told(&["layer-alone", layer, side, direction, &text, &count])?;
                fastest = fastest.min(Used::parse(&told).ok_or("nothing was told")?.processor);
            }
            Ok(u64::try_from(fastest.as_nanos())?)
        })?;
        Ok::<_, Failure>([counted, timed])
    };
    let (own, server) = (cost(side)?, if direction == "receive" { cost("server")? } else { [0.0; 2] });
    Ok([own[0] - server[0], own[1] - server[1]])
}

/// The tables.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    println!(
        "\n| layer alone, user instructions of one chunk | mqtt-machine | rustls, tungstenite | ratio |"
    );
    println!("|---|---:|---:|---:|");
    for layer in LAYERS {
        for direction in ["send", "receive"] {
            for size in SIZES {
                let own = alone(layer, "layer", direction, size)?;
                let raw = alone(layer, "raw", direction, size)?;
                let mut row = format!("| {layer}, {direction} {size} B |");
                for (own, raw) in own.into_iter().zip(raw) {
                    row += &format!(" {own:.0} | {raw:.0} | {:.2} |", own / raw);
                }
                println!("{row}");
            }
        }
    }
    for case in CASES {
        let mut costs = Vec::new();
        for way in WAYS {
            let mut broker = Broker::start(way)?;
            for side in SIDES {
                costs.push((way, side, Cost::measure(&mut broker, side, way, case)?));
            }
        }
        let of = |way, side| costs.iter().find(|cost| cost.0 == way && cost.1 == side).map(|cost| cost.2);
        println!(
            "\n| {case} | CPU s per million | added by the layer | user instructions | added by the layer |"
        );
        println!("|---|---:|---:|---:|---:|");
        for side in SIDES {
            let plain = of(WAYS[0], side).ok_or("no cost")?;
            for way in WAYS {
                let Cost { processor, instructions } = of(way, side).ok_or("no cost")?;
                let name = if side == "raw" { "raw socket" } else { "mqtt-machine-tokio" };
                println!(
                    "| {name}, {way} | {processor:.3} | {:.3} | {instructions:.0} | {:.0} |",
                    processor - plain.processor,
                    instructions - plain.instructions,
                );
            }
        }
    }
    Ok(())
}

/// That everything runs, for a moment.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    for layer in LAYERS {
        for direction in ["send", "receive"] {
            for side in ["layer", "raw", "server"] {
                alone::moved(layer, side, direction, "300", "20")
                    .map_err(|error| format!("{layer}, {side}, {direction}: {error}"))?;
            }
        }
    }
    for way in WAYS {
        let mut broker = Broker::start(way)?;
        for case in CASES {
            for side in SIDES {
                told(&socket::arguments(&broker, side, way, case, "2000"))
                    .and_then(|_| socket::arrived(&mut broker, case, 2_000))
                    .map_err(|error| format!("{side}, {way}, {case}: {error}"))?;
            }
        }
    }
    println!("{} layers move bytes, alone and over a socket", LAYERS.len());
    Ok(())
}
