//! Subscribes, publishes one message at QoS 1, waits for its PUBACK and receives it: over a socket, without a client. What it costs is
//! what the standard library costs in any program.

use std::io::{Read, Write};
use std::net::TcpStream;

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("a port is needed")?.parse()?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04size")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    let mut request = vec![0x82, 5 + TOPIC.len() as u8, 0, 1, 0, TOPIC.len() as u8];
    request.extend_from_slice(TOPIC.as_bytes());
    request.push(1);
    stream.write_all(&request)?;
    stream.read_exact(&mut [0; 5])?;
    let mut publish = vec![0x32, (4 + TOPIC.len() + PAYLOAD.len()) as u8, 0, TOPIC.len() as u8];
    publish.extend_from_slice(TOPIC.as_bytes());
    publish.extend_from_slice(&[0, 1]);
    publish.extend_from_slice(&PAYLOAD);
    stream.write_all(&publish)?;
    let (mut acknowledged, mut received) = (false, false);
    while !(acknowledged && received) {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let mut body = vec![0; head[1].into()];
        stream.read_exact(&mut body)?;
        match head[0] >> 4 {
            4 => acknowledged = true,
            3 if body.ends_with(&PAYLOAD) => received = true,
            _ => return Err("another packet".into()),
        }
    }
    stream.write_all(&[0xe0, 0])?;
    println!("published and received");
    Ok(())
}
