//! Owns the proof that an interrupt lets what was accepted come to its end, and a second one does not. By processes and real signals.
//! It must not know how.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A server that says yes to CONNECT and nothing after it. Tells that something came behind CONNECT.
fn silent() -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, came) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let told = told.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4_096];
                let mut reads = 0;
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    reads += 1;
                    if reads == 1 {
                        stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
                    } else {
                        let _ = told.send(());
                    }
                }
            });
        }
    });
    (port, came)
}

fn command(port: u16, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"));
    let (first, rest) = arguments.split_first().unwrap();
    command.args([first, "-p", &port.to_string()]).args(rest);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until the process says that it was interrupted; what it says then comes with its end.
fn heard(child: &mut Child) {
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("interrupted") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "it ends without a word");
    }
    thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
}

fn ended(child: Child, within: Duration) -> Output {
    let begin = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < within, "{:?}", begin.elapsed());
    output
}

const PUBLISH: [&str; 7] = ["pub", "-t", "a", "-m", "b", "-q", "1"];
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_first_interrupt_drains_until_the_deadline_and_says_what_did_not_arrive() {
    for signal in ["-INT", "-TERM"] {
        let (port, came) = silent();
        let mut child =
            command(port, &[&PUBLISH[..], &["--drain", "1", "--repeat", "9", "--rate", "1"]].concat());
        came.recv_timeout(SOON).unwrap();
        let begin = Instant::now();
        interrupt(&child, signal);
        heard(&mut child);
        let output = ended(child, SOON);
        assert!(begin.elapsed() >= Duration::from_secs(1), "it did not wait for the answer");
        assert_eq!(output.status.code(), Some(4));
    }
}

#[test]
fn a_second_interrupt_ends_a_publisher_at_once() {
    let (port, came) = silent();
    let mut child =
        command(port, &[&PUBLISH[..], &["--drain", "600", "--repeat", "9", "--rate", "1"]].concat());
    came.recv_timeout(SOON).unwrap();
    interrupt(&child, "-INT");
    heard(&mut child);
    interrupt(&child, "-INT");
    assert_eq!(ended(child, SOON).status.code(), Some(130));
}

#[test]
fn an_interrupt_while_the_last_messages_are_waited_for_ends_at_once() {
    let (port, came) = silent();
    let child = command(port, &[&PUBLISH[..], &["--drain", "600"]].concat());
    came.recv_timeout(SOON).unwrap();
    // The message was accepted before it came here, so this is the drain.
    thread::sleep(Duration::from_millis(200));
    interrupt(&child, "-INT");
    let output = ended(child, SOON);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interrupt_before_there_is_a_connection_ends_at_once() {
    // Nobody answers CONNECT here.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for command_line in [&PUBLISH[..], &["sub", "-t", "a"]] {
        let child = command(listener.local_addr().unwrap().port(), command_line);
        drop(listener.accept().map(|(stream, _)| std::mem::forget(stream)));
        thread::sleep(Duration::from_millis(200));
        interrupt(&child, "-INT");
        let output = ended(child, SOON);
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_subscriber_that_is_interrupted_acknowledges_and_ends_well() {
    let broker = mqtt_machine_testkit::tcp::Broker::start(Default::default()).unwrap();
    let mut child = command(broker.port(), &["sub", "-t", "a", "-q", "2", "-i", "listener"]);
    let subscribed = |broker: &mut mqtt_machine_testkit::broker::Broker| broker.connected().count() == 1;
    assert!(broker.wait_until(SOON, subscribed));
    thread::sleep(Duration::from_millis(300));
    let published = command(broker.port(), &["pub", "-t", "a", "-m", "taken", "-q", "2"]);
    assert_eq!(ended(published, SOON).status.code(), Some(0));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "taken\n");
    interrupt(&child, "-INT");
    heard(&mut child);
    assert_eq!(ended(child, SOON).status.code(), Some(0));
    assert!(broker.wait_until(SOON, |broker| broker.connected().count() == 0));
    assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
}
