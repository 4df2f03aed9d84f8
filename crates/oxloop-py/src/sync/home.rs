//! The loop that a lock, an event or a queue belongs to: the one that ran when it first had to wait.
//!
//! Source of behaviour: CPython `Lib/asyncio/mixins.py`. The loop that runs is asked of
//! `asyncio.events`, unless it is the loop bound already: a native one knows its thread.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::coroutine::Waiter;
use crate::event_loop::EventLoop;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

/// The loop that was bound, if any.
#[derive(Default)]
pub struct Home(Slot);

impl Home {
    /// The running loop, bound to `owner` from now on.
    ///
    /// # Errors
    /// RuntimeError if `owner` is bound to another loop.
    #[inline]
    pub fn running<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let bound = self.0.bound(py);
        if let Some(bound) = &bound {
            if bound.cast::<EventLoop>().is_ok_and(|home| home.get().runs_here()) {
                return Ok(bound.clone());
            }
        }
        let running = stdlib::get_running_loop_or_none(py)?.call0()?;
        match bound {
            Some(bound) if !bound.is(&running) => Err(PyRuntimeError::new_err(format!(
                "{} is bound to a different event loop",
                owner.repr()?
            ))),
            Some(_) => Ok(running),
            None => {
                if !running.is_none() {
                    self.0.set(Ref::from_borrowed(&running));
                }
                Ok(running)
            }
        }
    }

    /// A future of the running loop, for `owner` to wait for.
    #[inline]
    pub fn new_waiter(&self, owner: &Bound<'_, PyAny>) -> PyResult<Ref> {
        Ok(Waiter::new(&self.running(owner)?)?.as_future().clone())
    }

    pub fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.or_none(py)
    }

    pub fn set(&self, home: &Bound<'_, PyAny>) {
        let home = (!home.is_none()).then(|| Ref::from_borrowed(home));
        drop(self.0.replace(home));
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }

    pub fn clear(&self) {
        self.0.clear();
    }
}
