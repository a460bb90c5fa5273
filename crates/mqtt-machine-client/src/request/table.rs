//! Owns the requests that are open, and the subscriptions for their answers. It stands behind the one lock, and must not know
//! futures beyond their wakers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::task::{Context, Poll, Waker};

use mqtt_machine::transcript::Recorder;
use mqtt_machine::{
    Codes, Connected, Instant, Message, OpId, Outcome, ReasonCode, Refused, Subscribe, TopicFilter,
};

use super::convention::{Correlation, Place};
use super::{RequestError, RequestOptions};
use crate::router::{Item, Router};
use crate::subscription::subscribe;
use crate::wake::Wakes;

/// Every requester of a client, and every request that has not ended.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Tells these requests from those of another life of this client.
    nonce: u64,
    next: u64,
    requesters: BTreeMap<usize, Requester>,
    open: BTreeMap<u64, Open>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Filters that were subscribed to and are not needed any more.
    unused: Vec<TopicFilter>,
}

#[derive(Debug)]
struct Requester {
    options: RequestOptions,
    standing: Standing,
    /// The stream of the answers.
    stream: Option<usize>,
    open: usize,
    dropped: Dropped,
}

/// Answers that nobody waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// To requests that had ended: by the timeout, by an answer, or because their future was dropped.
    pub late: u64,
    /// To no request of this client's.
    pub unknown: u64,
}

/// Whether answers can arrive.
#[derive(Debug)]
enum Standing {
    /// Nobody knows yet where.
    NotConnected,
    /// As soon as there is room for the SUBSCRIBE.
    Wanted(Place),
    Subscribing(OpId, Place),
    Ready(Place),
    /// Not on this connection.
    Failed(RequestError),
}

#[derive(Debug)]
struct Open {
    requester: usize,
    deadline: Instant,
    waker: Option<Waker>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Waiting,
    Arrived(Item),
    TimedOut,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            nonce: RandomState::new().hash_one(0),
            next: 0,
            requesters: BTreeMap::new(),
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unused: Vec::new(),
        }
    }
}

impl Requests {
    /// One more requester; `connected` is the present connection.
    pub(super) fn add(&mut self, options: RequestOptions, connected: Option<&Connected>) -> usize {
        // The lowest number that is free, so that a client that begins anew takes the same reply topics.
        let index = (0..).find(|index| !self.requesters.contains_key(index)).unwrap_or(usize::MAX);
        let standing =
            connected.map_or(Standing::NotConnected, |connected| wanted(connected, &options, index));
        let requester = Requester { options, standing, stream: None, open: 0, dropped: Dropped::default() };
        self.requesters.insert(index, requester);
        index
    }

    /// Takes a requester out, whose requests have all ended.
    pub(super) fn remove(&mut self, index: usize, router: &mut Router) -> Vec<Item> {
        let Some(requester) = self.requesters.remove(&index) else { return Vec::new() };
        let Some(stream) = requester.stream else { return Vec::new() };
        let (unread, unused) = router.remove(stream);
        self.unused.extend(unused);
        unread.into()
    }

    /// A new request, which ends at the deadline. Its number.
    pub(super) fn open(&mut self, index: usize, now: Instant) -> Result<u64, RequestError> {
        let closed = RequestError::Command(crate::CommandError::Closed);
        let requester = self.requesters.get_mut(&index).ok_or(closed)?;
        if requester.open >= requester.options.open {
            return Err(RequestError::TooMany { open: requester.open });
        }
        requester.open = requester.open.saturating_add(1);
        // The machine's time stands still at its end.
        #[allow(clippy::arithmetic_side_effects, reason = "it saturates")]
        let deadline = now + requester.options.timeout;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, Open { requester: index, deadline, waker: None, answer: Answer::Waiting });
        self.deadlines.insert((deadline, number));
        Ok(number)
    }

    /// Ends a request; what had arrived for it and was not taken comes back.
    pub(super) fn close(&mut self, number: u64) -> Option<Item> {
        let open = self.open.remove(&number)?;
        self.deadlines.remove(&(open.deadline, number));
        if let Some(requester) = self.requesters.get_mut(&open.requester) {
            requester.open = requester.open.saturating_sub(1);
        }
        match open.answer {
            Answer::Arrived(item) => Some(item),
            Answer::Waiting | Answer::TimedOut => None,
        }
    }

    /// The answer to a request, once; ends it.
    pub(super) fn poll_answer(
        &mut self,
        number: u64,
        context: &Context<'_>,
    ) -> Poll<Result<Item, RequestError>> {
        let Some(open) = self.open.get_mut(&number) else { return Poll::Pending };
        if matches!(open.answer, Answer::Waiting) {
            match &mut open.waker {
                Some(known) => known.clone_from(context.waker()),
                None => open.waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let after =
            self.requesters.get(&open.requester).map_or_else(Default::default, |it| it.options.timeout);
        Poll::Ready(self.close(number).ok_or(RequestError::Timeout { after }))
    }

    /// The request as it is to be published, when it is known where its answer goes.
    pub(super) fn address(
        &self,
        index: usize,
        number: u64,
        request: &Message,
    ) -> Poll<Result<Message, RequestError>> {
        let Some(requester) = self.requesters.get(&index) else { return Poll::Pending };
        match &requester.standing {
            Standing::Ready(place) => {
                let correlation = Correlation { nonce: self.nonce, number };
                Poll::Ready(place.address(request.clone(), correlation))
            }
            Standing::Failed(error) => Poll::Ready(Err(error.clone())),
            Standing::NotConnected | Standing::Wanted(_) | Standing::Subscribing(..) => Poll::Pending,
        }
    }

    pub(super) fn dropped(&self, index: usize) -> Dropped {
        self.requesters.get(&index).map_or_else(Dropped::default, |requester| requester.dropped)
    }

    pub(super) fn open_of(&self, index: usize) -> usize {
        self.requesters.get(&index).map_or(0, |requester| requester.open)
    }

    /// When the next request ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A connection has begun: it may have moved the place for answers.
    pub(crate) fn connected(
        &mut self,
        now: Instant,
        connected: &Connected,
        machine: &mut Recorder,
        router: &mut Router,
        wakes: &mut Wakes,
    ) {
        // What came on the last one belongs to the places of that.
        self.collect(now, machine, router, wakes);
        for (index, requester) in &mut self.requesters {
            let next = wanted(connected, &requester.options, *index);
            let same = match (&requester.standing, &next) {
                (Standing::Subscribing(_, old) | Standing::Ready(old), Standing::Wanted(new)) => old == new,
                _ => false,
            };
            if !same {
                requester.standing = next;
                if let Some(stream) = requester.stream.take() {
                    self.unused.extend(router.remove(stream).1);
                }
            }
        }
        self.wake_all(wakes);
    }

    /// A command has ended: perhaps the SUBSCRIBE of a requester.
    pub(crate) fn completed(&mut self, op: OpId, outcome: &Outcome, router: &mut Router, wakes: &mut Wakes) {
        let ours = |requester: &&mut Requester| matches!(&requester.standing, Standing::Subscribing(known, _) if *known == op);
        let Some(requester) = self.requesters.values_mut().find(ours) else { return };
        let Standing::Subscribing(_, place) =
            std::mem::replace(&mut requester.standing, Standing::NotConnected)
        else {
            return;
        };
        requester.standing = match outcome {
            Outcome::Subscribed(codes) if codes.codes.iter().any(|code| code.is_failure()) => {
                requester.refused(codes.clone(), router)
            }
            Outcome::Subscribed(_) => Standing::Ready(place),
            other => Standing::Failed(RequestError::NotSubscribed(other.clone())),
        };
        self.wake_all(wakes);
    }

    /// After a lost session subscriptions were made again, or refused.
    pub(crate) fn resubscribed(
        &mut self,
        codes: &[(TopicFilter, ReasonCode)],
        router: &mut Router,
        wakes: &mut Wakes,
    ) {
        if self.requesters.is_empty() {
            return;
        }
        for (filter, code) in codes.iter().filter(|(_, code)| code.is_failure()) {
            for requester in self.requesters.values_mut() {
                if matches!(&requester.standing, Standing::Ready(place) if place.filter == *filter) {
                    let codes = Codes::new(vec![*code], mqtt_machine::packet::PropertiesBuf::new());
                    requester.standing = requester.refused(codes, router);
                }
            }
        }
        self.wake_all(wakes);
    }

    /// What follows from what has happened: subscribes where answers are to arrive, hands those that have arrived to
    /// their requests, ends the requests that are due. Returns filters that are not used any more.
    #[must_use]
    pub(crate) fn serve(
        &mut self,
        now: Instant,
        machine: &mut Recorder,
        router: &mut Router,
        wakes: &mut Wakes,
    ) -> Vec<TopicFilter> {
        let mut failed = false;
        for requester in self.requesters.values_mut() {
            failed |= !requester.subscribe(now, machine, router);
        }
        if failed {
            self.wake_all(wakes);
        }
        self.collect(now, machine, router, wakes);
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, number));
            if let Some(open) = self.open.get_mut(&number)
                && matches!(open.answer, Answer::Waiting)
            {
                open.answer = Answer::TimedOut;
                open.wake(wakes);
            }
        }
        std::mem::take(&mut self.unused)
    }

    fn collect(&mut self, now: Instant, machine: &mut Recorder, router: &mut Router, wakes: &mut Wakes) {
        for (index, requester) in &mut self.requesters {
            let Some(stream) = requester.stream.and_then(|stream| router.stream(stream)) else { continue };
            while let Some(mut item) = stream.backlog.pop() {
                let own = Correlation::of_answer(&item.message).filter(|it| it.nonce == self.nonce);
                let open =
                    own.and_then(|it| self.open.get_mut(&it.number)).filter(|it| it.requester == *index);
                if let Some(open) = open
                    && matches!(open.answer, Answer::Waiting)
                {
                    open.answer = Answer::Arrived(item);
                    open.wake(wakes);
                    continue;
                }
                if own.is_some_and(|it| it.number < self.next) {
                    requester.dropped.late = requester.dropped.late.saturating_add(1);
                } else {
                    requester.dropped.unknown = requester.dropped.unknown.saturating_add(1);
                }
                if let Some((receipt, reason)) = item.spend(ReasonCode::Success) {
                    machine.settle(now, receipt, reason);
                }
            }
        }
    }

    /// Something has changed for every request.
    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.open.values_mut().for_each(|open| open.wake(wakes));
    }
}

impl Requester {
    /// Subscribes to the answers if that is due. False when it was refused.
    fn subscribe(&mut self, now: Instant, machine: &mut Recorder, router: &mut Router) -> bool {
        let Standing::Wanted(place) = &self.standing else { return true };
        let place = place.clone();
        let request = Subscribe::to(place.filter.clone(), self.options.qos);
        match subscribe(now, request, machine, router) {
            Ok((op, stream)) => {
                self.stream = Some(stream);
                self.standing = Standing::Subscribing(op, place);
                true
            }
            // Another time.
            Err(Refused::Full) => true,
            Err(refused) => {
                self.standing = Standing::Failed(RequestError::Command(refused.into()));
                false
            }
        }
    }

    /// The server does not let answers arrive.
    fn refused(&mut self, codes: Codes, router: &mut Router) -> Standing {
        if let Some(stream) = self.stream.take() {
            // There is nothing to unsubscribe from.
            let _ = router.remove(stream);
        }
        Standing::Failed(RequestError::Rejected(codes))
    }
}

impl Open {
    fn wake(&mut self, wakes: &mut Wakes) {
        if let Some(waker) = self.waker.take() {
            wakes.push(waker);
        }
    }
}

/// Where the answers to a requester are to arrive on this connection.
fn wanted(connected: &Connected, options: &RequestOptions, index: usize) -> Standing {
    match Place::new(connected, &options.prefix, index) {
        Ok(place) => Standing::Wanted(place),
        Err(error) => Standing::Failed(RequestError::Topic(error)),
    }
}
