//! Owns the message streams and which of them a message goes to. It must not know the machine, nor who reads.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use foldhash::fast::RandomState;
use mqtt_machine::journal::DeliveryKey;
use mqtt_machine::packet::Property;
use mqtt_machine::{Message, OpId, Outcome, ReasonCode, Receipt, Subscribe, TopicFilter, TopicName};

use crate::backlog::{Backlog, Spent, StreamLimit};
use crate::filter_map::FilterMap;
use crate::identifiers::{Identifier, Identifiers, Routes};
use crate::slab::Slab;
use crate::wake::Wakes;

/// A message in a stream, with its share of the receipt.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    /// `None`: it is spent.
    pub(crate) credit: Option<Credit>,
}

impl Item {
    /// Gives its share of the receipt back. The last share returns the receipt and the answer for the server.
    #[inline]
    pub(crate) fn spend(&mut self, reason: ReasonCode) -> Option<(Receipt, ReasonCode)> {
        self.credit.take()?.spend(reason)
    }
}

/// A stream's share of a receipt: the last one that is spent gives the receipt back.
#[derive(Debug)]
pub(crate) enum Credit {
    Sole(Receipt),
    Shared(Arc<SharedCredit>),
}

#[derive(Debug)]
pub(crate) struct SharedCredit {
    receipt: Receipt,
    /// The first failure that any of the streams answered with.
    failure: AtomicU8,
}

impl Credit {
    pub(crate) fn key(&self) -> Option<DeliveryKey> {
        match self {
            Self::Sole(receipt) => receipt.key(),
            Self::Shared(shared) => shared.receipt.key(),
        }
    }

    /// Gives this share back. The last share returns the receipt and the answer for the server.
    #[inline]
    pub(crate) fn spend(self, reason: ReasonCode) -> Option<(Receipt, ReasonCode)> {
        match self {
            Self::Sole(receipt) => Some((receipt, reason)),
            Self::Shared(shared) => {
                if reason.is_failure() {
                    let none = ReasonCode::Success.to_u8();
                    let _ = shared.failure.compare_exchange(
                        none,
                        reason.to_u8(),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                }
                let last = Arc::into_inner(shared)?;
                let failure = ReasonCode::from_u8(last.failure.into_inner()).filter(|code| code.is_failure());
                Some((last.receipt, failure.unwrap_or(reason)))
            }
        }
    }
}

/// One stream. Its reader takes the whole queue at once.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) backlog: Backlog,
    pub(crate) waker: Option<Waker>,
    filters: Vec<TopicFilter>,
    /// The number of the last message that was put in, so that several matching filters put it in once.
    last: u64,
    /// What was put in since its reader was woken who has not come yet, in bytes; `None`: nobody is on the way.
    unfetched: Option<usize>,
}

impl Stream {
    /// Who asked for it is on the way from the beginning.
    fn new(filters: Vec<TopicFilter>) -> Self {
        Self { filters, unfetched: Some(0), ..Self::default() }
    }
}

/// Where the messages of one filter go.
#[derive(Debug)]
struct Route {
    filter: TopicFilter,
    streams: Vec<usize>,
    /// Subscription Identifiers that its messages may carry, oldest first. A subscription that is made again has the new one from
    /// then on `[MQTT-3.8.4-3]`, and messages with the one from before may be on their way.
    identifiers: Vec<u32>,
    /// The one that the server has granted last.
    granted: Option<u32>,
}

/// Identifiers that a route remembers.
const REMEMBERED: usize = 8;

/// A SUBSCRIBE that has not been answered.
#[derive(Debug)]
struct Asked {
    /// `None` once it is gone.
    stream: Option<usize>,
    filters: Vec<TopicFilter>,
    identifier: u32,
}

/// The topic of the last message without properties that went into one stream, and that stream. Messages often come in a row of one
/// topic, and are not looked up again then. It holds until anything is subscribed or unsubscribed.
#[derive(Debug, Default)]
struct LastTopic {
    topic: Vec<u8>,
    stream: Option<usize>,
}

impl LastTopic {
    /// A longer one is not kept.
    const LONGEST: usize = 256;

    #[inline]
    fn stream_of(&self, topic: &[u8]) -> Option<usize> {
        if self.topic == topic { self.stream } else { None }
    }

    fn keep(&mut self, topic: &[u8], stream: usize) {
        if topic.len() <= Self::LONGEST {
            self.topic.clear();
            self.topic.extend_from_slice(topic);
            self.stream = Some(stream);
        }
    }

    const fn forget(&mut self) {
        self.stream = None;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Router {
    streams: Slab<Stream>,
    routes: Slab<Route>,
    /// The routes by their filters.
    filters: FilterMap<usize>,
    /// The routes by their Subscription Identifiers.
    identifiers: Identifiers,
    asked: BTreeMap<OpId, Asked>,
    /// Where the last topic led to.
    last: LastTopic,
    /// Streams that take what belongs to no filter.
    catch_all: Vec<usize>,
    targets: Vec<usize>,
    messages: u64,
    /// What streams had no room for.
    spent: Spent,
    /// What readers who were woken have not fetched yet, in bytes.
    unfetched: usize,
}

impl Router {
    /// Heap bytes of the queues of all streams.
    pub(crate) fn memory_used(&self) -> usize {
        self.streams.iter().map(|stream| stream.backlog.memory_used()).sum()
    }

    /// The identifier of a request: the user's, that of the same filters, or a new one.
    pub(crate) fn identify(&mut self, request: &Subscribe) -> Identifier {
        let insisted = request.properties.as_properties().subscription_identifiers().next();
        match insisted.or(request.identifier) {
            Some(given) => Identifier::Users(given),
            None => Identifier::Own(self.known(request).unwrap_or_else(|| self.identifiers.next())),
        }
    }

    /// The client's own identifier that leads to the filters of this request and to nothing else.
    fn known(&self, request: &Subscribe) -> Option<u32> {
        let mut routes = Vec::with_capacity(request.subscriptions.len());
        for subscription in &request.subscriptions {
            routes.push(*self.filters.get(&subscription.filter)?);
        }
        routes.sort_unstable();
        routes.dedup();
        // One that another has followed does not come back: it would not be clear which of the two is in force.
        let last = |route: &usize| self.routes.get(*route)?.identifiers.last().copied();
        let known = last(routes.first()?)?;
        let is_last = routes.iter().all(|route| last(route) == Some(known));
        (is_last && self.identifiers.is_of(known, &routes)).then_some(known)
    }

    /// A stream that takes what belongs to no other.
    pub(crate) fn add_catch_all(&mut self) -> usize {
        self.last.forget();
        let stream = self.streams.insert(Stream::new(Vec::new()));
        self.catch_all.push(stream);
        stream
    }

    /// A stream for the filters of a request that was accepted as `op`, with this identifier.
    pub(crate) fn add(&mut self, op: OpId, filters: Vec<TopicFilter>, identifier: Identifier) -> usize {
        self.last.forget();
        let identifier = self.identifiers.take(identifier);
        let mut known: HashSet<&TopicFilter, RandomState> = HashSet::default();
        let kept: Vec<TopicFilter> = filters.iter().filter(|filter| known.insert(filter)).cloned().collect();
        let stream = self.streams.insert(Stream::new(kept.clone()));
        for filter in kept {
            let route = self.route_of(filter);
            if let Some(route) = self.routes.get_mut(route) {
                route.streams.push(stream);
            }
            self.remember(route, identifier);
        }
        self.asked.insert(op, Asked { stream: Some(stream), filters, identifier });
        stream
    }

    fn route_of(&mut self, filter: TopicFilter) -> usize {
        if let Some(route) = self.filters.get(&filter) {
            return *route;
        }
        let (streams, identifiers) = (Vec::new(), Vec::new());
        let route = self.routes.insert(Route { filter: filter.clone(), streams, identifiers, granted: None });
        self.filters.insert(filter, route);
        route
    }

    /// Messages with this identifier may be those of the route.
    fn remember(&mut self, at: usize, identifier: u32) {
        let Some(route) = self.routes.get_mut(at) else { return };
        if !route.identifiers.contains(&identifier) {
            route.identifiers.push(identifier);
        }
        self.identifiers.attach(identifier, at);
        if route.identifiers.len() > REMEMBERED
            && let Some(old) = route.identifiers.iter().position(|it| Some(*it) != route.granted)
        {
            let forgotten = route.identifiers.remove(old);
            self.identifiers.forget(forgotten);
        }
    }

    /// A command has ended: perhaps a request that a stream was made for. What the server refused takes no messages.
    pub(crate) fn answered(&mut self, op: OpId, outcome: &Outcome) {
        let Some(Asked { stream, filters, identifier }) = self.asked.remove(&op) else { return };
        let Outcome::Subscribed(codes) = outcome else { return };
        let answers = || filters.iter().zip(&codes.codes);
        if let Some(stream) = stream {
            self.withdraw(stream, answers().filter(|(_, code)| code.is_failure()).map(|(filter, _)| filter));
        }
        for (filter, code) in answers() {
            if code.is_failure() {
                self.refused(filter, identifier);
            } else if let Some(at) = self.filters.get(filter)
                && let Some(route) = self.routes.get_mut(*at)
                && route.identifiers.contains(&identifier)
            {
                route.granted = Some(identifier);
            }
        }
    }

    /// The subscription of this filter is what it was before.
    fn refused(&mut self, filter: &TopicFilter, identifier: u32) {
        let waits =
            self.asked.values().any(|asked| asked.identifier == identifier && asked.filters.contains(filter));
        if !waits
            && let Some(at) = self.filters.get(filter)
            && let Some(route) = self.routes.get_mut(*at)
            && route.granted != Some(identifier)
            && let Some(place) = route.identifiers.iter().position(|known| *known == identifier)
        {
            route.identifiers.remove(place);
            self.identifiers.detach(identifier, *at);
        }
    }

    /// Takes a stream out. Returns what nobody read, and the filters that no stream uses any more.
    pub(crate) fn remove(&mut self, stream: usize) -> (VecDeque<Item>, Vec<TopicFilter>) {
        let Some(removed) = self.streams.remove(stream) else { return Default::default() };
        self.last.forget();
        self.unfetched = self.unfetched.saturating_sub(removed.unfetched.unwrap_or_default());
        self.catch_all.retain(|known| *known != stream);
        for asked in self.asked.values_mut() {
            // The number may come again for another one.
            asked.stream.take_if(|known| *known == stream);
        }
        let mut unused = removed.filters;
        unused.retain(|filter| self.detach(stream, filter));
        (removed.backlog.into_queue(), unused)
    }

    /// A stream does without these filters.
    fn withdraw<'a>(&mut self, at: usize, filters: impl Iterator<Item = &'a TopicFilter>) {
        let filters: HashSet<&TopicFilter, RandomState> = filters.collect();
        let Some(stream) = self.streams.get_mut(at).filter(|_| !filters.is_empty()) else { return };
        self.last.forget();
        let used = stream.filters.len();
        stream.filters.retain(|filter| !filters.contains(filter));
        if stream.filters.len() < used {
            filters.into_iter().for_each(|filter| _ = self.detach(at, filter));
        }
    }

    /// Whether a stream uses `filter`.
    pub(crate) fn uses(&self, filter: &TopicFilter) -> bool {
        self.filters.get(filter).is_some()
    }

    /// What streams had no room for, to be given back, in its order.
    pub(crate) const fn spent(&mut self) -> &mut Spent {
        &mut self.spent
    }

    /// Limits what waits in a stream.
    pub(crate) fn limit(&mut self, stream: usize, limit: StreamLimit) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.backlog.limit(limit, &mut self.spent);
        }
    }

    pub(crate) fn stream(&mut self, stream: usize) -> Option<&mut Stream> {
        self.streams.get_mut(stream)
    }

    /// A reader has come for what its stream has; `None`: there is no such stream.
    pub(crate) fn fetch(&mut self, stream: usize) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(stream)?;
        self.unfetched = self.unfetched.saturating_sub(stream.unfetched.take().unwrap_or_default());
        Some(stream)
    }

    /// How many bytes wait for readers who were woken and have not come yet.
    pub(crate) const fn unfetched(&self) -> usize {
        self.unfetched
    }

    /// The readers who have not come yet are not waited for.
    pub(crate) fn give_up_readers(&mut self) {
        self.unfetched = 0;
        self.streams.iter_mut().for_each(|stream| stream.unfetched = None);
    }

    /// Puts a message into every stream that it is for, once each. The receipt comes back when there is none.
    ///
    /// A message that carries identifiers of this client is for the streams of those subscriptions: where the server sends a
    /// copy for each subscription, each copy goes to its own. One without any, or with one that this client has not
    /// given, is for every stream with a filter that it belongs to.
    #[inline]
    pub(crate) fn route(&mut self, message: Message, receipt: Receipt, wakes: &mut Wakes) -> Option<Receipt> {
        if message.properties.is_empty() {
            let topic = message.topic.as_bytes();
            let only = self.last.stream_of(topic).or_else(|| self.look_up(topic));
            if let Some(only) = only {
                let bytes = receipt.bytes();
                self.put(only, Item { message, credit: Some(Credit::Sole(receipt)) }, bytes, wakes);
                return None;
            }
        }
        // Put together anew: a message whose own place is handed on would be kept in it, and moved from there, in every case.
        let Message { topic, payload, qos, retain, dup, priority, properties } = message;
        let message = Message { topic, payload, qos, retain, dup, priority, properties };
        self.route_on(message, receipt, wakes)
    }

    /// The stream that a message under this topic is for, if it is one.
    #[inline(never)]
    fn look_up(&mut self, topic: &[u8]) -> Option<usize> {
        self.begin();
        self.find_by_topic(topic);
        let &[only] = self.targets.as_slice() else { return None };
        self.last.keep(topic, only);
        Some(only)
    }

    /// A message that carries properties, or is not for one stream.
    #[inline(never)]
    fn route_on(&mut self, mut message: Message, receipt: Receipt, wakes: &mut Wakes) -> Option<Receipt> {
        self.find(&message);
        if !message.properties.is_empty() {
            // What the user has not given, the user does not see, and may forward.
            let identifiers = &self.identifiers;
            message.properties = message.properties.retain(|property| match property {
                Property::SubscriptionIdentifier(identifier) => !identifiers.is_own(*identifier),
                _ => true,
            });
        }
        let targets = std::mem::take(&mut self.targets);
        let bytes = receipt.bytes();
        let unrouted = match targets.split_last() {
            None => Some(receipt),
            Some((only, [])) => {
                self.put(*only, Item { message, credit: Some(Credit::Sole(receipt)) }, bytes, wakes);
                None
            }
            Some((last, others)) => {
                let failure = AtomicU8::new(ReasonCode::Success.to_u8());
                let shared = Arc::new(SharedCredit { receipt, failure });
                for stream in others {
                    let credit = Some(Credit::Shared(Arc::clone(&shared)));
                    self.put(*stream, Item { message: message.clone(), credit }, bytes, wakes);
                }
                // No share stays here: the last one that is spent is one of a stream.
                self.put(*last, Item { message, credit: Some(Credit::Shared(shared)) }, bytes, wakes);
                None
            }
        };
        self.targets = targets;
        unrouted
    }

    /// Makes the streams that a message is for the targets.
    fn find(&mut self, message: &Message) {
        self.begin();
        if message.properties.is_empty() || !self.find_by_identifiers(message) {
            self.find_by_topic(message.topic.as_bytes());
        } else if self.targets.is_empty() {
            self.targets.extend_from_slice(&self.catch_all);
        }
    }

    /// Another message comes, which has no targets yet.
    fn begin(&mut self) {
        self.messages = self.messages.wrapping_add(1);
        self.targets.clear();
    }

    /// Puts a message, whose receipt has so many bytes, into a stream.
    #[inline(always)]
    fn put(&mut self, stream: usize, item: Item, bytes: usize, wakes: &mut Wakes) {
        let Some(stream) = self.streams.get_mut(stream) else { return };
        stream.backlog.push(item, &mut self.spent);
        if let Some(waker) = stream.waker.take() {
            wakes.push(waker);
            stream.unfetched.get_or_insert(0);
        }
        if let Some(of_stream) = &mut stream.unfetched {
            *of_stream = of_stream.saturating_add(bytes);
            self.unfetched = self.unfetched.saturating_add(bytes);
        }
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.streams.iter_mut().filter_map(|stream| stream.waker.take()).for_each(|waker| wakes.push(waker));
    }

    /// Finds the streams of the subscriptions that the message names; false when it does not say enough.
    fn find_by_identifiers(&mut self, message: &Message) -> bool {
        let Self { streams, routes, filters, identifiers, targets, messages, .. } = self;
        let topic = &message.topic;
        let mut named = false;
        for identifier in message.subscription_identifiers() {
            named = true;
            let Some(own) = identifiers.routes(identifier) else { return false };
            if own.is_empty() {
                // Its streams are gone.
                continue;
            }
            let mut is_for_one = false;
            let mut take = |at: usize, belongs: fn(&Route, &TopicName) -> bool| {
                if let Some(route) = routes.get(at)
                    && belongs(route, topic)
                {
                    is_for_one = true;
                    aim(route, streams, targets, *messages);
                }
            };
            match own {
                Routes::Few(few) => {
                    few.iter().for_each(|at| take(*at, |route, topic| route.filter.matches(topic)));
                }
                Routes::Many(many) => filters.matches(topic, |at| {
                    if many.contains(at) {
                        take(*at, |_, _| true);
                    }
                }),
            }
            if !is_for_one {
                // It was another life's.
                return false;
            }
        }
        named
    }

    /// Adds the streams of all filters that the topic belongs to; without any, those that take what belongs to none.
    #[inline]
    fn find_by_topic(&mut self, topic: &[u8]) {
        let Self { streams, routes, filters, targets, messages, .. } = self;
        filters.matches_bytes(topic, |at| {
            if let Some(route) = routes.get(*at) {
                aim(route, streams, targets, *messages);
            }
        });
        if self.targets.is_empty() {
            self.targets.extend_from_slice(&self.catch_all);
        }
    }

    /// Takes `stream` off the route of `filter`; true when nobody is left there.
    fn detach(&mut self, stream: usize, filter: &TopicFilter) -> bool {
        let Some(at) = self.filters.get(filter).copied() else { return false };
        let Some(route) = self.routes.get_mut(at) else { return false };
        route.streams.retain(|known| *known != stream);
        if !route.streams.is_empty() {
            return false;
        }
        for identifier in std::mem::take(&mut route.identifiers) {
            self.identifiers.retire(identifier, at);
        }
        self.routes.remove(at);
        self.filters.remove(filter);
        true
    }
}

/// Makes the streams of `route` targets of the message with this number, unless they are.
fn aim(route: &Route, streams: &mut Slab<Stream>, targets: &mut Vec<usize>, message: u64) {
    for stream in &route.streams {
        if let Some(known) = streams.get_mut(*stream)
            && known.last != message
        {
            known.last = message;
            targets.push(*stream);
        }
    }
}

#[cfg(test)]
mod tests;
