//! Owns mqtt-machine on tokio, on one thread.

use std::collections::VecDeque;
use std::hint::black_box;

use ::tokio::runtime::Builder;
use mqtt_machine_tokio::{Client, Delivery, Limits, Message, Options, ProtocolVersion, QoS};

use super::{Direction, Job, Meter, Used};
use crate::{Failure, PAYLOAD, TOPIC};

/// How many messages a reader takes at once, at most.
pub(super) const BATCH: usize = 1_000;

/// What every client of mqtt-machine is told.
pub fn options(job: Job) -> Result<Options, Failure> {
    options_over("mqtt", job)
}

/// The same of one that comes this way.
pub fn options_over(way: &str, job: Job) -> Result<Options, Failure> {
    let limits = Limits { in_flight: job.case.window(), ..Limits::DEFAULT };
    let options = Options::from_url(&format!("{way}://localhost:{}", job.port))?;
    Ok(options.configure(|config| config.version(ProtocolVersion::V3_1_1).client_id("bench").limits(limits)))
}

/// Of what it publishes and subscribes to.
pub fn qos(job: Job) -> QoS {
    match job.case.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub fn message(job: Job) -> Result<Message, Failure> {
    Ok(Message::to(TOPIC, &PAYLOAD[..])?.qos(qos(job)))
}

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::connect(options(job)?).await?;
        let used = work(&client, job).await?;
        client.disconnect().await?;
        Ok(used)
    })
}

/// The same with [`receive_singly`].
pub(super) fn run_singly(job: Job) -> Result<Used, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::connect(options(job)?).await?;
        let used = receive_singly(&client, job).await?;
        client.disconnect().await?;
        Ok(used)
    })
}

/// The same for every adapter of futures. It receives in batches.
pub async fn work(client: &mqtt_machine_client::Client, job: Job) -> Result<Used, Failure> {
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish if job.case.qos == 0 => {
            let message = message(job)?;
            for _ in 1..job.count {
                client.send(&message).await?;
            }
            // Messages of QoS 0 leave in the order in which they were accepted.
            client.publish(message).await?.await;
        }
        Direction::Publish => {
            let message = message(job)?;
            let window = usize::from(job.case.window());
            let mut open: VecDeque<Delivery> = VecDeque::with_capacity(window);
            for _ in 0..job.count {
                if open.len() == window
                    && let Some(delivery) = open.pop_front()
                {
                    delivery.await;
                }
                open.push_back(client.publish(message.clone()).await?);
            }
            for delivery in open {
                delivery.await;
            }
        }
        Direction::Receive => {
            let mut messages = client.subscribe(job.case.blast(job.count), qos(job)).await?;
            let mut received = 0;
            while received < job.count {
                let mut batch = messages.recv_batch(BATCH).await.ok_or("the client has ended")?;
                while let Some(message) = batch.next() {
                    black_box(message);
                    received += 1;
                }
            }
        }
    }
    meter.stop()
}

/// Receives one message after another, each with a future of its own.
async fn receive_singly(client: &Client, job: Job) -> Result<Used, Failure> {
    let meter = Meter::start()?;
    let mut messages = client.subscribe(job.case.blast(job.count), qos(job)).await?;
    for _ in 0..job.count {
        messages.recv().await.ok_or("the client has ended")?;
    }
    meter.stop()
}
