//! Owns what comes out of a run: what it saw, or what did not hold.
//! It must not know how a run goes.

use core::fmt;
use core::ops::AddAssign;
use core::time::Duration;

use bytes::Bytes;

use crate::invariants::{Invariant, Violation};

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
    /// Clients that were sent to another server.
    pub redirected: u64,
    /// Connections in a lower version than the client began with.
    pub fell_back: u64,
    /// Messages that no server takes as they are.
    pub lowered: u64,
    /// Messages that a crash took, and that were accepted again under their key.
    pub asked_again: u64,
    /// Messages that found no room.
    pub full: u64,
    /// Messages that a policy dropped for others.
    pub dropped: u64,
    /// Messages that came with Subscription Identifiers.
    pub identified: u64,
    /// Schedules whose subscribers have subscriptions that overlap.
    pub overlapping: u64,
    /// Requests to subscribe and unsubscribe in the midst of the rest.
    pub asked: u64,
    /// Exchanges of SCRAM that came to their end, each with a server that proved itself.
    pub authenticated: u64,
    /// Exchanges that were begun on a connection that was there already.
    pub reauthenticated: u64,
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
        self.redirected += other.redirected;
        self.fell_back += other.fell_back;
        self.lowered += other.lowered;
        self.asked_again += other.asked_again;
        self.full += other.full;
        self.dropped += other.dropped;
        self.identified += other.identified;
        self.overlapping += other.overlapping;
        self.asked += other.asked;
        self.authenticated += other.authenticated;
        self.reauthenticated += other.reauthenticated;
        self.took += other.took;
        self.steps += other.steps;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules: {} connections ({} lost sessions), {} messages, {} delivered, {} resent, {} crashes \
             ({} messages vanished, {} accepted again), {} fail-overs, {} jumps, {} suspended, {} stranded, {} confused, {} redirected, \
             {} fell back, {} lowered, {} found no room, {} dropped, {} identified, {} overlapping, {} asked, {} authenticated ({} again), {} steps",
            self.schedules,
            self.connections,
            self.sessions_lost,
            self.messages,
            self.delivered,
            self.resent,
            self.crashes,
            self.vanished,
            self.asked_again,
            self.fail_overs,
            self.jumps,
            self.suspended,
            self.stranded,
            self.confused,
            self.redirected,
            self.fell_back,
            self.lowered,
            self.full,
            self.dropped,
            self.identified,
            self.overlapping,
            self.asked,
            self.authenticated,
            self.reauthenticated,
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
