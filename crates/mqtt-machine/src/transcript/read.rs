//! Owns the way from bytes to a transcript: any bytes are one, or the place where they stop being one is named.
//! It must not know what a machine makes of an entry.
//!
//! What a length declares is compared with the bytes that are there before anything is kept, and entries are read one
//! at a time: memory is bounded by the largest entry, never by a number in it.

mod values;

use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;

use crate::error::TopicError;
use crate::journal::{KeyError, Record, RecordError};
use crate::time::Instant;
use crate::types::{OpId, TransportId};

use super::entry::{Call, Entry, Header, Observed, Origin, Said, Standing, StopReason};
use super::redaction::MOST_HIDDEN;
use super::{MAGIC, VERSION, tag};

/// Why bytes are no transcript, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Behind how many bytes.
    pub at: usize,
    /// What is wrong there.
    pub what: Wrong,
}

/// What is wrong with bytes that should be a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// They begin with something else.
    NotATranscript,
    /// A version that is not read here.
    Version(u8),
    /// More bytes than [`Transcript::MAX_LEN`].
    TooLong,
    /// They end within a field.
    Truncated,
    /// A number that its field does not hold.
    Number,
    /// A number that says what follows, and does not say it here.
    Unknown {
        /// What should follow.
        what: &'static str,
        /// The number.
        code: u8,
    },
    /// A text that is not UTF-8.
    Text,
    /// A text that is no topic name or topic filter.
    Topic(TopicError),
    /// A list of properties that is none.
    Properties,
    /// Bytes that are no record of a journal.
    Record(RecordError),
    /// Bytes that are no key of a publication.
    Key(KeyError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "behind {} bytes: ", self.at)?;
        match self.what {
            Wrong::NotATranscript => f.write_str("this is no transcript"),
            Wrong::Version(version) => write!(f, "version {version} of the format is not read here"),
            Wrong::TooLong => write!(f, "a transcript has at most {} bytes", Transcript::MAX_LEN),
            Wrong::Truncated => f.write_str("the transcript ends within a field"),
            Wrong::Number => f.write_str("a number is out of its range"),
            Wrong::Unknown { what, code } => write!(f, "{code} is no {what}"),
            Wrong::Text => f.write_str("a text is not UTF-8"),
            Wrong::Topic(error) => error.fmt(f),
            Wrong::Properties => f.write_str("a list of properties is not valid"),
            Wrong::Record(error) => error.fmt(f),
            Wrong::Key(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}

/// A value of the format, or why there is none.
type Read<T> = Result<T, Broken>;

/// Why there is no value: what is wrong, and how many bytes were left there.
#[derive(Debug)]
struct Broken {
    left: usize,
    what: Wrong,
}

impl Broken {
    const fn at(self, length: usize) -> ReadError {
        ReadError { at: length.saturating_sub(self.left), what: self.what }
    }
}

fn fail<T>(at: &[u8], what: Wrong) -> Read<T> {
    Err(Broken { left: at.len(), what })
}

/// A number that says what follows, and does not say it here.
fn unknown<T>(at: &[u8], what: &'static str, code: u8) -> Read<T> {
    fail(at, Wrong::Unknown { what, code })
}

/// What is left, for fields that stand one behind the other. A field takes what it has read.
struct Cursor<'a>(&'a [u8]);

/// A recording: a header, and entries that are read when they are asked for.
///
/// ```
/// use std::sync::Arc;
/// use mqtt_machine::transcript::{Recorder, Recording, Replay, Transcript};
/// use mqtt_machine::{Config, Instant, Server};
///
/// let config = Arc::new(Config::new(Server::new("broker:1883")));
/// let mut recorder = Recorder::new(config, 42, Instant::ZERO, Some(Recording::new()));
/// recorder.connect(Instant::from_micros(5))?;
/// while let Some(action) = recorder.poll_action() {
///     println!("{action:?}");
/// }
///
/// let transcript = Transcript::new(recorder.take_recorded())?;
/// assert_eq!(transcript.entries().count(), 2);
/// assert_eq!(Replay::verify(&transcript)?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Transcript {
    bytes: Bytes,
    header: Header,
    /// Where the records begin, and where the entries do.
    records: usize,
    entries: usize,
}

impl Transcript {
    /// The most that is read, in bytes.
    pub const MAX_LEN: usize = 1 << 30;

    /// Reads the header, and checks the records. Entries are checked when they are asked for.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, ReadError> {
        let bytes = bytes.into();
        let length = bytes.len();
        if length > Self::MAX_LEN {
            return Err(ReadError { at: Self::MAX_LEN, what: Wrong::TooLong });
        }
        let mut cursor = Cursor(&bytes);
        let header = header(&mut cursor).map_err(|broken| broken.at(length))?;
        let records = length.saturating_sub(cursor.0.len());
        if header.origin != Origin::New {
            while values::record(&mut cursor).map_err(|broken| broken.at(length))?.is_some() {}
        }
        let entries = length.saturating_sub(cursor.0.len());
        Ok(Self { bytes, header, records, entries })
    }

    /// What the machine was made of.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The records that the machine was restored from, in order; none for a new one.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut cursor = Cursor(self.bytes.get(self.records..self.entries).unwrap_or_default());
        // `new` has read all of them.
        core::iter::from_fn(move || values::record(&mut cursor).ok().flatten())
    }

    /// The entries, in order, up to the first that is none.
    pub fn entries(&self) -> Entries<'_> {
        let rest = self.bytes.get(self.entries..).unwrap_or_default();
        Entries { rest, length: self.bytes.len(), at: self.header.start }
    }

    /// What stands before the entries, as it was read.
    pub(super) fn head(&self) -> &[u8] {
        self.bytes.get(..self.entries).unwrap_or_default()
    }
}

/// Reads the entries of a [`Transcript`]; after an error there are none.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    length: usize,
    at: Instant,
}

impl Entries<'_> {
    /// Behind how many bytes of the transcript the next entry begins.
    pub const fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut cursor = Cursor(self.rest);
        match entry(&mut cursor, self.at) {
            Ok(entry) => {
                self.rest = cursor.0;
                self.at = entry.at;
                Some(Ok(entry))
            }
            Err(broken) => {
                self.rest = &[];
                Some(Err(broken.at(self.length)))
            }
        }
    }
}

fn header(from: &mut Cursor<'_>) -> Read<Header> {
    let Some(rest) = from.0.strip_prefix(&MAGIC) else { return fail(from.0, Wrong::NotATranscript) };
    from.0 = rest;
    let at = from.0;
    let version = values::byte(from)?;
    if version != VERSION {
        return fail(at, Wrong::Version(version));
    }
    let redacted = values::flag(from)?;
    let seed = values::number(from)?;
    let start = values::instant(from)?;
    let config = Arc::new(values::config(from)?);
    let at = from.0;
    let origin = match values::byte(from)? {
        tag::NEW => Origin::New,
        tag::RESTORED => Origin::Restored { away: values::duration(from)? },
        code => return unknown(at, "origin", code),
    };
    Ok(Header { redacted, seed, start, config, origin })
}

/// Whether there is a number of bytes behind those that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Told,
    Counted,
}

fn bytes(from: &mut Cursor<'_>, continued: bool, body: Body) -> Read<Call> {
    let (id, bytes) = (TransportId::new(values::number(from)?), values::owned(from)?);
    let hidden = if body == Body::Counted { values::size(from)?.min(MOST_HIDDEN) } else { 0 };
    Ok(Call::Bytes { id, continued, bytes, hidden })
}

fn entry(from: &mut Cursor<'_>, before: Instant) -> Read<Entry> {
    let start = from.0;
    let code = values::byte(from)?;
    let timed = !matches!(code, tag::call::POLL_ACTION | tag::call::POLL_EVENT | tag::call::STOP);
    let at = if timed { later(from, before)? } else { before };
    let call = match code {
        tag::call::BYTES => bytes(from, false, Body::Told)?,
        tag::call::MORE_BYTES => bytes(from, true, Body::Told)?,
        tag::call::HIDDEN_BYTES => bytes(from, false, Body::Counted)?,
        tag::call::MORE_HIDDEN_BYTES => bytes(from, true, Body::Counted)?,
        tag::call::TRANSMIT => Call::Transmit { room: values::size(from)? },
        tag::call::POLL_ACTION => Call::PollAction,
        tag::call::POLL_EVENT => Call::PollEvent,
        tag::call::STOP => {
            let at = from.0;
            match [code, values::byte(from)?] {
                tag::call::STOP_BUFFER_FULL => Call::Stop(StopReason::BufferFull),
                tag::call::STOP_ASKED => Call::Stop(StopReason::Asked),
                [_, code] => return unknown(at, "reason to stop", code),
            }
        }
        _ => match values::input(from, code)? {
            Some(input) => Call::Input(input),
            None => return unknown(start, "call", code),
        },
    };
    let observed =
        if matches!(call, Call::Stop(_)) || from.0.is_empty() { None } else { Some(observed(from, timed)?) };
    Ok(Entry { at, call, observed })
}

/// A time, told as what has passed since `before`.
fn later(from: &mut Cursor<'_>, before: Instant) -> Read<Instant> {
    let folded = values::number(from)?;
    let difference = (folded >> 1).cast_signed() ^ (folded & 1).cast_signed().wrapping_neg();
    Ok(Instant::from_micros(before.as_micros().wrapping_add(difference.cast_unsigned())))
}

fn observed(from: &mut Cursor<'_>, stands: bool) -> Read<Observed> {
    let start = from.0;
    let said = match values::byte(from)? {
        tag::said::NOTHING => Said::Nothing,
        tag::said::ACCEPTED => Said::Accepted(OpId::new(values::number(from)?)),
        tag::said::REFUSED => Said::Refused(values::digest(from)?),
        tag::said::UNREAD => Said::Unread(values::size(from)?),
        tag::said::WROTE => {
            let bytes = values::size(from)?;
            Said::Wrote(bytes, values::digest(from)?)
        }
        tag::said::GAVE => Said::Gave(values::digest(from)?),
        code => return unknown(start, "answer of a machine", code),
    };
    let standing = if stands {
        Some(Standing {
            deadline: values::option(from, values::instant)?,
            read_capacity: values::size(from)?,
            actions: values::size(from)?,
            events: values::size(from)?,
        })
    } else {
        None
    };
    Ok(Observed { said, standing })
}
