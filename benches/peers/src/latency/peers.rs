//! Owns the round trips of the peers, beside a socket of tokio's, which all of them stand on.

use ::ntex::rt::{DefaultRuntime, System, spawn};
use ::ntex::util::{ByteString, Bytes};
use ::ntex::{ServiceFactory, SharedCfg, fn_service};
use ::tokio::runtime::Builder;
use ntex_mqtt::MqttServiceConfig;
use ntex_mqtt::v3::client::{Connect, MqttConnector, ProtocolMessage};

use super::futures::Tokio;
use super::{Job, Times, alternate};
use crate::{Failure, PAYLOAD, TOPIC};

/// More than are ever on their way here.
const WINDOW: u16 = 10;

pub(super) fn ntex(job: Job) -> Result<Times, Failure> {
    System::new("bench", DefaultRuntime).block_on(async move {
        let told = |error: &dyn std::fmt::Debug| Failure::from(format!("{error:?}"));
        let shared: SharedCfg =
            SharedCfg::new("bench").add(MqttServiceConfig::new().set_max_send(WINDOW)).into();
        let connector = MqttConnector::new().pipeline(shared).await.map_err(|error| told(&error))?;
        let connect = Connect::new(format!("127.0.0.1:{}", job.port)).client_id("bench").clean_session();
        let client = connector.call(connect).await.map_err(|error| told(&error))?;
        let sink = client.sink();
        drop(spawn(client.start(fn_service(async |message: ProtocolMessage| {
            Ok::<_, ()>(match message {
                ProtocolMessage::Publish(publish) => publish.ack(),
                ProtocolMessage::PublishRelease(release) => release.ack(),
                ProtocolMessage::Ping(ping) => ping.ack(),
            })
        }))));
        let (topic, payload) = (ByteString::from_static(TOPIC), Bytes::from_static(&PAYLOAD));
        let publish = async || {
            let sent = sink.publish(topic.clone()).send_at_least_once(payload.clone()).await;
            sent.map_err(|error| told(&error))
        };
        let mut raw = Tokio::connect(job.port).await?;
        let times = alternate(job, publish, async || raw.round_trip().await).await;
        sink.close();
        times
    })
}

pub(super) fn rumqttc(job: Job) -> Result<Times, Failure> {
    use ::rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};

    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let options = MqttOptions::new("bench", "127.0.0.1", job.port);
        let (client, mut events) = AsyncClient::new(options, WINDOW.into());
        while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
        let publish = async || {
            client.publish(TOPIC, QoS::AtLeastOnce, false, &PAYLOAD[..]).await?;
            while !matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {}
            Ok(())
        };
        let mut raw = Tokio::connect(job.port).await?;
        let times = alternate(job, publish, async || raw.round_trip().await).await?;
        client.disconnect().await?;
        while !matches!(events.poll().await?, Event::Outgoing(Outgoing::Disconnect)) {}
        Ok(times)
    })
}

pub(super) fn rumqttc_next(job: Job) -> Result<Times, Failure> {
    use ::rumqttc_next::{AsyncClient, Event, MqttOptions, Outgoing, Packet, PublishOptions, QoS};

    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let options = MqttOptions::new("bench", ("127.0.0.1", job.port));
        let (client, mut events) = AsyncClient::builder(options).capacity(WINDOW.into()).build();
        while !matches!(events.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
        let publish = async || {
            client.publish(TOPIC, &PAYLOAD[..], PublishOptions::new(QoS::AtLeastOnce)).await?;
            while !matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {}
            Ok(())
        };
        let mut raw = Tokio::connect(job.port).await?;
        let times = alternate(job, publish, async || raw.round_trip().await).await?;
        client.disconnect().await?;
        while !matches!(events.poll().await?, Event::Outgoing(Outgoing::Disconnect)) {}
        Ok(times)
    })
}

pub(super) fn mqtt5(job: Job) -> Result<Times, Failure> {
    use ::mqtt5::{ConnectOptions, MqttClient, QoS};

    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = MqttClient::with_options(ConnectOptions::new("bench"));
        client.connect(&format!("mqtt://127.0.0.1:{}", job.port)).await?;
        let publish = async || {
            client.publish_qos(TOPIC, PAYLOAD, QoS::AtLeastOnce).await?;
            Ok(())
        };
        let mut raw = Tokio::connect(job.port).await?;
        let times = alternate(job, publish, async || raw.round_trip().await).await?;
        client.disconnect().await?;
        Ok(times)
    })
}
