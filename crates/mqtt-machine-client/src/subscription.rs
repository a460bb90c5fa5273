//! Owns the message streams as their readers see them. It must not know how messages find them.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use mqtt_machine::journal::DeliveryKey;
use mqtt_machine::transcript::Recorder;
use mqtt_machine::{
    Codes, Instant, Message, OpId, Outcome, ReasonCode, Refused, Subscribe, TopicError, TopicFilter,
    Unsubscribe,
};

use crate::backlog::StreamLimit;
use crate::batch::Batch;
use crate::error::{SubscribeError, TryRecvError};
use crate::identifiers::Identifier;
use crate::publish::Delivery;
use crate::router::{Credit, Item, Router};
use crate::shared::{Clocked, Shared};

/// What names a topic filter: text or a [`TopicFilter`].
pub trait IntoFilter {
    /// The filter.
    ///
    /// # Errors
    /// The [`TopicError`] of a text that is no topic filter.
    fn into_filter(self) -> Result<TopicFilter, TopicError>;
}

impl IntoFilter for TopicFilter {
    fn into_filter(self) -> Result<TopicFilter, TopicError> {
        Ok(self)
    }
}

impl IntoFilter for &TopicFilter {
    fn into_filter(self) -> Result<TopicFilter, TopicError> {
        Ok(self.clone())
    }
}

impl IntoFilter for &str {
    fn into_filter(self) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(self)
    }
}

impl IntoFilter for String {
    fn into_filter(self) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(&self)
    }
}

impl IntoFilter for &String {
    fn into_filter(self) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(self)
    }
}

/// A subscription that the server has not answered yet, made by [`Client::subscribe`](crate::Client::subscribe).
///
/// The request is made when this is first polled, and messages are kept from then on: a retained message may arrive
/// before the answer. Dropping it earlier than it is ready unsubscribes again.
#[derive(Debug)]
#[must_use = "nothing is subscribed until this is awaited"]
pub struct Subscribing {
    shared: Arc<Shared>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Begin(Result<Subscribe, TopicError>),
    Wait(OpId, Subscription),
    Done,
}

impl Subscribing {
    pub(crate) const fn new(shared: Arc<Shared>, request: Result<Subscribe, TopicError>) -> Self {
        Self { shared, step: Step::Begin(request) }
    }

    fn begin(shared: &Arc<Shared>, request: Subscribe) -> Result<Step, SubscribeError> {
        // The stream has its routes before the driver can send the request.
        let (op, stream) = shared.with(|state, now, wakes| {
            let asked =
                state.routed_command(wakes, |machine, router| subscribe(now, request, machine, router))?;
            state.outcomes.expect(asked.0);
            Ok::<_, SubscribeError>(asked)
        })?;
        Ok(Step::Wait(op, Subscription::new(Arc::clone(shared), stream)))
    }
}

impl Future for Subscribing {
    type Output = Result<Subscription, SubscribeError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.step, Step::Done) {
                Step::Begin(request) => this.step = Self::begin(&this.shared, request?)?,
                Step::Wait(op, subscription) => {
                    let outcome = this.shared.lock().outcomes.poll(op, context);
                    let Poll::Ready(outcome) = outcome else {
                        this.step = Step::Wait(op, subscription);
                        return Poll::Pending;
                    };
                    return Poll::Ready(subscription.granted_as(outcome));
                }
                Step::Done => return Poll::Pending,
            }
        }
    }
}

impl Drop for Subscribing {
    fn drop(&mut self) {
        if let Step::Wait(op, ..) = &self.step {
            self.shared.lock().outcomes.forget(*op);
        }
    }
}

/// Asks for subscriptions, with an identifier, and makes a stream for their messages.
pub(crate) fn subscribe(
    now: Instant,
    mut request: Subscribe,
    machine: &mut Recorder,
    router: &mut Router,
) -> Result<(OpId, usize), Refused> {
    let identifier = router.identify(&request);
    if let Identifier::Own(own) = identifier {
        request.identifier = Some(own);
    }
    let filters = request.subscriptions.iter().map(|one| one.filter.clone()).collect();
    let op = machine.subscribe(now, request)?;
    Ok((op, router.add(op, filters, identifier)))
}

/// Unsubscribes, and waits for the server's answer.
pub(crate) async fn unsubscribe(shared: Arc<Shared>, request: Unsubscribe) -> Result<Codes, SubscribeError> {
    let op = shared.with(|state, now, wakes| {
        let op = state.command(wakes, |machine| machine.unsubscribe(now, request))?;
        state.outcomes.expect(op);
        Ok::<_, SubscribeError>(op)
    })?;
    match Delivery::new(shared, op).await {
        Outcome::Unsubscribed(codes) => Ok(codes),
        outcome => Err(SubscribeError::Ended(outcome)),
    }
}

/// The messages of some filters, in the order of their arrival.
///
/// A message that arrives goes once into each stream that has a filter for it. What is not read holds its part of the
/// inbound budget ([`Limits::incoming_bytes`](mqtt_machine::Limits)), and when that is used up the client stops reading
/// from the server: a slow reader slows the server down, and the other streams with it.
///
/// When the client has ended or given up connecting, and everything is read, there is no next message; when it is told
/// to [`reconnect`](crate::Client::reconnect) after that, messages may come again.
///
/// Dropping a stream unsubscribes from those of its filters that no other stream uses, and acknowledges what was not
/// read. [`unsubscribe`](Self::unsubscribe) does the same and waits for the server. A [`Stream`] of `futures` as well.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    shared: Arc<Shared>,
    stream: usize,
    /// Taken from the shared queue as a whole, so that the lock is taken once per batch.
    batch: VecDeque<Item>,
    granted: Option<Codes>,
}

/// The memory of an empty batch that is kept, in messages.
const KEPT_BATCH: usize = 2_048;

impl Subscription {
    pub(crate) const fn new(shared: Arc<Shared>, stream: usize) -> Self {
        Self { shared, stream, batch: VecDeque::new(), granted: None }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The answer of the server to the request: one code for each filter, in the order of the request; those of 0x80
    /// and above are refusals. `None` for a stream that no request was made for.
    pub const fn granted(&self) -> Option<&Codes> {
        self.granted.as_ref()
    }

    /// The next message; `None` when there will be none. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<Incoming> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Self::recv), for futures written by hand.
    #[inline]
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        match self.take(Some(context)) {
            Ok(message) => Poll::Ready(Some(message)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// The next message that has already arrived.
    ///
    /// # Errors
    /// [`TryRecvError`] when there is none yet, or will be none.
    pub fn try_recv(&mut self) -> Result<Incoming, TryRecvError> {
        self.take(None)
    }

    /// The messages that have arrived, of which there is one at least, but at most `most` (at least one); `None` when there will be none. They are
    /// settled together, under one lock, when the [`Batch`] is dropped: so it costs less than to [`recv`](Self::recv) them one by one.
    /// Cancelling it loses nothing.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::QoS;
    ///
    /// let mut values = client.subscribe("plant/+/temperature", QoS::AtLeastOnce).await?;
    /// while let Some(mut batch) = values.recv_batch(1_000).await {
    ///     while let Some(message) = batch.next() {
    ///         println!("{}: {}", message.topic, message.payload_lossy());
    ///     }
    ///     // Here they are acknowledged.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_batch(&mut self, most: usize) -> Option<Batch<'_>> {
        let arrived = poll_fn(|context| self.poll_arrived(context)).await;
        arrived.then(|| self.arrived(most))
    }

    /// As [`recv_batch`](Self::recv_batch), of what has already arrived.
    ///
    /// # Errors
    /// [`TryRecvError`] when there is nothing yet, or will be nothing.
    pub fn try_recv_batch(&mut self, most: usize) -> Result<Batch<'_>, TryRecvError> {
        self.look(None)?;
        Ok(self.arrived(most))
    }

    /// Waits for a message to arrive; false when there will be none.
    pub(crate) fn poll_arrived(&mut self, context: &Context<'_>) -> Poll<bool> {
        match self.look(Some(context)) {
            Ok(()) => Poll::Ready(true),
            Err(TryRecvError::Closed) => Poll::Ready(false),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// What has arrived, as [`poll_arrived`](Self::poll_arrived) has found.
    pub(crate) fn arrived(&mut self, most: usize) -> Batch<'_> {
        Batch::new(&self.shared, &mut self.batch, most)
    }

    /// Has at least one message at hand.
    #[inline]
    fn look(&mut self, context: Option<&Context<'_>>) -> Result<(), TryRecvError> {
        if self.batch.is_empty() {
            self.fetch(context)?;
            if self.batch.is_empty() {
                return Err(TryRecvError::Empty);
            }
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, context: Option<&Context<'_>>) -> Result<Incoming, TryRecvError> {
        self.look(context)?;
        match self.batch.pop_front() {
            Some(item) => Ok(Incoming::new(item, &self.shared)),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Takes all that has arrived, if anything has.
    fn fetch(&mut self, context: Option<&Context<'_>>) -> Result<(), TryRecvError> {
        let Self { shared, stream, batch, .. } = self;
        if batch.capacity() > KEPT_BATCH {
            *batch = VecDeque::new();
        }
        shared.with_clock(Clocked::Never, |state, _, wakes| {
            let over = state.is_over();
            let stream = state.router.make().fetch(*stream).ok_or(TryRecvError::Closed)?;
            stream.backlog.swap(batch);
            if batch.is_empty() {
                if over {
                    return Err(TryRecvError::Closed);
                }
                if let Some(context) = context {
                    stream.waker = Some(context.waker().clone());
                }
            }
            if state.waits_for_readers {
                state.wake_driver(wakes);
            }
            Ok(())
        })
    }

    /// Limits what waits for this reader from now on, also of what has arrived already. What the reader has taken out of the shared
    /// queue, as many as there were at its last look, does not count.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::{QoS, StreamLimit, WhenFull};
    ///
    /// let mut values = client.subscribe("plant/+/temperature", QoS::AtLeastOnce).await?;
    /// values.limit(StreamLimit::messages(1_000).when_full(WhenFull::LastValue));
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit(&mut self, limit: StreamLimit) {
        self.shared.with(|state, now, wakes| {
            state.router.make().limit(self.stream, limit);
            state.settle_spent(now, wakes);
        });
    }

    /// How many messages had no room under the [limit](Self::limit).
    pub fn dropped(&self) -> u64 {
        self.shared.lock().router.make().stream(self.stream).map_or(0, |stream| stream.backlog.dropped())
    }

    /// Unsubscribes from those filters that no other stream uses and waits for the server's answer: one code for each
    /// of them. What was not read is acknowledged. Dropping the future earlier changes nothing about that.
    ///
    /// # Errors
    /// [`SubscribeError::Command`] when the request is not accepted; [`SubscribeError::Ended`] when it got no answer.
    pub async fn unsubscribe(mut self) -> Result<Codes, SubscribeError> {
        let shared = Arc::clone(&self.shared);
        let unused = self.close();
        if unused.is_empty() {
            return Ok(Codes::new(Vec::new(), mqtt_machine::packet::PropertiesBuf::new()));
        }
        unsubscribe(shared, Unsubscribe::new(unused)).await
    }

    /// Makes the subscription what the server granted; the router has heard of it already.
    fn granted_as(mut self, outcome: Outcome) -> Result<Self, SubscribeError> {
        let codes = match outcome {
            Outcome::Subscribed(codes) => codes,
            outcome => return Err(SubscribeError::Ended(outcome)),
        };
        if codes.codes.iter().all(|code| code.is_failure()) {
            // There is nothing to unsubscribe from.
            self.close();
            return Err(SubscribeError::Rejected(codes));
        }
        self.granted = Some(codes);
        Ok(self)
    }

    /// Takes the stream out of the router and settles what it holds; returns the filters that nobody uses any more.
    /// The second time it does nothing.
    fn close(&mut self) -> Vec<TopicFilter> {
        let batch = std::mem::take(&mut self.batch);
        let stream = std::mem::replace(&mut self.stream, usize::MAX);
        let (unread, unused) = self.shared.with(|state, now, wakes| {
            let (unread, unused) = state.router.make().remove(stream);
            if state.waits_for_readers {
                state.wake_driver(wakes);
            }
            let items = batch.into_iter().chain(unread);
            let unread: Vec<Message> = items
                .map(|mut item| {
                    if let Some((receipt, reason)) = item.spend(ReasonCode::Success) {
                        state.settle(now, receipt, reason, wakes);
                    }
                    item.message
                })
                .collect();
            (unread, unused)
        });
        // Not under the lock.
        drop(unread);
        unused
    }
}

impl Stream for Subscription {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.get_mut().poll_recv(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let unused = self.close();
        if !unused.is_empty() {
            self.shared.with(|state, now, wakes| {
                state.unsubscribe_unused(now, unused);
                state.wake_driver(wakes);
            });
        }
    }
}

/// A message that arrived. It reads as its [`Message`].
///
/// It is settled when it is dropped, or earlier with [`ack`](Self::ack) or [`reject`](Self::reject): then the server
/// gets its acknowledgement (QoS 1 and 2) and the inbound budget its bytes back. A message that went into several
/// streams is settled when all of them have settled theirs. To keep a message for long, [take](Self::into_message) it.
pub struct Incoming {
    message: Message,
    credit: Option<(Credit, Arc<Shared>)>,
}

impl Incoming {
    #[inline]
    pub(crate) fn new(item: Item, shared: &Arc<Shared>) -> Self {
        let Item { message, credit } = item;
        Self { message, credit: credit.map(|credit| (credit, Arc::clone(shared))) }
    }

    /// Names a message of QoS 1 or 2: with a [store](crate::Options::store) the same when it comes again, also after a crash. A
    /// consumer that keeps it together with what it makes of the message, in one transaction, makes nothing of it twice.
    /// `None` at QoS 0, and when it was settled.
    pub fn delivery_key(&self) -> Option<DeliveryKey> {
        self.credit.as_ref().and_then(|(credit, _)| credit.key())
    }

    /// Settles it: it was taken care of.
    pub fn ack(mut self) {
        self.settle(ReasonCode::Success);
    }

    /// Settles it with this reason code: 5.0 tells the server, as "unspecified error" when PUBACK and PUBREC do not have the code
    /// (section 3.4.2.1); 3.x knows no refusal and acknowledges.
    pub fn reject(mut self, reason: ReasonCode) {
        self.settle(reason);
    }

    /// Settles it and keeps the message.
    pub fn into_message(mut self) -> Message {
        self.settle(ReasonCode::Success);
        self.message.clone()
    }

    fn settle(&mut self, reason: ReasonCode) {
        if let Some((credit, shared)) = self.credit.take()
            && let Some((receipt, reason)) = credit.spend(reason)
        {
            let clocked = if receipt.acknowledges() { Clocked::Turn } else { Clocked::Never };
            shared.with_clock(clocked, |state, now, wakes| state.settle(now, receipt, reason, wakes));
        }
    }
}

impl Deref for Incoming {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.settle(ReasonCode::Success);
    }
}
