//! `Task`: drives a coroutine, one `send` a step.
//!
//! Facts: on a loop of ours a task is a job in the ready queue, itself: no handle, no bound method,
//! no Python call between wake-up and `send`. On a foreign loop (any object with `call_soon`) it
//! schedules a callable, as asyncio's does. A step may do anything, also cancel or finish this very
//! task, so nothing is borrowed while the coroutine runs.
//! The path of a coroutine: `Task::start` → ready queue → `step` → `future.rs` → ready queue.
//! Source of behaviour: CPython `Modules/_asynciomodule.c` (`task_step_impl`), `Lib/asyncio/tasks.py`.

use std::cell::Cell;

use oxloop_core::Token;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::{EventLoop, Job};
use crate::ffi::class::Finalize;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Entered, Raised, Ref, Sent, Slot, call, context};
use crate::future::{Callback, Future, State, none};
use crate::handle::is_fatal;
use crate::{current, stdlib};

/// A `Task` of asyncio, native.
#[pyclass(frozen, extends = Future, subclass, module = "oxloop", name = "Task")]
pub struct Task {
    coroutine: Slot,
    context: Slot,
    /// What the task awaits: never empty while it is parked.
    waiter: Slot,
    name: Slot,
    must_cancel: Cell<bool>,
    log_destroy_pending: Cell<bool>,
    cancel_requests: Cell<usize>,
    /// The place in the list of pending tasks that its native loop holds.
    registration: Cell<Option<Token>>,
}

attached_only!(Task, TaskStep, TaskWakeup);
pooled!(Task: Future);

/// How a step is entered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// From the ready queue: the step enters the task's context.
    Plain,
    /// From a callback of a loop that has entered the context already.
    InContext,
    /// Eagerly, from the constructor: the context is entered and the task is current already.
    Eager,
}

impl Task {
    fn bare() -> PyClassInitializer<Self> {
        PyClassInitializer::from(Future::bare(true)).add_subclass(Self::empty())
    }

    fn empty() -> Self {
        Self {
            coroutine: Slot::empty(),
            context: Slot::empty(),
            waiter: Slot::empty(),
            name: Slot::empty(),
            must_cancel: Cell::new(false),
            log_destroy_pending: Cell::new(true),
            cancel_requests: Cell::new(0),
            registration: Cell::new(None),
        }
    }

    /// `loop.create_task(coroutine)` on a native loop in its plain state: nothing but the task.
    #[inline]
    pub fn spawn<'py>(
        home: &Bound<'py, EventLoop>,
        coroutine: &Bound<'py, PyAny>,
        name: Option<&Bound<'py, PyAny>>,
        given_context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        ensure_coroutine(coroutine)?;
        let contents = Self::empty();
        contents.context.set(crate::handle::context_or_copy(py, given_context)?);
        contents.coroutine.set(Ref::from_borrowed(coroutine));
        contents.set_name_or_number(py, name)?;
        let future = Future::pending_on(home, true);
        if home.get().debug() {
            if let Some(stack) = stdlib::capture_source(py)? {
                future.source_traceback().set(Ref::new(stack));
            }
        }
        let task = pool::make_derived(py, future, contents, |future, own| {
            PyClassInitializer::from(future).add_subclass(own)
        })?;
        task.get().begin(&task)?;
        Ok(task)
    }

    /// What `__init__` does.
    fn start(
        slf: &Bound<'_, Self>,
        coroutine: &Bound<'_, PyAny>,
        home: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        given_context: Option<&Bound<'_, PyAny>>,
        eager: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        slf.as_super().get().start(py, home)?;
        if let Err(err) = ensure_coroutine(coroutine) {
            // A task that never was is not worth a report when it goes.
            this.log_destroy_pending.set(false);
            return Err(err);
        }
        let context = match given_context {
            Some(given) if !given.is_none() => {
                if stdlib::at_least(py, 15) && !context::is_context(given) {
                    return Err(PyTypeError::new_err(format!(
                        "'context' must be a contextvars.Context, got {}",
                        given.get_type().name()?
                    )));
                }
                Ref::from_borrowed(given)
            }
            _ => context::copy_current(py)?,
        };
        this.context.set(context);
        this.waiter.clear();
        this.must_cancel.set(false);
        this.log_destroy_pending.set(true);
        this.cancel_requests.set(0);
        this.coroutine.set(Ref::from_borrowed(coroutine));
        this.set_name_or_number(py, name)?;
        if eager {
            let Some(home) = slf.as_super().get().home().bound(py) else { return Ok(()) };
            if home.call_method0(intern!(py, "is_running"))?.is_truthy()? {
                return this.start_eagerly(slf, &home);
            }
        }
        this.begin(slf)
    }

    /// Schedules the first step and makes the task visible to `all_tasks()`.
    #[inline]
    fn begin(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let future = slf.as_super().get();
        if let Some(home) = future.native_home() {
            let native = home.bind_as::<EventLoop>(slf.py()).get();
            native.check_open()?;
            self.registration.set(Some(native.register(Ref::from_borrowed(slf))));
            native.push(Job::Step(Ref::from_borrowed(slf)));
            return Ok(());
        }
        self.schedule_step(slf, None)?;
        self.register(slf)
    }

    /// Makes the task visible to `all_tasks()`.
    fn register(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if let Some(home) = slf.as_super().get().native_home() {
            let native = home.bind_as::<EventLoop>(py).get();
            if self.registration.get().is_none() {
                self.registration.set(Some(native.register(Ref::from_borrowed(slf))));
            }
            return Ok(());
        }
        stdlib::register_task(py)?.call1((slf,))?;
        Ok(())
    }

    /// The task is done: its loop need not hold it any more.
    #[inline]
    fn unregister(&self, slf: &Bound<'_, Self>, home: &Ref) {
        if let Some(token) = self.registration.take() {
            drop(home.bind_as::<EventLoop>(slf.py()).get().unregister(token));
        }
    }

    /// Runs the first step now, inside the caller's (PEP-less, 3.12 `eager_start`).
    fn start_eagerly(&self, slf: &Bound<'_, Self>, home: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(context) = self.context.get() else { return Ok(()) };
        let context = context.into_bound(py);
        self.register(slf)?;
        let run = || -> PyResult<()> {
            let entered = Entered::enter(&context)?;
            let stepped = Self::step(slf, None, Entry::Eager);
            entered.exit()?;
            stepped
        };
        let stepped = match slf.as_super().get().native_home() {
            Some(native) => {
                let native = native.bind_as::<EventLoop>(py).get();
                native.current().nested(home, slf.as_any(), run)?
            }
            None => {
                let outer = current::swap(home, Some(slf.as_any()))?;
                let stepped = run();
                current::swap(home, outer.as_ref().map(|task| task.bind(py)))?;
                stepped
            }
        };
        if slf.as_super().get().is_done() {
            self.coroutine.clear();
        }
        stepped
    }

    fn set_name_or_number(
        &self,
        py: Python<'_>,
        name: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match name {
            Some(name) if !name.is_none() => {
                let name = if name.is_exact_instance_of::<PyString>() {
                    name.clone()
                } else {
                    name.str()?.into_any()
                };
                self.name.set(Ref::new(name));
            }
            // Made when somebody asks.
            _ => self.name.set(Ref::new(next_number(py)?)),
        }
        Ok(())
    }

    /// The context of the task's steps.
    pub fn context(&self, py: Python<'_>) -> PyResult<Ref> {
        match self.context.get() {
            Some(context) => Ok(context),
            None => context::copy_current(py),
        }
    }

    /// Schedules a step, with an exception to throw or without.
    fn schedule_step(&self, slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let py = slf.py();
        let Some(home) = slf.as_super().get().home().get() else { return Ok(()) };
        if slf.as_super().get().is_native() {
            let native = home.bind_as::<EventLoop>(py).get();
            native.check_open()?;
            let task = Ref::from_borrowed(slf);
            native.push(match error {
                None => Job::Step(task),
                Some(error) => Job::StepThrow(Box::new((task, error))),
            });
            return Ok(());
        }
        let step = Bound::new(
            py,
            TaskStep {
                task: Slot::holding(Ref::from_borrowed(slf)),
                error: error.map_or_else(Slot::empty, Slot::holding),
            },
        )?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "context"), self.context(py)?.bind(py))?;
        home.bind(py).call_method(intern!(py, "call_soon"), (step,), Some(&kwargs))?;
        Ok(())
    }

    /// A step that throws `text` as a RuntimeError, soon.
    #[cold]
    fn complain_soon(&self, slf: &Bound<'_, Self>, text: String) -> PyResult<()> {
        let error = PyRuntimeError::new_err(text).into_value(slf.py()).into_bound(slf.py());
        self.schedule_step(slf, Some(Ref::new(error)))
    }

    /// A step from the ready queue.
    #[inline]
    pub fn step_plain(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        Self::step(slf, error, Entry::Plain)
    }

    /// A wakeup from the ready queue.
    #[inline]
    pub fn wake_plain(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::wake(slf, future, Entry::Plain)
    }

    /// A future that a native task awaited is done: throw its exception, or go on.
    #[inline]
    fn wake(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>, entry: Entry) -> PyResult<()> {
        let error = match future.cast::<Future>() {
            Ok(future) => Future::exception_to_throw(future)?,
            Err(_) => match future.call_method0(intern!(slf.py(), "result")) {
                Ok(_) => None,
                Err(err) => Some(Ref::new(err.into_value(slf.py()).into_bound(slf.py()))),
            },
        };
        Self::step(slf, error, entry)
    }

    /// One step: resume the coroutine, with `error` thrown into it or None sent, and act on what
    /// it does.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt of the coroutine, after they were stored in the task.
    fn step(slf: &Bound<'_, Self>, error: Option<Ref>, entry: Entry) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let future = slf.as_super();
        if future.get().state() != State::Pending {
            return Err(already_done(slf, error));
        }
        let error = if this.must_cancel.get() { this.cancelling_error(slf, error)? } else { error };
        this.waiter.clear();
        let Some(coroutine) = this.coroutine.get() else {
            return Err(PyRuntimeError::new_err("uninitialized Task object"));
        };
        let Some(home) = future.get().home().get() else { return Ok(()) };

        let native = future.get().is_native();
        let context = if entry == Entry::Plain { this.context.get() } else { None };
        let sent = {
            let context = context.map(|context| context.into_bound(py));
            let scope = match &context {
                Some(context) => Some(Entered::enter(context)?),
                None => None,
            };
            if native {
                let contents = home.bind_as::<EventLoop>(py).get();
                contents.current().publish(home.bind(py), slf.as_any())?;
            } else if entry != Entry::Eager {
                stdlib::enter_task(py)?.call1((home.bind(py), slf))?;
            }
            let sent = resume(coroutine.bind(py), error);
            if !native && entry != Entry::Eager {
                stdlib::leave_task(py)?.call1((home.bind(py), slf))?;
            }
            if let Some(scope) = scope {
                scope.exit()?;
            }
            sent
        };
        match sent {
            Sent::Yielded(yielded) => this.park(slf, &home, yielded),
            Sent::Returned(value) => this.finish(slf, &home, value),
            Sent::Raised(raised) => this.end(slf, &home, raised),
        }
    }

    /// The step of a cancelled task throws CancelledError, unless one is on its way already.
    #[cold]
    fn cancelling_error(&self, slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<Option<Ref>> {
        let py = slf.py();
        self.must_cancel.set(false);
        if let Some(error) = &error {
            if error.bind(py).is_instance(stdlib::cancelled_error(py)?)? {
                return Ok(Some(error.clone()));
            }
        }
        Ok(Some(Ref::new(slf.as_super().get().make_cancelled_error(py)?)))
    }

    /// The coroutine returned.
    #[inline]
    fn finish(&self, slf: &Bound<'_, Self>, home: &Ref, value: Ref) -> PyResult<()> {
        self.unregister(slf, home);
        if self.must_cancel.replace(false) {
            let message = slf.as_super().get().cancel_message().get();
            Future::cancel_with(slf.as_super(), message)?;
            return Ok(());
        }
        Future::resolve(slf.as_super(), value)
    }

    /// The coroutine raised.
    #[cold]
    fn end(&self, slf: &Bound<'_, Self>, home: &Ref, raised: Raised) -> PyResult<()> {
        let py = slf.py();
        let exception = raised.0;
        let bound = exception.bind(py);
        if bound.is_instance_of::<pyo3::exceptions::PyStopIteration>() {
            // Raised by an awaitable that is no generator: its value is the result.
            let value = bound.getattr(intern!(py, "value"))?;
            return self.finish(slf, home, Ref::new(value));
        }
        self.unregister(slf, home);
        if bound.is_instance(stdlib::cancelled_error(py)?)? {
            slf.as_super().get().set_cancelled_error(exception.clone());
            Future::cancel_with(slf.as_super(), None)?;
            return Ok(());
        }
        let err = PyErr::from_value(bound.clone());
        Future::fail(slf.as_super(), bound)?;
        if is_fatal(py, &err) { Err(err) } else { Ok(()) }
    }


    /// The coroutine yielded: wait for what it yielded, or tell it what is wrong with that.
    #[inline]
    fn park(&self, slf: &Bound<'_, Self>, home: &Ref, yielded: Ref) -> PyResult<()> {
        let py = slf.py();
        let awaited = yielded.bind(py);
        if awaited.is_none() {
            return self.schedule_step(slf, None);
        }
        if awaited.is(slf) {
            return self.complain_soon(slf, format!("Task cannot await on itself: {}", slf.repr()?));
        }
        if let Ok(future) = awaited.cast::<Future>() {
            let contents = future.get();
            if contents.home().as_ptr() != home.as_ptr() {
                return self.complain_foreign(slf, awaited);
            }
            if !contents.take_blocking() {
                return self.complain_not_awaited(slf, awaited);
            }
            let callback = if contents.is_native() {
                Callback::Wake(Ref::from_borrowed(slf))
            } else {
                Callback::Call {
                    function: TaskWakeup::new_object(py, Ref::from_borrowed(slf))?,
                    context: self.context(py)?,
                }
            };
            self.waiter.set(Ref::from_borrowed(awaited));
            if is_plain_future(future) {
                Future::add_callback(future, callback)?;
            } else {
                // A subclass may have its own add_done_callback.
                self.subscribe(slf, awaited)?;
            }
            return self.pass_on_cancel(slf, awaited);
        }
        self.park_on_foreign(slf, home, awaited)
    }

    /// A cancel that came while the step ran goes to what the task now waits for.
    #[inline]
    fn pass_on_cancel(&self, slf: &Bound<'_, Self>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.must_cancel.get() {
            return Ok(());
        }
        if self.cancel_waiter(slf, awaited)? {
            self.must_cancel.set(false);
        }
        Ok(())
    }

    fn cancel_waiter(&self, slf: &Bound<'_, Self>, waiter: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let message = slf.as_super().get().cancel_message().or_none(py);
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "msg"), message)?;
        waiter.call_method(intern!(py, "cancel"), (), Some(&kwargs))?.is_truthy()
    }

    /// `awaited.add_done_callback(wakeup, context=…)`.
    fn subscribe(&self, slf: &Bound<'_, Self>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let wakeup = TaskWakeup::new_object(py, Ref::from_borrowed(slf))?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "context"), self.context(py)?.bind(py))?;
        awaited.call_method(
            intern!(py, "add_done_callback"),
            (wakeup.bind(py),),
            Some(&kwargs),
        )?;
        Ok(())
    }

    /// Futures of others, by the protocol of `_asyncio_future_blocking`; and what is no future.
    #[cold]
    fn park_on_foreign(
        &self,
        slf: &Bound<'_, Self>,
        home: &Ref,
        awaited: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let name = intern!(py, "_asyncio_future_blocking");
        let blocking = match awaited.getattr_opt(name) {
            Ok(blocking) => blocking,
            Err(err) => {
                let error = err.into_value(py).into_bound(py);
                return self.schedule_step(slf, Some(Ref::new(error)));
            }
        };
        let subscribed = (|| -> PyResult<()> {
            match blocking {
                Some(blocking) if !blocking.is_none() => {
                    let owner = match awaited.getattr_opt(intern!(py, "get_loop"))? {
                        Some(get_loop) => get_loop.call0()?,
                        None => awaited.getattr(intern!(py, "_loop"))?,
                    };
                    if !home.is(&owner) {
                        return self.complain_foreign(slf, awaited);
                    }
                    if !blocking.is_truthy()? {
                        return self.complain_not_awaited(slf, awaited);
                    }
                    awaited.setattr(name, false)?;
                    self.subscribe(slf, awaited)?;
                    self.waiter.set(Ref::from_borrowed(awaited));
                    self.pass_on_cancel(slf, awaited)
                }
                _ => {
                    let is_generator = py
                        .import("inspect")?
                        .call_method1("isgenerator", (awaited,))?
                        .is_truthy()?;
                    let text = if is_generator {
                        format!(
                            "yield was used instead of yield from for generator in task {} with {}",
                            slf.repr()?,
                            awaited.repr()?
                        )
                    } else {
                        format!("Task got bad yield: {}", awaited.repr()?)
                    };
                    self.complain_soon(slf, text)
                }
            }
        })();
        match subscribed {
            Ok(()) => Ok(()),
            Err(err) => {
                let error = err.into_value(py).into_bound(py);
                self.schedule_step(slf, Some(Ref::new(error)))
            }
        }
    }

    #[cold]
    fn complain_foreign(&self, slf: &Bound<'_, Self>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
        let text = format!(
            "Task {} got Future {} attached to a different loop",
            slf.repr()?,
            awaited.repr()?
        );
        self.complain_soon(slf, text)
    }

    #[cold]
    fn complain_not_awaited(
        &self,
        slf: &Bound<'_, Self>,
        awaited: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let text = format!(
            "yield was used instead of yield from in task {} with {}",
            slf.repr()?,
            awaited.repr()?
        );
        self.complain_soon(slf, text)
    }

    /// Whether a loop that lets go of its tasks should say that this one was pending.
    pub fn forget_registration(&self) {
        self.registration.set(None);
    }
}

/// `<Future…>` exactly, or an exact `Task`: classes whose methods nobody replaced.
#[inline]
fn is_plain_future(future: &Bound<'_, Future>) -> bool {
    let class = future.get_type();
    class.is(future.py().get_type::<Future>()) || class.is(future.py().get_type::<Task>())
}

/// Sends None into the coroutine, or throws.
#[inline]
fn resume(coroutine: &Bound<'_, PyAny>, error: Option<Ref>) -> Sent {
    let py = coroutine.py();
    match error {
        None => {
            let none = py.None().into_bound(py);
            call::iter_send(coroutine, &none)
        }
        Some(error) => {
            match call::call_method_one(coroutine, intern!(py, "throw"), error.bind(py)) {
                Ok(value) => Sent::Yielded(Ref::new(value)),
                Err(err) => {
                    let raised = Raised::from_err(py, err);
                    // A generator's throw has no `am_send`: a return comes as StopIteration.
                    Sent::Raised(raised)
                }
            }
        }
    }
}

#[cold]
fn already_done(slf: &Bound<'_, Task>, error: Option<Ref>) -> PyErr {
    let py = slf.py();
    let task = slf.repr().map_or_else(|_| "?".into(), |text| text.to_string());
    let error = match error {
        Some(error) => error.bind(py).repr().map_or_else(|_| "?".into(), |text| text.to_string()),
        None => "None".into(),
    };
    stdlib::invalid_state(py, &format!("__step(): already done: {task}, {error}"))
}

/// TypeError unless `object` is a coroutine; types seen before are remembered.
#[inline]
pub fn ensure_coroutine(object: &Bound<'_, PyAny>) -> PyResult<()> {
    static EXACT: PyOnceLock<usize> = PyOnceLock::new();
    let py = object.py();
    let class = object.get_type();
    let exact = *EXACT.get_or_init(py, || {
        py.import("types")
            .and_then(|types| types.getattr("CoroutineType"))
            .map_or(0, |class| class.as_ptr() as usize)
    });
    if class.as_ptr() as usize == exact {
        return Ok(());
    }
    if stdlib::is_coroutine(py)?.call1((object,))?.is_truthy()? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("a coroutine was expected, got {}", object.repr()?)))
}

/// The number of a task without a name: `Task-N` is made when it is asked for.
fn next_number(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(number.into_pyobject(py)?.into_any())
}

#[pymethods]
impl Task {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(coro, *, loop=None, name=None, context=None, eager_start=False)"
    )]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        Self::bare()
    }

    #[pyo3(signature = (coro, *, r#loop = None, name = None, context = None, eager_start = false))]
    fn __init__(
        slf: &Bound<'_, Self>,
        coro: &Bound<'_, PyAny>,
        r#loop: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        eager_start: bool,
    ) -> PyResult<()> {
        Self::start(slf, coro, r#loop, name, context, eager_start)
    }

    /// Request cancellation: CancelledError is raised in the coroutine at its next step.
    ///
    /// Returns False if the task is done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let future = slf.as_super().get();
        if future.state() == State::Bare {
            return Err(PyRuntimeError::new_err("Task object is not initialized."));
        }
        future.silence();
        if future.is_done() {
            return Ok(false);
        }
        this.cancel_requests.set(this.cancel_requests.get() + 1);
        if let Some(waiter) = this.waiter.bound(py) {
            let kwargs = PyDict::new(py);
            kwargs.set_item(intern!(py, "msg"), msg)?;
            if waiter.call_method(intern!(py, "cancel"), (), Some(&kwargs))?.is_truthy()? {
                // The task is woken with CancelledError by what it waited for.
                return Ok(true);
            }
        }
        this.must_cancel.set(true);
        drop(future.cancel_message().replace(msg.map(Ref::from_borrowed)));
        Ok(true)
    }

    /// How many cancellation requests are pending.
    fn cancelling(&self) -> usize {
        self.cancel_requests.get()
    }

    /// Take one cancellation request back; returns how many are left.
    fn uncancel(&self, py: Python<'_>) -> usize {
        let requests = self.cancel_requests.get();
        if requests > 0 {
            self.cancel_requests.set(requests - 1);
            if requests == 1 && stdlib::at_least(py, 13) {
                self.must_cancel.set(false);
            }
        }
        self.cancel_requests.get()
    }

    /// The coroutine; None if it ended in an eager first step.
    fn get_coro<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.coroutine.or_none(py)
    }

    /// The `contextvars.Context` of the task.
    fn get_context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.or_none(py)
    }

    fn get_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(name) = self.name.bound(py) else { return Ok(py.None().into_bound(py)) };
        if let Ok(number) = name.cast_exact::<pyo3::types::PyInt>() {
            let name = PyString::new(py, &format!("Task-{}", number.extract::<u64>()?));
            self.name.set(Ref::from_borrowed(&name));
            return Ok(name.into_any());
        }
        Ok(name)
    }

    #[pyo3(signature = (value, /))]
    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.name.set(Ref::new(value.str()?));
        Ok(())
    }

    /// The frames of the coroutine: of the suspended one, or of the traceback if it failed.
    #[pyo3(signature = (*, limit = None))]
    fn get_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::task_get_stack(slf.py())?.call1((slf, limit))
    }

    /// Print the stack or traceback to `file` (default: stderr).
    #[pyo3(signature = (*, limit = None, file = None))]
    fn print_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<&Bound<'py, PyAny>>,
        file: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::task_print_stack(slf.py())?.call1((slf, limit, file))
    }

    #[pyo3(signature = (result, /))]
    fn set_result(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = result;
        Err(PyRuntimeError::new_err("Task does not support set_result operation"))
    }

    #[pyo3(signature = (exception, /))]
    fn set_exception(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = exception;
        Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        stdlib::task_repr(slf.py())?.call1((slf,))?.extract()
    }

    #[getter]
    fn _coro<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.coroutine.or_none(py)
    }

    /// greenback replaces the coroutine of a running task.
    #[setter]
    fn set__coro(&self, value: &Bound<'_, PyAny>) {
        self.coroutine.set(Ref::from_borrowed(value));
    }

    #[getter]
    fn _fut_waiter<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.waiter.or_none(py)
    }

    #[getter]
    fn _must_cancel(&self) -> bool {
        self.must_cancel.get()
    }

    #[getter]
    fn _log_destroy_pending(&self) -> bool {
        self.log_destroy_pending.get()
    }

    #[setter]
    fn set__log_destroy_pending(&self, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(value) = value else {
            return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
        };
        self.log_destroy_pending.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _num_cancels_requested(&self) -> usize {
        self.cancel_requests.get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.coroutine.traverse(&visit)?;
        self.context.traverse(&visit)?;
        self.waiter.traverse(&visit)?;
        self.name.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts =
            (self.coroutine.take(), self.context.take(), self.waiter.take(), self.name.take());
        drop(parts);
    }
}

impl Finalize for Task {
    #[inline]
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        let future = object.as_super().get();
        future.needs_report()
            || future.state() == State::Pending && object.get().log_destroy_pending.get()
    }

    fn finalize(object: &Bound<'_, Self>) {
        let py = object.py();
        let future = object.as_super().get();
        if future.state() == State::Pending && object.get().log_destroy_pending.get() {
            let report = || -> PyResult<()> {
                let Some(home) = future.home().bound(py) else { return Ok(()) };
                let report = PyDict::new(py);
                report.set_item("task", object)?;
                report.set_item("message", "Task was destroyed but it is pending!")?;
                if let Some(stack) = future.source_traceback().bound(py) {
                    report.set_item("source_traceback", stack)?;
                }
                home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
                Ok(())
            };
            if let Err(err) = report() {
                err.write_unraisable(py, Some(object.as_any()));
            }
        }
        Future::finalize_future(object.as_any(), future);
    }
}

/// `__del__()`: what subclasses inherit of the finalizer.
pub fn del<'py>(slf: &Bound<'py, Task>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect("__del__", 0, 0)?;
    Task::finalize(slf);
    Ok(none(slf.py()))
}

/// The first step of a task, or one that throws, as a callback for foreign loops.
#[pyclass(frozen, weakref, module = "oxloop", name = "TaskStep")]
pub struct TaskStep {
    task: Slot,
    error: Slot,
}

#[pymethods]
impl TaskStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some(task) = self.task.get() else { return Ok(()) };
        Task::step(task.bind_as::<Task>(py), self.error.take(), Entry::InContext)
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.__step"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task.traverse(&visit)?;
        self.error.traverse(&visit)
    }

    fn __clear__(&self) {
        self.task.clear();
        self.error.clear();
    }
}

/// Wakes a task when a future is done: the callback that foreign futures and loops see.
#[pyclass(frozen, weakref, module = "oxloop", name = "TaskWakeup")]
pub struct TaskWakeup {
    task: Slot,
}

impl TaskWakeup {
    pub fn new_object(py: Python<'_>, task: Ref) -> PyResult<Ref> {
        Ok(Ref::new(Bound::new(py, Self { task: Slot::holding(task) })?))
    }

    /// Whether it wakes this task.
    pub fn is_of(&self, task: &Ref) -> bool {
        self.task.as_ptr() == task.as_ptr()
    }
}

#[pymethods]
impl TaskWakeup {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let Some(task) = self.task.get() else { return Ok(()) };
        Task::wake(task.bind_as::<Task>(py), future, Entry::InContext)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<TaskWakeup>().is_ok_and(|other| {
            self.task.is_some() && other.get().task.as_ptr() == self.task.as_ptr()
        })
    }

    fn __hash__(&self) -> u64 {
        self.task.as_ptr() as u64
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.__wakeup"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task.traverse(&visit)
    }

    fn __clear__(&self) {
        self.task.clear();
    }
}
