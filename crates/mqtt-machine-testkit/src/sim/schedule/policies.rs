//! Owns what clients do where there is too much: overflow, priorities, a consumer that is behind, a server that does not acknowledge.
//! It must not know what makes it too much.

use mqtt_machine::journal::Record;
use mqtt_machine::{Behind, Config, Message, Overflow, Priority, Watchdog};

use super::run::{Play, Sent};
use super::{Schedule, ms};
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

    pub(super) fn apply(self, mut config: Config) -> Config {
        config.overflow = self.overflow;
        config.limits.outgoing_messages = config.limits.outgoing_messages.min(self.most);
        config.behind = self.behind;
        if self.watchdog > 0 {
            config.watchdog = Some(Watchdog::reconnect_after(ms(self.watchdog)));
        }
        config
    }

    /// Whether there may be no room for a message.
    pub(super) fn may_refuse(self) -> bool {
        self.most < usize::MAX && self.overflow != Overflow::DropNewest
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
}
