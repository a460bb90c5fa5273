//! Owns the scripted exchanges for a decoder that is not ours: every packet type of every version, both directions, as
//! the hex that text2pcap reads, and beside it what that decoder must find.
//! It must not know the decoder: `.ci/independent-decoder` runs it.
//!
//! `wire_exchange FOLDER` writes two files for each conversation:
//! - `NAME.hex`: the segments, with `O` above those of the client and `I` above those of the server;
//! - `NAME.expected`: a line for each write, separated by tabs: its packet types, their remaining lengths, the number of
//!   its properties, and `binary` when one of them holds bytes with a zero among them.
//!
//! The conversation `broken` is malformed on purpose, and no file says what to expect of it but a complaint.

mod exchange;
mod packets;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use exchange::Exchange;
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{PacketType, PropertyId, Sender};

/// The most that goes into one segment: an IPv4 packet holds 65,535 bytes, headers included.
const SEGMENT: usize = 60_000;

fn write_files(folder: &Path, exchange: &Exchange) -> io::Result<()> {
    let mut hex = String::new();
    for write in &exchange.writes {
        for segment in write.bytes.chunks(SEGMENT) {
            hex.push_str(if write.sender == Sender::Client { "O\n" } else { "I\n" });
            for (line, bytes) in segment.chunks(32).enumerate() {
                let _ = write!(hex, "{:06x}", line * 32);
                bytes.iter().for_each(|byte| {
                    let _ = write!(hex, " {byte:02x}");
                });
                hex.push('\n');
            }
        }
    }
    let mut expected = String::new();
    for write in &exchange.writes {
        let binary = if write.binary { "binary" } else { "" };
        let _ = writeln!(expected, "{}\t{}\t{}\t{binary}", write.types, write.lengths, write.properties);
    }
    fs::write(folder.join(format!("{}.hex", exchange.name)), hex)?;
    fs::write(folder.join(format!("{}.expected", exchange.name)), expected)
}

/// A CONNECT of 5.0 and a PUBLISH whose topic ends behind the packet.
const BROKEN: &str =
    "O\n000000 10 0d 00 04 4d 51 54 54 05 02 00 3c 00 00 00\nO\n000000 30 05 00 10 61 61 61\n";

/// What the exchanges of one version must have between them, so that a gap here is a failure and not silence.
fn check(version: ProtocolVersion, exchange: &Exchange) {
    let missing: Vec<_> = PacketType::ALL
        .into_iter()
        .filter(|kind| version == ProtocolVersion::V5 || *kind != PacketType::Auth)
        .filter(|kind| !exchange.seen_types.contains(kind))
        .collect();
    assert!(missing.is_empty(), "{version}: no {missing:?}");
    if version == ProtocolVersion::V5 {
        let missing: Vec<_> =
            PropertyId::ALL.iter().filter(|id| !exchange.seen_properties.contains(id)).collect();
        assert!(missing.is_empty(), "no packet with {missing:?}");
    }
}

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: wire_exchange FOLDER");
        return ExitCode::FAILURE;
    };
    let mut exchanges = Vec::new();
    for version in ProtocolVersion::ALL {
        let exchange = packets::every_packet(version);
        check(version, &exchange);
        exchanges.push(exchange);
        exchanges.push(packets::lengths(version));
    }
    for exchange in &exchanges {
        if let Err(error) = write_files(Path::new(&folder), exchange) {
            eprintln!("{}: {error}", exchange.name);
            return ExitCode::FAILURE;
        }
        println!("{}: {} packets in {} writes", exchange.name, exchange.packets, exchange.writes.len());
    }
    if let Err(error) = fs::write(Path::new(&folder).join("broken.hex"), BROKEN) {
        eprintln!("broken: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
