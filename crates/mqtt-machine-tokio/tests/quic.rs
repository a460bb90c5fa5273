//! Owns the proof that MQTT runs over a stream of QUIC, against the model broker behind a server of quinn's. It must not
//! know the wire.
#![cfg(feature = "quic")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;
use mqtt_machine_tokio::{
    Backoff, Client, ClientEvent, Config, ConnectError, Connector, Message, Options, Outcome, QoS, Server,
    TlsOptions,
};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use support::within;
use tokio::io::{copy, join};
use tokio::net::TcpStream;

/// A server of QUIC whose streams go on to the model broker.
struct Front {
    endpoint: quinn::Endpoint,
    certificate: String,
    _broker: Broker,
}

impl Front {
    fn start() -> Self {
        let broker = Broker::start(BrokerConfig::new()).unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"mqtt".to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        tokio::spawn(serve(endpoint.clone(), (Ipv4Addr::LOCALHOST, broker.port()).into()));
        Self { endpoint, certificate: cert.pem(), _broker: broker }
    }

    fn options(&self, client_id: &str) -> Options {
        let server = format!("localhost:{}", self.endpoint.local_addr().unwrap().port());
        let backoff =
            Backoff { jitter: false, first: std::time::Duration::from_millis(20), ..Backoff::DEFAULT };
        Config::new(Server::new(server)).client_id(client_id).backoff(backoff).into()
    }

    fn connector(&self) -> Connector {
        Connector::quic(&TlsOptions::new().ca_pem(self.certificate.as_bytes()).build().unwrap()).unwrap()
    }
}

async fn serve(endpoint: quinn::Endpoint, broker: SocketAddr) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let (send, recv) = connection.accept_bi().await?;
            let (mut read, mut write) = TcpStream::connect(broker).await?.into_split();
            let mut front = join(recv, send);
            let (mut from, mut to) = tokio::io::split(&mut front);
            let _ = tokio::try_join!(copy(&mut from, &mut write), copy(&mut read, &mut to));
            connection.close(0_u32.into(), b"");
            Ok::<_, std::io::Error>(())
        });
    }
}

#[tokio::test]
async fn messages_of_every_qos_come_back_over_quic_and_the_client_reconnects() {
    within(30, async {
        let front = Front::start();
        let client = Client::connect_with(front.options("quic"), front.connector()).await.unwrap();
        let mut events = client.events();
        let mut messages = client.subscribe("quic/#", QoS::ExactlyOnce).await.unwrap();
        for round in 0..2_u8 {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let payload = vec![round; 40_000];
                let message = Message::to("quic/a", payload.clone()).unwrap().qos(qos);
                let outcome = client.publish(message).await.unwrap().await;
                assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
                let message = messages.recv().await.unwrap();
                assert_eq!((message.qos, message.payload == payload), (qos, true));
            }
            client.reconnect().unwrap();
            loop {
                if let Some(ClientEvent::Connected(connected)) = events.recv().await {
                    assert!(connected.session_present);
                    break;
                }
            }
        }
        assert_eq!(client.disconnect().await.unwrap().undelivered, 0);
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_and_a_port_where_nobody_is_are_told() {
    within(30, async {
        let (front, other) = (Front::start(), Front::start());
        let never = |options: Options| options.configure(|config| config.backoff(Backoff::NEVER));
        let error = Client::connect_with(never(front.options("x")), other.connector()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Transport(_)), "{error:?}");
        let nobody = Config::new(Server::new("no such host")).backoff(Backoff::NEVER);
        let error = Client::connect_with(nobody, front.connector()).await.unwrap_err();
        assert!(error.to_string().contains("space"), "{error}");
    })
    .await;
}
