//! Owns the driver task: resolve, open, loop { act, write, wait, read }. It must not know MQTT.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Buf;
use mqtt_machine_client::{Action, Driver, Server, TransportId, Turn};
use mqtt_machine_transport::AddressAttempts;
use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Sleep, sleep, sleep_until};

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 1883;
/// The room made for reading, and for a larger frame as much at a time as has come of it already.
const READ_ROOM: usize = 64 << 10;
/// Room is made when less than this is left, so that small reads share one buffer.
const LEAST_ROOM: usize = 4 << 10;
/// Turns within one poll before other tasks are let in.
const TURNS: usize = 32;

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum Link {
    None,
    Opening(TransportId, Opening),
    Open(TransportId, TcpStream),
}

/// The driver task of one client.
pub(crate) struct Run {
    driver: Driver,
    link: Link,
    timer: Option<Pin<Box<Sleep>>>,
    /// What the timer is set to.
    armed: Option<Instant>,
}

impl Run {
    pub(crate) const fn new(driver: Driver) -> Self {
        Self { driver, link: Link::None, timer: None, armed: None }
    }

    fn act(&mut self, context: &mut Context<'_>) {
        while let Some(action) = self.driver.next_action() {
            match action {
                Action::OpenTransport { id, server } => self.link = Link::Opening(id, Box::pin(open(server))),
                Action::CloseTransport { id } => {
                    match &mut self.link {
                        Link::Open(present, stream) if *present == id => {
                            // To a socket this is one call that never waits; what was written still arrives.
                            let _ = Pin::new(stream).poll_shutdown(context);
                        }
                        Link::Opening(present, _) if *present == id => {}
                        _ => continue,
                    }
                    self.link = Link::None;
                }
                _ => {}
            }
        }
    }

    /// True when something moved.
    fn move_bytes(&mut self, context: &mut Context<'_>, turn: Turn) -> bool {
        match &mut self.link {
            Link::None => false,
            Link::Opening(id, opening) => {
                let id = *id;
                match opening.as_mut().poll(context) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(stream)) => {
                        self.link = Link::Open(id, stream);
                        self.driver.opened(id);
                    }
                    Poll::Ready(Err(error)) => {
                        self.link = Link::None;
                        self.driver.open_failed(id, error.to_string());
                    }
                }
                true
            }
            Link::Open(id, stream) => {
                let id = *id;
                let wrote = write(stream, &mut self.driver, context);
                // A server that closes may have said why: that is read also when nothing can be written any more.
                let read = read(stream, &mut self.driver, turn.read_capacity, context);
                match (wrote, read) {
                    (_, Ok(Read::Some)) => {}
                    (Ok(wrote), Ok(Read::Nothing)) => return wrote,
                    (_, Ok(Read::End)) => self.closed(id, None),
                    (Err(error), _) | (_, Err(error)) => self.closed(id, Some(error.to_string())),
                }
                true
            }
        }
    }

    fn closed(&mut self, id: TransportId, why: Option<String>) {
        self.link = Link::None;
        self.driver.closed(id, why);
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

/// Connects to the address of the server's name that answers first.
async fn open(server: Server) -> io::Result<TcpStream> {
    let name = server.as_str();
    let bare = name.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err());
    let name = if bare { format!("{name}:{DEFAULT_PORT}") } else { name.to_owned() };
    let stream = connect(&name, AddressAttempts::new(lookup_host(&name).await?)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes the attempts that are due, beside each other, until one succeeds or all have failed. The machine bounds their
/// time together.
async fn connect(name: &str, mut attempts: AddressAttempts) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, format!("{name} has no address"));
    let mut running: Vec<(SocketAddr, Opening)> = Vec::new();
    let mut delay = pin!(sleep(Duration::ZERO));
    poll_fn(|context| {
        loop {
            while let Some(address) = attempts.poll_attempt(tokio::time::Instant::now().into_std()) {
                running.push((address, Box::pin(TcpStream::connect(address))));
            }
            let mut failed = Vec::new();
            for (address, opening) in &mut running {
                match opening.as_mut().poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        last = io::Error::new(error.kind(), format!("{address}: {error}"));
                        failed.push(*address);
                    }
                }
            }
            running.retain(|(address, _)| !failed.contains(address));
            failed.iter().for_each(|address| attempts.handle_failed(*address));
            if attempts.is_exhausted() {
                return Poll::Ready(Err(std::mem::replace(&mut last, ErrorKind::Other.into())));
            }
            if !failed.is_empty() {
                continue;
            }
            let Some(deadline) = attempts.deadline() else { return Poll::Pending };
            delay.as_mut().reset(deadline.into());
            ready!(delay.as_mut().poll(context));
        }
    })
    .await
}

/// Writes until the socket or the output has had enough. True when anything left.
fn write(stream: &TcpStream, driver: &mut Driver, context: &mut Context<'_>) -> io::Result<bool> {
    let mut wrote = false;
    while driver.output().has_remaining() {
        let Poll::Ready(ready) = stream.poll_write_ready(context) else { break };
        ready?;
        let mut slices = [IoSlice::new(&[]); 32];
        let count = driver.output().chunks_vectored(&mut slices);
        match stream.try_write_vectored(slices.get(..count).unwrap_or_default()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                driver.wrote(bytes);
                wrote = true;
            }
            // Asked again, the socket says when it is ready.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
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
    stream: &TcpStream,
    driver: &mut Driver,
    capacity: usize,
    context: &mut Context<'_>,
) -> io::Result<Read> {
    if capacity == 0 {
        return Ok(Read::Nothing);
    }
    loop {
        let Poll::Ready(ready) = stream.poll_read_ready(context) else { return Ok(Read::Nothing) };
        ready?;
        let input = driver.input();
        if input.capacity().saturating_sub(input.len()) < capacity.min(LEAST_ROOM) {
            input.reserve(capacity.min(READ_ROOM.max(input.len())));
        }
        match stream.try_read_buf(input) {
            Ok(0) => return Ok(Read::End),
            Ok(_) => return Ok(Read::Some),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // A listener whose queue is full: connections to it neither succeed nor fail.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let deaf = deaf.listen(1).unwrap();
        let silent = deaf.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(silent)).await
        {
            filling.push(stream.unwrap());
            assert!(filling.len() < 100, "the queue never fills");
        }
        let begin = Instant::now();
        let stream = connect("name", AddressAttempts::new([silent, good])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn the_last_reason_is_told_when_every_address_refuses() {
        let refused: Vec<SocketAddr> = ["127.0.0.1:1", "[::1]:1"].map(|text| text.parse().unwrap()).to_vec();
        let error = connect("name", AddressAttempts::new(refused)).await.unwrap_err();
        assert!(error.to_string().contains(":1: "), "{error}");
        let none = connect("name", AddressAttempts::new([])).await.unwrap_err();
        assert_eq!(none.to_string(), "name has no address");
    }
}
