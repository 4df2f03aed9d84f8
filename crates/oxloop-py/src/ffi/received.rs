//! A `bytes` object that the kernel or libssl writes, without a copy.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

unsafe extern "C" {
    /// In CPython's documentation and its stable ABI, not in PyO3.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Memory for bytes, which only this crate's `ffi` writes, and nobody reads through it.
pub struct Room<'a> {
    start: *mut u8,
    len: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl Room<'_> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is left behind the first `count` bytes.
    pub fn after(&mut self, count: usize) -> Room<'_> {
        let count = count.min(self.len);
        // SAFETY: inside of the memory, or its end.
        let start = unsafe { self.start.add(count) };
        Room { start, len: self.len - count, memory: PhantomData }
    }

    /// Valid for writes of `len` bytes.
    pub(super) fn start(&mut self) -> *mut u8 {
        self.start
    }
}

impl<'a> From<&'a mut [u8]> for Room<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Self { start: bytes.as_mut_ptr(), len: bytes.len(), memory: PhantomData }
    }
}

impl<'a> From<&'a mut [MaybeUninit<u8>]> for Room<'a> {
    fn from(bytes: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { start: bytes.as_mut_ptr().cast(), len: bytes.len(), memory: PhantomData }
    }
}

/// Up to `size` bytes. `fill` writes them, and tells how many of the first it has written.
///
/// # Errors
/// MemoryError.
pub fn bytes<'py>(
    py: Python<'py>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let asked = ffi::Py_ssize_t::try_from(size).unwrap_or(ffi::Py_ssize_t::MAX);
    // SAFETY: attached; a new object with room for so many bytes that nobody has written, or null.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), asked) };
    // SAFETY: a new reference, ours, or null with MemoryError set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: nobody else has the object, and nobody finds it: `bytes` are no objects of the
    // collector. As long as that is so, its `size` bytes may be written.
    let room = unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>();
        slice::from_raw_parts_mut(start, size)
    };
    let count = fill(room).min(size);
    let mut object = object.into_ptr();
    if count < size {
        // SAFETY: the only reference to an object that was never hashed. The reference is replaced;
        // after a failure it is null, and MemoryError is set.
        unsafe { _PyBytes_Resize(&raw mut object, count as ffi::Py_ssize_t) };
    }
    // SAFETY: as for the first object.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: both functions make exact `bytes`.
    Ok(unsafe { object.cast_into_unchecked::<PyBytes>() })
}
