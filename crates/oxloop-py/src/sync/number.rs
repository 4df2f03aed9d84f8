//! A number that a program chose: the value of a semaphore, the size of a queue.
//!
//! Facts: asyncio computes with whatever it was given, so `Semaphore(math.inf)` works, and so does
//! a `Fraction`; nearly all are small ints.
//! Decision: an exact `int` of the machine's range is kept as one; anything else stays the object
//! it is, and its own operators are called, which then raise what they raise in asyncio.
//! What can still go wrong: operators of the user's classes may re-enter; every method reads first,
//! calls, then stores.

use std::cell::Cell;

use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::types::PyInt;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::{Ref, Slot};

/// An argument that has a default, and for which None is a value like any other.
pub struct Given<'py>(pub Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

/// A number of the user's.
#[derive(Default)]
pub struct Number {
    int: Cell<i64>,
    /// Set when the number is anything but an exact int of the machine's range.
    odd: Slot,
}

impl Number {
    pub fn of(value: i64) -> Self {
        Self { int: Cell::new(value), odd: Slot::empty() }
    }

    pub fn set(&self, value: &Bound<'_, PyAny>) {
        match value.cast_exact::<PyInt>().ok().and_then(|value| value.extract::<i64>().ok()) {
            Some(small) => self.set_int(small),
            None => self.odd.set(Ref::from_borrowed(value)),
        }
    }

    pub fn set_int(&self, value: i64) {
        self.int.set(value);
        self.odd.clear();
    }

    /// The number as Python sees it.
    pub fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.odd.bound(py) {
            Some(odd) => Ok(odd),
            None => Ok(self.int.get().into_pyobject(py)?.into_any()),
        }
    }

    /// `self += delta`
    #[inline]
    pub fn add(&self, py: Python<'_>, delta: i64) -> PyResult<()> {
        if !self.odd.is_some() {
            if let Some(sum) = self.int.get().checked_add(delta) {
                self.int.set(sum);
                return Ok(());
            }
        }
        let sum = self.object(py)?.add(delta)?;
        self.set(&sum);
        Ok(())
    }

    /// `self > 0`
    #[inline]
    pub fn is_positive(&self, py: Python<'_>) -> PyResult<bool> {
        match self.odd.bound(py) {
            None => Ok(self.int.get() > 0),
            Some(odd) => odd.gt(0),
        }
    }

    /// `self == 0`
    #[inline]
    pub fn is_zero(&self, py: Python<'_>) -> PyResult<bool> {
        match self.odd.bound(py) {
            None => Ok(self.int.get() == 0),
            Some(odd) => odd.eq(0),
        }
    }

    /// `self < other`
    pub fn is_below(&self, py: Python<'_>, other: i64) -> PyResult<bool> {
        match self.odd.bound(py) {
            None => Ok(self.int.get() < other),
            Some(odd) => odd.lt(other),
        }
    }

    /// `0 < self <= count`: the bound of a queue that is full with `count` items.
    #[inline]
    pub fn is_reached_by(&self, py: Python<'_>, count: usize) -> PyResult<bool> {
        match self.odd.bound(py) {
            None => {
                let bound = self.int.get();
                Ok(bound > 0 && count as u64 >= bound as u64)
            }
            Some(odd) => Ok(!odd.le(0)? && count.into_pyobject(py)?.ge(odd)?),
        }
    }

    /// `self >= other`
    pub fn is_at_least(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        if !self.odd.is_some() && !other.odd.is_some() {
            return Ok(self.int.get() >= other.int.get());
        }
        self.object(py)?.ge(other.object(py)?)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.odd.traverse(visit)
    }

    pub fn clear(&self) {
        self.odd.clear();
    }
}
