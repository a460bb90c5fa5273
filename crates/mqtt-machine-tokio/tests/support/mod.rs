//! Owns what tests of this adapter share: time limits, options, a link that can be cut.
//! It must not know what any test is about.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use mqtt_machine_testkit::real::{Broker, Kind, free_port};

use mqtt_machine_tokio::{
    Backoff, CleanStart, Client, Config, Message, Options, Outcome, ProtocolVersion, QoS,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Fails the test when `future` takes longer than so many seconds.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(seconds), future).await.expect("the test takes too long")
}

/// Options that reconnect quickly.
pub(crate) fn options(url: &str, client_id: &str, version: ProtocolVersion) -> Options {
    let backoff =
        Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200), ..Backoff::DEFAULT };
    Options::from_url(url)
        .unwrap()
        .configure(|config: Config| config.client_id(client_id).version(version).backoff(backoff))
}

pub(crate) const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

pub(crate) fn message(topic: &str, payload: impl Into<Vec<u8>>) -> Message {
    Message::to(topic, payload.into()).unwrap()
}

/// Options of a client whose session is resumed, also the first time.
pub(crate) fn resuming(url: &str, client_id: &str, version: ProtocolVersion) -> Options {
    options(url, client_id, version).configure(|config| config.clean_start(CleanStart::Never))
}

pub(crate) fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Sent => true,
        Outcome::Acknowledged(acknowledgement) => !acknowledgement.reason.is_failure(),
        _ => false,
    }
}

pub(crate) async fn publish(client: &Client, message: Message) {
    let outcome = client.publish(message).await.unwrap().await;
    assert!(is_done(&outcome), "{outcome:?}");
}

/// Publishes the numbers below `count`, as far ahead of the server as there is room, and waits for the end of each.
pub(crate) async fn publish_numbers(client: &Client, topic: &str, qos: QoS, count: usize) {
    let mut deliveries = Vec::with_capacity(count);
    for number in 0..count {
        deliveries.push(client.publish(message(topic, number.to_string()).qos(qos)).await.unwrap());
    }
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let outcome = delivery.await;
        assert!(is_done(&outcome), "{number}: {outcome:?}");
    }
}

/// A TCP relay whose links can be cut. It ends with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Relays to this port of 127.0.0.1.
    pub(crate) async fn start(to: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, to, cuts.clone()));
            }
        });
        Ok(Self { port, cut })
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Cuts every link abruptly, whatever is on its way.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn relay(mut near: TcpStream, to: u16, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = cuts.changed() => {
            // A reset, not an end.
            let _ = near.set_zero_linger();
            let _ = far.set_zero_linger();
        }
    }
}
