//! Owns the driver task: open, loop { act, write, wait, read }. It must not know MQTT.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use mqtt_machine_client::{Driver, Layers, Server, Task, TransportError, TransportId, Turn, dial};
use tokio::time::{Sleep, sleep_until};

use crate::network::Tokio;
use crate::socket::{Connector, Socket};

/// The room made for reading, and for a larger frame as much at a time as has come of it already.
const READ_ROOM: usize = 64 << 10;
/// Room is made when less than this is left, so that small reads share one buffer.
const LEAST_ROOM: usize = 4 << 10;
/// Turns within one poll before other tasks are let in.
const TURNS: usize = 32;

type Opening = Pin<Box<dyn Future<Output = Result<(Socket, Layers), TransportError>> + Send>>;

enum Link {
    None,
    Opening(TransportId, Opening),
    Open(TransportId, Socket),
}

/// The driver task of one client.
pub(crate) struct Run {
    driver: Driver,
    connector: Option<Connector>,
    link: Link,
    timer: Option<Pin<Box<Sleep>>>,
    /// What the timer is set to.
    armed: Option<Instant>,
}

impl Run {
    pub(crate) const fn new(driver: Driver, connector: Option<Connector>) -> Self {
        Self { driver, connector, link: Link::None, timer: None, armed: None }
    }

    fn act(&mut self, context: &mut Context<'_>) {
        while let Some(task) = self.driver.next_task() {
            match task {
                Task::Open { id, server } => self.link = Link::Opening(id, self.open(server)),
                Task::Close { id, farewell } => match &mut self.link {
                    Link::Open(present, socket) if *present == id => {
                        close(socket, farewell, context);
                        self.link = Link::None;
                    }
                    Link::Opening(present, _) if *present == id => self.link = Link::None,
                    _ => {}
                },
                // There is no other kind of task.
                _ => {}
            }
        }
    }

    fn open(&self, server: Server) -> Opening {
        if let Some(connector) = &self.connector {
            let (layers, opening) = (self.driver.layers(&server), connector.open(server));
            return Box::pin(async move { Ok((opening.await?, layers?)) });
        }
        let (route, network) = (self.driver.route(&server), Tokio(self.driver.socket_options()));
        Box::pin(async move { Ok(dial(&network, route?).await?) })
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
                let wrote = write(socket, &mut self.driver, context);
                // A server that closes may have said why: that is read also when nothing can be written any more.
                let read = read(socket, &mut self.driver, turn.read_capacity, context);
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

    /// Sets the timer when the deadline has changed. True when it has struck.
    fn wait(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= Instant::now() {
            return true;
        }
        let at = tokio::time::Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if self.armed != Some(deadline) {
            self.armed = Some(deadline);
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl Future for Run {
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

/// Says goodbye. To a socket these are calls that never wait; what was written still arrives.
fn close(socket: &mut Socket, mut farewell: impl Buf, context: &mut Context<'_>) {
    while farewell.has_remaining() {
        match socket.poll_write(&[IoSlice::new(farewell.chunk())], context) {
            Poll::Ready(Ok(count)) if count > 0 => farewell.advance(count),
            _ => break,
        }
    }
    let _ = socket.poll_shutdown(context);
}

/// Writes until the socket or the output has had enough. True when anything left.
fn write(socket: &mut Socket, driver: &mut Driver, context: &mut Context<'_>) -> std::io::Result<bool> {
    let wrote = driver.write_by(|slices| socket.poll_write(slices, context))?;
    if let Poll::Ready(result) = socket.poll_flush(context) {
        result?;
    }
    Ok(wrote)
}

enum Read {
    Nothing,
    Some,
    End,
}

/// Reads once.
fn read(
    socket: &mut Socket,
    driver: &mut Driver,
    capacity: usize,
    context: &mut Context<'_>,
) -> std::io::Result<Read> {
    if capacity == 0 {
        return Ok(Read::Nothing);
    }
    let input = driver.input();
    if input.capacity().saturating_sub(input.len()) < capacity.min(LEAST_ROOM) {
        input.reserve(capacity.min(READ_ROOM.max(input.len())));
    }
    match socket.poll_read(input, context)? {
        Poll::Pending => Ok(Read::Nothing),
        Poll::Ready(0) => Ok(Read::End),
        Poll::Ready(_) => Ok(Read::Some),
    }
}
