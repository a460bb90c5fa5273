//! Owns where the one transport of a client stands: there is none, it is being opened, or it is open. It must not know how sockets
//! are opened, read and written, nor who waits for them.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use mqtt_machine::{Output, Server, TransportId};
use mqtt_machine_transport::Layers;

use crate::dial::NetworkFuture;
use crate::driver::{Driver, Task};
use crate::transport::TransportError;

/// The transport of a client over sockets of the kind `S`, of which there is never more than one: what the loop of an adapter does
/// with it between two turns of the [`Driver`].
pub(crate) struct Link<S>(State<S>);

/// A socket and the layers on it.
type Opened<S> = Result<(S, Layers), TransportError>;

enum State<S> {
    None,
    Opening(TransportId, NetworkFuture<Opened<S>>),
    Open(TransportId, S),
}

/// What came of reading once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// There is nothing to read now.
    Nothing,
    /// Something was read.
    Some,
    /// The server has ended its direction.
    End,
}

impl<S> Link<S> {
    /// No transport.
    pub(crate) const fn new() -> Self {
        Self(State::None)
    }

    /// Whether bytes can move.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.0, State::Open(..))
    }

    /// Does the tasks of the driver. `open` begins to open a socket; `close` writes the last words to one, as far as that can be
    /// done at once, and closes it.
    pub(crate) fn act(
        &mut self,
        driver: &mut Driver,
        mut open: impl FnMut(&Driver, Server) -> NetworkFuture<Opened<S>>,
        mut close: impl FnMut(S, Output),
    ) {
        while let Some(task) = driver.next_task() {
            match task {
                Task::Open { id, server } => self.0 = State::Opening(id, open(driver, server)),
                Task::Close { id, farewell } => match std::mem::replace(&mut self.0, State::None) {
                    State::Open(present, socket) if present == id => close(socket, farewell),
                    State::Opening(present, _) if present == id => {}
                    other => self.0 = other,
                },
            }
        }
    }

    /// Goes on opening the transport, or lets bytes through it; true when something moved. `exchange` writes the driver's output until
    /// either has had enough, which is true when anything left, and then reads once in any case: a server that closes may have
    /// said why, which counts also when nothing can be written any more.
    pub(crate) fn move_bytes(
        &mut self,
        driver: &mut Driver,
        context: &mut Context<'_>,
        exchange: impl FnOnce(&mut S, &mut Driver, &mut Context<'_>) -> (io::Result<bool>, io::Result<Received>),
    ) -> bool {
        match &mut self.0 {
            State::None => false,
            State::Opening(id, opening) => {
                let id = *id;
                match opening.as_mut().poll(context) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok((socket, layers))) => {
                        self.0 = State::Open(id, socket);
                        driver.opened(id, layers);
                    }
                    Poll::Ready(Err(error)) => {
                        self.0 = State::None;
                        driver.open_failed(id, error);
                    }
                }
                true
            }
            State::Open(id, socket) => {
                let id = *id;
                match exchange(socket, driver, context) {
                    (_, Ok(Received::Some)) => {}
                    (Ok(wrote), Ok(Received::Nothing)) => return wrote,
                    (_, Ok(Received::End)) => {
                        self.0 = State::None;
                        driver.ended(id);
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        self.0 = State::None;
                        driver.failed(id, error);
                    }
                }
                true
            }
        }
    }
}

impl<S> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::None => f.write_str("None"),
            State::Opening(id, _) => write!(f, "Opening({id:?})"),
            State::Open(id, _) => write!(f, "Open({id:?})"),
        }
    }
}
