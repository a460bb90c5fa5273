//! libFuzzer runs `broker_packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("broker_packets", data));
