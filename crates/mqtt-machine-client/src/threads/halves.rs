//! Owns a transport of the user's own: a thread that reads, one that writes, and the bounded hand-over between them and the
//! driver, which never waits for either. It must not know how the halves are opened, nor what their bytes mean.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::gate::Permit;

/// The most that is read, or handed to the writer, at once.
const PORTION: usize = 16 << 10;
/// How long what was given last may take when it is closed.
const LINGER: Duration = Duration::from_secs(1);
/// How long a half is left alone that had nothing to do and did not wait itself.
const PAUSE: Duration = Duration::from_millis(10);

/// What the user has opened: a half to read, a half to write, and the closure that makes both return. Whatever becomes of it, it is
/// shut down.
pub struct Pair {
    /// First, since what is dropped behind it may wait for it.
    shutdown: Shutdown,
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
}

impl Pair {
    /// `shutdown` is called once, on a thread of its own, and must make both halves return.
    pub fn new(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        shutdown: impl FnOnce() + Send + 'static,
    ) -> Self {
        let shutdown = Shutdown(Some(Box::new(shutdown)));
        Self { shutdown, reader: Box::new(reader), writer: Box::new(writer) }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
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
    Arrived(Bytes),
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
    /// What was given last is still being written.
    Parting,
    Over,
}

struct State {
    reading: Reading,
    writing: Writing,
    /// How many bytes of what was given were written and not told.
    written: usize,
    /// When the writer was last given something.
    given: Instant,
    life: Life,
    /// Wakes the driver.
    waker: Waker,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// An open pair of halves, to be polled: opened by [`Gate::open`](super::Gate::open). A thread reads, as much as is asked for, and one
/// writes, one portion of at most 16 KiB at a time. Dropping it closes it at once.
pub struct Halves {
    shared: Arc<Shared>,
    shutdown: Option<(Shutdown, Arc<Permit>)>,
}

impl Halves {
    pub(super) fn start(pair: Pair, permit: &Arc<Permit>) -> io::Result<Self> {
        let Pair { shutdown, reader, writer } = pair;
        let state = State {
            reading: Reading::Paused,
            writing: Writing::Idle,
            written: 0,
            given: Instant::now(),
            life: Life::Open,
            waker: Waker::noop().clone(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
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

    /// Takes what has arrived to the end of `input`, at most as much as has room there; when that is nothing, lets the reader read so
    /// much. 0 is the end.
    ///
    /// # Errors
    /// Those of the reader, once, and that it has panicked.
    pub fn poll_read(&self, input: &mut BytesMut, context: &Context<'_>) -> Poll<io::Result<usize>> {
        let room = input.capacity().saturating_sub(input.len());
        let mut state = self.shared.lock_for(context);
        match &mut state.reading {
            Reading::Paused => {
                state.reading = Reading::Wanted(room.min(PORTION));
                self.shared.changed.notify_all();
                Poll::Pending
            }
            Reading::Wanted(_) => Poll::Pending,
            Reading::Arrived(bytes) => {
                let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                let length = part.len();
                input.extend_from_slice(part);
                bytes.advance(length);
                if bytes.is_empty() {
                    state.reading = Reading::Paused;
                }
                Poll::Ready(Ok(length))
            }
            Reading::Over(result) => Poll::Ready(std::mem::replace(result, Ok(())).map(|()| 0)),
        }
    }

    /// How much was written of what is in `slices` since it was last told; when that is nothing and the writer is free, it is given
    /// the next portion.
    ///
    /// # Errors
    /// Those of the writer, and that it has panicked.
    pub fn poll_write(&self, slices: &[IoSlice<'_>], context: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock_for(context);
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
                state.given = Instant::now();
                self.shared.changed.notify_all();
                Poll::Pending
            }
            Writing::Given(_) | Writing::Busy => Poll::Pending,
            Writing::Over(error) => {
                Poll::Ready(Err(error.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into())))
            }
        }
    }

    /// Closes them, on a thread of its own. What the writer was given within the last second may still be written in that time.
    pub fn close(&mut self) {
        let parts = |state: &State| matches!(state.writing, Writing::Given(_) | Writing::Busy);
        self.part(|state| if parts(state) { Life::Parting } else { Life::Over });
    }

    fn part(&mut self, becomes: impl FnOnce(&State) -> Life) {
        let Some((shutdown, permit)) = self.shutdown.take() else { return };
        let mut state = self.shared.lock();
        state.life = becomes(&state);
        let left = LINGER.saturating_sub(state.given.elapsed());
        drop(state);
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        // Where there is no thread for it, dropping the closure calls it here and now.
        let _ = spawn("mqtt-close", move || {
            let _held = permit;
            let speaks = |state: &mut State| {
                state.life == Life::Parting && matches!(state.writing, Writing::Given(_) | Writing::Busy)
            };
            let waited = shared.changed.wait_timeout_while(shared.lock(), left, speaks);
            waited.unwrap_or_else(PoisonError::into_inner).0.life = Life::Over;
            shared.changed.notify_all();
            drop(shutdown);
        });
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.part(|_| Life::Over);
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

    /// As [`lock`](Self::lock), for a driver that is woken when something changes.
    fn lock_for(&self, context: &Context<'_>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.waker.clone_from(context.waker());
        state
    }

    /// Changes the state and tells the driver.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.waker.clone();
        drop(state);
        self.changed.notify_all();
        waker.wake();
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
                    let arrived = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::Gate;
    use super::*;
    use crate::wake::block_until;

    /// Tells what is written.
    struct Telling(mpsc::Sender<Vec<u8>>);

    impl Write for Telling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Reads nothing until it is dropped.
    struct Silent(mpsc::Receiver<()>);

    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(0)
        }
    }

    fn halves(gate: &Arc<Gate>, writer: impl Write + Send + 'static) -> (Halves, mpsc::Receiver<Instant>) {
        let (hang_up, hung_up) = mpsc::channel();
        let (shut, told) = mpsc::channel();
        let opening = gate.open(move || {
            Ok(Pair::new(Silent(hung_up), writer, move || {
                drop(hang_up);
                shut.send(Instant::now()).unwrap();
            }))
        });
        (block_until(opening, Some(Instant::now() + Duration::from_secs(5))).unwrap().unwrap(), told)
    }

    fn is_free(gate: &Arc<Gate>) -> bool {
        gate.wait(Duration::from_secs(5));
        let again = gate.open(|| Err(ErrorKind::NotFound.into()));
        block_until(again, Some(Instant::now() + Duration::from_secs(5))).is_some()
    }

    #[test]
    fn last_words_go_on_where_the_writer_stands() {
        let (gate, context) = (Arc::default(), Context::from_waker(Waker::noop()));
        let (tell, written) = mpsc::channel();
        let (mut halves, shut) = halves(&gate, Telling(tell));
        assert!(halves.poll_write(&[IoSlice::new(b"abc")], &context).is_pending());
        assert_eq!(written.recv_timeout(Duration::from_secs(5)).unwrap(), b"abc");
        while !matches!(halves.shared.lock().writing, Writing::Idle) {
            thread::sleep(Duration::from_millis(1));
        }
        // The driver has not been told of it, and so the same bytes stand before its last words.
        let written_of = |slice: &[u8]| halves.poll_write(&[IoSlice::new(slice)], &context);
        assert!(matches!(written_of(b"abcdef"), Poll::Ready(Ok(3))));
        assert!(written_of(b"def").is_pending());
        halves.close();
        assert_eq!(written.recv_timeout(Duration::from_secs(5)).unwrap(), b"def");
        shut.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(is_free(&gate));
    }

    #[test]
    fn a_writer_that_is_stuck_is_not_waited_for_longer_than_a_second() {
        struct Stuck(mpsc::Receiver<()>);

        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Err(ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        for drops in [false, true] {
            let (gate, context) = (Arc::default(), Context::from_waker(Waker::noop()));
            let (free, stuck) = mpsc::channel();
            let (mut halves, shut) = halves(&gate, Stuck(stuck));
            let begin = Instant::now();
            assert!(halves.poll_write(&[IoSlice::new(b"abc")], &context).is_pending());
            if drops {
                drop(halves);
            } else {
                halves.close();
            }
            let took = shut.recv_timeout(Duration::from_secs(5)).unwrap() - begin;
            assert_eq!(took < LINGER, drops, "{took:?}");
            assert!(took < 3 * LINGER, "{took:?}");
            drop(free);
            assert!(is_free(&gate));
        }
    }
}
