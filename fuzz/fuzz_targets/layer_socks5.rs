//! libFuzzer runs `layer_socks5`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("layer_socks5", data));
