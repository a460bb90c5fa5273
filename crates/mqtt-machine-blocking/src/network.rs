//! Owns what threads and sockets that never block can do for a client: names, connects, questions, reads, writes, a timer. It must not
//! know which of it is needed when.
//!
//! Its futures are polled at each turn of the loop, which waits with one poll for all of them, so they keep no waker.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mio::event::Source;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use mqtt_machine_client::threads::{Gate, aside};
use mqtt_machine_client::{Network, NetworkFuture, Runtime, Server, SocketOptions, Target, ask_over_stream};
use mqtt_machine_transport::{Authority, SrvOver, SrvQuestion};

use crate::connector::Connector;
use crate::socket::{Socket, Stream, now};

/// What every socket is registered as: there is one at a time, but for attempts that race.
pub(crate) const SOCKET: Token = Token(1);
/// The most that an answer of a name server over UDP has.
const DATAGRAM: usize = 4 << 10;
/// How many lookups of names may be under way for one client: nothing ends one but the system's resolver, which takes its time.
const LOOKUPS: usize = 4;

/// The system without a runtime, as one client uses it.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Of the poll that the loop waits with.
    registry: Registry,
    options: SocketOptions,
    connector: Option<Connector>,
    /// Where transports of the user's own go through, one after the other.
    gate: Arc<Gate>,
    /// How many lookups are under way.
    lookups: Arc<AtomicUsize>,
    /// How often something has happened to a socket.
    news: AtomicU64,
    /// A server has ended its direction of a socket, or the socket has failed.
    ended: AtomicBool,
    /// The earliest time that a future waits for.
    timer: Mutex<Option<Instant>>,
}

impl Threads {
    pub(crate) fn new(
        registry: &Registry,
        options: SocketOptions,
        connector: Option<Connector>,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            registry: registry.try_clone()?,
            options,
            connector,
            gate: Arc::default(),
            lookups: Arc::default(),
            news: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            timer: Mutex::new(None),
        })))
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Something has happened to a socket, its end perhaps: all that would have blocked are tried again.
    pub(crate) fn stir(&self, ended: bool) {
        if ended {
            self.0.ended.store(true, Ordering::Relaxed);
        }
        self.0.news.fetch_add(1, Ordering::Release);
    }

    /// A socket has connected, and nothing is known of its end.
    pub(crate) fn begin(&self) {
        self.0.ended.store(false, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn news(&self) -> u64 {
        self.0.news.load(Ordering::Acquire)
    }

    /// The earliest time that a future waits for, as of when it was last polled; forgotten then.
    pub(crate) fn take_timer(&self) -> Option<Instant> {
        self.0.timer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn poll_until(&self, then: Instant) -> Poll<()> {
        if then <= Instant::now() {
            return Poll::Ready(());
        }
        self.wait_for(then);
        Poll::Pending
    }

    /// The loop is to look again at this time.
    fn wait_for(&self, then: Instant) {
        let mut timer = self.0.timer.lock().unwrap_or_else(PoisonError::into_inner);
        *timer = Some(timer.map_or(then, |earlier| earlier.min(then)));
    }

    fn register<S: Source>(&self, source: io::Result<S>) -> io::Result<S> {
        let mut source = source?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.0.registry.register(&mut source, SOCKET, interest)?;
        Ok(source)
    }

    /// Waits until `stream` has connected.
    fn connected<S: Stream>(&self, stream: io::Result<S>) -> NetworkFuture<io::Result<Socket>> {
        let (threads, stream) = (self.clone(), self.register(stream));
        Box::pin(async move {
            let stream = stream?;
            ready(|| stream.connected()).await?;
            Ok(Socket::system(stream, threads))
        })
    }

    fn tcp(&self, options: SocketOptions, to: SocketAddr) -> NetworkFuture<io::Result<Socket>> {
        self.connected(options.connect(to).map(|socket| TcpStream::from_std(socket.into())))
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

impl Network for Threads {
    type Socket = Socket;

    fn resolve(&self, name: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>> {
        let lookup = Lookup::begin(&self.0.lookups);
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
            Target::Tcp(address) => self.tcp(self.0.options, address),
            #[cfg(unix)]
            Target::Unix(path) => self.connected(UnixStream::connect(path)),
            _ => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        }
    }

    fn ask(&self, question: SrvQuestion) -> NetworkFuture<io::Result<Bytes>> {
        if question.over == SrvOver::Tcp {
            let stream = self.tcp(SocketOptions::DEFAULT, question.to);
            return Box::pin(async move { ask_over_stream::<Self>(stream.await?, &question).await });
        }
        let socket = self.register(UdpSocket::bind(question.local_address()));
        Box::pin(async move {
            let socket = socket?;
            socket.connect(question.to)?;
            ready(|| socket.send(&question.message)).await?;
            let mut answer = vec![0; DATAGRAM];
            let length = ready(|| socket.recv(&mut answer)).await?;
            answer.truncate(length);
            Ok(answer.into())
        })
    }

    fn sleep_until(&self, then: Instant) -> NetworkFuture<()> {
        let threads = self.clone();
        Box::pin(poll_fn(move |_| threads.poll_until(then)))
    }
}

impl Runtime for Threads {
    type Timer = (Self, Instant);

    fn open_own(&self, server: &Server) -> Option<NetworkFuture<io::Result<Socket>>> {
        let opening = self.0.connector.as_ref()?.open(server.clone(), &self.0.gate);
        Some(Box::pin(async move { Ok(Socket::own(opening.await?)) }))
    }

    fn poll_read(
        socket: &mut Socket,
        input: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        socket.poll_read(input, context)
    }

    fn poll_write(
        socket: &mut Socket,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        socket.poll_write(slices, context)
    }

    fn poll_flush(_: &mut Socket, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(socket: &mut Socket, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket.close())
    }

    fn timer(&self, then: Instant) -> Self::Timer {
        (self.clone(), then)
    }

    fn reset(timer: &mut Self::Timer, then: Instant) {
        timer.1 = then;
    }

    fn poll_timer((threads, then): &mut Self::Timer, _: &mut Context<'_>) -> Poll<()> {
        // Whether it has come is asked when the loop has looked again.
        threads.wait_for(*then);
        Poll::Pending
    }
}

/// Tries at every turn of the loop until it does not say that it would block.
async fn ready<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    poll_fn(|_| now(&mut attempt)).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket as Socket};
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What `begin` makes of the network, polled at each turn of a loop like the driver's.
    fn driven<T>(begin: impl FnOnce(&Threads) -> NetworkFuture<T>) -> T {
        let mut events = mio::Events::with_capacity(4);
        let mut poll = mio::Poll::new().unwrap();
        let threads = Threads::new(poll.registry(), SocketOptions::DEFAULT, None).unwrap();
        let mut future = begin(&threads);
        let begin = Instant::now();
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return result;
            }
            assert!(begin.elapsed() < Duration::from_secs(5));
            let timer = threads.take_timer().map(|then| then.saturating_duration_since(Instant::now()));
            poll.poll(&mut events, timer.or(Some(Duration::from_secs(1)))).unwrap();
            threads.stir(false);
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
        assert_eq!(driven(|threads| threads.ask(question)).unwrap(), "a datagram");
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
        assert_eq!(driven(|threads| threads.ask(question.clone())).unwrap(), "yes");
        let error = driven(|threads| threads.ask(question)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
        assert_eq!(&answering.join().unwrap(), b"\0\x04who?");
    }

    #[test]
    fn time_is_waited_for() {
        let then = Instant::now() + Duration::from_millis(30);
        driven(|threads| threads.sleep_until(then));
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
