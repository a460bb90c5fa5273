//! Owns why a call on the handle failed. It must not know what the caller does about it.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use mqtt_machine::{Codes, EndReason, Outcome, Refused, TopicError};
use mqtt_machine_transport::EndpointError;

use crate::store::StoreError;
use crate::transport::TransportError;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no URL of a server.
    Endpoint(EndpointError),
    /// The way to the server fails for a reason that does not pass by itself, such as a certificate that is not trusted; or
    /// it failed and the attempts are used up.
    Transport(TransportError),
    /// The client does not try again: the server refused it for good, or the attempts are used up.
    GaveUp(EndReason),
    /// No server accepted the client in time.
    Timeout {
        /// How long was waited.
        after: Duration,
        /// Why the last attempt failed, if one did.
        last: Option<EndReason>,
        /// What failed of its transport, if that was it.
        cause: Option<Box<TransportError>>,
    },
    /// The client has ended: it was disconnected, or its driver is gone.
    Closed,
    /// The adapter cannot run here; the text says what is missing.
    Runtime(String),
    /// The session cannot be read from its store.
    Store(StoreError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => error.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::GaveUp(reason) => reason.fmt(f),
            Self::Timeout { after, last, cause: _ } => {
                write!(f, "not connected after {after:?}")?;
                match last {
                    Some(reason) => write!(f, "; the last attempt: {reason}"),
                    None => Ok(()),
                }
            }
            Self::Closed => f.write_str(CLOSED),
            Self::Runtime(what) => f.write_str(what),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Transport(error) => Some(error),
            Self::Timeout { cause: Some(error), .. } => Some(error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TransportError> for ConnectError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Endpoint(error) => Self::Endpoint(error),
            error => Self::Transport(error),
        }
    }
}

impl From<StoreError> for ConnectError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EndpointError> for ConnectError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<Infallible> for ConnectError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why a command was not accepted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The machine refused it.
    Refused(Refused),
    /// The client has ended: it was disconnected, or its driver is gone.
    Closed,
}

impl CommandError {
    /// Whether there was only no room: the same command may be accepted later.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Refused(Refused::Full))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Closed => f.write_str(CLOSED),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<Refused> for CommandError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Why there is no subscription, or why one could not be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The text is no topic filter.
    Filter(TopicError),
    /// The request was not accepted.
    Command(CommandError),
    /// The server refused every filter: its codes, in order.
    Rejected(Codes),
    /// The request was accepted and ended without an answer of the server.
    Ended(Outcome),
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => error.fmt(f),
            Self::Command(error) => error.fmt(f),
            Self::Rejected(codes) => {
                f.write_str("the server refused the subscription:")?;
                codes.codes.iter().try_for_each(|code| write!(f, " {code}"))?;
                match codes.properties.as_properties().reason_string() {
                    Some(text) => write!(f, ", \"{text}\""),
                    None => Ok(()),
                }
            }
            Self::Ended(outcome) => write!(f, "the request ended without an answer: {outcome:?}"),
        }
    }
}

impl std::error::Error for SubscribeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Filter(error) => Some(error),
            Self::Command(error) => Some(error),
            Self::Rejected(_) | Self::Ended(_) => None,
        }
    }
}

impl From<TopicError> for SubscribeError {
    fn from(error: TopicError) -> Self {
        Self::Filter(error)
    }
}

impl From<CommandError> for SubscribeError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// Why a stream has no message to give now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// None has arrived.
    Empty,
    /// None will arrive: the client has ended or given up connecting.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no message has arrived",
            Self::Closed => CLOSED,
        })
    }
}

impl std::error::Error for TryRecvError {}

const CLOSED: &str = "the client has ended";
