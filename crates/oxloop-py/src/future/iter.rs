//! `FutureIter`: what `await future` iterates.
//!
//! It yields the future once, with `_asyncio_future_blocking` set, and returns its result when it is
//! resumed. The interpreter resumes it through `am_send`, so a result needs no StopIteration.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::{Future, State, none};
use crate::ffi::class::Resume;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Raised, Ref, Sent, Slot, call, stop};
use crate::stdlib;

attached_only!(FutureIter);
pooled!(FutureIter);

/// The iterator of `await future`: yields the future once, then returns its result.
#[pyclass(frozen, weakref, module = "oxloop", name = "FutureIter")]
pub struct FutureIter {
    future: Slot,
}

impl FutureIter {
    pub(super) fn over<'py>(future: &Bound<'py, Future>) -> PyResult<Bound<'py, Self>> {
        pool::make(future.py(), Self { future: Slot::holding(Ref::from_borrowed(future)) })
    }
}

impl Drop for FutureIter {
    #[inline]
    fn drop(&mut self) {
        stop::settle();
    }
}

impl Resume for FutureIter {
    #[inline]
    fn resume<'py>(object: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> Sent {
        let py = object.py();
        let this = object.get();
        let Some(future) = this.future.get() else { return Sent::Returned(none(py)) };
        let bound = future.bind_as::<Future>(py);
        let contents = bound.get();
        if contents.state.get() == State::Pending {
            if !contents.blocking.replace(true) {
                return Sent::Yielded(future);
            }
            let err = PyRuntimeError::new_err("await wasn't used with future");
            return Sent::Raised(Raised::from_err(py, err));
        }
        this.future.clear();
        match Future::outcome(bound) {
            Ok(value) => Sent::Returned(value),
            Err(err) => Sent::Raised(Raised::from_err(py, err)),
        }
    }
}

#[pymethods]
impl FutureIter {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::send(slf, None)
    }

    /// Resume; the value is ignored.
    #[pyo3(signature = (_value, /))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let none = py.None().into_bound(py);
        match Self::resume(slf, &none) {
            Sent::Yielded(value) => Ok(Some(value.into_bound(py))),
            Sent::Returned(value) => Err(crate::ffi::class::stop_iteration(&value.into_bound(py))),
            Sent::Raised(raised) => Err(raised.into_err(py)),
        }
    }

    /// Give the future up and raise `type` (or the instance given as `type`).
    #[pyo3(signature = (r#type, val = None, tb = None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        r#type: &Bound<'py, PyAny>,
        val: Option<&Bound<'py, PyAny>>,
        tb: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if (val.is_some() || tb.is_some()) && stdlib::at_least(py, 12) {
            let warning = py.get_type::<pyo3::exceptions::PyDeprecationWarning>();
            PyErr::warn(
                py,
                &warning,
                c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
                1,
            )?;
        }
        if let Some(tb) = tb {
            if !tb.is_none() && !tb.is_instance_of::<pyo3::types::PyTraceback>() {
                return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
            }
        }
        let base = py.get_type::<pyo3::exceptions::PyBaseException>();
        let instance = if r#type.is_instance(&base)? {
            if val.is_some_and(|val| !val.is_none()) {
                return Err(PyTypeError::new_err(
                    "instance exception may not have a separate value",
                ));
            }
            r#type.clone()
        } else if r#type.cast::<PyType>().is_ok_and(|t| t.is_subclass(&base).unwrap_or(false)) {
            match val {
                Some(val) if !val.is_none() => {
                    if val.is_instance(r#type)? {
                        val.clone()
                    } else if let Ok(args) = val.cast::<PyTuple>() {
                        r#type.call1(args.clone())?
                    } else {
                        r#type.call1((val,))?
                    }
                }
                _ => r#type.call0()?,
            }
        } else {
            return Err(PyTypeError::new_err(format!(
                "exceptions must be classes deriving BaseException or instances of such a class, not {}",
                r#type.get_type().name()?
            )));
        };
        if let Some(tb) = tb {
            if !tb.is_none() {
                call::set_traceback(&instance, Some(&Ref::from_borrowed(tb)))?;
            }
        }
        slf.get().future.clear();
        Err(PyErr::from_value(instance))
    }

    fn close(&self) {
        self.future.clear();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.traverse(&visit)
    }

    fn __clear__(&self) {
        self.future.clear();
    }
}
