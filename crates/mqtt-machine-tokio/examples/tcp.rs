//! Connects over TCP, subscribes, publishes and receives: `cargo run -p mqtt-machine-tokio --example tokio_tcp -- mqtt://localhost:1883`.

use mqtt_machine_tokio::{Client, Message, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost:1883".to_owned());
    let client = Client::connect(url).await?;
    let mut messages = client.subscribe("greetings/#", QoS::AtLeastOnce).await?;
    let delivery = client.publish(Message::to("greetings/you", "hello")?.qos(QoS::AtLeastOnce)).await?;
    println!("published: {:?}", delivery.await);
    if let Some(message) = messages.recv().await {
        println!("received: {} {}", message.topic, message.payload_lossy());
    }
    client.disconnect().await?;
    Ok(())
}
