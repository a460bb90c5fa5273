//! Owns what `async-io` does for a client: names, sockets, a timer. It must not know which of it is needed when.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_io::{Async, Timer};
use bytes::{Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use mqtt_machine_client::{Network, NetworkFuture, Runtime, Server, SocketOptions, Target};
use mqtt_machine_transport::{Authority, SrvOver, SrvQuestion, next_framed};

use crate::socket::{Connector, Socket};

/// The most that an answer of a name server over UDP has.
const DATAGRAM: usize = 4 << 10;

/// `async-io`, as one client uses it.
#[derive(Clone, Debug)]
pub struct FuturesIo {
    /// What is set on TCP sockets.
    pub options: SocketOptions,
    /// How transports are opened; `None`: over the network.
    pub connector: Option<Connector>,
}

impl Network for FuturesIo {
    type Socket = Socket;

    fn resolve(&self, name: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>> {
        let lookup = move || Ok((name.host.name().as_str(), name.port).to_socket_addrs()?.collect());
        Box::pin(blocking::unblock(lookup))
    }

    fn connect(&self, target: Target) -> NetworkFuture<io::Result<Socket>> {
        let options = self.options;
        Box::pin(async move {
            match target {
                Target::Tcp(address) => Ok(Socket::tcp(connect(options, address).await?)),
                #[cfg(unix)]
                Target::Unix(path) => Ok(Socket::unix(Async::<UnixStream>::connect(path).await?)),
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }

    fn ask(&self, question: SrvQuestion) -> NetworkFuture<io::Result<Bytes>> {
        Box::pin(async move {
            match question.over {
                SrvOver::Udp => {
                    let socket = Async::<UdpSocket>::bind(any_like(question.to))?;
                    socket.get_ref().connect(question.to)?;
                    socket.send(&question.message).await?;
                    let mut answer = vec![0; DATAGRAM];
                    let count = socket.recv(&mut answer).await?;
                    answer.truncate(count);
                    Ok(answer.into())
                }
                SrvOver::Tcp => ask_over_tcp(&question).await,
            }
        })
    }

    fn sleep_until(&self, then: Instant) -> NetworkFuture<()> {
        Box::pin(async move {
            Timer::at(then).await;
        })
    }
}

async fn connect(options: SocketOptions, to: SocketAddr) -> io::Result<Async<TcpStream>> {
    let stream = Async::new(TcpStream::from(options.connect(to)?))?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

async fn ask_over_tcp(question: &SrvQuestion) -> io::Result<Bytes> {
    let mut stream = connect(SocketOptions::DEFAULT, question.to).await?;
    let framed = question.framed();
    let mut rest = &framed[..];
    while !rest.is_empty() {
        let count = std::future::poll_fn(|context| Pin::new(&mut stream).poll_write(context, rest)).await?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let (mut answer, mut buffer) = (BytesMut::new(), vec![0; DATAGRAM]);
    loop {
        if let Some(message) = next_framed(&mut answer) {
            return Ok(message);
        }
        let read = std::future::poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut buffer));
        match read.await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

impl Runtime for FuturesIo {
    type Timer = Timer;

    fn open_own(&self, server: &Server) -> Option<NetworkFuture<io::Result<Socket>>> {
        self.connector.as_ref().map(|connector| connector.open(server.clone()))
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

    fn poll_flush(socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket.poll_flush(context)
    }

    fn poll_close(socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket.poll_close(context)
    }

    fn timer(then: Instant) -> Timer {
        Timer::at(then)
    }

    fn reset(timer: &mut Timer, then: Instant) {
        timer.set_at(then);
    }

    fn poll_timer(timer: &mut Timer, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(timer).poll(context).map(|_| ())
    }
}

/// Any local address of the family of `to`.
fn any_like(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
