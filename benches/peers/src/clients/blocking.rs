//! Owns mqtt-machine on threads.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use mqtt_machine_blocking::{Client, Delivery};

use super::tokio::{BATCH, message, options, qos};
use super::{Direction, Job, Meter, Used};
use crate::Failure;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    let client = Client::connect(options(job)?)?;
    let used = work(&client, job)?;
    client.disconnect()?;
    Ok(used)
}

fn ended(delivery: Delivery) -> Result<(), Failure> {
    delivery.wait(PATIENCE).map_err(|_| "a publication does not end")?;
    Ok(())
}

fn work(client: &Client, job: Job) -> Result<Used, Failure> {
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish if job.case.qos == 0 => {
            let message = message(job)?;
            for _ in 1..job.count {
                client.send(&message)?;
            }
            // Messages of QoS 0 leave in the order in which they were accepted.
            ended(client.publish(message)?)?;
        }
        Direction::Publish => {
            let message = message(job)?;
            let window = usize::from(job.case.window());
            let mut open = VecDeque::with_capacity(window);
            for _ in 0..job.count {
                if open.len() == window {
                    open.pop_front().map(ended).transpose()?;
                }
                open.push_back(client.publish(message.clone())?);
            }
            open.into_iter().try_for_each(ended)?;
        }
        Direction::Receive => {
            let mut messages = client.subscribe(job.case.blast(job.count), qos(job))?;
            let mut received = 0;
            while received < job.count {
                let mut batch = messages.recv_batch(BATCH).ok_or("the client has ended")?;
                while let Some(message) = batch.next() {
                    black_box(message);
                    received += 1;
                }
            }
        }
    }
    meter.stop()
}
