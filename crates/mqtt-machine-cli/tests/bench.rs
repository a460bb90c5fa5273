//! Owns the proof that `bench` counts right and writes what it says. It must not know how it measures.

use std::process::{Command, Output};

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp::Broker;

fn bench(port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"));
    command.args(["bench", "-p", &port.to_string()]).args(arguments).output().unwrap()
}

fn broker() -> Broker {
    Broker::start(BrokerConfig::new()).unwrap()
}

#[test]
fn every_subscriber_gets_every_message_and_the_json_says_so() {
    let broker = broker();
    let arguments =
        ["--publishers", "2", "--subscribers", "3", "--messages", "200", "-q", "1", "--json", "-"];
    let output = bench(broker.port(), &arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["published"], 400);
    assert_eq!(report["received"], 1_200);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["lost"], 0);
    let sum = |name: &str| {
        let points = report["over_time"].as_array().unwrap().iter();
        points.map(|point| point[name].as_f64().unwrap()).sum::<f64>()
    };
    assert!((sum("received_per_second") / sum("published_per_second") - 3.0).abs() < 1e-6);
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    assert!(0.0 < latency("min") && latency("min") <= latency("p50"));
    assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    assert!(latency("max") < 60_000.0);
}

#[test]
fn a_table_and_a_picture_are_written_and_the_rate_is_kept() {
    let broker = broker();
    let folder = mqtt_machine_testkit::real::folder();
    let picture = folder.join("bench.svg");
    let arguments = ["--messages", "20", "--rate", "100", "--size", "8", "-q", "2", "--svg"];
    let output = bench(broker.port(), &[&arguments[..], &[picture.to_str().unwrap()]].concat());
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!table.contains('\x1b'), "colours are for terminals: {table}");
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    assert_eq!((row("published"), row("received"), row("lost")), (20.0, 20.0, 0.0), "{table}");
    // Twenty messages a hundredth of a second apart.
    assert!(row("in") >= 0.15, "{table}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<polyline").count(), 4);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let broker = broker();
    assert_eq!(bench(broker.port(), &["-i", "me"]).status.code(), Some(2), "all clients would have one name");
    assert_eq!(bench(broker.port(), &["--rate", "0"]).status.code(), Some(2));
    assert_eq!(bench(1, &["--connect-deadline", "1"]).status.code(), Some(3));
    let deaf = Broker::start(BrokerConfig::new().deny("bench/#".parse().unwrap())).unwrap();
    let refused = bench(deaf.port(), &["--messages", "1", "--subscribers", "1", "-q", "1"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_run_and_tells_what_has_come() {
    let broker = broker();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"))
        .args([
            "bench",
            "-p",
            &broker.port().to_string(),
            "--rate",
            "50",
            "--messages",
            "100000",
            "-q",
            "1",
            "--json",
            "-",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let some = |broker: &mut mqtt_machine_testkit::broker::Broker| broker.log().accepted().count() >= 10;
    assert!(broker.wait_until(std::time::Duration::from_secs(20), some));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = mqtt_machine_testkit::real::end(&mut child);
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(status.success() && report["received"].as_u64().unwrap() >= 9, "{status} {text}");
}
