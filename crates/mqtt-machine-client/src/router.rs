//! Owns the message streams and which of them a message goes to. It must not know the machine, nor who reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use mqtt_machine::{Message, ReasonCode, Receipt, TopicFilter};

use crate::filter_map::FilterMap;
use crate::slab::Slab;
use crate::wake::Wakes;

/// A message in a stream, with its share of the receipt.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) credit: Credit,
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
    /// Gives this share back. The last share returns the receipt and the answer for the server.
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
    pub(crate) queue: VecDeque<Item>,
    pub(crate) waker: Option<Waker>,
    filters: Vec<TopicFilter>,
    /// The number of the last message that was put in, so that several matching filters put it in once.
    last: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Router {
    streams: Slab<Stream>,
    routes: FilterMap<Vec<usize>>,
    /// Streams that take what belongs to no filter.
    catch_all: Vec<usize>,
    targets: Vec<usize>,
    messages: u64,
}

impl Router {
    /// A stream for these filters; for none of them, one that takes what belongs to no other.
    pub(crate) fn add(&mut self, filters: Vec<TopicFilter>) -> usize {
        let mut kept: Vec<TopicFilter> = Vec::with_capacity(filters.len());
        for filter in filters {
            if !kept.contains(&filter) {
                kept.push(filter);
            }
        }
        let stream = self.streams.insert(Stream { filters: kept.clone(), ..Stream::default() });
        if kept.is_empty() {
            self.catch_all.push(stream);
        }
        for filter in kept {
            match self.routes.get_mut(&filter) {
                Some(streams) => streams.push(stream),
                None => {
                    self.routes.insert(filter, vec![stream]);
                }
            }
        }
        stream
    }

    /// Takes a stream out. Returns what nobody read, and the filters that no stream uses any more.
    pub(crate) fn remove(&mut self, stream: usize) -> (VecDeque<Item>, Vec<TopicFilter>) {
        let Some(removed) = self.streams.remove(stream) else { return Default::default() };
        self.catch_all.retain(|known| *known != stream);
        let mut unused = removed.filters;
        unused.retain(|filter| self.detach(stream, filter));
        (removed.queue, unused)
    }

    /// Takes one filter off a stream.
    pub(crate) fn remove_filter(&mut self, stream: usize, filter: &TopicFilter) {
        if let Some(known) = self.streams.get_mut(stream)
            && let Some(at) = known.filters.iter().position(|known| known == filter)
        {
            known.filters.swap_remove(at);
            self.detach(stream, filter);
        }
    }

    /// Whether a stream uses `filter`.
    pub(crate) fn uses(&self, filter: &TopicFilter) -> bool {
        self.routes.get(filter).is_some()
    }

    pub(crate) fn stream(&mut self, stream: usize) -> Option<&mut Stream> {
        self.streams.get_mut(stream)
    }

    /// Puts a message into every stream with a filter that it belongs to, once each. The receipt comes back when there
    /// is none.
    pub(crate) fn route(&mut self, message: Message, receipt: Receipt, wakes: &mut Wakes) -> Option<Receipt> {
        let Self { streams, routes, catch_all, targets, messages } = self;
        *messages = messages.wrapping_add(1);
        targets.clear();
        routes.matches(&message.topic, |matching| {
            for stream in matching {
                if let Some(known) = streams.get_mut(*stream)
                    && known.last != *messages
                {
                    known.last = *messages;
                    targets.push(*stream);
                }
            }
        });
        if targets.is_empty() {
            targets.extend_from_slice(catch_all);
        }
        let Some((last, others)) = targets.split_last() else { return Some(receipt) };
        let mut put = |stream: usize, message: Message, credit: Credit| {
            if let Some(stream) = streams.get_mut(stream) {
                stream.queue.push_back(Item { message, credit });
                if let Some(waker) = stream.waker.take() {
                    wakes.push(waker);
                }
            }
        };
        if others.is_empty() {
            put(*last, message, Credit::Sole(receipt));
            return None;
        }
        let failure = AtomicU8::new(ReasonCode::Success.to_u8());
        let shared = Arc::new(SharedCredit { receipt, failure });
        for stream in others {
            put(*stream, message.clone(), Credit::Shared(Arc::clone(&shared)));
        }
        put(*last, message, Credit::Shared(shared));
        None
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.streams.iter_mut().filter_map(|stream| stream.waker.take()).for_each(|waker| wakes.push(waker));
    }

    /// Takes `stream` off the route of `filter`; true when nobody is left there.
    fn detach(&mut self, stream: usize, filter: &TopicFilter) -> bool {
        let Some(streams) = self.routes.get_mut(filter) else { return false };
        streams.retain(|known| *known != stream);
        streams.is_empty() && self.routes.remove(filter).is_some()
    }
}
