//! Owns the queue of what waits to be told. It must not know why it is told.

use alloc::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::interface::{Acknowledgement, Completions, Event, Outcome, Receipt};
use crate::journal::DeliveryKey;
use crate::message::Message;
use crate::packet::PropertiesBuf;
use crate::reason::ReasonCode;
use crate::types::{OpId, Priority, QoS, TopicName};

use super::inbound::part;

/// Messages smaller than this, on the average of those that were read together, are copied out of a read buffer that they would otherwise
/// keep alive.
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

/// How many commands have names from `first` to `last`.
#[inline]
fn length(first: OpId, last: OpId) -> usize {
    let count = last.to_u64().saturating_sub(first.to_u64()).saturating_add(1);
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A message that has arrived without properties, under a topic name: where it stands among the bytes that were read with it. It is made
/// when it is told.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// Where its topic begins, and how long that is.
    pub(super) topic: (usize, usize),
    /// The length of its payload, which stands at the end of the frame, and where that is.
    pub(super) payload: usize,
    pub(super) end: usize,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    /// Of QoS 1 and 2: how its delivery is named, and its number.
    pub(super) key: Option<DeliveryKey>,
    pub(super) serial: u64,
}

impl Arrival {
    #[inline]
    fn message(self, mut bytes: Bytes) -> (Message, Receipt) {
        let Self { topic: (start, length), payload, end, qos, retain, dup, key, serial } = self;
        let topic = TopicName::from_validated(part(&bytes, (start, start.saturating_add(length))));
        let cost = Message::cost_of(length, payload);
        bytes.truncate(end);
        bytes.advance(bytes.len().saturating_sub(payload));
        let (priority, properties) = (Priority::Normal, PropertiesBuf::new());
        let message = Message { topic, payload: bytes, qos, retain, dup, priority, properties };
        (message, Receipt { serial, bytes: cost, acknowledges: key.is_some().into(), key })
    }
}

/// Events of one kind that are told one after another.
#[derive(Clone, Debug)]
enum Run {
    /// Commands of consecutive names that ended in one way, from `next` to `last`.
    Ended { next: OpId, last: OpId, how: Plainly },
    /// So many of the arrivals, which were read together.
    Arrived { count: usize, bytes: Bytes },
    /// So many of the others.
    Others(usize),
}

/// Events in the order in which they are told, each kind in a queue of its own that takes as little room as it can. Completions of which
/// nothing more is to be said than who and how, as most are, take none: those that follow each other are one [`Run`].
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    /// What comes after what. No run is empty.
    runs: VecDeque<Run>,
    arrivals: VecDeque<Arrival>,
    others: VecDeque<Event>,
    /// How many completions the runs are.
    plain: usize,
    /// How many completions are among the others.
    completed: usize,
    /// How many arrivals, and how many of the others, at the front of their queues hold no view of a read buffer.
    detached: (usize, usize),
}

impl Events {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.arrivals.len().saturating_add(self.others.len()).saturating_add(self.plain)
    }

    /// How many of those that wait tell how a command ended.
    pub(super) const fn completions(&self) -> usize {
        self.plain.saturating_add(self.completed)
    }

    /// A message has arrived, as the next of those that are to be [told](Self::arrived) before anything else.
    #[inline]
    pub(super) fn arrives(&mut self, arrival: Arrival) {
        self.arrivals.push_back(arrival);
    }

    /// The newest arrivals, so many, stand in these bytes.
    pub(super) fn arrived(&mut self, count: usize, bytes: Bytes) {
        if count > 0 {
            self.runs.push_back(Run::Arrived { count, bytes });
        }
    }

    /// Any event but a completion.
    pub(super) fn push(&mut self, event: Event) {
        self.others.push_back(event);
        match self.runs.back_mut() {
            Some(Run::Others(count)) => *count = count.saturating_add(1),
            _ => self.runs.push_back(Run::Others(1)),
        }
    }

    /// A command has ended.
    pub(super) fn complete(&mut self, op: OpId, outcome: Outcome) {
        match Plainly::of(&outcome) {
            Some(how) => self.complete_plainly(op, how),
            None => {
                self.completed = self.completed.saturating_add(1);
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
        if let Some(Run::Ended { last: before, how: known, .. }) = self.runs.back_mut()
            && *known == how
            && before.to_u64().checked_add(1) == Some(first.to_u64())
        {
            *before = last;
            return;
        }
        self.runs.push_back(Run::Ended { next: first, last, how });
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Event> {
        match self.runs.front_mut()? {
            Run::Ended { next, last, how } => {
                let (op, how, is_last) = (*next, *how, *next == *last);
                *next = OpId::new(op.to_u64().saturating_add(1));
                if is_last {
                    self.runs.pop_front();
                }
                self.plain = self.plain.saturating_sub(1);
                Some(Event::Completed { op, outcome: how.outcome() })
            }
            Run::Arrived { count, bytes } => {
                let arrival = self.arrivals.pop_front()?;
                *count = count.saturating_sub(1);
                // The last has the bytes to itself.
                let bytes = if *count == 0 { core::mem::take(bytes) } else { bytes.clone() };
                if *count == 0 {
                    self.runs.pop_front();
                    self.shrink_arrivals();
                }
                let (message, receipt) = arrival.message(bytes);
                self.detached.0 = self.detached.0.saturating_sub(1);
                Some(Event::Message { message, receipt })
            }
            Run::Others(_) => self.pop_other(),
        }
    }

    /// All of the run that comes next, if one does.
    pub(super) fn pop_run(&mut self) -> Option<Completions> {
        let Some(Run::Ended { .. }) = self.runs.front() else { return None };
        let Some(Run::Ended { next: first, last, how }) = self.runs.pop_front() else { return None };
        self.plain = self.plain.saturating_sub(length(first, last));
        Some(Completions { first, last, outcome: how.outcome() })
    }

    fn shrink_arrivals(&mut self) {
        if self.arrivals.is_empty() && self.arrivals.capacity() > KEPT {
            self.arrivals = VecDeque::new();
        }
    }

    fn pop_other(&mut self) -> Option<Event> {
        if let Some(Run::Others(count)) = self.runs.front_mut() {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.runs.pop_front();
            }
        }
        self.detached.1 = self.detached.1.saturating_sub(1);
        let is_news = match self.others.front()? {
            Event::Completed { .. } => {
                self.completed = self.completed.saturating_sub(1);
                false
            }
            Event::Message { .. } => false,
            _ => true,
        };
        // An event is large, so it is moved once. News of connections is rare, and those are many that have told the first of it and idle.
        if self.others.len() == 1 && (self.others.capacity() > KEPT || is_news) {
            return core::mem::take(&mut self.others).pop_front();
        }
        self.others.pop_front()
    }

    /// Shows the messages that [`pop_messages`](Self::pop_messages) gives.
    pub(super) fn show_messages(&self, mut show: impl FnMut(&Event)) {
        let (mut arrivals, mut others) = (self.arrivals.iter(), self.others.iter());
        for run in &self.runs {
            match run {
                Run::Ended { .. } => return,
                Run::Arrived { count, bytes } => {
                    for arrival in arrivals.by_ref().take(*count) {
                        let (message, receipt) = arrival.clone().message(bytes.clone());
                        show(&Event::Message { message, receipt });
                    }
                }
                Run::Others(count) => {
                    for event in others.by_ref().take(*count) {
                        if !matches!(event, Event::Message { .. }) {
                            return;
                        }
                        show(event);
                    }
                }
            }
        }
    }

    /// Gives the messages that come next to `take`, up to the first event that is none.
    #[inline]
    pub(super) fn pop_messages(&mut self, mut take: impl FnMut(Message, Receipt)) {
        loop {
            match self.runs.front() {
                Some(Run::Arrived { .. }) => {
                    let Some(Run::Arrived { count, bytes }) = self.runs.pop_front() else { return };
                    self.detached.0 = self.detached.0.saturating_sub(count);
                    for arrival in self.arrivals.drain(..count.min(self.arrivals.len())) {
                        let (message, receipt) = arrival.message(bytes.clone());
                        take(message, receipt);
                    }
                    self.shrink_arrivals();
                }
                Some(Run::Others(_)) if matches!(self.others.front(), Some(Event::Message { .. })) => {
                    if let Some(Event::Message { message, receipt }) = self.pop_other() {
                        take(message, receipt);
                    }
                }
                _ => return,
            }
        }
    }

    /// Messages that nobody took since the last call no longer pin their read buffer.
    #[inline]
    pub(super) fn detach(&mut self) {
        if self.detached != (self.arrivals.len(), self.others.len()) {
            self.detach_rest();
        }
    }

    fn detach_rest(&mut self) {
        let mut rest = self.arrivals.len().saturating_sub(self.detached.0);
        for run in self.runs.iter_mut().rev() {
            let Run::Arrived { count, bytes } = run else { continue };
            if rest == 0 {
                break;
            }
            rest = rest.saturating_sub(*count);
            if bytes.len() < DETACH_BELOW.saturating_mul(*count) {
                *bytes = Bytes::copy_from_slice(bytes);
            }
        }
        for event in self.others.iter_mut().skip(self.detached.1) {
            if let Event::Message { message, .. } = event
                && message.payload.len() < DETACH_BELOW
            {
                *message = message.detached();
            }
        }
        self.detached = (self.arrivals.len(), self.others.len());
    }

    /// A place among the others, to [`insert`](Self::insert) before those that come from now on.
    pub(super) fn mark(&self) -> usize {
        self.others.len()
    }

    /// Puts news of a connection at a place of [`mark`](Self::mark), before news that have come since. Nothing else has.
    pub(super) fn insert(&mut self, place: usize, event: Event) {
        if place >= self.others.len() {
            return self.push(event);
        }
        self.others.insert(place, event);
        if let Some(Run::Others(count)) = self.runs.back_mut() {
            *count = count.saturating_add(1);
        }
    }

    /// Forgets the oldest news of connections, but for `most`.
    pub(super) fn forget_news(&mut self, most: usize) {
        let is_news = |event: &Event| !matches!(event, Event::Message { .. } | Event::Completed { .. });
        let count = self.others.iter().filter(|event| is_news(event)).count();
        for _ in most..count {
            let Some(place) = self.others.iter().position(is_news) else { return };
            self.others.remove(place);
            self.detached.1 = self.detached.1.saturating_sub(usize::from(place < self.detached.1));
            let mut behind = place;
            for run in &mut self.runs {
                let Run::Others(count) = run else { continue };
                if behind < *count {
                    *count = count.saturating_sub(1);
                    break;
                }
                behind = behind.saturating_sub(*count);
            }
            self.runs.retain(|run| !matches!(run, Run::Others(0)));
        }
    }

    /// Gives back what a burst needed, when nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.runs.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn memory_used(&self) -> usize {
        let runs = self.runs.capacity().saturating_mul(size_of::<Run>());
        let arrivals = self.arrivals.capacity().saturating_mul(size_of::<Arrival>());
        let others = self.others.capacity().saturating_mul(size_of::<Event>());
        runs.saturating_add(arrivals).saturating_add(others)
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

    /// So many arrivals of consecutive numbers.
    fn arrive(events: &mut Events, number: u64, count: u64) {
        let mut bytes = Vec::new();
        for serial in number..number + count {
            let payload = serial.to_string();
            let topic = (bytes.len() + 3, 1);
            bytes.extend_from_slice(b"...t..");
            bytes.extend_from_slice(payload.as_bytes());
            let (qos, retain, dup) = (QoS::AtMostOnce, false, false);
            let (payload, end) = (payload.len(), bytes.len());
            events.arrives(Arrival { topic, payload, end, qos, retain, dup, key: None, serial });
        }
        events.arrived(count as usize, bytes.into());
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
                        if what == 12 {
                            events.push(message(op));
                            model.push_back(message(op));
                        } else {
                            arrive(&mut events, op, step);
                            model.extend((op..op + step).map(message));
                        }
                        if step == 0 {
                            events.detach();
                        }
                    }
                    14 => {
                        let mut announced = Vec::new();
                        events.show_messages(|event| announced.push(event.clone()));
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
        assert_eq!((events.len(), events.runs.len(), events.others.len()), (10_000, 1, 0));
    }
}
