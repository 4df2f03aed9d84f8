//! Steps and wakeups as callables, for loops and futures that are not ours.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{Entry, Task};
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};

attached_only!(TaskStep, TaskWakeup);

/// The first step of a task, or one that throws, as a callback for foreign loops.
#[pyclass(frozen, weakref, module = "oxloop", name = "TaskStep")]
pub struct TaskStep {
    pub(super) task: Slot,
    pub(super) error: Slot,
}

#[pymethods]
impl TaskStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some(task) = self.task.get() else { return Ok(()) };
        let task = task.bind_as::<Task>(py);
        Task::step_from_outside(task, self.error.take(), Entry::InContext)
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.__step"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task.traverse(&visit)?;
        self.error.traverse(&visit)
    }

    fn __clear__(&self) {
        self.task.clear();
        self.error.clear();
    }
}

/// Wakes a task when a future is done: the callback that foreign futures and loops see.
#[pyclass(frozen, weakref, module = "oxloop", name = "TaskWakeup")]
pub struct TaskWakeup {
    task: Slot,
}

impl TaskWakeup {
    pub fn new_object(py: Python<'_>, task: Ref) -> PyResult<Ref> {
        Ok(Ref::new(Bound::new(py, Self { task: Slot::holding(task) })?))
    }

    /// The task that it wakes.
    pub fn task(&self) -> Option<Ref> {
        self.task.get()
    }

    /// Whether it wakes this task.
    pub fn is_of(&self, task: &Ref) -> bool {
        self.task.as_ptr() == task.as_ptr()
    }
}

#[pymethods]
impl TaskWakeup {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let Some(task) = self.task.get() else { return Ok(()) };
        Task::wake_from_outside(task.bind_as::<Task>(py), future)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<TaskWakeup>().is_ok_and(|other| {
            self.task.is_some() && other.get().task.as_ptr() == self.task.as_ptr()
        })
    }

    fn __hash__(&self) -> u64 {
        self.task.as_ptr() as u64
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        "task_wakeup"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Task.task_wakeup"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task.traverse(&visit)
    }

    fn __clear__(&self) {
        self.task.clear();
    }
}
