//! Owns a driver whose socket leads to a peer in memory. It must not know what any test is about.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use mqtt_machine::{Instant, TransportId};
use mqtt_machine_client::{Client, Driver, Options, Task};
use mqtt_machine_testkit::broker::{Broker, BrokerConfig, ConnId};
use mqtt_machine_testkit::layers::Peer;

use super::Way;

/// A driver whose socket leads to a peer in memory.
pub(crate) struct Bench {
    pub(crate) driver: Driver,
    pub(crate) peer: Peer,
    pub(crate) broker: Broker,
    way: Way,
    id: Option<TransportId>,
    pub(crate) conn: ConnId,
    /// The peer takes nothing.
    pub(crate) deaf: bool,
    /// All that the server has got, without the layers.
    pub(crate) got: Vec<u8>,
}

impl Bench {
    pub(crate) fn new(way: Way, options: Options) -> (Client, Self) {
        let (client, driver) = Client::new(options).unwrap();
        let (broker, conn) = (Broker::new(BrokerConfig::new(), 1), ConnId::new(1));
        (client, Self { driver, peer: way.peer(), broker, way, id: None, conn, deaf: false, got: Vec::new() })
    }

    /// As an adapter does, until nothing moves.
    pub(crate) fn run(&mut self) {
        loop {
            let turn = self.driver.turn(Waker::noop());
            let mut moved = turn.more;
            while let Some(task) = self.driver.next_task() {
                moved = true;
                match task {
                    Task::Open { id, server } => {
                        self.peer = self.way.peer();
                        self.conn = ConnId::new(self.conn.to_u64() + 1);
                        self.broker.open(Instant::ZERO, self.conn);
                        self.id = Some(id);
                        let layers = self.driver.layers(&server).unwrap();
                        self.driver.opened(id, layers);
                    }
                    Task::Close { id, mut farewell } if self.id == Some(id) => {
                        while farewell.has_remaining() {
                            self.peer.receive(farewell.chunk());
                            farewell.advance(farewell.chunk().len());
                        }
                        self.broker.closed(Instant::ZERO, self.conn);
                        self.id = None;
                    }
                    _ => {}
                }
            }
            if turn.done {
                return;
            }
            if self.id.is_some() {
                moved |= self.write() | self.read(turn.read_capacity);
            }
            if !moved {
                return;
            }
        }
    }

    fn write(&mut self) -> bool {
        let mut moved = false;
        while self.driver.output().has_remaining() && !self.deaf {
            let chunk = self.driver.output().chunk();
            let count = chunk.len().min(5_000);
            self.peer.receive(&chunk[..count]);
            self.driver.wrote(count);
            moved = true;
        }
        let received = std::mem::take(&mut self.peer.received);
        self.got.extend_from_slice(&received);
        self.broker.handle_input(Instant::ZERO, self.conn, &received);
        moved
    }

    fn read(&mut self, capacity: usize) -> bool {
        let plain = self.broker.poll_output(self.conn);
        if !plain.is_empty() {
            self.peer.send(&plain);
        }
        if capacity == 0 {
            return false;
        }
        let bytes = self.peer.output();
        self.driver.input().extend_from_slice(&bytes);
        !bytes.is_empty()
    }

    pub(crate) fn done<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..3 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            self.run();
        }
        panic!("{:?}: it does not come", self.way)
    }

    /// The socket breaks.
    pub(crate) fn cut(&mut self) {
        if let Some(id) = self.id.take() {
            self.broker.closed(Instant::ZERO, self.conn);
            self.driver.failed(id, std::io::Error::other("cut"));
        }
    }
}

pub(crate) fn is_ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
