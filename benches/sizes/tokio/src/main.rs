//! Subscribes, publishes one message at QoS 1, waits for its outcome and receives it.

use mqtt_machine_tokio::{Client, Message, Options, Outcome, ProtocolVersion, QoS};
use tokio::runtime::Builder;

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("a port is needed")?;
    let options = Options::from_url(&format!("mqtt://127.0.0.1:{port}"))?;
    let options = options.configure(|config| config.version(ProtocolVersion::V3_1_1));
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::connect(options).await?;
        let mut messages = client.subscribe(TOPIC, QoS::AtLeastOnce).await?;
        let delivery = client.publish(Message::to(TOPIC, &PAYLOAD[..])?.qos(QoS::AtLeastOnce)).await?;
        let Outcome::Acknowledged(_) = delivery.await else { return Err("not published".into()) };
        let message = messages.recv().await.ok_or("the client has ended")?;
        if message.payload[..] != PAYLOAD {
            return Err("another message".into());
        }
        client.disconnect().await?;
        println!("published and received");
        Ok(())
    })
}
