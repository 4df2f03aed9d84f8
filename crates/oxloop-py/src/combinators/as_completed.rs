//! `as_completed(fs, *, timeout=None)`.
//!
//! Facts: iteration with `for` gives a coroutine for each next result, with `async for` (3.13) the
//! futures themselves. Coroutines may be awaited in any order and by several tasks: the first to
//! wait gets the first that is done.
//! Decision: both iterations on every version.
//! Source of behaviour: CPython `Lib/asyncio/tasks.py`, `queues.py`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use pyo3::exceptions::{PyStopAsyncIteration, PyTimeoutError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PySet;
use pyo3::{PyTraverseError, PyVisit};

use super::any_future;
use super::listener::Listener;
use super::members::Members;
use super::spawning::{current_loop, ensure, is_coroutine};
use crate::coroutine::{Body, Coroutine, Progress, Waiter, running_loop};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::future::none;
use crate::stdlib;

/// The iterator that `as_completed()` returns.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_AsCompletedIterator")]
pub struct AsCompleted {
    /// The arguments, until it has started.
    given: Slot,
    timeout: Slot,
    todo: RefCell<Members>,
    /// How many results are still to be asked for.
    left: Cell<usize>,
    /// Done, in order; None stands for one that was not done in time.
    done: RefCell<VecDeque<Option<Ref>>>,
    /// Who waits for one to be done.
    getters: RefCell<VecDeque<Waiter>>,
    timer: Slot,
    /// The task that called, for call graphs.
    caller: Slot,
}

attached_only!(AsCompleted);

/// Iterate over the results of awaitables as they are done.
#[pyfunction]
#[pyo3(signature = (fs, *, timeout = None))]
pub fn as_completed<'py>(
    fs: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, AsCompleted>> {
    let py = fs.py();
    let this = AsCompleted {
        given: Slot::holding(Ref::from_borrowed(fs)),
        timeout: timeout.map_or_else(Slot::empty, |given| Slot::holding(Ref::from_borrowed(given))),
        left: Cell::new(0),
        todo: RefCell::default(),
        done: RefCell::default(),
        getters: RefCell::default(),
        timer: Slot::empty(),
        caller: Slot::empty(),
    };
    let this = Bound::new(py, this)?;
    if stdlib::at_least(py, 13) {
        AsCompleted::start(&this)?;
    }
    Ok(this)
}

impl AsCompleted {
    /// Makes the tasks and follows them. Up to 3.12 the first `next()` does, from 3.13 on the call.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(given) = this.given.take() else { return Ok(()) };
        let given = given.bind(py);
        let refused = if stdlib::at_least(py, 13) {
            py.import(intern!(py, "inspect"))?
                .call_method1(intern!(py, "isawaitable"), (given,))?
                .is_truthy()?
        } else {
            any_future::is_future(given)? || is_coroutine(given)?
        };
        if refused {
            let wanted = if stdlib::at_least(py, 13) {
                "expects an iterable of awaitables"
            } else {
                "expect an iterable of futures"
            };
            let text = format!("{wanted}, not {}", given.get_type().name()?);
            return Err(PyTypeError::new_err(text));
        }
        let awaitables = PySet::empty(py)?;
        for awaitable in given.try_iter()? {
            awaitables.add(awaitable?)?;
        }
        let home = current_loop(py)?;
        drop(this.caller.replace(any_future::calling_task(&home).take()));
        let mut members = Members::default();
        for awaitable in awaitables.iter() {
            members.add(Ref::new(ensure(&awaitable, Some(&home))?));
        }
        let futures = members.to_vec();
        this.left.set(futures.len());
        drop(this.todo.replace(members));
        for future in &futures {
            Listener::listen(slf, future.bind(py))?;
        }
        let timeout = this.timeout.take().filter(|timeout| !timeout.bind(py).is_none());
        if let (Some(timeout), false) = (timeout, futures.is_empty()) {
            let expired = slf.getattr(intern!(py, "_handle_timeout"))?;
            let handle =
                home.call_method1(intern!(py, "call_later"), (timeout.bind(py), expired))?;
            this.timer.set(Ref::new(handle));
        }
        Ok(())
    }

    /// One of the futures is done.
    pub fn told(slf: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let removed = this.todo.borrow_mut().remove(future.as_ptr() as usize);
        if removed.is_none() {
            // The time was over first.
            return Ok(());
        }
        this.put(py, Some(Ref::from_borrowed(future)))?;
        let all = this.todo.borrow().is_empty();
        if all {
            if let Some(timer) = this.timer.take() {
                timer.bind(py).call_method0(intern!(py, "cancel"))?;
            }
        }
        Ok(())
    }

    /// Who awaits the futures.
    pub fn awaiter(&self) -> Option<Ref> {
        self.caller.get()
    }

    fn put(&self, py: Python<'_>, item: Option<Ref>) -> PyResult<()> {
        self.done.borrow_mut().push_back(item);
        self.wake_next(py)
    }

    /// Wakes the first who waits and is not cancelled.
    fn wake_next(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let next = self.getters.borrow_mut().pop_front();
            let Some(getter) = next else { return Ok(()) };
            if !getter.is_done(py)? {
                return getter.wake(py, none(py));
            }
        }
    }

    /// Takes one result to ask for; false if there is none left.
    fn take_one(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

#[pymethods]
impl AsCompleted {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::start(slf)?;
        if !slf.get().take_one() {
            return Ok(None);
        }
        let body = Next { iterator: Ref::from_borrowed(slf), resolve: true, getter: Slot::empty() };
        Ok(Some(Coroutine::make(slf.py(), body)?.into_bound(slf.py())))
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn _handle_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let late = this.todo.take().to_vec();
        for future in &late {
            Listener::leave(slf, future.bind(py))?;
            this.put(py, None)?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(todo) = self.todo.try_borrow() {
            todo.traverse(&visit)?;
        }
        if let Ok(done) = self.done.try_borrow() {
            done.iter().flatten().try_for_each(|future| future.traverse(&visit))?;
        }
        if let Ok(getters) = self.getters.try_borrow() {
            getters.iter().try_for_each(|getter| getter.traverse(&visit))?;
        }
        self.given.traverse(&visit)?;
        self.caller.traverse(&visit)?;
        self.timeout.traverse(&visit)?;
        self.timer.traverse(&visit)
    }

    fn __clear__(&self) {
        let slots = (self.given.take(), self.timeout.take(), self.timer.take(), self.caller.take());
        let parts = (self.todo.take(), self.done.take(), self.getters.take(), slots);
        drop(parts);
    }
}

/// `__anext__()`
pub fn anext<'py>(slf: &Bound<'py, AsCompleted>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__anext__")?;
    let body = Next { iterator: Ref::from_borrowed(slf), resolve: false, getter: Slot::empty() };
    Coroutine::make(slf.py(), body)
}

/// Waits for the next future to be done.
struct Next {
    iterator: Ref,
    /// `for`: the result of the future. `async for`: the future itself.
    resolve: bool,
    getter: Slot,
}

impl Next {
    fn go_on(&self, py: Python<'_>) -> PyResult<Progress> {
        let iterator = self.iterator.bind_as::<AsCompleted>(py).get();
        let next = iterator.done.borrow_mut().pop_front();
        match next {
            None => {
                let getter = Waiter::new(&running_loop(py)?)?;
                self.getter.set(getter.as_future().clone());
                iterator.getters.borrow_mut().push_back(getter.clone());
                Ok(getter.wait())
            }
            Some(None) => Err(PyTimeoutError::new_err(())),
            Some(Some(future)) if self.resolve => {
                Ok(Progress::Return(any_future::result(future.bind(py))?))
            }
            Some(Some(future)) => Ok(Progress::Return(future)),
        }
    }
}

impl Body for Next {
    fn qualified_name(&self) -> &'static str {
        if self.resolve {
            "_AsCompletedIterator._wait_for_one"
        } else {
            "_AsCompletedIterator.__anext__"
        }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        if !self.resolve {
            let iterator = self.iterator.bind_as::<AsCompleted>(py);
            AsCompleted::start(iterator)?;
            if !iterator.get().take_one() {
                return Err(PyStopAsyncIteration::new_err(()));
            }
        }
        self.go_on(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let Some(getter) = self.getter.take() else { return self.go_on(py) };
        let Err(err) = outcome else { return self.go_on(py) };
        // Cancelled: a wake-up that was ours already goes to the next.
        let getter = Waiter::from_future(getter);
        let iterator = self.iterator.bind_as::<AsCompleted>(py).get();
        getter.cancel(py)?;
        let waiting = {
            let mut getters = iterator.getters.borrow_mut();
            getters.iter().position(|other| other.is(&getter)).and_then(|at| getters.remove(at))
        };
        drop(waiting);
        let more = !iterator.done.borrow().is_empty();
        if more && !getter.is_cancelled(py)? {
            iterator.wake_next(py)?;
        }
        Err(err)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iterator.traverse(visit)?;
        self.getter.traverse(visit)
    }
}
