//! Owns what a test asks of the broker and orders it to do: plans for connections, cuts, sessions, the log.
//! It must not know how the broker serves a client.

use mqtt_machine::ReasonCode;

use super::{Broker, BrokerConfig, ConnId, Log, Plan};

/// The test's side: faults, and what happened.
impl Broker {
    /// What happened so far.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The log, to clear it between the parts of a test.
    pub const fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The configuration. What is changed holds from the next packet or connection on.
    pub const fn config_mut(&mut self) -> &mut BrokerConfig {
        &mut self.config
    }

    /// The next connection to open without a plan goes by this one.
    pub fn plan(&mut self, plan: Plan) {
        self.plans.push_back(plan);
    }

    /// The next `count` connections to open without a plan go by this one.
    pub fn plan_next(&mut self, count: usize, plan: Plan) {
        self.plans.extend(core::iter::repeat_n(plan, count));
    }

    /// The next connection whose CONNECT names `client_id`, and has no plan of its own yet, goes by this one.
    pub fn plan_for(&mut self, client_id: &str, plan: Plan) {
        self.plans_for.entry(client_id.to_owned()).or_default().push_back(plan);
    }

    /// The connection of a client that is connected.
    pub fn conn_of(&self, client_id: &str) -> Option<ConnId> {
        self.sessions.get(client_id)?.conn
    }

    /// The clients that are connected.
    pub fn connected(&self) -> impl Iterator<Item = &str> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.conn.is_some())
            .map(|(client_id, _)| client_id.as_ref())
    }

    /// The connections that are open.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.conns.keys().copied()
    }

    /// How many sessions it keeps.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is a session of this client, connected or not.
    pub fn has_session(&self, client_id: &str) -> bool {
        self.sessions.contains_key(client_id)
    }

    /// The Subscription Identifier of this filter in the session of a client that is connected; `None` when it is not, or is not
    /// subscribed to it.
    pub fn subscription(&self, client_id: &str, filter: &str) -> Option<Option<u32>> {
        let session = self.sessions.get(client_id).filter(|session| session.conn.is_some())?;
        session.subscriptions.get(filter).map(|subscribed| subscribed.identifier)
    }

    /// How many messages wait for this client, in flight included.
    pub fn owed_to(&self, client_id: &str) -> usize {
        self.sessions.get(client_id).map_or(0, |session| session.queue.len() + session.in_flight.len())
    }

    /// Cuts a link at once: what was not polled is lost.
    pub fn cut(&mut self, conn: ConnId) {
        if self.conns.contains_key(&conn) {
            self.detach(conn);
            self.conns.remove(&conn);
            self.closed.push_back(conn);
        }
    }

    /// Cuts the link of a client at once; false when it is not connected.
    pub fn cut_client(&mut self, client_id: &str) -> bool {
        let conn = self.conn_of(client_id);
        conn.into_iter().for_each(|conn| self.cut(conn));
        conn.is_some()
    }

    /// Cuts the link of a connected client after so many further bytes from it or to it; false when it is not connected.
    pub fn cut_client_after(&mut self, client_id: &str, received: Option<u64>, sent: Option<u64>) -> bool {
        let Some(connection) = self.conn_of(client_id).and_then(|conn| self.conns.get_mut(&conn)) else {
            return false;
        };
        connection.plan.cut_after_received = received.map(|bytes| connection.received + bytes);
        connection.plan.cut_after_sent = sent.map(|bytes| connection.sent + bytes);
        true
    }

    /// From now on every packet to a connected client leaves this much later, on top of the configuration's delay.
    pub fn delay_client(&mut self, client_id: &str, delay: core::time::Duration) {
        if let Some(connection) = self.conn_of(client_id).and_then(|conn| self.conns.get_mut(&conn)) {
            connection.plan.delay = delay;
        }
    }

    /// The next `count` QoS 1 PUBLISH packets to a connected client are sent twice.
    pub fn duplicate_to(&mut self, client_id: &str, count: u32) {
        if let Some(connection) = self.conn_of(client_id).and_then(|conn| self.conns.get_mut(&conn)) {
            connection.plan.duplicates += count;
        }
    }

    /// Cuts the client's link, if it has one, and forgets its session: the next CONNECT is told that none is present.
    pub fn forget_session(&mut self, client_id: &str) {
        self.cut_client(client_id);
        self.sessions.remove(client_id);
    }

    /// Puts bytes into the output of a connected client, whatever they are; false when it is not connected.
    pub fn inject(&mut self, client_id: &str, bytes: &[u8]) -> bool {
        let Some(conn) = self.conn_of(client_id) else { return false };
        let due = self.due(conn);
        let Some(connection) = self.conns.get_mut(&conn) else { return false };
        connection.outbox.at(due).extend_from_slice(bytes);
        connection.outbox.grew(bytes.len());
        true
    }

    /// Ends a client's connection by DISCONNECT (5.0) with this reason, or without a word (3.x).
    pub fn disconnect(&mut self, client_id: &str, reason: ReasonCode) -> bool {
        let Some(conn) = self.conn_of(client_id) else { return false };
        self.send_disconnect(conn, reason);
        self.shut(conn);
        true
    }
}
