//! Owns the run of this crate's examples. It must not know what they do.

#[test]
fn the_examples_do_what_they_say() {
    mqtt_machine_testkit::transports::examples_do_what_they_say("async_std");
}
