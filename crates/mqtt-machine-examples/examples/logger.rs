//! Shows: a logger that is often offline: what it accepts is on disk before it says so, and leaves when there is a server, be it in
//! another process. `printf 'one\ntwo\n' | cargo run -p mqtt-machine-examples --example logger -- mqtt://localhost log.mqtt`; without
//! a server it keeps the lines, and the next run sends them.

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use mqtt_machine_store::StoreFile;
use mqtt_machine_tokio::{Client, Message, Options, QoS};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, path] = arguments.as_slice() else { return Err("two arguments are needed: URL, file".into()) };
    let file = StoreFile::open(path)?;
    let options =
        Options::from_url(url)?.configure(|config| config.client_id("logger")).store(file.client("logger")?);
    // Not `connect`: there may be no server, and lines are taken all the same.
    let client = Client::start(options)?;
    for line in std::io::stdin().lock().lines() {
        let delivery = client.publish(Message::to("log", line?)?.qos(QoS::ExactlyOnce)).await?;
        delivery.durable().await?;
        println!("kept");
    }
    // What has not left in this time is kept for the next run.
    let drained = client.drain(Duration::from_secs(2)).await?;
    println!("{} wait for the next run", drained.kept);
    Ok(())
}
