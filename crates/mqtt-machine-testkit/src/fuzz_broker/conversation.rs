//! Owns one run of one case: what is sent when, and the verdict over what came back. Bytes and time in, bytes out.
//! It must not know sockets, nor how the case was made.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::BytesMut;
use mqtt_machine::packet::{Ack, AckKind, Packet};
use mqtt_machine::{Instant, ProtocolVersion, ReasonCode, wire};

use super::case::{Case, Expect, Step};
use super::finding::{Class, Complaint, Ending, Verdict};
use super::judge::{Judge, Reaction};
use crate::generate::Duty;

/// The most that is kept of what a broker says, in bytes.
const HEARD: usize = 64 << 10;
/// How long a broker that owes nothing but to live on may stay silent.
const QUIET: Duration = Duration::from_millis(100);
/// How long a broker has to refuse before it is asked whether it went on: bytes that it never reads could cost us the word with
/// which it closes.
const PROBE_AFTER: Duration = Duration::from_millis(20);

/// One case on one connection.
#[derive(Debug)]
pub struct Conversation {
    judge: Judge,
    version: ProtocolVersion,
    expect: Expect,
    steps: VecDeque<Step>,
    /// Acknowledgements that a client owes, to be sent between two packets.
    acks: VecDeque<Ack<'static>>,
    patience: Duration,
    wait_until: Option<Instant>,
    deadline: Instant,
    /// The end, whatever moves.
    end: Instant,
    probe: Probe,
    said: Option<ReasonCode>,
    heard: Vec<u8>,
    ending: Option<Ending>,
}

/// The PINGREQ behind the last step, which shows whether the broker went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Unsent,
    Sent,
}

impl Conversation {
    /// Begins a case on a connection that was just opened. `patience` is how long the broker may take for its next answer; a
    /// case that is never silent ends after ten times as long.
    pub fn new(case: &Case, patience: Duration, now: Instant) -> Self {
        Self {
            judge: Judge::new(case.version),
            version: case.version,
            expect: case.expect.clone(),
            steps: case.steps.iter().cloned().collect(),
            acks: VecDeque::new(),
            patience: if case.expect == Expect::Survived { patience.min(QUIET) } else { patience },
            wait_until: None,
            deadline: now + patience,
            end: now + patience * 10,
            probe: Probe::Unsent,
            said: None,
            heard: Vec::new(),
            ending: None,
        }
    }

    /// What is to be sent now, if anything.
    #[must_use]
    pub fn poll_output(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.ending.is_some() {
            return None;
        }
        if self.judge.is_between_packets()
            && !self.judge.disconnected
            && let Some(ack) = self.acks.pop_front()
        {
            return self.acknowledge(now, &ack);
        }
        while let Some(step) = self.steps.front() {
            match step {
                Step::AwaitConnAck if self.judge.connack.is_none() => return None,
                Step::Settle if !self.judge.is_settled() => return None,
                Step::Wait(time) => {
                    let until = *self.wait_until.get_or_insert(now + *time);
                    if now < until {
                        return None;
                    }
                    self.wait_until = None;
                    self.steps.pop_front();
                }
                Step::AwaitConnAck | Step::Settle => drop(self.steps.pop_front()),
                Step::Send(_) => {
                    let Some(Step::Send(bytes)) = self.steps.pop_front() else { return None };
                    return Some(self.send(now, bytes));
                }
            }
        }
        if self.probe == Probe::Unsent && !self.judge.disconnected {
            if matches!(self.expect, Expect::Closed { .. }) {
                let until = *self.wait_until.get_or_insert(now + PROBE_AFTER);
                if now < until {
                    return None;
                }
                self.wait_until = None;
            }
            self.probe = Probe::Sent;
            self.judge.probed();
            self.deadline = now + self.patience;
            return Some(vec![0xC0, 0]);
        }
        self.conclude();
        None
    }

    fn send(&mut self, now: Instant, bytes: Vec<u8>) -> Vec<u8> {
        self.judge.sent(&bytes);
        self.deadline = now + self.patience;
        bytes
    }

    fn acknowledge(&mut self, now: Instant, ack: &Ack<'_>) -> Option<Vec<u8>> {
        let mut bytes = BytesMut::new();
        wire::encode(&Packet::Ack(ack.clone()), self.version, &mut bytes).ok()?;
        if ack.kind == AckKind::PubRel {
            return Some(self.send(now, bytes.to_vec()));
        }
        self.deadline = now + self.patience;
        Some(bytes.to_vec())
    }

    /// Bytes came from the broker.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        let room = HEARD.saturating_sub(self.heard.len());
        self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.deadline = now + self.patience;
        for reaction in self.judge.came(bytes) {
            match reaction {
                Reaction::Acknowledge(ack) => self.acks.push_back(ack),
                Reaction::Disconnected(reason) => self.said = Some(reason),
            }
        }
        self.conclude();
    }

    /// The broker closed the connection.
    pub fn handle_closed(&mut self) {
        if self.ending.is_none() {
            let refusal = self.judge.connack.map(|connack| connack.reason).filter(|it| it.is_failure());
            self.ending = Some(Ending::Closed(self.said.or(refusal)));
        }
    }

    /// Time has passed. Early calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ending.is_none() && now >= self.deadline.min(self.end) {
            self.ending = Some(Ending::Silent);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_output`](Self::poll_output) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let silent = self.deadline.min(self.end);
        self.wait_until.map_or(silent, |until| until.min(silent))
    }

    /// It is alive when everything was sent and the probe was answered.
    fn conclude(&mut self) {
        // Between broken packets there is no room for acknowledgements.
        let all_acknowledged = self.acks.is_empty() || !self.judge.is_between_packets();
        let all_sent = self.steps.is_empty() && all_acknowledged && self.probe == Probe::Sent;
        let is_served = match self.expect {
            Expect::Served => self.judge.is_settled(),
            // What else a broken case is owed does not matter.
            Expect::Closed { .. } | Expect::Survived => !self.judge.awaits_pong(),
        };
        if self.ending.is_none() && all_sent && is_served {
            self.ending = Some(Ending::Alive);
        }
    }

    /// What came of it, once it has ended.
    pub fn verdict(&self) -> Option<Verdict> {
        let ending = self.ending?;
        let counts = |complaint: &&Complaint| match self.expect {
            Expect::Served => true,
            // Something else may be wrong with it, too.
            Expect::Closed { .. } => complaint.class != Class::Refused,
            // Identifiers may stand twice, requests may be cut: only what is no packet is wrong for certain.
            Expect::Survived => complaint.class == Class::Malformed,
        };
        let mut complaints: Vec<Complaint> = self.judge.complaints.iter().filter(counts).cloned().collect();
        let mut complain = |class, what: String| complaints.push(Complaint { class, what });
        match (&self.expect, ending) {
            (Expect::Survived, _) | (Expect::Served, Ending::Alive) => {}
            (Expect::Served, Ending::Closed(_)) if self.judge.disconnected && self.steps.is_empty() => {}
            (Expect::Served, Ending::Closed(said)) => {
                let said = said.map_or(String::from("without a word"), |code| format!("with {code}"));
                complain(Class::Refused, format!("the broker closed a valid connection {said}"));
            }
            (Expect::Served, Ending::Silent) if self.judge.disconnected => {
                complain(Class::NotClosed, "the connection is open after DISCONNECT".into());
            }
            (Expect::Served, Ending::Silent) => {
                let missing = self.judge.missing().unwrap_or_else(|| String::from("no CONNACK"));
                complain(Class::WrongAnswer, missing);
            }
            (Expect::Closed { codes, .. }, Ending::Closed(Some(code))) => {
                if self.version == ProtocolVersion::V5
                    && code != ReasonCode::UnspecifiedError
                    && !codes.contains(&code)
                {
                    let allowed: Vec<String> = codes.iter().map(ToString::to_string).collect();
                    complain(Class::WrongCode, format!("{code} instead of {}", allowed.join(" or ")));
                }
            }
            (Expect::Closed { .. }, Ending::Closed(None)) => {}
            (Expect::Closed { duty: Duty::Free, .. }, _) => {}
            (Expect::Closed { duty: Duty::Close, .. }, Ending::Alive) => {
                complain(Class::Accepted, "a PINGREQ behind it was answered".into());
            }
            (Expect::Closed { duty: Duty::Close, .. }, Ending::Silent) => {
                complain(Class::NotClosed, "neither closed, nor was a PINGREQ behind it answered".into());
            }
        }
        let accepted = self.judge.connack.filter(|connack| !connack.reason.is_failure());
        let capabilities = accepted.map(|connack| connack.capabilities);
        Some(Verdict { ending, complaints, heard: self.heard.clone(), capabilities })
    }
}
