//! Owns what clients do where there is too much: overflow, priorities, a consumer that is behind, a server that does not acknowledge.
//! It must not know what makes it too much.

use mqtt_machine::journal::{PublishKey, Record};
use mqtt_machine::{
    Behind, Config, KeyedPublication, Message, OpId, Overflow, Priority, QoS, Refused, Watchdog,
};

use super::run::{Play, Sent};
use super::{Schedule, ms};
use crate::invariants::Invariant;
use crate::random::Random;

/// The policies of the clients of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policies {
    pub(super) overflow: Overflow,
    /// How many messages may be accepted and not ended.
    pub(super) most: usize,
    /// Messages are of several priorities.
    pub(super) priorities: bool,
    pub(super) behind: Behind,
    /// Publications have keys, and who crashed asks again for all of them.
    pub(super) keyed: bool,
    /// The milliseconds of a watchdog that connects again; 0 for none.
    pub(super) watchdog: u64,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            overflow: Overflow::Wait,
            most: usize::MAX,
            priorities: false,
            behind: Behind::StopReading,
            keyed: false,
            watchdog: 0,
        }
    }
}

impl Policies {
    /// Draws them, from numbers of their own, so that all else of a seed stays what it was.
    pub(super) fn draw(schedule: &mut Schedule) {
        let mut random = Random::new(schedule.seed ^ 0x706F_6C69_6369_6573);
        let policies = &mut schedule.policies;
        policies.priorities = random.one_in(4);
        if random.one_in(4) {
            use Overflow::{DropNewest, DropOldest, LastValue, Refuse, Wait};
            policies.overflow =
                [Wait, Refuse, DropNewest, DropOldest, DropOldest, LastValue, LastValue][random.size(0..=6)];
            policies.most = random.size(1..=6);
        }
        if random.one_in(6) {
            policies.behind = Behind::DropQoS0;
        }
        if random.one_in(6) {
            // Longer than servers and consumers take for anything.
            policies.watchdog = random.range(15_000..=40_000);
        }
    }

    /// Draws keys: last of all, for what else was drawn says whether they can be.
    pub(super) fn draw_keys(schedule: &mut Schedule) {
        let mut random = Random::new(schedule.seed ^ 0x6B65_7973_6B65_7973);
        // What is lowered to QoS 0 has no key, and what a policy drops is not asked for again here.
        let may = schedule.durable && !schedule.terms.lowers && schedule.policies.most == usize::MAX;
        schedule.policies.keyed = may && random.one_in(3);
    }

    pub(super) fn apply(self, mut config: Config) -> Config {
        config.overflow = self.overflow;
        config.limits.outgoing_messages = config.limits.outgoing_messages.min(self.most);
        config.behind = self.behind;
        if self.watchdog > 0 {
            config.watchdog = Some(Watchdog::reconnect_after(ms(self.watchdog)));
        }
        config
    }

    /// Whether there may be no room for a message; under every policy where outcomes wait to be taken.
    pub(super) const fn may_refuse(self) -> bool {
        self.most < usize::MAX
    }

    const fn drops(self) -> bool {
        matches!(self.overflow, Overflow::DropOldest | Overflow::DropNewest | Overflow::LastValue)
    }

    pub(super) fn urgency(self, message: Message, number: u64) -> Message {
        if !self.priorities {
            return message;
        }
        let priority = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal];
        message.priority(priority[(number % 4) as usize])
    }
}

impl Play<'_> {
    /// Whether a policy has dropped a message for others: it was told, or a crash kept it from being told.
    pub(super) fn was_dropped(&self, sent: &Sent) -> bool {
        if !self.schedule.policies.drops() {
            return false;
        }
        let owner = self.sim.client(sent.client);
        let told = (sent.life..=owner.lives).any(|life| owner.dropped.contains(&(life, sent.op)));
        let discarded = |record: &Record| matches!(record, Record::Discarded { op } if *op == sent.op);
        told || (owner.untold.contains(&sent.op) && owner.records.iter().any(|(.., it)| discarded(it)))
    }

    /// Publishes, under a key where that is so.
    pub(super) fn publish_as_asked(
        &mut self,
        client: usize,
        number: u64,
        message: Message,
    ) -> Result<OpId, Refused> {
        if !self.schedule.policies.keyed || message.qos == QoS::AtMostOnce {
            return self.sim.publish(client, message);
        }
        let Some(key) = key_of(number) else { return Err(Refused::Full) };
        match self.sim.publish_keyed(client, key, message)? {
            KeyedPublication::Accepted(op) => Ok(op),
            KeyedPublication::Open(op) | KeyedPublication::Ended(op, _) => {
                self.wrong(
                    Invariant::Identifiers,
                    format!("message {number} is known as {op:?} before it is published"),
                );
                Ok(op)
            }
        }
    }

    /// An application whose process crashed does not know what it has published: it asks again for all of it, by the keys.
    pub(super) fn ask_again(&mut self, client: usize) {
        let lives = self.sim.client(client).lives;
        if !self.schedule.policies.keyed
            || !self.sim.client(client).is_running()
            || self.asked_in[client] == lives
        {
            return;
        }
        self.asked_in[client] = lives;
        let is_asked = |sent: &Sent| sent.client == client && sent.message.qos != QoS::AtMostOnce;
        let (again, rest): (Vec<Sent>, Vec<Sent>) =
            core::mem::take(&mut self.sent).into_iter().partition(is_asked);
        self.sent = rest;
        for mut sent in again {
            let Some(key) = key_of(sent.number) else { continue };
            match self.sim.publish_keyed(client, key, sent.message.clone()) {
                Ok(KeyedPublication::Accepted(op)) => {
                    let lost = self.sim.client(client).vanished.contains(&(sent.life, sent.op));
                    if !lost {
                        self.wrong(
                            Invariant::ExactlyOnce,
                            format!("message {} was accepted twice", sent.number),
                        );
                    }
                    self.report.asked_again += 1;
                    (sent.op, sent.life) = (op, lives);
                }
                Ok(KeyedPublication::Open(op)) => self.same(&sent, op),
                Ok(KeyedPublication::Ended(op, outcome)) => {
                    self.same(&sent, op);
                    let owner = self.sim.client_mut(client);
                    owner.untold.remove(&op);
                    owner.outcomes.insert(op, outcome);
                }
                Err(refused) => {
                    self.wrong(Invariant::Outcome, format!("a message was not accepted again: {refused}"));
                }
            }
            self.sent.push(sent);
        }
    }

    fn same(&mut self, sent: &Sent, op: OpId) {
        if op != sent.op {
            self.wrong(
                Invariant::Identifiers,
                format!("message {} was {:?}, and is {op:?}", sent.number, sent.op),
            );
        }
    }
}

fn key_of(number: u64) -> Option<PublishKey> {
    PublishKey::new(format!("message {number}")).ok()
}
