//! Owns `decode`: bytes in, packets field by field out, and what is wrong with those that are none. It must not know how a
//! packet is written.

mod capture;
mod fields;

use std::io::Read;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::{ArgGroup, Args, ValueEnum};
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::{Packet, PacketType, Sender};
use mqtt_machine::wire::{DecodeError, decode, frame_header};

use crate::connection::version;
use crate::failure::{Failure, usage};

/// The largest packet that MQTT knows.
const LARGEST: u32 = 268_435_460;

const NAME: Style = AnsiColor::Cyan.on_default().bold();
const WRONG: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// What `decode` is told.
#[derive(Args)]
#[command(group = ArgGroup::new("input"))]
pub(crate) struct Decode {
    /// The bytes in hexadecimal; spaces, colons and 0x are passed over. Without any, standard input is read
    #[arg(group = "input")]
    hex: Vec<String>,
    /// A file of hexadecimal digits
    #[arg(long, group = "input", value_name = "FILE")]
    file: Option<PathBuf>,
    /// A capture of connections: pcap or pcapng, TCP only, not encrypted
    #[arg(long, group = "input", value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// The file or standard input has the bytes as they are
    #[arg(long, conflicts_with_all = ["hex", "pcap"])]
    raw: bool,
    /// The server's port in the capture
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// The version of MQTT, until a CONNECT says another
    #[arg(short = 'V', long = "protocol-version", default_value = "5", value_parser = version)]
    version: ProtocolVersion,
    /// Who has sent the bytes
    #[arg(long, value_enum, default_value = "either")]
    from: From,
    /// Print passwords and authentication data
    #[arg(long)]
    show_secrets: bool,
}

/// Who has sent the bytes.
#[derive(Clone, Copy, ValueEnum)]
enum From {
    Client,
    Server,
    /// Whoever may send the packet
    Either,
}

impl From {
    const fn sender(self) -> Option<Sender> {
        match self {
            Self::Client => Some(Sender::Client),
            Self::Server => Some(Sender::Server),
            Self::Either => None,
        }
    }
}

/// Decodes, and fails when something was no packet.
pub(crate) fn run(arguments: &Decode) -> Result<(), Failure> {
    let mut printer = Printer { show_secrets: arguments.show_secrets, good: 0, bad: 0 };
    if let Some(path) = &arguments.pcap {
        let bytes = std::fs::read(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
        capture::decode(&bytes, arguments.port, arguments.version, &mut printer)?;
    } else {
        let bytes = arguments.bytes()?;
        let mut stream = Stream::new(arguments.version, arguments.from.sender());
        stream.bytes = bytes;
        stream.take(&mut printer, "");
        stream.finish(&mut printer, "");
    }
    match (printer.bad, printer.good) {
        (0, 0) => Err(usage("there is no packet")),
        (0, _) => Ok(()),
        (bad, good) => Err(Failure::Other(format!("{bad} of {} packets are wrong", bad + good))),
    }
}

impl Decode {
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let read = if let Some(path) = &self.file {
            std::fs::read(path).map_err(|error| usage(format!("{}: {error}", path.display())))?
        } else if self.hex.is_empty() {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            bytes
        } else {
            self.hex.join(" ").into_bytes()
        };
        if self.raw { Ok(read) } else { unhex(&read).map_err(usage) }
    }
}

/// Reads hexadecimal digits as people write them.
fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(text).replace("0x", " ").replace("0X", " ");
    let mut digits = Vec::new();
    for (at, character) in text.chars().enumerate() {
        match character.to_digit(16) {
            Some(digit) => digits.push(u8::try_from(digit).unwrap_or_default()),
            None if character.is_whitespace() || ":,-".contains(character) => {}
            None => return Err(format!("{character:?} at character {at} is no hexadecimal digit")),
        }
    }
    if digits.len() % 2 == 1 {
        return Err("an odd number of hexadecimal digits".to_owned());
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Where packets are printed, and how many there were.
pub(crate) struct Printer {
    show_secrets: bool,
    good: u64,
    bad: u64,
}

impl Printer {
    fn packet(&mut self, prefix: &str, at: usize, frame: &[u8], packet: &Packet<'_>) {
        self.good += 1;
        let name = packet.packet_type();
        let length = frame.len();
        anstream::println!("{prefix}{NAME}{name}{NAME:#} {FAINT}at byte {at}, {length} bytes{FAINT:#}");
        for (name, value) in fields::of(packet, self.show_secrets) {
            anstream::println!("{prefix}  {name}: {value}");
        }
    }

    fn error(&mut self, prefix: &str, at: usize, bytes: &[u8], error: &DecodeError) {
        self.bad += 1;
        let name = error.packet().map_or("no packet", PacketType::name);
        let reason = error.reason();
        anstream::println!("{prefix}{WRONG}{name}{WRONG:#} {FAINT}at byte {at}{FAINT:#}");
        anstream::println!("{prefix}  {WRONG}wrong:{WRONG:#} {}", error.fault());
        anstream::println!("{prefix}  field: {}", error.fault().field());
        anstream::println!("{prefix}  5.0 answers: {reason}");
        anstream::println!("{prefix}  bytes: {}", fields::hex(bytes));
    }

    fn incomplete(&mut self, prefix: &str, at: usize, bytes: &[u8]) {
        self.bad += 1;
        anstream::println!("{prefix}{WRONG}incomplete{WRONG:#} {FAINT}at byte {at}{FAINT:#}");
        anstream::println!("{prefix}  wrong: the bytes end within a packet");
        anstream::println!("{prefix}  bytes: {}", fields::hex(bytes));
    }

    fn note(&mut self, prefix: &str, text: &str) {
        anstream::println!("{prefix}{FAINT}{text}{FAINT:#}");
    }
}

/// One direction of a connection.
pub(crate) struct Stream {
    version: ProtocolVersion,
    sender: Option<Sender>,
    bytes: Vec<u8>,
    /// How many bytes came before those.
    at: usize,
    /// The last packet had a first byte that no packet has.
    doubtful: bool,
    /// Nothing that follows can be told apart.
    lost: bool,
}

impl Stream {
    const fn new(version: ProtocolVersion, sender: Option<Sender>) -> Self {
        Self { version, sender, bytes: Vec::new(), at: 0, doubtful: false, lost: false }
    }

    /// Prints every packet that is whole. The version of a CONNECT counts from then on.
    fn take(&mut self, printer: &mut Printer, prefix: &str) {
        let mut begin = 0;
        while !self.lost && begin < self.bytes.len() {
            let rest = &self.bytes[begin..];
            let at = self.at + begin;
            let header = match frame_header(rest, LARGEST) {
                Ok(Some(header)) if header.frame_len() <= rest.len() => header,
                Ok(_) => break,
                Err(error) => match behind_a_bad_byte(rest).filter(|_| !self.doubtful) {
                    // Its length may be right all the same, but not twice in a row.
                    Some(length) => {
                        printer.error(prefix, at, &rest[..length], &error);
                        self.doubtful = true;
                        begin += length;
                        continue;
                    }
                    None => {
                        printer.error(prefix, at, rest, &error);
                        self.lost = true;
                        break;
                    }
                },
            };
            let frame = &rest[..header.frame_len()];
            self.doubtful = false;
            match self.decode(frame) {
                Ok(packet) => {
                    if let Packet::Connect(connect) = &packet {
                        self.version = connect.version;
                    }
                    printer.packet(prefix, at, frame, &packet);
                }
                Err(error) => printer.error(prefix, at, frame, &error),
            }
            begin += frame.len();
        }
        if self.lost {
            begin = self.bytes.len();
        }
        self.at += begin;
        self.bytes.drain(..begin);
    }

    fn finish(&mut self, printer: &mut Printer, prefix: &str) {
        if !self.bytes.is_empty() {
            printer.incomplete(prefix, self.at, &self.bytes);
        }
    }

    fn decode<'a>(&self, frame: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        if let Some(sender) = self.sender {
            return decode(frame, self.version, sender);
        }
        // What only one side sends is wrong from the other, so the better answer is the one of that side.
        let kind = frame.first().and_then(|byte| PacketType::from_first_byte(*byte));
        let first = match kind {
            Some(PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp) => {
                Sender::Server
            }
            _ => Sender::Client,
        };
        decode(frame, self.version, first).or_else(|error| {
            let other = if first == Sender::Client { Sender::Server } else { Sender::Client };
            decode(frame, self.version, other).map_err(|_| error)
        })
    }
}

/// How long a packet is whose first byte is wrong, if all of it is there.
fn behind_a_bad_byte(bytes: &[u8]) -> Option<usize> {
    let mut start = bytes.get(..bytes.len().min(5))?.to_vec();
    // A PINGREQ is as good as any other.
    *start.first_mut()? = 0xC0;
    let length = frame_header(&start, LARGEST).ok()??.frame_len();
    (length <= bytes.len()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_people_write_it() {
        assert_eq!(unhex(b"c0 00\n0xD0, 0x00 e0:00").unwrap(), [0xC0, 0, 0xD0, 0, 0xE0, 0]);
        assert!(unhex(b"c").unwrap_err().contains("odd"));
        assert!(unhex(b"cg").unwrap_err().contains("'g' at character 1"));
    }
}
