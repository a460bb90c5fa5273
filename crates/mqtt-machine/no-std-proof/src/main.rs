//! Owns the entry, the allocator and the panic handler of a program without `std` that runs the core.
//! It must not know what is proven: that stands in `proof` (the codec) and `bare` (the whole client in a bare loop), as safe code.
//!
//! The C library is linked for `main`, `abort` and the memory functions that every Rust program needs, and for nothing
//! else: not a byte of the heap comes from it. The exit code is 0, or the number of the step that failed.
#![no_std]
#![no_main]

extern crate alloc;

mod bare;
mod heap;
mod proof;

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

use heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap::new();

#[cfg(not(target_family = "wasm"))]
#[link(name = "c")]
unsafe extern "C" {
    safe fn abort() -> !;
}

/// In a module that imports nothing there is no C library.
#[cfg(target_family = "wasm")]
fn abort() -> ! {
    core::arch::wasm32::unreachable()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    abort()
}

/// What a machine that talks over a UART may use with its buffers, in bytes; blocks are powers of two.
const LOOP_HEAP: usize = 12 << 10;

/// What the C library calls.
#[unsafe(no_mangle)]
pub extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    if let Err(step) = proof::run() {
        return c_int::from(step);
    }
    // Everything that was allocated was given back.
    if HEAP.in_use() != 0 {
        return 99;
    }
    HEAP.take_peak();
    if bare::run().is_none() {
        return 4;
    }
    match (HEAP.in_use(), HEAP.take_peak()) {
        (0, ..=LOOP_HEAP) => 0,
        (0, _) => 98,
        _ => 99,
    }
}

/// The precompiled `core` and `alloc` name it for unwinding, which this program never does.
// SAFETY: no other item of this name is linked, and nothing calls it under `panic = "abort"`.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    abort()
}
