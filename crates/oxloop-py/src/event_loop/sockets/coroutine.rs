//! An operation on a socket, as the coroutine that Python awaits.
//!
//! Facts: a coroutine to `asyncio.iscoroutine` and to `inspect.getcoroutinestate` is what has
//! `__await__`, `send`, `throw`, `close` and the `cr_*` attributes; one that is dropped before it
//! started must be warned about.
//! Decision: the interpreter resumes it through `am_send`, without StopIteration. There is no frame
//! to show, so `cr_frame` is None and stack traces end at the caller.

use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTraceback, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::operation::{SocketOperation, Stage};
use super::waiter::SocketWaiter;
use crate::ffi::class::{Finalize, Resume, stop_iteration};
use crate::ffi::{Raised, Ref, Sent, call};
use crate::future::Future;
use crate::stdlib;

impl Resume for SocketOperation {
    fn resume<'py>(object: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Sent {
        let py = object.py();
        let this = object.get();
        let refuse = |err: PyErr| Sent::Raised(Raised::from_err(py, err));
        match this.stage.get() {
            Stage::Created if !value.is_none() => refuse(PyTypeError::new_err(
                "can't send non-None value to a just-started coroutine",
            )),
            Stage::Created => {
                this.stage.set(Stage::Running);
                Self::settle(object, Self::begin(object))
            }
            Stage::Resolving => {
                let Some(resolving) = this.awaited.get() else {
                    return Self::settle(object, Err(call::unexplained()));
                };
                this.stage.set(Stage::Running);
                let sent = call::iter_send(resolving.bind(py), value);
                Self::settle(object, Self::resolved(object, sent))
            }
            Stage::Waiting => {
                let Some(waiter) = this.awaited.get() else {
                    return Self::settle(object, Err(call::unexplained()));
                };
                let waiter = waiter.bind_as::<SocketWaiter>(py);
                if !waiter.as_super().get().is_done() {
                    return refuse(PyRuntimeError::new_err("await wasn't used with future"));
                }
                this.stage.set(Stage::Running);
                this.awaited.clear();
                let outcome = Future::outcome(waiter.as_super()).and_then(|_| Self::go_on(object));
                Self::settle(object, outcome)
            }
            Stage::Running => refuse(PyValueError::new_err("coroutine already executing")),
            Stage::Done => {
                refuse(PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
            }
        }
    }
}

impl Finalize for SocketOperation {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        matches!(object.get().stage.get(), Stage::Created | Stage::Waiting)
    }

    fn finalize(object: &Bound<'_, Self>) {
        let warned = match object.get().stage.get() {
            Stage::Created => Self::warn_never_awaited(object),
            _ => Ok(()),
        };
        if let Err(err) = Self::finish(object).and(warned) {
            err.write_unraisable(object.py(), Some(object.as_any()));
        }
    }
}

impl SocketOperation {
    #[cold]
    fn warn_never_awaited(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let text = format!("coroutine '{}' was never awaited", slf.get().qualified_name());
        let kwargs = PyDict::new(py);
        kwargs.set_item("source", slf)?;
        stdlib::warn(py)?.call((text, py.get_type::<PyRuntimeWarning>()), Some(&kwargs))?;
        Ok(())
    }
}

impl SocketOperation {
    fn answer<'py>(py: Python<'py>, sent: Sent) -> PyResult<Bound<'py, PyAny>> {
        match sent {
            Sent::Yielded(value) => Ok(value.into_bound(py)),
            Sent::Returned(value) => Err(stop_iteration(&value.into_bound(py))),
            Sent::Raised(raised) => Err(raised.into_err(py)),
        }
    }
}

#[pymethods]
impl SocketOperation {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        Self::answer(py, Self::resume(slf, &py.None().into_bound(py)))
    }

    /// Start or resume the operation; returns the future to wait for, or raises StopIteration.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::answer(slf.py(), Self::resume(slf, value))
    }

    /// Raise an exception, given as an instance or a class, where the operation waits.
    #[pyo3(signature = (r#type, val = None, tb = None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        r#type: &Bound<'py, PyAny>,
        val: Option<&Bound<'py, PyAny>>,
        tb: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let error = exception_instance(r#type, val, tb)?;
        match this.stage.get() {
            Stage::Running => return Err(PyValueError::new_err("coroutine already executing")),
            Stage::Done => {
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            }
            Stage::Resolving => {
                let Some(resolving) = this.awaited.get() else { return Err(call::unexplained()) };
                this.stage.set(Stage::Running);
                let thrown =
                    call::call_method_one(resolving.bind(py), intern!(py, "throw"), &error);
                let sent = match thrown {
                    Ok(value) => Sent::Yielded(Ref::new(value)),
                    Err(err) if err.is_instance_of::<PyStopIteration>(py) => {
                        let value = err.value(py).getattr(intern!(py, "value"))?;
                        Sent::Returned(Ref::new(value))
                    }
                    Err(err) => Sent::Raised(Raised::from_err(py, err)),
                };
                return Self::answer(py, Self::settle(slf, Self::resolved(slf, sent)));
            }
            Stage::Created | Stage::Waiting => {}
        }
        Self::finish(slf)?;
        Err(PyErr::from_value(error))
    }

    /// Give the operation up; the socket is not watched any more.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.stage.get() {
            Stage::Running => return Err(PyValueError::new_err("coroutine already executing")),
            Stage::Resolving => {
                let resolving = this.awaited.get();
                Self::finish(slf)?;
                if let Some(resolving) = resolving {
                    resolving.bind(py).call_method0(intern!(py, "close"))?;
                }
                return Ok(());
            }
            _ => {}
        }
        Self::finish(slf)
    }

    #[getter(__name__)]
    fn name(&self) -> &'static str {
        self.call.name()
    }

    #[getter(__qualname__)]
    fn qualified_name(&self) -> String {
        format!("EventLoop.{}", self.call.name())
    }

    #[getter]
    fn cr_running(&self) -> bool {
        self.stage.get() == Stage::Running
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        matches!(self.stage.get(), Stage::Resolving | Stage::Waiting)
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.awaited.or_none(py)
    }

    /// None: there is no Python code to look at.
    #[getter]
    fn cr_frame(&self) -> Option<bool> {
        None
    }

    /// None: there is no Python code to look at.
    #[getter]
    fn cr_code(&self) -> Option<bool> {
        None
    }

    /// None: where the call was made is not recorded.
    #[getter]
    fn cr_origin(&self) -> Option<bool> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().qualified_name(), slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit(&visit)
    }

    fn __clear__(&self) {
        self.let_go();
    }
}

/// The exception that `throw(type, val, tb)` means.
fn exception_instance<'py>(
    kind: &Bound<'py, PyAny>,
    value: Option<&Bound<'py, PyAny>>,
    traceback: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = kind.py();
    let value = value.filter(|value| !value.is_none());
    let traceback = traceback.filter(|traceback| !traceback.is_none());
    if traceback.is_some_and(|traceback| !traceback.is_instance_of::<PyTraceback>()) {
        return Err(PyTypeError::new_err("throw() third argument must be a traceback object"));
    }
    let instance = if kind.is_instance_of::<PyBaseException>() {
        if value.is_some() {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        kind.clone()
    } else if kind
        .cast::<PyType>()
        .is_ok_and(|class| class.is_subclass_of::<PyBaseException>().unwrap_or(false))
    {
        match value {
            None => kind.call0()?,
            Some(value) if value.is_instance(kind)? => value.clone(),
            Some(value) => match value.cast::<PyTuple>() {
                Ok(arguments) => kind.call1(arguments.clone())?,
                Err(_) => kind.call1((value,))?,
            },
        }
    } else {
        return Err(PyTypeError::new_err(format!(
            "exceptions must be classes or instances deriving from BaseException, not {}",
            kind.get_type().name()?
        )));
    };
    if let Some(traceback) = traceback {
        instance.setattr(intern!(py, "__traceback__"), traceback)?;
    }
    Ok(instance)
}
