//! Owns the one lock and what stands behind it: the machine, and where its events go.
//! It must not know sockets, nor run anything slow under the lock: tasks are woken once it is released.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::Buf;
use mqtt_machine::transcript::{Recorder, Recording};
use mqtt_machine::{
    Completions, Connected, Disconnect, EndReason, Ended, Event, Instant, JournalSeq, Message, OpId, Outcome,
    Output, ReasonCode, Receipt, Refused, TopicFilter, TransportId, Unsubscribe,
};

use crate::authenticate::Method;
use crate::clock::Clock;
use crate::error::CommandError;
use crate::events::{ClientEvent, Feed};
use crate::options::{Options, for_handle};
use crate::outcomes::{OpMap, Outcomes};
use crate::prepare::Prepare;
use crate::rarely::Rarely;
use crate::reauthenticate::{Reauthentication, ReauthenticationError};
use crate::request::Requests;
use crate::router::Router;
use crate::slab::Slab;
use crate::socket::SocketOptions;
use crate::store::{News, Session, StoreError};
use crate::threads::Helm;
use crate::transport::TransportError;
use crate::wake::{WaitList, Wakes};

/// What handles, streams and the driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) connect_deadline: Duration,
    asked: Option<Box<Asked>>,
    /// `None`: the defaults.
    pub(crate) socket: Option<Box<SocketOptions>>,
    /// There is a store.
    pub(crate) durable: bool,
    /// Who lets the threads that call drive.
    pub(crate) helm: OnceLock<Box<Weak<dyn Helm>>>,
}

/// Code of the user's that is asked; most clients have none.
#[derive(Debug)]
struct Asked {
    method: Option<Method>,
    prepare: Option<Prepare>,
}

/// Why the last attempt failed or the last connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: EndReason,
    /// What failed of the transport, if that was it.
    pub(crate) cause: Option<Box<TransportError>>,
}

impl From<EndReason> for Box<Failure> {
    fn from(reason: EndReason) -> Self {
        Self::new(Failure { reason, cause: None })
    }
}

/// How many bytes are accepted before a publisher lets the driver have a turn. A publisher that never waits would
/// otherwise keep a driver on its own thread from sending anything until the queue is full.
pub(crate) const BURST: usize = 64 << 10;

/// The memory of what streams had no room for that is kept, in receipts.
const KEPT_SPENT: usize = 64;

/// How good a time must be that the machine is told. The clock costs as much as a whole message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clocked {
    /// The machine dates what is done.
    Now,
    /// It does not, but goes on by this time: whoever wakes the driver looks at the clock, and for those who come before its next
    /// turn it stands still.
    Turn,
    /// Nothing depends on it.
    Never,
}

/// Where the client stands, as far as handles need to know.
#[derive(Debug)]
pub(crate) enum Phase {
    /// There is no connection, and one is being made or will be; with the reason why the last one failed or ended.
    Connecting(Option<Box<Failure>>),
    Connected(Box<Connected>),
    /// There is no connection, and none will be made unless the user asks for one.
    GaveUp(Box<Failure>),
    /// The client has ended.
    Closed,
}

impl Phase {
    /// What failed of the store, if that is why the client gave up.
    pub(crate) fn store_error(&self) -> Option<&mqtt_machine::StoreError> {
        match self {
            Self::GaveUp(failure) => match &failure.reason {
                EndReason::Store(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Recorder,
    /// The time at the last look at the clock.
    seen: Instant,
    pub(crate) phase: Phase,
    /// Waits for the phase to change.
    pub(crate) phase_waiters: WaitList,
    /// The driver's, until it is woken.
    pub(crate) driver: Option<Waker>,
    /// The driver does not read until the machine takes input again.
    pub(crate) reads_blocked: bool,
    /// The driver does not read until the readers come whom it has woken.
    pub(crate) waits_for_readers: bool,
    /// A connection has just been made, or a deadline has come: what that needed can go at the next turn.
    pub(crate) settles: bool,
    /// Publications that wait for room.
    pub(crate) room: WaitList,
    /// Bytes accepted since the driver had its turn.
    pub(crate) burst: usize,
    /// Publications go into `ahead` at once: there is a connection, and what the machine wrote before has left.
    pub(crate) direct: bool,
    /// What handles wrote since the driver had its turn. It is of the present transport, or of none.
    pub(crate) ahead: Output,
    pub(crate) router: Rarely<Router>,
    pub(crate) requests: Rarely<Requests>,
    pub(crate) feeds: Rarely<Slab<Feed>>,
    pub(crate) closing: Option<OpId>,
    pub(crate) unrouted: u64,
    pub(crate) outcomes: Outcomes,
    /// Filters that no stream uses, whose UNSUBSCRIBE found no room.
    unused: Rarely<Vec<TopicFilter>>,
    /// The user wants to authenticate again, and the driver does not know it yet.
    pub(crate) reauthenticate: bool,
    pub(crate) reauthentication: Rarely<Reauthentication>,
    /// What failed of a transport whose end the machine was told and has not told yet.
    pub(crate) cause: Option<(TransportId, Box<TransportError>)>,
    /// Names for outcomes that several wait for: the machine's own never come so far.
    tickets: u64,
    /// Who else waits for the outcome of an operation.
    joined: Rarely<OpMap<Vec<OpId>>>,
    /// The newest record that is durable.
    pub(crate) kept: JournalSeq,
    pub(crate) kept_waiters: WaitList,
}

impl Shared {
    /// # Errors
    /// The records of `session` are none.
    pub(crate) fn new(
        options: Options,
        recording: Option<Recording>,
        session: Option<Session>,
    ) -> Result<Self, StoreError> {
        let clock = Clock::new();
        let seed = options.seed_or_random();
        let asks = options.prepare.is_some();
        let durable = session.is_some();
        let config = Arc::new(for_handle(options.config, options.method.as_ref(), asks, durable));
        let now = clock.now();
        let machine = match session {
            Some(Session { records, away }) if !records.is_empty() => {
                Recorder::restore(config, seed, now, away, records, recording).map_err(StoreError::Session)?
            }
            _ => Recorder::new(config, seed, now, recording),
        };
        let state = State {
            machine,
            seen: now,
            phase: Phase::Connecting(None),
            phase_waiters: WaitList::default(),
            driver: None,
            reads_blocked: false,
            waits_for_readers: false,
            settles: false,
            room: WaitList::default(),
            burst: 0,
            direct: false,
            ahead: Output::new(),
            router: Rarely::default(),
            requests: Rarely::default(),
            feeds: Rarely::default(),
            closing: None,
            unrouted: 0,
            outcomes: Outcomes::default(),
            unused: Rarely::default(),
            reauthenticate: false,
            reauthentication: Rarely::default(),
            cause: None,
            tickets: 0,
            joined: Rarely::default(),
            kept: JournalSeq::ZERO,
            kept_waiters: WaitList::default(),
        };
        Ok(Self {
            state: Mutex::new(state),
            clock,
            connect_deadline: options.connect_deadline,
            asked: (options.method.is_some() || asks)
                .then(|| Box::new(Asked { method: options.method, prepare: options.prepare })),
            socket: (options.socket != SocketOptions::DEFAULT).then(|| Box::new(options.socket)),
            durable,
            helm: OnceLock::new(),
        })
    }

    /// A panic elsewhere does not take the client down with it: the machine itself never panics.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` under the lock, then wakes whom it collected.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State, Instant, &mut Wakes) -> R) -> R {
        self.with_clock(Clocked::Now, f)
    }

    /// As [`with`](Self::with), where the time need not be the present one.
    pub(crate) fn with_clock<R>(
        &self,
        clocked: Clocked,
        f: impl FnOnce(&mut State, Instant, &mut Wakes) -> R,
    ) -> R {
        self.with_locked(self.lock(), clocked, Self::wake, f)
    }

    /// As [`with_clock`](Self::with_clock), for who has the lock already, and sees by `finish` to whom `f` collected.
    #[inline]
    pub(crate) fn with_locked<R>(
        &self,
        mut locked: MutexGuard<'_, State>,
        clocked: Clocked,
        finish: fn(&Self, Wakes),
        f: impl FnOnce(&mut State, Instant, &mut Wakes) -> R,
    ) -> R {
        let mut wakes = Wakes::default();
        let result = {
            let state = &mut *locked;
            let looks = match clocked {
                Clocked::Now => true,
                Clocked::Turn => state.driver.is_some(),
                Clocked::Never => false,
            };
            // The end of a pause in reading has a date.
            if looks || state.reads_blocked {
                state.see(self.clock.now());
            }
            f(state, state.seen, &mut wakes)
        };
        drop(locked);
        finish(self, wakes);
        result
    }

    /// Wakes everybody.
    #[inline]
    pub(crate) fn wake(&self, wakes: Wakes) {
        wakes.finish();
    }

    /// How the client authenticates.
    pub(crate) fn method(&self) -> Option<&Method> {
        self.asked.as_ref()?.method.as_ref()
    }

    /// Who prepares attempts.
    pub(crate) fn prepare(&self) -> Option<&Prepare> {
        self.asked.as_ref()?.prepare.as_ref()
    }
}

impl State {
    /// The time that the machine is told, which never goes back: another thread may have looked at the clock later and been first here.
    pub(crate) fn see(&mut self, now: Instant) -> Instant {
        self.seen = self.seen.max(now);
        self.seen
    }

    /// Gives back what nothing stands in.
    pub(crate) fn shrink(&mut self) {
        self.outcomes.shrink();
        if !self.ahead.has_remaining() {
            self.ahead = Output::new();
        }
        for waiters in [&mut self.phase_waiters, &mut self.room, &mut self.kept_waiters] {
            waiters.shrink();
        }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Why the last attempt or connection ended.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        match &self.phase {
            Phase::Connecting(failure) => failure.as_deref().cloned(),
            Phase::GaveUp(failure) => Some((**failure).clone()),
            Phase::Connected(_) | Phase::Closed => None,
        }
    }

    /// Whether no message can arrive unless the user asks for a connection.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::GaveUp(_))
    }

    /// Runs a command of the machine's and lets the driver see to it.
    pub(crate) fn command<R>(
        &mut self,
        wakes: &mut Wakes,
        command: impl FnOnce(&mut Recorder) -> Result<R, Refused>,
    ) -> Result<R, CommandError> {
        if self.is_closed() {
            return Err(CommandError::Closed);
        }
        let result = command(&mut self.machine)?;
        self.wake_driver(wakes);
        Ok(result)
    }

    /// As [`command`](Self::command), for one that makes a stream.
    pub(crate) fn routed_command<R>(
        &mut self,
        wakes: &mut Wakes,
        command: impl FnOnce(&mut Recorder, &mut Router) -> Result<R, Refused>,
    ) -> Result<R, CommandError> {
        if self.is_closed() {
            return Err(CommandError::Closed);
        }
        let result = command(&mut self.machine, self.router.make())?;
        self.wake_driver(wakes);
        Ok(result)
    }

    /// Whether there is no more to do for a message than to [give it to the machine](Self::publish_ahead): nobody is in line, and the
    /// driver is about to have its turn.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.direct
            && self.driver.is_none()
            && self.room.is_empty()
            && self.burst < BURST
            && !self.reads_blocked
    }

    /// Whether it [is open](Self::is_open), and the machine surely takes this message.
    #[inline(always)]
    pub(crate) fn is_clear_for(&mut self, message: &Message) -> bool {
        self.is_open() && self.machine.is_clear_for(message, &self.ahead)
    }

    /// Publishes a message while it [is open](Self::is_open).
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with nothing changed.
    #[inline(always)]
    pub(crate) fn publish_ahead(
        &mut self,
        message: impl Borrow<Message> + Into<Message>,
    ) -> Result<OpId, Refused> {
        let cost = message.borrow().cost();
        let op = self.machine.publish_into(self.seen, message, &mut self.ahead)?;
        self.burst = self.burst.saturating_add(cost);
        Ok(op)
    }

    /// Publishes, as [`command`](Self::command) does: into the output at once while nothing stands before it.
    #[inline(never)]
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        message: impl Borrow<Message> + Into<Message>,
        wakes: &mut Wakes,
    ) -> Result<OpId, CommandError> {
        if self.is_closed() {
            return Err(CommandError::Closed);
        }
        let op = if self.direct {
            self.machine.publish_into(now, message, &mut self.ahead)?
        } else {
            self.machine.publish(now, message.into())?
        };
        self.wake_driver(wakes);
        Ok(op)
    }

    pub(crate) fn wake_driver(&mut self, wakes: &mut Wakes) {
        wakes.push_driver(self.driver.take());
    }

    /// Gives a receipt back.
    pub(crate) fn settle(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode, wakes: &mut Wakes) {
        let acknowledges = receipt.acknowledges();
        self.machine.settle(now, receipt, reason);
        self.settled(acknowledges, wakes);
    }

    /// Receipts were given back to the machine, of messages that it acknowledges or not.
    pub(crate) fn settled(&mut self, acknowledges: bool, wakes: &mut Wakes) {
        if acknowledges || (self.reads_blocked && self.machine.read_capacity() > 0) {
            self.wake_driver(wakes);
        }
    }

    /// Gives back what streams had no room for.
    pub(crate) fn settle_spent(&mut self, now: Instant, wakes: &mut Wakes) {
        let Some(spent) = self.router.get_mut().map(Router::spent).filter(|spent| !spent.is_empty()) else {
            return;
        };
        let mut spent = std::mem::take(spent);
        for (receipt, reason) in spent.drain(..) {
            self.settle(now, receipt, reason, wakes);
        }
        if spent.capacity() <= KEPT_SPENT {
            *self.router.make().spent() = spent;
        }
    }

    /// Gives every message that comes next to the streams that it is for.
    fn route_messages(&mut self, now: Instant, wakes: &mut Wakes) {
        let Self { machine, router, unrouted, .. } = self;
        let mut unasked = |router: &mut Router, receipt| {
            *unrouted = unrouted.saturating_add(1);
            router.spent().push((receipt, ReasonCode::Success));
        };
        match router.get_mut() {
            Some(router) => machine.poll_messages(|message, receipt| {
                if let Some(receipt) = router.route(message, receipt, wakes) {
                    unasked(router, receipt);
                }
            }),
            // Nobody has asked for any.
            None => machine.poll_messages(|_, receipt| unasked(router.make(), receipt)),
        }
        self.settle_spent(now, wakes);
    }

    fn ticket(&mut self) -> OpId {
        self.tickets = self.tickets.wrapping_add(1);
        OpId::new(u64::MAX.wrapping_sub(self.tickets))
    }

    /// Another one who asks for the outcome of `op`, which has not ended: a name to ask by.
    pub(crate) fn join(&mut self, op: OpId) -> OpId {
        let ticket = self.ticket();
        self.joined.make().entry(op).or_default().push(ticket);
        self.outcomes.expect(ticket);
        ticket
    }

    /// An outcome that is known already: a name to ask by.
    pub(crate) fn known(&mut self, outcome: Outcome) -> OpId {
        let ticket = self.ticket();
        self.outcomes.insert_ended(ticket, outcome);
        ticket
    }

    /// What the store has done.
    pub(crate) fn store_news(&mut self, now: Instant, news: News, wakes: &mut Wakes) {
        match news {
            News::Durable(upto, kept) => {
                self.kept = kept;
                self.machine.handle_stored(now, Ok(upto));
            }
            News::Failed(error) => {
                let error = mqtt_machine::StoreError(error.to_string());
                self.machine.handle_stored(now, Err(error.clone()));
                if self.machine.is_idle() && !self.is_over() {
                    // Between two attempts there is no end of one that would tell.
                    self.enter(Phase::GaveUp(EndReason::Store(error).into()), wakes);
                    self.room.wake_all(wakes);
                }
            }
        }
        self.kept_waiters.wake_all(wakes);
    }

    /// Takes every event out of the machine to where it belongs.
    pub(crate) fn dispatch(&mut self, now: Instant, clock: &Clock, wakes: &mut Wakes) {
        let mut completed = false;
        loop {
            if let Some(ended) = self.machine.poll_completions() {
                completed = true;
                self.complete_all(&ended, wakes);
                continue;
            }
            self.route_messages(now, wakes);
            let Some(event) = self.machine.poll_event() else { break };
            match event {
                Event::Completed { op, outcome } => {
                    completed = true;
                    if let Some(router) = self.router.get_mut() {
                        router.answered(op, &outcome);
                    }
                    if let Some(requests) = self.requests.get_mut() {
                        requests.completed(op, &outcome, self.router.make(), wakes);
                    }
                    self.complete(op, outcome, wakes);
                }
                Event::Connected(connected) => {
                    if let Some(requests) = self.requests.get_mut() {
                        requests.connected(now, &connected, &mut self.machine, self.router.make(), wakes);
                    }
                    self.settles = true;
                    self.tell(&ClientEvent::Connected(connected.clone()), wakes);
                    self.enter(Phase::Connected(Box::new(connected)), wakes);
                }
                Event::ConnectFailed(ended) => {
                    let cause = self.take_cause(ended.id);
                    self.tell(&ClientEvent::connect_failed(&ended, cause.as_deref().cloned(), clock), wakes);
                    self.ended(ended, cause, wakes);
                }
                Event::Disconnected(ended) => {
                    let cause = self.take_cause(ended.id);
                    self.tell(&ClientEvent::disconnected(&ended, cause.as_deref().cloned(), clock), wakes);
                    self.ended(ended, cause, wakes);
                }
                Event::Resubscribed { codes, properties } => {
                    if let Some(requests) = self.requests.get_mut() {
                        requests.resubscribed(&codes, self.router.make(), wakes);
                    }
                    self.tell(&ClientEvent::Resubscribed { codes, properties }, wakes);
                }
                Event::FellBack { version, without } => {
                    self.tell(&ClientEvent::FellBack { version, without }, wakes);
                }
                Event::Auth { reason, properties } => {
                    self.tell(&ClientEvent::Auth { reason, properties }, wakes);
                }
                Event::Stalled { waited, unacknowledged } => {
                    self.tell(&ClientEvent::Stalled { waited, unacknowledged }, wakes);
                }
                Event::Overrun { messages } => self.tell(&ClientEvent::Overrun { messages }, wakes),
                // Messages have been taken, and a kind of event that this version does not know concerns nobody here.
                #[allow(unreachable_patterns)]
                _ => {}
            }
        }
        if let Some(requests) = self.requests.get_mut() {
            let unused = requests.serve(now, &mut self.machine, self.router.make(), wakes);
            if !unused.is_empty() {
                self.unsubscribe_unused(now, unused);
            }
        }
        if completed && let Some(unused) = self.unused.take() {
            self.unsubscribe_unused(now, unused);
        }
        if self.machine.is_paused() {
            self.room.wake_all(wakes);
        } else if completed {
            self.room.wake_first(wakes);
        }
        if self.is_closed() {
            self.outcomes.fail_all(wakes);
        }
    }

    fn take_cause(&mut self, id: TransportId) -> Option<Box<TransportError>> {
        self.cause.take_if(|(of, _)| *of == id).map(|(_, cause)| cause)
    }

    /// The connection that `ended` speaks of is no more.
    fn ended(&mut self, ended: Ended, cause: Option<Box<TransportError>>, wakes: &mut Wakes) {
        if !self.is_closed() {
            let failure = Box::new(Failure { reason: ended.reason, cause });
            let phase = match ended.retry_at {
                Some(_) => Phase::Connecting(Some(failure)),
                None => Phase::GaveUp(failure),
            };
            self.enter(phase, wakes);
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, wakes: &mut Wakes) {
        self.reauthenticated(wakes, || {
            Err(match &phase {
                Phase::Closed => ReauthenticationError::Closed,
                Phase::Connecting(Some(failure)) | Phase::GaveUp(failure) => {
                    ReauthenticationError::Ended(failure.reason.clone())
                }
                Phase::Connecting(None) | Phase::Connected(_) => ReauthenticationError::NotConnected,
            })
        });
        // The driver finds out anew when it may be so: it may have no turn any more.
        self.direct &= matches!(phase, Phase::Connected(_));
        self.phase = phase;
        self.phase_waiters.wake_all(wakes);
        self.kept_waiters.wake_all(wakes);
        if self.is_over() {
            self.room.wake_all(wakes);
            if let Some(router) = self.router.get_mut() {
                router.wake_all(wakes);
            }
            if let Some(requests) = self.requests.get_mut() {
                requests.wake_all(wakes);
            }
            self.each_feed(|feed| feed.wake(wakes));
        }
    }

    /// What a user's authenticating again has come to, if it is under way.
    pub(crate) fn reauthenticated(
        &mut self,
        wakes: &mut Wakes,
        verdict: impl FnOnce() -> Result<(), ReauthenticationError>,
    ) {
        if let Some(reauthentication) = self.reauthentication.get_mut() {
            reauthentication.end(verdict(), wakes);
        }
    }

    fn each_feed(&mut self, change: impl FnMut(&mut Feed)) {
        self.feeds.get_mut().into_iter().flat_map(Slab::iter_mut).for_each(change);
    }

    /// When the driver has something to do if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.machine.poll_timeout(), self.requests.get().and_then(Requests::deadline)) {
            (Some(machine), Some(requests)) => Some(machine.min(requests)),
            (machine, requests) => machine.or(requests),
        }
    }

    pub(crate) fn tell(&mut self, event: &ClientEvent, wakes: &mut Wakes) {
        self.each_feed(|feed| feed.push(event.clone(), wakes));
    }

    fn complete(&mut self, op: OpId, outcome: Outcome, wakes: &mut Wakes) {
        if self.closing == Some(op) {
            self.enter(Phase::Closed, wakes);
        }
        if let Some(tickets) = self.joined.get_mut().and_then(|joined| joined.remove(&op)) {
            tickets.into_iter().for_each(|ticket| self.outcomes.end(ticket, outcome.clone(), wakes));
        }
        self.outcomes.end(op, outcome, wakes);
    }

    /// Publications have ended of which nothing more is to be said: no stream and no requester waits for them.
    fn complete_all(&mut self, ended: &Completions, wakes: &mut Wakes) {
        if self.joined.get().is_none_or(OpMap::is_empty) {
            self.outcomes.end_all(ended, wakes);
        } else {
            ended.ops().for_each(|op| self.complete(op, ended.outcome.clone(), wakes));
        }
    }

    /// Unsubscribes from filters that no stream uses, now or when there is room.
    pub(crate) fn unsubscribe_unused(&mut self, now: Instant, mut filters: Vec<TopicFilter>) {
        filters.retain(|filter| self.router.get().is_none_or(|router| !router.uses(filter)));
        if filters.is_empty() || self.is_over() {
            return;
        }
        if let Err(Refused::Full) = self.machine.unsubscribe(now, Unsubscribe::new(filters.clone())) {
            self.unused.make().append(&mut filters);
        }
    }

    /// Begins to end the client.
    pub(crate) fn disconnect(
        &mut self,
        now: Instant,
        request: Disconnect,
        wakes: &mut Wakes,
    ) -> Result<OpId, CommandError> {
        let op = self.command(wakes, |machine| machine.disconnect(now, request))?;
        self.closing = Some(op);
        Ok(op)
    }
}
