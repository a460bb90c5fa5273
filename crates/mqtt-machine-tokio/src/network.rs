//! Owns what tokio does for a client: names, sockets, a timer. It must not know which of it is needed when.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mqtt_machine_client::{Network, NetworkFuture, Runtime, Server, SocketOptions, Target, ask_over_stream};
use mqtt_machine_transport::{Authority, SrvOver, SrvQuestion};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::time::{Sleep, sleep_until};

use crate::socket::{Connector, Socket};

/// The most that an answer of a name server over UDP has.
const DATAGRAM: usize = 4 << 10;

/// Tokio, as one client uses it.
#[derive(Clone)]
pub(crate) struct Tokio {
    pub(crate) options: Chosen,
    pub(crate) connector: Option<Connector>,
}

/// The options of sockets. Most clients have the defaults, which take no room.
#[derive(Clone)]
pub(crate) struct Chosen(Option<Arc<SocketOptions>>);

impl From<SocketOptions> for Chosen {
    fn from(options: SocketOptions) -> Self {
        Self((options != SocketOptions::DEFAULT).then(|| Arc::new(options)))
    }
}

impl Network for Tokio {
    type Socket = Socket;

    fn resolve(&self, name: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host((name.host.name(), name.port)).await?.collect()) })
    }

    fn connect(&self, target: Target) -> NetworkFuture<io::Result<Socket>> {
        let options = self.options.0.as_deref().copied().unwrap_or(SocketOptions::DEFAULT);
        Box::pin(async move {
            match target {
                Target::Tcp(address) => {
                    let socket = TcpSocket::from_std_stream(options.socket(address)?.into());
                    Ok(Socket::Tcp(socket.connect(address).await?))
                }
                #[cfg(unix)]
                Target::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }

    fn ask(&self, question: SrvQuestion) -> NetworkFuture<io::Result<Bytes>> {
        Box::pin(async move {
            match question.over {
                SrvOver::Udp => {
                    let socket = UdpSocket::bind(question.local_address()).await?;
                    socket.connect(question.to).await?;
                    socket.send(&question.message).await?;
                    let mut answer = BytesMut::with_capacity(DATAGRAM);
                    socket.recv_buf(&mut answer).await?;
                    Ok(answer.freeze())
                }
                SrvOver::Tcp => {
                    let stream = Socket::Tcp(TcpStream::connect(question.to).await?);
                    ask_over_stream::<Self>(stream, &question).await
                }
            }
        })
    }

    fn sleep_until(&self, then: Instant) -> NetworkFuture<()> {
        Box::pin(sleep_until(then.into()))
    }
}

impl Runtime for Tokio {
    type Timer = Pin<Box<Sleep>>;

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
        socket.poll_shutdown(context)
    }

    fn timer(&self, then: Instant) -> Self::Timer {
        Box::pin(sleep_until(then.into()))
    }

    fn reset(timer: &mut Self::Timer, then: Instant) {
        timer.as_mut().reset(then.into());
    }

    fn poll_timer(timer: &mut Self::Timer, context: &mut Context<'_>) -> Poll<()> {
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mqtt_machine_client::{DialError, Endpoint, Route, RouteOptions, dial};
    use tokio::net::TcpListener;

    use super::*;

    async fn failure(url: &str) -> DialError {
        match to(url).await {
            Ok(_) => panic!("{url} is there"),
            Err(error) => error,
        }
    }

    async fn to(url: &str) -> Result<Socket, DialError> {
        let route = Route::new(Endpoint::parse(url).unwrap(), &RouteOptions::new()).unwrap();
        dial(&Tokio { options: SocketOptions::DEFAULT.into(), connector: None }, Arc::new(route))
            .await
            .map(|(socket, _)| socket)
    }

    #[tokio::test]
    async fn a_name_leads_to_a_socket_with_the_options_that_were_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let Socket::Tcp(stream) = to(&format!("mqtt://localhost:{port}")).await.unwrap() else {
            panic!("TCP")
        };
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn the_last_reason_is_told_when_every_address_refuses() {
        let begin = Instant::now();
        let error = failure("mqtt://localhost:1").await;
        assert!(error.to_string().contains(":1: "), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        let nowhere = failure("unix:///no/such/socket").await;
        assert!(matches!(nowhere, DialError::Connect { kind: io::ErrorKind::NotFound, .. }), "{nowhere}");
    }
}
