//! Owns SUBSCRIBE and UNSUBSCRIBE requests from acceptance to their acknowledgement.
//! It must not know bytes, nor what the server grants.

use alloc::boxed::Box;
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

/// All requests. They take the room of a pointer until there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Option<Box<List>>);

/// Oldest first; those in flight before those that wait.
#[derive(Clone, Debug, Default)]
struct List {
    queue: VecDeque<Request>,
    in_flight: usize,
    bytes: usize,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.queue.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.bytes)
    }

    /// How many are written and not acknowledged.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.in_flight)
    }

    pub(crate) fn push(&mut self, request: Request) {
        let list = self.0.get_or_insert_default();
        list.bytes = list.bytes.saturating_add(request.cost());
        list.queue.push_back(request);
    }

    /// Before all that wait: a restored subscription precedes what the caller asked for since.
    pub(crate) fn push_next(&mut self, request: Request) {
        let list = self.0.get_or_insert_default();
        list.bytes = list.bytes.saturating_add(request.cost());
        list.queue.insert(list.in_flight.min(list.queue.len()), request);
    }

    /// Whether a request of the machine's own has not been acknowledged.
    pub(crate) fn is_restoring(&self) -> bool {
        self.any(|request| request.op.is_none())
    }

    /// Whether `is` holds for a request that has not ended.
    pub(crate) fn any(&self, is: impl Fn(&Request) -> bool) -> bool {
        self.0.as_ref().is_some_and(|list| list.queue.iter().any(is))
    }

    /// The next one to write.
    pub(crate) fn waiting(&self) -> Option<&Request> {
        let list = self.0.as_ref()?;
        list.queue.get(list.in_flight)
    }

    /// The next one to write is written under this identifier.
    pub(crate) fn assign(&mut self, packet_id: PacketId) {
        if let Some(list) = &mut self.0
            && let Some(request) = list.queue.get_mut(list.in_flight)
        {
            request.packet_id = Some(packet_id);
            request.sent = true;
            list.in_flight = list.in_flight.saturating_add(1);
        }
    }

    /// Takes out the next one to write.
    pub(crate) fn discard_waiting(&mut self) -> Option<Request> {
        let list = self.0.as_mut()?;
        let request = list.queue.remove(list.in_flight)?;
        list.bytes = list.bytes.saturating_sub(request.cost());
        Some(request)
    }

    pub(crate) fn find(&self, packet_id: PacketId) -> Option<&Request> {
        let list = self.0.as_ref()?;
        list.queue.iter().take(list.in_flight).find(|request| request.packet_id == Some(packet_id))
    }

    pub(crate) fn remove(&mut self, packet_id: PacketId) -> Option<Request> {
        let list = self.0.as_mut()?;
        let place = list
            .queue
            .iter()
            .take(list.in_flight)
            .position(|request| request.packet_id == Some(packet_id))?;
        let request = list.queue.remove(place)?;
        list.in_flight = list.in_flight.saturating_sub(1);
        list.bytes = list.bytes.saturating_sub(request.cost());
        Some(request)
    }

    /// The connection is gone: those of the caller are asked again, those of the machine are made anew when needed.
    /// Returns the identifiers that are free again.
    pub(crate) fn connection_ended(&mut self) -> Vec<PacketId> {
        let Some(list) = &mut self.0 else { return Vec::new() };
        let ids = list.queue.iter_mut().filter_map(|request| request.packet_id.take()).collect();
        list.queue.retain(|request| request.op.is_some());
        list.in_flight = 0;
        list.bytes = list.queue.iter().fold(0, |sum, request| sum.saturating_add(request.cost()));
        ids
    }

    /// Takes out everything, once there is no connection.
    pub(crate) fn drain(&mut self) -> VecDeque<Request> {
        self.0.take().map(|list| list.queue).unwrap_or_default()
    }
}
