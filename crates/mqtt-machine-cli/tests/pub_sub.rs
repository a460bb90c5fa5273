//! Owns the proof that `pub`, `sub` and `broker` do what they say, as processes and by their exit codes. It must not know how.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-machine"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The `broker` command, ended with the test.
struct Broker {
    child: Child,
    port: String,
}

impl Broker {
    fn start() -> Self {
        let mut child = command(&["broker", "--port", "0", "--seconds", "60"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').unwrap().1.to_owned();
        Self { child, port }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (first, rest) = arguments.split_first().unwrap();
        let mut command = command(&[first, "-p", &self.port]);
        command.args(rest);
        command
    }

    /// A `sub` that is subscribed.
    fn subscriber(&self, arguments: &[&str]) -> Child {
        let probe: Vec<&str> = ["sub", "-d", "-W", "30", "-v"].iter().chain(arguments).copied().collect();
        let mut child = self.command(&probe).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("connected")), "it never connects");
        std::thread::spawn(move || lines.for_each(drop));
        // The request follows at once; a message that is published earlier would be lost.
        std::thread::sleep(Duration::from_millis(300));
        child
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code of an end that must come soon.
fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {}", text(&output.stderr)))
}

#[test]
fn lines_go_from_standard_input_to_standard_output() {
    let broker = Broker::start();
    let subscriber = broker.subscriber(&["-t", "line/+", "-q", "2", "-C", "3"]);
    let mut publisher =
        broker.command(&["pub", "-t", "line/a", "-l", "-q", "2"]).stdin(Stdio::piped()).spawn().unwrap();
    publisher.stdin.take().unwrap().write_all(b"one\ntwo\r\nthree").unwrap();
    assert_eq!(publisher.wait().unwrap().code(), Some(0));
    let output = subscriber.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).as_str()), (0, "line/a one\nline/a two\nline/a three\n"));
}

#[test]
fn a_retained_message_is_printed_in_every_form_and_forgotten() {
    let broker = Broker::start();
    let publish = ["pub", "-t", "kept/json", "-m", r#"{"x":[1]}"#, "-r", "-q", "1"];
    assert_eq!(code(&broker.run(&publish)), 0);
    let take = |arguments: &[&str]| {
        let fixed = ["sub", "-t", "kept/#", "-C", "1", "-W", "20", "-q", "1"];
        let output = broker.run(&fixed.iter().chain(arguments).copied().collect::<Vec<_>>());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(take(&[]), "{\"x\":[1]}\n");
    assert_eq!(take(&["-N"]), "{\"x\":[1]}");
    assert_eq!(take(&["--hex"]), "kept/json 7b2278223a5b315d7d\n");
    assert_eq!(take(&["-F", "%q%r %l"]), "11 9\n");
    let json: serde_json::Value = serde_json::from_str(&take(&["--json"])).unwrap();
    assert_eq!((&json["payload"]["x"][0], &json["retain"]), (&1.into(), &1.into()));
    let folder = std::env::temp_dir().join(format!("mqtt-machine-sub-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    take(&["--output-dir", folder.to_str().unwrap(), "--remove-retained"]);
    assert_eq!(std::fs::read(folder.join("000001-kept_json")).unwrap(), br#"{"x":[1]}"#);
    std::fs::remove_dir_all(&folder).unwrap();
    let nothing = broker.run(&["sub", "-t", "kept/#", "-W", "1"]);
    assert_eq!((code(&nothing), text(&nothing.stdout).as_str()), (5, ""));
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let broker = Broker::start();
    let begin = Instant::now();
    let nobody =
        command(&["pub", "-p", "1", "-t", "a", "-m", "b", "--connect-deadline", "1"]).output().unwrap();
    assert_eq!(code(&nobody), 3, "{}", text(&nobody.stderr));
    assert!(begin.elapsed() < Duration::from_secs(15));
    let certificate = ["pub", "-t", "a", "-m", "b", "--cafile", "no/such/file"];
    let output = broker.run(&certificate);
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("no/such/file"), "{}", text(&output.stderr));
    for wrong in [
        &["pub", "-t", "a/#", "-m", "b"][..],
        &["pub", "-t", "a"],
        &["pub", "-t", "a", "-m", "b", "-q", "3"],
        &["pub", "-t", "a", "-m", "b", "-D", "subscribe:user-property=a=b"],
        &["pub", "-t", "a", "-m", "b", "--proxy", "ftp://x"],
        &["sub", "-t", "a/#/b"],
        &["sub", "-t", "a", "-F", "%z"],
        &["sub"],
    ] {
        let output = broker.run(wrong);
        assert_eq!(code(&output), 2, "{wrong:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_lets_what_was_accepted_arrive() {
    let broker = Broker::start();
    let subscriber = broker.subscriber(&["-t", "pace", "-q", "1", "-C", "1"]);
    let arguments = ["pub", "-t", "pace", "-m", "x", "-q", "1", "--repeat", "1000000", "--rate", "2"];
    let publisher = broker.command(&arguments).spawn().unwrap();
    assert_eq!(code(&subscriber.wait_with_output().unwrap()), 0);
    assert!(Command::new("kill").args(["-INT", &publisher.id().to_string()]).status().unwrap().success());
    let output = publisher.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("interrupted"));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = command(&["completions", shell]).output().unwrap();
        assert!(code(&output) == 0 && text(&output.stdout).contains("fuzz-broker"), "{shell}");
    }
    let folder = std::env::temp_dir().join(format!("mqtt-machine-man-{}", std::process::id()));
    assert_eq!(code(&command(&["man", folder.to_str().unwrap()]).output().unwrap()), 0);
    let page = std::fs::read_to_string(folder.join("mqtt-machine-pub.1")).unwrap();
    assert!(page.contains("stdin\\-line"), "{page}");
    std::fs::remove_dir_all(&folder).unwrap();
}
