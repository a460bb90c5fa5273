//! Owns the queue of what waits to be told. It must not know why it is told.

use alloc::collections::VecDeque;

use crate::interface::{Acknowledgement, Completions, Event, Outcome, Receipt};
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::types::OpId;

/// Messages smaller than this are copied out of a read buffer that they would otherwise keep alive.
const DETACH_BELOW: usize = 16 << 10;
/// A queue that has had more events than this gives its memory back when it is empty.
const KEPT: usize = 2_048;

/// How most publications end: nothing more is to be said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plainly {
    /// [`Outcome::Sent`].
    Sent,
    /// [`Outcome::Acknowledged`] with success, and nothing else.
    Acknowledged,
}

impl Plainly {
    /// The way in which this outcome is plain, if it is.
    fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Sent => Some(Self::Sent),
            Outcome::Acknowledged(ack) => {
                let plain = ack.reason == ReasonCode::Success && ack.properties.is_empty();
                (plain && ack.received.is_none()).then_some(Self::Acknowledged)
            }
            _ => None,
        }
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Sent => Outcome::Sent,
            Self::Acknowledged => {
                Outcome::Acknowledged(Acknowledgement::new(ReasonCode::Success, PropertiesBuf::new()))
            }
        }
    }
}

/// Commands of consecutive names that ended in one way, from `next` to `last`.
#[derive(Clone, Debug)]
struct Run {
    next: OpId,
    last: OpId,
    how: Plainly,
    /// The number of the event of the queue that comes behind them.
    before: u64,
}

/// How many commands have names from `first` to `last`.
#[inline]
fn length(first: OpId, last: OpId) -> usize {
    let count = last.to_u64().saturating_sub(first.to_u64()).saturating_add(1);
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Events in the order in which they are told. Completions of which nothing more is to be said than who and how, as most are, take
/// no place in the queue: those that follow each other are one [`Run`].
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<Event>,
    runs: VecDeque<Run>,
    /// The number of the event at the front of the queue.
    front: u64,
    /// How many completions the runs are.
    plain: usize,
    /// How many completions are in the queue.
    other: usize,
    /// How many at the front of the queue hold no view of a read buffer.
    detached: usize,
}

impl Events {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len().saturating_add(self.plain)
    }

    /// How many of those that wait tell how a command ended.
    pub(super) const fn completions(&self) -> usize {
        self.plain.saturating_add(self.other)
    }

    /// The number that the next event of the queue will have.
    fn end(&self) -> u64 {
        self.front.saturating_add(self.queue.len() as u64)
    }

    /// Any event but a completion.
    #[inline]
    pub(super) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// A command has ended.
    pub(super) fn complete(&mut self, op: OpId, outcome: Outcome) {
        match Plainly::of(&outcome) {
            Some(how) => self.complete_plainly(op, how),
            None => {
                self.other = self.other.saturating_add(1);
                self.push(Event::Completed { op, outcome });
            }
        }
    }

    /// A publication has ended, and nothing more is to be said of it.
    #[inline]
    pub(super) fn complete_plainly(&mut self, op: OpId, how: Plainly) {
        self.complete_run(op, op, how);
    }

    /// As [`complete_plainly`](Self::complete_plainly), of every name from `first` to `last`.
    #[inline]
    pub(super) fn complete_run(&mut self, first: OpId, last: OpId, how: Plainly) {
        self.plain = self.plain.saturating_add(length(first, last));
        let before = self.end();
        if let Some(run) = self.runs.back_mut()
            && (run.how, run.before) == (how, before)
            && run.last.to_u64().checked_add(1) == Some(first.to_u64())
        {
            run.last = last;
            return;
        }
        self.runs.push_back(Run { next: first, last, how, before });
    }

    /// The next one.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Event> {
        if let Some(run) = self.runs.front_mut()
            && run.before <= self.front
        {
            let (op, how) = (run.next, run.how);
            run.next = OpId::new(op.to_u64().saturating_add(1));
            if op == run.last {
                self.runs.pop_front();
            }
            self.plain = self.plain.saturating_sub(1);
            return Some(Event::Completed { op, outcome: how.outcome() });
        }
        self.pop_queue()
    }

    /// All of the run that comes next, if one does.
    pub(super) fn pop_run(&mut self) -> Option<Completions> {
        if self.runs.front()?.before > self.front {
            return None;
        }
        let Run { next: first, last, how, .. } = self.runs.pop_front()?;
        self.plain = self.plain.saturating_sub(length(first, last));
        Some(Completions { first, last, outcome: how.outcome() })
    }

    #[inline(never)]
    fn pop_queue(&mut self) -> Option<Event> {
        if matches!(self.queue.front()?, Event::Completed { .. }) {
            self.other = self.other.saturating_sub(1);
        }
        self.front = self.front.saturating_add(1);
        self.detached = self.detached.saturating_sub(1);
        // An event is large, so it is moved once. News of connections is rare, and those are many that have told the first of it and idle.
        if self.queue.len() == 1 && (self.queue.capacity() > KEPT || self.is_news()) {
            return core::mem::take(&mut self.queue).pop_front();
        }
        self.queue.pop_front()
    }

    /// Whether what comes first in the queue is neither a message nor how a command ended.
    fn is_news(&self) -> bool {
        !matches!(self.queue.front(), Some(Event::Message { .. } | Event::Completed { .. }))
    }

    /// The messages that [`pop_messages`](Self::pop_messages) gives.
    pub(super) fn next_messages(&mut self) -> impl Iterator<Item = &mut Event> {
        let ahead = self.runs.front().map_or(u64::MAX, |run| run.before.saturating_sub(self.front));
        let most = usize::try_from(ahead).unwrap_or(usize::MAX);
        self.queue.iter_mut().take(most).take_while(|event| matches!(event, Event::Message { .. }))
    }

    /// Gives the messages that come next to `take`, up to the first event that is none.
    #[inline]
    pub(super) fn pop_messages(&mut self, mut take: impl FnMut(Message, Receipt)) {
        let end = self.runs.front().map_or(u64::MAX, |run| run.before);
        while self.front < end && matches!(self.queue.front(), Some(Event::Message { .. })) {
            let (message, receipt) = match self.queue.pop_front() {
                Some(Event::Message { message, receipt }) => (message, receipt),
                // There is none, as was just seen. To drop it here would cost every message a move.
                Some(event) => return self.queue.push_front(event),
                None => return,
            };
            self.front = self.front.saturating_add(1);
            self.detached = self.detached.saturating_sub(1);
            take(message, receipt);
        }
        if self.queue.is_empty() && self.queue.capacity() > KEPT {
            self.queue = VecDeque::new();
        }
    }

    /// Messages that nobody took since the last call no longer pin their read buffer.
    #[inline]
    pub(super) fn detach(&mut self) {
        if self.detached < self.queue.len() {
            self.detach_rest();
        }
    }

    fn detach_rest(&mut self) {
        for event in self.queue.iter_mut().skip(self.detached) {
            if let Event::Message { message, .. } = event
                && message.payload.len() < DETACH_BELOW
            {
                *message = message.detached();
            }
        }
        self.detached = self.queue.len();
    }

    /// A place in the queue, to [`insert`](Self::insert) before all that comes from now on.
    pub(super) fn mark(&self) -> usize {
        self.queue.len()
    }

    /// Puts news of a connection at a place of [`mark`](Self::mark).
    pub(super) fn insert(&mut self, place: usize, event: Event) {
        let place = place.min(self.queue.len());
        let number = self.front.saturating_add(place as u64);
        for run in self.runs.iter_mut().rev().take_while(|run| run.before > number) {
            run.before = run.before.saturating_add(1);
        }
        self.queue.insert(place, event);
    }

    /// Forgets the oldest news of connections, but for `most`.
    pub(super) fn forget_news(&mut self, most: usize) {
        let is_news = |event: &Event| !matches!(event, Event::Message { .. } | Event::Completed { .. });
        let count = self.queue.iter().filter(|event| is_news(event)).count();
        for _ in most..count {
            let Some(place) = self.queue.iter().position(is_news) else { return };
            let number = self.front.saturating_add(place as u64);
            for run in self.runs.iter_mut().rev().take_while(|run| run.before > number) {
                run.before = run.before.saturating_sub(1);
            }
            self.queue.remove(place);
            self.detached = self.detached.saturating_sub(usize::from(place < self.detached));
        }
    }

    /// Gives back what a burst needed, when nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    pub(super) fn memory_used(&self) -> usize {
        let runs = self.runs.capacity().saturating_mul(size_of::<Run>());
        self.queue.capacity().saturating_mul(size_of::<Event>()).saturating_add(runs)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const fn acknowledged(reason: ReasonCode) -> Outcome {
        Outcome::Acknowledged(Acknowledgement::new(reason, PropertiesBuf::new()))
    }

    fn is_news(event: &Event) -> bool {
        matches!(event, Event::Overrun { .. })
    }

    fn message(number: u64) -> Event {
        let message = Message::to("t", number.to_string()).unwrap();
        let receipt = Receipt { serial: number, bytes: message.cost(), acknowledges: 0, key: None };
        Event::Message { message, receipt }
    }

    proptest! {
        #[test]
        fn events_come_out_as_they_went_in(
            steps in proptest::collection::vec((0_u8..17, 0_u64..3), 0..200),
        ) {
            let mut events = Events::default();
            let mut model = VecDeque::new();
            let mut op = 1;
            for (what, step) in steps {
                op += step;
                let news = Event::Overrun { messages: op };
                match what {
                    0..=7 => {
                        let outcome = match what {
                            0..=3 => Outcome::Sent,
                            4 | 5 => acknowledged(ReasonCode::Success),
                            6 => acknowledged(ReasonCode::NoMatchingSubscribers),
                            _ => Outcome::Expired,
                        };
                        events.complete(OpId::new(op), outcome.clone());
                        model.push_back(Event::Completed { op: OpId::new(op), outcome });
                    }
                    8 => {
                        let (place, number) = (events.mark(), model.len());
                        events.push(news.clone());
                        model.push_back(news.clone());
                        events.insert(place, news.clone());
                        model.insert(number, news);
                    }
                    9 => {
                        events.forget_news(2);
                        while model.iter().filter(|event| is_news(event)).count() > 2 {
                            let place = model.iter().position(is_news).unwrap();
                            model.remove(place);
                        }
                    }
                    10 | 11 => prop_assert_eq!(events.pop(), model.pop_front()),
                    12 | 13 => {
                        events.push(message(op));
                        model.push_back(message(op));
                    }
                    14 => {
                        let announced: Vec<Event> = events.next_messages().map(|event| event.clone()).collect();
                        let mut taken = Vec::new();
                        events.pop_messages(|message, receipt| taken.push(Event::Message { message, receipt }));
                        prop_assert_eq!(&announced, &taken);
                        for told in taken {
                            prop_assert_eq!(Some(told), model.pop_front());
                        }
                        let is_message = matches!(model.front(), Some(Event::Message { .. }));
                        prop_assert!(!is_message);
                    }
                    _ => {
                        let run = events.pop_run();
                        let next_is_plain = matches!(
                            model.front(),
                            Some(Event::Completed { outcome, .. }) if Plainly::of(outcome).is_some()
                        );
                        prop_assert_eq!(run.is_some(), next_is_plain);
                        if let Some(run) = run {
                            for op in run.ops() {
                                let told = Event::Completed { op, outcome: run.outcome.clone() };
                                prop_assert_eq!(Some(told), model.pop_front());
                            }
                        }
                    }
                }
                let completions = model.iter().filter(|event| matches!(event, Event::Completed { .. })).count();
                prop_assert_eq!((events.len(), events.completions()), (model.len(), completions));
            }
            while let Some(event) = model.pop_front() {
                prop_assert_eq!(events.pop(), Some(event));
            }
            prop_assert_eq!((events.pop(), events.len(), events.completions()), (None, 0, 0));
        }
    }

    #[test]
    fn completions_that_follow_each_other_take_the_room_of_one() {
        let mut events = Events::default();
        for op in 1..=10_000 {
            events.complete(OpId::new(op), Outcome::Sent);
        }
        assert_eq!((events.len(), events.runs.len(), events.queue.len()), (10_000, 1, 0));
    }
}
