//! Subscribes, publishes one message at QoS 1, waits for its PUBACK and receives it, by the client for threads.

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("a port is needed")?.parse()?;
    let (client, mut connection) = Client::new(MqttOptions::new("size", "127.0.0.1", port), 10);
    client.subscribe(TOPIC, QoS::AtLeastOnce)?;
    let (mut acknowledged, mut received) = (false, false);
    for event in connection.iter() {
        match event? {
            Event::Incoming(Packet::SubAck(_)) => {
                client.publish(TOPIC, QoS::AtLeastOnce, false, &PAYLOAD[..])?;
            }
            Event::Incoming(Packet::PubAck(_)) => acknowledged = true,
            Event::Incoming(Packet::Publish(publish)) => received = publish.payload[..] == PAYLOAD,
            _ => {}
        }
        if acknowledged && received {
            println!("published and received");
            return Ok(());
        }
    }
    Err("the client has ended".into())
}
