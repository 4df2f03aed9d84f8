//! Type slots that PyO3 does not offer: `tp_finalize`, `am_send`, `tp_iternext` without a wrapper.
//!
//! Facts: a destructor written as `__del__` that may resurrect its object (asyncio's exception
//! handler receives the dying future) has to be `tp_finalize`, run from `tp_dealloc` before the
//! object is untracked (PEP 442). The interpreter resumes an awaited object through `am_send` when
//! the type has it, and then a result needs no StopIteration.
//! Decision: the slots are filled once, at import, before any instance or subclass exists; Python
//! subclasses inherit them. `tp_dealloc` is wrapped to run the finalizer first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::{PyTypeInfo, ffi};

use super::{Ref, Sent, fastcall, stop};

/// A class with a finalizer.
pub trait Finalize: PyTypeInfo {
    /// Whether the finalizer has anything to do; asked on every deallocation, so cheap.
    fn needs_finalize(object: &Bound<'_, Self>) -> bool;
    /// Runs while the object is still whole; it may be resurrected here.
    fn finalize(object: &Bound<'_, Self>);
}

/// Fills `tp_finalize` of `$class` and wraps its `tp_dealloc`.
macro_rules! install_finalizer {
    ($py:expr, $class:ty) => {{
        static DEALLOC: std::sync::OnceLock<pyo3::ffi::destructor> = std::sync::OnceLock::new();
        unsafe extern "C" fn finalize(object: *mut pyo3::ffi::PyObject) {
            // SAFETY: called by the interpreter on an instance of the class.
            unsafe { $crate::ffi::class::run_finalizer::<$class>(object) }
        }
        unsafe extern "C" fn dealloc(object: *mut pyo3::ffi::PyObject) {
            // SAFETY: called by the interpreter on a dying instance of the class.
            unsafe {
                $crate::ffi::class::run_dealloc::<$class>(object, finalize, DEALLOC.get().copied())
            }
        }
        let class = <$class as pyo3::PyTypeInfo>::type_object_raw($py);
        // SAFETY: import time, the type is ours and has no instances yet.
        unsafe {
            if let Some(original) = (*class).tp_dealloc {
                let _ = DEALLOC.set(original);
            }
            (*class).tp_finalize = Some(finalize);
            (*class).tp_dealloc = Some(dealloc);
            pyo3::ffi::PyType_Modified(class);
        }
    }};
}
pub(crate) use install_finalizer;

/// # Safety
/// `object` is an instance of `T`; the thread is attached.
pub unsafe fn run_finalizer<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: attached, by promise.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a live instance of `T`, by promise.
    let object = unsafe { fastcall::ffi_borrow(py, &object).cast_unchecked::<T>() };
    // A finalizer runs at any moment, also while an exception is on its way.
    let pending = PyErr::take(py);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| T::finalize(object))) {
        fastcall::restore_panic(py, payload);
        // Not by way of a `PyErr`, which goes on with the panic as soon as it meets one.
        // SAFETY: attached, with an exception set.
        unsafe { ffi::PyErr_WriteUnraisable(object.as_ptr()) };
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

/// # Safety
/// `object` is a dying instance of `T`; `finalize` is its finalizer, `original` the class's own
/// deallocator.
pub unsafe fn run_dealloc<T: Finalize>(
    object: *mut ffi::PyObject,
    finalize: ffi::destructor,
    original: Option<ffi::destructor>,
) {
    // SAFETY: attached while deallocating.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the memory of the instance is intact until `original` runs.
    let dying = unsafe { fastcall::ffi_borrow(py, &object).cast_unchecked::<T>() };
    // SAFETY: the type of the instance is alive.
    let own = unsafe { (*ffi::Py_TYPE(object)).tp_finalize }.map(|slot| slot as usize)
        == Some(finalize as usize);
    if !own || T::needs_finalize(dying) {
        // SAFETY: the count is zero and the object still tracked, as the call wants.
        if unsafe { ffi::PyObject_CallFinalizerFromDealloc(object) } != 0 {
            return;
        }
    }
    if let Some(original) = original {
        // SAFETY: the deallocator that PyO3 made for this very class.
        unsafe { original(object) }
    }
}

/// Shortens the C name of `T` to what follows its last dot.
///
/// Messages of the interpreter show the C name: "object Lock can't be used in 'await' expression".
/// `__name__`, `__qualname__` and `__module__` are kept elsewhere and stay.
pub fn use_bare_name<T: PyTypeInfo>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    // SAFETY: import time, the type is ours, and its C name is a string that lives as long as it.
    unsafe {
        let name = std::ffi::CStr::from_ptr((*class).tp_name);
        if let Some(dot) = name.to_bytes().iter().rposition(|&byte| byte == b'.') {
            (*class).tp_name = name.as_ptr().add(dot + 1);
        }
    }
}

/// An awaitable's iterator, resumed without StopIteration.
pub trait Resume: PyTypeInfo {
    fn resume<'py>(object: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Sent;

    /// Whether it lives on after its end, with a result that [`stop::may_stay`].
    fn is_kept(_object: &Bound<'_, Self>) -> bool {
        false
    }
}

/// Fills `am_send` and `tp_iternext` of `$class` from its [`Resume`].
macro_rules! install_resume {
    ($py:expr, $class:ty) => {{
        unsafe extern "C" fn am_send(
            object: *mut pyo3::ffi::PyObject,
            value: *mut pyo3::ffi::PyObject,
            result: *mut *mut pyo3::ffi::PyObject,
        ) -> pyo3::ffi::PySendResult {
            // SAFETY: called by the interpreter on an instance, with a place for the result.
            unsafe { $crate::ffi::class::run_send::<$class>(object, value, result) }
        }
        unsafe extern "C" fn iternext(
            object: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: called by the interpreter on an instance.
            unsafe { $crate::ffi::class::run_next::<$class>(object) }
        }
        let class = <$class as pyo3::PyTypeInfo>::type_object_raw($py);
        // SAFETY: import time, the type is ours and has no instances yet; a heap type always has
        // its table of async methods.
        unsafe {
            (*class).tp_iternext = Some(iternext);
            if !(*class).tp_as_async.is_null() {
                (*(*class).tp_as_async).am_send = Some(am_send);
            }
            pyo3::ffi::PyType_Modified(class);
        }
    }};
}
pub(crate) use install_resume;

/// An awaitable that is its own iterator.
pub trait OwnAwait: PyTypeInfo {
    /// Whether it may be awaited now.
    ///
    /// # Errors
    /// Why it may not.
    fn check(object: &Bound<'_, Self>) -> PyResult<()>;
}

/// # Safety
/// As `am_await`: a live instance of `T`.
#[inline]
pub unsafe fn run_await<T: OwnAwait>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: live for the call, and an instance of `T`.
    match T::check(unsafe { fastcall::ffi_borrow(py, &object).cast_unchecked::<T>() }) {
        // SAFETY: a live object.
        Ok(()) => unsafe { ffi::Py_NewRef(object) },
        Err(err) => {
            err.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// Lets instances of `$class` be their own awaitable iterator, without a wrapper (`am_await`).
macro_rules! install_own_await {
    ($py:expr, $class:ty) => {{
        unsafe extern "C" fn am_await(
            object: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: called by the interpreter on a live instance.
            unsafe { $crate::ffi::class::run_await::<$class>(object) }
        }
        let class = <$class as pyo3::PyTypeInfo>::type_object_raw($py);
        // SAFETY: import time, the type is ours and has no instances yet; a heap type always has
        // its table of async methods.
        unsafe {
            if !(*class).tp_as_async.is_null() {
                (*(*class).tp_as_async).am_await = Some(am_await);
            }
            pyo3::ffi::PyType_Modified(class);
        }
    }};
}
pub(crate) use install_own_await;

/// # Safety
/// As `am_send`: a live instance, a live value, a place for the result.
pub unsafe fn run_send<T: Resume>(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: live for the call.
    let (object, value) =
        unsafe { (fastcall::ffi_borrow(py, &object), fastcall::ffi_borrow(py, &value)) };
    // SAFETY: the slot is only reached for instances of `T`.
    let object = unsafe { object.cast_unchecked::<T>() };
    let (status, answer) = match catch_unwind(AssertUnwindSafe(|| T::resume(object, value))) {
        Ok(Sent::Yielded(value)) => (ffi::PySendResult::PYGEN_NEXT, value.into_ptr()),
        Ok(Sent::Returned(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
        Ok(Sent::Raised(raised)) => {
            raised.into_err(py).restore(py);
            (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
        }
        Err(payload) => {
            fastcall::restore_panic(py, payload);
            (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
        }
    };
    // SAFETY: a valid place, by the protocol.
    unsafe { *result = answer };
    status
}

/// # Safety
/// As `tp_iternext`: a live instance of `T`.
pub unsafe fn run_next<T: Resume>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: attached.
    let py = unsafe { Python::assume_attached() };
    let mut result = std::ptr::null_mut();
    // SAFETY: `None` is immortal for our purpose; the rest is the caller's promise.
    match unsafe { run_send::<T>(object, ffi::Py_None(), &mut result) } {
        ffi::PySendResult::PYGEN_RETURN => {
            // SAFETY: on return the result is an owned reference.
            if let Some(value) = unsafe { Ref::from_owned_ptr(result) } {
                let value = value.into_bound(py);
                // None ends an iterator without an exception.
                if !value.is_none() {
                    // SAFETY: live for the call, and an instance of `T`.
                    let is_kept = T::is_kept(unsafe {
                        fastcall::ffi_borrow(py, &object).cast_unchecked::<T>()
                    });
                    // Held by its caller alone, it dies once it is read. From 3.14 on only Python
                    // code comes here, and local variables need not count.
                    // SAFETY: a live object.
                    let dies = unsafe { ffi::Py_REFCNT(object) } == 1;
                    stop::raise(&value, cfg!(not(Py_3_14)) && (dies || is_kept));
                }
            }
            std::ptr::null_mut()
        }
        _ => result,
    }
}

/// `StopIteration(value)`, built by a call so that a tuple is not taken for its arguments.
pub fn stop_iteration(value: &Bound<'_, PyAny>) -> PyErr {
    let class = value.py().get_type::<pyo3::exceptions::PyStopIteration>();
    match class.call1((value,)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(err) => err,
    }
}
