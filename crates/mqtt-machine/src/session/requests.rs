//! Owns SUBSCRIBE and UNSUBSCRIBE requests from acceptance to their acknowledgement.
//! It must not know bytes, nor what the server grants.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::packet::PropertiesBuf;
use crate::types::{OpId, PacketId, Subscription, TopicFilter, filters_cost, subscriptions_cost};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<TopicFilter>),
}

/// What the entry of a request counts in the caps, in bytes: the same on every target.
const ENTRY: usize = 88;
const _: () = assert!(size_of::<Request>() <= ENTRY);

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The caller's command; `None` for subscriptions that the machine restores.
    pub(crate) op: Option<OpId>,
    pub(crate) ask: Ask,
    pub(crate) properties: PropertiesBuf,
    /// Present while it is in flight on this connection.
    packet_id: Option<PacketId>,
    /// It was written, on this connection or an earlier one: the server may have done what it asks for.
    pub(crate) sent: bool,
}

impl Request {
    /// Under which identifier it was written.
    pub(crate) const fn packet_id(&self) -> Option<PacketId> {
        self.packet_id
    }

    pub(crate) const fn new(op: Option<OpId>, ask: Ask, properties: PropertiesBuf) -> Self {
        Self { op, ask, properties, packet_id: None, sent: false }
    }

    fn cost(&self) -> usize {
        let ask = match &self.ask {
            Ask::Subscribe(subscriptions) => subscriptions_cost(subscriptions),
            Ask::Unsubscribe(filters) => filters_cost(filters),
        };
        ask.saturating_add(self.properties.len()).saturating_add(ENTRY)
    }
}

/// All requests, oldest first; those in flight before those that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    queue: VecDeque<Request>,
    in_flight: usize,
    bytes: usize,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are written and not acknowledged.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn push(&mut self, request: Request) {
        self.bytes = self.bytes.saturating_add(request.cost());
        self.queue.push_back(request);
    }

    /// Before all that wait: a restored subscription precedes what the caller asked for since.
    pub(crate) fn push_next(&mut self, request: Request) {
        self.bytes = self.bytes.saturating_add(request.cost());
        self.queue.insert(self.in_flight.min(self.queue.len()), request);
    }

    /// Whether a request of the machine's own has not been acknowledged.
    pub(crate) fn is_restoring(&self) -> bool {
        self.any(|request| request.op.is_none())
    }

    /// Whether `is` holds for a request that has not ended.
    pub(crate) fn any(&self, is: impl Fn(&Request) -> bool) -> bool {
        self.queue.iter().any(is)
    }

    /// The next one to write.
    pub(crate) fn waiting(&self) -> Option<&Request> {
        self.queue.get(self.in_flight)
    }

    /// The next one to write is written under this identifier.
    pub(crate) fn assign(&mut self, packet_id: PacketId) {
        if let Some(request) = self.queue.get_mut(self.in_flight) {
            request.packet_id = Some(packet_id);
            request.sent = true;
            self.in_flight = self.in_flight.saturating_add(1);
        }
    }

    /// Takes out the next one to write.
    pub(crate) fn discard_waiting(&mut self) -> Option<Request> {
        let request = self.queue.remove(self.in_flight)?;
        self.bytes = self.bytes.saturating_sub(request.cost());
        Some(request)
    }

    pub(crate) fn find(&self, packet_id: PacketId) -> Option<&Request> {
        self.queue.iter().take(self.in_flight).find(|request| request.packet_id == Some(packet_id))
    }

    pub(crate) fn remove(&mut self, packet_id: PacketId) -> Option<Request> {
        let place = self
            .queue
            .iter()
            .take(self.in_flight)
            .position(|request| request.packet_id == Some(packet_id))?;
        let request = self.queue.remove(place)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(request.cost());
        Some(request)
    }

    /// The connection is gone: those of the caller are asked again, those of the machine are made anew when needed.
    /// Returns the identifiers that are free again.
    pub(crate) fn connection_ended(&mut self) -> Vec<PacketId> {
        let ids = self.queue.iter_mut().filter_map(|request| request.packet_id.take()).collect();
        self.queue.retain(|request| request.op.is_some());
        self.in_flight = 0;
        self.bytes = self.queue.iter().fold(0, |sum, request| sum.saturating_add(request.cost()));
        ids
    }

    /// Takes out everything, once there is no connection.
    pub(crate) fn drain(&mut self) -> VecDeque<Request> {
        self.in_flight = 0;
        self.bytes = 0;
        core::mem::take(&mut self.queue)
    }
}
