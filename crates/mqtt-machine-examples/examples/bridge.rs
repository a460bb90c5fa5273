//! Shows: a bridge between two brokers: what is published below a topic here is published there, and acknowledged here when it is there.
//! `cargo run -p mqtt-machine-examples --example bridge -- mqtt://here mqtt://there 'sensors/#'`

use std::error::Error;

use mqtt_machine_tokio::{CleanStart, Client, Options, Outcome, Subscribe};

/// At most so many messages are on their way: the server here holds back the rest.
const IN_HAND: u16 = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [here, there, filter] = arguments.as_slice() else {
        return Err("three arguments are needed: URL here, URL there, topic filter".into());
    };
    let there = Client::connect(there).await?;
    // Messages wait in a session of this name while the bridge is away.
    let options = Options::from_url(here)?.configure(|config| {
        config.client_id("bridge").clean_start(CleanStart::Never).receive_maximum(IN_HAND)
    });
    let here = Client::connect(options).await?;
    // In 5.0 the retain flag stays, and what the bridge itself publishes does not come back.
    let request = Subscribe::to(filter.parse()?, mqtt_machine_tokio::QoS::ExactlyOnce);
    let mut messages = here.subscribe_with(request.retain_as_published().no_local()).await?;
    println!("bridging {filter}");
    while let Some(message) = messages.recv().await {
        let delivery = there.publish((*message).clone()).await?;
        tokio::spawn(async move {
            match delivery.await {
                Outcome::Sent | Outcome::Acknowledged(_) => message.ack(),
                // Not acknowledged by us: in 5.0 the publisher's server is told.
                other => {
                    eprintln!("{}: {other:?}", message.topic);
                    message.reject(mqtt_machine_tokio::ReasonCode::UnspecifiedError);
                }
            }
        });
    }
    Ok(())
}
