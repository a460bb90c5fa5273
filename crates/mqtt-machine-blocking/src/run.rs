//! Owns the driver's loop on a thread: wait, then let the shared loop do what there is; as a whole or a step at a time. It must not know
//! MQTT.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use mio::Token;
use mqtt_machine_client::{Driver, Run};

use crate::connector::Connector;
use crate::helm::{DOZE, Helm, Naps};
use crate::network::{SOCKET, Threads};
use crate::notify::Notify;

const WAKE: Token = Token(0);
/// Events that are taken at once: there are two sources, and a few more while attempts race.
const EVENTS: usize = 16;
/// How long a transport of the user's own may take to close.
const GOODBYE: Duration = Duration::from_secs(2);

/// Drives one client: made by [`Client::with_driver`](crate::Client::with_driver). Dropping it ends the client at once: what was
/// accepted ends as not sent or unknown, and streams end.
pub struct Runner {
    helm: Arc<Helm>,
    poll: mio::Poll,
    events: mio::Events,
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
        let run = Run::new(driver, threads.clone());
        Ok(Self {
            helm: Arc::new(Helm::new(run, threads, Arc::new(Notify::new(waker)))),
            poll,
            events: mio::Events::with_capacity(EVENTS),
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
        self.part();
        Ok(())
    }

    /// As [`run`](Self::run), with [guests](Self::helm).
    pub(crate) fn host(mut self) -> io::Result<()> {
        let mut naps = Naps::default();
        while !self.step.done {
            if self.helm.is_dozing() {
                thread::park_timeout(DOZE);
            } else {
                let timeout = self.left(Duration::MAX);
                if self.helm.yields(timeout) {
                    if self.left(Duration::MAX) != Some(Duration::ZERO) {
                        continue;
                    }
                } else if self.wait(timeout)? && self.helm.passes_on() {
                    continue;
                }
            }
            let is_due = self.left(Duration::MAX) == Some(Duration::ZERO);
            if !self.helm.dozes(&mut naps, is_due) {
                self.step = self.work();
            }
        }
        self.part();
        Ok(())
    }

    /// Lets others take part in driving the client, as guests of the one who [hosts](Self::host).
    pub(crate) const fn helm(&self) -> &Arc<Helm> {
        &self.helm
    }

    fn part(self) {
        self.helm.end();
        self.helm.threads().gate().wait(GOODBYE);
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
            self.wait(self.left(timeout))?;
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
        let waker = self.helm.waker().clone();
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

    /// How long to wait; `None`: for as long as it takes.
    fn left(&self, timeout: Duration) -> Option<Duration> {
        let left = self.step.deadline.map(|then| then.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(timeout, |left| left.min(timeout));
        (timeout != Duration::MAX).then_some(timeout)
    }

    /// True when something has happened.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        let mut sockets = self.events.iter().filter(|event| event.token() == SOCKET).peekable();
        if sockets.peek().is_some() {
            let ended = sockets.any(|event| event.is_read_closed() || event.is_error());
            self.helm.threads().stir(ended);
        }
        Ok(!self.events.is_empty())
    }

    /// Lets the shared loop do what there is.
    fn work(&self) -> Step {
        let (deadline, done) = self.helm.work();
        Step { deadline, done }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.helm.end();
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
        f.debug_struct("Runner").field("helm", &self.helm).field("step", &self.step).finish_non_exhaustive()
    }
}
