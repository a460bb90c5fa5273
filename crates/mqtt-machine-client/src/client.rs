//! Owns the handle: what a user asks of a client. It must not know which runtime drives it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use mqtt_machine::journal::PublishKey;
use mqtt_machine::packet::PacketType;
use mqtt_machine::wire::EncodeError;
use mqtt_machine::{
    Capabilities, Codes, Config, Connected, Disconnect, Drained, Message, Metrics, OpId, Outcome, QoS,
    Refused, Subscribe, Unsubscribe,
};

use crate::driver::Driver;
use crate::error::{CommandError, ConnectError, SubscribeError};
use crate::events::Events;
use crate::options::{Options, for_handle};
use crate::publish::{Delivery, Publish, Sending, publish_now, send_now};
use crate::reauthenticate::{Reauthenticating, Reauthentication};
use crate::record::Sink;
use crate::request::{RequestOptions, Requester};
use crate::router::Router;
use crate::shared::{Phase, Shared};
use crate::store::Keeper;
use crate::subscription::{IntoFilter, Subscribing, Subscription, unsubscribe};
use crate::threads::Helm;
use crate::transport::Routes;
use crate::wake::Place;

/// How long a disconnect lets what was accepted come to its end, unless told otherwise.
const DRAIN: Duration = Duration::from_secs(5);

/// A handle on an MQTT client. Clones are cheap and mean the same client.
///
/// Every call is accepted or refused at once by the machine itself; its driver, a task or thread of the adapter, is
/// woken to see to the rest.
///
/// When the last handle is dropped the client disconnects as by [`disconnect`](Self::disconnect), in the background.
/// Streams and deliveries are no handles: they end with the client.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // It may have been told so before.
        let _ = self.shared.with(|state, now, wakes| state.disconnect(now, Disconnect::new(DRAIN), wakes));
    }
}

impl Client {
    /// A client and its driver. Nothing happens until an adapter runs the driver; streams that are made before miss
    /// nothing, also not what the server kept for a session that is resumed.
    ///
    /// # Errors
    /// [`ConnectError::Transport`] when a way to a server cannot be made ready: a certificate's file, for instance.
    /// [`ConnectError::Store`] when there is a store that cannot be read: nothing is begun anew in its place.
    pub fn new(options: impl Into<Options>) -> Result<(Self, Driver), ConnectError> {
        let mut options = options.into();
        let routes =
            Routes::new(options.like.take(), std::mem::take(&mut options.routes), options.config.version);
        routes.prepare(&options.config.servers)?;
        let (sink, recording) = Sink::open(options.record.as_ref());
        let durability = options.durability;
        let (store, session) = options.store.take().map(|store| store.open()).transpose()?.unzip();
        let restored = session.as_ref().map_or(0, |session| session.records.len());
        let shared = Arc::new(Shared::new(options, recording, session)?);
        let keeper = store.map(|store| Keeper::start(store, durability, restored)).transpose();
        let keeper = keeper.map_err(|error| ConnectError::Store(error.into()))?;
        let driver = Driver::new(Arc::clone(&shared), sink, routes, keeper);
        Ok((Self { handle: Arc::new(Handle { shared }) }, driver))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn steered_by(&self, helm: Weak<dyn Helm>) {
        self.shared().steered_by(helm);
    }

    /// Publishes a message: the future is ready when it is accepted, which it is at once when there is room. What it
    /// gives is the way to the [`Outcome`], to be awaited or dropped.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::{Message, QoS};
    ///
    /// let delivery = client.publish(Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce)).await?;
    /// println!("{:?}", delivery.await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self, message: Message) -> Publish {
        Publish::new(Arc::clone(self.shared()), message)
    }

    /// Publishes a message of QoS 1 or 2 once under a key of yours. To publish again under a key that is known is not to publish
    /// again: the future then gives the way to the outcome of the message that was, also when that was accepted, or has ended,
    /// in a process before this one, with a [store](Options::store). So who does not know whether it has published asks again.
    ///
    /// A key is known until [`forget`](Self::forget); of publications that have ended the newest
    /// [`keyed_outcomes`](mqtt_machine::Limits::keyed_outcomes) are.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::{Message, PublishKey, QoS};
    ///
    /// let reading = Message::to("meters/7", "21.5")?.qos(QoS::ExactlyOnce);
    /// let key = PublishKey::new("reading 4711")?;
    /// println!("{:?}", client.publish_keyed(key.clone(), reading).await?.await);
    /// client.forget(&key);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_keyed(&self, key: PublishKey, message: Message) -> Publish {
        Publish::keyed(Arc::clone(self.shared()), key, message)
    }

    /// Forgets the key of a publication that has ended. Before that it does nothing.
    pub fn forget(&self, key: &PublishKey) {
        self.shared().with(|state, now, wakes| {
            state.machine.forget(now, key);
            state.wake_driver(wakes);
        });
    }

    /// Publishes a message if there is room now; never waits.
    ///
    /// # Errors
    /// [`CommandError::is_full`] when there is no room, or others wait for it; else why it can never be accepted.
    pub fn try_publish(&self, message: Message) -> Result<Delivery, CommandError> {
        publish_now(self.shared(), message)
    }

    /// Publishes a message that stays the caller's, and whose outcome nobody asks for: the short way for many messages of QoS 0, and
    /// for one message that is sent again and again. Of any QoS it is delivered as what [`publish`](Self::publish) is given, and the
    /// future waits for room in the same line; what it gives is the operation's number.
    ///
    /// When what was accepted before has been written, a message of QoS 0 becomes its packet at once and is not cloned. What was accepted
    /// and lost, as QoS 0 is with its connection, shows in [`metrics`](Self::metrics) alone; [`drain`](Self::drain) waits for
    /// all that was accepted.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mqtt_machine_client::Message;
    ///
    /// let beat = Message::to("sensors/1/alive", "")?;
    /// for _ in 0..1_000 {
    ///     client.send(&beat).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Sending::new(self.shared(), message)
    }

    /// [Sends](Self::send) a message if there is room now; never waits.
    ///
    /// # Errors
    /// As [`try_publish`](Self::try_publish).
    pub fn try_send(&self, message: &Message) -> Result<OpId, CommandError> {
        send_now(self.shared(), message)
    }

    /// Subscribes to a filter. The future is ready when the server has granted it; the stream that it gives has the
    /// messages of this filter.
    ///
    /// Filters of several streams may overlap. In 5.0 the client gives each request a Subscription Identifier, which the server
    /// repeats with every message: whether it sends one copy of a message or one for each subscription, each stream gets it
    /// once. Servers without identifiers, and those of 3.x, do not say what a message is sent for, so each copy goes into
    /// every stream that has a filter for it. Identifiers that the client gives by itself are not among the properties of a message.
    ///
    /// A server that has this filter already replaces the subscription, and sends its retained messages again, to every stream
    /// with this filter; [`RetainHandling`](mqtt_machine::RetainHandling) says otherwise.
    pub fn subscribe(&self, filter: impl IntoFilter, qos: QoS) -> Subscribing {
        let request = filter.into_filter().map(|filter| Subscribe::to(filter, qos));
        Subscribing::new(Arc::clone(self.shared()), request)
    }

    /// Subscribes to several filters at once, or with 5.0 options and properties: one stream for all of them. It is an
    /// error when the server refuses all filters; [`Subscription::granted`] tells which it granted.
    ///
    /// The filters of one request share its identifier, and a server that sends a copy for each subscription sends this
    /// stream one for each of them that a message belongs to. A Subscription Identifier in the properties is taken in the
    /// place of the client's own, and stays among those of the messages.
    pub fn subscribe_with(&self, request: Subscribe) -> Subscribing {
        Subscribing::new(Arc::clone(self.shared()), Ok(request))
    }

    /// Unsubscribes whatever streams use the filters, which go on without them: subscriptions of a session that was resumed,
    /// for instance. The codes stand in the order of the filters. A stream is better [told](Subscription::unsubscribe) itself.
    ///
    /// # Errors
    /// [`SubscribeError::Command`] when the request is not accepted; [`SubscribeError::Ended`] when it got no answer.
    pub async fn unsubscribe_with(&self, request: Unsubscribe) -> Result<Codes, SubscribeError> {
        unsubscribe(Arc::clone(self.shared()), request).await
    }

    /// The messages that belong to no other stream, from now on: those of a resumed session, for instance. Without such
    /// a stream they are acknowledged, dropped and [counted](Self::unrouted).
    pub fn messages(&self) -> Subscription {
        let stream = self.shared().lock().router.make().add_catch_all();
        Subscription::new(Arc::clone(self.shared()), stream)
    }

    /// Who asks and gets the answers (5.0, section 4.10; 3.x by a convention), with the defaults.
    pub fn requester(&self) -> Requester {
        self.requester_with(RequestOptions::default())
    }

    /// As [`requester`](Self::requester), with other options.
    pub fn requester_with(&self, options: RequestOptions) -> Requester {
        Requester::new(self.shared(), options)
    }

    /// What happens to the connection, from now on.
    pub fn events(&self) -> Events {
        Events::new(self.shared())
    }

    /// Waits for a connection: ready at once when there is one. Failures that may pass are not told here, only that the
    /// client gave up or has ended, or that the way to the server [fails](ConnectError::Transport) in a way that does not
    /// pass by itself, such as a certificate that is not trusted. After the latter the client still tries.
    pub fn connected(&self) -> Connecting {
        Connecting { shared: Arc::clone(self.shared()), place: None }
    }

    /// How long an adapter's `connect` waits for the first connection.
    pub fn connect_deadline(&self) -> Duration {
        self.shared().connect_deadline
    }

    /// The error of having waited that long for a connection, with the reason of the last failure.
    pub fn connect_timeout(&self) -> ConnectError {
        let (last, cause) =
            self.shared().lock().last_failure().map(|failure| (failure.reason, failure.cause)).unzip();
        ConnectError::Timeout { after: self.connect_deadline(), last, cause: cause.flatten() }
    }

    /// Ends the client: what was accepted is brought to its end within 5 s, then the server is told. The future is
    /// ready when that is done; dropping it after it was polled changes nothing. Nothing is accepted from then on, and
    /// streams end when they are read.
    pub fn disconnect(&self) -> Disconnecting {
        self.disconnect_with(Disconnect::new(DRAIN))
    }

    /// As [`disconnect`](Self::disconnect), within this time.
    ///
    /// ```no_run
    /// # async fn example(client: mqtt_machine_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let drained = client.drain(std::time::Duration::from_secs(30)).await?;
    /// if !drained.is_complete() {
    ///     println!("{} not delivered, {} of them kept", drained.undelivered, drained.kept);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain(&self, deadline: Duration) -> Disconnecting {
        self.disconnect_with(Disconnect::new(deadline))
    }

    /// As [`disconnect`](Self::disconnect), with another time, a reason or properties.
    pub fn disconnect_with(&self, request: Disconnect) -> Disconnecting {
        Disconnecting { shared: Arc::clone(self.shared()), step: DisconnectStep::Begin(request) }
    }

    /// Ends the present connection or attempt and makes a new one at once, also after the client gave up.
    ///
    /// # Errors
    /// [`CommandError::Closed`] when the client has ended; `Refused` for a configuration that cannot be sent.
    pub fn reconnect(&self) -> Result<(), CommandError> {
        self.shared().with(|state, now, wakes| {
            if !matches!(state.phase, Phase::GaveUp(_)) {
                return state.command(wakes, |machine| machine.reconnect(now));
            }
            state.command(wakes, |machine| machine.connect(now))?;
            state.enter(Phase::Connecting(None), wakes);
            Ok(())
        })
    }

    /// Begins a new exchange of the [authenticator](Options::authenticator) on the present connection (5.0, section 4.12.1):
    /// when credentials were renewed, for instance. All else goes on meanwhile. When the server accepts, the event
    /// [`Reauthenticated`](crate::ClientEvent::Reauthenticated) tells, and so does the future that this gives; when it does not, the
    /// connection ends. It goes on without that future.
    ///
    /// # Errors
    /// [`CommandError::Refused`] without an authenticator or a connection, or when such an exchange has not ended yet;
    /// [`CommandError::Closed`] when the client has ended.
    pub fn reauthenticate(&self) -> Result<Reauthenticating, CommandError> {
        let asks = self.shared().method().is_some();
        let number = self.shared().with(|state, _, wakes| {
            let waits = state.reauthentication.get().is_some_and(Reauthentication::is_under_way);
            state.command(wakes, |machine| match (asks, waits) {
                (false, _) => {
                    Err(EncodeError::AuthenticationMethodMissing { packet: PacketType::Auth }.into())
                }
                (_, true) => Err(Refused::NotNow("the client is authenticating again already")),
                (true, false) => machine.may_reauthenticate(),
            })?;
            state.reauthenticate = true;
            Ok::<_, CommandError>(state.reauthentication.make().begin(wakes))
        })?;
        Ok(Reauthenticating::new(Arc::clone(self.shared()), number))
    }

    /// Sets the configuration of the next attempt to connect. The present connection keeps its own;
    /// [`reconnect`](Self::reconnect) ends it.
    pub fn reconfigure(&self, config: Config) {
        let asks = self.shared().prepare().is_some();
        let config = Arc::new(for_handle(config, self.shared().method(), asks, self.shared().durable));
        self.shared().with(|state, now, _| state.machine.reconfigure(now, config));
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.shared().lock().machine.is_connected()
    }

    /// What the connected server allows; `None` without a connection.
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.shared().lock().machine.capabilities().copied()
    }

    /// How many messages belonged to no stream and were dropped.
    pub fn unrouted(&self) -> u64 {
        self.shared().lock().unrouted
    }

    /// What the machine has counted and how much there is now, cheap enough to be asked for every second.
    pub fn metrics(&self) -> Metrics {
        self.shared().lock().machine.metrics()
    }

    /// Heap bytes of the machine, everything that is queued included, of the queues of all streams, and of what was published and not
    /// handed to the driver yet; not what a message costs besides that several streams share.
    pub fn memory_used(&self) -> usize {
        let state = self.shared().lock();
        let streams = state.router.get().map_or(0, Router::memory_used);
        let queued = streams.saturating_add(state.ahead.memory_used());
        state.machine.memory_used().saturating_add(queued)
    }

    /// How many outcomes are kept for deliveries that are still there.
    pub fn pending(&self) -> usize {
        self.shared().lock().outcomes.len()
    }
}

/// Waits for a connection; made by [`Client::connected`]. An adapter bounds it in time.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Connecting {
    shared: Arc<Shared>,
    place: Option<Place>,
}

impl Future for Connecting {
    type Output = Result<Connected, ConnectError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, place } = self.get_mut();
        let mut state = shared.lock();
        let result = match &state.phase {
            Phase::Connecting(failure) => match failure.as_ref().and_then(|failure| failure.cause.as_ref()) {
                Some(cause) if cause.is_permanent() => Err(ConnectError::Transport((**cause).clone())),
                _ => {
                    state.phase_waiters.wait(place, context.waker());
                    return Poll::Pending;
                }
            },
            Phase::Connected(connected) => Ok((**connected).clone()),
            Phase::GaveUp(failure) => Err(match &failure.cause {
                Some(cause) => ConnectError::Transport((**cause).clone()),
                None => ConnectError::GaveUp(failure.reason.clone()),
            }),
            Phase::Closed => Err(ConnectError::Closed),
        };
        if state.phase_waiters.leave(place) {
            state.phase_waiters.shrink();
        }
        Poll::Ready(result)
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.shared.lock().phase_waiters.leave(&mut self.place);
        }
    }
}

/// Ends the client; made by [`Client::disconnect`]. Gives what became of the publications that were open.
#[derive(Debug)]
#[must_use = "nothing is disconnected until this is awaited"]
pub struct Disconnecting {
    shared: Arc<Shared>,
    step: DisconnectStep,
}

#[derive(Debug)]
enum DisconnectStep {
    Begin(Disconnect),
    Wait(OpId),
    Done,
}

impl Future for Disconnecting {
    type Output = Result<Drained, CommandError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.step, DisconnectStep::Done) {
                DisconnectStep::Begin(request) => {
                    let op = this.shared.with(|state, now, wakes| {
                        let op = state.disconnect(now, request, wakes)?;
                        state.outcomes.expect(op);
                        Ok::<_, CommandError>(op)
                    })?;
                    this.step = DisconnectStep::Wait(op);
                }
                DisconnectStep::Wait(op) => {
                    let outcome = this.shared.lock().outcomes.poll(op, context);
                    return match outcome {
                        Poll::Ready(Outcome::Disconnected(drained)) => Poll::Ready(Ok(drained)),
                        Poll::Ready(_) => Poll::Ready(Err(CommandError::Closed)),
                        Poll::Pending => {
                            this.step = DisconnectStep::Wait(op);
                            Poll::Pending
                        }
                    };
                }
                DisconnectStep::Done => return Poll::Pending,
            }
        }
    }
}

impl Drop for Disconnecting {
    fn drop(&mut self) {
        if let DisconnectStep::Wait(op) = self.step {
            self.shared.lock().outcomes.forget(op);
        }
    }
}
