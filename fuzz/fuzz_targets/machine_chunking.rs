//! libFuzzer runs `machine_chunking`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("machine_chunking", data));
