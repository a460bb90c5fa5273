//! Owns what a page needs beside the C interface: memory that it may write to. It must not know MQTT.
//!
//! `index.html` is the page: it moves bytes between the module and the browser's own WebSocket, tells the time, and does what the machine
//! says. The module imports nothing. `.ci/browser` builds both and opens the page.
#![no_std]
#![cfg(target_family = "wasm")]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

/// The same functions as for C.
#[path = "../../../../mqtt-machine-c-example/src/interface.rs"]
mod interface;

#[path = "../../src/heap.rs"]
#[allow(dead_code, reason = "nobody asks how much is in use")]
mod heap;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Room for so many bytes, at least one, on a multiple of eight; zero when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn page_alloc(size: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(size.max(1), 8) else { return core::ptr::null_mut() };
    // SAFETY: the size is not zero.
    unsafe { HEAP.alloc(layout) }
}
