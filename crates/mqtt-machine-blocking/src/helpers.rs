//! Owns the helpers for those who want one thing done and no client. It must not know how it is done.

use std::ops::ControlFlow;

use mqtt_machine_client::{
    Incoming, IntoFilter, IntoOptions, Message, OneShotError, Options, Outcome, QoS, block_until, one_shot,
};

use crate::Client;

fn connect<O: IntoOptions>(options: O) -> Result<Client, OneShotError> {
    let options = options.into_options()?;
    Ok(Client::connect::<Options>(one_shot::options(options))?)
}

fn finished<T>(work: impl Future<Output = Result<T, OneShotError>>) -> Result<T, OneShotError> {
    block_until(work, None).unwrap_or(Err(OneShotError::Ended))
}

/// Connects, publishes one message, waits for its outcome and disconnects. Without a client identifier no session is left
/// behind.
///
/// ```no_run
/// use mqtt_machine_blocking::{Message, QoS, publish_single};
///
/// let message = Message::to("sensors/1", "21.5")?.qos(QoS::AtLeastOnce);
/// println!("{:?}", publish_single("mqtt://localhost", message)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`OneShotError::Connect`], or [`OneShotError::Command`] when the message can never be accepted. What the server says to it is
/// the outcome.
pub fn publish_single<O: IntoOptions>(options: O, message: Message) -> Result<Outcome, OneShotError> {
    let outcomes = publish_multiple(options, [message])?;
    Ok(outcomes.into_iter().next().unwrap_or(Outcome::Unknown))
}

/// Connects, publishes every message, waits for all outcomes and disconnects. The outcomes stand in the order of the messages.
///
/// # Errors
/// As [`publish_single`]; messages before one that can never be accepted are published all the same.
pub fn publish_multiple<O: IntoOptions>(
    options: O,
    messages: impl IntoIterator<Item = Message>,
) -> Result<Vec<Outcome>, OneShotError> {
    let client = connect(options)?;
    finished(one_shot::publish(client.handle(), messages))
}

/// Connects, subscribes to the filters, waits for so many messages and disconnects.
///
/// ```no_run
/// use mqtt_machine_blocking::{QoS, subscribe_simple};
///
/// for message in subscribe_simple("mqtt://localhost", ["sensors/#"], QoS::AtLeastOnce, 3)? {
///     println!("{} {}", message.topic, message.payload_lossy());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`OneShotError::Connect`], [`OneShotError::Subscribe`] when no filter is granted, [`OneShotError::Ended`] when the client gives
/// up connecting again.
pub fn subscribe_simple<O: IntoOptions, F: IntoFilter>(
    options: O,
    filters: impl IntoIterator<Item = F>,
    qos: QoS,
    count: usize,
) -> Result<Vec<Message>, OneShotError> {
    let client = connect(options)?;
    finished(one_shot::take(client.handle(), filters, qos, count))
}

/// Connects, subscribes to the filters, hands each message to `take` until that breaks, and disconnects. A message is
/// acknowledged when `take` has returned.
///
/// # Errors
/// As [`subscribe_simple`].
pub fn subscribe_callback<O: IntoOptions, F: IntoFilter>(
    options: O,
    filters: impl IntoIterator<Item = F>,
    qos: QoS,
    take: impl FnMut(Incoming) -> ControlFlow<()>,
) -> Result<(), OneShotError> {
    let client = connect(options)?;
    finished(one_shot::receive(client.handle(), filters, qos, take))
}
