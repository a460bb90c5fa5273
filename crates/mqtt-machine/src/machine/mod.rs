//! Owns the question whether we should be connected.
use alloc::sync::Arc;
use core::time::Duration;
use bytes::BytesMut;
use crate::config::Config;
use crate::interface::*;
use crate::journal::Record;
use crate::message::Message;
use crate::output::Output;
use crate::reason::ReasonCode;
use crate::time::Instant;
use crate::types::*;

/// Why records are no session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {}

/// The client as a pure state machine.
#[derive(Debug)]
pub struct Machine {}

#[allow(unused_variables, missing_docs, clippy::todo, clippy::needless_pass_by_value)]
impl Machine {
    pub fn new(config: Arc<Config>, seed: u64, now: Instant) -> Self { todo!() }
    pub fn restore(config: Arc<Config>, seed: u64, now: Instant, away: Duration, records: impl IntoIterator<Item = Record>) -> Result<Self, RestoreError> { todo!() }
    pub fn handle(&mut self, now: Instant, input: Input) -> Reply { todo!() }
    pub fn handle_transport(&mut self, now: Instant, id: TransportId, event: TransportEvent) { todo!() }
    /// Takes whole frames from the front of `input` until a bound; call again when reading resumes.
    pub fn handle_input(&mut self, now: Instant, id: TransportId, input: &mut BytesMut) { todo!() }
    pub fn handle_sent(&mut self, now: Instant, id: TransportId, bytes: usize) { todo!() }
    pub fn handle_stored(&mut self, now: Instant, result: Result<JournalSeq, StoreError>) { todo!() }
    pub fn handle_timeout(&mut self, now: Instant) { todo!() }
    pub fn publish(&mut self, now: Instant, message: Message) -> Result<OpId, Refused> { todo!() }
    pub fn subscribe(&mut self, now: Instant, subscribe: Subscribe) -> Result<OpId, Refused> { todo!() }
    pub fn unsubscribe(&mut self, now: Instant, unsubscribe: Unsubscribe) -> Result<OpId, Refused> { todo!() }
    pub fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) { todo!() }
    /// Starts connecting; the machine is idle before.
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> { todo!() }
    pub fn reconnect(&mut self, now: Instant) -> Result<(), Refused> { todo!() }
    pub fn disconnect(&mut self, now: Instant, disconnect: Disconnect) -> Result<OpId, Refused> { todo!() }
    /// The configuration of the next attempt.
    pub fn reconfigure(&mut self, now: Instant, config: Arc<Config>) { todo!() }
    pub fn answer(&mut self, now: Instant, answer: Answer) { todo!() }
    pub fn poll_action(&mut self) -> Option<Action> { todo!() }
    pub fn poll_event(&mut self) -> Option<Event> { todo!() }
    pub fn poll_timeout(&self) -> Option<Instant> { todo!() }
    /// Moves whole packets into `out` up to its mark.
    pub fn transmit(&mut self, now: Instant, out: &mut Output) { todo!() }
    /// 0: stop reading; else at least one read, or what the next frame still lacks.
    pub fn read_capacity(&self) -> usize { todo!() }
    /// True while reading is paused by the inbound budget.
    pub fn is_paused(&self) -> bool { todo!() }
    pub fn is_connected(&self) -> bool { todo!() }
    /// What the connected server allows.
    pub fn capabilities(&self) -> Option<&Capabilities> { todo!() }
    pub fn memory_used(&self) -> usize { todo!() }
}
