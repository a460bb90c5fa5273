//! libFuzzer runs `store_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("store_rows", data));
