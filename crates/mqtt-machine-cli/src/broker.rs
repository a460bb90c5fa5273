//! Owns `broker`: the model broker of the testkit for people. It must not know the wire.

use std::time::Duration;

use clap::Args;
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

use crate::failure::Failure;
use crate::runtime::interrupted;

/// What `broker` is told.
#[derive(Args)]
pub(crate) struct BrokerArguments {
    /// The port on 127.0.0.1; 0 is a free one
    #[arg(short = 'p', long, default_value_t = 1883)]
    port: u16,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs the broker until it is interrupted.
pub(crate) async fn run(arguments: BrokerArguments) -> Result<(), Failure> {
    let port = arguments.port;
    let broker = Broker::start_on(BrokerConfig::new(), port)
        .map_err(|error| Failure::Other(format!("127.0.0.1:{port}: {error}")))?;
    println!("listening on {}", broker.url());
    let deadline = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    tokio::select! {
        () = tokio::time::sleep(deadline) => {}
        () = interrupted() => {}
    }
    Ok(())
}
