//! Owns where a client's recording goes. It must not know what is in it.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mqtt_machine::transcript::{Recording, StopReason};

type Writer = Box<dyn Write + Send>;

/// A recording of everything that a client's machine is told and answers: a transcript, to be replayed by
/// `mqtt-machine replay` or kept as a test. See [`Options::record`](crate::Options::record).
///
/// Unless told otherwise it is redacted: user names, passwords and authentication data are placeholders in it.
/// **Everything else is in it as it is, the payloads of all messages included.**
///
/// The driver writes what was recorded once per turn, not under the client's lock, so a slow sink holds up this
/// client's driver. When the sink fails, or more is recorded between two turns than the buffer takes, the recording
/// ends with [`ClientEvent::RecordingStopped`](crate::ClientEvent::RecordingStopped), and the client goes on.
///
/// ```no_run
/// use mqtt_machine_client::{Options, Record};
///
/// let options = Options::from_url("mqtt://user:secret@broker.example")?.record(Record::to_file("bug.transcript")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Record {
    /// A sink serves one client: the first that is made with these options.
    sink: Arc<Mutex<Option<Writer>>>,
    recording: Recording,
}

impl Record {
    /// Records to `sink`. It serves the first client that is made with it; another one's recording ends at once.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self { sink: Arc::new(Mutex::new(Some(Box::new(sink)))), recording: Recording::new() }
    }

    /// Records to a file, which is created, or emptied if it is there.
    ///
    /// # Errors
    /// Those of [`File::create`].
    pub fn to_file(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::to(File::create(path)?))
    }

    /// With user names, passwords and authentication data as they are: whoever reads the transcript has them.
    pub const fn including_secrets(mut self) -> Self {
        self.recording = self.recording.including_secrets();
        self
    }

    /// With so many bytes for what is recorded between two turns of the driver. Default 8 MiB.
    pub const fn buffer(mut self, bytes: usize) -> Self {
        self.recording = self.recording.buffer(bytes);
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("recording", &self.recording).finish_non_exhaustive()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sink, &other.sink) && self.recording == other.recording
    }
}

/// Where one driver writes to.
pub(crate) enum Sink {
    /// There is no recording, or it has ended.
    None,
    /// Here.
    Open(Box<Writer>),
    /// Another client took the sink: its user is to be told.
    Taken,
}

impl Sink {
    /// The sink of a new client, and what goes there.
    pub(crate) fn open(record: Option<&Record>) -> (Self, Option<Recording>) {
        let Some(Record { sink, recording }) = record else { return (Self::None, None) };
        match sink.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(writer) => (Self::Open(Box::new(writer)), Some(*recording)),
            None => (Self::Taken, None),
        }
    }

    /// Writes what was recorded, never under the client's lock. `stopped` says that nothing follows. What comes back is
    /// why the recording ends here, for people.
    pub(crate) fn write(&mut self, recorded: &[u8], stopped: Option<StopReason>) -> Option<String> {
        let why = match (&mut *self, stopped) {
            (Self::None, _) => return None,
            (Self::Taken, _) => "its sink is another client's".to_owned(),
            (Self::Open(writer), stopped) => match (writer.write_all(recorded), stopped) {
                (Err(error), _) => error.to_string(),
                (Ok(()), Some(reason)) => reason.to_string(),
                (Ok(()), None) => return None,
            },
        };
        *self = Self::None;
        Some(why)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::Open(writer) = self {
            // Nobody is left who could be told.
            let _ = writer.flush();
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Open(_) => "Open",
            Self::Taken => "Taken",
        })
    }
}
