//! Owns the calls on a client that wait, and hold up the thread that makes them. It must not know who drives the client.

use std::ops::Deref;
use std::sync::Weak;
use std::time::Instant;

use mqtt_machine::{Connected, Message, OpId, QoS, Subscribe};

use super::helm::Helm;
use super::streams::{Events, Requester, Subscription};
use crate::client::Client;
use crate::error::{CommandError, ConnectError, SubscribeError};
use crate::publish::Delivery;
use crate::request::RequestOptions;
use crate::subscription::{IntoFilter, Subscribing};
use crate::wake::block_until;

/// A [`Client`] with calls that wait. They hold up the thread that makes them, and nothing else; none may be made by the thread that
/// drives the client.
#[derive(Clone, Debug)]
pub struct Handle {
    handle: Client,
}

impl Handle {
    /// The calls of this client that wait.
    pub const fn new(handle: Client) -> Self {
        Self { handle }
    }

    /// Lets the threads that call this client, and its streams and deliveries, take part in driving it. It is told once and holds for all
    /// handles on the client; when it is gone, they wait for the driver again.
    #[must_use]
    pub fn steered_by(self, helm: Weak<dyn Helm>) -> Self {
        self.handle.steered_by(helm);
        self
    }

    /// Waits for the first connection, as long as the options say.
    ///
    /// # Errors
    /// As [`connected`](Self::connected), and [`ConnectError::Timeout`].
    pub fn first_connection(&self) -> Result<(), ConnectError> {
        let deadline = Instant::now().checked_add(self.handle.connect_deadline());
        match block_until(self.handle.connected(), deadline) {
            Some(connected) => connected.map(|_| ()),
            None => Err(self.handle.connect_timeout()),
        }
    }

    /// The handle that all adapters share, with futures instead of calls that block: for whoever
    /// drives the client by hand, and [`block_until`].
    pub const fn handle(&self) -> &Client {
        &self.handle
    }

    /// Publishes a message: returns when it is accepted, which it is at once when there is room. What it gives is the way to
    /// the [`Outcome`](mqtt_machine::Outcome), to be [waited](Delivery::wait) for or dropped.
    ///
    /// # Errors
    /// [`CommandError`] when it can never be accepted; also [`CommandError::is_full`] while reading is paused, so that a thread that
    /// publishes from its receive loop always comes back to receiving.
    pub fn publish(&self, message: Message) -> Result<Delivery, CommandError> {
        self.handle.publish(message).wait()
    }

    /// Publishes a message that stays the caller's, and whose outcome nobody asks for: returns when it is accepted, as
    /// [`publish`](Self::publish) does, with the operation's number. [`Client::send`] says more.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn send(&self, message: &Message) -> Result<OpId, CommandError> {
        self.handle.send(message).wait()
    }

    /// Subscribes to a filter: returns when the server has granted it, with the messages of this filter. Without a connection it waits
    /// for one, for as long as it takes: [`block_until`] has a deadline.
    ///
    /// # Errors
    /// [`SubscribeError`] when the server refuses it, or the client ends before.
    pub fn subscribe(&self, filter: impl IntoFilter, qos: QoS) -> Result<Subscription, SubscribeError> {
        subscribed(self.handle.subscribe(filter, qos))
    }

    /// Subscribes to several filters at once, or with 5.0 options and properties: one stream for all of them. It is an
    /// error when the server refuses all filters; [`Subscription::granted`] tells which it granted.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        subscribed(self.handle.subscribe_with(request))
    }

    /// The messages that belong to no other stream, from now on: those of a resumed session, for instance.
    pub fn messages(&self) -> Subscription {
        self.handle.messages().into()
    }

    /// Asks, and gets the answers, of other clients.
    pub fn requester(&self) -> Requester {
        self.handle.requester().into()
    }

    /// As [`requester`](Self::requester), with other options.
    pub fn requester_with(&self, options: RequestOptions) -> Requester {
        self.handle.requester_with(options).into()
    }

    /// What happens to the connection, from now on.
    pub fn events(&self) -> Events {
        self.handle.events().into()
    }

    /// Waits for a connection: returns at once when there is one.
    ///
    /// # Errors
    /// That the client gave up or has ended, or that the way to the server fails in a way that does not pass by itself.
    pub fn connected(&self) -> Result<Connected, ConnectError> {
        block_until(self.handle.connected(), None).unwrap_or(Err(ConnectError::Closed))
    }
}

impl Deref for Handle {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.handle
    }
}

fn subscribed(subscribing: Subscribing) -> Result<Subscription, SubscribeError> {
    let closed = SubscribeError::Command(CommandError::Closed);
    Ok(block_until(subscribing, None).unwrap_or(Err(closed))?.into())
}
