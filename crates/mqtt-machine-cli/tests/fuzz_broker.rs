//! Fuzzing brokers as their authors do it: against the model broker, which is clean; against one that is not; against
//! mosquitto where it is installed.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::tcp;

fn fuzz(arguments: &[&str]) -> Output {
    let command = env!("CARGO_BIN_EXE_mqtt-machine");
    Command::new(command).arg("fuzz-broker").args(arguments).output().expect("the command starts")
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

/// A folder of the test's own; it goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mqtt-machine-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn cases(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let cases = entries.filter(|path| path.extension().is_some_and(|it| it == "case"));
        cases.map(|path| path.to_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_model_broker_is_clean_over_sockets() {
    let broker = tcp::Broker::start(BrokerConfig::new()).unwrap();
    let folder = Folder::new("clean");
    let url = broker.url();
    let output =
        fuzz(&["--url", &url, "--seed", "1", "--cases", "1000", "--time", "5", "--save", folder.path()]);
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains(" 0 findings, 0 saved"), "{printed}");
    for version in ["3.1 ", "3.1.1", "5.0"] {
        assert!(printed.contains(&format!("valid    {version}")), "{printed}");
    }
    assert_eq!(folder.cases(), Vec::<String>::new());
}

/// A relay to `broker` that drops every PINGRESP: its port.
fn without_pongs(broker: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { return };
            let (mut near_out, mut far_in) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let (mut near, mut far) = (near, far);
            spawn(move || {
                let _ = std::io::copy(&mut near, &mut far);
                let _ = far.shutdown(Shutdown::Both);
            });
            spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = far_in.read(&mut buffer) {
                    // Only where nothing else is in the chunk, and not for the one that watches.
                    let is_pong = buffer[..count] == [0xD0, 0];
                    if !is_pong && near_out.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = near_out.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_broker_that_does_not_serve_a_plain_client_cannot_be_fuzzed() {
    let broker = tcp::Broker::start(BrokerConfig::new()).unwrap();
    let url = format!("mqtt://127.0.0.1:{}", without_pongs(broker.port()));
    let output = fuzz(&["--url", &url, "--patience", "100", "--time", "5"]);
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(printed.contains("no PINGRESP"), "{printed}");
}

#[test]
fn a_fault_is_found_saved_and_replayed() {
    // Its operator forbids what the cases use, which looks like a broker that refuses what is valid.
    let mut config = BrokerConfig::new();
    config.denied.push("fz/+/+/b".parse().unwrap());
    let broker = tcp::Broker::start(config).unwrap();
    let folder = Folder::new("denied");
    let url = broker.url();
    let output =
        fuzz(&["--url", &url, "--seed", "3", "--cases", "300", "--time", "10", "--save", folder.path()]);
    let shown = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let cases = folder.cases();
    assert!(!cases.is_empty() && shown.contains("refused: sequence"), "{shown}");
    for case in &cases {
        let output = fuzz(&["--url", &url, "--replay", case]);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", printed(&output));
    }
    // Without the fault nothing is found.
    let broker = tcp::Broker::start(BrokerConfig::new()).unwrap();
    for case in &cases {
        let output = fuzz(&["--url", &broker.url(), "--replay", case]);
        assert_eq!(output.status.code(), Some(0), "{case}: {}", printed(&output));
    }
}

#[test]
fn a_broker_that_ends_in_the_middle_is_a_crash() {
    let broker = tcp::Broker::start(BrokerConfig::new()).unwrap();
    let url = broker.url();
    let folder = Folder::new("crash");
    let path = folder.path().to_owned();
    let run = spawn(move || fuzz(&["--url", &url, "--cases", "1000000", "--time", "30", "--save", &path]));
    sleep(Duration::from_millis(700));
    drop(broker);
    let output = run.join().unwrap();
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    // Refused, or reset by the listener's last breath.
    let gone = ["the broker is gone", "the broker does not recover"].iter().any(|why| printed.contains(why));
    assert!(printed.contains("crash: ") && gone, "{printed}");
    assert!(folder.cases().iter().any(|case| case.contains("-crash-")));
}

#[test]
fn only_this_machine_is_fuzzed_unless_a_flag_says_otherwise() {
    let output = fuzz(&["--url", "mqtt://192.0.2.1:1883"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(printed(&output).contains("--allow-remote"), "{}", printed(&output));
}

#[test]
fn what_cannot_run_says_so_with_2() {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let nobody = format!("mqtt://127.0.0.1:{unused}");
    let broker = tcp::Broker::start(BrokerConfig::new()).unwrap();
    for arguments in [
        &["--url", nobody.as_str()][..],
        &["--url", "http://127.0.0.1"],
        &["--url", &broker.url(), "--replay", "no-such-file"],
        &["--url", &broker.url(), "--replay", "Cargo.toml"],
    ] {
        let output = fuzz(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", printed(&output));
        assert!(printed(&output).starts_with("error: "), "{}", printed(&output));
    }
}

/// A mosquitto of the test's own; it ends with this value.
struct Mosquitto {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Mosquitto {
    /// `None` where it is not installed, unless `CI` is set: then that is a failure.
    fn start() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let Some(program) = places.map(|place| place.join("mosquitto")).find(|file| file.is_file()) else {
            assert!(std::env::var_os("CI").is_none(), "mosquitto is not installed");
            eprintln!("skipped: mosquitto is not installed");
            return None;
        };
        let folder = Folder::new("mosquitto");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let file = folder.0.join("mosquitto.conf");
        let lines = "allow_anonymous true\npersistence false\nset_tcp_nodelay true";
        fs::write(&file, format!("listener {port} 127.0.0.1\n{lines}\n")).unwrap();
        // Started by root it would become another user, who cannot read the folder.
        open_to_others(&folder.0);
        let mut command = Command::new(program);
        let child = command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let broker = Self { child, port, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "mosquitto does not start");
            sleep(Duration::from_millis(10));
        }
        Some(broker)
    }
}

fn open_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_against_mosquitto_comes_to_its_end_and_what_it_saved_replays() {
    let Some(broker) = Mosquitto::start() else { return };
    let folder = Folder::new("mosquitto-findings");
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let output = fuzz(&[
        "--url",
        &url,
        "--seed",
        "1",
        "--cases",
        "250",
        "--time",
        "20",
        "--patience",
        "500",
        "--save",
        folder.path(),
    ]);
    let shown = printed(&output);
    // What there is to find is mosquitto's business, and changes with its version.
    let findings = usize::from(!folder.cases().is_empty());
    assert_eq!(output.status.code(), Some(findings as i32), "{shown}");
    assert!(shown.contains(" cases in ") && !shown.contains("the broker is gone"), "{shown}");
    // The last word of a connection that is reset may be lost, and with it a wrong code.
    for case in folder.cases().into_iter().filter(|case| !case.contains("-wrong-code-")) {
        let output = fuzz(&["--url", &url, "--replay", &case]);
        let shown = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{case}: {shown}");
        let class = case.rsplit('/').next().unwrap()[4..].to_owned();
        let found = shown.lines().find_map(|line| line.strip_prefix("found ")).unwrap_or_default();
        assert!(class.starts_with(found.split(':').next().unwrap_or_default()), "{case}: {shown}");
    }
}
