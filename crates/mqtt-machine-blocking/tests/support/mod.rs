//! Owns what tests of this adapter share: time limits, options, a broker. It must not know what any test is about.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mqtt_machine_blocking::{Backoff, Config, Message, Options, ProtocolVersion};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Fails the test when `work` takes longer than so many seconds.
pub(crate) fn within<T: Send + 'static>(seconds: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(work()));
    match result.recv_timeout(Duration::from_secs(seconds)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test takes too long"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("there is no result"),
        },
    }
}

/// Options that reconnect quickly.
pub(crate) fn options(url: &str, client_id: &str, version: ProtocolVersion) -> Options {
    Options::from_url(url).unwrap().configure(|config| quick(config, client_id).version(version))
}

/// As [`options`], for any configuration.
pub(crate) fn quick(config: Config, client_id: &str) -> Config {
    let backoff =
        Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200), ..Backoff::DEFAULT };
    config.client_id(client_id).backoff(backoff)
}

pub(crate) fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

pub(crate) fn message(topic: &str, payload: &str) -> Message {
    Message::to(topic, payload.to_owned()).unwrap()
}
