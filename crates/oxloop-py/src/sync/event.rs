//! `Event`: a flag that tasks wait for.
//!
//! Facts: `set` wakes everybody who waits, in order; each leaves the list when it runs. Who waits
//! was promised the event of its time: `clear` right after `set` takes no wake-up back.
//! Source of behaviour: CPython `Lib/asyncio/locks.py`.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::copying::{Parts, check_idle, parts};
use super::home::Home;
use super::plain_repr;
use super::waiters::{WaitList, truth};
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::future::none;

/// A flag that tasks wait for.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Event")]
pub struct Event {
    home: Home,
    waiters: WaitList,
    value: Cell<bool>,
}

attached_only!(Event);

impl Event {
    pub fn with_value(value: bool) -> Self {
        Self { home: Home::default(), waiters: WaitList::default(), value: Cell::new(value) }
    }

    /// Fails unless a copy can be made.
    pub fn check_idle(slf: &Bound<'_, Self>) -> PyResult<()> {
        check_idle(slf.as_any(), &slf.get().home, &[&slf.get().waiters])
    }

    /// `set()`
    #[inline]
    pub fn raise_flag(&self, py: Python<'_>) -> PyResult<()> {
        if self.value.replace(true) {
            return Ok(());
        }
        if self.waiters.len(py)? == 0 {
            return Ok(());
        }
        self.waiters.wake_pending(py, usize::MAX, true)
    }

    /// `clear()`
    #[inline]
    pub fn lower_flag(&self) {
        self.value.set(false);
    }
}

/// `Event.wait()`
struct Wait {
    event: Ref,
    waiter: Slot,
}

impl Body for Wait {
    fn qualified_name(&self) -> &'static str {
        "Event.wait"
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let event = self.event.bind_as::<Event>(py);
        let this = event.get();
        if this.value.get() {
            return Ok(Progress::Return(truth(py, true)));
        }
        let waiter = this.home.new_waiter(event.as_any())?;
        this.waiters.push(py, waiter.clone())?;
        self.waiter.set(waiter.clone());
        Ok(Progress::Await(waiter))
    }

    #[inline]
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        if let Some(waiter) = self.waiter.take() {
            self.event.bind_as::<Event>(py).get().waiters.remove(py, &waiter)?;
        }
        outcome?;
        Ok(Progress::Return(truth(py, true)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event.traverse(visit)?;
        self.waiter.traverse(visit)
    }
}

/// `wait()`
pub fn wait<'py>(slf: &Bound<'py, Event>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Event.wait")?;
    waiting(slf)
}

/// The coroutine of `wait()`.
pub fn waiting(event: &Bound<'_, Event>) -> PyResult<Ref> {
    Coroutine::make(event.py(), Wait { event: Ref::from_borrowed(event), waiter: Slot::empty() })
}

/// `set()`
pub fn set<'py>(slf: &Bound<'py, Event>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Event.set")?;
    slf.get().raise_flag(slf.py())?;
    Ok(none(slf.py()))
}

/// `clear()`
pub fn clear<'py>(slf: &Bound<'py, Event>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Event.clear")?;
    slf.get().lower_flag();
    Ok(none(slf.py()))
}

/// `is_set()`
pub fn is_set<'py>(slf: &Bound<'py, Event>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Event.is_set")?;
    Ok(truth(slf.py(), slf.get().value.get()))
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::with_value(false)
    }

    fn __init__(&self) {
        self.value.set(false);
        self.waiters.clear();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let state = if this.value.get() { "set" } else { "unset" };
        plain_repr(slf.as_any(), state, this.waiters.len(slf.py())?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        Self::check_idle(slf)?;
        parts(slf.as_any(), None, &["_value"], &[])
    }

    #[getter(__class__)]
    fn class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        super::asyncio_class(slf.as_any())
    }

    fn _get_loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().home.running(slf.as_any())
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.object(py)
    }

    #[setter(_loop)]
    fn set_loop(&self, home: &Bound<'_, PyAny>) {
        self.home.set(home);
    }

    #[getter]
    fn _value(&self) -> bool {
        self.value.get()
    }

    #[setter(_value)]
    fn set_value(&self, value: bool) {
        self.value.set(value);
    }

    /// The waiting futures, a `collections.deque`.
    #[getter]
    fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.waiters.show(py)
    }

    #[setter(_waiters)]
    fn set_waiters(&self, list: &Bound<'_, PyAny>) {
        self.waiters.replace(Some(list));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.traverse(&visit)?;
        self.waiters.traverse(&visit)
    }

    fn __clear__(&self) {
        self.home.clear();
        self.waiters.clear();
    }
}
