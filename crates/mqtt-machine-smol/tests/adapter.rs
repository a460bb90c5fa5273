//! Owns the proof that this adapter does what every adapter does. It must not know what that is.

use mqtt_machine_smol::{ConnectError, Options};
use mqtt_machine_testkit::adapters::Adapter;

/// Clients run in the threads of the global executor.
struct OnSmol;

impl Adapter for OnSmol {
    fn start(&self, options: Options) -> Result<mqtt_machine_futures_io::Client, ConnectError> {
        mqtt_machine_smol::Client::start(options).map(|client| (*client).clone())
    }
}

mqtt_machine_testkit::adapter_conformance!(OnSmol);
