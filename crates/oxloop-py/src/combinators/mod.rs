//! What programs build from tasks: sleeping, waiting for several, time limits.
//!
//! | file       | subject          |
//! |------------|------------------|
//! | `sleep.rs` | `sleep()`        |
//!
//! Source of behaviour: CPython `Lib/asyncio/tasks.py`, `timeouts.py`, `taskgroups.py`.

mod sleep;

use pyo3::prelude::*;

/// Adds the functions and classes of this folder to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sleep::sleep, module)?)
}
