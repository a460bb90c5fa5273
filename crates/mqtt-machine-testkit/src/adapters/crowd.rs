//! Owns the crowd: a thousand clients in one process, before a server that has one thread for all of them, so that what the
//! process has more of is the clients'. It must not know the broker's rules.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use mqtt_machine_client::{Client, Drained, Outcome, QoS};

use super::bench::{Bench, V5, message, options};
use super::peers::Server;
use crate::broker::{Broker, BrokerConfig, ConnId};

const CLIENTS: usize = 1_000;
const QOS_1: QoS = QoS::AtLeastOnce;
/// What other threads of the process may do meanwhile: the harness, and a runtime's own.
const OTHER_THREADS: usize = 32;

struct Link {
    conn: ConnId,
    stream: TcpStream,
    held: Bytes,
    open: bool,
}

/// Serves everybody until it is told to stop.
fn serve(listener: &TcpListener, stop: &AtomicBool) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut config = BrokerConfig::new();
    (config.max_connections, config.log_entries) = (2 * CLIENTS, 0);
    let (mut broker, start) = (Broker::new(config, 7), Instant::now());
    let (mut links, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let now =
        || mqtt_machine::Instant::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    let mut next = 0;
    while !stop.load(SeqCst) {
        let mut idle = true;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let conn = ConnId::new(next);
            next += 1;
            broker.open(now(), conn);
            links.push(Link { conn, stream, held: Bytes::new(), open: true });
            idle = false;
        }
        broker.handle_timeout(now());
        for link in &mut links {
            idle &= !link.step(&mut broker, now(), &mut buffer);
        }
        while let Some(conn) = broker.poll_close() {
            links.iter_mut().filter(|link| link.conn == conn).for_each(|link| link.open = false);
        }
        links.retain(|link| link.open || !link.held.is_empty());
        if idle {
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

impl Link {
    /// True when something moved.
    fn step(&mut self, broker: &mut Broker, now: mqtt_machine::Instant, buffer: &mut [u8]) -> bool {
        let mut moved = false;
        match self.stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(count) if count > 0 => {
                broker.handle_input(now, self.conn, &buffer[..count]);
                moved = true;
            }
            _ => {
                broker.closed(now, self.conn);
                (self.open, self.held) = (false, Bytes::new());
                return true;
            }
        }
        if self.held.is_empty() {
            self.held = broker.poll_output(self.conn);
        }
        if let Ok(count) = self.stream.write(&self.held) {
            moved |= count > 0;
            self.held.advance(count);
        }
        moved
    }
}

/// Threads and resident KiB of this process; `None` where the system does not say.
fn process() -> Option<[usize; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some([field("Threads:")?, field("VmRSS:")?])
}

/// Each client has two descriptors here, its own and the server's.
fn raise_limit_of_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let wanted = 4 * CLIENTS as u64;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_some_and(|current| current < wanted) {
            let raised = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
            let _ = setrlimit(Resource::Nofile, Rlimit { current: raised, maximum });
        }
    }
}

/// The outputs of many futures, which all begin before the first is waited for.
fn all<F: Future>(bench: &Bench, futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut begun: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    for (future, output) in &mut begun {
        *output = bench.wait_for(Duration::ZERO, future.as_mut());
    }
    begun
        .into_iter()
        .map(|(future, output)| output.unwrap_or_else(|| bench.wait("what a client asked for", future)))
        .collect()
}

pub(super) fn a_thousand_clients_live_in_one_process(bench: &Bench) {
    raise_limit_of_descriptors();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let server = Server::start(move |listener| serve(listener, &told));
    let before = process();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| bench.start(options(&server.url(), &format!("crowd-{number}"), V5)))
        .collect();
    clients.iter().for_each(|client| bench.connected(client));
    let asked = clients.iter().enumerate();
    let asked = asked.map(|(number, client)| client.subscribe(format!("crowd/{number}"), QOS_1));
    let mut streams = all(bench, asked);
    let deliveries: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            let topic = format!("crowd/{}", (number + 1) % CLIENTS);
            bench.wait("room", client.publish(message(&topic, number.to_string(), QOS_1)))
        })
        .collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let Ok(stream) = stream else { panic!("{stream:?}") };
        assert_eq!(bench.next(stream), ((number + CLIENTS - 1) % CLIENTS).to_string());
    }
    for delivery in deliveries {
        let outcome = delivery.map(|delivery| bench.wait("an outcome", delivery));
        assert!(matches!(outcome, Ok(Outcome::Acknowledged(_))), "{outcome:?}");
    }
    if let (Some(before), Some(after)) = (before, process()) {
        let [threads, memory] = [0, 1].map(|which| after[which].saturating_sub(before[which]));
        println!("{threads} threads and {memory} KiB more than before");
        let most = CLIENTS * bench.adapter().threads_per_client() + OTHER_THREADS;
        assert!(threads <= most, "{threads} threads, and not {most} at most");
        let most = CLIENTS * bench.adapter().memory_per_client();
        assert!(memory <= most, "{memory} KiB, and not {most} at most");
    }
    let most = clients.iter().map(Client::memory_used).max();
    assert!(most.is_some_and(|most| most < 16 << 10), "{most:?} bytes for one client");
    // They go at once, and the server is told by each.
    let ends = all(bench, clients.iter().map(Client::disconnect));
    assert!(ends.iter().all(|end| end.as_ref().is_ok_and(Drained::is_complete)), "{ends:?}");
    stop.store(true, SeqCst);
    server.end();
}
