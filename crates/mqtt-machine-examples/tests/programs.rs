//! Owns the proof that programs of everyday use do what they say. It must not know how.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use mqtt_machine_blocking::{Client, Message, QoS};
use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::real::{end, example, folder, free_port, output};
use mqtt_machine_testkit::tcp::Broker;

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

/// A program that has said that it is ready, ended with this value.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut running = Self { child, lines };
        assert!(running.line().starts_with(ready));
        running
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it ended").unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn publish(client: &Client, topic: &str, payload: &str, retain: bool) {
    let message = Message::to(topic, payload.to_owned()).unwrap().qos(QoS::ExactlyOnce).retain(retain);
    assert!(client.publish(message).unwrap().wait(std::time::Duration::from_secs(10)).is_ok());
}

#[test]
fn a_bridge_carries_messages_with_their_flags_and_acknowledges_late() {
    let (here, there) = (broker(), broker());
    let _bridge =
        Running::start(example("bridge").args([&here.url(), &there.url(), "sensors/#"]), "bridging");
    let reader = Client::connect(there.url()).unwrap();
    let mut messages = reader.subscribe("sensors/#", QoS::ExactlyOnce).unwrap();
    let writer = Client::connect(here.url()).unwrap();
    for number in 0..50 {
        if number == 20 {
            there.cut_all();
            here.cut_all();
        }
        publish(&writer, "sensors/1", &number.to_string(), number == 49);
    }
    for number in 0..50 {
        assert_eq!(messages.recv().unwrap().payload_lossy(), number.to_string());
    }
    let late = Client::connect(there.url()).unwrap();
    let kept = late.subscribe("sensors/#", QoS::AtMostOnce).unwrap().recv().unwrap();
    assert!(kept.retain && kept.payload_lossy() == "49");
}

#[test]
fn a_cache_has_the_last_value_of_each_topic() {
    let broker = broker();
    let mut cache = Running::start(example("last_value_cache").args([&broker.url(), "t/#", "3"]), "watching");
    let client = Client::connect(broker.url()).unwrap();
    for (topic, payload) in [("t/a", "1"), ("t/a", "1"), ("t/b", "2"), ("t/a", "3")] {
        publish(&client, topic, payload, false);
    }
    let lines: Vec<_> = (0..4).map(|_| cache.line()).collect();
    assert_eq!(lines, ["t/a 1", "t/b 2", "t/a 3", "2 topics"]);
    assert!(end(&mut cache.child).success());
}

#[test]
fn commands_are_answered_in_both_versions() {
    let broker = broker();
    let _server = Running::start(example("commands").args([&broker.url(), "serve"]), "serving");
    for version in ["5", "3.1.1"] {
        let url = format!("{}?version={version}", broker.url());
        let ask =
            |name: &str, arguments: &str| output(example("commands").args([&url, "ask", name, arguments]));
        assert_eq!(ask("add", "2 3 -1"), "4\n");
        assert_eq!(ask("add", "two"), "error: invalid digit found in string\n");
        assert_eq!(ask("sing", ""), "error: there is no command sing\n");
    }
}

#[test]
fn a_file_arrives_as_it_was_although_links_are_cut() {
    let (broker, folder) = (broker(), folder());
    let (original, copy) = (folder.join("original"), folder.join("copy"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&original, &bytes).unwrap();
    let mut receiver = example("file_transfer");
    let mut receiver = Running::start(receiver.args([&broker.url(), "receive"]).arg(&copy), "waiting");
    let mut sender = example("file_transfer")
        .args([&broker.url(), "send"])
        .arg(&original)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    broker.cut_all();
    assert!(end(&mut sender).success());
    assert_eq!(receiver.line(), "3000000 bytes");
    assert!(std::fs::read(&copy).unwrap() == bytes);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_logger_keeps_lines_for_the_next_run() {
    let (port, folder) = (free_port(), folder());
    let log = |text: &str| {
        let url = format!("mqtt://127.0.0.1:{port}");
        let mut logger = example("logger");
        logger.arg(url).arg(folder.join("log.mqtt")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = logger.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(end(&mut child).success());
        std::io::read_to_string(child.stdout.take().unwrap()).unwrap()
    };
    assert_eq!(log("one\ntwo\n"), "kept\nkept\n2 wait for the next run\n");
    let broker = Broker::start_on(BrokerConfig::new(), port).unwrap();
    let reader = Client::connect(broker.url()).unwrap();
    let mut messages = reader.subscribe("log", QoS::ExactlyOnce).unwrap();
    assert_eq!(log("three\n"), "kept\n0 wait for the next run\n");
    for text in ["one", "two", "three"] {
        assert_eq!(messages.recv().unwrap().payload_lossy(), text);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
