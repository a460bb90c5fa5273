//! Connects over TLS with a certificate of its own, which the server checks as well:
//! `cargo run -p mqtt-machine-async-std --example async_std_tls_two_way -- mqtts://localhost:8883 ca.pem client.pem client.key`.

use mqtt_machine_async_std::{Client, Message, Options, QoS, TlsOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    async_std::task::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ca, certificate, key] = arguments.as_slice() else {
        return Err("four arguments are needed: URL, CA file, certificate file, key file".into());
    };
    let tls = TlsOptions::new().ca_file(ca).client_certificate_files(certificate, key);
    let options = Options::from_url(url)?.route(|route| route.tls(tls));
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
