//! `Semaphore` and `BoundedSemaphore`: at most so many at a time.
//!
//! Facts: `release` gives the permit to the first waiter there and then: the value goes down again
//! before anybody else can run, so nobody overtakes. A waiter that was given a permit and is
//! cancelled before it runs puts it back, and whoever leaves hands on what is free.
//! Source of behaviour: CPython `Lib/asyncio/locks.py` of 3.13; see `docs/differences.md` for 3.11
//! and 3.12, where wake-ups could be lost.

use std::cell::Cell;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::context::{Enter, Exit, call_release};
use super::copying::{Parts, check_idle, parts};
use super::home::Home;
use super::number::{Given, Number};
use super::waiters::{self, WaitList, truth};
use super::{is_cancellation, plain_repr};
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;

/// At most `value` holders at a time.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Semaphore")]
pub struct Semaphore {
    home: Home,
    waiters: WaitList,
    value: Number,
    waited_for: Cell<bool>,
}

attached_only!(Semaphore);

impl Semaphore {
    fn bare() -> Self {
        Self {
            home: Home::default(),
            waiters: WaitList::default(),
            value: Number::of(1),
            waited_for: Cell::new(false),
        }
    }

    fn start(&self, py: Python<'_>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let new = Number::of(1);
        if let Some(value) = value {
            new.set(value);
        }
        if new.is_below(py, 0)? {
            return Err(PyValueError::new_err("Semaphore initial value must be >= 0"));
        }
        self.waited_for.set(false);
        self.waiters.clear();
        self.value.set(&new.object(py)?);
        Ok(())
    }

    #[inline]
    fn is_locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.value.is_zero(py)? || !self.waiters.all_cancelled(py)?)
    }

    /// Gives a permit to the first waiter; false if nobody waits.
    #[inline]
    fn hand_over(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(waiter) = self.waiters.first_pending(py)? else { return Ok(false) };
        self.value.add(py, -1)?;
        waiters::wake(py, &waiter, truth(py, true))?;
        Ok(true)
    }

    /// Gives away what is free.
    #[inline]
    fn hand_over_all(&self, py: Python<'_>) -> PyResult<()> {
        while self.value.is_positive(py)? {
            if !self.hand_over(py)? {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        self.value.add(py, 1)?;
        self.hand_over(py).map(drop)
    }
}

/// `Semaphore.acquire()`, and `async with semaphore`.
struct Acquire {
    semaphore: Ref,
    waiter: Slot,
    entering: bool,
}

impl Acquire {
    #[inline]
    fn done(&self, py: Python<'_>) -> Progress {
        Progress::Return(if self.entering { none(py) } else { truth(py, true) })
    }
}

impl Body for Acquire {
    fn qualified_name(&self) -> &'static str {
        if self.entering { Enter::QUALIFIED_NAME } else { "Semaphore.acquire" }
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let semaphore = self.semaphore.bind_as::<Semaphore>(py);
        let this = semaphore.get();
        // `locked` may be the user's.
        let locked = if is_native_class(semaphore.as_any()) {
            this.is_locked(py)?
        } else {
            semaphore.call_method0(intern!(py, "locked"))?.is_truthy()?
        };
        if !locked {
            this.value.add(py, -1)?;
            return Ok(self.done(py));
        }
        let waiter = this.home.new_waiter(semaphore.as_any())?;
        this.waited_for.set(true);
        this.waiters.push(py, waiter.clone())?;
        self.waiter.set(waiter.clone());
        Ok(Progress::Await(waiter))
    }

    #[inline]
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let this = self.semaphore.bind_as::<Semaphore>(py).get();
        if let Some(waiter) = self.waiter.take() {
            this.waiters.remove(py, &waiter)?;
            if let Err(err) = &outcome {
                // Woken, but it will not hold what it was given.
                if is_cancellation(py, err)?
                    && waiters::is_done(py, &waiter)?
                    && !waiters::is_cancelled(py, &waiter)?
                {
                    this.value.add(py, 1)?;
                }
            }
        }
        this.hand_over_all(py)?;
        outcome?;
        Ok(self.done(py))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.semaphore.traverse(visit)?;
        self.waiter.traverse(visit)
    }
}

/// Whether no method can be the user's.
#[inline]
fn is_native_class(semaphore: &Bound<'_, PyAny>) -> bool {
    call::is_exactly::<Semaphore>(semaphore) || call::is_exactly::<BoundedSemaphore>(semaphore)
}

fn acquiring(slf: &Bound<'_, Semaphore>, entering: bool) -> PyResult<Ref> {
    let body = Acquire { semaphore: Ref::from_borrowed(slf), waiter: Slot::empty(), entering };
    Coroutine::make(slf.py(), body)
}

/// `acquire()`
pub fn acquire<'py>(slf: &Bound<'py, Semaphore>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Semaphore.acquire")?;
    acquiring(slf, false)
}

/// `release()`
pub fn release<'py>(slf: &Bound<'py, Semaphore>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Semaphore.release")?;
    slf.get().give_back(slf.py())?;
    Ok(none(slf.py()))
}

/// `__aenter__()`
pub fn enter<'py>(slf: &Bound<'py, Semaphore>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("_ContextManagerMixin.__aenter__")?;
    if is_native_class(slf.as_any()) {
        return acquiring(slf, true);
    }
    Enter::make(slf.as_any())
}

/// `__aexit__(exc_type, exc, tb)`
pub fn exit<'py>(slf: &Bound<'py, Semaphore>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.all("_ContextManagerMixin.__aexit__", ["exc_type", "exc", "tb"])?;
    let release = if call::is_exactly::<Semaphore>(slf.as_any()) {
        |semaphore: &Bound<'_, PyAny>| match semaphore.cast::<Semaphore>() {
            Ok(semaphore) => semaphore.get().give_back(semaphore.py()),
            Err(err) => Err(err.into()),
        }
    } else {
        call_release
    };
    Exit::make(slf.as_any(), release)
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    #[pyo3(signature = (value = Given(None)))]
    fn __init__(&self, py: Python<'_>, value: Given<'_>) -> PyResult<()> {
        self.start(py, value.0.as_ref())
    }

    /// True if `acquire()` would have to wait.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_locked(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let state = if slf.call_method0("locked")?.is_truthy()? {
            "locked".to_owned()
        } else {
            format!("unlocked, value:{}", this.value.object(py)?.str()?)
        };
        plain_repr(slf.as_any(), &state, this.waiters.len(py)?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        let this = slf.get();
        check_idle(slf.as_any(), &this.home, &[&this.waiters])?;
        let bounded = slf.as_any().is_instance_of::<BoundedSemaphore>();
        let names: &[&str] = if bounded { &["_value", "_bound_value"] } else { &["_value"] };
        parts(slf.as_any(), None, names, &[])
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
    fn _value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.value.object(py)
    }

    #[setter(_value)]
    fn set_value(&self, value: &Bound<'_, PyAny>) {
        self.value.set(value);
    }

    /// The waiting futures, a `collections.deque`; None if nobody ever had to wait.
    #[getter]
    fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.waited_for.get().then(|| self.waiters.show(py)).transpose()
    }

    #[setter(_waiters)]
    fn set_waiters(&self, list: Option<&Bound<'_, PyAny>>) {
        self.waited_for.set(list.is_some());
        self.waiters.replace(list);
    }

    fn _wake_up_next(&self, py: Python<'_>) -> PyResult<bool> {
        self.hand_over(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.traverse(&visit)?;
        self.value.traverse(&visit)?;
        self.waiters.traverse(&visit)
    }

    fn __clear__(&self) {
        self.home.clear();
        self.value.clear();
        self.waiters.clear();
    }
}

/// A semaphore that refuses more releases than acquisitions.
#[pyclass(frozen, subclass, extends = Semaphore, module = "oxloop", name = "BoundedSemaphore")]
pub struct BoundedSemaphore {
    bound: Number,
}

attached_only!(BoundedSemaphore);

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Semaphore::bare()).add_subclass(Self { bound: Number::of(1) })
    }

    #[pyo3(signature = (value = Given(None)))]
    fn __init__(slf: &Bound<'_, Self>, value: Given<'_>) -> PyResult<()> {
        match &value.0 {
            Some(value) => slf.get().bound.set(value),
            None => slf.get().bound.set_int(1),
        }
        slf.as_super().get().start(slf.py(), value.0.as_ref())
    }

    /// Give a permit back; ValueError if none is out.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let semaphore = slf.as_super().get();
        if semaphore.value.is_at_least(py, &slf.get().bound)? {
            return Err(PyValueError::new_err("BoundedSemaphore released too many times"));
        }
        semaphore.give_back(py)
    }

    #[getter]
    fn _bound_value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.bound.object(py)
    }

    #[setter(_bound_value)]
    fn set_bound_value(&self, value: &Bound<'_, PyAny>) {
        self.bound.set(value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.bound.traverse(&visit)
    }

    fn __clear__(&self) {
        self.bound.clear();
    }
}
