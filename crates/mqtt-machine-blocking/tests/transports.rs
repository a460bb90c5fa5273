//! Owns the run of every transport by this adapter, against real servers. It must not know what they do.

use mqtt_machine_blocking::{Client, ConnectError, Options};

fn start(options: Options) -> Result<mqtt_machine_client::Client, ConnectError> {
    let (client, runner) = Client::with_driver(options)?;
    std::thread::spawn(move || runner.run());
    Ok(client.handle().clone())
}

mqtt_machine_testkit::transport_matrix!(start);
