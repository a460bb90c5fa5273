//! Runs one target over what stands on standard input, for fuzzers and debuggers that start a program for each input.

use std::io::Read as _;

fn main() -> std::io::Result<()> {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("usage: stdin TARGET < INPUT");
        std::process::exit(2);
    };
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data)?;
    mqtt_machine_fuzz::run(&name, &data);
    Ok(())
}
