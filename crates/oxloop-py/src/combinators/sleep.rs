//! `sleep(delay, result=None)`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::alarm::{Alarm, plain_seconds};
use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::ffi::Ref;
use crate::stdlib;

struct Sleep {
    delay: Ref,
    result: Ref,
    alarm: Alarm,
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
        alarm: Alarm::default(),
    };
    Ok(Coroutine::make(py, body)?.into_bound(py))
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
        let home = running_loop(py)?;
        let waiter = Waiter::new(&home)?;
        self.alarm.start(&home, delay, &waiter)?;
        Ok(waiter.wait())
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let stopped = self.alarm.stop(py);
        outcome?;
        stopped?;
        Ok(Progress::Return(self.result.clone()))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.delay.traverse(visit)?;
        self.result.traverse(visit)?;
        self.alarm.traverse(visit)
    }
}
