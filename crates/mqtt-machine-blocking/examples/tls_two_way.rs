//! Connects over TLS with a certificate of its own, which the server checks as well:
//! `cargo run -p mqtt-machine-blocking --example blocking_tls_two_way -- mqtts://localhost:8883 ca.pem client.pem client.key`.

use std::time::Duration;

use mqtt_machine_blocking::{Client, Message, Options, QoS, TlsOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ca, certificate, key] = arguments.as_slice() else {
        return Err("four arguments are needed: URL, CA file, certificate file, key file".into());
    };
    let tls = TlsOptions::new().ca_file(ca).client_certificate_files(certificate, key);
    let options = Options::from_url(url)?.route(|route| route.tls(tls));
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
