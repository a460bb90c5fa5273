//! Owns what can be wrong with a broker, and how a run ends.
//! It must not know how it was found.

use core::fmt;

use mqtt_machine::{Capabilities, ReasonCode};

/// The ways in which a broker can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It is gone: new connections are refused, or one that did nothing wrong was dropped.
    Crash,
    /// It is there and does not answer.
    Hang,
    /// It sent what is no packet of the version.
    Malformed,
    /// It went on with what the standard forbids.
    Accepted,
    /// It neither closed the connection nor went on.
    NotClosed,
    /// It refused what the standard allows.
    Refused,
    /// It answered with the wrong packet, the wrong identifier, to nobody, or not at all.
    WrongAnswer,
    /// It closed the connection with a code that the rule does not allow.
    WrongCode,
}

impl Class {
    /// Its name in tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Malformed => "malformed-answer",
            Self::Accepted => "accepted",
            Self::NotClosed => "not-closed",
            Self::Refused => "refused",
            Self::WrongAnswer => "wrong-answer",
            Self::WrongCode => "wrong-code",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// In which way.
    pub class: Class,
    /// What, in words.
    pub what: String,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The broker closed it, with this code if it said one.
    Closed(Option<ReasonCode>),
    /// Everything was sent and answered, and the connection goes on.
    Alive,
    /// Nothing more came for the time that was allowed.
    Silent,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub ending: Ending,
    /// What was wrong; empty when nothing was.
    pub complaints: Vec<Complaint>,
    /// Everything that the broker said.
    pub heard: Vec<u8>,
    /// What the broker allows, if it accepted a CONNECT.
    pub capabilities: Option<Capabilities>,
}
