//! Owns the proof that a C program is compiled with the header, linked with the library and does what it says.

use std::path::{Path, PathBuf};
use std::process::Command;

use mqtt_machine_testkit::broker::BrokerConfig;
use mqtt_machine_testkit::real::{folder, output};
use mqtt_machine_testkit::tcp::Broker;

/// The static library, which cargo has built beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let libraries = std::fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libmqtt_machine_c_example") && name.ends_with(".a")
    };
    let of = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    libraries.filter(is_ours).max_by_key(of).expect("cargo builds a static library")
}

fn compile(compiler: &str, arguments: &[&str], program: &Path) {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(compiler);
    command.args(arguments).args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(crate_folder.join("include"));
    command.arg(crate_folder.join("c/client.c")).arg("-o").arg(program);
    command.arg(library()).args(["-lpthread", "-ldl", "-lm"]);
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[test]
fn a_c_program_subscribes_publishes_and_receives() {
    let folder = folder();
    let program = folder.join("client");
    compile("cc", &["-std=c11", "-pedantic", "-O1"], &program);
    let broker = Broker::start(BrokerConfig::new()).unwrap();
    let text = output(Command::new(&program).args(["127.0.0.1", &broker.port().to_string()]));
    assert_eq!(broker.broker(|broker| broker.log().violations().count()), 0);
    std::fs::remove_dir_all(folder).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["connected", "disconnected", "from/c hello", "operation 1: ok", "operation 2: ok"]);
}
