//! Owns captures: the TCP connections to one port, put together again. It must not know MQTT's packets.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use mqtt_machine::ProtocolVersion;
use mqtt_machine::packet::Sender;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::{Printer, Stream};
use crate::failure::{Failure, usage};

/// The most that waits for a missing segment, in bytes, before the gap is taken for lost.
const WAITING: usize = 1 << 20;

/// Decodes every connection to `port`.
pub(super) fn decode(
    bytes: &[u8],
    port: u16,
    version: ProtocolVersion,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let broken = |error: &dyn std::fmt::Display| usage(format!("no capture that can be read: {error}"));
    let mut reader = create_reader(64 << 10, bytes).map_err(|error| broken(&error))?;
    let mut links = Vec::new();
    let mut connections = Connections { port, version, known: HashMap::new() };
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                match &block {
                    PcapBlockOwned::LegacyHeader(header) => links = vec![header.network],
                    PcapBlockOwned::Legacy(packet) => {
                        connections.frame(links.first().copied(), packet.data, printer);
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        links.push(interface.linktype);
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let link = usize::try_from(packet.if_id).ok().and_then(|id| links.get(id));
                        let length = usize::try_from(packet.caplen).unwrap_or(usize::MAX);
                        let data = packet.data.get(..length).unwrap_or(packet.data);
                        connections.frame(link.copied(), data, printer);
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                        connections.frame(links.first().copied(), packet.data, printer);
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                if reader.reader_exhausted() {
                    return Err(usage("the capture is cut short"));
                }
                reader.refill().map_err(|error| broken(&error))?;
            }
            Err(error) => return Err(broken(&error)),
        }
    }
    connections.finish(printer);
    Ok(())
}

/// The connections to one port.
struct Connections {
    port: u16,
    version: ProtocolVersion,
    known: HashMap<SocketAddr, Connection>,
}

/// One connection, by its client.
struct Connection {
    up: Direction,
    down: Direction,
}

struct Direction {
    stream: Stream,
    /// The sequence number of the next byte, once one was seen.
    next: Option<u32>,
    /// What came too early, by its sequence number.
    early: BTreeMap<u32, Vec<u8>>,
}

impl Connections {
    fn frame(&mut self, link: Option<Linktype>, data: &[u8], printer: &mut Printer) {
        let sliced = match link {
            Some(Linktype::ETHERNET) => LaxSlicedPacket::from_ethernet(data).ok(),
            Some(Linktype::RAW | Linktype::IPV4 | Linktype::IPV6) => LaxSlicedPacket::from_ip(data).ok(),
            Some(Linktype::NULL | Linktype::LOOP) => {
                data.get(4..).and_then(|data| LaxSlicedPacket::from_ip(data).ok())
            }
            Some(Linktype::LINUX_SLL) => data.get(16..).and_then(|data| LaxSlicedPacket::from_ip(data).ok()),
            _ => None,
        };
        let Some(sliced) = sliced else { return };
        let (from, to): (IpAddr, IpAddr) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            _ => return,
        };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return };
        let from = SocketAddr::new(from, tcp.source_port());
        let to = SocketAddr::new(to, tcp.destination_port());
        let (client, up) = match (to.port() == self.port, from.port() == self.port) {
            (true, _) => (from, true),
            (_, true) => (to, false),
            _ => return,
        };
        if tcp.syn()
            && up
            && let Some(mut old) = self.known.remove(&client)
        {
            old.finish(client, printer);
        }
        let version = self.version;
        let connection = self.known.entry(client).or_insert_with(|| Connection::new(version));
        connection.segment(client, up, tcp.sequence_number(), tcp.syn(), tcp.payload(), printer);
    }

    fn finish(&mut self, printer: &mut Printer) {
        for (client, connection) in &mut self.known {
            connection.finish(*client, printer);
        }
    }
}

impl Connection {
    const fn new(version: ProtocolVersion) -> Self {
        Self { up: Direction::new(version, Sender::Client), down: Direction::new(version, Sender::Server) }
    }

    fn segment(
        &mut self,
        client: SocketAddr,
        up: bool,
        sequence: u32,
        syn: bool,
        payload: &[u8],
        printer: &mut Printer,
    ) {
        let prefix = prefix(client, up);
        let direction = if up { &mut self.up } else { &mut self.down };
        direction.segment(sequence, syn, payload, printer, &prefix);
        // The server speaks what the client's CONNECT says.
        self.down.stream.version = self.up.stream.version;
    }

    fn finish(&mut self, client: SocketAddr, printer: &mut Printer) {
        for (direction, up) in [(&mut self.up, true), (&mut self.down, false)] {
            if !direction.early.is_empty() {
                printer.note(&prefix(client, up), "bytes are missing in the capture");
            }
            direction.stream.finish(printer, &prefix(client, up));
        }
    }
}

fn prefix(client: SocketAddr, up: bool) -> String {
    format!("{client} {} ", if up { "->" } else { "<-" })
}

impl Direction {
    const fn new(version: ProtocolVersion, sender: Sender) -> Self {
        Self { stream: Stream::new(version, Some(sender)), next: None, early: BTreeMap::new() }
    }

    fn segment(&mut self, sequence: u32, syn: bool, payload: &[u8], printer: &mut Printer, prefix: &str) {
        if syn {
            self.next = Some(sequence.wrapping_add(1));
            return;
        }
        if payload.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(next);
        if ahead > i32::MAX.unsigned_abs() {
            // Sent again; what is new in it counts.
            let known = usize::try_from(next.wrapping_sub(sequence)).unwrap_or(usize::MAX);
            if let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) {
                self.accept(new);
            }
        } else if ahead == 0 {
            self.accept(payload);
        } else {
            self.early.insert(sequence, payload.to_vec());
            if self.early.values().map(Vec::len).sum::<usize>() > WAITING {
                printer.note(prefix, "bytes are missing in the capture");
                self.next = self.early.keys().min_by_key(|sequence| sequence.wrapping_sub(next)).copied();
            }
        }
        while let Some(next) = self.next
            && let Some(payload) = self.early.remove(&next)
        {
            self.accept(&payload);
        }
        self.stream.take(printer, prefix);
    }

    fn accept(&mut self, payload: &[u8]) {
        self.stream.bytes.extend_from_slice(payload);
        let length = u32::try_from(payload.len()).unwrap_or_default();
        self.next = self.next.map(|next| next.wrapping_add(length));
    }
}
