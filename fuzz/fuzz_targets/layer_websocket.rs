//! libFuzzer runs `layer_websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("layer_websocket", data));
