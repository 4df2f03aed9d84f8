//! `Task`: drives a coroutine, one `send` a step.
//!
//! | file          | subject                                            |
//! |---------------|----------------------------------------------------|
//! | `mod.rs`      | making a task, its first step, its registration     |
//! | `step.rs`     | one step: resume the coroutine, act on the outcome  |
//! | `park.rs`     | what the coroutine awaits                           |
//! | `callable.rs` | steps and wakeups for foreign loops and futures     |
//! | `methods.rs`  | methods and attributes as Python sees them          |
//!
//! Facts: on a loop of ours a task is a job in the ready queue, itself: no handle, no bound method,
//! no Python call between wake-up and `send`. On a foreign loop (any object with `call_soon`) it
//! schedules a callable, as asyncio's does. A step may do anything, also cancel or finish this very
//! task, so nothing is borrowed while the coroutine runs.
//! Source of behaviour: CPython `Modules/_asynciomodule.c` (`task_step_impl`), `Lib/asyncio/tasks.py`.

mod callable;
mod methods;
mod park;
mod step;

use std::cell::Cell;

use oxloop_core::Token;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::coroutine::is_plain_coroutine;
use crate::event_loop::{EventLoop, Job};
use crate::ffi::call::Recursion;
use crate::ffi::class::Finalize;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Entered, Ref, Slot, context};
use crate::future::{Future, State};
use crate::{current, stdlib};
pub use callable::{TaskStep, TaskWakeup};
pub use methods::del;
pub use step::Next;

/// A `Task` of asyncio, native.
#[pyclass(frozen, extends = Future, subclass, module = "oxloop", name = "Task")]
#[repr(C)]
pub struct Task {
    // In the order in which a step looks at them.
    must_cancel: Cell<bool>,
    log_destroy_pending: Cell<bool>,
    /// What the task awaits: never empty while it is parked.
    waiter: Slot,
    coroutine: Slot,
    context: Slot,
    // The rest.
    name: Slot,
    cancel_requests: Cell<usize>,
    /// The place in the list of pending tasks that a native loop holds.
    registration: Cell<Option<Registration>>,
}

attached_only!(Task);
pooled!(Task: Future);

/// Where a task is held while it is pending: the loop, by address, and the place in its list.
///
/// The address is only compared, with the loop that the caller has in hand.
#[derive(Clone, Copy)]
struct Registration {
    home: usize,
    token: Token,
}

/// How a step is entered.
#[derive(Clone, Copy)]
enum Entry<'a> {
    /// From the ready queue of the loop that runs: the step enters the task's context.
    Plain { running: &'a Ref },
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
        Future::check_not_started(slf.as_super())?;
        if let Some(old_home) = slf.as_super().get().home().get() {
            // A second __init__ starts over, up to 3.14.
            this.unregister(slf, &old_home);
        }
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
            native.check_may_schedule(slf.py())?;
            self.hold_by(slf, &home, native);
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
                self.hold_by(slf, &home, native);
            }
            return Ok(());
        }
        stdlib::register_task(py)?.call1((slf,))?;
        Ok(())
    }

    /// The task is done, or begins anew: its loop need not hold it any more.
    #[inline]
    fn unregister(&self, slf: &Bound<'_, Self>, home: &Ref) {
        let Some(registration) = self.registration.take() else { return };
        if registration.home != home.as_ptr() as usize {
            // Initialised anew meanwhile, on another loop: that one's place is not ours to take.
            self.registration.set(Some(registration));
            return;
        }
        if let Ok(native) = home.bind(slf.py()).cast::<EventLoop>() {
            drop(native.get().unregister(registration.token));
        }
    }

    /// Remembers the place in the list of `native`, a loop of ours.
    fn hold_by(&self, slf: &Bound<'_, Self>, home: &Ref, native: &EventLoop) {
        let token = native.register(Ref::from_borrowed(slf));
        self.registration.set(Some(Registration { home: home.as_ptr() as usize, token }));
    }

    /// Runs the first step now, inside the caller's (PEP-less, 3.12 `eager_start`).
    fn start_eagerly(&self, slf: &Bound<'_, Self>, home: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(context) = self.context.get() else { return Ok(()) };
        let context = context.into_bound(py);
        let began = Cell::new(false);
        let run = || -> PyResult<()> {
            let entered = Entered::enter(&context)?;
            began.set(true);
            let stepped = Self::step_from_outside(slf, None, Entry::Eager);
            entered.exit()?;
            stepped
        };
        let start = || -> PyResult<()> {
            let _depth = Recursion::enter(py, c" while starting a task eagerly")?;
            self.register(slf)?;
            match slf.as_super().get().native_home() {
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
            }
        };
        let started = start();
        if slf.as_super().get().is_done() {
            self.coroutine.clear();
        } else if !began.get() || (started.is_err() && !self.waiter.is_some()) {
            // Refused before its first step, or before the coroutine began in it (no stack is left,
            // for one): a task that never was.
            self.unregister(slf, &Ref::from_borrowed(home));
            self.log_destroy_pending.set(false);
        }
        started
    }

    fn set_name_or_number(&self, py: Python<'_>, name: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
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

    /// Whether a cancellation was requested that the coroutine has not been given yet.
    pub fn must_cancel(&self) -> bool {
        self.must_cancel.get()
    }

    /// The future that the task waits for.
    pub fn awaited(&self) -> Option<Ref> {
        self.waiter.get()
    }

    /// Nobody need be told if the task dies pending.
    pub fn forget(&self) {
        self.log_destroy_pending.set(false);
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
            native.check_may_schedule(py)?;
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
        let error = error::instance(slf.py(), PyRuntimeError::new_err(text));
        self.schedule_step(slf, Some(Ref::new(error)))
    }
}

/// TypeError unless `object` is a coroutine.
#[inline]
pub fn ensure_coroutine(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    if is_plain_coroutine(object) {
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
