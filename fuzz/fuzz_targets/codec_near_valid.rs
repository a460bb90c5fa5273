//! libFuzzer runs `codec_near_valid`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("codec_near_valid", data));
