//! contextvars (PEP 567): the context of a task or callback is entered around each of its steps.
//!
//! Entering a context that is already entered fails with RuntimeError, and so does leaving one that
//! is not the innermost; both are reported, never assumed.

use std::mem::ManuallyDrop;

use pyo3::ffi;
use pyo3::prelude::*;

use super::Ref;

/// A shallow copy of the current context (`contextvars.copy_context()`).
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Ref> {
    // SAFETY: attached; returns a new reference or null with an exception set.
    unsafe { Ref::from_owned_ptr(ffi::PyContext_CopyCurrent()) }.ok_or_else(|| PyErr::fetch(py))
}

/// Whether `object` is a `contextvars.Context`.
#[inline]
pub fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// A context that was entered and must be left.
///
/// It holds a reference: Exit drops the thread state's and then still writes to the context.
#[must_use = "a context that was entered must be left"]
pub struct Entered<'py>(ManuallyDrop<Ref>, Python<'py>);

impl<'py> Entered<'py> {
    /// Enters `context`; TypeError if it is none, RuntimeError if it is entered already.
    #[inline]
    pub fn enter(context: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::enter_owned(context.py(), Ref::from_borrowed(context))
    }

    /// As `enter`, with a reference that the caller gives away.
    #[inline]
    pub fn enter_owned(py: Python<'py>, context: Ref) -> PyResult<Self> {
        if !is_context(context.bind(py)) {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "a contextvars.Context is required",
            ));
        }
        // SAFETY: checked to be a context object.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 {
            Ok(Self(ManuallyDrop::new(context), py))
        } else {
            Err(PyErr::fetch(py))
        }
    }

    /// Leaves the context. Call it with no exception pending.
    #[inline]
    pub fn exit(self) -> PyResult<()> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once: neither `this` nor its field is used or dropped after.
        let context = unsafe { ManuallyDrop::take(&mut this.0) };
        // SAFETY: entered by `enter`, and left once.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(this.1))
        }
    }
}

impl Drop for Entered<'_> {
    /// Leaves a context that a panic or an early return skipped.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let context = unsafe { ManuallyDrop::take(&mut self.0) };
        // SAFETY: entered by `enter` and not left yet.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
            PyErr::fetch(self.1).write_unraisable(self.1, None);
        }
    }
}
