//! Who waits for a lock, an event or a queue: futures, in the order in which they came.
//!
//! Facts: a waiter is a future of the loop that runs, ours or a stranger's; asyncio keeps them in a
//! `collections.deque` that tests and libraries read, and now and then change.
//! Decision: the waiters lie in a Rust queue until somebody asks for the list. Then they move into
//! a real deque, which is the list from that moment on, so that what is shown is always the truth.
//! A waiter that is exactly our future is asked and woken without a call.
//! What can still go wrong: asking a foreign future runs its code, which may change this very list;
//! such scans work on a copy, as they must.

use std::cell::RefCell;
use std::collections::VecDeque;

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::{Ref, Slot};
use crate::future::{Future, State};
use crate::stdlib;

/// Waiting futures, first come, first served.
#[derive(Default)]
pub struct WaitList {
    queue: RefCell<VecDeque<Ref>>,
    /// The deque that somebody asked for, once somebody did.
    shown: Slot,
}

impl WaitList {
    #[inline]
    pub fn len(&self, py: Python<'_>) -> PyResult<usize> {
        match self.shown.bound(py) {
            None => Ok(self.queue.borrow().len()),
            Some(shown) => shown.len(),
        }
    }

    #[inline]
    pub fn push(&self, py: Python<'_>, waiter: Ref) -> PyResult<()> {
        match self.shown.bound(py) {
            None => self.queue.borrow_mut().push_back(waiter),
            Some(shown) => {
                shown.call_method1(intern!(py, "append"), (waiter.bind(py),))?;
            }
        }
        Ok(())
    }

    /// Takes `waiter` out; false if it was not there.
    #[inline]
    pub fn remove(&self, py: Python<'_>, waiter: &Ref) -> PyResult<bool> {
        let Some(shown) = self.shown.bound(py) else {
            let removed = {
                let mut queue = self.queue.borrow_mut();
                // Waiters leave in order, nearly always.
                if queue.front().is_some_and(|first| first.as_ptr() == waiter.as_ptr()) {
                    queue.pop_front()
                } else {
                    match queue.iter().position(|other| other.as_ptr() == waiter.as_ptr()) {
                        Some(index) => queue.remove(index),
                        None => None,
                    }
                }
            };
            return Ok(removed.is_some());
        };
        match shown.call_method1(intern!(py, "remove"), (waiter.bind(py),)) {
            Ok(_) => Ok(true),
            Err(err) if err.is_instance_of::<PyValueError>(py) => Ok(false),
            Err(err) => Err(err),
        }
    }

    pub fn pop_front(&self, py: Python<'_>) -> PyResult<Option<Ref>> {
        let Some(shown) = self.shown.bound(py) else {
            return Ok(self.queue.borrow_mut().pop_front());
        };
        match shown.call_method0(intern!(py, "popleft")) {
            Ok(waiter) => Ok(Some(Ref::new(waiter))),
            Err(err) if err.is_instance_of::<PyIndexError>(py) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// The waiters, in order, as they are now.
    pub fn snapshot(&self, py: Python<'_>) -> PyResult<Vec<Ref>> {
        match self.shown.bound(py) {
            None => Ok(self.queue.borrow().iter().cloned().collect()),
            Some(shown) => shown.try_iter()?.map(|waiter| waiter.map(Ref::new)).collect(),
        }
    }

    /// The first waiter.
    #[inline]
    pub fn first(&self, py: Python<'_>) -> PyResult<Option<Ref>> {
        if !self.shown.is_some() {
            return Ok(self.queue.borrow().front().cloned());
        }
        Ok(self.snapshot(py)?.into_iter().next())
    }

    /// The first waiter that is not done.
    #[inline]
    pub fn first_pending(&self, py: Python<'_>) -> PyResult<Option<Ref>> {
        if !self.shown.is_some() {
            let queue = self.queue.borrow();
            let mut foreign = false;
            for waiter in queue.iter() {
                match native_state(py, waiter) {
                    Some(State::Pending) => return Ok(Some(waiter.clone())),
                    Some(_) => {}
                    None => {
                        foreign = true;
                        break;
                    }
                }
            }
            if !foreign {
                return Ok(None);
            }
        }
        for waiter in self.snapshot(py)? {
            if !is_done(py, &waiter)? {
                return Ok(Some(waiter));
            }
        }
        Ok(None)
    }

    /// Whether all waiters are cancelled; so if there are none.
    #[inline]
    pub fn all_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.shown.is_some() {
            let queue = self.queue.borrow();
            let mut foreign = false;
            for waiter in queue.iter() {
                match native_state(py, waiter) {
                    Some(State::Cancelled) => {}
                    Some(_) => return Ok(false),
                    None => {
                        foreign = true;
                        break;
                    }
                }
            }
            if !foreign {
                return Ok(true);
            }
        }
        for waiter in self.snapshot(py)? {
            if !is_cancelled(py, &waiter)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Wakes the first `count` waiters that are not done, with `value`.
    pub fn wake_pending(&self, py: Python<'_>, count: usize, value: bool) -> PyResult<()> {
        if !self.shown.is_some() {
            // One waiter is the usual case: no copy of the list.
            let only = {
                let queue = self.queue.borrow();
                if queue.len() == 1 { queue.front().cloned() } else { None }
            };
            if let Some(only) = only {
                if count > 0 && !is_done(py, &only)? {
                    wake(py, &only, truth(py, value))?;
                }
                return Ok(());
            }
        }
        let mut woken = 0;
        for waiter in self.snapshot(py)? {
            if woken >= count {
                break;
            }
            if !is_done(py, &waiter)? {
                woken += 1;
                wake(py, &waiter, truth(py, value))?;
            }
        }
        Ok(())
    }

    /// Takes waiters out until one was woken or none is left.
    #[inline]
    pub fn pop_and_wake(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(waiter) = self.pop_front(py)? {
            if !is_done(py, &waiter)? {
                return wake(py, &waiter, crate::future::none(py));
            }
        }
        Ok(())
    }

    /// Takes all waiters out and wakes those that are not done.
    pub fn wake_and_forget_all(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(waiter) = self.pop_front(py)? {
            if !is_done(py, &waiter)? {
                wake(py, &waiter, crate::future::none(py))?;
            }
        }
        Ok(())
    }

    /// The list as a deque; it is the list itself from now on.
    pub fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(shown) = self.shown.bound(py) {
            return Ok(shown);
        }
        let shown = stdlib::deque(py)?.call0()?;
        let waiters = self.queue.take();
        self.shown.set(Ref::from_borrowed(&shown));
        for waiter in waiters {
            shown.call_method1(intern!(py, "append"), (waiter.bind(py),))?;
        }
        Ok(shown)
    }

    /// Somebody set the attribute: `list` is the list.
    pub fn replace(&self, list: Option<&Bound<'_, PyAny>>) {
        let old = (self.queue.take(), self.shown.replace(list.map(Ref::from_borrowed)));
        drop(old);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(queue) = self.queue.try_borrow() {
            queue.iter().try_for_each(|waiter| waiter.traverse(visit))?;
        }
        self.shown.traverse(visit)
    }

    pub fn clear(&self) {
        self.replace(None);
    }
}

/// The state of a waiter that is exactly our future.
#[inline]
fn native_state(py: Python<'_>, waiter: &Ref) -> Option<State> {
    waiter.bind(py).cast_exact::<Future>().ok().map(|future| future.get().state())
}

/// `waiter.done()`
#[inline]
pub fn is_done(py: Python<'_>, waiter: &Ref) -> PyResult<bool> {
    match native_state(py, waiter) {
        Some(state) => Ok(state != State::Pending),
        None => waiter.bind(py).call_method0(intern!(py, "done"))?.is_truthy(),
    }
}

/// `waiter.cancelled()`
#[inline]
pub fn is_cancelled(py: Python<'_>, waiter: &Ref) -> PyResult<bool> {
    match native_state(py, waiter) {
        Some(state) => Ok(state == State::Cancelled),
        None => waiter.bind(py).call_method0(intern!(py, "cancelled"))?.is_truthy(),
    }
}

/// `waiter.cancel()`
pub fn cancel(py: Python<'_>, waiter: &Ref) -> PyResult<()> {
    match waiter.bind(py).cast_exact::<Future>() {
        Ok(future) => Future::cancel_with(future, None).map(drop),
        Err(_) => waiter.bind(py).call_method0(intern!(py, "cancel")).map(drop),
    }
}

/// `waiter.set_result(value)`
#[inline]
pub fn wake(py: Python<'_>, waiter: &Ref, value: Ref) -> PyResult<()> {
    match waiter.bind(py).cast_exact::<Future>() {
        Ok(future) => Future::resolve(future, value),
        Err(_) => {
            waiter.bind(py).call_method1(intern!(py, "set_result"), (value.bind(py),)).map(drop)
        }
    }
}

/// True or False.
#[inline]
pub fn truth(py: Python<'_>, value: bool) -> Ref {
    Ref::from_borrowed(&PyBool::new(py, value).to_owned())
}
