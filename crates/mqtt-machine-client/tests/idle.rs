//! Owns the measure of what an idle client holds on the heap, through every layer. It must not open a socket.

mod support;

use std::alloc::System;
use std::future::{Future, ready};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant as Clock};

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_machine::{Instant, Message, QoS, Server};
use mqtt_machine_client::{Client, Network, NetworkFuture, Run, Runtime, Stack, Target};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use mqtt_machine_testkit::layers::Peer;
use mqtt_machine_transport::{Authority, SrvQuestion};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{WAYS, Way, World};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many bytes are allocated.
fn allocated() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

const CONN: ConnId = ConnId::new(1);

/// The server behind its layers.
struct Far {
    peer: Peer,
    broker: Broker,
    /// What was not read yet.
    rest: BytesMut,
}

/// A network that is a server in memory, and its socket.
#[derive(Clone)]
struct Memory(Arc<Mutex<Far>>);

impl Memory {
    fn new(way: Way) -> Self {
        let mut broker = Broker::new(BrokerConfig::new(), 1);
        broker.open(Instant::ZERO, CONN);
        Self(Arc::new(Mutex::new(Far { peer: way.peer(), broker, rest: BytesMut::new() })))
    }

    fn far<T>(&self, call: impl FnOnce(&mut Far) -> T) -> T {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Network for Memory {
    type Socket = Self;

    fn resolve(&self, _: Authority) -> NetworkFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn connect(&self, _: Target) -> NetworkFuture<io::Result<Self>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn ask(&self, _: SrvQuestion) -> NetworkFuture<io::Result<Bytes>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn sleep_until(&self, _: Clock) -> NetworkFuture<()> {
        Box::pin(std::future::pending())
    }
}

impl Runtime for Memory {
    type Timer = Clock;

    fn open_own(&self, _: &Server) -> Option<NetworkFuture<io::Result<Self>>> {
        Some(Box::pin(ready(Ok(self.clone()))))
    }

    fn poll_read(socket: &mut Self, input: &mut BytesMut, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = input.capacity() - input.len();
        socket.far(|far| {
            let plain = far.broker.poll_output(CONN);
            if !plain.is_empty() {
                far.peer.send(&plain);
            }
            far.rest.extend_from_slice(&far.peer.output());
            let now = far.rest.split_to(room.min(far.rest.len()));
            input.put_slice(&now);
            if now.is_empty() { Poll::Pending } else { Poll::Ready(Ok(now.len())) }
        })
    }

    fn poll_write(socket: &mut Self, slices: &[IoSlice<'_>], _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        socket.far(|far| {
            far.peer.receive(&slices[0]);
            let received = std::mem::take(&mut far.peer.received);
            far.broker.handle_input(Instant::ZERO, CONN, &received);
        });
        Poll::Ready(Ok(slices[0].len()))
    }

    fn poll_flush(_: &mut Self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(_: &mut Self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn timer(&self, then: Clock) -> Clock {
        then
    }

    fn reset(timer: &mut Clock, then: Clock) {
        *timer = then;
    }

    fn poll_timer(timer: &mut Clock, _: &mut Context<'_>) -> Poll<()> {
        if *timer <= Clock::now() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What `future` gives, while the driver runs.
fn done<T>(run: &mut Run<Memory>, future: impl Future<Output = T>) -> T {
    let (mut context, mut future) = (Context::from_waker(Waker::noop()), pin!(future));
    for _ in 0..10_000 {
        assert!(Pin::new(&mut *run).poll(&mut context).is_pending());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it does not come")
}

/// What a client holds on the heap: when it has just moved large messages, and when it has been idle for two keep-alive intervals.
fn held(way: Way) -> [usize; 2] {
    let (options, server) = (way.options(), Memory::new(way));
    let options = options.configure(|config| config.keep_alive(Duration::from_secs(1)));
    [Duration::ZERO, Duration::from_millis(2_300)].map(|idle| {
        let server = if idle.is_zero() { server.clone() } else { Memory::new(way) };
        let (client, driver) = Client::new(options.clone()).unwrap();
        let mut run = Run::new(driver, server.clone());
        done(&mut run, client.connected()).unwrap();
        let mut stream = done(&mut run, client.subscribe("t", QoS::AtLeastOnce)).unwrap();
        for _ in 0..3 {
            let message = Message::to("t", vec![b'x'; 300_000]).unwrap().qos(QoS::AtLeastOnce);
            let delivery = done(&mut run, client.publish(message)).unwrap();
            done(&mut run, delivery);
            drop(done(&mut run, stream.recv()).unwrap());
        }
        let begin = Clock::now();
        while begin.elapsed() < idle {
            std::thread::sleep(Duration::from_millis(20));
            assert!(Pin::new(&mut run).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(client.is_connected());
        let before = allocated();
        drop((client, stream, run));
        before - allocated()
    })
}

/// The same for a stack, whose sockets' buffers are its driver's.
fn held_by_a_stack(way: Way) -> [usize; 2] {
    [false, true].map(|idle| {
        let options = way.options().configure(|config| config.keep_alive(Duration::from_secs(1)));
        let mut world = World::new(way, options);
        world.stack.connect(world.now).unwrap();
        world.connect();
        world.subscribe("t", QoS::AtLeastOnce);
        for _ in 0..3 {
            world.publish("t", vec![b'x'; 300_000], QoS::AtLeastOnce);
            world.settle();
        }
        for _ in 0..if idle { 3 } else { 0 } {
            world.wait();
        }
        assert!(world.stack.is_connected());
        let other = Stack::new(Way::direct("mqtt://host").options(), 1, Instant::ZERO).unwrap();
        let before = allocated();
        drop(std::mem::replace(&mut world.stack, other));
        before - allocated()
    })
}

/// What may be held when it is idle, in bytes, beside what the machine and its handle hold over plain TCP.
fn bound(way: Way) -> usize {
    // The state of TLS with its keys, and the configuration that each of these clients has for itself.
    let tls = if way.has_tls() { 11 << 10 } else { 0 };
    let websocket = if way.has_websocket() { 1 << 10 } else { 0 };
    tls + websocket + way.proxies.len() * 512
}

fn an_idle_client_gives_its_buffers_back() {
    for way in WAYS {
        let [busy, idle] = held(way);
        println!("{way:?}: a client holds {busy} bytes, {idle} when it is idle");
        assert!(idle < (8 << 10) + bound(way) && idle * 10 < busy, "{way:?}: {idle} of {busy} bytes");
        let [busy, idle] = held_by_a_stack(way);
        println!("{way:?}: a stack holds {busy} bytes, {idle} when it is idle");
        assert!(idle < (3 << 10) + bound(way), "{way:?}: {idle} of {busy} bytes");
    }
}

mqtt_machine_testkit::alone!(an_idle_client_gives_its_buffers_back);
