//! Owns the replay: the calls of a transcript on a machine of its own, and the first place where the outputs differ
//! from those that were recorded. It must not know how either is written.

use alloc::boxed::Box;
use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::interface::{Action, Event, Reply};
use crate::machine::{Machine, RestoreError};
use crate::output::Output;
use crate::time::Instant;

use super::entry::{Call, Observed, Origin, Said, Standing};
use super::read::{ReadError, Transcript};
use super::redaction::{MOST_HIDDEN, PLACEHOLDER};
use super::{digest, write};

/// A machine that does what a transcript says.
#[derive(Debug)]
pub struct Replay {
    machine: Machine,
    /// What the last call that took bytes left.
    left: BytesMut,
}

/// What one call gave, as it is and as a transcript tells it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outputs {
    /// As it is.
    pub produced: Produced,
    /// As a transcript tells it.
    pub observed: Observed,
}

/// What one call gave.
#[derive(Debug)]
#[non_exhaustive]
pub enum Produced {
    /// To an input.
    Reply(Reply),
    /// Bytes for the transport.
    Bytes(Bytes),
    /// The next action, if there is one.
    Action(Option<Action>),
    /// The next event, if there is one.
    Event(Option<Event>),
}

impl fmt::Display for Produced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(Reply::Done) => f.write_str("done"),
            Self::Reply(Reply::Unread(bytes)) => write!(f, "{} bytes not taken", bytes.len()),
            Self::Reply(reply) => write!(f, "{reply:?}"),
            Self::Bytes(bytes) => write!(f, "{} bytes: {bytes:?}", bytes.len()),
            Self::Action(Some(action)) => write!(f, "{action:?}"),
            Self::Event(Some(event)) => write!(f, "{event:?}"),
            Self::Action(None) | Self::Event(None) => f.write_str("nothing"),
        }
    }
}

/// Which output differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The reply to an input.
    Reply,
    /// The bytes for the transport.
    Bytes,
    /// An action.
    Action,
    /// An event.
    Event,
    /// When the next timeout is due.
    Deadline,
    /// How much may be read.
    ReadCapacity,
    /// How many actions wait.
    ActionCount,
    /// How many events wait.
    EventCount,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reply => "the reply",
            Self::Bytes => "the bytes for the transport",
            Self::Action => "the action",
            Self::Event => "the event",
            Self::Deadline => "the deadline",
            Self::ReadCapacity => "the read capacity",
            Self::ActionCount => "the number of actions",
            Self::EventCount => "the number of events",
        })
    }
}

/// The first entry whose outputs are not those that were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Which entry, from 0.
    pub entry: usize,
    /// Its time.
    pub at: Instant,
    /// What differs first.
    pub what: What,
    /// What was recorded.
    pub expected: Observed,
    /// What came.
    pub got: Observed,
}

impl Difference {
    /// What differs between the outputs of entry number `entry` and those of its recording; `None` when nothing does.
    pub fn find(entry: usize, at: Instant, call: What, expected: Observed, got: Observed) -> Option<Self> {
        let what = if expected.said != got.said {
            call
        } else {
            match (expected.standing, got.standing) {
                (Some(expected), Some(got)) if expected.deadline != got.deadline => What::Deadline,
                (Some(expected), Some(got)) if expected.read_capacity != got.read_capacity => {
                    What::ReadCapacity
                }
                (Some(expected), Some(got)) if expected.actions != got.actions => What::ActionCount,
                (Some(expected), Some(got)) if expected.events != got.events => What::EventCount,
                _ => return None,
            }
        };
        Some(Self { entry, at, what, expected, got })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, at, what, expected, got } = self;
        write!(f, "entry {entry} at {at} differs in {what}: recorded was {expected}; now it is {got}")
    }
}

/// Why a transcript was not replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// An entry is none.
    Read(ReadError),
    /// The records that the machine was restored from are no session.
    Restore(RestoreError),
    /// The outputs differ.
    Differs(Box<Difference>),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Restore(error) => error.fmt(f),
            Self::Differs(difference) => difference.fmt(f),
        }
    }
}

impl core::error::Error for ReplayError {}

impl From<ReadError> for ReplayError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<RestoreError> for ReplayError {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

impl Replay {
    /// The machine of a transcript, before its first entry.
    ///
    /// # Errors
    /// As [`Machine::restore`].
    pub fn new(transcript: &Transcript) -> Result<Self, RestoreError> {
        let header = transcript.header();
        let (config, seed, start) = (header.config.clone(), header.seed, header.start);
        let machine = match header.origin {
            Origin::New => Machine::new(config, seed, start),
            Origin::Restored { away } => Machine::restore(config, seed, start, away, transcript.records())?,
        };
        Ok(Self { machine, left: BytesMut::new() })
    }

    /// The machine as it stands.
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes one call, whatever was recorded of it: calls of any origin, in any order. `None` for [`Call::Stop`], which
    /// is none.
    pub fn apply(&mut self, at: Instant, call: Call) -> Option<Outputs> {
        let produced = match call {
            Call::Input(input) => Produced::Reply(self.machine.handle(at, input)),
            Call::Bytes { id, continued, bytes, hidden } => {
                let hidden = hidden.min(MOST_HIDDEN);
                let mut input = if continued { core::mem::take(&mut self.left) } else { BytesMut::new() };
                input.extend_from_slice(&bytes);
                input.resize(input.len().saturating_add(hidden), PLACEHOLDER);
                self.machine.handle_input(at, id, &mut input);
                let reply = if input.is_empty() { Reply::Done } else { Reply::Unread(input.clone()) };
                input.truncate(input.len().saturating_sub(hidden));
                self.left = input;
                Produced::Reply(reply)
            }
            Call::Transmit { room } => {
                let mut output = Output::with_mark(room);
                self.machine.transmit(at, &mut output);
                Produced::Bytes(output.copy_to_bytes(output.remaining()))
            }
            Call::PollAction => Produced::Action(self.machine.poll_action()),
            Call::PollEvent => Produced::Event(self.machine.poll_event()),
            Call::Stop(_) => return None,
        };
        let observed = self.observe(&produced);
        Some(Outputs { produced, observed })
    }

    fn observe(&self, produced: &Produced) -> Observed {
        let standing = Some(Standing::of(&self.machine));
        match produced {
            Produced::Reply(reply) => Observed { said: Said::of_reply(reply), standing },
            Produced::Bytes(bytes) if bytes.is_empty() => Observed { said: Said::Nothing, standing },
            Produced::Bytes(bytes) => {
                let (length, digest) = digest::of_parts(core::iter::once(bytes.as_ref()));
                Observed { said: Said::Wrote(length, digest), standing }
            }
            Produced::Action(Some(action)) => Observed::gave(digest::of_action(action)),
            Produced::Event(Some(event)) => Observed::gave(digest::of_event(event)),
            Produced::Action(None) | Produced::Event(None) => {
                Observed { said: Said::Nothing, standing: None }
            }
        }
    }

    /// Replays a whole transcript, and tells how many entries it has.
    ///
    /// # Errors
    /// The first entry that cannot be read, or whose outputs are not those that were recorded.
    pub fn verify(transcript: &Transcript) -> Result<usize, ReplayError> {
        let mut replay = Self::new(transcript)?;
        let mut count = 0_usize;
        for (index, entry) in transcript.entries().enumerate() {
            let entry = entry?;
            count = count.saturating_add(1);
            let (at, expected, output) = (entry.at, entry.observed, What::of(&entry.call));
            let Some(outputs) = replay.apply(at, entry.call) else { break };
            if let Some(expected) = expected
                && let Some(difference) = Difference::find(index, at, output, expected, outputs.observed)
            {
                return Err(ReplayError::Differs(Box::new(difference)));
            }
        }
        Ok(count)
    }

    /// The same calls with the outputs of today: what a transcript becomes when a change of the outputs is wanted. Polls
    /// that give nothing now are left out.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn renew(transcript: &Transcript) -> Result<Bytes, ReplayError> {
        let mut replay = Self::new(transcript)?;
        let mut out = BytesMut::from(transcript.head());
        let mut before = transcript.header().start;
        for entry in transcript.entries() {
            let entry = entry?;
            let mut written = BytesMut::new();
            write::call(&mut written, before, entry.at, &entry.call);
            before = entry.at;
            match replay.apply(entry.at, entry.call) {
                Some(Outputs { produced: Produced::Action(None) | Produced::Event(None), .. }) => continue,
                Some(outputs) => write::observed(&mut written, &outputs.observed),
                None => {}
            }
            out.extend_from_slice(&written);
        }
        Ok(out.freeze())
    }
}

impl What {
    /// What a call gives in the first place.
    pub const fn of(call: &Call) -> Self {
        match call {
            Call::Input(_) | Call::Bytes { .. } | Call::Stop(_) => Self::Reply,
            Call::Transmit { .. } => Self::Bytes,
            Call::PollAction => Self::Action,
            Call::PollEvent => Self::Event,
        }
    }
}
