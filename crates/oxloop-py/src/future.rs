//! `Future`: a result that is not there yet, and the callbacks that wait for it.
//!
//! Facts: any loop may own a future (`asyncio.Future(loop=foreign)`), any task may await one, and
//! libraries read its private attributes. On a loop of ours the usual waiter is one native task.
//! Decision: the first callback has its place in the object, a waiting native task is stored as
//! itself (no wakeup closure), and scheduling pushes a job instead of making a handle. On foreign
//! loops everything goes through `loop.call_soon(callback, future, context=…)`, as asyncio does.
//! A callback list is always detached before any of it is scheduled, compared or dropped.
//! What can still go wrong: `__eq__` of a callback may do anything, also to this very list; see
//! `remove_callback`.
//! Source of behaviour: CPython `Modules/_asynciomodule.c`, `Lib/asyncio/futures.py`.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::{EventLoop, Job};
use crate::ffi::class::{Finalize, Resume};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Raised, Ref, Sent, Slot};
use crate::handle::context_or_copy;
use crate::stdlib;
use crate::task::{Task, TaskWakeup};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// `__init__` has not run.
    Bare,
    Pending,
    Cancelled,
    Finished,
}

/// Who is told when the future is done.
#[derive(Clone)]
pub enum Callback {
    /// A native task that awaits this future, on the same native loop.
    Wake(Ref),
    /// Anybody else: `function(future)`, to be run in `context`.
    Call { function: Ref, context: Ref },
}

/// A `Future` of asyncio, native.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Future")]
pub struct Future {
    state: Cell<State>,
    blocking: Cell<bool>,
    log_traceback: Cell<bool>,
    /// Finished with an exception: `outcome` is the exception.
    failed: Cell<bool>,
    is_task: bool,
    /// The loop is an `EventLoop` of ours whose `call_soon` nobody replaced.
    native: Cell<bool>,
    home: Slot,
    outcome: Slot,
    first: Cell<Option<Callback>>,
    rest: RefCell<Vec<Callback>>,
    cancel_message: Slot,
    cancelled_error: Slot,
    traceback: Slot,
    source_traceback: Slot,
}

attached_only!(Future, FutureIter);
pooled!(Future);
pooled!(FutureIter);

impl Future {
    pub fn bare(is_task: bool) -> Self {
        Self {
            state: Cell::new(State::Bare),
            blocking: Cell::new(false),
            log_traceback: Cell::new(false),
            failed: Cell::new(false),
            is_task,
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
        let is_class = exception
            .cast::<PyType>()
            .is_ok_and(|class| class.is_subclass_of::<pyo3::exceptions::PyBaseException>().unwrap_or(false));
        let instance = if is_class { exception.call0()? } else { exception.clone() };
        // The constructor may have finished this future.
        pending()?;
        if !instance.is_instance_of::<pyo3::exceptions::PyBaseException>() {
            return Err(PyTypeError::new_err("invalid exception object"));
        }
        let instance = replace_stop_iteration(instance)?;
        let traceback = instance.getattr(intern!(py, "__traceback__"))?;
        let old = (
            this.outcome.replace(Some(Ref::new(instance))),
            this.traceback.replace((!traceback.is_none()).then(|| Ref::new(traceback))),
        );
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

    #[inline]
    fn schedule_callbacks(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let Some(first) = this.first.take() else { return Ok(()) };
        let rest = this.rest.take();
        Self::schedule(slf, first)?;
        for callback in rest {
            Self::schedule(slf, callback)?;
        }
        Ok(())
    }

    /// Puts one callback into the loop's queue.
    #[inline]
    fn schedule(slf: &Bound<'_, Self>, callback: Callback) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(home) = this.home.get() else { return Ok(()) };
        if this.native.get() {
            let native = home.bind_as::<EventLoop>(py).get();
            match callback {
                Callback::Wake(task) => {
                    native.check_open()?;
                    native.push(Job::Wakeup(task, Ref::from_borrowed(slf)));
                    return Ok(());
                }
                Callback::Call { function, context } if !native.debug() => {
                    native.check_open()?;
                    native.push(Job::Callback(Box::new((
                        function,
                        Ref::from_borrowed(slf),
                        context,
                    ))));
                    return Ok(());
                }
                Callback::Call { function, context } => {
                    return call_soon(py, home.bind(py), function, slf.as_any(), context);
                }
            }
        }
        match callback {
            Callback::Wake(task) => {
                let context = task.bind_as::<Task>(py).get().context(py)?;
                let wakeup = TaskWakeup::new_object(py, task)?;
                call_soon(py, home.bind(py), wakeup, slf.as_any(), context)
            }
            Callback::Call { function, context } => {
                call_soon(py, home.bind(py), function, slf.as_any(), context)
            }
        }
    }

    /// Adds a callback; schedules it at once if the future is done.
    #[inline]
    pub fn add_callback(slf: &Bound<'_, Self>, callback: Callback) -> PyResult<()> {
        let this = slf.get();
        this.ensure_started()?;
        if this.is_done() {
            return Self::schedule(slf, callback);
        }
        match this.first.take() {
            None => this.first.set(Some(callback)),
            Some(first) => {
                this.first.set(Some(first));
                this.rest.borrow_mut().push(callback);
            }
        }
        Ok(())
    }

    /// A copy of the callbacks, in order.
    fn callbacks(&self) -> Vec<Callback> {
        let Some(first) = self.first.take() else { return Vec::new() };
        let mut all = vec![first.clone()];
        self.first.set(Some(first));
        all.extend(self.rest.borrow().iter().cloned());
        all
    }

    /// Removes every callback equal to `function`; returns how many.
    ///
    /// The comparisons are the user's code: they may add, remove or finish. Each decision is made
    /// on a copy, then exactly the entries found are taken out, by identity, if still there.
    fn remove_callback(slf: &Bound<'_, Self>, function: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = slf.py();
        let this = slf.get();
        this.ensure_started()?;
        let mut removed = 0;
        for callback in this.callbacks() {
            let equal = match &callback {
                Callback::Wake(task) => match function.cast::<TaskWakeup>() {
                    Ok(wakeup) => wakeup.get().is_of(task),
                    Err(_) => false,
                },
                Callback::Call { function: own, .. } => {
                    own.is(function) || own.bind(py).eq(function)?
                }
            };
            if equal && this.discard(&callback) {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Takes one entry with the identity of `callback` out of the list.
    fn discard(&self, callback: &Callback) -> bool {
        let same = |other: &Callback| match (callback, other) {
            (Callback::Wake(a), Callback::Wake(b)) => a.as_ptr() == b.as_ptr(),
            (
                Callback::Call { function: a, context: c },
                Callback::Call { function: b, context: d },
            ) => a.as_ptr() == b.as_ptr() && c.as_ptr() == d.as_ptr(),
            _ => false,
        };
        let Some(first) = self.first.take() else { return false };
        if same(&first) {
            let next = {
                let mut rest = self.rest.borrow_mut();
                if rest.is_empty() { None } else { Some(rest.remove(0)) }
            };
            self.first.set(next);
            drop(first);
            return true;
        }
        self.first.set(Some(first));
        let found = {
            let mut rest = self.rest.borrow_mut();
            rest.iter().position(same).map(|index| rest.remove(index))
        };
        found.is_some()
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
            State::Finished => {
                this.log_traceback.set(false);
                if this.failed.get() {
                    return Err(this.raised(slf.py())?);
                }
                this.outcome.get().ok_or_else(crate::ffi::call::unexplained)
            }
            State::Cancelled => Err(PyErr::from_value(this.make_cancelled_error(slf.py())?)),
            State::Pending => Err(stdlib::invalid_state(slf.py(), "Result is not set.")),
            State::Bare => Err(stdlib::invalid_state(slf.py(), "Future object is not initialized.")),
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
        match Self::outcome(slf) {
            Ok(_) => Ok(None),
            Err(err) => Ok(Some(Ref::new(err.into_value(py).into_bound(py)))),
        }
    }

    /// The stored exception with the traceback it had; later calls do not make it grow.
    fn raised(&self, py: Python<'_>) -> PyResult<PyErr> {
        let exception = self.outcome.get().ok_or_else(crate::ffi::call::unexplained)?;
        let exception = exception.into_bound(py);
        let traceback = match self.traceback.take() {
            Some(traceback) => traceback.into_bound(py),
            None => py.None().into_bound(py),
        };
        exception.setattr(intern!(py, "__traceback__"), traceback)?;
        Ok(PyErr::from_value(exception))
    }

    /// Reports an exception that nobody asked for.
    fn report_unretrieved(slf: &Bound<'_, PyAny>, this: &Self) -> PyResult<()> {
        let py = slf.py();
        this.log_traceback.set(false);
        let Some(home) = this.home.bound(py) else { return Ok(()) };
        let report = PyDict::new(py);
        report.set_item(
            "message",
            format!("{} exception was never retrieved", slf.get_type().name()?),
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
        self.home.traverse(visit)?;
        self.outcome.traverse(visit)?;
        let visit_callback = |callback: &Callback| match callback {
            Callback::Wake(task) => task.traverse(visit),
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
    let replacement = PyRuntimeError::new_err(TEXT).into_value(py).into_bound(py).into_any();
    replacement.setattr(intern!(py, "__cause__"), &exception)?;
    replacement.setattr(intern!(py, "__context__"), exception)?;
    Ok(replacement)
}

/// `home.call_soon(function, argument, context=context)`.
pub fn call_soon(
    py: Python<'_>,
    home: &Bound<'_, PyAny>,
    function: Ref,
    argument: &Bound<'_, PyAny>,
    context: Ref,
) -> PyResult<()> {
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "context"), context.bind(py))?;
    home.call_method(intern!(py, "call_soon"), (function.bind(py), argument), Some(&kwargs))?;
    Ok(())
}

// ------------------------------------------------------------------ hot methods

/// `set_result(result, /)`
pub fn set_result<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("set_result", 0, 1)?;
    let mut value = args.get(0);
    args.keywords("set_result", |name, given| {
        let known = name == "result" && value.is_none();
        if known {
            value = Some(given);
        }
        known
    })?;
    let Some(value) = value else {
        return Err(PyTypeError::new_err("set_result() missing required argument 'result' (pos 1)"));
    };
    Future::resolve(slf, Ref::from_borrowed(value))?;
    Ok(none(slf.py()))
}

/// `result()`
pub fn result<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("result", 0, 0)?;
    Future::outcome(slf)
}

/// `done()`
pub fn done<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("done", 0, 0)?;
    Ok(Ref::new(pyo3::types::PyBool::new(slf.py(), slf.get().is_done()).to_owned()))
}

/// `add_done_callback(fn, /, *, context=None)`
pub fn add_done_callback<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("add_done_callback", 1, 1)?;
    let py = slf.py();
    let mut given = None;
    args.keywords("add_done_callback", |name, value| {
        given = Some(value);
        name == "context"
    })?;
    let Some(function) = args.get(0) else { return Ok(none(py)) };
    slf.get().ensure_started()?;
    let context = context_or_copy(py, given)?;
    let function = Ref::from_borrowed(function);
    Future::add_callback(slf, Callback::Call { function, context })?;
    Ok(none(py))
}

/// `__del__()`: what subclasses inherit of the finalizer.
pub fn del<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("__del__", 0, 0)?;
    Future::finalize(slf);
    Ok(none(slf.py()))
}

pub fn none(py: Python<'_>) -> Ref {
    Ref::new(py.None().into_bound(py))
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, loop=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare(false)
    }

    #[pyo3(signature = (*, r#loop = None))]
    fn __init__(slf: &Bound<'_, Self>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        slf.get().start(slf.py(), r#loop)
    }

    /// The exception of a finished future, or None; CancelledError or InvalidStateError otherwise.
    fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        match this.state.get() {
            State::Bare => Err(stdlib::invalid_state(py, "Future object is not initialized.")),
            State::Cancelled => Err(PyErr::from_value(this.make_cancelled_error(py)?)),
            State::Pending => Err(stdlib::invalid_state(py, "Exception is not set.")),
            State::Finished => {
                this.log_traceback.set(false);
                if !this.failed.get() {
                    return Ok(py.None().into_bound(py));
                }
                let err = this.raised(py)?;
                Ok(err.into_value(py).into_bound(py).into_any())
            }
        }
    }

    /// Finish with an exception, given as an instance or a class.
    #[pyo3(signature = (exception, /))]
    fn set_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::fail(slf, exception)
    }

    /// Remove all callbacks equal to `fn`; returns how many there were.
    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        Self::remove_callback(slf, r#fn)
    }

    /// Cancel the future; False if it is already done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        Self::cancel_with(slf, msg.map(Ref::from_borrowed))
    }

    /// True if the future was cancelled.
    fn cancelled(&self) -> bool {
        self.state.get() == State::Cancelled
    }

    /// The event loop that the future belongs to.
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.home
            .bound(py)
            .ok_or_else(|| PyRuntimeError::new_err("Future object is not initialized."))
    }

    fn _make_cancelled_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.make_cancelled_error(py)
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, FutureIter>> {
        slf.get().ensure_started()?;
        FutureIter::over(slf)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, FutureIter>> {
        Self::__await__(slf)
    }

    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::generic_alias(cls.py())?.call1((cls, item))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        slf.get().ensure_started()?;
        stdlib::future_repr(py)?.call1((slf,))?.extract()
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let own = slf.get_type();
        if own.is(py.get_type::<Future>()) {
            return Ok(stdlib::asyncio_future(py)?.clone());
        }
        if own.is(py.get_type::<Task>()) {
            return Ok(stdlib::asyncio_task(py)?.clone());
        }
        Ok(own.into_any())
    }

    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.state.get() {
            State::Bare => {
                self.ensure_started()?;
                intern!(py, "PENDING").clone()
            }
            State::Pending => intern!(py, "PENDING").clone(),
            State::Cancelled => intern!(py, "CANCELLED").clone(),
            State::Finished => intern!(py, "FINISHED").clone(),
        })
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> PyResult<bool> {
        self.ensure_started()?;
        Ok(self.blocking.get())
    }

    #[setter]
    fn set__asyncio_future_blocking(&self, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.ensure_started()?;
        let Some(value) = value else {
            return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
        };
        self.blocking.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.home.or_none(py))
    }

    #[getter]
    fn _callbacks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        let mut rows = Vec::new();
        for callback in self.callbacks() {
            rows.push(match callback {
                Callback::Wake(task) => {
                    let context = task.bind_as::<Task>(py).get().context(py)?;
                    let wakeup = TaskWakeup::new_object(py, task)?;
                    (wakeup.into_bound(py), context.into_bound(py))
                }
                Callback::Call { function, context } => {
                    (function.into_bound(py), context.into_bound(py))
                }
            });
        }
        if rows.is_empty() {
            return Ok(py.None().into_bound(py));
        }
        Ok(PyList::new(py, rows)?.into_any())
    }

    #[getter]
    fn _result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(if self.failed.get() { py.None().into_bound(py) } else { self.outcome.or_none(py) })
    }

    #[getter]
    fn _exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(if self.failed.get() { self.outcome.or_none(py) } else { py.None().into_bound(py) })
    }

    #[getter]
    fn _log_traceback(&self) -> PyResult<bool> {
        self.ensure_started()?;
        Ok(self.log_traceback.get())
    }

    #[setter]
    fn set__log_traceback(&self, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(value) = value else {
            return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
        };
        if value.is_truthy()? {
            return Err(PyValueError::new_err("_log_traceback can only be set to False"));
        }
        self.log_traceback.set(false);
        Ok(())
    }

    #[getter]
    fn _source_traceback<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.source_traceback.or_none(py))
    }

    #[getter]
    fn _cancel_message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ensure_started()?;
        Ok(self.cancel_message.or_none(py))
    }

    #[setter]
    fn set__cancel_message(&self, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.ensure_started()?;
        let Some(value) = value else {
            return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
        };
        self.cancel_message.set(Ref::from_borrowed(value));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse_future(&visit)
    }

    fn __clear__(&self) {
        self.clear_future();
    }
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

/// The iterator of `await future`: yields the future once, then returns its result.
#[pyclass(frozen, weakref, module = "oxloop", name = "FutureIter")]
pub struct FutureIter {
    future: Slot,
}

impl FutureIter {
    fn over<'py>(future: &Bound<'py, Future>) -> PyResult<Bound<'py, Self>> {
        pool::make(future.py(), Self { future: Slot::holding(Ref::from_borrowed(future)) })
    }
}

impl Resume for FutureIter {
    #[inline]
    fn resume<'py>(object: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> Sent {
        let py = object.py();
        let this = object.get();
        let Some(future) = this.future.get() else { return Sent::Returned(none(py)) };
        let bound = future.bind_as::<Future>(py);
        let contents = bound.get();
        if contents.state.get() == State::Pending {
            if !contents.blocking.replace(true) {
                return Sent::Yielded(future);
            }
            let err = PyRuntimeError::new_err("await wasn't used with future");
            return Sent::Raised(Raised::from_err(py, err));
        }
        this.future.clear();
        match Future::outcome(bound) {
            Ok(value) => Sent::Returned(value),
            Err(err) => Sent::Raised(Raised::from_err(py, err)),
        }
    }
}

#[pymethods]
impl FutureIter {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::send(slf, None)
    }

    /// Resume; the value is ignored.
    #[pyo3(signature = (_value, /))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let none = py.None().into_bound(py);
        match Self::resume(slf, &none) {
            Sent::Yielded(value) => Ok(Some(value.into_bound(py))),
            Sent::Returned(value) => {
                Err(crate::ffi::class::stop_iteration(&value.into_bound(py)))
            }
            Sent::Raised(raised) => Err(raised.into_err(py)),
        }
    }

    /// Give the future up and raise `type` (or the instance given as `type`).
    #[pyo3(signature = (r#type, val = None, tb = None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        r#type: &Bound<'py, PyAny>,
        val: Option<&Bound<'py, PyAny>>,
        tb: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if (val.is_some() || tb.is_some()) && stdlib::at_least(py, 12) {
            let warning = py.get_type::<pyo3::exceptions::PyDeprecationWarning>();
            PyErr::warn(
                py,
                &warning,
                c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
                1,
            )?;
        }
        if let Some(tb) = tb {
            if !tb.is_none() && !tb.is_instance_of::<pyo3::types::PyTraceback>() {
                return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
            }
        }
        let base = py.get_type::<pyo3::exceptions::PyBaseException>();
        let instance = if r#type.is_instance(&base)? {
            if val.is_some_and(|val| !val.is_none()) {
                return Err(PyTypeError::new_err("instance exception may not have a separate value"));
            }
            r#type.clone()
        } else if r#type.cast::<PyType>().is_ok_and(|t| t.is_subclass(&base).unwrap_or(false)) {
            match val {
                Some(val) if !val.is_none() => {
                    if val.is_instance(r#type)? {
                        val.clone()
                    } else if let Ok(args) = val.cast::<PyTuple>() {
                        r#type.call1(args.clone())?
                    } else {
                        r#type.call1((val,))?
                    }
                }
                _ => r#type.call0()?,
            }
        } else {
            return Err(PyTypeError::new_err(format!(
                "exceptions must be classes deriving BaseException or instances of such a class, not {}",
                r#type.get_type().name()?
            )));
        };
        if let Some(tb) = tb {
            if !tb.is_none() {
                instance.setattr(intern!(py, "__traceback__"), tb)?;
            }
        }
        slf.get().future.clear();
        Err(PyErr::from_value(instance))
    }

    fn close(&self) {
        self.future.clear();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.traverse(&visit)
    }

    fn __clear__(&self) {
        self.future.clear();
    }
}
