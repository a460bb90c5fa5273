//! Owns mqtt5: 5.0, messages by a callback.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::mqtt5::{ConnectOptions, MqttClient, QoS, SubscribeOptions};
use ::tokio::runtime::Builder;
use ::tokio::sync::oneshot;

use super::{Direction, Job, Meter, Used};
use crate::{Failure, PAYLOAD, TOPIC};

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(work(job))
}

async fn work(job: Job) -> Result<Used, Failure> {
    let qos = match job.case.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let client = MqttClient::with_options(ConnectOptions::new("bench"));
    client.connect(&format!("mqtt://127.0.0.1:{}", job.port)).await?;
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish => {
            for _ in 0..job.count {
                client.publish_qos(TOPIC, PAYLOAD, qos).await?;
            }
        }
        Direction::Receive => {
            let (all, end) = oneshot::channel();
            let (open, all) = (Arc::new(AtomicU64::new(job.count)), Mutex::new(Some(all)));
            let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
            let counted = move |_| {
                if open.fetch_sub(1, Ordering::Relaxed) == 1
                    && let Some(all) = all.lock().unwrap_or_else(PoisonError::into_inner).take()
                {
                    let _ = all.send(());
                }
            };
            client.subscribe_with_options(job.case.blast(job.count), options, counted).await?;
            end.await?;
        }
    }
    let used = meter.stop()?;
    client.disconnect().await?;
    Ok(used)
}
