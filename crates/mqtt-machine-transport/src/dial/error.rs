//! Owns why no socket could be opened. It must not hold credentials.

use std::fmt;
use std::io;

use crate::dial::question::SrvError;
use crate::error::ConfigError;

/// Why a [`Dial`](crate::Dial) came to nothing: the last thing that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The SRV records of this name were not found.
    Service {
        /// The name.
        name: String,
        /// Why.
        error: SrvError,
    },
    /// The domain says that it does not have this service.
    NotOffered {
        /// The name that was asked for.
        name: String,
    },
    /// The lookup of a name failed.
    Resolve {
        /// The name.
        name: String,
        /// What kind of failure it was.
        kind: io::ErrorKind,
        /// Why, in the resolver's words.
        why: String,
    },
    /// A name has no address.
    NoAddress {
        /// The name.
        name: String,
    },
    /// The attempt at an address failed.
    Connect {
        /// The address or path.
        to: String,
        /// What kind of failure it was.
        kind: io::ErrorKind,
        /// Why, in the system's words.
        why: String,
    },
    /// The layers on the socket could not be made.
    Config(ConfigError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name, error } => write!(f, "{name}: {error}"),
            Self::NotOffered { name } => write!(f, "{name}: the domain does not have this service"),
            Self::Resolve { name, why, .. } => write!(f, "{name}: {why}"),
            Self::NoAddress { name } => write!(f, "{name} has no address"),
            Self::Connect { to, why, .. } => write!(f, "{to}: {why}"),
            Self::Config(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Service { error, .. } => Some(error),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}
