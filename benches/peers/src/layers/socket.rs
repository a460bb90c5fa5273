//! Owns messages of QoS 0 through a layer over a socket: by mqtt-machine-tokio, and by packets made beforehand. It must not know
//! what is made of the figures.

use std::net::TcpStream;
use std::sync::Arc;

use ::tokio::runtime::Builder;
use mqtt_machine_benches::instructions;
use mqtt_machine_tokio::{Client, TlsOptions};
use mqtt_machine_transport::rustls::pki_types::pem::PemObject;
use mqtt_machine_transport::rustls::pki_types::{CertificateDer, ServerName};
use mqtt_machine_transport::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::Messages;
use crate::Failure;
use crate::clients::{Case, Job, Used, raw, tokio};
use crate::process::{Broker, per_message, told};

/// How both come; the first is without a layer.
pub(super) const WAYS: [&str; 3] = ["mqtt", "mqtts", "ws"];
/// Who comes.
pub(super) const SIDES: [&str; 2] = ["raw", "client"];
/// What they do.
pub(super) const CASES: [&str; 2] = ["publish-0", "receive-0"];

/// Messages of a run that is timed; of three the one with the median of processor time counts.
const TIMED: u64 = 300_000;
/// Messages of the two runs whose difference is counted.
const COUNTED: [u64; 2] = [10_000, 40_000];

/// What one of many messages costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Seconds of the processor for a million.
    pub(super) processor: f64,
    /// In user mode.
    pub(super) instructions: f64,
}

pub(super) fn arguments<'a>(
    broker: &'a Broker,
    side: &'a str,
    way: &'a str,
    case: &'a str,
    count: &'a str,
) -> [&'a str; 7] {
    ["layer-client", side, way, case, &broker.port, count, &broker.authority]
}

/// Every message of a run has arrived.
pub(super) fn arrived(broker: &mut Broker, case: &str, count: u64) -> Result<(), Failure> {
    let expected = if case.starts_with("publish") { count } else { 0 };
    let received = broker.received()?;
    if received == expected { Ok(()) } else { Err(format!("{received} of {expected} arrived").into()) }
}

impl Cost {
    pub(super) fn measure(broker: &mut Broker, side: &str, way: &str, case: &str) -> Result<Self, Failure> {
        let mut times = Vec::new();
        for _ in 0..3 {
            let told = told(&arguments(broker, side, way, case, &TIMED.to_string()))?;
            arrived(broker, case, TIMED)?;
            times.push(Used::parse(&told).ok_or("a client told nothing")?.processor);
        }
        times.sort();
        let instructions = per_message(COUNTED, |count| {
            let spent = instructions(&arguments(broker, side, way, case, &count.to_string()))?;
            arrived(broker, case, count)?;
            Ok(spent)
        })?;
        Ok(Self { processor: times[1].as_secs_f64() * 1e6 / TIMED as f64, instructions })
    }
}

/// One client, which prints what it has used.
///
/// # Errors
/// When it fails.
pub fn run(
    side: &str,
    way: &str,
    case: &str,
    port: &str,
    count: &str,
    authority: &str,
) -> Result<(), Failure> {
    let case = Case::named(case).ok_or("there is no such case")?;
    let job = Job { case, port: port.parse()?, count: count.parse()? };
    let used = if side == "raw" { by_hand(way, job, authority) } else { by_client(way, job, authority) };
    used?.print();
    Ok(())
}

fn by_hand(way: &str, job: Job, authority: &str) -> Result<Used, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    match way {
        "mqtt" => raw::run_over(stream, job),
        "mqtts" => raw::run_over(StreamOwned::new(connection(authority)?, stream), job),
        "ws" => raw::run_over(Messages::connect(stream)?, job),
        _ => Err("there is no such way".into()),
    }
}

/// TLS by rustls alone.
pub(super) fn connection(authority: &str) -> Result<ClientConnection, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?)
}

fn by_client(way: &str, job: Job, authority: &str) -> Result<Used, Failure> {
    let tls = TlsOptions::new().ca_pem(authority.as_bytes()).build()?;
    let options = tokio::options_over(way, job)?.route(|route| route.tls_client(tls.clone()));
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::connect(options).await?;
        let used = tokio::work(&client, job).await?;
        client.disconnect().await?;
        Ok(used)
    })
}
