//! Owns the playing of a schedule.
//! It must not know how steps are drawn, nor what must hold at the end.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mqtt_machine::transcript::Recording;
use mqtt_machine::{
    Backoff, CleanStart, Config, Disconnect, Instant, Limits, Message, OpId, ProtocolVersion, QoS,
    ReasonCode, Refused,
};

use super::super::{Client, Sim, config, server};
use super::{Failure, Promise, Report, Schedule, Step, What, terms};
use crate::broker::{Plan, SessionCopy};
use crate::invariants::{Invariant, Violation};

/// The virtual time within which every schedule must have delivered everything.
pub(super) const PATIENCE: Duration = Duration::from_secs(3_600);

/// A message that an application gave away.
pub(super) struct Sent {
    pub(super) client: usize,
    pub(super) life: u32,
    pub(super) op: OpId,
    pub(super) number: u64,
    pub(super) message: Message,
}

/// A schedule as it is played.
pub(super) struct Play<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) sim: Sim,
    pub(super) sent: Vec<Sent>,
    copies: Vec<Option<SessionCopy>>,
    /// The life in which each client has asked for what it published.
    pub(super) asked_in: Vec<u32>,
    pub(super) wrong: Vec<Violation>,
    pub(super) report: Report,
}

impl Schedule {
    /// Plays it, judged by every invariant.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&self) -> Result<Report, Failure> {
        self.attempt(false)
    }

    /// Plays it and writes down what happens.
    ///
    /// # Errors
    /// What did not hold, with all that happened.
    pub fn run_traced(&self) -> Result<Report, Failure> {
        self.attempt(true)
    }

    fn attempt(&self, traced: bool) -> Result<Report, Failure> {
        let (mut trace, mut transcripts) = (Vec::new(), Vec::new());
        let violations = caught(|| {
            let mut play = Play::new(self, traced);
            play.play();
            trace = play.sim.trace().to_vec();
            transcripts = play.transcripts();
            (play.wrong, play.report)
        });
        violations.map_err(|violations| Failure { violations, trace, transcripts })
    }

    pub(super) fn name(&self, client: usize) -> String {
        match client.checked_sub(self.publishers) {
            None => format!("publisher-{client}"),
            Some(client) => format!("subscriber-{client}"),
        }
    }

    fn config(&self, client: usize) -> Config {
        let limits =
            Limits { in_flight: self.in_flight, incoming_bytes: self.incoming_bytes, ..Limits::DEFAULT };
        let mut config = config(&self.name(client))
            .version(self.version)
            .clean_start(CleanStart::Never)
            .session_expiry(Duration::from_secs(u32::MAX.into()))
            .receive_maximum(self.receive_maximum)
            .keep_alive(Duration::from_secs(20))
            .backoff(Backoff { cap: Duration::from_secs(5), ..Backoff::DEFAULT })
            .limits(limits)
            .lost_session(self.lost_session)
            .prepare(self.prepare)
            .durable(self.durable);
        config.servers = (0..self.options.servers).map(server).collect();
        config.topic_alias_maximum = u16::from(self.prepare) * 2;
        // Fewer than there may be topics, so that they change hands.
        config.topic_aliases.maximum = 2;
        config.topic_aliases.automatic = self.prepare;
        self.policies.apply(self.terms.apply(config))
    }
}

/// Turns a panic into a violation like any other.
fn caught(play: impl FnOnce() -> (Vec<Violation>, Report)) -> Result<Report, Vec<Violation>> {
    match catch_unwind(AssertUnwindSafe(play)) {
        Ok((wrong, report)) if wrong.is_empty() => Ok(report),
        Ok((wrong, _)) => Err(wrong),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "without a message".into());
            Err(vec![Violation::new(Invariant::NoPanic, Instant::ZERO, text)])
        }
    }
}

impl<'a> Play<'a> {
    pub(super) fn new(schedule: &'a Schedule, traced: bool) -> Self {
        let mut sim = Sim::new(schedule.options.clone(), schedule.seed);
        sim.options_mut().recording = traced.then(Recording::new);
        if traced {
            sim.keep_trace();
        }
        let clients = schedule.publishers + schedule.subscribers;
        for client in 0..clients {
            sim.add(schedule.config(client));
        }
        Self {
            schedule,
            sim,
            sent: Vec::new(),
            copies: vec![None; clients],
            asked_in: vec![0; clients],
            wrong: Vec::new(),
            report: Report::default(),
        }
    }

    fn transcripts(&mut self) -> Vec<(String, Bytes)> {
        let mut all = Vec::new();
        for client in self.clients() {
            let client_mut = self.sim.client_mut(client);
            let last = client_mut.machine.take_recorded();
            let lives = core::mem::take(&mut client_mut.transcripts).into_iter().chain([last]);
            let lives = lives.filter(|transcript| !transcript.is_empty()).enumerate();
            all.extend(lives.map(|(life, bytes)| (format!("client-{client}-life-{life}.transcript"), bytes)));
        }
        all
    }

    pub(super) fn wrong(&mut self, invariant: Invariant, detail: String) {
        self.wrong.push(Violation::new(invariant, self.sim.now, detail));
    }

    fn clients(&self) -> core::ops::Range<usize> {
        0..self.sim.clients().len()
    }

    pub(super) fn play(&mut self) {
        self.subscribe();
        for Step { after, what } in &self.schedule.steps {
            self.sim.run_for(*after);
            self.apply(what);
        }
        for client in 0..self.schedule.publishers {
            self.connect(client);
        }
        self.come_back();
        self.settle();
        self.still_subscribed();
        self.may_prove_again();
        self.leave();
        self.judge();
        self.wrong.splice(0..0, self.sim.violations());
        if self.schedule.promise() > Promise::Own {
            self.wrong.extend(self.sim.accusations());
        }
        self.count();
    }

    fn connect(&mut self, client: usize) {
        if self.sim.client(client).connected.is_empty() && self.sim.client(client).machine.is_idle() {
            // Refused when it connects already.
            let _ = self.sim.try_connect(client);
        }
    }

    fn apply(&mut self, what: &What) {
        if what.client().is_some_and(|client| client >= self.copies.len()) {
            return;
        }
        let sim = &mut self.sim;
        match what {
            What::Connect(client) => self.connect(*client),
            What::Publish { client, number, topic, qos, filler } => {
                self.publish(*client, *number, *topic, *qos, *filler);
            }
            What::Cut(client) => sim.cut(*client),
            What::Strand(client, later) => {
                self.report.stranded += 1;
                sim.strand(*client, *later);
            }
            What::BlackHole(client) => {
                self.report.stranded += 1;
                sim.black_hole(*client);
            }
            What::Reconnect(client) => {
                if sim.client(*client).is_running() {
                    // Refused when it has not begun to connect.
                    let _ = sim.reconnect(*client);
                }
            }
            What::Jump(duration) => {
                self.report.jumps += 1;
                sim.sleep(*duration);
            }
            What::Suspend(client, duration) => {
                self.report.suspended += 1;
                sim.suspend(*client, *duration);
            }
            What::Crash(client, pause) => {
                self.report.crashes += 1;
                sim.crash(*client, *pause);
            }
            What::FailOver(place, duration) => {
                self.report.fail_overs += 1;
                sim.fail_over(*place, *duration);
            }
            What::Forget(client) => {
                let name = self.schedule.name(*client);
                for broker in core::iter::once(&mut sim.broker).chain(&mut sim.others) {
                    broker.forget_session(&name);
                }
            }
            What::Copy(client) => {
                self.copies[*client] = sim.broker.copy_session(&self.schedule.name(*client));
            }
            What::Resurrect(client) => {
                if let Some(copy) = self.copies[*client].take() {
                    self.report.confused += 1;
                    sim.broker.resurrect_session(copy);
                }
            }
            What::Redirect { client, to, moved } => self.redirect(*client, *to, terms::reason(*moved)),
            What::Ask { client, more } => self.ask(*client, *more),
            What::Reauthenticate(client) => {
                // Refused when it is not connected, or has not come to the end of the last time.
                let again =
                    sim.client(*client).is_running() && matches!(sim.reauthenticate(*client), Ok(true));
                self.report.reauthenticated += u64::from(again);
            }
            What::Twin(client) => {
                self.report.confused += 1;
                let twin = sim.add(self.schedule.config(*client));
                sim.connect(twin);
            }
        }
    }

    /// Sends a client away: at once when it is connected, else when it comes.
    fn redirect(&mut self, client: usize, to: usize, reason: ReasonCode) {
        self.report.redirected += 1;
        let name = self.schedule.name(client);
        for broker in core::iter::once(&mut self.sim.broker).chain(&mut self.sim.others) {
            broker.config_mut().server_reference = Some(server(to).as_str().to_owned());
            if !broker.disconnect(&name, reason) && self.schedule.version == ProtocolVersion::V5 {
                broker.plan_for(&name, Plan::refuse(reason));
            }
        }
    }

    fn publish(&mut self, client: usize, number: u64, topic: u64, qos: QoS, filler: usize) {
        if !self.sim.client(client).is_running() {
            return;
        }
        let mut payload = number.to_string().into_bytes();
        payload.push(b' ');
        payload.resize(payload.len() + filler, b'.');
        let Ok(message) = Message::to(&format!("topic/{topic}"), payload) else { return };
        let message = message.qos(qos).retain(self.schedule.retains(number));
        let message = self.schedule.policies.urgency(message, number);
        let taken = self.schedule.as_taken(message.clone());
        self.report.lowered += u64::from(taken != message);
        self.ask_again(client);
        match self.publish_as_asked(client, number, message) {
            Ok(op) => {
                let message = taken;
                let life = self.sim.client(client).lives;
                self.sent.push(Sent { client, life, op, number, message });
            }
            Err(Refused::Full) if self.schedule.policies.may_refuse() => self.report.full += 1,
            Err(refused) => self.wrong(Invariant::Outcome, format!("a message was not accepted: {refused}")),
        }
    }

    /// Whoever is down comes back, and asks for what it published.
    fn come_back(&mut self) {
        if self.schedule.policies.keyed {
            self.sim.run_until(PATIENCE, |sim| sim.clients().iter().all(Client::is_running));
            (0..self.schedule.publishers).for_each(|client| self.ask_again(client));
        }
    }

    /// Runs until everything has come to its end.
    fn settle(&mut self) {
        let promise = self.schedule.promise();
        let publishers = self.schedule.publishers;
        let subscribers = publishers..publishers + self.schedule.subscribers;
        let names: Vec<String> = subscribers.clone().map(|client| self.schedule.name(client)).collect();
        let ended = |sim: &Sim| {
            (0..publishers).all(|client| {
                let client = sim.client(client);
                client.is_running() && client.accepted.is_empty()
            })
        };
        let got = |sim: &Sim| {
            subscribers
                .clone()
                .all(|client| sim.client(client).is_running() && sim.client(client).due.is_empty())
                && names.iter().all(|name| sim.owed_to(name) == 0)
        };
        let in_time = match promise {
            Promise::Own => {
                self.sim.run_for(Duration::from_secs(120));
                true
            }
            Promise::Accepted => self.sim.run_until(PATIENCE, ended),
            Promise::Delivered => self.sim.run_until(PATIENCE, |sim| ended(sim) && got(sim)),
        };
        self.report.took = self.sim.now - Instant::ZERO;
        if !in_time {
            let open: Vec<usize> = (0..publishers).map(|it| self.sim.client(it).accepted.len()).collect();
            let owed: usize = names.iter().map(|name| self.sim.owed_to(name)).sum();
            let detail = format!("not done in time: {open:?} commands open, {owed} messages owed");
            self.wrong(Invariant::Progress, detail);
        }
    }

    /// A normal end: nothing may be left over.
    fn leave(&mut self) {
        // Who is down or suspended comes back first.
        self.sim.run_until(PATIENCE, |sim| sim.clients().iter().all(Client::is_running));
        for client in self.clients() {
            if let Err(refused) = self.sim.disconnect(client, Disconnect::new(Duration::from_secs(60))) {
                self.wrong(Invariant::Outcome, format!("a disconnect: {refused}"));
            }
        }
        self.sim.run_until(Duration::from_secs(600), |sim| {
            sim.clients().iter().all(|client| client.accepted.is_empty() && client.machine.is_idle())
        });
        self.sim.run_for(Duration::from_millis(100));
        for client in self.clients() {
            self.sim.client_mut(client).machine.finish();
        }
    }

    fn count(&mut self) {
        let identified = self.identified();
        let dropped = self.sent.iter().filter(|sent| self.was_dropped(sent)).count();
        let report = &mut self.report;
        report.schedules = 1;
        report.messages = self.sent.len() as u64;
        report.steps = self.sim.steps();
        for client in self.sim.clients() {
            let connected = client.connected.iter();
            report.connections += connected.clone().count() as u64;
            let lower = connected.clone().filter(|(_, it)| it.capabilities.version != self.schedule.version);
            report.fell_back += lower.count() as u64;
            let lost = connected.filter(|(_, it)| it.reconnected && !it.session_present);
            report.sessions_lost += lost.count() as u64;
            report.resent += client.resent() as u64;
            report.most_in_flight = report.most_in_flight.max(client.most_in_flight());
            report.delivered += client.messages.len() as u64;
            report.vanished += client.vanished.len() as u64;
            report.authenticated += client.verified;
        }
        report.dropped = dropped as u64;
        report.overlapping = u64::from(self.schedule.interests.filters > 1);
        report.identified = identified;
    }
}

#[cfg(test)]
mod tests {
    use mqtt_machine::ProtocolVersion;
    use mqtt_machine::transcript::{Replay, Transcript};

    use super::*;

    #[test]
    fn the_transcripts_of_a_schedule_replay() {
        for seed in 0..20 {
            let schedule = Schedule::from_seed(ProtocolVersion::V5, seed);
            let mut play = Play::new(&schedule, true);
            play.play();
            assert!(!play.sim.trace().is_empty());
            let transcripts = play.transcripts();
            assert!(transcripts.len() >= schedule.publishers + schedule.subscribers);
            for (name, bytes) in transcripts {
                let transcript = Transcript::new(bytes).unwrap_or_else(|e| panic!("{seed} {name}: {e}"));
                let entries = Replay::verify(&transcript).unwrap_or_else(|e| panic!("{seed} {name}: {e}"));
                assert!(entries > 0, "{seed} {name}");
            }
        }
    }

    #[test]
    fn a_panic_is_seen() {
        let caught = caught(|| panic!("oh"));
        let found: Vec<Invariant> = caught.unwrap_err().iter().map(|it| it.invariant).collect();
        assert_eq!(found, [Invariant::NoPanic]);
    }
}
