//! Owns the run of the examples that every adapter has under the same names. It must not know what an adapter is.

use std::fs::write;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{Site, Way};
use crate::real::{Broker, Kind, end, example_of, output};

/// Runs `tcp`, `tls_one_way`, `tls_two_way`, `publish`, `subscribe` and `reconnect` of the crate whose test calls, each as a process
/// against mosquitto. Their programs are named `PREFIX_tcp` and so on. Skipped without mosquitto, which with `CI` set is a failure.
///
/// # Panics
/// When one does not do what it says.
pub fn examples_do_what_they_say(prefix: &str) {
    let Some(site) = Site::start() else { return };
    let program = |name: &str| example_of(name, &format!("{prefix}_{name}"));
    let url = |scheme: &str, way: Way| format!("{scheme}://localhost:{}", site.port(way));
    let file = |name: &str| site.folder.join(name);
    write(file("client.pem"), site.client.certificate.pem()).unwrap();
    write(file("client.key"), site.client.key.serialize_pem()).unwrap();

    let expect_pair = |command: &mut Command| {
        let text = output(command);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("published: ") && lines[0].contains("Acknowledged"), "{text}");
        assert_eq!(lines[1], "received: greetings/you hello", "{text}");
    };
    expect_pair(program("tcp").arg(url("mqtt", Way::Tcp)));
    expect_pair(program("tls_one_way").arg(url("mqtts", Way::Tls)).arg(file("ca.pem")));
    let two_way = url("mqtts", Way::MutualTls);
    let files = ["ca.pem", "client.pem", "client.key"].map(file);
    expect_pair(program("tls_two_way").arg(&two_way).args(&files));
    let stranger =
        program("tls_one_way").arg(&two_way).arg(&files[0]).stderr(Stdio::null()).status().unwrap();
    assert!(!stranger.success(), "without a certificate of its own nobody comes in");

    scripts(&url("mqtt", Way::Tcp), &program);
    let mut broker = Broker::start(Kind::Mosquitto).expect("it was there before");
    reconnect(&mut broker, &program);
}

/// One script publishes what the other receives.
fn scripts(url: &str, program: &dyn Fn(&str) -> Command) {
    let mut child =
        program("subscribe").args([url, "sensors/#", "2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("subscribed"));
    for payload in ["21.5", "22"] {
        assert_eq!(output(program("publish").args([url, "sensors/1", payload])), "published\n");
    }
    assert!(lines.eq(["sensors/1 21.5", "sensors/1 22"]));
    assert!(end(&mut child).success());
}

/// The broker goes and comes back; everything is acknowledged all the same.
fn reconnect(broker: &mut Broker, program: &dyn Fn(&str) -> Command) {
    let mut child = program("reconnect").args([&broker.url(), "12"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("connected"));
    broker.stop();
    broker.run();
    let lines: Vec<_> = lines.collect();
    assert!(end(&mut child).success(), "{lines:?}");
    let place = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let (cut, back) = (place("disconnected: "), place("connected again to "));
    assert!(cut.is_some() && back > cut && place("12 acknowledged") > back, "{lines:?}");
}
