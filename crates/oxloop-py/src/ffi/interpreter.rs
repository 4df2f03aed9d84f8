//! Which interpreter of the process this is.
//!
//! Facts: pools, interned classes and the current task are of the process, and a sub-interpreter
//! that ends frees objects that the others still have. CPython refuses the extension in isolated
//! sub-interpreters by itself, not in those that share the GIL (`Py_NewInterpreter`).
//! Decision: the main interpreter only; everybody else is told at the import.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Refuses every interpreter but the main one.
///
/// # Errors
/// ImportError in a sub-interpreter.
pub fn expect_main(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached (the token), so there is a current interpreter; the main one always exists.
    let is_main = unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() };
    if is_main {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "oxloop works in the main interpreter only, and this is a sub-interpreter: its native \
         objects belong to the process. Use asyncio here, or a thread or process of its own",
    ))
}
