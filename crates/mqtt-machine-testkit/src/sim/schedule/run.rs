//! Owns the playing of a schedule, and the judgement at its end: what both ends saw.
//! It must not know how steps are drawn.

use core::fmt;
use core::ops::AddAssign;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mqtt_machine::transcript::Recording;
use mqtt_machine::{
    Backoff, CleanStart, Config, Disconnect, Instant, Limits, Message, OpId, Outcome, QoS, Subscribe,
    TopicFilter,
};

use super::super::{Client, Sim, config, server};
use super::{Promise, Schedule, Step, What};
use crate::broker::SessionCopy;
use crate::invariants::{Invariant, Violation};

/// The virtual time within which every schedule must have delivered everything.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a run that held saw. Sums of reports tell whether the faults happened at all.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Schedules in this report.
    pub schedules: u64,
    /// Connections made by all clients.
    pub connections: u64,
    /// Of those, connections on which the server had lost the session.
    pub sessions_lost: u64,
    /// PUBLISH packets that were sent with DUP.
    pub resent: u64,
    /// The most publications that one client had in flight.
    pub most_in_flight: usize,
    /// Messages accepted from applications.
    pub messages: u64,
    /// Messages that applications got.
    pub delivered: u64,
    /// Crashes of processes; each is followed by a restart.
    pub crashes: u64,
    /// Messages that a crash took before they were durable.
    pub vanished: u64,
    /// Times that a server went down.
    pub fail_overs: u64,
    /// Jumps of the clock.
    pub jumps: u64,
    /// Suspended processes.
    pub suspended: u64,
    /// Links that broke for the client alone or fell silent.
    pub stranded: u64,
    /// Second clients under the same identifier, and sessions resurrected.
    pub confused: u64,
    /// The virtual time that it took.
    pub took: Duration,
    /// Steps of the simulation.
    pub steps: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.connections += other.connections;
        self.sessions_lost += other.sessions_lost;
        self.resent += other.resent;
        self.most_in_flight = self.most_in_flight.max(other.most_in_flight);
        self.messages += other.messages;
        self.delivered += other.delivered;
        self.crashes += other.crashes;
        self.vanished += other.vanished;
        self.fail_overs += other.fail_overs;
        self.jumps += other.jumps;
        self.suspended += other.suspended;
        self.stranded += other.stranded;
        self.confused += other.confused;
        self.took += other.took;
        self.steps += other.steps;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules: {} connections ({} lost sessions), {} messages, {} delivered, {} resent, {} crashes \
             ({} messages vanished), {} fail-overs, {} jumps, {} suspended, {} stranded, {} confused, {} steps",
            self.schedules,
            self.connections,
            self.sessions_lost,
            self.messages,
            self.delivered,
            self.resent,
            self.crashes,
            self.vanished,
            self.fail_overs,
            self.jumps,
            self.suspended,
            self.stranded,
            self.confused,
            self.steps
        )
    }
}

/// What did not hold in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Every violation, the first one first.
    pub violations: Vec<Violation>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// The transcript of each machine with a name for it, if it was asked for; a crash ends one and begins another.
    pub transcripts: Vec<(String, Bytes)>,
}

impl Failure {
    /// The rule that did not hold first.
    pub fn invariant(&self) -> Option<Invariant> {
        self.violations.first().map(|violation| violation.invariant)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// A message that an application gave away.
struct Sent {
    client: usize,
    life: u32,
    op: OpId,
    message: Message,
}

/// A schedule as it is played.
struct Play<'a> {
    schedule: &'a Schedule,
    sim: Sim,
    sent: Vec<Sent>,
    copies: Vec<Option<SessionCopy>>,
    wrong: Vec<Violation>,
    report: Report,
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

    fn name(&self, client: usize) -> String {
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
        config.topic_aliases.automatic = self.prepare;
        config
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
    fn new(schedule: &'a Schedule, traced: bool) -> Self {
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

    fn wrong(&mut self, invariant: Invariant, detail: String) {
        self.wrong.push(Violation::new(invariant, self.sim.now, detail));
    }

    fn clients(&self) -> core::ops::Range<usize> {
        0..self.sim.clients().len()
    }

    fn play(&mut self) {
        self.subscribe();
        for Step { after, what } in &self.schedule.steps {
            self.sim.run_for(*after);
            self.apply(what);
        }
        for client in 0..self.schedule.publishers {
            self.connect(client);
        }
        self.settle();
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

    fn subscribe(&mut self) {
        let mut ops = Vec::new();
        for client in self.schedule.publishers..self.schedule.publishers + self.schedule.subscribers {
            self.sim.connect(client);
            let Ok(filter) = TopicFilter::new("t/+") else { return };
            match self.sim.subscribe(client, Subscribe::to(filter, QoS::ExactlyOnce)) {
                Ok(op) => ops.push((client, op)),
                Err(refused) => self.wrong(Invariant::Outcome, format!("a subscription: {refused}")),
            }
        }
        let granted =
            |sim: &Sim| ops.iter().all(|(client, op)| sim.client(*client).outcomes.contains_key(op));
        if !self.sim.run_until(PATIENCE, granted) {
            self.wrong(Invariant::EndsOnce, "a subscription never ended".into());
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
            What::Twin(client) => {
                self.report.confused += 1;
                let twin = sim.add(self.schedule.config(*client));
                sim.connect(twin);
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
        let Ok(message) = Message::to(&format!("t/{topic}"), payload) else { return };
        let message = message.qos(qos);
        match self.sim.publish(client, message.clone()) {
            Ok(op) => {
                let life = self.sim.client(client).lives;
                self.sent.push(Sent { client, life, op, message });
            }
            Err(refused) => self.wrong(Invariant::Outcome, format!("a message was not accepted: {refused}")),
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

    fn judge(&mut self) {
        let promise = self.schedule.promise();
        let mut wrong = Vec::new();
        for sent in &self.sent {
            wrong.extend(self.judge_message(sent, promise));
        }
        if promise == Promise::Delivered {
            for client in self.schedule.publishers..self.schedule.publishers + self.schedule.subscribers {
                self.judge_subscriber(client, &mut wrong);
            }
        }
        for (invariant, detail) in wrong {
            self.wrong(invariant, detail);
        }
    }

    /// What became of one message at the brokers, and what its application was told.
    fn judge_message(&self, sent: &Sent, promise: Promise) -> Option<(Invariant, String)> {
        let Sent { client, life, op, message } = sent;
        let owner = self.sim.client(*client);
        let count = self.sim.count(message.topic.as_str(), &message.payload);
        let name =
            format!("message {} (QoS {}) of {}", text(message), message.qos, self.schedule.name(*client));
        if message.qos == QoS::AtMostOnce {
            return (count > 1)
                .then(|| (Invariant::ExactlyOnce, format!("{name} was accepted {count} times")));
        }
        if owner.vanished.contains(&(*life, *op)) {
            let what =
                format!("{name} was accepted {count} times, and was not durable when its client crashed");
            return (count > 0).then_some((Invariant::Durable, what));
        }
        let outcome = owner.outcomes.get(op);
        let success = matches!(outcome, Some(Outcome::Acknowledged(ack)) if !ack.reason.is_failure());
        if promise == Promise::Own {
            let lost = success && message.qos == QoS::AtLeastOnce && count == 0;
            return lost
                .then(|| (Invariant::AtLeastOnce, format!("{name} was acknowledged and not accepted")));
        }
        // A message whose PUBREC came is no longer kept here: nobody can tell what a server that forgot made of it.
        let may_be_unknown = promise < Promise::Delivered && message.qos == QoS::ExactlyOnce;
        let unknown = may_be_unknown && outcome == Some(&Outcome::Unknown);
        if !success && !unknown && !owner.untold.contains(op) {
            return Some((Invariant::Outcome, format!("{name} ended as {outcome:?}")));
        }
        let once = message.qos == QoS::ExactlyOnce && promise == Promise::Delivered;
        let invariant = if once { Invariant::ExactlyOnce } else { Invariant::AtLeastOnce };
        let reported = unknown || (may_be_unknown && owner.untold.contains(op));
        let wrong = (count == 0 && !reported) || (once && count > 1);
        wrong.then(|| (invariant, format!("{name} was accepted {count} times by the brokers")))
    }

    /// QoS 2 once, QoS 1 at least once, and the first occurrences of each publisher's in the order of publishing.
    fn judge_subscriber(&self, client: usize, wrong: &mut Vec<(Invariant, String)>) {
        let subscriber = self.sim.client(client);
        let owed = self.sent.iter().filter(|sent| {
            let gone = self.sim.client(sent.client).vanished.contains(&(sent.life, sent.op));
            sent.message.qos != QoS::AtMostOnce && !gone
        });
        let owed: Vec<&Sent> = owed.collect();
        let is = |got: &&Message, sent: &Message| got.topic == sent.topic && got.payload == sent.payload;
        for Sent { message, .. } in &owed {
            let count = subscriber.messages.iter().filter(|got| is(got, message)).count();
            let once = message.qos == QoS::ExactlyOnce;
            if count == 0 || (once && count > 1) {
                let invariant = if once { Invariant::ExactlyOnce } else { Invariant::AtLeastOnce };
                let (name, number) = (self.schedule.name(client), text(message));
                wrong.push((
                    invariant,
                    format!("{name} got message {number} (QoS {}) {count} times", message.qos),
                ));
            }
        }
        let mut places = std::collections::BTreeMap::new();
        for sent in owed {
            let qos = sent.message.qos;
            // Which of its unsettled messages come again after a crash depends on the order of its receipts.
            if qos == QoS::AtLeastOnce && subscriber.lives > 0 {
                continue;
            }
            let Some(place) = subscriber.messages.iter().position(|got| is(&got, &sent.message)) else {
                continue;
            };
            let lane = (sent.client, sent.message.topic.as_str().to_owned(), qos.to_u8());
            if places.insert(lane, place).is_some_and(|before| before > place) {
                let (name, number) = (self.schedule.name(client), text(&sent.message));
                wrong.push((Invariant::Order, format!("{name} got message {number} (QoS {qos}) too early")));
            }
        }
    }

    fn count(&mut self) {
        let report = &mut self.report;
        report.schedules = 1;
        report.messages = self.sent.len() as u64;
        report.steps = self.sim.steps();
        for client in self.sim.clients() {
            let connected = client.connected.iter();
            report.connections += connected.clone().count() as u64;
            let lost = connected.filter(|(_, it)| it.reconnected && !it.session_present);
            report.sessions_lost += lost.count() as u64;
            report.resent += client.resent() as u64;
            report.most_in_flight = report.most_in_flight.max(client.most_in_flight());
            report.delivered += client.messages.len() as u64;
            report.vanished += client.vanished.len() as u64;
        }
    }
}

fn text(message: &Message) -> String {
    message.payload_lossy().trim_end_matches('.').trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use mqtt_machine::ProtocolVersion;
    use mqtt_machine::transcript::{Replay, Transcript};

    use super::*;
    use crate::broker::ConnId;

    /// A run that held, of a schedule with messages of both QoS that promises everything.
    fn held() -> Schedule {
        let seeds = (0..1_000).map(|seed| Schedule::from_seed(ProtocolVersion::V5, seed));
        let promising = seeds.filter(|schedule| schedule.promise() == Promise::Delivered);
        let sends = |schedule: &Schedule, wanted: QoS| {
            schedule.steps.iter().any(|step| matches!(step.what, What::Publish { qos, .. } if qos == wanted))
        };
        let crashes = |step: &Step| matches!(step.what, What::Crash(..) | What::Suspend(..));
        let mut found = promising.filter(|schedule| {
            sends(schedule, QoS::AtLeastOnce)
                && sends(schedule, QoS::ExactlyOnce)
                && !schedule.steps.iter().any(crashes)
        });
        found.next().expect("one of a thousand")
    }

    /// What is found when `tamper` changes what a run that held left behind.
    fn found(tamper: impl FnOnce(&mut Play<'_>)) -> Vec<Invariant> {
        let schedule = held();
        let mut play = Play::new(&schedule, false);
        play.play();
        assert_eq!(play.wrong, []);
        tamper(&mut play);
        play.judge();
        play.wrong.extend(play.sim.accusations());
        play.wrong.iter().map(|violation| violation.invariant).collect()
    }

    fn place_of(play: &Play<'_>, qos: QoS) -> usize {
        let subscriber = play.sim.client(play.schedule.publishers);
        subscriber.messages.iter().position(|message| message.qos == qos).expect("one came")
    }

    #[test]
    fn a_message_that_does_not_arrive_is_seen() {
        for (qos, invariant) in
            [(QoS::AtLeastOnce, Invariant::AtLeastOnce), (QoS::ExactlyOnce, Invariant::ExactlyOnce)]
        {
            let found = found(|play| {
                let lost = play.sim.client(play.schedule.publishers).messages[place_of(play, qos)].clone();
                let subscriber = play.sim.client_mut(play.schedule.publishers);
                subscriber.messages.retain(|message| message.payload != lost.payload);
            });
            assert_eq!(found, [invariant]);
        }
    }

    #[test]
    fn a_message_of_qos_2_that_arrives_twice_is_seen_and_one_of_qos_1_is_not() {
        for (qos, expected) in
            [(QoS::AtLeastOnce, &[][..]), (QoS::ExactlyOnce, &[Invariant::ExactlyOnce][..])]
        {
            let found = found(|play| {
                let place = place_of(play, qos);
                let subscriber = play.sim.client_mut(play.schedule.publishers);
                subscriber.messages.push(subscriber.messages[place].clone());
            });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_message_that_left_though_a_crash_took_it_is_seen() {
        let found = found(|play| {
            let sent = play.sent.iter().find(|sent| sent.message.qos == QoS::AtLeastOnce).expect("one");
            let (client, gone) = (sent.client, (sent.life, sent.op));
            play.sim.client_mut(client).vanished.insert(gone);
        });
        assert_eq!(found, [Invariant::Durable]);
    }

    #[test]
    fn a_client_that_a_strict_server_accuses_is_seen() {
        let found = found(|play| {
            let (now, conn) = (play.sim.now, ConnId::new(u64::MAX));
            play.sim.broker.open(now, conn);
            play.sim.broker.handle_input(now, conn, &[0xC0, 0]);
        });
        assert_eq!(found, [Invariant::Client]);
    }

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
