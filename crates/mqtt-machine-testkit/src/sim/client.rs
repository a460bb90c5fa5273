//! Owns one simulated client: a machine, what its driver holds for it, and what it told.
//! It must not know links or the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use mqtt_machine::journal::Record;
use mqtt_machine::transcript::Recorder;
use mqtt_machine::{
    Connected, Ended, Event, Instant, JournalSeq, Message, OpId, Outcome, Output, ReasonCode, Receipt,
    TransportId,
};

use super::Settle;
use super::tap::Tap;
use crate::random::Random;

/// A machine with its driver's side and its history.
#[derive(Debug)]
pub struct Client {
    /// The machine itself. Commands given to it here directly are not among [`accepted`](Self::accepted).
    pub machine: Recorder,
    /// How its receipts come back.
    pub settle: Settle,
    /// Commands accepted and not ended.
    pub accepted: BTreeSet<OpId>,
    /// How each command ended.
    pub outcomes: BTreeMap<OpId, Outcome>,
    /// The messages that it got, in order.
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
    pub(super) acknowledged: usize,
    pub(super) due: VecDeque<(Instant, Receipt)>,
    pub(super) transport: Option<TransportId>,
    pub(super) output: Output,
    /// What left the output and is not on the link.
    pub(super) pending: BytesMut,
    /// What was read and not taken.
    pub(super) input: BytesMut,
    pub(super) tap: Tap,
    pub(super) complaints: Vec<String>,
    spins: (Instant, u32),
}

impl Client {
    pub(super) fn new(machine: Recorder, tap: Tap, settle: Settle) -> Self {
        Self {
            machine,
            settle,
            accepted: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            messages: Vec::new(),
            connected: Vec::new(),
            ended: Vec::new(),
            others: Vec::new(),
            records: Vec::new(),
            receipts: Vec::new(),
            acknowledged: 0,
            due: VecDeque::new(),
            transport: None,
            output: Output::new(),
            pending: BytesMut::new(),
            input: BytesMut::new(),
            tap,
            complaints: Vec::new(),
            spins: (Instant::ZERO, 0),
        }
    }

    /// The most publications that it had in flight at once.
    pub fn most_in_flight(&self) -> usize {
        self.tap.most_in_flight
    }

    /// How many PUBLISH packets it sent with DUP.
    pub fn resent(&self) -> usize {
        self.tap.resent
    }

    /// The payloads that it got on `topic`, in order.
    pub fn payloads(&self, topic: &str) -> Vec<&[u8]> {
        self.messages
            .iter()
            .filter(|message| message.topic.as_bytes() == topic.as_bytes())
            .map(|message| message.payload.as_ref())
            .collect()
    }

    /// Takes every event; true when there was one.
    pub(super) fn take_events(&mut self, now: Instant, random: &mut Random) -> bool {
        let mut any = false;
        while let Some(event) = self.machine.poll_event() {
            any = true;
            match event {
                Event::Message { message, receipt } => {
                    self.messages.push(message.detached());
                    match &self.settle {
                        Settle::AtOnce => self.machine.settle(now, receipt, ReasonCode::Success),
                        Settle::After(range) => {
                            let due = now + random.duration(range.clone());
                            self.due.push_back((due, receipt));
                        }
                        Settle::Never => self.receipts.push(receipt),
                    }
                }
                Event::Completed { op, outcome } => {
                    if !self.accepted.remove(&op) {
                        self.complaints
                            .push(format!("{op:?} ended and was not accepted, or ended twice: {outcome:?}"));
                    }
                    self.outcomes.insert(op, outcome);
                }
                Event::Connected(connected) => self.connected.push((now, connected)),
                Event::ConnectFailed(ended) | Event::Disconnected(ended) => self.ended.push((now, ended)),
                other => self.others.push(other),
            }
        }
        any
    }

    /// Gives back the receipts that are due, and tells which records are durable; true when there was any.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(at) = self.due.iter().position(|(due, _)| *due <= now) {
            any = true;
            if let Some((_, receipt)) = self.due.remove(at) {
                self.machine.settle(now, receipt, ReasonCode::Success);
            }
        }
        let durable = self.records.iter().skip(self.acknowledged).take_while(|(due, ..)| *due <= now).count();
        if durable > 0 {
            any = true;
            self.acknowledged += durable;
            let (_, seq, _) = self.records[self.acknowledged - 1];
            self.machine.handle_stored(now, Ok(seq));
        }
        any
    }

    /// Calls `handle_timeout` when it is due; true when it was.
    pub(super) fn take_timeout(&mut self, now: Instant) -> bool {
        if self.machine.poll_timeout().is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.machine.handle_timeout(now);
        if let Some(deadline) = self.machine.poll_timeout().filter(|deadline| *deadline < now) {
            self.complaints
                .push(format!("after handle_timeout at {now} the deadline is {deadline}, in the past"));
        }
        self.spins = if self.spins.0 == now { (now, self.spins.1 + 1) } else { (now, 1) };
        if self.spins.1 == 1_000 {
            self.complaints.push(format!("handle_timeout is due again and again at {now}"));
        }
        self.spins.1 < 1_000
    }

    /// When something of its own is due.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let durable = self.records.get(self.acknowledged).map(|(due, ..)| *due);
        self.due.iter().map(|(due, _)| *due).chain(durable).chain(self.machine.poll_timeout())
    }
}
