//! Futures of any kind, asked and told in the cheapest way that is right for them.
//!
//! Facts: what a program gathers, shields or waits for is usually a native task or future, and may
//! be anything with asyncio's methods.
//! Decision: a future of ours whose methods nobody can have replaced is asked in Rust; any other by
//! its methods, as asyncio does.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::coroutine::plain_future;
use crate::current;
use crate::event_loop::EventLoop;
use crate::ffi::call::Recursion;
use crate::ffi::{Ref, Slot, call};
use crate::future::{Future, State};
use crate::stdlib;
use crate::task::Task;

pub fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    match plain_future(future) {
        Some(plain) => Ok(plain.get().is_done()),
        None => future.call_method0(intern!(future.py(), "done"))?.is_truthy(),
    }
}

pub fn is_cancelled(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    match plain_future(future) {
        Some(plain) => Ok(plain.get().state() == State::Cancelled),
        None => future.call_method0(intern!(future.py(), "cancelled"))?.is_truthy(),
    }
}

/// The exception of a future that is done and not cancelled, which is thereby retrieved.
pub fn exception<'py>(future: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let exception = match plain_future(future) {
        Some(plain) if plain.get().has_value() => return Ok(None),
        Some(plain) => Future::exception(plain)?,
        None => future.call_method0(intern!(future.py(), "exception"))?,
    };
    Ok((!exception.is_none()).then_some(exception))
}

/// `result()`
pub fn result(future: &Bound<'_, PyAny>) -> PyResult<Ref> {
    match plain_future(future) {
        Some(plain) => Future::outcome(plain),
        None => Ok(Ref::new(future.call_method0(intern!(future.py(), "result"))?)),
    }
}

/// The CancelledError of a cancelled future (`_make_cancelled_error()`).
pub fn cancelled_error<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match plain_future(future) {
        Some(plain) => plain.get().make_cancelled_error(future.py()),
        None => future.call_method0(intern!(future.py(), "_make_cancelled_error")),
    }
}

/// `cancel()`
pub fn cancel(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    if call::is_exactly::<Task>(future) || call::is_exactly::<Future>(future) {
        return cancel_with(future, None);
    }
    future.call_method0(intern!(future.py(), "cancel"))?.is_truthy()
}

/// `cancel(msg=message)`
pub fn cancel_with(
    future: &Bound<'_, PyAny>,
    message: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    // A task that waits for a task that waits...
    let _depth = Recursion::enter(future.py(), c" while cancelling what is awaited")?;
    if let Some(task) = native_task(future) {
        return Task::cancel(task, message);
    }
    if call::is_exactly::<Future>(future) {
        if let Ok(future) = future.cast::<Future>() {
            return Future::cancel_with(future, message.map(Ref::from_borrowed));
        }
    }
    let py = future.py();
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "msg"), message)?;
    future.call_method(intern!(py, "cancel"), (), Some(&kwargs))?.is_truthy()
}

/// The loop of a future (`asyncio.futures._get_loop`).
pub fn loop_of<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    if let Some(plain) = plain_future(future) {
        if let Some(home) = plain.get().home().bound(py) {
            return Ok(home);
        }
    }
    match future.getattr_opt(intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0(),
        None => future.getattr(intern!(py, "_loop")),
    }
}

/// Nobody need be told if the task dies pending: the caller cannot reach it.
pub fn forget(future: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(task) = native_task(future) {
        task.get().forget();
        return Ok(());
    }
    future.setattr(intern!(future.py(), "_log_destroy_pending"), false)
}

/// `asyncio.isfuture(object)`
pub fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.cast::<Future>().is_ok()
        || stdlib::is_future(object.py())?.call1((object,))?.is_truthy()?)
}

/// The task that calls, where call graphs want to know it (3.14).
pub fn calling_task(home: &Bound<'_, PyAny>) -> Slot {
    if !stdlib::at_least(home.py(), 14) {
        return Slot::empty();
    }
    match current::of(home) {
        Ok(Some(task)) => Slot::holding(Ref::new(task)),
        // None, or the loop does not run.
        _ => Slot::empty(),
    }
}

/// Before code of the user runs in place of a done callback: no task is current there.
#[cold]
pub fn withdraw_current(home: &Bound<'_, PyAny>) -> PyResult<()> {
    match home.cast::<EventLoop>() {
        Ok(native) => native.get().current().withdraw(home),
        Err(_) => Ok(()),
    }
}

/// `task.cancelling()`
pub fn cancelling(task: &Bound<'_, PyAny>) -> PyResult<usize> {
    match native_task(task) {
        Some(task) => Ok(task.get().cancelling()),
        None => task.call_method0(intern!(task.py(), "cancelling"))?.extract(),
    }
}

/// `task.uncancel()`
pub fn uncancel(task: &Bound<'_, PyAny>) -> PyResult<usize> {
    match native_task(task) {
        Some(native) => Ok(native.get().uncancel(task.py())),
        None => task.call_method0(intern!(task.py(), "uncancel"))?.extract(),
    }
}

/// Whether a CancelledError is on its way into the task: requested, and not given to it yet.
pub fn is_being_cancelled(task: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = task.py();
    let (must_cancel, awaited) = match native_task(task) {
        Some(task) => (task.get().must_cancel(), task.get().awaited().map(|a| a.into_bound(py))),
        None => {
            let requested = task.getattr_opt(intern!(py, "_must_cancel"))?;
            (
                requested.map_or(Ok(false), |requested| requested.is_truthy())?,
                task.getattr_opt(intern!(py, "_fut_waiter"))?.filter(|awaited| !awaited.is_none()),
            )
        }
    };
    Ok(must_cancel || awaited.map_or(Ok(false), |awaited| is_cancelled(&awaited))?)
}

/// Takes back a cancellation that the task has asked of itself and not been given yet, as
/// `uncancel` does from 3.13 on.
pub fn forget_own_cancellation(task: &Bound<'_, PyAny>) {
    if let Some(task) = native_task(task) {
        task.get().forget_own_cancellation();
    }
}

/// A native task whose methods nobody has replaced.
#[inline]
pub fn native_task<'a, 'py>(task: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Task>> {
    if call::is_exactly::<Task>(task) { task.cast::<Task>().ok() } else { None }
}

/// The contents of a new, pending future of `home`, any loop.
pub fn future_on(home: &Bound<'_, PyAny>) -> PyResult<Future> {
    match home.cast::<EventLoop>() {
        Ok(native) if native.get().makes_plain_futures() => Ok(Future::pending_on(native, false)),
        _ => {
            let future = Future::bare(false);
            future.start(home.py(), Some(home))?;
            Ok(future)
        }
    }
}
