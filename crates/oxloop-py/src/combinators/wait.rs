//! `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PySet, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::alarm::Alarm;
use super::listener::Listener;
use super::{any_future, spawning};
use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Ref, Slot};
use crate::future::none;
use crate::sync::number::Given;

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReturnWhen {
    AllCompleted,
    FirstCompleted,
    FirstException,
}

impl ReturnWhen {
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        for (text, when) in [
            ("ALL_COMPLETED", Self::AllCompleted),
            ("FIRST_COMPLETED", Self::FirstCompleted),
            ("FIRST_EXCEPTION", Self::FirstException),
        ] {
            if value.eq(text)? {
                return Ok(when);
            }
        }
        Err(PyValueError::new_err(format!("Invalid return_when value: {}", value.str()?)))
    }
}

/// Follows the futures of one `wait()` until enough of them are done.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_Waiting")]
pub struct Waiting {
    waiter: Slot,
    alarm: Alarm,
    unfinished: Cell<usize>,
    return_when: ReturnWhen,
}

attached_only!(Waiting);
pooled!(Waiting);

impl Waiting {
    /// One of the futures is done.
    pub fn told(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        self.unfinished.set(self.unfinished.get().saturating_sub(1));
        let enough = self.unfinished.get() == 0
            || match self.return_when {
                ReturnWhen::AllCompleted => false,
                ReturnWhen::FirstCompleted => true,
                ReturnWhen::FirstException => {
                    !any_future::is_cancelled(future)? && any_future::exception(future)?.is_some()
                }
            };
        if enough { self.release(future.py()) } else { Ok(()) }
    }

    /// Wakes `waiter` when a single future is done.
    pub fn for_one<'py>(py: Python<'py>, waiter: &Waiter) -> PyResult<Bound<'py, Self>> {
        let waiting = Self {
            waiter: Slot::holding(waiter.as_future().clone()),
            alarm: Alarm::default(),
            unfinished: Cell::new(1),
            return_when: ReturnWhen::AllCompleted,
        };
        pool::make(py, waiting)
    }

    /// The native task that waits.
    pub fn task(&self, py: Python<'_>) -> Option<Ref> {
        let waiter = Waiter::from_future(self.waiter.get()?);
        waiter.as_native(py)?.get().waiting_task()
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.alarm.stop(py)?;
        let Some(waiter) = self.waiter.get() else { return Ok(()) };
        let waiter = Waiter::from_future(waiter);
        if waiter.is_done(py)? { Ok(()) } else { waiter.wake(py, none(py)) }
    }
}

#[pymethods]
impl Waiting {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiter.traverse(&visit)?;
        self.alarm.traverse(&visit)
    }

    fn __clear__(&self) {
        self.waiter.clear();
        self.alarm.clear();
    }
}

/// The body of `wait()`.
struct Wait {
    given: Ref,
    timeout: Slot,
    return_when: Ref,
    /// The futures, each once, while they are waited for.
    futures: RefCell<Vec<Ref>>,
    waiting: Slot,
}

/// Wait for the futures in `fs`; the result is `(done, pending)`, two sets.
///
/// Nothing is cancelled and nothing is raised when `timeout` seconds are over.
#[pyfunction]
#[pyo3(
    signature = (fs, *, timeout = None, return_when = Given(None)),
    text_signature = "(fs, *, timeout=None, return_when='ALL_COMPLETED')"
)]
pub fn wait<'py>(
    fs: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
    return_when: Given<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = fs.py();
    let return_when = match return_when.0 {
        Some(return_when) => Ref::new(return_when),
        None => Ref::new(PyString::intern(py, "ALL_COMPLETED")),
    };
    let body = Wait {
        given: Ref::from_borrowed(fs),
        timeout: timeout.map_or_else(Slot::empty, |given| Slot::holding(Ref::from_borrowed(given))),
        return_when,
        futures: RefCell::new(Vec::new()),
        waiting: Slot::empty(),
    };
    Ok(Coroutine::make(py, body)?.into_bound(py))
}

impl Wait {
    /// The futures to wait for, without duplicates.
    fn collect(&self, py: Python<'_>) -> PyResult<Vec<Ref>> {
        let given = self.given.bind(py);
        let futures = PySet::empty(py)?;
        for future in given.try_iter()? {
            futures.add(future?)?;
        }
        let futures: Vec<Ref> = futures.iter().map(Ref::new).collect();
        for future in &futures {
            let future = future.bind(py);
            if crate::coroutine::plain_future(future).is_none() && spawning::is_coroutine(future)? {
                return Err(PyTypeError::new_err(
                    "Passing coroutines is forbidden, use tasks explicitly.",
                ));
            }
        }
        Ok(futures)
    }
}

impl Body for Wait {
    fn qualified_name(&self) -> &'static str {
        "wait"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let given = self.given.bind(py);
        if any_future::is_future(given)? || spawning::is_coroutine(given)? {
            let text = format!("expect a list of futures, not {}", given.get_type().name()?);
            return Err(PyTypeError::new_err(text));
        }
        if !given.is_truthy()? {
            return Err(PyValueError::new_err("Set of Tasks/Futures is empty."));
        }
        let return_when = ReturnWhen::read(self.return_when.bind(py))?;
        let futures = self.collect(py)?;
        if futures.is_empty() {
            // An iterator that is true and gives nothing.
            return Err(PyAssertionError::new_err("Set of Futures is empty."));
        }
        let home = running_loop(py)?;
        let waiter = Waiter::new(&home)?;
        let waiting = Waiting {
            waiter: Slot::holding(waiter.as_future().clone()),
            alarm: Alarm::default(),
            unfinished: Cell::new(futures.len()),
            return_when,
        };
        if let Some(timeout) = self.timeout.bound(py) {
            if !timeout.is_none() {
                waiting.alarm.start(&home, &timeout, &waiter)?;
            }
        }
        let waiting = pool::make(py, waiting)?;
        self.waiting.set(Ref::from_borrowed(&waiting));
        for future in &futures {
            Listener::listen(&waiting, future.bind(py))?;
        }
        drop(self.futures.replace(futures));
        Ok(waiter.wait())
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let futures = self.futures.take();
        if let Some(waiting) = self.waiting.take() {
            let waiting = waiting.bind_as::<Waiting>(py);
            waiting.get().alarm.stop(py)?;
            for future in &futures {
                Listener::leave(waiting, future.bind(py))?;
            }
        }
        outcome?;
        let (done, pending) = (PySet::empty(py)?, PySet::empty(py)?);
        for future in &futures {
            let future = future.bind(py);
            if any_future::is_done(future)? { done.add(future)? } else { pending.add(future)? }
        }
        Ok(Progress::Return(Ref::new((done, pending).into_pyobject(py)?)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for part in [&self.given, &self.return_when] {
            part.traverse(visit)?;
        }
        self.timeout.traverse(visit)?;
        self.waiting.traverse(visit)?;
        match self.futures.try_borrow() {
            Ok(futures) => futures.iter().try_for_each(|future| future.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}
