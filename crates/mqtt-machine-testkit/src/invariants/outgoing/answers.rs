//! Owns how publications end: by what the server answers, by the end of a connection, a session or the client.
//! It must not know what leaves.

use std::collections::BTreeSet;

use mqtt_machine::packet::{Ack, AckKind};
use mqtt_machine::{
    Instant, LostSession, Message, OpId, Outcome, PacketId, QoS, ReasonCode, SessionSnapshot,
};

use super::{Expect, Findings, Here, Invariant, Outgoing, Publication, Stage};

/// What the server says, and what becomes of it all.
impl Outgoing {
    /// An acknowledgement was taken. False when it breaks a rule: the connection must end.
    pub(in crate::invariants) fn acknowledge(&mut self, ack: &Ack<'_>, now: Instant) -> bool {
        let packet_id = ack.packet_id;
        let op = self.ids.get(&packet_id).copied();
        let publication = op.and_then(|op| self.publications.get(&op));
        let here = publication.filter(|publication| publication.here != Here::Nothing);
        let (Some(op), Some(publication)) = (op, here) else {
            // A PUBREC that nothing is known of is answered so that the server can let it go.
            let gone = publication.is_none_or(|publication| publication.may_be_gone(now));
            if gone && ack.kind == AckKind::PubRec {
                self.releases.push(packet_id);
            }
            return true;
        };
        let taken = publication.taken;
        let released = matches!(publication.stage, Stage::Released(..));
        let exactly_once = publication.message.qos == QoS::ExactlyOnce;
        match ack.kind {
            AckKind::PubAck if released || exactly_once => {
                // Once it is sent again all the same; the second time it ends.
                if publication.misanswered && !released {
                    self.end(op, Expect::Unknown);
                } else if let Some(publication) = self.publications.get_mut(&op) {
                    publication.misanswered = true;
                }
                return false;
            }
            AckKind::PubRec if released => self.releases.push(packet_id),
            AckKind::PubRec if !exactly_once => return false,
            AckKind::PubComp if !released => return false,
            AckKind::PubRec if !ack.reason.is_failure() => {
                self.release(op, packet_id, Some((ack.reason, ack.properties.len())));
                // Its PUBREL is an answer now; the PUBLISH stays in the quota until PUBCOMP.
                self.releases.push(packet_id);
            }
            AckKind::PubAck | AckKind::PubRec if ack.reason.is_failure() => {
                self.end(op, Expect::Refused(ack.reason));
            }
            AckKind::PubAck | AckKind::PubRec => self.end(op, Expect::Acknowledged(ack.reason, None)),
            // A server that has completed it already says "not found" to a PUBREL that comes again: it has the message.
            AckKind::PubComp if ack.reason.is_failure() => {
                self.end(op, Expect::Acknowledged(ReasonCode::Success, taken));
            }
            AckKind::PubComp => self.end(op, Expect::Acknowledged(ack.reason, taken)),
            AckKind::PubRel => {}
        }
        true
    }

    pub(in crate::invariants) fn connection_ended(&mut self) {
        for publication in self.publications.values_mut() {
            publication.here = Here::Nothing;
        }
        for (_, op) in core::mem::take(&mut self.unsent) {
            self.expected.insert(op, Expect::Lost);
        }
        self.in_flight = 0;
        self.releases.clear();
        self.last.clear();
        self.last_release = 0;
    }

    /// The server has no session: what was in flight starts over or is given up.
    pub(in crate::invariants) fn session_lost(&mut self, policy: LostSession) {
        let mut again = Vec::new();
        let owed: Vec<OpId> = self.ids.values().copied().collect();
        for op in owed {
            let Some(publication) = self.publications.get_mut(&op) else { continue };
            let exactly_once = publication.message.qos == QoS::ExactlyOnce;
            let given_up = matches!(publication.stage, Stage::Released(..))
                || (exactly_once && policy == LostSession::Report);
            if given_up {
                self.end(op, Expect::Unknown);
            } else {
                publication.stage = Stage::Waiting;
                publication.sent = false;
                publication.here = Here::Nothing;
                again.push(op);
            }
        }
        self.ids.clear();
        again.sort_unstable();
        for op in again.into_iter().rev() {
            self.queue_again(op);
        }
    }

    /// A disconnect is done: every command has ended. Returns those whose message the session still owes: no record
    /// tells their end.
    pub(in crate::invariants) fn disconnected(&mut self, keeps: bool) -> Vec<OpId> {
        let is_kept = |publication: &Publication| keeps && publication.message.qos != QoS::AtMostOnce;
        let unsent = self.publications.iter().filter(|(_, it)| !it.sent && !is_kept(it));
        let unsent: Vec<OpId> = unsent.map(|(op, _)| *op).collect();
        for op in unsent {
            self.end(op, Expect::NotSent);
        }
        let mut owed = Vec::new();
        for (op, publication) in &mut self.publications {
            if !core::mem::replace(&mut publication.told, true) {
                self.expected.insert(*op, if keeps { Expect::Kept } else { Expect::Unknown });
                owed.push(*op);
            }
        }
        owed
    }

    /// The store has failed: every command has ended that had not.
    pub(in crate::invariants) fn store_failed(&mut self) {
        for (op, publication) in &mut self.publications {
            if !core::mem::replace(&mut publication.told, true) {
                self.expected.insert(*op, Expect::StoreFailed);
            }
        }
    }

    pub(in crate::invariants) fn is_released(&self, packet_id: PacketId) -> bool {
        let publication = self.ids.get(&packet_id).and_then(|op| self.publications.get(op));
        publication.is_some_and(|publication| matches!(publication.stage, Stage::Released(..)))
    }

    /// The connected server takes packets by these rules only; the second argument tells whether the QoS may be lowered,
    /// which is too late once there is an identifier.
    pub(in crate::invariants) fn judge(&mut self, takes: impl Fn(&Message, bool) -> bool) {
        for publication in self.publications.values_mut() {
            let lowers = self.lowers && publication.stage == Stage::Waiting;
            publication.unfit |= !takes(&publication.message, lowers);
        }
    }

    /// The end of a publication is told.
    pub(in crate::invariants) fn completed(&mut self, op: OpId, outcome: &Outcome, findings: &mut Findings) {
        let now = findings.now;
        let given_up = self.publications.get(&op).is_some_and(|publication| match outcome {
            Outcome::Expired => publication.may_expire(now),
            Outcome::Dropped(_) => publication.unfit || publication.doubtful,
            _ => false,
        });
        if given_up {
            self.expected.remove(&op);
            self.remove(op);
            return;
        }
        let expected = self.expected.remove(&op);
        let holds = match expected {
            Some(expect) if expect.is(outcome) => true,
            // It had been given up before a disconnect ended the rest.
            // One that was lowered to QoS 0 is in no store.
            Some(Expect::Kept) if self.lowers && *outcome == Outcome::NotSent => {
                self.remove(op);
                true
            }
            Some(Expect::NotSent | Expect::Unknown | Expect::Kept | Expect::StoreFailed) => {
                matches!(outcome, Outcome::Expired | Outcome::Dropped(_))
            }
            _ => false,
        };
        findings.ensure(holds, Invariant::Outcome, || {
            format!("{op:?} ended as {outcome:?}, and {expected:?} is what happened")
        });
    }

    /// Compares with what the machine shows of its session.
    pub(in crate::invariants) fn compare(&self, session: &SessionSnapshot, findings: &mut Findings) {
        let now = findings.now;
        let mut shown = BTreeSet::new();
        for (op, packet_id, message) in &session.publications {
            findings.ensure(shown.insert(*op), Invariant::Identifiers, || format!("{op:?} is owed twice"));
            let Some(publication) = self.publications.get(op) else {
                findings.report(Invariant::Session, format!("{op:?} is owed by the machine, and has ended"));
                continue;
            };
            let released = matches!(publication.stage, Stage::Released(..));
            findings.ensure(released == message.is_none(), Invariant::Session, || {
                format!("{op:?} has its PUBREC: {released}, and the machine keeps {message:?}")
            });
            if let Some(own) = publication.packet_id() {
                findings.ensure(*packet_id == Some(own), Invariant::Session, || {
                    format!("{op:?} has packet identifier {own}, not {packet_id:?}")
                });
            }
        }
        for (op, publication) in &self.publications {
            let kept = shown.contains(op)
                || publication.message.qos == QoS::AtMostOnce
                || (self.lowers && publication.stage == Stage::Waiting)
                || publication.may_be_gone(now);
            findings.ensure(kept, Invariant::Session, || {
                format!("{op:?} is owed and the machine has forgotten it ({:?})", publication.stage)
            });
        }
    }
}
