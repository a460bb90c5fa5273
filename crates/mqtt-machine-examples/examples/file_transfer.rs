//! Shows: a file sent in pieces of QoS 2 and put together again, checked by its length; memory stays bounded whatever its size.
//! `cargo run -p mqtt-machine-examples --example file_transfer -- mqtt://localhost receive copy.bin` and `… send original.bin`.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};

use mqtt_machine_tokio::{Client, Message, Outcome, Property, QoS};

const TOPIC: &str = "files/one";
const PIECE: usize = 64 << 10;

/// The offset of a piece is a user property; a piece without payload is the end.
fn piece(offset: u64, payload: Vec<u8>) -> Result<Message, Box<dyn Error>> {
    let message = Message::to(TOPIC, payload)?.qos(QoS::ExactlyOnce);
    Ok(message.property(Property::UserProperty("offset", &offset.to_string()))?)
}

fn offset_of(message: &Message) -> Option<u64> {
    message.user_property("offset")?.parse().ok()
}

async fn send(client: &Client, mut file: File) -> Result<u64, Box<dyn Error>> {
    let (mut offset, mut deliveries) = (0, Vec::new());
    loop {
        let mut payload = Vec::new();
        (&mut file).take(PIECE as u64).read_to_end(&mut payload)?;
        let count = payload.len() as u64;
        // Waits while the caps of the client are full: a large file never stands in memory as a whole.
        deliveries.push(client.publish(piece(offset, payload)?).await?);
        offset += count;
        if count == 0 {
            break;
        }
    }
    for delivery in deliveries {
        match delivery.await {
            Outcome::Acknowledged(_) => {}
            other => return Err(format!("a piece was not delivered: {other:?}").into()),
        }
    }
    Ok(offset)
}

async fn receive(client: &Client, mut file: File) -> Result<u64, Box<dyn Error>> {
    let mut messages = client.subscribe(TOPIC, QoS::ExactlyOnce).await?;
    println!("waiting");
    let mut expected = 0;
    while let Some(message) = messages.recv().await {
        // QoS 2 keeps the order of a topic and doubles nothing.
        if offset_of(&message) != Some(expected) {
            return Err(format!("a piece is missing at {expected}").into());
        }
        if message.payload.is_empty() {
            return Ok(expected);
        }
        file.write_all(&message.payload)?;
        expected += message.payload.len() as u64;
    }
    Err("the client gave up".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, path] = arguments.as_slice() else {
        return Err("three arguments are needed: URL, send or receive, file".into());
    };
    let client = Client::connect(url).await?;
    let count = match what.as_str() {
        "send" => send(&client, File::open(path)?).await?,
        "receive" => receive(&client, File::create(path)?).await?,
        other => return Err(format!("neither send nor receive: {other}").into()),
    };
    client.disconnect().await?;
    println!("{count} bytes");
    Ok(())
}
