//! A timer that wakes a waiter: what `sleep`, `wait` and `as_completed` need of `call_later`.
//!
//! On a loop of ours the timer is the future itself: when it is due the loop resolves it, without a
//! handle. On any other loop, and on one whose timers the user replaced, it is
//! `loop.call_later(delay, …)` as in asyncio.

use std::cell::Cell;

use oxloop_core::TimerKey;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use crate::coroutine::Waiter;
use crate::event_loop::EventLoop;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

/// The number of a plain float or int; what else there is compares for itself.
#[inline]
pub fn plain_seconds(delay: &Bound<'_, PyAny>) -> Option<f64> {
    if let Ok(float) = delay.cast_exact::<PyFloat>() {
        return Some(float.value());
    }
    if delay.is_exact_instance_of::<PyInt>() {
        return delay.extract::<i32>().ok().map(f64::from);
    }
    None
}

/// At most one timer.
#[derive(Default)]
pub struct Alarm {
    /// The `EventLoop` for `key`, or the handle of another loop.
    timer: Slot,
    key: Cell<Option<TimerKey>>,
}

impl Alarm {
    /// Wakes `waiter` after `delay` seconds, unless it is done then.
    pub fn start(
        &self,
        home: &Bound<'_, PyAny>,
        delay: &Bound<'_, PyAny>,
        waiter: &Waiter,
    ) -> PyResult<()> {
        let py = home.py();
        let seconds = plain_seconds(delay).filter(|seconds| !seconds.is_nan());
        if let (Some(seconds), Ok(native)) = (seconds, home.cast::<EventLoop>()) {
            if let Some(future) = waiter.as_native(py) {
                if native.get().makes_plain_timers() {
                    native.get().check_open()?;
                    self.key.set(Some(EventLoop::add_wakeup(native, seconds, future)?));
                    self.timer.set(Ref::from_borrowed(home));
                    return Ok(());
                }
            }
        }
        let arguments = (delay, stdlib::release_waiter(py)?, waiter.as_future().bind(py));
        let handle = home.call_method1(intern!(py, "call_later"), arguments)?;
        self.timer.set(Ref::new(handle));
        Ok(())
    }

    /// Takes the timer back, if there is one.
    #[inline]
    pub fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let Some(timer) = self.timer.take() else { return Ok(()) };
        match self.key.take() {
            // One that has fired is found out in no time.
            Some(key) => {
                drop(timer.bind_as::<EventLoop>(py).get().core().remove_timer(key));
                Ok(())
            }
            None => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.timer.traverse(visit)
    }

    pub fn clear(&self) {
        self.timer.clear();
    }
}
