//! A `bytes` object that the kernel writes, without a copy.

use std::io;
use std::mem::MaybeUninit;
use std::slice;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Why there is no object.
pub enum Failed {
    /// The receive failed.
    Receive(io::Error),
    /// MemoryError.
    Memory(PyErr),
}

/// Up to `size` bytes, and how many. `fill` writes them and tells how many of the first it has
/// written; it must not run Python. When there are fewer, the object is made anew.
pub fn bytes<'py>(
    py: Python<'py>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<usize>,
) -> Result<(Bound<'py, PyBytes>, usize), Failed> {
    let asked = ffi::Py_ssize_t::try_from(size).unwrap_or(ffi::Py_ssize_t::MAX);
    // SAFETY: attached; a new object with room for so many bytes that nobody has written, or null.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), asked) };
    // SAFETY: a new reference, ours, or null with MemoryError set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }.map_err(Failed::Memory)?;
    // SAFETY: nobody else has the object yet. `size` bytes may be written, as long as it is so.
    let room = unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>();
        slice::from_raw_parts_mut(start, size)
    };
    let count = fill(room).map_err(Failed::Receive)?.min(size);
    // SAFETY: `PyBytes_FromStringAndSize` makes exact `bytes`.
    let object = unsafe { object.cast_into_unchecked::<PyBytes>() };
    if count == size {
        return Ok((object, count));
    }
    // SAFETY: as above, and so many have been written.
    let written = unsafe {
        slice::from_raw_parts(ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>(), count)
    };
    Ok((PyBytes::new(py, written), count))
}
