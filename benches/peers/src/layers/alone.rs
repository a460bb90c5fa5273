//! Owns the layers alone, in memory: chunks of bytes through one, both ways, and the same through what it stands on. It must not
//! know how they are counted.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_machine_testkit::layers::{Authority, Peer, server_config};
use mqtt_machine_tokio::TlsOptions;
use mqtt_machine_transport::rustls::{ALL_VERSIONS, ClientConnection, ServerConnection};
use mqtt_machine_transport::{Endpoint, Layers, LayersState, Route, RouteOptions};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::Failure;
use crate::clients::Meter;

/// The layers.
pub(super) const LAYERS: [&str; 2] = ["TLS", "WebSocket"];
/// What goes through at once: one of a few messages, and the largest record of TLS.
pub(super) const SIZES: [usize; 2] = [256, 16 << 10];

/// Moves chunks of so many bytes through `layer`. `side` is who: our layer, the one it is compared with (`raw`), or the server that
/// both read from, alone (`server`). Prints what the process has used.
///
/// # Errors
/// When there is no such thing, or not every byte comes through.
pub fn run(layer: &str, side: &str, direction: &str, size: &str, count: &str) -> Result<(), Failure> {
    let meter = Meter::start()?;
    moved(layer, side, direction, size, count)?;
    meter.stop()?.print();
    Ok(())
}

/// As [`run`], without a word.
pub(super) fn moved(
    layer: &str,
    side: &str,
    direction: &str,
    size: &str,
    count: &str,
) -> Result<(), Failure> {
    let (chunk, count) = (vec![b'x'; size.parse()?], count.parse()?);
    let moved = match layer {
        "TLS" => tls(side, direction, &chunk, count)?,
        "WebSocket" => websocket(side, direction, &chunk, count)?,
        _ => return Err("there is no such layer".into()),
    };
    let expected = if side == "server" { 0 } else { chunk.len() as u64 * count };
    // What is sent is larger than the chunks.
    let is_right = if direction == "send" { moved >= expected } else { moved == expected };
    if is_right { Ok(()) } else { Err(format!("{moved} of {expected} bytes").into()) }
}

/// Our layers over this way, open, and the peer that they shook hands with.
fn layers(url: &str, authority: &str, mut peer: Peer) -> Result<(Layers, Peer), Failure> {
    let tls = TlsOptions::new().ca_pem(authority.as_bytes()).build()?;
    let mut layers = Route::new(Endpoint::parse(url)?, &RouteOptions::new().tls_client(tls))?.layers()?;
    layers.handle_open()?;
    for _ in 0..10 {
        let (mut out, mut up) = (BytesMut::new(), BytesMut::new());
        layers.transmit(&mut out);
        peer.receive(&out);
        let mut input = BytesMut::from(&peer.output()[..]);
        layers.handle_input(&mut input, &mut up)?;
        if out.is_empty() && layers.state() == LayersState::Open {
            return Ok((layers, peer));
        }
    }
    Err("the layers do not open".into())
}

/// Sends chunks; gives how many bytes came out.
fn send(layers: &mut Layers, chunk: &[u8], count: u64) -> Result<u64, Failure> {
    let (mut out, mut moved) = (BytesMut::new(), 0);
    for _ in 0..count {
        layers.handle_output(&mut black_box(chunk))?;
        layers.transmit(&mut out);
        moved += black_box(&out).len() as u64;
        out.clear();
    }
    Ok(moved)
}

/// Receives what `next` makes; gives how many bytes came up.
fn receive(layers: &mut Layers, count: u64, mut next: impl FnMut(&mut Vec<u8>)) -> Result<u64, Failure> {
    let (mut wire, mut input, mut up, mut moved) = (Vec::new(), BytesMut::new(), BytesMut::new(), 0);
    for _ in 0..count {
        next(&mut wire);
        input.extend_from_slice(&wire);
        layers.handle_input(&mut input, &mut up)?;
        moved += black_box(&up).len() as u64;
        up.clear();
        if input.capacity() == 0 {
            // As the driver does.
            std::mem::swap(&mut input, &mut up);
        }
        wire.clear();
    }
    Ok(moved)
}

fn encrypt(server: &mut ServerConnection, chunk: &[u8], wire: &mut Vec<u8>) {
    server.writer().write_all(chunk).expect("room for a chunk");
    while server.wants_write() {
        server.write_tls(wire).expect("memory takes everything");
    }
}

fn tls(side: &str, direction: &str, chunk: &[u8], count: u64) -> Result<u64, Failure> {
    let authority = Authority::new("benches");
    let config = Arc::new(server_config(&authority.server(&["localhost"]), ALL_VERSIONS, None));
    if side == "layer" {
        let peer = Peer::plain().tls(config);
        let (mut layers, mut peer) = layers("mqtts://localhost", &authority.pem(), peer)?;
        let mut server = peer.tls.take().ok_or("no TLS")?;
        return match direction {
            "send" => send(&mut layers, chunk, count),
            _ => receive(&mut layers, count, |wire| encrypt(&mut server, chunk, wire)),
        };
    }
    let mut server = ServerConnection::new(config)?;
    let mut client = super::socket::connection(&authority.pem())?;
    let (mut wire, mut moved) = (Vec::new(), 0);
    while client.is_handshaking() || server.wants_write() || client.wants_write() {
        wire.clear();
        client.write_tls(&mut wire)?;
        server.read_tls(&mut &wire[..])?;
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        take(&mut client, &wire)?;
    }
    let mut plain = vec![0; 16 << 10];
    for _ in 0..count {
        wire.clear();
        match (side, direction) {
            ("raw", "send") => {
                client.writer().write_all(black_box(chunk))?;
                while client.wants_write() {
                    client.write_tls(&mut wire)?;
                }
                moved += black_box(&wire).len() as u64;
            }
            ("raw", _) => {
                encrypt(&mut server, chunk, &mut wire);
                let mut here = 0;
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    client.read_tls(&mut rest)?;
                    client.process_new_packets()?;
                    while here < chunk.len() {
                        match client.reader().read(&mut plain) {
                            Ok(bytes) => here += bytes,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            Err(error) => return Err(error.into()),
                        }
                        black_box(&plain);
                    }
                }
                moved += here as u64;
            }
            _ => {
                encrypt(&mut server, chunk, &mut wire);
                black_box(&wire);
            }
        }
    }
    Ok(moved)
}

fn take(client: &mut ClientConnection, mut wire: &[u8]) -> Result<(), Failure> {
    while !wire.is_empty() {
        client.read_tls(&mut wire)?;
        client.process_new_packets()?;
    }
    Ok(())
}

/// Gives the same frame again and again, and takes everything.
struct Memory {
    frame: Vec<u8>,
    at: usize,
    wrote: u64,
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = &self.frame[self.at..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % self.frame.len();
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wrote += black_box(bytes).len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame of the server's.
fn frame(chunk: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 126];
    frame.extend_from_slice(&u16::try_from(chunk.len()).expect("a short chunk").to_be_bytes());
    frame.extend_from_slice(chunk);
    frame
}

fn websocket(side: &str, direction: &str, chunk: &[u8], count: u64) -> Result<u64, Failure> {
    let frame = frame(chunk);
    match side {
        "layer" => {
            let authority = Authority::new("benches");
            let (mut layers, _) = layers("ws://localhost/mqtt", &authority.pem(), Peer::plain().websocket())?;
            match direction {
                "send" => send(&mut layers, chunk, count),
                _ => receive(&mut layers, count, |wire| wire.extend_from_slice(&frame)),
            }
        }
        "raw" => {
            let memory = Memory { frame, at: 0, wrote: 0 };
            let mut socket = WebSocket::from_raw_socket(memory, Role::Client, None);
            let message = Message::Binary(Bytes::copy_from_slice(chunk));
            let mut moved = 0;
            for _ in 0..count {
                if direction == "send" {
                    socket.send(black_box(message.clone()))?;
                } else {
                    moved += black_box(socket.read()?).len() as u64;
                }
            }
            Ok(if direction == "send" { socket.get_ref().wrote } else { moved })
        }
        _ => {
            let mut wire = Vec::new();
            for _ in 0..count {
                // What our layer's input is filled with, before it is copied there.
                wire.extend_from_slice(black_box(&frame));
                black_box(&wire);
                wire.clear();
            }
            Ok(0)
        }
    }
}
