//! Owns how long the driver waits for the readers whom it has woken. It must not know what they read.

use std::time::Duration;

use mqtt_machine::Instant;

use super::Driver;
use crate::shared::State;

/// How much may wait for readers who were woken before they are waited for, in bytes as [`Message::cost`](mqtt_machine::Message::cost)
/// counts them.
const UNFETCHED: usize = 128 << 10;
/// How long they are waited for at most.
const PATIENCE: Duration = Duration::from_millis(5);

impl Driver {
    /// Lets the readers whom messages have woken come for them before more is read, so that no more waits for a reader who keeps up than
    /// these. Who does not come in time is slow, and has the inbound budget to be so.
    pub(super) fn wait_for_readers(&mut self, state: &mut State, now: Instant) {
        self.patience = match state.router.get_mut() {
            Some(router) if router.unfetched() >= UNFETCHED => {
                // The machine's time stands still at its end.
                #[allow(clippy::arithmetic_side_effects, reason = "it saturates")]
                let until = self.patience.unwrap_or(now + PATIENCE);
                if until <= now {
                    router.give_up_readers();
                }
                (until > now).then_some(until)
            }
            _ => None,
        };
        state.waits_for_readers = self.patience.is_some();
    }
}
