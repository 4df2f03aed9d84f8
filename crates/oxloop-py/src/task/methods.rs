//! The methods and attributes of `Task` as Python sees them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::Task;
use crate::combinators::any_future;
use crate::ffi::Ref;
use crate::ffi::class::Finalize;
use crate::ffi::fastcall::Args;
use crate::future::{State, none};
use crate::stdlib;

/// `__del__()`: what subclasses inherit of the finalizer.
pub fn del<'py>(slf: &Bound<'py, Task>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__del__")?;
    Task::finalize(slf);
    Ok(none(slf.py()))
}

#[pymethods]
impl Task {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(coro, *, loop=None, name=None, context=None, eager_start=False)"
    )]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        Self::bare()
    }

    #[pyo3(signature = (coro, *, r#loop = None, name = None, context = None, eager_start = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        coro: &Bound<'_, PyAny>,
        r#loop: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        eager_start: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // Anything with a truth value, as in CPython.
        let eager = eager_start.map_or(Ok(false), |given| given.is_truthy())?;
        Self::start(slf, coro, r#loop, name, context, eager)
    }

    /// Request cancellation: CancelledError is raised in the coroutine at its next step.
    ///
    /// Returns False if the task is done.
    #[pyo3(signature = (msg = None))]
    pub fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let future = slf.as_super().get();
        if future.state() == State::Bare {
            return Err(PyRuntimeError::new_err("Task object is not initialized."));
        }
        future.silence();
        if future.is_done() {
            return Ok(false);
        }
        this.cancel_requests.set(this.cancel_requests.get() + 1);
        if let Some(waiter) = this.waiter.bound(py) {
            if any_future::cancel_with(&waiter, msg)? {
                // The task is woken with CancelledError by what it waited for.
                return Ok(true);
            }
        }
        this.must_cancel.set(true);
        drop(future.cancel_message().replace(msg.map(Ref::from_borrowed)));
        Ok(true)
    }

    /// How many cancellation requests are pending.
    pub fn cancelling(&self) -> usize {
        self.cancel_requests.get()
    }

    /// Take one cancellation request back; returns how many are left.
    pub fn uncancel(&self, py: Python<'_>) -> usize {
        let requests = self.cancel_requests.get();
        if requests > 0 {
            self.cancel_requests.set(requests - 1);
            if requests == 1 && stdlib::at_least(py, 13) {
                self.must_cancel.set(false);
            }
        }
        self.cancel_requests.get()
    }

    /// The coroutine; None if it ended in an eager first step.
    fn get_coro<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.coroutine.or_none(py)
    }

    /// The `contextvars.Context` of the task.
    fn get_context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.or_none(py)
    }

    fn get_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(name) = self.name.bound(py) else { return Ok(py.None().into_bound(py)) };
        if let Ok(number) = name.cast_exact::<pyo3::types::PyInt>() {
            let name = PyString::new(py, &format!("Task-{}", number.extract::<u64>()?));
            self.name.set(Ref::from_borrowed(&name));
            return Ok(name.into_any());
        }
        Ok(name)
    }

    #[pyo3(signature = (value, /))]
    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.name.set(Ref::new(value.str()?));
        Ok(())
    }

    /// The frames of the coroutine: of the suspended one, or of the traceback if it failed.
    #[pyo3(signature = (*, limit = None))]
    fn get_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::task_get_stack(slf.py())?.call1((slf, limit))
    }

    /// Print the stack or traceback to `file` (default: stderr).
    #[pyo3(signature = (*, limit = None, file = None))]
    fn print_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<&Bound<'py, PyAny>>,
        file: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::task_print_stack(slf.py())?.call1((slf, limit, file))
    }

    #[pyo3(signature = (result, /))]
    fn set_result(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = result;
        Err(PyRuntimeError::new_err("Task does not support set_result operation"))
    }

    #[pyo3(signature = (exception, /))]
    fn set_exception(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = exception;
        Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        if slf.get().coroutine.or_none(py).is_none() && !stdlib::at_least(py, 12) {
            return repr_without_coroutine(slf.as_any());
        }
        stdlib::task_repr(py)?.call1((slf,))?.extract()
    }

    #[getter]
    fn _coro<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.coroutine.or_none(py)
    }

    /// greenback replaces the coroutine of a running task.
    #[setter(_coro)]
    fn set_coro(&self, value: &Bound<'_, PyAny>) {
        self.coroutine.set(Ref::from_borrowed(value));
    }

    #[getter]
    fn _fut_waiter<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.waiter.or_none(py)
    }

    #[getter]
    fn _must_cancel(&self) -> bool {
        self.must_cancel.get()
    }

    #[getter]
    fn _log_destroy_pending(&self) -> bool {
        self.log_destroy_pending.get()
    }

    #[setter(_log_destroy_pending)]
    fn set_log_destroy_pending(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.log_destroy_pending.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _num_cancels_requested(&self) -> usize {
        self.cancel_requests.get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.coroutine.traverse(&visit)?;
        self.context.traverse(&visit)?;
        self.waiter.traverse(&visit)?;
        self.name.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts =
            (self.coroutine.take(), self.context.take(), self.waiter.take(), self.name.take());
        drop(parts);
    }
}

/// What 3.12 shows of a task that ended in an eager first step: 3.11, which has no eager tasks,
/// insists on a coroutine.
fn repr_without_coroutine(task: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = task.py();
    let text: String = stdlib::future_repr(py)?.call1((task,))?.extract()?;
    let class: String = task.getattr("__class__")?.getattr("__name__")?.extract()?;
    let state: String = task.getattr("_state")?.extract()?;
    let start = format!("<{class} {}", state.to_lowercase());
    let name = task.call_method0("get_name")?.repr()?;
    Ok(match text.strip_prefix(&start) {
        Some(rest) => format!("{start} name={name}{rest}"),
        // Within itself: dots.
        None => text,
    })
}

impl Task {
    /// No CancelledError at the next step, if nobody asks for it any more.
    pub fn forget_own_cancellation(&self) {
        if self.cancel_requests.get() == 0 {
            self.must_cancel.set(false);
        }
    }
}
