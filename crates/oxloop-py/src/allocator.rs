//! What the C allocator is told, once a process, about the sizes that come and go here.
//!
//! Facts: glibc serves blocks above 128 KiB by a mapping of their own, and gives the top of the heap
//! back to the kernel when more than that is free there, until it has seen a larger block freed; it
//! then takes such sizes for ordinary. Received bytes are objects of up to `READ_BUFFER_BYTES` that
//! live for a moment. In a fresh process each of them costs a mapping, or a growth and a trim of the
//! heap, and its page faults: an echo of 100 KiB by streams took 43 µs there, 27 later on.
//! Decision: the first loop frees one block that is larger than any of them. Nothing is written to
//! it, so the kernel never provides its memory; the price is two system calls.
//! What can still go wrong: up to twice this size may stay with the process after a burst. Other
//! allocators do not care.

use std::sync::Once;

use oxloop_core::limits::READ_BUFFER_BYTES;

/// Larger than every object that is made of received bytes, its header included.
const ORDINARY_BYTES: usize = 4 * READ_BUFFER_BYTES;

/// Makes blocks of the size of a large receive ordinary ones.
pub fn settle() {
    static SETTLED: Once = Once::new();
    SETTLED.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(ORDINARY_BYTES))));
}
