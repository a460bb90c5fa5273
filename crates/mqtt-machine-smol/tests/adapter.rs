//! Owns the proof that this adapter does what every adapter does. It must not know what that is.

#[path = "../../mqtt-machine-futures-io/tests/dripping/mod.rs"]
mod dripping;

use dripping::Dripping;
use mqtt_machine_futures_io::Client;
use mqtt_machine_smol::{ConnectError, Connector, Options, Server};
use mqtt_machine_testkit::adapters::{Adapter, Drip};
use smol::net::TcpStream;

/// Clients run in the threads of the global executor.
struct OnSmol;

impl Adapter for OnSmol {
    fn start(&self, options: Options) -> Result<Client, ConnectError> {
        mqtt_machine_smol::Client::start(options).map(|client| (*client).clone())
    }

    fn start_dripping(&self, options: Options, drip: Drip) -> Result<Client, ConnectError> {
        let connector = Connector::new(move |server: Server| {
            let drip = drip.clone();
            async move {
                let address = server.as_str().trim_start_matches("mqtt://");
                Ok(Dripping { stream: TcpStream::connect(address).await?, drip })
            }
        });
        mqtt_machine_smol::Client::start_with(options, connector).map(|client| (*client).clone())
    }
}

mqtt_machine_testkit::adapter_conformance!(OnSmol);

mqtt_machine_testkit::same_program!(async mqtt_machine_smol, smol::block_on);
