//! Owns mqtt-machine on smol, on the one thread of its executor.

use mqtt_machine_smol::Client;

use super::tokio::{options, work};
use super::{Job, Used};
use crate::Failure;

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    let executor = ::smol::LocalExecutor::new();
    ::smol::block_on(executor.run(async {
        let (client, driver) = Client::with_driver(options(job)?)?;
        let driving = executor.spawn(driver);
        client.connected().await?;
        let used = work(&client, job).await?;
        client.disconnect().await?;
        driving.await;
        Ok(used)
    }))
}
