//! `wait_for(fut, timeout)`.
//!
//! Decision: the algorithm of 3.12 on every version: the awaitable runs in the caller's task, so no
//! cancellation is lost between two tasks (python/cpython#86296, open in 3.11).

use std::cell::Cell;

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::alarm::plain_seconds;
use super::listener::Listener;
use super::timeout::Timeout;
use super::wait::Waiting;
use super::{any_future, spawning};
use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::ffi::error;
use crate::ffi::{Ref, Slot, call};
use crate::stdlib;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Without a time limit.
    Unlimited,
    /// `guard` is the Timeout around the `await`.
    Limited,
    /// The time was over at the start: `guard` is the Waiting for the end of the cancelled future.
    Cancelling,
}

struct WaitFor {
    awaitable: Slot,
    timeout: Ref,
    stage: Cell<Stage>,
    guard: Slot,
}

/// Wait for an awaitable, for at most `timeout` seconds; None waits as long as it takes.
///
/// When the time is over the awaitable is cancelled, and TimeoutError raised.
#[pyfunction]
pub fn wait_for<'py>(
    fut: &Bound<'py, PyAny>,
    timeout: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let body = WaitFor {
        awaitable: Slot::holding(Ref::from_borrowed(fut)),
        timeout: Ref::from_borrowed(timeout),
        stage: Cell::new(Stage::Unlimited),
        guard: Slot::empty(),
    };
    Ok(Coroutine::make(fut.py(), body)?.into_bound(fut.py()))
}

impl WaitFor {
    /// The time is over already: only what is done has a result.
    fn begin_late(&self, awaitable: &Bound<'_, PyAny>) -> PyResult<Progress> {
        let py = awaitable.py();
        let future = spawning::ensure(awaitable, None)?;
        if any_future::is_done(&future)? {
            return Ok(Progress::Return(any_future::result(&future)?));
        }
        let waiter = Waiter::new(&running_loop(py)?)?;
        let waiting = Waiting::for_one(py, &waiter)?;
        Listener::listen(&waiting, &future)?;
        self.guard.set(Ref::new(waiting));
        self.awaitable.set(Ref::from_borrowed(&future));
        self.stage.set(Stage::Cancelling);
        any_future::cancel(&future)?;
        Ok(waiter.wait())
    }

    fn end_late(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let Some(future) = self.awaitable.take() else { return Err(call::unexplained()) };
        let future = future.bind(py);
        if let Some(waiting) = self.guard.take() {
            Listener::leave(waiting.bind_as::<Waiting>(py), future)?;
        }
        outcome?;
        match any_future::result(future) {
            Ok(value) => Ok(Progress::Return(value)),
            Err(err) => {
                let error = error::instance(py, err).into_any();
                if !call::has_type(&error, stdlib::cancelled_error(py)?) {
                    return Err(PyErr::from_value(error));
                }
                let timeout = error::instance(py, PyTimeoutError::new_err(()));
                Err(call::raised_from(timeout.as_any(), &error)?)
            }
        }
    }
}

impl Body for WaitFor {
    fn qualified_name(&self) -> &'static str {
        "wait_for"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let Some(awaitable) = self.awaitable.take() else { return Err(call::unexplained()) };
        let timeout = self.timeout.bind(py);
        if timeout.is_none() {
            return Ok(Progress::Await(awaitable));
        }
        let late = match plain_seconds(timeout) {
            Some(seconds) => seconds <= 0.0,
            None => timeout.le(0)?,
        };
        if late {
            return self.begin_late(awaitable.bind(py));
        }
        let guard = Timeout::after(timeout)?;
        Timeout::enter(&guard)?;
        self.guard.set(Ref::new(guard));
        self.stage.set(Stage::Limited);
        Ok(Progress::Await(awaitable))
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        match self.stage.get() {
            Stage::Unlimited => outcome.map(Progress::Return),
            Stage::Cancelling => self.end_late(py, outcome),
            Stage::Limited => {
                let Some(guard) = self.guard.take() else { return Err(call::unexplained()) };
                let guard = guard.bind_as::<Timeout>(py);
                match outcome {
                    Ok(value) => Timeout::exit(guard, None).map(|()| Progress::Return(value)),
                    Err(err) => {
                        let error = error::instance(py, err).into_any();
                        Timeout::exit(guard, Some(&error))?;
                        Err(PyErr::from_value(error))
                    }
                }
            }
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.awaitable.traverse(visit)?;
        self.timeout.traverse(visit)?;
        self.guard.traverse(visit)
    }
}
