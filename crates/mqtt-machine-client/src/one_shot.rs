//! Owns what the one-shot helpers of all adapters do with a client that has connected. It must not know how one connects.
//!
//! Users take the helpers of an adapter: `publish_single`, `publish_multiple`, `subscribe_simple`, `subscribe_callback`.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use mqtt_machine::{CleanStart, Message, Outcome, QoS, Subscribe};

use crate::client::Client;
use crate::error::{CommandError, ConnectError, SubscribeError};
use crate::options::Options;
use crate::subscription::{Incoming, IntoFilter};

/// Why a one-shot helper did not do what it was asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OneShotError {
    /// There is no connection.
    Connect(ConnectError),
    /// A message was not accepted.
    Command(CommandError),
    /// The server did not grant the subscription.
    Subscribe(SubscribeError),
    /// The client gave up connecting again before enough messages had come.
    Ended,
}

impl fmt::Display for OneShotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Command(error) => error.fmt(f),
            Self::Subscribe(error) => error.fmt(f),
            Self::Ended => f.write_str("the connection ended before enough messages had come"),
        }
    }
}

impl std::error::Error for OneShotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Command(error) => Some(error),
            Self::Subscribe(error) => Some(error),
            Self::Ended => None,
        }
    }
}

impl From<ConnectError> for OneShotError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<CommandError> for OneShotError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<SubscribeError> for OneShotError {
    fn from(error: SubscribeError) -> Self {
        Self::Subscribe(error)
    }
}

/// The options of a client that is there for one thing: without a client identifier it leaves no session behind.
#[must_use]
pub fn options(options: Options) -> Options {
    if !options.config.client_id.is_empty() {
        return options;
    }
    options.configure(|mut config| {
        config.clean_start = CleanStart::Always;
        config.session_expiry = Duration::ZERO;
        config
    })
}

/// Publishes every message, waits for all outcomes and disconnects. The outcomes stand in the order of the messages.
///
/// # Errors
/// [`OneShotError::Command`] for the first message that can never be accepted; those before it are published all the same.
pub async fn publish(
    client: &Client,
    messages: impl IntoIterator<Item = Message>,
) -> Result<Vec<Outcome>, OneShotError> {
    let mut deliveries = Vec::new();
    let mut refused = None;
    for message in messages {
        match client.publish(message).await {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let mut outcomes = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        outcomes.push(delivery.await);
    }
    client.disconnect().await?;
    refused.map_or(Ok(outcomes), |error| Err(error.into()))
}

/// Subscribes to the filters, hands each message to `take` until that breaks, and disconnects. A message is acknowledged when
/// `take` has returned.
///
/// # Errors
/// [`OneShotError::Subscribe`] when no filter is granted; [`OneShotError::Ended`] when the client gives up connecting again.
pub async fn receive<F: IntoFilter>(
    client: &Client,
    filters: impl IntoIterator<Item = F>,
    qos: QoS,
    mut take: impl FnMut(Incoming) -> ControlFlow<()>,
) -> Result<(), OneShotError> {
    let subscriptions = (filters.into_iter())
        .map(|filter| Ok(mqtt_machine::Subscription::new(filter.into_filter()?, qos)))
        .collect::<Result<_, _>>()
        .map_err(SubscribeError::Filter)?;
    let mut messages = client.subscribe_with(Subscribe::new(subscriptions)).await?;
    while let Some(message) = messages.recv().await {
        if take(message).is_break() {
            client.disconnect().await?;
            return Ok(());
        }
    }
    Err(OneShotError::Ended)
}

/// As [`receive`], of so many messages.
///
/// # Errors
/// As [`receive`].
pub async fn take<F: IntoFilter>(
    client: &Client,
    filters: impl IntoIterator<Item = F>,
    qos: QoS,
    count: usize,
) -> Result<Vec<Message>, OneShotError> {
    let mut taken = Vec::new();
    if count == 0 {
        client.disconnect().await?;
        return Ok(taken);
    }
    receive(client, filters, qos, |message| {
        taken.push(message.into_message().detached());
        if taken.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    Ok(taken)
}
