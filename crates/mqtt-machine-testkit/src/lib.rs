//! For tests and demos: a model MQTT broker that does on request what real ones do only when it hurts, and a simulator
//! that runs clients against it in virtual time.
//!
//! - [`broker`]: a broker for MQTT 3.1, 3.1.1 and 5.0 as a pure state machine, with faults on request and a log that
//!   tests can assert on. It checks its clients strictly.
//! - [`generate`]: packets, topics, filters and near-valid packets from a seed, a fuzzer's bytes or proptest.
//! - [`script`]: everything that can happen to one machine, and a driver without sockets that runs it.
//! - [`fuzz_broker`]: cases for brokers, how to carry them on, and the verdict.
//! - [`unchecked`]: an encoder that checks nothing.
//! - `adapters` (with the feature of this name): what every adapter does the same, as a suite that anybody can run.
//! - `alone` (with the feature of this name): tests that measure the whole process, with no other thread beside them.
//! - `layers` (with the feature of this name): the server's side of TLS, WebSocket and proxies, in memory.
//! - `real` (with the feature of this name): brokers and proxies of others, started and stopped by tests.
//! - `transports` (with the feature of this name): what an adapter does over every transport, against real servers.
//! - [`tcp`]: the same broker on a loopback port, with threads and nothing else.
//! - [`invariants`]: a machine with a reference model beside it, compared after every step.
//! - [`sim`]: processes with such machines, and brokers, over faulty links in virtual time: links break, processes crash and
//!   begin again, servers fail over; random schedules from a seed, shrunk when they fail.
//!
//! The features `arbitrary` and `proptest`, off by default, give everything that is generated to fuzzers and property
//! tests.
//!
//! Nothing in here is meant for production: the broker keeps everything in memory, finds subscribers by looking at
//! every subscription, and trusts its operator.

#[cfg(feature = "adapters")]
pub mod adapters;
#[cfg(feature = "alone")]
pub mod alone;
pub mod broker;
pub mod fuzz_broker;
pub mod generate;
pub mod invariants;
#[cfg(feature = "layers")]
pub mod layers;
mod random;
#[cfg(feature = "real")]
pub mod real;
pub mod script;
pub mod sim;
pub mod tcp;
#[cfg(feature = "transports")]
pub mod transports;
pub mod unchecked;

pub use random::Random;
