//! `sleep(delay, result=None)`.
//!
//! On a loop of ours the timer is the future itself: when it is due the loop resolves it, without a
//! handle. On any other loop, and on one whose timers the user replaced, it is
//! `loop.call_later(delay, …)` as in asyncio.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use oxloop_core::TimerKey;

use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::event_loop::EventLoop;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

struct Sleep {
    delay: Ref,
    result: Ref,
    /// What ends the timer: the `EventLoop` for `key`, or the handle of another loop.
    timer: Slot,
    key: std::cell::Cell<Option<TimerKey>>,
}

/// Complete after `delay` seconds; the result is `result`.
///
/// A delay of zero or less lets other tasks run once.
#[pyfunction]
#[pyo3(signature = (delay, result = None))]
pub fn sleep<'py>(
    delay: &Bound<'py, PyAny>,
    result: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = delay.py();
    let body = Sleep {
        delay: Ref::from_borrowed(delay),
        result: result.map_or_else(|| crate::future::none(py), Ref::from_borrowed),
        timer: Slot::empty(),
        key: std::cell::Cell::new(None),
    };
    Ok(Coroutine::make(py, body)?.into_bound(py))
}

/// The number of a plain float or int; what else there is compares for itself.
#[inline]
fn plain_seconds(delay: &Bound<'_, PyAny>) -> Option<f64> {
    if let Ok(float) = delay.cast_exact::<PyFloat>() {
        return Some(float.value());
    }
    if delay.is_exact_instance_of::<PyInt>() {
        return delay.extract::<i32>().ok().map(f64::from);
    }
    None
}

impl Sleep {
    /// Starts the timer; the future that it will set.
    fn start(&self, delay: &Bound<'_, PyAny>, seconds: Option<f64>) -> PyResult<Waiter> {
        let py = delay.py();
        let home = running_loop(py)?;
        let waiter = Waiter::new(&home)?;
        if let (Some(seconds), Ok(native)) = (seconds, home.cast::<EventLoop>()) {
            if let Some(future) = waiter.as_native(py) {
                if native.get().makes_plain_timers() {
                    native.get().check_open()?;
                    self.key.set(Some(EventLoop::add_wakeup(native, seconds, future)?));
                    self.timer.set(Ref::new(home));
                    return Ok(waiter);
                }
            }
        }
        let arguments = (
            delay,
            stdlib::set_result_unless_cancelled(py)?,
            waiter.as_future().bind(py),
            self.result.bind(py),
        );
        let handle = home.call_method1(intern!(py, "call_later"), arguments)?;
        self.timer.set(Ref::new(handle));
        Ok(waiter)
    }
}

impl Body for Sleep {
    fn qualified_name(&self) -> &'static str {
        "sleep"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let delay = self.delay.bind(py);
        let seconds = plain_seconds(delay);
        let at_once = match seconds {
            Some(seconds) => seconds <= 0.0,
            None => delay.le(0)?,
        };
        if at_once {
            return Ok(Progress::Pause);
        }
        let is_nan = match seconds {
            Some(seconds) => seconds.is_nan(),
            None => delay.extract::<f64>().is_ok_and(f64::is_nan),
        };
        if is_nan && stdlib::at_least(py, 13) {
            return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
        }
        Ok(self.start(delay, seconds.filter(|_| !is_nan))?.wait())
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let key = self.key.take();
        match (self.timer.take(), key) {
            // In order it fired and has no timer any more; that is found out in no time.
            (Some(home), Some(key)) => {
                drop(home.bind_as::<EventLoop>(py).get().core().remove_timer(key));
            }
            (Some(handle), None) => {
                let cancelled = handle.bind(py).call_method0(intern!(py, "cancel"));
                let value = outcome?;
                cancelled?;
                return Ok(Progress::Return(value));
            }
            (None, _) => {}
        }
        outcome?;
        Ok(Progress::Return(self.result.clone()))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.delay.traverse(visit)?;
        self.result.traverse(visit)?;
        self.timer.traverse(visit)
    }
}
