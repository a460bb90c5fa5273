//! Owns a transport of the user's own: a thread that reads, one that writes, and the bounded hand-over between them and the
//! driver, which never waits for either. It must not know how the halves are opened, nor what their bytes mean.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::connector::Permit;

/// The most that is read, or handed to the writer, at once.
const PORTION: usize = 16 << 10;
/// How long the last words of the layers may take.
const LINGER: Duration = Duration::from_secs(1);
/// How long a half is left alone that had nothing to do and did not wait itself.
const PAUSE: Duration = Duration::from_millis(10);

/// What the user has opened. Whatever becomes of it, it is shut down.
pub(crate) struct Parts {
    /// First, since what is dropped behind it may wait for it.
    shutdown: Shutdown,
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
}

impl Parts {
    pub(crate) fn new(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        shutdown: impl FnOnce() + Send + 'static,
    ) -> Self {
        let shutdown = Shutdown(Some(Box::new(shutdown)));
        Self { shutdown, reader: Box::new(reader), writer: Box::new(writer) }
    }
}

/// Calls the closure when it is dropped.
struct Shutdown(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Shutdown {
    fn drop(&mut self) {
        if let Some(shutdown) = self.0.take() {
            shutdown();
        }
    }
}

/// Where the reader stands.
enum Reading {
    /// It waits until it is asked.
    Paused,
    /// It is to read so many bytes, or does.
    Wanted(usize),
    /// This is for the driver.
    Arrived(BytesMut),
    Over(io::Result<()>),
}

/// Where the writer stands.
enum Writing {
    Idle,
    /// This is to be written.
    Given(Bytes),
    Busy,
    Over(Option<io::Error>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The last words are being written.
    Parting,
    Over,
}

struct State {
    reading: Reading,
    writing: Writing,
    /// How many bytes of what was given were written and not told.
    written: usize,
    life: Life,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    waker: Waker,
}

/// An open pair of halves, as the driver has it. Dropping it closes it.
pub(crate) struct Halves {
    shared: Arc<Shared>,
    shutdown: Option<(Shutdown, Arc<Permit>)>,
}

impl Halves {
    /// Starts the threads; `waker` is woken when one of them has something to tell.
    pub(crate) fn start(parts: Parts, permit: &Arc<Permit>, waker: Waker) -> io::Result<Self> {
        let Parts { shutdown, reader, writer } = parts;
        let state = State { reading: Reading::Paused, writing: Writing::Idle, written: 0, life: Life::Open };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), waker });
        let halves = Self { shared: Arc::clone(&shared), shutdown: Some((shutdown, Arc::clone(permit))) };
        let (reads, held) = (Arc::clone(&shared), Arc::clone(permit));
        spawn("mqtt-read", move || {
            let _held = held;
            let result = catch_unwind(AssertUnwindSafe(|| reads.read_on(reader)));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("the reader has panicked")));
            reads.change(|state| state.reading = Reading::Over(result));
        })?;
        let held = Arc::clone(permit);
        spawn("mqtt-write", move || {
            let _held = held;
            let result = catch_unwind(AssertUnwindSafe(|| shared.write_on(writer)));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("the writer has panicked")));
            shared.change(|state| state.writing = Writing::Over(result.err()));
        })?;
        Ok(halves)
    }

    /// Takes what has arrived to the end of `input`, at most `capacity` bytes; when that is nothing, lets the reader read so many.
    pub(crate) fn read(&self, input: &mut BytesMut, capacity: usize) -> io::Result<Poll<usize>> {
        let mut state = self.shared.lock();
        match &mut state.reading {
            Reading::Paused => {
                state.reading = Reading::Wanted(capacity.min(PORTION));
                self.shared.changed.notify_all();
                Ok(Poll::Pending)
            }
            Reading::Wanted(_) => Ok(Poll::Pending),
            Reading::Arrived(bytes) => {
                let part = bytes.get(..capacity.min(bytes.len())).unwrap_or_default();
                let length = part.len();
                input.extend_from_slice(part);
                bytes.advance(length);
                if bytes.is_empty() {
                    state.reading = Reading::Paused;
                }
                Ok(Poll::Ready(length))
            }
            Reading::Over(result) => std::mem::replace(result, Ok(())).map(|()| Poll::Ready(0)),
        }
    }

    /// How much was written of what is in `slices` since it was last told; when that is nothing and the writer is free, it is given
    /// the next portion.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if state.written > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut state.written)));
        }
        match &mut state.writing {
            Writing::Idle => {
                let mut portion = BytesMut::new();
                for slice in slices {
                    let room = PORTION.saturating_sub(portion.len());
                    portion.extend_from_slice(slice.get(..room.min(slice.len())).unwrap_or_default());
                }
                state.writing = Writing::Given(portion.freeze());
                self.shared.changed.notify_all();
                Poll::Pending
            }
            Writing::Given(_) | Writing::Busy => Poll::Pending,
            Writing::Over(error) => {
                Poll::Ready(Err(error.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into())))
            }
        }
    }

    /// Closes them, with these last words if the writer is free for them.
    pub(crate) fn close(mut self, farewell: Bytes) {
        self.part(farewell);
    }

    fn part(&mut self, farewell: Bytes) {
        let Some((shutdown, permit)) = self.shutdown.take() else { return };
        let mut state = self.shared.lock();
        state.life = Life::Over;
        if matches!(state.writing, Writing::Idle) && !farewell.is_empty() {
            state.writing = Writing::Given(farewell);
            state.life = Life::Parting;
        }
        drop(state);
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        // Where there is no thread for it, dropping the closure calls it here and now.
        let _ = spawn("mqtt-close", move || {
            let _held = permit;
            let state = shared.lock();
            let speaks = |state: &mut State| {
                state.life == Life::Parting && matches!(state.writing, Writing::Given(_) | Writing::Busy)
            };
            let waited = shared.changed.wait_timeout_while(state, LINGER, speaks);
            waited.unwrap_or_else(PoisonError::into_inner).0.life = Life::Over;
            shared.changed.notify_all();
            drop(shutdown);
        });
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.part(Bytes::new());
    }
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Halves(..)")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells the driver.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
        self.waker.wake_by_ref();
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// A half had nothing to do: it is tried again, but not all the time.
    fn pause(&self, begin: Instant) {
        if begin.elapsed() < PAUSE {
            let is_there = |state: &mut State| state.life != Life::Over;
            let _ = self.changed.wait_timeout_while(self.lock(), PAUSE, is_there);
        }
    }

    /// How many bytes are to be read; `None` when no more are.
    fn wanted(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            match state.reading {
                _ if state.life != Life::Open => return None,
                Reading::Wanted(count) => return Some(count),
                _ => state = self.wait(state),
            }
        }
    }

    /// What is to be written; `None` when nothing will be.
    fn given(&self) -> Option<Bytes> {
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut state.writing, Writing::Busy) {
                Writing::Given(portion) if state.life != Life::Over => return Some(portion),
                _ if state.life != Life::Open => return None,
                other => state.writing = other,
            }
            state = self.wait(state);
        }
    }

    fn read_on(&self, mut reader: Box<dyn Read + Send>) -> io::Result<()> {
        let mut buffer = vec![0; PORTION];
        while let Some(wanted) = self.wanted() {
            let begin = Instant::now();
            match reader.read(buffer.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => break,
                Ok(length) => {
                    let arrived = BytesMut::from(buffer.get(..length).unwrap_or_default());
                    self.change(|state| state.reading = Reading::Arrived(arrived));
                }
                Err(error) if is_passing(&error) => self.pause(begin),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_on(&self, mut writer: Box<dyn Write + Send>) -> io::Result<()> {
        while let Some(mut portion) = self.given() {
            let mut untold = 0;
            while !portion.is_empty() {
                match self.attempt(|| writer.write(&portion))? {
                    0 => return Err(ErrorKind::WriteZero.into()),
                    length => {
                        portion.advance(length.min(portion.len()));
                        let told = std::mem::replace(&mut untold, length);
                        if told > 0 {
                            self.change(|state| state.written = state.written.saturating_add(told));
                        }
                    }
                }
            }
            // A writer may keep bytes back until then, so the last of them have not left before.
            self.attempt(|| writer.flush())?;
            self.change(|state| {
                state.written = state.written.saturating_add(untold);
                state.writing = Writing::Idle;
            });
        }
        Ok(())
    }

    /// Tries until it works, fails for good, or the transport is over.
    fn attempt<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let begin = Instant::now();
            match work() {
                Err(error) if is_passing(&error) && self.lock().life != Life::Over => self.pause(begin),
                result => return result,
            }
        }
    }
}

/// Whether the half only had nothing to do in time.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
