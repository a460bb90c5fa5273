//! Subscribes, publishes one message at QoS 1, waits for its PUBACK and receives it.

use mqtt5::{ConnectOptions, MqttClient, QoS, SubscribeOptions};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("a port is needed")?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = MqttClient::with_options(ConnectOptions::new("size"));
        client.connect(&format!("mqtt://127.0.0.1:{port}")).await?;
        let (one, mut received) = mpsc::unbounded_channel();
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let heard = move |message: mqtt5::types::Message| {
            let _ = one.send(message.payload[..] == PAYLOAD);
        };
        client.subscribe_with_options(TOPIC, options, heard).await?;
        client.publish_qos(TOPIC, PAYLOAD, QoS::AtLeastOnce).await?;
        if received.recv().await != Some(true) {
            return Err("another message".into());
        }
        client.disconnect().await?;
        println!("published and received");
        Ok(())
    })
}
