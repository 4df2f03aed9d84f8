//! An exact `bytes` object whose bytes are read many times.
//!
//! The address and the size of immutable bytes do not change as long as the object lives, so they
//! are asked for once.

use std::ptr::NonNull;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Ref;

/// A reference to an exact `bytes` object, and where its bytes are.
pub struct SharedBytes {
    object: Ref,
    bytes: NonNull<[u8]>,
}

impl SharedBytes {
    /// Makes a new reference.
    #[inline]
    pub fn new(object: &Bound<'_, PyBytes>) -> Self {
        Self { object: Ref::from_borrowed(object), bytes: NonNull::from(object.as_bytes()) }
    }

    /// The object.
    #[inline]
    pub fn into_object(self) -> Ref {
        self.object
    }
}

impl AsRef<[u8]> for SharedBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes of an immutable object that lives as long as `self`, to which the slice
        // is tied.
        unsafe { self.bytes.as_ref() }
    }
}
