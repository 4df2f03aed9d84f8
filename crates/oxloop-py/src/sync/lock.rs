//! `Lock`: one task at a time, the others in the order in which they came.
//!
//! Facts: `release` only marks the lock free and wakes the first waiter; the lock is taken when that
//! one runs. Until then newcomers must queue, or they would overtake. A waiter that is cancelled
//! after it was woken hands its turn to the next.
//! Decision: [`Acquiring`] is one `acquire` as a value, so that a condition, which takes its lock
//! back within its own `wait`, needs no coroutine for it.
//! Source of behaviour: CPython `Lib/asyncio/locks.py`.

use std::cell::Cell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::context::{Enter, Exit};
use super::copying::{Parts, check_idle, parts};
use super::home::Home;
use super::waiters::{self, WaitList, truth};
use super::{is_cancellation, plain_repr};
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;

/// A lock that belongs to no task in particular.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Lock")]
pub struct Lock {
    home: Home,
    waiters: WaitList,
    locked: Cell<bool>,
    /// Somebody had to wait, so that there is a list of waiters to show.
    waited_for: Cell<bool>,
}

attached_only!(Lock);

impl Lock {
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.locked.get()
    }

    /// A lock as the constructor makes it.
    pub fn new_object(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self::unlocked())
    }

    fn unlocked() -> Self {
        Self {
            home: Home::default(),
            waiters: WaitList::default(),
            locked: Cell::new(false),
            waited_for: Cell::new(false),
        }
    }

    /// Wakes the first waiter, unless it was woken already.
    fn wake_first(&self, py: Python<'_>) -> PyResult<()> {
        match self.waiters.first(py)? {
            Some(waiter) if !waiters::is_done(py, &waiter)? => {
                waiters::wake(py, &waiter, truth(py, true))
            }
            _ => Ok(()),
        }
    }

    /// `release()`
    #[inline]
    pub fn free(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.locked.replace(false) {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        this.wake_first(slf.py())
    }
}

/// One `acquire` that is under way.
#[derive(Default)]
pub struct Acquiring {
    waiter: Slot,
}

impl Acquiring {
    /// Takes the lock, or gives the future to wait for first.
    #[inline]
    pub fn begin(&self, lock: &Bound<'_, Lock>) -> PyResult<Option<Ref>> {
        let py = lock.py();
        let this = lock.get();
        if !this.locked.get() && this.waiters.all_cancelled(py)? {
            this.locked.set(true);
            return Ok(None);
        }
        let waiter = this.home.new_waiter(lock.as_any())?;
        this.waited_for.set(true);
        this.waiters.push(py, waiter.clone())?;
        self.waiter.set(waiter.clone());
        Ok(Some(waiter))
    }

    /// The wait has ended: the lock is taken, or the error given back.
    #[inline]
    pub fn resumed(&self, lock: &Bound<'_, Lock>, outcome: PyResult<Ref>) -> PyResult<()> {
        let py = lock.py();
        let this = lock.get();
        if let Some(waiter) = self.waiter.take() {
            this.waiters.remove(py, &waiter)?;
        }
        match outcome {
            Ok(_) => {
                this.locked.set(true);
                Ok(())
            }
            Err(err) => {
                if is_cancellation(py, &err)? && !this.locked.get() {
                    this.wake_first(py)?;
                }
                Err(err)
            }
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiter.traverse(visit)
    }
}

/// `Lock.acquire()`, and `async with lock`.
struct Acquire {
    lock: Ref,
    acquiring: Acquiring,
    /// What is returned: None for `__aenter__`.
    entering: bool,
}

impl Acquire {
    fn done(&self, py: Python<'_>) -> Progress {
        Progress::Return(if self.entering { none(py) } else { truth(py, true) })
    }
}

impl Body for Acquire {
    fn qualified_name(&self) -> &'static str {
        if self.entering { Enter::QUALIFIED_NAME } else { "Lock.acquire" }
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        Ok(match self.acquiring.begin(self.lock.bind_as(py))? {
            None => self.done(py),
            Some(waiter) => Progress::Await(waiter),
        })
    }

    #[inline]
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        self.acquiring.resumed(self.lock.bind_as(py), outcome)?;
        Ok(self.done(py))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.lock.traverse(visit)?;
        self.acquiring.traverse(visit)
    }
}

/// `acquire()` of a lock, that returns what `__aenter__` returns.
pub fn entering(lock: &Bound<'_, Lock>) -> PyResult<Ref> {
    acquiring(lock, true)
}

fn acquiring(lock: &Bound<'_, Lock>, entering: bool) -> PyResult<Ref> {
    let body =
        Acquire { lock: Ref::from_borrowed(lock), acquiring: Acquiring::default(), entering };
    Coroutine::make(lock.py(), body)
}

/// `acquire()`
pub fn acquire<'py>(slf: &Bound<'py, Lock>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Lock.acquire")?;
    acquiring(slf, false)
}

/// `release()`
pub fn release<'py>(slf: &Bound<'py, Lock>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Lock.release")?;
    Lock::free(slf)?;
    Ok(none(slf.py()))
}

/// `__aenter__()`
pub fn enter<'py>(slf: &Bound<'py, Lock>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("_ContextManagerMixin.__aenter__")?;
    if call::is_exactly::<Lock>(slf.as_any()) {
        return acquiring(slf, true);
    }
    Enter::make(slf.as_any())
}

/// `__aexit__(exc_type, exc, tb)`
pub fn exit<'py>(slf: &Bound<'py, Lock>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.all("_ContextManagerMixin.__aexit__", ["exc_type", "exc", "tb"])?;
    let release = if call::is_exactly::<Lock>(slf.as_any()) {
        |lock: &Bound<'_, PyAny>| match lock.cast::<Lock>() {
            Ok(lock) => Lock::free(lock),
            Err(err) => Err(err.into()),
        }
    } else {
        super::context::call_release
    };
    Exit::make(slf.as_any(), release)
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::unlocked()
    }

    fn __init__(&self) {
        self.locked.set(false);
        self.waited_for.set(false);
        self.waiters.clear();
    }

    /// True if the lock is taken.
    fn locked(&self) -> bool {
        self.locked.get()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let state = if this.locked.get() { "locked" } else { "unlocked" };
        plain_repr(slf.as_any(), state, this.waiters.len(slf.py())?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        let this = slf.get();
        check_idle(slf.as_any(), &this.home, &[&this.waiters])?;
        parts(slf.as_any(), None, &["_locked"], &[])
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
    fn _locked(&self) -> bool {
        self.locked.get()
    }

    #[setter(_locked)]
    fn set_locked(&self, locked: bool) {
        self.locked.set(locked);
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

    fn _wake_up_first(&self, py: Python<'_>) -> PyResult<()> {
        self.wake_first(py)
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
