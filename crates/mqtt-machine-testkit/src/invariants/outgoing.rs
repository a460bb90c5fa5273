//! Owns what the client owes the server: accepted publications, where each stands, and how each must end.
//! It must not know what arrives for the application.

mod answers;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mqtt_machine::journal::Record;
use mqtt_machine::packet::Publish;
use mqtt_machine::{DropReason, Instant, Message, OpId, Outcome, PacketId, Priority, QoS, ReasonCode};

use super::{Findings, Invariant};

/// Where a publication stands in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has no packet identifier.
    Waiting,
    /// Its PUBLISH is owed under this identifier.
    Window(PacketId),
    /// Its PUBREL is owed under this identifier, in the order of its PUBREC.
    Released(PacketId, u64),
}

/// What was written for a publication on the present connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Here {
    #[default]
    Nothing,
    Publish,
    Release,
}

/// The reason of a PUBREC and how many bytes of its properties are kept; `None` for a plain success.
type Taken = Option<(ReasonCode, usize)>;

#[derive(Clone, Debug)]
struct Publication {
    message: Message,
    accepted_at: Instant,
    /// How long it had waited before that, in an earlier process.
    waited: Duration,
    stage: Stage,
    here: Here,
    /// Its PUBLISH was written on some connection under its present identifier, as far as is known.
    sent: bool,
    /// A disconnect ended its command; the session still owes it.
    told: bool,
    /// Some server that was connected would not take it.
    unfit: bool,
    /// A policy may have dropped it for others.
    doubtful: bool,
    /// The server has said PUBACK to it, and it is of QoS 2.
    misanswered: bool,
    /// What its PUBREC said, when that was more than success.
    taken: Taken,
}

impl Publication {
    const fn packet_id(&self) -> Option<PacketId> {
        match self.stage {
            Stage::Waiting => None,
            Stage::Window(packet_id) | Stage::Released(packet_id, _) => Some(packet_id),
        }
    }

    fn has_expired(&self, now: Instant) -> bool {
        self.message
            .expiry_interval()
            .is_some_and(|interval| self.waited.saturating_add(now - self.accepted_at) >= interval)
    }

    /// Whether it is worth nothing and has not left: what has is never given up.
    fn may_expire(&self, now: Instant) -> bool {
        !self.sent && self.has_expired(now)
    }

    /// Whether the machine may have given it up without having told so yet.
    fn may_be_gone(&self, now: Instant) -> bool {
        self.unfit || self.doubtful || self.may_expire(now)
    }

    fn cost(&self) -> usize {
        match self.stage {
            Stage::Released(..) => self.taken.map_or(0, |(_, bytes)| bytes),
            Stage::Waiting | Stage::Window(_) => self.message.cost(),
        }
    }
}

/// How a command must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// QoS 0 whose last byte was handed to the transport.
    Sent,
    /// QoS 0 that was in the output when the connection ended.
    Lost,
    /// The second is what PUBREC said before.
    Acknowledged(ReasonCode, Taken),
    Refused(ReasonCode),
    Unknown,
    NotSent,
    Kept,
    StoreFailed,
    Dropped(DropReason),
}

impl Expect {
    fn is(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Sent, Outcome::Sent)
            | (Self::Lost, Outcome::Dropped(DropReason::ConnectionLost))
            | (Self::Unknown, Outcome::Unknown)
            | (Self::Kept, Outcome::Kept)
            | (Self::StoreFailed, Outcome::StoreFailed)
            | (Self::NotSent, Outcome::NotSent) => true,
            (Self::Dropped(reason), Outcome::Dropped(told)) => reason == *told,
            (Self::Acknowledged(reason, taken), Outcome::Acknowledged(ack)) => {
                let received = ack.received.as_deref().map(|it| (it.reason, it.properties.len()));
                ack.reason == reason && received == taken
            }
            (Self::Refused(reason), Outcome::Refused(ack)) => ack.reason == reason && ack.received.is_none(),
            _ => false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    publications: BTreeMap<OpId, Publication>,
    ids: BTreeMap<PacketId, OpId>,
    waiting: VecDeque<OpId>,
    /// QoS 0 in the output: where each ends, by bytes written on this connection.
    unsent: VecDeque<(u64, OpId)>,
    pub(super) expected: BTreeMap<OpId, Expect>,
    /// PUBREL packets that answer a PUBREC, not written yet.
    releases: Vec<PacketId>,
    /// The last publication of each priority, of QoS 1 or 2 and of QoS 0, that was written on this connection.
    last: BTreeMap<(usize, Priority), OpId>,
    last_release: u64,
    next_release: u64,
    in_flight: usize,
    pub(super) bytes: usize,
    pub(super) most: usize,
    pub(super) most_in_flight: usize,
    pub(super) resent: usize,
    /// Publications may leave with a lower QoS and without retain.
    lowers: bool,
    /// The next that is accepted may have been dropped for others.
    next_is_doubtful: bool,
}

/// What is accepted, and what is read from records.
impl Outgoing {
    pub(super) fn new(lowers: bool) -> Self {
        Self { lowers, ..Self::default() }
    }

    /// Another configuration is in force. What was lowered once may still be on its way.
    pub(super) const fn may_lower(&mut self, lowers: bool) {
        self.lowers |= lowers;
    }

    pub(super) fn accept(&mut self, op: OpId, message: Message, now: Instant) {
        self.bytes += message.cost();
        let doubtful = core::mem::take(&mut self.next_is_doubtful);
        self.publications.insert(
            op,
            Publication {
                message,
                accepted_at: now,
                waited: Duration::ZERO,
                stage: Stage::Waiting,
                here: Here::Nothing,
                sent: false,
                told: false,
                unfit: false,
                doubtful,
                misanswered: false,
                taken: None,
            },
        );
        self.queue(op);
        self.most = self.most.max(self.publications.len());
    }

    /// The fold of a restore, told in the model's own words.
    pub(super) fn replay(&mut self, record: Record, now: Instant) {
        match record {
            Record::Queued { op, message } => self.accept(op, message, now),
            Record::Assigned { op, packet_id } => self.assigned(op, packet_id),
            Record::Downgraded { op, qos } => self.lowered(op, qos),
            Record::Released { op, packet_id, .. } => {
                if !self.publications.contains_key(&op) {
                    // A store has no message for it any more.
                    let Ok(nothing) = Message::to("-", "") else { return };
                    self.accept(op, nothing.qos(QoS::ExactlyOnce), now);
                    self.assigned(op, packet_id);
                }
                self.release(op, packet_id, None);
            }
            Record::Ended { op, .. } | Record::Discarded { op } => self.remove(op),
            Record::SessionBegan { .. } => {
                self.session_lost(mqtt_machine::LostSession::SendAgain);
                self.expected.clear();
            }
            _ => {}
        }
    }

    /// After the fold: what has an identifier may have been sent, and it has all waited for so long.
    pub(super) fn restored(&mut self, waited: Duration) -> Vec<OpId> {
        // What was lowered to QoS 0 ends with its process, as everything of QoS 0 does.
        let once = |(op, it): (&OpId, &Publication)| (it.message.qos == QoS::AtMostOnce).then_some(*op);
        let gone: Vec<OpId> = self.publications.iter().filter_map(once).collect();
        gone.into_iter().for_each(|op| self.remove(op));
        for publication in self.publications.values_mut() {
            publication.waited = waited;
            publication.sent = publication.packet_id().is_some();
        }
        self.releases.clear();
        self.publications.keys().copied().collect()
    }

    /// A record says which identifier a publication has.
    pub(super) fn assigned(&mut self, op: OpId, packet_id: PacketId) {
        if let Some(publication) = self.publications.get_mut(&op) {
            publication.stage = Stage::Window(packet_id);
            self.waiting.retain(|waiting| *waiting != op);
            self.ids.insert(packet_id, op);
        }
    }

    /// A record says that a publication has a lower QoS from here on.
    pub(super) fn lowered(&mut self, op: OpId, qos: QoS) {
        if let Some(publication) = self.publications.get_mut(&op) {
            publication.message.qos = publication.message.qos.min(qos);
        }
    }

    fn remove(&mut self, op: OpId) {
        let Some(publication) = self.publications.remove(&op) else { return };
        self.bytes -= publication.cost();
        if publication.here == Here::Publish {
            self.in_flight -= 1;
        }
        match publication.packet_id() {
            Some(packet_id) => {
                if self.ids.get(&packet_id) == Some(&op) {
                    self.ids.remove(&packet_id);
                }
            }
            None => self.waiting.retain(|waiting| *waiting != op),
        }
    }

    fn end(&mut self, op: OpId, expect: Expect) {
        if self.publications.get(&op).is_some_and(|publication| !publication.told) {
            self.expected.insert(op, expect);
        }
        self.remove(op);
    }

    fn release(&mut self, op: OpId, packet_id: PacketId, said: Taken) {
        self.next_release += 1;
        if let Some(publication) = self.publications.get_mut(&op) {
            self.bytes -= publication.cost();
            // Its words are kept where they are no larger than the message.
            let room = publication.message.cost();
            let taken = said.map(|(reason, bytes)| (reason, if bytes <= room { bytes } else { 0 }));
            publication.taken = taken.filter(|taken| *taken != (ReasonCode::Success, 0));
            publication.stage = Stage::Released(packet_id, self.next_release);
            self.bytes += publication.cost();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.publications.len()
    }

    /// Messages and their bytes that the machine cannot have given up without telling.
    pub(super) fn certain(&self, now: Instant) -> (usize, usize) {
        let certain = self.publications.values().filter(|publication| !publication.may_be_gone(now));
        certain.fold((0, 0), |(count, bytes), publication| (count + 1, bytes + publication.cost()))
    }

    /// Whether a publication has this identifier. One that the machine may have given up may have left it already.
    pub(super) fn uses(&self, packet_id: PacketId, now: Instant) -> bool {
        let publication = self.ids.get(&packet_id).and_then(|op| self.publications.get(op));
        publication.is_some_and(|publication| !publication.may_be_gone(now))
    }
}

/// What is written.
impl Outgoing {
    /// A PUBLISH was written. `window` is the most that may be in flight, `end` where it ends in the output.
    pub(super) fn publish(
        &mut self,
        publish: &Publish<'_>,
        window: usize,
        end: u64,
        findings: &mut Findings,
    ) {
        let Some(packet_id) = publish.packet_id else { return self.publish_once(publish, end, findings) };
        self.resent += usize::from(publish.dup);
        let op = match self.holder(packet_id, publish, findings.now) {
            Some(op) => op,
            None => match self.find(publish, findings) {
                Some(op) => {
                    self.is_next(op, findings);
                    self.assigned(op, packet_id);
                    op
                }
                None => return,
            },
        };
        self.in_order(1, op, findings);
        let lowers = self.lowers;
        let Some(publication) = self.publications.get_mut(&op) else { return };
        if lowers {
            publication.message.qos = publication.message.qos.min(publish.qos);
        }
        let name = format!("PUBLISH {packet_id} of {op:?} (QoS {})", publish.qos);
        findings.ensure(!matches!(publication.stage, Stage::Released(..)), Invariant::Release, || {
            format!("{name} was sent again after its PUBREC")
        });
        findings.ensure(publish.dup == publication.sent, Invariant::Dup, || {
            let before = if publication.sent { "was sent before" } else { "was never sent before" };
            format!("{name} has DUP {} and {before}", u8::from(publish.dup))
        });
        findings.ensure(!publication.may_expire(findings.now), Invariant::Wire, || {
            format!("{name} leaves for the first time and has expired")
        });
        findings.ensure(publication.here == Here::Nothing, Invariant::Dup, || {
            format!("{name} was sent twice on one connection")
        });
        findings.ensure(is_of(publish, &publication.message, self.lowers), Invariant::Identifiers, || {
            format!("{name} is another message under an identifier in flight")
        });
        if publication.here != Here::Publish {
            publication.here = Here::Publish;
            self.in_flight += 1;
        }
        publication.sent = true;
        publication.message.qos = publish.qos;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        findings.ensure(self.in_flight <= window, Invariant::InFlight, || {
            format!("{name} makes {} in flight, {window} are allowed", self.in_flight)
        });
    }

    /// Whose identifier it is. A publication that the machine may have given up may have left it already.
    fn holder(&mut self, packet_id: PacketId, publish: &Publish<'_>, now: Instant) -> Option<OpId> {
        let op = self.ids.get(&packet_id).copied()?;
        let publication = self.publications.get_mut(&op)?;
        if publication.may_be_gone(now) && !is_of(publish, &publication.message, self.lowers) {
            publication.stage = Stage::Waiting;
            self.ids.remove(&packet_id);
            return None;
        }
        Some(op)
    }

    fn publish_once(&mut self, publish: &Publish<'_>, end: u64, findings: &mut Findings) {
        let Some(op) = self.find(publish, findings) else { return };
        self.is_next(op, findings);
        self.in_order(0, op, findings);
        let told = self.publications.get(&op).is_some_and(|publication| publication.told);
        self.remove(op);
        if !told {
            self.unsent.push_back((end, op));
        }
    }

    /// The first waiting publication that this PUBLISH can be.
    fn find(&self, publish: &Publish<'_>, findings: &mut Findings) -> Option<OpId> {
        let now = findings.now;
        let matching = |fit: bool| {
            self.waiting.iter().find(|op| {
                self.publications.get(op).is_some_and(|publication| {
                    is_of(publish, &publication.message, self.lowers)
                        && !publication.has_expired(now)
                        && !(fit && publication.unfit)
                })
            })
        };
        let found = matching(true).or_else(|| matching(false));
        findings.ensure(found.is_some(), Invariant::Wire, || {
            format!(
                "a PUBLISH of {:?} on {} that no accepted publication waits for",
                String::from_utf8_lossy(publish.payload),
                publish.topic
            )
        });
        found.copied()
    }

    fn in_order(&mut self, lane: usize, op: OpId, findings: &mut Findings) {
        let last = self.last.insert((lane, self.priority_of(op)), op);
        // Names count up in the order of acceptance.
        findings.ensure(last.is_none_or(|last| last < op), Invariant::Order, || {
            format!("{op:?} was written after {last:?}")
        });
    }

    /// A PUBREL was written.
    pub(super) fn pubrel(&mut self, packet_id: PacketId, findings: &mut Findings) {
        let answer = self.releases.iter().position(|owed| *owed == packet_id);
        if let Some(place) = answer {
            self.releases.remove(place);
        }
        let publication = self.ids.get(&packet_id).and_then(|op| self.publications.get_mut(op));
        match publication {
            Some(Publication { stage: Stage::Released(_, order), here, .. }) => {
                if *here == Here::Nothing {
                    *here = Here::Release;
                    let (last, order) = (self.last_release, *order);
                    self.last_release = order;
                    findings.ensure(last < order, Invariant::Order, || {
                        format!("PUBREL {packet_id} was sent again out of the order of its PUBREC")
                    });
                } else {
                    findings.ensure(answer.is_some(), Invariant::Release, || {
                        format!("PUBREL {packet_id} was sent twice for one PUBREC")
                    });
                }
            }
            _ => findings.ensure(answer.is_some(), Invariant::Release, || {
                format!("PUBREL {packet_id} before its PUBREC")
            }),
        }
    }

    /// Bytes up to `handed` were handed to the transport.
    pub(super) fn handed(&mut self, handed: u64) {
        while let Some((end, op)) = self.unsent.front().copied()
            && end <= handed
        {
            self.unsent.pop_front();
            self.expected.insert(op, Expect::Sent);
        }
    }

    /// What must be written now: `Some` names it. `window` is the most that may be in flight.
    pub(super) fn ready(&self, window: usize, now: Instant) -> Option<OpId> {
        let open = self.in_flight < window;
        let owed = self.publications.iter().find(|(_, publication)| match publication.stage {
            Stage::Waiting => false,
            Stage::Window(_) => publication.here == Here::Nothing && open && !publication.may_be_gone(now),
            // It stands behind publications that wait for the window.
            Stage::Released(..) => publication.here == Here::Nothing && open,
        });
        let blocked =
            self.publications.values().any(|it| it.packet_id().is_some() && it.here == Here::Nothing);
        let first = self.waiting.front().filter(|op| {
            self.publications.get(op).is_some_and(|publication| {
                let free = publication.message.qos == QoS::AtMostOnce || open;
                // Which QoS one that may be lowered has by now is the machine's to know.
                !blocked && !self.lowers && free && !publication.may_be_gone(now)
            })
        });
        owed.map(|(op, _)| *op).or(first.copied())
    }
}

/// Whether a PUBLISH carries this message, perhaps with less than it asks for.
fn is_of(publish: &Publish<'_>, message: &Message, lowered: bool) -> bool {
    publish.payload == message.payload
        && publish.topic.as_bytes() == message.topic.as_bytes()
        && (publish.qos == message.qos || (lowered && publish.qos < message.qos))
        && (publish.retain == message.retain || (lowered && !publish.retain))
}
