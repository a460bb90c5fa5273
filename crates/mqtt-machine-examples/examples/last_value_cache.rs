//! Shows: a cache of the last value of every topic, and the changes as they come.
//! `cargo run -p mqtt-machine-examples --example last_value_cache -- mqtt://localhost 'sensors/#' 3` ends after three changes.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use mqtt_machine_tokio::{Client, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(filter)) = (arguments.next(), arguments.next()) else {
        return Err("two arguments are needed: URL, topic filter".into());
    };
    let mut left: usize = arguments.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    let client = Client::connect(url).await?;
    let mut messages = client.subscribe(filter.as_str(), QoS::AtLeastOnce).await?;
    println!("watching");
    let mut values: BTreeMap<String, Bytes> = BTreeMap::new();
    while left > 0
        && let Some(message) = messages.recv().await
    {
        // A message that is kept is taken out of its credit, and out of the buffer that it was read into.
        let message = message.into_message().detached();
        let topic = message.topic.as_str().to_owned();
        let text = message.payload_lossy();
        if values.insert(topic.clone(), message.payload.clone()) != Some(message.payload) {
            println!("{topic} {text}");
            left -= 1;
        }
    }
    client.disconnect().await?;
    println!("{} topics", values.len());
    Ok(())
}
