//! Owns the proof that the driver runs without a runtime of its own, over sockets and over streams of the user's. It must not
//! know the wire.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::{block_on, zip};
use mqtt_machine_futures_io::{
    Backoff, Client, ClientEvent, Config, Connector, FuturesIo, Message, Options, Outcome, QoS, Run, Server,
};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

/// A client and its driver, which nobody spawns.
fn unspawned(options: impl Into<Options>, connector: Option<Connector>) -> (Client, Run<FuturesIo>) {
    let (client, driver) = Client::new(options).unwrap();
    let runtime = FuturesIo { options: driver.socket_options(), connector };
    (client, Run::new(driver, runtime))
}

fn quick(config: Config) -> Config {
    config.backoff(Backoff { first: Duration::from_millis(20), jitter: false, ..Backoff::DEFAULT })
}

/// Publishes and receives at each QoS, with a cut in the middle, then ends the client.
async fn exchange(client: Client, broker: &Broker) {
    client.connected().await.unwrap();
    let mut events = client.events();
    let mut messages = client.subscribe("own/#", QoS::ExactlyOnce).await.unwrap();
    for round in 0..2_u8 {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let payload = vec![round; 50_000];
            let message = Message::to("own/a", payload.clone()).unwrap().qos(qos);
            let outcome = client.publish(message).await.unwrap().await;
            assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
            let message = messages.recv().await.unwrap();
            assert!(message.qos == qos && message.payload == payload);
        }
        if round == 0 {
            broker.cut_all();
            while !matches!(events.recv().await, Some(ClientEvent::Connected(_))) {}
        }
    }
    assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
}

#[test]
fn a_driver_that_is_polled_by_hand_survives_a_cut() {
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let options = Options::from_url(&format!("{}?client_id=hand", broker.url())).unwrap().configure(quick);
    let (client, run) = unspawned(options, None);
    block_on(zip(run, exchange(client, &broker)));
}

/// A stream that reads and writes few bytes at a time.
struct Slow(Async<TcpStream>);

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let few = buffer.len().min(7);
        Pin::new(&mut self.0).poll_read(context, &mut buffer[..few])
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, &bytes[..bytes.len().min(7)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

#[test]
fn streams_of_ones_own_are_opened_again_for_every_connection() {
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, broker.port()).into();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let connector = Connector::new(move |server| {
        assert_eq!(server.as_str(), "whatever it is called");
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Slow(Async::<TcpStream>::connect(address).await?)) }
    });
    let config = quick(Config::new(Server::new("whatever it is called")).client_id("own"));
    let (client, run) = unspawned(config, Some(connector));
    block_on(zip(run, exchange(client, &broker)));
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[test]
fn a_stream_that_is_there_once_is_not_opened_again() {
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, broker.port()).into();
    let stream = block_on(Async::<TcpStream>::connect(address)).unwrap();
    let config = Config::new(Server::new("once")).backoff(Backoff::NEVER);
    let (client, run) = unspawned(config, Some(Connector::once(stream)));
    block_on(zip(run, async move {
        let mut events = client.events();
        client.connected().await.unwrap();
        client.reconnect().unwrap();
        while !matches!(events.recv().await, Some(ClientEvent::ConnectFailed { retry_at: None, .. })) {}
        let error = client.connected().await.unwrap_err();
        assert!(error.to_string().contains("used before"), "{error}");
    }));
}
