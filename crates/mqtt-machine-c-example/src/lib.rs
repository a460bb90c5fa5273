//! The core behind a C interface: an example of a binding. `include/mqtt_machine.h` is its documentation, `c/client.c` a program.
//!
//! This crate is the only one with `unsafe` beside the programs without `std`: it turns pointers of C into references and back, and
//! leaves everything else to safe code. No call unwinds into C, since the core panics on no input; where it did, Rust aborts.

extern crate alloc;

mod interface;

pub use interface::*;
