//! Subscribes, publishes one message at QoS 1, waits for its outcome and receives it.

use std::time::Duration;

use mqtt_machine_blocking::{Client, Message, Options, Outcome, ProtocolVersion, QoS};

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("a port is needed")?;
    let options = Options::from_url(&format!("mqtt://127.0.0.1:{port}"))?;
    let client = Client::connect(options.configure(|config| config.version(ProtocolVersion::V3_1_1)))?;
    let mut messages = client.subscribe(TOPIC, QoS::AtLeastOnce)?;
    let delivery = client.publish(Message::to(TOPIC, &PAYLOAD[..])?.qos(QoS::AtLeastOnce))?;
    let Ok(Outcome::Acknowledged(_)) = delivery.wait(Duration::from_secs(10)) else {
        return Err("not published".into());
    };
    let message = messages.recv().ok_or("the client has ended")?;
    if message.payload[..] != PAYLOAD {
        return Err("another message".into());
    }
    client.disconnect()?;
    println!("published and received");
    Ok(())
}
