//! What a coroutine yielded: wait for it, or tell the coroutine what is wrong with it.
//!
//! A native future of the same loop gets the task itself as its callback. Any other future-like is
//! awaited by the protocol of `_asyncio_future_blocking`. A mistake is thrown into the coroutine at
//! its next step, never raised to the loop.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Task, TaskWakeup};
use crate::combinators::any_future;
use crate::coroutine::plain_future;
use crate::ffi::Ref;
use crate::ffi::error;
use crate::future::{Callback, Future};

impl Task {
    /// The coroutine yielded: wait for what it yielded, or tell it what is wrong with that.
    #[inline]
    pub(super) fn park(&self, slf: &Bound<'_, Self>, home: &Ref, yielded: Ref) -> PyResult<()> {
        let py = slf.py();
        let awaited = yielded.bind(py);
        if awaited.is_none() {
            return self.schedule_step(slf, None);
        }
        if awaited.is(slf) {
            return self
                .complain_soon(slf, format!("Task cannot await on itself: {}", slf.repr()?));
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
            if plain_future(awaited).is_some() {
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
        any_future::cancel_with(waiter, Some(&message))
    }

    /// `awaited.add_done_callback(wakeup, context=…)`.
    fn subscribe(&self, slf: &Bound<'_, Self>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let wakeup = TaskWakeup::new_object(py, Ref::from_borrowed(slf))?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "context"), self.context(py)?.bind(py))?;
        awaited.call_method(intern!(py, "add_done_callback"), (wakeup.bind(py),), Some(&kwargs))?;
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
                let error = error::instance(py, err);
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
                let error = error::instance(py, err);
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
}
