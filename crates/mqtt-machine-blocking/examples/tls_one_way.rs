//! Connects over TLS and checks the server's certificate against a file of certificates:
//! `cargo run -p mqtt-machine-blocking --example blocking_tls_one_way -- mqtts://localhost:8883 ca.pem`. Without a file the roots of the system are
//! trusted.

use std::time::Duration;

use mqtt_machine_blocking::{Client, Message, Options, QoS, TlsOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "mqtts://localhost:8883".to_owned());
    let tls = match arguments.next() {
        Some(ca) => TlsOptions::new().ca_file(ca),
        None => TlsOptions::new(),
    };
    let options = Options::from_url(&url)?.route(|route| route.tls(tls));
    let client = Client::connect(options)?;
    let mut messages = client.subscribe("greetings/#", QoS::AtLeastOnce)?;
    let delivery = client.publish(Message::to("greetings/you", "hello")?.qos(QoS::AtLeastOnce))?;
    println!("published: {:?}", delivery.wait(Duration::from_secs(10)));
    if let Some(message) = messages.recv() {
        println!("received: {} {}", message.topic, message.payload_lossy());
    }
    client.disconnect()?;
    Ok(())
}
