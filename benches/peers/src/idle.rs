//! Owns what an idle client costs in memory: many of them in one process, and a broker for them in another.
//! It must not know how a client keeps itself small.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mqtt_machine_testkit::layers::{Authority, Peer, server_config};
use mqtt_machine_tokio::{Client, Options, ProtocolVersion, TlsClient, TlsOptions};
use mqtt_machine_transport::rustls::{ALL_VERSIONS, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::broker::{Session, frame};
use crate::{Failure, fleet};

/// Clients of the two processes whose difference counts, so that what a process has in any case cancels.
const CLIENTS: [usize; 2] = [4_500, 9_000];
/// What each of them waits for before it asks whether its server is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long they are left alone: each has pinged at least once.
const REST: Duration = Duration::from_secs(25);

/// How the clients reach the broker. `SOCKET` is no client but a socket of tokio's, in a task that waits for it and for a timer.
const WAYS: [&str; 5] = [SOCKET, "mqtt", "mqtts", "ws", "wss"];
const SOCKET: &str = "socket";

fn runtime() -> Result<Runtime, Failure> {
    fleet::allow_sockets()?;
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Serves idle clients that come this way. The first line of its output names the port; what follows is who signs its certificate.
///
/// # Errors
/// When it cannot listen.
pub fn serve(way: &str) -> Result<(), Failure> {
    let authority = Authority::new("benches");
    let tls = Arc::new(server_config(&authority.server(&["localhost"]), ALL_VERSIONS, None));
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}\n{}", listener.local_addr()?.port(), authority.pem());
        loop {
            let (stream, _) = listener.accept().await?;
            let peer = peer(way, &tls);
            tokio::spawn(async move {
                // A client that goes away is no failure of the broker's.
                let _ = answer(stream, peer).await;
            });
        }
    })
}

fn peer(way: &str, tls: &Arc<ServerConfig>) -> Peer {
    let mut peer = Peer::plain();
    if matches!(way, "mqtts" | "wss") {
        peer = peer.tls(Arc::clone(tls));
    }
    if matches!(way, "ws" | "wss") { peer.websocket() } else { peer }
}

async fn answer(mut stream: TcpStream, mut peer: Peer) -> Result<(), Failure> {
    let mut session = Session::default();
    let mut buffer = [0; 2_048];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        peer.receive(&buffer[..count]);
        while let Some((head, length)) = frame(&peer.received) {
            let packet: Vec<u8> = peer.received.drain(..head + length).collect();
            if !session.packet(packet[0], &packet[head..]) {
                return Ok(());
            }
        }
        if !session.out.is_empty() {
            peer.send(&std::mem::take(&mut session.out));
        }
        stream.write_all(&peer.output()).await?;
    }
}

/// So many clients, none of which does anything; prints what the process has of memory, in KiB.
///
/// # Errors
/// When not all of them are connected in the end.
pub fn rest(way: &str, port: &str, count: &str, millis: &str, authority: &str) -> Result<(), Failure> {
    let (port, count): (u16, usize) = (port.parse()?, count.parse()?);
    let rest = Duration::from_millis(millis.parse()?);
    runtime()?.block_on(async {
        if way == SOCKET {
            for _ in 0..count {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::spawn(async move {
                    let _ = timeout(REST * 10, stream.readable()).await;
                    stream.shutdown().await
                });
            }
            sleep(Duration::from_secs(1)).await;
        } else {
            // All of them trust the same, so they share what TLS is told.
            let tls = TlsOptions::new().ca_pem(authority.as_bytes()).build()?;
            let mut clients = Vec::with_capacity(count);
            for number in 0..count {
                clients.push(Client::connect(options(way, port, number, &tls)?).await?);
            }
            sleep(rest).await;
            if !clients.iter().all(|client| client.is_connected()) {
                return Err("a client has lost its connection".into());
            }
            println!("{}", memory()?);
            // The end of the process ends them all.
            std::mem::forget(clients);
            return Ok(());
        }
        println!("{}", memory()?);
        Ok(())
    })
}

fn options(way: &str, port: u16, number: usize, tls: &TlsClient) -> Result<Options, Failure> {
    let options = Options::from_url(&format!("{way}://localhost:{port}"))?;
    Ok(options.route(|route| route.tls_client(tls.clone())).configure(|config| {
        let config = config.version(ProtocolVersion::V3_1_1).client_id(format!("idle-{number}"));
        config.keep_alive(KEEP_ALIVE)
    }))
}

/// What the process has in memory, in KiB.
fn memory() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no size of memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The table of what one idle client costs, by the way to the broker.
///
/// # Errors
/// When something could not be measured.
pub fn table() -> Result<(), Failure> {
    println!("\n| idle client | process memory of one, KiB | of {} | of {} |", CLIENTS[0], CLIENTS[1]);
    println!("|---|---:|---:|---:|");
    for way in WAYS {
        let [few, many] = CLIENTS.map(|count| measure(way, count, REST));
        let (few, many) = (few?, many?);
        let one = many.saturating_sub(few) as f64 / (CLIENTS[1] - CLIENTS[0]) as f64;
        println!("| {way} | {one:.1} | {few} | {many} |");
    }
    Ok(())
}

/// That a few clients rest, over every way.
///
/// # Errors
/// The first that does not.
pub fn try_all() -> Result<(), Failure> {
    for way in WAYS {
        measure(way, 10, Duration::from_millis(100)).map_err(|error| format!("idle over {way}: {error}"))?;
    }
    println!("clients are idle in {} ways", WAYS.len());
    Ok(())
}

fn measure(way: &str, count: usize, rest: Duration) -> Result<u64, Failure> {
    let program = std::env::current_exe()?;
    let mut broker = Command::new(&program).args(["idle-broker", way]).stdout(Stdio::piped()).spawn()?;
    let result = (|| {
        let mut lines = BufReader::new(broker.stdout.take().ok_or("no output")?);
        let (mut port, mut authority) = (String::new(), String::new());
        lines.read_line(&mut port)?;
        while !authority.ends_with("-----END CERTIFICATE-----\n") {
            if lines.read_line(&mut authority)? == 0 {
                return Err("the broker has ended".into());
            }
        }
        let (count, rest) = (count.to_string(), rest.as_millis().to_string());
        let output = Command::new(&program)
            .args(["idle-clients", way, port.trim(), &count, &rest, &authority])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{count} clients over {way} failed").into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    })();
    let _ = broker.kill();
    let _ = broker.wait();
    result
}
