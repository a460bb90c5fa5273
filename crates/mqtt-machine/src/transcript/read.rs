//! Owns the way from bytes to a transcript: any bytes are one, or the place where they stop being one is named.
//! It must not know what a machine makes of an entry.
//!
//! What a length declares is compared with the bytes that are there before anything is kept, and entries are read one
//! at a time: memory is bounded by the largest entry, never by a number in it.

mod values;

use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{be_u8, le_u32};

use crate::error::TopicError;
use crate::journal::Record;
use crate::time::Instant;
use crate::types::{OpId, TransportId};

use super::entry::{Call, Entry, Header, Observed, Origin, Said, Standing, StopReason};
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
        }
    }
}

impl core::error::Error for ReadError {}

/// What a parser of the format returns.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, Broken>;

/// A parser's failure: what, and how many bytes were left.
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

impl ParseError<&[u8]> for Broken {
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        // nom's own primitives fail only where the input ends.
        Self { left: input.len(), what: Wrong::Truncated }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

fn fail<T>(input: &[u8], what: Wrong) -> Result<T, nom::Err<Broken>> {
    Err(nom::Err::Failure(Broken { left: input.len(), what }))
}

/// What is left, for fields that stand one behind the other.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn read<T>(&mut self, mut parser: impl FnMut(&'a [u8]) -> Parsed<'a, T>) -> Result<T, nom::Err<Broken>> {
        let (rest, value) = parser(self.0)?;
        self.0 = rest;
        Ok(value)
    }

    /// Ends a parser with `value`.
    const fn done<T>(self, value: T) -> Parsed<'a, T> {
        Ok((self.0, value))
    }
}

/// Turns nom's three ways to fail into ours.
fn finish<'a, T>(parsed: Parsed<'a, T>, length: usize) -> Result<(&'a [u8], T), ReadError> {
    parsed.map_err(|error| match error {
        nom::Err::Error(broken) | nom::Err::Failure(broken) => broken.at(length),
        // Only complete parsers are used.
        nom::Err::Incomplete(_) => ReadError { at: length, what: Wrong::Truncated },
    })
}

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
        let (rest, header) = finish(header(&bytes), length)?;
        let records = length.saturating_sub(rest.len());
        let mut cursor = Cursor(rest);
        if header.origin != Origin::New {
            while finish(cursor.read(values::record).map(|record| (cursor.0, record)), length)?.1.is_some() {}
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
        core::iter::from_fn(move || cursor.read(values::record).ok().flatten())
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
        match finish(entry(self.rest, self.at), self.length) {
            Ok((rest, entry)) => {
                self.rest = rest;
                self.at = entry.at;
                Some(Ok(entry))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

fn header(input: &[u8]) -> Parsed<'_, Header> {
    let Some(mut cursor) = input.strip_prefix(&MAGIC).map(Cursor) else {
        return fail(input, Wrong::NotATranscript);
    };
    let at = cursor.0;
    let version = cursor.read(be_u8)?;
    if version != VERSION {
        return fail(at, Wrong::Version(version));
    }
    let redacted = cursor.read(values::flag)?;
    let seed = cursor.read(values::number)?;
    let start = cursor.read(values::instant)?;
    let config = Arc::new(cursor.read(values::config)?);
    let at = cursor.0;
    let origin = match cursor.read(be_u8)? {
        tag::NEW => Origin::New,
        tag::RESTORED => Origin::Restored { away: cursor.read(values::duration)? },
        code => return fail(at, Wrong::Unknown { what: "origin", code }),
    };
    cursor.done(Header { redacted, seed, start, config, origin })
}

fn entry(input: &[u8], before: Instant) -> Parsed<'_, Entry> {
    let mut cursor = Cursor(input);
    let code = cursor.read(be_u8)?;
    let timed = !matches!(code, tag::call::POLL_ACTION | tag::call::POLL_EVENT | tag::call::STOP);
    let at = if timed { cursor.read(|input| later(input, before))? } else { before };
    let call = match code {
        tag::call::BYTES | tag::call::MORE_BYTES => Call::Bytes {
            id: TransportId::new(cursor.read(values::number)?),
            continued: code == tag::call::MORE_BYTES,
            bytes: cursor.read(values::owned)?,
        },
        tag::call::TRANSMIT => Call::Transmit { room: cursor.read(values::size)? },
        tag::call::POLL_ACTION => Call::PollAction,
        tag::call::POLL_EVENT => Call::PollEvent,
        tag::call::STOP => {
            let at = cursor.0;
            match [code, cursor.read(be_u8)?] {
                tag::call::STOP_BUFFER_FULL => Call::Stop(StopReason::BufferFull),
                tag::call::STOP_ASKED => Call::Stop(StopReason::Asked),
                [_, code] => return fail(at, Wrong::Unknown { what: "reason to stop", code }),
            }
        }
        _ => match cursor.read(|rest| values::input(rest, code))? {
            Some(input) => Call::Input(input),
            None => return fail(input, Wrong::Unknown { what: "call", code }),
        },
    };
    let observed = if matches!(call, Call::Stop(_)) || cursor.0.is_empty() {
        None
    } else {
        Some(cursor.read(|rest| observed(rest, timed))?)
    };
    cursor.done(Entry { at, call, observed })
}

/// A time, told as what has passed since `before`.
fn later(input: &[u8], before: Instant) -> Parsed<'_, Instant> {
    let (rest, folded) = values::number(input)?;
    let difference = (folded >> 1).cast_signed() ^ (folded & 1).cast_signed().wrapping_neg();
    Ok((rest, Instant::from_micros(before.as_micros().wrapping_add(difference.cast_unsigned()))))
}

fn observed(input: &[u8], stands: bool) -> Parsed<'_, Observed> {
    let mut cursor = Cursor(input);
    let said = match cursor.read(be_u8)? {
        tag::said::NOTHING => Said::Nothing,
        tag::said::ACCEPTED => Said::Accepted(OpId::new(cursor.read(values::number)?)),
        tag::said::REFUSED => Said::Refused(cursor.read(le_u32)?),
        tag::said::UNREAD => Said::Unread(cursor.read(values::size)?),
        tag::said::WROTE => {
            let bytes = cursor.read(values::size)?;
            Said::Wrote(bytes, cursor.read(le_u32)?)
        }
        tag::said::GAVE => Said::Gave(cursor.read(le_u32)?),
        code => return fail(input, Wrong::Unknown { what: "answer of a machine", code }),
    };
    let standing = if stands {
        Some(Standing {
            deadline: cursor.read(|input| values::option(input, values::instant))?,
            read_capacity: cursor.read(values::size)?,
            actions: cursor.read(values::size)?,
            events: cursor.read(values::size)?,
        })
    } else {
        None
    };
    cursor.done(Observed { said, standing })
}

/// A length and that many bytes, where they stand.
fn view(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, length) = values::size(input)?;
    take(length)(rest)
}
