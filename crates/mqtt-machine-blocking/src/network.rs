//! Owns what threads and sockets that never block can do to get to a server: names, connects, questions, a timer. It must not know
//! which of it is needed when.
//!
//! Its futures register for readiness with the driver's poll and are polled again at each of its turns, so they keep no waker.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mio::event::Source;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use mqtt_machine_client::{Network, NetworkFuture, SocketOptions, Target};
use mqtt_machine_transport::{Authority, SrvOver, SrvQuestion, next_framed};

use crate::aside::aside;
use crate::socket::Socket;

/// What every socket is registered as: there is one at a time, but for attempts that race.
pub(crate) const SOCKET: Token = Token(1);
/// The most that an answer of a name server over UDP has.
const DATAGRAM: usize = 4 << 10;
/// How many lookups of names may be under way for one client: nothing ends one but the system's resolver, which takes its time.
const LOOKUPS: usize = 4;

/// What one way to a server shares with the others of its client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    /// How many lookups are under way.
    lookups: Arc<AtomicUsize>,
    /// The earliest time that a future waits for.
    timer: Arc<Mutex<Option<Instant>>>,
}

impl Ways {
    /// The earliest time that a future waits for, as of when it was last polled; forgotten then.
    pub(crate) fn take_timer(&self) -> Option<Instant> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The network, for one way to a server: it costs a descriptor, and an open socket does not need it.
#[derive(Debug)]
pub(crate) struct Sockets {
    registry: Registry,
    options: SocketOptions,
    ways: Ways,
}

impl Sockets {
    pub(crate) fn new(registry: &Registry, options: SocketOptions, ways: &Ways) -> io::Result<Self> {
        Ok(Self { registry: registry.try_clone()?, options, ways: ways.clone() })
    }

    fn register(&self, source: &mut impl Source) -> io::Result<()> {
        self.registry.register(source, SOCKET, Interest::READABLE | Interest::WRITABLE)
    }

    /// A socket that connects to `to`.
    fn stream(&self, options: SocketOptions, to: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::from_std(options.connect(to)?.into());
        self.register(&mut stream)?;
        Ok(stream)
    }
}

/// One lookup of a name, counted.
struct Lookup(Arc<AtomicUsize>);

impl Lookup {
    fn begin(running: &Arc<AtomicUsize>) -> io::Result<Self> {
        let one_more = |count: usize| (count < LOOKUPS).then_some(count.saturating_add(1));
        let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer");
        running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(busy)?;
        Ok(Self(Arc::clone(running)))
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Network for Sockets {
    type Socket = Socket;

    fn resolve(&self, name: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>> {
        let lookup = Lookup::begin(&self.ways.lookups);
        Box::pin(async move {
            let lookup = lookup?;
            let resolve = move || {
                let _counted = lookup;
                Ok((name.host.name().as_ref(), name.port).to_socket_addrs()?.collect())
            };
            aside("mqtt-lookup", resolve).await
        })
    }

    fn connect(&self, target: Target) -> NetworkFuture<io::Result<Socket>> {
        match target {
            Target::Tcp(address) => {
                let stream = self.stream(self.options, address);
                Box::pin(async move {
                    let stream = stream?;
                    ready(|| connected(stream.take_error(), stream.peer_addr())).await?;
                    Ok(Socket::tcp(stream))
                })
            }
            #[cfg(unix)]
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).and_then(|mut stream| {
                    self.register(&mut stream)?;
                    Ok(stream)
                });
                Box::pin(async move {
                    let stream = stream?;
                    ready(|| connected(stream.take_error(), stream.peer_addr())).await?;
                    Ok(Socket::unix(stream))
                })
            }
            _ => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        }
    }

    fn ask(&self, question: SrvQuestion) -> NetworkFuture<io::Result<Bytes>> {
        match question.over {
            SrvOver::Udp => {
                let socket = UdpSocket::bind(question.local_address()).and_then(|mut socket| {
                    socket.connect(question.to)?;
                    self.register(&mut socket)?;
                    Ok(socket)
                });
                Box::pin(async move {
                    let socket = socket?;
                    ready(|| socket.send(&question.message)).await?;
                    let mut answer = vec![0; DATAGRAM];
                    let length = ready(|| socket.recv(&mut answer)).await?;
                    answer.truncate(length);
                    Ok(answer.into())
                })
            }
            SrvOver::Tcp => {
                let stream = self.stream(SocketOptions::DEFAULT, question.to);
                Box::pin(async move { ask_over_tcp(stream?, &question).await })
            }
        }
    }

    fn sleep_until(&self, then: Instant) -> NetworkFuture<()> {
        let timer = Arc::clone(&self.ways.timer);
        Box::pin(poll_fn(move |_| {
            if then <= Instant::now() {
                return Poll::Ready(());
            }
            let mut timer = timer.lock().unwrap_or_else(PoisonError::into_inner);
            *timer = Some(timer.map_or(then, |earlier| earlier.min(then)));
            Poll::Pending
        }))
    }
}

async fn ask_over_tcp(mut stream: TcpStream, question: &SrvQuestion) -> io::Result<Bytes> {
    ready(|| connected(stream.take_error(), stream.peer_addr())).await?;
    let framed = question.framed();
    let mut rest = &framed[..];
    while !rest.is_empty() {
        match ready(|| stream.write(rest)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => rest = rest.get(count..).unwrap_or_default(),
        }
    }
    let (mut answer, mut part) = (BytesMut::new(), vec![0; DATAGRAM]);
    loop {
        if let Some(message) = next_framed(&mut answer) {
            return Ok(message);
        }
        match ready(|| stream.read(&mut part)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
}

/// Whether a connect has come to its end, and how.
fn connected<A>(error: io::Result<Option<io::Error>>, peer: io::Result<A>) -> io::Result<()> {
    if let Some(error) = error? {
        return Err(error);
    }
    match peer {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        peer => peer.map(|_| ()),
    }
}

/// Tries at every turn of the driver until it does not say that it would block.
async fn ready<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    poll_fn(|_| now(&mut attempt)).await
}

/// The result of what does not block, `Pending` where it would.
pub(crate) fn now<T>(mut attempt: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        return match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket as Socket};
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What `begin` makes of the network, polled at each turn of a loop like the driver's.
    fn driven<T>(begin: impl FnOnce(&Sockets) -> NetworkFuture<T>) -> T {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(4);
        let sockets = Sockets::new(poll.registry(), SocketOptions::DEFAULT, &Ways::default()).unwrap();
        let mut future = begin(&sockets);
        let begin = Instant::now();
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return result;
            }
            assert!(begin.elapsed() < Duration::from_secs(5));
            let timer = sockets.ways.take_timer().map(|then| then.saturating_duration_since(Instant::now()));
            poll.poll(&mut events, timer.or(Some(Duration::from_secs(1)))).unwrap();
        }
    }

    #[test]
    fn a_question_is_answered_over_udp_and_in_any_pieces_over_tcp() {
        let server = Socket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let mut question = [0; 100];
            let (length, from) = server.recv_from(&mut question).unwrap();
            server.send_to(b"a datagram", from).unwrap();
            question[..length].to_vec()
        });
        let message = Bytes::from_static(b"who?");
        let question = SrvQuestion { to, over: SrvOver::Udp, message: message.clone() };
        assert_eq!(driven(|sockets| sockets.ask(question)).unwrap(), "a datagram");
        assert_eq!(answering.join().unwrap(), b"who?");

        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let mut question = [0; 6];
            let mut stream = server.accept().unwrap().0;
            stream.read_exact(&mut question).unwrap();
            for byte in b"\0\x03yes" {
                stream.write_all(&[*byte]).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
            // The next one gets no answer.
            drop(server.accept().unwrap());
            question
        });
        let question = SrvQuestion { to, over: SrvOver::Tcp, message };
        assert_eq!(driven(|sockets| sockets.ask(question.clone())).unwrap(), "yes");
        let error = driven(|sockets| sockets.ask(question)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
        assert_eq!(&answering.join().unwrap(), b"\0\x04who?");
    }

    #[test]
    fn time_is_waited_for() {
        let then = Instant::now() + Duration::from_millis(30);
        driven(|sockets| sockets.sleep_until(then));
        assert!((then..then + Duration::from_millis(500)).contains(&Instant::now()));
    }

    #[test]
    fn no_more_than_so_many_lookups_are_under_way() {
        let running = Arc::default();
        let lookups: Vec<Lookup> = (0..LOOKUPS).map(|_| Lookup::begin(&running).unwrap()).collect();
        assert!(Lookup::begin(&running).is_err());
        drop(lookups);
        assert!(Lookup::begin(&running).is_ok());
    }
}
