//! Owns copies of sessions, as a broker makes them when it restores an old backup or moves clients to another node.
//! It must not know what a copy is good for.

use std::sync::Arc;

use super::Broker;
use super::session::Session;

/// A client's session as it was at one moment: subscriptions, what waits, what is in flight. The will is not in it.
#[derive(Clone, Debug)]
pub struct SessionCopy {
    client_id: Arc<str>,
    session: Session,
}

impl Broker {
    /// A copy of the client's session; `None` when there is none.
    pub fn copy_session(&self, client_id: &str) -> Option<SessionCopy> {
        let (client_id, session) = self.sessions.get_key_value(client_id)?;
        Some(SessionCopy { client_id: Arc::clone(client_id), session: session.copy() })
    }

    /// Cuts the client's link, if it has one, and puts an older session in the place of the present one.
    pub fn resurrect_session(&mut self, copy: SessionCopy) {
        self.cut_client(&copy.client_id);
        self.sessions.insert(copy.client_id, copy.session);
    }
}
