//! `Queue`, `LifoQueue`, `PriorityQueue`: items between tasks.
//!
//! | file         | subject                                                |
//! |--------------|--------------------------------------------------------|
//! | `mod.rs`     | the state; what does not wait                          |
//! | `store.rs`   | the items                                              |
//! | `waiting.rs` | what waits: `put`, `get`, `join`                       |
//! | `methods.rs` | methods and attributes as Python sees them             |
//!
//! Facts: subclasses replace `_init`, `_put`, `_get` and public methods, and asyncio calls all of
//! them through `self`. A putter or getter that is woken looks again when it runs, for somebody may
//! have been faster; one that is cancelled after it was woken wakes the next.
//! Decision: whether a class replaces anything is found out once, when an instance is initialised.
//! The native classes, and subclasses that only add to them, never look a method up; for all others
//! each internal call goes through Python, as asyncio's does.
//! What can still go wrong: methods replaced on an instance, not on its class, are not called by the
//! queue itself.
//! Source of behaviour: CPython `Lib/asyncio/queues.py` of 3.13, on every version: `shutdown` is
//! offered where asyncio has none yet.

mod methods;
mod store;
mod waiting;

use std::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;

use super::copying::check_idle;
use super::event::Event;
use super::home::Home;
use super::number::Number;
use super::waiters::WaitList;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call, error};
use crate::stdlib;
pub use methods::{empty, full, get, get_nowait, put, put_nowait, qsize, task_done};
use store::{Kind, Store};

/// Items between tasks, first in, first out.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Queue")]
pub struct Queue {
    home: Home,
    maxsize: Number,
    getters: WaitList,
    putters: WaitList,
    store: Store,
    /// Methods may be the user's.
    custom: Cell<bool>,
    shut_down: Cell<bool>,
    unfinished: Cell<i64>,
    /// All items are done; the truth is in the event once there is one.
    all_done: Cell<bool>,
    all_done_event: Slot,
}

/// A queue that gives the item put in last.
#[pyclass(frozen, subclass, extends = Queue, module = "oxloop", name = "LifoQueue")]
pub struct LifoQueue;

/// A queue that gives the smallest item.
#[pyclass(frozen, subclass, extends = Queue, module = "oxloop", name = "PriorityQueue")]
pub struct PriorityQueue;

attached_only!(Queue);

/// What asyncio calls through `self`.
const REPLACEABLE: [&str; 9] =
    ["_init", "_put", "_get", "_format", "qsize", "empty", "full", "put_nowait", "get_nowait"];

impl Queue {
    fn bare(kind: Kind) -> Self {
        Self {
            home: Home::default(),
            maxsize: Number::of(0),
            getters: WaitList::default(),
            putters: WaitList::default(),
            store: Store::new(kind),
            custom: Cell::new(false),
            shut_down: Cell::new(false),
            unfinished: Cell::new(0),
            all_done: Cell::new(true),
            all_done_event: Slot::empty(),
        }
    }

    fn is_native_class(slf: &Bound<'_, Self>) -> bool {
        let object = slf.as_any();
        call::is_exactly::<Self>(object)
            || call::is_exactly::<LifoQueue>(object)
            || call::is_exactly::<PriorityQueue>(object)
    }

    /// Whether the class, which is not ours, replaces anything.
    fn look_at_class(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (native, class) = (slf.py().get_type::<Self>(), slf.get_type());
        let mut custom = false;
        for name in REPLACEABLE {
            custom |= !class.getattr(name)?.is(&native.getattr(name)?);
        }
        slf.get().custom.set(custom);
        Ok(())
    }

    /// The copy of a queue, before it has its items: whether all were done.
    pub fn restore(slf: &Bound<'_, Self>, all_done: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        slf.get().store.reset(slf.py())?;
        if !Self::is_native_class(slf) {
            Self::look_at_class(slf)?;
        }
        if let Some(all_done) = all_done {
            slf.get().all_done.set(all_done.is_truthy()?);
        }
        Ok(())
    }

    /// Fails unless a copy can be made.
    fn check_idle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        check_idle(slf.as_any(), &this.home, &[&this.getters, &this.putters])?;
        match this.all_done_event.get() {
            Some(event) => Event::check_idle(event.bind_as(slf.py())),
            None => Ok(()),
        }
    }

    /// What `__init__` does.
    fn start(slf: &Bound<'_, Self>, maxsize: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match maxsize {
            Some(maxsize) => this.maxsize.set(maxsize),
            None => this.maxsize.set_int(0),
        }
        this.getters.clear();
        this.putters.clear();
        this.unfinished.set(0);
        this.all_done.set(true);
        this.all_done_event.clear();
        this.shut_down.set(false);
        if Self::is_native_class(slf) {
            this.custom.set(false);
            return this.store.reset(py);
        }
        Self::look_at_class(slf)?;
        slf.call_method1(intern!(py, "_init"), (this.maxsize.object(py)?,)).map(drop)
    }

    /// `empty()`, through the class.
    #[inline]
    fn is_empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if slf.get().custom.get() {
            return slf.call_method0(intern!(py, "empty"))?.is_truthy();
        }
        slf.get().store.is_empty(py)
    }

    /// What `full()` itself does.
    #[inline]
    fn is_full_now(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if !this.custom.get() {
            let count = this.store.len(py)?;
            return this.maxsize.is_reached_by(py, count);
        }
        if !this.maxsize.is_positive(py)? {
            return Ok(false);
        }
        slf.call_method0(intern!(py, "qsize"))?.ge(this.maxsize.object(py)?)
    }

    /// `full()`, through the class.
    #[inline]
    fn is_full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().custom.get() {
            return slf.call_method0(intern!(slf.py(), "full"))?.is_truthy();
        }
        Self::is_full_now(slf)
    }

    /// `_get()`, through the class.
    #[inline]
    fn take(slf: &Bound<'_, Self>) -> PyResult<Ref> {
        if slf.get().custom.get() {
            return slf.call_method0(intern!(slf.py(), "_get")).map(Ref::new);
        }
        slf.get().store.take(slf.py())
    }

    /// What `put_nowait()` itself does.
    #[inline]
    fn put_now(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.shut_down.get() {
            return Err(raise(stdlib::queue_shut_down(py)));
        }
        if Self::is_full(slf)? {
            return Err(raise(stdlib::queue_full(py)));
        }
        if this.custom.get() {
            slf.call_method1(intern!(py, "_put"), (item,))?;
        } else {
            this.store.put(item)?;
        }
        this.unfinished.set(this.unfinished.get() + 1);
        this.lower_all_done(py);
        this.getters.pop_and_wake(py)
    }

    /// `put_nowait()`, through the class.
    #[inline]
    fn put_through(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<Ref> {
        let py = slf.py();
        if slf.get().custom.get() {
            return slf.call_method1(intern!(py, "put_nowait"), (item,)).map(Ref::new);
        }
        Self::put_now(slf, item)?;
        Ok(crate::future::none(py))
    }

    /// What `get_nowait()` itself does.
    #[inline]
    fn get_now(slf: &Bound<'_, Self>) -> PyResult<Ref> {
        let py = slf.py();
        let this = slf.get();
        if Self::is_empty(slf)? {
            return Err(raise(if this.shut_down.get() {
                stdlib::queue_shut_down(py)
            } else {
                stdlib::queue_empty(py)
            }));
        }
        let item = Self::take(slf)?;
        this.putters.pop_and_wake(py)?;
        Ok(item)
    }

    /// `get_nowait()`, through the class.
    #[inline]
    fn get_through(slf: &Bound<'_, Self>) -> PyResult<Ref> {
        if slf.get().custom.get() {
            return slf.call_method0(intern!(slf.py(), "get_nowait")).map(Ref::new);
        }
        Self::get_now(slf)
    }

    #[inline]
    fn lower_all_done(&self, py: Python<'_>) {
        self.all_done.set(false);
        if let Some(event) = self.all_done_event.get() {
            event.bind_as::<Event>(py).get().lower_flag();
        }
    }

    fn raise_all_done(&self, py: Python<'_>) -> PyResult<()> {
        self.all_done.set(true);
        match self.all_done_event.get() {
            Some(event) => event.bind_as::<Event>(py).get().raise_flag(py),
            None => Ok(()),
        }
    }

    /// The event that is set while all items are done.
    fn all_done_event<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Event>> {
        if let Some(event) = self.all_done_event.get() {
            return Ok(event.bind_as::<Event>(py).clone());
        }
        let event = Bound::new(py, Event::with_value(self.all_done.get()))?;
        self.all_done_event.set(Ref::from_borrowed(&event));
        Ok(event)
    }

    /// `shutdown(immediate)`
    fn shut_down(slf: &Bound<'_, Self>, immediate: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.shut_down.set(true);
        if immediate {
            while !Self::is_empty(slf)? {
                drop(Self::take(slf)?);
                if this.unfinished.get() > 0 {
                    this.unfinished.set(this.unfinished.get() - 1);
                }
            }
            if this.unfinished.get() == 0 {
                this.raise_all_done(py)?;
            }
        }
        // All must look again, to see that there is nothing to wait for.
        this.getters.wake_and_forget_all(py)?;
        this.putters.wake_and_forget_all(py)
    }
}

/// The exception of a class, without arguments.
#[cold]
fn raise(class: PyResult<&Bound<'_, PyAny>>) -> PyErr {
    match class.and_then(|class| class.call0()) {
        Ok(error) => error::raised(&error),
        Err(err) => err,
    }
}
