//! Owns the loop of every adapter that polls: open, loop { act, write, wait, read }. It must not know MQTT, nor a runtime.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::{Server, TransportId};
use mqtt_machine_transport::{Layers, SrvQuestion, next_framed};

use crate::dial::{Network, NetworkFuture, dial};
use crate::driver::{Driver, Task, Turn};
use crate::transport::TransportError;

/// The room made for reading, and for a larger frame as much at a time as has come of it already.
const READ_ROOM: usize = 64 << 10;
/// Room is made when less than this is left, so that small reads share one buffer.
const LEAST_ROOM: usize = 4 << 10;
/// Turns within one poll before other tasks are let in.
const TURNS: usize = 32;

/// What an adapter's runtime does with the sockets of its [`Network`], and its timer.
pub trait Runtime: Network {
    /// Waits for one time after another.
    type Timer: Unpin;

    /// Opens a transport of the user's own to the server; `None`: it is dialled over the network.
    fn open_own(&self, server: &Server) -> Option<NetworkFuture<io::Result<Self::Socket>>>;

    /// Reads once behind the end of `input`, into the room that is there; 0 is the end.
    fn poll_read(
        socket: &mut Self::Socket,
        input: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Writes once.
    fn poll_write(
        socket: &mut Self::Socket,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Lets go what the socket keeps back; to those of the system this is nothing.
    fn poll_flush(socket: &mut Self::Socket, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends this direction of the socket. What was written still arrives.
    fn poll_close(socket: &mut Self::Socket, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// A timer for this time.
    fn timer(then: Instant) -> Self::Timer;

    /// Sets the timer to another time.
    fn reset(timer: &mut Self::Timer, then: Instant);

    /// Ready when the time has come.
    fn poll_timer(timer: &mut Self::Timer, context: &mut Context<'_>) -> Poll<()>;
}

type Opening<S> = Pin<Box<dyn Future<Output = Result<(S, Layers), TransportError>> + Send>>;

enum Link<S> {
    None,
    Opening(TransportId, Opening<S>),
    Open(TransportId, S),
}

/// The driver of one client as a future, to be polled until it ends with the client. It is all of an adapter but its
/// [`Runtime`].
pub struct Run<R: Runtime> {
    driver: Driver,
    runtime: R,
    link: Link<R::Socket>,
    /// With the time that it is set to.
    timer: Option<(Instant, R::Timer)>,
}

impl<R: Runtime> Run<R> {
    /// Drives with this runtime.
    pub const fn new(driver: Driver, runtime: R) -> Self {
        Self { driver, runtime, link: Link::None, timer: None }
    }
}

impl<R> Run<R>
where
    R: Runtime + Clone + Send + Sync + 'static,
    R::Socket: Send + 'static,
{
    fn act(&mut self, context: &mut Context<'_>) {
        while let Some(task) = self.driver.next_task() {
            match task {
                Task::Open { id, server } => self.link = Link::Opening(id, self.open(&server)),
                Task::Close { id, farewell } => match &mut self.link {
                    Link::Open(present, socket) if *present == id => {
                        close::<R>(socket, farewell, context);
                        self.link = Link::None;
                    }
                    Link::Opening(present, _) if *present == id => self.link = Link::None,
                    _ => {}
                },
            }
        }
    }

    fn open(&self, server: &Server) -> Opening<R::Socket> {
        if let Some(opening) = self.runtime.open_own(server) {
            let layers = self.driver.layers(server);
            return Box::pin(async move { Ok((opening.await?, layers?)) });
        }
        let (route, runtime) = (self.driver.route(server), self.runtime.clone());
        Box::pin(async move { Ok(dial(&runtime, route?).await?) })
    }

    /// True when something moved.
    fn move_bytes(&mut self, context: &mut Context<'_>, turn: Turn) -> bool {
        match &mut self.link {
            Link::None => false,
            Link::Opening(id, opening) => {
                let id = *id;
                match opening.as_mut().poll(context) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok((socket, layers))) => {
                        self.link = Link::Open(id, socket);
                        self.driver.opened(id, layers);
                    }
                    Poll::Ready(Err(error)) => {
                        self.link = Link::None;
                        self.driver.open_failed(id, error);
                    }
                }
                true
            }
            Link::Open(id, socket) => {
                let id = *id;
                let wrote = write::<R>(socket, &mut self.driver, context);
                // A server that closes may have said why: that is read also when nothing can be written any more.
                let read = read::<R>(socket, &mut self.driver, turn.read_capacity, context);
                match (wrote, read) {
                    (_, Ok(Read::Some)) => {}
                    (Ok(wrote), Ok(Read::Nothing)) => return wrote,
                    (_, Ok(Read::End)) => {
                        self.link = Link::None;
                        self.driver.ended(id);
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        self.link = Link::None;
                        self.driver.failed(id, error);
                    }
                }
                true
            }
        }
    }

    /// True when the deadline has come, or may have.
    ///
    /// Nearly every packet moves the deadline away, and setting a timer costs: on `async-io` a system call. So one that strikes
    /// before the deadline is left, and set anew when it has struck.
    fn wait(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let now = Instant::now();
        if deadline <= now {
            return true;
        }
        let (set_to, timer) = self.timer.get_or_insert_with(|| (deadline, R::timer(deadline)));
        if *set_to <= now || deadline < *set_to {
            *set_to = deadline;
            R::reset(timer, deadline);
        }
        R::poll_timer(timer, context).is_ready()
    }
}

impl<R> Future for Run<R>
where
    R: Runtime + Clone + Send + Sync + Unpin + 'static,
    R::Socket: Send + Unpin + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let turn = self.driver.turn(context.waker());
            self.act(context);
            if turn.done {
                return Poll::Ready(());
            }
            let moved = self.move_bytes(context, turn);
            if !moved && !turn.more && !self.wait(context, turn.deadline) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: Runtime> fmt::Debug for Run<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// Says goodbye. To a socket these are calls that never wait; what was written still arrives.
fn close<R: Runtime>(socket: &mut R::Socket, mut farewell: impl Buf, context: &mut Context<'_>) {
    while farewell.has_remaining() {
        match R::poll_write(socket, &[IoSlice::new(farewell.chunk())], context) {
            Poll::Ready(Ok(count)) if count > 0 => farewell.advance(count),
            _ => break,
        }
    }
    let _ = R::poll_close(socket, context);
}

/// Writes until the socket or the output has had enough. True when anything left.
fn write<R: Runtime>(
    socket: &mut R::Socket,
    driver: &mut Driver,
    context: &mut Context<'_>,
) -> io::Result<bool> {
    let wrote = driver.write_by(|slices| R::poll_write(socket, slices, context))?;
    if let Poll::Ready(result) = R::poll_flush(socket, context) {
        result?;
    }
    Ok(wrote)
}

/// Asks a name server over a stream that is connected to it, and waits for one answer: what [`Network::ask`] does over TCP.
///
/// # Errors
/// Those of the stream, and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when it ends before the answer does.
pub async fn ask_over_stream<R: Runtime>(mut stream: R::Socket, question: &SrvQuestion) -> io::Result<Bytes> {
    let mut framed = question.framed();
    while framed.has_remaining() {
        match poll_fn(|context| R::poll_write(&mut stream, &[IoSlice::new(&framed)], context)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => framed.advance(count),
        }
    }
    let mut answer = BytesMut::new();
    loop {
        if let Some(message) = next_framed(&mut answer) {
            return Ok(message);
        }
        answer.reserve(LEAST_ROOM);
        if poll_fn(|context| R::poll_read(&mut stream, &mut answer, context)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

enum Read {
    Nothing,
    Some,
    End,
}

/// Reads once.
fn read<R: Runtime>(
    socket: &mut R::Socket,
    driver: &mut Driver,
    capacity: usize,
    context: &mut Context<'_>,
) -> io::Result<Read> {
    if capacity == 0 {
        return Ok(Read::Nothing);
    }
    let input = driver.input();
    if input.capacity().saturating_sub(input.len()) < capacity.min(LEAST_ROOM) {
        input.reserve(capacity.min(READ_ROOM.max(input.len())));
    }
    match R::poll_read(socket, input, context)? {
        Poll::Pending => Ok(Read::Nothing),
        Poll::Ready(0) => Ok(Read::End),
        Poll::Ready(_) => Ok(Read::Some),
    }
}
