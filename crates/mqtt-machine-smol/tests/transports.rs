//! Owns the run of every transport by this adapter, against real servers. It must not know what they do.

use mqtt_machine_smol::{Client, Options};

mqtt_machine_testkit::transport_matrix!(
    |options: Options| Client::start(options).map(|client| (*client).clone())
);
