//! libFuzzer runs `layer_http_proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("layer_http_proxy", data));
