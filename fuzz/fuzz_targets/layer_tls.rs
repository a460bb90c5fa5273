//! libFuzzer runs `layer_tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("layer_tls", data));
