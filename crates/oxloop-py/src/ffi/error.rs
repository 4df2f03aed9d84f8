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
use pyo3::prelude::*;

/// The exception that `err` stands for.
#[cold]
pub fn instance(py: Python<'_>, err: PyErr) -> Bound<'_, PyBaseException> {
    err.restore(py);
    // Just raised, so it has its object: nothing is asked of PyO3 but to hand it out.
    PyErr::fetch(py).into_value(py).into_bound(py)
}
