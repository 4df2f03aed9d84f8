//! Pools of dead objects for the classes that a busy loop makes and drops all the time.
//!
//! Facts: allocating, zeroing, linking and freeing an object of the collector costs 40 to 50 ns, as
//! much as running a small callback. PyO3's own `freelist` does not track recycled objects with the
//! collector, so cycles through them would leak; its deallocator also asks thread-locals.
//! Decision: the pooled classes get a deallocator of their own, which drops the contents and keeps
//! the memory, and a constructor that reuses it and tracks it again. Exact instances only: instances
//! of Python subclasses are allocated and freed by CPython as always. An object whose finalizer ran
//! is not reused, because the collector remembers that in its header.
//! Layout: PyO3 stores the Rust value at a fixed offset; it is measured on the first instance that
//! PyO3 itself makes, never assumed.
//! What can still go wrong: a class that is pooled must be frozen, without `unsendable`, and its
//! pool must be used under the GIL only; a free-threaded build must leave the pools out. A pool also
//! hides the use of a dead object from a sanitizer: `--cfg oxloop_no_pools` turns them off.

use std::cell::UnsafeCell;

use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, ffi};

use super::late;

/// Dead objects of one class, and where the Rust values are in them.
pub struct Pool {
    inner: UnsafeCell<Inner>,
}

struct Inner {
    free: Vec<*mut ffi::PyObject>,
    /// Offset of the class's own value; 0 until measured.
    own_offset: usize,
    /// Offset of the value of the base class, if there is one of ours.
    base_offset: usize,
}

// SAFETY: only reached by attached threads, one at a time (GIL); see `Pooled`.
unsafe impl Sync for Pool {}

/// Dead objects kept per class while loops are open: up to 3 MiB. A busy server has ten thousand
/// timeouts in flight, and making these anew costs twice what reviving them does.
const POOLED_OBJECTS_MAX: usize = if cfg!(oxloop_no_pools) { 0 } else { 16_384 };

/// Dead objects kept per class when a loop has closed.
const POOLED_OBJECTS_AFTER_CLOSE: usize = 256;

impl Pool {
    pub const fn new() -> Self {
        Self { inner: UnsafeCell::new(Inner { free: Vec::new(), own_offset: 0, base_offset: 0 }) }
    }

    #[inline]
    fn with<R>(&self, _py: Python<'_>, body: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: attached (the token), hence alone; no `body` in this file runs Python code.
        body(unsafe { &mut *self.inner.get() })
    }
}

/// A class whose instances are pooled.
///
/// # Safety
/// `Base` is the direct base class if `has_base` is true, else `Self`. The class is frozen, and
/// neither it nor its base is `unsendable`.
pub unsafe trait Pooled: PyClass<Frozen = True> + Sync {
    type Base: PyClass<Frozen = True> + Sync;
    const HAS_BASE: bool;
    fn pool() -> &'static Pool;
}

/// `pooled!(Class)` or `pooled!(Class: Base)`.
macro_rules! pooled {
    ($class:ty) => {
        pooled!(@ $class, $class, false);
    };
    ($class:ty : $base:ty) => {
        pooled!(@ $class, $base, true);
    };
    (@ $class:ty, $base:ty, $has_base:literal) => {
        // SAFETY: the class is frozen and the base is the one named in its `extends`.
        unsafe impl $crate::ffi::pool::Pooled for $class {
            type Base = $base;
            const HAS_BASE: bool = $has_base;
            #[inline]
            fn pool() -> &'static $crate::ffi::pool::Pool {
                static POOL: $crate::ffi::pool::Pool = $crate::ffi::pool::Pool::new();
                &POOL
            }
        }
    };
}
pub(crate) use pooled;

/// Takes a dead object of the exact class `T` and makes it a live, untracked one without contents.
#[inline]
fn revive<T: Pooled>(py: Python<'_>) -> Option<(*mut ffi::PyObject, usize, usize)> {
    let (object, own, base) =
        T::pool().with(py, |pool| Some((pool.free.pop()?, pool.own_offset, pool.base_offset)))?;
    // SAFETY: memory of an instance of this type, given up by `dealloc` below.
    unsafe { ffi::PyObject_Init(object, T::type_object_raw(py)) };
    Some((object, own, base))
}

/// Remembers where PyO3 puts the values.
#[cold]
fn measure<T: Pooled>(object: &Bound<'_, T>) {
    let start = object.as_ptr() as usize;
    let own = std::ptr::from_ref(object.get()) as usize - start;
    let base = if T::HAS_BASE {
        // SAFETY: `Base` is the base class, by the trait's promise.
        let base = unsafe { object.as_any().cast_unchecked::<T::Base>() };
        std::ptr::from_ref(base.get()) as usize - start
    } else {
        own
    };
    T::pool().with(object.py(), |pool| {
        pool.own_offset = own;
        pool.base_offset = base;
    });
}

/// A new instance of a class without a base of ours.
#[inline]
pub fn make<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>>
where
    T: Pooled + Into<PyClassInitializer<T>>,
{
    make_with(py, || value)
}

/// The same with a value that is built where it is to lie, not moved there.
#[inline(always)]
pub fn make_with<T>(py: Python<'_>, build: impl FnOnce() -> T) -> PyResult<Bound<'_, T>>
where
    T: Pooled + Into<PyClassInitializer<T>>,
{
    debug_assert!(!T::HAS_BASE);
    if let Some((object, own, _)) = revive::<T>(py) {
        // SAFETY: the place of the value in this class's instances, empty since `dealloc`.
        unsafe { object.byte_add(own).cast::<T>().write(build()) };
        // SAFETY: complete now; untracked since `dealloc`.
        unsafe { ffi::PyObject_GC_Track(object.cast()) };
        // SAFETY: a new reference to an instance of the exact class.
        return Ok(unsafe { Bound::from_owned_ptr(py, object).cast_into_unchecked() });
    }
    make_first(py, build())
}

/// One that PyO3 allocates.
#[cold]
fn make_first<T>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>>
where
    T: Pooled + Into<PyClassInitializer<T>>,
{
    let object = Bound::new(py, value)?;
    measure(&object);
    Ok(object)
}

/// A new instance of a class with a base of ours.
#[inline]
pub fn make_derived<T: Pooled>(
    py: Python<'_>,
    base: T::Base,
    own: T,
    fresh: impl FnOnce(T::Base, T) -> PyClassInitializer<T>,
) -> PyResult<Bound<'_, T>> {
    debug_assert!(T::HAS_BASE);
    if let Some((object, own_offset, base_offset)) = revive::<T>(py) {
        // SAFETY: the places of the two values in this class's instances, empty since `dealloc`.
        unsafe { object.byte_add(base_offset).cast::<T::Base>().write(base) };
        // SAFETY: as above.
        unsafe { object.byte_add(own_offset).cast::<T>().write(own) };
        // SAFETY: complete now; untracked since `dealloc`.
        unsafe { ffi::PyObject_GC_Track(object.cast()) };
        // SAFETY: a new reference to an instance of the exact class.
        return Ok(unsafe { Bound::from_owned_ptr(py, object).cast_into_unchecked() });
    }
    let object = Bound::new(py, fresh(base, own))?;
    measure(&object);
    Ok(object)
}

/// Gives back the memory of all but a few dead objects of `T`.
pub fn trim<T: Pooled>(py: Python<'_>) {
    loop {
        let surplus = T::pool().with(py, |pool| {
            if pool.free.len() <= POOLED_OBJECTS_AFTER_CLOSE {
                pool.free.shrink_to(POOLED_OBJECTS_AFTER_CLOSE);
                return None;
            }
            pool.free.pop()
        });
        let Some(object) = surplus else { return };
        // SAFETY: memory of a dead, untracked instance of this type, owned by the pool until now; its
        // reference to the type was given up when it died.
        unsafe {
            if let Some(free) = (*T::type_object_raw(py)).tp_free {
                free(object.cast());
            }
        }
    }
}

/// The deallocator of a pooled class and of the classes that Python code derives from it.
///
/// # Safety
/// Called by the interpreter on a dying instance of `T`, attached; finalizers have run.
pub unsafe fn dealloc<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: attached while deallocating.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a live object's type.
    let class = unsafe { ffi::Py_TYPE(object) };
    // SAFETY: dying, hence tracked or not; both are allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
    // SAFETY: the offsets of the type say where its weak references and dictionary are.
    unsafe {
        let weak_offset = (*class).tp_weaklistoffset;
        if weak_offset > 0
            && !(*object.byte_offset(weak_offset).cast::<*mut ffi::PyObject>()).is_null()
        {
            ffi::PyObject_ClearWeakRefs(object);
        }
        // The place is fixed by the pooled class; a Python subclass has no other.
        let dict_offset = (*T::type_object_raw(py)).tp_dictoffset;
        if dict_offset > 0 {
            let place = object.byte_offset(dict_offset).cast::<*mut ffi::PyObject>();
            let dict = std::mem::replace(&mut *place, std::ptr::null_mut());
            ffi::Py_XDECREF(dict);
        }
    }
    // SAFETY: dying, as promised, and unreachable by now; dropped once, now or after those above it.
    unsafe { late::drop_in_turn(py, object, drop_and_free::<T>) };
}

/// The second half of `dealloc`: drops the contents, then keeps or frees the memory.
///
/// # Safety
/// A dying instance of `T`, untracked and without weak references; attached.
unsafe fn drop_and_free<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: attached while deallocating.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the type of an object lives as long as it.
    let class = unsafe { ffi::Py_TYPE(object) };
    // SAFETY: an instance of `T`; its value is dropped here and not used again.
    unsafe {
        let borrowed = super::fastcall::ffi_borrow(py, &object);
        let own: *const T = borrowed.cast_unchecked::<T>().get();
        let base: *const T::Base = borrowed.cast_unchecked::<T::Base>().get();
        std::ptr::drop_in_place(own.cast_mut());
        if T::HAS_BASE {
            std::ptr::drop_in_place(base.cast_mut());
        }
    }
    // SAFETY: as promised by the caller; a finalized header must not be reused.
    let reusable =
        unsafe { class == T::type_object_raw(py) && ffi::PyObject_GC_IsFinalized(object) == 0 };
    let kept = reusable
        && T::pool().with(py, |pool| {
            let room = pool.own_offset != 0 && pool.free.len() < POOLED_OBJECTS_MAX;
            if room {
                pool.free.push(object);
            }
            room
        });
    if !kept {
        // SAFETY: every type has a `tp_free` that fits its allocator.
        unsafe {
            if let Some(free) = (*class).tp_free {
                free(object.cast());
            }
        }
    }
    // SAFETY: instances of heap types hold a reference to their type.
    unsafe { ffi::Py_DECREF(class.cast()) };
}

/// Gives a pooled class its deallocator. Called once, at import, before any instance exists.
macro_rules! install_pool {
    ($py:expr, $class:ty) => {{
        unsafe extern "C" fn dealloc(object: *mut pyo3::ffi::PyObject) {
            // SAFETY: called by the interpreter on a dying instance.
            unsafe { $crate::ffi::pool::dealloc::<$class>(object) }
        }
        let class = <$class as pyo3::PyTypeInfo>::type_object_raw($py);
        // SAFETY: import time, the type is ours and has no instances yet.
        unsafe {
            (*class).tp_dealloc = Some(dealloc);
            pyo3::ffi::PyType_Modified(class);
        }
    }};
}
pub(crate) use install_pool;
