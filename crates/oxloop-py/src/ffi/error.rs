//! The exception object of a `PyErr`.
//!
//! Facts: a `PyErr` that Rust code made holds a recipe, not an exception. PyO3 follows the recipe
//! when it is first asked for the object, behind a `Once` for which it lets go of the GIL and takes
//! it again. Taking it is refused, by a panic, while the interpreter clears its modules at exit: just
//! then suspended coroutines are closed and destructors run.
//! Decision: the error is raised and fetched, which makes the object without letting go of the GIL.
//! What can still go wrong: `PyErr::value` and `is_instance_of` ask PyO3 as well. They are for errors
//! that Python code raised, or that come from here.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;

/// The error of raising `exception` as `raise` does: what is being handled becomes its context, if
/// it has none yet.
#[cold]
pub fn raised(exception: &Bound<'_, PyAny>) -> PyErr {
    let py = exception.py();
    let Ok(exception) = exception.cast::<PyBaseException>() else {
        return PyErr::from_value(exception.clone());
    };
    // SAFETY: `exception` is an exception, so that the call gives a new reference or null and has no
    // error to set; the caller is attached.
    let context = unsafe {
        Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetContext(exception.as_ptr()))
    };
    if context.is_some() {
        return PyErr::from_value(exception.clone().into_any());
    }
    // SAFETY: an exception and its own class, both borrowed for the call, which sets the error that
    // is fetched at once.
    unsafe { ffi::PyErr_SetObject(exception.get_type().as_ptr(), exception.as_ptr()) };
    PyErr::fetch(py)
}

/// Calls `body` while `exception` is being handled, as in the `except` block that caught it:
/// `sys.exc_info()` tells it, and what is raised meanwhile has it as its context.
#[cold]
pub fn while_handling<R>(exception: &Bound<'_, PyAny>, body: impl FnOnce() -> R) -> R {
    let py = exception.py();
    let handled = || {
        // SAFETY: the caller is attached; the call gives a new reference or null.
        unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetHandledException()) }
    };
    let set = |exception: Option<&Bound<'_, PyAny>>| {
        // SAFETY: the caller is attached; null stands for none, and the call takes a reference.
        unsafe {
            ffi::PyErr_SetHandledException(
                exception.map_or(std::ptr::null_mut(), |exception| exception.as_ptr()),
            );
        }
    };
    // What is handled may be so by a caller further out, whose it stays: only what this frame's own
    // entry held is put back.
    let before = handled();
    set(None);
    let outer = handled();
    let is_outer = match (&before, &outer) {
        (Some(before), Some(outer)) => before.is(outer),
        _ => false,
    };
    set(Some(exception));
    let result = body();
    set(before.as_ref().filter(|_| !is_outer));
    result
}

/// The exception that `err` stands for.
#[cold]
pub fn instance(py: Python<'_>, err: PyErr) -> Bound<'_, PyBaseException> {
    err.restore(py);
    // Just raised, so it has its object: nothing is asked of PyO3 but to hand it out.
    PyErr::fetch(py).into_value(py).into_bound(py)
}
