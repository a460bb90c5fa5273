//! Owns one simulated client: a process with a machine, what its driver and its application hold, and what they saw.
//! It must not know links or the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt_machine::journal::{self, DeliveryKey, Record};
use mqtt_machine::transcript::Recording;
use mqtt_machine::{
    Config, Connected, DropReason, EndReason, Ended, Event, Instant, JournalSeq, Message, OpId, Outcome,
    Output, QoS, ReasonCode, Receipt, TransportId,
};

use mqtt_machine_scram::Client as Exchange;

use super::between::{Near, Turn};
use super::storage::{self, Storage};
use super::{Options, Settle};
use crate::invariants::{Checked, Invariant, Violation};
use crate::random::Random;

/// Whether a client's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    Running,
    /// It stands still until then, as on a suspended computer; nobody notices but by its silence.
    Suspended {
        until: Instant,
    },
    /// It crashed, then; it begins again at `until`.
    Down {
        since: Instant,
        until: Instant,
    },
}

/// What the application did with a message.
#[derive(Clone, Copy, Debug)]
struct Dealt {
    life: u32,
    qos: QoS,
    settled: bool,
}

/// A machine with its driver's side and its history.
#[derive(Debug)]
pub struct Client {
    /// The machine with its model. Commands given to it here directly are not among [`accepted`](Self::accepted).
    pub machine: Checked,
    /// How its receipts come back.
    pub settle: Settle,
    /// Commands accepted and not ended.
    pub accepted: BTreeSet<OpId>,
    /// How each command ended.
    pub outcomes: BTreeMap<OpId, Outcome>,
    /// The messages that it got, in order. A crash takes those back that the application had not dealt with for good:
    /// receipts that were out, and messages of QoS 2 whose record was not durable. They come again.
    pub messages: Vec<Message>,
    /// Its connections, with the time.
    pub connected: Vec<(Instant, Connected)>,
    /// The ends of attempts and connections, with the time.
    pub ended: Vec<(Instant, Ended)>,
    /// All other events.
    pub others: Vec<Event>,
    /// The journal as it was handed over, with the time at which each record is durable.
    pub records: Vec<(Instant, JournalSeq, Record)>,
    /// Receipts that are out under [`Settle::Never`].
    pub receipts: Vec<Receipt>,
    /// How often its process began, less one.
    pub lives: u32,
    /// Commands that a crash took before they were durable, each with the life in which it was accepted.
    pub vanished: BTreeSet<(u32, OpId)>,
    /// Commands that a policy dropped for others, each with the life in which that was told.
    pub dropped: BTreeSet<(u32, OpId)>,
    /// Commands whose end a crash kept from being told, although it was recorded.
    pub untold: BTreeSet<OpId>,
    /// The transcripts of machines that crashed, when it is recorded.
    pub transcripts: Vec<Bytes>,
    recording: Option<Recording>,
    /// The exchange of the present connection, if it authenticates.
    pub(super) exchange: Option<Exchange>,
    /// How often a server proved that it knows the password.
    pub(super) verified: u64,
    pub(super) config: Arc<Config>,
    pub(super) process: Process,
    /// It was asked to connect, and begins to after a crash.
    pub(super) wanted: bool,
    comes_back: bool,
    /// When it begins again after another connection took its session over.
    pub(super) again_at: Option<Instant>,
    pub(super) acknowledged: usize,
    pub(super) due: VecDeque<(Instant, Receipt, usize)>,
    pub(super) transport: Option<TransportId>,
    pub(super) output: Output,
    /// What left the output and is not on the link.
    pub(super) pending: BytesMut,
    /// What was read, out of the layers if there are any, and not taken.
    pub(super) input: BytesMut,
    /// What lies between the machine and the link.
    pub(super) near: Option<Box<dyn Near>>,
    /// How that ended, as long as the machine has not been told.
    pub(super) ending: Option<Turn>,
    /// Violations of machines that crashed.
    pub(super) buried: Vec<Violation>,
    buried_resent: usize,
    /// What the application keeps of each message that it got, across crashes: the key, and what it was.
    pub(super) keys: BTreeMap<DeliveryKey, Message>,
    storage: Box<dyn Storage>,
    /// The rows that must be in the storage.
    table: BTreeMap<Bytes, Bytes>,
    /// Keys that named two messages.
    pub(super) key_clashes: Vec<String>,
    /// Parallel to `messages`.
    dealt: Vec<Dealt>,
    /// The records before this place are of earlier lives.
    life_begins: usize,
}

impl Client {
    pub(super) fn new(config: Arc<Config>, machine: Checked, options: &Options) -> Self {
        Self {
            machine,
            settle: options.settle.clone(),
            comes_back: options.come_back,
            accepted: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            messages: Vec::new(),
            connected: Vec::new(),
            ended: Vec::new(),
            others: Vec::new(),
            records: Vec::new(),
            receipts: Vec::new(),
            lives: 0,
            vanished: BTreeSet::new(),
            dropped: BTreeSet::new(),
            untold: BTreeSet::new(),
            transcripts: Vec::new(),
            recording: options.recording,
            exchange: None,
            verified: 0,
            config,
            process: Process::Running,
            wanted: false,
            again_at: None,
            acknowledged: 0,
            due: VecDeque::new(),
            transport: None,
            output: Output::new(),
            pending: BytesMut::new(),
            input: BytesMut::new(),
            near: None,
            ending: None,
            buried: Vec::new(),
            buried_resent: 0,
            keys: BTreeMap::new(),
            storage: (options.storage)(),
            table: BTreeMap::new(),
            key_clashes: Vec::new(),
            dealt: Vec::new(),
            life_begins: 0,
        }
    }

    /// Whether its process runs: it has not crashed, and is not suspended.
    pub const fn is_running(&self) -> bool {
        matches!(self.process, Process::Running)
    }

    /// The most publications that it had in flight at once, in this life.
    pub const fn most_in_flight(&self) -> usize {
        self.machine.most_in_flight()
    }

    /// How many PUBLISH packets it sent with DUP.
    pub const fn resent(&self) -> usize {
        self.buried_resent + self.machine.resent()
    }

    /// What did not hold for its machines.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.buried.iter().chain(self.machine.violations())
    }

    /// The payloads that it got on `topic`, in order.
    pub fn payloads(&self, topic: &str) -> Vec<&[u8]> {
        self.messages
            .iter()
            .filter(|message| message.topic.as_bytes() == topic.as_bytes())
            .map(|message| message.payload.as_ref())
            .collect()
    }

    /// Whether the next publication is written as it is accepted: now and then, where nothing that was written before waits.
    pub(super) fn publishes_into(&self) -> bool {
        self.near.is_none() && self.pending.is_empty() && self.outcomes.len() % 2 == 1
    }

    /// Takes every event; true when there was one.
    pub(super) fn take_events(&mut self, now: Instant, random: &mut Random) -> bool {
        let mut any = false;
        loop {
            // Now this way and now that: both tell the same.
            while self.outcomes.len().is_multiple_of(2)
                && let Some(completions) = self.machine.poll_completions()
            {
                any = true;
                completions.ops().for_each(|op| self.take_outcome(op, completions.outcome.clone()));
            }
            let Some(event) = self.machine.poll_event() else { return any };
            any = true;
            match event {
                Event::Message { message, receipt } => self.take_message(now, &message, receipt, random),
                Event::Completed { op, outcome } => self.take_outcome(op, outcome),
                Event::Connected(connected) => self.connected.push((now, connected)),
                Event::ConnectFailed(ended) | Event::Disconnected(ended) => self.take_end(now, ended),
                other => self.others.push(other),
            }
        }
    }

    fn take_outcome(&mut self, op: OpId, outcome: Outcome) {
        self.accepted.remove(&op);
        if let Outcome::Dropped(DropReason::Overflow | DropReason::Superseded) = outcome {
            self.dropped.insert((self.lives, op));
        }
        self.outcomes.insert(op, outcome);
    }

    /// An application that is taken over, perhaps by its own connection of before, thinks for a second and comes back.
    fn take_end(&mut self, now: Instant, ended: Ended) {
        let taken_over =
            matches!(ended.reason, EndReason::Disconnect { reason: ReasonCode::SessionTakenOver, .. });
        if taken_over && self.wanted && self.comes_back {
            self.again_at = Some(now + Duration::from_secs(1));
        }
        self.ended.push((now, ended));
    }

    /// Connects again when it is time; true when it was.
    pub(super) fn come_back(&mut self, now: Instant) -> bool {
        if self.again_at.take_if(|at| *at <= now).is_none() {
            return false;
        }
        // Refused when somebody was faster.
        let _ = self.machine.connect(now);
        true
    }

    fn take_message(&mut self, now: Instant, message: &Message, receipt: Receipt, random: &mut Random) {
        self.keep_key(message, &receipt);
        let place = self.messages.len();
        self.messages.push(message.detached());
        self.dealt.push(Dealt { life: self.lives, qos: message.qos, settled: false });
        match &self.settle {
            Settle::AtOnce => self.give_back(now, receipt, place),
            Settle::After(range) => {
                let due = now + random.duration(range.clone());
                self.due.push_back((due, receipt, place));
            }
            Settle::Never => self.receipts.push(receipt),
        }
    }

    /// A key names one message, whatever happens between.
    fn keep_key(&mut self, message: &Message, receipt: &Receipt) {
        let Some(key) = receipt.key().filter(|_| self.config.durable) else { return };
        match self.keys.get(&key) {
            Some(known) if known.topic != message.topic || known.payload != message.payload => {
                let (one, other) = (known.payload_lossy(), message.payload_lossy());
                self.key_clashes.push(format!("{key} names {one:?} and {other:?}"));
            }
            Some(_) => {}
            None => {
                self.keys.insert(key, message.detached());
            }
        }
    }

    fn give_back(&mut self, now: Instant, receipt: Receipt, place: usize) {
        if let Some(dealt) = self.dealt.get_mut(place) {
            dealt.settled = true;
        }
        self.machine.settle(now, receipt, ReasonCode::Success);
    }

    /// Gives back the receipts that are due, and tells which records are durable; true when there was any.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(at) = self.due.iter().position(|(due, ..)| *due <= now) {
            any = true;
            if let Some((_, receipt, place)) = self.due.remove(at) {
                self.give_back(now, receipt, place);
            }
        }
        let durable = self.durable(now) - self.acknowledged;
        if durable > 0 {
            any = true;
            self.keep(now, self.acknowledged + durable);
            self.acknowledged += durable;
            let (_, seq, _) = self.records[self.acknowledged - 1];
            self.machine.handle_stored(now, Ok(seq));
        }
        any
    }

    /// Has the storage keep all records up to this one.
    fn keep(&mut self, now: Instant, upto: usize) {
        let fresh = self.records.get(self.acknowledged..upto).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        let fresh: Vec<Record> = fresh.iter().map(|(.., record)| record.clone()).collect();
        storage::fold(&mut self.table, &fresh);
        if let Err(detail) = self.storage.apply(&fresh) {
            self.buried.push(Violation::new(Invariant::Fold, now, detail));
        }
    }

    /// How many records are durable by `now`.
    fn durable(&self, now: Instant) -> usize {
        let fresh = self.records.iter().skip(self.acknowledged);
        self.acknowledged + fresh.take_while(|(due, ..)| *due <= now).count()
    }

    /// Calls `handle_timeout` when it is due; true when it was.
    pub(super) fn take_timeout(&mut self, now: Instant) -> bool {
        if self.machine.poll_timeout().is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.machine.handle_timeout(now);
        true
    }

    /// When something of its own is due.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let own = self.is_running();
        let wakes = match self.process {
            Process::Running => None,
            Process::Suspended { until } | Process::Down { until, .. } => Some(until),
        };
        let durable = self.records.get(self.acknowledged).map(|(due, ..)| *due);
        let due = self.due.iter().map(|(due, ..)| *due);
        due.chain(durable)
            .chain(self.again_at)
            .chain(self.machine.poll_timeout())
            .filter(move |_| own)
            .chain(wakes)
    }

    /// The process is gone, and with it everything but the records that survive: all that are durable by `now`, and a
    /// part of the rest as chance has it, from the front, because a journal is written in order. It runs again at
    /// `until`.
    pub(super) fn crash(&mut self, now: Instant, until: Instant, random: &mut Random) {
        let durable = self.durable(now);
        self.keep(now, durable);
        let survive = self.cut_power(now, durable, random);
        self.records.truncate(survive);
        self.take_back();
        self.process = Process::Down { since: now, until };
        self.transport = None;
        self.again_at = None;
        self.output = Output::new();
        self.pending.clear();
        self.input.clear();
        self.near = None;
        self.ending = None;
        self.due.clear();
        self.receipts.clear();
    }

    /// What the application had not dealt with for good comes again. The order of acknowledgements is the order of
    /// arrival, so the first records of this life tell which messages of QoS 2 are ours for good.
    fn take_back(&mut self) {
        let life = self.lives;
        let records = self.records.get(self.life_begins..).unwrap_or_default();
        let is_received =
            |record: &&(Instant, JournalSeq, Record)| matches!(record.2, Record::Received { .. });
        let mut ours = records.iter().filter(is_received).count();
        let keep: Vec<bool> = self
            .dealt
            .iter()
            .map(|dealt| {
                if dealt.life != life {
                    return true;
                }
                if dealt.qos != QoS::ExactlyOnce {
                    return dealt.settled;
                }
                let kept = ours > 0;
                ours = ours.saturating_sub(1);
                kept
            })
            .collect();
        let mut kept = keep.iter().copied();
        self.messages.retain(|_| kept.next().unwrap_or(true));
        let mut kept = keep.iter().copied();
        self.dealt.retain(|_| kept.next().unwrap_or(true));
    }

    /// What the store has of these records, which are those that survived: its rows, read again.
    fn kept(&mut self, now: Instant) -> Vec<Record> {
        self.read_rows().unwrap_or_else(|detail| {
            self.buried.push(Violation::new(Invariant::Fold, now, detail));
            Vec::new()
        })
    }

    fn read_rows(&mut self) -> Result<Vec<Record>, String> {
        let rows = self.storage.rows()?;
        journal::records(&rows).map_err(|error| format!("the rows that were kept are no records: {error}"))
    }

    /// The power is cut while so many records are written: a part of them, from the front, is one batch. Whether that is kept is
    /// the storage's to say, and nothing in between. Returns how many records are.
    fn cut_power(&mut self, now: Instant, durable: usize, random: &mut Random) -> usize {
        let end = random.size(durable..=self.records.len());
        let plain = |records: &[(Instant, JournalSeq, Record)]| -> Vec<Record> {
            records.iter().map(|(.., record)| record.clone()).collect()
        };
        let late = plain(self.records.get(durable..end).unwrap_or_default());
        self.storage.cut(&late, random);
        let before = core::mem::take(&mut self.table);
        let mut after = before.clone();
        storage::fold(&mut after, &late);
        let (table, kept) = match self.storage.rows() {
            Ok(rows) if rows == after => (after, end),
            Ok(rows) if rows == before => (before, durable),
            other => {
                let found = other.map(|rows| format!("{} rows", rows.len()));
                let detail =
                    format!("a power cut left neither the state before nor the one after: {found:?}");
                self.buried.push(Violation::new(Invariant::Fold, now, detail));
                (before, durable)
            }
        };
        self.table = table;
        kept
    }

    /// The process begins again, with what its store has kept.
    pub(super) fn restart(&mut self, now: Instant, since: Instant, random: &mut Random) {
        let records: Vec<Record> = self.records.iter().map(|(.., record)| record.clone()).collect();
        let kept = self.kept(now);
        let queued = |record: &Record| match record {
            Record::Queued { op, .. } => Some(*op),
            _ => None,
        };
        let queued: BTreeSet<OpId> = records.iter().filter_map(queued).collect();
        let last = queued.last().copied().unwrap_or(OpId::new(0));
        let config = Arc::clone(&self.config);
        let seed = random.next_u64();
        let away = now - since;
        let mut old = match Checked::restore(config, seed, now, away, kept, self.recording) {
            Ok(machine) => core::mem::replace(&mut self.machine, machine),
            Err(error) => {
                let detail = format!("the records that were kept are no session: {error}");
                self.buried.push(Violation::new(Invariant::Fold, now, detail));
                let machine = Checked::new(Arc::clone(&self.config), seed, now);
                core::mem::replace(&mut self.machine, machine)
            }
        };
        self.transcripts.extend(self.recording.map(|_| old.take_recorded()));
        self.buried.extend_from_slice(old.violations());
        self.buried_resent += old.resent();
        let open: BTreeSet<OpId> = self.machine.open_commands().collect();
        for op in self.accepted.difference(&open) {
            if queued.contains(op) {
                self.untold.insert(*op);
            } else {
                self.vanished.insert((self.lives, *op));
            }
        }
        self.accepted = open;
        self.outcomes.retain(|op, _| *op <= last);
        self.lives += 1;
        self.life_begins = self.records.len();
        self.acknowledged = self.records.len();
        self.process = Process::Running;
        if self.wanted {
            let connects = self.machine.connect(now);
            debug_assert!(connects.is_ok(), "a new machine connects: {connects:?}");
        }
    }
}
