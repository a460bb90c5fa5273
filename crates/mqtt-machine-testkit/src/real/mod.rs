//! Owns programs of others that tests start on loopback ports and stop again: real brokers, and proxies. It must not know what is
//! tested on them.
//!
//! For tests: what is impossible in them panics. A program that is not installed is a test that is skipped and says so; with
//! `CI` set it is a failure for those that `.ci/run` installs.

mod brokers;
mod examples;
mod programs;
mod proxies;

pub use brokers::{Broker, Kind};
pub use examples::{end, example, example_of, output};
pub use programs::{folder, free_port, program};
pub use proxies::ProxyServer;
