//! Owns the reference model as a whole: what passes the machine's surface, in, and what does not follow from it, out.
//! It must not know the machine.

mod output;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mqtt_machine::journal::{PublishKey, Record};
use mqtt_machine::{
    Config, Instant, JournalSeq, KeyedPublication, Message, Offline, OpId, PacketId, ProtocolVersion, QoS,
    ReasonCode, Receipt, SessionSnapshot, TopicFilter, TransportId, Unsupported,
};

use super::incoming::Incoming;
use super::journal::Journal;
use super::outgoing::Outgoing;
use super::wire_rules::{Stage, Wire};
use super::{Findings, Invariant, MEMORY_SLACK, MEMORY_SLACK_EACH};

/// What a command is.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Publish(QoS),
    /// Its filters, its Subscription Identifier, and how many bytes of properties it has.
    Subscribe(Vec<TopicFilter>, Option<u32>, usize),
    /// Its filters, and how many bytes of properties it has.
    Unsubscribe(Vec<TopicFilter>, usize),
    Disconnect,
}

impl Asked {
    /// Bytes of a request.
    fn bytes(&self) -> usize {
        match self {
            Self::Subscribe(filters, _, properties) | Self::Unsubscribe(filters, properties) => {
                bytes_of(filters) + properties
            }
            Self::Publish(_) | Self::Disconnect => 0,
        }
    }
}

fn bytes_of<'a>(filters: impl IntoIterator<Item = &'a TopicFilter>) -> usize {
    filters.into_iter().map(|filter| filter.as_str().len()).sum()
}

/// A SUBSCRIBE or UNSUBSCRIBE in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Subscribe(usize),
    Unsubscribe(usize),
}

/// What a request may be: which commands of the caller's, and whether the machine makes subscriptions again by it.
#[derive(Clone, Debug, Default)]
struct Wanted {
    filters: Vec<TopicFilter>,
    /// Subscription Identifiers that the caller may have asked for with these filters.
    asked: BTreeSet<Option<u32>>,
    again: bool,
}

/// What the machine shows of itself after a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vitals {
    pub(super) memory_used: usize,
    pub(super) deadline: Option<Instant>,
    pub(super) read_capacity: usize,
    pub(super) is_paused: bool,
    pub(super) is_connected: bool,
    pub(super) is_idle: bool,
    /// Actions wait to be taken.
    pub(super) has_actions: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) findings: Findings,
    config: Arc<Config>,
    /// In force from the next attempt on.
    next: Option<Arc<Config>>,
    /// It was reconfigured at some time: what was accepted before may be outside of the present caps.
    reconfigured: bool,
    attempt: u64,
    /// The transport that was asked for, until it is over.
    asked_for: Option<TransportId>,
    wire: Option<Wire>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) journal: Journal,
    open: BTreeMap<OpId, Asked>,
    last_op: Option<OpId>,
    requests: BTreeMap<PacketId, (Request, Wanted)>,
    answers: Vec<(Request, Vec<ReasonCode>)>,
    /// Requests that have left on any connection, and on this one.
    sent: BTreeSet<OpId>,
    left: BTreeSet<OpId>,
    /// What was granted at some time, and with which Subscription Identifiers it may be kept: the machine may subscribe to it by
    /// itself.
    granted: BTreeMap<TopicFilter, BTreeSet<Option<u32>>>,
    disconnecting: bool,
    /// The last command when a disconnect ended: it and those before it have ended, told or not.
    over: Option<OpId>,
    most_events: usize,
    /// The most that may have come and wait for its receipts under any configuration so far, in bytes.
    incoming_cap: usize,
    /// The machine has the state of a session, perhaps of an empty one.
    has_session: bool,
    /// The server discards its session when the connection ends: a clean one of 3.x.
    discarded: bool,
    spins: (Instant, u32),
}

impl Model {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let outgoing = Outgoing::new(config.unsupported == Unsupported::Downgrade);
        Self {
            findings: Findings::default(),
            journal: Journal::new(config.durable),
            config,
            next: None,
            reconfigured: false,
            attempt: 0,
            asked_for: None,
            wire: None,
            incoming: Incoming::default(),
            outgoing,
            open: BTreeMap::new(),
            last_op: None,
            requests: BTreeMap::new(),
            answers: Vec::new(),
            sent: BTreeSet::new(),
            left: BTreeSet::new(),
            granted: BTreeMap::new(),
            disconnecting: false,
            over: None,
            most_events: 0,
            incoming_cap: 0,
            has_session: false,
            discarded: false,
            spins: (Instant::ZERO, 0),
        }
    }

    /// The model of a machine that is restored from these records.
    pub(super) fn restore(config: Arc<Config>, now: Instant, away: Duration, records: &[Record]) -> Self {
        let mut model = Self::new(config);
        for record in records {
            match record {
                Record::Queued { op, .. } => model.last_op = model.last_op.max(Some(*op)),
                Record::Released { op, after, .. } => {
                    model.last_op = model.last_op.max(Some((*op).max(*after)));
                }
                Record::Received { packet_id, .. } => model.incoming.restore_received(*packet_id),
                Record::Completed { packet_id, .. } => model.incoming.restore_completed(*packet_id),
                Record::SessionBegan { .. } => model.incoming.session_lost(),
                Record::Subscribed { subscription, identifier } => {
                    model.granted.insert(subscription.filter.clone(), BTreeSet::from([*identifier]));
                }
                _ => {}
            }
            model.outgoing.replay(record.clone(), now);
            model.journal.replay(record);
        }
        model.journal.restored();
        model.has_session = !records.is_empty();
        for op in model.outgoing.restored(away) {
            model.open.insert(op, Asked::Publish(QoS::AtLeastOnce));
        }
        model
    }

    pub(super) const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Commands accepted and not told to have ended.
    pub(super) fn open_commands(&self) -> impl Iterator<Item = OpId> {
        self.open.keys().copied()
    }
}

/// What the caller does.
impl Model {
    pub(super) fn accepted(&mut self, op: OpId, asked: Asked) {
        let newest = self.last_op.is_none_or(|last| last < op);
        self.findings.ensure(newest && !self.open.contains_key(&op), Invariant::Identifiers, || {
            format!("{op:?} names two commands")
        });
        self.last_op = self.last_op.max(Some(op));
        if matches!(asked, Asked::Disconnect) {
            self.disconnecting = true;
        }
        self.open.insert(op, asked);
        self.most_events = self.most_events.max(self.open.len());
    }

    pub(super) fn published(&mut self, op: OpId, mut message: Message, connected: bool) {
        message.dup = false;
        self.accepted(op, Asked::Publish(message.qos));
        let dropped = message.qos == QoS::AtMostOnce && self.config.offline == Offline::Drop && !connected;
        if dropped {
            return;
        }
        let lowered = self.lowers();
        if lowered
            && connected
            && let Some(wire) = &self.wire
        {
            message.qos = message.qos.min(wire.maximum_qos());
        }
        let policy = (self.config.overflow, self.config.limits);
        if !self.outgoing.make_room(op, &message, policy, connected, &mut self.findings) {
            self.journal.depends_on_nothing(op);
            return;
        }
        let unfit = self.wire.as_ref().is_some_and(|wire| !wire.takes(&message, lowered));
        self.outgoing.accept(op, message, self.findings.now);
        if unfit && let Some(wire) = &self.wire {
            self.outgoing.judge(|message, lowered| wire.takes(message, lowered));
        }
        let limits = &self.config.limits;
        let fits = |(count, bytes)| bytes <= limits.outgoing_bytes && count <= limits.outgoing_messages;
        let (count, bytes) = (self.outgoing.len(), self.outgoing.bytes);
        // After a change of configuration the present limits are not those of the acceptance.
        let holds =
            self.reconfigured || fits((count, bytes)) || fits(self.outgoing.certain(self.findings.now));
        self.findings.ensure(holds, Invariant::Memory, || {
            format!("{count} messages of {bytes} bytes were accepted, and the caps are {limits:?}")
        });
    }

    /// A publication was asked for by its key.
    pub(super) fn asked_by_key(&mut self, key: &PublishKey, answer: &KeyedPublication) {
        if !self.journal.keeps() {
            return;
        }
        let known = self.journal.keyed.get(key).copied();
        let holds = match answer {
            KeyedPublication::Accepted(_) => known.is_none(),
            KeyedPublication::Open(op) => known == Some((*op, false)),
            KeyedPublication::Ended(op, _) => known.is_some_and(|(known, _)| known == *op),
        };
        self.findings.ensure(holds, Invariant::Identifiers, || {
            format!("the answer to {key:?} is {answer:?}, and {known:?} is known")
        });
    }

    /// A publication was refused for want of room.
    pub(super) fn found_full(&mut self, message: &Message) {
        let limits = &self.config.limits;
        // What has ended and is not told counts, too.
        let count = self.outgoing.len() + self.open.len();
        let bytes = self.outgoing.bytes;
        let full = count >= limits.outgoing_messages || bytes + message.cost() > limits.outgoing_bytes;
        self.findings.ensure(full || self.reconfigured, Invariant::Memory, || {
            format!(
                "there is no room for {} bytes beside {bytes}, and the caps are {limits:?}",
                message.cost()
            )
        });
    }

    /// Whether publications are sent with less than they ask for where the server does not take them as they are.
    fn lowers(&self) -> bool {
        self.config.unsupported == Unsupported::Downgrade
    }

    pub(super) fn reconfigured(&mut self, config: Arc<Config>) {
        self.next = Some(config);
        self.reconfigured = true;
    }

    pub(super) fn settled(&mut self, receipt: &Receipt, reason: ReasonCode) {
        let v5 = self.wire.as_ref().map(|wire| wire.version == ProtocolVersion::V5);
        let open = self.wire.as_ref().is_some_and(|wire| wire.stage != Stage::Closing);
        self.incoming.settle(receipt, reason, v5, open);
    }

    pub(super) fn stored(&mut self, seq: JournalSeq) {
        self.journal.told(seq);
    }

    pub(super) fn store_failed(&mut self) {
        self.journal.failed();
        self.outgoing.store_failed();
    }

    pub(super) fn opened(&mut self, id: TransportId) {
        if self.asked_for == Some(id) && self.wire.is_none() {
            self.wire = Some(Wire::new(id, &self.config));
        }
    }

    /// The transport is gone, whoever closed it.
    pub(super) fn closed(&mut self, id: TransportId) {
        if self.asked_for != Some(id) {
            return;
        }
        self.asked_for = None;
        self.wire = None;
        self.requests.clear();
        self.left.clear();
        self.incoming.connection_ended();
        self.journal.connection_ended();
        self.outgoing.connection_ended();
    }

    pub(super) fn handed(&mut self, id: TransportId, bytes: usize) {
        if let Some(wire) = self.wire.as_mut().filter(|wire| wire.id == id) {
            wire.handed = wire.written.min(wire.handed + bytes as u64);
            self.outgoing.handed(wire.handed);
        }
    }
}

/// What the machine shows.
impl Model {
    /// After every step.
    pub(super) fn vitals(&mut self, vitals: &Vitals) {
        if self.disconnecting && vitals.is_idle {
            self.disconnecting = false;
            self.over = self.last_op;
            for op in self.outgoing.disconnected(self.journal.keeps()) {
                self.journal.depends_on_nothing(op);
            }
        }
        if !vitals.is_connected
            && let Some(wire) = &mut self.wire
            && wire.stage == Stage::Established
        {
            wire.stage = Stage::Closing;
        }
        let broken = self.wire.as_ref().is_some_and(|wire| wire.stage == Stage::Closing);
        self.findings.ensure(!(broken && vitals.is_connected), Invariant::Peer, || {
            "a packet broke a rule, and the connection stands".into()
        });
        let credit = self.incoming.budget();
        let bound = |config: &Config| credit >= config.limits.incoming_bytes;
        let paused = bound(&self.config);
        let either = self.next.as_ref().is_some_and(|next| bound(next) != paused);
        self.findings.ensure(vitals.is_paused == paused || either, Invariant::Credit, || {
            format!("{credit} bytes of credit are out, and is_paused says {}", vitals.is_paused)
        });
        self.memory(vitals);
        self.progress(vitals);
    }

    fn memory(&mut self, vitals: &Vitals) {
        let used = vitals.memory_used;
        let aliases = self.incoming.alias_bytes() + self.wire.as_ref().map_or(0, Wire::alias_bytes);
        let held = self.outgoing.bytes + self.incoming.credit + aliases;
        let entries = self.outgoing.most + self.incoming.most + self.most_events + self.requests.len();
        let slack = MEMORY_SLACK + MEMORY_SLACK_EACH * entries;
        let (_, certain) = if used >= held { (0, 0) } else { self.outgoing.certain(self.findings.now) };
        let least = held.min(certain + self.incoming.credit + aliases);
        // A subscription is in the session, and in a request while it is made again; that it was granted once need not mean either.
        let most =
            held + self.open.values().map(Asked::bytes).sum::<usize>() + 2 * bytes_of(self.granted.keys());
        let holds = (used >= held || used >= least) && used <= most + slack;
        self.findings.ensure(holds, Invariant::Memory, || {
            format!("memory_used tells {used} bytes, {held} to {most} are held (slack {slack})")
        });
        let limits = &self.config.limits;
        // The topic behind an alias came in a packet of its own.
        let one = 2 * self.config.maximum_packet_size as usize + size_of::<Message>();
        // What came under an earlier configuration may still be out.
        let cap = self.incoming_cap.max(limits.incoming_bytes.saturating_add(one));
        self.incoming_cap = cap;
        let credit = self.incoming.credit;
        self.findings.ensure(credit <= cap, Invariant::Memory, || {
            format!("{credit} bytes came and wait for their receipts, {cap} are allowed")
        });
    }

    fn progress(&mut self, vitals: &Vitals) {
        // While the inbound budget is used up, receipts are what is waited for; while output is on its way, its end is.
        let announced = vitals.is_idle
            || vitals.has_actions
            || vitals.deadline.is_some()
            || vitals.read_capacity > 0
            || vitals.is_paused
            || self.wire.as_ref().is_some_and(|wire| wire.handed < wire.written);
        self.findings.ensure(announced, Invariant::Progress, || {
            format!("nothing says what the machine waits for: {vitals:?}")
        });
    }

    /// After a call of `handle_timeout`.
    pub(super) fn timed_out(&mut self, now: Instant, deadline: Option<Instant>) {
        if let Some(deadline) = deadline.filter(|deadline| *deadline < now) {
            let detail = format!("after handle_timeout at {now} the deadline is {deadline}");
            self.findings.report(Invariant::Deadline, detail);
        }
        let due = deadline.is_some_and(|deadline| deadline <= now);
        self.spins = if due && self.spins.0 == now { (now, self.spins.1 + 1) } else { (now, 0) };
        if self.spins.1 == 1_000 {
            self.findings
                .report(Invariant::Progress, format!("handle_timeout is due again and again at {now}"));
        }
    }

    /// Compares what the machine shows of its session.
    pub(super) fn session(&mut self, session: &SessionSnapshot) {
        self.outgoing.compare(session, &mut self.findings);
        let received: BTreeSet<PacketId> = self.incoming.received().collect();
        let same = received.iter().eq(&session.received);
        self.findings.ensure(same, Invariant::Session, || {
            format!("PUBREL is awaited for {received:?}, and the machine awaits {:?}", session.received)
        });
        for (subscription, identifier) in &session.subscriptions {
            let known = self.granted.get(&subscription.filter);
            let holds = known.is_some_and(|identifiers| identifiers.contains(identifier));
            self.findings.ensure(holds, Invariant::SubscriptionIdentifiers, || {
                format!("{} is kept with {identifier:?}, and was granted with {known:?}", subscription.filter)
            });
        }
    }

    /// The run is over and the machine has been disconnected: nothing may be left open.
    pub(super) fn finished(&mut self) {
        let open: Vec<OpId> = self.open.keys().copied().collect();
        self.findings.ensure(open.is_empty(), Invariant::EndsOnce, || format!("{open:?} never ended"));
    }
}
