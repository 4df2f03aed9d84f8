//! The loop that a lock, an event or a queue belongs to: the one that ran when it first had to wait.
//!
//! Source of behaviour: CPython `Lib/asyncio/mixins.py`. The loop that runs is asked of
//! `asyncio.events`, unless it is the loop bound already: a native one knows its thread.

use std::cell::Cell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::coroutine::Waiter;
use crate::event_loop::EventLoop;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

/// The loop that was bound, if any.
#[derive(Default)]
pub struct Home {
    bound: Slot,
    /// It is one of ours: an `EventLoop`.
    native: Cell<bool>,
}

impl Home {
    /// The running loop, bound to `owner` from now on.
    ///
    /// # Errors
    /// RuntimeError if `owner` is bound to another loop.
    #[inline]
    pub fn running<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        if let Some(home) = self.native_running(py) {
            return Ok(home.into_bound(py));
        }
        let bound = self.bound.bound(py);
        let running = stdlib::get_running_loop_or_none(py)?.call0()?;
        match bound {
            Some(bound) if !bound.is(&running) => Err(PyRuntimeError::new_err(format!(
                "{} is bound to a different event loop",
                owner.repr()?
            ))),
            Some(_) => Ok(running),
            None => {
                self.set(&running);
                Ok(running)
            }
        }
    }

    /// The loop bound, if it is ours and runs in this thread.
    #[inline]
    fn native_running(&self, py: Python<'_>) -> Option<Ref> {
        if !self.native.get() {
            return None;
        }
        let home = self.bound.get()?;
        home.bind_as::<EventLoop>(py).get().runs_here().then_some(home)
    }

    /// A future of the running loop, for `owner` to wait for.
    #[inline]
    pub fn new_waiter(&self, owner: &Bound<'_, PyAny>) -> PyResult<Ref> {
        let py = owner.py();
        if let Some(home) = self.native_running(py) {
            if let Some(waiter) = Waiter::on_native(home.bind_as(py))? {
                return Ok(waiter.as_future().clone());
            }
        }
        Ok(Waiter::new(&self.running(owner)?)?.as_future().clone())
    }

    pub fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.bound.or_none(py)
    }

    pub fn set(&self, home: &Bound<'_, PyAny>) {
        self.native.set(home.is_instance_of::<EventLoop>());
        let home = (!home.is_none()).then(|| Ref::from_borrowed(home));
        drop(self.bound.replace(home));
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.bound.traverse(visit)
    }

    pub fn clear(&self) {
        self.native.set(false);
        self.bound.clear();
    }
}
