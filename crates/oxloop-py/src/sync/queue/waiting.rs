//! `put`, `get` and `join`: a queue's coroutines.
//!
//! Each looks, waits and looks again. Most of the time the first look is enough: nothing suspends,
//! and no future is made.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{Queue, raise};
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::{Ref, Slot};
use crate::future::none;
use crate::stdlib;
use crate::sync::waiters::{self, WaitList};

/// `Queue.put(item)`
pub(super) struct Put {
    pub queue: Ref,
    pub item: Ref,
    pub waiter: Slot,
}

/// `Queue.get()`
pub(super) struct Get {
    pub queue: Ref,
    pub waiter: Slot,
}

/// `Queue.join()`
pub(super) struct Join {
    pub queue: Ref,
}

/// Queues up in `list`; returns the future to await.
fn wait_in(queue: &Bound<'_, Queue>, list: &WaitList, place: &Slot) -> PyResult<Progress> {
    let waiter = queue.get().home.new_waiter(queue.as_any())?;
    list.push(queue.py(), waiter.clone())?;
    place.set(waiter.clone());
    Ok(Progress::Await(waiter))
}

/// A wait that failed: leaves the list, and passes a wake-up on that it cannot use.
#[cold]
fn give_up(
    py: Python<'_>,
    list: &WaitList,
    waiter: Option<Ref>,
    useful: impl FnOnce() -> PyResult<bool>,
) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    waiters::cancel(py, &waiter)?;
    list.remove(py, &waiter)?;
    if useful()? && !waiters::is_cancelled(py, &waiter)? {
        list.pop_and_wake(py)?;
    }
    Ok(())
}

impl Body for Put {
    fn qualified_name(&self) -> &'static str {
        "Queue.put"
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let queue = self.queue.bind_as::<Queue>(py);
        if Queue::is_full(queue)? {
            if queue.get().shut_down.get() {
                return Err(raise(stdlib::queue_shut_down(py)));
            }
            return wait_in(queue, &queue.get().putters, &self.waiter);
        }
        Queue::put_through(queue, self.item.bind(py)).map(Progress::Return)
    }

    #[inline]
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let waiter = self.waiter.take();
        if let Err(err) = outcome {
            let queue = self.queue.bind_as::<Queue>(py);
            give_up(py, &queue.get().putters, waiter, || Queue::is_full(queue).map(|full| !full))?;
            return Err(err);
        }
        self.begin(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.queue.traverse(visit)?;
        self.item.traverse(visit)?;
        self.waiter.traverse(visit)
    }
}

impl Body for Get {
    fn qualified_name(&self) -> &'static str {
        "Queue.get"
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let queue = self.queue.bind_as::<Queue>(py);
        if Queue::is_empty(queue)? {
            if queue.get().shut_down.get() {
                return Err(raise(stdlib::queue_shut_down(py)));
            }
            return wait_in(queue, &queue.get().getters, &self.waiter);
        }
        Queue::get_through(queue).map(Progress::Return)
    }

    #[inline]
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let waiter = self.waiter.take();
        if let Err(err) = outcome {
            let queue = self.queue.bind_as::<Queue>(py);
            give_up(py, &queue.get().getters, waiter, || {
                Queue::is_empty(queue).map(|empty| !empty)
            })?;
            return Err(err);
        }
        self.begin(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.queue.traverse(visit)?;
        self.waiter.traverse(visit)
    }
}

impl Body for Join {
    fn qualified_name(&self) -> &'static str {
        "Queue.join"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let queue = self.queue.bind_as::<Queue>(py).get();
        if queue.unfinished.get() <= 0 {
            return Ok(Progress::Return(none(py)));
        }
        let event = queue.all_done_event(py)?;
        Ok(Progress::Await(crate::sync::event::waiting(&event)?))
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome?;
        Ok(Progress::Return(none(py)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.queue.traverse(visit)
    }
}

pub(super) fn putting(queue: &Bound<'_, Queue>, item: &Bound<'_, PyAny>) -> PyResult<Ref> {
    let body = Put {
        queue: Ref::from_borrowed(queue),
        item: Ref::from_borrowed(item),
        waiter: Slot::empty(),
    };
    Coroutine::make(queue.py(), body)
}

pub(super) fn getting(queue: &Bound<'_, Queue>) -> PyResult<Ref> {
    let body = Get { queue: Ref::from_borrowed(queue), waiter: Slot::empty() };
    Coroutine::make(queue.py(), body)
}

pub(super) fn joining(queue: &Bound<'_, Queue>) -> PyResult<Ref> {
    Coroutine::make(queue.py(), Join { queue: Ref::from_borrowed(queue) })
}
