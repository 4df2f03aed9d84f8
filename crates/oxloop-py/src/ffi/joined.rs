//! A `bytes` object made of several slices, written once.

use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::Ref;

/// The first `count` bytes of `slices`; fewer if there are no more.
///
/// # Errors
/// MemoryError.
pub fn joined<'a>(
    py: Python<'_>,
    count: usize,
    slices: impl Iterator<Item = &'a [u8]>,
) -> PyResult<Ref> {
    let parts: Vec<&[u8]> = {
        let mut rest = count;
        slices
            .map(|slice| {
                let part = &slice[..slice.len().min(rest)];
                rest -= part.len();
                part
            })
            .take_while(|part| !part.is_empty())
            .collect()
    };
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let size = ffi::Py_ssize_t::try_from(total)
        .map_err(|_| PyOverflowError::new_err("byte string is too large"))?;
    // SAFETY: attached; a new object with `size` bytes that nobody has written, or null.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
    // SAFETY: a new reference, ours, or null with MemoryError set.
    let object = unsafe { Ref::from_owned_ptr(object) }.ok_or_else(|| PyErr::fetch(py))?;
    if total > 0 {
        // SAFETY: nobody else has the object yet; its bytes may be written until somebody has.
        let mut target = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast::<u8>();
        for part in parts {
            // SAFETY: the parts are `total` bytes together, which is the size of the object.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len());
                target = target.add(part.len());
            }
        }
    }
    Ok(object)
}
