//! The items of a queue, in the order of its kind.
//!
//! Facts: programs look into `_queue`, and some clear it or take things out of it. The items of a
//! priority queue are compared by their own `__lt__`, which may do anything, also to the queue.
//! Decision: items lie in a Rust queue until somebody asks for `_queue`; then they move into the
//! deque or list that asyncio would have, which is the store from that moment on. A priority queue
//! is a list and `heapq` from the start: that module knows what a list does that changes under it.
//! Subclasses that fill `_queue` with something of their own are served by its own methods.

use std::cell::RefCell;
use std::collections::VecDeque;

use pyo3::exceptions::PyIndexError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::{Ref, Slot, call};
use crate::stdlib;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fifo,
    Lifo,
    Priority,
}

/// The items of a queue.
pub struct Store {
    kind: Kind,
    items: RefCell<VecDeque<Ref>>,
    /// The object that is `_queue`, once there is one.
    shown: Slot,
}

impl Store {
    pub fn new(kind: Kind) -> Self {
        Self { kind, items: RefCell::default(), shown: Slot::empty() }
    }

    /// Empties the store, as `_init` does.
    pub fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let shown = match self.kind {
            Kind::Priority => Some(Ref::new(PyList::empty(py))),
            Kind::Fifo | Kind::Lifo => None,
        };
        let old = (self.items.take(), self.shown.replace(shown));
        drop(old);
        Ok(())
    }

    #[inline]
    pub fn len(&self, py: Python<'_>) -> PyResult<usize> {
        match self.shown.bound(py) {
            None => Ok(self.items.borrow().len()),
            Some(shown) => shown.len(),
        }
    }

    /// `not self._queue`
    #[inline]
    pub fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        match self.shown.bound(py) {
            None => Ok(self.items.borrow().is_empty()),
            Some(shown) => Ok(!shown.is_truthy()?),
        }
    }

    /// What `_put` does.
    #[inline]
    pub fn put(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = item.py();
        let Some(shown) = self.shown.bound(py) else {
            if self.kind == Kind::Priority {
                // Not initialised.
                self.reset(py)?;
                return self.put(item);
            }
            self.items.borrow_mut().push_back(Ref::from_borrowed(item));
            return Ok(());
        };
        if self.kind == Kind::Priority {
            let args = [Some(Ref::new(shown)), Some(Ref::from_borrowed(item))];
            return call::vectorcall(stdlib::heappush(py)?, &args).map(drop);
        }
        call::call_method_one(&shown, intern!(py, "append"), item).map(drop)
    }

    /// What `_get` does.
    ///
    /// # Errors
    /// IndexError if there is no item.
    #[inline]
    pub fn take(&self, py: Python<'_>) -> PyResult<Ref> {
        let Some(shown) = self.shown.bound(py) else {
            let item = {
                let mut items = self.items.borrow_mut();
                if self.kind == Kind::Lifo { items.pop_back() } else { items.pop_front() }
            };
            return item.ok_or_else(|| {
                PyIndexError::new_err(match self.kind {
                    Kind::Fifo => "pop from an empty deque",
                    Kind::Lifo => "pop from empty list",
                    Kind::Priority => "index out of range",
                })
            });
        };
        let item = match self.kind {
            Kind::Fifo => shown.call_method0(intern!(py, "popleft"))?,
            Kind::Lifo => shown.call_method0(intern!(py, "pop"))?,
            Kind::Priority => call::call_one(stdlib::heappop(py)?, &shown)?,
        };
        Ok(Ref::new(item))
    }

    /// The items, as a new list.
    pub fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if let Some(shown) = self.shown.bound(py) {
            let list = PyList::empty(py);
            for item in shown.try_iter()? {
                list.append(item?)?;
            }
            return Ok(list);
        }
        let items: Vec<Ref> = self.items.borrow().iter().cloned().collect();
        PyList::new(py, items.iter().map(|item| item.bind(py)))
    }

    /// `_queue`: from now on the items are in it.
    pub fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(shown) = self.shown.bound(py) {
            return Ok(shown);
        }
        let list = self.to_list(py)?;
        let shown = match self.kind {
            Kind::Fifo => stdlib::deque(py)?.call1((list,))?,
            Kind::Lifo | Kind::Priority => list.into_any(),
        };
        let old = (self.items.take(), self.shown.replace(Some(Ref::from_borrowed(&shown))));
        drop(old);
        Ok(shown)
    }

    /// Somebody set `_queue`.
    pub fn replace(&self, shown: &Bound<'_, PyAny>) {
        let old = (self.items.take(), self.shown.replace(Some(Ref::from_borrowed(shown))));
        drop(old);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(items) = self.items.try_borrow() {
            items.iter().try_for_each(|item| item.traverse(visit))?;
        }
        self.shown.traverse(visit)
    }

    pub fn clear(&self) {
        let old = (self.items.take(), self.shown.take());
        drop(old);
    }
}
