//! Owns the question whether the server still acknowledges. It must not know what an acknowledgement does.

use crate::config::Watchdog;
use crate::connection::Connection;
use crate::interface::{EndReason, Event};
use crate::session::Stage;
use crate::time::Instant;

use super::{Machine, State};

impl Machine {
    fn watchdog(&self) -> Option<Watchdog> {
        self.config.watchdog.filter(|watchdog| !watchdog.after.is_zero())
    }

    /// How many publications and requests wait for an acknowledgement on this connection.
    fn unacknowledged(&self) -> usize {
        let outgoing = &self.session.outgoing;
        let publications = outgoing.count(Stage::InFlight).saturating_add(outgoing.count(Stage::Resumed));
        publications.saturating_add(self.session.requests.in_flight())
    }

    /// Something was acknowledged, or is the first to wait for it, or reading goes on.
    pub(super) fn advanced(&mut self, now: Instant) {
        if let State::Live(connection) = &mut self.state {
            connection.advanced_at = now;
        }
    }

    /// Something is written that is acknowledged later.
    pub(super) fn owes(&mut self, now: Instant) {
        if self.config.watchdog.is_some() && self.unacknowledged() == 0 {
            self.advanced(now);
        }
    }

    pub(super) fn stalls_at(&self, connection: &Connection) -> Option<Instant> {
        let watchdog = self.watchdog()?;
        let watches = connection.is_established() && !self.is_paused() && self.unacknowledged() > 0;
        watches.then(|| connection.advanced_at + watchdog.after)
    }

    pub(super) fn watch(&mut self, now: Instant) {
        let State::Live(connection) = &self.state else { return };
        let (Some(due), Some(watchdog)) = (self.stalls_at(connection), self.watchdog()) else { return };
        if now < due {
            return;
        }
        if watchdog.reconnect {
            // A server that does not answer is not waited for any longer to take a DISCONNECT.
            return self.end(now, EndReason::Stalled);
        }
        let (waited, unacknowledged) = (now - connection.advanced_at, self.unacknowledged());
        self.advanced(now);
        self.events.push(Event::Stalled { waited, unacknowledged });
        self.forget_old_news();
    }
}
