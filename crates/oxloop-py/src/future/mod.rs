//! `Future`: a result that is not there yet, and the callbacks that wait for it.
//!
//! | file           | subject                                        |
//! |----------------|------------------------------------------------|
//! | `mod.rs`       | the state: pending, cancelled, finished         |
//! | `callbacks.rs` | who is told when it is done                     |
//! | `awaited_by.rs`| who awaits it, for call graphs                  |
//! | `iter.rs`      | `await future`                                  |
//! | `methods.rs`   | methods and attributes as Python sees them      |
//!
//! Facts: any loop may own a future (`asyncio.Future(loop=foreign)`), any task may await one, and
//! libraries read its private attributes. On a loop of ours the usual waiter is one native task.
//! Decision: the first callback has its place in the object, and scheduling on a loop of ours pushes
//! a job instead of making a handle. On foreign loops everything goes through
//! `loop.call_soon(callback, future, context=…)`, as asyncio does.
//! Source of behaviour: CPython `Modules/_asynciomodule.c`, `Lib/asyncio/futures.py`.

mod awaited_by;
mod callbacks;
mod iter;
mod methods;

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::EventLoop;
use crate::ffi::class::Finalize;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::pool::pooled;
use crate::ffi::{Ref, Slot, call};
use crate::stdlib;
pub use awaited_by::{future_add_to_awaited_by, future_discard_from_awaited_by};
pub use callbacks::Callback;
pub use iter::FutureIter;
pub use methods::{add_done_callback, del, done, result, set_result};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// `__init__` has not run.
    Bare,
    Pending,
    Cancelled,
    Finished,
}

/// A `Future` of asyncio, native.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Future")]
#[repr(C)]
pub struct Future {
    // What a step of a waiting task does not look at.
    rest: RefCell<Vec<Callback>>,
    cancel_message: Slot,
    cancelled_error: Slot,
    traceback: Slot,
    source_traceback: Slot,
    first: Cell<Option<Callback>>,
    outcome: Slot,
    // What it does: kept together, next to the fields of a task, which follow in memory.
    home: Slot,
    state: Cell<State>,
    /// The loop is an `EventLoop` of ours whose `call_soon` nobody replaced.
    native: Cell<bool>,
    blocking: Cell<bool>,
    log_traceback: Cell<bool>,
    /// Finished with an exception: `outcome` is the exception.
    failed: Cell<bool>,
    is_task: bool,
    /// Always true. False in memory that was allocated and not filled yet: to make the instance's
    /// `__dict__` may start the collector, which looks at the memory already (Python 3.11).
    is_filled: bool,
}

attached_only!(Future);
pooled!(Future);

impl Future {
    pub fn bare(is_task: bool) -> Self {
        Self {
            state: Cell::new(State::Bare),
            blocking: Cell::new(false),
            log_traceback: Cell::new(false),
            failed: Cell::new(false),
            is_task,
            is_filled: true,
            native: Cell::new(false),
            home: Slot::empty(),
            outcome: Slot::empty(),
            first: Cell::new(None),
            rest: RefCell::new(Vec::new()),
            cancel_message: Slot::empty(),
            cancelled_error: Slot::empty(),
            traceback: Slot::empty(),
            source_traceback: Slot::empty(),
        }
    }

    /// A pending future of `home`, a native loop that is not in debug mode.
    #[inline]
    pub fn pending_on(home: &Bound<'_, EventLoop>, is_task: bool) -> Self {
        let future = Self::bare(is_task);
        future.state.set(State::Pending);
        future.native.set(home.get().is_plain());
        drop(future.home.replace(Some(Ref::from_borrowed(home))));
        future
    }

    /// Since 3.15, `__init__` serves once.
    pub fn check_not_started(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().state.get() == State::Bare || !stdlib::at_least(slf.py(), 15) {
            return Ok(());
        }
        let class = slf.get_type().name()?.to_string();
        Err(PyRuntimeError::new_err(format!("{class} object is already initialized")))
    }

    /// What `__init__` does: take `home`, or the current loop when it is None.
    pub fn start(&self, py: Python<'_>, home: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let home = match home {
            Some(home) if !home.is_none() => home.clone(),
            _ => stdlib::get_event_loop(py)?.call0()?,
        };
        let (plain, debug) = match home.cast::<EventLoop>() {
            Ok(native) => (native.get().is_plain(), native.get().debug()),
            Err(_) => (false, home.call_method0(intern!(py, "get_debug"))?.is_truthy()?),
        };
        let source = if debug { stdlib::capture_source(py)? } else { None };
        // A second __init__ starts over, as in CPython before 3.15.
        self.state.set(State::Pending);
        self.blocking.set(false);
        self.log_traceback.set(false);
        self.failed.set(false);
        self.native.set(plain);
        let old = (
            self.first.take(),
            self.rest.take(),
            self.outcome.take(),
            self.cancel_message.take(),
            self.cancelled_error.take(),
            self.traceback.take(),
            self.source_traceback.replace(source.map(Ref::new)),
            self.home.replace(Some(Ref::new(home))),
        );
        drop(old);
        Ok(())
    }

    #[inline]
    pub fn state(&self) -> State {
        self.state.get()
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        matches!(self.state.get(), State::Cancelled | State::Finished)
    }

    #[inline]
    pub fn home(&self) -> &Slot {
        &self.home
    }

    /// The native loop of this future, if nothing stands between it and its ready queue.
    #[inline]
    pub fn native_home(&self) -> Option<Ref> {
        if self.native.get() { self.home.get() } else { None }
    }

    #[inline]
    pub fn is_native(&self) -> bool {
        self.native.get()
    }

    /// Reads and resets `_asyncio_future_blocking`.
    #[inline]
    pub fn take_blocking(&self) -> bool {
        self.blocking.replace(false)
    }

    /// Finished with a result.
    #[inline]
    pub fn has_value(&self) -> bool {
        self.state.get() == State::Finished && !self.failed.get()
    }

    /// Sets `_asyncio_future_blocking`: the future is about to be yielded to its task.
    #[inline]
    pub fn set_blocking(&self) {
        self.blocking.set(true);
    }

    /// Nobody wants to hear of the exception any more.
    pub fn silence(&self) {
        self.log_traceback.set(false);
    }

    pub fn source_traceback(&self) -> &Slot {
        &self.source_traceback
    }

    pub fn cancel_message(&self) -> &Slot {
        &self.cancel_message
    }

    pub fn set_cancelled_error(&self, error: Ref) {
        self.cancelled_error.set(error);
    }

    fn ensure_started(&self) -> PyResult<()> {
        if self.state.get() == State::Bare {
            return Err(PyRuntimeError::new_err(format!(
                "{} object is not initialized.",
                if self.is_task { "Task" } else { "Future" }
            )));
        }
        Ok(())
    }

    /// Stores a result and schedules the callbacks.
    #[inline]
    pub fn resolve(slf: &Bound<'_, Self>, value: Ref) -> PyResult<()> {
        let this = slf.get();
        this.ensure_started()?;
        if this.state.get() != State::Pending {
            return Err(stdlib::invalid_state(slf.py(), "invalid state"));
        }
        let old = this.outcome.replace(Some(value));
        this.state.set(State::Finished);
        drop(old);
        Self::schedule_callbacks(slf)
    }

    /// Stores an exception, given as an instance or a class, and schedules the callbacks.
    pub fn fail(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.ensure_started()?;
        let pending = || match this.state.get() {
            State::Pending => Ok(()),
            _ => Err(stdlib::invalid_state(py, "invalid state")),
        };
        pending()?;
        let is_class = exception.cast::<PyType>().is_ok_and(|class| {
            class.is_subclass_of::<pyo3::exceptions::PyBaseException>().unwrap_or(false)
        });
        let instance = if is_class { exception.call0()? } else { exception.clone() };
        // The constructor may have finished this future.
        pending()?;
        if !instance.is_instance_of::<pyo3::exceptions::PyBaseException>() {
            return Err(PyTypeError::new_err("invalid exception object"));
        }
        let instance = replace_stop_iteration(instance)?;
        let traceback = call::traceback_of(&instance);
        let old =
            (this.outcome.replace(Some(Ref::new(instance))), this.traceback.replace(traceback));
        this.failed.set(true);
        this.state.set(State::Finished);
        drop(old);
        Self::schedule_callbacks(slf)?;
        this.log_traceback.set(true);
        Ok(())
    }

    /// Marks the future cancelled with `message` and schedules the callbacks; false if done.
    pub fn cancel_with(slf: &Bound<'_, Self>, message: Option<Ref>) -> PyResult<bool> {
        let this = slf.get();
        this.ensure_started()?;
        this.log_traceback.set(false);
        if this.state.get() != State::Pending {
            return Ok(false);
        }
        this.state.set(State::Cancelled);
        drop(this.cancel_message.replace(message));
        Self::schedule_callbacks(slf)?;
        Ok(true)
    }

    /// The error of a cancelled future: the one that came through, once, then new ones.
    pub fn make_cancelled_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(error) = self.cancelled_error.take() {
            return Ok(error.into_bound(py));
        }
        match self.cancel_message.bound(py) {
            Some(message) if !message.is_none() => stdlib::cancelled_error(py)?.call1((message,)),
            _ => stdlib::cancelled_error(py)?.call0(),
        }
    }

    /// `result()`: the value, or the error to raise.
    #[inline]
    pub fn outcome(slf: &Bound<'_, Self>) -> PyResult<Ref> {
        let this = slf.get();
        match this.state.get() {
            State::Finished if !this.failed.get() => {
                this.log_traceback.set(false);
                this.outcome.get().ok_or_else(call::unexplained)
            }
            State::Finished | State::Cancelled => Err(error::raised(&this.failure(slf.py())?)),
            State::Pending => Err(stdlib::invalid_state(slf.py(), "Result is not set.")),
            State::Bare => {
                Err(stdlib::invalid_state(slf.py(), "Future object is not initialized."))
            }
        }
    }

    /// For a waiting task: the exception to throw, if any; marks the outcome as retrieved.
    #[inline]
    pub fn exception_to_throw(slf: &Bound<'_, Self>) -> PyResult<Option<Ref>> {
        let this = slf.get();
        if this.state.get() == State::Finished && !this.failed.get() {
            return Ok(None);
        }
        let py = slf.py();
        if this.is_done() {
            return Ok(Some(Ref::new(this.failure(py)?)));
        }
        match Self::outcome(slf) {
            Ok(_) => Ok(None),
            Err(err) => Ok(Some(Ref::new(error::instance(py, err)))),
        }
    }

    /// What a future that failed or was cancelled raises: a CancelledError, or the stored exception
    /// with the traceback it had, which later calls do not make grow.
    fn failure<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.state.get() == State::Cancelled {
            return self.make_cancelled_error(py);
        }
        self.log_traceback.set(false);
        let exception = self.outcome.get().ok_or_else(call::unexplained)?.into_bound(py);
        let traceback = self.traceback.take();
        call::set_traceback(&exception, traceback.as_ref())?;
        Ok(exception)
    }

    /// Reports an exception that nobody asked for.
    fn report_unretrieved(slf: &Bound<'_, PyAny>, this: &Self) -> PyResult<()> {
        let py = slf.py();
        this.log_traceback.set(false);
        let Some(home) = this.home.bound(py) else { return Ok(()) };
        let class = slf.getattr(intern!(py, "__class__"))?;
        let report = PyDict::new(py);
        report.set_item(
            "message",
            format!("{} exception was never retrieved", class.getattr(intern!(py, "__name__"))?),
        )?;
        report.set_item("exception", this.outcome.or_none(py))?;
        report.set_item("future", slf)?;
        if let Some(stack) = this.source_traceback.bound(py) {
            report.set_item("source_traceback", stack)?;
        }
        home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
        Ok(())
    }

    pub fn needs_report(&self) -> bool {
        self.log_traceback.get()
    }

    /// The finalizer of futures and tasks.
    pub fn finalize_future(slf: &Bound<'_, PyAny>, this: &Self) {
        if this.log_traceback.get() {
            if let Err(err) = Self::report_unretrieved(slf, this) {
                err.write_unraisable(slf.py(), Some(slf));
            }
        }
    }

    pub fn traverse_future(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.is_filled {
            return Ok(());
        }
        self.home.traverse(visit)?;
        self.outcome.traverse(visit)?;
        let visit_callback = |callback: &Callback| match callback {
            Callback::Wake(object) | Callback::Tell(object) | Callback::AwaitedBy(object) => {
                object.traverse(visit)
            }
            Callback::Call { function, context } => {
                function.traverse(visit)?;
                context.traverse(visit)
            }
        };
        if let Some(first) = self.first.take() {
            let visited = visit_callback(&first);
            self.first.set(Some(first));
            visited?;
        }
        if let Ok(rest) = self.rest.try_borrow() {
            rest.iter().try_for_each(visit_callback)?;
        }
        self.cancel_message.traverse(visit)?;
        self.cancelled_error.traverse(visit)?;
        self.traceback.traverse(visit)?;
        self.source_traceback.traverse(visit)
    }

    pub fn clear_future(&self) {
        let parts = (
            self.first.take(),
            self.rest.take(),
            self.outcome.take(),
            self.cancel_message.take(),
            self.cancelled_error.take(),
            self.traceback.take(),
            self.source_traceback.take(),
            self.home.take(),
        );
        self.native.set(false);
        drop(parts);
    }
}

/// StopIteration cannot be raised into a coroutine: it becomes a RuntimeError (TypeError ≤ 3.12).
fn replace_stop_iteration(exception: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    const TEXT: &str =
        "StopIteration interacts badly with generators and cannot be raised into a Future";
    let py = exception.py();
    if !exception.is_instance_of::<PyStopIteration>() {
        return Ok(exception);
    }
    if !stdlib::at_least(py, 13) {
        return if exception.get_type().is(py.get_type::<PyStopIteration>()) {
            Err(PyTypeError::new_err(TEXT))
        } else {
            Ok(exception)
        };
    }
    let replacement = error::instance(py, PyRuntimeError::new_err(TEXT)).into_any();
    replacement.setattr(intern!(py, "__cause__"), &exception)?;
    replacement.setattr(intern!(py, "__context__"), exception)?;
    Ok(replacement)
}

pub fn none(py: Python<'_>) -> Ref {
    Ref::new(py.None().into_bound(py))
}

impl Finalize for Future {
    #[inline]
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.get().log_traceback.get()
    }

    fn finalize(object: &Bound<'_, Self>) {
        Self::finalize_future(object.as_any(), object.get());
    }
}
