//! Owns why a command did not do what it was asked for, and the exit code that says so. It must not know any command.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: something else, told in words.
    Other(String),
    /// 2: the command line makes no sense.
    Usage(String),
    /// 3: there was no connection, or none any more.
    NotConnected(String),
    /// 4: not everything was delivered or granted.
    Refused(String),
    /// 5: the time that was given is over.
    TimedOut,
    /// 130, as a shell says it: an interrupt ended it at once, whatever was still to be done.
    Interrupted,
}

/// A command line that makes no sense.
pub(crate) fn usage(why: impl fmt::Display) -> Failure {
    Failure::Usage(why.to_string())
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::NotConnected(_) => 3,
            Self::Refused(_) => 4,
            Self::TimedOut => 5,
            Self::Interrupted => 130,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(why) | Self::Usage(why) | Self::NotConnected(why) | Self::Refused(why) => {
                f.write_str(why)
            }
            Self::TimedOut => f.write_str("the time is over"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}
