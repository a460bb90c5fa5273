//! libFuzzer runs `codec_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("codec_stream", data));
