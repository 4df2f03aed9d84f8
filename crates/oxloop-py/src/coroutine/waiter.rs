//! What an operation waits for until another task wakes it.
//!
//! Decision: a future of the loop. On a loop of ours that is a native future from the pool, which a
//! native task parks on without a callback object, and which everybody else knows how to await,
//! inspect and cancel; making, waking and dropping it takes some tens of nanoseconds. On any other
//! loop it is what `loop.create_future()` returns.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Progress;
use super::object::plain_future;
use crate::event_loop::EventLoop;
use crate::ffi::pool;
use crate::ffi::{Ref, call};
use crate::future::{Future, State};
use crate::stdlib;

/// A future that is set when the operation may go on.
#[derive(Clone)]
pub struct Waiter(Ref);

/// `asyncio.get_running_loop()`.
///
/// # Errors
/// RuntimeError if no loop runs in this thread.
#[inline]
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    stdlib::get_running_loop(py)?.call0()
}

// Operations use different parts of it.
#[allow(dead_code)]
impl Waiter {
    /// A pending future of `home`, any loop.
    #[inline]
    pub fn new(home: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = home.py();
        if let Ok(native) = home.cast::<EventLoop>() {
            if let Some(waiter) = Self::on_native(native)? {
                return Ok(waiter);
            }
        }
        Ok(Self(Ref::new(home.call_method0(intern!(py, "create_future"))?)))
    }

    /// A future that somebody else made.
    #[inline]
    pub fn from_future(future: Ref) -> Self {
        Self(future)
    }

    /// That its exception was never retrieved is no mistake.
    pub fn silence(&self, py: Python<'_>) {
        if let Some(future) = self.as_native(py) {
            future.get().silence();
        }
    }

    /// A pending native future; None if `home` makes its futures in another way.
    #[inline]
    pub fn on_native(home: &Bound<'_, EventLoop>) -> PyResult<Option<Self>> {
        if !home.get().makes_plain_futures() {
            return Ok(None);
        }
        let future = Future::pending_on(home, false);
        Ok(Some(Self(Ref::new(pool::make(home.py(), future)?))))
    }

    /// For [`Progress::Await`], and for Python to see.
    #[inline]
    pub fn as_future(&self) -> &Ref {
        &self.0
    }

    /// The future, if it is a native one.
    #[inline]
    pub fn as_native<'a, 'py>(&'a self, py: Python<'py>) -> Option<&'a Bound<'py, Future>> {
        plain_future(self.0.bind(py))
    }

    /// `await waiter`.
    #[inline]
    pub fn wait(&self) -> Progress {
        Progress::Await(self.0.clone())
    }

    /// Whether it was woken or cancelled.
    #[inline]
    pub fn is_done(&self, py: Python<'_>) -> PyResult<bool> {
        let future = self.0.bind(py);
        match plain_future(future) {
            Some(future) => Ok(future.get().is_done()),
            None => future.call_method0(intern!(py, "done"))?.is_truthy(),
        }
    }

    /// Whether it was cancelled.
    #[inline]
    pub fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        let future = self.0.bind(py);
        match plain_future(future) {
            Some(future) => Ok(future.get().state() == State::Cancelled),
            None => future.call_method0(intern!(py, "cancelled"))?.is_truthy(),
        }
    }

    /// `set_result(value)`: the task that waits runs in the next iteration.
    ///
    /// # Errors
    /// InvalidStateError if it is done.
    #[inline]
    pub fn wake(&self, py: Python<'_>, value: Ref) -> PyResult<()> {
        let future = self.0.bind(py);
        match plain_future(future) {
            Some(future) => Future::resolve(future, value),
            None => {
                call::call_method_one(future, intern!(py, "set_result"), value.bind(py)).map(drop)
            }
        }
    }

    /// `set_exception(error)`: the task that waits gets it raised.
    ///
    /// # Errors
    /// InvalidStateError if it is done.
    pub fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        let future = self.0.bind(py);
        match plain_future(future) {
            Some(future) => Future::fail(future, error),
            None => call::call_method_one(future, intern!(py, "set_exception"), error).map(drop),
        }
    }

    /// `cancel()`; false if it is done.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.bind(py).call_method0(intern!(py, "cancel"))?.is_truthy()
    }

    /// Whether both are the same future.
    #[inline]
    pub fn is(&self, other: &Self) -> bool {
        self.0.as_ptr() == other.0.as_ptr()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }
}
