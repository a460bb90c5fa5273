//! Stays connected by itself: publishes a number each fifth of a second, tells what happens to the connection, and ends when all
//! have been acknowledged. Stop and start the server meanwhile: nothing is lost.
//! `cargo run -p mqtt-machine-smol --example smol_reconnect -- mqtt://localhost:1883 50`.

use std::time::Duration;

use mqtt_machine_smol::{Backoff, Client, ClientEvent, Events, Message, Options, Outcome, QoS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "mqtt://localhost:1883".to_owned());
    let count: u32 = arguments.next().map_or(Ok(50), |count| count.parse())?;
    // The first wait is drawn from up to 100 ms, and they double up to 2 s. Without this: 1 s, up to a minute.
    let backoff =
        Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2), ..Backoff::DEFAULT };
    let options = Options::from_url(&url)?.configure(|config| config.backoff(backoff));
    let client = Client::connect(options).await?;
    println!("connected");
    let mut events = client.events();
    let mut deliveries = Vec::new();
    for number in 0..count {
        let message = Message::to("numbers", number.to_string())?.qos(QoS::AtLeastOnce);
        // Without a connection it waits in the queue.
        deliveries.push(client.publish(message).await?);
        smol::Timer::after(Duration::from_millis(200)).await;
        tell(&mut events);
    }
    for delivery in deliveries {
        match delivery.await {
            Outcome::Acknowledged(_) => {}
            other => return Err(format!("not delivered: {other:?}").into()),
        }
    }
    tell(&mut events);
    println!("{count} acknowledged");
    client.disconnect().await?;
    Ok(())
}

/// Prints what has happened since it was last asked.
fn tell(events: &mut Events) {
    while let Some(event) = events.try_recv() {
        match event {
            ClientEvent::Connected(connected) => println!("connected again to {}", connected.server),
            ClientEvent::Disconnected { reason, .. } => println!("disconnected: {reason}"),
            ClientEvent::ConnectFailed { reason, .. } => println!("not connected: {reason}"),
            _ => {}
        }
    }
}
