//! Owns MQTT over one bidirectional stream of QUIC, as EMQX speaks it: the proof that a foreign transport plugs in by a
//! connector. It must not know MQTT.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use mqtt_machine_client::{Server, TlsClient};
use mqtt_machine_transport::{Authority, Endpoint, Scheme};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::lookup_host;

use crate::socket::Connector;

/// EMQX's port for QUIC.
const DEFAULT_PORT: u16 = 14567;
/// QUIC gives up a silent connection long before MQTT's keep alive asks, so it speaks itself.
const SPEAK_EVERY: Duration = Duration::from_secs(10);
/// How long the last bytes may take to arrive when a connection is closed.
const LINGER: Duration = Duration::from_secs(2);

impl Connector {
    /// Opens one bidirectional stream of a QUIC connection for each connection of MQTT, as EMQX does (`mqtt` by ALPN).
    /// The server is `host:port`, with 14567 for a missing port; its certificate is checked by `tls` (QUIC speaks TLS 1.3).
    ///
    /// ```no_run
    /// use mqtt_machine_tokio::{Client, Config, Connector, Server, TlsOptions};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let connector = Connector::quic(&TlsOptions::new().ca_file("ca.pem").build()?)?;
    /// let client = Client::connect_with(Config::new(Server::new("broker.example:14567")), connector).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the configuration of TLS cannot speak QUIC: it needs TLS 1.3.
    pub fn quic(tls: &TlsClient) -> io::Result<Self> {
        let mut config = tls.config().as_ref().clone();
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"mqtt".to_vec()];
        }
        let crypto = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(SPEAK_EVERY));
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let endpoints = Arc::new(Endpoints::default());
        Ok(Self::new(move |server| {
            let (config, endpoints) = (config.clone(), Arc::clone(&endpoints));
            async move { open(&endpoints, config, &server).await }
        }))
    }
}

/// One socket for each family of addresses, made when it is first needed and kept.
#[derive(Debug, Default)]
struct Endpoints {
    v4: Mutex<Option<quinn::Endpoint>>,
    v6: Mutex<Option<quinn::Endpoint>>,
}

impl Endpoints {
    fn for_address(&self, to: SocketAddr) -> io::Result<quinn::Endpoint> {
        let (place, local): (_, SocketAddr) = match to {
            SocketAddr::V4(_) => (&self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = place.as_ref() {
            return Ok(endpoint.clone());
        }
        let endpoint = quinn::Endpoint::client(local)?;
        *place = Some(endpoint.clone());
        Ok(endpoint)
    }
}

async fn open(endpoints: &Endpoints, config: ClientConfig, server: &Server) -> io::Result<Stream> {
    let Authority { host, port } = authority(server)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in lookup_host((host.name(), port)).await? {
        match open_at(endpoints, config.clone(), address, &host.name()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn authority(server: &Server) -> io::Result<Authority> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let bare = server.as_str();
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let named = if has_port { format!("mqtt://{bare}") } else { format!("mqtt://{bare}:{DEFAULT_PORT}") };
    let endpoint = Endpoint::parse(&named).map_err(|error| refuse(error.to_string()))?;
    match (endpoint.scheme, endpoint.destination) {
        (Scheme::Mqtt, mqtt_machine_transport::Destination::Server(authority)) => Ok(authority),
        _ => Err(refuse("the server is not named as host:port".to_owned())),
    }
}

async fn open_at(
    endpoints: &Endpoints,
    config: ClientConfig,
    to: SocketAddr,
    name: &str,
) -> io::Result<Stream> {
    let connecting = endpoints.for_address(to)?.connect_with(config, to, name).map_err(io::Error::other)?;
    let connection = connecting.await?;
    let (send, recv) = connection.open_bi().await?;
    Ok(Stream { send: Some(send), recv, connection })
}

/// A stream with its connection, which lives as long.
struct Stream {
    /// There until it is dropped.
    send: Option<SendStream>,
    recv: RecvStream,
    connection: Connection,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().recv).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().send {
            Some(send) => AsyncWrite::poll_write(Pin::new(send), context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(send) = &mut self.get_mut().send {
            // It has ended already otherwise.
            let _ = send.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    /// What was written last still arrives: the connection waits for that a moment, elsewhere.
    fn drop(&mut self) {
        let (Some(mut send), connection) = (self.send.take(), self.connection.clone()) else { return };
        let done = VarInt::from_u32(0);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return connection.close(done, b"");
        };
        runtime.spawn(async move {
            let _ = send.finish();
            let _ = tokio::time::timeout(LINGER, send.stopped()).await;
            connection.close(done, b"");
        });
    }
}
