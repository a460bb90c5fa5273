//! Owns the run of every transport by this adapter, against real servers. It must not know what they do.

use std::sync::LazyLock;

use mqtt_machine_client::{ConnectError, Options};
use mqtt_machine_tokio::Client;
use tokio::runtime::Runtime;

/// Drives the clients of all tests.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

fn start(options: Options) -> Result<mqtt_machine_client::Client, ConnectError> {
    let _inside = RUNTIME.enter();
    Client::start(options).map(|client| (*client).clone())
}

mqtt_machine_testkit::transport_matrix!(start);
