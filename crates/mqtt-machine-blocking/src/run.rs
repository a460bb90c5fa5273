//! Owns the driver's loop on a thread: wait, then let the shared loop do what there is; as a whole or a step at a time. It must not know
//! MQTT.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use mio::Token;
use mqtt_machine_client::{Driver, Run};

use crate::connector::Connector;
use crate::network::{SOCKET, Threads};

const WAKE: Token = Token(0);
/// Events that are taken at once: there are two sources, and a few more while attempts race.
const EVENTS: usize = 16;
/// How long a transport of the user's own may take to close.
const GOODBYE: Duration = Duration::from_secs(2);

/// Wakes the loop from wherever it waits.
struct Notify {
    waker: mio::Waker,
    /// Since the loop last looked.
    woken: AtomicBool,
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        // A counter that is full wakes as well.
        let _ = self.waker.wake();
    }
}

/// Drives one client: made by [`Client::with_driver`](crate::Client::with_driver). Dropping it ends the client at once: what was
/// accepted ends as not sent or unknown, and streams end.
pub struct Runner {
    run: Run<Threads>,
    threads: Threads,
    poll: mio::Poll,
    events: mio::Events,
    notify: Arc<Notify>,
    waker: Waker,
    step: Step,
}

/// What a step says about the time until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// When the next step is due if nothing else happens; a time that has come when there is more to do.
    pub deadline: Option<Instant>,
    /// The client has ended: there is nothing more to do, and further steps do nothing.
    pub done: bool,
}

impl Runner {
    pub(crate) fn new(driver: Driver, connector: Option<Connector>) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let threads = Threads::new(poll.registry(), driver.socket_options(), connector)?;
        let waker = mio::Waker::new(poll.registry(), WAKE)?;
        let notify = Arc::new(Notify { waker, woken: AtomicBool::new(false) });
        Ok(Self {
            run: Run::new(driver, threads.clone()),
            threads,
            poll,
            events: mio::Events::with_capacity(EVENTS),
            waker: Waker::from(Arc::clone(&notify)),
            notify,
            step: Step { deadline: Some(Instant::now()), done: false },
        })
    }

    /// Drives the client on this thread until it has ended, and a transport of your own is closed (or has had its time for that).
    ///
    /// # Errors
    /// When the system cannot wait for sockets any more. The client has ended then.
    pub fn run(mut self) -> io::Result<()> {
        while !self.step.done {
            self.step(Duration::MAX)?;
        }
        drop(self.run);
        self.threads.gate().wait(GOODBYE);
        Ok(())
    }

    /// Waits for at most `timeout` until there is something to do, and does it. With a timeout of zero it never waits. It does not
    /// go on for ever: when there is more, the deadline of the step that it gives has come already.
    ///
    /// Another event loop calls it when [its descriptor](std::os::fd::AsRawFd) is readable (on Unix), and when
    /// [`Step::deadline`] has come. The descriptor also becomes readable when a handle wants something, from whatever thread.
    ///
    /// # Errors
    /// When the system cannot wait for sockets any more.
    pub fn step(&mut self, timeout: Duration) -> io::Result<Step> {
        if !self.step.done {
            self.wait(timeout)?;
            self.step = self.work();
        }
        Ok(self.step)
    }

    /// Steps until `future` is ready, for at most `timeout`: so a thread that drives a client itself waits for what
    /// [`Client::handle`](crate::Handle::handle) gives. `None` when the time is up or the client has ended before; the future is
    /// dropped then. Lend it, as `&mut future`, to go on waiting.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn until<F: Future>(&mut self, future: F, timeout: Duration) -> io::Result<Option<F::Output>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut future = pin!(future);
        let waker = self.waker.clone();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(Some(output));
            }
            let left = deadline.map_or(Duration::MAX, |then| then.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.step.done {
                return Ok(None);
            }
            self.step(left)?;
        }
    }

    /// When the next step is due if nothing else happens, as the last one said.
    pub const fn deadline(&self) -> Option<Instant> {
        self.step.deadline
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let left = self.step.deadline.map(|then| then.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(timeout, |left| left.min(timeout));
        let timeout = (timeout != Duration::MAX).then_some(timeout);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        if self.events.iter().any(|event| event.token() == SOCKET) {
            self.threads.stir();
        }
        Ok(())
    }

    /// Lets the shared loop do what there is.
    fn work(&mut self) -> Step {
        self.notify.woken.store(false, Ordering::Release);
        let done = Pin::new(&mut self.run).poll(&mut Context::from_waker(&self.waker)).is_ready();
        let timer = self.threads.take_timer();
        let more = self.notify.woken.load(Ordering::Acquire);
        Step { deadline: if more { Some(Instant::now()) } else { timer }.filter(|_| !done), done }
    }
}

/// Readable when a step has something to do; for `poll`, `epoll` and the like. It must be neither read nor closed.
#[cfg(unix)]
impl std::os::fd::AsRawFd for Runner {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.poll.as_raw_fd()
    }
}

/// As `AsRawFd`, for calls that want to be sure that it is open.
#[cfg(unix)]
impl std::os::fd::AsFd for Runner {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("run", &self.run).field("step", &self.step).finish_non_exhaustive()
    }
}
