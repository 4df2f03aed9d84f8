//! `Condition`: wait, under a lock, until somebody notifies.
//!
//! Facts: whatever ends a `wait`, it ends with the lock held: cancellations that come while the lock
//! is being taken back are put off, and the last of them is raised. A wait that was notified and
//! then fails passes the notification on, so that none is lost; for others that is a spurious
//! wake-up, which the protocol of conditions allows.
//! The lock may be anything with `locked`, `acquire` and `release`, a `threading`-like object too.
//! Decision: [`Waiting`] is one `wait` as a value, which `wait_for` and the barrier run within their
//! own coroutine. A lock that is exactly ours is taken by [`Acquiring`], any other one, and that of
//! a subclass's condition, by awaiting `acquire()`.
//! Source of behaviour: CPython `Lib/asyncio/locks.py` of 3.13; see `docs/differences.md` for 3.11
//! and 3.12, where notifications could be lost.

use std::cell::Cell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::context::{Enter, Exit, call_release};
use super::copying::{Parts, check_idle, parts};
use super::home::Home;
use super::lock::{Acquiring, Lock};
use super::number::Given;
use super::waiters::{WaitList, truth};
use super::{is_cancellation, plain_repr};
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::error;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};

/// Tasks that wait, under a lock, until somebody notifies them.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Condition")]
pub struct Condition {
    home: Home,
    waiters: WaitList,
    lock: Slot,
    /// The lock is exactly ours, and so is the class: a subclass may put other methods in place.
    plain: Cell<bool>,
}

attached_only!(Condition);

impl Condition {
    fn bare() -> Self {
        Self {
            home: Home::default(),
            waiters: WaitList::default(),
            lock: Slot::empty(),
            plain: Cell::new(false),
        }
    }

    /// A condition with a lock of its own, as the constructor makes it.
    pub fn new_object(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let condition = Bound::new(py, Self::bare())?;
        Self::start(&condition, None)?;
        Ok(condition)
    }

    /// What `__init__` does; also to the copy of a condition.
    pub fn start(slf: &Bound<'_, Self>, lock: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let lock = match lock {
            Some(lock) if !lock.is_none() => lock.clone(),
            _ => Lock::new_object(py)?.into_any(),
        };
        for name in [intern!(py, "locked"), intern!(py, "acquire"), intern!(py, "release")] {
            slf.setattr(name, lock.getattr(name)?)?;
        }
        this.plain.set(call::is_exactly::<Lock>(&lock) && call::is_exactly::<Self>(slf.as_any()));
        this.waiters.clear();
        this.lock.set(Ref::new(lock));
        Ok(())
    }

    /// The lock, if it is exactly ours.
    #[inline]
    pub fn plain_lock(&self) -> Option<Ref> {
        if self.plain.get() { self.lock.get() } else { None }
    }

    #[inline]
    fn is_locked(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        match slf.get().plain_lock() {
            Some(lock) => Ok(lock.bind_as::<Lock>(py).get().is_locked()),
            None => slf.call_method0(intern!(py, "locked"))?.is_truthy(),
        }
    }

    #[inline]
    pub fn free(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().plain_lock() {
            Some(lock) => Lock::free(lock.bind_as(slf.py())),
            None => call_release(slf.as_any()),
        }
    }

    /// Wakes `count` waiters; the lock must be held.
    pub fn notify_waiters(slf: &Bound<'_, Self>, count: usize) -> PyResult<()> {
        if !Self::is_locked(slf)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        slf.get().waiters.wake_pending(slf.py(), count, false)
    }
}

/// Takes the lock of a condition.
#[derive(Default)]
pub struct Locking {
    own: Acquiring,
}

impl Locking {
    /// None when the lock is held, else what to await.
    #[inline]
    pub fn begin(&self, condition: &Bound<'_, Condition>) -> PyResult<Option<Ref>> {
        let py = condition.py();
        match condition.get().plain_lock() {
            Some(lock) => self.own.begin(lock.bind_as(py)),
            None => Ok(Some(Ref::new(condition.call_method0(intern!(py, "acquire"))?))),
        }
    }

    #[inline]
    pub fn resumed(
        &self,
        condition: &Bound<'_, Condition>,
        outcome: PyResult<Ref>,
    ) -> PyResult<()> {
        match condition.get().plain_lock() {
            Some(lock) => self.own.resumed(lock.bind_as(condition.py()), outcome),
            None => outcome.map(drop),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.own.traverse(visit)
    }
}

/// One `wait` that is under way.
#[derive(Default)]
pub struct Waiting {
    /// Until it is notified; then empty, and the lock is being taken back.
    waiter: Slot,
    locking: Locking,
    /// What ended the wait, if not a notification.
    failure: Slot,
    /// The last cancellation that came while the lock was being taken back.
    cancelled: Slot,
}

impl Waiting {
    /// Gives the lock up; returns the future to wait for.
    pub fn begin(&self, condition: &Bound<'_, Condition>) -> PyResult<Ref> {
        let py = condition.py();
        let this = condition.get();
        if !Condition::is_locked(condition)? {
            return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
        }
        let waiter = this.home.new_waiter(condition.as_any())?;
        Condition::free(condition)?;
        this.waiters.push(py, waiter.clone())?;
        self.waiter.set(waiter.clone());
        Ok(waiter)
    }

    /// What was awaited has ended: None when the wait is over, with the lock held.
    ///
    /// # Errors
    /// What ended the wait, after somebody else was notified instead.
    pub fn resumed(
        &self,
        condition: &Bound<'_, Condition>,
        outcome: PyResult<Ref>,
    ) -> PyResult<Option<Ref>> {
        let went_on = self.go_on(condition, outcome);
        if went_on.is_err() {
            condition.get().waiters.wake_pending(condition.py(), 1, false)?;
        }
        went_on
    }

    fn go_on(
        &self,
        condition: &Bound<'_, Condition>,
        outcome: PyResult<Ref>,
    ) -> PyResult<Option<Ref>> {
        let py = condition.py();
        let mut locked = match self.waiter.take() {
            Some(waiter) => {
                condition.get().waiters.remove(py, &waiter)?;
                if let Err(err) = outcome {
                    self.failure.set(error_object(py, err));
                }
                self.locking.begin(condition)
            }
            None => self.locking.resumed(condition, outcome).map(|()| None),
        };
        loop {
            match locked {
                Ok(Some(awaited)) => return Ok(Some(awaited)),
                Ok(None) => break,
                Err(err) if is_cancellation(py, &err)? => {
                    self.cancelled.set(error_object(py, err));
                    locked = self.locking.begin(condition);
                }
                Err(err) => return Err(err),
            }
        }
        match self.cancelled.take().or_else(|| self.failure.take()) {
            Some(error) => Err(PyErr::from_value(error.into_bound(py))),
            None => Ok(None),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiter.traverse(visit)?;
        self.locking.traverse(visit)?;
        self.failure.traverse(visit)?;
        self.cancelled.traverse(visit)
    }
}

fn error_object(py: Python<'_>, err: PyErr) -> Ref {
    Ref::new(error::instance(py, err))
}

/// `Condition.wait()`
struct Wait {
    condition: Ref,
    waiting: Waiting,
}

impl Body for Wait {
    fn qualified_name(&self) -> &'static str {
        "Condition.wait"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        self.waiting.begin(self.condition.bind_as(py)).map(Progress::Await)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        Ok(match self.waiting.resumed(self.condition.bind_as(py), outcome)? {
            Some(awaited) => Progress::Await(awaited),
            None => Progress::Return(truth(py, true)),
        })
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.condition.traverse(visit)?;
        self.waiting.traverse(visit)
    }
}

/// `Condition.wait_for(predicate)`
struct WaitFor {
    condition: Ref,
    predicate: Ref,
    waiting: Waiting,
    /// `wait` may be the user's: then it is called.
    by_method: bool,
}

impl WaitFor {
    fn look(&self, py: Python<'_>) -> PyResult<Progress> {
        let result = self.predicate.bind(py).call0()?;
        if result.is_truthy()? {
            return Ok(Progress::Return(Ref::new(result)));
        }
        let condition = self.condition.bind_as::<Condition>(py);
        if self.by_method {
            let wait = condition.call_method0(intern!(py, "wait"))?;
            return Ok(Progress::Await(Ref::new(wait)));
        }
        self.waiting.begin(condition).map(Progress::Await)
    }
}

impl Body for WaitFor {
    fn qualified_name(&self) -> &'static str {
        "Condition.wait_for"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        self.look(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        if self.by_method {
            outcome?;
            return self.look(py);
        }
        match self.waiting.resumed(self.condition.bind_as(py), outcome)? {
            Some(awaited) => Ok(Progress::Await(awaited)),
            None => self.look(py),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.condition.traverse(visit)?;
        self.predicate.traverse(visit)?;
        self.waiting.traverse(visit)
    }
}

/// `wait()`
pub fn wait<'py>(slf: &Bound<'py, Condition>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Condition.wait")?;
    let body = Wait { condition: Ref::from_borrowed(slf), waiting: Waiting::default() };
    Coroutine::make(slf.py(), body)
}

/// `__aenter__()`
pub fn enter<'py>(slf: &Bound<'py, Condition>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("_ContextManagerMixin.__aenter__")?;
    if call::is_exactly::<Condition>(slf.as_any()) {
        if let Some(lock) = slf.get().plain_lock() {
            return super::lock::entering(lock.bind_as(slf.py()));
        }
    }
    Enter::make(slf.as_any())
}

/// `__aexit__(exc_type, exc, tb)`
pub fn exit<'py>(slf: &Bound<'py, Condition>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.all("_ContextManagerMixin.__aexit__", ["exc_type", "exc", "tb"])?;
    let release = if call::is_exactly::<Condition>(slf.as_any()) {
        |condition: &Bound<'_, PyAny>| match condition.cast::<Condition>() {
            Ok(condition) => Condition::free(condition),
            Err(err) => Err(err.into()),
        }
    } else {
        call_release
    };
    Exit::make(slf.as_any(), release)
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(lock=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    #[pyo3(signature = (lock = None))]
    fn __init__(slf: &Bound<'_, Self>, lock: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::start(slf, lock)
    }

    /// Wait until `predicate()` is true; returns its value.
    fn wait_for(slf: &Bound<'_, Self>, predicate: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let body = WaitFor {
            condition: Ref::from_borrowed(slf),
            predicate: Ref::from_borrowed(predicate),
            waiting: Waiting::default(),
            by_method: !call::is_exactly::<Self>(slf.as_any()),
        };
        Ok(Coroutine::make(py, body)?.into_py(py))
    }

    /// Wake `n` of the tasks that wait; RuntimeError unless the lock is held.
    #[pyo3(signature = (n = Given(None)), text_signature = "($self, n=1)")]
    fn notify(slf: &Bound<'_, Self>, n: Given<'_>) -> PyResult<()> {
        if !Self::is_locked(slf)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        slf.get().waiters.wake_pending(slf.py(), notified(n.0.as_ref())?, false)
    }

    /// Wake all tasks that wait; RuntimeError unless the lock is held.
    fn notify_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let count = slf.get().waiters.len(py)?;
        if call::is_exactly::<Self>(slf.as_any()) {
            return Self::notify_waiters(slf, count);
        }
        slf.call_method1(intern!(py, "notify"), (count,)).map(drop)
    }

    #[pyo3(signature = (n))]
    fn _notify(&self, py: Python<'_>, n: &Bound<'_, PyAny>) -> PyResult<()> {
        self.waiters.wake_pending(py, notified(Some(n))?, false)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if Self::is_locked(slf)? { "locked" } else { "unlocked" };
        plain_repr(slf.as_any(), state, slf.get().waiters.len(slf.py())?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        let this = slf.get();
        check_idle(slf.as_any(), &this.home, &[&this.waiters])?;
        let lock = this.lock.bound(slf.py());
        // Those of the lock are set with it; others are the subclass's.
        let mut omitted = Vec::new();
        if let Some(lock) = &lock {
            for name in ["locked", "acquire", "release"] {
                if slf.getattr(name)?.eq(lock.getattr(name)?)? {
                    omitted.push(name);
                }
            }
        }
        parts(slf.as_any(), lock, &[], &omitted)
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
    fn _lock<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.lock.or_none(py)
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
        self.lock.traverse(&visit)?;
        self.waiters.traverse(&visit)
    }

    fn __clear__(&self) {
        self.home.clear();
        self.plain.set(false);
        self.lock.clear();
        self.waiters.clear();
    }
}

/// How many waiters `notify(n)` means: as many as `idx >= n` lets through, counting from 0.
fn notified(n: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    let Some(n) = n else { return Ok(1) };
    if let Ok(small) = n.extract::<i64>() {
        return Ok(usize::try_from(small.max(0)).unwrap_or(usize::MAX));
    }
    // A huge int, or another number: compared as asyncio would, for as long as it is above.
    if n.lt(i64::MAX)? {
        let mut count = 0;
        while n.gt(count)? {
            count += 1;
        }
        return Ok(count);
    }
    Ok(usize::MAX)
}
