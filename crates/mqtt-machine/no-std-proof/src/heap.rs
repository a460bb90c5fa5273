//! Owns a fixed piece of static memory and hands it out. It must not know who asks.
//!
//! Sizes are rounded up to a power of two. A block comes from the list of blocks of its size that were given back, or
//! else from the unused end of the memory.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

/// What the whole program may use, in bytes.
const SIZE: usize = 1 << 20;
/// The smallest block: it has room for the link of a list.
const SMALLEST: usize = 16;
/// How blocks are aligned, and so the largest alignment that can be asked for.
const ALIGNMENT: usize = 64;
/// One list per power of two.
const LISTS: usize = usize::BITS as usize;

#[repr(C, align(64))]
struct Memory([u8; SIZE]);

struct State {
    memory: Memory,
    /// Where the unused end begins; a multiple of [`ALIGNMENT`].
    unused: usize,
    in_use: usize,
    /// The most that it was.
    peak: usize,
    /// The first free block of each size; each block begins with the pointer to the next one.
    free: [Option<NonNull<Link>>; LISTS],
}

struct Link(Option<NonNull<Link>>);

pub(crate) struct Heap(UnsafeCell<State>);

// SAFETY: the program has one thread and no signal handler, so nothing ever runs beside a call.
unsafe impl Sync for Heap {}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(State {
            memory: Memory([0; SIZE]),
            unused: 0,
            in_use: 0,
            peak: 0,
            free: [None; LISTS],
        }))
    }

    /// Bytes in blocks that were handed out and not given back.
    pub(crate) fn in_use(&self) -> usize {
        // SAFETY: one thread, and no reference to the state outlives a method of `Heap`.
        unsafe { (*self.0.get()).in_use }
    }

    /// The most bytes that were in use at once since this was last asked.
    pub(crate) fn take_peak(&self) -> usize {
        // SAFETY: as above.
        let state = unsafe { &mut *self.0.get() };
        core::mem::replace(&mut state.peak, state.in_use)
    }
}

/// The size of the block for a layout; `None` for what can never be had.
fn block_size(layout: Layout) -> Option<usize> {
    let size = layout.size().max(SMALLEST).checked_next_power_of_two()?;
    (size <= SIZE && layout.align() <= ALIGNMENT).then_some(size)
}

// SAFETY: a block is at least as large as its layout and aligned to `ALIGNMENT`; it is in one place only: unused, in
// one list, or handed out. Neither method panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = block_size(layout) else { return ptr::null_mut() };
        // SAFETY: one thread, and no reference to the state outlives a method of `Heap`.
        let state = unsafe { &mut *self.0.get() };
        let list = &mut state.free[size.trailing_zeros() as usize];
        let block = if let Some(block) = *list {
            // SAFETY: a block in a list begins with its link, written when it was given back.
            *list = unsafe { block.as_ref() }.0;
            block.as_ptr().cast::<u8>()
        } else {
            let end = state.unused + size.next_multiple_of(ALIGNMENT);
            if end > SIZE {
                return ptr::null_mut();
            }
            let start = core::mem::replace(&mut state.unused, end);
            // SAFETY: `start` is within the memory, and so is the whole block behind it.
            unsafe { (&raw mut state.memory).cast::<u8>().add(start) }
        };
        state.in_use += size;
        state.peak = state.peak.max(state.in_use);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (Some(size), Some(block)) = (block_size(layout), NonNull::new(block.cast::<Link>())) else {
            return;
        };
        // SAFETY: one thread, and no reference to the state outlives a method of `Heap`.
        let state = unsafe { &mut *self.0.get() };
        let list = &mut state.free[size.trailing_zeros() as usize];
        // SAFETY: the block came from `alloc`, nobody uses it any more, and it has the size and alignment of a link.
        unsafe { block.write(Link(*list)) };
        *list = Some(block);
        state.in_use -= size;
    }
}
