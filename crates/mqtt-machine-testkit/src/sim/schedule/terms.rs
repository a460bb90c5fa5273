//! Owns what servers lack, impose or send away, and what clients may do about it: fall back to a lower version, lower what they
//! publish, follow to another server. It must not know links, nor the other faults.

use mqtt_machine::{
    Authentication, Config, Message, ProtocolVersion, QoS, ReasonCode, Redirection, Unsupported,
};

use mqtt_machine_scram::Mechanism;

use super::super::{Client, Sim, authenticate};
use super::run::{PATIENCE, Play};
use super::{Schedule, Step, What, ms};
use crate::invariants::Invariant;
use crate::random::Random;

/// What the clients of a schedule may do where servers do not do everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// They fall back as far as to 3.1.
    pub(super) falls_back: bool,
    /// They send with a lower QoS and without retain.
    pub(super) lowers: bool,
    /// They follow a redirection.
    pub(super) follows: bool,
    /// They prove by SCRAM who they are, and so does the server.
    pub(super) authenticates: bool,
}

impl Terms {
    /// Draws them, and what makes them matter. From numbers of their own, so that all else of a seed stays what it was.
    pub(super) fn draw(schedule: &mut Schedule) {
        let mut random = Random::new(schedule.seed ^ 0x7465_726D_735F_3421);
        let version = schedule.version;
        let broker = &mut schedule.options.broker;
        if version != ProtocolVersion::V3_1 && random.one_in(6) {
            schedule.terms.falls_back = true;
            let lower = match version {
                ProtocolVersion::V5 => &[ProtocolVersion::V3_1_1, ProtocolVersion::V3_1][..],
                _ => &[ProtocolVersion::V3_1],
            };
            broker.versions = match random.range(0..=2) {
                // Then only a link that breaks in the handshake makes them.
                0 => ProtocolVersion::ALL.to_vec(),
                1 => lower.to_vec(),
                _ => vec![ProtocolVersion::V3_1],
            };
        } else if version == ProtocolVersion::V5 && random.one_in(5) {
            schedule.terms.lowers = true;
            broker.maximum_qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce][random.size(0..=2)];
            broker.retain_available = random.one_in(3);
        }
        // Shorter than the clients' own.
        broker.server_keep_alive = (version == ProtocolVersion::V5 && random.one_in(4)).then_some(5);
        if schedule.options.servers > 1 && random.one_in(3) {
            schedule.terms.follows = !random.one_in(4);
            for _ in 0..random.range(1..=3) {
                let client = schedule.anybody(&mut random);
                let to = random.size(0..=schedule.options.servers - 1);
                let what = What::Redirect { client, to, moved: random.one_in(3) };
                let at = random.size(0..=schedule.steps.len());
                schedule.steps.insert(at, Step { after: ms(random.range(0..=500)), what });
            }
        }
        Self::draw_authentication(schedule, &mut random);
    }

    /// Enhanced authentication at every connection, and again on some.
    fn draw_authentication(schedule: &mut Schedule, random: &mut Random) {
        if schedule.version != ProtocolVersion::V5 || schedule.terms.falls_back || !random.one_in(6) {
            return;
        }
        schedule.terms.authenticates = true;
        for client in 0..schedule.publishers + schedule.subscribers {
            let name = schedule.name(client);
            schedule.options.broker.scram_users.insert(name, authenticate::PASSWORD.to_owned());
        }
        schedule.options.broker.scram_iterations = authenticate::ITERATIONS;
        for _ in 0..random.range(0..=3) {
            let what = What::Reauthenticate(schedule.anybody(random));
            let at = random.size(0..=schedule.steps.len());
            schedule.steps.insert(at, Step { after: ms(random.range(0..=500)), what });
        }
    }

    pub(super) fn apply(self, mut config: Config) -> Config {
        if self.authenticates {
            // Each attempt has an exchange of its own.
            config.prepare = true;
            let method = Mechanism::Sha256.name().to_owned();
            config.authentication = Some(Authentication { method, initial_data: None });
        }
        config.fallback = self.falls_back.then_some(ProtocolVersion::V3_1);
        if self.lowers {
            config.unsupported = Unsupported::Downgrade;
        }
        if self.follows {
            config.redirection = Redirection::Follow { hops: 3 };
        }
        config
    }
}

impl Schedule {
    /// Whether this message asks to be retained: where no server keeps such, so that it is nowhere seen again.
    pub(super) fn retains(&self, number: u64) -> bool {
        self.terms.lowers && !self.options.broker.retain_available && number.is_multiple_of(3)
    }

    /// The message as the servers take it.
    pub(super) fn as_taken(&self, message: Message) -> Message {
        if !self.terms.lowers {
            return message;
        }
        let qos = message.qos.min(self.options.broker.maximum_qos);
        Message { qos, retain: message.retain && self.options.broker.retain_available, ..message }
    }
}

impl Play<'_> {
    /// Whoever is connected has come to the end of its exchange.
    pub(super) fn may_prove_again(&mut self) {
        let busy = |sim: &Sim| {
            let busy = |client: &Client| {
                client.machine.is_connected() && client.machine.machine().may_reauthenticate().is_err()
            };
            sim.clients().iter().position(busy)
        };
        if self.schedule.terms.authenticates
            && !self.sim.run_until(PATIENCE, |sim| busy(sim).is_none())
            && let Some(client) = busy(&self.sim)
        {
            let detail = format!("{} has not come to the end of an exchange", self.schedule.name(client));
            self.wrong(Invariant::Progress, detail);
        }
    }
}

/// The reason of a redirection.
pub(super) const fn reason(moved: bool) -> ReasonCode {
    if moved { ReasonCode::ServerMoved } else { ReasonCode::UseAnotherServer }
}
