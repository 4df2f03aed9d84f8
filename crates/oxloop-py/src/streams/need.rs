//! What a read waits for.
//!
//! Decision: the reader knows it, so that received bytes wake a task only if it can go on: not at
//! each segment of a large message, nor at each part of a long line.

use std::rc::Rc;

use oxloop_core::Found;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::reader::Received;
use crate::ffi::call::Exported;

/// What must have been received before the waiting task is woken; the end of the stream and an
/// exception always wake it.
#[derive(Clone, Default)]
pub enum Need {
    /// Anything.
    #[default]
    Any,
    /// So many bytes.
    Bytes(usize),
    /// A newline, or more than the limit.
    Line,
    /// One of the separators, or more than the limit.
    Separator(Rc<Separators>),
    /// The end of the stream only.
    End,
}

/// The separators of a `readuntil`, sorted by length, none of them empty.
pub struct Separators(Vec<Box<[u8]>>);

impl Separators {
    /// Reads the argument: bytes, or a tuple of them.
    ///
    /// # Errors
    /// ValueError for no separator or an empty one; TypeError for what is not bytes-like.
    pub fn read(argument: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut all = match argument.cast::<PyTuple>() {
            Ok(tuple) => tuple.iter().collect(),
            Err(_) => vec![argument.clone()],
        };
        let mut sized = Vec::with_capacity(all.len());
        for separator in all.drain(..) {
            sized.push((separator.len()?, separator));
        }
        sized.sort_by_key(|(length, _)| *length);
        match sized.first() {
            None => {
                return Err(PyValueError::new_err("Separator should contain at least one element"));
            }
            Some((0, _)) => {
                return Err(PyValueError::new_err("Separator should be at least one-byte string"));
            }
            Some(_) => {}
        }
        sized
            .into_iter()
            .map(|(_, separator)| bytes_like(&separator))
            .collect::<PyResult<_>>()
            .map(Self)
    }
}

fn bytes_like(separator: &Bound<'_, PyAny>) -> PyResult<Box<[u8]>> {
    if let Ok(bytes) = separator.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().into());
    }
    match Exported::readable(separator) {
        Ok(exported) => Ok(exported.bytes().into()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "argument should be integer or bytes-like object, not '{}'",
            separator.get_type().name()?
        ))),
    }
}

/// The first newline from `from` on, or the offset below which there is none.
#[inline]
pub fn scan_line(received: &Received, from: usize) -> Result<Found, usize> {
    match received.find_byte(b'\n', from) {
        Some(start) => Ok(Found { start, end: start + 1 }),
        None => Err(received.len_bytes()),
    }
}

/// The one of `separators` that ends first, or the offset below which none starts.
pub fn scan(received: &Received, separators: &Separators, from: usize) -> Result<Found, usize> {
    let slices: Vec<&[u8]> = separators.0.iter().map(AsRef::as_ref).collect();
    let (shortest, longest) =
        (slices.first().map_or(1, |s| s.len()), slices.last().map_or(1, |s| s.len()));
    if received.len_bytes() < from + shortest {
        return Err(from);
    }
    received.find(&slices, from).ok_or((received.len_bytes() + 1).saturating_sub(longest))
}
