//! Owns the proof that every program of this crate does what it says. It must not know how.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::Stdio;

use mqtt_machine_blocking::{Client, QoS};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::real::{self, Kind, end, example, output};
use mqtt_machine_testkit::tcp::Broker;

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

#[test]
fn the_core_talks_over_a_pipe_in_memory() {
    assert_eq!(output(&mut example("pipe")), "greetings/you hello\n");
}

#[test]
fn the_pipe_takes_forty_lines() {
    let program = include_str!("../examples/pipe.rs");
    let lines = program.lines().filter(|line| !line.starts_with("//!") && !line.trim().is_empty());
    assert!(lines.count() <= 40);
}

#[test]
#[cfg(unix)]
fn the_core_talks_over_a_serial_line() {
    assert_eq!(output(&mut example("serial")), "meters/7 21.5\n");
}

#[test]
fn the_core_runs_in_a_loop_of_mio_beside_another_socket() {
    let broker = broker();
    let client = Client::connect(broker.url()).unwrap();
    let mut messages = client.subscribe("datagrams", QoS::AtLeastOnce).unwrap();
    let mut child = example("mio_loop")
        .args([format!("127.0.0.1:{}", broker.port()), "3".to_owned()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("datagrams at ").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for text in ["one", "two", "three"] {
        socket.send_to(text.as_bytes(), address).unwrap();
        assert_eq!(messages.recv().unwrap().payload_lossy(), text);
    }
    assert!(end(&mut child).success());
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest.iter().all(|line| line.starts_with("Acknowledged")), "{rest:?}");
}

#[test]
#[cfg(unix)]
fn a_client_steps_inside_a_loop_that_is_not_its_own() {
    let broker = broker();
    let mut child = example("foreign_loop")
        .arg(broker.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for text in ["one", "two"] {
        // Standard input stays open: the loop must not wait for more of it.
        writeln!(input, "{text}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), text);
    }
    broker.cut_all();
    writeln!(input, "after a cut").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "after a cut");
    drop(input);
    assert!(end(&mut child).success());
}

#[test]
#[cfg(unix)]
fn one_thread_drives_a_thousand_machines() {
    let Some(mosquitto) = real::Broker::start(Kind::Mosquitto) else { return };
    let text = output(example("thousand").args([format!("127.0.0.1:{}", mosquitto.port), "1000".to_owned()]));
    println!("{text}");
    assert!(text.starts_with("1000 machines on one thread: 1000 messages back"), "{text}");
}
