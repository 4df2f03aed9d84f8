//! `TaskGroup` (PEP 654's companion), with the rules of Python 3.15 on every version.
//!
//! Facts: the rules for who swallows which cancellation were mended from version to version
//! (python/cpython#116720, #128550, #133747, #155418, #155433), and 3.15 added `cancel()`. No program
//! can want the older ones.
//! Decision: the group is itself the done callback of its tasks, and holds them in the order in
//! which they were created.
//! Source of behaviour: CPython 3.15 `Lib/asyncio/taskgroups.py`.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyGeneratorExit, PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::any_future;
use super::listener::Listener;
use super::members::Members;
use super::timeout::handled_exception;
use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::current;
use crate::event_loop::EventLoop;
use crate::ffi::error;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;
use crate::stdlib;
use crate::task::Task;

/// Tasks that are all done when its block ends; the first that fails cancels the others.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "TaskGroup")]
#[derive(Default)]
pub struct TaskGroup {
    /// False in memory that is still zero, which the collector of 3.11 may see.
    made: Cell<bool>,
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    cancel_on_enter: Cell<bool>,
    parent_cancel_requested: Cell<bool>,
    home: Slot,
    parent: Slot,
    tasks: RefCell<Members>,
    errors: RefCell<Vec<Ref>>,
    base_error: Slot,
    /// What the end of the block waits for while there are tasks.
    completed: RefCell<Option<Waiter>>,
}

attached_only!(TaskGroup);

/// SystemExit and KeyboardInterrupt leave a group as they are.
fn is_base_error(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PySystemExit>() || error.is_instance_of::<PyKeyboardInterrupt>()
}

impl TaskGroup {
    fn refuse(slf: &Bound<'_, Self>, text: &str) -> PyErr {
        match slf.repr() {
            Ok(own) => PyRuntimeError::new_err(format!("TaskGroup {own} {text}")),
            Err(err) => err,
        }
    }

    /// The task whose block it is.
    pub fn parent(&self) -> Option<Ref> {
        self.parent.get()
    }

    /// A task of the group is done.
    pub fn told(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let left = this.tasks.borrow_mut().remove(task.as_ptr() as usize);
        drop(left);
        let waiter = this.completed.borrow().clone();
        if let Some(waiter) = waiter {
            if this.tasks.borrow().is_empty() && !waiter.is_done(py)? {
                waiter.wake(py, none(py))?;
            }
        }
        if any_future::is_cancelled(task)? {
            return Ok(());
        }
        let Some(error) = any_future::exception(task)? else { return Ok(()) };
        this.errors.borrow_mut().push(Ref::from_borrowed(&error));
        if is_base_error(&error) && !this.base_error.is_some() {
            this.base_error.set(Ref::from_borrowed(&error));
        }
        let Some(parent) = this.parent.bound(py) else { return Ok(()) };
        if any_future::is_done(&parent)? {
            return this.report_orphan(&parent, task, &error);
        }
        if !this.aborting.get() && !this.parent_cancel_requested.get() {
            // The block is left by a CancelledError that the end of the block takes back. What is
            // cancelled may be a future of the user's class.
            if let Some(home) = this.home.bound(py) {
                any_future::withdraw_current(&home)?;
            }
            this.abort(py)?;
            this.parent_cancel_requested.set(true);
            any_future::cancel(&parent)?;
        }
        Ok(())
    }

    #[cold]
    fn report_orphan(
        &self,
        parent: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = task.py();
        let Some(home) = self.home.bound(py) else { return Ok(()) };
        any_future::withdraw_current(&home)?;
        let report = PyDict::new(py);
        let text = format!(
            "Task {} has errored out but its parent task {} is already completed",
            task.repr()?,
            parent.str()?
        );
        report.set_item("message", text)?;
        report.set_item("exception", error)?;
        report.set_item("task", task)?;
        home.call_method1(intern!(py, "call_exception_handler"), (report,)).map(drop)
    }

    /// Cancels what is not done.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.aborting.set(true);
        let tasks = self.tasks.borrow().to_vec();
        for task in &tasks {
            let task = task.bind(py);
            if !any_future::is_done(task)? {
                any_future::cancel(task)?;
            }
        }
        Ok(())
    }

    fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.entered.get() {
            return Err(Self::refuse(slf, "has already been entered"));
        }
        let home = match this.home.bound(py) {
            Some(home) => home,
            None => running_loop(py)?,
        };
        this.home.set(Ref::from_borrowed(&home));
        let Some(parent) = current::of(&home)? else {
            return Err(Self::refuse(slf, "cannot determine the parent task"));
        };
        this.parent.set(Ref::new(parent));
        this.entered.set(true);
        if this.cancel_on_enter.get() { Self::cancel(slf) } else { Ok(()) }
    }

    /// Makes the task of `create_task`.
    fn spawn<'py>(
        &self,
        coroutine: &Bound<'py, PyAny>,
        name: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
        others: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let Some(home) = self.home.bound(py) else { return Err(call::unexplained()) };
        if others.is_none() {
            if let Ok(native) = home.cast::<EventLoop>() {
                if native.get().makes_plain_tasks() {
                    native.get().check_open()?;
                    return Ok(Task::spawn(native, coroutine, name, context)?.into_any());
                }
            }
        }
        let newest = stdlib::at_least(py, 14);
        let arguments = others.unwrap_or_else(|| PyDict::new(py));
        // Up to 3.13 the name is always passed on.
        if name.is_some() || !newest {
            arguments.set_item(intern!(py, "name"), name)?;
        }
        if let Some(context) = context.filter(|context| newest || !context.is_none()) {
            arguments.set_item(intern!(py, "context"), context)?;
        }
        home.call_method(intern!(py, "create_task"), (coroutine,), Some(&arguments))
    }
}

/// `create_task(coro, *, name=None, context=None, **kwargs)`
pub fn create_task<'py>(slf: &Bound<'py, TaskGroup>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let py = slf.py();
    let this = slf.get();
    let (mut coroutine, mut name, mut context) = (args.get(0), None, None);
    let mut others: Option<Bound<'py, PyDict>> = None;
    let mut failed = None;
    args.keywords("create_task", |keyword, value| {
        match keyword {
            "coro" if coroutine.is_none() => coroutine = Some(value),
            "name" => name = Some(value),
            "context" => context = Some(value),
            _ => {
                let others = others.get_or_insert_with(|| PyDict::new(py));
                failed = others.set_item(keyword, value).err();
            }
        }
        true
    })?;
    if let Some(err) = failed {
        return Err(err);
    }
    args.expect("create_task", 0, 1)?;
    let Some(coroutine) = coroutine else {
        return Err(pyo3::exceptions::PyTypeError::new_err(
            "TaskGroup.create_task() missing 1 required positional argument: 'coro'",
        ));
    };
    let refused = if !this.entered.get() {
        Some("has not been entered")
    } else if this.exiting.get() && this.tasks.borrow().is_empty() {
        Some("is finished")
    } else if this.aborting.get() {
        Some("is shutting down")
    } else {
        None
    };
    if let Some(text) = refused {
        coroutine.call_method0(intern!(py, "close"))?;
        return Err(TaskGroup::refuse(slf, text));
    }
    let task = this.spawn(coroutine, name, context, others)?;
    // The callback is scheduled even if an eager task is done already: its failure must not cancel
    // the parent from within this very call.
    this.tasks.borrow_mut().add(Ref::from_borrowed(&task));
    Listener::listen(slf, &task)?;
    if this.aborting.get() && !any_future::is_done(&task)? {
        // An eager task has cancelled the group.
        any_future::cancel(&task)?;
    }
    Ok(Ref::new(task))
}

/// The body of `__aenter__`.
struct Enter(Ref);

impl Body for Enter {
    fn qualified_name(&self) -> &'static str {
        "TaskGroup.__aenter__"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        TaskGroup::enter(self.0.bind_as::<TaskGroup>(py))?;
        Ok(Progress::Return(self.0.clone()))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }
}

/// The body of `__aexit__`.
struct Exit {
    group: Ref,
    /// What ended the block.
    exception: Slot,
    /// The CancelledError to raise if nothing outweighs it.
    propagate: Slot,
    /// The last CancelledError that came while the tasks were waited for.
    pending: Slot,
}

impl Exit {
    fn is_cancellation(py: Python<'_>, error: &Ref) -> PyResult<bool> {
        Ok(call::has_type(error.bind(py), stdlib::cancelled_error(py)?))
    }

    /// Waits while there are tasks; then ends.
    fn go_on(&self, py: Python<'_>) -> PyResult<Progress> {
        let group = self.group.bind_as::<TaskGroup>(py).get();
        if group.tasks.borrow().is_empty() {
            return self.end(py);
        }
        let Some(home) = group.home.bound(py) else { return Err(call::unexplained()) };
        let waiter = Waiter::new(&home)?;
        let old = group.completed.replace(Some(waiter.clone()));
        drop(old);
        Ok(waiter.wait())
    }

    /// All tasks are done.
    fn end(&self, py: Python<'_>) -> PyResult<Progress> {
        let group = self.group.bind_as::<TaskGroup>(py).get();
        let exception = self.exception.take();
        let errors = group.errors.take();
        let parent = group.parent.take();
        if let Some(error) = group.base_error.take() {
            return Err(call::raised(error.bind(py)));
        }
        if let (true, Some(parent)) = (group.parent_cancel_requested.get(), &parent) {
            // Takes back what the group asked for.
            if any_future::uncancel(parent.bind(py))? == 0 {
                any_future::forget_own_cancellation(parent.bind(py));
                self.propagate.clear();
            } else if !self.propagate.is_some() {
                drop(self.propagate.replace(self.pending.take()));
            }
        }
        if let (Some(error), true) = (self.propagate.take(), errors.is_empty()) {
            return Err(call::raised(error.bind(py)));
        }
        let mut errors = errors;
        let mut left_by_exit = false;
        if let Some(exception) = &exception {
            if !Self::is_cancellation(py, exception)? {
                left_by_exit = exception.bind(py).is_instance_of::<PyGeneratorExit>();
                errors.push(exception.clone());
            }
        }
        if errors.is_empty() {
            return Ok(Progress::Return(Ref::new(pyo3::types::PyBool::new(py, true).to_owned())));
        }
        if let Some(parent) = &parent {
            // The count of requests from outside stays as it is, and is delivered again.
            let parent = parent.bind(py);
            if any_future::cancelling(parent)? > 0 {
                any_future::uncancel(parent)?;
                any_future::cancel(parent)?;
            }
        }
        if let (true, 1, Some(exception)) = (left_by_exit, errors.len(), &exception) {
            return Err(call::raised(exception.bind(py)));
        }
        let list = PyList::new(py, errors.iter().map(|error| error.bind(py)))?;
        let raised =
            stdlib::base_exception_group(py)?.call1(("unhandled errors in a TaskGroup", list))?;
        raised.setattr(intern!(py, "__cause__"), py.None())?;
        Err(call::raised(&raised))
    }
}

impl Body for Exit {
    fn qualified_name(&self) -> &'static str {
        "TaskGroup.__aexit__"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let group = self.group.bind_as::<TaskGroup>(py).get();
        group.exiting.set(true);
        if let Some(exception) = self.exception.get() {
            if is_base_error(exception.bind(py)) && !group.base_error.is_some() {
                group.base_error.set(exception.clone());
            }
            if Self::is_cancellation(py, &exception)? {
                self.propagate.set(exception);
            }
            if !group.aborting.get() {
                group.abort(py)?;
            }
        }
        self.go_on(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let group = self.group.bind_as::<TaskGroup>(py).get();
        if let Err(err) = outcome {
            let error = Ref::new(error::instance(py, err).into_any());
            if !Self::is_cancellation(py, &error)? {
                return Err(PyErr::from_value(error.into_bound(py)));
            }
            self.pending.set(error.clone());
            if !group.aborting.get() {
                self.propagate.set(error);
                group.abort(py)?;
            }
        }
        let waiter = group.completed.take();
        drop(waiter);
        self.go_on(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.group.traverse(visit)?;
        self.exception.traverse(visit)?;
        self.propagate.traverse(visit)?;
        self.pending.traverse(visit)
    }
}

/// `__aenter__()`
pub fn aenter<'py>(slf: &Bound<'py, TaskGroup>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__aenter__")?;
    Coroutine::make(slf.py(), Enter(Ref::from_borrowed(slf)))
}

/// `__aexit__(et, exc, tb)`
pub fn aexit<'py>(slf: &Bound<'py, TaskGroup>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let given = args.all("TaskGroup.__aexit__", ["et", "exc", "tb"])?;
    let body = Exit {
        group: Ref::from_borrowed(slf),
        exception: handled_exception(given)?,
        propagate: Slot::empty(),
        pending: Slot::empty(),
    };
    Coroutine::make(slf.py(), body)
}

#[pymethods]
impl TaskGroup {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { made: Cell::new(true), ..Self::default() }
    }

    /// Subclasses may take arguments; the class itself takes none.
    fn __init__(&self) {}

    /// Cancel the block and every task of the group; the block then ends without CancelledError.
    ///
    /// Before the group is entered it takes effect when it is; after its end it does nothing.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.entered.get() {
            this.cancel_on_enter.set(true);
            return Ok(());
        }
        if this.exiting.get() && this.tasks.borrow().is_empty() || this.aborting.get() {
            return Ok(());
        }
        this.abort(py)?;
        if let Some(parent) = this.parent.bound(py) {
            if !this.parent_cancel_requested.replace(true) {
                any_future::cancel(&parent)?;
            }
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        let mut text = "<TaskGroup".to_owned();
        let (tasks, errors) = (self.tasks.borrow().len(), self.errors.borrow().len());
        if tasks > 0 {
            text += &format!(" tasks={tasks}");
        }
        if errors > 0 {
            text += &format!(" errors={errors}");
        }
        if self.aborting.get() {
            text += " cancelling";
        } else if self.entered.get() {
            text += " entered";
        }
        text + ">"
    }

    fn _abort(&self, py: Python<'_>) -> PyResult<()> {
        self.abort(py)
    }

    /// A snapshot: changing it changes nothing.
    #[getter]
    fn _tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        let tasks = self.tasks.borrow().to_vec();
        PySet::new(py, tasks.iter().map(|task| task.bind(py)))
    }

    #[getter]
    fn _errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let errors = self.errors.borrow().clone();
        PyList::new(py, errors.iter().map(|error| error.bind(py)))
    }

    #[getter]
    fn _parent_task<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.parent.or_none(py)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    #[getter]
    fn _entered(&self) -> bool {
        self.entered.get()
    }

    #[getter]
    fn _exiting(&self) -> bool {
        self.exiting.get()
    }

    #[getter]
    fn _aborting(&self) -> bool {
        self.aborting.get()
    }

    #[getter]
    fn _parent_cancel_requested(&self) -> bool {
        self.parent_cancel_requested.get()
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if call::is_exactly::<Self>(slf.as_any()) {
            return Ok(stdlib::asyncio_task_group(slf.py())?.clone());
        }
        Ok(slf.get_type().into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.made.get() {
            return Ok(());
        }
        for slot in [&self.home, &self.parent, &self.base_error] {
            slot.traverse(&visit)?;
        }
        if let Ok(tasks) = self.tasks.try_borrow() {
            tasks.traverse(&visit)?;
        }
        if let Ok(errors) = self.errors.try_borrow() {
            errors.iter().try_for_each(|error| error.traverse(&visit))?;
        }
        if let Ok(waiter) = self.completed.try_borrow() {
            if let Some(waiter) = waiter.as_ref() {
                waiter.traverse(&visit)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = (
            self.home.take(),
            self.parent.take(),
            self.base_error.take(),
            self.tasks.take(),
            self.errors.take(),
            self.completed.take(),
        );
        drop(parts);
    }
}
