//! `create_task` and `ensure_future`: from a coroutine to a task.
//!
//! On a loop of ours without a task factory that is one native call; otherwise the loop's own
//! `create_task` is called, as asyncio calls it.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::any_future;
use crate::coroutine::{is_plain_coroutine, running_loop};
use crate::event_loop::EventLoop;
use crate::ffi::call;
use crate::stdlib;
use crate::task::Task;

/// `home.create_task(coroutine)`
#[inline]
pub fn spawn<'py>(
    home: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(native) = home.cast::<EventLoop>() {
        if native.get().makes_plain_tasks() {
            native.get().check_open()?;
            return Ok(Task::spawn(native, coroutine, None, None)?.into_any());
        }
    }
    call::call_method_one(home, intern!(home.py(), "create_task"), coroutine)
}

/// The running loop, or the thread's current one.
pub fn current_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    stdlib::get_event_loop(py)?.call0()
}

/// Schedule a coroutine on the running loop; returns its Task.
#[pyfunction]
#[pyo3(signature = (coro, *, name = None, context = None, **kwargs))]
pub fn create_task<'py>(
    coro: &Bound<'py, PyAny>,
    name: Option<&Bound<'py, PyAny>>,
    context: Option<&Bound<'py, PyAny>>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let home = running_loop(py)?;
    if kwargs.is_none() {
        if let Ok(native) = home.cast::<EventLoop>() {
            if native.get().makes_plain_tasks() {
                return Ok(Task::spawn(native, coro, name, context)?.into_any());
            }
        }
    }
    let arguments = match kwargs {
        Some(kwargs) => kwargs.copy()?,
        None => PyDict::new(py),
    };
    if let Some(name) = name {
        arguments.set_item(intern!(py, "name"), name)?;
    }
    if let Some(context) = context.filter(|context| !context.is_none()) {
        arguments.set_item(intern!(py, "context"), context)?;
    }
    home.call_method(intern!(py, "create_task"), (coro,), Some(&arguments))
}

/// Whether `object` is a coroutine, as `asyncio.iscoroutine` says.
#[inline]
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if is_plain_coroutine(object) {
        return Ok(true);
    }
    stdlib::is_coroutine(object.py())?.call1((object,))?.is_truthy()
}

/// `ensure_future(object, loop=home)`; the loop is looked for when a task has to be made.
#[inline]
pub fn ensure<'py>(
    object: &Bound<'py, PyAny>,
    home: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let coroutine = is_plain_coroutine(object);
    if !coroutine && any_future::is_future(object)? {
        if let Some(home) = home {
            if !any_future::loop_of(object)?.is(home) {
                return Err(PyValueError::new_err(
                    "The future belongs to a different loop than the one specified as the loop argument",
                ));
            }
        }
        return Ok(object.clone());
    }
    if !coroutine && !is_coroutine(object)? {
        // An awaitable, to be wrapped into a coroutine, or a mistake.
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "loop"), home)?;
        return stdlib::ensure_future(py)?.call((object,), Some(&kwargs));
    }
    let found;
    let home = match home {
        Some(home) => home,
        None => {
            found = current_loop(py)?;
            &found
        }
    };
    let spawned = spawn(home, object);
    if let Err(err) = &spawned {
        if err.is_instance_of::<PyRuntimeError>(py) {
            object.call_method0(intern!(py, "close"))?;
        }
    }
    spawned
}

/// Wrap a coroutine or an awaitable in a future; a future is returned as it is.
#[pyfunction]
#[pyo3(signature = (coro_or_future, *, r#loop = None))]
pub fn ensure_future<'py>(
    coro_or_future: &Bound<'py, PyAny>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    ensure(coro_or_future, r#loop.filter(|home| !home.is_none()))
}
