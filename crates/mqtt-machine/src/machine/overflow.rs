//! Owns who goes when there is no room: publications that wait, and messages that nobody takes. It must not know what is sent next.

use crate::config::{Behind, Overflow};
use crate::interface::{DropReason, Event, Outcome};
use crate::message::Message;
use crate::session::Stage;

use super::Machine;

/// What makes room for a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is there.
    There,
    /// The newest message that waits under the same topic goes.
    InPlaceOf(u32),
    /// As many of the least urgent and oldest that wait go.
    After(usize),
    /// The new message is the one to go.
    ForOthers,
}

impl Machine {
    /// What would make room for a message; `None` where nothing does.
    ///
    /// Outcomes that the caller has not taken count against the cap together with the messages. Where a policy drops messages, which
    /// makes outcomes of them, they have a cap of the same size for themselves.
    pub(super) fn room_for(&self, message: &Message) -> Option<Room> {
        let overflow = self.config.overflow;
        let limits = &self.config.limits;
        let (most, most_bytes) = (limits.outgoing_messages, limits.outgoing_bytes);
        let (count, bytes) = (self.session.outgoing.len(), self.session.outgoing.bytes());
        let cost = message.cost();
        let fits = |count: usize, bytes: usize| count < most && bytes.saturating_add(cost) <= most_bytes;
        if matches!(overflow, Overflow::Wait | Overflow::Refuse) {
            return fits(count.saturating_add(self.completions()), bytes).then_some(Room::There);
        }
        if self.completions() >= most {
            return None;
        }
        if overflow == Overflow::LastValue {
            if self.is_connected() && fits(count, bytes) {
                return Some(Room::There);
            }
            let place = self.session.outgoing.newest_of(&message.topic);
            let Some(slot) = place else { return fits(count, bytes).then_some(Room::There) };
            let freed = self.session.outgoing.message(slot).map_or(0, Message::cost);
            return fits(count.saturating_sub(1), bytes.saturating_sub(freed))
                .then_some(Room::InPlaceOf(slot));
        }
        if fits(count, bytes) {
            return Some(Room::There);
        }
        if overflow == Overflow::DropNewest {
            return Some(Room::ForOthers);
        }
        let outgoing = &self.session.outgoing;
        let (mut left, mut held, mut gone) = (count, bytes, 0_usize);
        for slot in outgoing.expendable(message.priority) {
            left = left.saturating_sub(1);
            held = held.saturating_sub(outgoing.message(slot).map_or(0, Message::cost));
            gone = gone.saturating_add(1);
            if fits(left, held) {
                return Some(Room::After(gone));
            }
        }
        // Others wait that are more urgent: then this one is the least urgent.
        (outgoing.count(Stage::Waiting) > gone).then_some(Room::ForOthers)
    }

    /// Has those go that must. False when the new message is the one.
    pub(super) fn make_room(&mut self, message: &Message, room: Room) -> bool {
        match room {
            Room::There => {}
            Room::InPlaceOf(slot) => self.discard(slot, Outcome::Dropped(DropReason::Superseded)),
            Room::After(count) => {
                for _ in 0..count {
                    let next = self.session.outgoing.expendable(message.priority).next();
                    if let Some(slot) = next {
                        self.discard(slot, Outcome::Dropped(DropReason::Overflow));
                    }
                }
            }
            Room::ForOthers => return false,
        }
        true
    }

    fn is_behind(&self) -> bool {
        self.held_bytes() >= self.config.limits.incoming_bytes / 2
    }

    /// Whether a message of QoS 0 is dropped because the consumer is behind.
    pub(super) fn drops_qos_0(&mut self) -> bool {
        let drops = self.config.behind == Behind::DropQoS0 && self.is_behind();
        if drops {
            self.overrun = self.overrun.saturating_add(1);
            self.counters.overrun = self.counters.overrun.saturating_add(1);
        }
        drops
    }

    /// Receipts came back: tells how many messages were dropped while they were out.
    pub(super) fn tell_overrun(&mut self) {
        if self.overrun > 0 && !self.is_behind() {
            let messages = core::mem::take(&mut self.overrun);
            self.events.push(Event::Overrun { messages });
            self.forget_old_news();
        }
    }
}
