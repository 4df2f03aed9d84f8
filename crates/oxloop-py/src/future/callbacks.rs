//! Who is told when a future is done: adding, removing and scheduling callbacks.
//!
//! A waiting native task is stored as itself; anybody else is a function and its context. The list
//! is always detached before any of it is scheduled, compared or dropped.
//! What can still go wrong: `__eq__` of a callback may do anything, also to this very list; see
//! `remove_callback`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Future;
use crate::combinators::Listener;
use crate::event_loop::{EventLoop, Job};
use crate::ffi::{Ref, context};
use crate::task::{Task, TaskWakeup};

/// Who is told when the future is done.
#[derive(Clone)]
pub enum Callback {
    /// A native task that awaits this future, on the same native loop.
    Wake(Ref),
    /// A native object that follows the future (`combinators/listener.rs`).
    Tell(Ref),
    /// Anybody else: `function(future)`, to be run in `context`.
    Call { function: Ref, context: Ref },
    /// Nobody is told: it is only known who awaits the future (see `awaited_by.rs`).
    AwaitedBy(Ref),
}

impl Future {
    #[inline]
    pub(super) fn schedule_callbacks(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let Some(first) = this.first.take() else { return Ok(()) };
        let rest = this.rest.take();
        let mut scheduled = Self::schedule(slf, first);
        for callback in rest {
            // One that is refused does not keep the others from being called.
            let next = Self::schedule(slf, callback);
            if scheduled.is_ok() {
                scheduled = next;
            }
        }
        scheduled
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
                    // Told, but not lost: a task that nobody wakes would never end.
                    return native.check_thread(py);
                }
                Callback::Tell(listener) => {
                    native.check_open()?;
                    native.push(Job::Tell(listener, Ref::from_borrowed(slf)));
                    return native.check_thread(py);
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
                Callback::AwaitedBy(_) => return Ok(()),
            }
        }
        match callback {
            Callback::Wake(task) => {
                let context = task.bind_as::<Task>(py).get().context(py)?;
                let wakeup = TaskWakeup::new_object(py, task)?;
                call_soon(py, home.bind(py), wakeup, slf.as_any(), context)
            }
            Callback::Tell(listener) => {
                let context = context::copy_current(py)?;
                let function = Listener::callable(py, listener)?;
                call_soon(py, home.bind(py), function, slf.as_any(), context)
            }
            Callback::Call { function, context } => {
                call_soon(py, home.bind(py), function, slf.as_any(), context)
            }
            Callback::AwaitedBy(_) => Ok(()),
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

    /// The native task that awaits the future, if it was the first to ask.
    pub fn waiting_task(&self) -> Option<Ref> {
        let first = self.first.take();
        let task = match &first {
            Some(Callback::Wake(task)) => Some(task.clone()),
            _ => None,
        };
        self.first.set(first);
        task
    }

    /// A copy of the callbacks, in order.
    pub(super) fn callbacks(&self) -> Vec<Callback> {
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
    pub(super) fn remove_callback(
        slf: &Bound<'_, Self>,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
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
                Callback::Tell(listener) => Listener::is_callable_of(function, listener),
                Callback::Call { function: own, .. } => {
                    own.is(function) || own.bind(py).eq(function)?
                }
                Callback::AwaitedBy(_) => false,
            };
            if equal && this.discard(&callback) {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Takes one entry with the identity of `callback` out of the list.
    pub fn discard(&self, callback: &Callback) -> bool {
        let same = |other: &Callback| match (callback, other) {
            (Callback::Wake(a), Callback::Wake(b))
            | (Callback::Tell(a), Callback::Tell(b))
            | (Callback::AwaitedBy(a), Callback::AwaitedBy(b)) => a.as_ptr() == b.as_ptr(),
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
