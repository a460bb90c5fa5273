//! libFuzzer runs `broker_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("broker_bytes", data));
