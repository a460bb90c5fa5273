//! libFuzzer runs `journal_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mqtt_machine_fuzz::run("journal_record", data));
