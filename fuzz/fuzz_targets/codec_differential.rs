//! libFuzzer runs `codec_differential`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("codec_differential", data));
