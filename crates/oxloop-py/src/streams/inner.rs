//! Reads of a reader whose methods were replaced: by the method that each is built on.
//!
//! Facts: in asyncio `readline` calls `readuntil`, iteration calls `readline`, and `read(-1)` calls
//! `read(limit)` until it returns nothing. Who derives from the reader and replaces the inner method
//! expects that the outer ones change with it.

use std::cell::RefCell;

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::reader::StreamReader;
use super::reads::too_long;
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::{Ref, call};
use crate::stdlib;

/// The method that was called.
#[derive(Clone, Copy)]
pub enum Outer {
    /// `read(-1)`
    Everything,
    Line,
    /// `__anext__`
    Next,
}

struct ReadByOther {
    reader: Ref,
    outer: Outer,
    /// What `read` has returned so far.
    blocks: RefCell<Vec<Ref>>,
}

/// The coroutine of `outer`.
#[cold]
pub fn make(reader: &Bound<'_, StreamReader>, outer: Outer) -> PyResult<Ref> {
    let body =
        ReadByOther { reader: Ref::from_borrowed(reader), outer, blocks: RefCell::default() };
    Coroutine::make(reader.py(), body)
}

impl Body for ReadByOther {
    fn qualified_name(&self) -> &'static str {
        match self.outer {
            Outer::Everything => "StreamReader.read",
            Outer::Line => "StreamReader.readline",
            Outer::Next => "StreamReader.__anext__",
        }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let reader = self.reader.bind(py);
        let inner = match self.outer {
            Outer::Everything => {
                let limit = reader.getattr(intern!(py, "_limit"))?;
                call::call_method_one(reader, intern!(py, "read"), &limit)?
            }
            Outer::Line => {
                let newline = PyBytes::new(py, b"\n");
                call::call_method_one(reader, intern!(py, "readuntil"), newline.as_any())?
            }
            Outer::Next => reader.call_method0(intern!(py, "readline"))?,
        };
        Ok(Progress::Await(Ref::new(inner)))
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        match (self.outer, outcome) {
            (Outer::Everything, Ok(block)) => {
                if block.bind(py).is_truthy()? {
                    self.blocks.borrow_mut().push(block);
                    return self.begin(py);
                }
                let blocks = self.blocks.take();
                let blocks: Vec<_> = blocks.into_iter().map(|block| block.into_bound(py)).collect();
                let all = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (blocks,))?;
                Ok(Progress::Return(Ref::new(all)))
            }
            (Outer::Line, Err(err)) => {
                let error = err.value(py).clone().into_any();
                if error.is_instance(stdlib::incomplete_read_error(py)?)? {
                    return Ok(Progress::Return(Ref::new(error.getattr(intern!(py, "partial"))?)));
                }
                if error.is_instance(stdlib::limit_overrun_error(py)?)? {
                    // Only `make` fills the field, with a reader.
                    let reader = self.reader.bind_as::<StreamReader>(py).get();
                    return Err(too_long(reader, &error)?);
                }
                Err(err)
            }
            (Outer::Next, Ok(line)) if line.bind(py).eq(PyBytes::new(py, b""))? => {
                Err(PyStopAsyncIteration::new_err(()))
            }
            (_, outcome) => outcome.map(Progress::Return),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.reader.traverse(visit)?;
        match self.blocks.try_borrow() {
            Ok(blocks) => blocks.iter().try_for_each(|block| block.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}
