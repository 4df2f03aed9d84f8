//! One object that has ended and is used again at once.
//!
//! Facts: a coroutine that ends in its first step (a line that is there, a lock that is free) is
//! made and dropped within one `await`. Even from a pool that costs some 300 instructions: linking
//! it with the collector and unlinking it, counting its class, asking for finalizers and weak
//! references.
//! Decision: one that has ended, and holds nothing any more, is kept alive by a reference of ours.
//! When the next one is wanted and ours is the only reference, it is filled again where it lies.
//! Who still has it keeps it: it is let go of, as is one with weak references or a finalizer that
//! ran. So nobody can tell, except that one dead object more is among those of the collector.
//! What can still go wrong: as with the pools, a build without the GIL must leave this out.

use std::cell::UnsafeCell;
use std::marker::PhantomData;

use pyo3::prelude::*;
use pyo3::{PyTypeInfo, ffi};

/// The place of the object, for instances of `T` itself, not of its subclasses.
pub struct Spare<T> {
    object: UnsafeCell<*mut ffi::PyObject>,
    class: PhantomData<fn() -> T>,
}

// SAFETY: only reached by attached threads, one at a time (GIL).
unsafe impl<T> Sync for Spare<T> {}

impl<T: PyTypeInfo> Spare<T> {
    pub const fn new() -> Self {
        Self { object: UnsafeCell::new(std::ptr::null_mut()), class: PhantomData }
    }

    #[inline]
    fn replace(&self, _py: Python<'_>, object: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // SAFETY: attached (the token), hence alone; no reference into the cell leaves a method.
        unsafe { std::mem::replace(&mut *self.object.get(), object) }
    }

    /// Whether it is `object` that is kept.
    #[inline]
    pub fn holds(&self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: as in `replace`.
        unsafe { *self.object.get() == object }
    }

    /// Keeps `object`, which has ended and holds nothing, unless there is one already.
    #[inline]
    pub fn offer(&self, object: &Bound<'_, T>) {
        if cfg!(oxloop_no_pools) || !self.holds(std::ptr::null_mut()) {
            return;
        }
        let pointer = object.as_ptr();
        // SAFETY: a live object of the collector.
        let was_finalized = unsafe { ffi::PyObject_GC_IsFinalized(pointer) } != 0;
        if was_finalized || has_weak_references(pointer) {
            return;
        }
        // SAFETY: a live object.
        self.replace(object.py(), unsafe { ffi::Py_NewRef(pointer) });
    }

    /// What is kept, if nobody else has it.
    #[inline]
    pub fn take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        let pointer = self.replace(py, std::ptr::null_mut());
        if pointer.is_null() {
            return None;
        }
        // SAFETY: live, as the reference is ours.
        let is_ours = unsafe { ffi::Py_REFCNT(pointer) } == 1 && !has_weak_references(pointer);
        // SAFETY: the reference that `offer` made, of an instance of `T`.
        let object = unsafe { Bound::from_owned_ptr(py, pointer).cast_into_unchecked::<T>() };
        is_ours.then_some(object)
    }
}

/// Whether there are weak references to the object.
#[inline]
fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: a live object; the offset of its type says where its weak references are.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        offset > 0 && !(*object.byte_offset(offset).cast::<*mut ffi::PyObject>()).is_null()
    }
}
