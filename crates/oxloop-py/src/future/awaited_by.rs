//! Who awaits a future: the edges of asyncio's call graphs (3.14).
//!
//! Facts: asyncio's own futures keep a set of the tasks that await them; a task enters itself at
//! each await, and `gather`, `wait`, `shield` and TaskGroup enter the task that they wait for. The
//! set is read by `asyncio.capture_call_graph` and by debuggers, hence hardly ever.
//! Decision: nothing is kept for a plain await, since the waiting task stands among the callbacks
//! already. The other edges stand there too, as entries that nobody is told of; they go when the
//! future is done or when they are discarded.
//! What can still go wrong: futures of asyncio's own classes keep their edges themselves and take
//! none to a task of ours; `python/oxloop/_call_graph.py` finds those by the callbacks.
//! Source of behaviour: CPython `Modules/_asynciomodule.c` (`future_awaited_by_add`),
//! `Lib/asyncio/graph.py`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFrozenSet};

use super::{Callback, Future};
use crate::combinators::Listener;
use crate::ffi::Ref;
use crate::stdlib;
use crate::task::TaskWakeup;

impl Future {
    /// The tasks and futures that await this one; None if there is none.
    pub(super) fn awaited_by<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyFrozenSet>>> {
        let mut waiters = Vec::new();
        for callback in self.callbacks() {
            match callback {
                Callback::Wake(waiter) | Callback::AwaitedBy(waiter) => waiters.push(waiter),
                Callback::Tell(listener) => waiters.extend(Listener::awaiter(py, &listener)?),
                Callback::Call { function, .. } => waiters.extend(woken(function.bind(py))?),
            }
        }
        if waiters.is_empty() {
            return Ok(None);
        }
        PyFrozenSet::new(py, waiters.iter().map(|waiter| waiter.bind(py))).map(Some)
    }
}

/// The task that a callback wakes, if it is a task's wakeup: ours or that of asyncio's C task.
fn woken(function: &Bound<'_, PyAny>) -> PyResult<Option<Ref>> {
    if let Ok(wakeup) = function.cast::<TaskWakeup>() {
        return Ok(wakeup.get().task());
    }
    let py = function.py();
    if function.is_exact_instance_of::<PyCFunction>()
        && function.getattr(intern!(py, "__qualname__"))?.eq("Task.task_wakeup")?
    {
        return Ok(Some(Ref::new(function.getattr(intern!(py, "__self__"))?)));
    }
    Ok(None)
}

/// Record that `fut` is awaited by `waiter`.
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub fn future_add_to_awaited_by(fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(own) = fut.cast::<Future>() else {
        return stdlib::foreign_add_to_awaited_by(fut.py())?.call1((fut, waiter)).map(drop);
    };
    let edge = Callback::AwaitedBy(Ref::from_borrowed(waiter));
    let this = own.get();
    if this.state() == super::State::Pending
        && stdlib::is_future(fut.py())?.call1((waiter,))?.is_truthy()?
    {
        // Once only, as in a set.
        this.discard(&edge);
        Future::add_callback(own, edge)?;
    }
    Ok(())
}

/// Record that `fut` is no longer awaited by `waiter`.
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub fn future_discard_from_awaited_by(
    fut: &Bound<'_, PyAny>,
    waiter: &Bound<'_, PyAny>,
) -> PyResult<()> {
    match fut.cast::<Future>() {
        Ok(own) => {
            own.get().discard(&Callback::AwaitedBy(Ref::from_borrowed(waiter)));
            Ok(())
        }
        Err(_) => stdlib::foreign_discard_from_awaited_by(fut.py())?.call1((fut, waiter)).map(drop),
    }
}
