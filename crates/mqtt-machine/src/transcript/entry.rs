//! Owns the model of a transcript: what its header and its entries say. It must not know how they are written.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::interface::Input;
use crate::time::Instant;
use crate::types::{OpId, TransportId};

/// What a machine was made of, but for its records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Header {
    /// The machine saw placeholders instead of secrets.
    pub redacted: bool,
    /// The seed.
    pub seed: u64,
    /// The time at which it was made.
    pub start: Instant,
    /// The configuration.
    pub config: Arc<Config>,
    /// How it was made.
    pub origin: Origin,
}

/// How the machine was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By [`Machine::new`](crate::Machine::new).
    New,
    /// By [`Machine::restore`](crate::Machine::restore), from [`Transcript::records`](super::Transcript::records).
    Restored {
        /// The wall time since the last record.
        away: Duration,
    },
}

/// One call of the machine, and what it answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What was called.
    pub call: Call,
    /// What the recorded machine answered. `None` only at the very end: the recording stopped within the call.
    pub observed: Option<Observed>,
}

/// A call that changes a machine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Call {
    /// [`Machine::handle`](crate::Machine::handle), or the method that spells this input; never [`Input::Bytes`].
    Input(Input),
    /// [`Machine::handle_input`](crate::Machine::handle_input) or [`Input::Bytes`].
    Bytes {
        /// From which transport.
        id: TransportId,
        /// What the last call of this kind left stands before `bytes`.
        continued: bool,
        /// What was read since.
        bytes: Bytes,
        /// How many bytes stood behind these that belong to a packet whose end had not come, and that may hold a secret: a machine does
        /// not look at them, but counts them. The next call brings them again. At most 256 KiB.
        hidden: usize,
    },
    /// [`Machine::transmit`](crate::Machine::transmit) into an output that lacked this many bytes to its mark.
    Transmit {
        /// How many bytes.
        room: usize,
    },
    /// [`Machine::poll_action`](crate::Machine::poll_action), which gave one.
    PollAction,
    /// [`Machine::poll_event`](crate::Machine::poll_event), which gave one.
    PollEvent,
    /// No call: nothing was recorded from here on.
    Stop(StopReason),
}

/// Why a recording stopped before its machine did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The next entry did not fit into what the buffer had left.
    BufferFull,
    /// The caller asked for it, perhaps because there was nowhere to write to.
    Asked,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BufferFull => "the buffer of the recording was full",
            Self::Asked => "the recording was ended",
        })
    }
}

/// What a machine answered to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What the call gave.
    pub said: Said,
    /// How the machine stood after it; not told after polls, which change nothing of it but the counts.
    pub standing: Option<Standing>,
}

/// What a call gave. Digests are those of `docs/transcripts.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// Nothing.
    Nothing,
    /// The command was accepted.
    Accepted(OpId),
    /// The command was refused; the digest of why.
    Refused(u32),
    /// So many bytes were not taken.
    Unread(usize),
    /// Bytes for the transport: how many, and their digest.
    Wrote(usize, u32),
    /// An action or an event; its digest.
    Gave(u32),
}

/// What a driver reads off a machine between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// [`Machine::poll_timeout`](crate::Machine::poll_timeout).
    pub deadline: Option<Instant>,
    /// [`Machine::read_capacity`](crate::Machine::read_capacity).
    pub read_capacity: usize,
    /// Actions that wait to be polled.
    pub actions: usize,
    /// Events that wait to be polled.
    pub events: usize,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { redacted, seed, start, config, origin } = self;
        let secrets = if *redacted { "secrets are placeholders" } else { "SECRETS ARE IN CLEAR" };
        write!(f, "a machine of seed {seed}, ")?;
        match origin {
            Origin::New => f.write_str("new")?,
            Origin::Restored { away } => write!(f, "restored after {away:?}")?,
        }
        write!(f, " at {start}; {secrets}\n{config:#?}")
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(input) => write!(f, "{input:?}"),
            Self::Bytes { id, continued, bytes, hidden } => {
                let after = if *continued { " after those left" } else { "" };
                write!(f, "{} bytes{after} from transport {}: {bytes:?}", bytes.len(), id.to_u64())?;
                if *hidden > 0 { write!(f, " and {hidden} hidden") } else { Ok(()) }
            }
            Self::Transmit { room } => write!(f, "transmit, room for {room} bytes"),
            Self::PollAction => f.write_str("poll an action"),
            Self::PollEvent => f.write_str("poll an event"),
            Self::Stop(reason) => write!(f, "the transcript stops: {reason}"),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Accepted(op) => write!(f, "accepted as {}", op.to_u64()),
            Self::Refused(digest) => write!(f, "refused, digest {digest:08x}"),
            Self::Unread(bytes) => write!(f, "{bytes} bytes not taken"),
            Self::Wrote(bytes, digest) => write!(f, "{bytes} bytes, digest {digest:08x}"),
            Self::Gave(digest) => write!(f, "digest {digest:08x}"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deadline {
            Some(deadline) => write!(f, "deadline {deadline}")?,
            None => f.write_str("no deadline")?,
        }
        let Self { read_capacity, actions, events, .. } = self;
        write!(f, ", reads {read_capacity}, {actions} actions, {events} events")
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)?;
        match &self.standing {
            Some(standing) => write!(f, "; {standing}"),
            None => Ok(()),
        }
    }
}
