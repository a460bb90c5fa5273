//! Owns the proof that this adapter does what every adapter does. It must not know what that is.

use mqtt_machine_blocking::{ConnectError, Options};
use mqtt_machine_client::Client;
use mqtt_machine_testkit::adapters::Adapter;

struct InThreads;

impl Adapter for InThreads {
    fn start(&self, options: Options) -> Result<Client, ConnectError> {
        mqtt_machine_blocking::Client::start(options).map(|client| (*client).clone())
    }

    fn threads_per_client(&self) -> usize {
        1
    }
}

mqtt_machine_testkit::adapter_conformance!(InThreads);
