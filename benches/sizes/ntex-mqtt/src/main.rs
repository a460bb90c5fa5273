//! Subscribes, publishes one message at QoS 1, waits for its PUBACK and receives it.

use std::cell::Cell;
use std::rc::Rc;

use ntex::rt::{DefaultRuntime, System, spawn};
use ntex::util::{ByteString, Bytes};
use ntex::{ServiceFactory, SharedCfg, fn_service};
use ntex_mqtt::v3::client::{Connect, MqttConnector, ProtocolMessage};
use ntex_mqtt::v3::codec::QoS;
use tokio::sync::oneshot;

const TOPIC: &str = "burst/1/0000000000001";
const PAYLOAD: [u8; 64] = [0x2a; 64];

type Failure = Box<dyn std::error::Error>;

fn told(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}").into()
}

fn main() -> Result<(), Failure> {
    let port = std::env::args().nth(1).ok_or("a port is needed")?;
    System::new("size", DefaultRuntime).block_on(async move {
        let connector = MqttConnector::new().pipeline(SharedCfg::new("size").into()).await.map_err(told)?;
        let connect = Connect::new(format!("127.0.0.1:{port}")).client_id("size").clean_session();
        let client = connector.call(connect).await.map_err(told)?;
        let sink = client.sink();
        let (one, received) = oneshot::channel();
        let one = Rc::new(Cell::new(Some(one)));
        drop(spawn(client.start(fn_service(move |message: ProtocolMessage| {
            let one = Rc::clone(&one);
            async move {
                Ok::<_, ()>(match message {
                    ProtocolMessage::Publish(publish) => {
                        if let Some(one) = one.take() {
                            let whole = publish.read_all().await.map_err(drop)?;
                            let _ = one.send(whole[..] == PAYLOAD);
                        }
                        publish.ack()
                    }
                    ProtocolMessage::PublishRelease(release) => release.ack(),
                    ProtocolMessage::Ping(ping) => ping.ack(),
                })
            }
        }))));
        let topic = ByteString::from_static(TOPIC);
        sink.subscribe().topic_filter(topic.clone(), QoS::AtLeastOnce).send().await.map_err(told)?;
        sink.publish(topic).send_at_least_once(Bytes::from_static(&PAYLOAD)).await.map_err(told)?;
        if !received.await? {
            return Err("another message".into());
        }
        sink.close();
        println!("published and received");
        Ok(())
    })
}
