//! Deallocators that do not nest too deeply.
//!
//! Facts: a task that awaits a task, a coroutine that wraps a coroutine, a handle that is the argument
//! of a handle: a chain of ten thousand of them dies link by link, each within the deallocator of the
//! one before, and that overflows the stack. CPython guards its own containers against it, and all
//! objects from 3.14 on.
//! Decision: below a certain depth an object, unreachable already, waits until the outermost
//! deallocator has done its own; that one then drops all that wait.
//! What can still go wrong: a process that is forked while another thread is within a deallocator has
//! one level less in the child, and there what waits is not dropped.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;

/// How many deallocators may be within one another.
const DEPTH_MAX: usize = 100;

/// Drops the contents of a dying object and frees its memory.
pub type Drop = unsafe fn(*mut ffi::PyObject);

struct Late {
    depth: usize,
    waiting: Vec<(*mut ffi::PyObject, Drop)>,
}

struct LateCell(UnsafeCell<Late>);

// SAFETY: only reached by attached threads, one at a time (GIL).
unsafe impl Sync for LateCell {}

static LATE: LateCell = LateCell(UnsafeCell::new(Late { depth: 0, waiting: Vec::new() }));

#[inline]
fn with<R>(_py: Python<'_>, body: impl FnOnce(&mut Late) -> R) -> R {
    // SAFETY: attached (the token), hence alone; no `body` in this file runs Python code.
    body(unsafe { &mut *LATE.0.get() })
}

/// Calls `drop(object)`: now, or, where too many such calls are under way, when they have ended.
///
/// # Safety
/// `drop` may be called once with `object`, which nobody else reaches any more.
#[inline]
pub unsafe fn drop_in_turn(py: Python<'_>, object: *mut ffi::PyObject, drop: Drop) {
    let is_turn = with(py, |late| {
        let is_turn = late.depth < DEPTH_MAX;
        if is_turn {
            late.depth += 1;
        } else {
            late.waiting.push((object, drop));
        }
        is_turn
    });
    if !is_turn {
        return;
    }
    // SAFETY: promised by the caller.
    unsafe { drop(object) };
    // The outermost call goes on with what waits.
    while let Some((object, drop)) = with(py, |late| {
        if late.depth == 1 && !late.waiting.is_empty() {
            return late.waiting.pop();
        }
        late.depth -= 1;
        None
    }) {
        // SAFETY: promised when it was pushed; taken out once.
        unsafe { drop(object) };
    }
}
