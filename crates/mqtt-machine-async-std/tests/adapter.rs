//! Owns the proof that this adapter does what every adapter does. It must not know what that is.

use mqtt_machine_async_std::{ConnectError, Options};
use mqtt_machine_testkit::adapters::Adapter;

/// Clients run in the threads of the global executor.
struct OnAsyncStd;

impl Adapter for OnAsyncStd {
    fn start(&self, options: Options) -> Result<mqtt_machine_futures_io::Client, ConnectError> {
        mqtt_machine_async_std::Client::start(options).map(|client| (*client).clone())
    }
}

mqtt_machine_testkit::adapter_conformance!(OnAsyncStd);
