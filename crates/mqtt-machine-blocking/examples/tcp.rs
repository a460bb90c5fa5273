//! Connects over TCP, subscribes, publishes and receives: `cargo run -p mqtt-machine-blocking --example blocking_tcp -- mqtt://localhost:1883`.

use std::time::Duration;

use mqtt_machine_blocking::{Client, Message, QoS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost:1883".to_owned());
    let client = Client::connect(url)?;
    let mut messages = client.subscribe("greetings/#", QoS::AtLeastOnce)?;
    let delivery = client.publish(Message::to("greetings/you", "hello")?.qos(QoS::AtLeastOnce))?;
    println!("published: {:?}", delivery.wait(Duration::from_secs(10)));
    if let Some(message) = messages.recv() {
        println!("received: {} {}", message.topic, message.payload_lossy());
    }
    client.disconnect()?;
    Ok(())
}
