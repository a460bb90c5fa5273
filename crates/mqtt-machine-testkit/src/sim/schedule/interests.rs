//! Owns what the subscribers of a schedule ask for: filters that overlap, Subscription Identifiers, one filter more in the midst
//! of it all, and what must hold of them. It must not know how messages are published, nor how links break.

use mqtt_machine::{Message, ProtocolVersion, QoS, Subscribe, TopicFilter, Unsubscribe};

use super::super::{Client, Sim};
use super::run::{PATIENCE, Play};
use super::{Promise, Schedule, Step, What, ms};
use crate::invariants::Invariant;
use crate::random::Random;

/// What subscribers ask for, in this order, with identifiers of one byte, two and three.
const WANTED: [(&str, u32); 3] = [("topic/+", 1), ("topic/#", 128), ("topic/1", 16_384)];

/// What they ask for in the midst of it all, and give up again: nobody publishes there. The highest identifier of all.
const MORE: (&str, u32) = ("more/#", 268_435_455);

/// What the subscribers of a schedule ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interests {
    /// How many of the filters, which overlap.
    pub(super) filters: usize,
    /// Whether with Subscription Identifiers.
    pub(super) identified: bool,
}

impl Default for Interests {
    fn default() -> Self {
        Self { filters: 1, identified: false }
    }
}

impl Interests {
    /// Draws them, from numbers of their own, so that all else of a seed stays what it was.
    pub(super) fn draw(schedule: &mut Schedule) {
        let mut random = Random::new(schedule.seed ^ 0x696E_7465_7265_7374);
        if random.one_in(3) {
            schedule.interests.filters = random.size(2..=WANTED.len());
            schedule.options.broker.copies = random.one_in(3);
        }
        // What was asked for in 5.0 is not what a session of 3.x has.
        if schedule.version == ProtocolVersion::V5 && !schedule.terms.falls_back && random.one_in(2) {
            schedule.interests.identified = true;
            schedule.options.broker.subscription_identifiers = !random.one_in(4);
        }
        if !random.one_in(3) {
            return;
        }
        let subscriber = schedule.publishers + random.size(0..=schedule.subscribers - 1);
        // A request dies with the process that made it: then nobody knows what the server made of it.
        if schedule
            .steps
            .iter()
            .any(|step| matches!(step.what, What::Crash(client, _) if client == subscriber))
        {
            return;
        }
        for asks in 0..random.range(1..=4) {
            let what = What::Ask { client: subscriber, more: asks % 2 == 0 };
            let at = random.size(0..=schedule.steps.len());
            schedule.steps.insert(at, Step { after: ms(random.range(0..=500)), what });
        }
    }
}

impl Schedule {
    /// The identifiers of the subscriptions that a topic belongs to, in their order.
    fn identifiers_of(&self, message: &Message) -> Vec<u32> {
        let belongs = |filter: &str| TopicFilter::new(filter).is_ok_and(|it| it.matches(&message.topic));
        let wanted = WANTED.iter().take(self.interests.filters);
        wanted.filter(|(filter, _)| belongs(filter)).map(|(_, identifier)| *identifier).collect()
    }

    /// How often a subscriber gets a message that is delivered once.
    pub(super) fn copies_of(&self, message: &Message) -> usize {
        if self.options.broker.copies { self.identifiers_of(message).len() } else { 1 }
    }

    /// Whether messages carry identifiers.
    const fn identifies(&self) -> bool {
        self.interests.identified && self.options.broker.subscription_identifiers
    }

    /// What a message that a subscriber got carries, if that cannot be.
    fn wrongly_identified(&self, message: &Message) -> Option<Vec<u32>> {
        let carried = identifiers_in(message);
        let own = self.identifiers_of(message);
        let is_own = carried.iter().all(|identifier| own.contains(identifier));
        let holds = if !self.identifies() {
            carried.is_empty()
        } else if self.options.broker.copies {
            carried.len() == 1 && is_own
        } else if self.promise() == Promise::Delivered {
            carried == own
        } else {
            // A session may have been lost and be remade one subscription after the other.
            !carried.is_empty() && is_own
        };
        (!holds).then_some(carried)
    }
}

fn identifiers_in(message: &Message) -> Vec<u32> {
    let mut identifiers: Vec<u32> = message.subscription_identifiers().collect();
    identifiers.sort_unstable();
    identifiers
}

fn request(filter: &str, identifier: Option<u32>) -> Option<Subscribe> {
    let request = Subscribe::to(TopicFilter::new(filter).ok()?, QoS::ExactlyOnce);
    Some(match identifier {
        Some(identifier) => request.identifier(identifier),
        None => request,
    })
}

impl Play<'_> {
    fn subscribers(&self) -> core::ops::Range<usize> {
        self.schedule.publishers..self.schedule.publishers + self.schedule.subscribers
    }

    fn asks(&mut self, client: usize, (filter, identifier): (&str, u32)) -> Option<mqtt_machine::OpId> {
        let request = request(filter, self.schedule.interests.identified.then_some(identifier))?;
        match self.sim.subscribe(client, request) {
            Ok(op) => Some(op),
            Err(refused) => {
                self.wrong(Invariant::Outcome, format!("a subscription: {refused}"));
                None
            }
        }
    }

    /// Every subscriber connects and is granted what it asks for.
    pub(super) fn subscribe(&mut self) {
        let mut ops = Vec::new();
        for client in self.subscribers() {
            self.sim.connect(client);
            for wanted in WANTED.into_iter().take(self.schedule.interests.filters) {
                ops.extend(self.asks(client, wanted).map(|op| (client, op)));
            }
        }
        let granted =
            |sim: &Sim| ops.iter().all(|(client, op)| sim.client(*client).outcomes.contains_key(op));
        if !self.sim.run_until(PATIENCE, granted) {
            self.wrong(Invariant::EndsOnce, "a subscription never ended".into());
        }
    }

    /// A subscriber wants one filter more, or no longer.
    pub(super) fn ask(&mut self, client: usize, more: bool) {
        if !self.sim.client(client).is_running() {
            return;
        }
        self.report.asked += 1;
        if more {
            self.asks(client, MORE);
        } else if let Ok(filter) = TopicFilter::new(MORE.0)
            && let Err(refused) = self.sim.unsubscribe(client, Unsubscribe::new(vec![filter]))
        {
            self.wrong(Invariant::Outcome, format!("an unsubscription: {refused}"));
        }
    }

    /// Whoever holds a subscription has it at the broker that it is connected to, with its identifier, and nobody has there what it
    /// has given up. A server that goes on with an older state of a session says that it has the session: what it lacks, nobody can
    /// know.
    pub(super) fn still_subscribed(&mut self) {
        let schedule = self.schedule;
        if self.report.confused > 0 || self.sim.run_until(PATIENCE, |sim| differs(sim, schedule).is_none()) {
            return;
        }
        if let Some((client, detail)) = differs(&self.sim, schedule) {
            self.wrong(Invariant::Subscriptions, format!("{} {detail}", schedule.name(client)));
        }
    }

    /// Every message carries the identifiers of the subscriptions that it belongs to.
    pub(super) fn judge_identifiers(&self, client: usize, wrong: &mut Vec<(Invariant, String)>) {
        for message in &self.sim.client(client).messages {
            if let Some(carried) = self.schedule.wrongly_identified(message) {
                let own = self.schedule.identifiers_of(message);
                let detail =
                    format!("a message on {} carries {carried:?} of {own:?}", message.topic.as_str());
                wrong.push((Invariant::SubscriptionIdentifiers, detail));
            }
        }
    }

    /// How many messages came with an identifier.
    pub(super) fn identified(&self) -> u64 {
        let messages = self.sim.clients().iter().flat_map(|client| &client.messages);
        messages.filter(|message| !identifiers_in(message).is_empty()).count() as u64
    }
}

/// A client, and how what it holds differs from what the broker has to which it is connected.
fn differs(sim: &Sim, schedule: &Schedule) -> Option<(usize, String)> {
    sim.clients()
        .iter()
        .enumerate()
        .find_map(|(place, client)| Some((place, difference(sim, schedule, place, client)?)))
}

fn difference(sim: &Sim, schedule: &Schedule, place: usize, client: &Client) -> Option<String> {
    let name = sim.client_id(place);
    let brokers = || core::iter::once(&sim.broker).chain(&sim.others);
    let at_broker = |filter: &str| brokers().find_map(|broker| broker.subscription(name, filter));
    let held = client.machine.session().subscriptions;
    for (subscription, identifier) in &held {
        let filter = &subscription.filter;
        let expected = identifier.filter(|_| schedule.identifies());
        match at_broker(filter.as_str()) {
            None => return Some(format!("holds {filter}, which no broker has")),
            Some(identifier) if identifier != expected => {
                return Some(format!(
                    "holds {filter} as {expected:?}, and the broker has it as {identifier:?}"
                ));
            }
            Some(_) => {}
        }
    }
    let holds_more = held.iter().any(|(subscription, _)| subscription.filter.as_str() == MORE.0);
    // A server that shares nothing with the one where it was given up keeps it with an older session.
    let is_settled = client.accepted.is_empty() && client.lives == 0 && sim.others.is_empty();
    (is_settled && !holds_more && at_broker(MORE.0).is_some())
        .then(|| format!("has given {} up, and the broker has it", MORE.0))
}

#[cfg(test)]
mod tests {
    use mqtt_machine::packet::Property;

    use super::*;

    fn played(schedule: &Schedule) -> Play<'_> {
        let mut play = Play::new(schedule, false);
        play.subscribe();
        assert_eq!(differs(&play.sim, schedule), None);
        play
    }

    fn schedule(is: impl Fn(&Schedule) -> bool) -> Schedule {
        let mut seeds = (0..1_000).map(|seed| Schedule::from_seed(ProtocolVersion::V5, seed));
        seeds.find(is).expect("one of a thousand")
    }

    #[test]
    fn a_subscription_that_no_broker_has_is_seen() {
        let schedule = schedule(|it| it.options.shared && it.interests == Interests::default());
        let mut play = played(&schedule);
        let name = schedule.name(schedule.publishers);
        play.sim.broker.forget_session(&name);
        let seen = differs(&play.sim, &schedule);
        assert_eq!(seen, Some((schedule.publishers, "holds topic/+, which no broker has".to_owned())));
    }

    #[test]
    fn an_identifier_that_the_broker_does_not_have_is_seen() {
        let schedule = schedule(Schedule::identifies);
        let mut play = played(&schedule);
        let client = schedule.publishers;
        let request = request("topic/+", Some(2)).unwrap();
        play.sim.subscribe(client, request).unwrap();
        assert!(play.sim.run_until(PATIENCE, |sim| differs(sim, &schedule).is_none()), "it is both's");
        let mut other = schedule.clone();
        other.options.broker.subscription_identifiers = false;
        assert!(differs(&play.sim, &other).is_some_and(|(_, detail)| detail.contains("as None")));
    }

    #[test]
    fn a_message_with_the_identifiers_of_others_or_with_none_is_seen() {
        let whole = |it: &Schedule| it.identifies() && it.interests.filters == 3 && !it.options.broker.copies;
        let schedule = schedule(|it| whole(it) && it.promise() == Promise::Delivered);
        let message = |topic: &str, identifiers: &[u32]| {
            let message = Message::to(topic, "x").unwrap();
            identifiers.iter().fold(message, |message, identifier| {
                message.property(Property::SubscriptionIdentifier(*identifier)).unwrap()
            })
        };
        for (topic, identifiers, holds) in [
            ("topic/1", &[16_384, 1, 128][..], true),
            ("topic/2", &[1, 128], true),
            ("topic/2", &[1, 128, 16_384], false),
            ("topic/1", &[1, 128], false),
            ("topic/2", &[], false),
        ] {
            let wrong = schedule.wrongly_identified(&message(topic, identifiers));
            assert_eq!(wrong.is_none(), holds, "{topic} {identifiers:?}");
        }
    }
}
