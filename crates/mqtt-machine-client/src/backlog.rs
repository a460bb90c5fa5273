//! Owns how many messages wait for the reader of one stream, and which go when there are more. It must not know who reads, nor how
//! messages find the stream.

use std::collections::VecDeque;

use mqtt_machine::{Message, ReasonCode, Receipt};

use crate::router::Item;

/// What becomes of a message for which a [`StreamLimit`] leaves no room. Whatever goes is given back at once: the server gets its
/// acknowledgement (QoS 1 and 2), the inbound budget its bytes, and [`Subscription::dropped`](crate::Subscription::dropped) counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// The oldest that wait go, until there is room.
    #[default]
    DropOldest,
    /// The new one goes.
    DropNewest,
    /// The new one takes the place of the one that waits under its topic; where none does, the oldest go. So the last value of each
    /// topic is kept. The one before goes whether there is room or not. Finding it takes a look at all that wait.
    LastValue,
    /// The new one goes, and the server is told "quota exceeded" (QoS 1 and 2 in 5.0); 3.x acknowledges.
    Reject,
}

/// How much may wait for the reader of one stream. Without a limit everything does, within the inbound budget
/// ([`Limits::incoming_bytes`](mqtt_machine::Limits)), and at its bound the server is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamLimit {
    /// How many messages.
    pub messages: usize,
    /// How many bytes, counted as [`Message::cost`] does. A message that is larger goes under every policy.
    pub bytes: usize,
    /// What becomes of more.
    pub when_full: WhenFull,
}

impl StreamLimit {
    /// So many messages, of any size.
    pub const fn messages(messages: usize) -> Self {
        Self { messages, bytes: usize::MAX, when_full: WhenFull::DropOldest }
    }

    /// And at most so many bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// With this policy for what finds no room.
    #[must_use]
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }
}

/// What has to be given back.
pub(crate) type Spent = Vec<(Receipt, ReasonCode)>;

/// The messages that wait for the reader of one stream.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    queue: VecDeque<Item>,
    limit: Option<StreamLimit>,
    /// Their bytes; counted only where there is a limit.
    bytes: usize,
    dropped: u64,
}

impl Backlog {
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Heap bytes of the queue, without the messages in it: those stand in the inbound budget.
    pub(crate) fn memory_used(&self) -> usize {
        let messages = self.queue.len().saturating_mul(size_of::<Message>());
        self.queue.capacity().saturating_mul(size_of::<Item>()).saturating_sub(messages)
    }

    /// All that wait, for the reader.
    pub(crate) fn swap(&mut self, empty: &mut VecDeque<Item>) {
        std::mem::swap(&mut self.queue, empty);
        self.bytes = 0;
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(Message::cost(&item.message));
        Some(item)
    }

    pub(crate) fn into_queue(self) -> VecDeque<Item> {
        self.queue
    }

    /// This limit holds from now on, also for what waits.
    pub(crate) fn limit(&mut self, limit: StreamLimit, spent: &mut Spent) {
        self.limit = Some(limit);
        for item in std::mem::take(&mut self.queue) {
            self.push(item, spent);
        }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, item: Item, spent: &mut Spent) {
        match self.limit {
            None => self.queue.push_back(item),
            Some(limit) => self.push_within(limit, item, spent),
        }
    }

    #[inline(never)]
    fn push_within(&mut self, limit: StreamLimit, item: Item, spent: &mut Spent) {
        if self.queue.is_empty() {
            // The reader takes all at once.
            self.bytes = 0;
        }
        let cost = item.message.cost();
        if limit.when_full == WhenFull::LastValue
            && let Some(place) = self.queue.iter().position(|it| it.message.topic == item.message.topic)
            && let Some(old) = self.queue.get_mut(place)
        {
            let before = std::mem::replace(old, item);
            self.bytes = self.bytes.saturating_sub(before.message.cost()).saturating_add(cost);
            self.drop(before, ReasonCode::Success, spent);
            return self.shorten(limit, spent);
        }
        let fits = |queue: &VecDeque<Item>, bytes: usize| {
            queue.len() < limit.messages && bytes.saturating_add(cost) <= limit.bytes
        };
        let never = limit.messages == 0 || cost > limit.bytes;
        match limit.when_full {
            _ if fits(&self.queue, self.bytes) => {}
            WhenFull::DropNewest => return self.drop(item, ReasonCode::Success, spent),
            WhenFull::Reject => return self.drop(item, ReasonCode::QuotaExceeded, spent),
            _ if never => return self.drop(item, ReasonCode::Success, spent),
            WhenFull::DropOldest | WhenFull::LastValue => {
                while !fits(&self.queue, self.bytes) && self.drop_oldest(spent) {}
            }
        }
        self.bytes = self.bytes.saturating_add(cost);
        self.queue.push_back(item);
    }

    /// A value may be larger than the one whose place it took.
    fn shorten(&mut self, limit: StreamLimit, spent: &mut Spent) {
        while (self.queue.len() > limit.messages || self.bytes > limit.bytes) && self.drop_oldest(spent) {}
    }

    fn drop_oldest(&mut self, spent: &mut Spent) -> bool {
        let Some(oldest) = self.queue.pop_front() else { return false };
        self.bytes = self.bytes.saturating_sub(Message::cost(&oldest.message));
        self.drop(oldest, ReasonCode::Success, spent);
        true
    }

    fn drop(&mut self, mut item: Item, reason: ReasonCode, spent: &mut Spent) {
        self.dropped = self.dropped.saturating_add(1);
        spent.extend(item.spend(reason));
    }
}
