//! Owns the judgement at the end of a run: what both ends saw, and what the applications were told.
//! It must not know how the run came there.

use std::collections::BTreeMap;

use mqtt_machine::{Message, Outcome, ProtocolVersion, QoS};

use super::Promise;
use super::run::{Play, Sent};
use crate::invariants::Invariant;

impl Play<'_> {
    pub(super) fn judge(&mut self) {
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
        for client in self.schedule.publishers..self.schedule.publishers + self.schedule.subscribers {
            self.judge_identifiers(client, &mut wrong);
        }
        wrong.extend(self.judge_keys(promise));
        for (invariant, detail) in wrong {
            self.wrong(invariant, detail);
        }
    }

    /// A delivery key names one message, and a message of QoS 2 has one key at each subscriber, whatever crashed. A server whose
    /// sessions are others' or old, or that cannot say that it lost one (3.1), takes that away.
    fn judge_keys(&self, promise: Promise) -> Vec<(Invariant, String)> {
        // 3.1 does not say whether the session was lost.
        let silent = self.schedule.version == ProtocolVersion::V3_1 || self.schedule.terms.falls_back;
        if promise == Promise::Own || (silent && promise < Promise::Delivered) || !self.schedule.durable {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        for client in self.sim.clients() {
            wrong.extend(client.key_clashes.iter().map(|what| (Invariant::ExactlyOnce, what.clone())));
            if promise < Promise::Delivered {
                continue;
            }
            let mut names = BTreeMap::new();
            for (key, message) in client.keys.iter().filter(|(_, message)| message.qos == QoS::ExactlyOnce) {
                let keys: &mut Vec<_> =
                    names.entry((message.topic.clone(), message.payload.clone())).or_default();
                keys.push(key);
                if keys.len() > self.schedule.copies_of(message) {
                    let what = format!("message {} is {keys:?}", text(message));
                    wrong.push((Invariant::ExactlyOnce, what));
                }
            }
        }
        wrong
    }

    /// What became of one message at the brokers, and what its application was told.
    fn judge_message(&self, sent: &Sent, promise: Promise) -> Option<(Invariant, String)> {
        let Sent { client, life, op, message, .. } = sent;
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
        if self.was_dropped(sent) {
            // Where a session is lost, what had left waits again.
            let never_left = promise == Promise::Delivered && count > 0;
            return never_left
                .then(|| (Invariant::Outcome, format!("{name} was dropped, and accepted {count} times")));
        }
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
            sent.message.qos != QoS::AtMostOnce && !gone && !self.was_dropped(sent)
        });
        let owed: Vec<&Sent> = owed.collect();
        let is = |got: &&Message, sent: &Message| got.topic == sent.topic && got.payload == sent.payload;
        for Sent { message, .. } in &owed {
            let count = subscriber.messages.iter().filter(|got| is(got, message)).count();
            let once = message.qos == QoS::ExactlyOnce;
            let copies = self.schedule.copies_of(message);
            if count < copies || (once && count > copies) {
                let invariant = if once { Invariant::ExactlyOnce } else { Invariant::AtLeastOnce };
                let (name, number) = (self.schedule.name(client), text(message));
                wrong.push((
                    invariant,
                    format!("{name} got message {number} (QoS {}) {count} times of {copies}", message.qos),
                ));
            }
        }
        let mut places = BTreeMap::new();
        for sent in owed {
            let qos = sent.message.qos;
            // Which of its unsettled messages come again after a crash depends on the order of its receipts.
            if qos == QoS::AtLeastOnce && subscriber.lives > 0 {
                continue;
            }
            let Some(place) = subscriber.messages.iter().position(|got| is(&got, &sent.message)) else {
                continue;
            };
            let lane =
                (sent.client, sent.message.topic.as_str().to_owned(), qos.to_u8(), sent.message.priority);
            if places.insert(lane, place).is_some_and(|before| before > place) {
                let (name, number) = (self.schedule.name(client), text(&sent.message));
                wrong.push((Invariant::Order, format!("{name} got message {number} (QoS {qos}) too early")));
            }
        }
    }
}

fn text(message: &Message) -> String {
    message.payload_lossy().trim_end_matches('.').trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use mqtt_machine::ProtocolVersion;

    use super::super::interests::Interests;
    use super::super::policies::Policies;
    use super::super::{Schedule, Step, What};
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
            // Each message keeps its QoS.
            !schedule.terms.lowers
                && schedule.interests == Interests::default()
                && schedule.policies == Policies::default()
                && sends(schedule, QoS::AtLeastOnce)
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
}
