//! Between threads and a loop: `wrap_future`, `run_coroutine_threadsafe`, `to_thread`.
//!
//! Facts: a `concurrent.futures.Future` is done in whatever thread did the work, and calls its
//! callbacks there; a loop's future may be touched in the loop's thread only.
//! Decision: a [`Chain`] is the callback of either future. It holds both until it has run, so that
//! a future that is kept does not keep the other.
//! Versions: from 3.14 on "the loop's thread" is where the loop runs; before, where both futures
//! have the same loop.
//! Source of behaviour: CPython `Lib/asyncio/futures.py` (`_chain_future`), `tasks.py`, `threads.py`.

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::{any_future, spawning};
use crate::coroutine::{Body, Coroutine, Progress, plain_future, running_loop};
use crate::ffi::context::copy_current;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::Future;
use crate::handle::is_fatal;
use crate::stdlib;

/// What a [`Chain`] does when it is called.
#[derive(Clone, Copy)]
enum Role {
    /// The destination is done: if it was cancelled, the source is.
    Cancel,
    /// The source is done: the destination gets its outcome, in its loop.
    Follow,
    /// The same, in the loop.
    Copy,
    /// The source is a coroutine that becomes a task of the loop; the destination follows that.
    Begin,
}

/// One direction between two futures, or the start of a coroutine from another thread.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_Chain")]
pub struct Chain {
    source: Slot,
    destination: Slot,
    /// The loop that [`Role::Begin`] needs.
    home: Slot,
    role: Role,
}

attached_only!(Chain);

type Object<'py> = Bound<'py, PyAny>;

/// The loop of an asyncio future; None for one of `concurrent.futures`.
fn loop_of<'py>(future: &Object<'py>) -> PyResult<Option<Object<'py>>> {
    match any_future::is_future(future)? {
        true => any_future::loop_of(future).map(Some),
        false => Ok(None),
    }
}

fn is_closed(home: &Object<'_>) -> PyResult<bool> {
    home.call_method0(intern!(home.py(), "is_closed"))?.is_truthy()
}

/// Whether a future of `home` may be touched here, where a future of `other` was done.
fn is_here(
    home: Option<&Object<'_>>,
    other: Option<&Object<'_>>,
    py: Python<'_>,
) -> PyResult<bool> {
    let Some(home) = home else { return Ok(true) };
    if stdlib::at_least(py, 14) {
        return Ok(home.is(&stdlib::get_running_loop_or_none(py)?.call0()?));
    }
    Ok(other.is_some_and(|other| home.is(other)))
}

/// The exception as asyncio has it, where `concurrent.futures` has a class of its own.
fn convert<'py>(exception: Object<'py>) -> PyResult<Object<'py>> {
    let py = exception.py();
    let class = if exception.get_type().is(stdlib::concurrent_cancelled_error(py)?) {
        stdlib::cancelled_error(py)?
    } else if exception.get_type().is(stdlib::concurrent_invalid_state_error(py)?) {
        stdlib::invalid_state_error(py)?
    } else {
        return Ok(exception);
    };
    let args = exception.getattr(intern!(py, "args"))?.cast_into::<PyTuple>()?;
    let traceback = exception.getattr(intern!(py, "__traceback__"))?;
    class.call1(args)?.call_method1(intern!(py, "with_traceback"), (traceback,))
}

/// Gives `destination`, of asyncio, the outcome of `source`.
fn copy<'py>(source: &Object<'py>, destination: &Object<'py>) -> PyResult<()> {
    let py = source.py();
    if any_future::is_cancelled(destination)? {
        return Ok(());
    }
    if any_future::is_done(destination)? {
        return Err(PyAssertionError::new_err(()));
    }
    if any_future::is_cancelled(source)? {
        return any_future::cancel(destination).map(drop);
    }
    let plain = plain_future(destination);
    match any_future::exception(source)? {
        Some(exception) => {
            let exception = convert(exception)?;
            match plain {
                Some(plain) => Future::fail(plain, &exception),
                None => set(destination, intern!(py, "set_exception"), &exception),
            }
        }
        None => {
            let value = any_future::result(source)?;
            match plain {
                Some(plain) => Future::resolve(plain, value),
                None => set(destination, intern!(py, "set_result"), value.bind(py)),
            }
        }
    }
}

fn set(
    future: &Object<'_>,
    method: &Bound<'_, pyo3::types::PyString>,
    value: &Object<'_>,
) -> PyResult<()> {
    call::call_method_one(future, method, value).map(drop)
}

/// Gives `destination`, of `concurrent.futures`, the outcome of `source`.
fn copy_to_concurrent(source: &Object<'_>, destination: &Object<'_>) -> PyResult<()> {
    let py = source.py();
    if any_future::is_cancelled(source)? {
        destination.call_method0(intern!(py, "cancel"))?;
    }
    let notify = intern!(py, "set_running_or_notify_cancel");
    if !destination.call_method0(notify)?.is_truthy()? {
        return Ok(());
    }
    match any_future::exception(source)? {
        Some(exception) => set(destination, intern!(py, "set_exception"), &convert(exception)?),
        None => set(destination, intern!(py, "set_result"), any_future::result(source)?.bind(py)),
    }
}

fn hand_over<'py>(source: &Object<'py>, destination: &Object<'py>) -> PyResult<()> {
    // Asking one of `concurrent.futures` that is not done for its outcome would wait for it.
    if !any_future::is_done(source)? {
        return Err(PyAssertionError::new_err(()));
    }
    match any_future::is_future(destination)? {
        true => copy(source, destination),
        false => copy_to_concurrent(source, destination),
    }
}

impl Chain {
    fn make<'py>(
        source: &Object<'py>,
        destination: &Object<'py>,
        home: Option<&Object<'py>>,
        role: Role,
    ) -> PyResult<Bound<'py, Self>> {
        let own = Self {
            source: Slot::holding(Ref::from_borrowed(source)),
            destination: Slot::holding(Ref::from_borrowed(destination)),
            home: home.map_or_else(Slot::empty, |home| Slot::holding(Ref::from_borrowed(home))),
            role,
        };
        Bound::new(source.py(), own)
    }

    /// What happens to one of the two happens to the other.
    fn link<'py>(source: &Object<'py>, destination: &Object<'py>) -> PyResult<()> {
        let add = intern!(source.py(), "add_done_callback");
        let cancel = Self::make(source, destination, None, Role::Cancel)?;
        call::call_method_one(destination, add, cancel.as_any())?;
        let follow = Self::make(source, destination, None, Role::Follow)?;
        call::call_method_one(source, add, follow.as_any()).map(drop)
    }

    fn cancel<'py>(source: &Object<'py>, destination: &Object<'py>) -> PyResult<()> {
        let py = source.py();
        if !any_future::is_cancelled(destination)? {
            return Ok(());
        }
        let home = loop_of(source)?;
        if is_here(home.as_ref(), loop_of(destination)?.as_ref(), py)? {
            return any_future::cancel(source).map(drop);
        }
        let Some(home) = home else { return Ok(()) };
        let cancel = source.getattr(intern!(py, "cancel"))?;
        call::call_method_one(&home, intern!(py, "call_soon_threadsafe"), &cancel).map(drop)
    }

    fn follow<'py>(source: &Object<'py>, destination: &Object<'py>) -> PyResult<()> {
        let py = source.py();
        let home = loop_of(destination)?;
        if let Some(home) = &home {
            if any_future::is_cancelled(destination)? && is_closed(home)? {
                return Ok(());
            }
        }
        if is_here(home.as_ref(), loop_of(source)?.as_ref(), py)? {
            return hand_over(source, destination);
        }
        let Some(home) = home else { return Ok(()) };
        if is_closed(&home)? {
            return Ok(());
        }
        let copy = Self::make(source, destination, None, Role::Copy)?;
        let soon = intern!(py, "call_soon_threadsafe");
        call::call_method_one(&home, soon, copy.as_any()).map(drop)
    }

    /// The coroutine `source` becomes a task of `home`.
    fn begin(source: &Object<'_>, destination: &Object<'_>, home: &Object<'_>) -> PyResult<()> {
        let py = source.py();
        let begun =
            spawning::ensure(source, Some(home)).and_then(|task| Self::link(&task, destination));
        let Err(err) = begun else { return Ok(()) };
        if is_fatal(py, &err) {
            return Err(err);
        }
        let error = error::instance(py, err).into_any();
        let notify = intern!(py, "set_running_or_notify_cancel");
        if destination.call_method0(notify)?.is_truthy()? {
            set(destination, intern!(py, "set_exception"), &error)?;
        }
        Err(PyErr::from_value(error))
    }
}

#[pymethods]
impl Chain {
    /// Runs once; `_done` is the future whose callback this is.
    #[pyo3(signature = (_done = None))]
    fn __call__(&self, py: Python<'_>, _done: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let ends = (self.source.take(), self.destination.take(), self.home.take());
        let (Some(source), Some(destination), home) = ends else { return Ok(()) };
        let (source, destination) = (source.bind(py), destination.bind(py));
        match (self.role, home) {
            (Role::Cancel, _) => Self::cancel(source, destination),
            (Role::Follow, _) => Self::follow(source, destination),
            (Role::Copy, _) => hand_over(source, destination),
            (Role::Begin, Some(home)) => Self::begin(source, destination, home.bind(py)),
            (Role::Begin, None) => Err(call::unexplained()),
        }
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        match self.role {
            Role::Cancel => "_chain_future.<locals>._call_check_cancel",
            Role::Follow => "_chain_future.<locals>._call_set_state",
            Role::Copy => "_chain_future.<locals>._set_state",
            Role::Begin => "run_coroutine_threadsafe.<locals>.callback",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.source.traverse(&visit)?;
        self.destination.traverse(&visit)?;
        self.home.traverse(&visit)
    }

    fn __clear__(&self) {
        self.source.clear();
        self.destination.clear();
        self.home.clear();
    }
}

/// A future of `home` for one of `concurrent.futures`.
pub fn wrap_concurrent<'py>(future: &Object<'py>, home: &Object<'py>) -> PyResult<Object<'py>> {
    let py = future.py();
    if any_future::is_future(future)? {
        return Ok(future.clone());
    }
    if !future.is_instance(stdlib::concurrent_future(py)?)? {
        let text = format!("concurrent.futures.Future is expected, got {}", future.repr()?);
        return Err(PyAssertionError::new_err(text));
    }
    let wrapping = home.call_method0(intern!(py, "create_future"))?;
    Chain::link(future, &wrapping)?;
    Ok(wrapping)
}

/// Wrap a future of `concurrent.futures` in one of the loop; a future of asyncio is returned as it is.
#[pyfunction]
#[pyo3(signature = (future, *, r#loop = None))]
pub fn wrap_future<'py>(
    future: &Bound<'py, PyAny>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match r#loop.filter(|home| !home.is_none()) {
        Some(home) => wrap_concurrent(future, home),
        // Where none is needed, none is looked for.
        None if any_future::is_future(future)? => Ok(future.clone()),
        None => wrap_concurrent(future, &spawning::current_loop(future.py())?),
    }
}

/// Run a coroutine on `loop` from another thread; returns a `concurrent.futures.Future`.
#[pyfunction]
pub fn run_coroutine_threadsafe<'py>(
    coro: &Bound<'py, PyAny>,
    r#loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    if !spawning::is_coroutine(coro)? {
        return Err(PyTypeError::new_err("A coroutine object is required"));
    }
    let future = stdlib::concurrent_future(py)?.call0()?;
    let begin = Chain::make(coro, &future, Some(r#loop), Role::Begin)?;
    call::call_method_one(r#loop, intern!(py, "call_soon_threadsafe"), begin.as_any())?;
    Ok(future)
}

struct ToThread {
    function: Ref,
    args: Ref,
    kwargs: Slot,
}

/// Run `func(*args, **kwargs)` in a thread of the default executor, in a copy of the context.
#[pyfunction]
#[pyo3(signature = (func, /, *args, **kwargs))]
pub fn to_thread<'py>(
    func: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let body = ToThread {
        function: Ref::from_borrowed(func),
        args: Ref::from_borrowed(args),
        kwargs: kwargs.map_or_else(Slot::empty, |all| Slot::holding(Ref::from_borrowed(all))),
    };
    Ok(Coroutine::make(func.py(), body)?.into_bound(func.py()))
}

impl Body for ToThread {
    fn qualified_name(&self) -> &'static str {
        "to_thread"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let home = running_loop(py)?;
        let context = copy_current(py)?;
        let run = context.bind(py).getattr(intern!(py, "run"))?;
        let mut all = vec![run, self.function.bind(py).clone()];
        all.extend(self.args.bind(py).cast::<PyTuple>()?.iter());
        let kwargs = self.kwargs.bound(py).map(|all| all.cast_into::<PyDict>()).transpose()?;
        let partial = stdlib::partial(py)?.call(PyTuple::new(py, all)?, kwargs.as_ref())?;
        let run = intern!(py, "run_in_executor");
        Ok(Progress::Await(Ref::new(home.call_method1(run, (py.None(), partial))?)))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.function.traverse(visit)?;
        self.args.traverse(visit)?;
        self.kwargs.traverse(visit)
    }
}
