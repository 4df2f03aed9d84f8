//! A dict entry whose key's hash is known.
//!
//! Facts: the current task is a value in a dict of asyncio up to Python 3.13, stored before every
//! step; hashing the loop anew is a tenth of that. `_PyDict_SetItem_KnownHash` is exported by
//! CPython 3.11 to 3.13, for its own `_asyncio`, with one signature.
//! Decision: use it there; on later versions, which keep the current task elsewhere, store plainly.
//! What can still go wrong: a loop class whose `__hash__` changes its mind; asyncio's own functions
//! would not find such a loop either.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[cfg(not(Py_3_14))]
unsafe extern "C" {
    fn _PyDict_SetItem_KnownHash(
        dict: *mut ffi::PyObject,
        key: *mut ffi::PyObject,
        value: *mut ffi::PyObject,
        hash: ffi::Py_hash_t,
    ) -> std::ffi::c_int;
}

/// `dict[key] = value`, where `hash(key)` is `hash`.
#[inline]
pub fn set_item_known_hash(
    dict: &Bound<'_, PyDict>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    hash: isize,
) -> PyResult<()> {
    #[cfg(not(Py_3_14))]
    // SAFETY: three live objects, the first a dict; the function takes references of its own.
    let status =
        unsafe { _PyDict_SetItem_KnownHash(dict.as_ptr(), key.as_ptr(), value.as_ptr(), hash) };
    #[cfg(Py_3_14)]
    // SAFETY: as above.
    let status = unsafe {
        let _ = hash;
        ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr())
    };
    if status == 0 { Ok(()) } else { Err(PyErr::fetch(dict.py())) }
}
