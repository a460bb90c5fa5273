//! Owns what scenarios have in common: clients by the adapter, and waiting for something with an end. It must not know any
//! scenario.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_machine_client::{
    Backoff, Client, ClientEvent, Events, Limits, Message, Options, Outcome, ProtocolVersion, QoS,
    Subscription, block_until,
};

use super::{Adapter, Drip};
use crate::broker::BrokerConfig;
use crate::tcp::Broker;

pub(super) const V5: ProtocolVersion = ProtocolVersion::V5;
/// The versions whose wire differs for a server that says what is written down.
pub(super) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, V5];
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// How long a future that is to be cancelled may be between two polls.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The adapter, and how much patience there is with it.
pub(super) struct Bench {
    adapter: Arc<dyn Adapter>,
    pub(super) patience: Duration,
}

impl Bench {
    pub(super) fn new(adapter: Arc<dyn Adapter>) -> Self {
        let patience = adapter.patience();
        Self { adapter, patience }
    }

    pub(super) fn adapter(&self) -> &dyn Adapter {
        &*self.adapter
    }

    /// A client that connects in the background.
    #[track_caller]
    pub(super) fn start(&self, options: Options) -> Client {
        match self.adapter.start(options) {
            Ok(client) => client,
            Err(error) => panic!("the adapter does not start a client: {error}"),
        }
    }

    /// As [`start`](Self::start), through what drips.
    #[track_caller]
    pub(super) fn start_dripping(&self, options: Options, drip: &Drip) -> Client {
        match self.adapter.start_dripping(options, drip.clone()) {
            Ok(client) => client,
            Err(error) => panic!("the adapter does not start a client that drips: {error}"),
        }
    }

    /// A client that is connected.
    #[track_caller]
    pub(super) fn connect(&self, options: Options) -> Client {
        let client = self.start(options);
        self.connected(&client);
        client
    }

    #[track_caller]
    pub(super) fn connected(&self, client: &Client) {
        if let Err(error) = self.wait("a connection", client.connected()) {
            panic!("there is no connection: {error}");
        }
    }

    /// A stream of one filter.
    #[track_caller]
    pub(super) fn subscribe(&self, client: &Client, filter: &str, qos: QoS) -> Subscription {
        match self.wait("a subscription", client.subscribe(filter, qos)) {
            Ok(stream) => stream,
            Err(error) => panic!("{filter} is not granted: {error}"),
        }
    }

    /// Publishes and waits for the outcome, which is a success.
    #[track_caller]
    pub(super) fn deliver(&self, client: &Client, message: Message) {
        let topic = message.topic.clone();
        let outcome = match self.wait("room for a message", client.publish(message)) {
            Ok(delivery) => self.wait("an outcome", delivery),
            Err(error) => panic!("{topic} is not accepted: {error}"),
        };
        assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{topic} ends as {outcome:?}");
    }

    /// The payload of the next message.
    #[track_caller]
    pub(super) fn next(&self, stream: &mut Subscription) -> String {
        match self.wait("a message", stream.recv()) {
            Some(message) => message.payload_lossy(),
            None => panic!("the stream has ended"),
        }
    }

    #[track_caller]
    pub(super) fn event(&self, events: &mut Events) -> ClientEvent {
        match self.wait("an event", events.recv()) {
            Some(event) => event,
            None => panic!("the events have ended"),
        }
    }

    /// Ends the client; everything was delivered.
    #[track_caller]
    pub(super) fn disconnect(&self, client: &Client) {
        assert_eq!(
            self.wait("the end of the client", client.disconnect()).map(|it| it.undelivered),
            Ok(0),
            "undelivered"
        );
    }

    #[track_caller]
    pub(super) fn wait<F: Future>(&self, what: &str, future: F) -> F::Output {
        match self.wait_for(self.patience, future) {
            Some(output) => output,
            None => panic!("{what} has not come after {:?}", self.patience),
        }
    }

    /// The output of `future`, if it is there within `time`.
    pub(super) fn wait_for<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        block_until(future, Instant::now().checked_add(time))
    }

    /// Waits until something is true, looking every few milliseconds.
    #[track_caller]
    pub(super) fn until(&self, what: &str, mut is_true: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_true() {
            assert!(start.elapsed() < self.patience, "{what}: not after {:?}", self.patience);
            thread::sleep(A_MOMENT);
        }
    }
}

/// Polls a future so many times, woken or not, and drops it: the cancellation at one await point after the other. `None` when it
/// was not ready.
pub(super) fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let (mut context, mut future) = (Context::from_waker(Waker::noop()), pin!(future));
    for poll in 0..polls {
        if poll > 0 {
            thread::sleep(A_MOMENT);
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

#[track_caller]
pub(super) fn broker() -> Broker {
    broker_with(BrokerConfig::new())
}

#[track_caller]
pub(super) fn broker_with(config: BrokerConfig) -> Broker {
    match Broker::start(config) {
        Ok(broker) => broker,
        Err(error) => panic!("the broker does not start: {error}"),
    }
}

/// Options that reconnect quickly.
#[track_caller]
pub(super) fn options(url: &str, client_id: &str, version: ProtocolVersion) -> Options {
    let (first, cap) = (Duration::from_millis(5), Duration::from_millis(20));
    let backoff = Backoff { first, cap, ..Backoff::DEFAULT };
    match Options::from_url(url) {
        Ok(options) => {
            options.configure(|config| config.client_id(client_id).version(version).backoff(backoff))
        }
        Err(error) => panic!("{url}: {error}"),
    }
}

/// As [`options`], with limits.
#[track_caller]
pub(super) fn limited(url: &str, client_id: &str, limits: Limits) -> Options {
    options(url, client_id, V5).configure(|config| config.limits(limits))
}

#[track_caller]
pub(super) fn message(topic: &str, payload: impl Into<String>, qos: QoS) -> Message {
    match Message::to(topic, payload.into()) {
        Ok(message) => message.qos(qos),
        Err(error) => panic!("{topic}: {error}"),
    }
}

/// The payloads that the broker has accepted, in order.
pub(super) fn accepted(broker: &Broker) -> Vec<String> {
    broker.broker(|broker| {
        let accepted = broker.log().accepted();
        accepted.map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect()
    })
}

/// `0`, `1` and so on.
pub(super) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}
