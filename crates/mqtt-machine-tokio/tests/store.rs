//! Owns the proof that a client with a store keeps what it promised: across restarts, slow disks and full ones. It must not know the
//! wire.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use mqtt_machine_client::store::{Change, Kept, MemoryStore, Store, StoreError};
use mqtt_machine_client::{Durability, NotDurable, PublishKey};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Client, CommandError, ConnectError, Message, Options, Outcome, ProtocolVersion, QoS, Refused,
};
use support::{free_port, options, within};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn message(text: &str) -> Message {
    Message::to("kept", text.to_owned()).unwrap().qos(QoS::ExactlyOnce)
}

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

fn with(url: &str, store: impl Store + 'static) -> Options {
    options(url, "keeper", V5).store(store)
}

/// A store whose disk can be stopped or full, and that counts its batches.
#[derive(Clone, Default)]
struct Disk {
    store: MemoryStore,
    stopped: Arc<(Mutex<bool>, Condvar)>,
    full: Arc<AtomicBool>,
    batches: Arc<AtomicUsize>,
    changes: Arc<AtomicUsize>,
}

impl Disk {
    fn stop(&self, stop: bool) {
        *self.stopped.0.lock().unwrap() = stop;
        self.stopped.1.notify_all();
    }
}

impl Store for Disk {
    fn load(&mut self) -> Result<Kept, StoreError> {
        self.store.load()
    }

    fn apply(&mut self, changes: &[Change], at: SystemTime) -> Result<(), StoreError> {
        let (stopped, changed) = &*self.stopped;
        drop(changed.wait_while(stopped.lock().unwrap(), |stopped| *stopped).unwrap());
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full("no space left".to_owned()));
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes.len(), Ordering::Relaxed);
        self.store.apply(changes, at)
    }
}

#[tokio::test]
async fn what_was_accepted_without_a_server_is_sent_by_the_next_client_of_the_store() {
    let store = MemoryStore::new();
    let port = free_port();
    let url = format!("mqtt://127.0.0.1:{port}");
    within(30, async {
        let client = Client::start(with(&url, store.clone())).unwrap();
        let mut deliveries = Vec::new();
        for number in 0..10 {
            deliveries.push(client.publish(message(&number.to_string())).await.unwrap());
        }
        deliveries[9].durable().await.unwrap();
        let request = mqtt_machine_client::Disconnect::new(Duration::ZERO);
        let drained = client.disconnect_with(request).await.unwrap();
        assert_eq!(drained, mqtt_machine_client::Drained { delivered: 0, undelivered: 10, kept: 10 });
        for delivery in deliveries {
            assert_eq!(delivery.await, Outcome::Kept);
        }
        let broker = Broker::start_on(BrokerConfig::new(), port).unwrap();
        let client = Client::connect(with(&url, store.clone())).await.unwrap();
        let sent = |broker: &mut mqtt_machine_testkit::broker::Broker| {
            (0..10).map(|number| broker.log().count("kept", number.to_string().as_bytes())).sum::<usize>()
        };
        while broker.broker(sent) < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.disconnect().await.unwrap();
        assert_eq!(broker.broker(sent), 10, "each once");
    })
    .await;
}

#[tokio::test]
async fn nothing_leaves_and_nothing_is_told_before_the_disk_says_so() {
    let (broker, disk) = (broker(), Disk::default());
    within(30, async {
        let client = Client::connect(with(&broker.url(), disk.clone())).await.unwrap();
        disk.stop(true);
        let delivery = client.publish(message("x")).await.unwrap();
        let mut durable = delivery.durable();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(client.is_connected());
        assert_eq!(broker.broker(|broker| broker.log().count("kept", b"x")), 0);
        assert!(futures_poll(&mut durable).is_none());
        disk.stop(false);
        durable.await.unwrap();
        assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        client.disconnect().await.unwrap();
    })
    .await;
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn many_publications_share_a_batch() {
    let (broker, disk) = (broker(), Disk::default());
    within(60, async {
        let options =
            with(&broker.url(), disk.clone()).durability(Durability::Within(Duration::from_millis(20)));
        let client = Client::connect(options).await.unwrap();
        let before = disk.batches.load(Ordering::Relaxed);
        let mut deliveries = Vec::new();
        for number in 0..500 {
            deliveries.push(client.publish(message(&number.to_string())).await.unwrap());
        }
        for delivery in deliveries {
            assert!(matches!(delivery.await, Outcome::Acknowledged(_)));
        }
        let batches = disk.batches.load(Ordering::Relaxed) - before;
        assert!(batches < 100, "{batches} batches for 500 messages of QoS 2");
        client.disconnect().await.unwrap();
        assert!(disk.store.len() < 5, "{} rows are left", disk.store.len());
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_ends_what_was_accepted_and_says_so() {
    let (broker, disk) = (broker(), Disk::default());
    within(30, async {
        let client = Client::connect(with(&broker.url(), disk.clone())).await.unwrap();
        disk.full.store(true, Ordering::Relaxed);
        let delivery = client.publish(message("x")).await.unwrap();
        let late = client.publish(Message::to("free", "y").unwrap()).await.unwrap();
        let why = delivery.durable().await.unwrap_err();
        assert!(matches!(&why, NotDurable::Failed(why) if why.contains("no space left")), "{why:?}");
        assert_eq!(delivery.await, Outcome::StoreFailed);
        assert!(matches!(late.await, Outcome::StoreFailed | Outcome::Sent));
        let refused = client.publish(message("y")).await.unwrap_err();
        assert_eq!(refused, CommandError::Refused(Refused::StoreFailed));
        let over = client.connected().await.unwrap_err();
        assert!(over.to_string().contains("no space left"), "{over}");
        client.disconnect().await.unwrap();
        assert_eq!(broker.broker(|broker| broker.log().count("kept", b"x")), 0);
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_told_without_a_connection_too() {
    let disk = Disk::default();
    disk.full.store(true, Ordering::Relaxed);
    within(30, async {
        let client = Client::start(with(&format!("mqtt://127.0.0.1:{}", free_port()), disk)).unwrap();
        let delivery = client.publish(message("x")).await.unwrap();
        assert!(matches!(delivery.durable().await, Err(NotDurable::Failed(_))));
        assert_eq!(delivery.await, Outcome::StoreFailed);
        assert!(matches!(client.connected().await, Err(ConnectError::GaveUp(_))));
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_an_error_before_anything_is_sent() {
    let broker = broker();
    let mut store = MemoryStore::new();
    let (key, value) = (vec![1].into(), b"torn"[..].into());
    store.apply(&[Change::Put { key, value }], SystemTime::now()).unwrap();
    within(20, async {
        let error = Client::connect(with(&broker.url(), store.clone())).await.unwrap_err();
        assert!(matches!(error, ConnectError::Store(StoreError::Row(_))), "{error:?}");
        let shared = with(&broker.url(), MemoryStore::new());
        let _first = Client::connect(shared.clone()).await.unwrap();
        let error = Client::connect(shared).await.unwrap_err();
        assert!(matches!(error, ConnectError::Store(StoreError::InUse(_))), "{error:?}");
        assert_eq!(store.len(), 1, "it is as it was");
    })
    .await;
}

#[tokio::test]
async fn until_the_drain_nothing_is_written_and_then_everything_is() {
    let disk = Disk::default();
    let url = format!("mqtt://127.0.0.1:{}", free_port());
    within(30, async {
        let options = with(&url, disk.clone()).durability(Durability::OnDrain);
        let client = Client::start(options).unwrap();
        let delivery = client.publish(message("x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(disk.batches.load(Ordering::Relaxed), 0);
        let mut durable = delivery.durable();
        assert!(futures_poll(&mut durable).is_none());
        client.disconnect_with(mqtt_machine_client::Disconnect::new(Duration::ZERO)).await.unwrap();
        assert_eq!(delivery.await, Outcome::Kept);
        assert!(disk.store.len() >= 2, "{}", disk.store.len());
    })
    .await;
}

#[tokio::test]
async fn who_asks_again_by_a_key_gets_the_outcome_also_of_a_client_before() {
    let (broker, store) = (broker(), MemoryStore::new());
    let key = PublishKey::new("reading 7").unwrap();
    within(30, async {
        let client = Client::connect(with(&broker.url(), store.clone())).await.unwrap();
        let first = client.publish_keyed(key.clone(), message("once")).await.unwrap();
        let second = client.publish_keyed(key.clone(), message("once")).await.unwrap();
        assert_eq!(first.op(), second.op());
        let (first, second) = (first.await, second.await);
        assert!(matches!(first, Outcome::Acknowledged(_)));
        assert_eq!(first, second);
        client.disconnect().await.unwrap();
        let client = Client::connect(with(&broker.url(), store.clone())).await.unwrap();
        let again = client.publish_keyed(key.clone(), message("once")).await.unwrap();
        assert!(matches!(again.await, Outcome::Acknowledged(_)));
        assert_eq!(broker.broker(|broker| broker.log().count("kept", b"once")), 1);
        client.forget(&key);
        assert_eq!(client.pending(), 0);
        client.disconnect().await.unwrap();
        assert!(store.len() < 5, "{} rows", store.len());
    })
    .await;
}

#[tokio::test]
async fn a_message_that_was_not_settled_comes_again_to_the_next_client_with_its_key() {
    let (broker, store) = (broker(), MemoryStore::new());
    within(30, async {
        let client = Client::connect(with(&broker.url(), store.clone())).await.unwrap();
        let mut messages = client.subscribe("kept", QoS::ExactlyOnce).await.unwrap();
        let other = Client::connect(options(&broker.url(), "other", V5)).await.unwrap();
        other.publish(message("work")).await.unwrap().await;
        let got = messages.recv().await.unwrap();
        let first = got.delivery_key().unwrap();
        // The process dies: nothing is settled, nothing is unsubscribed.
        std::mem::forget((client, messages, got));
        let client = Client::start(with(&broker.url(), store.clone())).unwrap();
        let mut messages = client.messages();
        let got = messages.recv().await.unwrap();
        assert_eq!((got.payload_lossy().as_str(), got.delivery_key()), ("work", Some(first)));
        got.ack();
        other.publish(message("more")).await.unwrap().await;
        let next = messages.recv().await.unwrap();
        assert_ne!(next.delivery_key(), Some(first));
    })
    .await;
}
