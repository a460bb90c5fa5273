//! libFuzzer runs `machine_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("machine_bytes", data));
