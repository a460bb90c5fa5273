//! Owns what a recorder sees of a machine beyond what everybody does. It must not change anything.

use crate::interface::Action;
use crate::types::TransportId;

use super::{Machine, State};

impl Machine {
    /// How many actions and how many events wait to be polled.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.actions.len(), self.events.len())
    }

    /// The transport that is open.
    pub(crate) fn live(&self) -> Option<TransportId> {
        match &self.state {
            State::Live(connection) => Some(connection.id),
            _ => None,
        }
    }

    /// Whether a step of an authentication on `id` would be sent.
    pub(crate) fn takes_authentication(&self, id: TransportId) -> bool {
        matches!(&self.state, State::Live(connection) if connection.id == id && !connection.is_closing())
    }

    /// How many [`Action::Authenticate`] wait to be polled.
    pub(crate) fn authentications(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Authenticate { .. })).count()
    }
}
