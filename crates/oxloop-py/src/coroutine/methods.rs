//! What makes the object a coroutine to Python: methods and attributes.
//!
//! There is no frame to show, so `cr_frame` is None and stack traces end at the caller.

use pyo3::exceptions::{PyBaseException, PyDeprecationWarning, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTraceback, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::object::{Coroutine, Stage};
use crate::ffi::Sent;
use crate::ffi::class::stop_iteration;
use crate::stdlib;

/// What a step did, as `send` and `throw` tell it.
fn answer<'py>(py: Python<'py>, sent: Sent) -> PyResult<Bound<'py, PyAny>> {
    match sent {
        Sent::Yielded(value) => Ok(value.into_bound(py)),
        Sent::Returned(value) => Err(stop_iteration(&value.into_bound(py))),
        Sent::Raised(raised) => Err(raised.into_err(py)),
    }
}

#[pymethods]
impl Coroutine {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        answer(py, Self::send_value(slf, &py.None().into_bound(py)))
    }

    /// Start or resume; returns what it waits for, or raises StopIteration with the result.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        answer(slf.py(), Self::send_value(slf, value))
    }

    /// Raise an exception, given as an instance or a class, where the coroutine waits.
    #[pyo3(signature = (r#type, val = None, tb = None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        r#type: &Bound<'py, PyAny>,
        val: Option<&Bound<'py, PyAny>>,
        tb: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if (val.is_some() || tb.is_some()) && stdlib::at_least(py, 12) {
            PyErr::warn(
                py,
                &py.get_type::<PyDeprecationWarning>(),
                c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
                1,
            )?;
        }
        let error = exception_instance(r#type, val, tb)?;
        answer(py, Self::throw_error(slf, &error))
    }

    /// Give up; the coroutine lets go of what it waits for.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf)
    }

    #[getter(__name__)]
    fn name(&self) -> &'static str {
        let qualified_name = self.qualified_name.get();
        qualified_name.rsplit('.').next().unwrap_or(qualified_name)
    }

    #[getter(__qualname__)]
    fn qualified_name(&self) -> &'static str {
        self.qualified_name.get()
    }

    #[getter]
    fn cr_running(&self) -> bool {
        self.stage.get() == Stage::Running
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        matches!(self.stage.get(), Stage::Waiting | Stage::Delegating | Stage::Paused)
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
        format!("<coroutine object {} at {:p}>", slf.get().qualified_name.get(), slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.awaited.traverse(&visit)?;
        self.body.with(|body| body.map_or(Ok(()), |body| body.traverse(&visit)))
    }

    fn __clear__(&self) {
        self.stage.set(Stage::Done);
        self.awaited.clear();
        self.body.drop_body();
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
