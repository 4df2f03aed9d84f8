//! Creating tasks and futures.
//!
//! `create_task` makes a native task unless a factory says otherwise; factories are called as the
//! running version of asyncio calls them (3.13.3 changed that).

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::EventLoop;
use crate::ffi::Ref;
use crate::ffi::fastcall::Args;
use crate::ffi::pool;
use crate::future::Future;
use crate::stdlib;
use crate::task::Task;

/// `create_future()`
pub fn create_future<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("create_future")?;
    let py = slf.py();
    let future = Future::pending_on(slf, false);
    if slf.get().debug() {
        if let Some(stack) = stdlib::capture_source(py)? {
            future.source_traceback().set(Ref::new(stack));
        }
    }
    Ok(Ref::new(pool::make(py, future)?))
}

/// `create_task(coro, *, name=None, context=None)`; from 3.14 on `**kwargs`.
pub fn create_task<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let (mut coroutine, mut name, mut context) = (args.get(0), None, None);
    let mut others: Option<Bound<'py, PyDict>> = None;
    if args.has_keywords() {
        let mut failed = None;
        args.keywords("create_task", |keyword, value| {
            match keyword {
                "coro" if coroutine.is_none() => coroutine = Some(value),
                "name" => name = Some(value),
                "context" => context = Some(value),
                _ => {
                    if !takes_any_keyword(py) {
                        return false;
                    }
                    let others = others.get_or_insert_with(|| PyDict::new(py));
                    failed = others.set_item(keyword, value).err();
                }
            }
            true
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
    }
    let Some(coroutine) = coroutine else {
        return Err(pyo3::exceptions::PyTypeError::new_err(
            "create_task() missing 1 required positional argument: 'coro'",
        ));
    };
    args.expect("create_task", 0, 1)?;
    if let Some(factory) = this.task_factory.get() {
        return by_factory(slf, factory.bind(py), coroutine, name, context, others);
    }
    if this.is_plain() && others.is_none() {
        return Ok(Ref::new(Task::spawn(slf, coroutine, name, context)?));
    }
    let kwargs = others.unwrap_or_else(|| PyDict::new(py));
    kwargs.set_item("loop", slf)?;
    kwargs.set_item("name", name)?;
    kwargs.set_item("context", context)?;
    Ok(Ref::new(py.get_type::<Task>().call((coroutine,), Some(&kwargs))?))
}

/// Since 3.13.3, `create_task` hands every keyword to the task or to the factory.
fn takes_any_keyword(py: Python<'_>) -> bool {
    let version = py.version_info();
    (version.major, version.minor, version.patch) >= (3, 13, 3)
}

fn by_factory<'py>(
    slf: &Bound<'py, EventLoop>,
    factory: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    name: Option<&Bound<'py, PyAny>>,
    context: Option<&Bound<'py, PyAny>>,
    others: Option<Bound<'py, PyDict>>,
) -> PyResult<Ref> {
    let py = slf.py();
    if takes_any_keyword(py) {
        let kwargs = others.unwrap_or_else(|| PyDict::new(py));
        if let Some(name) = name {
            kwargs.set_item("name", name)?;
        }
        if let Some(context) = context {
            kwargs.set_item("context", context)?;
        }
        return Ok(Ref::new(factory.call((slf, coroutine), Some(&kwargs))?));
    }
    let task = match context.filter(|context| !context.is_none()) {
        None => factory.call1((slf, coroutine))?,
        Some(context) => {
            let kwargs = PyDict::new(py);
            kwargs.set_item("context", context)?;
            factory.call((slf, coroutine), Some(&kwargs))?
        }
    };
    if let Some(name) = name.filter(|name| !name.is_none()) {
        // A factory may make anything; up to 3.12 one without names is only warned about.
        match task.getattr_opt(intern!(py, "set_name"))? {
            Some(set_name) => drop(set_name.call1((name,))?),
            None if stdlib::at_least(py, 13) => drop(task.getattr(intern!(py, "set_name"))?),
            None => PyErr::warn(
                py,
                &py.get_type::<pyo3::exceptions::PyDeprecationWarning>(),
                c"Task.set_name() was added in Python 3.8, the method support will be mandatory for third-party task implementations since 3.13.",
                1,
            )?,
        }
    }
    Ok(Ref::new(task))
}

#[pymethods]
impl EventLoop {
    /// Use `factory(loop, coro, **kwargs)` to make tasks; None goes back to native tasks.
    fn set_task_factory(&self, py: Python<'_>, factory: &Bound<'_, PyAny>) -> PyResult<()> {
        if factory.is_none() {
            self.task_factory.clear();
            return Ok(());
        }
        if !factory.is_callable() {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "task factory must be a callable or None",
            ));
        }
        let _ = py;
        self.task_factory.set(Ref::from_borrowed(factory));
        Ok(())
    }

    /// The task factory, or None.
    fn get_task_factory<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task_factory.or_none(py)
    }
}
