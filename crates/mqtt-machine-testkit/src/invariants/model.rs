//! Owns the reference model as a whole: what passes the machine's surface, in, and what does not follow from it, out.
//! It must not know the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_machine::journal::Record;
use mqtt_machine::packet::{
    Ack, AckKind, Auth, ConnAck, Packet, Publish, ReasonCodes, Sender, SubAck, UnsubAck,
};
use mqtt_machine::{
    Action, Config, DropReason, Event, Instant, JournalSeq, Message, Offline, OpId, Outcome, PacketId,
    ProtocolVersion, QoS, ReasonCode, Receipt, SessionSnapshot, TopicFilter, TransportId, Unsupported, wire,
};

use super::incoming::{Incoming, Terms};
use super::journal::{Journal, Step};
use super::outgoing::Outgoing;
use super::wire_rules::{Stage, Wire, is_receivers};
use super::{Findings, Invariant, MEMORY_SLACK, MEMORY_SLACK_EACH};

/// What a command is.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Publish(QoS),
    Subscribe(Vec<TopicFilter>),
    Unsubscribe,
    Disconnect,
}

/// A SUBSCRIBE or UNSUBSCRIBE in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Subscribe(usize),
    Unsubscribe(usize),
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
    requests: BTreeMap<PacketId, Request>,
    answers: Vec<(Request, Vec<ReasonCode>)>,
    disconnecting: bool,
    /// Operations that a lost session ended, until the record says so.
    lost: Vec<OpId>,
    most_events: usize,
    /// The most that may have come and wait for its receipts under any configuration so far, in bytes.
    incoming_cap: usize,
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
            disconnecting: false,
            lost: Vec::new(),
            most_events: 0,
            incoming_cap: 0,
            spins: (Instant::ZERO, 0),
        }
    }

    /// The model of a machine that is restored from these records.
    pub(super) fn restore(config: Arc<Config>, now: Instant, away: Duration, records: &[Record]) -> Self {
        let mut model = Self::new(config);
        for record in records {
            match record {
                Record::Queued { op, .. } => model.last_op = model.last_op.max(Some(*op)),
                Record::Received { packet_id } => model.incoming.restore_received(*packet_id),
                Record::Completed { packet_id } => model.incoming.restore_completed(*packet_id),
                Record::SessionLost { .. } => model.incoming.session_lost(),
                _ => {}
            }
            model.outgoing.replay(record.clone(), now);
            model.journal.replay(record);
        }
        model.journal.restored();
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

    /// Whether publications are sent with less than they ask for where the server does not take them as they are.
    fn lowers(&self) -> bool {
        self.config.unsupported == Unsupported::Downgrade
    }

    pub(super) fn reconfigured(&mut self, config: Arc<Config>) {
        self.next = Some(config);
        self.reconfigured = true;
    }

    pub(super) fn settled(&mut self, receipt: &Receipt, reason: ReasonCode) {
        let v5 = self.wire.as_ref().is_some_and(|wire| wire.version == ProtocolVersion::V5);
        let open = self.wire.as_ref().is_some_and(|wire| wire.stage != Stage::Closing);
        self.incoming.settle(receipt, reason, v5, open);
    }

    pub(super) fn stored(&mut self, seq: JournalSeq) {
        self.journal.told(seq);
    }

    pub(super) fn store_failed(&mut self) {
        self.journal.failed();
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
        self.incoming.connection_ended();
        self.outgoing.connection_ended();
    }

    pub(super) fn handed(&mut self, id: TransportId, bytes: usize) {
        if let Some(wire) = self.wire.as_mut().filter(|wire| wire.id == id) {
            wire.handed = wire.written.min(wire.handed + bytes as u64);
            self.outgoing.handed(wire.handed);
        }
    }
}

/// What the server says.
impl Model {
    /// The machine took these bytes. What is behind a packet that ends the connection does not count.
    pub(super) fn received(&mut self, id: TransportId, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let Some(wire) = self.wire.as_ref().filter(|it| it.id == id && it.stage != Stage::Closing) else {
                return;
            };
            let version = wire.version;
            let frame = match Wire::header(rest, self.config.maximum_packet_size) {
                Ok(Some(header)) => header.frame_len(),
                Ok(None) => return,
                Err(()) => return self.broken(),
            };
            let (frame, behind) = rest.split_at(frame);
            rest = behind;
            match wire::decode(frame, version, Sender::Server) {
                Ok(packet) if self.takes(&packet) => {}
                _ => return self.broken(),
            }
        }
    }

    /// The peer broke a rule, or said that it is over: the connection is.
    fn broken(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.stage = Stage::Closing;
        }
    }

    /// Takes a packet from the server; false when the connection must end.
    fn takes(&mut self, packet: &Packet<'_>) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        if !self.config.request_problem_information && says_why(packet) {
            return false;
        }
        match (wire.stage, packet) {
            (Stage::Established, Packet::Publish(publish)) => {
                let terms = Terms {
                    version: wire.version,
                    receive_maximum: usize::from(self.config.receive_maximum.max(1)),
                    alias_maximum: self.config.topic_alias_maximum,
                };
                self.incoming.publish(publish, terms)
            }
            (Stage::Established, Packet::Ack(ack)) if ack.kind == AckKind::PubRel => {
                self.incoming.released(ack.packet_id, wire.version);
                true
            }
            (Stage::Established, Packet::Ack(ack)) => self.outgoing.acknowledge(ack),
            (Stage::Established, Packet::SubAck(suback)) => {
                self.answered(suback.packet_id, true, suback.codes)
            }
            (Stage::Established, Packet::UnsubAck(unsuback)) => {
                self.answered(unsuback.packet_id, false, unsuback.codes)
            }
            (Stage::Established, Packet::PingResp) => true,
            (Stage::Greeted, Packet::ConnAck(connack)) => self.connack(connack),
            (Stage::Greeted | Stage::Established, Packet::Auth(auth)) => {
                wire.may_authenticate(auth.properties)
            }
            _ => false,
        }
    }

    fn connack(&mut self, connack: &ConnAck<'_>) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        if !wire.answered(connack) {
            return false;
        }
        // 3.1 cannot tell: a session that was asked for is taken to be kept.
        let silent = wire.version == ProtocolVersion::V3_1 && !wire.clean_start;
        if !connack.session_present && !silent {
            let blank = self.outgoing.is_blank() && self.incoming.is_blank();
            self.lost = self.outgoing.session_lost(self.config.lost_session);
            self.incoming.session_lost();
            if blank {
                self.lost.clear();
            }
        }
        if let Some(wire) = &self.wire {
            self.outgoing.judge(|message, lowered| wire.takes(message, lowered));
        }
        true
    }

    fn answered(&mut self, packet_id: PacketId, subscribe: bool, codes: ReasonCodes<'_>) -> bool {
        let Some(request) = self.requests.get(&packet_id).copied() else { return true };
        let v5 = self.wire.as_ref().is_some_and(|wire| wire.version == ProtocolVersion::V5);
        let mut codes: Vec<ReasonCode> = codes.iter().collect();
        let expected = match request {
            Request::Subscribe(count) if subscribe => count,
            Request::Unsubscribe(count) if !subscribe => {
                if !v5 {
                    codes = vec![ReasonCode::Success; count];
                }
                count
            }
            _ => return false,
        };
        if codes.len() != expected {
            return false;
        }
        self.requests.remove(&packet_id);
        self.answers.push((request, codes));
        true
    }
}

/// What the machine does.
impl Model {
    /// The machine put these bytes into its output.
    pub(super) fn transmitted(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && self.wire.is_none() {
            return self.findings.report(Invariant::Wire, "bytes were written without a transport");
        }
        let frames = Wire::frames(&mut BytesMut::from(bytes), &mut self.findings);
        for frame in &frames {
            let Some(wire) = &mut self.wire else { return };
            let Some(packet) = wire.decode(frame, &mut self.findings) else { return };
            wire.sees(&packet, frame.len(), &mut self.findings);
            self.writes(&packet);
        }
    }

    fn writes(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => {
                let window = self.window();
                if let Some(packet_id) = publish.packet_id {
                    self.free_of_requests(packet_id);
                    self.journal.leaves(Step::Assigned, packet_id, &mut self.findings);
                }
                let Some(wire) = &self.wire else { return };
                let end = wire.written;
                let publish = Publish { topic: wire.topic_of(publish), ..publish.clone() };
                self.outgoing.publish(&publish, window, end, &mut self.findings);
            }
            Packet::Ack(ack) => self.acknowledges(ack),
            Packet::Subscribe(subscribe) => {
                self.requests_under(subscribe.packet_id, Request::Subscribe(subscribe.filters.len()));
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.requests_under(unsubscribe.packet_id, Request::Unsubscribe(unsubscribe.filters.len()));
            }
            _ => {}
        }
    }

    fn window(&self) -> usize {
        let own = usize::from(self.config.limits.in_flight.max(1));
        self.wire.as_ref().map_or(0, |wire| wire.receive_maximum.min(own))
    }

    fn acknowledges(&mut self, ack: &Ack<'_>) {
        if !ack.reason.is_failure() {
            let known = ack.reason == ReasonCode::Success;
            let step = match ack.kind {
                AckKind::PubRec => Some(Step::Received),
                AckKind::PubRel if self.outgoing.is_released(ack.packet_id) => Some(Step::Released),
                // In 3.x this also answers a PUBREL that nothing is known of.
                AckKind::PubComp if known && self.is_v5() => Some(Step::Completed),
                _ => None,
            };
            if let Some(step) = step {
                self.journal.leaves(step, ack.packet_id, &mut self.findings);
            }
        }
        if is_receivers(ack.kind) {
            self.incoming.acknowledged(ack.kind, ack.packet_id, ack.reason, &mut self.findings);
        } else {
            self.outgoing.pubrel(ack.packet_id, &mut self.findings);
        }
    }

    fn is_v5(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.version == ProtocolVersion::V5)
    }

    fn free_of_requests(&mut self, packet_id: PacketId) {
        let free = !self.requests.contains_key(&packet_id);
        self.findings.ensure(free, Invariant::Identifiers, || {
            format!("a PUBLISH uses {packet_id}, the identifier of a request in flight")
        });
    }

    fn requests_under(&mut self, packet_id: PacketId, request: Request) {
        let taken = self.outgoing.uses(packet_id) || self.requests.contains_key(&packet_id);
        self.findings.ensure(!taken, Invariant::Identifiers, || {
            format!("a request uses packet identifier {packet_id}, which is in flight")
        });
        self.requests.insert(packet_id, request);
    }

    /// The output has room and the machine wrote all that it wanted: nothing that could be written is left.
    pub(super) fn wrote_all(&mut self) {
        let established = self.wire.as_ref().is_some_and(|wire| wire.stage == Stage::Established);
        if !established || !self.journal.is_settled() {
            return;
        }
        let ready = self.outgoing.ready(self.window(), self.findings.now);
        self.findings.ensure(ready.is_none(), Invariant::Progress, || {
            format!("{ready:?} may be written, there is room, and it is not")
        });
        let owes = self.incoming.owes();
        self.findings.ensure(!owes, Invariant::Progress, || {
            "an acknowledgement is due, there is room, and it is not written".into()
        });
    }

    pub(super) fn action(&mut self, action: &Action) {
        match action {
            Action::Prepare { id, .. } => self.attempts(*id, true),
            Action::OpenTransport { id, .. } => self.attempts(*id, false),
            Action::CloseTransport { id } => self.closed(*id),
            Action::Store { seq, record } => {
                let lost = match record {
                    Record::SessionLost { .. } => core::mem::take(&mut self.lost),
                    _ => Vec::new(),
                };
                if let Record::Assigned { op, packet_id } = record {
                    self.outgoing.assigned(*op, *packet_id);
                }
                self.journal.stored(*seq, record, &lost, &mut self.findings);
            }
            _ => {}
        }
    }

    fn attempts(&mut self, id: TransportId, asks: bool) {
        if !asks {
            let busy = self.asked_for.is_some_and(|open| open != id);
            self.findings.ensure(!busy, Invariant::Identifiers, || {
                format!("{id:?} is opened while {:?} is not closed", self.asked_for)
            });
            self.asked_for = Some(id);
        }
        if id.to_u64() == self.attempt {
            // Prepared before.
            self.findings.ensure(!asks, Invariant::Identifiers, || format!("{id:?} names two attempts"));
            return;
        }
        self.findings.ensure(id.to_u64() > self.attempt, Invariant::Identifiers, || {
            format!("{id:?} names an attempt and the last was number {}", self.attempt)
        });
        self.attempt = id.to_u64();
        if let Some(config) = self.next.take() {
            self.config = config;
            self.outgoing.may_lower(self.lowers());
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Message { message, receipt } => {
                self.incoming.told(message, receipt, &mut self.findings);
            }
            Event::Completed { op, outcome } => self.completed(*op, outcome),
            _ => {}
        }
    }

    /// Every event was taken.
    pub(super) fn told_everything(&mut self) {
        self.incoming.all_told(&mut self.findings);
        let untold = self.outgoing.expected.iter().next();
        let holds = untold.is_none() || !self.journal.is_settled();
        self.findings
            .ensure(holds, Invariant::EndsOnce, || format!("{untold:?} is how it ended, and is not told"));
    }

    fn completed(&mut self, op: OpId, outcome: &Outcome) {
        let Some(asked) = self.open.remove(&op) else {
            return self.findings.report(
                Invariant::EndsOnce,
                format!("{op:?} ended and was not accepted, or ended twice: {outcome:?}"),
            );
        };
        let wrong = |what: &str| format!("{op:?} ended as {outcome:?}, {what}");
        match (&asked, outcome) {
            (Asked::Publish(QoS::AtMostOnce), Outcome::Dropped(DropReason::Offline)) => {
                let held = self.outgoing.expected.remove(&op).is_some();
                self.findings.ensure(!held, Invariant::Outcome, || wrong("and was queued"));
            }
            (Asked::Publish(qos), _) => {
                if *qos != QoS::AtMostOnce {
                    self.journal.tells(op, &mut self.findings);
                }
                self.outgoing.completed(op, outcome, &mut self.findings);
            }
            (Asked::Subscribe(filters), Outcome::Subscribed(codes)) => {
                for (filter, code) in filters.iter().zip(&codes.codes) {
                    if !code.is_failure() {
                        self.journal.grants(filter, &mut self.findings);
                    }
                }
                self.answer(Request::Subscribe(filters.len()), &codes.codes, wrong("which no SUBACK says"));
            }
            (Asked::Unsubscribe, Outcome::Unsubscribed(codes)) => {
                let request = Request::Unsubscribe(codes.codes.len());
                self.answer(request, &codes.codes, wrong("which no UNSUBACK says"));
            }
            (
                Asked::Subscribe(_) | Asked::Unsubscribe,
                Outcome::NotSent | Outcome::Unknown | Outcome::Dropped(_),
            )
            | (Asked::Disconnect, Outcome::Disconnected { .. }) => {}
            _ => self.findings.report(Invariant::Outcome, wrong("which is no end of such a command")),
        }
    }

    fn answer(&mut self, request: Request, codes: &[ReasonCode], wrong: String) {
        let said = self.answers.iter().position(|(of, said)| *of == request && said == codes);
        match said {
            Some(place) => {
                self.answers.swap_remove(place);
            }
            None => self.findings.report(Invariant::Outcome, wrong),
        }
    }
}

/// What the machine shows.
impl Model {
    /// After every step.
    pub(super) fn vitals(&mut self, vitals: &Vitals) {
        if self.disconnecting && vitals.is_idle {
            self.disconnecting = false;
            for op in self.outgoing.disconnected() {
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
        let credit = self.incoming.credit;
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
        let held = self.outgoing.bytes + self.incoming.credit;
        let entries = self.outgoing.most + self.incoming.most + self.most_events + self.requests.len();
        let slack = MEMORY_SLACK + MEMORY_SLACK_EACH * entries;
        let (_, certain) = if used >= held { (0, 0) } else { self.outgoing.certain(self.findings.now) };
        let least = held.min(certain + self.incoming.credit);
        let holds = (used >= held || used >= least) && used <= held + slack;
        self.findings.ensure(holds, Invariant::Memory, || {
            format!("memory_used tells {used} bytes, {held} are held (slack {slack})")
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
    }

    /// The run is over and the machine has been disconnected: nothing may be left open.
    pub(super) fn finished(&mut self) {
        let open: Vec<OpId> = self.open.keys().copied().collect();
        self.findings.ensure(open.is_empty(), Invariant::EndsOnce, || format!("{open:?} never ended"));
    }
}

/// Whether a packet that must not, when the client did not ask for it, says why in words.
fn says_why(packet: &Packet<'_>) -> bool {
    let (Packet::Ack(Ack { properties, .. })
    | Packet::SubAck(SubAck { properties, .. })
    | Packet::UnsubAck(UnsubAck { properties, .. })
    | Packet::Auth(Auth { properties, .. })) = packet
    else {
        return false;
    };
    properties.reason_string().is_some() || properties.user_properties().next().is_some()
}
