//! Asynchronous generators (PEP 525): the loop knows those that were started, and closes them.
//!
//! The hooks are set while the loop runs and the former ones put back after. A generator that is
//! collected half-way is closed by a task, from whichever thread collected it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::EventLoop;
use super::errors::Hooks;
use crate::ffi::Ref;
use crate::stdlib;

impl EventLoop {
    /// The set of generators that run on this loop, made at first use.
    fn asyncgen_set<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(set) = self.asyncgens.bound(py) {
            return Ok(set);
        }
        let set = stdlib::weak_set(py)?.call0()?;
        self.asyncgens.set(Ref::from_borrowed(&set));
        Ok(set)
    }

    /// Sets the hooks; returns the former ones as arguments for `sys.set_asyncgen_hooks`.
    pub(super) fn install_asyncgen_hooks<'py>(slf: &Bound<'py, Self>) -> PyResult<Hooks<'py>> {
        let py = slf.py();
        let before = stdlib::get_asyncgen_hooks(py)?.call0()?;
        let before = PyTuple::new(py, [before.get_item(0)?, before.get_item(1)?])?;
        let firstiter = slf.getattr(intern!(py, "_asyncgen_firstiter_hook"))?;
        let finalizer = slf.getattr(intern!(py, "_asyncgen_finalizer_hook"))?;
        stdlib::set_asyncgen_hooks(py)?.call1((firstiter, finalizer))?;
        Ok(before)
    }
}

#[pymethods]
impl EventLoop {
    fn _asyncgen_firstiter_hook(slf: &Bound<'_, Self>, agen: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().asyncgens_shut_down.get() {
            let category = py.get_type::<pyo3::exceptions::PyResourceWarning>();
            let kwargs = PyDict::new(py);
            kwargs.set_item("source", slf)?;
            let text = format!(
                "asynchronous generator {} was scheduled after loop.shutdown_asyncgens() call",
                agen.repr()?
            );
            stdlib::warn(py)?.call((text, category), Some(&kwargs))?;
        }
        slf.get().asyncgen_set(py)?.call_method1(intern!(py, "add"), (agen,))?;
        Ok(())
    }

    fn _asyncgen_finalizer_hook(slf: &Bound<'_, Self>, agen: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        slf.get().asyncgen_set(py)?.call_method1(intern!(py, "discard"), (agen,))?;
        if slf.get().closed.get() {
            return Ok(());
        }
        let create_task = slf.getattr(intern!(py, "create_task"))?;
        let closing = agen.call_method0(intern!(py, "aclose"))?;
        slf.call_method1(intern!(py, "call_soon_threadsafe"), (create_task, closing))?;
        Ok(())
    }

    /// The `aclose()` awaitables of all generators that are still open, and the generators; empties
    /// the list and warns about those that start later. For `shutdown_asyncgens`.
    fn _take_asyncgens<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.asyncgens_shut_down.set(true);
        let set = self.asyncgen_set(py)?;
        let open = set.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        set.call_method0(intern!(py, "clear"))?;
        Ok(open)
    }

    #[getter]
    fn _asyncgens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.asyncgen_set(py)
    }
}
