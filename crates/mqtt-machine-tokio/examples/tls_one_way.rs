//! Connects over TLS and checks the server's certificate against a file of certificates:
//! `cargo run -p mqtt-machine-tokio --example tokio_tls_one_way -- mqtts://localhost:8883 ca.pem`. Without a file the roots of the system are
//! trusted.

use mqtt_machine_tokio::{Client, Message, Options, QoS, TlsOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "mqtts://localhost:8883".to_owned());
    let tls = match arguments.next() {
        Some(ca) => TlsOptions::new().ca_file(ca),
        None => TlsOptions::new(),
    };
    let options = Options::from_url(&url)?.route(|route| route.tls(tls));
    let client = Client::connect(options).await?;
    let mut messages = client.subscribe("greetings/#", QoS::AtLeastOnce).await?;
    let delivery = client.publish(Message::to("greetings/you", "hello")?.qos(QoS::AtLeastOnce)).await?;
    println!("published: {:?}", delivery.await);
    if let Some(message) = messages.recv().await {
        println!("received: {} {}", message.topic, message.payload_lossy());
    }
    client.disconnect().await?;
    Ok(())
}
