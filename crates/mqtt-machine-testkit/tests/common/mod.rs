//! What the scenarios share: short spellings and one way to wait.
#![allow(dead_code, unreachable_pub, reason = "every test crate uses a part of it")]

use std::time::Duration;

use mqtt_machine::{Backoff, CleanStart, Config, Message, OpId, Outcome, QoS, Subscribe, TopicFilter};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::sim::{self, Options, Sim};

pub const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A simulation with this broker and a latency of 5 ms.
pub fn with(broker: BrokerConfig) -> Sim {
    let mut options = Options::default();
    options.broker = broker;
    Sim::new(options, 1)
}

/// Resumes its session always, and waits exactly 1, 2, 4 ... s between attempts.
pub fn config(client_id: &str) -> Config {
    sim::config(client_id)
        .clean_start(CleanStart::Never)
        .backoff(Backoff { jitter: false, ..Backoff::DEFAULT })
}

pub fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message::to(topic, payload.to_owned()).unwrap().qos(qos)
}

pub fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

/// Connects the client and subscribes, to the end.
pub fn subscribed(sim: &mut Sim, client: usize, topics: &str, qos: QoS) {
    let op = sim.subscribe(client, Subscribe::to(filter(topics), qos)).unwrap();
    sim.connect(client);
    ended(sim, client, op);
}

/// Runs until the command has ended: how.
pub fn ended(sim: &mut Sim, client: usize, op: OpId) -> Outcome {
    let in_time = sim.run_until(secs(600), |sim| sim.client(client).outcomes.contains_key(&op));
    assert!(in_time, "{op:?} never ended: {:?}", sim.complaints());
    sim.client(client).outcomes[&op].clone()
}

/// Runs until every command of the client has ended.
pub fn all_ended(sim: &mut Sim, client: usize) {
    let in_time = sim.run_until(secs(600), |sim| sim.client(client).accepted.is_empty());
    assert!(in_time, "commands never ended: {:?}, {:?}", sim.client(client).accepted, sim.complaints());
}

pub fn is_acknowledged(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Acknowledged(_))
}
