//! `TimerHandle`: a handle with a deadline.
//!
//! Facts: timer handles are ordered by deadline and compared by deadline, callback, arguments and
//! state; programs that round a deadline up give an int and expect to see one.
//! Decision: the deadline is a float, with a mark that it was an int.
//! Source of behaviour: CPython `Lib/asyncio/events.py`.

use oxloop_core::TimerKey;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyFloat, PyInt};

use super::Handle;
use crate::ffi::Ref;
use crate::ffi::fastcall::Args;
use crate::future::none;

/// When a timer is due, in seconds of the loop's clock, and where it is kept.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    pub(super) when: f64,
    /// The deadline was given as an int, and is shown as one.
    pub(super) whole: bool,
    pub(super) key: Option<TimerKey>,
}

impl Timing {
    pub(super) fn shown(self, py: Python<'_>) -> Bound<'_, PyAny> {
        if self.whole {
            PyInt::new(py, self.when as i64).into_any()
        } else {
            PyFloat::new(py, self.when).into_any()
        }
    }
}

/// A callback scheduled by `call_later` or `call_at`. Made by the loop, never by hand.
#[pyclass(frozen, extends = Handle, module = "oxloop", name = "TimerHandle")]
pub struct TimerHandle;

impl TimerHandle {
    fn deadline_s(slf: &Bound<'_, Self>) -> f64 {
        slf.as_super().get().timer.get().map_or(0.0, |timing| timing.when)
    }
}

#[pymethods]
impl TimerHandle {
    /// When the callback is due, in seconds of `loop.time()`.
    fn when<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        let timing = slf.as_super().get().timer.get();
        timing.unwrap_or(Timing { when: 0.0, whole: false, key: None }).shown(slf.py())
    }

    #[getter]
    fn _when<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        Self::when(slf)
    }

    #[getter]
    fn _scheduled(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().timer.get().is_some_and(|timing| timing.key.is_some())
    }

    fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
        PyFloat::new(slf.py(), Self::deadline_s(slf)).hash()
    }

    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        op: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<TimerHandle>() else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        let (mine, theirs) = (Self::deadline_s(slf), Self::deadline_s(other));
        let answer = match op {
            CompareOp::Lt => mine < theirs,
            CompareOp::Le => mine < theirs || Self::same(slf, other)?,
            CompareOp::Gt => mine > theirs,
            CompareOp::Ge => mine > theirs || Self::same(slf, other)?,
            CompareOp::Eq => Self::same(slf, other)?,
            CompareOp::Ne => !Self::same(slf, other)?,
        };
        Ok(answer.into_pyobject(py)?.to_owned().into_any())
    }
}

impl TimerHandle {
    /// Same deadline, callback, arguments and state, as asyncio compares; on copies, for the
    /// comparison is the user's code.
    fn same(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.is(other) {
            return Ok(true);
        }
        let py = slf.py();
        let (mine, theirs) = (slf.as_super().get(), other.as_super().get());
        if Self::deadline_s(slf) != Self::deadline_s(other)
            || mine.is_cancelled() != theirs.is_cancelled()
        {
            return Ok(false);
        }
        match (mine.callback(), theirs.callback()) {
            (Some((function, args)), Some((other_function, other_args))) => {
                Ok(function.bind(py).eq(other_function.bind(py))?
                    && args.to_tuple(py)?.eq(other_args.to_tuple(py)?)?)
            }
            (None, None) => Ok(true),
            _ => Ok(false),
        }
    }
}

/// `TimerHandle.cancel()`
pub fn cancel_timer<'py>(slf: &Bound<'py, TimerHandle>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("cancel")?;
    slf.as_super().get().cancel_now(slf.as_any())?;
    Ok(none(slf.py()))
}
