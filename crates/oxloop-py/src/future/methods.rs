//! The methods and attributes of `Future` as Python sees them.
//!
//! The hot ones take their arguments as a C array (`ffi/fastcall.rs`). The private attributes are
//! those that the standard library and others read.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::{Callback, Future, FutureIter, State, none};
use crate::ffi::class::Finalize;
use crate::ffi::fastcall::Args;
use crate::ffi::{Ref, error};
use crate::handle::context_or_copy;
use crate::stdlib;
use crate::task::{Task, TaskWakeup};

/// `set_result(result, /)`
pub fn set_result<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("set_result", 0, 1)?;
    let mut value = args.get(0);
    args.keywords("set_result", |name, given| {
        let known = name == "result" && value.is_none();
        if known {
            value = Some(given);
        }
        known
    })?;
    let Some(value) = value else {
        return Err(PyTypeError::new_err(
            "set_result() missing required argument 'result' (pos 1)",
        ));
    };
    Future::resolve(slf, Ref::from_borrowed(value))?;
    Ok(none(slf.py()))
}

/// `result()`
pub fn result<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("result")?;
    Future::outcome(slf)
}

/// `done()`
pub fn done<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("done")?;
    Ok(Ref::new(pyo3::types::PyBool::new(slf.py(), slf.get().is_done()).to_owned()))
}

/// `add_done_callback(fn, /, *, context=None)`
pub fn add_done_callback<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("add_done_callback", 1, 1)?;
    let py = slf.py();
    let mut given = None;
    args.keywords("add_done_callback", |name, value| {
        given = Some(value);
        name == "context"
    })?;
    let Some(function) = args.get(0) else { return Ok(none(py)) };
    slf.get().ensure_started()?;
    let context = context_or_copy(py, given)?;
    let function = Ref::from_borrowed(function);
    Future::add_callback(slf, Callback::Call { function, context })?;
    Ok(none(py))
}

/// `__del__()`: what subclasses inherit of the finalizer.
pub fn del<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__del__")?;
    Future::finalize(slf);
    Ok(none(slf.py()))
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, loop=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare(false)
    }

    #[pyo3(signature = (*, r#loop = None))]
    fn __init__(slf: &Bound<'_, Self>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::check_not_started(slf)?;
        slf.get().start(slf.py(), r#loop)
    }

    /// The exception of a finished future, or None; CancelledError or InvalidStateError otherwise.
    pub fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        match this.state.get() {
            State::Bare => Err(stdlib::invalid_state(py, "Future object is not initialized.")),
            State::Cancelled => Err(error::raised(&this.make_cancelled_error(py)?)),
            State::Pending => Err(stdlib::invalid_state(py, "Exception is not set.")),
            State::Finished => {
                this.log_traceback.set(false);
                Ok(if this.failed.get() {
                    this.outcome.or_none(py)
                } else {
                    py.None().into_bound(py)
                })
            }
        }
    }

    /// Finish with an exception, given as an instance or a class.
    #[pyo3(signature = (exception, /))]
    fn set_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::fail(slf, exception)
    }

    /// Remove all callbacks equal to `fn`; returns how many there were.
    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        Self::remove_callback(slf, r#fn)
    }

    /// Cancel the future; False if it is already done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        Self::cancel_with(slf, msg.map(Ref::from_borrowed))
    }

    /// True if the future was cancelled.
    fn cancelled(&self) -> bool {
        self.state.get() == State::Cancelled
    }

    /// The event loop that the future belongs to.
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.home
            .bound(py)
            .ok_or_else(|| PyRuntimeError::new_err("Future object is not initialized."))
    }

    fn _make_cancelled_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.make_cancelled_error(py)
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, FutureIter>> {
        slf.get().ensure_started()?;
        FutureIter::over(slf)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, FutureIter>> {
        Self::__await__(slf)
    }

    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::generic_alias(cls.py())?.call1((cls, item))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        slf.get().ensure_started()?;
        stdlib::future_repr(py)?.call1((slf,))?.extract()
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let own = slf.get_type();
        if own.is(py.get_type::<Future>()) {
            return Ok(stdlib::asyncio_future(py)?.clone());
        }
        if own.is(py.get_type::<Task>()) {
            return Ok(stdlib::asyncio_task(py)?.clone());
        }
        Ok(own.into_any())
    }

    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.state.get() {
            State::Bare => {
                self.ensure_started()?;
                intern!(py, "PENDING").clone()
            }
            State::Pending => intern!(py, "PENDING").clone(),
            State::Cancelled => intern!(py, "CANCELLED").clone(),
            State::Finished => intern!(py, "FINISHED").clone(),
        })
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> PyResult<bool> {
        self.ensure_started()?;
        Ok(self.blocking.get())
    }

    #[setter(_asyncio_future_blocking)]
    fn set_asyncio_future_blocking(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.ensure_started()?;
        self.blocking.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.home.or_none(py))
    }

    #[getter]
    fn _callbacks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        let mut rows = Vec::new();
        for callback in self.callbacks() {
            rows.push(match callback {
                Callback::AwaitedBy(_) => continue,
                Callback::Wake(task) => {
                    let context = task.bind_as::<Task>(py).get().context(py)?;
                    let wakeup = TaskWakeup::new_object(py, task)?;
                    (wakeup.into_bound(py), context.into_bound(py))
                }
                Callback::Tell(listener) => {
                    let context = crate::ffi::context::copy_current(py)?;
                    let function = crate::combinators::Listener::callable(py, listener)?;
                    (function.into_bound(py), context.into_bound(py))
                }
                Callback::Call { function, context } => {
                    (function.into_bound(py), context.into_bound(py))
                }
            });
        }
        if rows.is_empty() {
            return Ok(py.None().into_bound(py));
        }
        Ok(PyList::new(py, rows)?.into_any())
    }

    /// Who awaits this future, as a frozenset, or None: the edges of call graphs (3.14).
    #[getter]
    fn _asyncio_awaited_by<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyFrozenSet>>> {
        self.awaited_by(py)
    }

    #[getter]
    fn _result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(if self.failed.get() { py.None().into_bound(py) } else { self.outcome.or_none(py) })
    }

    #[getter]
    fn _exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(if self.failed.get() { self.outcome.or_none(py) } else { py.None().into_bound(py) })
    }

    #[getter]
    fn _log_traceback(&self) -> PyResult<bool> {
        self.ensure_started()?;
        Ok(self.log_traceback.get())
    }

    #[setter(_log_traceback)]
    fn set_log_traceback(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_truthy()? {
            return Err(PyValueError::new_err("_log_traceback can only be set to False"));
        }
        self.log_traceback.set(false);
        Ok(())
    }

    #[getter]
    fn _source_traceback<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.source_traceback.or_none(py))
    }

    #[getter]
    fn _cancel_message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.cancel_message.or_none(py))
    }

    #[setter(_cancel_message)]
    fn set_cancel_message(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.ensure_started()?;
        self.cancel_message.set(Ref::from_borrowed(value));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse_future(&visit)
    }

    fn __clear__(&self) {
        self.clear_future();
    }
}
