//! Owns the proof that a client runs on async-std: everything else is held by the adapter conformance suite and in
//! `mqtt-machine-futures-io`. It must not know the wire.

use mqtt_machine_async_std::{Client, Message, Outcome, QoS, publish_single, subscribe_simple};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

#[test]
fn messages_come_back_and_the_helpers_do_one_thing() {
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    async_std::task::block_on(async {
        let client = Client::connect(broker.url()).await.unwrap();
        let mut messages = client.subscribe("runtime/#", QoS::ExactlyOnce).await.unwrap();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let message = Message::to("runtime/a", "hello").unwrap().qos(qos);
            let outcome = client.publish(message).await.unwrap().await;
            assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
            let message = messages.recv().await.unwrap();
            assert_eq!((message.qos, message.payload_lossy().as_str()), (qos, "hello"));
        }
        assert_eq!(client.disconnect().await.unwrap(), 0);

        let kept = Message::to("runtime/kept", "once").unwrap().qos(QoS::AtLeastOnce).retain(true);
        let outcome = publish_single(broker.url(), kept).await.unwrap();
        assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
        let got = subscribe_simple(broker.url(), ["runtime/kept"], QoS::AtLeastOnce, 1).await.unwrap();
        assert_eq!(got[0].payload_lossy(), "once");
    });
}
