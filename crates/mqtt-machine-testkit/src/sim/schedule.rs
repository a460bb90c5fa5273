//! Owns random schedules: what happens to a publisher and a subscriber follows from a seed, and what must hold at the end.
//! It must not know how the simulation works.

use core::fmt;
use core::time::Duration;

use mqtt_machine::{
    Backoff, CleanStart, Config, Disconnect, Instant, Limits, Message, OpId, Outcome, ProtocolVersion, QoS,
    Subscribe, TopicFilter,
};

use super::{Options, Settle, Sim, config};
use crate::broker::BrokerConfig;
use crate::random::Random;

/// The virtual time within which every schedule must have delivered everything.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What happens in one run. Everything in it follows from the version and the seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    version: ProtocolVersion,
    seed: u64,
    options: Options,
    receive_maximum: u16,
    in_flight: u16,
    durable: bool,
    messages: u64,
    topics: u64,
    payload: u64,
    pause: Duration,
}

/// What a run that held saw.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Connections made by both clients.
    pub connections: usize,
    /// PUBLISH packets that the publisher sent with DUP.
    pub resent: usize,
    /// The most publications that it had in flight.
    pub most_in_flight: usize,
    /// The virtual time that it took.
    pub took: Duration,
    /// Steps of the simulation.
    pub steps: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} resent, {} in flight, {:?}, {} steps",
            self.connections, self.resent, self.most_in_flight, self.took, self.steps
        )
    }
}

impl Schedule {
    /// The schedule of this seed.
    pub fn from_seed(version: ProtocolVersion, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let ms = Duration::from_millis;
        let receive_maximum = [1, 2, 3, 10, u16::MAX][random.size(0..=4)];
        let slow = ms(random.range(0..=200));
        let chunk = [1, 3, 20, 65_536][random.size(0..=3)];
        let mark = [1, 64, 65_536][random.size(0..=2)];
        let settle = match random.range(0..=2) {
            0 => Settle::AtOnce,
            _ => Settle::After(ms(0)..=ms(random.range(1..=400))),
        };
        let options = Options {
            broker: BrokerConfig::new().receive_maximum(receive_maximum).delay(ms(random.range(0..=1) * 7)),
            latency: ms(0)..=slow,
            chunk: 1..=chunk,
            mark: mark..=mark,
            break_after: Some(1..=random.range(2..=1_500)),
            breaks: random.range(0..=12) as u32,
            notice: ms(0)..=ms([0, 50, 20_000][random.size(0..=2)]),
            refuse_one_in: [0, 3, 10][random.size(0..=2)],
            settle,
            store: ms(0)..=ms(random.range(0..=30)),
            ..Options::default()
        };
        Self {
            version,
            seed,
            options,
            receive_maximum: [1, 2, 10, u16::MAX][random.size(0..=3)],
            in_flight: [1, 4, u16::MAX][random.size(0..=2)],
            durable: random.one_in(3),
            messages: random.range(1..=24),
            topics: random.range(1..=3),
            payload: [0, 10, 300][random.size(0..=2)],
            pause: ms(random.range(0..=500)),
        }
    }

    /// The same schedule with a broker that forgets sessions, so that less can hold: every command still ends once, and
    /// every message reaches the broker.
    #[must_use]
    pub const fn forgetful(mut self) -> Self {
        self.options.forget_one_in = 3;
        self
    }

    /// The line that runs this seed again.
    pub fn rerun(&self) -> String {
        format!(
            "MQTT_MACHINE_SEED={} cargo test -p mqtt-machine-testkit --test schedules -- --nocapture",
            self.seed
        )
    }

    fn config(&self, client_id: &str) -> Config {
        let limits = Limits { in_flight: self.in_flight, ..Limits::DEFAULT };
        config(client_id)
            .version(self.version)
            .clean_start(CleanStart::Never)
            .receive_maximum(self.receive_maximum)
            .keep_alive(Duration::from_secs(20))
            .backoff(Backoff { cap: Duration::from_secs(5), ..Backoff::DEFAULT })
            .limits(limits)
            .durable(self.durable)
    }

    /// Runs it.
    ///
    /// # Errors
    /// What did not hold, in words, one line each.
    pub fn run(&self) -> Result<Report, String> {
        let mut random = Random::new(self.seed ^ 0xA5A5);
        let mut sim = Sim::new(self.options.clone(), self.seed);
        let publisher = sim.add(self.config("publisher"));
        let subscriber = sim.add(self.config("subscriber"));
        sim.connect(subscriber);
        let filter = TopicFilter::new("t/+").map_err(|error| error.to_string())?;
        let op =
            sim.subscribe(subscriber, Subscribe::to(filter, QoS::ExactlyOnce)).map_err(|e| e.to_string())?;
        if !sim.run_until(PATIENCE, |sim| sim.client(subscriber).outcomes.contains_key(&op)) {
            return Err(format!("the subscription never ended\n{}", sim.complaints().join("\n")));
        }
        let mut sent = Vec::new();
        let begin = random.range(0..=self.messages);
        for number in 0..self.messages {
            if number == begin {
                sim.connect(publisher);
            }
            let message = self.message(&mut random, number)?;
            let op = sim.publish(publisher, message.clone()).map_err(|error| error.to_string())?;
            sent.push((op, message));
            let pause = random.duration(Duration::ZERO..=self.pause);
            sim.run_for(pause);
        }
        if begin == self.messages {
            sim.connect(publisher);
        }
        let done = |sim: &Sim| {
            sim.client(publisher).accepted.is_empty()
                && sim.broker.owed_to("subscriber") == 0
                && sim.client(subscriber).due.is_empty()
        };
        let in_time = sim.run_until(PATIENCE, done);
        let took = sim.now - Instant::ZERO;
        let mut wrong = sim.complaints();
        if !in_time {
            wrong.push(format!(
                "not done by {}: {} commands open, {} messages owed",
                sim.now,
                sim.client(publisher).accepted.len(),
                sim.broker.owed_to("subscriber")
            ));
        }
        // A normal end: nothing may be left over.
        for client in [publisher, subscriber] {
            sim.disconnect(client, Disconnect::new(Duration::from_secs(60)))
                .map_err(|error| error.to_string())?;
        }
        sim.run_for(Duration::from_secs(300));
        self.check(&sim, [publisher, subscriber], &sent, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        Ok(Report {
            connections: sim.client(publisher).connected.len() + sim.client(subscriber).connected.len(),
            resent: sim.client(publisher).resent(),
            most_in_flight: sim.client(publisher).most_in_flight(),
            took,
            steps: sim.steps(),
        })
    }

    fn message(&self, random: &mut Random, number: u64) -> Result<Message, String> {
        let qos = if random.one_in(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let mut payload = number.to_string().into_bytes();
        payload.push(b' ');
        payload.resize(payload.len() + random.range(0..=self.payload) as usize, b'.');
        let topic = format!("t/{}", random.range(1..=self.topics));
        Ok(Message::to(&topic, payload).map_err(|error| error.to_string())?.qos(qos))
    }

    fn check(&self, sim: &Sim, clients: [usize; 2], sent: &[(OpId, Message)], wrong: &mut Vec<String>) {
        let [publisher, subscriber] = clients;
        for client in clients {
            for op in &sim.client(client).accepted {
                wrong.push(format!("client {client}: {op:?} never ended"));
            }
        }
        for (op, message) in sent {
            let outcome = sim.client(publisher).outcomes.get(op);
            // A message whose PUBREC came is no longer kept here: nobody can tell what a server that forgot made of it.
            let may_be_unknown = self.options.forget_one_in > 0 && message.qos == QoS::ExactlyOnce;
            let ended_well = match outcome {
                Some(Outcome::Acknowledged(_)) => true,
                Some(Outcome::Unknown) => may_be_unknown,
                _ => false,
            };
            if !ended_well {
                wrong.push(format!(
                    "message {:?} ended as {outcome:?}",
                    message.payload_lossy().trim_end_matches('.')
                ));
            }
            let count = sim.broker.log().count(message.topic.as_str(), &message.payload);
            let once = message.qos == QoS::ExactlyOnce && self.options.forget_one_in == 0;
            if count == 0 || (once && count > 1) {
                wrong.push(format!(
                    "the broker accepted {} (QoS {}) {count} times",
                    name(message),
                    message.qos
                ));
            }
        }
        let topics = if self.options.forget_one_in == 0 { self.topics } else { 0 };
        for number in 1..=topics {
            check_topic(&format!("t/{number}"), sim, subscriber, sent, wrong);
        }
        wrong.extend(sim.complaints());
        wrong.dedup();
    }
}

fn name(message: &Message) -> String {
    message.payload_lossy().trim_end_matches('.').trim_end().to_owned()
}

/// QoS 2 once, QoS 1 at least once, and the first occurrences of all in the order of publishing.
fn check_topic(topic: &str, sim: &Sim, subscriber: usize, sent: &[(OpId, Message)], wrong: &mut Vec<String>) {
    let expected: Vec<&Message> =
        sent.iter().map(|(_, message)| message).filter(|message| message.topic.as_str() == topic).collect();
    let got = sim.client(subscriber).payloads(topic);
    let mut firsts: Vec<&[u8]> = Vec::new();
    for payload in &got {
        if !firsts.contains(payload) {
            firsts.push(payload);
        }
    }
    for message in &expected {
        let count = got.iter().filter(|payload| **payload == message.payload).count();
        if count == 0 || (message.qos == QoS::ExactlyOnce && count > 1) {
            wrong.push(format!(
                "{topic}: message {} (QoS {}) came {count} times",
                name(message),
                message.qos
            ));
        }
    }
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let order: Vec<&[u8]> = expected
            .iter()
            .filter(|message| message.qos == qos)
            .map(|message| message.payload.as_ref())
            .collect();
        let came: Vec<&[u8]> = firsts.iter().copied().filter(|payload| order.contains(payload)).collect();
        if came != order && came.len() == order.len() {
            wrong.push(format!("{topic}: QoS {qos} is out of order"));
        }
    }
}
