//! Owned references for objects that live under the GIL.
//!
//! Facts: `Py<T>` may be dropped on a thread that is not attached to the interpreter, so its drop
//! asks a thread-local first; that is several nanoseconds in a shared library, on every reference
//! that a task gives up. The objects of this crate are only ever touched by attached threads.
//! Decision: [`Ref`] is not `Send`, hence cannot enter `Python::detach`, hence every drop and clone
//! happens attached: it decrements at once. [`Slot`] is a cell of such a reference whose every
//! operation stores first and drops the old value afterwards, so that a destructor that re-enters
//! sees a consistent object.
//! What can still go wrong: a `Ref` leaked into a thread-local would be dropped at thread exit,
//! detached. Do not do that.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::{PyTypeInfo, ffi};

/// A strong reference, owned by a structure that only attached threads touch.
#[repr(transparent)]
pub struct Ref(ManuallyDrop<Py<PyAny>>, PhantomData<*const ()>);

impl Ref {
    /// Takes over the reference of `object`.
    #[inline]
    pub fn new<T>(object: Bound<'_, T>) -> Self {
        Self(ManuallyDrop::new(object.into_any().unbind()), PhantomData)
    }

    /// Makes a new strong reference to `object`.
    #[inline]
    pub fn from_borrowed<T>(object: &Bound<'_, T>) -> Self {
        Self::new(object.clone())
    }

    /// Takes over a reference returned by the C API; `None` when the pointer is null.
    ///
    /// # Safety
    /// `pointer` is null or a reference that the caller owns; the thread is attached.
    #[inline]
    pub(super) unsafe fn from_owned_ptr(pointer: *mut ffi::PyObject) -> Option<Self> {
        if pointer.is_null() {
            return None;
        }
        // SAFETY: attached by the caller's promise.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: not null, and owned, by the caller's promise.
        Some(Self::new(unsafe { Bound::from_owned_ptr(py, pointer) }))
    }

    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    #[inline]
    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    #[inline]
    pub fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so its reference moves out exactly once.
        let object = unsafe { std::ptr::read(&this.0) };
        ManuallyDrop::into_inner(object).into_bound(py)
    }

    /// The reference as a value that PyO3 returns to Python.
    #[inline]
    pub fn into_py(self, py: Python<'_>) -> Py<PyAny> {
        self.into_bound(py).unbind()
    }

    #[inline]
    pub(super) fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).as_ptr()
    }

    #[inline]
    pub fn is(&self, object: &Bound<'_, PyAny>) -> bool {
        self.as_ptr() == object.as_ptr()
    }

    /// The contents of an instance of `T`, whose type was checked when the reference was stored.
    ///
    /// # Panics
    /// In debug builds, when the object is no `T`.
    #[inline]
    pub fn bind_as<'py, T: PyTypeInfo>(&self, py: Python<'py>) -> &Bound<'py, T> {
        debug_assert!(T::is_type_of(self.bind(py)));
        // SAFETY: callers store only instances of `T` where they read `T` back; each such field
        // says so, and debug builds check it.
        unsafe { self.bind(py).cast_unchecked() }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.0)
    }
}

impl Clone for Ref {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: not `Send`, so the thread is attached (see the header).
        let py = unsafe { Python::assume_attached() };
        Self::from_borrowed(self.bind(py))
    }
}

impl Drop for Ref {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is owned, and the thread is attached (see the header).
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) }
    }
}

/// A cell that holds a reference or nothing.
#[derive(Default)]
pub struct Slot(UnsafeCell<Option<Ref>>);

impl Slot {
    pub const fn empty() -> Self {
        Self(UnsafeCell::new(None))
    }

    pub fn holding(value: Ref) -> Self {
        Self(UnsafeCell::new(Some(value)))
    }

    /// Stores `value` and gives back what was there, for the caller to drop when it likes.
    #[inline]
    pub fn replace(&self, value: Option<Ref>) -> Option<Ref> {
        // SAFETY: one thread at a time is attached, and no reference into the cell outlives a
        // method of `Slot`, none of which runs foreign code while it has one.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    #[inline]
    pub fn set(&self, value: Ref) {
        #[cfg(oxloop_planted_use_after_free)]
        // SAFETY: none. The old value is dropped while the cell still shows it, against law 1: what
        // its destructor takes out of the cell is freed twice. Only there for scripts/test_asan.sh.
        unsafe {
            drop(std::ptr::read(self.0.get()));
            std::ptr::write(self.0.get(), Some(value));
        }
        #[cfg(not(oxloop_planted_use_after_free))]
        drop(self.replace(Some(value)));
    }

    #[inline]
    pub fn take(&self) -> Option<Ref> {
        self.replace(None)
    }

    /// Empties the cell; what it held is dropped after.
    #[inline]
    pub fn clear(&self) {
        #[cfg(oxloop_planted_use_after_free)]
        // SAFETY: none, as in `set`.
        unsafe {
            drop(std::ptr::read(self.0.get()));
            std::ptr::write(self.0.get(), None);
        }
        #[cfg(not(oxloop_planted_use_after_free))]
        drop(self.take());
    }

    #[inline]
    pub fn get(&self) -> Option<Ref> {
        // SAFETY: as in `replace`; cloning only increments a count.
        unsafe { (*self.0.get()).clone() }
    }

    #[inline]
    pub fn bound<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.get().map(|value| value.into_bound(py))
    }

    /// The address of what is held, null if nothing: for identity tests only.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        // SAFETY: as in `replace`.
        unsafe { (*self.0.get()).as_ref().map_or(std::ptr::null_mut(), Ref::as_ptr) }
    }

    #[inline]
    pub fn is_some(&self) -> bool {
        !self.as_ptr().is_null()
    }

    #[inline]
    pub fn holds(&self, object: &Bound<'_, PyAny>) -> bool {
        self.as_ptr() == object.as_ptr()
    }

    /// What is held, as Python sees it: the object or None.
    pub fn or_none<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.bound(py).unwrap_or_else(|| py.None().into_bound(py))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: traversal runs no Python code and changes nothing.
        match unsafe { &*self.0.get() } {
            Some(value) => value.traverse(visit),
            None => Ok(()),
        }
    }
}

/// Lets a class with [`Ref`] fields be a `#[pyclass]`.
///
/// PyO3 wants `Send + Sync` of frozen classes. On a build with the GIL, instances are reached only
/// through Python objects, hence by one attached thread at a time.
macro_rules! attached_only {
    ($($class:ty),+ $(,)?) => { $(
        // SAFETY: see the macro: only attached threads reach an instance, one at a time (GIL).
        unsafe impl Send for $class {}
        // SAFETY: as above.
        unsafe impl Sync for $class {}
    )+ };
}
pub(crate) use attached_only;

/// The token of the interpreter for code that is only ever entered from Python.
///
/// The core's callbacks come back to us from `run_forever`, whose thread is attached whenever it
/// is not inside the driver's wait; the core has no way to hand a token through.
#[inline]
pub fn attached<'py>(_inside_the_loop: &crate::event_loop::RunningLoop) -> Python<'py> {
    // SAFETY: a `RunningLoop` is only handed out by `run_forever`, on its own, attached thread.
    unsafe { Python::assume_attached() }
}
