//! Subscribes to a filter and prints what comes, for ever or so many messages:
//! `cargo run -p mqtt-machine-smol --example smol_subscribe -- mqtt://localhost 'sensors/#' 3`.

use mqtt_machine_smol::{Client, QoS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(filter)) = (arguments.next(), arguments.next()) else {
        return Err("two arguments are needed: URL, topic filter".into());
    };
    let mut left: usize = arguments.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    let client = Client::connect(url).await?;
    let mut messages = client.subscribe(filter.as_str(), QoS::AtLeastOnce).await?;
    println!("subscribed");
    while left > 0
        && let Some(message) = messages.recv().await
    {
        println!("{} {}", message.topic, message.payload_lossy());
        left -= 1;
    }
    client.disconnect().await?;
    Ok(())
}
