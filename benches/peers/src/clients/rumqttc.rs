//! Owns rumqttc: publications by a task, the event loop beside it, on one thread.

use ::rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use ::tokio::runtime::Builder;

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
    let mut options = MqttOptions::new("bench", "127.0.0.1", job.port);
    options.set_inflight(job.case.window());
    let (client, mut events) = AsyncClient::new(options, job.case.window().into());
    while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish => drop(::tokio::spawn({
            let client = client.clone();
            async move {
                for _ in 0..job.count {
                    client.publish(TOPIC, qos, false, &PAYLOAD[..]).await?;
                }
                Ok::<_, ::rumqttc::ClientError>(())
            }
        })),
        Direction::Receive => client.subscribe(job.case.blast(job.count), qos).await?,
    }
    let mut open = job.count;
    while open > 0 {
        let one = match (events.poll().await?, job.case.direction) {
            (Event::Outgoing(Outgoing::Publish(_)), Direction::Publish) => job.case.qos == 0,
            (Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)), Direction::Publish) => true,
            (Event::Incoming(Packet::Publish(_)), Direction::Receive) => true,
            _ => false,
        };
        open -= u64::from(one);
    }
    let used = meter.stop()?;
    client.disconnect().await?;
    while !matches!(events.poll().await?, Event::Outgoing(Outgoing::Disconnect)) {}
    Ok(used)
}
