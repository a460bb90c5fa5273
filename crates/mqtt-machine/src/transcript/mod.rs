//! Owns transcripts: what was done to a machine and what it answered, recorded, read and replayed. It must not know
//! where the bytes of a recording go.
//!
//! A machine is a pure function of its inputs, so the list of them is all there is to a bug report or a regression
//! test. A [`Recorder`] is a [`Machine`](crate::Machine) that writes that list; [`Transcript`] reads it, whatever the
//! bytes; [`Replay::verify`] runs it again and names the first entry at which the outputs are not those that were
//! recorded. `docs/transcripts.md` describes the format field by field, and what a redacted recording holds back.

mod digest;
mod entry;
mod read;
mod recorder;
mod redaction;
mod replay;
mod sink;
mod tag;
mod tape;
mod write;

pub use entry::{Call, Entry, Header, Observed, Origin, Said, Standing, StopReason};
pub use read::{Entries, ReadError, Transcript, Wrong};
pub use recorder::{Recorder, Recording};
pub use replay::{Difference, Outputs, Produced, Replay, ReplayError, What};

/// What every transcript begins with.
const MAGIC: [u8; 8] = *b"mqtt-rec";
/// The version of the format, behind the magic.
const VERSION: u8 = 1;
