//! The methods and attributes of the queues as Python sees them.
//!
//! The hot ones take their arguments as a C array (`ffi/fastcall.rs`). The private attributes are
//! those that subclasses, tests and libraries use.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::store::Kind;
use super::waiting::{getting, joining, putting};
use super::{LifoQueue, PriorityQueue, Queue};
use crate::ffi::Ref;
use crate::ffi::fastcall::Args;
use crate::future::none;
use crate::stdlib;
use crate::sync::copying::{Parts, parts};
use crate::sync::number::Given;
use crate::sync::waiters::truth;

/// The argument of `put` and `put_nowait`.
#[inline]
fn item<'a, 'py>(name: &str, args: &Args<'a, 'py>) -> PyResult<&'a Bound<'py, PyAny>> {
    let mut item = args.get(0);
    if args.has_keywords() {
        args.keywords(name, |keyword, value| {
            let known = keyword == "item" && item.is_none();
            item = if known { Some(value) } else { item };
            known
        })?;
    }
    args.expect(name, 0, 1)?;
    item.ok_or_else(|| {
        PyTypeError::new_err(format!("{name}() missing 1 required positional argument: 'item'"))
    })
}

/// `put(item)`
pub fn put<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    putting(slf, item("Queue.put", &args)?)
}

/// `put_nowait(item)`
pub fn put_nowait<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    Queue::put_now(slf, item("Queue.put_nowait", &args)?)?;
    Ok(none(slf.py()))
}

/// `get()`
pub fn get<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.get")?;
    getting(slf)
}

/// `get_nowait()`
pub fn get_nowait<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.get_nowait")?;
    Queue::get_now(slf)
}

/// `qsize()`
pub fn qsize<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.qsize")?;
    let py = slf.py();
    Ok(Ref::new(slf.get().store.len(py)?.into_pyobject(py)?))
}

/// `empty()`
pub fn empty<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.empty")?;
    Ok(truth(slf.py(), slf.get().store.is_empty(slf.py())?))
}

/// `full()`
pub fn full<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.full")?;
    Ok(truth(slf.py(), Queue::is_full_now(slf)?))
}

/// `task_done()`
pub fn task_done<'py>(slf: &Bound<'py, Queue>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("Queue.task_done")?;
    let py = slf.py();
    let this = slf.get();
    let unfinished = this.unfinished.get();
    if unfinished <= 0 {
        return Err(PyValueError::new_err("task_done() called too many times"));
    }
    this.unfinished.set(unfinished - 1);
    if unfinished == 1 {
        this.raise_all_done(py)?;
    }
    Ok(none(py))
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare(Kind::Fifo)
    }

    #[pyo3(signature = (maxsize = Given(None)))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Given<'_>) -> PyResult<()> {
        Self::start(slf, maxsize.0.as_ref())
    }

    #[classmethod]
    #[pyo3(signature = (r#type, /))]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        r#type: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        stdlib::generic_alias(class.py())?.call1((class, r#type))
    }

    fn _init(&self, py: Python<'_>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        self.store.reset(py)
    }

    fn _put(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store.put(item)
    }

    fn _get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.store.take(py)?.into_py(py))
    }

    /// Takes waiters out of a deque until one was woken.
    fn _wakeup_next(&self, waiters: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiters.py();
        while waiters.is_truthy()? {
            let waiter = waiters.call_method0(intern!(py, "popleft"))?;
            if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
                break;
            }
        }
        Ok(())
    }

    /// Wait until every item was taken and `task_done()` called for it.
    fn join(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(joining(slf)?.into_py(slf.py()))
    }

    /// No more items: `put` raises QueueShutDown, and `get` does when the queue is empty, or, with
    /// `immediate`, now: then the items left are dropped and count as done.
    #[pyo3(signature = (immediate = None), text_signature = "($self, immediate=False)")]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let immediate = match immediate {
            Some(immediate) => immediate.is_truthy()?,
            None => false,
        };
        Self::shut_down(slf, immediate)
    }

    /// How many items fit; unlimited if not above 0.
    #[getter]
    fn maxsize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.maxsize.object(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let text = slf.call_method0(intern!(slf.py(), "_format"))?;
        Ok(format!("<{} at {:#x} {text}>", slf.get_type().name()?, slf.as_ptr() as usize))
    }

    fn __str__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let text = slf.call_method0(intern!(slf.py(), "_format"))?;
        Ok(format!("<{} {text}>", slf.get_type().name()?))
    }

    fn _format(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("maxsize={}", self.maxsize.object(py)?.repr()?);
        if !self.store.is_empty(py)? {
            text += &format!(" _queue={}", self.store.to_list(py)?.repr()?);
        }
        for (name, list) in [("_getters", &self.getters), ("_putters", &self.putters)] {
            let count = list.len(py)?;
            if count != 0 {
                text += &format!(" {name}[{count}]");
            }
        }
        if self.unfinished.get() != 0 {
            text += &format!(" tasks={}", self.unfinished.get());
        }
        if self.shut_down.get() {
            text += " shutdown";
        }
        Ok(text)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        Self::check_idle(slf)?;
        let all_done = PyBool::new(slf.py(), slf.get().all_done.get()).to_owned().into_any();
        let names = ["_maxsize", "_queue", "_unfinished_tasks", "_is_shutdown"];
        parts(slf.as_any(), Some(all_done), &names, &[])
    }

    #[getter(__class__)]
    fn class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        crate::sync::asyncio_class(slf.as_any())
    }

    fn _get_loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().home.running(slf.as_any())
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.object(py)
    }

    #[setter(_loop)]
    fn set_loop(&self, home: &Bound<'_, PyAny>) {
        self.home.set(home);
    }

    #[getter]
    fn _maxsize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.maxsize.object(py)
    }

    #[setter(_maxsize)]
    fn set_maxsize(&self, maxsize: &Bound<'_, PyAny>) {
        self.maxsize.set(maxsize);
    }

    /// The items: a deque, for the other kinds of queue a list.
    #[getter]
    fn _queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.store.show(py)
    }

    #[setter(_queue)]
    fn set_queue(&self, items: &Bound<'_, PyAny>) {
        self.store.replace(items);
    }

    #[getter]
    fn _getters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.getters.show(py)
    }

    #[setter(_getters)]
    fn set_getters(&self, list: &Bound<'_, PyAny>) {
        self.getters.replace(Some(list));
    }

    #[getter]
    fn _putters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.putters.show(py)
    }

    #[setter(_putters)]
    fn set_putters(&self, list: &Bound<'_, PyAny>) {
        self.putters.replace(Some(list));
    }

    #[getter]
    fn _unfinished_tasks(&self) -> i64 {
        self.unfinished.get()
    }

    #[setter(_unfinished_tasks)]
    fn set_unfinished_tasks(&self, count: i64) {
        self.unfinished.set(count);
    }

    /// The Event that is set while all items are done.
    #[getter]
    fn _finished<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.all_done_event(py)?.into_any())
    }

    #[getter]
    fn _is_shutdown(&self) -> bool {
        self.shut_down.get()
    }

    #[setter(_is_shutdown)]
    fn set_is_shutdown(&self, shut_down: bool) {
        self.shut_down.set(shut_down);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.traverse(&visit)?;
        self.maxsize.traverse(&visit)?;
        self.getters.traverse(&visit)?;
        self.putters.traverse(&visit)?;
        self.store.traverse(&visit)?;
        self.all_done_event.traverse(&visit)
    }

    fn __clear__(&self) {
        self.home.clear();
        self.maxsize.clear();
        self.getters.clear();
        self.putters.clear();
        self.store.clear();
        self.all_done_event.clear();
    }
}

#[pymethods]
impl LifoQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Queue::bare(Kind::Lifo)).add_subclass(Self)
    }
}

#[pymethods]
impl PriorityQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Queue::bare(Kind::Priority)).add_subclass(Self)
    }
}
