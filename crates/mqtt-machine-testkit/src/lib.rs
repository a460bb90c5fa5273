//! For tests and demos: a model MQTT broker that does on request what real ones do only when it hurts, and a simulator
//! that runs clients against it in virtual time.
//!
//! - [`broker`]: a broker for MQTT 3.1, 3.1.1 and 5.0 as a pure state machine, with faults on request and a log that
//!   tests can assert on. It checks its clients strictly.
//! - [`tcp`]: the same broker on a loopback port, with threads and nothing else.
//! - [`invariants`]: a machine with a reference model beside it, compared after every step.
//! - [`sim`]: processes with such machines, and brokers, over faulty links in virtual time: links break, processes crash and
//!   begin again, servers fail over; random schedules from a seed, shrunk when they fail.
//!
//! Nothing in here is meant for production: the broker keeps everything in memory, finds subscribers by looking at
//! every subscription, and trusts its operator.

pub mod broker;
pub mod invariants;
mod random;
pub mod sim;
pub mod tcp;

pub use random::Random;
