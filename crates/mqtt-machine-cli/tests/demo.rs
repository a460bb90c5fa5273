//! The demonstration as a person runs it: what it prints, and its exit code.

use std::process::{Command, Output};

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp;

fn demo(arguments: &[&str]) -> Output {
    let command = env!("CARGO_BIN_EXE_mqtt-machine");
    Command::new(command).arg("demo").args(arguments).output().expect("the command starts")
}

/// Asserts success and five messages, once each and in order; returns what was printed.
fn assert_received(arguments: &[&str]) -> String {
    let output = demo(arguments);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{printed}{errors}", output.status);
    let received: Vec<&str> =
        printed.lines().filter_map(|line| Some(line.split_once("received messages: ")?.1)).collect();
    assert_eq!(received, ["1", "2", "3", "4", "5"], "{arguments:?}\n{printed}");
    printed
}

fn survives_the_cut(version: &str) {
    for qos in ["0", "1", "2"] {
        let printed = assert_received(&["--version", version, "--qos", qos]);
        for shown in ["cut both connections", "disconnected: ", "next attempt in ", "connected again"] {
            assert!(printed.contains(shown), "nothing shows {shown:?} with QoS {qos}:\n{printed}");
        }
    }
}

#[test]
fn every_qos_survives_the_cut_in_3_1() {
    survives_the_cut("3.1");
}

#[test]
fn every_qos_survives_the_cut_in_3_1_1() {
    survives_the_cut("3.1.1");
}

#[test]
fn every_qos_survives_the_cut_in_5_0() {
    survives_the_cut("5");
}

#[test]
fn a_broker_of_ones_own_is_used_and_not_cut() {
    let broker = tcp::Broker::start(BrokerConfig::default()).expect("a loopback port is free");
    let printed = assert_received(&["--url", &broker.url(), "--version", "3.1.1", "--qos", "1"]);
    assert!(!printed.contains("disconnected: the transport"), "{printed}");
}

#[test]
fn what_cannot_be_done_is_said_plainly_and_fails() {
    let output = demo(&["--url", "http://broker"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown scheme `http`"));
    let output = demo(&["--qos", "3"]);
    assert_eq!(output.status.code(), Some(2));
}
