//! Owns requests and their answers (5.0, section 4.10): the handle that asks, the future of one answer, and what the other side
//! needs to answer. It must not know how a message is sent, nor any clock but the driver's.

mod convention;
mod table;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mqtt_machine::packet::Property;
use mqtt_machine::{Codes, Instant, Message, Outcome, PropertyError, QoS, ReasonCode, TopicError};

use crate::error::CommandError;
use crate::publish::{Delivery, Publish};
use crate::router::Item;
use crate::shared::{Phase, Shared, State};
use crate::subscription::Incoming;
use crate::wake::Wakes;

pub use convention::{NotARequest, REPLY_LEVEL, request_filters, requested_topic, response_to};
pub use table::Dropped;
pub(crate) use table::Requests;

/// How a [`Requester`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// How long a request waits for its answer, from when it is first polled: for a connection, for room and for delivery
    /// too. In 5.0 it is also the Message Expiry Interval of a request that has none. Default 10 s.
    pub timeout: Duration,
    /// How many requests may be open at once. Default 1,024.
    pub open: usize,
    /// The beginning of the reply topic when the server gives no Response Information: `prefix/<client identifier>/<number of the
    /// requester>`. Default `reply`.
    pub prefix: String,
    /// The QoS of the subscription to the answers. Default 1.
    pub qos: QoS,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            open: 1_024,
            prefix: "reply".to_owned(),
            qos: QoS::AtLeastOnce,
        }
    }
}

impl RequestOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this long to wait for an answer.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this many requests at once.
    #[must_use]
    pub const fn open(mut self, requests: usize) -> Self {
        self.open = requests;
        self
    }

    /// With this beginning of the reply topic.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// With this QoS of the answers.
    #[must_use]
    pub const fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RequestError {
    /// None came in time.
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// So many requests are open already; nothing was sent.
    TooMany {
        /// How many.
        open: usize,
    },
    /// The request was not accepted, or the client has ended.
    Command(CommandError),
    /// The request was not delivered, or to nobody: the server said that there is no subscriber (0x10).
    NotDelivered(Outcome),
    /// The server refused the subscription to the reply topic.
    Rejected(Codes),
    /// The subscription to the reply topic ended without an answer of the server.
    NotSubscribed(Outcome),
    /// What the reply topic, or in 3.x the topic of the request, is made of makes no topic.
    Topic(TopicError),
    /// The request brings a Response Topic or Correlation Data of its own, which are the requester's.
    Property(PropertyError),
    /// A topic of 3.x that has [`REPLY_LEVEL`] as a level of its own.
    ReservedLevel,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { after } => write!(f, "no answer within {after:?}"),
            Self::TooMany { open } => write!(f, "{open} requests are open, which is as many as may be"),
            Self::Command(error) => error.fmt(f),
            Self::NotDelivered(outcome) => write!(f, "the request was not delivered: {outcome:?}"),
            Self::Rejected(codes) => {
                f.write_str("the server refused the subscription to the reply topic:")?;
                codes.codes.iter().try_for_each(|code| write!(f, " {code}"))
            }
            Self::NotSubscribed(outcome) => {
                write!(f, "the subscription to the reply topic ended without an answer: {outcome:?}")
            }
            Self::Topic(error) => write!(f, "no topic for the answer: {error}"),
            Self::Property(error) => write!(f, "the request cannot say where its answer goes: {error}"),
            Self::ReservedLevel => {
                write!(f, "in 3.x a request's topic has no level {REPLY_LEVEL} of its own")
            }
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Command(error) => Some(error),
            Self::Topic(error) => Some(error),
            Self::Property(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PropertyError> for RequestError {
    fn from(error: PropertyError) -> Self {
        Self::Property(error)
    }
}

impl From<TopicError> for RequestError {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}

/// Asks, and gets the answers: made by [`Client::requester`](crate::Client::requester). Clones are cheap and mean the same requester.
///
/// All its requests have one reply topic: below the Response Information of the server, when the configuration asks for it
/// and the server gives some, else below a prefix and the client identifier, so that the answers of one client go to nobody else.
/// It is subscribed to when there is a connection, and again when a session is lost or the place has changed. Requests are told
/// from each other by their Correlation Data, in 3.x by a [convention](REPLY_LEVEL) of topics. An answer that nobody waits for is
/// acknowledged, dropped and [counted](Self::dropped).
///
/// A requester is no handle: it ends with the client. When its last clone is dropped, it unsubscribes.
#[derive(Clone, Debug)]
pub struct Requester {
    asking: Arc<Asking>,
}

#[derive(Debug)]
struct Asking {
    shared: Arc<Shared>,
    index: usize,
    expiry: u32,
}

impl Requester {
    pub(crate) fn new(shared: &Arc<Shared>, options: RequestOptions) -> Self {
        let expiry = options.timeout.as_millis().div_ceil(1_000);
        let expiry = u32::try_from(expiry).unwrap_or(u32::MAX);
        let index = shared.with(|state, _, wakes| {
            let connected = match &state.phase {
                Phase::Connected(connected) => Some(&**connected),
                _ => None,
            };
            let index = state.requests.make().add(options, connected);
            state.wake_driver(wakes);
            index
        });
        Self { asking: Arc::new(Asking { shared: Arc::clone(shared), index, expiry }) }
    }

    /// Publishes a request; the future gives its answer. It begins when it is first polled; a request that is dropped before it was
    /// accepted is not sent.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::{Message, QoS};
    ///
    /// let requester = client.requester();
    /// let answer = requester.request(Message::to("light/state", "?")?.qos(QoS::AtLeastOnce)).await?;
    /// println!("{}", answer.payload_lossy());
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&self, message: Message) -> Request {
        Request { asking: Arc::clone(&self.asking), step: Step::Begin(Box::new(message)) }
    }

    /// How many of its requests are open.
    pub fn open(&self) -> usize {
        self.asking.shared.lock().requests.make().open_of(self.asking.index)
    }

    /// How many answers nobody waited for.
    pub fn dropped(&self) -> Dropped {
        self.asking.shared.lock().requests.make().dropped(self.asking.index)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let unread = self.shared.with(|state, now, wakes| {
            let unread = state.requests.make().remove(self.index, state.router.make());
            state.wake_driver(wakes);
            unread.into_iter().map(|item| settled(state, now, item, wakes)).collect::<Vec<_>>()
        });
        // Not under the lock.
        drop(unread);
    }
}

/// Settles what nobody takes, and gives the rest to be dropped without the lock.
fn settled(state: &mut State, now: Instant, mut item: Item, wakes: &mut Wakes) -> Message {
    if let Some((receipt, reason)) = item.spend(ReasonCode::Success) {
        state.settle(now, receipt, reason, wakes);
    }
    item.message
}

/// A request and the way to its answer, made by [`Requester::request`]. The answer is settled as every
/// [`Incoming`]: when it is dropped, or earlier. Dropping the future gives the answer up.
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct Request {
    asking: Arc<Asking>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Begin(Box<Message>),
    /// For the place of the answer.
    Address(u64, Box<Message>),
    Publish(u64, Box<Publish>),
    Deliver(u64, Delivery),
    Wait(u64),
    Done,
}

impl Step {
    const fn number(&self) -> Option<u64> {
        match self {
            Self::Begin(_) | Self::Done => None,
            Self::Address(number, _)
            | Self::Publish(number, _)
            | Self::Deliver(number, _)
            | Self::Wait(number) => Some(*number),
        }
    }
}

impl Request {
    /// Blocks this thread until there is an answer or none will come. The client's driver keeps the time.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(mut self) -> Result<Incoming, RequestError> {
        let shared = Arc::clone(&self.asking.shared);
        shared.wait_until(&mut self, None).unwrap_or(Err(RequestError::Command(CommandError::Closed)))
    }

    /// What has become of the request, as far as the driver knows.
    fn poll_answer(&self, number: u64, context: &Context<'_>) -> Poll<Result<Incoming, RequestError>> {
        let mut state = self.asking.shared.lock();
        match state.requests.make().poll_answer(number, context) {
            Poll::Ready(Ok(item)) => Poll::Ready(Ok(Incoming::new(item, &self.asking.shared))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if state.is_closed() => {
                Poll::Ready(Err(RequestError::Command(CommandError::Closed)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next step, when there is one now.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<bool, RequestError> {
        let Asking { shared, index, expiry } = &*self.asking;
        match &mut self.step {
            Step::Begin(_) | Step::Wait(_) | Step::Done => return Ok(false),
            Step::Address(number, message) => {
                let number = *number;
                let Poll::Ready(message) = shared.lock().requests.make().address(*index, number, message)
                else {
                    return Ok(false);
                };
                let mut message = message?;
                if message.expiry_interval().is_none() {
                    message = message.property(Property::MessageExpiryInterval(*expiry))?;
                }
                let publish = Publish::new(Arc::clone(shared), message);
                self.step = Step::Publish(number, Box::new(publish));
            }
            Step::Publish(number, publish) => {
                let number = *number;
                let Poll::Ready(accepted) = Pin::new(&mut **publish).poll(context) else { return Ok(false) };
                let delivery = accepted.map_err(RequestError::Command)?;
                self.step = Step::Deliver(number, delivery);
            }
            Step::Deliver(number, delivery) => {
                let number = *number;
                let Poll::Ready(outcome) = Pin::new(delivery).poll(context) else { return Ok(false) };
                if is_lost(&outcome) {
                    return Err(RequestError::NotDelivered(outcome));
                }
                self.step = Step::Wait(number);
            }
        }
        Ok(true)
    }

    fn begin(&mut self) -> Result<(), RequestError> {
        if let Step::Begin(message) = &mut self.step {
            let message = message.clone();
            let number = self.asking.shared.with(|state, now, wakes| {
                if state.is_closed() {
                    return Err(RequestError::Command(CommandError::Closed));
                }
                let number = state.requests.make().open(self.asking.index, now)?;
                // It has a deadline to keep.
                state.wake_driver(wakes);
                Ok(number)
            })?;
            self.step = Step::Address(number, message);
        }
        Ok(())
    }

    fn poll_to_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, RequestError>> {
        self.begin()?;
        loop {
            let Some(number) = self.step.number() else { return Poll::Pending };
            // First, so that a change wakes this task whatever it waits for.
            if let Poll::Ready(answer) = self.poll_answer(number, context) {
                return Poll::Ready(answer);
            }
            if !self.advance(context)? {
                return Poll::Pending;
            }
        }
    }

    /// Ends the request, whatever it waits for.
    fn close(&mut self) {
        let Some(number) = std::mem::replace(&mut self.step, Step::Done).number() else { return };
        let unread = self.asking.shared.with(|state, now, wakes| {
            state.requests.make().close(number).map(|item| settled(state, now, item, wakes))
        });
        // Not under the lock.
        drop(unread);
    }
}

/// Whether nobody can answer: the request has not left, was refused, or the server knows nobody who would get it.
fn is_lost(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Acknowledged(acknowledgement) => acknowledgement.reached_nobody(),
        Outcome::Refused(_) | Outcome::Expired | Outcome::Dropped(_) | Outcome::NotSent => true,
        // It may have arrived.
        _ => false,
    }
}

impl Future for Request {
    type Output = Result<Incoming, RequestError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = this.poll_to_end(context);
        if result.is_ready() {
            this.close();
        }
        result
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.close();
    }
}
