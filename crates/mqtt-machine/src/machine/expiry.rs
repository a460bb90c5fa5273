//! Owns the time at which messages that wait are worth nothing any more. It must not know why they wait.

use alloc::vec::Vec;
use core::time::Duration;

use crate::interface::Outcome;
use crate::journal::Record;
use crate::message::Message;
use crate::session::Owed;
use crate::time::Instant;

use super::Machine;

/// All that waits is looked at no more often: intervals are whole seconds, and there may be many messages.
const STEP: Duration = Duration::from_secs(1);

impl Machine {
    /// A message waits from now on, and has waited before for so long.
    pub(super) fn expires(&mut self, now: Instant, message: &Message, waited: Duration) {
        if let Some(interval) = message.expiry_interval() {
            let at = now + interval.saturating_sub(waited);
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
    }

    /// After a restore.
    pub(super) fn expires_later(&mut self, now: Instant) {
        let outgoing = &self.session.outgoing;
        let slots: Vec<u32> = outgoing.waiting_slots().chain(outgoing.ready_slots()).collect();
        for slot in slots {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            let waited = entry.waited(now);
            if let Some(message) = self.session.outgoing.message(slot).cloned() {
                self.expires(now, &message, waited);
            }
        }
    }

    /// Ends what has waited for longer than its Message Expiry Interval and has not left. What has left is never given up
    /// `[MQTT-4.3.3-7]`.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| now < next) {
            return;
        }
        self.next_expiry = None;
        let outgoing = &self.session.outgoing;
        let slots: Vec<u32> = outgoing.waiting_slots().chain(outgoing.ready_slots()).collect();
        for slot in slots {
            let Some(entry) = self.session.outgoing.get(slot) else { continue };
            let Some(interval) = self.session.outgoing.message(slot).and_then(Message::expiry_interval)
            else {
                continue;
            };
            let (waited, op, ended) = (entry.waited(now), entry.op, entry.ended);
            if entry.sent {
                continue;
            }
            if waited < interval {
                let at = now + interval.saturating_sub(waited).max(STEP);
                self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
                continue;
            }
            match entry.owed {
                Owed::Waiting(_) => self.discard(slot, Outcome::Expired),
                Owed::Publish(packet_id, _) => {
                    self.conclude(op, Record::Ended { op, packet_id }, Outcome::Expired, ended);
                }
                Owed::Release(..) => {}
            }
        }
    }
}
