//! Publishes one message at QoS 1, waits for its acknowledgement and disconnects:
//! `cargo run -p mqtt-machine-smol --example smol_publish -- mqtt://localhost sensors/1 21.5`.

use mqtt_machine_smol::{Message, Outcome, QoS, publish_single};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, topic, payload] = arguments.as_slice() else {
        return Err("three arguments are needed: URL, topic, payload".into());
    };
    let message = Message::to(topic, payload.clone())?.qos(QoS::AtLeastOnce);
    match publish_single(url, message).await? {
        Outcome::Acknowledged(_) => println!("published"),
        other => return Err(format!("not published: {other:?}").into()),
    }
    Ok(())
}
