//! contextvars (PEP 567): the context of a task or callback is entered around each of its steps.
//!
//! Entering a context that is already entered fails with RuntimeError, and so does leaving one that
//! is not the innermost; both are reported, never assumed.

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
#[must_use = "a context that was entered must be left"]
pub struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Entered<'a, 'py> {
    /// Enters `context`; TypeError if it is none, RuntimeError if it is entered already.
    #[inline]
    pub fn enter(context: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if !is_context(context) {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "a contextvars.Context is required",
            ));
        }
        // SAFETY: checked to be a context object.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 {
            Ok(Self(context))
        } else {
            Err(PyErr::fetch(context.py()))
        }
    }

    /// Leaves the context. Call it with no exception pending.
    #[inline]
    pub fn exit(self) -> PyResult<()> {
        let context = self.0;
        std::mem::forget(self);
        // SAFETY: entered by `enter`, left once: `self` is forgotten.
        if unsafe { ffi::PyContext_Exit(context.as_ptr()) } == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(context.py()))
        }
    }
}

impl Drop for Entered<'_, '_> {
    /// Leaves a context that a panic or an early return skipped.
    fn drop(&mut self) {
        // SAFETY: entered by `enter` and not left yet.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}
