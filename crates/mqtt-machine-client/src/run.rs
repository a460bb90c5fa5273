//! Owns the loop of every adapter that polls: open, loop { act, write, wait, read }. It must not know MQTT, nor a runtime.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_machine::Server;
use mqtt_machine_transport::{Layers, SrvQuestion, next_framed};

use crate::dial::{Network, NetworkFuture, dial};
use crate::driver::{Driver, Turn};
use crate::link::{Link, Received};
use crate::transport::TransportError;

/// The least and the most room made for reading. For a larger frame it is as much at a time as has come of it already.
const LEAST_ROOM: usize = 4 << 10;
const MOST_ROOM: usize = 64 << 10;
/// More bytes than come to an idle client between two of its deadlines: the answer to a ping through every layer, and what TLS and a
/// server say when a connection begins.
const IDLE: u32 = 2 << 10;
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
    fn timer(&self, then: Instant) -> Self::Timer;

    /// Sets the timer to another time.
    fn reset(timer: &mut Self::Timer, then: Instant);

    /// Ready when the time has come.
    fn poll_timer(timer: &mut Self::Timer, context: &mut Context<'_>) -> Poll<()>;
}

/// How much room is made for reading: it follows what comes.
#[derive(Clone, Copy)]
struct Room {
    size: u32,
    /// How many bytes have come since the deadline last did. As long as these are few the client is idle, and keeps no buffer between
    /// one time and the next.
    came: u32,
}

impl Room {
    const LEAST: Self = Self { size: LEAST_ROOM as u32, came: 0 };

    /// `count` bytes have come where `offered` would have fitted.
    fn note(&mut self, count: usize, offered: usize) {
        let full = count >= offered;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.came = self.came.saturating_add(count);
        if full {
            self.size = self.size.saturating_mul(2).min(MOST_ROOM as u32);
        } else if count < self.size / 4 {
            self.size = (self.size / 2).max(LEAST_ROOM as u32);
        }
    }
}

/// The driver of one client as a future, to be polled until it ends with the client. It is all of an adapter but its
/// [`Runtime`].
pub struct Run<R: Runtime> {
    driver: Driver,
    runtime: R,
    link: Link<R::Socket>,
    room: Room,
    /// With the time that it is set to.
    timer: Option<(Instant, R::Timer)>,
    /// How much may be read as the last turn said, while nothing is known to have happened since but to the socket.
    last: Option<u32>,
}

impl<R: Runtime> Run<R> {
    /// Drives with this runtime.
    pub const fn new(driver: Driver, runtime: R) -> Self {
        Self { driver, runtime, link: Link::new(), room: Room::LEAST, timer: None, last: None }
    }
}

impl<R> Run<R>
where
    R: Runtime + Clone + Send + Sync + 'static,
    R::Socket: Send + 'static,
{
    fn act(&mut self, context: &mut Context<'_>) {
        let runtime = &self.runtime;
        let open = |driver: &Driver, server: Server| open(runtime, driver, &server);
        let close = |mut socket, farewell| close::<R>(&mut socket, farewell, context);
        self.link.act(&mut self.driver, open, close);
    }

    /// True when something moved.
    fn move_bytes(&mut self, context: &mut Context<'_>, turn: Turn) -> bool {
        if turn.due {
            self.room = Room::LEAST;
        }
        self.link.move_bytes(&mut self.driver, context, |socket, driver, context| {
            let wrote = write::<R>(socket, driver, context);
            (wrote, read::<R>(socket, driver, turn.read_capacity, &mut self.room, context))
        })
    }

    /// True when the deadline has come, or may have.
    ///
    /// Nearly every packet moves the deadline away, and setting a timer costs: on `async-io` a system call. So one that strikes
    /// before the deadline is left, and set anew when it has struck.
    fn wait(&mut self, context: &mut Context<'_>, turn: Turn) -> bool {
        let Some(deadline) = turn.deadline else { return false };
        let now = turn.now.unwrap_or_else(Instant::now);
        if deadline <= now {
            return true;
        }
        let (set_to, timer) = self.timer.get_or_insert_with(|| (deadline, self.runtime.timer(deadline)));
        if *set_to <= now || deadline < *set_to {
            *set_to = deadline;
            R::reset(timer, deadline);
        }
        R::poll_timer(timer, context).is_ready()
    }

    /// What the last turn said, if nobody has asked for another one since: then bytes are moved first.
    fn take_last(&mut self, waker: &Waker) -> Option<Turn> {
        let read_capacity = self.last.take().filter(|_| self.driver.is_settled(waker))? as usize;
        // The timer does not strike after the deadline, and what it strikes for a turn finds out.
        let deadline = self.timer.as_ref().map(|(set_to, _)| *set_to);
        Some(Turn { read_capacity, deadline, due: false, more: false, done: false, now: None })
    }

    /// Moves bytes after a turn, and waits when nothing moved. True when there is nothing more to do now.
    fn rests(&mut self, context: &mut Context<'_>, turn: Turn) -> bool {
        let moved = self.move_bytes(context, turn);
        let rests = !moved && !turn.more && !self.wait(context, turn);
        if rests && self.link.is_open() {
            self.last = Some(u32::try_from(turn.read_capacity).unwrap_or(u32::MAX));
        }
        rests
    }

    /// What polling this does, as far as any thread may do it that has something to say to the client or waits for it: it opens and
    /// closes nothing, shakes no hands, and runs no code of the user's but wakers. False when there is something to do that it leaves to the
    /// one who drives, who is then to be woken. `context` is to wake that one, as always.
    pub fn poll_as_guest(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..TURNS {
            if !self.link.is_open() || !self.driver.takes_guests() {
                return false;
            }
            let turn = self.take_last(context.waker());
            let turn = turn.unwrap_or_else(|| self.driver.turn_of_guest(context.waker()));
            if turn.done || !self.driver.takes_guests() {
                return false;
            }
            if self.rests(context, turn) {
                return true;
            }
        }
        context.waker().wake_by_ref();
        true
    }
}

impl<R> Future for Run<R>
where
    R: Runtime + Clone + Send + Sync + Unpin + 'static,
    R::Socket: Send + Unpin + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_turns(context, TURNS)
    }
}

impl<R> Run<R>
where
    R: Runtime + Clone + Send + Sync + Unpin + 'static,
    R::Socket: Send + Unpin + 'static,
{
    /// What polling this does, for at most so many turns of the machine. When there is more to do then, it wakes.
    pub fn poll_turns(&mut self, context: &mut Context<'_>, turns: usize) -> Poll<()> {
        if let Some(turn) = self.take_last(context.waker())
            && self.rests(context, turn)
        {
            return Poll::Pending;
        }
        for _ in 0..turns {
            let turn = self.driver.turn(context.waker());
            self.act(context);
            if turn.done {
                return Poll::Ready(());
            }
            if self.rests(context, turn) {
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

fn open<R>(
    runtime: &R,
    driver: &Driver,
    server: &Server,
) -> NetworkFuture<Result<(R::Socket, Layers), TransportError>>
where
    R: Runtime + Clone + Send + Sync + 'static,
    R::Socket: Send + 'static,
{
    if let Some(opening) = runtime.open_own(server) {
        let layers = driver.layers(server);
        return Box::pin(async move { Ok((opening.await?, layers?)) });
    }
    let (route, runtime) = (driver.route(server), runtime.clone());
    Box::pin(async move { Ok(dial(&runtime, route?).await?) })
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

/// Reads by `read` as much as there is room for behind the end of `input`, and at most 64 KiB: what [`Runtime::poll_read`] does over what
/// reads into memory that has been written to.
///
/// It reads into memory of the thread's and copies what came, which is less than all that might have come and would have to be written
/// to before. The thread keeps as much of it as a read has had room for lately.
///
/// # Errors
/// Those of `read`.
pub fn read_behind(
    input: &mut BytesMut,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    thread_local! {
        static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let length = input.capacity().saturating_sub(input.len()).min(MOST_ROOM);
    // While the thread ends it is gone already, and one that reads within a read finds none.
    let mut room = ROOM.try_with(Cell::take).unwrap_or_default();
    if room.len() < length {
        room.resize(length, 0);
    }
    let result = read(room.get_mut(..length).unwrap_or_default());
    if let Poll::Ready(Ok(count)) = &result {
        input.extend_from_slice(room.get(..(*count).min(length)).unwrap_or_default());
    }
    if length < room.len() / 4 {
        room.truncate(length);
        room.shrink_to_fit();
    }
    let _ = ROOM.try_with(|kept| kept.set(room));
    result
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

/// Reads once.
fn read<R: Runtime>(
    socket: &mut R::Socket,
    driver: &mut Driver,
    capacity: usize,
    room: &mut Room,
    context: &mut Context<'_>,
) -> io::Result<Received> {
    if capacity == 0 {
        return Ok(Received::Nothing);
    }
    let input = driver.input();
    if input.capacity().saturating_sub(input.len()) < capacity.min(LEAST_ROOM) {
        input.reserve(capacity.min((room.size as usize).max(input.len())));
    }
    let offered = input.capacity().saturating_sub(input.len());
    match R::poll_read(socket, input, context)? {
        Poll::Pending => {
            if input.is_empty() && room.came < IDLE {
                *input = BytesMut::new();
            }
            Ok(Received::Nothing)
        }
        Poll::Ready(0) => Ok(Received::End),
        Poll::Ready(count) => {
            room.note(count, offered);
            if driver.is_handshaking() {
                // However much a handshake brings, the client may be idle from its end.
                room.came = 0;
            }
            Ok(Received::Some)
        }
    }
}
