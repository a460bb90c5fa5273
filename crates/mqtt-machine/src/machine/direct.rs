//! Owns the short way of a publication: from the call into the output. It must not know more than when that is the way of all.

use bytes::Buf;

use crate::interface::{Outcome, Refused};
use crate::message::Message;
use crate::output::Output;
use crate::session::Stage;
use crate::time::Instant;
use crate::types::{JournalSeq, OpId, PacketId, QoS};

use super::{Machine, Resubscribe, State};

/// The identifier under which a message is written now.
#[derive(Clone, Copy)]
enum Turn {
    /// QoS 0 has none.
    Bare,
    Under(PacketId),
}

impl Machine {
    pub(super) fn take_into(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Output,
    ) -> Result<OpId, Refused> {
        if self.may_pass(message)
            && self.is_idle_outward(out)
            && let Some(turn) = self.turn_of(message)
        {
            return Ok(self.write_now(now, message, turn, out));
        }
        let op = self.publish(now, message.clone())?;
        self.transmit(now, out);
        Ok(op)
    }

    /// Whether [`transmit`](Self::transmit) would find nothing to write, and has room.
    #[inline]
    fn is_idle_outward(&self, out: &Output) -> bool {
        let State::Live(connection) = &self.state else { return false };
        connection.queued() == 0
            && !out.is_full()
            && self.session.outgoing.is_nothing_ahead()
            && self.session.requests.waiting().is_none()
            && !matches!(self.resubscribe, Resubscribe::After(_))
    }

    /// How a message that is next can be written; `None` when it has to wait for the window.
    #[inline]
    fn turn_of(&self, message: &Message) -> Option<Turn> {
        if message.qos == QoS::AtMostOnce {
            return Some(Turn::Bare);
        }
        let in_window = self.session.outgoing.count(Stage::InFlight) < self.window();
        if in_window { self.session.free_id().map(Turn::Under) } else { None }
    }

    /// Accepts a message whose turn it is, and writes it.
    #[inline]
    fn write_now(&mut self, now: Instant, message: &Message, turn: Turn, out: &mut Output) -> OpId {
        let op = self.session.next_op();
        self.counters.accepted = self.counters.accepted.saturating_add(1);
        let State::Live(connection) = &mut self.state else { return op };
        let before = out.remaining();
        let packet_id = match turn {
            Turn::Bare => None,
            Turn::Under(packet_id) => Some(packet_id),
        };
        if let Err(reason) = connection.write_plain(message, packet_id, out) {
            self.end_publication(op, Outcome::Dropped(reason), JournalSeq::ZERO);
            return op;
        }
        connection.keep_alive.sent(now);
        let bytes = out.remaining().saturating_sub(before) as u64;
        self.counters.bytes_out = self.counters.bytes_out.saturating_add(bytes);
        match turn {
            Turn::Bare => connection.unsent.push_back((connection.written, op)),
            Turn::Under(packet_id) => {
                self.owes(now);
                let message = Message { dup: false, ..message.clone() };
                self.session.push_written(op, packet_id, message, now);
            }
        }
        op
    }
}
