//! libFuzzer runs `filter_map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("filter_map", data));
