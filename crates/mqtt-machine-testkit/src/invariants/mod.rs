//! Owns what must hold of a machine whatever happens to it: a reference model of what a session owes, compared with the
//! machine after every step.
//! It must not know the inside of the machine, nor who drives it.
//!
//! [`Checked`] is a machine with its model: it has the machine's surface, and whoever drives it that way (a simulator, a
//! fuzzer, a test of a driver) finds what did not hold in [`Checked::violations`]. The model is fed by what passes the
//! surface and by nothing else: inputs, commands, the packets that were taken and written, actions and events. It shares
//! the codec of [`mqtt_machine::wire`] with the machine, which has tests of its own, and nothing of the session, the
//! connection or the life cycle.
//!
//! Everything that [`Checked`] reports holds whatever the peer sends and in whatever order the caller calls. Two
//! promises are about both ends and need an honest server, [`Invariant::AtLeastOnce`] and [`Invariant::ExactlyOnce`]:
//! whoever sees both ends judges them, as [`sim::Schedule`](crate::sim::Schedule) does.
//!
//! ```
//! use std::sync::Arc;
//! use mqtt_machine::{Config, Instant, Message, QoS, Server};
//! use mqtt_machine_testkit::invariants::Checked;
//!
//! let mut machine = Checked::new(Arc::new(Config::new(Server::new("s"))), 1, Instant::ZERO);
//! machine.publish(Instant::ZERO, Message::to("t", "x")?.qos(QoS::AtLeastOnce))?;
//! machine.connect(Instant::ZERO)?;
//! while let Some(action) = machine.poll_action() {
//!     println!("{action:?}");
//! }
//! machine.assert_sound();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checked;
mod incoming;
mod journal;
mod model;
mod outgoing;
#[cfg(test)]
mod tests;
mod wire_rules;

use core::fmt;

use mqtt_machine::Instant;

pub use checked::Checked;

/// Bytes that [`Machine::memory_used`](mqtt_machine::Machine::memory_used) may tell beyond what the model knows to be
/// held, whatever is held: empty tables and queues that keep their room, and the 4,096 control packets that may wait to be
/// written before no further input is taken.
pub const MEMORY_SLACK: usize = 1 << 20;

/// Bytes that it may tell beyond that for every message, request, receipt, event or packet identifier that was ever held
/// at once: entries, and the room of tables that double.
pub const MEMORY_SLACK_EACH: usize = 2 << 10;

/// A rule that always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// Nothing panics, whatever the peer sends or the caller does.
    NoPanic,
    /// What is held is within the caps, and `memory_used()` tells it within [`MEMORY_SLACK`].
    Memory,
    /// Packet identifiers, operations, transports and journal positions name one thing each.
    Identifiers,
    /// Every accepted command ends exactly once.
    EndsOnce,
    /// A command ends as what happened says.
    Outcome,
    /// What `session()` shows is what the history says is owed.
    Session,
    /// A session is the fold of its records.
    Fold,
    /// Nothing that depends on a record leaves, and no outcome is told, before the record is durable.
    Durable,
    /// A message is not sent again after its PUBREC, and PUBREL never comes before it.
    Release,
    /// Publications leave in the order in which they were accepted, also when they are sent again.
    Order,
    /// DUP stands exactly on what was sent before.
    Dup,
    /// No more publications are in flight than both sides allow.
    InFlight,
    /// A topic alias is known to who reads it, and resolves to its topic.
    Aliases,
    /// A SUBSCRIBE carries the Subscription Identifier that was asked for with it, where the server has them, also when it is made
    /// again. With an honest server: a message carries those of the subscriptions that it belongs to.
    SubscriptionIdentifiers,
    /// A PUBLISH that arrives is told once, in its order, unchanged; one of QoS 2 that was told before is not.
    Delivery,
    /// A message is acknowledged when its receipt came back and not before, in the order of arrival.
    Acknowledgement,
    /// The credit of receipts is conserved: reading stops at the bound and goes on when they come back.
    Credit,
    /// A packet that breaks a rule ends the connection.
    Peer,
    /// What leaves is whole packets that a client may send at that moment.
    Wire,
    /// After `handle_timeout` no deadline lies in the past.
    Deadline,
    /// While there is something to do, an action, a deadline, output or `read_capacity` says so.
    Progress,
    /// With an honest server: a QoS 1 message arrives.
    AtLeastOnce,
    /// With an honest server that keeps the session: a QoS 2 message arrives, and once.
    ExactlyOnce,
    /// With an honest server: a client that is connected is subscribed to what it was granted, also at a server that has lost
    /// its session.
    Subscriptions,
    /// With a strict server: the client never does what a server may end the connection for.
    Client,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::NoPanic,
        Self::Memory,
        Self::Identifiers,
        Self::EndsOnce,
        Self::Outcome,
        Self::Session,
        Self::Fold,
        Self::Durable,
        Self::Release,
        Self::Order,
        Self::Dup,
        Self::InFlight,
        Self::Aliases,
        Self::SubscriptionIdentifiers,
        Self::Delivery,
        Self::Acknowledgement,
        Self::Credit,
        Self::Peer,
        Self::Wire,
        Self::Deadline,
        Self::Progress,
        Self::AtLeastOnce,
        Self::ExactlyOnce,
        Self::Subscriptions,
        Self::Client,
    ];

    /// Whether it is a promise about both ends, which holds with an honest server only and is not judged by [`Checked`].
    pub const fn needs_honest_peer(self) -> bool {
        matches!(self, Self::AtLeastOnce | Self::ExactlyOnce | Self::Subscriptions | Self::Client)
    }
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which rule.
    pub invariant: Invariant,
    /// When.
    pub at: Instant,
    /// What was seen, for people.
    pub detail: String,
}

impl Violation {
    /// What did not hold, and when.
    pub fn new(invariant: Invariant, at: Instant, detail: impl Into<String>) -> Self {
        Self { invariant, at, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.invariant, self.at, self.detail)
    }
}

/// The most violations that are kept: the first ones tell what is wrong.
const KEPT: usize = 64;

/// Violations as they are found.
#[derive(Clone, Debug, Default)]
struct Findings {
    now: Instant,
    list: Vec<Violation>,
}

impl Findings {
    fn report(&mut self, invariant: Invariant, detail: impl Into<String>) {
        if self.list.len() < KEPT {
            self.list.push(Violation::new(invariant, self.now, detail));
        }
    }

    /// Reports what `detail` says unless `holds`.
    fn ensure(&mut self, holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) {
        if !holds {
            self.report(invariant, detail());
        }
    }
}
