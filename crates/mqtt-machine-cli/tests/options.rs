//! Owns the proof that `docs/command-line.md` names every option of mosquitto_pub and mosquitto_sub, and that those it calls the same
//! are there. It must not know what they do.

use std::collections::BTreeSet;
use std::process::Command;

use mqtt_machine_testkit::real::program;

const PAGE: &str = include_str!("../../../docs/command-line.md");

/// Everything in `text` that looks like an option.
fn options(text: &str) -> BTreeSet<String> {
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let words = text.split(|letter| !is_inside(letter));
    let is_option = |word: &&str| {
        let name = word.trim_start_matches('-');
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic());
        is_name && (word.starts_with("--") || (word.starts_with('-') && name.len() == 1))
    };
    words.filter(is_option).map(str::to_owned).collect()
}

fn help(program: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn table() -> Vec<(&'static str, &'static str)> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| mosquitto_pub")).skip(2);
    let cells = rows.map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    cells.collect()
}

#[test]
fn every_option_of_mosquitto_is_named() {
    let named = options(&table().iter().map(|(left, _)| *left).collect::<String>());
    assert!(named.len() > 50, "{named:?}");
    for name in ["mosquitto_pub", "mosquitto_sub"] {
        let Some(program) = program(name) else {
            assert!(std::env::var_os("CI").is_none(), "{name} is not installed");
            eprintln!("skipped: {name} is not installed");
            return;
        };
        let text = help(&program, &["--help"]);
        // Each line of a description begins with its option; the usage has them all in brackets.
        let usage = text.split("\n\n").nth(1).unwrap_or_default();
        let known = options(usage);
        assert!(known.len() > 30, "{text}");
        let missing: Vec<_> = known.difference(&named).collect();
        assert!(missing.is_empty(), "{name} has {missing:?}");
    }
}

#[test]
fn what_is_called_the_same_is_there() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mqtt-machine"));
    let ours =
        options(&format!("{}{}", help(program, &["pub", "--help"]), help(program, &["sub", "--help"])));
    let same: String =
        table().iter().filter(|(_, right)| right.starts_with("the same")).map(|(left, _)| *left).collect();
    let missing: Vec<_> = options(&same).difference(&ours).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}
