//! Owns ntex-mqtt, on ntex's own arbiter over tokio.

use std::cell::Cell;
use std::rc::Rc;

use ::ntex::rt::{DefaultRuntime, System, spawn};
use ::ntex::util::{ByteString, Bytes};
use ::ntex::{ServiceFactory, SharedCfg, fn_service};
use ::tokio::sync::oneshot;
use ntex_mqtt::MqttServiceConfig;
use ntex_mqtt::v3::client::{Connect, MqttConnector, ProtocolMessage};
use ntex_mqtt::v3::{MqttSink, codec::QoS};

use super::{Direction, Job, Meter, Used};
use crate::{Failure, PAYLOAD, TOPIC};

/// Publications of QoS 0 before the writer has its turn.
const BURST: u64 = 600;

pub(super) fn run(job: Job) -> Result<Used, Failure> {
    System::new("bench", DefaultRuntime).block_on(work(job))
}

fn told(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}").into()
}

async fn work(job: Job) -> Result<Used, Failure> {
    let settings = MqttServiceConfig::new().set_max_send(job.case.window()).set_max_receive(1_000);
    let shared: SharedCfg = SharedCfg::new("bench").add(settings).into();
    let connector = MqttConnector::new().pipeline(shared).await.map_err(told)?;
    let address = format!("127.0.0.1:{}", job.port);
    let client =
        connector.call(Connect::new(address).client_id("bench").clean_session()).await.map_err(told)?;
    let sink = client.sink();
    let (all, mut end) = oneshot::channel();
    let open = Rc::new(Cell::new(job.count));
    let all = Rc::new(Cell::new(Some(all)));
    let one_less = move || {
        open.set(open.get() - 1);
        if open.get() == 0
            && let Some(all) = all.take()
        {
            let _ = all.send(());
        }
    };
    let ended = one_less.clone();
    let driving = spawn(client.start(fn_service(move |message: ProtocolMessage| {
        let ended = one_less.clone();
        async move {
            Ok::<_, ()>(match message {
                ProtocolMessage::Publish(publish) => {
                    ended();
                    publish.ack()
                }
                ProtocolMessage::PublishRelease(release) => release.ack(),
                ProtocolMessage::Ping(ping) => ping.ack(),
            })
        }
    })));
    let meter = Meter::start()?;
    match job.case.direction {
        Direction::Publish => publish(&sink, job, ended, &mut end).await?,
        Direction::Receive => {
            let qos = match job.case.qos {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let filter = ByteString::from(job.case.blast(job.count));
            sink.subscribe().topic_filter(filter, qos).send().await.map_err(told)?;
            (&mut end).await?;
        }
    }
    if job.case.direction == Direction::Publish && job.case.qos == 0 {
        // What was given to it leaves before the socket closes.
        sink.close();
        driving.await.map_err(told)?.map_err(told)?;
        return meter.stop();
    }
    let used = meter.stop();
    sink.close();
    used
}

async fn publish(
    sink: &MqttSink,
    job: Job,
    ended: impl Fn() + Clone + 'static,
    end: &mut oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let (topic, payload) = (ByteString::from_static(TOPIC), Bytes::from_static(&PAYLOAD));
    let acknowledged = ended.clone();
    sink.publish_ack_cb(move |_, _| acknowledged());
    for count in 0..job.count {
        match job.case.qos {
            0 => {
                sink.publish(topic.clone()).send_at_most_once(payload.clone()).map_err(told)?;
                if count % BURST == 0 {
                    ::tokio::task::yield_now().await;
                }
            }
            _ => {
                sink.ready().await;
                sink.publish(topic.clone()).send_at_least_once_no_block(payload.clone()).map_err(told)?;
            }
        }
    }
    if job.case.qos > 0 {
        end.await?;
    }
    Ok(())
}
