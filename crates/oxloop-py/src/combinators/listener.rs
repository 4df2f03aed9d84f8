//! Following a future from Rust: the done callbacks of `gather`, `wait`, `shield`, `TaskGroup`.
//!
//! Facts: a done callback runs in an iteration of its own after the future is done, in order with
//! all others; that order is part of asyncio's semantics.
//! Decision: a native object can be the callback of a native future, itself, without a function, a
//! context or a handle; the loop's job is the pair. For other futures, and for those who look at a
//! future's callbacks, it is wrapped into a callable.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::as_completed::AsCompleted;
use super::gather::Gathering;
use super::shield::Shield;
use super::task_group::TaskGroup;
use super::wait::Waiting;
use crate::coroutine::plain_future;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::future::{Callback, Future};
use crate::stdlib;

attached_only!(Listener);

/// A native object as a done callback that Python can call and compare.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_DoneCallback")]
pub struct Listener {
    target: Slot,
}

impl Listener {
    /// The callable for `target`.
    pub fn callable(py: Python<'_>, target: Ref) -> PyResult<Ref> {
        Ok(Ref::new(Bound::new(py, Self { target: Slot::holding(target) })?))
    }

    /// Whether `function` is a callable for `target`.
    pub fn is_callable_of(function: &Bound<'_, PyAny>, target: &Ref) -> bool {
        function
            .cast::<Self>()
            .is_ok_and(|listener| listener.get().target.as_ptr() == target.as_ptr())
    }

    /// `future`, which `target` follows, is done.
    pub fn tell(target: &Ref, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let object = target.bind(future.py());
        if let Ok(gathering) = object.cast::<Gathering>() {
            return Gathering::told(gathering, future);
        }
        if let Ok(group) = object.cast::<TaskGroup>() {
            return TaskGroup::told(group, future);
        }
        if let Ok(waiting) = object.cast::<Waiting>() {
            return waiting.get().told(future);
        }
        if let Ok(completed) = object.cast::<AsCompleted>() {
            return AsCompleted::told(completed, future);
        }
        if let Ok(shield) = object.cast::<Shield>() {
            return Shield::told(shield, future);
        }
        Err(PyTypeError::new_err("not a native done callback"))
    }

    /// Who awaits what `target` follows, as call graphs name it: the task that called.
    pub fn awaiter(py: Python<'_>, target: &Ref) -> PyResult<Option<Ref>> {
        let object = target.bind(py);
        if let Ok(gathering) = object.cast::<Gathering>() {
            return Ok(Gathering::awaiter(gathering));
        }
        if let Ok(group) = object.cast::<TaskGroup>() {
            return Ok(group.get().parent());
        }
        if let Ok(completed) = object.cast::<AsCompleted>() {
            return Ok(completed.get().awaiter());
        }
        if let Ok(shield) = object.cast::<Shield>() {
            return Ok(shield.get().awaiter());
        }
        match object.cast::<Waiting>() {
            Ok(waiting) => Ok(waiting.get().task(py)),
            Err(_) => Ok(None),
        }
    }

    /// `target` follows `future` from now on.
    #[inline]
    pub fn listen<T>(target: &Bound<'_, T>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        if let Some(plain) = plain_future(future) {
            return Future::add_callback(plain, Callback::Tell(Ref::from_borrowed(target)));
        }
        let callable = Self::callable(py, Ref::from_borrowed(target))?;
        future.call_method1(intern!(py, "add_done_callback"), (callable.bind(py),)).map(drop)
    }

    /// `target` does not follow `future` any more.
    #[inline]
    pub fn leave<T>(target: &Bound<'_, T>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        if let Some(plain) = plain_future(future) {
            plain.get().discard(&Callback::Tell(Ref::from_borrowed(target)));
            return Ok(());
        }
        let callable = Self::callable(py, Ref::from_borrowed(target))?;
        future.call_method1(intern!(py, "remove_done_callback"), (callable.bind(py),)).map(drop)
    }
}

#[pymethods]
impl Listener {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.target.get() {
            Some(target) => Self::tell(&target, future),
            None => Ok(()),
        }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        self.target.get().is_some_and(|target| Self::is_callable_of(other, &target))
    }

    fn __hash__(&self) -> u64 {
        self.target.as_ptr() as u64
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.target.or_none(py)
    }

    /// The name of asyncio's own callback, which reprs of futures and tasks show.
    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> &'static str {
        let Some(target) = self.target.bound(py) else { return "_done_callback" };
        if target.is_instance_of::<Gathering>() {
            "gather.<locals>._done_callback"
        } else if target.is_instance_of::<TaskGroup>() {
            "TaskGroup._on_task_done"
        } else if target.is_instance_of::<Waiting>() {
            "_wait.<locals>._on_completion"
        } else if target.is_instance_of::<Shield>() {
            "shield.<locals>._inner_done_callback"
        } else if stdlib::at_least(py, 13) {
            "_AsCompletedIterator._handle_completion"
        } else {
            "as_completed.<locals>._on_completion"
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.target.traverse(&visit)
    }

    fn __clear__(&self) {
        self.target.clear();
    }
}
