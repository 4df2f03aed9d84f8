//! One step of a task: resume the coroutine once and act on what it did.
//!
//! Here a coroutine runs. Between the ready queue and the coroutine there is its context and the
//! published current task, nothing else.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyNone;

use super::{Entry, Task};
use crate::coroutine::plain_future;
use crate::event_loop::EventLoop;
use crate::ffi::error;
use crate::ffi::{Entered, Raised, Ref, Sent, call};
use crate::future::{Future, State};
use crate::handle::is_fatal;
use crate::stdlib;

/// What follows a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The coroutine gave way by a bare `yield`: to the end of the ready queue, without further
    /// ado. Whoever took the task out of the queue still holds it, and puts it back.
    Again,
    /// The task waits, or is done; all that follows is arranged.
    Settled,
}

impl Task {
    /// A step from the ready queue.
    #[inline]
    pub fn step_plain(slf: &Bound<'_, Self>, running: &Ref, error: Option<Ref>) -> PyResult<Next> {
        Self::step(slf, error, Entry::Plain { running })
    }

    /// A wakeup from the ready queue.
    #[inline]
    pub fn wake_plain(
        slf: &Bound<'_, Self>,
        running: &Ref,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<Next> {
        Self::wake(slf, future, Entry::Plain { running })
    }

    /// A step of a task that nobody took out of the ready queue.
    pub(super) fn step_from_outside(
        slf: &Bound<'_, Self>,
        error: Option<Ref>,
        entry: Entry<'_>,
    ) -> PyResult<()> {
        let step = || Self::step(slf, error, entry);
        let next = match entry {
            Entry::InContext => Self::current_within(slf, step)?,
            Entry::Plain { .. } | Entry::Eager => step()?,
        };
        slf.get().follow(slf, next)
    }

    /// A wakeup of a task by a callback.
    pub(super) fn wake_from_outside(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let next = Self::current_within(slf, || Self::wake(slf, future, Entry::InContext))?;
        slf.get().follow(slf, next)
    }

    /// A step within somebody else's call; on a loop of ours the current task is restored after.
    fn current_within(
        slf: &Bound<'_, Self>,
        step: impl FnOnce() -> PyResult<Next>,
    ) -> PyResult<Next> {
        let py = slf.py();
        match slf.as_super().get().native_home() {
            None => step(),
            Some(home) => {
                let native = home.bind_as::<EventLoop>(py).get();
                native.current().within(home.bind(py), step)
            }
        }
    }

    fn follow(&self, slf: &Bound<'_, Self>, next: Next) -> PyResult<()> {
        match next {
            Next::Again => self.schedule_step(slf, None),
            Next::Settled => Ok(()),
        }
    }

    /// A future that a native task awaited is done: throw its exception, or go on.
    #[inline]
    fn wake(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>, entry: Entry<'_>) -> PyResult<Next> {
        // A subclass may have a `result` of its own, whose error is thrown, as asyncio does.
        let error = match plain_future(future) {
            Some(future) => Future::exception_to_throw(future)?,
            None => match future.call_method0(intern!(slf.py(), "result")) {
                Ok(_) => None,
                Err(err) => Some(Ref::new(error::instance(slf.py(), err))),
            },
        };
        Self::step(slf, error, entry)
    }

    /// One step: resume the coroutine, with `error` thrown into it or None sent, and act on what
    /// it does.
    ///
    /// # Errors
    /// SystemExit and KeyboardInterrupt of the coroutine, after they were stored in the task.
    fn step(slf: &Bound<'_, Self>, error: Option<Ref>, entry: Entry<'_>) -> PyResult<Next> {
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
        let own_home;
        let home = match entry {
            Entry::Plain { running } if future.get().home().as_ptr() == running.as_ptr() => running,
            _ => {
                own_home = future.get().home().get();
                match &own_home {
                    Some(home) => home,
                    None => return Ok(Next::Settled),
                }
            }
        };

        let native = future.get().is_native();
        let scope = match entry {
            Entry::Plain { .. } => {
                let context = this.context.get();
                context.map(|context| Entered::enter_owned(py, context)).transpose()?
            }
            Entry::InContext | Entry::Eager => None,
        };
        if native {
            let contents = home.bind_as::<EventLoop>(py).get();
            contents.current().publish(home.bind(py), slf.as_any())?;
        } else if !matches!(entry, Entry::Eager) {
            stdlib::enter_task(py)?.call1((home.bind(py), slf))?;
        }
        let sent = resume(coroutine.bind(py), error);
        if !native && !matches!(entry, Entry::Eager) {
            stdlib::leave_task(py)?.call1((home.bind(py), slf))?;
        }
        if let Some(scope) = scope {
            scope.exit()?;
        }
        match sent {
            Sent::Yielded(yielded) if native && yielded.bind(py).is_none() => {
                return Ok(Next::Again);
            }
            Sent::Yielded(yielded) => this.park(slf, home, yielded),
            Sent::Returned(value) => this.finish(slf, home, value),
            Sent::Raised(raised) => this.end(slf, home, raised),
        }
        .map(|()| Next::Settled)
    }

    /// The step of a cancelled task throws CancelledError, unless one is on its way already.
    #[cold]
    fn cancelling_error(&self, slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<Option<Ref>> {
        let py = slf.py();
        self.must_cancel.set(false);
        if let Some(error) = &error {
            if call::has_type(error.bind(py), stdlib::cancelled_error(py)?) {
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
        if call::has_type(bound, stdlib::cancelled_error(py)?) {
            slf.as_super().get().set_cancelled_error(exception.clone());
            Future::cancel_with(slf.as_super(), None)?;
            return Ok(());
        }
        let err = PyErr::from_value(bound.clone());
        if let Err(refused) = Future::fail(slf.as_super(), bound) {
            if slf.as_super().get().state() != State::Pending {
                return Err(refused);
            }
            // What cannot be stored ends the task all the same: nobody may wait for ever.
            let refused = error::instance(py, refused);
            Future::fail(slf.as_super(), refused.as_any())?;
        }
        if is_fatal(py, &err) { Err(err) } else { Ok(()) }
    }
}

/// Sends None into the coroutine, or throws.
#[inline]
fn resume(coroutine: &Bound<'_, PyAny>, error: Option<Ref>) -> Sent {
    let py = coroutine.py();
    match error {
        None => call::iter_send(coroutine, &PyNone::get(py)),
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
