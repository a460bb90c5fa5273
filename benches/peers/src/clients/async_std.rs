//! Owns mqtt-machine on async-std, on the threads of its executor.

use mqtt_machine_async_std::Client;

use super::tokio::{options, work};
use super::{Job, Used};
use crate::Failure;

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    ::async_std::task::block_on(async {
        let client = Client::connect(options(job)?).await?;
        let used = work(&client, job).await?;
        client.disconnect().await?;
        Ok(used)
    })
}
