//! Owns what `async-io` does for a client: names, sockets, a timer. It must not know which of it is needed when.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_io::{Async, Timer};
use bytes::{Bytes, BytesMut};
use mqtt_machine_client::{Network, NetworkFuture, Runtime, Server, SocketOptions, Target, ask_over_stream};
use mqtt_machine_transport::{Authority, SrvOver, SrvQuestion};

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
                    let socket = Async::<UdpSocket>::bind(question.local_address())?;
                    socket.get_ref().connect(question.to)?;
                    socket.send(&question.message).await?;
                    let mut answer = vec![0; DATAGRAM];
                    let count = socket.recv(&mut answer).await?;
                    answer.truncate(count);
                    Ok(answer.into())
                }
                SrvOver::Tcp => {
                    let stream = Socket::tcp(connect(SocketOptions::DEFAULT, question.to).await?);
                    ask_over_stream::<Self>(stream, &question).await
                }
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

    fn timer(&self, then: Instant) -> Timer {
        Timer::at(then)
    }

    fn reset(timer: &mut Timer, then: Instant) {
        timer.set_at(then);
    }

    fn poll_timer(timer: &mut Timer, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(timer).poll(context).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use futures_lite::future::block_on;

    use super::*;

    const NETWORK: FuturesIo = FuturesIo { options: SocketOptions::DEFAULT, connector: None };

    fn question(to: SocketAddr, over: SrvOver) -> SrvQuestion {
        SrvQuestion { to, over, message: Bytes::from_static(b"where is it?") }
    }

    #[test]
    fn a_socket_has_the_options_that_were_asked_for_or_tells_why_there_is_none() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stream = block_on(connect(SocketOptions::DEFAULT, address)).unwrap();
        assert!(stream.get_ref().nodelay().unwrap());
        assert_eq!(stream.get_ref().peer_addr().unwrap(), address);
        drop(listener);
        let error = block_on(connect(SocketOptions::DEFAULT, address)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_name_server_is_asked_over_udp() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = server.local_addr().unwrap();
        let asked = thread::spawn(move || {
            let mut buffer = [0; 64];
            let (count, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"over there", from).unwrap();
            buffer[..count].to_vec()
        });
        let answer = block_on(NETWORK.ask(question(to, SrvOver::Udp))).unwrap();
        assert_eq!(answer, b"over there"[..]);
        assert_eq!(asked.join().unwrap(), b"where is it?");
    }

    /// A name server over TCP that writes this, in two pieces, and ends.
    fn over_tcp(answer: &'static [u8]) -> (io::Result<Bytes>, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 14];
            stream.read_exact(&mut buffer).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&answer[..1]).unwrap();
            thread::sleep(std::time::Duration::from_millis(20));
            stream.write_all(&answer[1..]).unwrap();
            buffer.to_vec()
        });
        (block_on(NETWORK.ask(question(to, SrvOver::Tcp))), asked.join().unwrap())
    }

    #[test]
    fn a_name_server_is_asked_over_tcp() {
        let (answer, asked) = over_tcp(b"\0\x05there and more");
        assert_eq!(answer.unwrap(), b"there"[..]);
        assert_eq!(asked, b"\0\x0cwhere is it?");
        let (answer, _) = over_tcp(b"\0\x7fthere");
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
